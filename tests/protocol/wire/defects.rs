//! Bytes that are no message, each with the error that names what is wrong.

use bitcoin::hex::{DisplayHex, FromHex};
use spilman::channel::{ChannelId, Construction, Envelope, Message, PartialSignature, Protocol, Terms};
use spilman::wire::{decode, encode, WireError, MAX_MESSAGE};

use super::{nonce, signature};
use crate::pair::{key, sat, Case};

/// `[8, 7, 100, h'11…22…']`, in parts.
fn payment(channel: &str, paid: &str) -> Vec<u8> {
    let signature = signature().to_compact().to_lower_hex_string();
    Vec::from_hex(&format!("8408{channel}{paid}5840{signature}")).unwrap()
}

#[test]
fn anything_but_the_shortest_encoding_is_refused() {
    assert!(decode(&payment("07", "1864")).is_ok());
    #[rustfmt::skip]
    let rows = [
        ("an amount of two bytes", payment("07", "190064"), 3),
        ("an amount of four bytes", payment("07", "1a00000064"), 3),
        ("an amount of eight bytes", payment("07", "1b0000000000000064"), 3),
        ("a channel of two bytes", payment("1807", "1864"), 2),
        ("an array with a long head", [&[0x98, 4][..], &payment("07", "1864")[1..]].concat(), 0),
        ("a long kind", [&[0x84, 0x18][..], &payment("07", "1864")[1..]].concat(), 1),
        ("a signature with a long head", [&payment("07", "1864")[..5], &[0x59, 0], &payment("07", "1864")[6..]].concat(), 5),
        ("an indefinite array", [&[0x9f][..], &payment("07", "1864")[1..], &[0xff]].concat(), 0),
    ];
    for (name, bytes, position) in rows {
        assert_eq!(
            decode(&bytes),
            Err(WireError::NotCanonical { position }),
            "{name}"
        );
    }
    // Strings in pieces, tags, floats, negative numbers: other types than the field has.
    for (name, bytes) in [
        ("a string in pieces", Vec::from_hex("83030700").unwrap()),
        ("an indefinite string", Vec::from_hex("8303075f4100ff").unwrap()),
        ("a tagged amount", payment("07", "c11864")),
        ("a negative amount", payment("07", "3863")),
        ("a float", payment("07", "f95640")),
        ("text", payment("07", "6131")),
        ("null", payment("07", "f6")),
    ] {
        let error = decode(&bytes).expect_err(name);
        assert!(matches!(error, WireError::Cbor { .. }), "{name}: {error}");
    }
}

#[test]
fn each_defect_is_named_with_both_values() {
    let says = |bytes: &[u8], words: &[&str]| {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{error}: {words:?}"
        );
    };
    let honest = payment("07", "1864");
    let hex = |hex: &str| Vec::from_hex(hex).unwrap();
    says(&[], &["array at byte 0"]);
    says(&[0; MAX_MESSAGE + 1], &["4097 bytes", "4096"]);
    says(&[&honest[..], &[0]].concat(), &["ends at byte 71", "72"]);
    says(&[&honest[..], &honest].concat(), &["ends at byte 71", "142"]);
    for (bytes, kind) in [
        ("820f07", "kind 15"),
        ("821307", "kind 19"),
        ("821707", "kind 23"),
        ("8218ff07", "kind 255"),
    ] {
        says(&hex(bytes), &["unknown message", kind, "the last known is 18"]);
    }
    says(&hex("8219010007"), &["kind", "256 is out of range"]);
    says(&hex("820807"), &["payment", "4 elements", "got 2"]);
    says(&hex("83060700"), &["ready", "2 elements", "got 3"]);
    says(
        &hex("9bffffffffffffffff0607"),
        &["ready", "2 elements", "got 18446744073709551615"],
    );
    says(
        &hex("82061a00010000"),
        &["channel at byte 2", "65536 is out of range"],
    );
    says(
        &payment("07", "1b000775f05a074001"),
        &["paid at byte 3", "21000000"],
    );
    says(&payment("07", "1bffffffffffffffff"), &["paid at byte 3"]);
    says(&hex("830d0717"), &["reason at byte 3", "23 is unknown", "28"]);
    says(&hex("830d07181d"), &["reason at byte 3", "29 is unknown", "28"]);
    says(&hex("830d071840"), &["reason at byte 3", "64 is unknown", "28"]);
    says(
        &hex("8303074111"),
        &["signature at byte 3", "expected 64 bytes, got 1"],
    );
    says(
        &hex("830c074100"),
        &["txid at byte 3", "expected 32 bytes, got 1"],
    );
    says(&hex("8305074100"), &["transaction at byte 3"]);
    says(
        &[0x83, 5, 7, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &["transaction"],
    );
}

/// Each field of a proposal, changed to what it cannot be.
#[test]
fn a_proposal_with_an_impossible_field() {
    let open = encode(&Case::story(Protocol::SteppedLocktime).propose().1).to_lower_hex_string();
    let key = key("payer").public_key().to_string();
    // [0, 7, version, protocol, construction, capacity, feerate, dust, expiry, payment expiry, margin, …]
    let head = "8f000701000019_03e8_0000_1901581901341824".replace('_', "");
    assert!(open.starts_with(&head), "{open}");
    let right = format!("5821{key}");
    let (odd, off) = (
        format!("582105{}", &key[2..]),
        format!("582102{}", "ff".repeat(32)),
    );
    let (short, long) = (format!("5820{}", &key[2..]), format!("584104{}", "11".repeat(64)));
    #[rustfmt::skip]
    let rows = [
        ("8f000701", "8f000702", &["version 2", "version 1"][..]),
        ("8f00070100", "8f00070103", &["protocol", "3 is unknown", "2"]),
        ("8f0007010000", "8f0007010006", &["construction", "6 is unknown", "5"]),
        ("8f00070100001903e8", "8f000701000000", &["capacity", "got 0 BTC"]),
        ("8f00070100001903e8", "8f00070100001b0000000100000000", &["capacity", "42.94967296 BTC"]),
        ("1903e80000", "1903e81b000000010000000000", &["feerate", "4294967296 is out of range"]),
        ("1903e80000", "1903e8001b0000000100000000", &["dust feerate", "4294967296 is out of range"]),
        ("1903e80000190158", "1903e800001b0000000100000000", &["expiry", "4294967296 is out of range"]),
        ("1901581901341824", "1901581901341a00010000", &["closing margin", "65536 is out of range"]),
        ("1901581901341824", "19015819013420", &["closing margin"]),
        (&right, &odd, &["payer key"]),
        (&right, &off, &["payer key"]),
        (&right, &short, &["payer key", "expected 33 bytes, got 32"]),
        (&right, &long, &["expected 33 bytes, got 65"]),
    ];
    for (from, to, words) in rows {
        let bytes = Vec::from_hex(&open.replacen(from, to, 1)).unwrap();
        let error = decode(&bytes).expect_err(to).to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{error}: {words:?}"
        );
    }
}

/// BIP 68 gives a meaning to one bit of kind and sixteen of length; the flag that disables a lock, and bits without a
/// meaning, are refused, and so is a lock of nothing.
#[test]
fn a_relative_lock_has_17_bits() {
    let case = Case::new(Protocol::Example7).on(Construction::Csv);
    let open = encode(&case.propose().1).to_lower_hex_string();
    // 144 blocks, no payments' lock, a closing margin of 36.
    let lock = "1890f61824";
    assert_eq!(open.matches(lock).count(), 1, "{open}");
    let with = |number: &str| {
        let bytes = Vec::from_hex(&open.replace(lock, &format!("{number}f61824"))).unwrap();
        decode(&bytes)
    };
    for number in ["01", "18ff", "19ffff", "1a00400001", "1a0040ffff"] {
        assert!(with(number).is_ok(), "{number}: {:?}", with(number));
    }
    for (number, words) in [
        ("1a80000090", "0x80000090 is not a relative lock"),
        ("1a80400090", "0x80400090 is not a relative lock"),
        ("1affffffff", "0xffffffff is not a relative lock"),
        ("1a00010090", "0x00010090 is not a relative lock"),
        ("1a00200090", "0x00200090 is not a relative lock"),
        ("1a00800090", "0x00800090 is not a relative lock"),
        ("1a00410090", "0x00410090 is not a relative lock"),
        ("00", "0x00000000 is not a relative lock"),
        ("1a00400000", "0x00400000 is not a relative lock"),
        ("1b0000000100000090", "is out of range"),
    ] {
        let error = with(number).expect_err(number).to_string();
        assert!(
            error.contains(words) && error.contains("expiry"),
            "{number}: {error}, not {words}"
        );
    }
}

/// A nonce is two points of the curve, and a partial signature a number below its order.
#[test]
fn a_nonce_of_another_size_or_off_the_curve() {
    let point = key("nonce").public_key().to_string();
    let request = encode(&Envelope {
        channel: ChannelId(7),
        message: Message::CloseRequest {
            feerate: Terms::FEERATE,
            nonce: Some(nonce()),
        },
    })
    .to_lower_hex_string();
    let settlement = encode(&Envelope {
        channel: ChannelId(7),
        message: Message::CooperativeSettlement {
            paid: sat(200),
            feerate: Terms::FEERATE,
            nonce: nonce(),
            partial: PartialSignature::from_bytes([1; 32]).unwrap(),
        },
    })
    .to_lower_hex_string();
    let whole = format!("5842{point}{point}");
    let (infinity, off) = ("00".repeat(33), format!("02{}", "ff".repeat(32)));
    let wrong = [
        (format!("5841{}", "02".repeat(65)), "expected 66 bytes, got 65"),
        (format!("5843{}", "02".repeat(67)), "expected 66 bytes, got 67"),
        (format!("5821{point}"), "expected 66 bytes, got 33"),
        (format!("5842{infinity}{point}"), "not two compressed points"),
        (format!("5842{point}{infinity}"), "not two compressed points"),
        (format!("5842{off}{point}"), "not two compressed points"),
        (format!("5842{point}{off}"), "not two compressed points"),
        (
            format!("584204{}{point}", &point[2..]),
            "not two compressed points",
        ),
    ];
    for message in [&request, &settlement] {
        assert_eq!(message.matches(&whole).count(), 1, "{message}");
        for (nonce, words) in &wrong {
            let bytes = Vec::from_hex(&message.replace(&whole, nonce)).unwrap();
            let error = decode(&bytes).expect_err(nonce).to_string();
            assert!(
                error.contains(words) && error.contains("nonce"),
                "{error}, not {words}"
            );
        }
    }
    let part = format!("5820{}", "01".repeat(32));
    assert!(settlement.ends_with(&part), "{settlement}");
    for (partial, words) in [
        (format!("5820{}", "ff".repeat(32)), "not below the order"),
        (format!("581f{}", "01".repeat(31)), "expected 32 bytes, got 31"),
    ] {
        let bytes = Vec::from_hex(&settlement.replace(&part, &partial)).unwrap();
        let error = decode(&bytes).expect_err(&partial).to_string();
        assert!(
            error.contains(words) && error.contains("partial"),
            "{error}, not {words}"
        );
    }
}

/// `[16, 7, 1, 2, features, random]` and the others, each with one field that does not go with its neighbour.
#[test]
fn fields_of_a_resume_that_contradict_each_other() {
    let (random, signature, txid) = ("33".repeat(32), "11".repeat(64), "77".repeat(32));
    let hello = |versions: &str, features: &str| format!("861007{versions}{features}5820{random}");
    let features = "488000000000000001";
    let resumed = |payment: &str, state: &str| format!("871207{payment}{state}5840{signature}");
    let (paid, null) = (format!("18645840{signature}"), "f6f6");
    let some = |state: u8| format!("{state:02x}5820{txid}");
    let decoded = |hex: &str| decode(&Vec::from_hex(hex).unwrap());
    for right in [
        hello("0101", features),
        hello("0118ff", "480000000000000000"),
        resumed(null, "00f6"),
        resumed(&paid, "01f6"),
        resumed(null, "02f6"),
        resumed(&paid, &some(3)),
        resumed(null, &some(4)),
        resumed(&paid, "04f6"),
    ] {
        decoded(&right).unwrap_or_else(|error| panic!("{right}: {error}"));
    }
    #[rustfmt::skip]
    let rows = [
        (hello("0001", features), &["least version at byte 3", "versions 0 to 1", "1 or more"][..]),
        (hello("0201", features), &["least version at byte 3", "versions 2 to 1", "not above the greatest"]),
        (hello("01190100", features), &["greatest version at byte 4", "256 is out of range"]),
        (hello("0101", "4780000000000001"), &["features at byte 5", "expected 8 bytes, got 7"]),
        (hello("0101", "1b8000000000000001"), &["features at byte 5"]),
        (resumed(&format!("f65840{signature}"), "00f6"), &["signature at byte 4", "null", "got 64 bytes"]),
        (resumed("1864f6", "00f6"), &["signature at byte 5", "64 bytes", "got null"]),
        (resumed(null, &some(0)), &["state at byte 5", "state 0 with a txid", "7777"]),
        (resumed(null, &some(2)), &["state at byte 5", "state 2 with a txid"]),
        (resumed(null, "03f6"), &["state at byte 5", "state 3 without a txid"]),
        (resumed(null, "05f6"), &["state at byte 5", "state 5 without a txid"]),
        (resumed(null, &some(5)), &["state at byte 5", "state 5 with a txid"]),
    ];
    for (bytes, words) in rows {
        let error = decoded(&bytes).expect_err(&bytes).to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{error}: {words:?}"
        );
    }
}
