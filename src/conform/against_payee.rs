//! Our side is the payer, the program the payee.

use bitcoin::{Amount, TxOut};

use super::agreed::AgreedChannel;
use super::case::{Ending, Interference};
use super::failure::{CaseFailure, Stop};
use super::run::{OurSide, Run, HIGHER};
use crate::channel::{ChannelId, MessageKind, Protocol, SpendRole, Stage};
use crate::regtest::RejectReason;
use crate::scenario::fund;
use crate::service::{self, wallet_fn, PayerHandle, Proposal};
use crate::transcript::{Actor, Side};

pub(super) async fn play(run: &Run<'_>, ours: OurSide) -> Result<(), Stop> {
    let mut payer = None;
    match converse(run, ours, &mut payer).await {
        Ok(()) => {}
        Err(Stop::Cut) => {
            // A side that has disconnected does nothing more.
            if let Some(payer) = &payer {
                payer.abort();
            }
            return Ok(aftermath(run, payer.as_ref().map(AgreedChannel::of)).await?);
        }
        Err(stop) => return Err(stop),
    }
    Ok(run.confirmed().await?)
}

async fn converse(run: &Run<'_>, ours: OurSide, opened: &mut Option<PayerHandle>) -> Result<(), Stop> {
    let feerate = run.terms.feerate;
    let wallet = wallet_fn(|output: &TxOut| fund(&ours.coin, output, feerate, &ours.payer_payout));
    let proposal = Proposal {
        id: ChannelId(1),
        terms: run.terms.clone(),
    };
    let opening = ours.setup.open(ours.end, run.view.clone(), proposal, wallet);
    let payer = opened.insert(run.opened(opening).await?);
    let agreed = AgreedChannel::of(payer);
    run.funded(&agreed).await?;
    let is_open = |status: &service::Status| status.stage == Stage::Open;
    run.party("confirmation", "ready", payer.status(), is_open)
        .await?;
    let paid = pay(run, payer).await?;
    close(run, payer, &agreed).await?;
    let settlement = run.settled(&agreed, paid).await?;
    run.told(settlement).await
}

/// Makes every payment, each acknowledged before the next.
async fn pay(run: &Run<'_>, payer: &PayerHandle) -> Result<Amount, Stop> {
    const STAGE: &str = "payment";
    let mut paid = Amount::ZERO;
    for sum in run.case.payments() {
        if run.case.protocol == Protocol::Bond {
            let request = format!("a payment-request for {} sat in total", sum.to_sat());
            run.said(STAGE, &request, |heard| heard.requested >= Some(sum))
                .await?;
            let requested = run.heard().requested;
            if requested != Some(sum) {
                let seen = format!("a payment-request for {requested:?}");
                return Err(CaseFailure::new(STAGE, request, seen).into());
            }
        }
        run.funded_again(payer.funding().outpoint(), sum, payer.status())
            .await?;
        let awaited = format!("payment-accepted for {} sat in total", sum.to_sat());
        if sum == paid {
            // Example 7 begins with a payment of zero.
            run.said(STAGE, &awaited, |heard| heard.accepted.is_some())
                .await?;
        } else {
            let answer = run.unless_cut(STAGE, &awaited, payer.pay(sum - paid)).await?;
            if let Err(error) = answer {
                let failure = run.missed(STAGE, &awaited).await;
                let seen = format!("{error}; {}", failure.seen());
                return Err(CaseFailure::new(STAGE, awaited, seen).into());
            }
        }
        paid = sum;
    }
    Ok(paid)
}

/// Does our part in the ending of the case.
async fn close(run: &Run<'_>, payer: &PayerHandle, agreed: &AgreedChannel) -> Result<(), Stop> {
    match run.case.ending {
        Ending::ClosedByPayer => payer.close().await.map_err(CaseFailure::runner)?,
        Ending::HigherFeerate => payer.close_at(HIGHER).await.map_err(CaseFailure::runner)?,
        // The program closes on its own.
        Ending::ClosedByPayee => {}
        Ending::NeverClosed => run.to_margin(Some(agreed)).await?,
    }
    Ok(())
}

async fn aftermath(run: &Run<'_>, agreed: Option<AgreedChannel>) -> Result<(), CaseFailure> {
    let Some(rule) = run.case.rule else {
        return Err(CaseFailure::runner(
            "the conversation ended without a rule of the case",
        ));
    };
    match (rule.interference, agreed) {
        (Interference::Kill, Some(agreed)) => refund_holds(run, &agreed).await,
        (Interference::Kill, None) => Err(run
            .missed("opening", "an open channel, before the program is killed")
            .await),
        (interference, agreed) => {
            if let Interference::Forge(forgery) = interference {
                run.refused(forgery.reason).await?;
            }
            match agreed.filter(|_| rule.message.kind > MessageKind::Funding) {
                Some(agreed) => held(run, &agreed).await,
                None => nothing_at_stake(run, rule.message.kind).await,
            }
        }
    }
}

/// Checks that the payee settles with the last payment it accepted, if that is enforceable; if not, the payer takes its
/// refund.
async fn held(run: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    const STAGE: &str = "protection";
    let paid = run.heard().accepted.unwrap_or(Amount::ZERO);
    let balance = agreed.params.balance(paid);
    if balance.is_some_and(|balance| balance.is_enforceable()) {
        run.to_margin(Some(agreed)).await?;
        let payment = agreed.payment(paid);
        run.spent(STAGE, Side::Payee, agreed, &payment).await?;
    } else {
        run.to_expiry(agreed).await?;
        run.world.submit(Side::Payer, SpendRole::Refund, "refund")?;
    }
    run.confirmed().await
}

/// Checks that the payee broadcasts nothing. In `stepped-locktime`, the payer may have broadcast the funding transaction.
async fn nothing_at_stake(run: &Run<'_>, kind: MessageKind) -> Result<(), CaseFailure> {
    run.leaves().await?;
    let stepped = run.case.protocol == Protocol::SteppedLocktime && kind == MessageKind::Funding;
    let ours = stepped.then(|| run.world.recorded("funding")).transpose()?;
    run.mempool_holds_only(ours.map(|tx| tx.compute_txid()))
}

/// The program is dead. Checks that the refund that it signed is valid at the lock, and not one block before.
async fn refund_holds(run: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    let world = run.world;
    if world.height_of(agreed.funding.txid)?.is_none() {
        if !world
            .node()
            .mempool()
            .map_err(CaseFailure::runner)?
            .contains(&agreed.funding.txid)
        {
            world.submit(Actor::Outsider, SpendRole::Funding, "funding")?;
        }
        run.mine(1).await?;
    }
    run.before_expiry(agreed).await?;
    let early = if run.case.construction.has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    };
    signed(world.would_reject("refund", early))?;
    run.to_expiry(agreed).await?;
    signed(world.submit(Side::Payer, SpendRole::Refund, "refund"))?;
    run.mine(1).await
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
