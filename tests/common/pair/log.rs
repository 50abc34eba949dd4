use std::convert::Infallible;

use bitcoin::Transaction;
use spilman::channel::{
    Change, ChannelState, Envelope, Message, Notice, PayeeState, PayerState, Progress, SpendRole,
};
use spilman::sim::{BroadcastAnswer, Network};

use super::Side;

/// Delivers and accepts everything, and remembers it. The store of each side is perfect.
#[derive(Debug, Default)]
pub struct Log {
    /// What each side's store holds.
    pub payer: Option<PayerState>,
    pub payee: Option<PayeeState>,
    /// What happened, in order: one line for each action.
    pub lines: Vec<String>,
    pub broadcast: Vec<(SpendRole, Transaction)>,
    /// How many messages still arrive; all, if it is not set.
    pub messages_left: Option<usize>,
}

impl Log {
    /// What happened since the last call.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}

impl Network for Log {
    type Error = Infallible;

    fn deliver(&mut self, from: Side, envelope: Envelope) -> Result<Option<Envelope>, Infallible> {
        self.lines
            .push(format!("{} says {}", name(from), words(&envelope.message)));
        if let Some(left) = &mut self.messages_left {
            let Some(fewer) = left.checked_sub(1) else {
                return Ok(None);
            };
            *left = fewer;
        }
        Ok(Some(envelope))
    }

    fn broadcast(&mut self, by: Side, role: SpendRole, tx: &Transaction) -> BroadcastAnswer {
        self.lines
            .push(format!("{} broadcasts {}", name(by), role.name()));
        self.broadcast.push((role, tx.clone()));
        BroadcastAnswer::Accepted
    }

    fn persist(&mut self, _: Side, change: &Change) {
        match change {
            Change::Insert(new) => match &**new {
                ChannelState::Payer(state) => assert_eq!(self.payer.replace(state.clone()), None),
                ChannelState::Payee(state) => assert_eq!(self.payee.replace(state.clone()), None),
            },
            Change::Update(Progress::Payer(next)) => {
                let held = &mut self
                    .payer
                    .as_mut()
                    .expect("it was stored at the opening")
                    .progress;
                assert_eq!(next.version, held.version + 1);
                *held = next.clone();
            }
            Change::Update(Progress::Payee(next)) => {
                let held = &mut self
                    .payee
                    .as_mut()
                    .expect("it was stored at the opening")
                    .progress;
                assert_eq!(next.version, held.version + 1);
                *held = next.clone();
            }
        }
    }

    fn notify(&mut self, to: Side, notice: &Notice) {
        self.lines.push(format!("{} learns {}", name(to), learns(notice)));
    }
}

const fn name(side: Side) -> &'static str {
    match side {
        Side::Payer => "payer",
        Side::Payee => "payee",
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::Payment { paid, .. }
        | Message::PaymentAccepted { paid }
        | Message::PaymentRequest { paid }
        | Message::Settlement { paid, .. } => format!("{} {}", message.kind(), paid.to_sat()),
        _ => message.kind().to_string(),
    }
}

fn learns(notice: &Notice) -> String {
    match notice {
        Notice::PaymentAccepted(balance) => {
            format!("{}/{} accepted", balance.change.to_sat(), balance.paid.to_sat())
        }
        Notice::PaymentRequested { paid } => format!("{} requested", paid.to_sat()),
        Notice::FundingLost { confirmations } => format!("funding lost, {confirmations} confirmations"),
        Notice::Closed(outcome) => {
            format!(
                "closed {}/{}",
                outcome.to_payer.to_sat(),
                outcome.to_payee.to_sat()
            )
        }
        Notice::Recovered { paid } => format!("recovered {}", paid.to_sat()),
        Notice::PeerRolledBack { acknowledged, held } => {
            format!("peer rolled back {} {}", acknowledged.to_sat(), held.to_sat())
        }
        Notice::MalleableFunding => "malleable funding".to_owned(),
        Notice::Ready => "ready".to_owned(),
        Notice::PeerSettled { .. } => "peer settled".to_owned(),
        Notice::FundingOverdue { blocks } => format!("funding overdue, {blocks} blocks"),
        Notice::Blind { .. } => "blind".to_owned(),
        Notice::CooperativeCloseUnconfirmed { .. } => "cooperative close unconfirmed".to_owned(),
        other => format!("{other:?}"),
    }
}
