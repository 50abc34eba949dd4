//! An honest payer and payee, walked to any stage by hand: no node, no connection, no clock. What one says
//! the other hears at once; every broadcast is taken; the chain is what the test says it is.
#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]
#![allow(clippy::result_large_err, reason = "the errors are the crate's")]

#[path = "pair/case.rs"]
mod case;
#[path = "pair/sign.rs"]
mod sign;
#[path = "pair/spends.rs"]
mod spends;
#[path = "pair/words.rs"]
mod words;

use std::collections::VecDeque;

use bitcoin::absolute::{Height, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, CompressedPublicKey, OutPoint, ScriptBuf, Transaction};
use spilman::channel::{
    Action, ApplyError, BroadcastResult, ChainView, ChannelKey, Envelope, Event, Payee, Payer, SeenSpend,
    SettlementTx, SpendRole, Tip,
};

pub use case::{channels, co_signed, Case};
pub use sign::{digest, leaf_digest, signature, signature_over};
pub use spends::assert_spends;
use words::line;

pub const HEIGHT: u32 = 200;
pub const MTP: u32 = 1_700_000_000;

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn tip(height: u32, mtp: u32) -> Tip {
    Tip {
        height: Height::from_consensus(height).unwrap(),
        mtp: Time::from_consensus(mtp).unwrap(),
    }
}

pub fn secret(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).unwrap()
}

pub fn key(label: &str) -> ChannelKey {
    ChannelKey::new(secret(label))
}

pub fn payout(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key(label).public_key()).wpubkey_hash())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Payer,
    Payee,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        }
    }
}

/// Both parties of a channel whose opening is done.
#[derive(Debug)]
pub struct Pair {
    pub payer: Payer,
    pub payee: Payee,
    pub tip: Tip,
    /// Below the block with the funding transaction, while it is in one. Its life begins there on a construction with a
    /// relative lock; it is the tip of the proposal, so that such a lock ends with an absolute one of the same length.
    pub base: Tip,
    /// What happened, in order: one line for each action.
    pub log: Vec<String>,
    pub broadcast: Vec<(SpendRole, Transaction)>,
}

impl Pair {
    pub fn raw(&mut self, side: Side, event: Event) -> Result<Vec<Action>, ApplyError> {
        match side {
            Side::Payer => self.payer.apply(event),
            Side::Payee => self.payee.apply(event),
        }
    }

    /// Applies an event and carries out everything that follows from it on both sides.
    pub fn apply(&mut self, side: Side, event: Event) -> Result<(), ApplyError> {
        let actions = self.raw(side, event)?;
        self.carry_out(side, actions);
        Ok(())
    }

    pub fn carry_out(&mut self, side: Side, actions: Vec<Action>) {
        let mut queue: VecDeque<_> = actions.into_iter().map(|action| (side, action)).collect();
        while let Some((side, action)) = queue.pop_front() {
            self.log.push(line(side, &action));
            let (side, event) = match action {
                Action::Send(envelope) => {
                    let peer = if side == Side::Payer {
                        Side::Payee
                    } else {
                        Side::Payer
                    };
                    (peer, Event::Message(envelope))
                }
                Action::Broadcast { role, tx } => {
                    let result = BroadcastResult::accepted(role, &tx);
                    self.broadcast.push((role, tx));
                    (side, Event::Broadcast(result))
                }
                _ => continue,
            };
            let more = self
                .raw(side, event)
                .unwrap_or_else(|e| panic!("{e}, after {:#?}", self.log));
            queue.extend(more.into_iter().map(|action| (side, action)));
        }
    }

    pub fn view(&self, confirmations: u32, spend: Option<(&Transaction, u32)>) -> ChainView {
        let spend = spend.map(|(tx, confirmations)| SeenSpend {
            tx: tx.clone(),
            confirmations,
        });
        ChainView {
            tip: self.tip,
            confirmations,
            funding_parent: (confirmations > 0).then_some(self.base),
            spend,
        }
    }

    /// Both look at the chain, the payer first.
    pub fn chain(&mut self, confirmations: u32, spend: Option<(&Transaction, u32)>) {
        for side in [Side::Payer, Side::Payee] {
            self.look(side, confirmations, spend);
        }
    }

    pub fn look(&mut self, side: Side, confirmations: u32, spend: Option<(&Transaction, u32)>) {
        let view = self.view(confirmations, spend);
        self.apply(side, Event::Chain(view)).unwrap();
    }

    /// Both parties to the last field, but for the nonce that waits for an answer: that one is gone after a wrong
    /// answer.
    pub fn state(&self) -> String {
        let state = format!("{:?} {:?}", self.payer, self.payee);
        let Some((before, rest)) = state.split_once("asked: ") else {
            return state;
        };
        let (_, after) = rest.split_once("offered: ").expect("the field behind it");
        format!("{before}{after}")
    }

    /// What happened since the last time that somebody asked.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub fn funding(&self) -> OutPoint {
        self.payer.funding().outpoint()
    }

    pub fn redeemable(&self) -> Option<SettlementTx> {
        self.payee.redeemable().unwrap()
    }
}

/// What a party says of its own accord, still on its way.
pub fn says(pair: &mut Pair, side: Side, event: Event) -> Vec<Envelope> {
    let actions = pair.raw(side, event).unwrap();
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(envelope) => Some(envelope),
            _ => None,
        })
        .collect()
}

/// Each output's amount, in order.
pub fn amounts(tx: &Transaction) -> Vec<u64> {
    tx.output.iter().map(|output| output.value.to_sat()).collect()
}
