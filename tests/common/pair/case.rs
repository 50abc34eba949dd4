use std::collections::VecDeque;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use spilman::channel::{
    Accepted, AcceptedProposal, Action, Agreed, AwaitsFunding, BroadcastResult, Capacity, ChannelId,
    Construction, Envelope, Event, Expiry, Funded, FundedOpening, Limits, LockKind, NonceSource,
    PayeeOpening, Payer, PayerOpening, Proposed, Protected, Protocol, RefundLock, Refusal, Terms, Tip,
};

use super::words::{line, words};
use super::{key, payout, sat, tip, Pair, Side, HEIGHT, MTP};

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
    /// A million satoshi on default terms, with the documents' own construction.
    pub fn new(protocol: Protocol) -> Self {
        let now = tip(HEIGHT, MTP);
        let capacity = Capacity::new(sat(1_000_000)).unwrap();
        let terms = Terms::with(protocol, Construction::P2sh, capacity, now).unwrap();
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

    /// For messages of a test.
    pub fn name(&self) -> String {
        format!("{} on {}", self.terms.protocol, self.terms.construction)
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

    /// The same on another construction; a lock that counts from the confirmation is as long as the other was.
    pub fn on(mut self, construction: Construction) -> Self {
        let lock = self.terms.refund_lock;
        if construction.has_relative_lock() {
            let distance = lock.distance(self.now);
            self.terms.refund_lock = match lock.kind() {
                LockKind::Height => RefundLock::after_blocks(distance.try_into().unwrap()),
                LockKind::Time => RefundLock::after_seconds(distance).unwrap(),
            };
        }
        self.terms = self.terms.on(construction);
        self
    }

    /// Funded from legacy coins, which the payer's limits allow.
    pub fn legacy(mut self) -> Self {
        self.legacy_input = true;
        self.limits.malleable_funding = true;
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

    pub fn considered(&self, open: Envelope) -> Result<(AcceptedProposal, Envelope), Refusal> {
        let limits = self.limits.clone();
        PayeeOpening::accept(open, key("payee"), payout("payee"), limits, self.now)
    }

    /// Where the payee signs the refund.
    pub fn consider(&self, open: Envelope) -> Result<(PayeeOpening<Accepted>, Envelope), Refusal> {
        let (considered, accept) = self.considered(open)?;
        let AcceptedProposal::SignsRefund(payee) = considered else {
            panic!("a refund in the script: {considered:?}");
        };
        Ok((payee, accept))
    }

    pub fn agreed(&self) -> (PayerOpening<Agreed>, AcceptedProposal) {
        let (payer, open) = self.propose();
        let (payee, accept) = self.considered(open).unwrap();
        (payer.accept(accept).unwrap(), payee)
    }

    /// Where the payee signs the refund.
    pub fn held(&self) -> (PayerOpening<Funded>, PayeeOpening<Accepted>, Envelope) {
        let (payer, open) = self.propose();
        let (payee, accept) = self.consider(open).unwrap();
        let payer = payer.accept(accept).unwrap();
        let funding = self.funding(payer.funding_output());
        let (payer, request) = co_signed(payer.fund(funding).unwrap());
        (payer, payee, request)
    }

    pub fn protected(
        &self,
    ) -> (
        PayerOpening<Protected>,
        PayeeOpening<AwaitsFunding>,
        Vec<Envelope>,
    ) {
        let (payer, payee) = self.agreed();
        let funding = self.funding(payer.funding_output());
        match (payer.fund(funding).unwrap(), payee) {
            (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
                let (payee, mut answers) = payee.sign_refund(request, self.when_signing).unwrap();
                let payer = payer.verify_refund(answers.remove(0)).unwrap();
                (payer, payee, answers)
            }
            (FundedOpening::Protected(payer), AcceptedProposal::AwaitsFunding(payee)) => {
                (payer, payee, Vec::new())
            }
            other => panic!("the two disagree on who signs the refund: {other:?}"),
        }
    }

    /// The payer has let go; what it sends or broadcasts first is in the answer.
    pub fn released(&self) -> (Payer, Vec<Action>, PayeeOpening<AwaitsFunding>, Vec<Envelope>) {
        let (payer, payee, answers) = self.protected();
        let (payer, actions) = payer.into_payer();
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
                    let taken = Event::Broadcast(BroadcastResult::accepted(role, &tx));
                    queue.extend(payer.apply(taken).unwrap());
                }
                _ => {}
            }
        }
        let (mut payee, actions) = payee.receive_funding(handed_over.unwrap()).unwrap();
        payee.provide_nonces(NonceSource::new([42; 32]));
        let mut pair = Pair {
            payer,
            payee,
            tip: self.now,
            base: self.now,
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
pub fn co_signed(hold: FundedOpening) -> (PayerOpening<Funded>, Envelope) {
    match hold {
        FundedOpening::CoSigned(payer, request) => (payer, request),
        FundedOpening::Protected(payer) => panic!("a refund in the script: {payer:?}"),
    }
}

/// Every protocol on every construction that has it.
pub fn channels() -> impl Iterator<Item = Case> {
    let on = |protocol| {
        let has = move |construction: &Construction| construction.runs(protocol);
        let constructions = Construction::ALL.into_iter().filter(has);
        constructions.map(move |construction| Case::new(protocol).on(construction))
    };
    Protocol::ALL.into_iter().flat_map(on)
}
