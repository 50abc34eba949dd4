use bitcoin::{FeeRate, ScriptBuf, Transaction, TxOut, Witness};
use spilman::channel::{
    Accepted, AcceptedProposal, Action, Agreed, Capacity, ChannelId, Construction, Envelope, Event, Expiry,
    Funded, FundedOpening, Limits, PayeeOpening, Payer, PayerOpening, Proposed, Protocol, Refusal, Terms,
    Tip,
};
use spilman::sim::{placeholder_funding, AtFunding, AtHandover, AtRefund, Opening, PairSetup};

use super::{sat, Log, Pair, Side};

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
        let PairSetup { id, terms, tip, .. } = PairSetup::new(protocol, Construction::P2sh);
        Self {
            id,
            terms,
            limits: Limits::default(),
            now: tip,
            when_signing: tip,
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
        self.terms = self.setup().on(construction).terms;
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

    /// The same for both parties in memory.
    pub fn setup(&self) -> PairSetup {
        let mut setup = PairSetup::new(self.terms.protocol, self.terms.construction);
        (setup.id, setup.terms) = (self.id, self.terms.clone());
        (setup.tip, setup.tip_at_signing) = (self.now, self.when_signing);
        for party in [&mut setup.payer, &mut setup.payee] {
            party.limits = self.limits.clone();
        }
        setup
    }

    pub fn propose(&self) -> (PayerOpening<Proposed>, Envelope) {
        self.setup().propose().unwrap()
    }

    pub fn considered(&self, open: Envelope) -> Result<(AcceptedProposal, Envelope), Refusal> {
        self.setup().accept(open)
    }

    /// Where the payee signs the refund.
    pub fn consider(&self, open: Envelope) -> Result<(PayeeOpening<Accepted>, Envelope), Refusal> {
        let (considered, accept) = self.considered(open)?;
        Ok((signs_refund(considered), accept))
    }

    pub fn agreed(&self) -> (PayerOpening<Agreed>, AcceptedProposal) {
        let AtFunding { payer, payee } = self.at_funding().state;
        (payer, payee)
    }

    /// Where the payee signs the refund.
    pub fn held(&self) -> (PayerOpening<Funded>, PayeeOpening<Accepted>, Envelope) {
        let AtRefund { payer, payee } = self.at_refund().state;
        let (payer, request) = co_signed(payer);
        (payer, signs_refund(payee), request)
    }

    fn at_funding(&self) -> Opening<AtFunding, Log> {
        let proposed = Opening::propose(self.setup(), Log::default()).unwrap();
        proposed.accept().unwrap()
    }

    fn at_refund(&self) -> Opening<AtRefund, Log> {
        let agreed = self.at_funding();
        let signed = self.funding(agreed.state.payer.funding_output());
        agreed.fund(signed).unwrap()
    }

    /// The payer may let go of its funding transaction; nothing is logged so far.
    pub fn protected(&self) -> Opening<AtHandover, Log> {
        let mut opening = self.at_refund().protect().unwrap();
        opening.network = Log::default();
        opening
    }

    /// The payer has let go; what it sends or broadcasts first is in the answer.
    pub fn released(&self) -> (Payer, Vec<Action>) {
        self.protected().state.payer.into_payer()
    }

    /// Both know the funding transaction, and wait for it to confirm.
    pub fn funded(&self) -> Pair {
        let mut pair = self.protected().hand_over().unwrap();
        pair.run().unwrap();
        pair
    }

    /// The funding transaction has its confirmations, and [`Case::payments`] are made.
    pub fn open(&self) -> Pair {
        let mut pair = self.funded();
        pair.poll_both(pair.payee.params().confirmations(), None).unwrap();
        for payment in &self.payments {
            pair.apply(Side::Payer, Event::Pay(sat(*payment))).unwrap();
        }
        pair
    }

    /// T1, as a wallet would make it.
    pub fn funding(&self, output: TxOut) -> Transaction {
        let mut tx = placeholder_funding(output);
        if self.legacy_input {
            tx.input[0].witness = Witness::new();
            tx.input[0].script_sig = ScriptBuf::from_bytes([&[71][..], &[1; 71], &[33], &[2; 33]].concat());
        }
        tx
    }
}

/// The payee whose signature the refund needs.
fn signs_refund(payee: AcceptedProposal) -> PayeeOpening<Accepted> {
    match payee {
        AcceptedProposal::SignsRefund(payee) => payee,
        AcceptedProposal::AwaitsFunding(payee) => panic!("a refund in the script: {payee:?}"),
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
