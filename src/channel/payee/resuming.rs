use super::{Payee, State};
use crate::channel::error::Refusal;
use crate::channel::event::Action;
use crate::channel::message::{Message, MessageKind};
use crate::channel::params::ChannelId;
use crate::channel::resume::{HelloRandoms, Resume, Resumed, ResumedState, Unverified};
use crate::channel::transaction::PaymentTx;

/// How the payee goes on with a channel on a new connection.
impl Payee {
    pub(super) fn on_reconnected(&mut self, channel: ChannelId, randoms: HelloRandoms) {
        self.channel = channel;
        self.peer_gone = false;
        self.resuming = Some(randoms);
        // The answer to it will not come any more, and a nonce is never told twice.
        self.asked_with = None;
    }

    pub(super) fn on_resume(&mut self, resume: Unverified<Resume>) -> Result<Vec<Action>, Refusal> {
        let Some(randoms) = self.resuming else {
            return Err(Refusal::unexpected(self.stage(), MessageKind::Resume));
        };
        let resume = resume.verify(&randoms, &self.params)?;
        let funding = self.funding.outpoint();
        if resume.funding != funding {
            return Err(Refusal::UnknownChannel {
                funding: resume.funding,
            });
        }
        let signed = resume.signed;
        if let Some(acknowledged) = resume.acknowledged.filter(|acknowledged| *acknowledged > signed) {
            return Err(Refusal::AcknowledgedUnsigned { acknowledged, signed });
        }
        (self.resuming, self.resumed) = (None, true);
        let state = self.resumed_state();
        // A parked payment does not count yet, and the payer says it again.
        let latest_payment = self.payments.latest.as_ref().map(PaymentTx::signed);
        let resumed = Resumed {
            latest_payment,
            state,
        };
        let resumed = resumed.sign(&randoms, funding, &self.params, &self.key);
        let mut actions = vec![self.send(Message::Resumed(resumed))];
        // It may not have asked yet, if it saw a spend that is gone again.
        if state == ResumedState::AwaitsSettlement {
            actions.extend(self.answer_close(self.params.terms().feerate));
        }
        Ok(actions)
    }

    fn resumed_state(&self) -> ResumedState {
        let spend = self.sight.visible_spend();
        match &self.state {
            State::AwaitingFunding | State::Suspended => ResumedState::AwaitsFunding,
            State::Open => ResumedState::Open,
            State::AwaitingSettlement { .. } => {
                spend.map_or(ResumedState::AwaitsSettlement, ResumedState::Settled)
            }
            State::Settling(claim) => ResumedState::Settled(claim.spend().tx().compute_txid()),
            State::Closed(claim) => {
                let settlement = claim.as_ref().map(|claim| claim.spend().tx().compute_txid());
                let spent = self.outcome.map(|outcome| outcome.txid);
                ResumedState::Closed(spent.or(settlement))
            }
        }
    }
}
