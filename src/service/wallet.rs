use std::error::Error as StdError;
use std::future::{ready, Future};
use std::time::Duration;

use bitcoin::{Transaction, TxOut};
use thiserror::Error;

use super::guard::{limited, Interrupted};
use crate::channel::ChildTx;

type BoxError = Box<dyn StdError + Send + Sync>;

/// What pays for a channel: a wallet in this process, a signer on another machine, or a person with a device.
///
/// The party waits [`WALLET_TIMEOUT`](super::WALLET_TIMEOUT) for an answer, unless its setup gives another limit. After
/// that, or when the caller drops the opening, it drops the wallet's future, which must be cancel safe. A panic counts as a
/// failure. Whatever the wallet does, nothing is locked before the refund is signed and verified: a late or repeated
/// transaction is ignored. The wallet itself must release the inputs that it reserved.
///
/// [`wallet_fn`] makes a wallet of a closure.
pub trait Wallet: Send {
    /// Why it made no transaction.
    type Error: Into<Box<dyn StdError + Send + Sync>> + Send;

    /// Makes and signs a transaction that pays this output, and does not broadcast it. Called once for each opening.
    ///
    /// Sign every input with `SIGHASH_ALL`. Each should spend a segwit output, so that others cannot change the
    /// transaction's id, which the refund spends.
    fn fund(&mut self, output: &TxOut) -> impl Future<Output = Result<Transaction, Self::Error>> + Send;
}

/// Signs a child that raises the feerate of its parent, with the key of the payout script. The rules of a [`Wallet`] apply;
/// a child that is not signed is not broadcast.
pub trait ChildSigner: Send {
    /// Why it did not sign.
    type Error: Into<Box<dyn StdError + Send + Sync>> + Send;

    /// Signs [`ChildTx::unsigned`].
    fn sign_child(
        &mut self,
        child: &ChildTx,
    ) -> impl Future<Output = Result<Transaction, Self::Error>> + Send;
}

impl<W: Wallet> Wallet for &mut W {
    type Error = W::Error;

    fn fund(&mut self, output: &TxOut) -> impl Future<Output = Result<Transaction, Self::Error>> + Send {
        (**self).fund(output)
    }
}

impl<S: ChildSigner> ChildSigner for &mut S {
    type Error = S::Error;

    fn sign_child(
        &mut self,
        child: &ChildTx,
    ) -> impl Future<Output = Result<Transaction, Self::Error>> + Send {
        (**self).sign_child(child)
    }
}

/// A closure that signs at once, as a [`Wallet`] (of a `&TxOut`) or a [`ChildSigner`] (of a `&ChildTx`).
#[derive(Debug, Clone)]
pub struct WalletFn<F>(F);

/// Makes a wallet of a closure that does not wait: for tests, and for keys in memory.
pub const fn wallet_fn<F>(sign: F) -> WalletFn<F> {
    WalletFn(sign)
}

impl<F, E> Wallet for WalletFn<F>
where
    F: FnMut(&TxOut) -> Result<Transaction, E> + Send,
    E: Into<Box<dyn StdError + Send + Sync>> + Send,
{
    type Error = E;

    fn fund(&mut self, output: &TxOut) -> impl Future<Output = Result<Transaction, E>> + Send {
        ready((self.0)(output))
    }
}

impl<F, E> ChildSigner for WalletFn<F>
where
    F: FnMut(&ChildTx) -> Result<Transaction, E> + Send,
    E: Into<Box<dyn StdError + Send + Sync>> + Send,
{
    type Error = E;

    fn sign_child(&mut self, child: &ChildTx) -> impl Future<Output = Result<Transaction, E>> + Send {
        ready((self.0)(child))
    }
}

/// Why there is no signed transaction.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The wallet's own error.
    #[error("{0}")]
    Failed(#[source] BoxError),
    /// The wallet panicked.
    #[error("the wallet panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The wallet did not answer in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The time limit.
        after: Duration,
    },
}

/// Returns the wallet's answer, if it comes in time. Make the call inside `answer`: it may panic before it returns its
/// future.
pub(super) async fn signed<E: Into<BoxError>>(
    after: Duration,
    answer: impl Future<Output = Result<Transaction, E>>,
) -> Result<Transaction, WalletError> {
    match limited(after, answer).await {
        Ok(answer) => answer.map_err(|error| WalletError::Failed(error.into())),
        Err(Interrupted::Panicked(panicked)) => Err(WalletError::Panicked {
            message: panicked.message,
        }),
        Err(Interrupted::Late(after)) => Err(WalletError::Timeout { after }),
    }
}
