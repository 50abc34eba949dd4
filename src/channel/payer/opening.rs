use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use thiserror::Error;

use super::{Payer, Promises};
use crate::channel::claim::Claim;
use crate::channel::construction::Construction;
use crate::channel::error::Refusal;
use crate::channel::event::Action;
use crate::channel::funding::{FundingError, FundingTx};
use crate::channel::keys::{ChannelKey, PayerKey};
use crate::channel::limits::{check_payout, check_room, Limits, TermsError};
use crate::channel::lock::Tip;
use crate::channel::message::{Envelope, Message};
use crate::channel::params::{ChannelId, ChannelParams, Parties};
use crate::channel::script_check::SpendError;
use crate::channel::stage::Stage;
use crate::channel::terms::Terms;
use crate::channel::transaction::{RefundTx, SpendTemplate};

/// The largest funding transaction, in bytes, that fits into one message.
pub const MAX_FUNDING_SIZE: usize = 3_900;

/// The payer before its money is locked. The type says what is proven so far: [`Proposed`], [`Agreed`],
/// [`Funded`], [`Protected`]; only the last gives access to the funding transaction.
///
/// ```
/// use spilman::channel::{Action, Payer, PayerOpening, Protected};
///
/// fn fund(opening: PayerOpening<Protected>) -> (Payer, Vec<Action>) {
///     opening.into_payer()
/// }
/// ```
///
/// There is no such way from [`Funded`], where the refund is not signed yet:
///
/// ```compile_fail,E0599
/// use spilman::channel::{Action, Funded, Payer, PayerOpening};
///
/// fn fund(opening: PayerOpening<Funded>) -> (Payer, Vec<Action>) {
///     opening.into_payer()
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct PayerOpening<S> {
    key: ChannelKey,
    state: S,
}

/// K1 and the terms are with the payee.
#[derive(Debug)]
pub struct Proposed {
    id: ChannelId,
    terms: Terms,
    payout: ScriptBuf,
    limits: Limits,
    tip: Tip,
}

/// Both keys are known, and with them the funding output.
#[derive(Debug)]
pub struct Agreed {
    params: ChannelParams,
    tip: Tip,
    malleable_funding: bool,
    promises: Promises,
}

/// The funding transaction is signed and held; the payee is asked to sign the refund.
#[derive(Debug)]
pub struct Funded {
    agreed: Agreed,
    funding: FundingTx,
}

/// The refund carries every signature that it needs. Keep it where it survives a crash, then
/// hand over the funding transaction with [`into_payer`](PayerOpening::into_payer).
#[derive(Debug)]
pub struct Protected {
    agreed: Agreed,
    funding: FundingTx,
    refund: RefundTx,
}

impl PayerOpening<Proposed> {
    /// Step 1: propose terms, with K1.
    ///
    /// # Errors
    /// If the terms are outside the payer's own limits, or the payout script is not standard.
    pub fn propose(
        id: ChannelId,
        terms: Terms,
        key: ChannelKey,
        payout: ScriptBuf,
        limits: Limits,
        tip: Tip,
    ) -> Result<(Self, Envelope), TermsError> {
        limits.check(&terms, tip)?;
        check_payout(&payout)?;
        let message = Message::Open {
            terms: terms.clone(),
            payer_key: PayerKey::new(key.public_key()),
            payer_payout: payout.clone(),
        };
        Ok((
            Self {
                key,
                state: Proposed {
                    id,
                    terms,
                    payout,
                    limits,
                    tip,
                },
            },
            Envelope { channel: id, message },
        ))
    }

    /// Returns the payee's answer, with K2.
    ///
    /// # Errors
    /// If it is another message, or asks for more confirmations than the payer's limits allow, or the
    /// two contributions do not make a channel.
    pub fn accept(self, envelope: Envelope) -> Result<PayerOpening<Agreed>, Refusal> {
        let Proposed {
            id,
            terms,
            payout,
            limits,
            tip,
        } = self.state;
        let message = envelope.for_channel(id)?;
        let Message::Accept {
            payee_key,
            payee_payout,
            confirmation,
        } = message
        else {
            return Err(Refusal::unexpected(Stage::Proposing, message.kind()));
        };
        check_payout(&payee_payout)?;
        limits.check_confirmations(confirmation.depth)?;
        check_room(&terms, tip, confirmation.depth)?;
        let parties = Parties {
            payer_key: PayerKey::new(self.key.public_key()),
            payee_key,
            payer_payout: payout,
            payee_payout,
        };
        let params = ChannelParams::new(id, terms, parties, confirmation)?;
        Ok(PayerOpening {
            key: self.key,
            state: Agreed {
                params,
                tip,
                malleable_funding: limits.malleable_funding,
                promises: Promises::of(&limits),
            },
        })
    }
}

impl PayerOpening<Agreed> {
    /// Returns the channel's parameters.
    pub const fn params(&self) -> &ChannelParams {
        &self.state.params
    }

    /// Returns the output that the funding transaction must have.
    pub fn funding_output(&self) -> TxOut {
        self.state.params.funding_output()
    }

    /// Steps 2 and 3: takes the signed funding transaction into custody. Unless the refund is written into the funding
    /// output, the payee is asked to sign it: broadcasting any copy of the funding transaction before the opening is
    /// [`Protected`] puts the capacity at the payee's mercy.
    ///
    /// # Errors
    /// If the transaction does not have the funding output exactly once, has an unsigned input, or is too large for a
    /// message; or if others can change its id and the refund depends on it, unless
    /// [`Limits::malleable_funding`] allows that.
    pub fn fund(self, signed: Transaction) -> Result<FundedOpening, FundError> {
        let Self { key, state: agreed } = self;
        let funding = agreed.check_funding(signed)?;
        let params = &agreed.params;
        let spend = SpendTemplate::refund(params, funding.outpoint());
        if params.terms().construction.has_script_refund() {
            let payer = spend.sign(&key);
            let refund = RefundTx::complete(spend, payer, None)?;
            let state = Protected {
                agreed,
                funding,
                refund,
            };
            return Ok(FundedOpening::Protected(PayerOpening { key, state }));
        }
        let envelope = Envelope {
            channel: params.id(),
            message: Message::RefundRequest {
                tx: spend.unsigned().clone(),
            },
        };
        let state = Funded { agreed, funding };
        Ok(FundedOpening::CoSigned(PayerOpening { key, state }, envelope))
    }
}

impl Agreed {
    /// Checks that this side's funding transaction can lock its money without a risk.
    fn check_funding(&self, signed: Transaction) -> Result<FundingTx, FundError> {
        let size = signed.total_size();
        if size > MAX_FUNDING_SIZE {
            return Err(FundingError::TooLarge {
                size,
                limit: MAX_FUNDING_SIZE,
            }
            .into());
        }
        if let Some(input) = signed.input.iter().position(is_unsigned) {
            return Err(FundError::UnsignedInput { input });
        }
        let funding = FundingTx::find(&self.params, signed)?;
        let construction = self.params.terms().construction;
        if !construction.has_script_refund() && funding.is_malleable() && !self.malleable_funding {
            let txid = funding.outpoint().txid;
            return Err(FundError::Malleable { txid, construction });
        }
        Ok(funding)
    }
}

/// What follows when the payer holds its funding transaction.
#[derive(Debug)]
#[must_use]
pub enum FundedOpening {
    /// The refund needs the payee's signature, and the message asks for it.
    CoSigned(PayerOpening<Funded>, Envelope),
    /// The funding output itself lets the payer take its money back, and the refund is already signed.
    Protected(PayerOpening<Protected>),
}

fn is_unsigned(input: &TxIn) -> bool {
    input.script_sig.is_empty() && input.witness.is_empty()
}

/// Why the payer's own funding transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FundError {
    /// It is not the agreed one.
    #[error(transparent)]
    Funding(#[from] FundingError),
    /// Signing the input later may change the transaction's id, which the refund spends.
    #[error("input {input} of the funding transaction is not signed: sign every input first")]
    UnsignedInput {
        /// Its index.
        input: usize,
    },
    /// The id can be changed before the transaction is mined, and the refund spends this id.
    #[error(
        "others can change the id {txid} of the funding transaction, which would make the refund on {construction} \
         worthless: spend segwit coins, choose a construction with the refund in its script, or set \
         `Limits::malleable_funding`"
    )]
    Malleable {
        /// The transaction.
        txid: Txid,
        /// The construction.
        construction: Construction,
    },
    /// The network would not accept the refund that spends it: a bug in this crate.
    #[error("the refund is invalid: {0}")]
    Refund(#[from] SpendError),
}

impl PayerOpening<Funded> {
    /// Returns the output that will be locked.
    pub const fn funding_outpoint(&self) -> OutPoint {
        self.state.funding.outpoint()
    }

    #[cfg(feature = "service")]
    pub(crate) const fn funding(&self) -> &FundingTx {
        &self.state.funding
    }

    /// Step 5: verifies the payee's signature over the refund, adds the payer's own, and verifies the scripts of
    /// the finished refund.
    ///
    /// # Errors
    /// If the signature is wrong in any way: the opening is over, nothing is on chain, nothing is lost.
    pub fn verify_refund(self, envelope: Envelope) -> Result<PayerOpening<Protected>, Refusal> {
        let Funded { agreed, funding } = self.state;
        let params = &agreed.params;
        let message = envelope.for_channel(params.id())?;
        let Message::RefundSignature { signature } = message else {
            return Err(Refusal::unexpected(Stage::SigningRefund, message.kind()));
        };
        let spend = SpendTemplate::refund(params, funding.outpoint());
        let payee = spend.verify_payee(signature)?;
        let payer = spend.sign(&self.key);
        let refund = RefundTx::complete(spend, payer, Some(payee))?;
        Ok(PayerOpening {
            key: self.key,
            state: Protected {
                agreed,
                funding,
                refund,
            },
        })
    }
}

impl PayerOpening<Protected> {
    /// Returns the funding transaction.
    pub const fn funding(&self) -> &FundingTx {
        &self.state.funding
    }

    /// Returns the refund: store it before any other step.
    pub const fn refund(&self) -> &RefundTx {
        &self.state.refund
    }

    /// Hands over the funding transaction: the payer broadcasts it (`stepped-locktime`), hands it over
    /// (`example-7`), or waits for a request (`bond`).
    #[must_use]
    pub fn into_payer(self) -> (Payer, Vec<Action>) {
        let Protected {
            agreed:
                Agreed {
                    params,
                    tip,
                    promises,
                    ..
                },
            funding,
            refund,
        } = self.state;
        Payer::new(self.key, params, funding, Claim::new(refund), promises, tip).start()
    }
}
