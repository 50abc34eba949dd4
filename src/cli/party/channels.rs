//! What a user sees of the channels of a store.

use anyhow::{bail, Context, Result};
use bitcoin::{Amount, OutPoint};
use serde_json::{json, Value};
use spilman::channel::{ChannelKeys, ChannelState, Expiry, LockKind, Outcome, Payee, Payer, Stage};
use spilman::service::Status;
use spilman::store::StoredChannel;
use spilman::transcript::sat;

use super::Answer;

/// One channel, as it is stored, or as its party says.
pub struct Summary {
    funding: OutPoint,
    stage: Stage,
    paid: Amount,
    /// What the payee has acknowledged, as the payer stored it last.
    acknowledged: Option<Amount>,
    capacity: Amount,
    deadline: Option<Expiry>,
    connected: Option<bool>,
    outcome: Option<Outcome>,
}

impl Summary {
    /// Reads a stored channel.
    pub fn of(channel: &StoredChannel, keys: &ChannelKeys) -> Result<Self> {
        let name = channel.name();
        let key = keys.derive(name.role, channel.key_id);
        let restored = || format!("{name} cannot be read");
        let summary = Self {
            funding: name.funding,
            stage: Stage::Closed,
            paid: Amount::ZERO,
            acknowledged: None,
            capacity: channel.state.params().terms().capacity.to_amount(),
            deadline: None,
            connected: None,
            outcome: None,
        };
        Ok(match channel.state.clone() {
            ChannelState::Payer(state) => {
                let (acknowledged, outcome) = (state.progress.acknowledged, state.progress.outcome);
                let payer = Payer::restore(state, key).with_context(restored)?;
                Self {
                    stage: payer.stage(),
                    paid: payer.paid(),
                    acknowledged: Some(acknowledged.unwrap_or_default()),
                    deadline: payer.deadline(),
                    outcome,
                    ..summary
                }
            }
            ChannelState::Payee(state) => {
                let outcome = state.progress.outcome;
                let payee = Payee::restore(state, key).with_context(restored)?;
                Self {
                    stage: payee.stage(),
                    paid: payee.paid(),
                    deadline: payee.deadline(),
                    outcome,
                    ..summary
                }
            }
        })
    }

    /// Adds what the party says, which runs.
    pub fn with(self, status: &Status) -> Self {
        Self {
            stage: status.stage,
            paid: status.paid,
            deadline: status.deadline,
            connected: Some(status.connected),
            outcome: status.outcome.or(self.outcome),
            ..self
        }
    }

    fn to_json(&self) -> Value {
        let (kind, deadline) = match self.deadline {
            None => (None, None),
            Some(lock) => {
                let kind = match lock.kind() {
                    LockKind::Height => "height",
                    LockKind::Time => "time",
                };
                (Some(kind), Some(lock.to_lock_time().to_consensus_u32()))
            }
        };
        json!({
            "channel": self.funding.to_string(),
            "stage": self.stage.to_string(),
            "paid": self.paid.to_sat(),
            "acknowledged": self.acknowledged.map(Amount::to_sat),
            "capacity": self.capacity.to_sat(),
            "deadline": deadline,
            "deadline_kind": kind,
            "connected": self.connected,
            "outcome": self.outcome.map(outcome_json),
        })
    }

    fn to_text(&self, acts: &str) -> String {
        let (paid, capacity) = (sat(self.paid), sat(self.capacity));
        let acknowledged = self
            .acknowledged
            .map(|sum| format!(", {} acknowledged", sat(sum)));
        let next = match (self.outcome, self.deadline) {
            (Some(outcome), _) => format!("\n  {}", outcome_text(&outcome)),
            (None, Some(lock)) => format!("\n  {acts} from {lock} on"),
            (None, None) => String::new(),
        };
        let connected = match self.connected {
            Some(true) => ", connected",
            Some(false) if self.outcome.is_none() => ", not connected",
            _ => "",
        };
        let acknowledged = acknowledged.unwrap_or_default();
        format!(
            "{}\n  {}: {paid} of {capacity} paid{acknowledged}{next}{connected}",
            self.funding, self.stage
        )
    }
}

/// Shows channels. `acts` says what the side does at its deadline: "settles" or "refunds".
pub fn answer(channels: &[Summary], acts: &str) -> Answer {
    let json = channels.iter().map(Summary::to_json).collect();
    let text: Vec<_> = channels.iter().map(|channel| channel.to_text(acts)).collect();
    let text = if text.is_empty() {
        "no channels".to_owned()
    } else {
        text.join("\n")
    };
    Answer::new(text, json)
}

pub fn outcome_json(outcome: Outcome) -> Value {
    json!({
        "txid": outcome.txid.to_string(),
        "to_payer": outcome.to_payer.to_sat(),
        "to_payee": outcome.to_payee.to_sat(),
    })
}

pub fn outcome_text(outcome: &Outcome) -> String {
    format!(
        "closed by {}: {} to the payee, {} to the payer",
        outcome.txid,
        sat(outcome.to_payee),
        sat(outcome.to_payer)
    )
}

/// Finds a channel by its funding outpoint, or by the beginning of it. The only one needs no name.
pub fn choose(channels: Vec<OutPoint>, name: Option<&str>) -> Result<OutPoint> {
    let begins = |channel: &OutPoint| name.is_none_or(|name| channel.to_string().starts_with(name));
    let found: Vec<_> = channels.into_iter().filter(begins).collect();
    match (&found[..], name) {
        ([channel], _) => Ok(*channel),
        ([], None) => bail!(
            "no channel is open here: `spilman payer open` opens one, and `spilman payer status` lists all"
        ),
        ([], Some(name)) => {
            bail!("no channel here begins with {name}: `spilman payer status` lists all")
        }
        (several, name) => {
            let list: Vec<_> = several.iter().map(OutPoint::to_string).collect();
            let list = list.join(", ");
            match name {
                None => bail!("there are several channels, so name one of {list}"),
                Some(name) => bail!("several channels begin with {name}: {list}"),
            }
        }
    }
}
