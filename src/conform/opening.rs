//! How an opening ends, and the answer to a lie.

use std::future::Future;

use super::failure::{Failure, Halt};
use super::table::Table;
use crate::channel::{Kind, Message, Reason, Stage};
use crate::service::OpenError;
use crate::transcript::Side;

pub(super) enum Opened<H> {
    Channel(H),
    Not(OpenError),
}

impl Table<'_> {
    /// Waits for the opening of our side. Every message of it has its own deadline.
    pub async fn opened<H>(
        &self,
        opening: impl Future<Output = Result<H, OpenError>>,
    ) -> Result<Opened<H>, Halt> {
        let mut heard = self.line.heard.clone();
        tokio::select! {
            biased;
            // A program that is killed on purpose has signed by then, and our side goes on without it.
            Ok(_) = heard.wait_for(|heard| heard.cut || heard.fault.is_some()) => {
                if self.heard().fault.is_some() {
                    Err(self.missed("opening", format!("{} and what follows", self.awaited(None))).into())
                } else {
                    Err(Halt::Cut)
                }
            }
            opened = opening => Ok(match opened {
                Ok(handle) => Opened::Channel(handle),
                Err(error) => Opened::Not(error),
            }),
        }
    }

    /// The message that our side waits for in an opening.
    fn awaited(&self, stage: Option<Stage>) -> Kind {
        match (self.ours(), stage) {
            (Side::Payer, Some(Stage::SigningRefund)) => Kind::RefundSignature,
            (Side::Payer, _) => Kind::Accept,
            (Side::Payee, Some(Stage::SigningRefund)) => Kind::RefundRequest,
            (Side::Payee, Some(Stage::Protected)) => Kind::Funding,
            (Side::Payee, _) => Kind::Open,
        }
    }

    /// The program answers a lie with this refusal and with nothing else.
    pub async fn refused(&self, reason: Reason) -> Result<(), Failure> {
        const STAGE: &str = "refusal";
        let expected = format!("refuse for {reason}");
        let mut heard = self.line.heard.clone();
        let answered = heard.wait_for(|heard| heard.answer.is_some() || heard.ended || heard.fault.is_some());
        // Whatever it was, it is told below.
        let _ = tokio::time::timeout(self.deadline, answered).await;
        match self.heard().answer {
            Some(Message::Refuse { reason: said }) if said == reason => Ok(()),
            Some(Message::Refuse { reason: said }) => {
                Err(Failure::new(STAGE, expected, format!("refuse for {said}")))
            }
            Some(message) => Err(Failure::new(STAGE, expected, message.kind().to_string())),
            None => Err(self.missed(STAGE, expected)),
        }
    }
}

/// Why there is no channel.
pub(super) fn failed(table: &Table<'_>, error: &OpenError) -> Failure {
    const STAGE: &str = "opening";
    match error {
        OpenError::Timeout { stage, .. } | OpenError::Disconnected { stage } => {
            table.missed(STAGE, table.awaited(Some(*stage)).to_string())
        }
        OpenError::Refused(refusal) => Failure::new(
            STAGE,
            "a message that our side can take",
            format!("one that it has to refuse for {}: {refusal}", refusal.reason()),
        ),
        error => Failure::runner(error),
    }
}
