//! What the rows are made of: cases, the scene that a mutation may set, and the parts of a message.

use bitcoin::key::UntweakedPublicKey;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::taproot::{LeafVersion, TapNodeHash};
use bitcoin::{ScriptBuf, Transaction};
use spilman::channel::{
    ChannelParams, Construction, Envelope, Event, Expiry, HelloRandoms, Message, PayeeKey, PayerKey,
    Protocol, RefusalReason, Resume, Resumed, ResumedState, Stage, Terms, UnverifiedSignature,
};

use crate::pair::{key, sat, signature_over, tip, Case, Pair, Side, Sign, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};

/// What a mutation may read, and how it may set the scene.
#[derive(Debug)]
pub struct World {
    pub params: ChannelParams,
    /// Once the opening is done.
    pub pair: Option<Pair>,
}

impl World {
    pub fn pair(&mut self) -> &mut Pair {
        self.pair.as_mut().expect("the stage is after the opening")
    }

    pub fn spendable(&self) -> u64 {
        self.params.spendable().to_sat()
    }
}

/// Both sides have said hello with these.
fn randoms(payer: [u8; 32]) -> HelloRandoms {
    HelloRandoms {
        payer,
        payee: [2; 32],
    }
}

impl World {
    pub fn reconnect(&mut self, side: Side, payer: [u8; 32]) {
        let (channel, randoms) = (self.params.id(), randoms(payer));
        let back = Event::Reconnected { channel, randoms };
        self.pair().tell(side, back).unwrap();
    }
}

/// What this key says to resume the channel.
pub fn resumes(world: &mut World, envelope: &mut Envelope, label: &str, change: fn(&mut Resume)) {
    let pair = world.pair();
    let mut resume = Resume {
        funding: pair.outpoint(),
        signed: pair.payer.paid(),
        acknowledged: Some(pair.payer.acknowledged()),
    };
    change(&mut resume);
    let proven = resume.sign(&randoms([1; 32]), &world.params, &key(label));
    envelope.message = Message::Resume(proven);
}

/// What this key answers to resume it.
pub fn is_resumed(world: &mut World, envelope: &mut Envelope, label: &str, change: fn(&mut Resumed)) {
    let pair = world.pair();
    let mut resumed = Resumed {
        latest_payment: pair.payee.state().progress.latest,
        state: ResumedState::Open,
    };
    change(&mut resumed);
    let proven = resumed.sign(
        &randoms([1; 32]),
        pair.outpoint(),
        pair.payee.params(),
        &key(label),
    );
    envelope.message = Message::Resumed(proven);
}

pub type Mutation = fn(&mut World, &mut Envelope);

#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub case: fn() -> Case,
    /// On which constructions; the protocol and the stage may rule out more.
    on: fn(Construction) -> bool,
    /// Who refuses.
    pub by: Side,
    pub at: Stage,
    pub mutation: Mutation,
    pub reason: RefusalReason,
    /// The error names what was wrong, and both values; `{spendable}` and its like stand for sums that differ between
    /// the constructions.
    pub says: &'static [&'static str],
}

impl Row {
    pub const fn on(mut self, on: fn(Construction) -> bool) -> Self {
        self.on = on;
        self
    }

    /// The row's case on every construction on which it makes sense.
    pub fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        let case = (self.case)();
        let co_signed = case.terms.protocol != Example7 || self.at == Stage::SigningRefund;
        Construction::ALL
            .into_iter()
            .filter(move |construction| (self.on)(*construction))
            .filter(move |construction| !(co_signed && construction.has_script_refund()))
            .map(move |construction| case.clone().on(construction))
    }
}

pub const fn row(
    name: &'static str,
    case: fn() -> Case,
    (by, at): (Side, Stage),
    mutation: Mutation,
    reason: RefusalReason,
    says: &'static [&'static str],
) -> Row {
    Row {
        name,
        case,
        on: |_| true,
        by,
        at,
        mutation,
        reason,
        says,
    }
}

// The constructions.

pub fn co_signed(construction: Construction) -> bool {
    !construction.has_script_refund()
}

pub fn in_script(construction: Construction) -> bool {
    construction.has_script_refund()
}

pub fn absolute(construction: Construction) -> bool {
    !construction.has_relative_lock()
}

pub fn relative(construction: Construction) -> bool {
    construction.has_relative_lock()
}

/// An absolute lock, and in the script.
pub fn absolute_in_script(construction: Construction) -> bool {
    in_script(construction) && absolute(construction)
}

pub fn ecdsa(construction: Construction) -> bool {
    !taproot(construction)
}

pub fn taproot(construction: Construction) -> bool {
    construction == Construction::Taproot
}

// The cases.

pub fn example7() -> Case {
    Case::new(Example7).paying(&[1_000, 1_000])
}

pub fn bare() -> Case {
    Case::new(Example7)
}

/// With a lock by time.
pub fn timed() -> Case {
    bare().expiry(time(MTP + 86_400))
}

/// The payer keeps 10,000 to the end.
pub fn reserved() -> Case {
    let mut case = example7();
    case.terms.reserve = sat(10_000);
    case
}

/// A payee that accepts 2,500 before the funding transaction is confirmed.
pub fn trusting() -> Case {
    let mut case = example7();
    case.limits.zero_conf_limit = sat(2_500);
    case
}

/// Shortly before the last time that a script can hold, on a payer that takes the last day there is.
pub fn in_2038() -> Case {
    let now = tip(HEIGHT, 0x8000_0000 - 86_400);
    Case {
        now,
        when_signing: now,
        ..bare()
    }
    .expiry(time(0x7fff_ffff))
}

pub fn stepped() -> Case {
    Case::new(SteppedLocktime).paying(&[1_000, 1_000])
}

pub fn bond() -> Case {
    Case::new(Bond).paying(&[1_000, 1_000])
}

/// The payee is asked to sign when the lock is 71 blocks ahead, one fewer than it accepts.
pub fn late() -> Case {
    Case {
        when_signing: tip(HEIGHT + 73, MTP),
        ..bare()
    }
}

/// The chain was reorganised, and the lock is 4,033 blocks ahead, one more than the payee accepts.
pub fn early() -> Case {
    let case = bare().expiry(height(HEIGHT + 4_032));
    Case {
        when_signing: tip(HEIGHT - 1, MTP),
        ..case
    }
}

pub fn height(height: u32) -> Expiry {
    Expiry::from_height(tip(height, MTP).height)
}

pub fn time(time: u32) -> Expiry {
    Expiry::from_time(tip(0, time).mtp)
}

pub fn stepped_unpaid() -> Case {
    Case::new(SteppedLocktime)
}

// The parts of a message.

pub fn terms(envelope: &mut Envelope) -> &mut Terms {
    match &mut envelope.message {
        Message::Open { terms, .. } => terms,
        other => panic!("{other:?}"),
    }
}

pub fn tx(envelope: &mut Envelope) -> &mut Transaction {
    match &mut envelope.message {
        Message::RefundRequest { tx } | Message::Funding { tx } => tx,
        other => panic!("{other:?}"),
    }
}

/// A funding transaction whose output is to this script.
pub fn funds(envelope: &mut Envelope, script: ScriptBuf) {
    tx(envelope).output[0].script_pubkey = script;
}

/// The script of a funding output of other terms, or other keys.
pub fn other_output(params: &ChannelParams, terms: &Terms, swapped: bool) -> ScriptBuf {
    let (payer, payee) = (params.payer_key(), params.payee_key());
    let (first, second) = if swapped {
        (
            PayerKey::new(payee.to_public_key()),
            PayeeKey::new(payer.to_public_key()),
        )
    } else {
        (payer, payee)
    };
    terms.descriptor(first, second).unwrap().script_pubkey()
}

/// The right leaves below the payer's own key, with which it could take everything at any time.
pub fn own_internal_key(world: &World) -> ScriptBuf {
    let key: UntweakedPublicKey = world.params.payer_key().to_public_key().x_only_public_key().0;
    let leaves = world.params.revealed_scripts();
    let [both, refund] = [0, 1].map(|leaf| TapNodeHash::from_script(leaves[leaf].1, LeafVersion::TapScript));
    let root = TapNodeHash::from_node_hashes(both, refund);
    ScriptBuf::new_p2tr(&Secp256k1::new(), key, Some(root))
}

/// A payment of 3,000 with this signature over whatever.
pub fn pays_signed(envelope: &mut Envelope, signature: UnverifiedSignature) {
    envelope.message = Message::Payment {
        paid: sat(3_000),
        signature,
    };
}

/// The payment as the digest of another construction would have it.
pub fn pays_by_another_digest(world: &mut World, envelope: &mut Envelope) {
    let params = world.params.clone();
    let pair = world.pair();
    let tx = pair.division(3_000, None, pair.outpoint());
    let (script, all) = (params.revealed_scripts()[0].1, EcdsaSighashType::All);
    let mut cache = SighashCache::new(&tx);
    let digest = if params.terms().construction == Construction::P2sh {
        let value = params.terms().capacity.to_amount();
        cache.p2wsh_signature_hash(0, script, value, all).unwrap().into()
    } else {
        cache
            .legacy_signature_hash(0, script, all.to_u32())
            .unwrap()
            .into()
    };
    pays_signed(envelope, signature_over(&params, &digest, "payer"));
}

pub fn pays(world: &mut World, envelope: &mut Envelope, paid: u64, label: &str) {
    envelope.message = world.pair().payment(paid, label);
}
