use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use bitcoin::{Amount, FeeRate, OutPoint, TxOut};
use clap::builder::PossibleValuesParser;
use clap::Args;
use serde_json::json;
use spilman::channel::{Capacity, ChannelId, Construction, Expiry, RefundLock, Stage, Terms};
use spilman::service::{wallet_fn, Chain, OpenError, Proposal};
use spilman::transcript::sat;

use super::session::Session;
use crate::cli::party::wallet::Coin;
use crate::cli::party::Answer;

/// How long the network may take to get the funding transaction.
const ON_ITS_WAY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args)]
#[command(after_help = "\
Example:
  spilman payer open 127.0.0.1:9735 --capacity 1000000 --expiry 288

The payer can refund after --expiry blocks; the payee settles 36 blocks before that.")]
pub struct Open {
    /// Where the payee serves: host and port.
    payee: String,
    /// What the channel locks, in satoshi: no more than that can be paid in it.
    #[arg(long, value_name = "SAT")]
    capacity: u64,
    /// Blocks until the refund's lock.
    #[arg(long, value_name = "BLOCKS", default_value_t = Terms::DAY_OF_BLOCKS)]
    expiry: u16,
    /// What every transaction pays, in sat/vB.
    #[arg(long, value_name = "RATE", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=500))]
    feerate: u64,
    /// The form of the funding output.
    #[arg(long, value_name = "NAME", default_value = "taproot", value_parser = names())]
    construction: String,
    /// Do not wait until payments count, only until the network has the funding transaction.
    #[arg(long)]
    no_wait: bool,
}

fn names() -> PossibleValuesParser {
    Construction::ALL.map(Construction::name).into()
}

impl Open {
    fn terms(&self, tip: spilman::channel::Tip) -> Result<Terms> {
        let construction = Construction::ALL
            .into_iter()
            .find(|known| known.name() == self.construction);
        let construction = construction.context("clap knows the names")?;
        let capacity = Capacity::new(Amount::from_sat(self.capacity))?;
        let mut terms = Terms::new(capacity, tip)?;
        terms.feerate = self.feerate();
        let lock = Expiry::blocks_after(tip, self.expiry.into()).context("no height is that late")?;
        terms.refund_lock = lock.into();
        terms = terms.on(construction);
        if construction.has_relative_lock() {
            terms.refund_lock = RefundLock::after_blocks(self.expiry);
        }
        Ok(terms)
    }

    fn feerate(&self) -> FeeRate {
        FeeRate::from_sat_per_kwu(self.feerate * 250)
    }

    pub async fn run(&self, session: &Session) -> Result<Answer> {
        let funding = self.open(session).await?;
        let capacity = Amount::from_sat(self.capacity);
        let (payer, name) = (session.manager.payer(funding), funding.to_string());
        if self.no_wait {
            on_its_way(session, funding).await?;
        } else if let Some(payer) = &payer {
            let what = "waiting for the funding transaction to confirm";
            session.wait(payer, &[Stage::Open, Stage::Closing], what).await?;
        }
        let stage = payer.map_or(Stage::Closed, |payer| payer.status().borrow().stage);
        ensure!(
            self.no_wait || stage == Stage::Open,
            "the channel {name} is {stage} instead of open: see `spilman payer status`"
        );
        let text = format!("{name}: {stage}, with {}", sat(capacity));
        let stage = stage.to_string();
        Ok(Answer::new(
            text,
            json!({ "channel": name, "capacity": self.capacity, "stage": stage }),
        ))
    }

    async fn open(&self, session: &Session) -> Result<OutPoint> {
        let _one_at_a_time = session.opens.lock().await;
        let tip = session.chain.tip().await?;
        let terms = self.terms(tip)?;
        let coins = spendable(session).await?;
        let feerate = self.feerate();
        // Fails here, before the payee hears of it, if the coins do not suffice.
        let probe = TxOut {
            value: terms.capacity.to_amount(),
            script_pubkey: bitcoin::ScriptBuf::from_bytes(vec![0x51; 34]),
        };
        session.wallet.pay(coins.clone(), &probe, feerate)?;
        let (stream, id) = self.stream(session).await?;
        payee_of(session).clone_from(&self.payee);
        let wallet = wallet_fn(|output: &TxOut| {
            let paid = session.wallet.pay(coins.clone(), output, feerate);
            paid.map_err(|error| format!("{error:#}"))
        });
        let opened = session.manager.open(stream, Proposal { id, terms }, wallet).await;
        match opened {
            Ok(payer) => Ok(payer.funding().outpoint()),
            Err(error @ OpenError::FundingRejected { .. }) => Err(error.into()),
            Err(error) => Err(anyhow::Error::from(error).context(format!(
                "the payee at {} and this payer opened no channel",
                self.payee
            ))),
        }
    }

    /// A number on the connection that no other channel of it has.
    async fn stream(&self, session: &Session) -> Result<(tokio::io::DuplexStream, ChannelId)> {
        loop {
            let (connection, is_old) = session.connect(&self.payee).await?;
            let id = ChannelId(session.next_number());
            match connection.channel(id).await {
                Ok(stream) => return Ok((stream, id)),
                Err(_) if is_old => session.forget(&self.payee).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn payee_of(session: &Session) -> std::sync::MutexGuard<'_, String> {
    session.opening.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The coins of the address, without those that an earlier channel spends, whose funding transaction may be on its way.
async fn spendable(session: &Session) -> Result<Vec<Coin>> {
    let channels = session.channels().await?;
    let open = channels.iter().filter(|channel| !channel.state.is_over());
    let spent: Vec<_> = open
        .flat_map(|channel| &channel.state.funding().tx().input)
        .map(|input| input.previous_output)
        .collect();
    let coins = session
        .node
        .coins(&session.wallet.script(), &mut session.progress())
        .await?;
    let coins = coins.iter().map(|coin| Coin {
        outpoint: coin.outpoint(),
        value: coin.amount,
    });
    Ok(coins.filter(|coin| !spent.contains(&coin.outpoint)).collect())
}

async fn on_its_way(session: &Session, funding: OutPoint) -> Result<()> {
    let seen = async {
        while !session.node.is_unspent(funding).await.unwrap_or(false) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let seen = tokio::time::timeout(ON_ITS_WAY, seen).await;
    ensure!(
        seen.is_ok(),
        "the network does not have the funding transaction of {funding} after {ON_ITS_WAY:?}: `spilman payer status` \
         shows the channel, and `spilman payer close` gives it up"
    );
    Ok(())
}
