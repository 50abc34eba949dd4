use bitcoin::Transaction;

use super::channel::Channel;
use super::error::ScenarioError;
use super::world::World;
use crate::transcript::Entry;

impl World {
    /// Replaces the last `depth` blocks by one more, without this transaction, then notifies the channels' parties once. The
    /// transaction is in the mempool again.
    ///
    /// # Errors
    /// If the node fails, or the parties do not become idle.
    pub async fn reorganise(
        &self,
        depth: u32,
        without: &str,
        channels: &[&Channel],
    ) -> Result<(), ScenarioError> {
        let txid = self.recorded(without)?.compute_txid();
        let reorg = self.chain.reorg(depth).drop_tx(txid).apply()?;
        let dropped = reorg.dropped.iter().map(Transaction::compute_txid);
        let dropped = dropped.filter_map(|txid| self.recorder.name_of(&txid)).collect();
        let blocks =
            u32::try_from(reorg.new.len()).map_err(|error| ScenarioError::Range(error.to_string()))?;
        self.recorder.add(Entry::Reorganised {
            replaced: depth,
            blocks,
            dropped,
        });
        self.record_tip()?;
        self.tell(channels).await
    }
}
