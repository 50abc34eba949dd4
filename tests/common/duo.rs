//! A payer and a payee without a wire between them, so that a test can come between any two steps.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut};
use spilman::channel::*;
use spilman::regtest::{labelled_key, Coin, CoinKind, Regtest, RejectReason};

use spilman::sim::{sim_tip, AtRefund, Instant, Opening, Pair, PairSetup, PartySetup};
use spilman::transcript::Side;

use super::spend;
use crate::common::judge::Judge as _;

/// Both sides' secrets, and the payer's coin.
pub struct Cast {
    pub payer: SecretKey,
    pub payee: SecretKey,
    pub coin: Coin,
    pub terms: Terms,
    pub limits: Limits,
}

/// An open channel, its funding transaction with three confirmations.
pub struct Duo {
    pub cast: Cast,
    pub pair: Pair<Instant>,
}

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn start() -> Regtest {
    Regtest::start().unwrap_or_else(|error| panic!("{error}"))
}

/// Each construction with a lock of height and with one of time.
pub fn both_kinds() -> impl Iterator<Item = (Construction, LockKind)> {
    let kinds = [LockKind::Height, LockKind::Time];
    let all = Construction::ALL.into_iter();
    all.flat_map(move |construction| kinds.map(|kind| (construction, kind)))
}

/// Why the node rejects the refund before its lock is over.
pub fn not_final(construction: Construction) -> RejectReason {
    if construction.has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    }
}

pub fn tip(chain: &Regtest) -> Tip {
    let tip = chain.tip().expect("the node answers");
    sim_tip(tip.height, tip.mtp)
}

pub fn payout(key: &SecretKey) -> ScriptBuf {
    CoinKind::Segwit.script(key)
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

    /// With a lock of this kind: a day, absolute or relative as the construction has it.
    pub fn locked(mut self, chain: &Regtest, kind: LockKind) -> Self {
        if kind == LockKind::Time {
            self.terms.refund_lock = match self.terms.refund_lock {
                RefundLock::Absolute(_) => Expiry::seconds_after(tip(chain), Terms::DAY).unwrap().into(),
                RefundLock::Relative(_) => RefundLock::after_seconds(Terms::DAY).unwrap(),
            };
        }
        self
    }

    fn setup(&self, tip: Tip) -> PairSetup {
        let party = |secret: SecretKey| PartySetup {
            secret,
            payout: payout(&secret),
            limits: self.limits.clone(),
        };
        PairSetup {
            id: ChannelId(1),
            terms: self.terms.clone(),
            payer: party(self.payer),
            payee: party(self.payee),
            tip,
            tip_at_signing: tip,
            nonce_seed: None,
        }
    }

    /// Proposal and answer, and the payer holds its funding transaction.
    fn hold(&self, chain: &Regtest) -> Opening<AtRefund, Instant> {
        let proposed = Opening::propose(self.setup(tip(chain)), Instant).expect("sound terms");
        let agreed = proposed.accept().expect("agreed");
        let output = agreed.state.payer.funding_output();
        let funding = self.coin.spend(vec![output]).expect("the coin is large enough");
        agreed.fund(funding).expect("held")
    }

    /// Proposal, answer, and the request for the refund's signature.
    pub fn agree(&self, chain: &Regtest) -> (PayerOpening<Funded>, PayeeOpening<Accepted>, Envelope) {
        let AtRefund { payer, payee } = self.hold(chain).state;
        match (payer, payee) {
            (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
                (payer, payee, request)
            }
            other => panic!("a refund in the script: {other:?}"),
        }
    }

    /// The whole opening, the broadcast, and three blocks.
    pub fn open(self, chain: &Regtest) -> Duo {
        let protected = self.hold(chain).protect().expect("signed");
        let mut pair = protected.hand_over().expect("the agreed one");
        pair.run().expect("no message, or an honest one");
        let funding = pair.payer.funding().tx();
        chain.node().broadcasts(funding);
        pair.funding_parent = tip(chain);
        chain.mine(3).expect("blocks");
        pair.tip = tip(chain);
        pair.poll_both(3, None).expect("ready");
        Duo { cast: self, pair }
    }
}

impl Duo {
    /// The payee polls the chain: the funding transaction has this many confirmations, and is unspent.
    pub fn see(&mut self, chain: &Regtest, confirmations: u32) -> Vec<Action> {
        self.pair.tip = tip(chain);
        let view = self.pair.view(confirmations, None);
        self.pair.tell(Side::Payee, Event::Chain(view)).expect("applied")
    }

    /// The payer signs a payment of this much more.
    pub fn sign(&mut self, more: Amount) -> Envelope {
        let told = self.pair.tell(Side::Payer, Event::Pay(more));
        let actions = told.expect("the payer can pay");
        let sent = actions.into_iter().find_map(|action| match action {
            Action::Send(envelope) => Some(envelope),
            _ => None,
        });
        sent.expect("a payment is sent")
    }

    pub fn receive(&mut self, message: Envelope) -> Result<Vec<Action>, ApplyError> {
        self.pair.tell(Side::Payee, Event::Message(message))
    }

    /// A payment that goes well, as the payee could redeem it.
    pub fn pay(&mut self, more: Amount) -> SettlementTx {
        let payment = self.sign(more);
        self.receive(payment).expect("accepted");
        self.pair
            .payee
            .redeemable()
            .expect("completed")
            .expect("a payment is held")
    }

    pub fn params(&self) -> &ChannelParams {
        self.pair.payee.params()
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

    /// The latest payment, unsigned.
    pub fn payment(&self) -> Transaction {
        let held = self
            .pair
            .payee
            .redeemable()
            .expect("completed")
            .expect("a payment");
        spend::stripped(held.tx())
    }

    /// The refund with these two fields, as the payer can sign it: alone where the script lets it.
    pub fn refund(&self, lock: LockTime, sequence: Sequence) -> Transaction {
        let output = vec![self.to_payer(self.params().refund_amount())];
        let tx = spend::unsigned(self.pair.payee.funding().outpoint(), lock, sequence, output);
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

/// What was refused.
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
