use bitcoin::{Amount, FeeRate, OutPoint, Script, Transaction, Txid};

use super::amount::Balance;
use super::bump::CpfpPackage;
use super::durable::Change;
use super::lock::Tip;
use super::message::{Envelope, Message};
use super::params::{ChannelId, ChannelParams};
use super::reason::RefusalReason;
use super::resume::HelloRandoms;
use super::transaction::SpendRole;

/// How many confirmations the spend of the funding output needs before a channel counts as closed.
/// Until then both sides are ready to broadcast again.
pub const SETTLED_DEPTH: u32 = 6;

/// The number of blocks without a view of the funding output after which the payee says so.
pub const BLIND_BLOCKS: u32 = 6;

/// An input of a party: from its peer, the chain, the node that it broadcasts through, or its user.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message of the peer.
    Message(Envelope),
    /// The chain changed. A view is complete, so a missed one does no harm, and a reorganisation is just another view.
    Chain(ChainView),
    /// The party cannot see the funding output. Carries the tip, if known. The party acts on its locks with what
    /// it last knew: a settlement at the closing margin, or a refund at its lock, is never wrong. The payee acknowledges
    /// no payment until the next [`Event::Chain`].
    Blind(Option<Tip>),
    /// A node's answer to [`Action::Broadcast`] or [`Action::BroadcastPackage`].
    Broadcast(BroadcastResult),
    /// No node answered: the transaction may or may not have reached the network.
    BroadcastUnknown {
        /// What the transaction is for.
        role: SpendRole,
        /// The transaction; of a package, the parent.
        txid: Txid,
    },
    /// The payer's user: add this amount to the total.
    Pay(Amount),
    /// The payer's user: raise the total to this sum. Does nothing if it is already signed, so it can be repeated.
    PayUpTo(Amount),
    /// The payer's user: the funding transaction was mined in this form, under another id. Where the script lets the payer
    /// refund alone, the refund is signed again for it, and the channel ends with that refund.
    FundingMalleated(Transaction),
    /// The payee's user (`bond`): request this much more.
    RequestPayment(Amount),
    /// The user: close the channel, at the agreed feerate. If the payee sends it again, it settles with the latest payment.
    /// That helps if the payer does not answer, or if the settlement with one signature does not confirm.
    Close,
    /// The user: close the channel with a settlement at this feerate, if the peer agrees. The payer's change pays the
    /// difference.
    CloseAt(FeeRate),
    /// The user: broadcast this side's settlement (payee) or refund (payer) with a child that pays for it, now and at every
    /// rebroadcast.
    Bump(CpfpPackage),
    /// The peer disconnected, and will not come back. A payee that holds nothing gives the channel up.
    PeerGone,
    /// The peer disconnected, and may come back ([`Event::Reconnected`]).
    PeerAway,
    /// The peer is back on a new connection. The payer resumes the channel, and pays nothing before the payee has answered.
    Reconnected {
        /// The channel's number on this connection, in place of the one that it was opened with.
        channel: ChannelId,
        /// What both said hello with.
        randoms: HelloRandoms,
    },
}

/// The chain, as one channel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainView {
    /// The tip.
    pub tip: Tip,
    /// Confirmations of the funding transaction; 0 while it is not in the chain.
    pub confirmations: u32,
    /// The tip on which the block with the funding transaction was built; `None` while it is not in the chain.
    /// Relative locks count from it.
    pub funding_parent: Option<Tip>,
    /// What spends the funding output, in the chain or in the mempool.
    pub spend: Option<SeenSpend>,
}

impl ChainView {
    /// Whether the view is consistent. One that contradicts itself is discarded: without `funding_parent`, a relative lock
    /// would never end.
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

/// A node's answer to a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastResult {
    /// What the transaction is for.
    pub role: SpendRole,
    /// The transaction; of a package, the parent.
    pub txid: Txid,
    /// The reason, in the node's words, if it was rejected.
    pub rejected: Option<String>,
}

impl BroadcastResult {
    /// Returns the answer for an accepted transaction.
    #[must_use]
    pub fn accepted(role: SpendRole, tx: &Transaction) -> Self {
        Self {
            role,
            txid: tx.compute_txid(),
            rejected: None,
        }
    }
}

/// What the caller must do for a party, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Store this, and do nothing that follows before it is durable: neither what comes behind it in this list, nor what
    /// later events ask for. At most one in a list, always the first. If it cannot be stored, the party must end.
    Persist(Change),
    /// Send this to the peer, if it is still connected.
    Send(Envelope),
    /// Broadcast this, and answer with [`Event::Broadcast`].
    Broadcast {
        /// What it is for.
        role: SpendRole,
        /// The transaction.
        tx: Transaction,
    },
    /// Broadcast these together, and answer with [`Event::Broadcast`].
    BroadcastPackage {
        /// What the parent is for.
        role: SpendRole,
        /// Parent and child.
        package: CpfpPackage,
    },
    /// Tell the user.
    Notify(Notice),
}

impl Action {
    pub(super) const fn send(channel: ChannelId, message: Message) -> Self {
        Self::Send(Envelope { channel, message })
    }

    pub(super) fn broadcast(role: SpendRole, tx: &Transaction) -> Self {
        Self::Broadcast { role, tx: tx.clone() }
    }
}

/// News for the user of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Someone else can change the funding transaction's id before it is mined. Payments, and a refund that was signed
    /// in advance, would then be worthless: do nothing that depends on the channel before it is confirmed.
    MalleableFunding,
    /// Payments count from now on.
    Ready,
    /// The funding transaction was reorganised out of the chain, or lost confirmations: payments do not count until it is
    /// confirmed again.
    FundingLost {
        /// Its confirmations now.
        confirmations: u32,
    },
    /// The payee requests payment up to this total. Each total is reported once; answer with [`Event::PayUpTo`].
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
    /// The cooperative settlement did not confirm before the closing margin. The payee broadcasts its latest payment
    /// instead.
    CooperativeCloseUnconfirmed {
        /// The cooperative settlement.
        txid: Txid,
    },
    /// A payment is checked and kept (payee), or acknowledged (payer).
    PaymentAccepted(Balance),
    /// The payee holds a payment that this payer made and forgot: its store was an older copy. The payer goes on from there,
    /// and what it believes to have paid since that copy is counted once more.
    Recovered {
        /// Cumulative.
        paid: Amount,
    },
    /// The payee has forgotten payments that it acknowledged: its store was an older copy. The payer sends the latest one
    /// again, and nothing is lost.
    PeerRolledBack {
        /// What it had acknowledged.
        acknowledged: Amount,
        /// What it still holds.
        held: Amount,
    },
    /// The peer refused what this side sent, and will send nothing more.
    PeerRefused {
        /// Why.
        reason: RefusalReason,
    },
    /// The peer has broadcast the settlement.
    PeerSettled {
        /// The transaction.
        txid: Txid,
    },
    /// The network rejected a transaction. It is broadcast again with every block.
    BroadcastRejected(BroadcastResult),
    /// The funding output is spent, and the spend is confirmed.
    Closed(Outcome),
    /// This side no longer has anything at stake, and ends: the payer never handed over the funding transaction; or the
    /// payee holds no payment worth settling, and the peer is gone or the refund's lock has passed.
    Abandoned,
    /// The funding transaction of a channel that the payer had abandoned is with the network after all. The payer follows
    /// the channel again, and refunds at the lock.
    FundedAfterAll,
}

/// How a channel ended on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction that spent the funding output.
    pub txid: Txid,
    /// What the payer got.
    pub to_payer: Amount,
    /// What the payee got.
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
