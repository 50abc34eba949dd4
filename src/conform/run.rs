//! One case while it is played: a node, our side, a program, and the waits for each of them.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, Txid};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::agreed::{difference, unsigned, AgreedChannel, Expected};
use super::case::{Case, Ending};
use super::failure::{CaseFailure, Stop};
use super::link::{Observations, ProgramLink};
use super::program::Program;
use crate::channel::{Message, Protocol, SpendRole, Terms};
use crate::regtest::{Coin, Lock};
use crate::scenario::{ScenarioError, World};
use crate::service::{self, BitcoindChain, Status};
use crate::transcript::Side;

/// The interval for polling the chain and the program.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a program that closed its output may take to exit before it counts as running.
const EXITING: Duration = Duration::from_secs(5);

/// More than the agreed 2 sat/vB, and the most that a payer grants by default: 10 sat/vB.
pub(super) const HIGHER: FeeRate = FeeRate::from_sat_per_kwu(2_500);

pub(super) struct Run<'a> {
    pub case: &'a Case,
    pub world: &'a World,
    pub view: BitcoindChain,
    pub link: ProgramLink,
    pub program: RefCell<Program>,
    pub deadline: Duration,
    pub terms: Terms,
}

/// What our side brings to a case.
pub(super) struct OurSide {
    pub end: DuplexStream,
    pub setup: service::Setup,
    /// The payer's coin, whichever side the payer is.
    pub coin: Coin,
    pub payer_payout: ScriptBuf,
}

impl Run<'_> {
    /// Waits for the ending of the case. The rule may still apply to a message that our side sends.
    pub async fn settled(&self, agreed: &AgreedChannel, paid: Amount) -> Result<Txid, Stop> {
        let mut heard = self.link.heard.clone();
        let expected = self.end(agreed, paid);
        tokio::select! {
            biased;
            Ok(_) = heard.wait_for(|heard| heard.cut || heard.killed) => Err(Stop::Cut),
            spent = self.spent("closing", Side::Payee, agreed, &expected) => {
                let spent = spent?;
                self.spent_again(Side::Payee, agreed, &expected).await?;
                Ok(spent)
            }
        }
    }

    /// Returns the transaction that ends the channel, if both sides are honest and stay connected.
    fn end(&self, agreed: &AgreedChannel, paid: Amount) -> Expected {
        let cooperatively = self.case.closes_cooperatively();
        match self.case.ending {
            Ending::ClosedByPayer => agreed.closing(cooperatively, paid, self.terms.feerate),
            Ending::HigherFeerate => agreed.closing(cooperatively, paid, HIGHER),
            // With a locked payment, the payee must request the close; with a nonce, it can.
            Ending::ClosedByPayee if cooperatively || self.terms.payment_expiry.is_some() => {
                agreed.closing(cooperatively, paid, self.terms.feerate)
            }
            Ending::ClosedByPayee | Ending::NeverClosed => agreed.payment(paid),
        }
    }

    pub fn heard(&self) -> Observations {
        self.link.heard.borrow().clone()
    }

    /// Returns our side.
    pub const fn ours(&self) -> Side {
        self.case.program.peer()
    }

    /// Returns a failure with what was seen instead.
    pub async fn missed(&self, stage: &'static str, expected: impl Into<String>) -> CaseFailure {
        // The system closes the output of a process that exits, and reports its end somewhat later.
        let begun = Instant::now();
        while self.heard().ended && self.program.borrow().ended().is_none() && begun.elapsed() < EXITING {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        CaseFailure::new(stage, expected, self.seen())
    }

    fn seen(&self) -> String {
        let heard = self.heard();
        let said = match heard.last {
            None => "no message".to_owned(),
            Some(Message::PaymentAccepted { paid }) => {
                format!(
                    "last message: payment-accepted for {} sat in total",
                    paid.to_sat()
                )
            }
            Some(message) => format!("last message: {}", message.kind()),
        };
        if let Some(fault) = &heard.fault {
            return format!("{fault}; {said}");
        }
        let state = match self.program.borrow().ended() {
            Some(ended) => format!("exited {ended}"),
            None if heard.ended => "closed its output, but is still running".to_owned(),
            None => format!(
                "still running at the deadline, after {} s",
                self.deadline.as_secs()
            ),
        };
        match self.link.begun.told() {
            Some(begun) => format!("{said}; {begun}; {state}"),
            None => format!("{said}; {state}"),
        }
    }

    /// Waits for something that our side does once the program has done its part. Fails as soon as that is impossible.
    pub async fn unless_cut<T>(
        &self,
        stage: &'static str,
        expected: &str,
        awaited: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let cut = |heard: &Observations| heard.cut || heard.killed || heard.fault.is_some();
        self.unless(stage, expected, cut, awaited).await
    }

    /// Waits in the same way, with another condition for failing.
    pub async fn unless<T>(
        &self,
        stage: &'static str,
        expected: &str,
        cut: impl FnMut(&Observations) -> bool,
        awaited: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut heard = self.link.heard.clone();
        tokio::select! {
            biased;
            Ok(_) = heard.wait_for(cut) => Err(self.halt(stage, expected).await),
            value = awaited => Ok(value),
            () = tokio::time::sleep(self.deadline) => Err(self.missed(stage, expected).await.into()),
        }
    }

    async fn halt(&self, stage: &'static str, expected: &str) -> Stop {
        if self.heard().fault.is_some() {
            self.missed(stage, expected).await.into()
        } else {
            Stop::Cut
        }
    }

    /// Waits until our side has reached a stage.
    pub async fn party(
        &self,
        stage: &'static str,
        expected: &str,
        mut status: watch::Receiver<Status>,
        reached: impl FnMut(&Status) -> bool,
    ) -> Result<(), Stop> {
        let reached = status.wait_for(reached);
        let is_there = async { reached.await.is_ok() };
        if self.unless_cut(stage, expected, is_there).await? {
            Ok(())
        } else {
            Err(self.missed(stage, expected).await.into())
        }
    }

    /// Waits until something was observed on the link.
    pub async fn said(
        &self,
        stage: &'static str,
        expected: &str,
        said: impl Fn(&Observations) -> bool,
    ) -> Result<(), Stop> {
        let mut heard = self.link.heard.clone();
        let over = |heard: &Observations| said(heard) || heard.ended;
        let waited = async { heard.wait_for(over).await.is_ok_and(|heard| said(&heard)) };
        // What came before the end of the output counts.
        let broken = |heard: &Observations| heard.fault.is_some() || heard.cut;
        if self.unless(stage, expected, broken, waited).await? {
            Ok(())
        } else if self.heard().killed {
            Err(Stop::Cut)
        } else {
            Err(self.missed(stage, expected).await.into())
        }
    }

    /// Polls until there is a result, the program is gone, or the deadline has passed.
    pub async fn until<T>(
        &self,
        stage: &'static str,
        expected: &str,
        mut look: impl FnMut() -> Result<Option<T>, ScenarioError>,
    ) -> Result<T, CaseFailure> {
        let begun = Instant::now();
        loop {
            // This comes before the poll, because the program acts before it ends.
            let gone = self.heard().fault.is_some()
                || (!self.heard().killed && self.program.borrow().ended().is_some());
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            if gone || begun.elapsed() > self.deadline {
                return Err(self.missed(stage, expected).await);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Mines, and announces the blocks to our side.
    pub async fn mine(&self, blocks: u32) -> Result<(), CaseFailure> {
        self.world.mine(blocks, &[]).await?;
        self.view.announce();
        Ok(())
    }

    /// Mines to the end of this lock, and announces the blocks to our side.
    pub async fn make_final(&self, lock: impl Into<Lock>) -> Result<(), CaseFailure> {
        self.world.make_final(lock, &[]).await?;
        self.view.announce();
        Ok(())
    }

    /// Mines to the closing margin, when the payee settles.
    pub async fn to_margin(&self, agreed: Option<&AgreedChannel>) -> Result<(), CaseFailure> {
        let base = match agreed {
            Some(agreed) => self.world.funding_parent(agreed.funding)?,
            None => None,
        };
        let from = self.terms.settle_from(base);
        let from = from.ok_or_else(|| CaseFailure::runner("a relative lock that has not begun"))?;
        self.make_final(from.to_lock_time()).await
    }

    /// Mines to the refund's lock.
    pub async fn to_expiry(&self, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
        self.make_final(self.expiry(agreed)?).await
    }

    fn expiry(&self, agreed: &AgreedChannel) -> Result<bitcoin::absolute::LockTime, CaseFailure> {
        let base = self.world.funding_parent(agreed.funding)?;
        let expiry = self.terms.refund_lock.expiry(base);
        let expiry = expiry.ok_or_else(|| CaseFailure::runner("a relative lock that has not begun"))?;
        Ok(expiry.to_lock_time())
    }

    /// Mines to the last block before the refund's lock.
    pub async fn before_expiry(&self, agreed: &AgreedChannel) -> Result<(), CaseFailure> {
        self.world.stop_before(self.expiry(agreed)?, &[]).await?;
        self.view.announce();
        Ok(())
    }

    /// Waits for the funding transaction, and gives it the confirmations that the payee requires.
    pub async fn funded(&self, agreed: &AgreedChannel) -> Result<(), Stop> {
        const STAGE: &str = "funding";
        let txid = agreed.funding.txid;
        let heard = || self.heard();
        let awaited = format!("the funding transaction {txid} in the mempool");
        let taken = self.until(STAGE, &awaited, || {
            let tx = self.world.node().transaction_in_mempool(txid)?;
            Ok(match tx {
                Some(tx) => Some(Some(tx)),
                None if heard().cut || heard().killed => Some(None),
                None => None,
            })
        });
        let Some(tx) = taken.await? else {
            return Err(Stop::Cut);
        };
        let by = match self.terms.protocol {
            Protocol::SteppedLocktime => Side::Payer,
            _ => Side::Payee,
        };
        if by == self.case.program {
            self.world
                .recorder
                .broadcast(by, "", SpendRole::Funding, &tx, None);
        }
        let needed = agreed.params.confirmations();
        self.mine(needed - 1).await?;
        // Only time can show that a message does not come. One sent before the last confirmation has arrived by then.
        tokio::time::sleep(POLL_INTERVAL).await;
        if self.case.program == Side::Payee && self.heard().ready {
            let expected = format!("ready at {needed} confirmations");
            return Err(
                CaseFailure::new("confirmation", expected, "ready before the last confirmation").into(),
            );
        }
        Ok(self.mine(1).await?)
    }

    /// Returns what spends the funding output, in the mempool or in a block.
    pub fn spender(&self, agreed: &AgreedChannel) -> Result<Option<Transaction>, ScenarioError> {
        let node = self.world.node();
        if let Some(txid) = node.mempool_spender(agreed.funding)? {
            return Ok(node.transaction_in_mempool(txid)?);
        }
        if node.utxo(agreed.funding)?.is_some() {
            return Ok(None);
        }
        let spends = |tx: &Transaction| {
            tx.input
                .iter()
                .any(|input| input.previous_output == agreed.funding)
        };
        for height in (1..=node.tip()?.height).rev() {
            if let Some(tx) = node.block_at(height)?.txdata.into_iter().find(spends) {
                return Ok(Some(tx));
            }
        }
        Ok(None)
    }

    /// Waits for this spend of the funding output, and no other.
    pub async fn spent(
        &self,
        stage: &'static str,
        by: Side,
        agreed: &AgreedChannel,
        expected: &Expected,
    ) -> Result<Txid, CaseFailure> {
        let awaited = format!("the {} in the mempool", expected.name);
        let tx = self.until(stage, &awaited, || self.spender(agreed)).await?;
        let recorder = &self.world.recorder;
        recorder.broadcast(by, "", expected.role, &tx, None);
        if unsigned(&tx) == expected.tx {
            return Ok(tx.compute_txid());
        }
        Err(CaseFailure::new(stage, awaited, difference(&expected.tx, &tx)))
    }

    /// Waits until the program, as the payee, names its settlement.
    pub async fn told(&self, settlement: Txid) -> Result<(), Stop> {
        const STAGE: &str = "closing";
        let awaited = format!("closed with {settlement}");
        self.said(STAGE, &awaited, |heard| heard.closed.is_some()).await?;
        match self.heard().closed {
            Some(txid) if txid != settlement => {
                Err(CaseFailure::new(STAGE, awaited, format!("closed with {txid}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Gives the settlement six confirmations, after which the program has nothing left to do.
    pub async fn confirmed(&self) -> Result<(), CaseFailure> {
        self.mine(6).await?;
        self.leaves().await
    }

    /// Waits until the program exits on its own, and checks that every message until then was expected.
    pub async fn leaves(&self) -> Result<(), CaseFailure> {
        const STAGE: &str = "end";
        const EXPECTED: &str = "an exit with status 0, because nothing is left to do";
        let begun = Instant::now();
        loop {
            let exited = self.program.borrow().ended();
            let heard = self.heard();
            let failed = exited.is_some_and(|ended| !ended.is_success()) || heard.fault.is_some();
            // It may have exited before its output was read.
            if !failed && exited.is_some() && heard.ended {
                return Ok(());
            }
            if failed || begun.elapsed() > self.deadline {
                let failure = self.missed(STAGE, EXPECTED).await;
                return Err(match exited {
                    Some(_) if !failed => failure.but("a child process keeps its output open"),
                    _ => failure,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Checks that the program has broadcast nothing.
    pub fn mempool_holds_only(&self, ours: Option<Txid>) -> Result<(), CaseFailure> {
        let mempool = self.world.node().mempool().map_err(ScenarioError::from)?;
        match mempool.into_iter().find(|txid| Some(*txid) != ours) {
            None => Ok(()),
            Some(txid) => Err(CaseFailure::new(
                "protection",
                "no transaction on chain, because nothing is at stake",
                format!("{txid} in the mempool"),
            )),
        }
    }
}
