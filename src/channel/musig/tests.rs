use bitcoin::absolute::LockTime;
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{Message, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TapNodeHash, TapSighashType, Transaction, TxIn, TxOut, Txid,
};
use proptest::prelude::*;

use super::{
    AggregateKey, AggregateOutputKey, MusigError, NonceSeed, PartialSignature, PublicNonce, SecretNonce,
};
use crate::channel::keys::{ChannelKey, PayeeKey, PayerKey, SECP};
use crate::channel::test_support::key;

pub struct KeyPair {
    pub payer: ChannelKey,
    pub payee: ChannelKey,
    pub output: AggregateOutputKey,
}

impl KeyPair {
    fn new(payer: ChannelKey, payee: ChannelKey, merkle_root: Option<TapNodeHash>) -> Self {
        let output = aggregate(&payer, &payee).tweaked(merkle_root);
        Self { payer, payee, output }
    }

    pub fn example() -> Self {
        let root = TapNodeHash::from_byte_array([3; 32]);
        Self::new(key("spilman/test/payer"), key("spilman/test/payee"), Some(root))
    }

    fn asked(&self, seed: u8) -> SecretNonce {
        SecretNonce::generate(NonceSeed::new([seed; 32]), &self.payee, &self.output, funding(1))
    }

    fn answer(&self, asked: &SecretNonce, digest: &Message) -> (PublicNonce, PartialSignature) {
        self.output
            .sign_with(&self.payer, &asked.public(), digest)
            .unwrap()
    }
}

fn aggregate(payer: &ChannelKey, payee: &ChannelKey) -> AggregateKey {
    AggregateKey::new(
        PayerKey::new(payer.public_key()),
        PayeeKey::new(payee.public_key()),
    )
}

fn funding(byte: u8) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([byte; 32]), 0)
}

fn digest(byte: u8) -> Message {
    Message::from_digest([byte; 32])
}

#[test]
fn a_settlement_is_a_plain_key_path_spend() {
    // 1. The funding output pays to the aggregate key.
    let channel = KeyPair::example();
    let root = TapNodeHash::from_byte_array([3; 32]);
    let internal = aggregate(&channel.payer, &channel.payee).internal_key();
    let prevout = TxOut {
        value: Amount::from_sat(1_000_000),
        script_pubkey: ScriptBuf::new_p2tr(&SECP, internal, Some(root)),
    };

    // 2. Both sign the settlement's key-path sighash.
    let mut settlement = Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: funding(1),
            sequence: Sequence::MAX,
            ..TxIn::default()
        }],
        output: vec![TxOut {
            value: Amount::from_sat(999_000),
            script_pubkey: prevout.script_pubkey.clone(),
        }],
    };
    let sighash = |transaction: &Transaction| {
        let prevouts = [&prevout];
        let digest = SighashCache::new(transaction)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&prevouts), TapSighashType::Default)
            .unwrap();
        Message::from_digest(digest.to_byte_array())
    };
    let digest = sighash(&settlement);
    let asked = channel.asked(5);
    let (nonce, partial) = channel.answer(&asked, &digest);
    let signature = channel
        .output
        .complete(asked, &channel.payee, &nonce, &partial, &digest)
        .unwrap();

    // 3. The witness is one signature of 64 bytes, good for the key in the output's script.
    let witness = bitcoin::taproot::Signature {
        signature,
        sighash_type: TapSighashType::Default,
    };
    settlement.input[0].witness = bitcoin::Witness::p2tr_key_spend(&witness);
    let sizes: Vec<usize> = settlement.input[0].witness.iter().map(<[u8]>::len).collect();
    assert_eq!(sizes, [64], "the items of the witness");
    let in_script = bitcoin::XOnlyPublicKey::from_slice(&prevout.script_pubkey.as_bytes()[2..]).unwrap();
    assert_eq!(channel.output.output_key(), in_script, "the key in the script");
    SECP.verify_schnorr(&signature, &sighash(&settlement), &in_script)
        .expect("the settlement's signature");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_two_keys_sign_any_digest(
        secrets in any::<[[u8; 32]; 2]>(),
        root in any::<Option<[u8; 32]>>(),
        digest in any::<[u8; 32]>(),
        seed in any::<[u8; 32]>(),
    ) {
        let [payer, payee] = secrets.map(|secret| SecretKey::from_slice(&secret));
        prop_assume!(payer.is_ok() && payee.is_ok());
        let root = root.map(TapNodeHash::from_byte_array);
        let digest = Message::from_digest(digest);
        let channel = KeyPair::new(ChannelKey::new(payer.unwrap()), ChannelKey::new(payee.unwrap()), root);
        let KeyPair { payer, payee, output } = &channel;

        let internal = aggregate(payer, payee).internal_key();
        let (expected, parity) = internal.tap_tweak(&SECP, root);
        prop_assert_eq!(output.output_key(), expected.to_x_only_public_key(), "the output key");
        prop_assert_eq!(output.parity(), parity, "its parity");
        prop_assert_eq!(aggregate(payee, payer).internal_key(), internal, "the order of the keys");

        let asked = SecretNonce::generate(NonceSeed::new(seed), payee, output, funding(1));
        let (nonce, partial) = channel.answer(&asked, &digest);
        let nonce = PublicNonce::from_bytes(nonce.to_bytes()).unwrap();
        let partial = PartialSignature::from_bytes(partial.to_bytes()).unwrap();
        let signature = output.complete(asked, payee, &nonce, &partial, &digest).unwrap();
        prop_assert_eq!(SECP.verify_schnorr(&signature, &digest, &output.output_key()), Ok(()));
    }
}

#[test]
fn the_payers_nonce_follows_the_request() {
    let channel = KeyPair::example();
    let (asked, again) = (channel.asked(5), channel.asked(6));
    let first = channel.answer(&asked, &digest(1));
    assert_eq!(
        channel.answer(&asked, &digest(1)),
        first,
        "the same request again, as after a restart"
    );

    let other_root = KeyPair::new(key("spilman/test/payer"), key("spilman/test/payee"), None);
    let others = [
        ("another digest", channel.answer(&asked, &digest(2))),
        ("another nonce of the payee", channel.answer(&again, &digest(1))),
        ("another output key", other_root.answer(&asked, &digest(1))),
    ];
    for (what, (nonce, _)) in others {
        assert_ne!(nonce, first.0, "{what} must have a separate nonce");
    }
}

#[test]
fn the_payees_nonce_is_made_of_every_input() {
    // NonceGen of BIP 327, written out: the seed, the secret key, the output key, no message, the outpoint.
    let channel = KeyPair::example();
    let hash = |tag: &str, parts: &[&[u8]]| {
        let tag = sha256::Hash::hash(tag.as_bytes()).to_byte_array();
        let mut engine = sha256::Hash::engine();
        for part in [&[&tag[..], &tag[..]], parts].concat() {
            engine.input(part);
        }
        sha256::Hash::from_engine(engine).to_byte_array()
    };
    let mut rand = hash("MuSig/aux", &[&[5; 32]]);
    for (byte, secret) in rand.iter_mut().zip(channel.payee.secret_bytes()) {
        *byte ^= secret;
    }
    let (public, output) = (
        channel.payee.public_key().serialize(),
        channel.output.output_key().serialize(),
    );
    let scalar = |index| {
        let parts: [&[u8]; 10] = [
            &rand,
            &[33],
            &public,
            &[32],
            &output,
            &[0],
            &36_u32.to_be_bytes(),
            &[1; 32],
            &[0; 4],
            &[index],
        ];
        SecretKey::from_slice(&hash("MuSig/nonce", &parts)).unwrap()
    };
    let expected = [0, 1]
        .map(|index| scalar(index).public_key(&SECP).serialize())
        .concat();
    assert_eq!(
        channel.asked(5).public().to_bytes()[..],
        expected,
        "the two points of the nonce"
    );
}

#[test]
fn a_repeated_seed_stays_in_its_channel() {
    let channel = KeyPair::example();
    let first = channel.asked(5).public();
    assert_eq!(
        channel.asked(5).public(),
        first,
        "the same seed in the same channel: what must not happen"
    );

    let seed = || NonceSeed::new([5; 32]);
    let other_key = KeyPair::new(key("spilman/test/payer"), key("spilman/test/other"), None);
    let other_root = KeyPair::new(key("spilman/test/payer"), key("spilman/test/payee"), None);
    let others = [
        (
            "funding outpoint",
            SecretNonce::generate(seed(), &channel.payee, &channel.output, funding(2)),
        ),
        (
            "key",
            SecretNonce::generate(seed(), &other_key.payee, &channel.output, funding(1)),
        ),
        (
            "output key",
            SecretNonce::generate(seed(), &channel.payee, &other_root.output, funding(1)),
        ),
    ];
    for (what, other) in others {
        assert_ne!(
            other.public(),
            first,
            "another {what} has to make another nonce of the same seed"
        );
    }
}

#[test]
fn a_wrong_part_of_the_payer_is_named() {
    let channel = KeyPair::example();
    let stranger = KeyPair::new(key("spilman/test/stranger"), key("spilman/test/payee"), None);
    let (signed, asked) = (digest(1), || channel.asked(5));
    let (nonce, partial) = channel.answer(&asked(), &signed);
    let (other_nonce, other_digest) = channel.answer(&asked(), &digest(2));
    let (_, other_asked) = channel.answer(&channel.asked(6), &signed);
    let (strange_nonce, strange) = stranger.answer(&asked(), &signed);
    let negated = PartialSignature(-partial.0);
    let zero = PartialSignature::from_bytes([0; 32]).unwrap();

    let cases = [
        ("the negated number", nonce, negated),
        ("zero", nonce, zero),
        ("over another digest", other_nonce, other_digest),
        ("for another nonce of the payee", nonce, other_asked),
        ("by another key", strange_nonce, strange),
        ("with another public nonce", other_nonce, partial),
        ("with the payee's own nonce sent back", asked().public(), partial),
        (
            "with a nonce that cancels the payee's",
            opposite(&asked().public()),
            partial,
        ),
    ];
    for (what, nonce, partial) in cases {
        let refused = channel
            .output
            .complete(asked(), &channel.payee, &nonce, &partial, &signed);
        let signer = channel.payer.public_key();
        assert_eq!(
            refused,
            Err(MusigError::WrongPartial { signer, partial }),
            "a part {what}"
        );
    }
    let accepted = channel
        .output
        .complete(asked(), &channel.payee, &nonce, &partial, &signed);
    assert!(accepted.is_ok(), "the payer's own part: {accepted:?}");
}

/// The same points with the other Y.
fn opposite(nonce: &PublicNonce) -> PublicNonce {
    let mut bytes = nonce.to_bytes();
    bytes[0] ^= 1;
    bytes[33] ^= 1;
    PublicNonce::from_bytes(bytes).unwrap()
}

#[test]
fn each_part_is_signed_with_its_own_key() {
    let KeyPair { payer, payee, output } = &KeyPair::example();
    let stranger = key("spilman/test/stranger");
    let nonce_of = |key: &ChannelKey| SecretNonce::generate(NonceSeed::new([5; 32]), key, output, funding(1));
    let (theirs, partial) = output
        .sign_with(payer, &nonce_of(payee).public(), &digest(1))
        .unwrap();
    let (k1, k2) = (payer.public_key(), payee.public_key());

    let refused = output.sign_with(payee, &theirs, &digest(1)).unwrap_err();
    assert_eq!(
        refused,
        MusigError::WrongKey {
            expected: k1,
            used: k2
        },
        "the payee in the payer's place"
    );
    let refused = output.complete(nonce_of(payer), payer, &theirs, &partial, &digest(1));
    assert_eq!(
        refused,
        Err(MusigError::WrongKey {
            expected: k2,
            used: k1
        }),
        "the payer in the payee's place"
    );

    // The payer answers the nonce that it saw; only the payee can know that it belongs to another key.
    let borrowed = nonce_of(&stranger);
    let (theirs, partial) = output.sign_with(payer, &borrowed.public(), &digest(1)).unwrap();
    let refused = output.complete(borrowed, payee, &theirs, &partial, &digest(1));
    let bound = stranger.public_key();
    assert_eq!(
        refused,
        Err(MusigError::WrongNonce { bound, used: k2 }),
        "a nonce of another key"
    );
}

#[test]
fn what_is_secret_is_not_printed() {
    let channel = KeyPair::example();
    let asked = channel.asked(5);
    let (nonce, partial) = channel.answer(&asked, &digest(1));
    assert_eq!(
        format!("{asked:?}"),
        format!("SecretNonce({})", asked.public()),
        "the public half alone"
    );
    assert_eq!(format!("{nonce:?}"), format!("PublicNonce({nonce})"));
    assert_eq!(format!("{partial:?}"), format!("PartialSignature({partial})"));
}
