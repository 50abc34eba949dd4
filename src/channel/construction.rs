use std::fmt;

use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{PublicKey, ScriptBuf, Transaction};

use super::keys::{PayeeKey, PayerKey, VerifiedSignature};
use super::params::ChannelParams;
use super::verify::{check_multisig_pushes, SpendError};

/// What the funding output is made of. Only this file matches on it; the numbers are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Construction {
    /// The documents' own: pay to script hash (BIP 16) of `2 K1 K2 2 CHECKMULTISIG`.
    P2sh = 0,
}

impl Construction {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::P2sh];

    /// The published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P2sh => "p2sh",
        }
    }

    /// The script that both keys have to satisfy.
    #[must_use]
    pub fn redeem_script(self, payer: PayerKey, payee: PayeeKey) -> ScriptBuf {
        match self {
            Self::P2sh => multisig(payer, payee),
        }
    }

    /// The script of the funding output.
    #[must_use]
    pub fn funding_script(self, payer: PayerKey, payee: PayeeKey) -> ScriptBuf {
        match self {
            Self::P2sh => self.redeem_script(payer, payee).to_p2sh(),
        }
    }

    /// The size of the input that spends the funding output, with signatures of the largest size.
    pub(crate) fn input_weight(self) -> InputWeightPrediction {
        /// A low-S signature in DER has at most 71 bytes, the hash type one more.
        const SIGNATURE: usize = 72;
        /// `2 <33 bytes> <33 bytes> 2 CHECKMULTISIG`.
        const REDEEM_SCRIPT: usize = 1 + 34 + 34 + 1 + 1;
        match self {
            // The dummy element, two pushed signatures, the pushed script.
            Self::P2sh => {
                InputWeightPrediction::from_slice(1 + 2 * (1 + SIGNATURE) + (1 + REDEEM_SCRIPT), &[])
            }
        }
    }

    /// What both parties sign: every input and output (`SIGHASH_ALL`).
    pub(crate) fn digest(self, params: &ChannelParams, tx: &Transaction) -> Message {
        match self {
            Self::P2sh => {
                let script = self.redeem_script(params.payer_key(), params.payee_key());
                let sighash = SighashCache::new(tx)
                    .legacy_signature_hash(0, &script, EcdsaSighashType::All.to_u32())
                    .expect("a template has one input, and its index is 0");
                Message::from(sighash)
            }
        }
    }

    /// Checks what a node's policy asks of the finished input, beyond consensus.
    pub(crate) fn check_policy(self, tx: &Transaction) -> Result<(), SpendError> {
        match self {
            Self::P2sh => check_multisig_pushes(&tx.input[0].script_sig),
        }
    }

    /// Puts both signatures into the transaction's only input.
    pub(crate) fn satisfy(
        self,
        params: &ChannelParams,
        mut tx: Transaction,
        payer: VerifiedSignature,
        payee: VerifiedSignature,
    ) -> Transaction {
        match self {
            Self::P2sh => {
                let script = self.redeem_script(params.payer_key(), params.payee_key());
                let script = PushBytesBuf::try_from(script.into_bytes())
                    .expect("a script of 71 bytes is below the push limit");
                // CHECKMULTISIG pops one element too many; NULLDUMMY (BIP 147) wants it empty.
                tx.input[0].script_sig = Builder::new()
                    .push_int(0)
                    .push_slice(payer.to_ecdsa().serialize())
                    .push_slice(payee.to_ecdsa().serialize())
                    .push_slice(script)
                    .into_script();
                tx
            }
        }
    }
}

impl fmt::Display for Construction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `2 K1 K2 2 CHECKMULTISIG`, the payer's key first.
fn multisig(payer: PayerKey, payee: PayeeKey) -> ScriptBuf {
    Builder::new()
        .push_int(2)
        .push_key(&PublicKey::new(payer.to_public_key()))
        .push_key(&PublicKey::new(payee.to_public_key()))
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}
