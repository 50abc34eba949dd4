//! How long a party waits for its node and its peer. The periods depend on each other: no party may give up on an honest
//! peer that waits for its own node.

use std::time::Duration;

/// How long this side's node may take to answer.
pub(super) const CHAIN_TIMEOUT: Duration = Duration::from_secs(CHAIN);

/// How long a party waits for each message of the opening, by default: an honest peer may poll the chain, broadcast
/// the funding transaction or read the tip in between, each within the time that its node may take.
///
/// This includes the time the payer's wallet takes to sign ([`WALLET_TIMEOUT`]); for slow signers, a payee sets a longer
/// time.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(TWO_POLLS + NETWORK);

/// How long a wallet may take to sign, by default. The payee waits meanwhile: a payer that gives its wallet more time needs
/// a payee that waits longer ([`OPENING_TIMEOUT`]).
pub const WALLET_TIMEOUT: Duration = Duration::from_secs(WALLET);

/// How long a peer may go without reading anything while messages wait for it. An honest one does not read
/// while it polls the chain, nor while it broadcasts what follows from that.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(TWO_POLLS + BROADCASTS + NETWORK);

/// How long a payer waits for the acknowledgement of a payment. The channel goes on either way.
///
/// An honest payee may be in the middle of a poll and of what follows from it, and may have to poll once
/// more before it can take the payment.
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(2 * TWO_POLLS + BROADCASTS + NETWORK);

/// How long a store may take to make a change durable. After that nobody knows what it holds.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last messages may take after this side has hung up.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// The time after which a party polls the chain without any news: news may be lost, and so may their source. The
/// clock decides only when to poll.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// How long a chain may go without a new block, by default, before the user is told.
pub(super) const STALE: Duration = Duration::from_secs(3 * 3_600);

const CHAIN: u64 = 30;
const WALLET: u64 = 30;
/// A poll of the funding output, and, if that fails, of the tip.
const TWO_POLLS: u64 = 2 * CHAIN;
/// The funding transaction and a settlement, both again with every block.
const BROADCASTS: u64 = 2 * CHAIN;
/// What the messages themselves may take.
const NETWORK: u64 = 30;

const _: () = {
    let chain = CHAIN_TIMEOUT.as_secs();
    assert!(
        OPENING_TIMEOUT.as_secs() > 2 * chain,
        "a slow node would end an honest opening"
    );
    assert!(
        OPENING_TIMEOUT.as_secs() > WALLET_TIMEOUT.as_secs() + chain,
        "a slow wallet, and a node that broadcasts what it has signed, would end an honest opening"
    );
    assert!(
        SEND_TIMEOUT.as_secs() > 4 * chain,
        "a peer that polls the chain would be cut off"
    );
    assert!(
        ACKNOWLEDGE_TIMEOUT.as_secs() > 6 * chain,
        "a payee that polls the chain would be given up"
    );
};
