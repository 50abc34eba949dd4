use bitcoin::absolute::{Height, LockTime, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::SecretKey;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};

use crate::channel::{
    AcceptedProposal, Capacity, ChannelId, ChannelKey, Construction, Envelope, Limits, LockKind,
    PayeeOpening, PayerOpening, Proposed, Protocol, RefundLock, Refusal, Terms, TermsError, Tip,
};

/// What two parties bring to a channel.
#[derive(Debug, Clone)]
pub struct PairSetup {
    /// The channel's id, which the payer chooses.
    pub id: ChannelId,
    /// What the payer proposes.
    pub terms: Terms,
    /// The payer.
    pub payer: PartySetup,
    /// The payee.
    pub payee: PartySetup,
    /// The tip when the terms are proposed and accepted.
    pub tip: Tip,
    /// The tip when the payee is asked to sign the refund.
    pub tip_at_signing: Tip,
    /// What the payee's nonces are made from, if it is to close with one signature.
    pub nonce_seed: Option<[u8; 32]>,
}

/// What one party brings to a channel.
#[derive(Debug, Clone)]
pub struct PartySetup {
    /// Its secret for this channel.
    pub secret: SecretKey,
    /// Where its money goes.
    pub payout: ScriptBuf,
    /// What it agrees to.
    pub limits: Limits,
}

impl PairSetup {
    /// A million satoshi on default terms and default limits, from a tip at height 200.
    ///
    /// # Panics
    /// Never: the terms end a day after that tip.
    #[must_use]
    pub fn new(protocol: Protocol, construction: Construction) -> Self {
        let tip = sim_tip(200, 1_700_000_000);
        let capacity = Capacity::new(Amount::from_sat(1_000_000)).expect("a possible capacity");
        Self {
            id: ChannelId(7),
            terms: Terms::with(protocol, construction, capacity, tip).expect("a day ahead"),
            payer: PartySetup::new("payer"),
            payee: PartySetup::new("payee"),
            tip,
            tip_at_signing: tip,
            nonce_seed: Some([42; 32]),
        }
    }

    /// The same on another construction. A lock that counts from the confirmation is as long as the absolute one was.
    ///
    /// # Panics
    /// If an absolute lock is longer than a relative one can be.
    #[must_use]
    pub fn on(mut self, construction: Construction) -> Self {
        let lock = self.terms.refund_lock;
        if construction.has_relative_lock() && lock.absolute().is_some() {
            let distance = lock.distance(self.tip);
            self.terms.refund_lock = match lock.kind() {
                LockKind::Height => {
                    RefundLock::after_blocks(distance.try_into().expect("below 65,536 blocks"))
                }
                LockKind::Time => RefundLock::after_seconds(distance).expect("below 388 days"),
            };
        }
        self.terms = self.terms.on(construction);
        self
    }

    /// The payer's proposal.
    ///
    /// # Errors
    /// If the payer's own limits forbid it.
    pub fn propose(&self) -> Result<(PayerOpening<Proposed>, Envelope), TermsError> {
        let PartySetup {
            secret,
            payout,
            limits,
        } = self.payer.clone();
        PayerOpening::propose(
            self.id,
            self.terms.clone(),
            ChannelKey::new(secret),
            payout,
            limits,
            self.tip,
        )
    }

    /// The payee's answer to a proposal.
    ///
    /// # Errors
    /// If the payee refuses it.
    pub fn accept(&self, open: Envelope) -> Result<(AcceptedProposal, Envelope), Refusal> {
        let PartySetup {
            secret,
            payout,
            limits,
        } = self.payee.clone();
        PayeeOpening::accept(open, ChannelKey::new(secret), payout, limits, self.tip)
    }
}

impl PartySetup {
    /// Key and payout of a label, and default limits.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self {
            secret: sim_key(label),
            payout: sim_payout(label),
            limits: Limits::default(),
        }
    }
}

/// A secret that everybody knows: the SHA-256 of a label.
///
/// # Panics
/// If the hash is no secret key, which no label is known for.
#[must_use]
pub fn sim_key(label: &str) -> SecretKey {
    let hash = sha256::Hash::hash(label.as_bytes());
    SecretKey::from_slice(&hash.to_byte_array()).expect("a number below the curve's order")
}

/// The P2WPKH script of [`sim_key`].
#[must_use]
pub fn sim_payout(label: &str) -> ScriptBuf {
    let key = ChannelKey::new(sim_key(label)).public_key();
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash())
}

/// A chain's end.
///
/// # Panics
/// If the height is a time for a lock, or the time a height.
#[must_use]
pub fn sim_tip(height: u32, mtp: u32) -> Tip {
    Tip {
        height: Height::from_consensus(height).expect("a height is below 500,000,000"),
        mtp: Time::from_consensus(mtp).expect("a time is at least 500,000,000"),
    }
}

/// T1 as a wallet would sign it, with change, but from a coin of no chain: its witness has the right size and proves
/// nothing.
#[must_use]
pub fn placeholder_funding(output: TxOut) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 1),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[vec![1; 71], vec![2; 33]]),
    };
    let change = TxOut {
        value: Amount::from_sat(5_000),
        script_pubkey: sim_payout("change"),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output, change],
    }
}
