//! Signatures of either party over anything, made without the crate's help: transactions from the documents' words,
//! and every construction's own signature hash.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{Keypair, Message as Digest, Secp256k1};
use bitcoin::taproot::{LeafVersion, TapNodeHash};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness,
};
use spilman::adversary::oracle;
use spilman::channel::{
    AggregateKey, ChannelParams, Construction, Expiry, Message, PayerKey, PublicNonce, UnverifiedSignature,
    LOCKED_SEQUENCE, SPEND_VERSION,
};

use super::{key, sat, secret, Pair};

/// Messages and transactions as either party, or a stranger, would sign them, whatever the parties of the pair think of it.
pub trait Sign {
    /// A payment as the payer `label` would sign it, whatever the payer of this pair thinks of it.
    fn payment(&self, paid: u64, label: &str) -> Message;

    fn settlement(&self, paid: u64, label: &str) -> Message;

    /// The part of a settlement with one signature that the payer `label` would make. Where it is not this channel's
    /// payer, it believes that it is.
    fn cooperative_settlement(
        &self,
        paid: u64,
        feerate: FeeRate,
        asked: &PublicNonce,
        label: &str,
    ) -> Message;

    /// The signature over the division that leaves the payer the rest.
    fn sign(&self, paid: u64, lock: Option<Expiry>, funding: OutPoint, label: &str) -> UnverifiedSignature;

    /// Built here from the documents' words and not by the crate: payer's output first, then the payee's.
    fn division(&self, paid: u64, lock: Option<Expiry>, funding: OutPoint) -> Transaction;
}

impl Sign for Pair {
    fn payment(&self, paid: u64, label: &str) -> Message {
        let lock = self.payee.params().terms().payment_expiry;
        let signature = self.sign(paid, lock, self.outpoint(), label);
        Message::Payment {
            paid: sat(paid),
            signature,
        }
    }

    fn settlement(&self, paid: u64, label: &str) -> Message {
        let signature = self.sign(paid, None, self.outpoint(), label);
        Message::Settlement {
            paid: sat(paid),
            feerate: self.payee.params().terms().feerate,
            signature,
        }
    }

    fn cooperative_settlement(
        &self,
        paid: u64,
        feerate: FeeRate,
        asked: &PublicNonce,
        label: &str,
    ) -> Message {
        let params = self.payee.params();
        let tx = cooperative(self, paid, feerate);
        let scripts = params.revealed_scripts();
        let leaves = [0, 1].map(|leaf| TapNodeHash::from_script(scripts[leaf].1, LeafVersion::TapScript));
        let root = TapNodeHash::from_node_hashes(leaves[0], leaves[1]);
        let payer = PayerKey::new(key(label).public_key());
        let aggregate = AggregateKey::new(payer, params.payee_key()).tweaked(Some(root));
        let digest = oracle::taproot_digest(params, &tx, None, TapSighashType::Default, None);
        let (nonce, partial) = aggregate.sign_with(&key(label), asked, &digest).unwrap();
        Message::CooperativeSettlement {
            paid: sat(paid),
            feerate,
            nonce,
            partial,
        }
    }

    fn sign(&self, paid: u64, lock: Option<Expiry>, funding: OutPoint, label: &str) -> UnverifiedSignature {
        signature(self.payee.params(), &self.division(paid, lock, funding), label)
    }

    fn division(&self, paid: u64, lock: Option<Expiry>, funding: OutPoint) -> Transaction {
        let params = self.payee.params();
        let left = params.spendable() + params.terms().reserve;
        let sequence = lock.map_or(Sequence::MAX, |_| LOCKED_SEQUENCE);
        Transaction {
            version: SPEND_VERSION,
            lock_time: lock.map_or(LockTime::ZERO, Expiry::to_lock_time),
            input: vec![input(funding, sequence)],
            output: divided(params, paid, left),
        }
    }
}

/// As most wallets write a payment; one signature of 64 bytes is all its witness.
fn cooperative(pair: &Pair, paid: u64, feerate: FeeRate) -> Transaction {
    let params = pair.payee.params();
    let outputs = [params.payer_payout(), params.payee_payout()];
    let weight = bitcoin::transaction::predict_weight(
        [bitcoin::transaction::InputWeightPrediction::from_slice(0, &[64])],
        outputs.map(bitcoin::Script::len),
    );
    let left = params.terms().capacity.to_amount() - feerate.fee_wu(weight).unwrap();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input(pair.outpoint(), Sequence::ENABLE_RBF_NO_LOCKTIME)],
        output: divided(params, paid, left),
    }
}

fn input(previous_output: OutPoint, sequence: Sequence) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence,
        witness: Witness::new(),
    }
}

fn divided(params: &ChannelParams, paid: u64, left: Amount) -> Vec<TxOut> {
    let dust = |script: &bitcoin::Script| {
        let size = if script.is_witness_program() { 67 } else { 148 } + 9 + script.len() as u64;
        sat((4 * params.terms().dust_feerate.to_sat_per_kwu() * size).div_ceil(1_000))
    };
    let change = left.checked_sub(sat(paid)).unwrap_or(Amount::ZERO);
    let outputs = [
        (change, params.payer_payout()),
        (sat(paid), params.payee_payout()),
    ];
    let kept = |(value, script): &(Amount, &bitcoin::Script)| *value > Amount::ZERO && *value >= dust(script);
    let output = |(value, script): (Amount, &bitcoin::Script)| TxOut {
        value,
        script_pubkey: script.to_owned(),
    };
    outputs.into_iter().filter(kept).map(output).collect()
}

/// The signature of `label`'s key over a spend of the funding output by both.
pub fn signature(params: &ChannelParams, tx: &Transaction, label: &str) -> UnverifiedSignature {
    signature_over(params, &oracle::digest(params, tx), label)
}

/// The signature of `label`'s key, of the kind that the construction uses, over anything.
pub fn signature_over(params: &ChannelParams, digest: &Digest, label: &str) -> UnverifiedSignature {
    let secp = Secp256k1::new();
    UnverifiedSignature::from_compact(match params.terms().construction {
        Construction::Taproot => {
            let pair = Keypair::from_secret_key(&secp, &secret(label));
            secp.sign_schnorr_no_aux_rand(digest, &pair).serialize()
        }
        _ => secp.sign_ecdsa(digest, &secret(label)).serialize_compact(),
    })
}
