use bitcoin::{Amount, FeeRate, OutPoint, Script, Transaction, Txid};

use super::amount::Balance;
use super::bump::CpfpPackage;
use super::lock::Tip;
use super::message::Envelope;
use super::params::ChannelParams;
use super::reason::RefusalReason;
use super::transaction::SpendRole;

/// How deep the spend of the funding output has to be in the chain before a channel counts as closed.
/// Until then both sides stand ready to broadcast again.
pub const SETTLED_DEPTH: u32 = 6;

/// The number of blocks without a view of the funding output after which the payee says so.
pub const BLIND_BLOCKS: u32 = 6;

/// What a party is told: by its peer, by the chain, by the node that it broadcasts through, or by its user.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The peer said something.
    Message(Envelope),
    /// The chain moved; this is how it looks now. Views are complete, so that a missed one does no harm and
    /// a reorganisation is just another view.
    Chain(ChainView),
    /// The party cannot see the funding output. Carries the tip, if that is known. The party acts on its locks with what
    /// it last knew: a settlement at the closing margin, or a refund at its lock, is never wrong. The payee acknowledges
    /// no payment until the next [`Event::Chain`].
    Blind(Option<Tip>),
    /// A node's answer to [`Action::Broadcast`] or [`Action::BroadcastPackage`].
    Broadcast(BroadcastResult),
    /// No node answered to it: the transaction may be with the network, or not.
    BroadcastUnknown {
        /// What the transaction is for.
        role: SpendRole,
        /// The transaction; of a package, the parent.
        txid: Txid,
    },
    /// The payer's user: add this amount to the total.
    Pay(Amount),
    /// The payer's user: raise the total to this sum. Does nothing if that much is signed already, so it can be repeated.
    PayUpTo(Amount),
    /// The payer's user: the funding transaction was mined in this form, under another id. Where the script lets the payer
    /// refund alone, the refund is signed anew for it, and the channel ends with that refund.
    FundingMalleated(Transaction),
    /// The payee's user (`bond`): ask for so much more, in satoshi.
    RequestPayment(Amount),
    /// The user: close the channel, at the agreed feerate. The payee, again: settle with the newest payment, if the payer
    /// does not answer, or if the settlement with one signature does not confirm.
    Close,
    /// The user: close the channel, and let the settlement pay this feerate, if the peer agrees. What it costs more comes
    /// out of the payer's change.
    CloseAt(FeeRate),
    /// The user: give this side's settlement (payee) or refund (payer) to the network together with a child that pays for
    /// it, now and whenever it is given again.
    Bump(CpfpPackage),
    /// The peer is gone, and will not answer what it was asked.
    PeerGone,
}

/// The chain, as far as one channel is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainView {
    /// The chain's end.
    pub tip: Tip,
    /// Confirmations of the funding transaction; 0 while it is not in the chain.
    pub confirmations: u32,
    /// The chain's end on which the block with the funding transaction was built; none while it is not in the chain.
    /// Relative locks count from it.
    pub funding_parent: Option<Tip>,
    /// What spends the funding output, in the chain or in the mempool.
    pub spend: Option<SeenSpend>,
}

impl ChainView {
    /// Whether the view is consistent. One that contradicts itself is discarded: without its base, a relative lock would
    /// never end.
    pub(crate) fn is_possible(&self, params: &ChannelParams, funding: OutPoint) -> bool {
        let relative = params.terms().refund_lock.absolute().is_none();
        let based = self.confirmations == 0 || self.funding_parent.is_some() || !relative;
        let spends = |spend: &SeenSpend| {
            let mut inputs = spend.tx.input.iter();
            inputs.any(|input| input.previous_output == funding)
        };
        based && self.spend.as_ref().is_none_or(spends)
    }
}

/// A transaction that spends the funding output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSpend {
    /// The transaction.
    pub tx: Transaction,
    /// Its confirmations; 0 in the mempool.
    pub confirmations: u32,
}

/// What a node said to a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastResult {
    /// What the transaction is for.
    pub role: SpendRole,
    /// The transaction; of a package, the parent.
    pub txid: Txid,
    /// The reason, in the node's words, if it was not taken.
    pub rejected: Option<String>,
}

impl BroadcastResult {
    /// It is in the mempool.
    #[must_use]
    pub fn accepted(role: SpendRole, tx: &Transaction) -> Self {
        Self {
            role,
            txid: tx.compute_txid(),
            rejected: None,
        }
    }
}

/// What a party has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Send this to the peer, if it is still connected.
    Send(Envelope),
    /// Give this to the network, and answer with [`Event::Broadcast`].
    Broadcast {
        /// What it is for.
        role: SpendRole,
        /// The transaction.
        tx: Transaction,
    },
    /// Give these to the network at once, and answer with [`Event::Broadcast`].
    BroadcastPackage {
        /// What the parent is for.
        role: SpendRole,
        /// Parent and child.
        package: CpfpPackage,
    },
    /// Tell the user.
    Notify(Notice),
}

/// What a user of a channel wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Someone else can change the funding transaction's id before it is mined. Payments, and a refund that was signed
    /// in advance, would then be worthless: do nothing that depends on the channel before it is confirmed.
    MalleableFunding,
    /// Payments count from now on.
    Ready,
    /// The funding transaction was reorganised out of the chain, or is not as deep as agreed any more:
    /// payments do not count until it is.
    FundingLost {
        /// How deep it is now.
        confirmations: u32,
    },
    /// The payee asks to be paid up to this total. Each total is reported once; answer it with [`Event::PayUpTo`].
    PaymentRequested {
        /// Cumulative.
        paid: Amount,
    },
    /// The payee has not seen the funding output for [`BLIND_BLOCKS`] blocks. It acknowledges no payment until it sees it
    /// again, and settles at the closing margin all the same.
    Blind {
        /// The tip when the funding output was last seen.
        since: Tip,
        /// The tip now.
        tip: Tip,
    },
    /// The payee has had the funding transaction for this many blocks, and it has not confirmed. Unless the payer's
    /// limits say otherwise ([`Limits::broadcast_funding_after`](super::Limits::broadcast_funding_after)), the payer
    /// now broadcasts it.
    FundingOverdue {
        /// Blocks since it was handed over.
        blocks: u32,
    },
    /// The cooperative settlement did not confirm before the closing margin. The payee broadcasts its newest payment
    /// instead.
    CooperativeCloseUnconfirmed {
        /// The cooperative settlement.
        txid: Txid,
    },
    /// A payment is checked and kept (payee), or acknowledged (payer).
    PaymentAccepted(Balance),
    /// The peer refused what this side sent, and will say nothing more.
    PeerRefused {
        /// Why.
        reason: RefusalReason,
    },
    /// The peer has broadcast the settlement.
    PeerSettled {
        /// The transaction.
        txid: Txid,
    },
    /// The network did not take a transaction. It is tried again with every block.
    BroadcastRejected(BroadcastResult),
    /// The funding output is spent, deep enough.
    Closed(Outcome),
    /// This side no longer has anything at stake, and ends: the payer never handed over the funding transaction; or the
    /// payee holds no payment worth settling, and the peer is gone or the refund's lock is over.
    Abandoned,
}

/// How a channel ended on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction that spent the funding output.
    pub txid: Txid,
    /// What the payer got, in satoshi.
    pub to_payer: Amount,
    /// What the payee got, in satoshi.
    pub to_payee: Amount,
}

impl Outcome {
    pub(crate) fn of(params: &ChannelParams, tx: &Transaction) -> Self {
        let sum = |script: &Script| {
            tx.output
                .iter()
                .filter(|o| *o.script_pubkey == *script)
                .map(|o| o.value)
                .sum()
        };
        Self {
            txid: tx.compute_txid(),
            to_payer: sum(params.payer_payout()),
            to_payee: sum(params.payee_payout()),
        }
    }
}
