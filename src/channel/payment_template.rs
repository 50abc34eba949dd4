use bitcoin::secp256k1::Message;
use bitcoin::{Amount, OutPoint};

use super::amount::Balance;
use super::digest::DigestTemplate;
use super::keys::{ChannelKey, Scheme, SignatureError, Signer, UnverifiedSignature, VerifiedSignature};
use super::params::ChannelParams;
use super::transaction::{outputs, PaymentTx, SpendTemplate};

/// What all payments of a channel have in common, made once, so that a payment costs little more than its signature.
///
/// It signs and checks what [`SpendTemplate::payment`] would, without a transaction.
#[derive(Debug)]
pub(crate) struct PaymentTemplate {
    digest: DigestTemplate,
    scheme: Scheme,
    payer: Signer,
}

impl PaymentTemplate {
    pub fn new(params: &ChannelParams, funding: OutPoint) -> Self {
        let nothing = params
            .balance(Amount::ZERO)
            .expect("the capacity was large enough when the parameters were made");
        let spend = SpendTemplate::payment(params, funding, &nothing);
        let scheme = params.scripts().scheme();
        Self {
            digest: params
                .scripts()
                .template(spend.unsigned(), &params.funding_output()),
            scheme,
            payer: Signer::new(scheme, params.payer_key().to_public_key()),
        }
    }

    pub fn sign(&self, params: &ChannelParams, balance: &Balance, key: &ChannelKey) -> VerifiedSignature {
        key.sign(self.scheme, &self.digest(params, balance))
    }

    pub fn verify(
        &self,
        params: &ChannelParams,
        balance: Balance,
        signature: UnverifiedSignature,
    ) -> Result<PaymentTx, SignatureError> {
        let payer = signature.verify(&self.digest(params, &balance), &self.payer)?;
        Ok(PaymentTx::new(balance, payer))
    }

    fn digest(&self, params: &ChannelParams, balance: &Balance) -> Message {
        self.digest.digest(outputs(params, balance))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::Txid;
    use proptest::prelude::*;

    use super::*;
    use crate::channel::test_support::example_on;
    use crate::channel::{Construction, Protocol};

    const DUST: u64 = 294;

    /// Sums to the payee, or what is left for the payer if `true`: around the limits of dust, and any.
    fn sum() -> impl Strategy<Value = (bool, Amount)> {
        let sat = prop_oneof![0..=1_u64, DUST - 1..=DUST, 0..=900_000_u64];
        (any::<bool>(), sat.prop_map(Amount::from_sat))
    }

    fn paid(params: &ChannelParams, (left, sum): (bool, Amount)) -> Amount {
        if left {
            params.spendable() - sum
        } else {
            sum
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_payment_by_template_signs_the_transaction(
            protocol in prop::sample::select(&Protocol::ALL[..]),
            txid in any::<[u8; 32]>(),
            vout in any::<u32>(),
            sum in sum(),
        ) {
            let funding = OutPoint::new(Txid::from_byte_array(txid), vout);
            for construction in Construction::ALL {
                let example = example_on(construction, protocol);
                let params = &example.params;
                let balance = params.balance(paid(params, sum)).expect("spendable");
                let template = PaymentTemplate::new(params, funding);
                let spend = SpendTemplate::payment(params, funding, &balance);
                prop_assert_eq!(
                    template.digest(params, &balance), *spend.digest(),
                    "{} {} with {} paid", construction, protocol, balance.paid
                );
                let signature = template.sign(params, &balance, &example.payer).to_unverified();
                prop_assert!(spend.verify_payer(signature).is_ok());
                prop_assert!(template.verify(params, balance, signature).is_ok());
            }
        }
    }

    /// The limits of dust that the property test is about are those of the payouts.
    #[test]
    fn outputs_come_and_go_at_the_limits() {
        let params = example_on(Construction::P2wsh, Protocol::Example7).params;
        for (left, sat, outputs_then) in [
            (false, DUST - 1, 1),
            (false, DUST, 2),
            (true, DUST - 1, 1),
            (true, DUST, 2),
        ] {
            let paid = paid(&params, (left, Amount::from_sat(sat)));
            let balance = params.balance(paid).expect("spendable");
            assert_eq!(
                outputs(&params, &balance).count(),
                outputs_then,
                "{paid} of {}",
                params.spendable()
            );
        }
    }
}
