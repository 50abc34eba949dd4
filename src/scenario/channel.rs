use std::cell::Cell;
use std::future::Future;

use bitcoin::{Amount, FeeRate, OutPoint};

use super::error::{expect, ScenarioError};
use super::interceptor::Wire;
use super::machine::Machines;
use super::participant::{Participant, REST};
use super::recorder::Recorder;
use crate::channel::{ChannelParams, Outcome, Stage};
use crate::regtest::Coin;
use crate::service::{Chain, OpenError, PayeeHandle, PayeeSide, PayerHandle, PayerSide, RequestError};
use crate::transcript::{sat, Entry, Side};

/// Two parties, the connection between them, and each one's view of the chain.
pub struct Channel {
    pub(super) payer: Participant<PayerSide>,
    pub(super) payee: Participant<PayeeSide>,
    pub(super) wire: Wire,
    pub(super) recorder: Recorder,
    pub(super) label: String,
    pub(super) coin: Coin,
    pub(super) payments: Cell<u32>,
    /// The machines of both sides, if their channel outlives their processes.
    pub(super) machines: Option<Machines>,
}

impl Channel {
    /// Returns the payer.
    ///
    /// # Errors
    /// If it gave up while opening.
    pub fn payer(&self) -> Result<&PayerHandle, ScenarioError> {
        let handle = self.payer.handle.as_deref();
        handle.ok_or_else(|| self.not_open(Side::Payer, self.payer_error()))
    }

    /// Returns the payee.
    ///
    /// # Errors
    /// If it gave up while opening.
    pub fn payee(&self) -> Result<&PayeeHandle, ScenarioError> {
        let handle = self.payee.handle.as_deref();
        handle.ok_or_else(|| self.not_open(Side::Payee, self.payee_error()))
    }

    fn not_open(&self, who: Side, error: Option<&OpenError>) -> ScenarioError {
        ScenarioError::Unexpected {
            what: format!("the {who}'s opening of {}channel", self.label),
            expected: "an open channel".to_owned(),
            found: error.map_or_else(|| "no channel".to_owned(), ToString::to_string),
        }
    }

    /// Why the payer gave up while opening.
    pub fn payer_error(&self) -> Option<&OpenError> {
        self.payer.error.as_ref()
    }

    /// Why the payee gave up while opening.
    pub fn payee_error(&self) -> Option<&OpenError> {
        self.payee.error.as_ref()
    }

    /// Returns the agreed parameters.
    ///
    /// # Errors
    /// If neither side opened the channel.
    pub fn params(&self) -> Result<&ChannelParams, ScenarioError> {
        match &self.payee.handle {
            Some(payee) => Ok(payee.params()),
            None => Ok(self.payer()?.params()),
        }
    }

    /// Returns the funding output.
    ///
    /// # Errors
    /// If neither side opened the channel.
    pub fn funding(&self) -> Result<OutPoint, ScenarioError> {
        match &self.payee.handle {
            Some(payee) => Ok(payee.funding().outpoint()),
            None => Ok(self.payer()?.funding().outpoint()),
        }
    }

    /// Returns the coin that the payer had at the start.
    pub const fn coin(&self) -> &Coin {
        &self.coin
    }

    pub(super) fn note_failures(&self) {
        let vanished = self.wire.status.borrow().vanished;
        let failures = [
            (Side::Payer, self.payer_error()),
            (Side::Payee, self.payee_error()),
        ];
        for (by, error) in failures {
            if let Some(error) = error.filter(|_| vanished != Some(by)) {
                self.recorder.add(Entry::Notice {
                    by: by.into(),
                    text: format!("gives up: {error}"),
                });
            }
        }
    }

    /// Ends a party that vanished on the wire, and waits until the other has nothing left to do.
    pub(super) async fn rest(&self) -> Result<(), ScenarioError> {
        for _ in 0..2 {
            self.end_vanished();
            // Twice, because what one side does last may be a message for the other.
            self.payer.rest(&self.wire.status).await?;
            self.payee.rest(&self.wire.status).await?;
        }
        Ok(())
    }

    fn end_vanished(&self) {
        match self.wire.status.borrow().vanished {
            Some(Side::Payer) => self.payer.abort(),
            Some(Side::Payee) => self.payee.abort(),
            None => {}
        }
    }

    /// Returns the answer of a party. One that vanishes on the wire is aborted, so that it answers with an error.
    pub(super) async fn answer<T>(&self, asked: impl Future<Output = T>) -> T {
        let mut tap = self.wire.status.clone();
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => return answer,
            Ok(_) = tap.wait_for(|status| status.vanished.is_some()) => self.end_vanished(),
        }
        asked.await
    }

    /// Fixes what both parties see of the chain until the first announcement.
    pub(super) async fn see(&self) {
        let Ok(funding) = self.funding() else { return };
        for chain in [&self.payer.chain, &self.payee.chain] {
            // A party that cannot see the chain says so when it polls.
            let _ = chain.view(funding.into()).await;
        }
    }

    /// Tells both parties to poll the chain, the payer first.
    pub(super) async fn tell(&self) -> Result<(), ScenarioError> {
        for (chain, online) in [
            (&self.payer.chain, &self.payer.online),
            (&self.payee.chain, &self.payee.online),
        ] {
            if online.get() {
                chain.announce()?;
            }
            self.rest().await?;
        }
        Ok(())
    }

    /// Disconnects the party from the chain, until it is [online](Self::online) again.
    pub fn offline(&self, actor: Side) {
        self.cell(actor).set(false);
        self.recorder.add(Entry::Notice {
            by: actor.into(),
            text: "loses its connection to the chain".to_owned(),
        });
    }

    /// Reconnects the party to the chain.
    ///
    /// # Errors
    /// If the parties do not become idle.
    pub async fn online(&self, actor: Side) -> Result<(), ScenarioError> {
        self.cell(actor).set(true);
        self.recorder.add(Entry::Notice {
            by: actor.into(),
            text: "is back and polls the chain".to_owned(),
        });
        self.tell().await
    }

    const fn cell(&self, actor: Side) -> &Cell<bool> {
        match actor {
            Side::Payer => &self.payer.online,
            Side::Payee => &self.payee.online,
        }
    }

    /// Cuts the power of the party's machine.
    ///
    /// # Errors
    /// If the other party does not become idle.
    pub async fn vanish(&self, actor: Side) -> Result<(), ScenarioError> {
        self.recorder.silence(actor);
        self.recorder.add(Entry::Notice {
            by: actor.into(),
            text: "is gone".to_owned(),
        });
        match actor {
            Side::Payer => self.payer.abort(),
            Side::Payee => self.payee.abort(),
        }
        // The wire breaks when the aborted task is dropped, which the other side notices.
        self.end_of_connection(actor).await?;
        self.rest().await
    }

    pub(super) async fn end_of_connection(&self, actor: Side) -> Result<(), ScenarioError> {
        let mut tap = self.wire.status.clone();
        let ended = tokio::time::timeout(REST, tap.wait_for(|status| status.ended)).await;
        ended
            .map_err(|_| ScenarioError::Stuck {
                awaited: format!("the end of the {actor}'s connection"),
                within: REST,
                seen: format!("{:?}", *self.wire.status.borrow()),
            })?
            .ok();
        Ok(())
    }

    /// Pays this amount. The payment with both signatures, as the payee could redeem it, is recorded as `payment-1`,
    /// `payment-2`, ….
    ///
    /// # Errors
    /// If the payment is not acknowledged.
    pub async fn pay(&self, amount: Amount) -> Result<(), ScenarioError> {
        let paid = self.payer()?.pay(amount).await;
        paid.map_err(|source| failed(Side::Payer, "pay", source))?;
        self.rest().await?;
        self.record_payment().await
    }

    /// Pays this amount, and expects a failure.
    ///
    /// # Errors
    /// If the payment is acknowledged.
    pub async fn pay_in_vain(&self, amount: Amount) -> Result<RequestError, ScenarioError> {
        let paid = self.answer(self.payer()?.pay(amount)).await;
        self.rest().await?;
        let error = paid.err().ok_or_else(|| ScenarioError::Unexpected {
            what: "the payment".to_owned(),
            expected: "no acknowledgement".to_owned(),
            found: "acknowledged".to_owned(),
        })?;
        // A vanished party reports nothing.
        if self.wire.status.borrow().vanished != Some(Side::Payer) {
            let text = format!("tries to pay {} more: {error}", sat(amount));
            self.recorder.add(Entry::Notice {
                by: Side::Payer.into(),
                text,
            });
        }
        Ok(error)
    }

    /// Requests this amount (`bond`).
    ///
    /// # Errors
    /// If it cannot.
    pub async fn request(&self, amount: Amount) -> Result<(), ScenarioError> {
        let asked = self.payee()?.request_payment(amount).await;
        asked.map_err(|source| failed(Side::Payee, "ask for a payment", source))?;
        self.rest().await
    }

    /// Records what the payee could broadcast now.
    pub(super) async fn record_payment(&self) -> Result<(), ScenarioError> {
        self.payments.set(self.payments.get() + 1);
        let redeemable = self
            .payee()?
            .redeemable()
            .await
            .map_err(|source| failed(Side::Payee, "redeem its payment", source))?;
        if let Some(payment) = redeemable {
            let name = format!("{}payment-{}", self.label, self.payments.get());
            self.recorder.built(Side::Payee, &name, payment.tx());
        }
        Ok(())
    }

    /// One side begins to close.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn close(&self, by: Side) -> Result<(), ScenarioError> {
        let closed = match by {
            Side::Payer => self.payer()?.close().await,
            Side::Payee => self.payee()?.close().await,
        };
        closed.map_err(|source| failed(by, "close", source))?;
        self.rest().await
    }

    /// One side begins to close, at this feerate if the other agrees.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn close_at(&self, by: Side, feerate: FeeRate) -> Result<(), ScenarioError> {
        let closed = match by {
            Side::Payer => self.payer()?.close_at(feerate).await,
            Side::Payee => self.payee()?.close_at(feerate).await,
        };
        closed.map_err(|source| failed(by, "close", source))?;
        self.rest().await
    }

    /// Returns the stage of a running side.
    ///
    /// # Errors
    /// If it is another.
    pub fn stage_is(&self, actor: Side, stage: Stage) -> Result<(), ScenarioError> {
        let status = match actor {
            Side::Payer => self.payer()?.status(),
            Side::Payee => self.payee()?.status(),
        };
        let found = status.borrow().stage;
        expect(format!("the {actor}'s stage"), &stage, &found)
    }

    /// Returns how the channel ended, as both running sides see it.
    ///
    /// # Errors
    /// If a side has not seen the end, or sees another.
    pub fn ended_with(&self, to_payer: Amount, to_payee: Amount) -> Result<(), ScenarioError> {
        let sides = [
            (Side::Payer, self.payer.running()),
            (Side::Payee, self.payee.running()),
        ];
        for (actor, status) in sides {
            if let Some(status) = status {
                let found: Option<Outcome> = status.borrow().outcome;
                let found = found.map(|outcome| (outcome.to_payer, outcome.to_payee));
                expect(
                    format!("the end that the {actor} sees"),
                    &Some((to_payer, to_payee)),
                    &found,
                )?;
            }
        }
        Ok(())
    }
}

fn failed(who: Side, task: &'static str, source: RequestError) -> ScenarioError {
    ScenarioError::Request {
        who,
        task,
        source: Box::new(source),
    }
}
