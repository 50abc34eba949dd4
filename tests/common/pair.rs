//! An honest payer and payee in memory, and what the tests want to know of them.

mod case;
mod log;
mod sign;
mod spends;

use bitcoin::{Amount, Transaction};
use spilman::channel::{
    Action, ChainView, ChannelId, ChannelKey, Envelope, Event, Message, Payee, Payer, SettlementTx, Stage,
    Tip,
};
pub use spilman::sim::{sim_key as secret, sim_payout as payout, sim_tip as tip};
pub use spilman::transcript::Side;

pub use case::{channels, co_signed, Case};
pub use log::Log;
pub use sign::{signature, signature_over, Sign};
pub use spends::assert_spends;

pub const HEIGHT: u32 = 200;
pub const MTP: u32 = 1_700_000_000;

/// Both parties of a channel whose opening is done.
pub type Pair = spilman::sim::Pair<Log>;

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn key(label: &str) -> ChannelKey {
    ChannelKey::new(secret(label))
}

/// What a test asks of a pair.
pub trait Inspect {
    /// Both parties to the last field, but for the nonce that waits for an answer: that one is gone after a wrong
    /// answer.
    fn state(&self) -> String;

    fn redeemable(&self) -> Option<SettlementTx>;

    /// The payer's, and the payee's.
    fn stages(&self) -> [Stage; 2];

    /// The chain has come to this tip, and neither of them knows it yet.
    fn at(&mut self, tip: Tip) -> &mut Self;
}

impl<N> Inspect for spilman::sim::Pair<N> {
    fn state(&self) -> String {
        let state = format!("{:?} {:?}", self.payer, self.payee);
        let Some((before, rest)) = state.split_once("asked_with: ") else {
            return state;
        };
        let (_, after) = rest.split_once("peer_gone: ").expect("the field behind it");
        format!("{before}{after}")
    }

    fn redeemable(&self) -> Option<SettlementTx> {
        self.payee.redeemable().unwrap()
    }

    fn stages(&self) -> [Stage; 2] {
        [self.payer.stage(), self.payee.stage()]
    }

    fn at(&mut self, tip: Tip) -> &mut Self {
        self.tip = tip;
        self
    }
}

/// This side's process dies, and another one makes the party of what the store holds.
pub fn restart(pair: &mut Pair, side: Side) {
    pair.crash(side);
    match side {
        Side::Payer => {
            let stored = pair.network.payer.clone().unwrap();
            pair.payer = Payer::restore(stored, key("payer")).unwrap();
        }
        Side::Payee => {
            let stored = pair.network.payee.clone().unwrap();
            pair.payee = Payee::restore(stored, key("payee")).unwrap();
        }
    }
}

/// What is heard when a payee settles and its peer is there.
pub const SETTLES: [&str; 3] = [
    "payee broadcasts settlement",
    "payee says closed",
    "payer learns peer settled",
];

/// A party hears this on a channel.
pub fn hears(channel: ChannelId, message: Message) -> Event {
    Event::Message(Envelope { channel, message })
}

/// A party sees this tip, and nothing of the funding transaction.
pub fn sees_nothing(tip: Tip) -> Event {
    Event::Chain(ChainView {
        tip,
        confirmations: 0,
        funding_parent: None,
        spend: None,
    })
}

/// What a party does once its store has what must not be forgotten.
pub fn once_stored(mut actions: Vec<Action>) -> Vec<Action> {
    if matches!(actions.first(), Some(Action::Persist(_))) {
        actions.remove(0);
    }
    actions
}

/// What a party says, among what it does.
pub fn sent(actions: Vec<Action>) -> impl Iterator<Item = Envelope> {
    actions.into_iter().filter_map(|action| match action {
        Action::Send(envelope) => Some(envelope),
        _ => None,
    })
}

/// What a party says unasked, still on its way.
pub fn says(pair: &mut Pair, side: Side, event: Event) -> Vec<Envelope> {
    sent(pair.tell(side, event).unwrap()).collect()
}

/// Each output's amount, in order.
pub fn amounts(tx: &Transaction) -> Vec<u64> {
    tx.output.iter().map(|output| output.value.to_sat()).collect()
}
