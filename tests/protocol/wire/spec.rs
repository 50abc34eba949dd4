//! The wire specification says what the library does, where that can be compared.

use std::collections::BTreeMap;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{self, ecdsa, Secp256k1, SecretKey};
use bitcoin::{consensus, FeeRate, Transaction};
use spilman::channel::{
    ChannelKey, ChannelParams, Construction, Envelope, Event, Expiry, Features, HelloRandoms, Limits,
    Message, MessageKind, PayerOpening, Protocol, RefusalReason, SignedPayment, VersionRange,
};
use spilman::wire::{decode, encode, VERSION};

use crate::pair::{sat, tip, Case, Inspect, Side, MTP};

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

fn section(number: &str) -> &'static str {
    let mut sections = SPEC.split("\n## ");
    sections.find(|section| section.starts_with(number)).unwrap()
}

/// The blocks of hex in a section, without what is said beside them.
fn blocks(number: &str) -> Vec<Vec<u8>> {
    let blocks = section(number).split("```").skip(1).step_by(2);
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
    let blocks = blocks("13. ");
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

/// The channel of the conversation in full, and the keys of its payer and its payee.
fn channel() -> (ChannelParams, [ChannelKey; 2]) {
    let key = |side: &str| {
        let line = section("13. ").lines().find_map(|line| line.strip_prefix(side));
        ChannelKey::new(line.unwrap().trim().parse::<SecretKey>().unwrap())
    };
    let mut messages = blocks("13. ").into_iter().filter_map(|block| decode(&block).ok());
    let open = messages.next().unwrap();
    let Message::Open {
        terms, payer_payout, ..
    } = open.message.clone()
    else {
        panic!("{open:?} begins the conversation");
    };
    let limits = Limits::default();
    let begun = PayerOpening::propose(
        open.channel,
        terms,
        key("payer  "),
        payer_payout,
        limits,
        tip(102, MTP),
    );
    let (payer, proposal) = begun.unwrap();
    assert_eq!(proposal, open);
    let agreed = payer.accept(messages.next().unwrap()).unwrap();
    (agreed.params().clone(), [key("payer  "), key("payee  ")])
}

#[test]
fn the_example_of_a_connection_matches_the_library() {
    let (blocks, conversation) = (blocks("12. "), blocks("13. "));
    let [payer_hello, payee_hello, resume_bytes, resume, resumed_bytes, resumed] = &blocks[..] else {
        panic!("{} blocks of hex", blocks.len());
    };
    let (params, [k1, k2]) = channel();
    let message = |bytes: &[u8]| {
        let envelope = decode(bytes).unwrap();
        assert_eq!(encode(&envelope), bytes);
        envelope.message
    };
    let random = |bytes| match message(bytes) {
        Message::Hello {
            versions,
            features: Features::RESUME,
            random,
        } if versions.common(VersionRange::new(VERSION, VERSION).unwrap()) == Some(VERSION) => random,
        other => panic!("{other:?}"),
    };
    let randoms = HelloRandoms {
        payer: random(payer_hello),
        payee: random(payee_hello),
    };

    // 1. The library makes the same proofs, and verifies them.
    let (Message::Resume(resume), Message::Resumed(resumed)) = (message(resume), message(resumed)) else {
        panic!("two other messages");
    };
    let claim = resume.verify(&randoms, &params).unwrap();
    assert_eq!(claim.sign(&randoms, &params, &k1), resume);
    let answer = resumed.verify(&randoms, claim.funding, &params).unwrap();
    assert_eq!(answer.sign(&randoms, claim.funding, &params, &k2), resumed);

    // 2. What is signed is what is shown.
    let tag = sha256::Hash::hash(b"spilman/resume").to_byte_array();
    for (bytes, proof, key) in [
        (resume_bytes, resume.proof, &k1),
        (resumed_bytes, resumed.proof, &k2),
    ] {
        let digest = sha256::Hash::hash(&[&tag[..], &tag, bytes].concat());
        assert!(section("12. ").contains(&format!("`{digest}`")), "{digest}");
        let proof = ecdsa::Signature::from_compact(&proof.to_compact()).unwrap();
        let digest = secp256k1::Message::from_digest(digest.to_byte_array());
        let verified = Secp256k1::new().verify_ecdsa(&digest, &proof, &key.public_key());
        assert_eq!(verified, Ok(()));
    }

    // 3. It is the channel of the conversation, and the latest payment in it.
    let said = conversation.iter().filter_map(|block| decode(block).ok());
    let mut payments = said.filter_map(|envelope| match envelope.message {
        Message::Payment { paid, signature } => Some(SignedPayment { paid, signature }),
        _ => None,
    });
    assert_eq!(answer.latest_payment, payments.next_back());
}

#[test]
fn the_features_match_the_library() {
    let named = [
        ("resume", Features::RESUME),
        ("many channels", Features::MANY_CHANNELS),
        ("latest acknowledgement", Features::LATEST_ACKNOWLEDGEMENT),
        ("recover", Features::RECOVER),
    ];
    let expected = named.map(|(name, feature)| {
        let bits = feature.to_bits();
        [
            bits.trailing_zeros().to_string(),
            bits.to_string(),
            name.to_owned(),
        ]
    });
    let rows = table("| bit | value | feature |");
    let rows: Vec<_> = rows.iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(rows, expected);
}
