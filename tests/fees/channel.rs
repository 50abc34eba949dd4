//! A payer and a payee on a node, on any construction, without a wire between them.

use std::collections::VecDeque;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};
use spilman::channel::*;
use spilman::regtest::{labelled_key, Coin, CoinKind, Node, Policy, Regtest, RejectReason};
use spilman::service::{BitcoindChain, Chain};
use tokio::runtime::{Builder, Runtime};

use crate::common::duo::{protect, tip};

pub use crate::common::duo::sat;

pub fn per_vb(sat: u32) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(sat)
}

pub fn start() -> Regtest {
    Regtest::start().expect("a node")
}

/// A node that relays nothing below this feerate.
pub fn start_at_least(feerate: FeeRate) -> Regtest {
    let node = Node::builder().policy(Policy::at_least(feerate));
    Regtest::builder().node(node).start().expect("a node")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Payer,
    Payee,
}

/// What a channel is opened with.
pub struct Case {
    pub payer: SecretKey,
    pub payee: SecretKey,
    pub to_payer: ScriptBuf,
    pub to_payee: ScriptBuf,
    pub coin: Coin,
    pub terms: Terms,
    /// What the payee is told that the terms are; as a rule what they are.
    pub told: Option<Terms>,
    /// What the payer is told that the payee counts before confirmation; as a rule what it does.
    pub promised: Option<Amount>,
    pub limits: Limits,
    pub payee_limits: Limits,
}

impl Case {
    /// A million satoshi with default terms; the coin has 1,000 more for the funding transaction's fee.
    pub fn new(chain: &Regtest, construction: Construction) -> Self {
        Self::funded_by(chain, construction, CoinKind::Segwit, sat(1_000_000))
    }

    pub fn funded_by(chain: &Regtest, construction: Construction, kind: CoinKind, capacity: Amount) -> Self {
        // Each channel has keys of its own, as it should be.
        let height = tip(chain).height;
        let key = |role: &str| labelled_key(&format!("spilman/tests/fees/{construction}/{height}/{role}"));
        let (payer, payee) = (key("payer"), key("payee"));
        let coin = chain.fund_key(capacity + sat(1_000), kind, key("coin"));
        let terms = Terms::with(
            Protocol::Example7,
            construction,
            Capacity::new(capacity).expect("a capacity"),
            tip(chain),
        );
        let limits = Limits {
            malleable_funding: kind == CoinKind::Legacy,
            ..Limits::default()
        };
        Self {
            to_payer: CoinKind::Segwit.script(&payer),
            to_payee: CoinKind::Segwit.script(&payee),
            payer,
            payee,
            coin: coin.expect("funds"),
            terms: terms.expect("a lock"),
            told: None,
            promised: None,
            limits,
            payee_limits: Limits::default(),
        }
    }

    pub fn feerate(mut self, feerate: FeeRate) -> Self {
        self.terms.feerate = feerate;
        self
    }

    /// What both say before anything is signed.
    pub fn agree(&self, chain: &Regtest) -> Result<(PayerOpening<Agreed>, AcceptedProposal), Refusal> {
        let (tip, id) = (tip(chain), ChannelId(1));
        let (key, to) = (ChannelKey::new(self.payer), self.to_payer.clone());
        let (terms, limits) = (self.terms.clone(), self.limits.clone());
        let (payer, mut open) = PayerOpening::propose(id, terms, key, to, limits, tip)?;
        if let (Message::Open { terms, .. }, Some(told)) = (&mut open.message, &self.told) {
            *terms = told.clone();
        }
        let (key, to) = (ChannelKey::new(self.payee), self.to_payee.clone());
        let (payee, mut accept) = PayeeOpening::accept(open, key, to, self.payee_limits.clone(), tip)?;
        if let (Message::Accept { confirmation, .. }, Some(promised)) = (&mut accept.message, self.promised) {
            confirmation.zero_conf_limit = promised;
        }
        Ok((payer.accept(accept)?, payee))
    }

    /// The opening, until the payee has given the funding transaction to the network, and both have seen that it is not
    /// confirmed.
    pub fn fund(self, chain: &Regtest) -> Channel {
        let sight = BitcoindChain::when_announced(chain.node().new_client());
        let (payer, payee) = self.agree(chain).expect("sound terms");
        let output = payer.funding_output();
        let funding = self.coin.spend(vec![output]).expect("the coin is large enough");
        let (payer, payee) = protect(payer.fund(funding).expect("held"), payee, tip(chain));
        let (payer, mut actions) = payer.into_payer();
        let Some(Action::Send(handed)) = actions.pop() else {
            panic!("example 7 hands the funding transaction over");
        };
        let (mut payee, actions) = payee.receive_funding(handed).expect("the agreed one");
        payee.provide_nonces(NonceSource::new(self.payee.secret_bytes()));
        let mut channel = Channel {
            case: self,
            payer,
            payee,
            notices: Vec::new(),
            broadcasts: Vec::new(),
            refused: Vec::new(),
            sight,
            runtime: Builder::new_current_thread().build().expect("a runtime"),
        };
        channel.carry_out(Side::Payee, actions);
        channel.look();
        channel
    }

    /// The same, and the funding transaction is three blocks deep.
    pub fn open(self, chain: &Regtest) -> Channel {
        let mut channel = self.fund(chain);
        chain.mine(3).expect("blocks");
        channel.look();
        assert_eq!(channel.payer.stage(), Stage::Open, "{:?}", channel.refused);
        channel
    }
}

/// Both parties, and what came of what they did.
pub struct Channel {
    pub case: Case,
    pub payer: Payer,
    pub payee: Payee,
    pub notices: Vec<(Side, Notice)>,
    /// What was given to the node, and why it did not take it.
    pub broadcasts: Vec<(SpendRole, Transaction, Option<RejectReason>)>,
    /// What one side said and the other did not take.
    pub refused: Vec<(Side, ApplyError)>,
    sight: BitcoindChain,
    runtime: Runtime,
}

impl Channel {
    /// One side is told something; all that follows from it happens at once.
    pub fn tell(&mut self, side: Side, event: Event) -> Result<(), ApplyError> {
        let actions = match side {
            Side::Payer => self.payer.apply(event)?,
            Side::Payee => self.payee.apply(event)?,
        };
        self.carry_out(side, actions);
        Ok(())
    }

    /// One side hears something that the other has not said.
    pub fn hear(&mut self, side: Side, message: Message) -> Result<(), ApplyError> {
        let envelope = Envelope {
            channel: self.payee.params().id(),
            message,
        };
        self.tell(side, Event::Message(envelope))
    }

    fn carry_out(&mut self, side: Side, actions: Vec<Action>) {
        let mut queue: VecDeque<_> = actions.into_iter().map(|action| (side, action)).collect();
        while let Some((side, action)) = queue.pop_front() {
            let (next, event) = match action {
                Action::Notify(notice) => {
                    self.notices.push((side, notice));
                    continue;
                }
                Action::Send(envelope) => match side {
                    Side::Payer => (Side::Payee, Event::Message(envelope)),
                    Side::Payee => (Side::Payer, Event::Message(envelope)),
                },
                Action::Broadcast { role, tx } => {
                    let answer = self.runtime.block_on(self.sight.broadcast(&tx));
                    (side, self.answered(role, tx, answer.expect("the node answers")))
                }
                Action::BroadcastPackage { role, package } => {
                    let answer = self.runtime.block_on(self.sight.broadcast_package(&package));
                    let parent = package.parent().clone();
                    (
                        side,
                        self.answered(role, parent, answer.expect("the node answers")),
                    )
                }
                other => panic!("nobody expects {other:?}"),
            };
            let more = match next {
                Side::Payer => self.payer.apply(event),
                Side::Payee => self.payee.apply(event),
            };
            match more {
                Ok(more) => queue.extend(more.into_iter().map(|action| (next, action))),
                Err(error) => self.refused.push((next, error)),
            }
        }
    }

    fn answered(&mut self, role: SpendRole, tx: Transaction, rejected: Option<String>) -> Event {
        let txid = tx.compute_txid();
        let reason = rejected.as_deref().map(RejectReason::of);
        self.broadcasts.push((role, tx, reason));
        Event::Broadcast(BroadcastResult { role, txid, rejected })
    }

    /// Both look at the chain, the payee first.
    pub fn look(&mut self) {
        for side in [Side::Payee, Side::Payer] {
            self.look_as(side);
        }
    }

    pub fn look_as(&mut self, side: Side) {
        let outpoint = self.outpoint();
        let view = self.runtime.block_on(self.sight.view(outpoint));
        let seen = Event::Chain(view.expect("the node answers"));
        self.tell(side, seen).expect("what a node says is never refused");
    }

    pub fn outpoint(&self) -> OutPoint {
        self.payee.funding().outpoint()
    }

    pub fn params(&self) -> &ChannelParams {
        self.payee.params()
    }

    pub fn construction(&self) -> Construction {
        self.params().terms().construction
    }

    /// A payment that goes well.
    pub fn pay(&mut self, more: Amount) {
        self.tell(Side::Payer, Event::Pay(more))
            .expect("the payer can pay");
        assert_eq!(self.refused, [], "{}: {more}", self.construction());
        assert_eq!(self.payee.paid(), self.payer.paid(), "{}", self.construction());
    }

    /// The newest payment, as the payee would broadcast it.
    pub fn redeemable(&self) -> SettlementTx {
        let redeemable = self.payee.redeemable().expect("completed");
        redeemable.expect("a payment is held")
    }

    /// The payee asks the payer for a settlement at this feerate, and broadcasts it.
    pub fn close_at(&mut self, feerate: FeeRate) -> SettlementTx {
        self.tell(Side::Payee, Event::CloseAt(feerate))
            .expect("it can be asked for");
        assert_eq!(self.refused, [], "{}", self.construction());
        self.payee.settlement().expect("the payer answers").clone()
    }

    /// What the last transaction of this role was answered.
    #[track_caller]
    pub fn answer(&self, role: SpendRole) -> Option<RejectReason> {
        let mut answers = self.broadcasts.iter().rev();
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
        let (key, script) = match side {
            Side::Payer => (self.case.payer, &self.case.to_payer),
            Side::Payee => (self.case.payee, &self.case.to_payee),
        };
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

    pub fn to_payer(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.case.to_payer.clone(),
        }
    }

    pub fn to_payee(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.case.to_payee.clone(),
        }
    }
}
