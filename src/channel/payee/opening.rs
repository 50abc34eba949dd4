use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxOut};

use super::Payee;
use crate::channel::durable::{Change, ChannelState};
use crate::channel::error::{RefundError, Refusal};
use crate::channel::event::{Action, Notice};
use crate::channel::funding::FundingTx;
use crate::channel::keys::{ChannelKey, PayeeKey};
use crate::channel::limits::{check_payout, Limits};
use crate::channel::lock::Tip;
use crate::channel::message::{Envelope, Message};
use crate::channel::params::{ChannelParams, Confirmation, Parties};
use crate::channel::protocol::Protocol;
use crate::channel::stage::Stage;
use crate::channel::transaction::{SpendRole, SpendTemplate};

/// The payee before the channel is funded: [`Accepted`] where it must sign the refund, then [`AwaitsFunding`].
#[derive(Debug)]
#[must_use]
pub struct PayeeOpening<S> {
    key: ChannelKey,
    params: ChannelParams,
    state: S,
}

/// K2 is with the payer.
#[derive(Debug)]
pub struct Accepted {
    limits: Limits,
}

/// The payee has sent everything. If it signed the refund, it knows the funding transaction by its hash.
#[derive(Debug)]
pub struct AwaitsFunding {
    funding: Option<OutPoint>,
    tip: Tip,
}

/// The next step after K2 was sent.
#[derive(Debug)]
#[must_use]
pub enum AcceptedProposal {
    /// The refund, to be signed.
    SignsRefund(PayeeOpening<Accepted>),
    /// The funding transaction: its output lets the payer take its money back without the payee.
    AwaitsFunding(PayeeOpening<AwaitsFunding>),
}

impl AcceptedProposal {
    fn new(key: ChannelKey, params: ChannelParams, limits: Limits, tip: Tip) -> Self {
        if params.terms().construction.has_script_refund() {
            let state = AwaitsFunding { funding: None, tip };
            Self::AwaitsFunding(PayeeOpening { key, params, state })
        } else {
            let state = Accepted { limits };
            Self::SignsRefund(PayeeOpening { key, params, state })
        }
    }

    /// Returns the channel's parameters.
    pub const fn params(&self) -> &ChannelParams {
        match self {
            Self::SignsRefund(opening) => &opening.params,
            Self::AwaitsFunding(opening) => &opening.params,
        }
    }
}

impl PayeeOpening<Accepted> {
    /// Checks a proposal and answers it with K2, which must be a fresh key.
    ///
    /// # Errors
    /// If the message is not a proposal, or the proposal is outside the payee's limits.
    pub fn accept(
        envelope: Envelope,
        key: ChannelKey,
        payout: ScriptBuf,
        limits: Limits,
        tip: Tip,
    ) -> Result<(AcceptedProposal, Envelope), Refusal> {
        let Envelope { channel: id, message } = envelope;
        let Message::Open {
            terms,
            payer_key,
            payer_payout,
        } = message
        else {
            return Err(Refusal::unexpected(Stage::Proposing, message.kind()));
        };
        limits.check(&terms, tip)?;
        check_payout(&payer_payout)?;
        check_payout(&payout)?;
        let payee_key = PayeeKey::new(key.public_key());
        let confirmation = Confirmation {
            depth: (*limits.confirmations.start()).max(1),
            zero_conf_limit: limits.zero_conf_limit,
        };
        let accept = Message::Accept {
            payee_key,
            payee_payout: payout.clone(),
            confirmation,
        };
        let parties = Parties {
            payer_key,
            payee_key,
            payer_payout,
            payee_payout: payout,
        };
        let params = ChannelParams::new(id, terms, parties, confirmation)?;
        let envelope = Envelope {
            channel: id,
            message: accept,
        };
        Ok((AcceptedProposal::new(key, params, limits, tip), envelope))
    }

    /// Returns the channel's parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Signs the refund, after building it again from the agreed terms and the outpoint that the payer
    /// names, and comparing the two field by field. It never signs a digest of the payer.
    ///
    /// # Errors
    /// If the message is not a refund, the refund differs from the agreed one, or its lock is no longer
    /// inside the payee's limits.
    pub fn sign_refund(
        self,
        envelope: Envelope,
        tip: Tip,
    ) -> Result<(PayeeOpening<AwaitsFunding>, Vec<Envelope>), Refusal> {
        let id = self.params.id();
        let message = envelope.for_channel(id)?;
        let Message::RefundRequest { tx } = message else {
            return Err(Refusal::unexpected(Stage::SigningRefund, message.kind()));
        };
        self.state
            .limits
            .check_lock(self.params.terms().refund_lock, tip)?;
        let funding = check_refund(&self.params, &tx)?;
        let signature = SpendTemplate::refund(&self.params, funding)
            .sign(&self.key)
            .to_unverified();
        let mut answers = vec![Message::RefundSignature { signature }];
        if self.params.terms().protocol == Protocol::Bond {
            answers.push(Message::FundingRequest);
        }
        let envelopes = answers
            .into_iter()
            .map(|message| Envelope { channel: id, message })
            .collect();
        Ok((
            PayeeOpening {
                key: self.key,
                params: self.params,
                state: AwaitsFunding {
                    funding: Some(funding),
                    tip,
                },
            },
            envelopes,
        ))
    }
}

/// Compares a refund with the agreed one and returns the outpoint that it spends.
fn check_refund(params: &ChannelParams, tx: &Transaction) -> Result<OutPoint, RefundError> {
    let [input] = &tx.input[..] else {
        return Err(RefundError::InputCount {
            expected: 1,
            received: tx.input.len(),
        });
    };
    let funding = input.previous_output;
    if funding.is_null() {
        return Err(RefundError::NullOutpoint { received: funding });
    }
    let template = SpendTemplate::refund(params, funding);
    let agreed = template.unsigned();
    if !input.script_sig.is_empty() || !input.witness.is_empty() {
        // An empty witness has a size too: the byte that says that it is empty.
        let witness = if input.witness.is_empty() {
            0
        } else {
            input.witness.size()
        };
        return Err(RefundError::AlreadySigned {
            received: input.script_sig.len() + witness,
        });
    }
    check_refund_sequence(agreed.input[0].sequence, input.sequence)?;
    check_refund_lock(params, tx)?;
    if tx.version != agreed.version {
        return Err(RefundError::Version {
            expected: agreed.version,
            received: tx.version,
        });
    }
    check_refund_output(&agreed.output[0], &tx.output)?;
    Ok(funding)
}

fn check_refund_sequence(expected: Sequence, received: Sequence) -> Result<(), RefundError> {
    if received == Sequence::MAX {
        return Err(RefundError::FinalSequence { expected, received });
    }
    if received != expected {
        return Err(RefundError::Sequence { expected, received });
    }
    Ok(())
}

fn check_refund_output(wanted: &TxOut, outputs: &[TxOut]) -> Result<(), RefundError> {
    let [output] = outputs else {
        return Err(RefundError::OutputCount {
            expected: 1,
            received: outputs.len(),
        });
    };
    if output.script_pubkey != wanted.script_pubkey {
        return Err(RefundError::OutputScript {
            expected: wanted.script_pubkey.clone(),
            received: output.script_pubkey.clone(),
        });
    }
    if output.value != wanted.value {
        return Err(RefundError::OutputAmount {
            expected: wanted.value,
            received: output.value,
        });
    }
    Ok(())
}

fn check_refund_lock(params: &ChannelParams, tx: &Transaction) -> Result<(), RefundError> {
    let expected = params.terms().refund_lock;
    let received = tx.lock_time;
    if received == bitcoin::absolute::LockTime::ZERO {
        return Err(RefundError::MissingLock { expected });
    }
    if received != expected.fields().0 {
        return Err(RefundError::WrongLock { expected, received });
    }
    Ok(())
}

impl PayeeOpening<AwaitsFunding> {
    /// Returns the channel's parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Returns the output that the signed refund spends; none if the payee signed none.
    pub const fn funding_outpoint(&self) -> Option<OutPoint> {
        self.state.funding
    }

    /// Checks that the funding transaction is the one whose output the signed refund spends; if this side signed none,
    /// that it has the agreed output. In `example-7` and `bond` the payee broadcasts it.
    ///
    /// # Errors
    /// If it is another message or another transaction.
    pub fn receive_funding(self, envelope: Envelope) -> Result<(Payee, Vec<Action>), Refusal> {
        let message = envelope.for_channel(self.params.id())?;
        let Message::Funding { tx } = message else {
            return Err(Refusal::unexpected(Stage::Protected, message.kind()));
        };
        let funding = match self.state.funding {
            Some(outpoint) => FundingTx::check(&self.params, outpoint, tx)?,
            None => FundingTx::find(&self.params, tx)?,
        };
        let mut actions = Vec::new();
        if funding.is_malleable() {
            actions.push(Action::Notify(Notice::MalleableFunding));
        }
        let early = self.params.zero_conf_limit() > Amount::ZERO && !funding.is_malleable();
        // In the article the payer broadcasts it; a payee that counts payments before it confirms must see it accepted.
        if early || !self.params.terms().protocol.payer_broadcasts_funding() {
            actions.push(Action::broadcast(SpendRole::Funding, funding.tx()));
        }
        let payee = Payee::new(self.key, self.params, funding, self.state.tip);
        let state = Box::new(ChannelState::Payee(payee.state()));
        actions.insert(0, Action::Persist(Change::Insert(state)));
        Ok((payee, actions))
    }
}
