//! The assignment of a program under test: one JSON object in the environment variable `SPILMAN_CASE`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, TxOut, Txid};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::case::Case;
use crate::channel::{ChannelId, ClosingMargin, Construction, Limits, Protocol};
use crate::json::TermNumbers;
use crate::regtest::{Coin, Node, RPC_PASSWORD, RPC_USER};
use crate::service::Proposal;
use crate::transcript::Side;

/// The environment variable with a program's assignment, as JSON.
pub const CASE_ENV: &str = "SPILMAN_CASE";

/// The version of this object.
const VERSION: u32 = 1;

/// One case, as the program receives it. Amounts are in satoshi, feerates in sat/kwu, everything else as on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Assignment {
    pub version: u32,
    pub case: String,
    pub role: Side,
    pub network: String,
    pub node: Server,
    pub protocol: Protocol,
    pub construction: Construction,
    pub secret_key: SecretKey,
    pub payout: ScriptBuf,
    pub confirmations: u32,
    pub unconfirmed_limit: u64,
    pub limits: Bounds,
    /// The number of payments, the empty first one of `example-7` included, after which the program closes.
    pub close_after: Option<usize>,
    /// The payments that the payee requests in `bond`.
    pub requests: Option<Vec<u64>>,
    /// Whether the payee offers a nonce, where both can close with one signature.
    pub joint: Option<bool>,
    /// A folder that outlives the program, in a case that starts it again.
    pub state: Option<PathBuf>,
    /// From here on, fields of the payer.
    pub channel: Option<u16>,
    pub terms: Option<TermNumbers>,
    pub coin: Option<Funds>,
    pub payments: Option<Vec<u64>>,
}

/// The RPC server of a node without a wallet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub url: String,
    pub user: String,
    pub password: String,
}

/// The minimum and the maximum.
type Range = (u64, u64);

/// The [`Limits`] that are not elsewhere in the object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    capacity: Range,
    feerate: Range,
    settlement_feerate: u64,
    dust_feerate: Range,
    expiry_blocks: (u32, u32),
    closing_margin: (u16, u16),
    minimum_payment: Range,
    reserve: Range,
}

/// A confirmed P2WPKH output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Funds {
    txid: Txid,
    vout: u32,
    value: u64,
    script_pubkey: ScriptBuf,
    secret_key: SecretKey,
}

/// Why an assignment is invalid.
#[derive(Debug, Error)]
pub enum AssignmentError {
    /// The variable is not set.
    #[error("{CASE_ENV} is not set: run this program with `spilman conform`, see fixtures/WIRE.md")]
    Missing,
    /// A field is missing, unknown, or of the wrong type.
    #[error("{CASE_ENV}, field `{field}`: {error}")]
    Field {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        error: String,
    },
    /// The object is of another version.
    #[error("{CASE_ENV} has version {received}, expected version {VERSION}")]
    Version {
        /// The version of the object.
        received: u32,
    },
}

impl AssignmentError {
    #[allow(clippy::needless_pass_by_value)] // callers give their error away
    pub(super) fn field(field: &str, error: impl std::fmt::Display) -> Self {
        let (field, error) = (field.to_owned(), error.to_string());
        Self::Field { field, error }
    }
}

impl Assignment {
    pub fn parse(json: &str) -> Result<Self, AssignmentError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let parsed: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| AssignmentError::field(&error.path().to_string(), error.inner()))?;
        if parsed.version != VERSION {
            let received = parsed.version;
            return Err(AssignmentError::Version { received });
        }
        Ok(parsed)
    }

    /// Creates an assignment with the fields of every case; the others are null.
    pub fn new(case: &Case, node: &Node, (key, payout): (SecretKey, ScriptBuf)) -> Self {
        let limits = Limits::default();
        Self {
            version: VERSION,
            case: case.name.clone(),
            role: case.program,
            network: "regtest".to_owned(),
            node: Server {
                url: node.rpc_url(),
                user: RPC_USER.to_owned(),
                password: RPC_PASSWORD.to_owned(),
            },
            protocol: case.protocol,
            construction: case.construction,
            secret_key: key,
            payout,
            confirmations: *limits.confirmations.start(),
            unconfirmed_limit: limits.zero_conf_limit.to_sat(),
            limits: Bounds::from(&limits),
            close_after: None,
            requests: None,
            joint: None,
            state: None,
            channel: None,
            terms: None,
            coin: None,
            payments: None,
        }
    }

    /// The payee requires at least the confirmations of its assignment; the payer accepts at most that many.
    pub fn limits(&self) -> Limits {
        let Bounds {
            capacity, feerate, ..
        } = self.limits;
        Limits {
            capacity: amounts(capacity),
            feerate: feerates(feerate),
            settlement_feerate: FeeRate::from_sat_per_kwu(self.limits.settlement_feerate),
            dust_feerate: feerates(self.limits.dust_feerate),
            expiry_blocks: self.limits.expiry_blocks.0..=self.limits.expiry_blocks.1,
            closing_margin: ClosingMargin::from_blocks(self.limits.closing_margin.0)
                ..=ClosingMargin::from_blocks(self.limits.closing_margin.1),
            confirmations: self.confirmations..=self.confirmations,
            zero_conf_limit: Amount::from_sat(self.unconfirmed_limit),
            minimum_payment: amounts(self.limits.minimum_payment),
            reserve: amounts(self.limits.reserve),
            ..Limits::default()
        }
    }

    pub fn proposal(&self) -> Result<Proposal, AssignmentError> {
        let terms = wanted("terms", self.terms.as_ref())?;
        Ok(Proposal {
            id: ChannelId(*wanted("channel", self.channel.as_ref())?),
            terms: terms
                .to_terms(self.protocol, self.construction)
                .map_err(|impossible| {
                    AssignmentError::field(&format!("terms.{}", impossible.field), impossible.error)
                })?,
        })
    }

    /// Returns the coin and its key.
    pub fn funds(&self) -> Result<(OutPoint, TxOut, SecretKey), AssignmentError> {
        let funds = wanted("coin", self.coin.as_ref())?;
        let output = TxOut {
            value: Amount::from_sat(funds.value),
            script_pubkey: funds.script_pubkey.clone(),
        };
        Ok((OutPoint::new(funds.txid, funds.vout), output, funds.secret_key))
    }
}

/// Returns a field that is null for the other role.
pub(super) fn wanted<'a, T: ?Sized>(field: &str, value: Option<&'a T>) -> Result<&'a T, AssignmentError> {
    value.ok_or_else(|| AssignmentError::field(field, "is null or missing, but this role requires it"))
}

fn amounts((least, most): Range) -> RangeInclusive<Amount> {
    Amount::from_sat(least)..=Amount::from_sat(most)
}

fn feerates((least, most): Range) -> RangeInclusive<FeeRate> {
    FeeRate::from_sat_per_kwu(least)..=FeeRate::from_sat_per_kwu(most)
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        let amounts = |range: &RangeInclusive<Amount>| (range.start().to_sat(), range.end().to_sat());
        let feerates =
            |range: &RangeInclusive<FeeRate>| (range.start().to_sat_per_kwu(), range.end().to_sat_per_kwu());
        let margin = &limits.closing_margin;
        Self {
            capacity: amounts(&limits.capacity),
            feerate: feerates(&limits.feerate),
            settlement_feerate: limits.settlement_feerate.to_sat_per_kwu(),
            dust_feerate: feerates(&limits.dust_feerate),
            expiry_blocks: (*limits.expiry_blocks.start(), *limits.expiry_blocks.end()),
            closing_margin: (margin.start().to_blocks(), margin.end().to_blocks()),
            minimum_payment: amounts(&limits.minimum_payment),
            reserve: amounts(&limits.reserve),
        }
    }
}

impl From<&Coin> for Funds {
    fn from(coin: &Coin) -> Self {
        Self {
            txid: coin.outpoint.txid,
            vout: coin.outpoint.vout,
            value: coin.value().to_sat(),
            script_pubkey: coin.output.script_pubkey.clone(),
            secret_key: coin.key,
        }
    }
}
