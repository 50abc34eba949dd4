//! Who paid what, and what the chain says of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use anyhow::Result;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use serde::Serialize;
use spilman::regtest::Node;
use spilman::transcript::thousands;

use super::channel::{CAPACITY, PAYMENT};
use super::dice::Victim;

/// The rows of a table that a person reads.
const ROWS: usize = 20;
/// Fee and dust of one spend are less.
const MOST_FEE: u64 = 2_000;

/// One channel, in satoshi.
#[derive(Debug, Default, Clone, Serialize)]
struct Entry {
    /// The highest total that was asked for.
    wanted: u64,
    /// The highest total that the payer has signed, by its own word.
    signed: u64,
    /// The highest total that the payee has acknowledged to the payer.
    acknowledged: u64,
    /// What the chain gave the payee; none while the funding output is unspent.
    received: Option<u64>,
    /// What the chain gave the payer.
    change: u64,
}

impl Entry {
    fn fee(&self) -> Option<u64> {
        CAPACITY.checked_sub(self.received?.checked_add(self.change)?)
    }

    fn lost(&self) -> u64 {
        self.acknowledged
            .saturating_sub(self.received.unwrap_or_default())
    }

    fn fault(&self) -> Option<String> {
        let Self {
            wanted,
            signed,
            acknowledged,
            received,
            change,
        } = self;
        let Some(received) = received else {
            return Some("is neither settled nor refunded".to_owned());
        };
        if received < acknowledged {
            return Some(format!(
                "lost an acknowledged payment: {acknowledged} sat were acknowledged, {received} sat received"
            ));
        }
        let most = *received.max(signed);
        if most > *wanted {
            return Some(format!(
                "paid more than was wanted: {most} sat instead of {wanted} sat"
            ));
        }
        match self.fee() {
            Some(fee) if fee <= MOST_FEE => None,
            _ => Some(format!(
                "has money that is unaccounted for: of {CAPACITY} sat, {received} sat went to the payee and {change} sat to the payer"
            )),
        }
    }
}

/// The result of a play.
#[derive(Serialize)]
pub struct Books {
    seed: u64,
    payments: u32,
    acknowledged_payments: u32,
    kills: BTreeMap<&'static str, u32>,
    /// What was under way when something was killed.
    amid: BTreeMap<&'static str, u32>,
    channels: BTreeMap<OutPoint, Entry>,
}

impl Books {
    pub fn new(seed: u64, payments: u32) -> Self {
        Self {
            seed,
            payments,
            acknowledged_payments: 0,
            kills: Victim::ALL.map(|victim| (victim.name(), 0)).into(),
            amid: BTreeMap::new(),
            channels: BTreeMap::new(),
        }
    }

    pub const fn acknowledged_payments(&self) -> u32 {
        self.acknowledged_payments
    }

    pub fn knows(&self, channel: &OutPoint) -> bool {
        self.channels.contains_key(channel)
    }

    /// Takes note of a kill, and of the orders that were not answered then.
    pub fn killed(&mut self, victim: Victim, waiting: impl Iterator<Item = &'static str>) {
        *self.kills.entry(victim.name()).or_default() += 1;
        for what in waiting {
            *self.amid.entry(what).or_default() += 1;
        }
    }

    pub fn signed(&mut self, channel: OutPoint, total: u64) {
        let entry = self.channels.entry(channel).or_default();
        entry.signed = entry.signed.max(total);
    }

    pub fn wants(&mut self, channel: OutPoint, total: u64) {
        let entry = self.channels.entry(channel).or_default();
        entry.wanted = entry.wanted.max(total);
    }

    /// Takes note of an acknowledgement, and returns the number of payments in it.
    pub fn acknowledged(&mut self, channel: OutPoint, total: u64) -> u32 {
        let entry = self.channels.entry(channel).or_default();
        let before = entry.acknowledged / PAYMENT;
        entry.acknowledged = entry.acknowledged.max(total);
        let new = u32::try_from(entry.acknowledged / PAYMENT - before).unwrap_or_default();
        self.acknowledged_payments += new;
        new
    }

    /// Reads what became of every channel from the blocks.
    pub fn read_chain(&mut self, node: &Node, payee: &ScriptBuf, payer: &ScriptBuf) -> Result<()> {
        let mut spends = HashMap::new();
        for height in 1..=node.tip()?.height {
            for tx in node.block_at(height)?.txdata {
                for input in &tx.input {
                    if self.knows(&input.previous_output) {
                        spends.insert(input.previous_output, tx.clone());
                    }
                }
            }
        }
        let sum = |tx: &Transaction, script: &ScriptBuf| {
            let outputs = tx.output.iter().filter(|output| output.script_pubkey == *script);
            outputs.map(|output| output.value.to_sat()).sum::<u64>()
        };
        for (channel, tx) in spends {
            let entry = self.channels.entry(channel).or_default();
            entry.received = Some(sum(&tx, payee));
            entry.change = sum(&tx, payer);
        }
        Ok(())
    }

    /// Returns what is wrong.
    pub fn faults(&self) -> Vec<String> {
        let channels = self.channels.iter();
        let mut faults: Vec<_> = channels
            .filter_map(|(channel, entry)| Some(format!("channel {channel} {}", entry.fault()?)))
            .collect();
        if self.acknowledged_payments != self.payments {
            faults.push(format!(
                "{} payments were acknowledged, and {} were wanted",
                self.acknowledged_payments, self.payments
            ));
        }
        faults
    }

    fn total(&self, of: impl Fn(&Entry) -> u64) -> u64 {
        self.channels.values().map(of).sum()
    }

    pub fn to_json(&self) -> String {
        let mut json = serde_json::json!(self);
        json["lost"] = self.total(Entry::lost).into();
        format!("{json}\n")
    }

    pub fn to_text(&self) -> String {
        let mut text = row("channel", ["signed", "acknowledged", "received", "change", "fee"]);
        for (channel, entry) in self.channels.iter().take(ROWS) {
            let of = |sum: Option<u64>| sum.map_or("–".to_owned(), thousands);
            let [signed, acknowledged, change] =
                [entry.signed, entry.acknowledged, entry.change].map(thousands);
            let sums = [signed, acknowledged, of(entry.received), change, of(entry.fee())];
            text += &row(&channel.to_string()[..8], sums.each_ref().map(String::as_str));
        }
        if self.channels.len() > ROWS {
            let _ = writeln!(text, "… and {} more", self.channels.len() - ROWS);
        }
        let sums = [
            self.total(|entry| entry.signed),
            self.total(|entry| entry.acknowledged),
            self.total(|entry| entry.received.unwrap_or_default()),
            self.total(|entry| entry.change),
            self.total(|entry| entry.fee().unwrap_or_default()),
        ];
        let sums = sums.map(thousands);
        text += &row("total", sums.each_ref().map(String::as_str));
        let counts = |counts: &BTreeMap<&str, u32>| {
            let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
            counts.collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(
            text,
            "\nseed {}: {} payments acknowledged; channels: {}\nkills: {}; under way then: {}\nacknowledged {} sat, settled {} sat, lost {} sat",
            self.seed,
            self.acknowledged_payments,
            self.channels.len(),
            counts(&self.kills),
            counts(&self.amid),
            sums[1],
            sums[2],
            thousands(self.total(Entry::lost)),
        );
        text
    }
}

fn row(name: &str, sums: [&str; 5]) -> String {
    let [signed, acknowledged, received, change, fee] = sums;
    format!("{name:<10}{signed:>12}{acknowledged:>14}{received:>12}{change:>12}{fee:>10}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A play whose one channel ended like this.
    fn faults(wanted: u64, acknowledged: u64, received: Option<u64>, change: u64) -> Vec<String> {
        let mut books = Books::new(1, 1);
        books.wants(OutPoint::null(), wanted);
        books.acknowledged(OutPoint::null(), acknowledged);
        let entry = books.channels.values_mut().next().unwrap();
        (entry.received, entry.change) = (received, change);
        books.faults()
    }

    #[test]
    fn every_fault_is_found() {
        assert_eq!(
            faults(PAYMENT, PAYMENT, Some(PAYMENT), CAPACITY - PAYMENT - 300),
            [""; 0]
        );
        for (play, words) in [
            (faults(PAYMENT, PAYMENT, None, 0), "neither settled nor refunded"),
            (
                faults(PAYMENT, PAYMENT, Some(0), CAPACITY - 300),
                "lost an acknowledged payment",
            ),
            (
                faults(PAYMENT, PAYMENT, Some(2 * PAYMENT), CAPACITY - 2 * PAYMENT),
                "more than was wanted",
            ),
            (faults(PAYMENT, PAYMENT, Some(PAYMENT), 0), "unaccounted for"),
            (
                faults(PAYMENT, 0, Some(0), CAPACITY - 300),
                "0 payments were acknowledged",
            ),
        ] {
            assert!(
                play.iter().any(|fault| fault.contains(words)),
                "{words:?} is not in {play:?}"
            );
        }
    }
}
