#[cfg(feature = "service")]
mod raisable;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::{predict_weight, InputWeightPrediction, Version};
use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Weight, Witness,
};
use thiserror::Error;

use super::amount::dust_limit;
use super::error::CommandError;
use super::limits::{check_payout, TermsError};
use super::params::ChannelParams;
use super::script_check::{verify_input, SpendError};
use super::transaction::{RefundTx, SettlementTx, SPEND_VERSION};

#[cfg(feature = "service")]
pub(crate) use raisable::Raisable;

/// The largest size of a child of an unconfirmed version 3 transaction, in vbytes (BIP 431).
pub const MAX_CHILD_VSIZE: u64 = 1_000;

/// Child pays for parent: when the agreed feerate is no longer enough, either side raises it alone, from its own output.
///
/// The parent stays as it was signed. A child that spends the owner's output pays for both, and a node judges the two as
/// one package. The owner's wallet signs the child:
///
/// ```
/// use bitcoin::{FeeRate, ScriptBuf, Transaction};
/// use spilman::channel::{ChildTx, Cpfp, CpfpError, CpfpPackage, Payee};
///
/// fn raise(
///     payee: &Payee,
///     to: ScriptBuf,
///     sign: impl Fn(&ChildTx) -> Transaction,
/// ) -> Result<Option<CpfpPackage>, CpfpError> {
///     let Some(settlement) = payee.settlement() else { return Ok(None) };
///     let ten = FeeRate::from_sat_per_vb_unchecked(10);
///     let child = Cpfp::new(ten, to).settlement(payee.params(), settlement)?;
///     let signed = sign(&child);
///     Ok(Some(child.complete(signed)?))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Cpfp {
    feerate: FeeRate,
    to: ScriptBuf,
    input: Option<InputWeightPrediction>,
}

impl Cpfp {
    /// Creates a request: parent and child together pay this feerate, and the rest goes to `to`.
    #[must_use]
    pub const fn new(feerate: FeeRate, to: ScriptBuf) -> Self {
        Self {
            feerate,
            to,
            input: None,
        }
    }

    /// The size of the input that spends the owner's output. P2PKH of a compressed key, P2WPKH and the key path of P2TR
    /// are known; for other outputs the wallet must give it.
    #[must_use]
    pub const fn input(mut self, prediction: InputWeightPrediction) -> Self {
        self.input = Some(prediction);
        self
    }

    /// Returns the payee's child of a settlement, or of a payment that it redeemed.
    ///
    /// # Errors
    /// If there is no such output, it is too small, or the parent alone pays this feerate.
    pub fn settlement(
        &self,
        params: &ChannelParams,
        settlement: &SettlementTx,
    ) -> Result<ChildTx, CpfpError> {
        let fee = settlement.balance().fee_on_chain();
        self.child(
            params.terms().dust_feerate,
            settlement.tx(),
            fee,
            params.payee_payout(),
        )
    }

    /// Returns the payer's child of its refund.
    ///
    /// # Errors
    /// If the output is too small, or the parent alone pays this feerate.
    pub fn refund(&self, params: &ChannelParams, refund: &RefundTx) -> Result<ChildTx, CpfpError> {
        let fee = params.terms().capacity.to_amount() - params.refund_amount();
        self.child(
            params.terms().dust_feerate,
            refund.tx(),
            fee,
            params.payer_payout(),
        )
    }

    fn child(
        &self,
        dust_feerate: FeeRate,
        parent: &Transaction,
        parent_fee: Amount,
        owner: &Script,
    ) -> Result<ChildTx, CpfpError> {
        check_payout(&self.to)?;
        let (outpoint, prevout) = own_output(parent, owner)?;
        let input = self.input.or_else(|| known_input(owner));
        let input = input.ok_or_else(|| CpfpError::UnknownInput {
            script: owner.to_owned(),
        })?;
        let vsize = predicted_vsize(input, &self.to);
        check_size(parent, vsize)?;

        let alone = self.fee(parent.vsize() as u64)?;
        if parent_fee >= alone {
            return Err(CpfpError::Sufficient {
                paid: parent_fee,
                needed: alone,
            });
        }
        let fee = self.fee(parent.vsize() as u64 + vsize)? - parent_fee;
        let dust = dust_limit(&self.to, dust_feerate);
        let left = prevout
            .value
            .checked_sub(fee)
            .filter(|left| *left >= dust.max(Amount::ONE_SAT));
        let left = left.ok_or(CpfpError::OutputTooSmall {
            value: prevout.value,
            fee,
            dust,
        })?;
        Ok(ChildTx {
            tx: self.unsigned(parent.version, outpoint, left),
            parent: parent.clone(),
            parent_fee,
            prevout,
            fee,
            feerate: self.feerate,
        })
    }

    /// A child has the version of its parent: a node accepts no mixture of version 3 with another. (A settlement with one
    /// signature is of version 2. Before Core 31, no child can help such a parent below `-minrelaytxfee`, only one below
    /// what a full mempool asks.)
    fn unsigned(&self, version: Version, outpoint: OutPoint, value: Amount) -> Transaction {
        Transaction {
            version,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: outpoint,
                script_sig: ScriptBuf::new(),
                // It may be raised again.
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                value,
                script_pubkey: self.to.clone(),
            }],
        }
    }

    fn fee(&self, vsize: u64) -> Result<Amount, CpfpError> {
        fee_at(self.feerate, vsize)
    }
}

/// An unsigned child, with everything needed to sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ChildTx {
    parent: Transaction,
    parent_fee: Amount,
    prevout: TxOut,
    tx: Transaction,
    fee: Amount,
    feerate: FeeRate,
}

impl ChildTx {
    /// Returns the transaction, without a signature.
    pub const fn unsigned(&self) -> &Transaction {
        &self.tx
    }

    /// Returns the output that its only input spends: the wallet signs for this.
    pub const fn prevout(&self) -> &TxOut {
        &self.prevout
    }

    /// Returns the fee.
    pub const fn fee(&self) -> Amount {
        self.fee
    }

    /// Accepts the signed child from the wallet, and verifies it.
    ///
    /// # Errors
    /// If it is another transaction, its input does not satisfy the script, or the package does not reach the feerate
    /// because the input is larger than predicted.
    pub fn complete(self, signed: Transaction) -> Result<CpfpPackage, CpfpError> {
        let (expected, received) = (self.tx.compute_txid(), stripped(&signed).compute_txid());
        if received != expected {
            return Err(CpfpError::AnotherChild { expected, received });
        }
        verify_input(&signed, 0, std::slice::from_ref(&self.prevout))?;
        let vsize = signed.vsize() as u64;
        check_size(&self.parent, vsize)?;
        let package = CpfpPackage {
            fee: self.parent_fee + self.fee,
            parent: self.parent,
            child: signed,
        };
        let needed = fee_at(self.feerate, package.vsize())?;
        if package.fee < needed {
            return Err(CpfpError::BelowFeerate {
                paid: package.fee,
                needed,
                feerate: self.feerate,
            });
        }
        Ok(package)
    }
}

/// A signed parent and its signed child, to be submitted together (`submitpackage`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpfpPackage {
    parent: Transaction,
    child: Transaction,
    fee: Amount,
}

impl CpfpPackage {
    /// Returns the settlement, payment or refund.
    pub const fn parent(&self) -> &Transaction {
        &self.parent
    }

    /// Returns the child.
    pub const fn child(&self) -> &Transaction {
        &self.child
    }

    /// Takes a child that was stored, of this parent with this fee.
    pub(super) fn restore(
        parent: Transaction,
        parent_fee: Amount,
        child: Transaction,
    ) -> Result<Self, CpfpError> {
        let txid = parent.compute_txid();
        let spent = match &child.input[..] {
            [input] if input.previous_output.txid == txid => input.previous_output.vout as usize,
            _ => return Err(CpfpError::NotAChild { txid }),
        };
        let prevout = parent.output.get(spent).ok_or(CpfpError::NotAChild { txid })?;
        verify_input(&child, 0, std::slice::from_ref(prevout))?;
        let mut outputs = child.output.iter().map(|output| output.value);
        let fee = outputs.try_fold(prevout.value, Amount::checked_sub);
        let fee = fee.ok_or(CpfpError::NotAChild { txid })?;
        Ok(Self {
            fee: parent_fee + fee,
            parent,
            child,
        })
    }

    /// Whether this is a package for the transaction that a party broadcasts.
    pub(super) fn check_parent(&self, broadcast: &Transaction) -> Result<(), CommandError> {
        let (expected, received) = (broadcast.compute_txid(), self.parent.compute_txid());
        if received != expected {
            return Err(CommandError::AnotherParent { expected, received });
        }
        Ok(())
    }

    /// Returns both, the parent first.
    pub fn transactions(&self) -> [Transaction; 2] {
        [self.parent.clone(), self.child.clone()]
    }

    /// Returns the fee of both.
    pub const fn fee(&self) -> Amount {
        self.fee
    }

    /// Returns what they pay for their size, rounded down. A node rounds up the vbytes of each.
    pub fn feerate(&self) -> FeeRate {
        self.fee / Weight::from_vb_unwrap(self.vsize())
    }

    fn vsize(&self) -> u64 {
        (self.parent.vsize() + self.child.vsize()) as u64
    }
}

fn predicted_vsize(input: InputWeightPrediction, to: &Script) -> u64 {
    predict_weight([input], [to.len()]).to_vbytes_ceil()
}

fn own_output(parent: &Transaction, owner: &Script) -> Result<(OutPoint, TxOut), CpfpError> {
    let txid = parent.compute_txid();
    let mut outputs = (0..).zip(&parent.output);
    let own = outputs.find(|(_, output)| *output.script_pubkey == *owner);
    let (vout, output) = own.ok_or_else(|| CpfpError::NoOutput {
        txid,
        script: owner.to_owned(),
    })?;
    Ok((OutPoint::new(txid, vout), output.clone()))
}

/// With signatures of the largest size.
fn known_input(script: &Script) -> Option<InputWeightPrediction> {
    if script.is_p2wpkh() {
        Some(InputWeightPrediction::P2WPKH_MAX)
    } else if script.is_p2tr() {
        Some(InputWeightPrediction::P2TR_KEY_DEFAULT_SIGHASH)
    } else if script.is_p2pkh() {
        Some(InputWeightPrediction::P2PKH_COMPRESSED_MAX)
    } else {
        None
    }
}

fn check_size(parent: &Transaction, vsize: u64) -> Result<(), CpfpError> {
    if parent.version == SPEND_VERSION && vsize > MAX_CHILD_VSIZE {
        return Err(CpfpError::ChildTooLarge {
            vsize,
            limit: MAX_CHILD_VSIZE,
        });
    }
    Ok(())
}

/// Rounded up.
fn fee_at(feerate: FeeRate, vsize: u64) -> Result<Amount, CpfpError> {
    let fee = feerate.fee_vb(vsize);
    // Beyond all money there is, sums could overflow.
    fee.filter(|fee| *fee <= Amount::MAX_MONEY)
        .ok_or(CpfpError::FeeOverflow { feerate, vsize })
}

fn stripped(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.script_sig = ScriptBuf::new();
    }
    tx
}

/// Why no child can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CpfpError {
    /// The parent has no output of the owner: its share is below the dust limit.
    #[error("transaction {txid} has no output to the script {script} that a child could spend")]
    NoOutput {
        /// The parent.
        txid: Txid,
        /// The owner's script.
        script: ScriptBuf,
    },
    /// Only the wallet knows how this output is spent: see [`Cpfp::input`].
    #[error("unknown size of an input that spends {script}: set it with `Cpfp::input`")]
    UnknownInput {
        /// The owner's script.
        script: ScriptBuf,
    },
    /// The child would pay to a script that nodes do not relay.
    #[error(transparent)]
    Payout(#[from] TermsError),
    /// The parent needs no child.
    #[error("the parent needs no child: it pays {paid}, and the requested feerate needs only {needed}")]
    Sufficient {
        /// Its fee.
        paid: Amount,
        /// What it takes.
        needed: Amount,
    },
    /// The output is too small for the child's fee and output.
    #[error(
        "the output of {value} is too small: the child needs {fee} for the fee and {dust} for its own output"
    )]
    OutputTooSmall {
        /// The owner's output.
        value: Amount,
        /// The child's fee.
        fee: Amount,
        /// The least output.
        dust: Amount,
    },
    /// No node relays it (BIP 431).
    #[error("the child has {vsize} vB, more than the {limit} vB allowed in version 3: spend fewer or smaller inputs")]
    ChildTooLarge {
        /// Its size, in vbytes.
        vsize: u64,
        /// The most, in vbytes.
        limit: u64,
    },
    /// The feerate is absurd.
    #[error("the fee at {feerate} sat/kwu for {vsize} vbytes overflows")]
    FeeOverflow {
        /// Asked for.
        feerate: FeeRate,
        /// Size, in vbytes.
        vsize: u64,
    },
    /// The wallet signed something else.
    #[error(
        "the wallet signed another transaction: expected {expected}, got {received} (ids before signing)"
    )]
    AnotherChild {
        /// The id of the unsigned child.
        expected: Txid,
        /// The received id, without signatures.
        received: Txid,
    },
    /// A stored child does not spend its parent alone, or spends more than there is.
    #[error("it is not a child of {txid}")]
    NotAChild {
        /// The parent.
        txid: Txid,
    },
    /// The wallet's signature does not satisfy the script.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// The input is larger than predicted.
    #[error("parent and signed child pay {paid}, less than the {needed} that {feerate} sat/kwu needs")]
    BelowFeerate {
        /// What both pay.
        paid: Amount,
        /// What they would have to pay.
        needed: Amount,
        /// Asked for.
        feerate: FeeRate,
    },
}

#[cfg(test)]
mod tests;
