//! Everything that a peer can get wrong: one table. Each row takes the message that an honest peer would
//! send at some stage, changes it in one way, and says how the receiver has to refuse it.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, Txid, Witness};
use spilman::channel::{
    ApplyError, Capacity, ChannelId, ClosingMargin, Confirmation, Envelope, Event, Expiry, Message, PayeeKey,
    PayerKey, Protocol, Reason, Refusal, Stage, Terms, UnverifiedSignature,
};

use crate::pair::{assert_spends, key, payout, sat, signature, tip, Case, Pair, Side, HEIGHT, MTP};
use Protocol::{Bond, Example7, SteppedLocktime};
use Side::{Payee, Payer};
use Stage::{AwaitingFunding, Closing, Open, Proposing, Protected, SigningRefund};

/// What a mutation may look at, and how it may set the scene.
struct World {
    /// Once the opening is done.
    pair: Option<Pair>,
}

impl World {
    fn pair(&mut self) -> &mut Pair {
        self.pair.as_mut().expect("the stage is after the opening")
    }
}

type Mutation = fn(&mut World, &mut Envelope);

struct Row {
    name: &'static str,
    case: fn() -> Case,
    /// Who refuses.
    by: Side,
    at: Stage,
    mutation: Mutation,
    reason: Reason,
    /// The error names what was wrong, and both values.
    says: &'static [&'static str],
}

/// Takes the honest message of the row's stage, mutates it, delivers it.
fn refuse(row: &Row) -> Refusal {
    let case = (row.case)();
    let mut world = World { pair: None };
    let mut spoil = |mut envelope: Envelope| {
        (row.mutation)(&mut world, &mut envelope);
        envelope
    };
    match (row.by, row.at) {
        (Payee, Proposing) => case.consider(spoil(case.propose().1)).expect_err(row.name),
        (Payer, Proposing) => {
            let (payer, open) = case.propose();
            let accept = case.consider(open).unwrap().1;
            payer.accept(spoil(accept)).expect_err(row.name)
        }
        (Payee, SigningRefund) => {
            let (_, payee, request) = case.held();
            payee
                .sign_refund(spoil(request), case.when_signing)
                .expect_err(row.name)
        }
        (Payer, SigningRefund) => {
            let (payer, payee, request) = case.held();
            let answer = payee.sign_refund(request, case.when_signing).unwrap().1.remove(0);
            payer.verify_refund(spoil(answer)).expect_err(row.name)
        }
        (Payee, Protected) => {
            let (payer, payee, _) = case.protected();
            let tx = case.funding(bitcoin::TxOut {
                value: payee.params().terms().capacity.to_amount(),
                script_pubkey: payee.params().funding_script(),
            });
            drop(payer);
            let honest = Envelope {
                channel: case.id,
                message: Message::Funding { tx },
            };
            payee.receive_funding(spoil(honest)).expect_err(row.name)
        }
        (Payer, Protected) => {
            let (mut payer, _, _, _) = case.released();
            let honest = Envelope {
                channel: case.id,
                message: Message::FundingRequest,
            };
            let refused = payer.apply(Event::Message(spoil(honest)));
            assert_eq!(payer.stage(), Protected, "{}", row.name);
            refusal(row, refused)
        }
        (by, at) => refuse_running(row, by, walk(&case, at)),
    }
}

fn walk(case: &Case, at: Stage) -> Pair {
    let mut pair = if at == AwaitingFunding {
        case.funded()
    } else {
        case.open()
    };
    if at == Closing {
        pair.raw(Payer, Event::Close).unwrap();
        pair.raw(Payee, Event::Close).unwrap();
    }
    pair
}

/// After the opening a refusal changes nothing, and each side keeps its way out.
fn refuse_running(row: &Row, by: Side, pair: Pair) -> Refusal {
    let message = match by {
        Payee => {
            let paid = pair.payee.paid().to_sat() + 100;
            pair.payment(paid, "payer")
        }
        Payer => Message::PaymentAccepted {
            paid: pair.payer.paid(),
        },
    };
    let mut envelope = Envelope {
        channel: pair.payer.params().id(),
        message,
    };
    let mut world = World { pair: Some(pair) };
    (row.mutation)(&mut world, &mut envelope);
    let pair = world.pair();
    assert_eq!(
        [pair.payee.stage(), pair.payer.stage()][usize::from(by == Payer)],
        row.at,
        "{}",
        row.name
    );
    let before = format!("{pair:?}");
    let held = pair.redeemable();
    let refused = pair.raw(by, Event::Message(envelope));
    assert!(
        format!("{pair:?}") == before,
        "{}: {refused:?}, and the state changed",
        row.name
    );
    assert_eq!(pair.redeemable(), held, "{}", row.name);
    if let Some(held) = held {
        assert_spends(pair.payee.params(), held.tx());
    }
    assert_spends(pair.payer.params(), pair.payer.refund().tx());
    ways_out(row, by, pair);
    refusal(row, refused)
}

/// The payee settles what it held, the payer gets its refund, as if nothing had happened.
fn ways_out(row: &Row, by: Side, pair: &mut Pair) {
    let held = pair.redeemable().filter(|held| held.balance().is_enforceable());
    pair.tip = tip(HEIGHT + 5_000, MTP + 5_000 * 600);
    let view = pair.view(1_000, None);
    let actions = pair.raw(by, Event::Chain(view)).unwrap();
    let broadcast = actions.iter().find_map(|action| match action {
        spilman::channel::Action::Broadcast { tx, .. } => Some(tx.clone()),
        _ => None,
    });
    let expected = match by {
        Payer => Some(pair.payer.refund().tx().clone()),
        Payee => held.map(|held| held.tx().clone()),
    };
    if row.at != Closing {
        assert_eq!(broadcast, expected, "{}: what it held before", row.name);
    }
}

fn refusal(row: &Row, result: Result<Vec<spilman::channel::Action>, ApplyError>) -> Refusal {
    match result.expect_err(row.name) {
        ApplyError::Refused(refusal) => refusal,
        error => panic!("{}: {error}", row.name),
    }
}

// The cases.

fn example7() -> Case {
    Case::new(Example7).paying(&[1_000, 1_000])
}

/// With a least payment of 500.
fn dear() -> Case {
    let mut case = example7();
    case.terms.minimum_payment = sat(500);
    case
}

fn bare() -> Case {
    Case::new(Example7)
}

fn stepped() -> Case {
    Case::new(SteppedLocktime).paying(&[1_000, 1_000])
}

fn bond() -> Case {
    Case::new(Bond).paying(&[1_000, 1_000])
}

/// The payee is asked to sign when the lock is 71 blocks ahead, one fewer than it takes.
fn late() -> Case {
    Case {
        when_signing: tip(HEIGHT + 73, MTP),
        ..bare()
    }
}

/// The chain was reorganised, and the lock is 4,033 blocks ahead, one more than the payee takes.
fn early() -> Case {
    let case = bare().expiry(height(HEIGHT + 4_032));
    Case {
        when_signing: tip(HEIGHT - 1, MTP),
        ..case
    }
}

fn height(height: u32) -> Expiry {
    Expiry::from_height(tip(height, MTP).height)
}

fn time(time: u32) -> Expiry {
    Expiry::from_time(tip(0, time).mtp)
}

// The parts of a message.

fn terms(envelope: &mut Envelope) -> &mut Terms {
    match &mut envelope.message {
        Message::Open { terms, .. } => terms,
        other => panic!("{other:?}"),
    }
}

fn tx(envelope: &mut Envelope) -> &mut Transaction {
    match &mut envelope.message {
        Message::RefundRequest { tx } | Message::Funding { tx } => tx,
        other => panic!("{other:?}"),
    }
}

fn compact(envelope: &mut Envelope, change: impl FnOnce(&mut [u8; 64])) {
    match &mut envelope.message {
        Message::Payment { signature, .. }
        | Message::Settlement { signature, .. }
        | Message::RefundSignature { signature } => {
            let mut bytes = signature.to_compact();
            change(&mut bytes);
            *signature = UnverifiedSignature::from_compact(bytes);
        }
        other => panic!("{other:?}"),
    }
}

/// `s` becomes `n - s`: the same signature for consensus, and no node relays it.
fn high_s(bytes: &mut [u8; 64]) {
    let s = bitcoin::secp256k1::SecretKey::from_slice(&bytes[32..])
        .unwrap()
        .negate();
    bytes[32..].copy_from_slice(&s.secret_bytes());
}

fn pays(world: &mut World, envelope: &mut Envelope, paid: u64, label: &str) {
    envelope.message = world.pair().payment(paid, label);
}

const fn row(
    name: &'static str,
    case: fn() -> Case,
    (by, at): (Side, Stage),
    mutation: Mutation,
    reason: Reason,
    says: &'static [&'static str],
) -> Row {
    Row {
        name,
        case,
        by,
        at,
        mutation,
        reason,
        says,
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The proposal: each term just out of the payee's limits, or at odds with another.
    row("capacity low", bare, (Payee, Proposing), |_, e| terms(e).capacity = Capacity::new(sat(9_999)).unwrap(), Reason::TermsOutOfLimits, &["0.00009999", "0.0001"]),
    row("capacity high", || { let mut c = bare(); c.limits.capacity = sat(10_000)..=sat(1_000_000); c }, (Payee, Proposing), |_, e| terms(e).capacity = Capacity::new(sat(1_000_001)).unwrap(), Reason::TermsOutOfLimits, &["0.01000001", "0.01"]),
    row("feerate low", bare, (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(249), Reason::TermsOutOfLimits, &["feerate 249", "250 to 125000"]),
    row("feerate high", bare, (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(125_001), Reason::TermsOutOfLimits, &["feerate 125001", "250 to 125000"]),
    row("dust low", bare, (Payee, Proposing), |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(749), Reason::TermsOutOfLimits, &["dust feerate 749", "750 to 7500"]),
    row("dust high", bare, (Payee, Proposing), |_, e| terms(e).dust_feerate = FeeRate::from_sat_per_kwu(7_501), Reason::TermsOutOfLimits, &["dust feerate 7501", "750 to 7500"]),
    row("height lock near", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 71).into(), Reason::TermsOutOfLimits, &["height 271", "71 ahead", "72 to 4032"]),
    row("height lock far", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT + 4_033).into(), Reason::TermsOutOfLimits, &["4033 ahead", "72 to 4032"]),
    row("height lock passed", bare, (Payee, Proposing), |_, e| terms(e).refund_lock = height(HEIGHT - 1).into(), Reason::TermsOutOfLimits, &["height 199", "0 ahead"]),
    row("time lock near", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 43_199).into(), Reason::TermsOutOfLimits, &["43199 ahead", "43200 to 2419200"]),
    row("time lock far", bond, (Payee, Proposing), |_, e| terms(e).refund_lock = time(MTP + 2_419_201).into(), Reason::TermsOutOfLimits, &["2419201 ahead", "43200 to 2419200"]),
    row("margin low", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(5), Reason::TermsOutOfLimits, &["margin of 5 blocks", "6 blocks to 1008 blocks"]),
    row("margin high", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(1_009), Reason::TermsOutOfLimits, &["margin of 1009 blocks"]),
    row("no room", bare, (Payee, Proposing), |_, e| terms(e).closing_margin = ClosingMargin::from_blocks(141), Reason::TermsOutOfLimits, &["144 ahead", "take 144"]),
    row("no room before the payments' lock", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 3)), Reason::TermsOutOfLimits, &["3 ahead", "take 3"]),
    row("payments' lock too late", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 109)), Reason::TermsOutOfLimits, &["height 309", "36 blocks", "height 344"]),
    row("payments' lock of another kind", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(time(MTP + 50_000)), Reason::TermsOutOfLimits, &["time 1700050000", "height 344"]),
    row("payments' lock missing", stepped, (Payee, Proposing), |_, e| terms(e).payment_expiry = None, Reason::TermsOutOfLimits, &["stepped-locktime", "None"]),
    row("payments' lock unknown here", bare, (Payee, Proposing), |_, e| terms(e).payment_expiry = Some(height(HEIGHT + 100)), Reason::TermsOutOfLimits, &["example-7", "300"]),
    row("payout not standard", bare, (Payee, Proposing), |_, e| if let Message::Open { payer_payout, .. } = &mut e.message { *payer_payout = ScriptBuf::from_bytes(vec![0x51]) }, Reason::TermsOutOfLimits, &["OP_PUSHNUM_1", "P2WPKH"]),
    row("the payee's own key", bare, (Payee, Proposing), |_, e| if let Message::Open { payer_key, .. } = &mut e.message { *payer_key = PayerKey::new(key("payee").public_key()) }, Reason::BadParams, &["same key"]),
    row("fee eats the capacity", || bare().capacity(10_000), (Payee, Proposing), |_, e| terms(e).feerate = FeeRate::from_sat_per_kwu(10_000), Reason::BadParams, &["0.0001", "0.00013868"]),
    row("not a proposal", bare, (Payee, Proposing), |_, e| e.message = Message::Ready, Reason::UnexpectedMessage, &["ready", "proposing"]),

    // The answer.
    row("another channel's answer", bare, (Payer, Proposing), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),
    row("the payer's own key", bare, (Payer, Proposing), |_, e| if let Message::Accept { payee_key, .. } = &mut e.message { *payee_key = PayeeKey::new(key("payer").public_key()) }, Reason::BadParams, &["same key"]),
    row("payee payout not standard", bare, (Payer, Proposing), |_, e| if let Message::Accept { payee_payout, .. } = &mut e.message { *payee_payout = ScriptBuf::new() }, Reason::TermsOutOfLimits, &["not a standard one"]),
    row("no confirmations", bare, (Payer, Proposing), |_, e| if let Message::Accept { confirmation, .. } = &mut e.message { confirmation.depth = 0 }, Reason::TermsOutOfLimits, &["0 confirmations", "1 to 12"]),
    row("too many confirmations", bare, (Payer, Proposing), |_, e| if let Message::Accept { confirmation, .. } = &mut e.message { confirmation.depth = 13 }, Reason::TermsOutOfLimits, &["13 confirmations", "1 to 12"]),
    row("refund signature before the keys", bare, (Payer, Proposing), |_, e| e.message = Message::RefundSignature { signature: UnverifiedSignature::from_compact([1; 64]) }, Reason::UnexpectedMessage, &["refund-signature", "proposing"]),

    // The refund that the payee is asked to sign.
    row("another channel's refund", bare, (Payee, SigningRefund), |_, e| e.channel = ChannelId(0), Reason::WrongChannel, &["channel 0", "channel 7"]),
    row("funding before the refund", bare, (Payee, SigningRefund), |_, e| e.message = Message::Funding { tx: tx(e).clone() }, Reason::UnexpectedMessage, &["funding", "signing the refund"]),
    row("final sequence", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence::MAX, Reason::RefundFinalSequence, &["0xffffffff", "0xfffffffe"]),
    row("replaceable sequence", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence(0xffff_fffd), Reason::RefundTemplate, &["0xfffffffd", "0xfffffffe"]),
    row("relative lock", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].sequence = Sequence(10), Reason::RefundTemplate, &["0x0000000a", "0xfffffffe"]),
    row("no lock", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = LockTime::ZERO, Reason::RefundLock, &["no lock", "height 344"]),
    row("lock one block early", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(343).to_lock_time(), Reason::RefundLock, &["343", "height 344"]),
    row("lock one block late", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(345).to_lock_time(), Reason::RefundLock, &["345", "height 344"]),
    row("time for height", bare, (Payee, SigningRefund), |_, e| tx(e).lock_time = time(MTP + 86_400).to_lock_time(), Reason::RefundLock, &["1700086400", "height 344"]),
    row("height for time", bond, (Payee, SigningRefund), |_, e| tx(e).lock_time = height(344).to_lock_time(), Reason::RefundLock, &["344", "time 1700086400"]),
    row("the tip moved on", late, (Payee, SigningRefund), |_, _| (), Reason::TermsOutOfLimits, &["71 ahead", "72 to 4032"]),
    row("the tip moved back", early, (Payee, SigningRefund), |_, _| (), Reason::TermsOutOfLimits, &["4033 ahead", "72 to 4032"]),
    row("null outpoint", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].previous_output = OutPoint::null(), Reason::RefundTemplate, &["0000:4294967295"]),
    row("no input", bare, (Payee, SigningRefund), |_, e| tx(e).input.clear(), Reason::RefundTemplate, &["0 inputs", "agreed is 1"]),
    row("a second input", bare, (Payee, SigningRefund), |_, e| { let input = tx(e).input[0].clone(); tx(e).input.push(input) }, Reason::RefundTemplate, &["2 inputs", "agreed is 1"]),
    row("no output", bare, (Payee, SigningRefund), |_, e| tx(e).output.clear(), Reason::RefundTemplate, &["0 outputs", "agreed is 1"]),
    row("a second output", bare, (Payee, SigningRefund), |_, e| { let output = tx(e).output[0].clone(); tx(e).output.push(output) }, Reason::RefundTemplate, &["2 outputs", "agreed is 1"]),
    row("foreign script", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].script_pubkey = payout("stranger"), Reason::RefundTemplate, &["OP_0 OP_PUSHBYTES_20", "agreed is"]),
    row("refund less a satoshi", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].value -= sat(1), Reason::RefundTemplate, &["0.00999397", "0.00999398"]),
    row("refund without a fee", bare, (Payee, SigningRefund), |_, e| tx(e).output[0].value = sat(1_000_000), Reason::RefundTemplate, &["0.01000000 BTC", "0.00999398"]),
    row("version 1", bare, (Payee, SigningRefund), |_, e| tx(e).version = Version::ONE, Reason::RefundTemplate, &["version 1", "agreed is 3"]),
    row("already signed", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0]), Reason::RefundTemplate, &["1 bytes", "none"]),
    row("already has a witness", bare, (Payee, SigningRefund), |_, e| tx(e).input[0].witness = Witness::from_slice(&[[0_u8]]), Reason::RefundTemplate, &["3 bytes", "none"]),

    // The payee's signature over the refund.
    row("another channel's signature", bare, (Payer, SigningRefund), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),
    row("ready before the refund", bare, (Payer, SigningRefund), |_, e| e.message = Message::Ready, Reason::UnexpectedMessage, &["ready", "signing the refund"]),
    row("bond asked for before the refund", bond, (Payer, SigningRefund), |_, e| e.message = Message::FundingRequest, Reason::UnexpectedMessage, &["funding-request", "signing the refund"]),
    row("refund signature changed", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b[40] ^= 1), Reason::SignatureWrong, &["is not by key"]),
    row("refund signature high s", bare, (Payer, SigningRefund), |_, e| compact(e, high_s), Reason::SignatureHighS, &["high s"]),
    row("refund signature out of range", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b[..32].fill(0xff)), Reason::SignatureOutOfRange, &["not below the order", "ffffffff"]),
    row("refund signature of zeros", bare, (Payer, SigningRefund), |_, e| compact(e, |b| b.fill(0)), Reason::SignatureWrong, &["is not by key"]),

    // The funding transaction.
    row("another channel's funding", bare, (Payee, Protected), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),
    row("payment before funding", bare, (Payee, Protected), |_, e| e.message = Message::Payment { paid: sat(1), signature: UnverifiedSignature::from_compact([1; 64]) }, Reason::UnexpectedMessage, &["payment", "waiting to fund"]),
    row("T1 of another txid", bare, (Payee, Protected), |_, e| tx(e).output[1].value += sat(1), Reason::FundingMismatch, &["the refund spends", "is "]),
    row("T1 with a malleated script", || Case { legacy_input: true, ..bare() }, (Payee, Protected), |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0]), Reason::FundingMismatch, &["the refund spends"]),
    row("bond: the payee asks twice, or says something else", bond, (Payer, Protected), |_, e| e.message = Message::Ready, Reason::UnexpectedMessage, &["ready", "waiting to fund"]),
    row("bond: another channel's request", bond, (Payer, Protected), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),

    // Before the funding transaction is deep enough.
    row("payment on an unconfirmed channel", bare, (Payee, AwaitingFunding), |_, _| (), Reason::FundingUnconfirmed, &["0 confirmations", "3 are needed"]),
    row("payment one confirmation early", bare, (Payee, AwaitingFunding), |w, _| w.pair().look(Payee, 2, None), Reason::FundingUnconfirmed, &["2 confirmations", "3 are needed"]),
    row("a second funding transaction", bare, (Payee, AwaitingFunding), |w, e| e.message = Message::Funding { tx: w.pair().payer.funding().tx().clone() }, Reason::UnexpectedMessage, &["funding", "to confirm"]),
    row("settlement of a sum that was never paid", bare, (Payee, AwaitingFunding), |w, e| e.message = w.pair().settlement(500, "payer"), Reason::SettlementDiffers, &["0.000005", "0 BTC"]),
    row("acknowledged before the channel is open", bare, (Payer, AwaitingFunding), |_, _| (), Reason::UnexpectedMessage, &["payment-accepted", "to confirm"]),
    row("asked for funding twice", bond, (Payer, AwaitingFunding), |_, e| e.message = Message::FundingRequest, Reason::UnexpectedMessage, &["funding-request"]),
    row("closed before the channel is open", bare, (Payer, AwaitingFunding), |_, e| e.message = Message::Closed { txid: Txid::all_zeros() }, Reason::UnexpectedMessage, &["closed"]),

    // Payments: the amount.
    row("amount falls", example7, (Payee, Open), |w, e| pays(w, e, 1_999, "payer"), Reason::PaidDecreased, &["0.00002", "0.00001999"]),
    row("amount repeats", example7, (Payee, Open), |w, e| pays(w, e, 2_000, "payer"), Reason::PaidRepeated, &["repeats", "0.00002"]),
    row("an old payment again", example7, (Payee, Open), |w, e| pays(w, e, 1_000, "payer"), Reason::PaidDecreased, &["0.00002", "0.00001"]),
    row("nothing is paid", stepped_unpaid, (Payee, Open), |w, e| pays(w, e, 0, "payer"), Reason::PaidRepeated, &["repeats", "0 BTC"]),
    row("the empty start again", bare, (Payee, Open), |w, e| pays(w, e, 0, "payer"), Reason::PaidRepeated, &["repeats", "0 BTC"]),
    row("a satoshi above the capacity", example7, (Payee, Open), |w, e| pays(w, e, 999_337, "payer"), Reason::PaidExceedsCapacity, &["0.00999337", "0.00999336"]),
    row("all the money there is", example7, (Payee, Open), |w, e| pays(w, e, 2_100_000_000_000_000, "payer"), Reason::PaidExceedsCapacity, &["21000000", "0.00999336"]),

    row("less than the least payment", dear, (Payee, Open), |w, e| { let paid = w.pair().payee.paid().to_sat() + 499; pays(w, e, paid, "payer") }, Reason::PaidBelowMinimum, &["0.00000499", "0.00000500"]),

    // Payments: the signature.
    row("signed by a stranger", example7, (Payee, Open), |w, e| pays(w, e, 3_000, "stranger"), Reason::SignatureWrong, &["is not by key"]),
    row("signed by the payee", example7, (Payee, Open), |w, e| pays(w, e, 3_000, "payee"), Reason::SignatureWrong, &["is not by key"]),
    row("signed for another amount", example7, (Payee, Open), |w, e| { pays(w, e, 2_999, "payer"); if let Message::Payment { paid, .. } = &mut e.message { *paid = sat(3_000) } }, Reason::SignatureWrong, &["is not by key"]),
    row("signed for another funding output", example7, (Payee, Open), |w, e| { let signature = w.pair().sign(3_000, None, OutPoint::new(Txid::from_byte_array([3; 32]), 0), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, Reason::SignatureWrong, &["is not by key"]),
    row("signed with a lock", example7, (Payee, Open), |w, e| { let pair = w.pair(); let signature = pair.sign(3_000, Some(height(344)), pair.funding(), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, Reason::SignatureWrong, &["is not by key"]),
    row("signed without the payments' lock", stepped, (Payee, Open), |w, e| { if let Message::Settlement { paid, signature, .. } = w.pair().settlement(3_000, "payer") { e.message = Message::Payment { paid, signature } } }, Reason::SignatureWrong, &["is not by key"]),
    row("the refund's signature for a payment", example7, (Payee, Open), |w, e| { let pair = w.pair(); let signature = signature(pair.payee.params(), pair.payer.refund().tx(), "payer"); e.message = Message::Payment { paid: sat(3_000), signature } }, Reason::SignatureWrong, &["is not by key"]),
    row("high s", example7, (Payee, Open), |_, e| compact(e, high_s), Reason::SignatureHighS, &["high s"]),
    row("r out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[..32].fill(0xff)), Reason::SignatureOutOfRange, &["not below the order", "ffffffff"]),
    row("s out of range", example7, (Payee, Open), |_, e| compact(e, |b| b[32..].fill(0xff)), Reason::SignatureOutOfRange, &["not below the order", "ffffffff"]),
    row("all zero", example7, (Payee, Open), |_, e| compact(e, |b| b.fill(0)), Reason::SignatureWrong, &["0000000000000000", "is not by key"]),
    row("r zero", example7, (Payee, Open), |_, e| compact(e, |b| b[..32].fill(0)), Reason::SignatureWrong, &["is not by key"]),
    row("s zero", example7, (Payee, Open), |_, e| compact(e, |b| b[32..].fill(0)), Reason::SignatureWrong, &["is not by key"]),

    // Payments: the moment, the channel, the kind.
    row("inside the closing margin", bare, (Payee, Open), |w, _| { w.pair().tip = tip(HEIGHT + 108, MTP); w.pair().look(Payee, 100, None) }, Reason::ChannelExpiring, &["36 before", "height 344"]),
    row("inside the closing margin by time", || Case::new(Bond), (Payee, Open), |w, _| { w.pair().tip = tip(900, MTP + 86_400 - 21_600); w.pair().look(Payee, 100, None) }, Reason::ChannelExpiring, &["21600 before", "time 1700086400"]),
    row("after the payments' lock", stepped_unpaid, (Payee, Open), |w, _| { w.pair().tip = tip(HEIGHT + 108, MTP); w.pair().look(Payee, 100, None) }, Reason::ChannelExpiring, &["0 before", "height 308"]),
    row("another channel's payment", example7, (Payee, Open), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),
    row("another proposal", example7, (Payee, Open), |_, e| e.message = example7().propose().1.message, Reason::UnexpectedMessage, &["open", "open"]),
    row("another refund", example7, (Payee, Open), |w, e| e.message = Message::RefundRequest { tx: w.pair().payer.refund().tx().clone() }, Reason::UnexpectedMessage, &["refund-request"]),
    row("the payee's words from the payer: ready", example7, (Payee, Open), |_, e| e.message = Message::Ready, Reason::UnexpectedMessage, &["ready"]),
    row("the payee's words from the payer: accepted", example7, (Payee, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_000) }, Reason::UnexpectedMessage, &["payment-accepted"]),
    row("the payee's words from the payer: request", bond, (Payee, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, Reason::UnexpectedMessage, &["payment-request"]),
    row("the payee's words from the payer: close", example7, (Payee, Open), |_, e| e.message = Message::CloseRequest { feerate: Terms::FEERATE, nonce: None }, Reason::UnexpectedMessage, &["close-request"]),
    row("the payer's words from the payee: payment", example7, (Payer, Open), |w, e| pays(w, e, 3_000, "payer"), Reason::UnexpectedMessage, &["payment", "open"]),
    row("the payer's words from the payee: settlement", example7, (Payer, Open), |w, e| e.message = w.pair().settlement(2_000, "payer"), Reason::UnexpectedMessage, &["settlement"]),
    row("the payer's words from the payee: funding", example7, (Payer, Open), |w, e| e.message = Message::Funding { tx: w.pair().payer.funding().tx().clone() }, Reason::UnexpectedMessage, &["funding"]),
    row("another key", example7, (Payer, Open), |_, e| e.message = Message::Accept { payee_key: PayeeKey::new(key("new").public_key()), payee_payout: payout("new"), confirmation: Confirmation { depth: 3, unconfirmed: Amount::ZERO } }, Reason::UnexpectedMessage, &["accept"]),
    row("another refund signature", example7, (Payer, Open), |_, e| e.message = Message::RefundSignature { signature: UnverifiedSignature::from_compact([1; 64]) }, Reason::UnexpectedMessage, &["refund-signature"]),

    // What the payee says to an open payer.
    row("acknowledged, never sent", example7, (Payer, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_001) }, Reason::AcknowledgedUnsent, &["0.00002001", "0.00002"]),
    row("acknowledged less than before", example7, (Payer, Open), |_, e| e.message = Message::PaymentAccepted { paid: sat(1_999) }, Reason::AcknowledgedUnsent, &["0.00001999", "0.00002"]),
    row("another channel's acknowledgement", example7, (Payer, Open), |_, e| e.channel = ChannelId(8), Reason::WrongChannel, &["channel 8", "channel 7"]),
    row("requested where nobody requests", example7, (Payer, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, Reason::UnexpectedMessage, &["payment-request"]),
    row("requested in the stepped protocol", stepped, (Payer, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(3_000) }, Reason::UnexpectedMessage, &["payment-request"]),
    row("request exceeds", bond, (Payer, Open), |_, e| e.message = Message::PaymentRequest { paid: sat(999_337) }, Reason::PaidExceedsCapacity, &["0.00999337", "0.00999336"]),

    // Closing.
    row("settlement for less", stepped, (Payee, Open), |w, e| e.message = w.pair().settlement(1_999, "payer"), Reason::SettlementDiffers, &["0.00001999", "0.00002"]),
    row("settlement for more", stepped, (Payee, Open), |w, e| e.message = w.pair().settlement(2_001, "payer"), Reason::SettlementDiffers, &["0.00002001", "0.00002"]),
    row("settlement signed by a stranger", stepped, (Payee, Open), |w, e| e.message = w.pair().settlement(2_000, "stranger"), Reason::SignatureWrong, &["is not by key"]),
    row("settlement with the payment's lock", stepped, (Payee, Open), |w, e| if let Message::Payment { paid, signature } = w.pair().payment(2_000, "payer") { e.message = Message::Settlement { paid, feerate: Terms::FEERATE, signature } }, Reason::SignatureWrong, &["is not by key"]),
    row("settlement with a high s", stepped, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); compact(e, high_s) }, Reason::SignatureHighS, &["high s"]),
    row("settlement below the agreed feerate", stepped, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(499) } }, Reason::SettlementFeerate, &["499", "500"]),
    row("settlement at a feerate that the change does not pay", stepped, (Payee, Open), |w, e| { e.message = w.pair().settlement(2_000, "payer"); if let Message::Settlement { feerate, .. } = &mut e.message { *feerate = FeeRate::from_sat_per_kwu(1_000_000) } }, Reason::SettlementFeerate, &["1000000"]),
    row("settlement for less while closing", stepped, (Payee, Closing), |w, e| e.message = w.pair().settlement(1_000, "payer"), Reason::SettlementDiffers, &["0.00001", "0.00002"]),
    row("payment after the settlement", example7, (Payee, Closing), |_, _| (), Reason::UnexpectedMessage, &["payment", "closing"]),
    row("acknowledged unsent while closing", example7, (Payer, Closing), |_, e| e.message = Message::PaymentAccepted { paid: sat(2_001) }, Reason::AcknowledgedUnsent, &["0.00002001", "0.00002"]),
];

fn stepped_unpaid() -> Case {
    Case::new(SteppedLocktime)
}

#[test]
fn every_wrong_message_is_refused_by_name_and_changes_nothing() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let refusal = refuse(row);
        let text = refusal.to_string();
        if refusal.reason() != row.reason || !row.says.iter().all(|words| text.contains(words)) {
            wrong.push(format!(
                "{}: {} ({text}), not {} {:?}",
                row.name,
                refusal.reason(),
                row.reason,
                row.says
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        ROWS.len(),
        wrong.join("\n")
    );
}

/// The table leaves no reason out but those that are none of the state machines'.
#[test]
fn the_table_knows_every_reason() {
    for reason in Reason::ALL {
        // Malformed: bytes that are no message, in tests/wire.rs and tests/service.rs. SpendInvalid: behind the
        // signature check; nothing that passes it is known to fail, see src/channel/verify.rs.
        // PartialSignatureWrong: no construction of this table has one, see tests/protocol/constructions.rs.
        let elsewhere = matches!(
            reason,
            Reason::Malformed | Reason::SpendInvalid | Reason::PartialSignatureWrong
        );
        let here = ROWS.iter().any(|row| row.reason == *reason);
        assert_ne!(here, elsewhere, "{reason}");
    }
}

/// The payee knows the funding transaction by its hash when it signs the refund. Afterwards the payer hands
/// over what the hash stands for, and it is not what was agreed.
#[test]
fn a_refund_of_a_worthless_funding_transaction() {
    type Spoil = fn(&mut Transaction, &mut u32);
    let rows: [(&str, Spoil, &[&str]); 4] = [
        (
            "a satoshi less",
            |tx, _| tx.output[0].value -= sat(1),
            &["0.00999999", "0.01000000"],
        ),
        (
            "a satoshi more",
            |tx, _| tx.output[0].value += sat(1),
            &["0.01000001", "0.01000000"],
        ),
        (
            "the payer's own script",
            |tx, _| tx.output[0].script_pubkey = payout("payer"),
            &["OP_0 OP_PUSHBYTES_20", "OP_HASH160"],
        ),
        (
            "an output that does not exist",
            |_, vout| *vout = 2,
            &["output 2", "2 outputs"],
        ),
    ];
    for (name, spoil, says) in rows {
        let case = bare();
        let (payer, payee, mut request) = case.held();
        let mut funding = case.funding(bitcoin::TxOut {
            value: sat(1_000_000),
            script_pubkey: payee.params().funding_script(),
        });
        let mut vout = 0;
        spoil(&mut funding, &mut vout);
        tx(&mut request).input[0].previous_output = OutPoint::new(funding.compute_txid(), vout);
        let (payee, _) = payee.sign_refund(request, case.now).unwrap();
        let message = Message::Funding { tx: funding };
        let refusal = payee
            .receive_funding(Envelope {
                channel: case.id,
                message,
            })
            .expect_err(name);
        let text = refusal.to_string();
        assert_eq!(refusal.reason(), Reason::FundingMismatch, "{name}: {text}");
        assert!(
            says.iter().all(|words| text.contains(words)),
            "{name}: {text}, not {says:?}"
        );
        drop(payer);
    }
}

/// A slip of the payer's own wallet: the capacity would be locked without a refund.
#[test]
fn the_payer_does_not_hold_a_transaction_that_does_not_fund_the_channel() {
    let case = bare();
    let with = |change: fn(&mut Transaction)| {
        let payer = case.agreed().0;
        let mut tx = case.funding(payer.funding_output());
        change(&mut tx);
        payer.hold(tx).unwrap_err().to_string()
    };
    let missing = with(|tx| tx.output[0].value -= sat(1));
    assert!(missing.contains("no output of 0.01000000 BTC"), "{missing}");
    let twice = with(|tx| tx.output[1] = tx.output[0].clone());
    assert_eq!(twice, "outputs 0 and 1 both fund the channel");
}
