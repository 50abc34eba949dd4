//! What a payer and a payee bring to a channel on a node, and the opening.

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate};
use spilman::channel::{
    Capacity, ChannelId, Construction, Expiry, Limits, LockKind, Protocol, RefundLock, Refusal, Stage, Terms,
    Tip,
};
use spilman::regtest::{labelled_key, Coin, CoinKind, Regtest, RejectReason};
use spilman::sim::{sim_tip, AtFunding, AtProposal, AtRefund, Opening, PairSetup, PartySetup, SimError};

use super::channel::Channel;
use super::relay::Relay;

pub const fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn start() -> Regtest {
    Regtest::start().unwrap_or_else(|error| panic!("{error}"))
}

pub fn tip(chain: &Regtest) -> Tip {
    let tip = chain.tip().expect("the node answers");
    sim_tip(tip.height, tip.mtp)
}

/// Each construction with a lock of height and with one of time.
pub fn both_kinds() -> impl Iterator<Item = (Construction, LockKind)> {
    let kinds = [LockKind::Height, LockKind::Time];
    let all = Construction::ALL.into_iter();
    all.flat_map(move |construction| kinds.map(|kind| (construction, kind)))
}

/// Why the node rejects the refund before its lock has passed.
pub fn not_final(construction: Construction) -> RejectReason {
    if construction.has_relative_lock() {
        RejectReason::NonBip68Final
    } else {
        RejectReason::NonFinal
    }
}

/// What both bring, and the payer's coin.
pub struct Cast {
    pub setup: PairSetup,
    pub coin: Coin,
    /// The terms that the payee is told; as a rule what they are.
    pub told: Option<Terms>,
    /// What the payer is told that the payee counts before confirmation; as a rule what it does.
    pub promised: Option<Amount>,
}

impl Cast {
    /// Default terms; `label` makes the keys, and the coin has 1,000 satoshi for the funding's fee.
    pub fn new(chain: &Regtest, label: &str, protocol: Protocol, capacity: Amount) -> Self {
        Self::funded_by(chain, label, protocol, capacity, CoinKind::Segwit)
    }

    pub fn funded_by(
        chain: &Regtest,
        label: &str,
        protocol: Protocol,
        capacity: Amount,
        kind: CoinKind,
    ) -> Self {
        let key = |role: &str| labelled_key(&format!("spilman/tests/{label}/{role}"));
        let coin = chain.fund_key(capacity + sat(1_000), kind, key("coin"));
        let tip = tip(chain);
        let capacity = Capacity::new(capacity).expect("a capacity");
        let terms = Terms::with(protocol, Construction::P2sh, capacity, tip);
        let party = |secret: SecretKey| PartySetup {
            secret,
            payout: CoinKind::Segwit.script(&secret),
            limits: Limits::default(),
        };
        let mut setup = PairSetup {
            id: ChannelId(1),
            terms: terms.expect("a lock"),
            payer: party(key("payer")),
            payee: party(key("payee")),
            tip,
            tip_at_signing: tip,
            nonce_seed: None,
        };
        setup.payer.limits.malleable_funding = kind == CoinKind::Legacy;
        Self {
            setup,
            coin: coin.expect("funds"),
            told: None,
            promised: None,
        }
    }

    pub fn on(mut self, construction: Construction) -> Self {
        self.setup.terms = self.setup.terms.on(construction);
        self
    }

    /// With a lock of this kind: a day, absolute or relative as the construction has it.
    pub fn locked(mut self, chain: &Regtest, kind: LockKind) -> Self {
        let lock = &mut self.setup.terms.refund_lock;
        if kind == LockKind::Time {
            *lock = match lock {
                RefundLock::Absolute(_) => Expiry::seconds_after(tip(chain), Terms::DAY).unwrap().into(),
                RefundLock::Relative(_) => RefundLock::after_seconds(Terms::DAY).unwrap(),
            };
        }
        self
    }

    pub fn feerate(mut self, feerate: FeeRate) -> Self {
        self.setup.terms.feerate = feerate;
        self
    }

    /// Changes the limits of both.
    pub fn limit(&mut self, change: impl Fn(&mut Limits)) {
        change(&mut self.setup.payer.limits);
        change(&mut self.setup.payee.limits);
    }

    /// What both say before anything is signed.
    pub fn agree(&self, chain: &Regtest) -> Result<Opening<AtFunding, Relay>, Refusal> {
        let mut setup = self.setup.clone();
        (setup.tip, setup.tip_at_signing) = (tip(chain), tip(chain));
        let relay = Relay::new(chain, self.told.clone(), self.promised);
        let agreed = Opening::propose(setup, relay).and_then(Opening::<AtProposal, _>::accept);
        agreed.map_err(|error| match error {
            SimError::Propose(error) => error.into(),
            SimError::Refused { refusal, .. } => refusal,
            error => panic!("{error}"),
        })
    }

    /// The payer holds its funding transaction.
    pub fn hold(&self, chain: &Regtest) -> Opening<AtRefund, Relay> {
        let agreed = self.agree(chain).expect("sound terms");
        let output = agreed.state.payer.funding_output();
        let funding = self.coin.spend(vec![output]).expect("the coin is large enough");
        agreed.fund(funding).expect("held")
    }

    /// The opening, until the network has the funding transaction, and both have seen that it is not confirmed.
    pub fn fund(self, chain: &Regtest) -> Channel {
        let protected = self.hold(chain).protect().expect("signed");
        let pair = protected.hand_over().expect("the agreed one");
        Channel::funded(self, pair)
    }

    /// The same, and the funding transaction has three confirmations.
    pub fn open(self, chain: &Regtest) -> Channel {
        let mut channel = self.fund(chain);
        channel.pair.funding_parent = tip(chain);
        chain.mine(3).expect("blocks");
        channel.poll();
        assert_eq!(channel.pair.payer.stage(), Stage::Open, "{:?}", channel.refused);
        channel
    }
}
