use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use bitcoin::absolute::Height;
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use clap::Args;
use serde_json::json;
use spilman::channel::{ChannelParams, KeyRole, RefundLock, SeenSpend};
use spilman::service::{Chain, Watched};
use spilman::store::RefundBackup;
use spilman::transcript::sat;

use super::session::Session;
use crate::cli::party::channels::{outcome_json, outcome_text};
use crate::cli::party::data::DataDir;
use crate::cli::party::node::NodeArgs;
use crate::cli::party::{Answer, Progress};

/// The number of blocks searched for a spend: the longest lock that a payer agrees to, plus four weeks.
const OLDEST: u32 = 2 * 4_032;
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(after_help = "\
Examples:
  spilman payer refund                                                 # of the only channel of --data
  spilman payer refund --data new --backup /media/usb/channel.refund   # with the seed in new/seed, and this file

If the payee settles before the lock, the command says so: the payer's change is in that settlement.")]
pub struct Refund {
    /// The channel: its funding outpoint, or the beginning of it [default: the only one].
    #[arg(conflicts_with = "backup")]
    channel: Option<String>,
    /// The backup of a channel, in place of the store. Only the seed of --data is used.
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
}

impl Refund {
    pub const fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// The party refunds by itself when the lock has passed, so that this only waits for it.
    pub async fn run(&self, session: &Session) -> Result<Answer> {
        if self.has_backup() {
            bail!("a backup is refunded by a process of its own: spilman payer refund --backup");
        }
        let payer = session.find(self.channel.as_deref()).await?;
        let lock = payer.params().terms().refund_lock;
        session
            .wait(
                &payer,
                &[],
                &format!("the refund waits for {lock}, and then for six confirmations"),
            )
            .await?;
        let outcome = payer.outcome().await?;
        let channel = payer.funding().outpoint().to_string();
        let text = format!("{channel}: {}", outcome_text(&outcome));
        Ok(Answer::new(
            text,
            json!({ "channel": channel, "outcome": outcome_json(outcome) }),
        ))
    }

    pub async fn run_backup(&self, data: &DataDir, node: &NodeArgs) -> Result<Answer> {
        let file = self.backup.as_deref().context("the caller has seen a backup")?;
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let backup = RefundBackup::from_bytes(&bytes).with_context(|| file.display().to_string())?;
        let mut progress = Progress::default();
        let node = node.ready(&mut progress).await?;
        data.belongs_to(&node).await?;
        let key = data.keys().derive(KeyRole::Payer, backup.key_id());
        let refund = backup.refund(&key)?;
        let since = node.height().await?.saturating_sub(OLDEST);
        let watched = Watched {
            funding: backup.funding(),
            since: Some(Height::from_consensus(since)?),
        };
        let lock = backup.params().terms().refund_lock;
        let spend = broadcast_at_lock(&node.chain(), watched, lock, refund.tx(), &mut progress).await?;
        Ok(answer(
            backup.funding(),
            backup.params(),
            &spend,
            refund.tx().compute_txid(),
        ))
    }
}

/// Broadcasts at every poll: a node forgets its mempool, and tells of a lock that has not passed.
async fn broadcast_at_lock(
    chain: &impl Chain,
    watched: Watched,
    lock: RefundLock,
    refund: &Transaction,
    progress: &mut Progress,
) -> Result<SeenSpend> {
    loop {
        let view = match chain.view(watched).await {
            Ok(view) => view,
            Err(error) => {
                progress.say(format!("{error}; the refund waits for {lock}"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let height = view.tip.height.to_consensus_u32();
        let expiry = lock.expiry(view.funding_parent);
        match view.spend {
            Some(spend) if spend.confirmations > 0 => return Ok(spend),
            Some(spend) => {
                progress.say(format!(
                    "height {height}: waiting for {} to confirm",
                    spend.tx.compute_txid()
                ));
            }
            None if expiry.is_some_and(|expiry| expiry.is_final(view.tip)) => {
                if let Some(reason) = chain.broadcast(refund).await? {
                    bail!("the node rejected the refund {}: {reason}", refund.compute_txid());
                }
            }
            None => progress.say(format!("height {height}: the refund waits for {lock}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn answer(funding: OutPoint, params: &ChannelParams, spend: &SeenSpend, refund: Txid) -> Answer {
    let txid = spend.tx.compute_txid();
    let script = params.payer_payout();
    let own = spend
        .tx
        .output
        .iter()
        .filter(|output| output.script_pubkey == *script);
    let to_payer: Amount = own.map(|output| output.value).sum();
    let what = if txid == refund {
        "refunded"
    } else {
        "settled by the payee instead"
    };
    let text = format!("{funding}: {what} by {txid}: {} to the payer", sat(to_payer));
    let json = json!({
        "channel": funding.to_string(),
        "refunded": txid == refund,
        "txid": txid.to_string(),
        "to_payer": to_payer.to_sat(),
    });
    Answer::new(text, json)
}
