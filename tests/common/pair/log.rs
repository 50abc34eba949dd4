use std::convert::Infallible;

use bitcoin::Transaction;
use spilman::channel::{Envelope, Message, Notice, SpendRole};
use spilman::sim::{BroadcastAnswer, Network};

use super::Side;

/// Delivers and accepts everything, and remembers it.
#[derive(Debug, Default)]
pub struct Log {
    /// What happened, in order: one line for each action.
    pub lines: Vec<String>,
    pub broadcast: Vec<(SpendRole, Transaction)>,
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
        Ok(Some(envelope))
    }

    fn broadcast(&mut self, by: Side, role: SpendRole, tx: &Transaction) -> BroadcastAnswer {
        self.lines
            .push(format!("{} broadcasts {}", name(by), role.name()));
        self.broadcast.push((role, tx.clone()));
        BroadcastAnswer::Accepted
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
        Notice::MalleableFunding => "malleable funding".to_owned(),
        Notice::Ready => "ready".to_owned(),
        Notice::PeerSettled { .. } => "peer settled".to_owned(),
        Notice::FundingOverdue { blocks } => format!("funding overdue, {blocks} blocks"),
        Notice::Blind { .. } => "blind".to_owned(),
        Notice::CooperativeCloseUnconfirmed { .. } => "cooperative close unconfirmed".to_owned(),
        other => format!("{other:?}"),
    }
}
