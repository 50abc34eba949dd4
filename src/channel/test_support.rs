//! A channel for the unit tests of this module.

use bitcoin::absolute::{Height, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{ecdsa, SecretKey};
use bitcoin::{Amount, CompressedPublicKey, OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::keys::ChannelKey;
use super::params::{ChannelId, ChannelParams, Confirmation, Parties};
use super::protocol::Protocol;
use super::terms::Terms;
use super::transaction::SpendTemplate;
use super::{Capacity, Construction, PayeeKey, PayerKey, Tip};

pub struct Example {
    pub params: ChannelParams,
    pub payer: ChannelKey,
    pub payee: ChannelKey,
}

pub fn tip(height: u32, mtp: u32) -> Tip {
    Tip {
        height: Height::from_consensus(height).unwrap(),
        mtp: Time::from_consensus(mtp).unwrap(),
    }
}

pub fn key(label: &str) -> ChannelKey {
    ChannelKey::new(SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).unwrap())
}

pub fn payout(key: &ChannelKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash())
}

pub fn example() -> Example {
    example_on(Construction::P2sh, Protocol::Example7)
}

pub fn example_on(construction: Construction, protocol: Protocol) -> Example {
    example_of(construction, protocol, key("spilman/test/payer"))
}

pub fn example_of(construction: Construction, protocol: Protocol, payer: ChannelKey) -> Example {
    let payee = key("spilman/test/payee");
    let capacity = Capacity::new(Amount::from_sat(1_000_000)).unwrap();
    let terms = Terms::with(protocol, construction, capacity, tip(200, 1_700_000_000)).unwrap();
    let parties = Parties {
        payer_key: PayerKey::new(payer.public_key()),
        payee_key: PayeeKey::new(payee.public_key()),
        payer_payout: payout(&payer),
        payee_payout: payout(&payee),
    };
    let confirmation = Confirmation {
        depth: 3,
        zero_conf_limit: Amount::ZERO,
    };
    Example {
        params: ChannelParams::new(ChannelId(1), terms, parties, confirmation).unwrap(),
        payer,
        payee,
    }
}

pub fn finished_refund(example: &Example) -> (Transaction, TxOut) {
    let spend = SpendTemplate::refund(&example.params, OutPoint::new(Txid::from_byte_array([7; 32]), 0));
    let alone = example.params.terms().construction.has_script_refund();
    let payee = (!alone).then(|| spend.sign(&example.payee));
    let payer = spend.sign(&example.payer);
    let prevout = TxOut {
        value: example.params.terms().capacity.to_amount(),
        script_pubkey: example.params.funding_script(),
    };
    (spend.complete(payer, payee).unwrap(), prevout)
}

pub fn finished_payment(example: &Example) -> (Transaction, TxOut) {
    let balance = example.params.balance(Amount::from_sat(10_000)).unwrap();
    let funding = OutPoint::new(Txid::from_byte_array([7; 32]), 0);
    let spend = SpendTemplate::payment(&example.params, funding, &balance);
    let (payer, payee) = (spend.sign(&example.payer), spend.sign(&example.payee));
    (
        spend.complete(payer, Some(payee)).unwrap(),
        example.params.funding_output(),
    )
}

/// The other S of the same signature, with its hash type.
pub fn high_s(signature: &[u8]) -> Vec<u8> {
    let (kind, der) = signature.split_last().unwrap();
    let mut compact = ecdsa::Signature::from_der(der).unwrap().serialize_compact();
    let s = SecretKey::from_slice(&compact[32..]).unwrap().negate();
    compact[32..].copy_from_slice(&s.secret_bytes());
    let high = ecdsa::Signature::from_compact(&compact).unwrap();
    [&high.serialize_der()[..], &[*kind]].concat()
}
