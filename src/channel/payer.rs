use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};

use super::amount::Balance;
use super::error::{ApplyError, CommandError, PaymentError, Refusal, Stage};
use super::event::{Action, BroadcastResult, ChainView, Event, Notice, Outcome, SETTLED_DEPTH};
use super::keys::{ChannelKey, PayerKey, VerifiedSignature};
use super::limits::{check_payout, Limits, TermsError};
use super::lock::Tip;
use super::message::{Envelope, Message};
use super::params::{ChannelId, ChannelParams, Parties, Protocol, Terms};
use super::transaction::{FundingError, FundingTx, RefundTx, Spend, SpendRole};
use super::unexpected;

/// The largest funding transaction, in bytes, that fits into one message.
pub const MAX_FUNDING_SIZE: usize = 3_900;

/// The payer before its money is locked. What is proven so far is in the type: [`Proposed`], [`Agreed`],
/// [`Held`], [`Protected`]; the funding transaction can be reached from the last alone.
///
/// ```
/// use spilman::channel::{PayerOpening, Agreed, Held};
///
/// /// There is no way from `Held` to the funding transaction but through the payee's signature.
/// fn cannot_fund_yet(opening: PayerOpening<Held>) -> OutPointIsPublic {
///     OutPointIsPublic(opening.funding_outpoint())
/// }
/// struct OutPointIsPublic(bitcoin::OutPoint);
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
}

/// Both keys are known, and with them the 2-of-2 output.
#[derive(Debug)]
pub struct Agreed {
    params: ChannelParams,
}

/// The funding transaction is signed and held; the payee is asked to sign the refund.
#[derive(Debug)]
pub struct Held {
    params: ChannelParams,
    funding: FundingTx,
}

/// The refund carries both signatures. Keep it where it survives a crash, then
/// [`release`](PayerOpening::release) the funding transaction.
#[derive(Debug)]
pub struct Protected {
    params: ChannelParams,
    funding: FundingTx,
    refund: RefundTx,
}

impl PayerOpening<Proposed> {
    /// Step 1: propose terms, with K1.
    ///
    /// # Errors
    /// If the terms are out of the payer's own limits, or the payout script is not standard.
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
                },
            },
            Envelope { channel: id, message },
        ))
    }

    /// The payee's answer, with K2.
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
        } = self.state;
        let message = for_channel(id, envelope)?;
        let Message::Accept {
            payee_key,
            payee_payout,
            confirmations,
        } = message
        else {
            return Err(unexpected(Stage::Proposing, &message));
        };
        check_payout(&payee_payout)?;
        let (min, max) = (1, *limits.confirmations.end());
        if !(min..=max).contains(&confirmations) {
            return Err(TermsError::Confirmations {
                min,
                max,
                received: confirmations,
            }
            .into());
        }
        let parties = Parties {
            payer_key: PayerKey::new(self.key.public_key()),
            payee_key,
            payer_payout: payout,
            payee_payout,
        };
        let params = ChannelParams::new(id, terms, parties, confirmations)?;
        Ok(PayerOpening {
            key: self.key,
            state: Agreed { params },
        })
    }
}

impl PayerOpening<Agreed> {
    /// The channel's parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.state.params
    }

    /// The output that the funding transaction has to have.
    #[must_use]
    pub fn funding_output(&self) -> TxOut {
        let params = &self.state.params;
        TxOut {
            value: params.terms().capacity.to_amount(),
            script_pubkey: params.funding_script(),
        }
    }

    /// Steps 2 and 3: takes the signed funding transaction into custody and asks for the refund to be
    /// signed. Broadcasting any copy of it before the opening is [`Protected`] puts the capacity at the
    /// payee's mercy.
    ///
    /// # Errors
    /// If the transaction does not have the funding output exactly once, or is too large for a message.
    pub fn hold(self, signed: Transaction) -> Result<(PayerOpening<Held>, Envelope), FundingError> {
        let Agreed { params } = self.state;
        let size = signed.total_size();
        if size > MAX_FUNDING_SIZE {
            return Err(FundingError::TooLarge {
                size,
                limit: MAX_FUNDING_SIZE,
            });
        }
        let funding = FundingTx::find(&params, signed)?;
        let tx = Spend::refund(&params, funding.outpoint()).unsigned().clone();
        let envelope = Envelope {
            channel: params.id(),
            message: Message::RefundRequest { tx },
        };
        Ok((
            PayerOpening {
                key: self.key,
                state: Held { params, funding },
            },
            envelope,
        ))
    }
}

impl PayerOpening<Held> {
    /// The output that will be locked.
    #[must_use]
    pub const fn funding_outpoint(&self) -> OutPoint {
        self.state.funding.outpoint()
    }

    #[cfg(feature = "service")]
    pub(crate) const fn funding(&self) -> &FundingTx {
        &self.state.funding
    }

    /// Step 5: verifies the payee's signature over the refund, adds one's own, and runs the finished refund
    /// through full script verification.
    ///
    /// # Errors
    /// If the signature is wrong in any way: the opening is over, nothing is on chain, nothing is lost.
    pub fn verify_refund(self, envelope: Envelope) -> Result<PayerOpening<Protected>, Refusal> {
        let Held { params, funding } = self.state;
        let message = for_channel(params.id(), envelope)?;
        let Message::RefundSignature { signature } = message else {
            return Err(unexpected(Stage::SigningRefund, &message));
        };
        let spend = Spend::refund(&params, funding.outpoint());
        let payee = spend.verify_payee(signature)?;
        let payer = spend.sign(&self.key);
        let refund = RefundTx::complete(spend, payer, payee)?;
        Ok(PayerOpening {
            key: self.key,
            state: Protected {
                params,
                funding,
                refund,
            },
        })
    }
}

impl PayerOpening<Protected> {
    /// The refund, to be kept safe before anything else happens.
    #[must_use]
    pub const fn refund(&self) -> &RefundTx {
        &self.state.refund
    }

    /// Lets go of the funding transaction: the payer broadcasts it (`stepped-locktime`), hands it over
    /// (`example-7`), or waits to be asked for it (`bond`).
    #[must_use]
    pub fn release(self) -> (Payer, Vec<Action>) {
        let Protected {
            params,
            funding,
            refund,
        } = self.state;
        let mut actions = Vec::new();
        if funding.is_malleable() {
            actions.push(Action::Notify(Notice::MalleableFunding));
        }
        let mut payer = Payer {
            key: self.key,
            params,
            funding,
            refund,
            stage: Stage::AwaitingFunding,
            paid: Amount::ZERO,
            acknowledged: None,
            tip: None,
        };
        match payer.params.terms().protocol {
            Protocol::SteppedLocktime => actions.push(payer.broadcast_funding()),
            Protocol::Example7 => actions.push(payer.hand_over()),
            Protocol::Bond => payer.stage = Stage::Protected,
        }
        (payer, actions)
    }
}

/// The payer of a channel whose refund is safe.
#[derive(Debug)]
pub struct Payer {
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    refund: RefundTx,
    stage: Stage,
    paid: Amount,
    /// `None` until the payee has acknowledged anything, the empty first payment of Example 7 included.
    acknowledged: Option<Amount>,
    tip: Option<Tip>,
}

impl Payer {
    /// The agreed parameters.
    #[must_use]
    pub const fn params(&self) -> &ChannelParams {
        &self.params
    }

    /// The funding transaction.
    #[must_use]
    pub const fn funding(&self) -> &FundingTx {
        &self.funding
    }

    /// The way out.
    #[must_use]
    pub const fn refund(&self) -> &RefundTx {
        &self.refund
    }

    /// Where the channel stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// What has been paid in all, in satoshi, acknowledged or not.
    #[must_use]
    pub const fn paid(&self) -> Amount {
        self.paid
    }

    /// What the payee has acknowledged in all, in satoshi.
    #[must_use]
    pub fn acknowledged(&self) -> Amount {
        self.acknowledged.unwrap_or(Amount::ZERO)
    }

    /// The one way in which the state changes.
    ///
    /// # Errors
    /// If the peer's message is refused, or the user's wish cannot be done. The state is what it was before.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Action>, ApplyError> {
        match event {
            Event::Message(envelope) => {
                let message = for_channel(self.params.id(), envelope)?;
                Ok(self.on_message(message)?)
            }
            Event::Chain(view) => Ok(self.on_chain(&view)),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)),
            Event::Pay(amount) => Ok(self.pay(amount)?),
            Event::Close => Ok(self.close()?),
            Event::RequestPayment(_) => Err(self.wrong_stage("request a payment as the payer").into()),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage, message) {
            (Stage::Protected, Message::FundingRequest) => {
                self.stage = Stage::AwaitingFunding;
                Ok(vec![self.hand_over()])
            }
            (Stage::AwaitingFunding, Message::Ready) => Ok(self.on_ready()),
            // After a reorganisation the payee says so again.
            (Stage::Open, Message::Ready) => Ok(vec![Action::Notify(Notice::Ready)]),
            (Stage::Open, Message::PaymentRequest { paid })
                if self.params.terms().protocol == Protocol::Bond =>
            {
                self.check_increase(paid)?;
                Ok(vec![Action::Notify(Notice::PaymentRequested { paid })])
            }
            (Stage::Open | Stage::Closing, Message::PaymentAccepted { paid }) => self.on_accepted(paid),
            (Stage::Open | Stage::AwaitingFunding, Message::CloseRequest) => {
                self.stage = Stage::Closing;
                Ok(vec![self.settlement()])
            }
            // Both spoke at the same moment; the settlement is on its way.
            (Stage::Closing, Message::CloseRequest | Message::Ready) => Ok(Vec::new()),
            (Stage::Closing, Message::PaymentRequest { .. })
                if self.params.terms().protocol == Protocol::Bond =>
            {
                Ok(Vec::new())
            }
            (Stage::Open | Stage::Closing, Message::Closed { txid }) => {
                self.stage = Stage::Closing;
                Ok(vec![Action::Notify(Notice::PeerSettled { txid })])
            }
            (_, Message::Refuse { reason }) => {
                if self.stage != Stage::Closed {
                    self.stage = Stage::Closing;
                }
                Ok(vec![Action::Notify(Notice::PeerRefused { reason })])
            }
            (stage, message) => Err(unexpected(stage, &message)),
        }
    }

    fn on_ready(&mut self) -> Vec<Action> {
        self.stage = Stage::Open;
        let mut actions = vec![Action::Notify(Notice::Ready)];
        // Example 7 starts with everything on K1's output: the payee holds a way to give the payer its
        // money back before the lock, even if it is never paid.
        if self.params.terms().protocol == Protocol::Example7 && self.acknowledged.is_none() {
            actions.push(self.payment());
        }
        actions
    }

    fn on_accepted(&mut self, received: Amount) -> Result<Vec<Action>, Refusal> {
        let acknowledged = self.acknowledged();
        if received < acknowledged || received > self.paid {
            return Err(PaymentError::NotSent {
                acknowledged,
                sent: self.paid,
                received,
            }
            .into());
        }
        self.acknowledged = Some(received);
        Ok(vec![Action::Notify(Notice::PaymentAccepted(
            self.balance(received),
        ))])
    }

    fn on_chain(&mut self, view: &ChainView) -> Vec<Action> {
        self.tip = Some(view.tip);
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if let Some(spend) = &view.spend {
            self.stage = Stage::Closing;
            if spend.confirmations >= SETTLED_DEPTH {
                self.stage = Stage::Closed;
                return vec![Action::Notify(Notice::Closed(Outcome::of(
                    &self.params,
                    &spend.tx,
                )))];
            }
            return Vec::new();
        }
        if self.params.terms().expiry.is_final(view.tip) && self.stage != Stage::Protected {
            self.stage = Stage::Closing;
            return vec![Action::Broadcast {
                role: SpendRole::Refund,
                tx: self.refund.tx().clone(),
            }];
        }
        Vec::new()
    }

    fn on_broadcast(&self, result: BroadcastResult) -> Vec<Action> {
        if result.rejected.is_some() {
            return vec![Action::Notify(Notice::BroadcastRejected(result))];
        }
        match result.role {
            // The article's step 4: only now is there something to tell the payee.
            SpendRole::Funding => vec![self.hand_over()],
            SpendRole::Refund | SpendRole::Payment | SpendRole::Settlement => Vec::new(),
        }
    }

    fn pay(&mut self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.stage != Stage::Open {
            return Err(self.wrong_stage("pay"));
        }
        if amount == Amount::ZERO {
            return Err(CommandError::Nothing { asked: amount });
        }
        let terms = self.params.terms();
        if let Some(tip) = self.tip.filter(|tip| terms.must_settle(*tip)) {
            return Err(CommandError::Expiring {
                expiry: terms.expiry,
                left: terms.expiry.distance(tip),
            });
        }
        let left = self.params.spendable() - self.paid;
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        self.paid += amount;
        Ok(vec![self.payment()])
    }

    fn close(&mut self) -> Result<Vec<Action>, CommandError> {
        match self.stage {
            Stage::Open | Stage::AwaitingFunding => {
                self.stage = Stage::Closing;
                Ok(vec![self.settlement()])
            }
            _ => Err(self.wrong_stage("close")),
        }
    }

    fn check_increase(&self, paid: Amount) -> Result<(), PaymentError> {
        let previous = self.paid;
        if paid < previous {
            return Err(PaymentError::Decreased {
                previous,
                received: paid,
            });
        }
        if paid == previous {
            return Err(PaymentError::Repeated {
                previous,
                received: paid,
            });
        }
        if paid > self.params.spendable() {
            return Err(PaymentError::ExceedsCapacity {
                spendable: self.params.spendable(),
                received: paid,
            });
        }
        Ok(())
    }

    fn balance(&self, paid: Amount) -> Balance {
        self.params
            .balance(paid)
            .expect("the payer never signs more than the channel can pay")
    }

    fn payment(&self) -> Action {
        let balance = self.balance(self.paid);
        let signature = Spend::payment(&self.params, self.funding.outpoint(), &balance).sign(&self.key);
        self.send(Message::Payment {
            paid: self.paid,
            signature: signature.to_unverified(),
        })
    }

    fn settlement(&self) -> Action {
        let balance = self.balance(self.paid);
        let spend = Spend::settlement(&self.params, self.funding.outpoint(), &balance);
        let signature: VerifiedSignature = spend.sign(&self.key);
        self.send(Message::Settlement {
            paid: self.paid,
            signature: signature.to_unverified(),
        })
    }

    fn broadcast_funding(&self) -> Action {
        Action::Broadcast {
            role: SpendRole::Funding,
            tx: self.funding.tx().clone(),
        }
    }

    fn hand_over(&self) -> Action {
        self.send(Message::Funding {
            tx: self.funding.tx().clone(),
        })
    }

    fn send(&self, message: Message) -> Action {
        Action::Send(Envelope {
            channel: self.params.id(),
            message,
        })
    }

    fn wrong_stage(&self, command: &'static str) -> CommandError {
        CommandError::WrongStage {
            command,
            stage: self.stage,
        }
    }
}

pub(crate) fn for_channel(expected: ChannelId, envelope: Envelope) -> Result<Message, Refusal> {
    if envelope.channel == expected {
        Ok(envelope.message)
    } else {
        Err(Refusal::WrongChannel {
            expected,
            received: envelope.channel,
        })
    }
}
