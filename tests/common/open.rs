//! An open channel on any construction, without a node, a connection or a log: the two parties, ready to pay.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use bitcoin::absolute::{Height, LockTime, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::SecretKey;
use bitcoin::transaction::Version;
use bitcoin::{Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use bitcoin::{Txid, Witness};
use spilman::channel::{
    Action, Capacity, ChainView, ChannelId, ChannelKey, Considered, Construction, Envelope, Event, Hold,
    Limits, Payee, PayeeOpening, Payer, PayerOpening, Protocol, Terms, Tip,
};

/// The sum of one payment: the largest channel has room for billions of them.
pub const STEP: Amount = Amount::ONE_SAT;

pub fn secret(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).unwrap()
}

/// Example 7 with the largest capacity, after its payment of nothing.
pub fn open(construction: Construction) -> (Payer, Payee) {
    let tip = Tip {
        height: Height::from_consensus(200).unwrap(),
        mtp: Time::from_consensus(1_700_000_000).unwrap(),
    };
    let (mut payer, mut payee) = funded(construction, tip);
    let view = ChainView {
        tip,
        confirmations: 3,
        base: Some(tip),
        spend: None,
    };
    payer.apply(Event::Chain(view.clone())).unwrap();
    let mut said = envelope(payee.apply(Event::Chain(view)).unwrap());
    let mut to_payer = true;
    while let Some(message) = said {
        let event = Event::Message(message);
        let actions = if to_payer {
            payer.apply(event)
        } else {
            payee.apply(event)
        };
        said = envelope(actions.unwrap());
        to_payer = !to_payer;
    }
    (payer, payee)
}

fn funded(construction: Construction, tip: Tip) -> (Payer, Payee) {
    let terms = Terms::new(Protocol::Example7, Capacity::MAX, tip)
        .unwrap()
        .on(construction);
    let mut limits = Limits::default();
    limits.capacity = *limits.capacity.start()..=Capacity::MAX.to_amount();
    let (k1, k2) = (key("payer"), key("payee"));
    let (to_payer, to_payee) = (payout(&k1), payout(&k2));

    let (payer, open) =
        PayerOpening::propose(ChannelId(1), terms, k1, to_payer, limits.clone(), tip).unwrap();
    let (considered, accept) = PayeeOpening::consider(open, k2, to_payee, limits, tip).unwrap();
    let payer = payer.accept(accept).unwrap();
    let funding = funding(payer.funding_output());
    let (payer, payee) = match (payer.hold(funding).unwrap(), considered) {
        (Hold::CoSigned(payer, request), Considered::SignsRefund(payee)) => {
            let (payee, mut answers) = payee.sign_refund(request, tip).unwrap();
            (payer.verify_refund(answers.remove(0)).unwrap(), payee)
        }
        (Hold::Protected(payer), Considered::AwaitsFunding(payee)) => (payer, payee),
        (hold, considered) => panic!("{hold:?} does not go with {considered:?}"),
    };
    let (payer, actions) = payer.release();
    let (payee, _) = payee.receive_funding(envelope(actions).unwrap()).unwrap();
    (payer, payee)
}

/// What a party says, among what it does.
pub fn envelope(actions: Vec<Action>) -> Option<Envelope> {
    actions.into_iter().find_map(|action| match action {
        Action::Send(envelope) => Some(envelope),
        _ => None,
    })
}

/// The payer's next payment, for the payee.
pub fn payment(payer: &mut Payer) -> Event {
    let actions = payer.apply(Event::Pay(STEP)).unwrap();
    Event::Message(envelope(actions).expect("a payment is a message"))
}

fn key(label: &str) -> ChannelKey {
    ChannelKey::new(secret(label))
}

fn payout(key: &ChannelKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash())
}

fn funding(output: TxOut) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 1),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; 71], vec![2; 33]]),
        }],
        output: vec![output],
    }
}
