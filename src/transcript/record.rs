//! What happened, in order: one data model behind every rendering.

use std::fmt;

use bitcoin::{BlockHash, Network, Transaction, TxOut};

use super::names::Names;
use crate::channel::{Construction, MessageKind, Protocol, SpendRole};

/// An actor of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The side that pays.
    Payer,
    /// The side that is paid.
    Payee,
    /// A third party that can broadcast or mine.
    Outsider,
}

impl Actor {
    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
            Self::Outsider => "outsider",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of a channel's two parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that pays.
    Payer,
    /// The side that is paid.
    Payee,
}

impl Side {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Payer, Self::Payee];

    /// Returns the other party.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Payer => Self::Payee,
            Self::Payee => Self::Payer,
        }
    }
}

impl From<Side> for Actor {
    fn from(side: Side) -> Self {
        match side {
            Side::Payer => Self::Payer,
            Side::Payee => Self::Payee,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Actor::from(*self), f)
    }
}

/// One message of a conversation: the first of its kind from a side, after those that are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessagePosition {
    /// The sender.
    pub from: Side,
    /// The kind of message.
    pub kind: MessageKind,
    /// How many messages of this kind the sender sends before it.
    pub skip: u32,
}

impl MessagePosition {
    /// Creates the position of a side's message of this kind, after `skip` others.
    #[must_use]
    pub const fn new(from: Side, kind: MessageKind, skip: u32) -> Self {
        Self { from, kind, skip }
    }

    /// Counts a message of the conversation; returns whether it is this one.
    pub fn reached(&mut self, from: Side, kind: MessageKind) -> bool {
        let counts = from == self.from && kind == self.kind;
        let reached = counts && self.skip == 0;
        self.skip -= u32::from(counts && !reached);
        reached
    }
}

/// The unit of a story's amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// 1.
    #[default]
    Satoshi,
    /// 100,000,000 satoshi.
    Bitcoin,
    /// The guide's unit: 100,000 satoshi.
    Millidash,
}

/// A transaction, by its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedTx {
    /// Unique within its transcript: `funding`, `refund`, `payment-2`.
    pub name: String,
    /// Who built it.
    pub by: Actor,
    /// Consensus encoding.
    pub raw: Vec<u8>,
    /// What its inputs spend, in order.
    pub prevouts: Vec<TxOut>,
}

/// Why a node rejected a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRejection {
    /// The reason in lower case with hyphens, such as `non-final`: the same in every version of Bitcoin Core.
    pub reason: String,
    /// The node's own words. Of a whole transcript, they alone differ between versions.
    pub words: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// The story, in the narrator's words.
    Step(String),
    /// A message, as it went over the wire.
    Message {
        /// The sender.
        from: Side,
        /// Without the frame's header.
        bytes: Vec<u8>,
        /// Whether it was changed in transit.
        tampered: bool,
    },
    /// A transaction was built; the name leads to [`Transcript::transactions`].
    Built {
        /// Who built it.
        by: Actor,
        /// Its name.
        name: String,
    },
    /// A transaction was broadcast.
    Broadcast {
        /// By whom.
        by: Actor,
        /// Its name.
        name: String,
        /// Its role.
        role: SpendRole,
        /// Why the node rejected it; `None` if it accepted it.
        rejected: Option<RecordedRejection>,
    },
    /// The node was asked about a transaction; nothing was broadcast.
    Asked {
        /// The transaction's name.
        name: String,
        /// Why the node rejected it; `None` if it accepted it.
        rejected: Option<RecordedRejection>,
    },
    /// The state of the chain or the mempool, as seen by a query.
    Found(String),
    /// Blocks were added without any of the transcript's transactions, `blocks` of them.
    Blocks {
        /// The number of blocks.
        blocks: u32,
    },
    /// A block was added with some of the transcript's transactions.
    Block {
        /// Its hash.
        hash: BlockHash,
        /// Their names.
        names: Vec<String>,
    },
    /// The last blocks were replaced by others.
    Reorganised {
        /// How many.
        replaced: u32,
        /// By how many.
        blocks: u32,
        /// The transcript's transactions that are not in the new ones.
        dropped: Vec<String>,
    },
    /// The new tip.
    Tip {
        /// Height.
        height: u32,
        /// Median time past, in seconds since 1970.
        mtp: u32,
    },
    /// A party notified its user.
    Notice {
        /// The party.
        by: Actor,
        /// What.
        text: String,
    },
}

/// Everything that happened in one scenario.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's one-line summary.
    pub summary: String,
    /// The conversation.
    pub protocol: Protocol,
    /// What the funding output is made of.
    pub construction: Construction,
    /// The unit of the story's amounts.
    pub unit: Unit,
    /// The chain.
    pub network: Network,
    /// In order.
    pub entries: Vec<Entry>,
    /// In the order in which they were built.
    pub transactions: Vec<RecordedTx>,
    /// The names of keys, scripts and transactions.
    pub names: Names,
}

impl Transcript {
    /// Returns the transaction of that name.
    pub fn transaction(&self, name: &str) -> Option<&RecordedTx> {
        self.transactions.iter().find(|tx| tx.name == name)
    }

    /// Decodes the transaction of that name.
    pub fn decoded(&self, name: &str) -> Option<Transaction> {
        bitcoin::consensus::deserialize(&self.transaction(name)?.raw).ok()
    }
}
