//! A transcript explained to a reader who is new to payment channels: who does what, why, the raw transactions, and
//! what the node answers.

use std::fmt::Write;

use bitcoin::hex::DisplayHex;
use bitcoin::{absolute::LockTime, Amount, OutPoint};

use super::decode::{decode, DecodedTx, Fee};
use super::locks::{relative_lock, wait};
use super::record::{Actor, Entry, RecordedTx, Side, Transcript};
use super::timeline::Timeline;
use super::units::{sat, thousands, utc};
use crate::channel::{Construction, MessageKind, Protocol};
use crate::wire;

/// Tells the whole transcript. Lines that begin with `#` are headings; everything else is plain text.
#[must_use]
pub fn story(transcript: &Transcript) -> String {
    let mut out = format!("# {}: {}\n", transcript.scenario, transcript.summary);
    let mut teller = Teller {
        transcript,
        timeline: Timeline::of(transcript),
        explained: Vec::new(),
    };
    for entry in &transcript.entries {
        // Writing into a String cannot fail.
        let _ = teller.entry(&mut out, entry);
    }
    out
}

struct Teller<'a> {
    transcript: &'a Transcript,
    timeline: Timeline<'a>,
    /// The messages whose reason was given, which happens once.
    explained: Vec<(Side, MessageKind)>,
}

impl Teller<'_> {
    fn entry(&mut self, out: &mut String, entry: &Entry) -> std::fmt::Result {
        match entry {
            Entry::Step(text) => writeln!(out, "\n## {text}\n"),
            Entry::Message {
                from,
                bytes,
                tampered,
            } => self.message(out, *from, bytes, *tampered),
            Entry::Built { by, name } => self.built(out, *by, name),
            // The timeline writes the rest, and keeps heights and sums.
            _ => {
                out.push_str("  ");
                self.timeline.entry(out, entry)
            }
        }
    }

    fn message(&mut self, out: &mut String, from: Side, bytes: &[u8], tampered: bool) -> std::fmt::Result {
        let Ok(envelope) = wire::decode(bytes) else {
            return writeln!(out, "  {from} sends {} bytes that are not a message", bytes.len());
        };
        let kind = envelope.message.kind();
        let arrow = if from == Side::Payer {
            "payer ──▶ payee"
        } else {
            "payer ◀── payee"
        };
        let changed = if tampered { ", changed on the way" } else { "" };
        let framed = wire::FRAME_HEADER + bytes.len();
        writeln!(out, "  {arrow}  {kind} ({framed} bytes{changed})")?;
        for line in self.timeline.describe(envelope.channel, &envelope.message) {
            writeln!(out, "      {line}")?;
        }
        if !self.explained.contains(&(from, kind)) {
            self.explained.push((from, kind));
            let Transcript {
                protocol,
                construction,
                ..
            } = self.transcript;
            let why = why_here(from, kind, *construction).or_else(|| why(kind, *protocol));
            if let Some(why) = why {
                writeln!(out, "      Why: {why}")?;
            }
        }
        Ok(())
    }

    fn built(&self, out: &mut String, by: Actor, name: &str) -> std::fmt::Result {
        writeln!(out, "  {by} builds {name}")?;
        let Some(tx) = self.transcript.transaction(name) else {
            return Ok(());
        };
        match decode(&tx.raw, &tx.prevouts) {
            Ok(decoded) => self.transaction(out, tx, &decoded),
            Err(error) => writeln!(out, "      cannot be decoded: {error}"),
        }
    }

    fn transaction(&self, out: &mut String, tx: &RecordedTx, decoded: &DecodedTx) -> std::fmt::Result {
        writeln!(out, "      txid   {}", decoded.txid)?;
        for input in &decoded.inputs {
            writeln!(out, "      spends {}", self.spent(&input.outpoint))?;
        }
        for output in &decoded.outputs {
            let to = self.transcript.names.name_of_script(&output.script);
            let to = to.map_or_else(|| output.script_type.to_string(), str::to_owned);
            writeln!(out, "      pays   {:>18}  to {to}", sat(output.value))?;
        }
        if let Fee::Known(fee) = decoded.fee {
            let vsize = thousands(u64::try_from(decoded.vsize).unwrap_or(u64::MAX));
            writeln!(out, "      fee    {:>18}  for {vsize} vB", sat(fee))?;
        }
        match decoded.lock_time {
            LockTime::ZERO => {}
            LockTime::Blocks(height) => writeln!(out, "      locked until the tip is at height {height}")?,
            LockTime::Seconds(time) => {
                let seconds = time.to_consensus_u32();
                writeln!(
                    out,
                    "      locked until the median time past is above {}",
                    utc(seconds)
                )?;
            }
        }
        for input in &decoded.inputs {
            if let Some(lock) = relative_lock(input.sequence, decoded.version) {
                writeln!(out, "      locked until {}", wait(lock))?;
            }
        }
        writeln!(out, "      raw    {}", tx.raw.as_hex())
    }

    fn spent(&self, outpoint: &OutPoint) -> String {
        let name = self.transcript.names.name_of_txid(outpoint.txid);
        name.map_or_else(
            || outpoint.to_string(),
            |name| format!("output {} of {name}", outpoint.vout),
        )
    }
}

/// Returns what is different if the refund is in the funding output's script, or if both sign as one key.
const fn why_here(from: Side, kind: MessageKind, construction: Construction) -> Option<&'static str> {
    Some(match (kind, from) {
        (MessageKind::Open, _) if construction.has_script_refund() => {
            "the funding output takes a key of each side; the payer brings K1 and the terms."
        }
        (MessageKind::Funding, _) if construction.has_script_refund() => {
            "the funding output itself lets the payer take everything back once its lock has passed, so there is \
             no refund for the payee to sign first; the payee broadcasts it."
        }
        (MessageKind::CloseRequest, Side::Payer) if construction.closes_with_one_key() => {
            "the payer wants to close, and both can sign as one key. The payee's nonce must come first, \
             because the payee completes the signature."
        }
        (MessageKind::CloseRequest, Side::Payee) if construction.closes_with_one_key() => {
            "both can sign as one key, and that takes a nonce of each. A nonce is good for one signature and \
             never for another, so the payee makes its own only now, and none was needed while paying."
        }
        (MessageKind::CooperativeSettlement, _) => {
            "the payer's part of the one signature. It is worthless alone; together with the payee's part it \
             is indistinguishable from the signature of a single key."
        }
        _ => return None,
    })
}

/// Returns why a message is sent at this point, and not earlier or later.
const fn why(kind: MessageKind, protocol: Protocol) -> Option<&'static str> {
    Some(match kind {
        MessageKind::Open => "a 2-of-2 output takes a key of each side; the payer brings K1 and the terms.",
        MessageKind::Accept => {
            "the payee has checked the terms against its own limits, and brings K2, fresh for this channel."
        }
        MessageKind::RefundRequest => {
            "once the money is locked, only both together can move it. So the payer wants its way out signed \
             first; the payee sees the funding transaction's hash and nothing else."
        }
        MessageKind::RefundSignature => {
            "the payee has built the same refund itself and compared: its lock is the agreed one, and its \
             sequence does not switch the lock off."
        }
        MessageKind::FundingRequest => "the refund is signed, so handing over the bond is no longer a risk for the payer.",
        MessageKind::Funding => match protocol {
            Protocol::SteppedLocktime => {
                "the payer has broadcast it; the payee checks that it is what the refund spends."
            }
            Protocol::Example7 | Protocol::Bond => {
                "the payer's refund is safe, so it hands over the funding transaction; the payee broadcasts it."
            }
        },
        MessageKind::Ready => "unconfirmed, the funding could still be double-spent or changed: now payments count.",
        MessageKind::PaymentRequest => "the work is done, so the payee asks for the next version.",
        MessageKind::Payment => match protocol {
            Protocol::SteppedLocktime => {
                "a signature and the sum so far are enough: the payee builds the transaction itself. Its lock \
                 is earlier than the refund's, so the payee can always redeem first."
            }
            Protocol::Example7 | Protocol::Bond => {
                "a signature and the sum so far are enough: the payee builds the transaction itself, and can \
                 broadcast it whenever it wants. Each new one pays it more, so it wants the latest."
            }
        },
        MessageKind::PaymentAccepted => "the payee has verified the signature and keeps it instead of the last one.",
        MessageKind::CloseRequest => "the payee wants to be paid out.",
        MessageKind::Settlement => "without a lock, it can be mined at once; both get their share.",
        MessageKind::Closed => "the payer need not watch for anything else.",
        MessageKind::Hello => {
            "the random bytes are fresh, so a proof that was seen on another connection is worth nothing on this one."
        }
        MessageKind::Resume => {
            "anyone can see the funding output, so the payer signs with K1; the sums show what was lost on the way."
        }
        MessageKind::Resumed => {
            "the latest payment has the payer's own signature, so a payer that forgot it can believe the payee."
        }
        MessageKind::CooperativeSettlement | MessageKind::Refuse => return None,
    })
}

/// The cost of a channel on chain, compared with separate payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceComparison {
    /// Fee of the funding transaction and of the settlement.
    pub channel: Amount,
    /// The fee of one payment as a separate transaction.
    pub separate: Amount,
}

impl BalanceComparison {
    /// Reads the fees from the raw transactions of these names; `None` if one is missing.
    #[must_use]
    pub fn of(transcript: &Transcript, channel: &[&str], separate: &str) -> Option<Self> {
        let fee = |name: &str| {
            let tx = transcript.transaction(name)?;
            match decode(&tx.raw, &tx.prevouts).ok()?.fee {
                Fee::Known(fee) => Some(fee),
                _ => None,
            }
        };
        let channel = channel.iter().map(|name| fee(name)).sum::<Option<Amount>>()?;
        Some(Self {
            channel,
            separate: fee(separate)?,
        })
    }

    /// Returns the cost of this many payments as separate transactions.
    pub fn separately(&self, payments: u64) -> Amount {
        self.separate * payments
    }

    /// Returns the number of payments from which the channel is cheaper.
    pub fn break_even(&self) -> u64 {
        self.channel.to_sat() / self.separate.to_sat().max(1) + 1
    }
}
