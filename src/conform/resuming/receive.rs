use std::sync::Arc;

use bitcoin::Amount;
use tokio::io::DuplexStream;

use super::our_side::OurParties;
use super::{Lives, STAGE};
use crate::channel::{Features, Protocol, Stage};
use crate::conform::agreed::AgreedChannel;
use crate::conform::failure::{CaseFailure, Stop};
use crate::conform::run::Run;
use crate::service::{PayeeHandle, Status};

/// Our side is the payee, the program the payer.
impl Lives<'_> {
    pub(super) async fn receive(
        &mut self,
        run: &Run<'_>,
        ours: &OurParties,
        end: DuplexStream,
    ) -> Result<(), Stop> {
        let manager = ours.manager.clone();
        tokio::spawn(async move { manager.accept(end, None).await });
        greeted(run).await?;
        let is_new = self.agreed.is_none();
        let payee = match self.funding().map(|funding| ours.manager.payee(funding)) {
            Some(Some(payee)) => self.is_resumed(run, payee).await?,
            Some(None) => return Err(CaseFailure::runner("our payee has ended").into()),
            None => {
                let opened = || Ok(ours.manager.payees().pop());
                let payee = run.until("opening", "an open channel", opened).await?;
                self.agreed = Some(AgreedChannel::of(&payee));
                payee
            }
        };
        self.confirms(run, is_new).await?;
        for sum in run.case.payments() {
            be_paid(run, &payee, sum, is_new).await?;
        }
        self.ends(run).await
    }

    async fn is_resumed(&self, run: &Run<'_>, payee: Arc<PayeeHandle>) -> Result<Arc<PayeeHandle>, Stop> {
        run.said(STAGE, "resume", |heard| heard.resume.is_some()).await?;
        self.remembers(run)?;
        let is_back = |status: &Status| status.connected;
        run.party(STAGE, "resume", payee.status(), is_back).await?;
        let held = payee.status().borrow().paid;
        let signed = run.heard().resume.map(|resume| resume.signed);
        // In Example 7, nothing at all is paid first.
        if let Some(signed) = signed.filter(|signed| *signed > held && !self.unconfirmed) {
            let again = format!("the payment of {} sat in total again", signed.to_sat());
            run.said(STAGE, &again, |heard| heard.accepted >= Some(signed))
                .await?;
        }
        Ok(payee)
    }
}

/// Waits for the program's hello. A payer that begins with another message resumes nothing.
async fn greeted(run: &Run<'_>) -> Result<(), Stop> {
    run.said("opening", "hello", |heard| heard.messages > 0).await?;
    let heard = run.heard();
    match (heard.hello, heard.last_kind()) {
        (Some(features), _) if features.contains(Features::RESUME) => Ok(()),
        (Some(_), _) => Err(Stop::NotApplicable(
            "its hello does not have the feature resume".to_owned(),
        )),
        (None, kind) => Err(Stop::NotApplicable(format!(
            "it begins with {}, not with hello",
            kind.map_or("nothing", |kind| kind.name())
        ))),
    }
}

/// Waits for the payment of this sum, unless it was made; in `bond`, requests it.
async fn be_paid(run: &Run<'_>, payee: &PayeeHandle, sum: Amount, is_new: bool) -> Result<(), Stop> {
    const STAGE: &str = "payment";
    let status = payee.status().borrow().clone();
    let is_paid = status.paid >= sum && (sum > Amount::ZERO || !is_new);
    if is_paid || matches!(status.stage, Stage::Closing | Stage::Closed) {
        return Ok(());
    }
    if run.case.protocol == Protocol::Bond {
        let open = |status: &Status| status.stage == Stage::Open;
        run.party("confirmation", "our payee to be open", payee.status(), open)
            .await?;
        let asked = payee.request_payment(sum - status.paid).await;
        asked.map_err(CaseFailure::runner)?;
    }
    let awaited = format!("a payment of {} sat in total", sum.to_sat());
    run.said(STAGE, &awaited, |heard| heard.accepted >= Some(sum))
        .await
}
