//! How a one-way channel loses money, on real nodes: each attack works against a party that checks less, and is
//! refused by the parties here.

mod locks;
mod scripts;

use crate::common::assert_matches;
use crate::common::cast::{sat, start, tip, Cast};
use crate::common::channel::Channel;
use crate::common::judge::Judge as _;
use crate::common::spend;
use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{Amount, FeeRate, Sequence};
use spilman::channel::{
    AcceptedProposal, ApplyError, Construction, Envelope, FundedOpening, Message, Protocol, RefundError,
    Refusal, SignatureError, Stage, Terms, UnverifiedSignature,
};
use spilman::regtest::{Regtest, RejectReason};
use spilman::sim::AtRefund;
use spilman::transcript::Side;
use spilman::wire;

/// Example 7 on this construction.
fn channel_on(chain: &Regtest, construction: Construction, label: &str) -> Channel {
    let label = format!("{label}/{construction}");
    Cast::new(chain, &label, Protocol::Example7, sat(100_000))
        .on(construction)
        .open(chain)
}

fn co_signed() -> impl Iterator<Item = Construction> {
    let all = Construction::ALL.into_iter();
    all.filter(|construction| !construction.has_script_refund())
}

fn channel(chain: &Regtest, label: &str, capacity: u64) -> Channel {
    Cast::new(chain, label, Protocol::Example7, sat(capacity)).open(chain)
}

/// What was refused.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, ApplyError>) -> Refusal {
    match result {
        Err(ApplyError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The 64 bytes of a payment message, changed.
fn with_signature(mut envelope: Envelope, compact: [u8; 64]) -> Envelope {
    if let Message::Payment { signature: sent, .. } = &mut envelope.message {
        *sent = UnverifiedSignature::from_compact(compact);
    }
    envelope
}

/// 1. The payer asks for a refund with a final sequence, and the payee refuses to sign it.
/// 2. A naive payee would sign it: ten blocks before the lock the node accepts it.
/// 3. The same refund with the agreed sequence waits.
#[test]
fn a_final_sequence_disables_the_refunds_lock() {
    let chain = start();
    for construction in co_signed() {
        let label = format!("final-sequence/{construction}");
        let cast = Cast::new(&chain, &label, Protocol::Example7, sat(100_000)).on(construction);
        let AtRefund { payer, payee } = cast.hold(&chain).state;
        let (FundedOpening::CoSigned(_, mut request), AcceptedProposal::SignsRefund(payee)) = (payer, payee)
        else {
            panic!("{construction}: a refund in the script")
        };
        let Message::RefundRequest { tx } = &mut request.message else {
            panic!("a refund request")
        };
        tx.input[0].sequence = Sequence::MAX;
        let refused = payee
            .sign_refund(request, tip(&chain))
            .map(drop)
            .expect_err("refused");
        let (expected, received) = (Sequence::ENABLE_LOCKTIME_NO_RBF, Sequence::MAX);
        assert_eq!(
            refused,
            Refusal::Refund(RefundError::FinalSequence { expected, received }),
            "{construction}"
        );

        let channel = cast.open(&chain);
        let lock = channel.params().terms().refund_lock.to_lock_time();
        let early = LockTime::from_height(lock.to_consensus_u32() - 10).expect("a height");
        chain.make_final(early).expect("blocks");
        assert_eq!(chain.tip().expect("tip").height + 10, lock.to_consensus_u32());
        let node = chain.node();
        node.accepts(&channel.refund(lock, Sequence::MAX));
        let locked = channel.refund(lock, Sequence::ENABLE_LOCKTIME_NO_RBF);
        assert_eq!(
            &locked,
            channel.pair.payer.refund().tx(),
            "the same as the payer's own"
        );
        node.rejects(&locked, RejectReason::NonFinal);
    }
}

/// 1. The payer sends a payment with the other S. The payee refuses it and holds what it held before.
/// 2. A naive payee would complete it: no node relays the settlement.
/// 3. A miner could still include it: it is valid, so no consensus check would have found it.
#[test]
fn a_high_s_payment_is_refused_since_no_node_relays_it() {
    let chain = start();
    // BIP 340 leaves one way to write a signature: Taproot has no other S.
    let ecdsa = |construction: &Construction| *construction != Construction::Taproot;
    for construction in Construction::ALL.into_iter().filter(ecdsa) {
        let mut channel = channel_on(&chain, construction, "high-s");
        channel.pay(sat(10_000));
        let honest = channel.sign(sat(10_000));
        let Message::Payment { signature, .. } = &honest.message else {
            panic!("a payment")
        };
        let low = ecdsa::Signature::from_compact(&signature.to_compact()).expect("r and s");
        let high = spend::high_s(&spend::ecdsa_bytes(low, 1));
        let sent = with_signature(honest.clone(), spend::compact(channel.params(), &high));
        let refused = refusal(channel.receive(sent));
        assert_matches!(
            refused,
            Refusal::Signature(SignatureError::HighS { .. }),
            "{construction}"
        );
        assert_eq!(channel.pair.payee.paid(), sat(10_000), "{construction}");

        channel
            .receive(honest)
            .expect("the same with a low S is accepted");
        let tx = channel.payment();
        let [_, payee] = channel.signatures(&tx);
        let naive = spend::finish(channel.params(), tx, [high, payee]);
        let verdict = chain.node().test_accept(&naive).expect("verdict");
        let words = &verdict.expect_rejected(RejectReason::ScriptFailed).words;
        assert!(
            words.contains("S value is unnecessarily high"),
            "{construction}: {words}"
        );
        chain
            .mine_exactly(std::slice::from_ref(&naive))
            .expect("valid in a block");
        chain.node().rejects(&naive, RejectReason::AlreadyKnown);
    }
}

/// 1. The node accepts a spend with a signature that commits to no output: hash types are the parties' business.
/// 2. Such a signature, sent as a payment, is no signature over the agreed transaction.
/// 3. A hash type cannot even be sent: there are 64 bytes for a signature, and no more.
#[test]
fn a_signature_of_another_hash_type_is_refused() {
    let chain = start();
    for construction in Construction::ALL {
        let mut channel = channel_on(&chain, construction, "hash-type");
        channel.pay(sat(10_000));
        let fair = channel.payment();
        let loose = spend::sign_nothing(channel.params(), &fair, &channel.keys()[0]);
        let mut greedy = fair.clone();
        greedy.output = vec![channel.to_payee(sat(99_000))];
        let own = spend::sign(channel.params(), &greedy, &channel.keys()[1]);
        let greedy = spend::finish(channel.params(), greedy, [loose.clone(), own]);
        chain.node().accepts(&greedy);

        let payment = channel.sign(sat(10_000));
        let sent = with_signature(payment.clone(), spend::compact(channel.params(), &loose));
        let refused = refusal(channel.receive(sent));
        assert_matches!(
            refused,
            Refusal::Signature(SignatureError::Wrong { .. }),
            "{construction}"
        );
        assert_eq!(channel.pair.payee.paid(), sat(10_000), "{construction}");

        let mut bytes = wire::encode(&payment);
        let length = bytes.len() - 65;
        assert_eq!(bytes[length], 64, "the length of the last field");
        bytes[length] = 65;
        bytes.push(EcdsaSighashType::NonePlusAnyoneCanPay as u8);
        let error = wire::decode(&bytes).expect_err("too long");
        assert!(error.to_string().contains("signature"), "{error}");
    }
}

/// The property that must hold: every payment that was ever accepted can be settled, and pays what was promised,
/// at no less than the agreed feerate.
#[test]
fn every_accepted_payment_can_be_settled() {
    let chain = start();
    let terms = [
        ("sums", 1_000_000, Terms::FEERATE),
        ("small", 10_000, FeeRate::from_sat_per_kwu(1_777)),
    ];
    for (construction, (label, capacity, feerate)) in Construction::ALL
        .into_iter()
        .flat_map(|construction| terms.map(|terms| (construction, terms)))
    {
        let label = format!("{label}/{construction}");
        let mut cast = Cast::new(&chain, &label, Protocol::Example7, sat(capacity)).on(construction);
        cast.setup.terms.feerate = feerate;
        let mut channel = cast.open(&chain);
        let (spendable, dust) = (channel.params().spendable(), channel.params().payee_dust());
        assert_eq!(dust, sat(294));
        let one = Amount::ONE_SAT;
        let sums = [
            one,
            dust - one,
            dust,
            dust + one,
            spendable / 2,
            spendable - dust - one,
            spendable - dust,
            spendable - dust + one,
            spendable - one,
            spendable,
        ];
        for sum in sums {
            let payment = channel.pay(sum - channel.pair.payee.paid());
            let (tx, balance) = (payment.tx(), payment.balance());
            let at = format!("{construction}: {sum} of {capacity} at {feerate} sat/kwu");
            let verdict = chain.node().test_accept(tx).expect("verdict");
            assert!(verdict.is_accepted(), "{at}: {verdict:?}");

            assert_eq!(balance.is_enforceable(), sum >= dust, "{at}");
            let change = spendable - sum;
            let mut promised = Vec::new();
            promised.extend((change >= dust).then(|| channel.to_payer(change)));
            promised.extend((sum >= dust).then(|| channel.to_payee(sum)));
            assert_eq!(tx.output, promised, "{at}");

            let paid_out: Amount = tx.output.iter().map(|output| output.value).sum();
            let fee = sat(capacity) - paid_out;
            assert_eq!(fee, balance.fee_on_chain(), "{at}");
            let least = feerate.fee_wu(tx.weight()).expect("a fee");
            assert!(fee >= least, "{at}: fee {fee}, agreed at least {least}");
        }
    }
}

/// 1. Two channels with the same number and even the same keys; only the funding output differs.
/// 2. A payment of the first is refused by the second, whatever the sum.
/// 3. The node agrees: moved to the other output, its signatures sign nothing.
#[test]
fn a_payment_for_another_channel_is_refused() {
    let chain = start();
    let (mut first, mut second) = (
        channel(&chain, "twice", 100_000),
        channel(&chain, "twice", 100_000),
    );
    assert_eq!(first.params().funding_script(), second.params().funding_script());
    assert_ne!(
        first.pair.payee.funding().outpoint(),
        second.pair.payee.funding().outpoint()
    );
    let payment = first.sign(sat(10_000));
    let refused = refusal(second.receive(payment.clone()));
    assert_matches!(refused, Refusal::Signature(SignatureError::Wrong { .. }));
    assert_eq!(second.pair.payee.paid(), Amount::ZERO);

    first.receive(payment).expect("accepted where it belongs");
    let mut moved = first.redeemable().tx().clone();
    chain.node().accepts(&moved);
    moved.input[0].previous_output = second.pair.payee.funding().outpoint();
    chain.node().rejects(&moved, RejectReason::ScriptFailed);
}

/// 1. One confirmation is enough for this payee, and a payment is accepted.
/// 2. The block is reorganised away, and a double spend of the payer's coin is mined in its place.
/// 3. The payee suspends: no payment counts any more, and what it holds would connect to nothing.
#[test]
fn a_double_spent_funding_transaction_suspends_the_channel() {
    let chain = start();
    let mut cast = Cast::new(&chain, "double-spend", Protocol::Example7, sat(100_000));
    cast.limit(|limits| limits.confirmations = 1..=12);
    let coin = cast.coin.clone();
    let mut channel = cast.open(&chain);
    let held = channel.pay(sat(10_000));
    chain.node().accepts(held.tx());

    let height = chain.tip().expect("tip").height;
    let block = chain
        .node()
        .block_hash_at(height - 2)
        .expect("the funding's block");
    chain.node().invalidate_block(block).expect("reorganised");
    let double = coin
        .spend(vec![channel.to_payer(sat(90_000))])
        .expect("the same coin");
    chain.mine_exactly(&[double]).expect("mined instead");
    let funding = channel.pair.payee.funding().clone();
    assert_eq!(
        chain
            .node()
            .confirmed_utxo(funding.outpoint())
            .expect("an answer"),
        None
    );
    chain.node().rejects(funding.tx(), RejectReason::MissingInputs);

    channel.poll_as(Side::Payee);
    assert_eq!(channel.pair.payee.stage(), Stage::AwaitingFunding);
    let payment = channel.sign(sat(10_000));
    assert_eq!(channel.receive(payment), Ok(Vec::new()), "it is not acknowledged");
    assert_eq!(
        channel.pair.payee.paid(),
        sat(10_000),
        "what was accepted before, and no more"
    );
    chain.node().rejects(held.tx(), RejectReason::MissingInputs);
}

/// Both locks have passed, and refund and payment meet in the mempool: at the same feerate the first one stays, at a
/// higher one the second replaces it, whichever side made it.
#[test]
fn at_the_lock_the_first_wins_unless_the_second_pays_more() {
    let chain = start();
    let mut channels = [
        channel(&chain, "refund-first", 100_000),
        channel(&chain, "payment-first", 100_000),
    ];
    let payments = channels
        .each_mut()
        .map(|channel| channel.pay(sat(40_000)).tx().clone());
    let lock = channels[1].params().terms().refund_lock.to_lock_time();
    chain.make_final(lock).expect("blocks");
    let node = chain.node();
    let refund = |channel: &Channel| channel.pair.payer.refund().tx().clone();

    // The refund is first.
    node.broadcasts(&refund(&channels[0]));
    node.rejects_broadcast(&payments[0], RejectReason::InsufficientFee);
    let from = channels[0].pair.payee.funding().outpoint();
    let richer = vec![
        channels[0].to_payer(sat(58_000)),
        channels[0].to_payee(sat(40_000)),
    ];
    let richer = channels[0].both_sign(spend::unsigned(from, LockTime::ZERO, Sequence::MAX, richer));
    node.broadcasts(&richer);
    assert_eq!(
        node.mempool().expect("mempool"),
        [richer.compute_txid()],
        "the refund is replaced"
    );

    // The payment is first.
    chain.mine(1).expect("a block");
    node.broadcasts(&payments[1]);
    node.rejects_broadcast(&refund(&channels[1]), RejectReason::InsufficientFee);
    let from = channels[1].pair.payee.funding().outpoint();
    let richer = vec![channels[1].to_payer(sat(98_000))];
    let sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    let richer = channels[1].both_sign(spend::unsigned(from, lock, sequence, richer));
    node.broadcasts(&richer);
    assert_eq!(
        node.mempool().expect("mempool"),
        [richer.compute_txid()],
        "the payment is replaced"
    );
}

/// The type that carries signatures holds any 64 bytes and nothing else.
#[test]
fn nonsense_is_no_signature() {
    let chain = start();
    let mut channel = channel(&chain, "nonsense", 100_000);
    for (bytes, out_of_range) in [([0_u8; 64], false), ([0xff; 64], true)] {
        let mut payment = channel.sign(sat(1_000));
        if let Message::Payment { signature, .. } = &mut payment.message {
            *signature = UnverifiedSignature::from_compact(bytes);
        }
        let refused = refusal(channel.receive(payment));
        let found = matches!(refused, Refusal::Signature(SignatureError::OutOfRange { .. }));
        assert!(
            matches!(refused, Refusal::Signature(_)) && found == out_of_range,
            "{refused}"
        );
    }
    assert_eq!(channel.pair.payee.paid(), Amount::ZERO);
}
