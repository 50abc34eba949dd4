use spilman::channel::{Action, Message, Notice};

use super::Side;

pub fn line(side: Side, action: &Action) -> String {
    let side = side.name();
    match action {
        Action::Send(envelope) => format!("{side} says {}", words(&envelope.message)),
        Action::Broadcast { role, .. } => format!("{side} broadcasts {}", role.name()),
        Action::Notify(notice) => format!("{side} learns {}", learns(notice)),
        other => format!("{side} does {other:?}"),
    }
}

pub fn words(message: &Message) -> String {
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
