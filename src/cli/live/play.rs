//! The play itself: one loop that orders payments, mines, kills and starts again.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Network, OutPoint, ScriptBuf, TxOut};
use indicatif::ProgressBar;
use serde_json::Value;
use spilman::channel::Construction;
use spilman::regtest::Regtest;

use super::books::Books;
use super::channel::{Slot, Step, CAPACITY, PAYMENT, SHARE};
use super::child::{Process, Said, Starter};
use super::dice::{schedule, Dice, Kill, Victim};
use crate::cli::side_by_side::progress;
use crate::cli::stop::Stop;

/// How long to wait for an answer before looking at everything else.
const TICK: Duration = Duration::from_millis(10);
/// Blocks come this often.
const BLOCK: Duration = Duration::from_millis(150);
/// Nothing has happened for so long: something is stuck.
const STUCK: Duration = Duration::from_secs(180);
/// The blocks at a time while only refunds are waited for.
const HURRY: u32 = 20;

pub struct Plan {
    pub payments: u32,
    pub kills: u32,
    pub seed: u64,
    pub slots: usize,
}

impl Plan {
    /// The most payments of one channel: a short play uses every slot, too.
    fn share(&self) -> u32 {
        let each = u64::from(self.payments).div_ceil(self.slots as u64);
        u32::try_from(each).unwrap_or(SHARE).min(SHARE)
    }
}

/// What an order is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Slot(usize),
    Status,
}

pub struct Play {
    regtest: Regtest,
    starter: Starter,
    payee: Process,
    payee_address: String,
    payer: Process,
    /// Counts the payer's processes: an answer of an earlier one is no answer to this one's orders.
    payer_number: u32,
    answers: Receiver<Said>,
    /// For the next process of the payer.
    answer: Sender<Said>,
    /// The orders of this process that are not answered, by their number.
    asked: HashMap<u64, Asked>,
    orders: u64,
    slots: Vec<Slot>,
    /// The most payments of one channel.
    share: u32,
    /// Payments that no channel was opened for.
    left: u32,
    /// Every construction has its turn.
    opens: usize,
    /// The payer may have channels that the books do not.
    unread: bool,
    /// Channels that are not over, by the payer's latest word.
    open: usize,
    kills: VecDeque<Kill>,
    dice: Dice,
    books: Books,
    scripts: [ScriptBuf; 2],
    mined: Instant,
    moved: Instant,
    bar: ProgressBar,
}

impl Play {
    pub fn new(regtest: Regtest, folder: PathBuf, plan: &Plan) -> Result<Self> {
        let mut dice = Dice::new(plan.seed);
        let kills = schedule(&mut dice, plan.kills, plan.payments).into();
        let starter = Starter {
            rpc_url: regtest.node().rpc_url(),
            folder,
        };
        let scripts = [script(&starter, "payee")?, script(&starter, "payer")?];
        give_coins(&regtest, &scripts[1], plan)?;
        let payee = starter.payee("127.0.0.1:0")?;
        let payee_address = serving(&starter)?;
        let (answer, answers) = channel();
        let payer = starter.payer(0, answer.clone())?;
        let mut play = Self {
            regtest,
            starter,
            payee,
            payee_address,
            payer,
            payer_number: 0,
            answers,
            answer,
            asked: HashMap::new(),
            orders: 0,
            slots: (0..plan.slots).map(|_| Slot::new()).collect(),
            share: plan.share(),
            left: plan.payments,
            opens: 0,
            unread: true,
            open: 0,
            kills,
            dice,
            books: Books::new(plan.seed, plan.payments),
            scripts,
            mined: Instant::now(),
            moved: Instant::now(),
            bar: progress(plan.payments as usize, "payments"),
        };
        for slot in 0..plan.slots {
            play.open_next(slot);
        }
        Ok(play)
    }

    /// Plays to the end; `None` if interrupted.
    pub fn run(mut self, stop: &Stop) -> Result<Option<Books>> {
        let played = self.play(stop);
        self.bar.finish_and_clear();
        if stop.is_set() {
            return Ok(None);
        }
        played.map_err(|error| {
            let (payee, payer) = (self.starter.end_of("payee.log"), self.starter.end_of("payer.log"));
            anyhow!("{error:#}\nthe payee said last:\n{payee}\nthe payer said last:\n{payer}")
        })?;
        let [payee, payer] = &self.scripts;
        self.books.read_chain(self.regtest.node(), payee, payer)?;
        Ok(Some(self.books))
    }

    fn play(&mut self, stop: &Stop) -> Result<()> {
        while !self.is_over() && !stop.is_set() {
            self.revive()?;
            self.order();
            // Every slot waits for an answer now.
            self.kill()?;
            self.mine()?;
            if let Ok((number, answer)) = self.answers.recv_timeout(TICK) {
                self.on_answer(number, &answer)?;
            }
            while let Ok((number, answer)) = self.answers.try_recv() {
                self.on_answer(number, &answer)?;
            }
            if self.moved.elapsed() > STUCK {
                let steps: Vec<_> = self.slots.iter().map(|slot| slot.step).collect();
                bail!(
                    "nothing has happened for {STUCK:?}: {steps:?}, {} channels open",
                    self.open
                );
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.slots.iter().all(Slot::is_idle) && !self.unread && self.open == 0 && self.kills.is_empty()
    }

    /// Starts what has ended: by a kill, or because its port or its node was not there.
    fn revive(&mut self) -> Result<()> {
        if self.payee.has_ended() {
            self.payee = self.starter.payee(&self.payee_address)?;
        }
        if self.payer.has_ended() {
            self.payer_number += 1;
            self.payer = self.starter.payer(self.payer_number, self.answer.clone())?;
            (self.orders, self.unread) = (0, true);
            self.asked.clear();
            for slot in &mut self.slots {
                slot.awaits = None;
            }
        }
        Ok(())
    }

    fn say(&mut self, order: &str, asked: Asked) -> u64 {
        self.orders += 1;
        self.payer.say(order);
        self.asked.insert(self.orders, asked);
        self.orders
    }

    /// Gives every slot its next order. What an order before it has left in the store is read first.
    fn order(&mut self) {
        let is_last = self.slots.iter().all(Slot::is_idle);
        if (self.unread || is_last) && !self.asked.values().any(|asked| *asked == Asked::Status) {
            self.say("status", Asked::Status);
        }
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if self.unread && matches!(slot.step, Step::Opening { .. }) {
                continue;
            }
            let construction = Construction::ALL[self.opens % Construction::ALL.len()];
            let Some(order) = slot.order(&self.payee_address, construction) else {
                continue;
            };
            self.opens += usize::from(matches!(slot.step, Step::Opening { .. }));
            if let Step::Paying { channel, done, .. } = slot.step {
                self.books.wants(channel, u64::from(done + 1) * PAYMENT);
            }
            self.slots[index].awaits = Some(self.say(&order, Asked::Slot(index)));
        }
    }

    fn on_answer(&mut self, number: u32, said: &Value) -> Result<()> {
        if number != self.payer_number {
            return Ok(());
        }
        let order = said["order"].as_u64().unwrap_or_default();
        let Some(asked) = self.asked.remove(&order) else {
            return Ok(());
        };
        match (asked, said.get("answer"), said["error"].as_str()) {
            (Asked::Status, Some(answer), _) => self.on_status(answer)?,
            (Asked::Slot(slot), Some(answer), _) => {
                self.slots[slot].awaits = None;
                self.moved = Instant::now();
                self.on_success(slot, answer)?;
            }
            (Asked::Slot(slot), None, error) => self.on_error(slot, error.unwrap_or_default()),
            (Asked::Status, None, error) => bail!("the payer cannot read its store: {error:?}"),
        }
        Ok(())
    }

    fn on_success(&mut self, slot: usize, answer: &Value) -> Result<()> {
        let channel = outpoint(&answer["channel"])?;
        match self.slots[slot].step {
            // Another slot has found it in the store.
            Step::Opening { .. } if self.books.knows(&channel) => self.slots[slot].fail(),
            Step::Opening { share } => self.begin(slot, channel, share),
            Step::Paying { done, share, .. } => {
                let total = answer["acknowledged"].as_u64().unwrap_or_default();
                let new = self.books.acknowledged(channel, total);
                self.bar.inc(new.into());
                let done = done + new;
                self.slots[slot].step = if done < share {
                    Step::Paying { channel, done, share }
                } else {
                    Step::Closing { channel }
                };
            }
            Step::Closing { .. } => self.open_next(slot),
            Step::Idle => {}
        }
        Ok(())
    }

    fn on_error(&mut self, slot: usize, error: &str) {
        self.slots[slot].fail();
        let is_over = error.contains("unknown-channel") || error.contains("is over");
        match self.slots[slot].step {
            // It may have left a channel.
            Step::Opening { .. } => self.unread = true,
            // The payee never had it, or it has ended without this slot.
            Step::Paying { done, share, .. } if is_over => {
                self.left += share - done;
                self.open_next(slot);
            }
            Step::Closing { .. } if is_over => self.open_next(slot),
            _ => {}
        }
    }

    /// Adopts the channels that an opening has left which was killed.
    fn on_status(&mut self, channels: &Value) -> Result<()> {
        let channels = channels.as_array().context("the status is a list")?;
        self.open = channels
            .iter()
            .filter(|channel| channel["stage"] != "closed")
            .count();
        for channel in channels {
            let outpoint = outpoint(&channel["channel"])?;
            let is_new = !self.books.knows(&outpoint);
            self.books
                .signed(outpoint, channel["paid"].as_u64().unwrap_or_default());
            let waits = |slot: &Slot| slot.awaits.is_none() && matches!(slot.step, Step::Opening { .. });
            let slot = self.slots.iter().position(waits).filter(|_| is_new);
            if let Some((slot, Step::Opening { share })) = slot.map(|slot| (slot, self.slots[slot].step)) {
                self.begin(slot, outpoint, share);
            }
        }
        self.unread = false;
        Ok(())
    }

    fn begin(&mut self, slot: usize, channel: OutPoint, share: u32) {
        self.books.wants(channel, 0);
        self.slots[slot].step = Step::Paying {
            channel,
            done: 0,
            share,
        };
    }

    fn open_next(&mut self, slot: usize) {
        let share = self.left.min(self.share);
        self.left -= share;
        // At the end the payer says what it has signed, and what is still open.
        self.unread |= share == 0;
        self.slots[slot].step = match share {
            0 => Step::Idle,
            share => Step::Opening { share },
        };
    }

    /// A block now and then; many, if only refunds are left.
    fn mine(&mut self) -> Result<()> {
        // Not even at the end without a pause: a party cannot view a chain that never stands still.
        if self.mined.elapsed() < BLOCK {
            return Ok(());
        }
        let is_last = self.slots.iter().all(Slot::is_idle);
        self.regtest.mine(if is_last { HURRY } else { 1 })?;
        // A node on a network gets the blocks again that a kill takes from it; this one has no peers.
        self.regtest.node().flush()?;
        self.mined = Instant::now();
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let done = self.books.acknowledged_payments();
        let Some(Kill { victim, delay, .. }) = self.kills.front().copied().filter(|kill| kill.after <= done)
        else {
            return Ok(());
        };
        self.kills.pop_front();
        thread::sleep(delay);
        match victim {
            Victim::Payee => self.payee.kill(),
            Victim::Payer => self.payer.kill(),
            Victim::Node => {
                self.regtest.node().kill()?;
                // Both sides may notice, or not.
                thread::sleep(Duration::from_millis(self.dice.below(100)));
                self.regtest.node().restart()?;
            }
        }
        self.books
            .killed(victim, self.slots.iter().filter_map(Slot::waits_for));
        self.moved = Instant::now();
        Ok(())
    }
}

fn outpoint(text: &Value) -> Result<OutPoint> {
    let text = text.as_str().context("a channel has a name")?;
    Ok(text.parse()?)
}

/// Where a side is paid.
fn script(starter: &Starter, side: &str) -> Result<ScriptBuf> {
    let answer = starter.ask(side, &["address"])?;
    let address: Address<NetworkUnchecked> = answer["address"].as_str().context("an address")?.parse()?;
    Ok(address.require_network(Network::Regtest)?.script_pubkey())
}

/// A coin for every channel, and for those that a kill leaves behind.
fn give_coins(regtest: &Regtest, payer: &ScriptBuf, plan: &Plan) -> Result<()> {
    let channels = plan.payments.div_ceil(plan.share()) as usize + plan.slots;
    let coin = TxOut {
        value: Amount::from_sat(CAPACITY + 10_000),
        script_pubkey: payer.clone(),
    };
    regtest.pay(vec![coin; channels + plan.kills as usize])?;
    regtest.node().flush()?;
    Ok(())
}

/// The address that the payee says first.
fn serving(starter: &Starter) -> Result<String> {
    let begun = Instant::now();
    loop {
        let said = starter.end_of("payee.log");
        let line = said
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(address) = line.as_ref().and_then(|line| line["address"].as_str()) {
            return Ok(address.to_owned());
        }
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("the payee does not serve: {said}");
        }
        thread::sleep(TICK);
    }
}
