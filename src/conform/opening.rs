//! How an opening ends, and the answer to a forged message.

use std::future::Future;

use super::failure::{CaseFailure, Stop};
use super::run::Run;
use crate::channel::{Message, MessageKind, RefusalReason, Stage};
use crate::service::OpenError;
use crate::transcript::Side;

impl Run<'_> {
    /// Waits for our side to open the channel. Each message has a separate deadline.
    pub async fn opened<H>(&self, opening: impl Future<Output = Result<H, OpenError>>) -> Result<H, Stop> {
        let mut heard = self.link.heard.clone();
        tokio::select! {
            biased;
            // A program that is killed on purpose has signed before, so our side goes on without it.
            Ok(_) = heard.wait_for(|heard| heard.cut || heard.fault.is_some()) => {
                if self.heard().fault.is_some() {
                    let expected = format!("{} and the messages after it", self.awaited(None));
                    Err(self.missed("opening", expected).await.into())
                } else {
                    Err(Stop::Cut)
                }
            }
            opened = opening => match opened {
                Ok(handle) => Ok(handle),
                Err(error) => Err(self.not_opened(&error).await.into()),
            },
        }
    }

    /// Returns the message that our side waits for in an opening.
    fn awaited(&self, stage: Option<Stage>) -> MessageKind {
        match (self.ours(), stage) {
            (Side::Payer, Some(Stage::SigningRefund)) => MessageKind::RefundSignature,
            (Side::Payer, _) => MessageKind::Accept,
            (Side::Payee, Some(Stage::SigningRefund)) => MessageKind::RefundRequest,
            (Side::Payee, Some(Stage::Protected)) => MessageKind::Funding,
            (Side::Payee, _) => MessageKind::Open,
        }
    }

    /// Checks that the program answers a forged message with this refusal and with nothing else.
    pub async fn refused(&self, reason: RefusalReason) -> Result<(), CaseFailure> {
        const STAGE: &str = "refusal";
        let expected = format!("refuse with {reason}");
        let mut heard = self.link.heard.clone();
        let answered = heard.wait_for(|heard| heard.answer.is_some() || heard.ended || heard.fault.is_some());
        // The result is read below.
        let _ = tokio::time::timeout(self.deadline, answered).await;
        match self.heard().answer {
            Some(Message::Refuse { reason: said }) if said == reason => Ok(()),
            Some(Message::Refuse { reason: said }) => {
                Err(CaseFailure::new(STAGE, expected, format!("refuse with {said}")))
            }
            Some(message) => Err(CaseFailure::new(STAGE, expected, message.kind().to_string())),
            None => Err(self.missed(STAGE, expected).await),
        }
    }

    /// Returns why there is no channel.
    async fn not_opened(&self, error: &OpenError) -> CaseFailure {
        const STAGE: &str = "opening";
        match error {
            OpenError::Timeout { stage, .. } | OpenError::Disconnected { stage } => {
                self.missed(STAGE, self.awaited(Some(*stage)).to_string()).await
            }
            OpenError::Refused(refusal) => CaseFailure::new(
                STAGE,
                "a message that our side can accept",
                format!(
                    "one that our side must refuse with {}: {refusal}",
                    refusal.reason()
                ),
            ),
            error => CaseFailure::runner(error),
        }
    }
}
