use std::sync::Arc;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, CompressedPublicKey, PublicKey, ScriptBuf, Transaction, TxOut};
use tokio::sync::watch;

use super::error::{expect, ScenarioError};
use super::node_chain::NodeChain;
use super::recorder::Recorder;
use super::tap::{Rule, Tap, TapStatus};
use super::world::{World, REST};
use crate::channel::{ChannelId, ChannelKey, ChannelParams, Limits, Outcome, Stage, Terms};
use crate::regtest::{Coin, CoinKind, Misuse};
use crate::service::{self, Handle, OpenError, PayeeHandle, PayerHandle, RequestError, Setup, Status};
use crate::transcript::{sat, Actor, Entry};

/// How a story opens a channel.
pub struct Plan {
    /// What the payer proposes.
    pub terms: Terms,
    /// What both sides agree to.
    pub limits: Limits,
    /// The coin that the payer locks.
    pub coin: PayerCoin,
    /// What is done on the wire.
    pub rules: Vec<Rule>,
}

/// A coin of the payer's, for one channel.
pub struct PayerCoin {
    id: ChannelId,
    coin: Coin,
}

impl Plan {
    /// Default limits and an honest wire.
    #[must_use]
    pub fn new(terms: Terms, coin: PayerCoin) -> Self {
        Self { terms, limits: Limits::default(), coin, rules: Vec::new() }
    }
}

/// Keys and transactions of a second channel have its number before their names.
fn label(id: ChannelId) -> String {
    if id == ChannelId(1) { String::new() } else { format!("day-{id}-") }
}

/// Two parties, the wire between them, and what each sees of the chain.
pub struct Channel {
    payer: Side<PayerHandle>,
    payee: Side<PayeeHandle>,
    tap: watch::Receiver<TapStatus>,
    recorder: Recorder,
    label: String,
    coin: Coin,
    payments: std::cell::Cell<u32>,
}

struct Side<H> {
    actor: Actor,
    opened: Result<H, OpenError>,
    chain: NodeChain,
    /// Whether it hears of blocks.
    online: std::cell::Cell<bool>,
    gone: std::cell::Cell<bool>,
}

impl World {
    /// Makes a coin for the payer, in a block of its own.
    ///
    /// # Errors
    /// If the node fails.
    pub fn payer_coin(
        &self,
        amount: Amount,
        kind: CoinKind,
        id: ChannelId,
    ) -> Result<PayerCoin, ScenarioError> {
        let coin = self.chain.fund_key(amount, kind, self.key(&format!("{}payer/coin", label(id))))?;
        self.recorder.output(coin.outpoint, coin.output.clone());
        let text = format!("owns a coin of {}", sat(coin.value()));
        self.recorder.add(Entry::Notice { by: Actor::Payer, text });
        self.record_tip()?;
        Ok(PayerCoin { id, coin })
    }

    /// Lets both parties open a channel over a wire that is written down.
    ///
    /// The parties may fail; [`Channel::payer`] and [`Channel::payee`] say so.
    ///
    /// # Errors
    /// If the node fails, or the parties do not come to rest.
    pub async fn open(&self, plan: Plan) -> Result<Channel, ScenarioError> {
        let Plan { terms, limits, coin: PayerCoin { id, coin }, rules } = plan;
        let label = label(id);
        let (payer_key, payee_key) = (self.key(&format!("{label}payer")), self.key(&format!("{label}payee")));
        self.name_everything(&terms, &label, &payer_key, &payee_key, &coin);
        let node = || Arc::clone(self.chain.node());
        let (payer_chain, payee_chain) = (NodeChain::new(node())?, NodeChain::new(node())?);
        let (payer_end, payee_end, tap) = Tap::start(rules, self.recorder.clone());
        let setup = |actor, key: SecretKey| Setup {
            limits: limits.clone(),
            observer: self.recorder.observer(actor, &label),
            ..Setup::new(ChannelKey::new(key), payout(&key))
        };
        let feerate = terms.feerate;
        let wallet = |output: &TxOut| fund(&coin, output, feerate, &payout(&payer_key));
        let (payer, payee) = tokio::join!(
            service::open(
                payer_end,
                payer_chain.clone(),
                setup(Actor::Payer, payer_key),
                (id, terms),
                wallet
            ),
            service::accept(payee_end, payee_chain.clone(), setup(Actor::Payee, payee_key)),
        );
        let channel = Channel {
            payer: Side::new(Actor::Payer, payer, payer_chain),
            payee: Side::new(Actor::Payee, payee, payee_chain),
            tap,
            recorder: self.recorder.clone(),
            label,
            coin,
            payments: std::cell::Cell::new(0),
        };
        channel.note_failures();
        channel.rest().await?;
        Ok(channel)
    }

    fn name_everything(&self, terms: &Terms, label: &str, payer: &SecretKey, payee: &SecretKey, coin: &Coin) {
        let (k1, k2) = (public(payer), public(payee));
        let script = terms.construction.redeem_script(
            crate::channel::PayerKey::new(k1.inner),
            crate::channel::PayeeKey::new(k2.inner),
        );
        self.recorder.edit(|transcript| {
            let names = &mut transcript.names;
            names.key(k1, &format!("{label}payer key K1")).key(k2, &format!("{label}payee key K2"));
            names.script(&payout(payer), "payer").script(&payout(payee), "payee");
            names.key(coin.public_key(), &format!("{label}payer's coin key"));
            names.script(&coin.output.script_pubkey, &format!("{label}payer's coin"));
            names.redeem_script(&script, &format!("{label}channel 2-of-2"));
            names.txid(coin.outpoint.txid, &format!("{label}payer's coin"));
        });
    }
}

/// P2WPKH of a channel key: the documents' "goes to K1" and "goes to K2".
fn payout(key: &SecretKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(public(key).inner).wpubkey_hash())
}

fn public(key: &SecretKey) -> PublicKey {
    PublicKey::new(ChannelKey::new(*key).public_key())
}

/// The payer's wallet: one coin in, the channel's output and the change out.
pub(super) fn fund(
    coin: &Coin,
    output: &TxOut,
    feerate: bitcoin::FeeRate,
    change: &ScriptBuf,
) -> Result<Transaction, Misuse> {
    let coins = std::slice::from_ref(coin);
    if coin.value() == output.value {
        return coin.spend(vec![output.clone()]);
    }
    let outputs = |fee| {
        let change = crate::regtest::change(coins, std::slice::from_ref(output), fee, change.clone())?;
        Ok(vec![output.clone(), change])
    };
    let draft = coin.spend(outputs(Amount::ZERO)?)?;
    // The real signature may be a byte longer than the draft's.
    let weight = draft.weight() + bitcoin::Weight::from_non_witness_data_size(1);
    let fee = feerate.fee_wu(weight).unwrap_or(Amount::MAX);
    coin.spend(outputs(fee)?)
}

impl<H: std::ops::Deref<Target = Handle>> Side<H> {
    fn new(actor: Actor, opened: Result<H, OpenError>, chain: NodeChain) -> Self {
        let (online, gone) = (std::cell::Cell::new(true), std::cell::Cell::new(false));
        Self { actor, opened, chain, online, gone }
    }

    /// The side's status, if it is running.
    fn running(&self) -> Option<watch::Receiver<Status>> {
        let handle = self.opened.as_ref().ok().filter(|_| !self.gone.get())?;
        Some(handle.status())
    }

    fn kill(&self) {
        self.gone.set(true);
        if let Ok(handle) = &self.opened {
            handle.kill();
        }
    }

    /// Waits until the side has dealt with every message that was passed on to it and every change of the
    /// chain that it was told of.
    async fn rest(&self, tap: &watch::Receiver<TapStatus>) -> Result<(), ScenarioError> {
        let Some(mut status) = self.running() else { return Ok(()) };
        let at_rest = |status: &Status| {
            let tap = tap.borrow();
            let (inbound, outbound) = match self.actor {
                Actor::Payer => (tap.from_payee, tap.from_payer),
                _ => (tap.from_payer, tap.from_payee),
            };
            let quiet = if tap.ended { !status.connected } else { status.sent == outbound };
            status.received >= inbound && quiet && status.seen == self.chain.announced()
        };
        let mut tap_moves = tap.clone();
        let wait = async {
            loop {
                if status.borrow_and_update().outcome.is_some() || at_rest(&status.borrow()) {
                    return;
                }
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    moved = tap_moves.changed() => if moved.is_err() {
                        // The wire is gone for good; only the party itself can still move.
                        if status.changed().await.is_err() { return }
                    },
                }
            }
        };
        let waited = tokio::time::timeout(REST, wait).await;
        waited.map_err(|_| ScenarioError::Stuck {
            awaited: format!("the {} at rest", self.actor),
            within: REST,
            seen: format!("{:?}, {:?}", *status.borrow(), *tap.borrow()),
        })
    }
}

impl Channel {
    /// The payer.
    ///
    /// # Errors
    /// If it gave up while opening.
    pub fn payer(&self) -> Result<&PayerHandle, ScenarioError> {
        self.payer.opened.as_ref().map_err(|error| self.not_open(Actor::Payer, error))
    }

    /// The payee.
    ///
    /// # Errors
    /// If it gave up while opening.
    pub fn payee(&self) -> Result<&PayeeHandle, ScenarioError> {
        self.payee.opened.as_ref().map_err(|error| self.not_open(Actor::Payee, error))
    }

    fn not_open(&self, who: Actor, error: &OpenError) -> ScenarioError {
        ScenarioError::Unexpected {
            what: format!("the {who}'s opening of {}channel", self.label),
            expected: "an open channel".to_owned(),
            found: error.to_string(),
        }
    }

    /// Why the payer gave up while opening.
    #[must_use]
    pub fn payer_error(&self) -> Option<&OpenError> {
        self.payer.opened.as_ref().err()
    }

    /// Why the payee gave up while opening.
    #[must_use]
    pub fn payee_error(&self) -> Option<&OpenError> {
        self.payee.opened.as_ref().err()
    }

    /// The agreed parameters.
    ///
    /// # Errors
    /// If neither side opened the channel.
    pub fn params(&self) -> Result<&ChannelParams, ScenarioError> {
        match &self.payee.opened {
            Ok(payee) => Ok(payee.params()),
            Err(_) => Ok(self.payer()?.params()),
        }
    }

    /// The coin that the payer had at the start.
    #[must_use]
    pub const fn coin(&self) -> &Coin {
        &self.coin
    }

    fn note_failures(&self) {
        let vanished = self.tap.borrow().vanished;
        let failures =
            [(Actor::Payer, self.payer.opened.as_ref().err()), (Actor::Payee, self.payee.opened.as_ref().err())];
        for (by, error) in failures {
            if let Some(error) = error.filter(|_| vanished != Some(by)) {
                self.recorder.add(Entry::Notice { by, text: format!("gives up: {error}") });
            }
        }
    }

    /// Ends who vanished on the wire, and waits until the others have nothing left to do.
    pub(super) async fn rest(&self) -> Result<(), ScenarioError> {
        for _ in 0..2 {
            match self.tap.borrow().vanished {
                Some(Actor::Payer) => self.payer.kill(),
                Some(Actor::Payee) => self.payee.kill(),
                _ => {}
            }
            // Twice, because what one side does last may be a message for the other.
            self.payer.rest(&self.tap).await?;
            self.payee.rest(&self.tap).await?;
        }
        Ok(())
    }

    /// Tells both parties to look at the chain, the payer first.
    pub(super) async fn tell(&self) -> Result<(), ScenarioError> {
        for (chain, online) in
            [(&self.payer.chain, &self.payer.online), (&self.payee.chain, &self.payee.online)]
        {
            if online.get() {
                let _ = chain.announce();
            }
            self.rest().await?;
        }
        Ok(())
    }

    /// The party hears of no block, as if its line were down, until it is [online](Self::online) again.
    pub fn offline(&self, actor: Actor) {
        self.cell(actor).set(false);
        self.recorder.add(Entry::Notice { by: actor, text: "loses its connection to the chain".to_owned() });
    }

    /// The party hears of the chain again.
    ///
    /// # Errors
    /// If the parties do not come to rest.
    pub async fn online(&self, actor: Actor) -> Result<(), ScenarioError> {
        self.cell(actor).set(true);
        self.recorder.add(Entry::Notice { by: actor, text: "is back and looks at the chain".to_owned() });
        self.tell().await
    }

    const fn cell(&self, actor: Actor) -> &std::cell::Cell<bool> {
        match actor {
            Actor::Payer => &self.payer.online,
            _ => &self.payee.online,
        }
    }

    /// The party's machine loses power.
    ///
    /// # Errors
    /// If the other party does not come to rest.
    pub async fn vanish(&self, actor: Actor) -> Result<(), ScenarioError> {
        self.recorder.silence(actor);
        self.recorder.add(Entry::Notice { by: actor, text: "is gone".to_owned() });
        match actor {
            Actor::Payer => self.payer.kill(),
            _ => self.payee.kill(),
        }
        // The wire breaks when the killed task is dropped, and the other side sees it then.
        let mut tap = self.tap.clone();
        let ended = tokio::time::timeout(REST, tap.wait_for(|status| status.ended)).await;
        ended.map_err(|_| ScenarioError::Stuck {
            awaited: format!("the end of the {actor}'s connection"),
            within: REST,
            seen: format!("{:?}", *self.tap.borrow()),
        })?.ok();
        self.rest().await
    }

    /// The payer pays so much more; the payment with both signatures, as the payee could redeem it, is
    /// recorded as `payment-1`, `payment-2`, ….
    ///
    /// # Errors
    /// If the payment is not acknowledged.
    pub async fn pay(&self, amount: Amount) -> Result<(), ScenarioError> {
        let paid = self.payer()?.pay(amount).await;
        paid.map_err(|source| ScenarioError::Request { who: Actor::Payer, task: "pay", source })?;
        self.rest().await?;
        self.record_payment().await
    }

    /// The payer pays so much more, and something goes wrong.
    ///
    /// # Errors
    /// If the payment is acknowledged.
    pub async fn pay_in_vain(&self, amount: Amount) -> Result<RequestError, ScenarioError> {
        let paid = self.payer()?.pay(amount).await;
        self.rest().await?;
        let error = paid.err().ok_or_else(|| ScenarioError::Unexpected {
            what: "the payment".to_owned(),
            expected: "no acknowledgement".to_owned(),
            found: "acknowledged".to_owned(),
        })?;
        // Whoever is gone has nothing to tell.
        if self.tap.borrow().vanished != Some(Actor::Payer) {
            let text = format!("tries to pay {} more: {error}", sat(amount));
            self.recorder.add(Entry::Notice { by: Actor::Payer, text });
        }
        Ok(error)
    }

    /// The payee asks for so much more (`bond`).
    ///
    /// # Errors
    /// If it cannot.
    pub async fn request(&self, amount: Amount) -> Result<(), ScenarioError> {
        let asked = self.payee()?.request_payment(amount).await;
        asked.map_err(|source| ScenarioError::Request {
            who: Actor::Payee,
            task: "ask for a payment",
            source,
        })?;
        self.rest().await
    }

    /// Writes down what the payee could broadcast now.
    async fn record_payment(&self) -> Result<(), ScenarioError> {
        self.payments.set(self.payments.get() + 1);
        let redeemable = self.payee()?.redeemable().await.map_err(|source| ScenarioError::Request {
            who: Actor::Payee,
            task: "redeem its payment",
            source,
        })?;
        if let Some(payment) = redeemable {
            let name = format!("{}payment-{}", self.label, self.payments.get());
            self.recorder.built(Actor::Payee, &name, payment.tx());
        }
        Ok(())
    }

    /// One side begins to close.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn close(&self, by: Actor) -> Result<(), ScenarioError> {
        let closed = match by {
            Actor::Payer => self.payer()?.close().await,
            _ => self.payee()?.close().await,
        };
        closed.map_err(|source| ScenarioError::Request { who: by, task: "close", source })?;
        self.rest().await
    }

    /// The stage at which a running side stands.
    ///
    /// # Errors
    /// If it is another.
    pub fn stage_is(&self, actor: Actor, stage: Stage) -> Result<(), ScenarioError> {
        let status = match actor {
            Actor::Payer => self.payer()?.status(),
            _ => self.payee()?.status(),
        };
        let found = status.borrow().stage;
        expect(format!("the {actor}'s stage"), &stage, &found)
    }

    /// How the channel ended, as both running sides see it.
    ///
    /// # Errors
    /// If a side sees no end, or another.
    pub fn ended_with(&self, to_payer: Amount, to_payee: Amount) -> Result<(), ScenarioError> {
        let sides = [(Actor::Payer, self.payer.running()), (Actor::Payee, self.payee.running())];
        for (actor, status) in sides {
            if let Some(status) = status {
                let found: Option<Outcome> = status.borrow().outcome;
                let found = found.map(|outcome| (outcome.to_payer, outcome.to_payee));
                expect(format!("the end that the {actor} sees"), &Some((to_payer, to_payee)), &found)?;
            }
        }
        Ok(())
    }
}
