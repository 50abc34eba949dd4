//! Dust at feerates that are no whole number of satoshi for an output: the node rounds up.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, PubkeyHash, ScriptBuf, ScriptHash, TxOut, WPubkeyHash, WScriptHash};
use spilman::channel::{Construction, Cpfp, CpfpError};
use spilman::regtest::{change, CoinKind, Node, Policy, Regtest, RejectReason};

use super::{cast, per_vb, sat, Cast};
use crate::common::judge::Judge as _;

/// 3.004 sat/vB, at which 98 vbytes cost 294.392 satoshi.
const ODD: FeeRate = FeeRate::from_sat_per_kwu(751);

fn start_with_dust(dust: FeeRate) -> Regtest {
    let policy = Policy {
        dust,
        ..Policy::default()
    };
    Regtest::builder()
        .node(Node::builder().policy(policy))
        .start()
        .expect("a node")
}

impl Cast {
    fn dust(mut self, feerate: FeeRate) -> Self {
        self.setup.terms.dust_feerate = feerate;
        self.limit(|limits| limits.dust_feerate = FeeRate::ZERO..=per_vb(1_000));
        self
    }
}

/// 1. One satoshi below the limit, to the payee or to the payer, is no output.
/// 2. At the limit it is one.
/// 3. The node accepts all of these, and so the payee's settlement at the limit.
/// 4. A child that raises it leaves the limit, too.
/// 5. Parties that know no dust make an output of a satoshi less, and the node rejects it.
#[test]
fn a_payment_at_an_odd_dust_limit_is_one_that_the_node_accepts() {
    let chain = start_with_dust(ODD);
    for construction in Construction::ALL {
        let mut channel = cast(&chain, construction).dust(ODD).open(&chain);
        let (limit, spendable) = (channel.params().payee_dust(), channel.params().spendable());
        assert_eq!(limit, sat(295), "{construction}");
        let below = limit - Amount::ONE_SAT;
        for (paid, outputs) in [
            (below, 1),
            (limit, 2),
            (spendable - limit, 2),
            (spendable - below, 1),
        ] {
            channel.pay(paid - channel.pair.payee.paid());
            let payment = channel.redeemable();
            assert_eq!(payment.tx().output.len(), outputs, "{construction}: {paid}");
            chain
                .node()
                .accepts_at(payment.tx(), format_args!("{construction}: {paid}"));
        }

        let mut settled = cast(&chain, construction).dust(ODD).open(&chain);
        settled.pay(limit);
        let settlement = settled.close_at(settled.params().terms().feerate);
        assert_eq!(settlement.balance().to_payee, Some(limit), "{construction}");
        assert!(
            settled
                .pair
                .network
                .broadcasts
                .iter()
                .all(|(.., refused)| refused.is_none()),
            "{construction}: {:?}",
            settled.pair.network.broadcasts
        );
        let child = Cpfp::new(per_vb(5), settled.cast.setup.payer.payout.clone());
        let error = child.settlement(settled.params(), &settlement).unwrap_err();
        let left = matches!(error, CpfpError::OutputTooSmall { dust, .. } if dust == limit);
        assert!(left, "{construction}: {error}");

        let mut careless = cast(&chain, construction).dust(FeeRate::ZERO).open(&chain);
        careless.pay(below);
        let verdict = chain.node().test_accept(careless.redeemable().tx());
        verdict.expect("verdict").expect_rejected(RejectReason::Dust);
    }
}

/// The limit of each form that a payout may have is the node's, from both sides.
#[test]
fn the_limit_of_every_payout_is_that_of_the_node() {
    let forms = [
        ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()),
        ScriptBuf::new_p2sh(&ScriptHash::all_zeros()),
        ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros()),
        ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()),
        p2tr(),
    ];
    for feerate in [751, 249, 1_333, 7_499, 249_999, 1].map(FeeRate::from_sat_per_kwu) {
        let mut chain = start_with_dust(feerate);
        let coin = chain.fund(sat(1_000_000), CoinKind::Segwit).expect("funds");
        for script in &forms {
            let mut case = cast(&chain, Construction::P2wsh).dust(feerate);
            case.setup.payee.payout.clone_from(script);
            let payee = case.agree(&chain).expect("a standard payout").state.payee;
            let limit = payee.params().payee_dust();
            let paying = |value| {
                let output = TxOut {
                    value,
                    script_pubkey: script.clone(),
                };
                let to = coin.output.script_pubkey.clone();
                let rest = change(
                    std::slice::from_ref(&coin),
                    std::slice::from_ref(&output),
                    sat(1_000),
                    to,
                );
                let tx = coin.spend(vec![output, rest.expect("enough")]).expect("enough");
                chain.node().test_accept(&tx).expect("verdict")
            };
            let at = format!("{limit} to {script} at {feerate} sat/kwu");
            let (below, taken) = (paying(limit - Amount::ONE_SAT), paying(limit));
            assert!(
                below.rejected_for(RejectReason::Dust),
                "{at}, a satoshi less: {below}"
            );
            assert!(taken.is_accepted(), "{at}: {taken}");
        }
    }
}

/// To a key that is not the coin's.
fn p2tr() -> ScriptBuf {
    use bitcoin::key::TweakedPublicKey;
    let (key, _) = spilman::channel::ChannelKey::new(spilman::regtest::labelled_key("p2tr"))
        .public_key()
        .x_only_public_key();
    ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(key))
}
