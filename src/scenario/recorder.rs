use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::{OutPoint, Transaction, TxOut, Txid};

use crate::channel::{Notice, SpendRole};
use crate::regtest::RejectReason;
use crate::service::{Observer, Report};
use crate::transcript::{sat, Actor, Entry, RecordedRejection, RecordedTx, Side, Transcript};

/// Records the transcript while the parties, the wire and the story all report at once.
#[derive(Clone)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<RecorderState>>,
}

struct RecorderState {
    transcript: Transcript,
    outputs: HashMap<OutPoint, TxOut>,
    by_txid: HashMap<Txid, String>,
    /// Parties that vanished, whose reports are ignored.
    silent: Vec<Side>,
}

impl Recorder {
    pub fn new(transcript: Transcript) -> Self {
        let inner = RecorderState {
            transcript,
            outputs: HashMap::new(),
            by_txid: HashMap::new(),
            silent: Vec::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        // What was recorded before a panic is exactly what is needed after it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn transcript(&self) -> Transcript {
        self.lock().transcript.clone()
    }

    pub fn edit(&self, change: impl FnOnce(&mut Transcript)) {
        change(&mut self.lock().transcript);
    }

    pub fn add(&self, entry: Entry) {
        self.lock().transcript.entries.push(entry);
    }

    pub fn silence(&self, actor: Side) {
        self.lock().silent.push(actor);
    }

    /// Listens to a party that is back.
    pub fn hear(&self, actor: Side) {
        self.lock().silent.retain(|silent| *silent != actor);
    }

    pub fn message(&self, from: Side, bytes: &[u8], tampered: bool) {
        self.add(Entry::Message {
            from,
            bytes: bytes.to_vec(),
            tampered,
        });
    }

    /// Adds an output, so that a transaction that spends it can be shown with its fee.
    pub fn output(&self, outpoint: OutPoint, output: TxOut) {
        self.lock().outputs.insert(outpoint, output);
    }

    /// Records a transaction under a name, unless it has one already, and returns its name.
    pub fn built(&self, by: impl Into<Actor>, name: &str, tx: &Transaction) -> String {
        let by = by.into();
        let mut inner = self.lock();
        let txid = tx.compute_txid();
        if let Some(known) = inner.by_txid.get(&txid) {
            return known.clone();
        }
        let prevouts = tx
            .input
            .iter()
            .filter_map(|i| inner.outputs.get(&i.previous_output).cloned());
        let prevouts = prevouts.collect::<Vec<_>>();
        for (vout, output) in (0..).zip(&tx.output) {
            inner.outputs.insert(OutPoint::new(txid, vout), output.clone());
        }
        inner.by_txid.insert(txid, name.to_owned());
        inner.transcript.names.txid(txid, name);
        let raw = bitcoin::consensus::serialize(tx);
        let recorded = RecordedTx {
            name: name.to_owned(),
            by,
            raw,
            prevouts,
        };
        inner.transcript.transactions.push(recorded);
        inner.transcript.entries.push(Entry::Built {
            by,
            name: name.to_owned(),
        });
        name.to_owned()
    }

    pub fn name_of(&self, txid: &Txid) -> Option<String> {
        self.lock().by_txid.get(txid).cloned()
    }

    /// Returns an observer that records what one party of the channel with this label reports.
    pub fn observer(&self, by: Side, label: &str) -> Observer {
        let recorder = self.clone();
        let label = label.to_owned();
        Arc::new(move |report| {
            if !recorder.lock().silent.contains(&by) {
                recorder.report(by, &label, &report);
            }
        })
    }

    fn report(&self, by: Side, label: &str, report: &Report<'_>) {
        let other = by.peer();
        let text = match report {
            Report::FundingHeld(funding) => {
                self.built(by, &format!("{label}funding"), funding.tx());
                return;
            }
            Report::Refundable(refund) => {
                self.built(by, &format!("{label}refund"), refund.tx());
                return;
            }
            // What a party keeps for itself is no part of the story.
            Report::Stored(_) => return,
            Report::Broadcast { role, tx, rejected } => {
                return self.broadcast(by, label, *role, tx, rejected.map(refusal));
            }
            Report::BroadcastPackage {
                role,
                package,
                rejected,
            } => {
                let name = format!("{label}{}", role.name());
                self.built(by, &name, package.parent());
                self.built(by, &format!("{name} child"), package.child());
                return self.broadcast(by, label, *role, package.parent(), rejected.map(refusal));
            }
            Report::Notice(notice) => match describe(by, notice) {
                Some(text) => text,
                None => return,
            },
            Report::Refused(refusal) => format!("refuses and disconnects: {refusal}"),
            Report::Garbled(error) => format!("refuses and disconnects: {error}"),
            Report::Disconnected => format!("notices that the {other} is gone"),
            Report::Resumed => "goes on with the channel, on a new connection".to_owned(),
            Report::NotRaised(error) => format!("does not raise the feerate: {error}"),
            Report::NotOpened(error) => format!("opens no channel: {error}"),
            Report::Failed(error) => format!("cannot continue: {error}"),
            Report::NoMoreNews => "receives no more news of the chain".to_owned(),
            Report::ChainFailed(error) => format!("cannot see the chain: {error}"),
            Report::StoreFailed(error) => match by {
                Side::Payer => format!("loses its store, and pays no more: {error}"),
                Side::Payee => format!("loses its store, and accepts no more payments: {error}"),
            },
            Report::StaleTip { tip, .. } => format!("has seen no block after {} for hours", tip.height),
        };
        self.add(Entry::Notice { by: by.into(), text });
    }

    pub fn broadcast(
        &self,
        by: impl Into<Actor>,
        label: &str,
        role: SpendRole,
        tx: &Transaction,
        rejected: Option<RecordedRejection>,
    ) {
        let by = by.into();
        let name = self.built(by, &format!("{label}{}", role.name()), tx);
        self.add(Entry::Broadcast {
            by,
            name,
            role,
            rejected,
        });
    }
}

/// Classifies a node's rejection: parties and transcripts know only its words.
pub(super) fn refusal(words: &str) -> RecordedRejection {
    RecordedRejection {
        reason: RejectReason::of(words).to_string(),
        words: words.to_owned(),
    }
}

/// Returns the text for a notice that says more than the messages and transactions beside it.
fn describe(by: Side, notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::MalleableFunding => {
            "warns: until it is confirmed, anyone can change the funding transaction's id".to_owned()
        }
        Notice::Ready if by == Side::Payee => "sees the funding transaction confirmed".to_owned(),
        Notice::FundingLost { confirmations } => {
            format!("suspends payments: the funding transaction now has {confirmations} confirmations")
        }
        Notice::PaymentAccepted(balance)
            if by == Side::Payee && !balance.is_enforceable() && balance.paid.to_sat() > 0 =>
        {
            format!(
                "holds {}, which is below dust: owed, but not claimable on chain",
                sat(balance.paid)
            )
        }
        Notice::PeerRefused { reason } => format!("is refused by the peer: {reason}"),
        Notice::FundingOverdue { blocks } => {
            format!("has waited {blocks} blocks for the funding transaction to confirm")
        }
        Notice::Blind { since, .. } => {
            format!("cannot see the funding output since height {}", since.height)
        }
        Notice::CooperativeCloseUnconfirmed { .. } => {
            "settles with its latest payment: the cooperative settlement did not confirm in time".to_owned()
        }
        Notice::Recovered { paid } => format!(
            "learns from the payee that it has signed {} in total, which its file does not know",
            sat(*paid)
        ),
        Notice::PeerRolledBack { acknowledged, held } => format!(
            "notices that the payee has forgotten payments: {} were acknowledged, it holds {}",
            sat(*acknowledged),
            sat(*held)
        ),
        Notice::Abandoned => "abandons the channel: it has nothing at stake".to_owned(),
        Notice::FundedAfterAll => {
            "follows the channel again: its funding transaction was broadcast after all".to_owned()
        }
        Notice::Closed(outcome) => format!(
            "sees the channel closed: {} to the payer, {} to the payee",
            sat(outcome.to_payer),
            sat(outcome.to_payee)
        ),
        _ => return None,
    })
}
