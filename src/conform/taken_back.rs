//! What the chain takes back, and the program has to broadcast again.

use bitcoin::{Amount, OutPoint};
use tokio::sync::watch;

use super::agreed::{AgreedChannel, Expected};
use super::case::TakenBack;
use super::failure::{CaseFailure, Stop};
use super::run::Run;
use crate::channel::{Limits, Stage};
use crate::service::Status;
use crate::transcript::Side;

impl Run<'_> {
    /// Restarts the node without its mempool, and mines an empty block, with which each side broadcasts again what it needs.
    async fn drop_mempool(&self) -> Result<(), CaseFailure> {
        let node = self.world.node();
        self.world.say("The node restarts, and its mempool is lost");
        node.stop()
            .and_then(|()| node.restart())
            .map_err(CaseFailure::runner)?;
        self.world.mine_empty(1, &[]).await?;
        self.view.announce();
        Ok(())
    }

    /// Waits for the spend of the funding output again, if the case drops it.
    pub async fn spent_again(
        &self,
        by: Side,
        agreed: &AgreedChannel,
        expected: &Expected,
    ) -> Result<(), CaseFailure> {
        if self.case.taken_back == Some(TakenBack::Spend) {
            self.drop_mempool().await?;
            self.spent("chain", by, agreed, expected).await?;
        }
        Ok(())
    }

    /// Before the last payment, takes the funding transaction back, if the case does so, until it is confirmed again.
    pub async fn funded_again(
        &self,
        funding: OutPoint,
        sum: Amount,
        status: watch::Receiver<Status>,
    ) -> Result<(), Stop> {
        const STAGE: &str = "chain";
        let is_last = self.case.payments().last() == Some(&sum);
        if self.case.taken_back != Some(TakenBack::Funding) || !is_last {
            return Ok(());
        }
        self.world.say("The funding transaction is reorganised away");
        self.world.reorganise_away(funding.txid)?;
        self.drop_mempool().await?;
        let suspended = |status: &Status| status.stage == Stage::AwaitingFunding;
        self.party(STAGE, "our side to see it", status.clone(), suspended)
            .await?;
        let awaited = format!("the funding transaction {} in the mempool again", funding.txid);
        let node = self.world.node();
        self.until(STAGE, &awaited, || Ok(node.transaction_in_mempool(funding.txid)?))
            .await?;
        self.mine(*Limits::default().confirmations.start()).await?;
        self.party(STAGE, "ready again", status, |status| !suspended(status))
            .await
    }
}
