use std::sync::Arc;

use bitcoin::{Amount, TxOut};
use tokio::io::DuplexStream;

use super::our_side::OurParties;
use super::{Lives, STAGE};
use crate::channel::{ChannelId, Features, MessageKind, Protocol, RefusalReason, Stage};
use crate::conform::agreed::AgreedChannel;
use crate::conform::failure::{CaseFailure, Stop};
use crate::conform::frames::WireFault;
use crate::conform::run::Run;
use crate::scenario::{fund, payout};
use crate::service::{wallet_fn, HelloError, PayeeConnection, PayerHandle, Proposal, Status};
use crate::transcript::Side;

/// Our side is the payer, the program the payee.
impl Lives<'_> {
    pub(super) async fn pay(
        &mut self,
        run: &Run<'_>,
        ours: &OurParties,
        end: DuplexStream,
    ) -> Result<(), Stop> {
        let connection = greet(run, end).await?;
        let is_new = self.agreed.is_none();
        let payer = match self.funding().map(|funding| ours.manager.payer(funding)) {
            Some(Some(payer)) => self.resume(run, payer, &connection).await?,
            Some(None) => return Err(CaseFailure::runner("our payer has ended").into()),
            None => self.open(run, ours, &connection).await?,
        };
        self.confirms(run, is_new).await?;
        let is_open = |status: &Status| matches!(status.stage, Stage::Open | Stage::Closing);
        run.party("confirmation", "ready", payer.status(), is_open)
            .await?;
        if payer.status().borrow().stage == Stage::Open {
            for sum in run.case.payments() {
                pay_up_to(run, &payer, sum, is_new).await?;
            }
            payer.close().await.map_err(CaseFailure::runner)?;
        }
        self.ends(run).await
    }

    async fn open(
        &mut self,
        run: &Run<'_>,
        ours: &OurParties,
        connection: &PayeeConnection,
    ) -> Result<Arc<PayerHandle>, Stop> {
        let parties = &self.launcher.parties;
        let (coin, change) = (&parties.coin, payout(&parties.key(Side::Payer)));
        let feerate = run.terms.feerate;
        let wallet = wallet_fn(|output: &TxOut| fund(coin, output, feerate, &change));
        let (id, terms) = (ChannelId(1), run.terms.clone());
        let stream = connection.channel(id).await.map_err(CaseFailure::runner)?;
        let payer = run
            .opened(ours.manager.open(stream, Proposal { id, terms }, wallet))
            .await?;
        self.agreed = Some(AgreedChannel::of(&payer));
        Ok(payer)
    }

    async fn resume(
        &self,
        run: &Run<'_>,
        payer: Arc<PayerHandle>,
        connection: &PayeeConnection,
    ) -> Result<Arc<PayerHandle>, Stop> {
        let resumed = run.unless_cut(STAGE, "resumed", payer.resume(connection)).await?;
        if let Err(error) = resumed {
            let failure = run.missed(STAGE, "resumed").await;
            return Err(failure.but(&error.to_string()).into());
        }
        self.remembers(run)?;
        Ok(payer)
    }
}

/// Says hello. A payee that does not know it resumes nothing.
async fn greet(run: &Run<'_>, end: DuplexStream) -> Result<PayeeConnection, Stop> {
    match PayeeConnection::new(end).await {
        Ok(connection) if connection.features().contains(Features::RESUME) => Ok(connection),
        Ok(_) => Err(Stop::NotApplicable(
            "its hello does not have the feature resume".to_owned(),
        )),
        Err(HelloError::Refused(refusal)) => {
            let seen = format!(
                "one that our side must refuse with {}: {refusal}",
                refusal.reason()
            );
            Err(CaseFailure::new(STAGE, "hello", seen).into())
        }
        Err(error) => Err(match run.heard().fault {
            Some(WireFault::Refuses {
                kind: MessageKind::Hello,
                reason: reason @ (RefusalReason::Malformed | RefusalReason::UnexpectedMessage),
            }) => Stop::NotApplicable(format!("it refuses hello with {reason}")),
            _ => run.missed(STAGE, "hello").await.but(&error.to_string()).into(),
        }),
    }
}

/// Pays up to this sum, unless that is done.
async fn pay_up_to(run: &Run<'_>, payer: &PayerHandle, sum: Amount, is_new: bool) -> Result<(), Stop> {
    const STAGE: &str = "payment";
    if sum == Amount::ZERO {
        // Example 7 begins with a payment of zero. What is said of it once is not said again.
        let accepted = "payment-accepted for 0 sat in total";
        if is_new {
            run.said(STAGE, accepted, |heard| heard.accepted.is_some())
                .await?;
        }
        return Ok(());
    }
    let is_signed = payer.status().borrow().paid >= sum;
    if run.case.protocol == Protocol::Bond && !is_signed {
        let request = format!("a payment-request for {} sat in total", sum.to_sat());
        run.said(STAGE, &request, |heard| heard.requested >= Some(sum))
            .await?;
    }
    let awaited = format!("payment-accepted for {} sat in total", sum.to_sat());
    let answer = run.unless_cut(STAGE, &awaited, payer.pay_up_to(sum)).await?;
    if let Err(error) = answer {
        return Err(run.missed(STAGE, &awaited).await.but(&error.to_string()).into());
    }
    Ok(())
}
