//! Transactions that are judged together (Bitcoin Core's `doc/policy/packages.md`).

use std::collections::HashMap;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, Txid, Wtxid};
use serde::Deserialize;
use serde_json::{json, Value};

use super::mempool::{verdict_of, Tested, ALL_MONEY, NOT_VALIDATED};
use super::rpc::{parse, raw};
use crate::regtest::error::Error;
use crate::regtest::node::Node;
use crate::regtest::verdict::{MempoolVerdict, Rejection};

/// The node's answer to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PackageVerdict {
    /// Why the package, or one of its transactions, is rejected; `None` if it is accepted.
    pub rejection: Option<Rejection>,
    /// The answer to each transaction, in the order given. Some may be
    /// [accepted](MempoolVerdict::Accepted) although the package is not. For some the node may not have
    /// reached a verdict: [`RejectReason::NotValidated`](crate::regtest::RejectReason::NotValidated).
    pub transactions: Vec<MempoolVerdict>,
    /// The transactions that it replaced in the mempool.
    pub replaced: Vec<Txid>,
}

impl PackageVerdict {
    /// Returns whether the node accepts the package and each of its transactions.
    pub fn is_accepted(&self) -> bool {
        self.rejection.is_none() && self.transactions.iter().all(MempoolVerdict::is_accepted)
    }

    /// Returns the transactions' ids, if all are accepted.
    ///
    /// # Panics
    ///
    /// If the node rejects one or the package, with the node's words.
    #[track_caller]
    pub fn expect_accepted(&self) -> Vec<Txid> {
        if let Some(rejection) = &self.rejection {
            let single: Vec<_> = self.transactions.iter().map(ToString::to_string).collect();
            panic!("expected the node to accept the package, but it {rejection}; transactions: {single:?}");
        }
        self.transactions
            .iter()
            .map(MempoolVerdict::expect_accepted)
            .collect()
    }

    fn rejected(words: &str, count: usize) -> Self {
        Self {
            rejection: Some(Rejection::of(words)),
            transactions: vec![MempoolVerdict::rejected(NOT_VALIDATED); count],
            replaced: Vec::new(),
        }
    }
}

impl Node {
    /// Tests whether the node would accept all these transactions to its mempool now, at most 25, parents before
    /// children. Each must pay its own fee: a child does not pay for its parent here, as it does in
    /// [`Node::submit_package`].
    ///
    /// # Errors
    ///
    /// If there are none or too many, or the node fails; a rejection is a [`PackageVerdict`].
    pub fn test_accept_package(&self, package: &[Transaction]) -> Result<PackageVerdict, Error> {
        const CALL: &str = "testmempoolaccept";
        let arguments = [json!(hex(package)), json!(0)];
        let answer = match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(answer) => answer,
            Err(rejection) => return Ok(PackageVerdict::rejected(&rejection.words, package.len())),
        };
        let tested: Vec<Tested> = parse(CALL, &answer)?;
        let of_package = tested.iter().find_map(|tested| tested.package_error.clone());
        let transactions: Vec<_> = tested.into_iter().map(Tested::verdict).collect();
        let first = transactions.iter().find_map(MempoolVerdict::rejection);
        Ok(PackageVerdict {
            rejection: of_package.map(Rejection::of).or_else(|| first.cloned()),
            transactions,
            replaced: Vec::new(),
        })
    }

    /// Submits a child with its parents, the child last, with any feerate. A child can pay for its parents. A transaction
    /// that is already in the mempool counts as accepted.
    ///
    /// # Errors
    ///
    /// If there are none or more than 25, or the node fails; a rejection is a [`PackageVerdict`].
    pub fn submit_package(&self, package: &[Transaction]) -> Result<PackageVerdict, Error> {
        #[derive(Deserialize)]
        struct Answer {
            package_msg: String,
            #[serde(rename = "tx-results")]
            results: HashMap<Wtxid, Value>,
            #[serde(rename = "replaced-transactions", default)]
            replaced: Vec<Txid>,
        }
        const CALL: &str = "submitpackage";
        let arguments = [json!(hex(package)), json!(0), json!(ALL_MONEY)];
        let answer = match verdict_of(CALL, raw(self.client(), CALL, &arguments))? {
            Ok(answer) => parse::<Answer>(CALL, &answer)?,
            Err(rejection) => return Ok(PackageVerdict::rejected(&rejection.words, package.len())),
        };
        let verdicts = package.iter().map(|transaction| {
            let words = match answer.results.get(&transaction.compute_wtxid()) {
                None => Some(NOT_VALIDATED),
                Some(result) if result.get("other-wtxid").is_some() => {
                    Some("txn-same-nonwitness-data-in-mempool")
                }
                Some(result) => result.get("error").and_then(Value::as_str),
            };
            let txid = transaction.compute_txid();
            words.map_or(MempoolVerdict::Accepted { txid }, MempoolVerdict::rejected)
        });
        self.note(format!(
            "package of {} transactions: {}",
            package.len(),
            answer.package_msg
        ));
        Ok(PackageVerdict {
            rejection: (answer.package_msg != "success").then(|| Rejection::of(answer.package_msg)),
            transactions: verdicts.collect(),
            replaced: answer.replaced,
        })
    }
}

fn hex(package: &[Transaction]) -> Vec<String> {
    package.iter().map(serialize_hex).collect()
}

#[cfg(test)]
mod tests {
    use crate::regtest::*;

    #[test]
    #[should_panic(
        expected = "expected the node to accept the package, but it rejected (Package): package-not-sorted"
    )]
    fn a_refusal_says_why() {
        PackageVerdict::rejected("package-not-sorted", 2).expect_accepted();
    }
}
