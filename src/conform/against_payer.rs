//! Our side is the payee, the program the payer.

use bitcoin::{Amount, ScriptBuf, Transaction};
use tokio::io::DuplexStream;

use super::agreed::{inputs, outputs, Agreed};
use super::case::Life;
use super::failure::{Failure, Halt};
use super::line::Turn;
use super::opening::{failed, Opened};
use super::table::{Table, HIGHER};
use crate::channel::{Kind, Protocol, Stage};
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

pub(super) async fn play(table: &Table<'_>, ours: Ours) -> Result<(), Failure> {
    let coin = ours.coin.clone();
    let mut payee = None;
    match converse(table, ours, &mut payee).await {
        Ok(()) => {}
        Err(Halt::Failed(failure)) => return Err(failure),
        Err(Halt::Cut) => return aftermath(table, payee.as_ref(), &coin).await,
    }
    table.buried().await
}

async fn converse(table: &Table<'_>, ours: Ours, opened: &mut Option<PayeeHandle>) -> Result<(), Halt> {
    let Ours { coin, change, .. } = &ours;
    let (coin, change) = (coin.clone(), change.clone());
    let accepting = service::accept(ours.end, table.view.clone(), ours.setup);
    let payee = match table.opened(accepting).await? {
        Opened::Channel(payee) => opened.insert(payee),
        Opened::Not(error) => return Err(failed(table, &error).into()),
    };
    let agreed = Agreed::of(payee);
    proposed(table, &agreed)?;
    table.funded(&agreed).await?;
    pays_back(&agreed, &table.world.recorded("funding")?, &coin, &change)?;
    let paid = be_paid(table, payee).await?;
    close(table, payee, &agreed).await?;
    table.settled(&agreed, paid).await?;
    Ok(())
}

/// The program proposes what it was told to.
fn proposed(table: &Table<'_>, agreed: &Agreed) -> Result<(), Failure> {
    let (wanted, found) = (&table.terms, agreed.params.terms());
    if wanted == found {
        return Ok(());
    }
    Err(Failure::new(
        "opening",
        format!("an open with {wanted:?}"),
        format!("{found:?}"),
    ))
}

/// The funding transaction takes the coin that the program was given, and leaves the rest of it to the payer.
fn pays_back(agreed: &Agreed, tx: &Transaction, coin: &Coin, change: &ScriptBuf) -> Result<(), Failure> {
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
    Err(Failure::new(
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
async fn be_paid(table: &Table<'_>, payee: &PayeeHandle) -> Result<Amount, Halt> {
    const STAGE: &str = "payment";
    let mut paid = Amount::ZERO;
    for (number, sum) in (1..).zip(table.case.payments()) {
        if table.case.protocol == Protocol::Bond {
            let open = |status: &service::Status| status.stage == Stage::Open;
            table
                .party("confirmation", "our payee to be open", payee.status(), open)
                .await?;
            let asked = payee.request_payment(sum - paid).await;
            asked.map_err(Failure::runner)?;
        }
        let awaited = format!("payment {number}, of {} sat in all", sum.to_sat());
        table
            .said(STAGE, &awaited, |heard| heard.accepted >= Some(sum))
            .await?;
        let accepted = table.heard().accepted;
        if accepted != Some(sum) {
            let seen = format!("a payment of {accepted:?} in all");
            return Err(Failure::new(STAGE, awaited, seen).into());
        }
        record(table, payee, number).await?;
        paid = sum;
    }
    Ok(paid)
}

/// What our payee could broadcast now.
async fn record(table: &Table<'_>, payee: &PayeeHandle, number: u32) -> Result<(), Failure> {
    let payment = payee.redeemable().await.map_err(Failure::runner)?;
    if let Some(payment) = payment {
        let name = format!("payment-{number}");
        table.world.recorder.built(Side::Payee, &name, payment.tx());
    }
    Ok(())
}

/// Our part in the end that the case has.
async fn close(table: &Table<'_>, payee: &PayeeHandle, agreed: &Agreed) -> Result<(), Halt> {
    match table.case.life {
        // The program does it by itself.
        Life::ClosedByPayer => {}
        Life::ClosedByPayee => payee.close().await.map_err(Failure::runner)?,
        Life::HigherFeerate => payee.close_at(HIGHER).await.map_err(Failure::runner)?,
        Life::NeverClosed => table.to_margin(Some(agreed)).await?,
    }
    Ok(())
}

async fn aftermath(table: &Table<'_>, payee: Option<&PayeeHandle>, coin: &Coin) -> Result<(), Failure> {
    let Some(rule) = table.case.rule else {
        return Err(Failure::runner("the conversation ended, and no rule says so"));
    };
    if let (Turn::Kill, Some(payee)) = (rule.turn, payee) {
        return payment_holds(table, payee).await;
    }
    // Who is gone does nothing more.
    if let Some(payee) = payee {
        payee.kill();
    }
    if let Turn::Forge(malice) = rule.turn {
        table.refused(malice.reason).await?;
    }
    match payee {
        Some(payee) => refunded(table, &Agreed::of(payee)).await,
        None => nothing_at_stake(table, rule.kind, coin).await,
    }
}

/// The payer gets everything back at the lock, unless the channel was settled already.
async fn refunded(table: &Table<'_>, agreed: &Agreed) -> Result<(), Failure> {
    if table.spender(agreed)?.is_none() {
        table.to_expiry(agreed).await?;
        table
            .spent("protection", Side::Payer, agreed, &agreed.refund())
            .await?;
    }
    table.buried().await
}

/// Whoever is asked for the funding transaction at the right moment may wait for that, until it is too late for it.
async fn nothing_at_stake(table: &Table<'_>, kind: Kind, coin: &Coin) -> Result<(), Failure> {
    if kind == Kind::FundingRequest {
        table.to_margin(None).await?;
    }
    table.leaves().await?;
    table.mempool_holds_only(None)?;
    let unspent = table
        .world
        .unspent_is("the payer's coin", coin.outpoint, Some(coin.value()));
    unspent.map_err(|error| {
        let expected = "the payer's coin where it was, since there is no channel";
        Failure::new("protection", expected, error.to_string())
    })
}

/// The program is dead. What it signed settles the channel.
async fn payment_holds(table: &Table<'_>, payee: &PayeeHandle) -> Result<(), Failure> {
    let agreed = Agreed::of(payee);
    // Our payee may still be about to take it.
    let mut status = payee.status();
    let before = table.heard();
    let taken = status.wait_for(|status| status.received >= u64::from(before.messages));
    let taken = tokio::time::timeout(table.deadline, taken).await;
    taken.map_err(Failure::runner)?.map_err(Failure::runner)?;
    let paid = payee.status().borrow().paid;
    table.to_margin(Some(&agreed)).await?;
    let payment = agreed.payment(paid);
    table.spent("protection", Side::Payee, &agreed, &payment).await?;
    table.mine(1).await
}
