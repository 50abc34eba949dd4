//! Building blocks here rather than in the node, whose coinbases differ from version to version.

use std::collections::{HashMap, HashSet};
use std::slice;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness, WitnessCommitment,
};

use super::best_block::BestBlock;
use super::error::{Error, InvalidRequest};
use super::node::mempool::TemplateTransaction;
use super::node::Node;

/// Every regtest block has this difficulty: half of all hashes are good enough.
const REGTEST_BITS: u32 = 0x207f_ffff;
/// The number of blocks between halvings on regtest.
const HALVING_INTERVAL: u32 = 150;
/// In every coinbase, after the height. Without it, the first sixteen would be too short.
const FILLER: &[u8; 7] = b"regtest";
/// What an input script of at most 100 bytes has left.
const MAX_TAG: usize = 75;

/// How far a block may be ahead of a node's clock, in seconds.
const MOST_AHEAD: u32 = 7_200;

/// Which transactions go into a block, after the coinbase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BlockContent {
    /// What the node's own template has: all of the mempool that fits. Parents come before children and
    /// otherwise lower ids first, so that the order is the same in every Core version.
    #[default]
    Mempool,
    /// As [`BlockContent::Mempool`], but without these and what spends from them, which stay in the mempool.
    AllBut(Vec<Txid>),
    /// Exactly these, in this order, whether or not the node would relay them.
    Exactly(Vec<Transaction>),
}

impl BlockContent {
    /// No transactions.
    #[must_use]
    pub fn empty() -> Self {
        Self::Exactly(Vec::new())
    }
}

/// The parameters of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MineParams {
    /// The transactions.
    pub content: BlockContent,
    /// The header's time in seconds since 1970. It must be after the median time past, and at most two hours
    /// after the node's mock time. If absent, the mock time or the first second after the median time past,
    /// whichever is later; if that is too far ahead, mock time moves as far as is needed.
    pub time: Option<u32>,
    /// Up to 75 bytes for the coinbase, so that two blocks that would be equal differ: needed to mine again what
    /// was invalidated.
    pub tag: Vec<u8>,
}

/// A block that became the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinedBlock {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The time in its header, in seconds since 1970.
    pub time: u32,
    /// Its transactions without the coinbase.
    pub txids: Vec<Txid>,
}

impl MinedBlock {
    pub(super) fn new(height: u32, block: &Block) -> Self {
        Self {
            height,
            hash: block.block_hash(),
            time: block.header.time,
            txids: block.txdata[1..].iter().map(Transaction::compute_txid).collect(),
        }
    }
}

/// The block to build on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parent {
    pub height: u32,
    pub hash: BlockHash,
}

impl From<BestBlock> for Parent {
    fn from(BestBlock { height, hash, .. }: BestBlock) -> Self {
        Self { height, hash }
    }
}

impl From<&MinedBlock> for Parent {
    fn from(&MinedBlock { height, hash, .. }: &MinedBlock) -> Self {
        Self { height, hash }
    }
}

/// Builds whole blocks and submits them to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miner {
    pays_to: ScriptBuf,
}

impl Miner {
    /// Creates a miner whose coinbases pay to this script.
    #[must_use]
    pub fn new(pays_to: ScriptBuf) -> Self {
        Self { pays_to }
    }

    /// Mines one block on the tip.
    ///
    /// # Errors
    ///
    /// [`NodeError::BlockRejected`](super::NodeError::BlockRejected) if the block breaks the consensus rules or another
    /// becomes the tip instead, [`InvalidRequest::TagTooLong`], or the node fails.
    pub fn mine(&self, node: &Node, params: MineParams) -> Result<MinedBlock, Error> {
        let _turn = node.turn()?;
        let tip = node.tip()?;
        let time = match params.time {
            Some(time) => time,
            None => next_time(node, &tip)?,
        };
        self.mine_on(node, Parent::from(tip), time, params.content, &params.tag)
    }

    /// Mines one block on a tip that is known already: asking for it takes longer than all the rest.
    pub(super) fn mine_on(
        &self,
        node: &Node,
        parent: Parent,
        time: u32,
        content: BlockContent,
        tag: &[u8],
    ) -> Result<MinedBlock, Error> {
        let (transactions, fees) = match content {
            BlockContent::Mempool => from_template(node, &[])?,
            BlockContent::AllBut(left_out) => from_template(node, &left_out)?,
            BlockContent::Exactly(transactions) => {
                let fees = fees_of(node, &transactions)?;
                (transactions, fees)
            }
        };
        let block = self.build(node.segwit_height(), parent, time, fees, transactions, tag)?;
        node.extend_chain(slice::from_ref(&block))?;
        Ok(MinedBlock::new(parent.height + 1, &block))
    }

    /// Whether a block with just these transactions could be the next one, in the node's words if not. Nothing is
    /// mined.
    pub(super) fn propose(&self, node: &Node, transactions: &[Transaction]) -> Result<Option<String>, Error> {
        let tip = node.tip()?;
        let time = next_time(node, &tip)?;
        let fees = fees_of(node, transactions)?;
        let block = self.build(
            node.segwit_height(),
            Parent::from(tip),
            time,
            fees,
            transactions.to_vec(),
            b"",
        )?;
        node.propose_block(&block)
    }

    /// Empty blocks of these times, each on the one before, not yet given to any node.
    pub(super) fn build_empty(
        &self,
        segwit_height: u32,
        mut parent: Parent,
        times: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<Block>, Error> {
        let blocks = times.into_iter().map(|time| {
            let block = self.build(segwit_height, parent, time, Amount::ZERO, Vec::new(), b"")?;
            parent = Parent {
                height: parent.height + 1,
                hash: block.block_hash(),
            };
            Ok(block)
        });
        blocks.collect()
    }

    /// A block with proof of work, not yet given to any node. Below the height from which on there may be witnesses,
    /// the coinbase has none, and nothing that commits to them.
    pub(super) fn build(
        &self,
        segwit_height: u32,
        parent: Parent,
        time: u32,
        fees: Amount,
        transactions: Vec<Transaction>,
        tag: &[u8],
    ) -> Result<Block, Error> {
        let height = parent.height + 1;
        let coinbase = self.coinbase(height, subsidy(height) + fees, tag)?;
        let header = Header {
            // Version bits (BIP 9) with none signalled.
            version: BlockVersion::from_consensus(0x2000_0000),
            prev_blockhash: parent.hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(REGTEST_BITS),
            nonce: 0,
        };
        let mut block = Block {
            header,
            txdata: vec![coinbase],
        };
        block.txdata.extend(transactions);
        if height < segwit_height {
            block.txdata[0].input[0].witness = Witness::new();
            block.txdata[0].output.truncate(1);
        } else {
            let root = block.witness_root();
            let root = root.expect("a block with a coinbase has a witness root");
            let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
            block.txdata[0].output[1].script_pubkey = witness_commitment_script(commitment);
        }
        block.header.merkle_root = block
            .compute_merkle_root()
            .expect("a block with a coinbase has a merkle root");
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        Ok(block)
    }

    /// The coinbase in the form that Core has had since version 30: locked to the height before, so that no two
    /// are ever equal (BIP 54). The second output is for the witness commitment (BIP 141).
    fn coinbase(&self, height: u32, value: Amount, tag: &[u8]) -> Result<Transaction, Error> {
        if tag.len() > MAX_TAG {
            return Err(InvalidRequest::TagTooLong {
                length: tag.len(),
                max: MAX_TAG,
            }
            .into());
        }
        let mut script_sig = bitcoin::script::Builder::new()
            .push_int(i64::from(height))
            .push_slice(FILLER);
        if !tag.is_empty() {
            let tag = PushBytesBuf::try_from(tag.to_vec()).expect("75 bytes can be pushed");
            script_sig = script_sig.push_slice(tag);
        }
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into_script(),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::from_slice(&[[0_u8; 32]]),
        };
        let output = vec![
            TxOut {
                value,
                script_pubkey: self.pays_to.clone(),
            },
            TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::new(),
            },
        ];
        let lock_time = LockTime::from_consensus(height - 1);
        Ok(Transaction {
            version: Version::TWO,
            lock_time,
            input: vec![input],
            output,
        })
    }
}

/// The time of the next block if nothing else is asked for. The median time past can be so far ahead that the node's
/// clock has to move before it takes a block that is later.
fn next_time(node: &Node, tip: &BestBlock) -> Result<u32, Error> {
    let now = node.mock_time();
    let time = now.max(tip.mtp.saturating_add(1));
    let earliest = time.saturating_sub(MOST_AHEAD);
    if earliest > now {
        node.set_mock_time(earliest)?;
    }
    Ok(time)
}

/// What a block may claim beside the fees.
fn subsidy(height: u32) -> Amount {
    let halvings = height / HALVING_INTERVAL;
    Amount::from_sat(50_0000_0000_u64.checked_shr(halvings).unwrap_or(0))
}

fn witness_commitment_script(commitment: WitnessCommitment) -> ScriptBuf {
    let mut payload = [0; 36];
    payload[..4].copy_from_slice(&[0xaa, 0x21, 0xa9, 0xed]);
    payload[4..].copy_from_slice(commitment.as_byte_array());
    bitcoin::script::Builder::new()
        .push_opcode(OP_RETURN)
        .push_slice(payload)
        .into_script()
}

fn from_template(node: &Node, left_out: &[Txid]) -> Result<(Vec<Transaction>, Amount), Error> {
    let mempool = node.mempool()?;
    if let Some(&txid) = left_out.iter().find(|txid| mempool.binary_search(txid).is_err()) {
        return Err(InvalidRequest::NotInMempool { txid }.into());
    }
    // Most blocks of a test are mined for their height or time alone.
    if mempool.is_empty() {
        return Ok((Vec::new(), Amount::ZERO));
    }
    let mut template = node.block_template()?.transactions;
    let mut left_out: HashSet<Txid> = left_out.iter().copied().collect();
    // The template has parents before children.
    template.retain(|TemplateTransaction { transaction, .. }| {
        let txid = transaction.compute_txid();
        let mut inputs = transaction.input.iter();
        let stays =
            left_out.contains(&txid) || inputs.any(|input| left_out.contains(&input.previous_output.txid));
        if stays {
            left_out.insert(txid);
        }
        !stays
    });
    let fees = template.iter().map(|entry| entry.fee).sum();
    Ok((sorted(template), fees))
}

/// Parents before children, otherwise by id.
fn sorted(template: Vec<TemplateTransaction>) -> Vec<Transaction> {
    // The template has parents before children too, so a depth is known before it is asked for.
    let mut depths = HashMap::<Txid, usize>::new();
    let mut keyed = Vec::with_capacity(template.len());
    for TemplateTransaction { transaction, .. } in template {
        let parents = transaction
            .input
            .iter()
            .filter_map(|input| depths.get(&input.previous_output.txid));
        let depth = parents.max().map_or(0, |depth| depth + 1);
        let txid = transaction.compute_txid();
        depths.insert(txid, depth);
        keyed.push(((depth, txid), transaction));
    }
    keyed.sort_unstable_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, transaction)| transaction).collect()
}

/// What the transactions pay. One whose inputs are not all known, or that pays out more than it takes in, counts
/// as nothing: it is for the node to reject the block.
fn fees_of(node: &Node, transactions: &[Transaction]) -> Result<Amount, Error> {
    let mut in_block = HashMap::new();
    let mut fees = Amount::ZERO;
    for transaction in transactions {
        let mut taken = Some(Amount::ZERO);
        for input in &transaction.input {
            let outpoint = input.previous_output;
            let value = match in_block.get(&outpoint) {
                Some(value) => Some(*value),
                None => node.confirmed_utxo(outpoint)?.map(|utxo| utxo.output.value),
            };
            taken = taken
                .zip(value)
                .and_then(|(taken, value)| taken.checked_add(value));
        }
        let paid = transaction
            .output
            .iter()
            .try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
        let fee = taken.zip(paid).and_then(|(taken, paid)| taken.checked_sub(paid));
        fees += fee.unwrap_or(Amount::ZERO);
        let txid = transaction.compute_txid();
        in_block.extend(
            (0..)
                .zip(&transaction.output)
                .map(|(vout, output)| (OutPoint { txid, vout }, output.value)),
        );
    }
    Ok(fees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidy_halves_every_150_blocks() {
        for (height, satoshi) in [
            (1, 5_000_000_000),
            (149, 5_000_000_000),
            (150, 2_500_000_000),
            (9_599, 0),
        ] {
            assert_eq!(subsidy(height).to_sat(), satoshi, "height {height}");
        }
        assert_eq!(subsidy(u32::MAX), Amount::ZERO);
    }

    #[test]
    fn a_tag_has_a_limit() {
        let miner = Miner::new(ScriptBuf::new());
        let length = |tag: &[u8]| {
            miner
                .coinbase(70_000, Amount::ZERO, tag)
                .map(|tx| tx.input[0].script_sig.len())
        };
        assert!(length(&[7; MAX_TAG]).unwrap() <= 100);
        let message = length(&[7; MAX_TAG + 1]).unwrap_err().to_string();
        assert_eq!(message, "a coinbase tag holds at most 75 bytes, got 76");
    }
}
