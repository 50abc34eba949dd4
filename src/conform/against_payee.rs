//! Our side is the payer, the program the payee.

use bitcoin::{Amount, TxOut};
use tokio::io::DuplexStream;

use super::agreed::AgreedChannel;
use super::case::{Ending, Interference};
use super::failure::{CaseFailure, Stop};
use super::opening::{failed, Opened};
use super::run::{Run, HIGHER};
use crate::channel::{ChannelId, MessageKind, Protocol, SpendRole, Stage};
use crate::regtest::{Coin, RejectReason};
use crate::scenario::{fund, payout};
use crate::service::{self, wallet_fn, PayerHandle, Proposal};
use crate::transcript::{Actor, Side};

/// What our payer has, besides the table.
pub(super) struct Ours {
    pub end: DuplexStream,
    pub setup: service::Setup,
    pub coin: Coin,
    pub key: bitcoin::secp256k1::SecretKey,
}

pub(super) async fn play(table: &Run<'_>, ours: Ours) -> Result<(), CaseFailure> {
    let mut payer = None;
    match converse(table, ours, &mut payer).await {
        Ok(()) => {}
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Cut) => {
            // Who is gone does nothing more.
            if let Some(payer) = &payer {
                payer.abort();
            }
            return aftermath(table, payer.as_ref().map(AgreedChannel::of)).await;
        }
    }
    table.confirmed().await
}

async fn converse(table: &Run<'_>, ours: Ours, opened: &mut Option<PayerHandle>) -> Result<(), Stop> {
    let feerate = table.terms.feerate;
    let back = payout(&ours.key);
    let wallet = wallet_fn(|output: &TxOut| fund(&ours.coin, output, feerate, &back));
    let proposal = Proposal {
        id: ChannelId(1),
        terms: table.terms.clone(),
    };
    let opening = ours.setup.open(ours.end, table.view.clone(), proposal, wallet);
    let payer = match table.opened(opening).await? {
        Opened::Channel(payer) => opened.insert(payer),
        Opened::Not(error) => return Err(failed(table, &error).into()),
    };
    let agreed = AgreedChannel::of(payer);
    table.funded(&agreed).await?;
    let is_open = |status: &service::Status| status.stage == Stage::Open;
    table
        .party("confirmation", "ready", payer.status(), is_open)
        .await?;
    let paid = pay(table, payer).await?;
    close(table, payer, &agreed).await?;
    let settlement = table.settled(&agreed, paid).await?;
    table.told(settlement).await
}

/// Every payment, each acknowledged before the next.
async fn pay(table: &Run<'_>, payer: &PayerHandle) -> Result<Amount, Stop> {
    const STAGE: &str = "payment";
    let mut paid = Amount::ZERO;
    for sum in table.case.payments() {
        if table.case.protocol == Protocol::Bond {
            let request = format!("a payment-request for {} sat in total", sum.to_sat());
            table
                .said(STAGE, &request, |heard| heard.requested >= Some(sum))
                .await?;
            let requested = table.heard().requested;
            if requested != Some(sum) {
                let seen = format!("a payment-request for {requested:?}");
                return Err(CaseFailure::new(STAGE, request, seen).into());
            }
        }
        let awaited = format!("payment-accepted for {} sat in total", sum.to_sat());
        if sum == paid {
            // Example 7 begins with a payment of zero.
            table
                .said(STAGE, &awaited, |heard| heard.accepted.is_some())
                .await?;
        } else {
            let answer = table.unless_cut(STAGE, &awaited, payer.pay(sum - paid)).await?;
            answer.map_err(|error| {
                let failure = table.missed(STAGE, &awaited);
                CaseFailure::new(STAGE, awaited.clone(), format!("{error}; {}", failure.seen()))
            })?;
        }
        paid = sum;
    }
    Ok(paid)
}

/// Our part in the end that the case has.
async fn close(table: &Run<'_>, payer: &PayerHandle, agreed: &AgreedChannel) -> Result<(), Stop> {
    match table.case.life {
        Ending::ClosedByPayer => payer.close().await.map_err(CaseFailure::runner)?,
        Ending::HigherFeerate => payer.close_at(HIGHER).await.map_err(CaseFailure::runner)?,
        // The program does it by itself.
        Ending::ClosedByPayee => {}
        Ending::NeverClosed => table.to_margin(Some(agreed)).await?,
    }
    Ok(())
}

async fn aftermath(table: &Run<'_>, agreed: Option<AgreedChannel>) -> Result<(), CaseFailure> {
    let Some(rule) = table.case.rule else {
        return Err(CaseFailure::runner(
            "the conversation ended without a rule of the case",
        ));
    };
    match (rule.turn, agreed) {
        (Interference::Kill, Some(agreed)) => refund_holds(table, &agreed).await,
        (Interference::Kill, None) => {
            Err(table.missed("opening", "an open channel, before the program is killed"))
        }
        (turn, agreed) => {
            if let Interference::Forge(forgery) = turn {
                table.refused(forgery.reason).await?;
            }
            match agreed.filter(|_| rule.kind > MessageKind::Funding) {
                Some(agreed) => held(table, &agreed).await,
                None => nothing_at_stake(table, rule.kind).await,
            }
        }
    }
}

/// The payee settles with what it had accepted, if that is worth anything; if not, it sees the payer's refund.
async fn held(table: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    const STAGE: &str = "protection";
    let paid = table.heard().accepted.unwrap_or(Amount::ZERO);
    let balance = agreed.params.balance(paid);
    if balance.is_some_and(|balance| balance.is_enforceable()) {
        table.to_margin(Some(agreed)).await?;
        let payment = agreed.payment(paid);
        table.spent(STAGE, Side::Payee, agreed, &payment).await?;
    } else {
        table.to_expiry(agreed).await?;
        table.world.submit(Side::Payer, SpendRole::Refund, "refund")?;
    }
    table.confirmed().await
}

/// In the article the payer's funding transaction may be out, but that is not the payee's business.
async fn nothing_at_stake(table: &Run<'_>, kind: MessageKind) -> Result<(), CaseFailure> {
    table.leaves().await?;
    let stepped = table.case.protocol == Protocol::SteppedLocktime && kind == MessageKind::Funding;
    let ours = stepped.then(|| table.world.recorded("funding")).transpose()?;
    table.mempool_holds_only(ours.map(|tx| tx.compute_txid()))
}

/// The program is dead. What it signed takes everything back at the lock, and not one block before.
async fn refund_holds(table: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    let world = table.world;
    if world.height_of(agreed.funding.txid)?.is_none() {
        if !world
            .node()
            .mempool()
            .map_err(CaseFailure::runner)?
            .contains(&agreed.funding.txid)
        {
            world.submit(Actor::Outsider, SpendRole::Funding, "funding")?;
        }
        table.mine(1).await?;
    }
    table.before_expiry(agreed).await?;
    let early = if table.case.construction.has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    };
    signed(world.would_refuse("refund", early))?;
    table.to_expiry(agreed).await?;
    signed(world.submit(Side::Payer, SpendRole::Refund, "refund"))?;
    table.mine(1).await
}

fn signed(asked: Result<(), crate::scenario::ScenarioError>) -> Result<(), CaseFailure> {
    asked.map_err(|error| {
        CaseFailure::new(
            "protection",
            "the refund accepted at its lock, and not one block before",
            error.to_string(),
        )
    })
}
