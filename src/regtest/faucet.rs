//! Money for tests, from keys that anybody can recompute.

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};

use super::clock::ChainClock;
use super::coin::{spend_coins, Coin, CoinKind};
use super::error::{Error, Misuse, NodeError};
use super::keys::labelled_key;
use super::miner::{BlockContent, MinedBlock};
use super::node::Node;
use super::rpc::ScannedUtxo;

/// A coinbase can be spent once so many blocks follow, its own included.
const MATURITY: u32 = 100;

/// Pays out what was mined to its script.
///
/// Its payments go straight into a block of their own, so they need no fee, and amounts stay round. It keeps no
/// account: what it can spend, it asks the node, so blocks that are taken back take nothing from it for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faucet {
    key: SecretKey,
    coins_made: u32,
}

impl Default for Faucet {
    fn default() -> Self {
        Self {
            key: labelled_key("spilman/faucet"),
            coins_made: 0,
        }
    }
}

impl Faucet {
    /// The faucet whose key is the SHA-256 of `spilman/faucet`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where a [`Miner`](super::Miner) has to pay for this faucet to have funds.
    #[must_use]
    pub fn script(&self) -> ScriptBuf {
        CoinKind::Segwit.script(&self.key)
    }

    /// What could be spent in the next block.
    ///
    /// # Errors
    ///
    /// If the node fails.
    pub fn balance(&self, node: &Node) -> Result<Amount, Error> {
        Ok(self.mature(node)?.iter().map(|utxo| utxo.output.value).sum())
    }

    /// A coin of exactly this amount, in a block. Its key is the SHA-256 of `spilman/faucet/0`, then
    /// `spilman/faucet/1`, and so on.
    ///
    /// # Errors
    ///
    /// [`Misuse::FundsShort`], or if the node fails.
    pub fn fund(
        &mut self,
        node: &Node,
        clock: &ChainClock,
        amount: Amount,
        kind: CoinKind,
    ) -> Result<Coin, Error> {
        let key = labelled_key(&format!("spilman/faucet/{}", self.coins_made));
        let coin = self.fund_key(node, clock, amount, kind, key)?;
        self.coins_made += 1;
        Ok(coin)
    }

    /// As [`Faucet::fund`], for a key of the caller.
    ///
    /// # Errors
    ///
    /// [`Misuse::FundsShort`], or if the node fails.
    pub fn fund_key(
        &self,
        node: &Node,
        clock: &ChainClock,
        amount: Amount,
        kind: CoinKind,
        key: SecretKey,
    ) -> Result<Coin, Error> {
        let output = TxOut {
            value: amount,
            script_pubkey: kind.script(&key),
        };
        let (funding, _) = self.pay(node, clock, vec![output.clone()])?;
        let outpoint = OutPoint::new(funding.compute_txid(), 0);
        Ok(Coin {
            outpoint,
            output,
            key,
            kind,
            funding,
        })
    }

    /// Pays any outputs, in one transaction in a block of its own; a last output takes the change, if any. The
    /// oldest funds are spent first.
    ///
    /// # Errors
    ///
    /// [`Misuse::FundsShort`], or if the node fails.
    pub fn pay(
        &self,
        node: &Node,
        clock: &ChainClock,
        mut outputs: Vec<TxOut>,
    ) -> Result<(Transaction, MinedBlock), Error> {
        let _turn = node.turn()?;
        let needed = outputs
            .iter()
            .try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))
            .unwrap_or(Amount::MAX);
        let mut coins = Vec::new();
        let mut available = Amount::ZERO;
        for utxo in self.mature(node)? {
            if available >= needed && !coins.is_empty() {
                break;
            }
            available += utxo.output.value;
            coins.push(self.coin(node, utxo)?);
        }
        let change = available
            .checked_sub(needed)
            .ok_or(Misuse::FundsShort { needed, available })?;
        if change > Amount::ZERO {
            outputs.push(TxOut {
                value: change,
                script_pubkey: self.script(),
            });
        }
        let transaction = spend_coins(&coins, outputs)?;
        let block = clock.step_no_earlier_than(node, 0, BlockContent::Exactly(vec![transaction.clone()]))?;
        Ok((transaction, block))
    }

    /// The own outputs that the next block may spend, oldest first.
    fn mature(&self, node: &Node) -> Result<Vec<ScannedUtxo>, Error> {
        let next = node.tip()?.height + 1;
        let mut utxos = node.scan(&self.script())?;
        utxos.retain(|utxo| !utxo.coinbase || next - utxo.height >= MATURITY);
        Ok(utxos)
    }

    fn coin(&self, node: &Node, utxo: ScannedUtxo) -> Result<Coin, Error> {
        let ScannedUtxo {
            outpoint,
            output,
            height,
            ..
        } = utxo;
        let block = node.block_at(height)?;
        let funding = block
            .txdata
            .into_iter()
            .find(|transaction| transaction.compute_txid() == outpoint.txid);
        let funding = funding.ok_or_else(|| NodeError::Answer {
            call: "scantxoutset",
            answer: format!("{outpoint}, which is not at height {height}"),
        })?;
        Ok(Coin {
            outpoint,
            output,
            key: self.key,
            kind: CoinKind::Segwit,
            funding,
        })
    }
}
