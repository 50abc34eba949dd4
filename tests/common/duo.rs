//! A payer and a payee without a wire between them, so that a test can come between any two steps.

use bitcoin::absolute::{Height, LockTime, Time};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut};
use spilman::channel::*;
use spilman::regtest::{labelled_key, Coin, CoinKind, Regtest};

use super::spend;

/// Both sides' secrets, and the payer's coin.
pub struct Cast {
    pub payer: SecretKey,
    pub payee: SecretKey,
    pub coin: Coin,
    pub terms: Terms,
    pub limits: Limits,
}

/// An open channel, its funding transaction three blocks deep.
pub struct Duo {
    pub cast: Cast,
    pub payer: Payer,
    pub payee: Payee,
    /// Below the block with the funding transaction.
    pub base: Tip,
}

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn tip(chain: &Regtest) -> Tip {
    let tip = chain.tip().expect("the node answers");
    Tip {
        height: Height::from_consensus(tip.height).expect("a height"),
        mtp: Time::from_consensus(tip.mtp).expect("a time"),
    }
}

pub fn payout(key: &SecretKey) -> ScriptBuf {
    CoinKind::Segwit.script(key)
}

/// The payer's refund is safe: the payee has signed it, unless the script lets the payer have its money back.
pub fn protect(
    hold: FundedOpening,
    considered: AcceptedProposal,
    tip: Tip,
) -> (PayerOpening<Protected>, PayeeOpening<AwaitsFunding>) {
    match (hold, considered) {
        (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
            let (payee, answers) = payee.sign_refund(request, tip).expect("signed");
            (payer.verify_refund(answers[0].clone()).expect("verified"), payee)
        }
        (FundedOpening::Protected(payer), AcceptedProposal::AwaitsFunding(payee)) => (payer, payee),
        other => panic!("the two disagree on who signs the refund: {other:?}"),
    }
}

impl Cast {
    /// Default terms; `label` makes the keys, and the coin has 1,000 satoshi for the funding's fee.
    pub fn new(chain: &Regtest, label: &str, protocol: Protocol, capacity: Amount) -> Self {
        let key = |role: &str| labelled_key(&format!("spilman/tests/{label}/{role}"));
        let coin = chain
            .fund_key(capacity + sat(1_000), CoinKind::Segwit, key("coin"))
            .expect("funds");
        let capacity = Capacity::new(capacity).expect("a capacity");
        let terms = Terms::with(protocol, Construction::P2sh, capacity, tip(chain)).expect("a lock");
        Self {
            payer: key("payer"),
            payee: key("payee"),
            coin,
            terms,
            limits: Limits::default(),
        }
    }

    pub fn on(mut self, construction: Construction) -> Self {
        self.terms = self.terms.on(construction);
        self
    }

    /// Proposal and answer, and the payer holds its funding transaction.
    fn hold(&self, chain: &Regtest) -> (FundedOpening, AcceptedProposal) {
        let (tip, id) = (tip(chain), ChannelId(1));
        let (key, to) = (ChannelKey::new(self.payer), payout(&self.payer));
        let (terms, limits) = (self.terms.clone(), self.limits.clone());
        let (payer, proposal) = PayerOpening::propose(id, terms, key, to, limits, tip).expect("sound terms");
        let (key, to) = (ChannelKey::new(self.payee), payout(&self.payee));
        let (payee, accept) =
            PayeeOpening::accept(proposal, key, to, self.limits.clone(), tip).expect("accepted");
        let payer = payer.accept(accept).expect("agreed");
        let funding = self
            .coin
            .spend(vec![payer.funding_output()])
            .expect("the coin is large enough");
        (payer.fund(funding).expect("held"), payee)
    }

    /// Proposal, answer, and the request for the refund's signature.
    pub fn agree(&self, chain: &Regtest) -> (PayerOpening<Funded>, PayeeOpening<Accepted>, Envelope) {
        match self.hold(chain) {
            (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
                (payer, payee, request)
            }
            other => panic!("a refund in the script: {other:?}"),
        }
    }

    /// The whole opening, the broadcast, and three blocks.
    pub fn open(self, chain: &Regtest) -> Duo {
        let (hold, considered) = self.hold(chain);
        let (payer, payee) = protect(hold, considered, tip(chain));
        let (payer, _) = payer.into_payer();
        let tx = payer.funding().tx().clone();
        let handed = Envelope {
            channel: ChannelId(1),
            message: Message::Funding { tx: tx.clone() },
        };
        let (payee, _) = payee.receive_funding(handed).expect("the agreed one");
        chain.node().submit(&tx).expect("an answer").expect_accepted();
        let base = tip(chain);
        chain.mine(3).expect("blocks");
        let mut duo = Duo {
            cast: self,
            payer,
            payee,
            base,
        };
        // The payer is Open once the payee says so; Example 7's first payment of nothing goes back.
        for action in duo.see(chain, 3) {
            if let Action::Send(envelope) = action {
                for answer in duo.payer.apply(Event::Message(envelope)).expect("ready") {
                    if let Action::Send(envelope) = answer {
                        duo.payee.apply(Event::Message(envelope)).expect("the first T3");
                    }
                }
            }
        }
        duo
    }
}

impl Duo {
    /// The payee looks at the chain: the funding transaction is so deep, and unspent.
    pub fn see(&mut self, chain: &Regtest, confirmations: u32) -> Vec<Action> {
        let view = ChainView {
            tip: tip(chain),
            confirmations,
            funding_parent: (confirmations > 0).then_some(self.base),
            spend: None,
        };
        self.payee.apply(Event::Chain(view)).expect("applied")
    }

    /// The payer signs a payment of so much more.
    pub fn sign(&mut self, more: Amount) -> Envelope {
        let actions = self.payer.apply(Event::Pay(more)).expect("the payer can pay");
        let sent = actions.into_iter().find_map(|action| match action {
            Action::Send(envelope) => Some(envelope),
            _ => None,
        });
        sent.expect("a payment is sent")
    }

    pub fn receive(&mut self, message: Envelope) -> Result<Vec<Action>, ApplyError> {
        self.payee.apply(Event::Message(message))
    }

    /// A payment that goes well, as the payee could redeem it.
    pub fn pay(&mut self, more: Amount) -> SettlementTx {
        let payment = self.sign(more);
        self.receive(payment).expect("accepted");
        self.payee
            .redeemable()
            .expect("completed")
            .expect("a payment is held")
    }

    pub fn params(&self) -> &ChannelParams {
        self.payee.params()
    }

    /// Signatures of both over whatever this is, payer's first.
    pub fn signatures(&self, tx: &Transaction) -> [Vec<u8>; 2] {
        [&self.cast.payer, &self.cast.payee].map(|key| spend::sign(self.params(), tx, key))
    }

    /// Both sign whatever this is.
    pub fn both_sign(&self, tx: Transaction) -> Transaction {
        let signatures = self.signatures(&tx);
        spend::finish(self.params(), tx, signatures)
    }

    /// The newest payment, unsigned.
    pub fn payment(&self) -> Transaction {
        let held = self.payee.redeemable().expect("completed").expect("a payment");
        spend::stripped(held.tx())
    }

    /// The refund with these two fields, as the payer can sign it: alone where the script lets it.
    pub fn refund(&self, lock: LockTime, sequence: Sequence) -> Transaction {
        let output = vec![self.to_payer(self.params().refund_amount())];
        let tx = spend::unsigned(self.payee.funding().outpoint(), lock, sequence, output);
        if !self.params().terms().construction.has_script_refund() {
            return self.both_sign(tx);
        }
        let signature = spend::sign_refund(self.params(), &tx, &self.cast.payer);
        spend::finish_refund(self.params(), tx, signature)
    }

    pub fn to_payer(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: payout(&self.cast.payer),
        }
    }

    pub fn to_payee(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: payout(&self.cast.payee),
        }
    }
}

/// What was refused, whoever asked.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(result: Result<T, ApplyError>) -> Refusal {
    match result {
        Err(ApplyError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The 64 bytes of a payment message, changed.
pub fn with_signature(mut envelope: Envelope, compact: [u8; 64]) -> Envelope {
    if let Message::Payment { signature: sent, .. } = &mut envelope.message {
        *sent = UnverifiedSignature::from_compact(compact);
    }
    envelope
}
