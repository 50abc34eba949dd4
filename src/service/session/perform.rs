use bitcoin::{Amount, Txid};
use futures_util::FutureExt;

use super::outbox::Due;
use super::Session;
use crate::channel::{Action, BroadcastResult, Event, Notice, RefusalReason, SpendRole};
use crate::service::chain::{in_time, Chain, ChainError};
use crate::service::party::Party;
use crate::service::report::Report;
use crate::service::request::{PayError, Payment, Sum};
use crate::service::resume_error::ResumeError;
use crate::store::StoreError;

/// What a party does: it carries out actions, and signs payments.
impl<P: Party, C: Chain> Session<P, C> {
    /// Carries out actions once what must be stored is, and what follows from the network's answers.
    pub(super) async fn perform(&mut self, actions: Vec<Action>) {
        self.queue(actions);
        self.do_what_is_stored().await;
    }

    fn queue(&mut self, mut actions: Vec<Action>) {
        if self.store_failed.is_some() {
            actions.retain(|action| self.is_safe_unstored(action));
        }
        self.outbox.put(self.party.stored_as(), actions);
    }

    /// Does everything that waits for nothing.
    pub(super) async fn do_what_is_stored(&mut self) {
        while !self.outbox.is_empty() {
            let Some(next) = self.outbox.next().now_or_never() else {
                break;
            };
            self.do_next(next).await;
        }
    }

    /// Waits for the store, and does everything.
    pub(super) async fn catch_up_with_store(&mut self) {
        while !self.outbox.is_empty() {
            let next = self.connection.write_during(self.outbox.next()).await;
            self.do_next(next).await;
        }
    }

    pub(super) async fn do_next(&mut self, next: Option<Result<Due, StoreError>>) {
        match next {
            Some(Ok(Due::Act(action))) => self.carry_out(action).await,
            Some(Ok(Due::Tell(channel))) => self.teller.tell(Report::Stored(&channel)),
            Some(Err(error)) => self.on_store_failed(error),
            None => {}
        }
    }

    /// Nobody knows what the store holds, so nothing may depend on it any more: no acknowledgement, no payment, no close.
    fn on_store_failed(&mut self, error: StoreError) {
        self.teller.tell(Report::StoreFailed(&error));
        self.store_failed = Some(error);
        self.close();
        self.give_up_waiting(None);
    }

    /// What a party still does when its store has failed. A payer's refund is always safe, and a funding transaction that
    /// left is out. A payee's settlement is safe from the closing margin on: no later process accepts a payment after that,
    /// which a settlement that nobody stored could take back.
    fn is_safe_unstored(&self, action: &Action) -> bool {
        match action {
            Action::Persist(_) | Action::Send(_) => false,
            Action::Broadcast { role, .. } | Action::BroadcastPackage { role, .. } => {
                matches!(role, SpendRole::Funding | SpendRole::Refund) || self.party.is_too_late()
            }
            _ => true,
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            // The outbox has dealt with it.
            Action::Persist(_) => {}
            Action::Send(envelope) => self.connection.send(&envelope),
            Action::Notify(notice) => self.on_notice(&notice),
            Action::Broadcast { role, tx } => {
                let chain = &self.chain;
                let asked = Box::pin(in_time("broadcast a transaction", async {
                    chain.broadcast(&tx).await
                }));
                let answer = self.connection.write_during(asked).await;
                if let Ok(rejected) = &answer {
                    let rejected = rejected.as_deref();
                    self.teller.tell(Report::Broadcast {
                        role,
                        tx: &tx,
                        rejected,
                    });
                }
                let actions = self.answered(role, tx.compute_txid(), answer);
                self.queue(actions);
            }
            Action::BroadcastPackage { role, package } => {
                let chain = &self.chain;
                let asked = Box::pin(in_time("submit a package", async {
                    chain.broadcast_package(&package).await
                }));
                let answer = self.connection.write_during(asked).await;
                if let Ok(rejected) = &answer {
                    let (package, rejected) = (&package, rejected.as_deref());
                    self.teller.tell(Report::BroadcastPackage {
                        role,
                        package,
                        rejected,
                    });
                }
                let actions = self.answered(role, package.parent().compute_txid(), answer);
                self.queue(actions);
            }
        }
    }

    /// What follows from the network's answer, or from its silence.
    fn answered(
        &mut self,
        role: SpendRole,
        txid: Txid,
        answer: Result<Option<String>, ChainError>,
    ) -> Vec<Action> {
        let event = match answer {
            Ok(rejected) => {
                if role == SpendRole::Funding {
                    self.funding_rejected.clone_from(&rejected);
                }
                Event::Broadcast(BroadcastResult { role, txid, rejected })
            }
            Err(error) => {
                self.chain_failed(&error);
                Event::BroadcastUnknown { role, txid }
            }
        };
        self.party.apply(event).unwrap_or_else(|error| {
            self.teller.tell(Report::Failed(&error));
            Vec::new()
        })
    }

    fn on_notice(&mut self, notice: &Notice) {
        self.teller.tell(Report::Notice(notice));
        match notice {
            Notice::PaymentAccepted(balance) => {
                self.paid = balance.paid;
                while let Some(waiting) = self.unacknowledged.first_entry() {
                    if *waiting.key() > balance.paid {
                        break;
                    }
                    for reply in waiting.remove() {
                        let _ = reply.send(Ok(*balance));
                    }
                }
            }
            Notice::PeerRefused { reason } => {
                // It has said that it says nothing more.
                self.fail_to_resume(ResumeError::PeerRefused { reason: *reason });
                self.close();
                self.give_up_waiting(Some(*reason));
            }
            Notice::Closed(outcome) => self.outcome = Some(*outcome),
            _ => {}
        }
    }

    /// No acknowledgement will come any more. Whatever each of them asked for, the payee may hold all that was signed.
    pub(super) fn give_up_waiting(&mut self, refused: Option<RefusalReason>) {
        let paid = self.party.paid();
        for reply in std::mem::take(&mut self.unacknowledged).into_values().flatten() {
            let error = refused.map_or(PayError::Unacknowledged { paid }, |reason| PayError::Refused {
                reason,
                paid,
            });
            let _ = reply.send(Err(error));
        }
    }

    pub(super) async fn on_payment(&mut self, payment: Payment) {
        let Payment { sum, signed, reply } = payment;
        let actions = {
            let mut signed = signed.lock();
            // Its caller no longer waits, and may ask again: paying now would pay twice.
            if reply.is_closed() {
                return;
            }
            match self.sign(sum) {
                Ok(Signing::Acknowledged) => {
                    let balance = self.party.acknowledged();
                    let _ = reply.send(balance.ok_or(PayError::Disconnected));
                    return;
                }
                Ok(Signing::Awaited(total, actions)) => {
                    *signed = true;
                    // A caller that gives up from now on learns that this is signed.
                    self.publish();
                    self.unacknowledged.entry(total).or_default().push(reply);
                    actions
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return;
                }
            }
        };
        self.perform(actions).await;
    }

    fn sign(&mut self, sum: Sum) -> Result<Signing, PayError> {
        let paid = self.party.paid();
        let event = match sum {
            Sum::UpTo(total) if total <= self.acknowledged() => return Ok(Signing::Acknowledged),
            Sum::UpTo(total) if total <= paid && self.connection.takes() => {
                return Ok(Signing::Awaited(total, Vec::new()));
            }
            Sum::UpTo(total) if total <= paid => return Err(PayError::Unacknowledged { paid }),
            _ if !self.connection.takes() => return Err(PayError::Disconnected),
            Sum::UpTo(total) => Event::PayUpTo(total),
            Sum::More(amount) => Event::Pay(amount),
        };
        let actions = self.party.apply(event)?;
        Ok(Signing::Awaited(self.party.paid(), actions))
    }

    fn acknowledged(&self) -> Amount {
        self.party
            .acknowledged()
            .map_or(Amount::ZERO, |balance| balance.paid)
    }
}

/// What became of a payment.
enum Signing {
    /// The payee has acknowledged that much already.
    Acknowledged,
    /// So much in total is signed, and the acknowledgement is to come.
    Awaited(Amount, Vec<Action>),
}
