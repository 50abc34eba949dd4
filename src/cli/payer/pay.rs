use std::time::Duration;

use anyhow::{bail, ensure, Result};
use bitcoin::Amount;
use clap::Args;
use serde_json::json;
use spilman::channel::{Balance, Stage};
use spilman::service::PayerHandle;
use spilman::transcript::sat;

use super::session::Session;
use crate::cli::party::channels::{outcome_json, outcome_text};
use crate::cli::party::Answer;

/// How often to look whether the payee has settled.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args)]
#[command(after_help = "\
Examples:
  spilman payer pay --total 5000               # 5,000 sat in total; repeating it pays nothing more
  spilman payer pay 4f1c --more 10 --times 50  # 50 payments, in the channel that begins with 4f1c")]
pub struct Pay {
    /// The channel: its funding outpoint, or the beginning of it [default: the only one].
    channel: Option<String>,
    /// The total of all payments in the channel, in satoshi.
    #[arg(
        long,
        value_name = "SAT",
        required_unless_present = "more",
        conflicts_with = "more"
    )]
    total: Option<u64>,
    /// What one payment adds to the total so far, in satoshi: repeating the command pays again.
    #[arg(long, value_name = "SAT")]
    more: Option<u64>,
    /// How many payments of --more.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "total")]
    times: u32,
    /// Where the payee is, if it has moved.
    #[arg(long, value_name = "ADDRESS")]
    payee: Option<String>,
}

impl Pay {
    pub async fn run(&self, session: &Session) -> Result<Answer> {
        let payer = session.find(self.channel.as_deref()).await?;
        session.resume(&payer, self.payee.as_deref()).await?;
        if payer.status().borrow().stage == Stage::AwaitingFunding {
            let what = "waiting for the funding transaction to confirm";
            session.wait(&payer, &[Stage::Open, Stage::Closing], what).await?;
        }
        let balance = self.pay(&payer).await?;
        let (channel, paid) = (
            payer.funding().outpoint().to_string(),
            payer.status().borrow().paid,
        );
        let acknowledged = balance.paid;
        let text = format!("{} paid in total, {} acknowledged", sat(paid), sat(acknowledged));
        let (paid, acknowledged) = (paid.to_sat(), acknowledged.to_sat());
        Ok(Answer::new(
            text,
            json!({ "channel": channel, "paid": paid, "acknowledged": acknowledged }),
        ))
    }

    async fn pay(&self, payer: &PayerHandle) -> Result<Balance> {
        if let Some(total) = self.total {
            return Ok(payer.pay_up_to(Amount::from_sat(total)).await?);
        }
        let more = Amount::from_sat(self.more.unwrap_or_default());
        ensure!(self.times > 0, "--times is 0: nothing to pay");
        let mut balance = payer.pay(more).await?;
        for _ in 1..self.times {
            balance = payer.pay(more).await?;
        }
        Ok(balance)
    }
}

#[derive(Args)]
#[command(after_help = "\
Example:
  spilman payer close

If the payee is gone, wait for the lock and refund instead: spilman payer refund")]
pub struct Close {
    /// The channel: its funding outpoint, or the beginning of it [default: the only one].
    channel: Option<String>,
    /// Where the payee is, if it has moved.
    #[arg(long, value_name = "ADDRESS")]
    payee: Option<String>,
    /// Do not wait for the confirmation, only until the payee has the settlement.
    #[arg(long)]
    no_wait: bool,
}

impl Close {
    pub async fn run(&self, session: &Session) -> Result<Answer> {
        let payer = session.find(self.channel.as_deref()).await?;
        let closing = begin(session, &payer, self.payee.as_deref());
        let outcome = payer.outcome();
        // An earlier process may have begun, and the payee, or a miner, may have ended it since.
        let begun = tokio::select! {
            biased;
            begun = closing => begun,
            _ = payer.outcome() => Ok(()),
        };
        begun?;
        let channel = payer.funding().outpoint().to_string();
        if self.no_wait {
            let text = format!("{channel}: the payee has the settlement");
            return Ok(Answer::new(text, json!({ "channel": channel })));
        }
        let what = "waiting for six confirmations of the settlement";
        session.wait(&payer, &[], what).await?;
        let outcome = outcome.await?;
        let json = json!({ "channel": channel, "outcome": outcome_json(outcome) });
        Ok(Answer::new(
            format!("{channel}: {}", outcome_text(&outcome)),
            json,
        ))
    }
}

/// How long a payee may take to broadcast a settlement.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// Asks the payee to close, and waits until a settlement is broadcast.
async fn begin(session: &Session, payer: &PayerHandle, payee: Option<&str>) -> Result<()> {
    let settled = tokio::time::timeout(SETTLES_WITHIN, settle(session, payer, payee)).await;
    settled.unwrap_or_else(|_| {
        bail!(
            "the node has no settlement of {} {SETTLES_WITHIN:?} after the payee was asked for it: repeat `spilman payer close`, or \
             wait for the lock with `spilman payer refund`",
            payer.funding().outpoint()
        )
    })
}

async fn settle(session: &Session, payer: &PayerHandle, payee: Option<&str>) -> Result<()> {
    let funding = payer.funding().outpoint();
    // A payer that is closing says so again when it resumes.
    session.resume(payer, payee).await?;
    if payer.status().borrow().stage != Stage::Closing {
        payer.close().await?;
    }
    let mut seen = session.node.is_unspent(funding).await;
    while !matches!(seen, Ok(false)) {
        tokio::time::sleep(PAUSE).await;
        session.resume(payer, payee).await?;
        seen = session.node.is_unspent(funding).await;
    }
    Ok(())
}
