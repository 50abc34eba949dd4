//! Money for tests, from published keys.

use bitcoin::secp256k1::SecretKey;
use bitcoin::transaction::{predict_weight, InputWeightPrediction};
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};

use super::clock::ChainClock;
use super::coin::{spend_coins, Coin, CoinKind};
use super::error::{Error, InvalidRequest, NodeError};
use super::keys::labelled_key;
use super::miner::{BlockContent, MinedBlock};
use super::node::scan::ScannedUtxo;
use super::node::Node;

/// The number of blocks, its own included, before a coinbase can be spent.
const MATURITY: u32 = 100;

/// Pays out coins that were mined to its script.
///
/// Each payment goes straight into a separate block. It still pays an ordinary fee, so that one whose block is
/// taken back is relayed and survives a restart: 1 sat/vB, or the node's minimum, if that is more. It comes out
/// of the change, so that amounts are exact; a payment that leaves less than the fee pays what it leaves. With
/// [`Faucet::with_feerate`] of zero it pays none, and the change is round, too. The faucet keeps no account: it asks
/// the node what it can spend, so a reorganisation never loses its funds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faucet {
    key: SecretKey,
    coins_made: u32,
    feerate: FeeRate,
}

impl Default for Faucet {
    fn default() -> Self {
        Self {
            key: labelled_key("spilman/faucet"),
            coins_made: 0,
            feerate: FeeRate::BROADCAST_MIN,
        }
    }
}

impl Faucet {
    /// Creates the faucet whose key is the SHA-256 of `spilman/faucet`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the feerate of its payments; the node's minimum, if that is more; zero for no fee.
    #[must_use]
    pub fn with_feerate(self, feerate: FeeRate) -> Self {
        Self { feerate, ..self }
    }

    /// Returns the script that a [`Miner`](super::Miner) must pay to fund this faucet.
    pub fn script(&self) -> ScriptBuf {
        CoinKind::Segwit.script(&self.key)
    }

    /// Returns what could be spent in the next block.
    pub fn balance(&self, node: &Node) -> Result<Amount, Error> {
        Ok(self.mature(node)?.iter().map(|utxo| utxo.output.value).sum())
    }

    /// Makes a coin of exactly this amount, in a block. Its key is the SHA-256 of `spilman/faucet/0`, then
    /// `spilman/faucet/1`, and so on.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::FundsShort`], [`InvalidRequest::NoSegwitYet`], or if the node fails.
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

    /// As [`Faucet::fund`], for the caller's key.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::FundsShort`], [`InvalidRequest::NoSegwitYet`], or if the node fails.
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

    /// Pays any outputs, in one transaction in a separate block. A last output holds the change, if any. The oldest
    /// funds are spent first.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::FundsShort`], [`InvalidRequest::NoSegwitYet`], or if the node fails.
    pub fn pay(
        &self,
        node: &Node,
        clock: &ChainClock,
        mut outputs: Vec<TxOut>,
    ) -> Result<(Transaction, MinedBlock), Error> {
        let _turn = node.turn()?;
        let segwit = node.segwit_height();
        if segwit > 0 {
            let height = node.tip()?.height + 1;
            if height < segwit {
                return Err(InvalidRequest::NoSegwitYet { height, segwit }.into());
            }
        }
        let needed = outputs
            .iter()
            .try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value))
            .unwrap_or(Amount::MAX);
        let feerate = self.feerate_on(node)?;
        let mut lengths: Vec<_> = outputs.iter().map(|output| output.script_pubkey.len()).collect();
        lengths.push(self.script().len());
        let mut coins = Vec::new();
        let mut available = Amount::ZERO;
        let mut fee = Amount::ZERO;
        for utxo in self.mature(node)? {
            if !coins.is_empty() && needed.checked_add(fee).is_some_and(|sum| available >= sum) {
                break;
            }
            available += utxo.output.value;
            coins.push(self.coin(node, utxo)?);
            fee = fee_of(feerate, coins.len(), &lengths);
        }
        let rest = available
            .checked_sub(needed)
            .ok_or(InvalidRequest::FundsShort { needed, available })?;
        // What is not worth an output goes to the miner, which is the faucet itself.
        let change = rest.checked_sub(fee).unwrap_or(Amount::ZERO);
        let script_pubkey = self.script();
        if change > Amount::ZERO && (fee == Amount::ZERO || change >= script_pubkey.minimal_non_dust()) {
            outputs.push(TxOut {
                value: change,
                script_pubkey,
            });
        }
        let transaction = spend_coins(&coins, outputs)?;
        let block = clock.step_no_earlier_than(node, 0, BlockContent::Exactly(vec![transaction.clone()]))?;
        Ok((transaction, block))
    }

    fn feerate_on(&self, node: &Node) -> Result<FeeRate, Error> {
        if self.feerate == FeeRate::ZERO {
            return Ok(FeeRate::ZERO);
        }
        Ok(self.feerate.max(node.least_feerate()?))
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
            answer: format!("{outpoint}, which is not in the block at height {height}"),
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

/// Returns the fee of a transaction that spends this number of the faucet's coins to scripts of these lengths, or more
/// than all money if it overflows.
fn fee_of(feerate: FeeRate, coins: usize, lengths: &[usize]) -> Amount {
    let inputs = vec![InputWeightPrediction::P2WPKH_MAX; coins];
    let weight = predict_weight(inputs, lengths.iter().copied());
    feerate
        .fee_vb(weight.to_vbytes_ceil())
        .unwrap_or(Amount::MAX_MONEY)
}
