use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::FeeRate;
use futures_util::{stream, StreamExt};
use tokio::sync::{watch, Mutex};
use tokio::time::timeout;

use super::registry::Registry;
use super::{observer, ManagerObserver};
use crate::channel::{CpfpError, KeyRole, Raisable, Stage};
use crate::service::chain::in_time;
use crate::service::fees::{FeeBudget, Fees};
use crate::service::handle::{BumpError, Handle};
use crate::service::report::Report;
use crate::service::teller::Teller;
use crate::service::timing::POLL_INTERVAL;
use crate::service::wallet::ChildSigner;
use crate::store::ChannelName;

/// How many channels wait for the signer at the same time.
const AT_ONCE: usize = 8;

/// After news of a block the parties look at the chain first, and broadcast.
const PARTIES_FIRST: Duration = Duration::from_secs(1);

/// What the task that raises fees works on.
pub(super) struct Work {
    pub registry: Arc<Registry>,
    pub changes: watch::Receiver<u64>,
    pub observer: ManagerObserver,
}

/// Starts that task, with the user's part of it.
pub(super) type StartRaising = Arc<dyn Fn(Work) + Send + Sync>;

pub(super) fn start_raising<F, S>(fees: F, signer: S, budget: FeeBudget) -> StartRaising
where
    F: Fees,
    S: ChildSigner + Clone + Sync + 'static,
{
    let fees = Arc::new(fees);
    Arc::new(move |work| {
        let raiser = Raiser {
            fees: Arc::clone(&fees),
            signer: signer.clone(),
            budget,
            observer: work.observer,
        };
        tokio::spawn(raiser.run(work.registry, work.changes));
    })
}

/// What was asked for while all channels were looked at once, by blocks.
#[derive(Default)]
struct Estimates(Mutex<HashMap<u32, Option<FeeRate>>>);

struct Raiser<F, S> {
    fees: Arc<F>,
    signer: S,
    budget: FeeBudget,
    observer: ManagerObserver,
}

impl<F: Fees, S: ChildSigner + Clone + Sync> Raiser<F, S> {
    /// Looks after each block, and now and then, until the manager and all of its parties are gone.
    async fn run(self, registry: Arc<Registry>, mut changes: watch::Receiver<u64>) {
        loop {
            // Without news, and without their source, the time alone counts.
            let news = timeout(POLL_INTERVAL, changes.changed()).await;
            let pause = match news {
                Ok(Err(_)) => POLL_INTERVAL,
                _ => PARTIES_FIRST,
            };
            tokio::time::sleep(pause).await;
            let (payers, payees) = (registry.payers(), registry.payees());
            if payers.is_empty() && payees.is_empty() && Arc::strong_count(&registry) == 1 {
                return;
            }
            // A payee has a deadline.
            let estimates = Estimates::default();
            self.look_at_all(payees, KeyRole::Payee, &estimates).await;
            self.look_at_all(payers, KeyRole::Payer, &estimates).await;
        }
    }

    /// Without an estimate the deadline decides. One that fails, or takes long, is not asked again for the other channels.
    async fn estimate(&self, blocks: u32, estimates: &Estimates) -> Option<FeeRate> {
        let mut known = estimates.0.lock().await;
        if known.values().any(Option::is_none) {
            return None;
        }
        if let Some(estimate) = known.get(&blocks) {
            return *estimate;
        }
        let estimate = in_time("estimate the feerate", async { self.fees.feerate(blocks).await });
        let estimate = estimate.await.ok();
        known.insert(blocks, estimate);
        estimate
    }

    async fn look_at_all<T>(&self, handles: Vec<Arc<Handle<T>>>, role: KeyRole, estimates: &Estimates) {
        let looks = handles
            .into_iter()
            .map(|handle| self.look_at(handle, role, estimates));
        stream::iter(looks)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    async fn look_at<T>(&self, handle: Arc<Handle<T>>, role: KeyRole, estimates: &Estimates) {
        if handle.status().borrow().stage != Stage::Closing {
            return;
        }
        let Some(raisable) = handle.raisable().await else {
            return;
        };
        if let Err(error) = self.raise(&handle, &raisable, estimates).await {
            let name = ChannelName {
                funding: handle.funding().outpoint(),
                role,
            };
            Teller::new(observer(&self.observer, Some(name))).tell(Report::NotRaised(&error));
        }
    }

    async fn raise<T>(
        &self,
        handle: &Handle<T>,
        raisable: &Raisable,
        estimates: &Estimates,
    ) -> Result<(), BumpError> {
        let most = raisable.affordable(self.budget.of(raisable.value()?))?;
        let blocks = self.budget.target(raisable.blocks_left);
        let estimate = self.estimate(blocks, estimates).await;
        let Some(feerate) = self.budget.feerate(raisable, estimate, most) else {
            return Ok(());
        };
        match raisable.child(feerate) {
            // It rounds to nothing.
            Err(CpfpError::Sufficient { .. }) => Ok(()),
            child => {
                handle.sign_and_bump(child, self.signer.clone()).await?;
                Ok(())
            }
        }
    }
}
