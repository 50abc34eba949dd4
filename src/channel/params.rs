use std::fmt;
use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, Script, ScriptBuf, TxOut, Weight};
use miniscript::{DefiniteDescriptorKey, Descriptor};

use super::amount::{dust_limit, Balance};
use super::construction::{Construction, Scripts, SpendPath};
use super::error::Refusal;
use super::keys::{PayeeKey, PayerKey};
use super::message::{Envelope, Message};
use super::musig::AggregateOutputKey;
use super::params_error::ParamsError;
use super::stage::Stage;
use super::terms::Terms;

/// Identifies one channel on one connection. The payer chooses it; every message has it.
///
/// It routes messages. What binds a payment to its channel is the signature, which commits to the funding
/// output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelId(pub u16);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Everything that the two parties agreed on. Every transaction of the channel follows from it and the funding outpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelParams {
    id: ChannelId,
    terms: Terms,
    payer_key: PayerKey,
    payee_key: PayeeKey,
    payer_payout: ScriptBuf,
    payee_payout: ScriptBuf,
    confirmation: Confirmation,
    /// Shared, because every state of an opening carries the parameters on.
    scripts: Arc<Scripts>,
    fees: Fees,
}

/// The confirmations of the funding transaction that the payee requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// Confirmations before any payment counts.
    pub depth: u32,
    /// The total up to which payments count before that, once the network has accepted the funding transaction. The payee
    /// bears the risk of a double spend. Usually zero.
    pub zero_conf_limit: Amount,
}

/// What each party brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parties {
    pub payer_key: PayerKey,
    pub payee_key: PayeeKey,
    pub payer_payout: ScriptBuf,
    pub payee_payout: ScriptBuf,
}

/// Fees and dust limits that follow from the terms and the payout scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fees {
    refund: Amount,
    payment: Weight,
    cooperative: Weight,
    payer_dust: Amount,
    payee_dust: Amount,
}

impl ChannelParams {
    pub(crate) fn new(
        id: ChannelId,
        terms: Terms,
        parties: Parties,
        confirmation: Confirmation,
    ) -> Result<Self, ParamsError> {
        let Parties {
            payer_key,
            payee_key,
            payer_payout,
            payee_payout,
        } = parties;
        // Also rejects the negated key: Taproot knows keys by their x alone (BIP 340).
        let x = |key: PublicKey| key.x_only_public_key().0;
        if x(payer_key.to_public_key()) == x(payee_key.to_public_key()) {
            return Err(ParamsError::SameKey { key: payee_key });
        }
        if payer_payout == payee_payout {
            return Err(ParamsError::SamePayout { script: payee_payout });
        }
        let scripts = terms.scripts(payer_key, payee_key)?;
        let fees = Fees::new(&terms, &scripts, &payer_payout, &payee_payout)?;
        fees.check_capacity(&terms)?;
        Ok(Self {
            id,
            terms,
            payer_key,
            payee_key,
            payer_payout,
            payee_payout,
            confirmation,
            scripts: Arc::new(scripts),
            fees,
        })
    }

    /// Returns `open` and `accept`, from which all of this follows.
    pub fn to_messages(&self) -> [Envelope; 2] {
        let open = Message::Open {
            terms: self.terms.clone(),
            payer_key: self.payer_key,
            payer_payout: self.payer_payout.clone(),
        };
        let accept = Message::Accept {
            payee_key: self.payee_key,
            payee_payout: self.payee_payout.clone(),
            confirmation: self.confirmation,
        };
        [open, accept].map(|message| Envelope {
            channel: self.id,
            message,
        })
    }

    /// Makes the parameters of `open` and `accept` again. Whether they are within anyone's limits was decided when they
    /// were said.
    ///
    /// # Errors
    /// If they are other messages, of two channels, or do not make a channel.
    pub fn from_messages(open: Envelope, accept: Envelope) -> Result<Self, Refusal> {
        let id = open.channel;
        let (terms, payer_key, payer_payout) = match open.message {
            Message::Open {
                terms,
                payer_key,
                payer_payout,
            } => (terms, payer_key, payer_payout),
            other => return Err(Refusal::unexpected(Stage::Proposing, other.kind())),
        };
        let (payee_key, payee_payout, confirmation) = match accept.for_channel(id)? {
            Message::Accept {
                payee_key,
                payee_payout,
                confirmation,
            } => (payee_key, payee_payout, confirmation),
            other => return Err(Refusal::unexpected(Stage::Proposing, other.kind())),
        };
        let parties = Parties {
            payer_key,
            payee_key,
            payer_payout,
            payee_payout,
        };
        Ok(Self::new(id, terms, parties, confirmation)?)
    }

    /// Returns the channel's name on its connection.
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Returns what the payer proposed.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// K1.
    pub const fn payer_key(&self) -> PayerKey {
        self.payer_key
    }

    /// K2.
    pub const fn payee_key(&self) -> PayeeKey {
        self.payee_key
    }

    /// Returns where refund and change go.
    pub fn payer_payout(&self) -> &Script {
        &self.payer_payout
    }

    /// Returns where payments go.
    pub fn payee_payout(&self) -> &Script {
        &self.payee_payout
    }

    /// Returns the confirmations of the funding transaction that the payee requires before payments count.
    pub const fn confirmations(&self) -> u32 {
        self.confirmation.depth
    }

    /// Returns the total up to which payments count before that.
    pub const fn zero_conf_limit(&self) -> Amount {
        self.confirmation.zero_conf_limit
    }

    /// Returns the funding output as a descriptor (BIP 380), from which any wallet can rebuild every script of the
    /// channel.
    pub fn descriptor(&self) -> &Descriptor<DefiniteDescriptorKey> {
        self.scripts.descriptor()
    }

    /// Returns the script of the funding output.
    pub fn funding_script(&self) -> ScriptBuf {
        self.scripts.pubkey().to_owned()
    }

    /// Returns the funding output.
    pub fn funding_output(&self) -> TxOut {
        TxOut {
            value: self.terms.capacity.to_amount(),
            script_pubkey: self.funding_script(),
        }
    }

    /// Returns the scripts that a spend of the funding output reveals, each with a name for people.
    pub fn revealed_scripts(&self) -> Vec<(&'static str, &Script)> {
        self.scripts.revealed()
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// The key of both, where they can close with one signature.
    pub(crate) fn aggregate_key(&self) -> Option<&AggregateOutputKey> {
        self.scripts.aggregate_key()
    }

    pub(crate) const fn refund_path(&self) -> SpendPath {
        refund_path(self.terms.construction)
    }

    /// Returns what the refund pays out: the capacity less its fee.
    pub fn refund_amount(&self) -> Amount {
        self.terms.capacity.to_amount() - self.fees.refund
    }

    /// Returns the most that can ever be paid: the capacity less fee and reserve.
    pub fn spendable(&self) -> Amount {
        self.terms.capacity.to_amount() - self.payment_fee() - self.terms.reserve
    }

    /// Returns the smallest sum that the payee can claim on chain.
    pub const fn payee_dust(&self) -> Amount {
        self.fees.payee_dust
    }

    /// Returns how the capacity is divided when `paid` has been paid in total; `None` above [`Self::spendable`].
    pub fn balance(&self, paid: Amount) -> Option<Balance> {
        (paid <= self.spendable()).then(|| self.divide(paid, self.payment_fee()))?
    }

    /// As [`Self::balance`], at another feerate than the agreed one, for a settlement that should confirm sooner; `None` if the payer's
    /// change does not pay for it.
    pub fn balance_at(&self, paid: Amount, feerate: FeeRate) -> Option<Balance> {
        self.divide(paid, fee_at(feerate, self.fees.payment)?)
    }

    /// As [`Self::balance`], with this fee.
    pub(super) fn balance_with_fee(&self, paid: Amount, fee: Amount) -> Option<Balance> {
        self.divide(paid, fee)
    }

    /// The same for a settlement with one signature, which is smaller.
    pub(crate) fn cooperative_balance(&self, paid: Amount, feerate: FeeRate) -> Option<Balance> {
        self.divide(paid, fee_at(feerate, self.fees.cooperative)?)
    }

    fn divide(&self, paid: Amount, fee: Amount) -> Option<Balance> {
        let change = self
            .terms
            .capacity
            .to_amount()
            .checked_sub(fee)?
            .checked_sub(paid)?;
        let output = |amount, dust| (amount > Amount::ZERO && amount >= dust).then_some(amount);
        let (to_payee, to_payer) = (
            output(paid, self.fees.payee_dust),
            output(change, self.fees.payer_dust),
        );
        // Without an output it is no transaction.
        to_payee.or(to_payer)?;
        Some(Balance {
            paid,
            change,
            fee,
            to_payee,
            to_payer,
        })
    }

    fn payment_fee(&self) -> Amount {
        let fee = fee_at(self.terms.feerate, self.fees.payment);
        fee.expect("was computed when the parameters were made")
    }
}

impl Fees {
    fn new(
        terms: &Terms,
        scripts: &Scripts,
        payer_payout: &ScriptBuf,
        payee_payout: &ScriptBuf,
    ) -> Result<Self, ParamsError> {
        let path = refund_path(terms.construction);
        let both = [payer_payout, payee_payout];
        Ok(Self {
            refund: fee(terms, weight(scripts, path, &[payer_payout]))?,
            payment: weight(scripts, SpendPath::Both, &both),
            cooperative: weight(scripts, SpendPath::Cooperative, &both),
            payer_dust: dust_limit(payer_payout, terms.dust_feerate),
            payee_dust: dust_limit(payee_payout, terms.dust_feerate),
        })
    }

    fn check_capacity(&self, terms: &Terms) -> Result<(), ParamsError> {
        // With this much, one of the two outputs is always above dust, whatever was paid; and where nothing
        // is dust, there is still something to put into one.
        let dust = (self.payer_dust + self.payee_dust).max(Amount::ONE_SAT);
        let payable = terms.minimum_payment.max(dust);
        let needed = [fee(terms, self.payment)?, terms.reserve, payable]
            .into_iter()
            .try_fold(Amount::ZERO, Amount::checked_add)
            .unwrap_or(Amount::MAX);
        let capacity = terms.capacity.to_amount();
        if capacity < needed {
            return Err(ParamsError::CapacityTooSmall { needed, capacity });
        }
        Ok(())
    }
}

/// The spend path of the refund.
const fn refund_path(construction: Construction) -> SpendPath {
    if construction.has_script_refund() {
        SpendPath::Refund
    } else {
        SpendPath::Both
    }
}

/// The weight of a spend of the funding output, with signatures of the largest size.
fn weight(scripts: &Scripts, path: SpendPath, outputs: &[&ScriptBuf]) -> Weight {
    let input = scripts.input_weight(path);
    bitcoin::transaction::predict_weight([input], outputs.iter().map(|script| script.len()))
}

/// The fee of a spend of the funding output.
fn fee(terms: &Terms, weight: Weight) -> Result<Amount, ParamsError> {
    let largest = terms.feerate.max(terms.dust_feerate);
    let error = ParamsError::FeeOverflow {
        feerate: largest,
        weight,
    };
    // What the wire can carry, and far from where sums of fees and dust would overflow.
    if largest > FeeRate::from_sat_per_kwu(u64::from(u32::MAX)) {
        return Err(error);
    }
    fee_at(terms.feerate, weight).ok_or(error)
}

/// Rounded up, and for whole vbytes: a node whose least feerate is this one counts so, and accepts no satoshi less.
fn fee_at(feerate: FeeRate, weight: Weight) -> Option<Amount> {
    feerate.fee_vb(weight.to_vbytes_ceil())
}
