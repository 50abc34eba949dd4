//! Our side is the payee, the program the payer.

use bitcoin::{Amount, ScriptBuf, Transaction};
use tokio::io::DuplexStream;

use super::agreed::{inputs, outputs, AgreedChannel};
use super::case::{Ending, Interference};
use super::failure::{CaseFailure, Stop};
use super::opening::{failed, Opened};
use super::run::{Run, HIGHER};
use crate::channel::{MessageKind, Protocol, Stage};
use crate::regtest::Coin;
use crate::service::{self, PayeeHandle};
use crate::transcript::Side;

/// What our payee has, besides the table, and the coin of the program's.
pub(super) struct Ours {
    pub end: DuplexStream,
    pub setup: service::Setup,
    pub coin: Coin,
    /// Where the rest of the coin goes.
    pub change: ScriptBuf,
}

pub(super) async fn play(table: &Run<'_>, ours: Ours) -> Result<(), CaseFailure> {
    let coin = ours.coin.clone();
    let mut payee = None;
    match converse(table, ours, &mut payee).await {
        Ok(()) => {}
        Err(Stop::Failed(failure)) => return Err(failure),
        Err(Stop::Cut) => return aftermath(table, payee.as_ref(), &coin).await,
    }
    table.confirmed().await
}

async fn converse(table: &Run<'_>, ours: Ours, opened: &mut Option<PayeeHandle>) -> Result<(), Stop> {
    let Ours { coin, change, .. } = &ours;
    let (coin, change) = (coin.clone(), change.clone());
    let accepting = ours.setup.accept(ours.end, table.view.clone());
    let payee = match table.opened(accepting).await? {
        Opened::Channel(payee) => opened.insert(payee),
        Opened::Not(error) => return Err(failed(table, &error).into()),
    };
    let agreed = AgreedChannel::of(payee);
    proposed(table, &agreed)?;
    table.funded(&agreed).await?;
    pays_back(&agreed, &table.world.recorded("funding")?, &coin, &change)?;
    let paid = be_paid(table, payee).await?;
    close(table, payee, &agreed).await?;
    table.settled(&agreed, paid).await?;
    Ok(())
}

/// The program proposes what it was told to.
fn proposed(table: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    let (wanted, found) = (&table.terms, agreed.params.terms());
    if wanted == found {
        return Ok(());
    }
    Err(CaseFailure::new(
        "opening",
        format!("an open with {wanted:?}"),
        format!("{found:?}"),
    ))
}

/// The funding transaction takes the coin that the program was given, and leaves the rest of it to the payer.
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

/// Every payment; in `bond` each is asked for.
async fn be_paid(table: &Run<'_>, payee: &PayeeHandle) -> Result<Amount, Stop> {
    const STAGE: &str = "payment";
    let mut paid = Amount::ZERO;
    for (number, sum) in (1..).zip(table.case.payments()) {
        if table.case.protocol == Protocol::Bond {
            let open = |status: &service::Status| status.stage == Stage::Open;
            table
                .party("confirmation", "our payee to be open", payee.status(), open)
                .await?;
            let asked = payee.request_payment(sum - paid).await;
            asked.map_err(CaseFailure::runner)?;
        }
        let awaited = format!("payment {number}, of {} sat in total", sum.to_sat());
        table
            .said(STAGE, &awaited, |heard| heard.accepted >= Some(sum))
            .await?;
        let accepted = table.heard().accepted;
        if accepted != Some(sum) {
            let seen = format!("a payment of {accepted:?} in total");
            return Err(CaseFailure::new(STAGE, awaited, seen).into());
        }
        record(table, payee, number).await?;
        paid = sum;
    }
    Ok(paid)
}

/// What our payee could broadcast now.
async fn record(table: &Run<'_>, payee: &PayeeHandle, number: u32) -> Result<(), CaseFailure> {
    let payment = payee.redeemable().await.map_err(CaseFailure::runner)?;
    if let Some(payment) = payment {
        let name = format!("payment-{number}");
        table.world.recorder.built(Side::Payee, &name, payment.tx());
    }
    Ok(())
}

/// Our part in the end that the case has.
async fn close(table: &Run<'_>, payee: &PayeeHandle, agreed: &AgreedChannel) -> Result<(), Stop> {
    match table.case.life {
        // The program does it by itself.
        Ending::ClosedByPayer => {}
        Ending::ClosedByPayee => payee.close().await.map_err(CaseFailure::runner)?,
        Ending::HigherFeerate => payee.close_at(HIGHER).await.map_err(CaseFailure::runner)?,
        Ending::NeverClosed => table.to_margin(Some(agreed)).await?,
    }
    Ok(())
}

async fn aftermath(table: &Run<'_>, payee: Option<&PayeeHandle>, coin: &Coin) -> Result<(), CaseFailure> {
    let Some(rule) = table.case.rule else {
        return Err(CaseFailure::runner(
            "the conversation ended without a rule of the case",
        ));
    };
    if let (Interference::Kill, Some(payee)) = (rule.turn, payee) {
        return payment_holds(table, payee).await;
    }
    // Who is gone does nothing more.
    if let Some(payee) = payee {
        payee.abort();
    }
    if let Interference::Forge(forgery) = rule.turn {
        table.refused(forgery.reason).await?;
    }
    match payee {
        Some(payee) => refunded(table, &AgreedChannel::of(payee)).await,
        None => nothing_at_stake(table, rule.kind, coin).await,
    }
}

/// The payer gets everything back at the lock, unless the channel was settled already.
async fn refunded(table: &Run<'_>, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
    if table.spender(agreed)?.is_none() {
        table.to_expiry(agreed).await?;
        table
            .spent("protection", Side::Payer, agreed, &agreed.refund())
            .await?;
    }
    table.confirmed().await
}

/// A payer that hands over the funding transaction on request may wait for the request until it is too late.
async fn nothing_at_stake(table: &Run<'_>, kind: MessageKind, coin: &Coin) -> Result<(), CaseFailure> {
    if kind == MessageKind::FundingRequest {
        table.to_margin(None).await?;
    }
    table.leaves().await?;
    table.mempool_holds_only(None)?;
    let unspent = table
        .world
        .unspent_is("the payer's coin", coin.outpoint, Some(coin.value()));
    unspent.map_err(|error| {
        let expected = "the payer's coin unspent, because no channel was opened";
        CaseFailure::new("protection", expected, error.to_string())
    })
}

/// The program is dead. What it signed settles the channel.
async fn payment_holds(table: &Run<'_>, payee: &PayeeHandle) -> Result<(), CaseFailure> {
    let agreed = AgreedChannel::of(payee);
    // Our payee may still be about to take it.
    let mut status = payee.status();
    let before = table.heard();
    let taken = status.wait_for(|status| status.received >= u64::from(before.messages));
    let taken = tokio::time::timeout(table.deadline, taken).await;
    taken.map_err(CaseFailure::runner)?.map_err(CaseFailure::runner)?;
    let paid = payee.status().borrow().paid;
    table.to_margin(Some(&agreed)).await?;
    let payment = agreed.payment(paid);
    table.spent("protection", Side::Payee, &agreed, &payment).await?;
    table.mine(1).await
}
