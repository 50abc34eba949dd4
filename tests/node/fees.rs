//! Fees on real nodes, for every construction: what a transaction weighs and pays, how it is raised when that is not
//! enough, who can hold it up, and what counts before it is confirmed.

mod again;
mod dust;
mod hand;
mod pinning;
mod raise;
mod settlement;
mod sums;
mod unconfirmed;
mod weights;

use bitcoin::{Amount, FeeRate, ScriptBuf};
use spilman::channel::{Construction, Protocol};
use spilman::regtest::{labelled_key, CoinKind, Node, Policy, Regtest};
use spilman::transcript::Side;

use crate::common::cast::{sat, start, tip, Cast};
use crate::common::channel::Channel;

fn per_vb(sat: u32) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(sat)
}

/// The channels agree on 2 sat/vB, and their node asks for this.
fn asked() -> FeeRate {
    per_vb(5)
}

/// Where a child pays what it does not need for the fee.
fn wallet() -> ScriptBuf {
    CoinKind::Segwit.script(&labelled_key("spilman/tests/fees/wallet"))
}

/// A node that relays nothing below this feerate.
fn start_at_least(feerate: FeeRate) -> Regtest {
    let node = Node::builder().policy(Policy::at_least(feerate));
    Regtest::builder().node(node).start().expect("a node")
}

/// A million satoshi with default terms, in which both can close with one signature.
fn cast(chain: &Regtest, construction: Construction) -> Cast {
    funded_by(chain, construction, CoinKind::Segwit, sat(1_000_000))
}

fn funded_by(chain: &Regtest, construction: Construction, kind: CoinKind, capacity: Amount) -> Cast {
    // Each channel has separate keys, as it should.
    let label = format!("fees/{construction}/{}", tip(chain).height);
    let mut cast = Cast::funded_by(chain, &label, Protocol::Example7, capacity, kind).on(construction);
    cast.setup.nonce_seed = Some(cast.setup.payee.secret.secret_bytes());
    cast
}
