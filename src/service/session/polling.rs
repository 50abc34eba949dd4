use tokio::sync::watch;

use super::Session;
use crate::channel::{Event, Tip};
use crate::service::chain::{in_time, Chain, ChainError, Watched, TIP, VIEW};
use crate::service::guard::catch;
use crate::service::party::Party;
use crate::service::report::Report;

/// How a party looks at the chain.
impl<P: Party, C: Chain> Session<P, C> {
    /// The chain's news; the chain may have moved during the opening.
    pub(super) fn changes(&mut self) -> watch::Receiver<u64> {
        let mut changes = catch(|| self.chain.changes()).unwrap_or_else(|panicked| {
            let error = ChainError::new("wait for news of the chain", panicked);
            self.teller.tell(Report::ChainFailed(&error));
            watch::channel(0).1
        });
        changes.mark_changed();
        changes
    }

    /// Polls the chain, and takes note of all news up to that moment.
    pub(super) async fn poll(&mut self, changes: &mut watch::Receiver<u64>) {
        let serial = *changes.borrow_and_update();
        self.poll_again().await;
        self.seen = serial;
        self.publish();
    }

    pub(super) async fn poll_again(&mut self) {
        self.polls.begin();
        let watched = Watched {
            funding: self.party.funding().outpoint(),
            since: Some(self.party.opened().height),
        };
        let chain = &self.chain;
        // What a chain needs for an answer, a party needs no room for in between.
        let view = Box::pin(in_time(VIEW, async { chain.view(watched).await }));
        let event = match self.connection.write_during(view).await {
            Ok(view) => {
                self.polls.saw(view.tip);
                self.polls.blind = false;
                self.spend_confirmed = view.spend.as_ref().is_some_and(|spend| spend.confirmations > 0);
                Event::Chain(view)
            }
            Err(error) => {
                self.chain_failed(&error);
                self.polls.blind = true;
                Event::Blind(self.tip().await)
            }
        };
        self.on_event(event).await;
        if let Some(report) = self.polls.stale() {
            self.teller.tell(report);
        }
        self.polls.end();
    }

    /// With the tip alone a party still acts on its locks.
    async fn tip(&mut self) -> Option<Tip> {
        let chain = &self.chain;
        let tip = Box::pin(in_time(TIP, async { chain.tip().await }));
        match self.connection.write_during(tip).await {
            Ok(tip) => {
                self.polls.saw(tip);
                Some(tip)
            }
            Err(error) => {
                self.chain_failed(&error);
                None
            }
        }
    }

    pub(super) fn chain_failed(&mut self, error: &ChainError) {
        self.teller.tell(Report::ChainFailed(error));
        self.polls.fail();
    }
}
