use super::Payee;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction};

use crate::channel::error::{RefundError, Refusal};
use crate::channel::event::{Action, Notice};
use crate::channel::for_channel;
use crate::channel::funding::FundingTx;
use crate::channel::keys::{ChannelKey, PayeeKey};
use crate::channel::limits::{check_payout, Limits};
use crate::channel::lock::Tip;
use crate::channel::message::{Envelope, Message};
use crate::channel::params::{ChannelParams, Parties, Protocol};
use crate::channel::stage::Stage;
use crate::channel::transaction::{Spend, SpendRole};
use crate::channel::unexpected;

/// The payee before the channel is funded: [`Accepted`], then [`RefundSigned`].
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

/// The refund is signed; the funding transaction is known by its hash only.
#[derive(Debug)]
pub struct RefundSigned {
    funding: OutPoint,
    tip: Tip,
}

impl PayeeOpening<Accepted> {
    /// Checks a proposal and answers it with K2, which must be new: its signature will be given away.
    ///
    /// # Errors
    /// If the message is not a proposal, or the proposal is out of the payee's limits.
    pub fn consider(
        envelope: Envelope,
        key: ChannelKey,
        payout: ScriptBuf,
        limits: Limits,
        tip: Tip,
    ) -> Result<(Self, Envelope), Refusal> {
        let Envelope { channel: id, message } = envelope;
        let Message::Open {
            terms,
            payer_key,
            payer_payout,
        } = message
        else {
            return Err(unexpected(Stage::Proposing, &message));
        };
        limits.check(&terms, tip)?;
        check_payout(&payer_payout)?;
        check_payout(&payout)?;
        let payee_key = PayeeKey::new(key.public_key());
        let confirmations = (*limits.confirmations.start()).max(1);
        let accept = Message::Accept {
            payee_key,
            payee_payout: payout.clone(),
            confirmations,
        };
        let parties = Parties {
            payer_key,
            payee_key,
            payer_payout,
            payee_payout: payout,
        };
        let params = ChannelParams::new(id, terms, parties, confirmations)?;
        Ok((
            Self {
                key,
                params,
                state: Accepted { limits },
            },
            Envelope {
                channel: id,
                message: accept,
            },
        ))
    }

    /// The channel's parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// Signs the refund, after building it anew from the agreed terms and the outpoint that the payer
    /// names, and comparing the two field by field. No digest that the payer computed is ever signed.
    ///
    /// # Errors
    /// If the message is not a refund, the refund differs from the agreed one, or its lock has meanwhile
    /// left the payee's window.
    pub fn sign_refund(
        self,
        envelope: Envelope,
        tip: Tip,
    ) -> Result<(PayeeOpening<RefundSigned>, Vec<Envelope>), Refusal> {
        let id = self.params.id();
        let message = for_channel(id, envelope)?;
        let Message::RefundRequest { tx } = message else {
            return Err(unexpected(Stage::SigningRefund, &message));
        };
        self.state.limits.check_expiry(self.params.terms().expiry, tip)?;
        let funding = check_refund(&self.params, &tx)?;
        let signature = Spend::refund(&self.params, funding)
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
                state: RefundSigned { funding, tip },
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
    let template = Spend::refund(params, funding);
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
    let (expected, received) = (agreed.input[0].sequence, input.sequence);
    if received == Sequence::MAX {
        return Err(RefundError::FinalSequence { expected, received });
    }
    if received != expected {
        return Err(RefundError::Sequence { expected, received });
    }
    check_refund_lock(params, tx)?;
    if tx.version != agreed.version {
        return Err(RefundError::Version {
            expected: agreed.version,
            received: tx.version,
        });
    }
    let [output] = &tx.output[..] else {
        return Err(RefundError::OutputCount {
            expected: 1,
            received: tx.output.len(),
        });
    };
    let wanted = &agreed.output[0];
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
    Ok(funding)
}

fn check_refund_lock(params: &ChannelParams, tx: &Transaction) -> Result<(), RefundError> {
    let expected = params.terms().expiry;
    let received = tx.lock_time;
    if received == bitcoin::absolute::LockTime::ZERO {
        return Err(RefundError::MissingLock { expected });
    }
    if received != expected.to_lock_time() {
        return Err(RefundError::WrongLock { expected, received });
    }
    Ok(())
}

impl PayeeOpening<RefundSigned> {
    /// The channel's parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// The output that the refund spends.
    #[must_use]
    pub const fn funding_outpoint(&self) -> OutPoint {
        self.state.funding
    }

    /// Checks that the funding transaction is the one whose output the refund spends. In `example-7` and
    /// `bond` the payee broadcasts it.
    ///
    /// # Errors
    /// If it is another message or another transaction.
    pub fn receive_funding(self, envelope: Envelope) -> Result<(Payee, Vec<Action>), Refusal> {
        let message = for_channel(self.params.id(), envelope)?;
        let Message::Funding { tx } = message else {
            return Err(unexpected(Stage::Protected, &message));
        };
        let funding = FundingTx::check(&self.params, self.state.funding, tx)?;
        let mut actions = Vec::new();
        if funding.is_malleable() {
            actions.push(Action::Notify(Notice::MalleableFunding));
        }
        match self.params.terms().protocol {
            Protocol::SteppedLocktime => {}
            Protocol::Example7 | Protocol::Bond => {
                actions.push(Action::Broadcast {
                    role: SpendRole::Funding,
                    tx: funding.tx().clone(),
                });
            }
        }
        let payee = Payee {
            key: self.key,
            params: self.params,
            funding,
            stage: Stage::AwaitingFunding,
            best: None,
            settlement: None,
            view: None,
            offered: self.state.tip,
        };
        Ok((payee, actions))
    }
}
