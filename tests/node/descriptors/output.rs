//! The funding output, rebuilt by the node from its descriptor alone.

use bitcoin::secp256k1::PublicKey;
use serde_json::{json, Value};
use spilman::channel::{Construction, RefundLock};
use spilman::regtest::Regtest;

use super::channel::{address_of, close, descriptor_of, locked, open, CAPACITY};
use super::{amount, ask, refused};
use crate::common::cast::{both_kinds, start};
use crate::common::channel::Channel;

fn scan(chain: &Regtest, descriptor: &str) -> Vec<Value> {
    let answer = ask(chain, "scantxoutset", &[json!("start"), json!([descriptor])]);
    assert_eq!(answer["success"], true, "{descriptor}: {answer}");
    answer["unspents"].as_array().cloned().unwrap_or_default()
}

/// 1. The node has the same checksum, and knows how such an output is spent.
/// 2. It derives the address of our script.
/// 3. It finds the funding output, and nothing else.
/// 4. Once that is spent it finds nothing.
#[test]
fn the_node_finds_the_output_by_its_descriptor() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = open(&chain, construction);
        let descriptor = descriptor_of(&channel);
        let (bare, checksum) = descriptor
            .split_once('#')
            .expect("our descriptors have a checksum");
        let info = ask(&chain, "getdescriptorinfo", &[json!(bare)]);
        assert_eq!(info["checksum"], checksum, "{construction}: {info}");
        assert_eq!(info["issolvable"], true, "{construction}: {info}");
        assert_eq!(info["isrange"], false, "{construction}: {info}");
        assert_eq!(info["hasprivatekeys"], false, "{construction}: {info}");

        let derived = ask(&chain, "deriveaddresses", &[json!(descriptor)]);
        assert_eq!(
            derived,
            json!([address_of(&channel)]),
            "{construction}: {descriptor}"
        );

        let found = scan(&chain, &descriptor);
        let [output] = &found[..] else {
            panic!("{construction}: one output was made, the node found {found:?}");
        };
        let outpoint = channel.pair.payer.funding().outpoint();
        assert_eq!(output["txid"], outpoint.txid.to_string(), "{construction}");
        assert_eq!(output["vout"], outpoint.vout, "{construction}");
        assert_eq!(amount(&output["amount"]), CAPACITY, "{construction}");

        chain.mine_exactly(&[close(&mut channel)]).unwrap();
        assert_eq!(scan(&chain, &descriptor), Vec::<Value>::new(), "{construction}");
    }
}

/// The scripts as people write them, from the documents of each construction and not from the descriptor.
fn spelled_out(channel: &Channel) -> Vec<String> {
    let xonly = |key: PublicKey| key.x_only_public_key().0.to_string();
    let (k1, k2) = (
        channel.params().payer_key().to_public_key(),
        channel.params().payee_key().to_public_key(),
    );
    let lock = match channel.params().terms().refund_lock {
        RefundLock::Absolute(expiry) => expiry.to_lock_time().to_consensus_u32(),
        RefundLock::Relative(lock) => lock.to_consensus_u32(),
    };
    match channel.params().terms().construction {
        Construction::P2sh | Construction::P2shP2wsh | Construction::P2wsh => {
            vec![format!("2 {k1} {k2} 2 OP_CHECKMULTISIG")]
        }
        Construction::Cltv => vec![format!(
            "OP_IF {k2} OP_CHECKSIGVERIFY OP_ELSE {lock} OP_CHECKLOCKTIMEVERIFY OP_VERIFY OP_ENDIF {k1} OP_CHECKSIG"
        )],
        Construction::Csv => vec![format!(
            "OP_IF {k2} OP_CHECKSIGVERIFY OP_ELSE {lock} OP_CHECKSEQUENCEVERIFY OP_VERIFY OP_ENDIF {k1} OP_CHECKSIG"
        )],
        Construction::Taproot => {
            let (k1, k2) = (xonly(k1), xonly(k2));
            vec![
                format!("{k1} OP_CHECKSIGVERIFY {k2} OP_CHECKSIG"),
                format!("{k1} OP_CHECKSIGVERIFY {lock} OP_CHECKLOCKTIMEVERIFY"),
            ]
        }
        other => panic!("{other} is not spelled out"),
    }
}

/// 1. Decoded by the node, the scripts that a spend reveals are those of the documents.
/// 2. Hashed by the node, they give our address. Of leaves it cannot know the tree; there the descriptor alone says it.
/// 3. Of a native witness script the node derives our descriptor.
#[test]
fn the_node_decodes_the_scripts_that_we_reveal() {
    let chain = start();
    for (construction, kind) in both_kinds() {
        let channel = locked(&chain, construction, kind);
        let derived = ask(&chain, "deriveaddresses", &[json!(descriptor_of(&channel))]);
        let case = format!("{construction}, {kind:?}");
        assert_eq!(derived, json!([address_of(&channel)]), "{case}");
        let decode = |script: &bitcoin::Script| ask(&chain, "decodescript", &[json!(script.to_hex_string())]);
        let revealed = channel.params().revealed_scripts();
        let decoded: Vec<_> = revealed.iter().map(|(_, script)| decode(script)).collect();
        let told: Vec<_> = decoded
            .iter()
            .map(|script| script["asm"].as_str().unwrap())
            .collect();
        assert_eq!(told, spelled_out(&channel), "{case}");

        let output = decode(&channel.params().funding_script());
        let script = &decoded[0];
        let (address, standard) = match construction {
            Construction::P2sh => (&script["p2sh"], "scripthash"),
            Construction::P2shP2wsh => (&script["segwit"]["p2sh-segwit"], "scripthash"),
            Construction::Taproot => (&output["address"], "witness_v1_taproot"),
            _ => (&script["segwit"]["address"], "witness_v0_scripthash"),
        };
        assert_eq!(*address, address_of(&channel), "{case}: {script}");
        assert_eq!(output["type"], standard, "{case}: {output}");
        if standard == "witness_v0_scripthash" {
            assert_eq!(script["segwit"]["desc"], descriptor_of(&channel), "{case}");
        }
    }
}

/// BIP 390, which nodes up to 29 do not know: this one aggregates the keys itself, in either order, and comes to our
/// address. Another key in the aggregate, or leaves with the keys changed over, give another one.
#[test]
fn the_node_aggregates_the_same_internal_key() {
    let chain = start();
    let channel = open(&chain, Construction::Taproot);
    let (payer, payee) = (channel.params().payer_key(), channel.params().payee_key());
    let descriptor = descriptor_of(&channel);
    let (bare, _) = descriptor.split_once('#').unwrap();
    let (_, leaves) = bare.split_once(',').expect("key and leaves");
    let address = |text: String| {
        let info = ask(&chain, "getdescriptorinfo", &[json!(text)]);
        let with_checksum = format!("{text}#{}", info["checksum"].as_str().unwrap());
        ask(&chain, "deriveaddresses", &[json!(with_checksum)])
    };
    let ours = json!([address_of(&channel)]);
    let aggregated = |first: &str, second: &str| format!("tr(musig({first},{second}),{leaves}");
    let (k1, k2) = (payer.to_string(), payee.to_string());
    assert_eq!(address(aggregated(&k1, &k2)), ours);
    assert_eq!(address(aggregated(&k2, &k1)), ours);
    assert_ne!(address(aggregated(&k1, &k1)), ours);

    let other = leaves
        .replace(&k1[2..], "K")
        .replace(&k2[2..], &k1[2..])
        .replace('K', &k2[2..]);
    assert_ne!(address(format!("tr(musig({k1},{k2}),{other}")), ours);
}

/// A typing error does not lead to another output.
#[test]
fn a_descriptor_with_a_slip_is_refused() {
    let chain = start();
    for construction in Construction::ALL {
        let descriptor = descriptor_of(&open(&chain, construction));
        let (bare, checksum) = descriptor.split_once('#').unwrap();
        let last = if checksum.ends_with('q') { 'p' } else { 'q' };
        let wrong = format!("{}{last}", &checksum[..7]);
        let slips = [
            (
                format!("{bare}#{wrong}"),
                format!("Provided checksum '{wrong}' does not match computed checksum '{checksum}'"),
            ),
            (
                format!("{bare}#{}", &checksum[..7]),
                "Expected 8 character checksum, not 7 characters".to_owned(),
            ),
            (bare.to_owned(), "Missing checksum".to_owned()),
        ];
        for (slip, words) in slips {
            assert_eq!(
                refused(&chain, "deriveaddresses", &[json!(slip)]),
                words,
                "{construction}"
            );
        }
        // Somewhere in the middle.
        let swapped = descriptor
            .replacen("and_v", "and_b", 1)
            .replacen("multi", "sortedmulti", 1);
        let words = refused(&chain, "deriveaddresses", &[json!(swapped)]);
        assert!(
            words.contains("does not match computed checksum"),
            "{construction}: {words}"
        );
    }
}
