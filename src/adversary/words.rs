use bitcoin::Amount;

use super::change::SAT;
use super::Forger;
use crate::channel::ChannelId;

/// The word itself, or, in braces, a value of the conversation, as it is or one more or less.
pub(super) fn filled(word: &str, forger: &Forger) -> String {
    let braced = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
    let Some(name) = braced else {
        return word.to_owned();
    };
    if let Some(name) = name.strip_suffix("+1") {
        return (amount(name, forger) + SAT).to_string();
    }
    if name == "feerate-1" {
        return (feerate(forger) - 1).to_string();
    }
    if let Some(name) = name.strip_suffix("-1") {
        return (amount(name, forger) - SAT).to_string();
    }
    match name {
        "channel" => format!("channel {}", forger.open().channel),
        "other channel" => format!("channel {}", ChannelId(forger.open().channel.0 ^ 1)),
        "feerate" => feerate(forger).to_string(),
        "lock" => forger.params().terms().refund_lock.to_string(),
        "unfunded" => unfunded(forger),
        sum => amount(sum, forger).to_string(),
    }
}

fn amount(name: &str, forger: &Forger) -> Amount {
    let params = forger.params();
    match name {
        "paid" => forger.paid(),
        "minimum" => params.terms().minimum_payment,
        "capacity" => params.terms().capacity.to_amount(),
        "spendable" => params.spendable(),
        "refund" => params.refund_amount(),
        other => unreachable!("no value is called {other}"),
    }
}

fn feerate(forger: &Forger) -> u64 {
    forger.params().terms().feerate.to_sat_per_kwu()
}

/// A payee that has signed a refund compares txids, and any other looks for its output.
fn unfunded(forger: &Forger) -> String {
    let terms = forger.params().terms().clone();
    if terms.construction.has_script_refund() {
        format!("no output of {}", terms.capacity.to_amount())
    } else {
        "the refund spends".to_owned()
    }
}
