//! What a party reports, as one line.

use serde_json::{json, Map, Value};
use spilman::channel::Notice;
use spilman::service::Report;
use spilman::store::ChannelName;
use spilman::transcript::sat;

use super::channels::outcome_text;

/// One line of a log.
pub struct Line {
    kind: &'static str,
    text: String,
    fields: Map<String, Value>,
}

impl Line {
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        let (text, fields) = (text.into(), Map::new());
        Self { kind, text, fields }
    }

    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    pub fn render(self, channel: Option<&ChannelName>, as_json: bool) -> String {
        let channel = channel.map(|channel| channel.funding.to_string());
        if as_json {
            let mut line = Map::new();
            line.insert("report".to_owned(), self.kind.into());
            line.insert("channel".to_owned(), json!(channel));
            line.insert("text".to_owned(), self.text.into());
            line.extend(self.fields);
            return Value::Object(line).to_string();
        }
        match channel {
            // As much of it as a person compares.
            Some(channel) => format!("{} {}", &channel[..8], self.text),
            None => self.text,
        }
    }
}

/// Returns the line of a report.
pub fn line(report: &Report<'_>) -> Line {
    match report {
        Report::FundingHeld(funding) => {
            let txid = funding.tx().compute_txid().to_string();
            Line::new("funding-held", format!("signed the funding transaction {txid}")).with("txid", txid)
        }
        Report::Refundable(refund) => {
            let txid = refund.tx().compute_txid().to_string();
            Line::new("refundable", "the refund is signed and verified").with("txid", txid)
        }
        Report::Stored(channel) => {
            let capacity = channel.state.params().terms().capacity.to_amount();
            let text = format!("stored a channel of {}", sat(capacity));
            Line::new("stored", text).with("capacity", capacity.to_sat())
        }
        Report::Broadcast { role, tx, rejected } => broadcast(
            "broadcast",
            role.name(),
            &tx.compute_txid().to_string(),
            *rejected,
        ),
        Report::BroadcastPackage {
            role,
            package,
            rejected,
        } => broadcast(
            "broadcast-package",
            role.name(),
            &package.parent().compute_txid().to_string(),
            *rejected,
        ),
        Report::Notice(notice) => of_notice(notice),
        Report::Resumed => Line::new("resumed", "resumed on a new connection"),
        Report::Disconnected => Line::new("disconnected", "the peer has disconnected"),
        other => trouble(other),
    }
}

fn broadcast(kind: &'static str, role: &str, txid: &str, rejected: Option<&str>) -> Line {
    let text = match rejected {
        None => format!("broadcast the {role} {txid}"),
        Some(reason) => format!("the node rejected the {role} {txid}: {reason}"),
    };
    let line = Line::new(kind, text).with("role", role).with("txid", txid);
    line.with("rejected", json!(rejected))
}

/// What may need attention.
fn trouble(report: &Report<'_>) -> Line {
    match report {
        Report::Refused(error) => Line::new("refused", format!("refused the peer's message: {error}")),
        Report::Garbled(error) => Line::new(
            "garbled",
            format!("the peer sent bytes that are not a message: {error}"),
        ),
        Report::NotOpened(error) => Line::new("not-opened", format!("a channel was not opened: {error}")),
        Report::Failed(error) => Line::new("failed", error.to_string()),
        Report::NoMoreNews => Line::new("no-more-news", "no more news of the chain"),
        Report::ChainFailed(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            Line::new("chain-failed", format!("{error}: {}", cause.unwrap_or_default()))
        }
        Report::StoreFailed(error) => Line::new("store-failed", error.to_string()),
        Report::StaleTip { tip, unchanged } => {
            let height = tip.height.to_consensus_u32();
            let text = format!(
                "no block after height {height} for {} minutes",
                unchanged.as_secs() / 60
            );
            Line::new("stale-tip", text).with("height", height)
        }
        other => Line::new("other", format!("{other:?}")),
    }
}

fn of_notice(notice: &Notice) -> Line {
    match notice {
        Notice::Ready => Line::new("ready", "open: payments count from now on"),
        Notice::PaymentAccepted(balance) => {
            let text = format!("{} paid in total", sat(balance.paid));
            Line::new("payment", text).with("paid", balance.paid.to_sat())
        }
        Notice::Closed(outcome) => Line::new("closed", outcome_text(outcome))
            .with("txid", outcome.txid.to_string())
            .with("to_payer", outcome.to_payer.to_sat())
            .with("to_payee", outcome.to_payee.to_sat()),
        Notice::Abandoned => Line::new("abandoned", "abandoned: this side has nothing at stake"),
        Notice::PeerSettled { txid } => {
            Line::new("peer-settled", format!("the peer has settled with {txid}"))
                .with("txid", txid.to_string())
        }
        Notice::PeerRefused { reason } => Line::new("peer-refused", format!("the peer refused: {reason}")),
        Notice::Recovered { paid } => {
            let text = format!(
                "recovered a payment of {} in total that this side had forgotten",
                sat(*paid)
            );
            Line::new("recovered", text).with("paid", paid.to_sat())
        }
        Notice::PeerRolledBack { acknowledged, held } => {
            let (before, now) = (sat(*acknowledged), sat(*held));
            let text =
                format!("the payee had acknowledged {before} and holds {now}: the payment is sent again");
            Line::new("peer-rolled-back", text)
        }
        Notice::FundingLost { confirmations } => {
            let text =
                format!("the funding transaction has only {confirmations} confirmations now: payments wait");
            Line::new("funding-lost", text).with("confirmations", *confirmations)
        }
        Notice::FundingOverdue { blocks } => {
            let text = format!("the funding transaction is not confirmed after {blocks} blocks");
            Line::new("funding-overdue", text).with("blocks", *blocks)
        }
        Notice::Blind { since, tip } => {
            let (since, tip) = (since.height.to_consensus_u32(), tip.height.to_consensus_u32());
            let text = format!("the funding output was last seen at height {since}, and the tip is {tip}");
            Line::new("blind", text).with("height", tip)
        }
        other => Line::new("notice", format!("{other:?}")),
    }
}
