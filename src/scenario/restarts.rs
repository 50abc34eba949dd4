//! What a story does with processes: it ends one, starts the next one from its file, and connects both sides again.

use bitcoin::Amount;

use super::channel::Channel;
use super::error::{expect, ScenarioError};
use super::interceptor::{Interceptor, Order, Rule, Wire};
use super::machine::{cut_at_broadcast, Machine, LOSES_POWER};
use super::world::World;
use crate::service::{Chain, PayeeConnection, ResumeError};
use crate::transcript::{sat, Entry, Side};

/// At what a side will lose its power.
#[derive(Default)]
pub(super) struct Armed {
    pub rules: Vec<Rule>,
    pub cut_at_broadcast: Option<Side>,
}

impl Armed {
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.cut_at_broadcast.is_none()
    }
}

impl Channel {
    pub(super) fn machine(&mut self, side: Side) -> Result<&mut Machine, ScenarioError> {
        let machines = self.machines.as_mut();
        let machines = machines.ok_or_else(|| ScenarioError::Process {
            who: side,
            task: "restart",
            source: "the story keeps its channel in memory alone".into(),
        })?;
        Ok(machines.of(side))
    }

    /// Copies the file of a side that does not run.
    pub(super) fn back_up(&mut self, side: Side) -> Result<(), ScenarioError> {
        let machine = self.machine(side)?;
        let copied = machine.disk.back_up();
        copied.map_err(|error| machine.failed("copy its file", error))
    }

    /// Puts the copy in the place of the file of a side that does not run.
    pub(super) fn restore_backup(&mut self, side: Side) -> Result<(), ScenarioError> {
        let machine = self.machine(side)?;
        let restored = machine.disk.restore_backup();
        restored.map_err(|error| machine.failed("restore its file", error))
    }

    /// Prepares the next loss of power.
    pub(super) fn arm(&self, world: &World, armed: Armed) {
        let Armed {
            rules,
            cut_at_broadcast: cut,
        } = armed;
        for rule in rules {
            self.wire.order(Order::Apply(rule));
        }
        match cut {
            Some(side @ Side::Payer) => cut_at_broadcast(&self.payer.chain, &self.wire, world, side),
            Some(side @ Side::Payee) => cut_at_broadcast(&self.payee.chain, &self.wire, world, side),
            None => {}
        }
    }

    /// Returns the side that has lost power, if one has.
    pub(super) fn vanished(&self) -> Option<Side> {
        self.wire.status.borrow().vanished
    }

    /// Ends the side's process at once, if it has not lost its power yet, and waits until nothing of it is left.
    pub(super) async fn lose_power(&mut self, side: Side) -> Result<(), ScenarioError> {
        if self.wire.status.borrow().ended && self.vanished() != Some(side) {
            // There is no connection that could say so.
            self.recorder.silence(side);
            self.recorder.add(Entry::Notice {
                by: side.into(),
                text: LOSES_POWER.to_owned(),
            });
        }
        self.wire.order(Order::Cut(side));
        self.end_of_connection(side).await?;
        match side {
            Side::Payer => self.payer.abort(),
            Side::Payee => self.payee.abort(),
        }
        self.rest().await?;
        self.wire = Wire::unplugged();
        self.machine(side)?.stop().await
    }

    /// Starts the side's next process, which finds the channel in its file, and lets it poll the chain.
    pub(super) async fn restart(&mut self, side: Side) -> Result<(), ScenarioError> {
        let (funding, chain) = match side {
            Side::Payer => (self.payer()?.funding().outpoint(), self.payer.chain.clone()),
            Side::Payee => (self.payee()?.funding().outpoint(), self.payee.chain.clone()),
        };
        self.recorder.hear(side);
        chain.announce()?;
        // What it sees until the next announcement.
        let _ = chain.view(funding.into()).await;
        let machine = self.machine(side)?;
        // In a debug build, what starts a process takes much of a test's stack.
        Box::pin(machine.start(&chain)).await?;
        let process = machine.running()?.clone();
        let (paid, verb) = match side {
            Side::Payer => (self.payer.restarted(process.payer(funding))?, "signed"),
            Side::Payee => (self.payee.restarted(process.payee(funding))?, "accepted"),
        };
        self.recorder.add(Entry::Notice {
            by: side.into(),
            text: format!("restarts from its file, with {} {verb}", sat(paid)),
        });
        self.rest().await
    }

    /// Connects both sides again, and resumes the channel.
    pub(super) async fn resume(&mut self, world: &World, armed: Armed) -> Result<(), ScenarioError> {
        let resumed = self.try_to_resume(world, armed).await?;
        resumed.map_err(|error| failed("resume the channel", error))
    }

    /// The same, and returns why the channel was not resumed.
    pub(super) async fn try_to_resume(
        &mut self,
        world: &World,
        armed: Armed,
    ) -> Result<Result<(), ResumeError>, ScenarioError> {
        let (payer_end, payee_end, wire) = Interceptor::start(Vec::new(), self.recorder.clone(), LOSES_POWER);
        self.wire = wire;
        self.arm(world, armed);
        let payees = self.machine(Side::Payee)?.running()?.clone();
        tokio::spawn(async move { payees.accept(payee_end, None).await });
        let machine = self.machine(Side::Payer)?;
        let connection = Box::pin(PayeeConnection::with_random(payer_end, machine.hello())).await;
        let connection = connection.map_err(|error| failed("greet the payee", error))?;
        let resumed = Box::pin(self.payer()?.resume(&connection)).await;
        drop(connection);
        self.rest().await?;
        Ok(resumed)
    }

    /// Pays up to this total, although a side may lose power meanwhile.
    pub(super) async fn try_to_pay(&self, total: Amount) -> Result<(), ScenarioError> {
        let paid = self.answer(self.payer()?.pay_up_to(total)).await;
        self.rest().await?;
        if let (Err(error), true) = (paid, self.vanished() != Some(Side::Payer)) {
            let text = format!("tries to pay up to {}: {error}", sat(total));
            self.recorder.add(Entry::Notice {
                by: Side::Payer.into(),
                text,
            });
        }
        Ok(())
    }

    /// Pays up to this total, and records the payment as [`Channel::pay`] does.
    pub(super) async fn pay_up_to(&self, total: Amount) -> Result<(), ScenarioError> {
        let paid = self.payer()?.pay_up_to(total).await;
        paid.map_err(|source| failed("pay", source))?;
        self.rest().await?;
        self.record_payment().await
    }

    /// One side begins to close, although a side may lose power meanwhile.
    pub(super) async fn try_to_close(&self, by: Side) -> Result<(), ScenarioError> {
        let closed = match by {
            Side::Payer => self.answer(self.payer()?.close()).await,
            Side::Payee => self.answer(self.payee()?.close()).await,
        };
        self.rest().await?;
        match (closed, self.vanished()) {
            (Err(source), None) => Err(failed("close", source)),
            _ => Ok(()),
        }
    }

    /// Checks how much the side's process holds: signed (payer) or accepted (payee).
    pub(super) fn holds(&self, side: Side, total: Amount) -> Result<(), ScenarioError> {
        let status = match side {
            Side::Payer => self.payer()?.status(),
            Side::Payee => self.payee()?.status(),
        };
        let found = status.borrow().paid;
        expect(format!("what the {side} holds"), &total, &found)
    }
}

/// What the payer could not do.
fn failed(task: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> ScenarioError {
    let (who, source) = (Side::Payer, Box::new(source));
    ScenarioError::Process { who, task, source }
}
