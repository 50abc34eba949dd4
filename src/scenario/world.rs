use bitcoin::absolute::{ConversionError, Height, Time};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};

use super::channel::Channel;
use super::error::{expect, ScenarioError};
use super::party_chain::ChainSource;
use super::recorder::{refusal, Recorder};
use crate::channel::{Construction, SpendRole, Tip};
use crate::regtest::{
    labelled_key, BestBlock, Lock, MempoolVerdict, Node, NodeBuilder, Regtest, RejectReason,
};
use crate::transcript::{sat, timeline, to_json, Actor, Entry};

/// A running scenario: its node, and its transcript.
///
/// The harness is called directly, although it blocks: nothing else is to happen while the story moves the
/// chain.
pub struct World {
    pub(crate) chain: Regtest,
    pub(crate) recorder: Recorder,
    keys_of: String,
    construction: Construction,
}

impl World {
    pub(crate) fn start(
        node: NodeBuilder,
        watch: ChainSource,
        recorder: Recorder,
        keys_of: &str,
        construction: Construction,
    ) -> Result<Self, ScenarioError> {
        let chain = watch.start(Regtest::builder().node(node).faucet_feerate(FeeRate::ZERO))?;
        let world = Self {
            chain,
            recorder,
            keys_of: keys_of.to_owned(),
            construction,
        };
        world.record_tip()?;
        Ok(world)
    }

    /// Puts the transcript, as far as it goes, with the evidence of the node.
    pub(super) fn attach_transcript(&self) {
        let transcript = self.recorder.transcript();
        self.node().attach("timeline.txt", timeline(&transcript));
        let json = format!("{:#}\n", to_json(&transcript));
        self.node().attach("transcript.json", json);
    }

    /// Says what comes next, for a person who reads the transcript.
    pub fn say(&self, text: impl Into<String>) {
        self.recorder.add(Entry::Step(text.into()));
    }

    /// Returns the node.
    pub fn node(&self) -> &Node {
        self.chain.node()
    }

    /// Returns what the funding outputs of this story are made of.
    pub const fn construction(&self) -> Construction {
        self.construction
    }

    /// Returns the tip below the block with this output, spent or not; `None` while the output is not in the chain.
    pub fn funding_parent(&self, outpoint: OutPoint) -> Result<Option<Tip>, ScenarioError> {
        let Some(height) = self.height_of(outpoint.txid)? else {
            return Ok(None);
        };
        channel_tip(&self.node().tip_at(height - 1)?).map(Some)
    }

    /// Returns the height of the block with this transaction; `None` while it is unconfirmed.
    pub fn height_of(&self, txid: Txid) -> Result<Option<u32>, ScenarioError> {
        for height in (1..=self.chain.tip()?.height).rev() {
            let block = self.node().block_at(height)?;
            if block.txdata.iter().any(|tx| tx.compute_txid() == txid) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    /// Returns the tip, as the parties see it.
    pub fn tip(&self) -> Result<Tip, ScenarioError> {
        channel_tip(&self.chain.tip()?)
    }

    /// Returns a secret key of this scenario: the hash of its published label.
    pub fn key(&self, label: &str) -> SecretKey {
        labelled_key(&format!("spilman/{}/{label}", self.keys_of))
    }

    /// Returns the name in the labels of this scenario's keys.
    pub(super) fn keys_of(&self) -> &str {
        &self.keys_of
    }

    /// Mines blocks with the mempool's transactions, then notifies the channels' parties once.
    ///
    /// # Errors
    /// If the node fails, or the parties do not become idle.
    pub async fn mine(&self, count: u32, channels: &[&Channel]) -> Result<(), ScenarioError> {
        self.grow(|chain| chain.mine(count).map(drop))?;
        self.tell(channels).await
    }

    /// Mines blocks without the mempool's transactions, then notifies the channels' parties once.
    ///
    /// # Errors
    /// If the node fails, or the parties do not become idle.
    pub async fn mine_empty(&self, count: u32, channels: &[&Channel]) -> Result<(), ScenarioError> {
        self.grow(|chain| chain.mine_empty(count).map(drop))?;
        self.tell(channels).await
    }

    /// Mines one block with these transactions, whatever the mempool holds.
    ///
    /// # Errors
    /// If the block is invalid, the node fails, or the parties do not become idle.
    pub async fn mine_exactly(
        &self,
        transactions: &[Transaction],
        channels: &[&Channel],
    ) -> Result<(), ScenarioError> {
        self.grow(|chain| chain.mine_exactly(transactions).map(drop))?;
        self.tell(channels).await
    }

    /// Mines until a transaction with this lock could enter the next block, and not one block more.
    ///
    /// # Errors
    /// If the node fails, or the parties do not become idle.
    pub async fn make_final(
        &self,
        lock: impl Into<Lock>,
        channels: &[&Channel],
    ) -> Result<(), ScenarioError> {
        self.grow(|chain| chain.make_final(lock).map(drop))?;
        self.tell(channels).await
    }

    /// Mines up to the last state in which a transaction with this lock cannot enter the next block.
    ///
    /// # Errors
    /// If the lock has passed, the node fails, or the parties do not become idle.
    pub async fn stop_before(
        &self,
        lock: impl Into<Lock>,
        channels: &[&Channel],
    ) -> Result<(), ScenarioError> {
        self.grow(|chain| chain.stop_before(lock).map(drop))?;
        self.tell(channels).await
    }

    /// Takes the blocks from the one with this transaction on back. It is in the mempool then, and in none of the new
    /// blocks.
    ///
    /// # Errors
    /// If it is in no block, or the node fails.
    pub fn reorganise_away(&self, txid: Txid) -> Result<(), ScenarioError> {
        let height = self.height_of(txid)?.ok_or_else(|| ScenarioError::Unexpected {
            what: "the chain".to_owned(),
            expected: format!("a block with {txid}"),
            found: "none".to_owned(),
        })?;
        let depth = self.chain.tip()?.height - height + 1;
        let reorg = self.chain.reorg(depth).drop_tx(txid).apply()?;
        self.recorder.add(Entry::Found(format!(
            "takes {depth} blocks back, and grows by {} others",
            reorg.new.len()
        )));
        self.record_tip()
    }

    /// Tells the parties to poll the chain, one after the other, so that the order is always the same.
    pub(super) async fn tell(&self, channels: &[&Channel]) -> Result<(), ScenarioError> {
        for channel in channels {
            channel.tell().await?;
        }
        Ok(())
    }

    /// Moves the chain and records the new blocks.
    fn grow(
        &self,
        step: impl FnOnce(&Regtest) -> Result<(), crate::regtest::Error>,
    ) -> Result<(), ScenarioError> {
        let from = self.chain.tip()?.height;
        step(&self.chain)?;
        let to = self.chain.tip()?.height;
        let mut quiet = 0;
        for height in from + 1..=to {
            let block = self.node().block_at(height)?;
            let names = block
                .txdata
                .iter()
                .filter_map(|tx| self.recorder.name_of(&tx.compute_txid()));
            let names = names.collect::<Vec<_>>();
            if names.is_empty() {
                quiet += 1;
                continue;
            }
            self.record_quiet(std::mem::take(&mut quiet));
            self.recorder.add(Entry::Block {
                hash: block.block_hash(),
                names,
            });
        }
        self.record_quiet(quiet);
        self.record_tip()
    }

    fn record_quiet(&self, blocks: u32) {
        if blocks > 0 {
            self.recorder.add(Entry::Blocks { blocks });
        }
    }

    pub(super) fn record_tip(&self) -> Result<(), ScenarioError> {
        let tip = self.chain.tip()?;
        self.recorder.add(Entry::Tip {
            height: tip.height,
            mtp: tip.mtp,
        });
        Ok(())
    }

    /// Asks the node whether it would accept a recorded transaction, without broadcasting it.
    fn ask(&self, name: &str) -> Result<MempoolVerdict, ScenarioError> {
        let verdict = self.node().test_accept(&self.recorded(name)?)?;
        let rejected = verdict.rejection().map(|rejection| refusal(&rejection.words));
        self.recorder.add(Entry::Asked {
            name: name.to_owned(),
            rejected,
        });
        Ok(verdict)
    }

    /// Checks that the node would reject this transaction now, for this reason.
    ///
    /// # Errors
    /// If the node would accept it, or reject it for another reason.
    pub fn would_reject(&self, name: &str, reason: RejectReason) -> Result<(), ScenarioError> {
        expect(
            format!("the node about {name}"),
            &Some(reason),
            &reason_of(&self.ask(name)?),
        )
    }

    /// Checks that the node would accept this transaction now.
    ///
    /// # Errors
    /// If the node would reject it.
    pub fn would_accept(&self, name: &str) -> Result<(), ScenarioError> {
        expect(
            format!("the node about {name}"),
            &None,
            &reason_of(&self.ask(name)?),
        )
    }

    /// Broadcasts a recorded transaction.
    ///
    /// # Errors
    /// If the node rejects it.
    pub fn submit(&self, by: impl Into<Actor>, role: SpendRole, name: &str) -> Result<(), ScenarioError> {
        let tx = self.recorded(name)?;
        let verdict = self.node().submit(&tx)?;
        let rejected = verdict.rejection().map(|rejection| refusal(&rejection.words));
        self.recorder.broadcast(by, "", role, &tx, rejected);
        expect(format!("the node about {name}"), &None, &reason_of(&verdict))
    }

    /// Returns a recorded transaction.
    ///
    /// # Errors
    /// If none has that name.
    pub fn recorded(&self, name: &str) -> Result<Transaction, ScenarioError> {
        let transcript = self.recorder.transcript();
        transcript.decoded(name).ok_or_else(|| ScenarioError::Unexpected {
            what: "the transcript".to_owned(),
            expected: format!("a transaction {name}"),
            found: format!(
                "{:?}",
                transcript
                    .transactions
                    .iter()
                    .map(|tx| &tx.name)
                    .collect::<Vec<_>>()
            ),
        })
    }

    /// Checks that the node rejected the last broadcast of this transaction, for this reason.
    ///
    /// # Errors
    /// If it was not broadcast, was accepted, or was rejected for another reason.
    pub fn was_rejected(&self, name: &str, reason: RejectReason) -> Result<(), ScenarioError> {
        expect(
            format!("broadcast of {name}"),
            &Broadcast::Refused(reason),
            &self.last_broadcast(name),
        )
    }

    /// Checks that the node accepted the last broadcast of this transaction.
    ///
    /// # Errors
    /// If it was not broadcast, or was rejected.
    pub fn was_accepted(&self, name: &str) -> Result<(), ScenarioError> {
        expect(
            format!("broadcast of {name}"),
            &Broadcast::Accepted,
            &self.last_broadcast(name),
        )
    }

    /// Checks that this transaction was not broadcast.
    ///
    /// # Errors
    /// If it was.
    pub fn was_not_broadcast(&self, name: &str) -> Result<(), ScenarioError> {
        expect(
            format!("broadcast of {name}"),
            &Broadcast::Never,
            &self.last_broadcast(name),
        )
    }

    fn last_broadcast(&self, wanted: &str) -> Broadcast {
        let transcript = self.recorder.transcript();
        let last = transcript.entries.iter().rev().find_map(|entry| match entry {
            Entry::Broadcast { name, rejected, .. } if name == wanted => Some(rejected.clone()),
            _ => None,
        });
        match last {
            None => Broadcast::Never,
            Some(None) => Broadcast::Accepted,
            Some(Some(refusal)) => Broadcast::Refused(RejectReason::of(&refusal.words)),
        }
    }

    /// Checks that the mempool holds these transactions and nothing else.
    ///
    /// # Errors
    /// If the mempool holds anything else.
    pub fn mempool_is(&self, names: &[&str]) -> Result<(), ScenarioError> {
        let mut expected = Vec::new();
        for name in names {
            expected.push(self.recorded(name)?.compute_txid());
        }
        let mut found: Vec<Txid> = self.node().mempool()?;
        expected.sort();
        found.sort();
        let contents = if names.is_empty() {
            "empty".to_owned()
        } else {
            names.join(", ")
        };
        expect("the mempool", &expected, &found)?;
        self.recorder.add(Entry::Found(format!("mempool: {contents}")));
        Ok(())
    }

    /// Checks whether an output exists in the chain.
    ///
    /// # Errors
    /// If it does when it should not, or the reverse.
    pub fn unspent_is(
        &self,
        what: &str,
        outpoint: OutPoint,
        amount: Option<Amount>,
    ) -> Result<(), ScenarioError> {
        let found = self
            .node()
            .confirmed_utxo(outpoint)?
            .map(|utxo| utxo.output.value);
        expect(format!("{what} in the chain"), &amount, &found)?;
        let text = amount.map_or_else(|| "no".to_owned(), |amount| format!("unspent, {}", sat(amount)));
        self.recorder.add(Entry::Found(format!("has {what}: {text}")));
        Ok(())
    }

    /// Checks that the transaction is confirmed: one of its outputs is in the chain, unspent.
    ///
    /// # Errors
    /// If it is not.
    pub fn is_mined(&self, name: &str) -> Result<(), ScenarioError> {
        let tx = self.recorded(name)?;
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        self.unspent_is(
            &format!("output 0 of {name}"),
            outpoint,
            tx.output.first().map(|output| output.value),
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.attach_transcript();
        }
    }
}

/// Converts the harness's plain numbers into the types of the channel.
fn channel_tip(best: &BestBlock) -> Result<Tip, ScenarioError> {
    let out_of_range = |error: ConversionError| ScenarioError::Range(error.to_string());
    Ok(Tip {
        height: Height::from_consensus(best.height).map_err(out_of_range)?,
        mtp: Time::from_consensus(best.mtp).map_err(out_of_range)?,
    })
}

/// The fate of a transaction that may have been broadcast.
#[derive(Debug, PartialEq, Eq)]
enum Broadcast {
    Never,
    Accepted,
    Refused(RejectReason),
}

fn reason_of(verdict: &MempoolVerdict) -> Option<RejectReason> {
    verdict.rejection().map(|rejection| rejection.reason)
}
