use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::{PublicKey, TxOut};

use super::channel::Channel;
use super::disk::Disk;
use super::error::ScenarioError;
use super::interceptor::{Interceptor, Wire};
use super::participant::{Participant, REST};
use super::party_chain::PartyChain;
use super::plan::{fund, label, payout_to, PayerCoin, Plan};
use super::world::World;
use crate::channel::{ChannelKeys, KeyId, KeyRole, Limits};
use crate::service::{wallet_fn, ChannelManager, ChannelManagerBuilder, ManagerObserver, Proposal};
use crate::transcript::{Entry, Side};

/// What the transcript says of a side whose process dies.
pub(super) const LOSES_POWER: &str = "loses power";

/// One side's machine: its seed and its disk outlive the process that runs on it.
pub(super) struct Machine {
    side: Side,
    keys: ChannelKeys,
    key: PublicKey,
    random: Draw,
    limits: Limits,
    observer: ManagerObserver,
    pub disk: Disk,
    /// All that runs in the process.
    pub process: Option<ChannelManager<PartyChain>>,
}

/// Draws published bytes, other ones each time.
type Draw = Arc<dyn Fn(&'static str) -> [u8; 32] + Send + Sync>;

/// The machines of both sides.
pub(super) struct Machines {
    pub payer: Machine,
    pub payee: Machine,
}

impl Machine {
    fn new(world: &World, side: Side, label: &str, limits: &Limits) -> Self {
        let secret = |what: &str| world.key(&format!("{label}{side}/{what}")).secret_bytes();
        let keys = ChannelKeys::new(secret("seed"));
        let key = keys.derive(role(side), KeyId::from_bytes(first_half(secret("key-1"))));
        let name = format!("{}/{label}{side}", world.keys_of());
        let drawn: Mutex<HashMap<&'static str, u32>> = Mutex::default();
        let random = move |what: &'static str| {
            let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
            let number = drawn.entry(what).or_default();
            *number += 1;
            crate::regtest::labelled_key(&format!("spilman/{name}/{what}-{number}")).secret_bytes()
        };
        let observer = world.recorder.observer(side, label);
        let file = world.node().data_dir().join(format!("{label}{side}.sqlite"));
        Self {
            side,
            keys,
            key: PublicKey::new(key.public_key()),
            random: Arc::new(random),
            limits: limits.clone(),
            observer: Arc::new(move |_, report| observer(report)),
            disk: Disk::new(file),
            process: None,
        }
    }

    /// Starts a process, which finds its channels in the file.
    pub async fn start(&mut self, chain: &PartyChain) -> Result<(), ScenarioError> {
        let store = self
            .disk
            .open()
            .map_err(|error| self.failed("open its file", error))?;
        let random = Arc::clone(&self.random);
        let process = ChannelManagerBuilder::new(store, self.keys.clone(), payout_to(self.key))
            .limits(self.limits.clone())
            .observer(Arc::clone(&self.observer))
            .published(move |what| random(what))
            .start(chain.clone())
            .await;
        let process = process.map_err(|error| self.failed("restart its channels", error))?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until nothing of the process is left, once its tasks are aborted and its connection is gone.
    pub async fn stop(&mut self) -> Result<(), ScenarioError> {
        self.process = None;
        let gone = async {
            while self.disk.is_open() {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(REST, gone).await;
        gone.map_err(|_| ScenarioError::Stuck {
            awaited: format!("the end of the {}'s process", self.side),
            within: REST,
            seen: "an open store".to_owned(),
        })
    }

    pub fn running(&self) -> Result<&ChannelManager<PartyChain>, ScenarioError> {
        let process = self.process.as_ref();
        process.ok_or_else(|| self.failed("go on", "it has no process"))
    }

    pub fn hello(&self) -> [u8; 32] {
        (self.random)("hello")
    }

    pub fn failed(
        &self,
        task: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ScenarioError {
        let (who, source) = (self.side, source.into());
        ScenarioError::Process { who, task, source }
    }
}

impl Machines {
    pub fn of(&mut self, side: Side) -> &mut Machine {
        match side {
            Side::Payer => &mut self.payer,
            Side::Payee => &mut self.payee,
        }
    }
}

impl World {
    /// Opens a channel that both sides store.
    pub(super) async fn open_stored(&self, plan: Plan) -> Result<Channel, ScenarioError> {
        let Plan {
            terms,
            limits,
            coin: PayerCoin { id, coin },
            rules,
            cut_at_broadcast: cut,
            ..
        } = plan;
        let label = label(id);
        let mut machines = Machines {
            payer: Machine::new(self, Side::Payer, &label, &limits),
            payee: Machine::new(self, Side::Payee, &label, &limits),
        };
        self.name_everything(&terms, &label, [machines.payer.key, machines.payee.key], &coin);
        let (payer_chain, payee_chain) = (PartyChain::of(&self.chain)?, PartyChain::of(&self.chain)?);
        // A party that has not seen this yet has not done its first things either.
        payer_chain.announce()?;
        payee_chain.announce()?;
        Box::pin(machines.payer.start(&payer_chain)).await?;
        Box::pin(machines.payee.start(&payee_chain)).await?;
        let (payer_end, payee_end, wire) = Interceptor::start(rules, self.recorder.clone(), LOSES_POWER);
        match cut {
            Some(Side::Payer) => cut_at_broadcast(&payer_chain, &wire, self, Side::Payer),
            Some(Side::Payee) => cut_at_broadcast(&payee_chain, &wire, self, Side::Payee),
            None => {}
        }
        let (feerate, change) = (terms.feerate, payout_to(machines.payer.key));
        let paid_from = coin.clone();
        let wallet = wallet_fn(move |output: &TxOut| fund(&paid_from, output, feerate, &change));
        let (payers, payees) = (machines.payer.running()?, machines.payee.running()?);
        let proposal = Proposal { id, terms };
        let opening = payers.open(payer_end, proposal, wallet);
        let (payer, ()) = tokio::join!(opening, payees.accept(payee_end, None));
        let payee = payees.payees().into_iter().next();
        let channel = Channel {
            payer: Participant::new(Side::Payer, payer.map(Some), payer_chain),
            payee: Participant::new(Side::Payee, Ok(payee), payee_chain),
            wire,
            recorder: self.recorder.clone(),
            label,
            coin,
            payments: std::cell::Cell::new(0),
            machines: Some(machines),
        };
        channel.note_failures();
        channel.rest().await?;
        channel.see().await;
        Ok(channel)
    }
}

/// The side loses power instead of its next broadcast.
pub(super) fn cut_at_broadcast(chain: &PartyChain, wire: &Wire, world: &World, side: Side) {
    let (recorder, vanishes) = (world.recorder.clone(), wire.vanishes(side));
    chain.cut_at_broadcast(move |tx| {
        let name = recorder.name_of(&tx.compute_txid());
        let name = name.unwrap_or_else(|| "a transaction".to_owned());
        let text = format!("{LOSES_POWER} before it broadcasts {name}");
        recorder.add(Entry::Notice {
            by: side.into(),
            text,
        });
        recorder.silence(side);
        vanishes();
    });
}

fn first_half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}

const fn role(side: Side) -> KeyRole {
    match side {
        Side::Payer => KeyRole::Payer,
        Side::Payee => KeyRole::Payee,
    }
}
