//! Our side is the payee, the program the payer.

use bitcoin::{Amount, ScriptBuf, Transaction};

use super::agreed::{inputs, outputs, AgreedChannel};
use super::case::{Ending, Interference};
use super::failure::{CaseFailure, Stop};
use super::run::{OurSide, Run, HIGHER};
use crate::channel::{MessageKind, Protocol, Stage};
use crate::regtest::Coin;
use crate::service::{self, PayeeHandle};
use crate::transcript::Side;

pub(super) async fn play(run: &Run<'_>, ours: OurSide) -> Result<(), Stop> {
    let coin = ours.coin.clone();
    let mut payee = None;
    match converse(run, ours, &mut payee).await {
        Ok(()) => {}
        Err(Stop::Cut) => return Ok(aftermath(run, payee.as_ref(), &coin).await?),
        Err(stop) => return Err(stop),
    }
    Ok(run.confirmed().await?)
}

async fn converse(run: &Run<'_>, ours: OurSide, opened: &mut Option<PayeeHandle>) -> Result<(), Stop> {
    let accepting = ours.setup.accept(ours.end, run.view.clone());
    let payee = opened.insert(run.opened(accepting).await?);
    let agreed = AgreedChannel::of(payee);
    proposed(run, &agreed)?;
    run.funded(&agreed).await?;
    pays_back(
        &agreed,
        &run.world.recorded("funding")?,
        &ours.coin,
        &ours.payer_payout,
    )?;
    let paid = be_paid(run, payee).await?;
    close(run, payee, &agreed).await?;
    run.settled(&agreed, paid).await?;
    Ok(())
}

/// Checks that the program proposes the terms of its assignment.
fn proposed(run: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    let (wanted, found) = (&run.terms, agreed.params.terms());
    if wanted == found {
        return Ok(());
    }
    Err(CaseFailure::new(
        "opening",
        format!("an open with {wanted:?}"),
        format!("{found:?}"),
    ))
}

/// Checks that the funding transaction spends the coin of the assignment, and pays the change to the payer.
fn pays_back(
    agreed: &AgreedChannel,
    tx: &Transaction,
    coin: &Coin,
    change: &ScriptBuf,
) -> Result<(), CaseFailure> {
    let (funding, rest): (Vec<_>, Vec<_>) = (0..)
        .zip(&tx.output)
        .partition(|(vout, _)| *vout == agreed.funding.vout);
    let spends = tx
        .input
        .iter()
        .all(|input| input.previous_output == coin.outpoint);
    if spends && funding.len() == 1 && rest.len() == 1 && rest[0].1.script_pubkey == *change {
        return Ok(());
    }
    Err(CaseFailure::new(
        "funding",
        format!(
            "a funding transaction of {} that pays the change to {}",
            coin.outpoint,
            change.to_hex_string()
        ),
        format!(
            "{} with inputs {} and outputs {}",
            tx.compute_txid(),
            inputs(tx),
            outputs(tx)
        ),
    ))
}

/// Waits for every payment; in `bond`, requests each.
async fn be_paid(run: &Run<'_>, payee: &PayeeHandle) -> Result<Amount, Stop> {
    const STAGE: &str = "payment";
    let mut paid = Amount::ZERO;
    for (number, sum) in (1..).zip(run.case.payments()) {
        run.funded_again(payee.funding().outpoint(), sum, payee.status())
            .await?;
        if run.case.protocol == Protocol::Bond {
            let open = |status: &service::Status| status.stage == Stage::Open;
            run.party("confirmation", "our payee to be open", payee.status(), open)
                .await?;
            let asked = payee.request_payment(sum - paid).await;
            asked.map_err(CaseFailure::runner)?;
        }
        let awaited = format!("payment {number}, of {} sat in total", sum.to_sat());
        run.said(STAGE, &awaited, |heard| heard.accepted >= Some(sum))
            .await?;
        let accepted = run.heard().accepted;
        if accepted != Some(sum) {
            let seen = format!("a payment of {accepted:?} in total");
            return Err(CaseFailure::new(STAGE, awaited, seen).into());
        }
        record(run, payee, number).await?;
        paid = sum;
    }
    Ok(paid)
}

/// Records what our payee could broadcast now.
async fn record(run: &Run<'_>, payee: &PayeeHandle, number: u32) -> Result<(), CaseFailure> {
    let payment = payee.redeemable().await.map_err(CaseFailure::runner)?;
    if let Some(payment) = payment {
        let name = format!("payment-{number}");
        run.world.recorder.built(Side::Payee, &name, payment.tx());
    }
    Ok(())
}

/// Does our part in the ending of the case.
async fn close(run: &Run<'_>, payee: &PayeeHandle, agreed: &AgreedChannel) -> Result<(), Stop> {
    match run.case.ending {
        // The program closes on its own.
        Ending::ClosedByPayer => {}
        Ending::ClosedByPayee => payee.close().await.map_err(CaseFailure::runner)?,
        Ending::HigherFeerate => payee.close_at(HIGHER).await.map_err(CaseFailure::runner)?,
        Ending::NeverClosed => run.to_margin(Some(agreed)).await?,
    }
    Ok(())
}

async fn aftermath(run: &Run<'_>, payee: Option<&PayeeHandle>, coin: &Coin) -> Result<(), CaseFailure> {
    let Some(rule) = run.case.rule else {
        return Err(CaseFailure::runner(
            "the conversation ended without a rule of the case",
        ));
    };
    if let (Interference::Kill, Some(payee)) = (rule.interference, payee) {
        return payment_holds(run, payee).await;
    }
    // A side that has disconnected does nothing more.
    if let Some(payee) = payee {
        payee.abort();
    }
    if let Interference::Forge(forgery) = rule.interference {
        run.refused(forgery.reason).await?;
    }
    match payee {
        Some(payee) => refunded(run, &AgreedChannel::of(payee)).await,
        None => nothing_at_stake(run, rule.message.kind, coin).await,
    }
}

/// Checks that the payer takes its refund at the lock, unless the channel is already settled.
pub(super) async fn refunded(run: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    if run.spender(agreed)?.is_none() {
        run.to_expiry(agreed).await?;
        let refund = agreed.refund();
        run.spent("protection", Side::Payer, agreed, &refund).await?;
        run.spent_again(Side::Payer, agreed, &refund).await?;
    }
    run.confirmed().await
}

/// Checks that nothing was broadcast. A payer that hands over the funding transaction on request may wait for the
/// request until the closing margin.
async fn nothing_at_stake(run: &Run<'_>, kind: MessageKind, coin: &Coin) -> Result<(), CaseFailure> {
    if kind == MessageKind::FundingRequest {
        run.to_margin(None).await?;
    }
    run.leaves().await?;
    run.mempool_holds_only(None)?;
    let unspent = run
        .world
        .unspent_is("the payer's coin", coin.outpoint, Some(coin.value()));
    unspent.map_err(|error| {
        let expected = "the payer's coin unspent, because no channel was opened";
        CaseFailure::new("protection", expected, error.to_string())
    })
}

/// The program is dead. Checks that the payment that it signed settles the channel.
async fn payment_holds(run: &Run<'_>, payee: &PayeeHandle) -> Result<(), CaseFailure> {
    let agreed = AgreedChannel::of(payee);
    // Our payee may not have accepted it yet.
    let mut status = payee.status();
    let before = run.heard();
    let taken = status.wait_for(|status| status.received >= u64::from(before.messages));
    let taken = tokio::time::timeout(run.deadline, taken).await;
    taken.map_err(CaseFailure::runner)?.map_err(CaseFailure::runner)?;
    let paid = payee.status().borrow().paid;
    run.to_margin(Some(&agreed)).await?;
    let payment = agreed.payment(paid);
    run.spent("protection", Side::Payee, &agreed, &payment).await?;
    run.mine(1).await
}
