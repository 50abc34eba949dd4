//! The published vectors of BIP 327 and BIP 390, as far as two parties reach.

use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpub};
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{Message, PublicKey, SecretKey};
use bitcoin::{NetworkKind, ScriptBuf};
use musig2::KeyAggContext;

use super::{add, to_point, AggregateKey, AggregateOutputKey, MusigError, PartialSignature, PublicNonce};
use crate::channel::keys::{ChannelKey, PayeeKey, PayerKey, SECP};

const SECRET: &str = "7fb9e0e687ada1eebf7ecfe2f21e73ebdb51a7d450948dfe8d76d7f2d1007671";

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    Vec::from_hex(hex).unwrap().try_into().unwrap()
}

fn key(hex: &str) -> PublicKey {
    hex.parse().unwrap()
}

fn digest(hex: &str) -> Message {
    Message::from_digest(bytes(hex))
}

fn nonce(hex: &str) -> PublicNonce {
    PublicNonce::from_bytes(bytes(hex)).unwrap()
}

fn partial(hex: &str) -> PartialSignature {
    PartialSignature::from_bytes(bytes(hex)).unwrap()
}

/// The vectors aggregate the keys in the order that they give, and some have a third signer.
fn unsorted(keys: &[PublicKey], payer: PublicKey, payee: PublicKey) -> AggregateOutputKey {
    let context = KeyAggContext::new(keys.iter().map(|key| to_point(&key.serialize()))).unwrap();
    AggregateOutputKey::new(PayerKey::new(payer), PayeeKey::new(payee), context)
}

#[test]
fn the_payers_answer_is_the_one_of_the_bip() {
    // det_sign_vectors.json, the case without the optional randomness.
    let payer = ChannelKey::new(SECRET.parse::<SecretKey>().unwrap());
    let others = [
        key("02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"),
        key("02dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659"),
    ];
    let output = unsorted(
        &[others[0], payer.public_key(), others[1]],
        payer.public_key(),
        others[0],
    );
    let theirs = nonce(
        "0337c87821afd50a8644d820a8f3e02e499c931865c2360fb43d0a0d20dafe07ea\
         0287bf891d2a6deaebadc909352aa9405d1428c15f4b75f04dae642a95c2548480",
    );
    let digest = digest("f95466d086770e689964664219266fe5ed215c92ae20bab5c9d79addddf3c0cf");

    let (ours, part) = output.sign_with(&payer, &theirs, &digest).unwrap();

    let expected = nonce(
        "028fbccf5bb73a7b61b270bad15c0f9475d577dd85c2157c9d38bef1ec922b4877\
         0253be3638c87369bc287e446b7f2c8ca5beb9ffbd1ea082c62913982a65fc214d",
    );
    assert_eq!(ours, expected, "the payer's public nonce");
    let expected = partial("aeaa31262637bfa88d5606679018a0feeec341f3107d1199857f6c81de61b8dd");
    assert_eq!(part, expected, "the payer's partial signature");
}

#[test]
fn two_parts_add_up_to_the_signature_of_the_bip() {
    // sig_agg_vectors.json, the first case.
    let keys = [
        key("03935f972da013f80ae011890fa89b67a27b7be6ccb24d3274d18b2d4067f261a9"),
        key("02d2dc6f5df7c56acf38c7fa0ae7a759ae30e19b37359dfde015872324c7ef6e05"),
    ];
    let output = unsorted(&keys, keys[0], keys[1]);
    let nonces = [
        nonce(
            "036e5ee6e28824029fea3e8a9ddd2c8483f5af98f7177c3af3cb6f47caf8d94ae9\
             02dba67e4a1f3680826172da15afb1a8ca85c7c5cc88900905c8dc8c328511b53e",
        ),
        nonce(
            "03e4f798da48a76eec1c9cc5ab7a880ffba201a5f064e627ec9cb0031d1d58fc51\
             03e06180315c5a522b7ec7c08b69dcd721c313c940819296d0a7ab8e8795ac1f00",
        ),
    ];
    let parts = [
        partial("b15d2cd3c3d22b04dae438ce653f6b4ecf042f42cfded7c41b64aaf9b4af53fb"),
        partial("6193d6ac61b354e9105bbdc8937a3454a6d705b6d57322a5a472a02ce99fcb64"),
    ];
    let digest = digest("599c67ea410d005b9da90817cf03ed3b1c868e4da4edf00a5880b0082c237869");
    let sum = add([&nonces[0], &nonces[1]]);

    for ((signer, nonce), part) in keys.into_iter().zip(&nonces).zip(&parts) {
        output.verify(signer, nonce, &sum, part, &digest).unwrap();
    }
    let signature = output.aggregate(&sum, parts, &digest).unwrap();

    assert_eq!(
        signature.to_string(),
        "041da22223ce65c92c9a0d6c2cac828aaf1eee56304fec371ddf91ebb2b9ef09\
         12f1038025857fedeb3ff696f8b99fa4bb2c5812f6095a2e0004ec99ce18de1e"
    );
    let twice = output.aggregate(&sum, [parts[0], parts[0]], &digest);
    let key = output.output_key();
    assert_eq!(twice, Err(MusigError::WrongSum { key }), "one part given as both");
}

#[test]
fn the_key_is_the_one_that_a_descriptor_means() {
    // The `rawtr(musig(…,…)/0/*)` of BIP 390: the children of the aggregate, by the chain code of BIP 328.
    let participants = [
        "xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL",
        "xpub68NZiKmJWnxxS6aaHmn81bvJeTESw724CRDs6HbuccFQN9Ku14VQrADWgqbhhTHBaohPX4CjNLf9fq9MYo6oDaPPLPxSb7gwQN3ih19Zm4Y",
    ]
    .map(|xpub| xpub.parse::<Xpub>().unwrap().public_key);
    let scripts = [
        "51209508c08832f3bb9d5e8baf8cb5cfa3669902e2f2da19acea63ff47b93faa9bfc",
        "51205ca1102663025a83dd9b5dbc214762c5a6309af00d48167d2d6483808525a298",
        "51207dbed1b89c338df6a1ae137f133a19cae6e03d481196ee6f1a5c7d1aeb56b166",
    ];
    for [payer, payee] in [participants, [participants[1], participants[0]]] {
        let aggregate = AggregateKey::new(PayerKey::new(payer), PayeeKey::new(payee));
        let aggregate = Xpub {
            network: NetworkKind::Main,
            depth: 0,
            parent_fingerprint: Fingerprint::default(),
            child_number: ChildNumber::Normal { index: 0 },
            public_key: super::to_public_key(aggregate.context.aggregated_pubkey()),
            chain_code: ChainCode::from(bytes(
                "868087ca02a6f974c4598924c36b57762d32cb45717167e300622c7167e38965",
            )),
        };
        for (index, expected) in (0..).zip(scripts) {
            let path = [ChildNumber::Normal { index: 0 }, ChildNumber::Normal { index }];
            let child = aggregate.derive_pub(&SECP, &path).unwrap().to_x_only_pub();
            let tweaked = bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(child);
            let script = ScriptBuf::new_p2tr_tweaked(tweaked);
            assert_eq!(script.to_hex_string(), expected, "child {index} of {aggregate:?}");
        }
    }
}

#[test]
fn bytes_that_the_bip_refuses_are_refused() {
    // sign_verify_vectors.json and nonce_agg_vectors.json: a wrong tag, no X coordinate, an X above the field's
    // size, and the point at infinity, in either half.
    let good = "0337c87821afd50a8644d820a8f3e02e499c931865c2360fb43d0a0d20dafe07ea";
    let bad = [
        "0437c87821afd50a8644d820a8f3e02e499c931865c2360fb43d0a0d20dafe07ea",
        "020000000000000000000000000000000000000000000000000000000000000009",
        "02fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30",
        "000000000000000000000000000000000000000000000000000000000000000000",
    ];
    let twice = format!("{good}{good}");
    assert_eq!(nonce(&twice).to_string(), twice, "two points, as they were sent");
    for bad in bad {
        for hex in [format!("{bad}{good}"), format!("{good}{bad}")] {
            let refused = PublicNonce::from_bytes(bytes(&hex)).unwrap_err();
            assert_eq!(refused, MusigError::InvalidNonce { nonce: bytes(&hex) });
            assert_eq!(
                refused.to_string(),
                format!("the nonce is not two compressed points of the curve: {hex}")
            );
        }
    }

    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let refused = PartialSignature::from_bytes(bytes(order)).unwrap_err();
    assert_eq!(
        refused,
        MusigError::OutOfRange {
            partial: bytes(order)
        }
    );
    let below = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
    assert_eq!(
        partial(below).to_string(),
        below,
        "one below the order is a number like any other"
    );
}
