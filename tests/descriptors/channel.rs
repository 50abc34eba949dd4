//! A channel on any construction, opened by two parties in one process on a real node.

use std::collections::VecDeque;

use bitcoin::absolute::{Height, Time};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Address, Amount, Network, ScriptBuf, Transaction};
use spilman::channel::*;
use spilman::regtest::{labelled_key, CoinKind, Regtest};

pub const CAPACITY: Amount = Amount::from_sat(1_000_000);
pub const PAID: Amount = Amount::from_sat(250_000);
const ID: ChannelId = ChannelId(1);

/// A channel in which [`PAID`] has been paid.
pub struct Channel {
    pub construction: Construction,
    pub payer: Payer,
    pub payee: Payee,
    pub payee_secret: SecretKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Payer,
    Payee,
}

fn secret(construction: Construction, role: &str) -> SecretKey {
    labelled_key(&format!("spilman/tests/descriptors/{construction}/{role}"))
}

fn payout(key: &SecretKey) -> ScriptBuf {
    CoinKind::Segwit.script(key)
}

fn tip(chain: &Regtest) -> Tip {
    let tip = chain.tip().unwrap();
    Tip {
        height: Height::from_consensus(tip.height).unwrap(),
        mtp: Time::from_consensus(tip.mtp).unwrap(),
    }
}

impl Channel {
    pub fn open(chain: &Regtest, construction: Construction) -> Self {
        Self::locked(chain, construction, LockKind::Height)
    }

    /// With a lock of this kind: a day, absolute or relative as the construction has it.
    pub fn locked(chain: &Regtest, construction: Construction, kind: LockKind) -> Self {
        let [payer_secret, payee_secret] = ["payer", "payee"].map(|role| secret(construction, role));
        let now = tip(chain);
        let terms = Terms::new(Protocol::Example7, Capacity::new(CAPACITY).unwrap(), now).unwrap();
        let mut terms = terms.on(construction);
        if kind == LockKind::Time {
            terms.refund_lock = match terms.refund_lock {
                RefundLock::Absolute(_) => Expiry::seconds_after(now, Terms::DAY).unwrap().into(),
                RefundLock::Relative(_) => RefundLock::after_seconds(Terms::DAY).unwrap(),
            };
        }
        let (key, to) = (ChannelKey::new(payer_secret), payout(&payer_secret));
        let (payer, open) = PayerOpening::propose(ID, terms, key, to, Limits::default(), now).unwrap();
        let (key, to) = (ChannelKey::new(payee_secret), payout(&payee_secret));
        let (payee, accept) = PayeeOpening::consider(open, key, to, Limits::default(), now).unwrap();
        let payer = payer.accept(accept).unwrap();

        let coin = secret(construction, "coin");
        let coin = chain
            .fund_key(CAPACITY + Amount::from_sat(1_000), CoinKind::Segwit, coin)
            .unwrap();
        let funding = coin.spend(vec![payer.funding_output()]).unwrap();
        let (payer, payee) = match (payer.hold(funding.clone()).unwrap(), payee) {
            (Hold::CoSigned(payer, request), Considered::SignsRefund(payee)) => {
                let (payee, answers) = payee.sign_refund(request, now).unwrap();
                (payer.verify_refund(answers[0].clone()).unwrap(), payee)
            }
            (Hold::Protected(payer), Considered::AwaitsFunding(payee)) => (payer, payee),
            other => panic!("{construction}: the sides do not agree who signs the refund: {other:?}"),
        };
        let (payer, _) = payer.release();
        let message = Message::Funding { tx: funding.clone() };
        let (payee, _) = payee.receive_funding(Envelope { channel: ID, message }).unwrap();
        let mut channel = Self {
            construction,
            payer,
            payee,
            payee_secret,
        };
        channel.confirm(chain, &funding);
        channel.pay(PAID);
        channel
    }

    fn confirm(&mut self, chain: &Regtest, funding: &Transaction) {
        chain.node().submit(funding).unwrap().expect_accepted();
        let base = Some(tip(chain));
        chain.mine(3).unwrap();
        let view = ChainView {
            tip: tip(chain),
            confirmations: 3,
            base,
            spend: None,
        };
        for side in [Side::Payer, Side::Payee] {
            self.apply(side, Event::Chain(view.clone()));
        }
    }

    pub fn pay(&mut self, more: Amount) {
        self.apply(Side::Payer, Event::Pay(more));
    }

    /// The payee closes; what it would broadcast stays here.
    pub fn close(&mut self) -> Transaction {
        self.apply(Side::Payee, Event::Close);
        let settlement = self.payee.settlement();
        settlement.expect("the payer answers at once").tx().clone()
    }

    /// Applies an event on one side, and on both what follows from it.
    fn apply(&mut self, side: Side, event: Event) {
        let mut queue = VecDeque::from([(side, event)]);
        while let Some((side, event)) = queue.pop_front() {
            let (actions, peer) = match side {
                Side::Payer => (self.payer.apply(event), Side::Payee),
                Side::Payee => (self.payee.apply(event), Side::Payer),
            };
            let actions = actions.unwrap_or_else(|error| panic!("{}: {error}", self.construction));
            queue.extend(actions.into_iter().filter_map(|action| match action {
                Action::Send(envelope) => Some((peer, Event::Message(envelope))),
                _ => None,
            }));
        }
    }

    pub fn params(&self) -> &ChannelParams {
        self.payee.params()
    }

    /// With its checksum.
    pub fn descriptor(&self) -> String {
        self.params().descriptor().to_string()
    }

    pub fn address(&self) -> String {
        let script = self.params().funding_script();
        let address = Address::from_script(&script, Network::Regtest);
        address.expect("every construction has an address").to_string()
    }
}
