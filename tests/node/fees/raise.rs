//! The agreed feerate is no longer enough, and either side raises it alone.

use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache};
use bitcoin::transaction::InputWeightPrediction;
use bitcoin::{FeeRate, ScriptBuf, TapSighashType, Transaction, Witness};
use spilman::channel::{ChildTx, Construction, Cpfp, CpfpError, CpfpPackage, Event};
use spilman::regtest::{CoinKind, Regtest, RejectReason};

use super::{asked, cast, per_vb, sat, start_at_least, wallet, Channel, Side};

/// 1. Alone, the parent is refused.
/// 2. With a child that lifts both to a little less than the node asks, it is refused still.
/// 3. With one that lifts them to what it asks, both are accepted and mined.
fn raise(
    chain: &Regtest,
    channel: &Channel,
    side: Side,
    parent: &Transaction,
    child: impl Fn(FeeRate) -> Result<ChildTx, CpfpError>,
) {
    let node = chain.node();
    let at = format!("{} {side:?}", channel.construction());
    let verdict = node.submit(parent).expect("verdict");
    assert!(verdict.rejected_for(RejectReason::MinRelayFee), "{at}: {verdict}");

    let package = |feerate| -> CpfpPackage {
        let child = child(feerate).unwrap_or_else(|error| panic!("{at}: {error}"));
        let signed = channel.sign_child(side, &child, parent);
        assert_eq!(signed.version, parent.version, "{at}");
        child.complete(signed).expect("it reaches the feerate")
    };
    let little = package(per_vb(4));
    let verdict = node.submit_package(&little.transactions()).expect("verdict");
    assert!(!verdict.is_accepted(), "{at}: {verdict:?}");
    assert_eq!(node.mempool().expect("mempool"), [], "{at}");

    let enough = package(asked());
    let (least, most) = (
        asked(),
        FeeRate::from_sat_per_kwu(asked().to_sat_per_kwu() * 102 / 100),
    );
    let feerate = enough.feerate();
    assert!(
        least <= feerate && feerate <= most,
        "{at}: {feerate} is not from {least} to {most} sat/kwu"
    );
    let txids = node
        .submit_package(&enough.transactions())
        .expect("verdict")
        .expect_accepted();
    assert_eq!(chain.mine(1).expect("a block")[0].txids, txids, "{at}");
}

#[test]
fn the_payee_raises_its_settlement() {
    let chain = start_at_least(asked());
    for construction in Construction::ALL {
        let mut channel = cast(&chain, construction).open(&chain);
        channel.pay(sat(300_000));
        let settlement = channel.redeemable();
        let child = |feerate| Cpfp::new(feerate, wallet()).settlement(channel.params(), &settlement);
        raise(&chain, &channel, Side::Payee, settlement.tx(), child);

        // And the one that the payer signed: with one signature where that can be.
        let mut channel = cast(&chain, construction).open(&chain);
        channel.pay(sat(300_000));
        channel.tell(Side::Payer, Event::Close).expect("closed");
        let settlement = channel.pair.payee.settlement().expect("signed").clone();
        let child = |feerate| Cpfp::new(feerate, wallet()).settlement(channel.params(), &settlement);
        raise(&chain, &channel, Side::Payee, settlement.tx(), child);
    }
}

#[test]
fn the_payer_raises_its_refund() {
    let chain = start_at_least(asked());
    let open = |construction| cast(&chain, construction).open(&chain);
    let channels = Construction::ALL.map(open);
    // A day after the last of them.
    chain.mine(150).expect("blocks");
    for channel in &channels {
        let refund = channel.pair.payer.refund();
        let child = |feerate| Cpfp::new(feerate, wallet()).refund(channel.params(), refund);
        raise(&chain, channel, Side::Payer, refund.tx(), child);
    }
}

/// A payout script for a key, how a spend of it is signed unless the harness knows, and what has to be said of its size.
type Kind = (
    &'static str,
    fn(&SecretKey) -> ScriptBuf,
    Option<fn(&SecretKey, &ChildTx) -> Witness>,
    Option<InputWeightPrediction>,
);

fn key_output(key: &SecretKey) -> ScriptBuf {
    let secp = Secp256k1::new();
    ScriptBuf::new_p2tr(&secp, key.x_only_public_key(&secp).0, None)
}

fn key_path(key: &SecretKey, child: &ChildTx) -> Witness {
    let secp = Secp256k1::new();
    let prevouts = [child.prevout()];
    let hash = SighashCache::new(child.unsigned())
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&prevouts), TapSighashType::Default)
        .expect("input 0");
    let pair = Keypair::from_secret_key(&secp, key).tap_tweak(&secp, None);
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &pair.to_keypair());
    Witness::from_slice(&[signature.serialize()])
}

fn checksig(key: &SecretKey) -> ScriptBuf {
    let public = bitcoin::PublicKey::new(key.public_key(&Secp256k1::new()));
    bitcoin::script::Builder::new()
        .push_key(&public)
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

fn script_path(key: &SecretKey, child: &ChildTx) -> Witness {
    let (script, value) = (checksig(key), child.prevout().value);
    let hash = SighashCache::new(child.unsigned())
        .p2wsh_signature_hash(0, &script, value, EcdsaSighashType::All)
        .expect("input 0");
    let signature = Secp256k1::new().sign_ecdsa(&Message::from(hash), key);
    let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
    Witness::from_slice(&[signature.to_vec(), script.into_bytes()])
}

/// A payout of any kind can pay for its parent; how large an input is that spends a script, the wallet has to say.
#[test]
fn a_payout_of_any_kind_can_pay() {
    let chain = start_at_least(asked());
    let kinds: [Kind; 3] = [
        ("p2pkh", |key| CoinKind::Legacy.script(key), None, None),
        ("p2tr", key_output, Some(key_path), None),
        (
            "p2wsh",
            |key| checksig(key).to_p2wsh(),
            Some(script_path),
            Some(InputWeightPrediction::from_slice(0, &[72, 35])),
        ),
    ];
    for (kind, script, wallet_of, input) in kinds {
        let mut case = cast(&chain, Construction::P2wsh);
        case.setup.payee.payout = script(&case.setup.payee.secret);
        let mut channel = case.open(&chain);
        channel.pay(sat(300_000));
        let settlement = channel.redeemable();
        let mut cpfp = Cpfp::new(asked(), wallet());
        if let Some(input) = input {
            let unknown = cpfp.settlement(channel.params(), &settlement);
            let script = channel.cast.setup.payee.payout.clone();
            assert_eq!(unknown, Err(CpfpError::UnknownInput { script }), "{kind}");
            cpfp = cpfp.input(input);
        }
        let child = cpfp.settlement(channel.params(), &settlement).expect("a child");
        let signed = match wallet_of {
            None => channel.sign_child(Side::Payee, &child, settlement.tx()),
            Some(wallet) => {
                let mut tx = child.unsigned().clone();
                tx.input[0].witness = wallet(&channel.cast.setup.payee.secret, &child);
                tx
            }
        };
        let package = child
            .complete(signed)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let verdict = chain
            .node()
            .submit_package(&package.transactions())
            .expect("verdict");
        assert!(verdict.is_accepted(), "{kind}: {verdict:?}");
        assert!(package.feerate() >= asked(), "{kind}: {}", package.feerate());
    }
}
