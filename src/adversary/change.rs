//! The parts of a message that are changed, and signatures over what is not agreed.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::Message as Digest;
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, TapSighashType, Transaction};

use super::forger::{is_schnorr, rebuilt, stranger, Forger};
use super::oracle;
use crate::channel::{
    ChannelId, ChannelKey, ChannelParams, Envelope, Message, PartialSignature, PayeeKey, SpendPath, Terms,
    UnverifiedSignature,
};

pub(super) const SAT: Amount = Amount::ONE_SAT;

pub(super) const fn other_channel(envelope: &mut Envelope) {
    envelope.channel = ChannelId(envelope.channel.0 ^ 1);
}

pub(super) fn terms(envelope: &mut Envelope) -> &mut Terms {
    match &mut envelope.message {
        Message::Open { terms, .. } => terms,
        other => unreachable!("{} has no terms", other.kind()),
    }
}

pub(super) fn tx(envelope: &mut Envelope) -> &mut Transaction {
    match &mut envelope.message {
        Message::RefundRequest { tx } | Message::Funding { tx } => tx,
        other => unreachable!("{} has no transaction", other.kind()),
    }
}

pub(super) fn paid(envelope: &mut Envelope) -> &mut Amount {
    match &mut envelope.message {
        Message::Payment { paid, .. }
        | Message::PaymentAccepted { paid }
        | Message::PaymentRequest { paid }
        | Message::Settlement { paid, .. }
        | Message::CooperativeSettlement { paid, .. } => paid,
        other => unreachable!("{} has no sum", other.kind()),
    }
}

pub(super) fn signature(envelope: &mut Envelope) -> &mut UnverifiedSignature {
    match &mut envelope.message {
        Message::Payment { signature, .. }
        | Message::Settlement { signature, .. }
        | Message::RefundSignature { signature } => signature,
        other => unreachable!("{} has no signature", other.kind()),
    }
}

pub(super) fn compact(envelope: &mut Envelope, change: impl FnOnce(&mut [u8; 64])) {
    let signature = signature(envelope);
    let mut bytes = signature.to_compact();
    change(&mut bytes);
    *signature = UnverifiedSignature::from_compact(bytes);
}

pub(super) fn part(envelope: &mut Envelope, change: impl FnOnce(&mut [u8; 32])) {
    let Message::CooperativeSettlement { partial, .. } = &mut envelope.message else {
        unreachable!("{} has no partial signature", envelope.message.kind());
    };
    let mut bytes = partial.to_bytes();
    change(&mut bytes);
    *partial = PartialSignature::from_bytes(bytes).expect("the change leaves it below the order");
}

/// Signs again what the message's signature is for, after the sum or the feerate was changed.
pub(super) fn sign(forger: &Forger, envelope: &mut Envelope) {
    sign_changed(forger, envelope, |_| ());
}

/// Signs something else than what the message's signature is for.
pub(super) fn sign_changed(forger: &Forger, envelope: &mut Envelope, change: impl FnOnce(&mut Transaction)) {
    let params = forger.params();
    let (mut tx, path) = forger.signed_by(&params, &envelope.message);
    change(&mut tx);
    *signature(envelope) = forger.sign(&params, &tx, path);
}

pub(super) fn sign_as(forger: &Forger, envelope: &mut Envelope, key: &ChannelKey) {
    let params = forger.params();
    let (tx, path) = forger.signed_by(&params, &envelope.message);
    let digest = params.scripts().digest(&tx, &params.funding_output(), path);
    *signature(envelope) = key.sign(params.scripts().scheme(), &digest).to_unverified();
}

/// Signs for the leaf, or the key, of another path.
pub(super) fn sign_for(forger: &Forger, envelope: &mut Envelope, path: SpendPath) {
    let params = forger.params();
    let (tx, _) = forger.signed_by(&params, &envelope.message);
    *signature(envelope) = forger.sign(&params, &tx, path);
}

/// Signs for the output of a channel with another payee.
pub(super) fn sign_for_other_channel(forger: &Forger, envelope: &mut Envelope) {
    let params = forger.params();
    let (tx, path) = forger.signed_by(&params, &envelope.message);
    let payee_key = PayeeKey::new(stranger().public_key());
    let other = rebuilt(&params, |parties| parties.payee_key = payee_key);
    *signature(envelope) = forger.sign(&other, &tx, path);
}

/// Signs the same transaction for one satoshi more on the funding output, which a legacy digest would not show.
pub(super) fn sign_for_other_value(forger: &Forger, envelope: &mut Envelope) {
    let params = forger.params();
    let (tx, path) = forger.signed_by(&params, &envelope.message);
    let mut prevout = params.funding_output();
    prevout.value += SAT;
    let digest = params.scripts().digest(&tx, &prevout, path);
    *signature(envelope) = forger.sign_digest(&params, &digest);
}

/// Which part of the transaction the signature leaves open.
#[derive(Clone, Copy)]
pub(super) enum Open {
    /// `NONE`: every output.
    Outputs,
    /// `SINGLE|ANYONECANPAY`: every other output and input.
    Others,
}

impl Open {
    const fn ecdsa(self) -> EcdsaSighashType {
        match self {
            Self::Outputs => EcdsaSighashType::None,
            Self::Others => EcdsaSighashType::SinglePlusAnyoneCanPay,
        }
    }

    const fn schnorr(self) -> TapSighashType {
        match self {
            Self::Outputs => TapSighashType::None,
            Self::Others => TapSighashType::SinglePlusAnyoneCanPay,
        }
    }
}

/// Signs with another hash type, which the message does not carry.
pub(super) fn sign_open(forger: &Forger, envelope: &mut Envelope, open: Open) {
    let params = forger.params();
    let (tx, _) = forger.signed_by(&params, &envelope.message);
    let digest = digest_of_type(&params, &tx, open);
    *signature(envelope) = forger.sign_digest(&params, &digest);
}

fn digest_of_type(params: &ChannelParams, tx: &Transaction, open: Open) -> Digest {
    if is_schnorr(params) {
        return oracle::taproot_digest(params, tx, Some(0), open.schnorr(), None);
    }
    oracle::ecdsa_digest(params, tx, open.ecdsa())
}

/// One block, or one second, or neither of them for the lock that there is none.
pub(super) fn lock_moved(lock: LockTime, by: i32) -> LockTime {
    LockTime::from_consensus(lock.to_consensus_u32().saturating_add_signed(by))
}

/// A time for a height, and a height for a time.
pub(super) fn lock_of_other_kind(lock: LockTime) -> LockTime {
    const FIRST_TIME: u32 = 500_000_000;
    LockTime::from_consensus(match lock {
        LockTime::Blocks(height) => FIRST_TIME + height.to_consensus_u32(),
        LockTime::Seconds(time) => time.to_consensus_u32() - FIRST_TIME,
    })
}

/// An output that pays a stranger.
pub(super) fn stranger_payout() -> ScriptBuf {
    let key = bitcoin::CompressedPublicKey(stranger().public_key());
    ScriptBuf::new_p2wpkh(&key.wpubkey_hash())
}
