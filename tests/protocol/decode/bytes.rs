//! Bytes that are no transaction, and transactions that are not understood.

use bitcoin::consensus::encode::serialize;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::opcodes::OP_0;
use bitcoin::script::Builder;
use bitcoin::{Network, OutPoint, ScriptBuf, Sequence, Witness};
use spilman::transcript::{decode, render, DecodeError, TextContext};

use super::build::{
    all, assert_has, funded, names, p2pkh, page, redeem_script, refund, refund_signature, refund_with, spend,
};
use super::{scripts, taproot};

#[test]
fn every_truncation_names_the_field() {
    let raw = serialize(&refund_with(&[all(refund_signature("payer/K1"))]));
    for length in 0..raw.len() {
        let error = decode(&raw[..length], &[]).expect_err("truncated");
        let DecodeError::Field {
            position,
            length: found,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert!(
            *position <= length && *found == length && length < position + raw.len(),
            "{error}"
        );
        assert_ne!(*position == 0, length >= 4, "{error}");
    }
    let text = |length: usize| decode(&raw[..length], &[]).expect_err("truncated").to_string();
    assert_eq!(text(3), "cannot read the version at byte 0 of 3");
    assert_eq!(text(40), "cannot read the outpoint of input 0 at byte 5 of 40");
    assert_eq!(
        text(100),
        "cannot read the scriptSig of input 0 at byte 41 of 100"
    );
    let end = raw.len() - 1;
    assert_eq!(
        text(end),
        format!("cannot read the lock time at byte {} of {end}", end - 3)
    );
    let longer = [&raw[..], &[0]].concat();
    let error = decode(&longer, &[]).expect_err("one byte too many").to_string();
    assert_eq!(
        error,
        format!(
            "the transaction ends at byte {}, but {} bytes were given",
            raw.len(),
            longer.len()
        )
    );
    let error = decode(&raw, &[funded(p2pkh("x")), funded(p2pkh("x"))]).expect_err("two for one");
    assert_eq!(
        error.to_string(),
        "expected 1 spent outputs, one for each input, got 2"
    );
}

#[test]
fn truncated_witnesses_and_unknown_flags_are_named() {
    let mut tx = refund();
    tx.input[0].witness = Witness::from_slice(&[vec![7; 80]]);
    let raw = serialize(&tx);
    let text = |bytes: &[u8]| decode(bytes, &[]).expect_err("broken").to_string();
    let (end, cut) = (raw.len(), raw.len() - 40);
    assert_eq!(
        text(&raw[..5]),
        "cannot read the segwit marker and flag at byte 4 of 5"
    );
    // Lock time (4), item (80) with its length (1) and the number of items (1) come last.
    let expected = format!("cannot read the witness of input 0 at byte {} of {cut}", end - 86);
    assert_eq!(text(&raw[..cut]), expected);
    let mut unknown_flag = raw;
    unknown_flag[5] = 2;
    let expected = format!("cannot read the segwit marker and flag at byte 4 of {end}");
    assert_eq!(text(&unknown_flag), expected);
}

#[test]
fn garbage_never_panics() {
    let template = refund_with(&["payer/K1", "payee/K2"].map(|label| all(refund_signature(label))));
    let names = names();
    let all_values = [0, 1, 0x30, 0x4c, 0x4d, 0x4e, 0x7f, 0x80, 0xae, 0xfd, 0xff];
    for ((tx, output), values) in [
        ((template, funded(redeem_script().to_p2sh())), &all_values[..]),
        (scripts::any_refund(), &[0, 0x63, 0xb1, 0xff]),
        (taproot::any_payment(), &[0, 0x50, 0xfd]),
    ] {
        let raw = serialize(&tx);
        for at in 0..raw.len() {
            for &value in values {
                let mut mutant = raw.clone();
                mutant[at] = value;
                for prevouts in [vec![], vec![output.clone()]] {
                    let context = TextContext {
                        title: "",
                        prevouts: &prevouts,
                        names: &names,
                        network: Network::Regtest,
                    };
                    let _ = render(&mutant, &context);
                }
            }
        }
    }
}

#[test]
fn foreign_scripts_are_shown_without_claims() {
    let mut tx = spend(0, Sequence::MAX);
    tx.input[0].script_sig = Builder::new()
        .push_int(5)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script();
    tx.input[0].witness = Witness::from_slice(&[vec![1, 2, 3], vec![]]);
    tx.output[0].script_pubkey =
        ScriptBuf::from_bytes(vec![OP_0.to_u8(), 0x51, 0x4f, 0xb1, 0x20, 0xab, 0xcd]);
    let text = page("foreign scripts", &tx, &[]);
    assert_has(&text, "asm 5 OP_CHECKMULTISIG");
    assert_has(&text, "0  item (3 bytes)");
    assert_has(
        &text,
        "script    0 1 -1 OP_CHECKLOCKTIMEVERIFY [malformed: 20abcd]",
    );

    let mut coinbase = spend(0, Sequence::MAX);
    coinbase.input[0].previous_output = OutPoint::null();
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(vec![0x02, 0xf5, 0x00, 0x4c]);
    let text = page("coinbase", &coinbase, &[]);
    assert_has(&text, "fee       none (coinbase)");
    assert_has(&text, "kind      coinbase");
}
