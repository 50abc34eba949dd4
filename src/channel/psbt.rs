//! The spends of the funding output as partially signed transactions (BIP 174, and BIP 371 for Taproot), for signers
//! and wallets that are not this crate.

use bitcoin::psbt::{raw, Input, Psbt};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{ecdsa, taproot, EcdsaSighashType, TapSighashType, WitnessVersion};
use miniscript::psbt::PsbtExt;

use super::funding::FundingTx;
use super::keys::{Checked, Scheme, VerifiedSignature};
use super::musig::AggregateKey;
use super::params::ChannelParams;
use super::payee::Payee;
use super::payer::Payer;
use super::transaction::{PaymentTx, RefundTx, SettlementTx, Signatures, SpendTemplate};

impl Payer {
    /// Returns the refund (T2) with every signature that it needs, not finalised.
    pub fn refund_psbt(&self) -> Psbt {
        self.refund().psbt(self.params(), self.funding())
    }
}

impl Payee {
    /// Returns the latest payment (T3) with the payer's signature and without the payee's, so that an external signer
    /// can add it.
    pub fn payment_psbt(&self) -> Option<Psbt> {
        let payment = self.latest_payment()?;
        Some(payment.psbt(self.params(), self.funding()))
    }

    /// This side's settlement, with the signatures of both, not finalised.
    pub fn settlement_psbt(&self) -> Option<Psbt> {
        let settlement = self.settlement()?;
        Some(settlement.psbt(self.params(), self.funding()))
    }
}

impl RefundTx {
    fn psbt(&self, params: &ChannelParams, funding: &FundingTx) -> Psbt {
        SpendTemplate::refund(params, funding.outpoint()).psbt(funding, self.signatures())
    }
}

impl PaymentTx {
    fn psbt(&self, params: &ChannelParams, funding: &FundingTx) -> Psbt {
        SpendTemplate::payment(params, funding.outpoint(), self.balance()).psbt(funding, &self.signatures())
    }
}

impl SettlementTx {
    fn psbt(&self, params: &ChannelParams, funding: &FundingTx) -> Psbt {
        let spend = SpendTemplate::in_form(self.form(), params, funding.outpoint(), self.balance());
        spend.psbt(funding, self.signatures())
    }
}

impl SpendTemplate<'_> {
    fn psbt(&self, funding: &FundingTx, signatures: &Signatures) -> Psbt {
        let (params, descriptor) = (self.params(), self.params().descriptor());
        let mut psbt = Psbt::from_unsigned_tx(self.unsigned().clone()).expect("a template has no signatures");
        let input = &mut psbt.inputs[0];
        let version = descriptor.desc_type().segwit_version();
        if version.is_some() {
            input.witness_utxo = Some(params.funding_output());
        }
        // Only Taproot signatures commit to every amount that is spent. For the others a signer that trusts no one
        // wants to see the transaction whose id is signed.
        if version != Some(WitnessVersion::V1) {
            input.non_witness_utxo = Some(funding.tx().clone());
        }
        psbt.update_input_with_descriptor(0, descriptor)
            .expect("the funding transaction was checked, and its output is the descriptor's");
        let input = &mut psbt.inputs[0];
        match params.scripts().scheme() {
            Scheme::Ecdsa => input.sighash_type = Some(EcdsaSighashType::All.into()),
            Scheme::Schnorr => {
                input.sighash_type = Some(TapSighashType::Default.into());
                name_participants(input, &AggregateKey::new(params.payer_key(), params.payee_key()));
            }
        }
        self.add_signatures(input, signatures);
        psbt
    }

    fn add_signatures(&self, input: &mut Input, signatures: &Signatures) {
        match *signatures {
            Signatures::Each { payer, payee } => {
                self.add_signature(input, self.params().payer_key().to_public_key(), payer);
                if let Some(payee) = payee {
                    self.add_signature(input, self.params().payee_key().to_public_key(), payee);
                }
            }
            Signatures::Cooperative(signature) => input.tap_key_sig = Some(whole(signature)),
        }
    }

    fn add_signature(&self, input: &mut Input, signer: PublicKey, signature: VerifiedSignature) {
        match (
            signature.checked(),
            self.params().scripts().leaf_hash(self.path()),
        ) {
            (Checked::Schnorr(signature), Some(leaf)) => {
                let place = (signer.x_only_public_key().0, leaf);
                input.tap_script_sigs.insert(place, whole(signature));
            }
            (Checked::Schnorr(signature), None) => input.tap_key_sig = Some(whole(signature)),
            (Checked::Ecdsa(signature), _) => {
                let signature = ecdsa::Signature::sighash_all(signature);
                input.partial_sigs.insert(signer.into(), signature);
            }
        }
    }
}

const fn whole(signature: bitcoin::secp256k1::schnorr::Signature) -> taproot::Signature {
    taproot::Signature {
        signature,
        sighash_type: TapSighashType::Default,
    }
}

/// Says whose aggregate the internal key is (BIP 373).
fn name_participants(input: &mut Input, aggregate: &AggregateKey) {
    /// `PSBT_IN_MUSIG2_PARTICIPANT_PUBKEYS`
    const PARTICIPANTS: u8 = 0x1a;
    let key = raw::Key {
        type_value: PARTICIPANTS,
        key: aggregate.aggregate().serialize().to_vec(),
    };
    let participants = aggregate.participants().map(|key| key.serialize());
    input.unknown.insert(key, participants.concat());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitcoin::secp256k1::SecretKey;
    use bitcoin::transaction::Version;
    use bitcoin::{absolute, Amount, FeeRate, NetworkKind, PrivateKey, Transaction, TxIn};

    use super::*;
    use crate::channel::construction::Construction;
    use crate::channel::keys::{ChannelKey, SECP};
    use crate::channel::musig::{NonceSeed, SecretNonce};
    use crate::channel::protocol::Protocol;
    use crate::channel::test_support::{example_on, Example};

    const PAID: Amount = Amount::from_sat(40_000);

    /// Every channel that there can be.
    fn examples() -> impl Iterator<Item = Example> {
        let all = |construction: Construction| {
            let protocols = Protocol::ALL.into_iter();
            protocols
                .filter(move |protocol| construction.runs(*protocol))
                .map(move |protocol| example_on(construction, protocol))
        };
        Construction::ALL.into_iter().flat_map(all)
    }

    fn funding(params: &ChannelParams) -> FundingTx {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn::default()],
            output: vec![params.funding_output()],
        };
        FundingTx::find(params, tx).unwrap()
    }

    fn refund(example: &Example, funding: &FundingTx) -> RefundTx {
        let spend = SpendTemplate::refund(&example.params, funding.outpoint());
        let payer = spend.sign(&example.payer);
        let needed = !example.params.terms().construction.has_script_refund();
        let payee = needed.then(|| spend.sign(&example.payee));
        RefundTx::complete(spend, payer, payee).unwrap()
    }

    fn payment(example: &Example, funding: &FundingTx) -> PaymentTx {
        let balance = example.params.balance(PAID).unwrap();
        let spend = SpendTemplate::payment(&example.params, funding.outpoint(), &balance);
        PaymentTx::new(balance, spend.sign(&example.payer))
    }

    /// At another feerate, and so with other outputs.
    fn settlement(example: &Example, funding: &FundingTx) -> SettlementTx {
        let feerate = FeeRate::from_sat_per_kwu(2_500);
        let balance = example.params.balance_at(PAID, feerate).unwrap();
        let spend = SpendTemplate::settlement(&example.params, funding.outpoint(), &balance);
        let payment = PaymentTx::new(balance, spend.sign(&example.payer));
        payment
            .settle(&example.params, funding.outpoint(), &example.payee)
            .unwrap()
    }

    fn cooperative(example: &Example, funding: &FundingTx) -> Option<SettlementTx> {
        let key = example.params.aggregate_key()?;
        let feerate = example.params.terms().feerate;
        let balance = example.params.cooperative_balance(PAID, feerate).unwrap();
        let spend = SpendTemplate::cooperative(&example.params, funding.outpoint(), &balance);
        let seed = NonceSeed::new([9; 32]);
        let nonce = SecretNonce::generate(seed, &example.payee, key, funding.outpoint());
        let (theirs, part) = key
            .sign_with(&example.payer, &nonce.public(), spend.digest())
            .unwrap();
        let signature = key
            .complete(nonce, &example.payee, &theirs, &part, spend.digest())
            .unwrap();
        Some(SettlementTx::cooperative(balance, spend, signature).unwrap())
    }

    /// There and back through its text, and then what miniscript makes of it without knowing anything of channels.
    fn finish(psbt: &Psbt) -> Result<Transaction, String> {
        let read: Psbt = psbt.to_string().parse().unwrap();
        assert_eq!(read, *psbt);
        let done = read
            .finalize(&SECP)
            .map_err(|(_, errors)| format!("{errors:?}"))?;
        done.extract(&SECP).map_err(|error| error.to_string())
    }

    /// What a wallet that holds this key does with a PSBT.
    fn sign_elsewhere(psbt: &mut Psbt, key: &ChannelKey) {
        let secret = SecretKey::from_slice(&key.secret_bytes()).unwrap();
        let private = PrivateKey::new(secret, NetworkKind::Test);
        let (xonly, _) = key.public_key().x_only_public_key();
        let full = BTreeMap::from([(bitcoin::PublicKey::new(key.public_key()), private)]);
        let signed = if psbt.inputs[0].tap_internal_key.is_some() {
            psbt.sign(&BTreeMap::from([(xonly, private)]), &SECP)
        } else {
            psbt.sign(&full, &SECP)
        };
        signed.unwrap();
    }

    fn case(example: &Example) -> String {
        let terms = example.params.terms();
        format!("{}, {}", terms.construction, terms.protocol)
    }

    #[test]
    fn what_is_finalised_elsewhere_is_the_same_to_the_byte() {
        for example in examples() {
            let (params, case) = (&example.params, case(&example));
            let funding = funding(params);
            let refund = refund(&example, &funding);
            assert_eq!(
                finish(&refund.psbt(params, &funding)).as_ref(),
                Ok(refund.tx()),
                "{case}"
            );
            let payment = payment(&example, &funding);
            let redeemed = payment
                .redeem(params, funding.outpoint(), &example.payee)
                .unwrap();
            let settlement = settlement(&example, &funding);
            for spend in [redeemed, settlement]
                .into_iter()
                .chain(cooperative(&example, &funding))
            {
                assert_eq!(
                    finish(&spend.psbt(params, &funding)).as_ref(),
                    Ok(spend.tx()),
                    "{case}"
                );
            }
        }
    }

    #[test]
    fn a_payment_is_finished_by_whoever_holds_the_payees_key() {
        for example in examples() {
            let (params, case) = (&example.params, case(&example));
            let funding = funding(params);
            let payment = payment(&example, &funding);
            let mut psbt = payment.psbt(params, &funding);
            finish(&psbt).expect_err("the payee has not signed");
            sign_elsewhere(&mut psbt, &example.payee);
            let finished = finish(&psbt).unwrap_or_else(|error| panic!("{case}: {error}"));
            let redeemed = payment
                .redeem(params, funding.outpoint(), &example.payee)
                .unwrap();
            // Other signers of BIP 340 may use other auxiliary randomness.
            if params.scripts().scheme() == Scheme::Ecdsa {
                assert_eq!(finished, *redeemed.tx(), "{case}");
            }
            assert_eq!(finished.compute_txid(), redeemed.tx().compute_txid(), "{case}");
            assert_eq!(finished.weight(), redeemed.tx().weight(), "{case}");
        }
    }
}
