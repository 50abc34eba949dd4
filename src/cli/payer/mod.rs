//! `spilman payer`: opens channels on a test network, and pays in them.

mod open;
mod orders;
mod pay;
mod refund;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bitcoin::OutPoint;
use clap::{Args, Subcommand};
use serde_json::json;
use spilman::channel::{ChannelKeys, KeyRole};
use spilman::store::{RefundBackup, Store, StoredChannel};

use super::party::channels::{self, Summary};
use super::party::data::{write_backup, DataArgs, Side};
use super::party::node::NodeArgs;
use super::party::{self, Answer, Progress};
use session::Session;

/// Opens channels and pays in them, on regtest, signet or testnet4.
///
/// Each command is a short process: the channel waits on disk between them. A channel is named by its funding outpoint or
/// the beginning of it; the only one needs no name. Without a payer that runs, nobody refunds: run `payer refund` when the
/// payee is gone.
#[derive(Args)]
#[command(after_help = "\
Example, beside a bitcoind on regtest and a `spilman payee serve`:
  spilman payer address                                   # send coins there; they need a confirmation
  spilman payer open 127.0.0.1:9735 --capacity 1000000    # mine three blocks meanwhile
  spilman payer pay --more 250 --times 100
  spilman payer pay --total 30000                         # never pays twice
  spilman payer close                                     # mine six blocks meanwhile

The folder of --data has the seed, and in channels/ the backup of each refund: keep a copy of both elsewhere.")]
pub struct PayerArgs {
    #[command(flatten)]
    data: DataArgs,
    /// JSON, in place of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the address of the seed. Coins there pay for channels, and change and refunds go there.
    Address,
    #[command(flatten)]
    Order(Order),
    /// Takes the commands of a payer from standard input, one a line, and answers each with a line of JSON.
    ///
    /// All share one process and its connections, and run at once: a payment that must follow another waits for its answer.
    /// The process ends when standard input has ended and every command is answered.
    Orders(orders::Orders),
}

/// What one process can do many times.
#[derive(Subcommand)]
enum Order {
    /// Opens a channel with a payee, from the coins of the seed's address.
    Open(open::Open),
    /// Pays, and waits until the payee has acknowledged it.
    Pay(pay::Pay),
    /// Closes a channel together with the payee, and waits until that is confirmed.
    Close(pay::Close),
    /// Shows each channel: stage, paid, acknowledged, capacity, and from when on the payer can refund.
    Status,
    /// Writes what is needed, besides the seed, to refund a channel on another machine. It does not change with payments.
    Backup(Backup),
    /// Waits until the refund's lock has passed, broadcasts the refund, and waits until it is confirmed.
    Refund(refund::Refund),
}

#[derive(Args)]
#[command(after_help = "\
Example:
  spilman payer backup /media/usb/channel.refund

Opening a channel has written the same file into channels/ of --data already.")]
struct Backup {
    /// The new file.
    file: PathBuf,
    /// The channel: its funding outpoint, or the beginning of it [default: the only one].
    channel: Option<String>,
}

impl PayerArgs {
    pub fn run(self) -> Result<ExitCode> {
        let json = self.json;
        let command = async {
            if let Some(answer) = self.answer().await? {
                answer.print(json)?;
            }
            Ok(ExitCode::SUCCESS)
        };
        party::run(command, party::interruption())
    }

    async fn answer(self) -> Result<Option<Answer>> {
        let (data, node) = (&self.data, &self.node);
        let answer = match self.command {
            Command::Address => {
                let data = data.open_or_make(Side::Payer)?;
                let node = node.ready(&mut Progress::default()).await?;
                let address = data.wallet(node.network)?.address.to_string();
                Answer::new(&address, json!({ "address": address }))
            }
            Command::Orders(orders) => {
                let session = Session::start(data.open(Side::Payer)?, node, true).await?;
                orders.run(session).await?;
                return Ok(None);
            }
            // Neither needs a node.
            Command::Order(Order::Status) => {
                let data = data.open(Side::Payer)?;
                status(&*data.store()?, &data.keys()).await?
            }
            Command::Order(Order::Backup(backup)) => {
                let data = data.open(Side::Payer)?;
                backup.run(&*data.store()?).await?
            }
            Command::Order(Order::Refund(refund)) if refund.has_backup() => {
                refund.run_backup(&data.open(Side::Payer)?, node).await?
            }
            Command::Order(order) => {
                let session = Session::start(data.open(Side::Payer)?, node, false).await?;
                order.run(&session).await?
            }
        };
        Ok(Some(answer))
    }
}

impl Order {
    async fn run(self, session: &Session) -> Result<Answer> {
        match self {
            Self::Open(open) => open.run(session).await,
            Self::Pay(pay) => pay.run(session).await,
            Self::Close(close) => close.run(session).await,
            Self::Status => status(&*session.store, &session.data.keys()).await,
            Self::Backup(backup) => backup.run(&*session.store).await,
            Self::Refund(refund) => refund.run(session).await,
        }
    }
}

async fn payer_channels(store: &dyn Store) -> Result<Vec<StoredChannel>> {
    let channels = store.load().await?.into_iter();
    Ok(channels
        .filter(|channel| channel.name().role == KeyRole::Payer)
        .collect())
}

async fn status(store: &dyn Store, keys: &ChannelKeys) -> Result<Answer> {
    let channels = payer_channels(store).await?;
    let summaries = channels.iter().map(|channel| Summary::of(channel, keys));
    Ok(channels::answer(
        &summaries.collect::<Result<Vec<_>>>()?,
        "refunds",
    ))
}

impl Backup {
    async fn run(&self, store: &dyn Store) -> Result<Answer> {
        let channels = payer_channels(store).await?;
        let names: Vec<OutPoint> = channels.iter().map(|channel| channel.name().funding).collect();
        let chosen = channels::choose(names, self.channel.as_deref())?;
        let channel = channels.iter().find(|channel| channel.name().funding == chosen);
        let backup = channel.and_then(RefundBackup::of);
        write_backup(
            &self.file,
            &backup.context("only a payer's channel has a refund")?,
        )?;
        let file = self.file.display().to_string();
        let text = format!("{file} refunds {chosen}, together with the seed");
        let channel = chosen.to_string();
        Ok(Answer::new(text, json!({ "channel": channel, "file": file })))
    }
}
