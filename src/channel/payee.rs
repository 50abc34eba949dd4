use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction};

use super::error::{ApplyError, CommandError, PaymentError, RefundError, Refusal, Stage};
use super::event::{Action, BroadcastResult, ChainView, Event, Notice, Outcome, SeenSpend, SETTLED_DEPTH};
use super::keys::{ChannelKey, PayeeKey, UnverifiedSignature};
use super::limits::{check_payout, Limits};
use super::lock::Tip;
use super::message::{Envelope, Message};
use super::params::{ChannelParams, Parties, Protocol};
use super::payer::for_channel;
use super::transaction::{FundingTx, PaymentTx, SettlementTx, Spend, SpendRole};
use super::unexpected;
use super::verify::SpendError;

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
        let confirmations = *limits.confirmations.start();
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
                state: RefundSigned { funding },
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
        };
        Ok((payee, actions))
    }
}

/// The payee of a channel.
#[derive(Debug)]
pub struct Payee {
    key: ChannelKey,
    params: ChannelParams,
    funding: FundingTx,
    stage: Stage,
    best: Option<PaymentTx>,
    settlement: Option<SettlementTx>,
    view: Option<ChainView>,
}

impl Payee {
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

    /// Where the channel stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// The newest payment.
    #[must_use]
    pub const fn best(&self) -> Option<&PaymentTx> {
        self.best.as_ref()
    }

    /// What has been paid in all, in satoshi.
    #[must_use]
    pub fn paid(&self) -> Amount {
        self.best.map_or(Amount::ZERO, |payment| payment.balance().paid)
    }

    /// The newest payment with both signatures: what the payee would broadcast if the payer were gone.
    ///
    /// # Errors
    /// Never for a payment that was accepted; the property is tested against the node.
    pub fn redeemable(&self) -> Result<Option<SettlementTx>, SpendError> {
        let redeem = |payment: PaymentTx| payment.redeem(&self.params, self.funding.outpoint(), &self.key);
        self.best.map(redeem).transpose()
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
            Event::Chain(view) => Ok(self.on_chain(view)?),
            Event::Broadcast(result) => Ok(self.on_broadcast(result)),
            Event::RequestPayment(amount) => Ok(self.request_payment(amount)?),
            Event::Close => self.close(),
            Event::Pay(_) => Err(self.wrong_stage("pay as the payee").into()),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<Vec<Action>, Refusal> {
        match (self.stage, message) {
            (Stage::Open, Message::Payment { paid, signature }) => self.accept(paid, signature),
            // It crossed this side's wish to close; the settlement will be for all of it.
            (Stage::Closing, Message::Payment { paid, signature }) if self.awaits_settlement() => {
                self.accept(paid, signature)
            }
            (Stage::AwaitingFunding, Message::Payment { .. }) => {
                let confirmations = self.view.as_ref().map_or(0, |view| view.confirmations);
                let required = self.params.confirmations();
                Err(PaymentError::Unconfirmed {
                    confirmations,
                    required,
                }
                .into())
            }
            (
                Stage::AwaitingFunding | Stage::Open | Stage::Closing,
                Message::Settlement { paid, signature },
            ) if self.settlement.is_none() => self.accept_settlement(paid, signature),
            // Both closed at the same moment, and this side's settlement is on its way.
            (Stage::Closing, Message::Settlement { .. }) => Ok(Vec::new()),
            (_, Message::Refuse { reason }) => Ok(vec![Action::Notify(Notice::PeerRefused { reason })]),
            (stage, message) => Err(unexpected(stage, &message)),
        }
    }

    /// Whether this side asked for a settlement, and the channel is as good as open until it comes.
    fn awaits_settlement(&self) -> bool {
        let funded =
            |view: &ChainView| view.spend.is_none() && view.confirmations >= self.params.confirmations();
        self.settlement.is_none() && self.view.as_ref().is_some_and(funded)
    }

    fn accept(&mut self, paid: Amount, signature: UnverifiedSignature) -> Result<Vec<Action>, Refusal> {
        let terms = self.params.terms();
        if let Some(view) = self.view.as_ref().filter(|view| terms.must_settle(view.tip)) {
            let left = terms.expiry.distance(view.tip);
            return Err(PaymentError::Expiring {
                expiry: terms.expiry,
                left,
            }
            .into());
        }
        self.check_increase(paid)?;
        let balance = self.params.balance(paid).ok_or_else(|| self.exceeds(paid))?;
        let spend = Spend::payment(&self.params, self.funding.outpoint(), &balance);
        let payment = PaymentTx::new(balance, spend.verify_payer(signature)?);
        if self.best.is_none() {
            // The first one goes through full script verification; the next differ in amounts alone.
            payment.redeem(&self.params, self.funding.outpoint(), &self.key)?;
        }
        self.best = Some(payment);
        Ok(vec![
            self.send(Message::PaymentAccepted { paid }),
            Action::Notify(Notice::PaymentAccepted(balance)),
        ])
    }

    fn check_increase(&self, received: Amount) -> Result<(), PaymentError> {
        let previous = self.paid();
        let empty_start = self.best.is_none() && self.params.terms().protocol == Protocol::Example7;
        if received < previous {
            return Err(PaymentError::Decreased { previous, received });
        }
        if received == previous && !empty_start {
            return Err(PaymentError::Repeated { previous, received });
        }
        Ok(())
    }

    fn exceeds(&self, received: Amount) -> PaymentError {
        PaymentError::ExceedsCapacity {
            spendable: self.params.spendable(),
            received,
        }
    }

    fn accept_settlement(
        &mut self,
        paid: Amount,
        signature: UnverifiedSignature,
    ) -> Result<Vec<Action>, Refusal> {
        if paid != self.paid() {
            return Err(PaymentError::SettlementDiffers {
                expected: self.paid(),
                received: paid,
            }
            .into());
        }
        let balance = self.params.balance(paid).ok_or_else(|| self.exceeds(paid))?;
        let spend = Spend::settlement(&self.params, self.funding.outpoint(), &balance);
        let payment = PaymentTx::new(balance, spend.verify_payer(signature)?);
        let settlement = payment.settle(&self.params, self.funding.outpoint(), &self.key)?;
        Ok(vec![self.settle(settlement)])
    }

    fn on_chain(&mut self, view: ChainView) -> Result<Vec<Action>, SpendError> {
        if self.stage == Stage::Closed {
            return Ok(Vec::new());
        }
        let (tip, confirmations, spend) = (view.tip, view.confirmations, view.spend.clone());
        self.view = Some(view);
        if let Some(SeenSpend {
            tx,
            confirmations: 1..,
        }) = &spend
        {
            return Ok(self.on_spent(tx, spend.as_ref().map_or(0, |s| s.confirmations)));
        }
        let mut actions = self.on_depth(confirmations);
        if self.settlement.is_none() && self.params.terms().must_settle(tip) {
            if let Some(settlement) = self.redeemable()?.filter(|s| s.balance().is_enforceable()) {
                actions.push(self.settle(settlement));
                return Ok(actions);
            }
        }
        // With every block, until it is in one: a mempool forgets, and a reorganisation gives back.
        if let Some(settlement) = &self.settlement {
            if spend.is_none_or(|spend| spend.tx.compute_txid() != settlement.tx().compute_txid()) {
                actions.push(broadcast(settlement));
            }
        }
        Ok(actions)
    }

    fn on_spent(&mut self, tx: &Transaction, confirmations: u32) -> Vec<Action> {
        self.stage = Stage::Closing;
        if confirmations < SETTLED_DEPTH {
            return Vec::new();
        }
        self.stage = Stage::Closed;
        vec![Action::Notify(Notice::Closed(Outcome::of(&self.params, tx)))]
    }

    fn on_depth(&mut self, confirmations: u32) -> Vec<Action> {
        let deep = confirmations >= self.params.confirmations();
        match self.stage {
            Stage::AwaitingFunding if deep => {
                self.stage = Stage::Open;
                vec![self.send(Message::Ready), Action::Notify(Notice::Ready)]
            }
            Stage::Open if !deep => {
                self.stage = Stage::AwaitingFunding;
                vec![Action::Notify(Notice::FundingLost { confirmations })]
            }
            _ => Vec::new(),
        }
    }

    fn on_broadcast(&self, result: BroadcastResult) -> Vec<Action> {
        if result.rejected.is_some() {
            return vec![Action::Notify(Notice::BroadcastRejected(result))];
        }
        match result.role {
            SpendRole::Payment | SpendRole::Settlement => {
                vec![self.send(Message::Closed { txid: result.txid })]
            }
            SpendRole::Funding | SpendRole::Refund => Vec::new(),
        }
    }

    fn request_payment(&self, amount: Amount) -> Result<Vec<Action>, CommandError> {
        if self.stage != Stage::Open || self.params.terms().protocol != Protocol::Bond {
            return Err(self.wrong_stage("request a payment"));
        }
        if amount == Amount::ZERO {
            return Err(CommandError::Nothing { asked: amount });
        }
        let left = self.params.spendable() - self.paid();
        if amount > left {
            return Err(CommandError::InsufficientBalance { left, asked: amount });
        }
        Ok(vec![self.send(Message::PaymentRequest {
            paid: self.paid() + amount,
        })])
    }

    /// With an unlocked payment in hand the payee needs nobody; otherwise it asks the payer for a settlement.
    fn close(&mut self) -> Result<Vec<Action>, ApplyError> {
        if !matches!(self.stage, Stage::Open | Stage::AwaitingFunding) {
            return Err(self.wrong_stage("close").into());
        }
        let unlocked = self.params.terms().payment_expiry.is_none();
        if let Some(settlement) = self.redeemable()?.filter(|_| unlocked) {
            return Ok(vec![self.settle(settlement)]);
        }
        self.stage = Stage::Closing;
        Ok(vec![self.send(Message::CloseRequest)])
    }

    fn settle(&mut self, settlement: SettlementTx) -> Action {
        let action = broadcast(&settlement);
        self.settlement = Some(settlement);
        self.stage = Stage::Closing;
        action
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

fn broadcast(settlement: &SettlementTx) -> Action {
    Action::Broadcast {
        role: settlement.role(),
        tx: settlement.tx().clone(),
    }
}
