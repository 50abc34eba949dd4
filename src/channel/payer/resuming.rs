use bitcoin::Amount;

use super::Payer;
use crate::channel::durable::{PayerPhase, SignedPayment};
use crate::channel::error::{PaymentError, Refusal};
use crate::channel::event::{Action, Notice};
use crate::channel::message::{Message, MessageKind};
use crate::channel::params::ChannelId;
use crate::channel::protocol::Protocol;
use crate::channel::resume::{HelloRandoms, Resume, Resumed, ResumedState, Unverified};

/// How the payer goes on with a channel on a new connection.
impl Payer {
    pub(super) fn on_reconnected(&mut self, channel: ChannelId, randoms: HelloRandoms) -> Vec<Action> {
        self.channel = channel;
        // What was due on the last connection follows from the answer on this one.
        self.pays_when_ready = false;
        if matches!(self.phase, PayerPhase::Closed | PayerPhase::Abandoned) {
            return Vec::new();
        }
        self.resuming = Some(randoms);
        let resume = Resume {
            funding: self.funding.outpoint(),
            signed: self.sums.paid,
            acknowledged: self.sums.acknowledged,
        };
        let resume = resume.sign(&randoms, &self.params, &self.key);
        vec![self.send(Message::Resume(resume))]
    }

    /// Both sides compare what they hold. What was lost on the way is said again, and of two copies the later one wins:
    /// payments only grow, and each is signed.
    pub(super) fn on_resumed(&mut self, resumed: Unverified<Resumed>) -> Result<Vec<Action>, Refusal> {
        let Some(randoms) = self.resuming else {
            return Err(Refusal::unexpected(self.stage(), MessageKind::Resumed));
        };
        let resumed = resumed.verify(&randoms, self.funding.outpoint(), &self.params)?;
        let held = resumed.latest_payment;
        if let Some(ahead) = held.filter(|held| held.paid > self.sums.paid) {
            self.check_own(ahead)?;
        }
        self.resuming = None;
        let held = held.map(|held| held.paid);
        let mut actions = self.compare(held);
        actions.extend(self.on_peer_state(resumed.state));
        if !matches!(resumed.state, ResumedState::Settled(_) | ResumedState::Closed(_)) {
            actions.extend(self.say_again(held, resumed.state));
        }
        Ok(actions)
    }

    /// A payment that this side has forgotten, if it made it: nobody else could.
    fn check_own(&self, SignedPayment { paid, signature }: SignedPayment) -> Result<(), Refusal> {
        let balance = self.params.balance(paid);
        let balance = balance.ok_or_else(|| PaymentError::ExceedsCapacity {
            spendable: self.params.spendable(),
            received: paid,
        })?;
        let verified = self.template.verify(&self.params, balance, signature);
        verified.map_err(|error| Refusal::ResumeDiffers {
            signed: self.sums.paid,
            held: paid,
            error,
        })?;
        Ok(())
    }

    /// Takes note of what the payee holds.
    fn compare(&mut self, held: Option<Amount>) -> Vec<Action> {
        let notice = if held.is_some_and(|held| held > self.sums.paid) {
            let paid = held.unwrap_or_default();
            self.sums.paid = paid;
            Some(Notice::Recovered { paid })
        } else if self.sums.acknowledged > held {
            let acknowledged = self.acknowledged();
            Some(Notice::PeerRolledBack {
                acknowledged,
                held: held.unwrap_or_default(),
            })
        } else {
            None
        };
        let accepted = held.filter(|_| held > self.sums.acknowledged);
        // What the payee has forgotten it acknowledges once more.
        self.sums.acknowledged = held;
        let accepted = accepted.map(|paid| Notice::PaymentAccepted(self.balance(paid)));
        let notices = notice.into_iter().chain(accepted);
        notices.map(Action::Notify).collect()
    }

    fn on_peer_state(&mut self, state: ResumedState) -> Vec<Action> {
        match (state, self.phase) {
            (ResumedState::Settled(txid) | ResumedState::Closed(Some(txid)), _) => {
                self.phase.start_closing();
                vec![Action::Notify(Notice::PeerSettled { txid })]
            }
            (ResumedState::Closed(None), _) => {
                self.phase.start_closing();
                Vec::new()
            }
            (ResumedState::Open, PayerPhase::AwaitingReady | PayerPhase::Suspended) => {
                self.phase = PayerPhase::Open;
                vec![Action::Notify(Notice::Ready)]
            }
            _ => Vec::new(),
        }
    }

    /// The latest payment, if the payee does not hold it; then the end of the channel, if it was on its way.
    fn say_again(&mut self, held: Option<Amount>, state: ResumedState) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_late = self
            .params
            .terms()
            .too_late(self.seen.tip, self.seen.funding_parent);
        if self.has_signed() && held.is_none_or(|held| held < self.sums.paid) && is_late.is_none() {
            match state {
                // It would be refused before payments count.
                ResumedState::AwaitsFunding => self.pays_when_ready = true,
                _ => actions.push(self.payment()),
            }
        }
        let one_key = self.params.aggregate_key().is_some();
        let asks = state == ResumedState::AwaitsSettlement;
        let agreed = self.params.terms().feerate;
        match self.phase {
            // The payee says again what it asked for, right behind this.
            PayerPhase::AwaitingCooperativeClose | PayerPhase::Closing if one_key && asks => {}
            PayerPhase::AwaitingCooperativeClose => actions.push(self.send(Message::CloseRequest {
                feerate: agreed,
                nonce: None,
            })),
            PayerPhase::Closing if !self.pays_when_ready => actions.push(self.settlement(agreed)),
            _ => {}
        }
        actions
    }

    /// What had to wait until payments count again.
    pub(super) fn pay_when_ready(&mut self) -> Vec<Action> {
        if !std::mem::take(&mut self.pays_when_ready) {
            return Vec::new();
        }
        let mut actions = vec![self.payment()];
        if self.phase == PayerPhase::Closing {
            actions.push(self.settlement(self.params.terms().feerate));
        }
        actions
    }

    /// Whether anything was ever signed: in Example 7, nothing at all is paid first.
    fn has_signed(&self) -> bool {
        let begins_empty = self.params.terms().protocol == Protocol::Example7;
        let was_open = !matches!(self.phase, PayerPhase::Protected | PayerPhase::AwaitingReady);
        self.sums.paid > Amount::ZERO || (begins_empty && was_open)
    }
}
