//! A payer and a payee on a node, on any construction, without a wire between them.

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};
use spilman::channel::*;
use spilman::regtest::{labelled_key, Coin, CoinKind, Node, Policy, Regtest};
use spilman::sim::{AtFunding, AtProposal, Opening, Pair, PairSetup, PartySetup, SimError};

use super::relay::Relay;

use crate::common::duo::tip;

pub use crate::common::duo::{sat, start};
pub use spilman::transcript::Side;

pub fn per_vb(sat: u32) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(sat)
}

/// The channels agree on 2 sat/vB, and their node asks for this.
pub fn asked() -> FeeRate {
    per_vb(5)
}

/// Where a child pays what it does not need for the fee.
pub fn wallet() -> ScriptBuf {
    CoinKind::Segwit.script(&labelled_key("spilman/tests/fees/wallet"))
}

/// A node that relays nothing below this feerate.
pub fn start_at_least(feerate: FeeRate) -> Regtest {
    let node = Node::builder().policy(Policy::at_least(feerate));
    Regtest::builder().node(node).start().expect("a node")
}

/// What a channel is opened with.
pub struct Case {
    pub setup: PairSetup,
    pub coin: Coin,
    /// What the payee is told that the terms are; as a rule what they are.
    pub told: Option<Terms>,
    /// What the payer is told that the payee counts before confirmation; as a rule what it does.
    pub promised: Option<Amount>,
}

impl Case {
    /// A million satoshi with default terms; the coin has 1,000 more for the funding transaction's fee.
    pub fn new(chain: &Regtest, construction: Construction) -> Self {
        Self::funded_by(chain, construction, CoinKind::Segwit, sat(1_000_000))
    }

    pub fn funded_by(chain: &Regtest, construction: Construction, kind: CoinKind, capacity: Amount) -> Self {
        // Each channel has separate keys, as it should.
        let height = tip(chain).height;
        let key = |role: &str| labelled_key(&format!("spilman/tests/fees/{construction}/{height}/{role}"));
        let (payer, payee) = (key("payer"), key("payee"));
        let coin = chain.fund_key(capacity + sat(1_000), kind, key("coin"));
        let tip = tip(chain);
        let terms = Terms::with(
            Protocol::Example7,
            construction,
            Capacity::new(capacity).expect("a capacity"),
            tip,
        );
        let party = |secret: SecretKey| PartySetup {
            secret,
            payout: CoinKind::Segwit.script(&secret),
            limits: Limits::default(),
        };
        let mut setup = PairSetup {
            id: ChannelId(1),
            terms: terms.expect("a lock"),
            payer: party(payer),
            payee: party(payee),
            tip,
            tip_at_signing: tip,
            nonce_seed: Some(payee.secret_bytes()),
        };
        setup.payer.limits.malleable_funding = kind == CoinKind::Legacy;
        Self {
            setup,
            coin: coin.expect("funds"),
            told: None,
            promised: None,
        }
    }

    pub fn feerate(mut self, feerate: FeeRate) -> Self {
        self.setup.terms.feerate = feerate;
        self
    }

    /// What both say before anything is signed.
    pub fn agree(&self, chain: &Regtest) -> Result<AtFunding, Refusal> {
        Ok(self.agreed(chain)?.state)
    }

    fn agreed(&self, chain: &Regtest) -> Result<Opening<AtFunding, Relay>, Refusal> {
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

    /// The opening, until the payee has given the funding transaction to the network, and both have seen that it is not
    /// confirmed.
    pub fn fund(self, chain: &Regtest) -> Channel {
        let agreed = self.agreed(chain).expect("sound terms");
        let output = agreed.state.payer.funding_output();
        let funding = self.coin.spend(vec![output]).expect("the coin is large enough");
        let protected = agreed.fund(funding).expect("held").protect().expect("signed");
        let mut channel = Channel {
            case: self,
            pair: protected.hand_over().expect("the agreed one"),
            refused: Vec::new(),
        };
        channel.run();
        channel.poll();
        channel
    }

    /// The same, and the funding transaction has three confirmations.
    pub fn open(self, chain: &Regtest) -> Channel {
        let mut channel = self.fund(chain);
        chain.mine(3).expect("blocks");
        channel.poll();
        assert_eq!(channel.pair.payer.stage(), Stage::Open, "{:?}", channel.refused);
        channel
    }
}

/// Both parties, and what came of what they did.
pub struct Channel {
    pub case: Case,
    pub pair: Pair<Relay>,
    /// What one side said and the other refused.
    pub refused: Vec<(Side, ApplyError)>,
}

impl Channel {
    /// One side is told something; all that follows from it happens at once.
    pub fn tell(&mut self, side: Side, event: Event) -> Result<(), ApplyError> {
        let actions = self.pair.tell(side, event)?;
        self.pair.queue(side, actions);
        self.run();
        Ok(())
    }

    /// One side hears something that the other has not said.
    pub fn hear(&mut self, side: Side, message: Message) -> Result<(), ApplyError> {
        let envelope = Envelope {
            channel: self.pair.payee.params().id(),
            message,
        };
        self.tell(side, Event::Message(envelope))
    }

    /// Whatever is refused is noted, and the rest goes on.
    fn run(&mut self) {
        while !self.pair.pending().is_empty() {
            match self.pair.step() {
                Ok(()) => {}
                Err(SimError::Refused { by, refusal, .. }) => self.refused.push((by, refusal.into())),
                Err(SimError::Apply { side, error }) => self.refused.push((side, error)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Both poll the chain, the payee first.
    pub fn poll(&mut self) {
        for side in [Side::Payee, Side::Payer] {
            self.poll_as(side);
        }
    }

    pub fn poll_as(&mut self, side: Side) {
        let outpoint = self.outpoint();
        let seen = Event::Chain(self.pair.network.view(outpoint));
        self.tell(side, seen).expect("what a node says is never refused");
    }

    pub fn outpoint(&self) -> OutPoint {
        self.pair.payee.funding().outpoint()
    }

    pub fn params(&self) -> &ChannelParams {
        self.pair.payee.params()
    }

    pub fn construction(&self) -> Construction {
        self.params().terms().construction
    }

    /// A payment that goes well.
    pub fn pay(&mut self, more: Amount) {
        self.tell(Side::Payer, Event::Pay(more))
            .expect("the payer can pay");
        assert_eq!(self.refused, [], "{}: {more}", self.construction());
        assert_eq!(
            self.pair.payee.paid(),
            self.pair.payer.paid(),
            "{}",
            self.construction()
        );
    }

    /// The latest payment, as the payee would broadcast it.
    pub fn redeemable(&self) -> SettlementTx {
        let redeemable = self.pair.payee.redeemable().expect("completed");
        redeemable.expect("a payment is held")
    }

    /// The payee asks the payer for a settlement at this feerate, and broadcasts it.
    pub fn close_at(&mut self, feerate: FeeRate) -> SettlementTx {
        self.tell(Side::Payee, Event::CloseAt(feerate))
            .expect("it can be asked for");
        assert_eq!(self.refused, [], "{}", self.construction());
        self.pair.payee.settlement().expect("the payer answers").clone()
    }

    /// What the last transaction of this role was answered.
    #[track_caller]
    pub fn answer(&self, role: SpendRole) -> Option<spilman::regtest::RejectReason> {
        let mut answers = self.pair.network.broadcasts.iter().rev();
        let last = answers.find(|(its, ..)| *its == role);
        last.unwrap_or_else(|| panic!("no {} was broadcast", role.name()))
            .2
    }

    /// What the funding output's value leaves over.
    pub fn fee(&self, tx: &Transaction) -> Amount {
        let paid_out: Amount = tx.output.iter().map(|output| output.value).sum();
        self.params().terms().capacity.to_amount() - paid_out
    }

    /// An output of a spend, with the key that spends it.
    pub fn coin(&self, side: Side, parent: &Transaction) -> Coin {
        let party = match side {
            Side::Payer => &self.case.setup.payer,
            Side::Payee => &self.case.setup.payee,
        };
        let (key, script) = (party.secret, &party.payout);
        let mut outputs = (0..).zip(&parent.output);
        let (vout, output) = outputs
            .find(|(_, output)| output.script_pubkey == *script)
            .unwrap_or_else(|| panic!("nothing for the {side:?} in {parent:?}"));
        Coin {
            outpoint: OutPoint::new(parent.compute_txid(), vout),
            output: output.clone(),
            key,
            kind: if script.is_p2pkh() {
                CoinKind::Legacy
            } else {
                CoinKind::Segwit
            },
            funding: parent.clone(),
        }
    }

    /// What the wallet of a side does with a child of the side's output.
    pub fn sign(&self, side: Side, child: &ChildTx, parent: &Transaction) -> Transaction {
        let coin = self.coin(side, parent);
        assert_eq!(child.prevout(), &coin.output);
        let mut tx = child.unsigned().clone();
        coin.sign(&mut tx).expect("it spends the coin");
        tx
    }

    pub fn to_payer(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.case.setup.payer.payout.clone(),
        }
    }

    pub fn to_payee(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.case.setup.payee.payout.clone(),
        }
    }
}
