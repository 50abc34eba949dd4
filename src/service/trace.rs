//! Reports as `tracing` events, inside of a span for each channel. Without the feature, all of this is nothing.

#[cfg(feature = "tracing")]
pub(super) use enabled::{event, in_channel, in_opening};

#[cfg(not(feature = "tracing"))]
pub(super) use disabled::{event, in_channel, in_opening};

#[cfg(feature = "tracing")]
mod enabled {
    use std::future::Future;

    use bitcoin::OutPoint;
    use tracing::{error, info, info_span, warn, Instrument};

    use crate::channel::ChannelId;
    use crate::service::report::Report;

    /// What filters select, wherever in the crate an event is made.
    const TARGET: &str = "spilman::service";

    /// The payer's events until its task begins.
    pub fn in_opening<F: Future>(channel: ChannelId, future: F) -> impl Future<Output = F::Output> {
        future.instrument(info_span!(target: TARGET, "channel", side = "payer", %channel))
    }

    /// The events of a party's task. The span has no parent: the task outlives the one that opened the channel.
    pub fn in_channel<F: Future>(
        is_payee: bool,
        channel: ChannelId,
        funding: OutPoint,
        future: F,
    ) -> impl Future<Output = F::Output> {
        let side = if is_payee { "payee" } else { "payer" };
        future.instrument(info_span!(target: TARGET, parent: None, "channel", side, %channel, %funding))
    }

    pub fn event(report: &Report<'_>) {
        match report {
            Report::FundingHeld(funding) => {
                let txid = funding.tx().compute_txid();
                info!(target: TARGET, report = "funding-held", %txid, "the funding transaction is signed");
            }
            Report::Refundable(refund) => {
                let txid = refund.tx().compute_txid();
                info!(target: TARGET, report = "refundable", %txid, "the refund is signed and verified");
            }
            Report::Stored(channel) => {
                let channel = channel.name();
                info!(target: TARGET, report = "stored", funding = %channel.funding, "the channel is stored");
            }
            Report::Broadcast { role, tx, rejected } => {
                let (role, txid) = (role.name(), tx.compute_txid());
                match rejected {
                    None => info!(target: TARGET, report = "broadcast", role, %txid, "broadcast"),
                    Some(reason) => {
                        warn!(target: TARGET, report = "broadcast", role, %txid, reason, "the node rejects a transaction");
                    }
                }
            }
            Report::BroadcastPackage {
                role,
                package,
                rejected,
            } => {
                let (role, txid) = (role.name(), package.parent().compute_txid());
                let child = package.child().compute_txid();
                match rejected {
                    None => {
                        info!(target: TARGET, report = "broadcast-package", role, %txid, %child, "broadcast");
                    }
                    Some(reason) => {
                        warn!(target: TARGET, report = "broadcast-package", role, %txid, %child, reason, "the node rejects a package");
                    }
                }
            }
            Report::Resumed => {
                info!(target: TARGET, report = "resumed", "the channel goes on, on a new connection");
            }
            Report::Notice(notice) => info!(target: TARGET, report = "notice", ?notice, "notice"),
            other => trouble(other),
        }
    }

    /// What may need attention.
    fn trouble(report: &Report<'_>) {
        match report {
            Report::Refused(error) => {
                warn!(target: TARGET, report = "refused", %error, "refused the peer's message, and hung up");
            }
            Report::NotOpened(error) => {
                warn!(target: TARGET, report = "not-opened", %error, "a peer's channel was not opened");
            }
            Report::NotRaised(error) => {
                warn!(target: TARGET, report = "not-raised", %error, "the feerate was not raised");
            }
            Report::Garbled(error) => {
                warn!(target: TARGET, report = "garbled", %error, "the peer's bytes are no message; hung up");
            }
            Report::Disconnected => warn!(target: TARGET, report = "disconnected", "the peer is gone"),
            Report::Failed(error) => {
                error!(target: TARGET, report = "failed", %error, "an event could not be applied");
            }
            Report::NoMoreNews => {
                warn!(target: TARGET, report = "no-more-news", "the chain brings no more news");
            }
            Report::ChainFailed(error) => {
                let source = std::error::Error::source(error);
                let source = source.map(ToString::to_string).unwrap_or_default();
                warn!(target: TARGET, report = "chain-failed", %error, source, "no view of the chain");
            }
            Report::StoreFailed(error) => {
                error!(target: TARGET, report = "store-failed", %error, "the store failed: no more payments");
            }
            Report::StaleTip { tip, unchanged } => {
                let height = tip.height.to_consensus_u32();
                warn!(target: TARGET, report = "stale-tip", height, ?unchanged, "no new block for a long time");
            }
            // All others are no trouble.
            _ => {}
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use std::future::Future;

    use bitcoin::OutPoint;

    use crate::channel::ChannelId;
    use crate::service::report::Report;

    pub fn in_opening<F: Future>(_: ChannelId, future: F) -> impl Future<Output = F::Output> {
        future
    }

    pub fn in_channel<F: Future>(
        _: bool,
        _: ChannelId,
        _: OutPoint,
        future: F,
    ) -> impl Future<Output = F::Output> {
        future
    }

    pub const fn event(_: &Report<'_>) {}
}
