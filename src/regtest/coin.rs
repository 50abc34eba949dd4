//! Coins with their keys, and spending them without a wallet.

use std::slice;

use bitcoin::absolute::LockTime;
use bitcoin::key::PublicKey;
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    ecdsa, Amount, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};

use super::error::InvalidRequest;

/// How an output is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CoinKind {
    /// Pay to public key hash. Third parties can change the txid of its spender.
    Legacy,
    /// Pay to witness public key hash (BIP 141).
    Segwit,
}

impl CoinKind {
    /// Returns the script of an output of this kind, for the compressed public key of `key`.
    #[must_use]
    pub fn script(self, key: &SecretKey) -> ScriptBuf {
        let public_key = public_key(key);
        match self {
            Self::Legacy => ScriptBuf::new_p2pkh(&public_key.pubkey_hash()),
            Self::Segwit => ScriptBuf::new_p2wpkh(&CompressedPublicKey(public_key.inner).wpubkey_hash()),
        }
    }
}

/// A spendable output, with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Amount and script.
    pub output: TxOut,
    /// The key that spends it.
    pub key: SecretKey,
    /// How it is spent.
    pub kind: CoinKind,
    /// The transaction that made it.
    pub funding: Transaction,
}

impl Coin {
    /// Returns its value.
    pub fn value(&self) -> Amount {
        self.output.value
    }

    /// Returns the compressed public key.
    pub fn public_key(&self) -> PublicKey {
        public_key(&self.key)
    }

    /// Returns a signed transaction that spends this coin alone. What the outputs leave is the fee.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::OutputsExceedInputs`].
    pub fn spend(&self, outputs: Vec<TxOut>) -> Result<Transaction, InvalidRequest> {
        spend_coins(slice::from_ref(self), outputs)
    }

    /// Signs the input of `transaction` that spends this coin, over all inputs and outputs (`SIGHASH_ALL`), with the
    /// nonce of RFC 6979. What the input held before is replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::NotSpent`] if no input spends this coin.
    #[allow(clippy::missing_panics_doc)] // the expect says why it cannot
    pub fn sign(&self, transaction: &mut Transaction) -> Result<(), InvalidRequest> {
        let index = transaction
            .input
            .iter()
            .position(|input| input.previous_output == self.outpoint);
        let index = index.ok_or_else(|| InvalidRequest::NotSpent {
            txid: transaction.compute_txid(),
            outpoint: self.outpoint,
        })?;
        // What the key can sign for, whatever the coin's fields say: a coin that was put together wrongly is for the
        // node to reject.
        let script = &self.kind.script(&self.key);
        let cache = SighashCache::new(&*transaction);
        let message = match self.kind {
            CoinKind::Legacy => cache
                .legacy_signature_hash(index, script, EcdsaSighashType::All.to_u32())
                .map(Message::from)
                .ok(),
            CoinKind::Segwit => segwit_message(cache, index, script, self.output.value),
        };
        let message = message.expect("the input was just found, and the script is of its kind");
        let signature = ecdsa::Signature {
            signature: Secp256k1::signing_only().sign_ecdsa(&message, &self.key),
            sighash_type: EcdsaSighashType::All,
        };

        let input = &mut transaction.input[index];
        (input.script_sig, input.witness) = match self.kind {
            CoinKind::Legacy => (signature_script(&signature, self.public_key()), Witness::new()),
            CoinKind::Segwit => (
                ScriptBuf::new(),
                Witness::p2wpkh(&signature, &self.public_key().inner),
            ),
        };
        Ok(())
    }
}

fn segwit_message(
    mut cache: SighashCache<&Transaction>,
    index: usize,
    script: &ScriptBuf,
    value: Amount,
) -> Option<Message> {
    cache
        .p2wpkh_signature_hash(index, script, value, EcdsaSighashType::All)
        .map(Message::from)
        .ok()
}

fn signature_script(signature: &ecdsa::Signature, public_key: PublicKey) -> ScriptBuf {
    let signature = PushBytesBuf::try_from(signature.to_vec()).expect("a signature has at most 73 bytes");
    bitcoin::script::Builder::new()
        .push_slice(signature)
        .push_key(&public_key)
        .into_script()
}

fn public_key(key: &SecretKey) -> PublicKey {
    PublicKey::new(key.public_key(&Secp256k1::signing_only()))
}

/// A transaction that spends coins, before it is signed: version 2, no lock, and the highest sequence that still
/// enables a lock time (`0xfffffffe`), by default.
#[derive(Debug, Clone)]
#[must_use]
pub struct Spend<'a> {
    coins: &'a [Coin],
    outputs: Vec<TxOut>,
    lock_time: LockTime,
    sequence: Sequence,
}

impl<'a> Spend<'a> {
    /// Spends these coins, in this order.
    pub fn of(coins: &'a [Coin]) -> Self {
        Self {
            coins,
            outputs: Vec::new(),
            lock_time: LockTime::ZERO,
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
        }
    }

    /// Pays to these outputs. What they leave is the fee.
    pub fn to(self, outputs: Vec<TxOut>) -> Self {
        Self { outputs, ..self }
    }

    /// Sets the lock time: not valid before this height or time.
    pub fn lock_time(self, lock_time: LockTime) -> Self {
        Self { lock_time, ..self }
    }

    /// Sets the sequence of every input. [`Sequence::MAX`] disables the lock time.
    pub fn sequence(self, sequence: Sequence) -> Self {
        Self { sequence, ..self }
    }

    /// Returns the signed transaction.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest::OutputsExceedInputs`].
    pub fn sign(self) -> Result<Transaction, InvalidRequest> {
        surplus(self.coins, &self.outputs, Amount::ZERO)?;
        let input = self.coins.iter().map(|coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: self.sequence,
            witness: Witness::new(),
        });
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: self.lock_time,
            input: input.collect(),
            output: self.outputs,
        };
        for coin in self.coins {
            coin.sign(&mut transaction)?;
        }
        Ok(transaction)
    }
}

/// Returns a signed transaction that spends these coins, with the defaults of [`Spend`].
///
/// # Errors
///
/// [`InvalidRequest::OutputsExceedInputs`].
pub fn spend_coins(coins: &[Coin], outputs: Vec<TxOut>) -> Result<Transaction, InvalidRequest> {
    Spend::of(coins).to(outputs).sign()
}

/// Returns the change output: what `outputs` and `fee` leave of the coins, paid to `script`.
///
/// # Errors
///
/// [`InvalidRequest::OutputsExceedInputs`].
pub fn change(
    coins: &[Coin],
    outputs: &[TxOut],
    fee: Amount,
    script: ScriptBuf,
) -> Result<TxOut, InvalidRequest> {
    Ok(TxOut {
        value: surplus(coins, outputs, fee)?,
        script_pubkey: script,
    })
}

fn surplus(coins: &[Coin], outputs: &[TxOut], fee: Amount) -> Result<Amount, InvalidRequest> {
    // No sum of 64 bits can hold a nonsensical output of more than all money many times over.
    let saturating = |sum: Amount, value: Amount| sum.checked_add(value).unwrap_or(Amount::MAX);
    let inputs = coins.iter().map(Coin::value).fold(Amount::ZERO, saturating);
    let outputs = outputs.iter().map(|output| output.value).fold(fee, saturating);
    inputs
        .checked_sub(outputs)
        .ok_or(InvalidRequest::OutputsExceedInputs { inputs, outputs })
}
