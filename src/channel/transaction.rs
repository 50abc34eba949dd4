use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{schnorr, Message};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::amount::Balance;
use super::construction::SpendPath;
use super::durable::{SettlementForm, SignedPayment, SignedSettlement};
use super::keys::{ChannelKey, SignatureError, Signer, UnverifiedSignature, VerifiedSignature};
use super::lock::LOCKED_SEQUENCE;
use super::params::ChannelParams;
use super::protocol::Protocol;
use super::script_check::{verify_spend, SpendError};

/// Version of refund, payment and settlement, except the cooperative settlement: TRUC (BIP 431). In the mempool such
/// a transaction has at most one child, of at most 1,000 vbytes, and can always be replaced, so that neither side can
/// pin the other's.
pub const SPEND_VERSION: Version = Version(3);

/// A spend of the funding output, built here from the agreed parameters and not yet signed.
///
/// No signature over anything else is made or accepted: what the peer sends is compared with this, never
/// used in its place.
#[derive(Debug, Clone)]
pub(crate) struct SpendTemplate<'a> {
    params: &'a ChannelParams,
    tx: Transaction,
    path: SpendPath,
    digest: Message,
}

impl<'a> SpendTemplate<'a> {
    /// T2: the whole capacity back to the payer, locked until the expiry.
    pub fn refund(params: &'a ChannelParams, funding: OutPoint) -> Self {
        let output = [(params.refund_amount(), params.payer_payout())];
        let path = params.refund_path();
        let fields = params.terms().refund_lock.fields();
        Self::new(params, funding, path, fields, output.into_iter())
    }

    /// T3: `balance` divided between the two, locked in the stepped protocol only.
    pub fn payment(params: &'a ChannelParams, funding: OutPoint, balance: &Balance) -> Self {
        let lock = params.terms().payment_expiry;
        let fields = lock.map_or(UNLOCKED, |lock| (lock.to_lock_time(), LOCKED_SEQUENCE));
        Self::new(params, funding, SpendPath::Both, fields, outputs(params, balance))
    }

    /// Returns the same division without any lock, to close at once.
    pub fn settlement(params: &'a ChannelParams, funding: OutPoint, balance: &Balance) -> Self {
        Self::new(
            params,
            funding,
            SpendPath::Both,
            UNLOCKED,
            outputs(params, balance),
        )
    }

    /// Returns the same with one signature: version, lock and sequence are what most wallets write, because nothing
    /// is to distinguish this from an ordinary payment.
    pub fn cooperative(params: &'a ChannelParams, funding: OutPoint, balance: &Balance) -> Self {
        let fields = (LockTime::ZERO, Sequence::ENABLE_RBF_NO_LOCKTIME);
        Self::new(
            params,
            funding,
            SpendPath::Cooperative,
            fields,
            outputs(params, balance),
        )
    }

    /// Returns one of the three.
    pub fn in_form(
        form: SettlementForm,
        params: &'a ChannelParams,
        funding: OutPoint,
        balance: &Balance,
    ) -> Self {
        match form {
            SettlementForm::Payment => Self::payment(params, funding, balance),
            SettlementForm::Separate => Self::settlement(params, funding, balance),
            SettlementForm::Cooperative => Self::cooperative(params, funding, balance),
        }
    }

    fn new(
        params: &'a ChannelParams,
        funding: OutPoint,
        path: SpendPath,
        (lock_time, sequence): (LockTime, Sequence),
        outputs: impl Iterator<Item = (Amount, &'a Script)>,
    ) -> Self {
        let tx = Transaction {
            version: if path == SpendPath::Cooperative {
                Version::TWO
            } else {
                SPEND_VERSION
            },
            lock_time,
            input: vec![TxIn {
                previous_output: funding,
                script_sig: ScriptBuf::new(),
                sequence,
                witness: Witness::new(),
            }],
            output: outputs
                .map(|(value, script)| TxOut {
                    value,
                    script_pubkey: script.to_owned(),
                })
                .collect(),
        };
        let digest = params.scripts().digest(&tx, &params.funding_output(), path);
        Self {
            params,
            tx,
            path,
            digest,
        }
    }

    pub const fn unsigned(&self) -> &Transaction {
        &self.tx
    }

    pub const fn digest(&self) -> &Message {
        &self.digest
    }

    pub const fn params(&self) -> &ChannelParams {
        self.params
    }

    pub const fn path(&self) -> SpendPath {
        self.path
    }

    pub fn sign(&self, key: &ChannelKey) -> VerifiedSignature {
        key.sign(self.params.scripts().scheme(), &self.digest)
    }

    pub fn verify_payer(&self, signature: UnverifiedSignature) -> Result<VerifiedSignature, SignatureError> {
        let scheme = self.params.scripts().scheme();
        let signer = Signer::new(scheme, self.params.payer_key().to_public_key());
        signature.verify(&self.digest, &signer)
    }

    pub fn verify_payee(&self, signature: UnverifiedSignature) -> Result<VerifiedSignature, SignatureError> {
        let scheme = self.params.scripts().scheme();
        let signer = Signer::new(scheme, self.params.payee_key().to_public_key());
        signature.verify(&self.digest, &signer)
    }

    /// Adds the signatures (the payer's alone where the script lets it refund itself) and runs the result through full
    /// script verification: a spend that comes out of here is one that the network takes.
    pub fn complete(
        self,
        payer: VerifiedSignature,
        payee: Option<VerifiedSignature>,
    ) -> Result<Transaction, SpendError> {
        debug_assert_eq!(payee.is_none(), self.path == SpendPath::Refund);
        let mut tx = self.tx;
        self.params.scripts().satisfy(&mut tx, payer, payee);
        verify_spend(self.params.scripts(), &tx, &self.params.funding_output())?;
        Ok(tx)
    }

    /// Adds the one signature of both.
    pub fn complete_cooperative(self, signature: &schnorr::Signature) -> Result<Transaction, SpendError> {
        let mut tx = self.tx;
        tx.input[0].witness = Witness::from_slice(&[signature.serialize()]);
        verify_spend(self.params.scripts(), &tx, &self.params.funding_output())?;
        Ok(tx)
    }
}

/// No lock, and a sequence that disables one.
const UNLOCKED: (LockTime, Sequence) = (LockTime::ZERO, Sequence::MAX);

/// Payer first, then payee, as in Example 7; an output below dust is left out.
pub(super) fn outputs<'a>(
    params: &'a ChannelParams,
    balance: &Balance,
) -> impl Iterator<Item = (Amount, &'a Script)> + Clone {
    let payer = balance.to_payer.map(|value| (value, params.payer_payout()));
    let payee = balance.to_payee.map(|value| (value, params.payee_payout()));
    payer.into_iter().chain(payee)
}

/// The signatures in a spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// One of each; none of the payee where the payer spends alone, or while the payee has not signed.
    Each {
        payer: VerifiedSignature,
        payee: Option<VerifiedSignature>,
    },
    /// One of both.
    Cooperative(schnorr::Signature),
}

/// The payer's way out: T2 with every signature that it needs, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundTx {
    tx: Transaction,
    /// On the heap: the payer moves from type to type while it opens, and futures hold every one of them.
    signatures: Box<Signatures>,
}

impl RefundTx {
    pub(crate) fn complete(
        spend: SpendTemplate<'_>,
        payer: VerifiedSignature,
        payee: Option<VerifiedSignature>,
    ) -> Result<Self, SpendError> {
        Ok(Self {
            tx: spend.complete(payer, payee)?,
            signatures: Box::new(Signatures::Each { payer, payee }),
        })
    }

    /// Ready to broadcast once the channel's expiry is final.
    pub const fn tx(&self) -> &Transaction {
        &self.tx
    }

    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// K2's, where the refund needs one.
    pub(super) fn payee_signature(&self) -> Option<UnverifiedSignature> {
        match *self.signatures {
            Signatures::Each { payee, .. } => payee.map(VerifiedSignature::to_unverified),
            Signatures::Cooperative(_) => None,
        }
    }
}

/// A payment that the payee holds: the payer's signature, verified, over a division of the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentTx {
    balance: Balance,
    payer: VerifiedSignature,
}

impl PaymentTx {
    pub(crate) const fn new(balance: Balance, payer: VerifiedSignature) -> Self {
        Self { balance, payer }
    }

    /// Who owns what.
    pub const fn balance(&self) -> &Balance {
        &self.balance
    }

    pub(crate) const fn signatures(&self) -> Signatures {
        Signatures::Each {
            payer: self.payer,
            payee: None,
        }
    }

    pub(super) fn signed(&self) -> SignedPayment {
        SignedPayment {
            paid: self.balance.paid,
            signature: self.payer.to_unverified(),
        }
    }

    /// Adds the payee's signature.
    pub(crate) fn redeem(
        &self,
        params: &ChannelParams,
        funding: OutPoint,
        key: &ChannelKey,
    ) -> Result<SettlementTx, SpendError> {
        let spend = SpendTemplate::payment(params, funding, &self.balance);
        let role = match params.terms().protocol {
            // Still locked, so not what the protocol calls the settlement.
            Protocol::SteppedLocktime => SpendRole::Payment,
            Protocol::Example7 | Protocol::Bond => SpendRole::Settlement,
        };
        self.complete(role, spend, key)
    }

    /// The division without the payments' lock, with a separate signature.
    pub(crate) fn settle(
        &self,
        params: &ChannelParams,
        funding: OutPoint,
        key: &ChannelKey,
    ) -> Result<SettlementTx, SpendError> {
        let spend = SpendTemplate::settlement(params, funding, &self.balance);
        self.complete(SpendRole::Settlement, spend, key)
    }

    fn complete(
        &self,
        role: SpendRole,
        spend: SpendTemplate<'_>,
        key: &ChannelKey,
    ) -> Result<SettlementTx, SpendError> {
        let payee = Some(spend.sign(key));
        Ok(SettlementTx {
            role,
            balance: self.balance,
            tx: spend.complete(self.payer, payee)?,
            signatures: Signatures::Each {
                payer: self.payer,
                payee,
            },
        })
    }
}

/// The payee's way to its money: a division of the capacity with both signatures, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementTx {
    role: SpendRole,
    balance: Balance,
    tx: Transaction,
    signatures: Signatures,
}

impl SettlementTx {
    /// Adds the one signature of both.
    pub(crate) fn cooperative(
        balance: Balance,
        spend: SpendTemplate<'_>,
        signature: schnorr::Signature,
    ) -> Result<Self, SpendError> {
        Ok(Self {
            role: SpendRole::Settlement,
            balance,
            tx: spend.complete_cooperative(&signature)?,
            signatures: Signatures::Cooperative(signature),
        })
    }

    pub(crate) const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Which transaction this is, and who signed it.
    pub(super) const fn form(&self) -> SettlementForm {
        match (&self.signatures, self.role) {
            (Signatures::Cooperative(_), _) => SettlementForm::Cooperative,
            (Signatures::Each { .. }, SpendRole::Payment) => SettlementForm::Payment,
            (Signatures::Each { .. }, _) => SettlementForm::Separate,
        }
    }

    pub(super) fn signed(&self, child: Option<&Transaction>) -> SignedSettlement {
        SignedSettlement {
            form: self.form(),
            paid: self.balance.paid,
            fee: self.balance.fee,
            signature: match self.signatures {
                Signatures::Each { payer, .. } => payer.to_unverified(),
                Signatures::Cooperative(both) => UnverifiedSignature::from_compact(both.serialize()),
            },
            child: child.cloned(),
        }
    }

    /// Ready to broadcast (in the stepped protocol a payment only once its own lock is final).
    pub const fn tx(&self) -> &Transaction {
        &self.tx
    }

    /// Returns a redeemed payment, or a settlement.
    pub const fn role(&self) -> SpendRole {
        self.role
    }

    /// Who gets what.
    pub const fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Returns whether it has the one signature of both, and is of version 2 as most transactions are. Any
    /// third party's child can then pin it.
    pub const fn is_cooperative(&self) -> bool {
        matches!(self.signatures, Signatures::Cooperative(_))
    }
}

/// What a transaction is for in the life of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpendRole {
    /// T1.
    Funding,
    /// T2.
    Refund,
    /// T3, redeemed at the payments' own lock.
    Payment,
    /// The last T3, or the article's step 7.
    Settlement,
}

impl SpendRole {
    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Funding => "funding",
            Self::Refund => "refund",
            Self::Payment => "payment",
            Self::Settlement => "settlement",
        }
    }
}
