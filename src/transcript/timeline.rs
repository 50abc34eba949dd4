//! The conversation and the chain's movements as text, decoded from the bytes that were sent.

use std::collections::BTreeMap;
use std::fmt::Write;

use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, FeeRate, Transaction};

use super::record::{Entry, RecordedRejection, Side, Transcript, Unit};
use super::units::{sat, thousands, utc};
use crate::channel::{
    ChannelId, Expiry, LockKind, Message, PayeeKey, PayerKey, RefundLock, ResumedState, Terms,
};
use crate::wire;

/// Renders everything but the transactions themselves.
#[must_use]
pub fn timeline(transcript: &Transcript) -> String {
    let mut out = format!("{}\n{}\n", transcript.scenario, transcript.summary);
    let _ = writeln!(
        out,
        "protocol {}, construction {}",
        transcript.protocol, transcript.construction
    );
    let mut writer = Timeline::of(transcript);
    for entry in &transcript.entries {
        // Writing into a String cannot fail.
        let _ = writer.entry(&mut out, entry);
    }
    out
}

/// What the reader of a conversation remembers while reading on.
pub(super) struct Timeline<'a> {
    transcript: &'a Transcript,
    channels: BTreeMap<u16, Seen>,
    tip: Option<(u32, u32)>,
}

struct Seen {
    capacity: Amount,
    paid: Amount,
    free: bool,
    terms: Terms,
    payer_key: PayerKey,
}

impl<'a> Timeline<'a> {
    pub fn of(transcript: &'a Transcript) -> Self {
        Self {
            transcript,
            channels: BTreeMap::new(),
            tip: None,
        }
    }

    pub fn entry(&mut self, out: &mut String, entry: &Entry) -> std::fmt::Result {
        match entry {
            Entry::Step(text) => writeln!(out, "\n# {text}"),
            Entry::Message {
                from,
                bytes,
                tampered,
            } => self.message(out, *from, bytes, *tampered),
            Entry::Built { by, name } => writeln!(out, "{:<8} builds {}", by.name(), self.tx(name)),
            Entry::Broadcast {
                by,
                name,
                role,
                rejected,
            } => {
                let role = match role.name() {
                    // `payment-3`, `day-2-funding`: the name already says it.
                    role if name.contains(role) => String::new(),
                    role => format!(" as {role}"),
                };
                writeln!(
                    out,
                    "{:<8} broadcasts {name}{role}: {}",
                    by.name(),
                    verdict(rejected.as_ref())
                )
            }
            Entry::Asked { name, rejected } => {
                writeln!(
                    out,
                    "node     is asked about {name}: {}",
                    verdict(rejected.as_ref())
                )
            }
            Entry::Found(text) => writeln!(out, "chain    {text}"),
            Entry::Blocks { blocks: 1 } => writeln!(out, "chain    grows by 1 block"),
            Entry::Blocks { blocks } => writeln!(out, "chain    grows by {blocks} blocks"),
            Entry::Block { hash, names } => {
                writeln!(
                    out,
                    "chain    grows by a block with {}\n         {hash}",
                    names.join(", ")
                )
            }
            Entry::Reorganised {
                replaced,
                blocks,
                dropped,
            } => writeln!(
                out,
                "chain    is reorganised: {blocks} blocks without {} replace the last {replaced}",
                dropped.join(", ")
            ),
            Entry::Tip { height, mtp } => {
                self.tip = Some((*height, *mtp));
                let time = utc(*mtp);
                writeln!(out, "tip      height {height}, median time past {mtp} ({time})")
            }
            Entry::Notice { by, text } => writeln!(out, "{:<8} {text}", by.name()),
        }
    }

    fn tx(&self, name: &str) -> String {
        let txid = self
            .transcript
            .decoded(name)
            .map(|tx| tx.compute_txid().to_string());
        format!("{name}\n         txid {}", txid.as_deref().unwrap_or("unknown"))
    }

    fn message(&mut self, out: &mut String, from: Side, bytes: &[u8], tampered: bool) -> std::fmt::Result {
        let to = from.peer();
        let framed = wire::FRAME_HEADER + bytes.len();
        let changed = if tampered { " (changed on the way)" } else { "" };
        match wire::decode(bytes) {
            Ok(envelope) => {
                let kind = envelope.message.kind();
                writeln!(
                    out,
                    "{from} -> {to}  {kind} on channel {}, {framed} bytes framed{changed}",
                    envelope.channel
                )?;
                for line in self.describe(envelope.channel, &envelope.message) {
                    writeln!(out, "         {line}")?;
                }
            }
            Err(error) => writeln!(out, "{from} -> {to}  not a message: {error}{changed}")?,
        }
        writeln!(out, "         {}", bytes.as_hex())
    }

    /// Describes a message in a few lines.
    pub fn describe(&mut self, channel: ChannelId, message: &Message) -> Vec<String> {
        match message {
            Message::Open { terms, payer_key, .. } => {
                let capacity = terms.capacity.to_amount();
                let free = terms.feerate == FeeRate::ZERO;
                self.channels.insert(
                    channel.0,
                    Seen {
                        capacity,
                        paid: Amount::ZERO,
                        free,
                        terms: terms.clone(),
                        payer_key: *payer_key,
                    },
                );
                let mut lines = self.terms(terms);
                lines.push(format!("K1 {payer_key}"));
                lines
            }
            Message::Accept {
                payee_key,
                confirmation,
                ..
            } => {
                let mut lines = vec![
                    format!("K2 {payee_key}"),
                    format!("payments count from {} confirmations", confirmation.depth),
                ];
                if confirmation.zero_conf_limit > Amount::ZERO {
                    let limit = self.amount(confirmation.zero_conf_limit);
                    lines.push(format!("and up to {limit} before that"));
                }
                lines.extend(self.descriptor(channel, *payee_key));
                lines
            }
            Message::RefundRequest { tx } => vec![format!(
                "unsigned refund of {} to the payer, lock {}, spends {}",
                self.amount(tx.output.iter().map(|o| o.value).sum()),
                tx.lock_time,
                tx.input
                    .first()
                    .map_or_else(String::new, |i| i.previous_output.to_string()),
            )],
            Message::Funding { tx } => vec![format!("{} {}", self.name_of(tx), tx.compute_txid())],
            Message::PaymentRequest { paid } => vec![self.sum(channel, *paid, false)],
            Message::Settlement { paid, feerate, .. }
            | Message::CooperativeSettlement { paid, feerate, .. } => {
                let mut lines = vec![self.sum(channel, *paid, false)];
                lines.extend(self.raised(channel, *feerate));
                lines
            }
            Message::CloseRequest { feerate, nonce } => {
                let mut lines: Vec<_> = self.raised(channel, *feerate).into_iter().collect();
                lines.extend(nonce.map(|nonce| format!("public nonce {nonce}")));
                lines
            }
            Message::Payment { paid, .. } => vec![self.sum(channel, *paid, true)],
            Message::PaymentAccepted { paid } => vec![format!("{} in total", self.amount(*paid))],
            Message::Closed { txid } => vec![format!("settlement {txid}")],
            Message::Refuse { reason } => vec![format!("reason: {reason}")],
            Message::Hello {
                versions, features, ..
            } => vec![
                format!("speaks versions {} to {}", versions.least(), versions.greatest()),
                format!("features: {features}"),
            ],
            Message::Resume(resume) => vec![
                format!("the channel with the funding output {}", resume.claim.funding),
                format!("signed {} in total", self.amount(resume.claim.signed)),
                resume.claim.acknowledged.map_or_else(
                    || "nothing was acknowledged".to_owned(),
                    |sum| format!("{} were acknowledged", self.amount(sum)),
                ),
            ],
            Message::Resumed(resumed) => vec![
                resumed.claim.latest_payment.map_or_else(
                    || "holds no payment".to_owned(),
                    |held| format!("holds {} in total", self.amount(held.paid)),
                ),
                resumed_state(resumed.claim.state),
            ],
            Message::RefundSignature { .. } | Message::FundingRequest | Message::Ready => Vec::new(),
        }
    }

    /// Describes a feerate that differs from the agreed one.
    fn raised(&self, channel: ChannelId, feerate: FeeRate) -> Option<String> {
        let agreed = self.channels.get(&channel.0)?.terms.feerate;
        (feerate != agreed).then(|| format!("at {}", per_vbyte(feerate)))
    }

    fn terms(&self, terms: &Terms) -> Vec<String> {
        let mut lines = vec![
            format!("capacity {}", self.amount(terms.capacity.to_amount())),
            format!(
                "feerate {}, dust feerate {}, closing margin {}",
                per_vbyte(terms.feerate),
                per_vbyte(terms.dust_feerate),
                terms.closing_margin
            ),
            match terms.refund_lock {
                RefundLock::Absolute(expiry) => format!("refund locked until {}", self.lock(expiry)),
                relative @ RefundLock::Relative(_) => format!("refund locked for {relative}"),
            },
        ];
        if let Some(expiry) = terms.payment_expiry {
            lines.push(format!("payments locked until {}", self.lock(expiry)));
        }
        if terms.minimum_payment > Amount::ONE_SAT || terms.reserve > Amount::ZERO {
            lines.push(format!(
                "least payment {}, reserve {}",
                self.amount(terms.minimum_payment),
                self.amount(terms.reserve)
            ));
        }
        lines
    }

    /// Describes the funding output, which follows from both keys.
    fn descriptor(&self, channel: ChannelId, payee_key: PayeeKey) -> Option<String> {
        let seen = self.channels.get(&channel.0)?;
        let descriptor = seen.terms.descriptor(seen.payer_key, payee_key).ok()?;
        Some(format!("funding output {descriptor}"))
    }

    /// Describes a lock, and how far it is ahead of the last tip.
    fn lock(&self, expiry: Expiry) -> String {
        let value = expiry.to_lock_time().to_consensus_u32();
        match (expiry.kind(), self.tip) {
            (LockKind::Height, Some((height, _))) => {
                format!("{expiry}, {} blocks ahead", value.saturating_sub(height))
            }
            (LockKind::Time, Some((_, mtp))) => {
                let seconds = value.saturating_sub(mtp);
                let ahead = if seconds % 3_600 == 0 {
                    format!("{} hours", seconds / 3_600)
                } else {
                    format!("{} seconds", thousands(u64::from(seconds)))
                };
                format!("{expiry} ({}), {ahead} ahead", utc(value))
            }
            (_, None) => expiry.to_string(),
        }
    }

    /// Describes a total, the step to it, and what is left.
    fn sum(&mut self, channel: ChannelId, paid: Amount, remember: bool) -> String {
        let unit = self.transcript.unit;
        let Some(seen) = self.channels.get_mut(&channel.0) else {
            return format!("{} in total", amount(unit, paid));
        };
        let step = paid.checked_sub(seen.paid).filter(|step| *step > Amount::ZERO);
        let back = seen.capacity.checked_sub(paid);
        if remember {
            seen.paid = paid;
        }
        let step = step.map_or_else(String::new, |step| format!(" (+{})", short(unit, step)));
        let back = back.map_or_else(
            || format!("more than the capacity of {}", amount(unit, seen.capacity)),
            |back| {
                format!(
                    "{} back{}",
                    amount(unit, back),
                    if seen.free { "" } else { ", less the fee" }
                )
            },
        );
        format!("{}{step} in total to the payee, {back}", amount(unit, paid))
    }

    fn amount(&self, sum: Amount) -> String {
        amount(self.transcript.unit, sum)
    }

    fn name_of(&self, tx: &Transaction) -> String {
        let raw = bitcoin::consensus::serialize(tx);
        let found = self
            .transcript
            .transactions
            .iter()
            .find(|recorded| recorded.raw == raw);
        found.map_or_else(
            || "unknown transaction".to_owned(),
            |recorded| recorded.name.clone(),
        )
    }
}

fn resumed_state(state: ResumedState) -> String {
    match state {
        ResumedState::AwaitsFunding => "the funding transaction does not have its confirmations".to_owned(),
        ResumedState::Open => "payments count".to_owned(),
        ResumedState::AwaitsSettlement => "has asked for a settlement".to_owned(),
        ResumedState::Settled(txid) => format!("has broadcast the settlement {txid}"),
        ResumedState::Closed(Some(txid)) => format!("the channel is over, spent by {txid}"),
        ResumedState::Closed(None) => "the channel is over, and nothing spent it".to_owned(),
    }
}

fn verdict(rejected: Option<&RecordedRejection>) -> String {
    rejected.map_or_else(
        || "accepted".to_owned(),
        |refusal| format!("rejected, {}", refusal.reason),
    )
}

/// Formats a feerate as on the transactions' pages: a virtual byte is four weight units.
fn per_vbyte(feerate: FeeRate) -> String {
    let thousandths = feerate.to_sat_per_kwu() * 4;
    match thousandths % 1_000 {
        0 => format!("{} sat/vB", thousands(thousandths / 1_000)),
        rest => format!("{}.{rest:03} sat/vB", thousands(thousandths / 1_000)),
    }
}

/// Formats an amount in the story's unit, and in satoshi.
fn amount(unit: Unit, sum: Amount) -> String {
    let short = short(unit, sum);
    if unit == Unit::Satoshi || short.ends_with("sat") {
        short
    } else {
        format!("{short} ({})", sat(sum))
    }
}

/// Formats an amount in the story's unit if it is a multiple of it, otherwise in satoshi.
fn short(unit: Unit, sum: Amount) -> String {
    let (size, name) = match unit {
        Unit::Satoshi => return sat(sum),
        Unit::Bitcoin => (Amount::ONE_BTC.to_sat() / 1_000, "BTC"),
        Unit::Millidash => (100_000, "millidash"),
    };
    if !sum.to_sat().is_multiple_of(size) {
        return sat(sum);
    }
    match unit {
        Unit::Bitcoin => format!("{} {name}", sum.to_btc()),
        _ => format!("{} {name}", thousands(sum.to_sat() / size)),
    }
}
