//! What both sides agreed, and the transactions that follow from it.

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Witness};

use crate::channel::{ChannelParams, SpendRole, SpendTemplate};
use crate::service::Handle;

/// What both sides know of an open channel.
#[derive(Clone)]
pub(super) struct AgreedChannel {
    pub params: ChannelParams,
    pub funding: OutPoint,
}

impl AgreedChannel {
    pub fn of<S>(handle: &Handle<S>) -> Self {
        Self {
            params: handle.params().clone(),
            funding: handle.funding().outpoint(),
        }
    }
}

/// An expected transaction, without its signatures.
pub(super) struct Expected {
    pub role: SpendRole,
    pub name: String,
    pub tx: Transaction,
}

impl AgreedChannel {
    pub fn payment(&self, paid: Amount) -> Expected {
        let balance = self
            .params
            .balance(paid)
            .expect("no case pays more than there is");
        let spend = SpendTemplate::payment(&self.params, self.funding, &balance);
        expected(
            SpendRole::Payment,
            format!("payment of {} sat", paid.to_sat()),
            &spend,
        )
    }

    pub fn settlement(&self, paid: Amount, feerate: FeeRate) -> Expected {
        let balance = self.params.balance_at(paid, feerate);
        let balance = balance.expect("the change of every case pays for it");
        expected(
            SpendRole::Settlement,
            format!("settlement that pays {} sat at {feerate} sat/kwu", paid.to_sat()),
            &SpendTemplate::settlement(&self.params, self.funding, &balance),
        )
    }

    pub fn cooperative(&self, paid: Amount, feerate: FeeRate) -> Expected {
        let balance = self.params.cooperative_balance(paid, feerate);
        let balance = balance.expect("the change of every case pays for it");
        expected(
            SpendRole::Settlement,
            format!(
                "settlement with one signature that pays {} sat at {feerate} sat/kwu",
                paid.to_sat()
            ),
            &SpendTemplate::cooperative(&self.params, self.funding, &balance),
        )
    }

    /// Returns the settlement that both sign.
    pub fn closing(&self, cooperatively: bool, paid: Amount, feerate: FeeRate) -> Expected {
        if cooperatively {
            self.cooperative(paid, feerate)
        } else {
            self.settlement(paid, feerate)
        }
    }

    pub fn refund(&self) -> Expected {
        let spend = SpendTemplate::refund(&self.params, self.funding);
        expected(SpendRole::Refund, "refund".to_owned(), &spend)
    }
}

fn expected(role: SpendRole, name: String, spend: &SpendTemplate<'_>) -> Expected {
    let tx = spend.unsigned().clone();
    Expected { role, name, tx }
}

/// Returns the transaction without signatures.
pub(super) fn unsigned(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.script_sig = ScriptBuf::new();
        input.witness = Witness::new();
    }
    tx
}

/// Describes the first field that differs.
pub(super) fn difference(expected: &Transaction, found: &Transaction) -> String {
    let txid = found.compute_txid();
    let fields = [
        ("version", expected.version.to_string(), found.version.to_string()),
        (
            "lock time",
            expected.lock_time.to_string(),
            found.lock_time.to_string(),
        ),
        ("inputs", inputs(expected), inputs(found)),
        ("outputs", outputs(expected), outputs(found)),
    ];
    let differs = fields.into_iter().find(|(_, expected, found)| expected != found);
    differs.map_or_else(
        || format!("{txid}"),
        |(field, expected, found)| format!("{txid} with {field} {found}, expected {expected}"),
    )
}

pub(super) fn inputs(tx: &Transaction) -> String {
    let inputs = tx.input.iter();
    let inputs = inputs.map(|input| format!("{} (sequence {})", input.previous_output, input.sequence));
    inputs.collect::<Vec<_>>().join(" and ")
}

pub(super) fn outputs(tx: &Transaction) -> String {
    let outputs = tx.output.iter();
    let outputs = outputs.map(|output| {
        format!(
            "{} sat to {}",
            output.value.to_sat(),
            output.script_pubkey.to_hex_string()
        )
    });
    outputs.collect::<Vec<_>>().join(" and ")
}
