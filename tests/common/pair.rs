//! An honest payer and payee, walked to any stage by hand: no node, no connection, no clock. What one says
//! the other hears at once; every broadcast is taken; the chain is what the test says it is.
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(clippy::result_large_err, reason = "the errors are the crate's")]

use std::collections::VecDeque;

use bitcoin::absolute::{Height, Time};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{Message as Digest, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{absolute::LockTime, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid};
use bitcoin::{Amount, CompressedPublicKey, Witness};
use spilman::channel::{
    Accepted, Action, Agreed, ApplyError, AwaitsFunding, BroadcastResult, Capacity, ChainView, ChannelId,
    ChannelKey, ChannelParams, Considered, Envelope, Event, Expiry, Held, Hold, Limits, Message, Notice,
    Payee, PayeeOpening, Payer, PayerOpening, Proposed, Protected, Protocol, SeenSpend, SettlementTx,
    SpendRole, Terms, Tip, UnverifiedSignature, LOCKED_SEQUENCE, SPEND_VERSION,
};

pub const HEIGHT: u32 = 200;
pub const MTP: u32 = 1_700_000_000;

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn tip(height: u32, mtp: u32) -> Tip {
    Tip {
        height: Height::from_consensus(height).unwrap(),
        mtp: Time::from_consensus(mtp).unwrap(),
    }
}

pub fn secret(label: &str) -> SecretKey {
    SecretKey::from_slice(&sha256::Hash::hash(label.as_bytes()).to_byte_array()).unwrap()
}

pub fn key(label: &str) -> ChannelKey {
    ChannelKey::new(secret(label))
}

pub fn payout(label: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key(label).public_key()).wpubkey_hash())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Payer,
    Payee,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        }
    }
}

/// What a pair agrees on before it is walked anywhere.
#[derive(Debug, Clone)]
pub struct Case {
    pub id: ChannelId,
    pub terms: Terms,
    pub limits: Limits,
    /// The tip when the terms are proposed.
    pub now: Tip,
    /// The tip when the payee is asked to sign the refund.
    pub when_signing: Tip,
    pub legacy_input: bool,
    /// What is paid, one after the other, once the channel is open.
    pub payments: Vec<u64>,
}

impl Case {
    /// A million satoshi on default terms.
    pub fn new(protocol: Protocol) -> Self {
        let now = tip(HEIGHT, MTP);
        let terms = Terms::new(protocol, Capacity::new(sat(1_000_000)).unwrap(), now).unwrap();
        Self {
            id: ChannelId(7),
            terms,
            limits: Limits::default(),
            now,
            when_signing: now,
            legacy_input: false,
            payments: Vec::new(),
        }
    }

    /// The numbers of the document that the protocol comes from.
    pub fn story(protocol: Protocol) -> Self {
        match protocol {
            Protocol::SteppedLocktime => Self::new(protocol).capacity(1_000).free(),
            Protocol::Example7 => Self::new(protocol).capacity(1_000_000_000),
            Protocol::Bond => Self::new(protocol).capacity(10_000_000),
        }
    }

    pub fn capacity(mut self, capacity: u64) -> Self {
        self.terms.capacity = Capacity::new(sat(capacity)).unwrap();
        self
    }

    /// No fees, no dust, any capacity, as on the article's node.
    pub fn free(mut self) -> Self {
        self.terms.feerate = FeeRate::ZERO;
        self.terms.dust_feerate = FeeRate::ZERO;
        self.limits.capacity = sat(1)..=Capacity::MAX.to_amount();
        self.limits.feerate = FeeRate::ZERO..=Terms::FEERATE;
        self.limits.dust_feerate = FeeRate::ZERO..=Terms::DUST_FEERATE;
        self
    }

    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.terms.refund_lock = expiry.into();
        self
    }

    pub fn paying(mut self, payments: &[u64]) -> Self {
        self.payments = payments.to_vec();
        self
    }

    pub fn propose(&self) -> (PayerOpening<Proposed>, Envelope) {
        let (terms, limits) = (self.terms.clone(), self.limits.clone());
        PayerOpening::propose(self.id, terms, key("payer"), payout("payer"), limits, self.now).unwrap()
    }

    pub fn consider(
        &self,
        open: Envelope,
    ) -> Result<(PayeeOpening<Accepted>, Envelope), spilman::channel::Refusal> {
        let limits = self.limits.clone();
        let (considered, accept) =
            PayeeOpening::consider(open, key("payee"), payout("payee"), limits, self.now)?;
        let Considered::SignsRefund(payee) = considered else {
            panic!("a refund in the script: {considered:?}");
        };
        Ok((payee, accept))
    }

    pub fn agreed(&self) -> (PayerOpening<Agreed>, PayeeOpening<Accepted>) {
        let (payer, open) = self.propose();
        let (payee, accept) = self.consider(open).unwrap();
        (payer.accept(accept).unwrap(), payee)
    }

    pub fn held(&self) -> (PayerOpening<Held>, PayeeOpening<Accepted>, Envelope) {
        let (payer, payee) = self.agreed();
        let funding = self.funding(payer.funding_output());
        let (payer, request) = co_signed(payer.hold(funding).unwrap());
        (payer, payee, request)
    }

    pub fn protected(
        &self,
    ) -> (
        PayerOpening<Protected>,
        PayeeOpening<AwaitsFunding>,
        Vec<Envelope>,
    ) {
        let (payer, payee, request) = self.held();
        let (payee, mut answers) = payee.sign_refund(request, self.when_signing).unwrap();
        let payer = payer.verify_refund(answers.remove(0)).unwrap();
        (payer, payee, answers)
    }

    /// The payer has let go; what it sends or broadcasts first is in the answer.
    pub fn released(&self) -> (Payer, Vec<Action>, PayeeOpening<AwaitsFunding>, Vec<Envelope>) {
        let (payer, payee, answers) = self.protected();
        let (payer, actions) = payer.release();
        (payer, actions, payee, answers)
    }

    /// Both know the funding transaction, and wait for it to confirm.
    pub fn funded(&self) -> Pair {
        let (mut payer, actions, payee, requests) = self.released();
        let mut log = Vec::new();
        let mut queue = VecDeque::from(actions);
        for request in requests {
            log.push(format!("payee says {}", words(&request.message)));
            queue.extend(payer.apply(Event::Message(request)).unwrap());
        }
        let mut handed_over = None;
        while let Some(action) = queue.pop_front() {
            log.push(line(Side::Payer, &action));
            match action {
                Action::Send(envelope) => handed_over = Some(envelope),
                Action::Broadcast { role, tx } => {
                    queue.extend(payer.apply(Event::Broadcast(taken(role, &tx))).unwrap());
                }
                _ => {}
            }
        }
        let (payee, actions) = payee.receive_funding(handed_over.unwrap()).unwrap();
        let mut pair = Pair {
            payer,
            payee,
            tip: self.now,
            log,
            broadcast: Vec::new(),
        };
        pair.carry_out(Side::Payee, actions);
        pair
    }

    /// The funding transaction is deep enough, and [`Case::payments`] are made.
    pub fn open(&self) -> Pair {
        let mut pair = self.funded();
        pair.chain(pair.payee.params().confirmations(), None);
        for payment in &self.payments {
            pair.apply(Side::Payer, Event::Pay(sat(*payment))).unwrap();
        }
        pair
    }

    /// T1, as a wallet would make it.
    pub fn funding(&self, output: TxOut) -> Transaction {
        let mut input = TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 1),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        if self.legacy_input {
            input.script_sig = ScriptBuf::from_bytes([&[71][..], &[1; 71], &[33], &[2; 33]].concat());
        } else {
            input.witness = Witness::from_slice(&[vec![1; 71], vec![2; 33]]);
        }
        let change = TxOut {
            value: sat(5_000),
            script_pubkey: payout("change"),
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output, change],
        }
    }
}

/// What a payer whose refund needs the payee's signature does next.
pub fn co_signed(hold: Hold) -> (PayerOpening<Held>, Envelope) {
    match hold {
        Hold::CoSigned(payer, request) => (payer, request),
        Hold::Protected(payer) => panic!("a refund in the script: {payer:?}"),
    }
}

/// Both parties of a channel whose opening is done.
#[derive(Debug)]
pub struct Pair {
    pub payer: Payer,
    pub payee: Payee,
    pub tip: Tip,
    /// What happened, in order: one line for each action.
    pub log: Vec<String>,
    pub broadcast: Vec<(SpendRole, Transaction)>,
}

impl Pair {
    pub fn raw(&mut self, side: Side, event: Event) -> Result<Vec<Action>, ApplyError> {
        match side {
            Side::Payer => self.payer.apply(event),
            Side::Payee => self.payee.apply(event),
        }
    }

    /// Applies an event and carries out everything that follows from it on both sides.
    pub fn apply(&mut self, side: Side, event: Event) -> Result<(), ApplyError> {
        let actions = self.raw(side, event)?;
        self.carry_out(side, actions);
        Ok(())
    }

    pub fn carry_out(&mut self, side: Side, actions: Vec<Action>) {
        let mut queue: VecDeque<_> = actions.into_iter().map(|action| (side, action)).collect();
        while let Some((side, action)) = queue.pop_front() {
            self.log.push(line(side, &action));
            let (side, event) = match action {
                Action::Send(envelope) => {
                    let peer = if side == Side::Payer {
                        Side::Payee
                    } else {
                        Side::Payer
                    };
                    (peer, Event::Message(envelope))
                }
                Action::Broadcast { role, tx } => {
                    let result = taken(role, &tx);
                    self.broadcast.push((role, tx));
                    (side, Event::Broadcast(result))
                }
                _ => continue,
            };
            let more = self
                .raw(side, event)
                .unwrap_or_else(|e| panic!("{e}, after {:#?}", self.log));
            queue.extend(more.into_iter().map(|action| (side, action)));
        }
    }

    pub fn view(&self, confirmations: u32, spend: Option<(&Transaction, u32)>) -> ChainView {
        let spend = spend.map(|(tx, confirmations)| SeenSpend {
            tx: tx.clone(),
            confirmations,
        });
        ChainView {
            tip: self.tip,
            confirmations,
            base: None,
            spend,
        }
    }

    /// Both look at the chain, the payer first.
    pub fn chain(&mut self, confirmations: u32, spend: Option<(&Transaction, u32)>) {
        for side in [Side::Payer, Side::Payee] {
            self.look(side, confirmations, spend);
        }
    }

    pub fn look(&mut self, side: Side, confirmations: u32, spend: Option<(&Transaction, u32)>) {
        let view = self.view(confirmations, spend);
        self.apply(side, Event::Chain(view)).unwrap();
    }

    /// What happened since the last time that somebody asked.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub fn funding(&self) -> OutPoint {
        self.payer.funding().outpoint()
    }

    pub fn redeemable(&self) -> Option<SettlementTx> {
        self.payee.redeemable().unwrap()
    }

    /// A payment as the payer `label` would sign it, whatever the payer of this pair thinks of it.
    pub fn payment(&self, paid: u64, label: &str) -> Message {
        let lock = self.payee.params().terms().payment_expiry;
        let signature = self.sign(paid, lock, self.funding(), label);
        Message::Payment {
            paid: sat(paid),
            signature,
        }
    }

    pub fn settlement(&self, paid: u64, label: &str) -> Message {
        let signature = self.sign(paid, None, self.funding(), label);
        Message::Settlement {
            paid: sat(paid),
            feerate: self.payee.params().terms().feerate,
            signature,
        }
    }

    /// Built here from the documents' words and not by the crate: payer's output first, then the payee's.
    pub fn sign(
        &self,
        paid: u64,
        lock: Option<Expiry>,
        funding: OutPoint,
        label: &str,
    ) -> UnverifiedSignature {
        let params = self.payee.params();
        let dust = |script: &bitcoin::Script| script.minimal_non_dust_custom(params.terms().dust_feerate);
        let change = params.spendable().checked_sub(sat(paid)).unwrap_or(Amount::ZERO);
        let output = [
            (change, params.payer_payout()),
            (sat(paid), params.payee_payout()),
        ]
        .into_iter()
        .filter(|(value, script)| *value > Amount::ZERO && *value >= dust(script))
        .map(|(value, script)| TxOut {
            value,
            script_pubkey: script.to_owned(),
        })
        .collect();
        let tx = Transaction {
            version: SPEND_VERSION,
            lock_time: lock.map_or(LockTime::ZERO, Expiry::to_lock_time),
            input: vec![TxIn {
                previous_output: funding,
                script_sig: ScriptBuf::new(),
                sequence: if lock.is_some() {
                    LOCKED_SEQUENCE
                } else {
                    Sequence::MAX
                },
                witness: Witness::new(),
            }],
            output,
        };
        signature(params, &tx, label)
    }
}

/// The signature of `label`'s key over a spend of the funding output.
pub fn signature(params: &ChannelParams, tx: &Transaction, label: &str) -> UnverifiedSignature {
    let script = params.revealed_scripts()[0].1;
    let sighash = SighashCache::new(tx)
        .legacy_signature_hash(0, script, EcdsaSighashType::All.to_u32())
        .unwrap();
    let signed = Secp256k1::new().sign_ecdsa(&Digest::from(sighash), &secret(label));
    UnverifiedSignature::from_compact(signed.serialize_compact())
}

/// Core's own verdict over the spend of the funding output, and the sums: nothing is made or lost.
pub fn assert_spends(params: &ChannelParams, tx: &Transaction) {
    let capacity = params.terms().capacity.to_amount();
    let bytes = bitcoin::consensus::serialize(tx);
    params
        .funding_script()
        .verify(0, capacity, &bytes)
        .expect("consensus takes the spend");
    assert!(!tx.output.is_empty(), "a transaction without outputs is invalid");
    let out: Amount = tx.output.iter().map(|output| output.value).sum();
    assert!(out <= capacity, "{out} is paid out of {capacity}");
}

/// Each output's amount, in order.
pub fn amounts(tx: &Transaction) -> Vec<u64> {
    tx.output.iter().map(|output| output.value.to_sat()).collect()
}

fn taken(role: SpendRole, tx: &Transaction) -> BroadcastResult {
    BroadcastResult {
        role,
        txid: tx.compute_txid(),
        rejected: None,
    }
}

fn line(side: Side, action: &Action) -> String {
    let side = side.name();
    match action {
        Action::Send(envelope) => format!("{side} says {}", words(&envelope.message)),
        Action::Broadcast { role, .. } => format!("{side} broadcasts {}", role.name()),
        Action::Notify(notice) => format!("{side} learns {}", learns(notice)),
        other => format!("{side} does {other:?}"),
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::Payment { paid, .. }
        | Message::PaymentAccepted { paid }
        | Message::PaymentRequest { paid }
        | Message::Settlement { paid, .. } => format!("{} {}", message.kind(), paid.to_sat()),
        _ => message.kind().to_string(),
    }
}

fn learns(notice: &Notice) -> String {
    match notice {
        Notice::PaymentAccepted(balance) => {
            format!("{}/{} accepted", balance.change.to_sat(), balance.paid.to_sat())
        }
        Notice::PaymentRequested { paid } => format!("{} requested", paid.to_sat()),
        Notice::FundingLost { confirmations } => format!("funding lost, {confirmations} confirmations"),
        Notice::Closed(outcome) => {
            format!(
                "closed {}/{}",
                outcome.to_payer.to_sat(),
                outcome.to_payee.to_sat()
            )
        }
        Notice::MalleableFunding => "malleable funding".to_owned(),
        Notice::Ready => "ready".to_owned(),
        Notice::PeerSettled { .. } => "peer settled".to_owned(),
        other => format!("{other:?}"),
    }
}
