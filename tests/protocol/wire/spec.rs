//! The wire specification says what the library does, where that can be compared.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{consensus, FeeRate, Transaction};
use spilman::channel::{
    Construction, Envelope, Event, Expiry, Message, MessageKind, Protocol, RefusalReason,
};
use spilman::wire::{decode, encode};

use crate::pair::{sat, Case, Inspect, Side, MTP};

const SPEC: &str = include_str!("../../../fixtures/WIRE.md");
const CDDL: &str = include_str!("../../../fixtures/wire.cddl");

/// The cells of the table below this header, without code marks.
fn table(header: &str) -> Vec<Vec<String>> {
    let (_, below) = SPEC
        .split_once(header)
        .unwrap_or_else(|| panic!("no table {header}"));
    let rows = below.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.trim_matches('|');
        row.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn kinds_and_reasons_match_the_library() {
    let numbered = |header| {
        let rows = table(header).into_iter();
        rows.map(|row| (row[0].clone(), row[1].clone()))
            .collect::<Vec<_>>()
    };
    let kinds = MessageKind::ALL.map(|kind| ((kind as u8).to_string(), kind.name().to_owned()));
    assert_eq!(numbered("| kind | message | from |"), kinds);
    let reasons = RefusalReason::OF_MESSAGES.iter();
    let reasons: Vec<_> = reasons
        .map(|reason| ((*reason as u8).to_string(), reason.name().to_owned()))
        .collect();
    assert_eq!(numbered("| number | reason | when |"), reasons);

    for kind in MessageKind::ALL
        .into_iter()
        .filter(|kind| *kind != MessageKind::Open)
    {
        let start: String = CDDL
            .lines()
            .filter(|line| {
                line.split_once('=')
                    .is_some_and(|(name, _)| name.trim() == kind.name())
            })
            .collect();
        assert!(
            start.contains(&format!("= [{}, channel", kind as u8)),
            "{kind} in CDDL: {start}"
        );
    }
    let numbers = RefusalReason::OF_MESSAGES.iter().map(|reason| *reason as u8);
    let ranges = numbers.fold(Vec::<(u8, u8)>::new(), |mut ranges, number| {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
        ranges
    });
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(first, last)| format!("{first}..{last}"))
        .collect();
    let ranges = format!("= {}", ranges.join(" / "));
    let reason = CDDL.lines().find(|line| line.starts_with("reason "));
    assert!(
        reason.is_some_and(|line| line.ends_with(&ranges)),
        "{reason:?} is not {ranges}"
    );
}

/// `389 + P` for a push of this many bytes.
fn weight(cell: &str, push: u64) -> u64 {
    let (base, plus) = cell
        .split_once(" + ")
        .map_or((cell, ""), |(base, plus)| (base, plus));
    base.parse::<u64>().unwrap() + if plus == "P" { push } else { 0 }
}

/// What the input of a spend takes, if its ECDSA signatures had the largest size.
fn measured(tx: &Transaction) -> u64 {
    let outputs = tx
        .output
        .iter()
        .map(|output| 9 + output.script_pubkey.len() as u64);
    let rest = 4 * (10 + outputs.sum::<u64>());
    let input = &tx.input[0];
    let (items, unit): (Vec<_>, _) = if input.witness.is_empty() {
        let pushes = input.script_sig.instructions();
        let bytes = |push: Result<bitcoin::script::Instruction<'_>, _>| {
            push.unwrap().push_bytes().unwrap().as_bytes().to_vec()
        };
        (pushes.map(bytes).collect(), 4)
    } else {
        (input.witness.to_vec(), 1)
    };
    let short = items
        .iter()
        .filter(|item| item.first() == Some(&0x30) && item.last() == Some(&1))
        .map(|item| 72 - item.len() as u64);
    let marker = if input.witness.is_empty() { 0 } else { 2 };
    tx.weight().to_wu() - rest - marker + unit * short.sum::<u64>()
}

/// At 1,000 sat/kwu the fee is four times the virtual size.
fn fee_of(input: u64, outputs: u64, construction: Construction) -> u64 {
    let marker = if construction == Construction::P2sh { 0 } else { 2 };
    (4 * (10 + 31 * outputs) + input + marker).div_ceil(4) * 4
}

#[test]
fn the_weights_match_the_library() {
    let rows = table("| construction | payment, settlement | refund | joint settlement |");
    let weights: BTreeMap<_, _> = rows.iter().map(|row| (row[0].as_str(), row)).collect();
    for construction in Construction::ALL {
        let row = weights[construction.name()];
        let time = bitcoin::absolute::Time::from_consensus(MTP + 86_400).unwrap();
        let case = Case::new(Protocol::Example7).paying(&[10_000]);
        // A height or a number of blocks takes two bytes, a time four, and a relative time three.
        let by_time = if construction.has_relative_lock() { 4 } else { 5 };
        for (case, push) in [(case.clone(), 3), (case.expiry(Expiry::from_time(time)), by_time)] {
            let mut case = case.on(construction);
            case.terms.feerate = FeeRate::from_sat_per_kwu(1_000);
            let (payment, refund) = (weight(&row[1], push), weight(&row[2], push));
            let pair = case.open();
            let capacity = sat(1_000_000);
            assert_eq!(
                measured(pair.redeemable().unwrap().tx()),
                payment,
                "{}",
                case.name()
            );
            assert_eq!(measured(pair.payer.refund().tx()), refund, "{}", case.name());
            let params = pair.payee.params();
            let fees = [capacity - params.spendable(), capacity - params.refund_amount()];
            let expected = [fee_of(payment, 2, construction), fee_of(refund, 1, construction)];
            assert_eq!(fees.map(bitcoin::Amount::to_sat), expected, "{}", case.name());
        }
    }
}

#[test]
fn the_weight_of_a_cooperative_settlement_matches_the_library() {
    let rows = table("| construction | payment, settlement | refund | joint settlement |");
    let row = rows.iter().find(|row| row[0] == "taproot").unwrap();
    let case = Case::new(Protocol::Example7).on(Construction::Taproot);
    let mut pair = case.paying(&[10_000]).open();
    pair.apply(Side::Payee, Event::Close).unwrap();
    let settlement = pair.payee.settlement().unwrap();
    assert!(settlement.is_cooperative());
    assert_eq!(measured(settlement.tx()), weight(&row[3], 0));
}

/// The blocks of hex in the last section, without what is said beside them.
fn example() -> Vec<Vec<u8>> {
    let (_, section) = SPEC.split_once("\n## 12. ").unwrap();
    let blocks = section.split("```").skip(1).step_by(2);
    let hex = |block: &str| {
        let lines = block.lines().skip(1);
        let words = lines
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split(' ').next());
        Vec::from_hex(&words.collect::<String>()).ok()
    };
    blocks.filter_map(hex).collect()
}

#[test]
fn the_conversation_in_full_decodes() {
    let blocks = example();
    let messages: Vec<Envelope> = blocks.iter().filter_map(|block| decode(block).ok()).collect();
    let kinds: Vec<_> = messages.iter().map(|envelope| envelope.message.kind()).collect();
    let mut expected = vec![
        MessageKind::Open,
        MessageKind::Accept,
        MessageKind::RefundRequest,
        MessageKind::RefundSignature,
        MessageKind::Funding,
        MessageKind::Ready,
    ];
    expected.extend([MessageKind::Payment, MessageKind::PaymentAccepted].repeat(4));
    expected.push(MessageKind::Closed);
    assert_eq!(kinds, expected);
    for envelope in &messages {
        assert!(blocks.contains(&encode(envelope)), "{envelope:?}");
    }

    // What is no message is the transaction that ends it.
    let rest = blocks.iter().filter(|block| decode(block).is_err());
    let [settlement] = &rest.collect::<Vec<_>>()[..] else {
        panic!("one block of hex is no message");
    };
    let settlement: Transaction = consensus::deserialize(settlement).unwrap();
    let txids = messages.iter().filter_map(|envelope| match envelope.message {
        Message::Closed { txid } => Some(txid.to_byte_array()),
        _ => None,
    });
    assert_eq!(
        txids.collect::<Vec<_>>(),
        [settlement.compute_txid().to_byte_array()]
    );
}
