//! The refund that the payee is asked to sign, and the funding transaction.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Witness};

use super::change::{lock_moved, lock_of_other_kind, other_channel, stranger_payout, tx, SAT};
use super::{co_signed, message, refund_in_script, Forger, Forgery};
use crate::channel::{
    Envelope, FundingTx, Message, MessageKind, PayeeKey, PayerKey, RefusalReason, SpendTemplate,
    UnverifiedSignature,
};
use crate::transcript::{MessagePosition, Side};
use crate::wire;

pub(super) const REFUND: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::RefundRequest, 0);
const FUNDING: MessagePosition = MessagePosition::new(Side::Payer, MessageKind::Funding, 0);
const TEMPLATE: RefusalReason = RefusalReason::RefundTemplate;
const LOCK: RefusalReason = RefusalReason::RefundLock;
const MISMATCH: RefusalReason = RefusalReason::FundingMismatch;
const UNEXPECTED: RefusalReason = RefusalReason::UnexpectedMessage;

pub(super) const ALL: &[&[Forgery]] = &[
    REFUND_LOCKS,
    REFUND_INPUTS,
    REFUND_OUTPUTS,
    FUNDINGS,
    INSTEAD_OF_FUNDING,
];

#[rustfmt::skip]
const REFUND_LOCKS: &[Forgery] = &[
    message("refund-final-sequence", "a final sequence, with which the lock means nothing", REFUND, RefusalReason::RefundFinalSequence, &["0xffffffff", "0xfffffffe"], |_, e| tx(e).input[0].sequence = Sequence::MAX),
    message("refund-replaceable-sequence", "the sequence 0xfffffffd", REFUND, TEMPLATE, &["0xfffffffd", "0xfffffffe"], |_, e| tx(e).input[0].sequence = Sequence::ENABLE_RBF_NO_LOCKTIME),
    message("refund-relative-sequence", "a sequence that locks for ten more blocks", REFUND, TEMPLATE, &["0x0000000a", "0xfffffffe"], |_, e| tx(e).input[0].sequence = Sequence::from_height(10)),
    message("refund-no-lock", "no lock at all", REFUND, LOCK, &["no lock", "{lock}"], |_, e| tx(e).lock_time = LockTime::ZERO),
    message("refund-lock-early", "locked one block, or second, less than agreed", REFUND, LOCK, &["{lock}"], |_, e| tx(e).lock_time = lock_moved(tx(e).lock_time, -1)),
    message("refund-lock-late", "locked one block, or second, more than agreed", REFUND, LOCK, &["{lock}"], |_, e| tx(e).lock_time = lock_moved(tx(e).lock_time, 1)),
    message("refund-lock-other-kind", "a time for a height, or a height for a time", REFUND, LOCK, &["{lock}"], |_, e| tx(e).lock_time = lock_of_other_kind(tx(e).lock_time)),
];

#[rustfmt::skip]
const REFUND_INPUTS: &[Forgery] = &[
    message("refund-wrong-channel", "the right refund for another channel", REFUND, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("refund-null-outpoint", "spends what no transaction has", REFUND, TEMPLATE, &["0000:4294967295"], |_, e| tx(e).input[0].previous_output = OutPoint::null()),
    message("refund-two-inputs", "spends a second output", REFUND, TEMPLATE, &["2 inputs", "expected 1"], |_, e| { let mut second = tx(e).input[0].clone(); second.previous_output.vout += 1; tx(e).input.push(second); }),
    message("refund-already-signed", "carries a script for its input", REFUND, TEMPLATE, &["1 bytes"], |_, e| tx(e).input[0].script_sig = ScriptBuf::from_bytes(vec![0])),
    message("refund-with-witness", "carries a witness for its input", REFUND, TEMPLATE, &["3 bytes"], |_, e| tx(e).input[0].witness = Witness::from_slice(&[[0_u8]])),
    message("refund-version-2", "version 2, in which anybody's child can pin it", REFUND, TEMPLATE, &["version 2", "expected 3"], |_, e| tx(e).version = Version::TWO),
    message("refund-replaced-by-funding", "the funding transaction before the refund is signed", REFUND, UNEXPECTED, &["funding", "signing the refund"], |_, e| { let tx = tx(e).clone(); e.message = Message::Funding { tx }; }),
];

#[rustfmt::skip]
const REFUND_OUTPUTS: &[Forgery] = &[
    message("refund-less", "a satoshi less for the payer", REFUND, TEMPLATE, &["{refund-1}", "{refund}"], |_, e| tx(e).output[0].value -= SAT),
    message("refund-more", "a satoshi more for the payer", REFUND, TEMPLATE, &["{refund+1}", "{refund}"], |_, e| tx(e).output[0].value += SAT),
    message("refund-other-script", "pays somebody else", REFUND, TEMPLATE, &["OP_0 OP_PUSHBYTES_20", "expected"], |_, e| tx(e).output[0].script_pubkey = stranger_payout()),
    message("refund-two-outputs", "pays out twice", REFUND, TEMPLATE, &["2 outputs", "expected 1"], |_, e| { let output = tx(e).output[0].clone(); tx(e).output.push(output); }),
    message("refund-no-output", "pays out nothing", REFUND, TEMPLATE, &["0 outputs", "expected 1"], |_, e| tx(e).output.clear()),
];

#[rustfmt::skip]
const FUNDINGS: &[Forgery] = &[
    message("funding-wrong-channel", "the right transaction for another channel", FUNDING, RefusalReason::WrongChannel, &["{other channel}", "{channel}"], |_, e| other_channel(e)),
    message("funding-other-txid", "not the transaction that the refund spends: another lock time", FUNDING, MISMATCH, &["the refund spends"], |_, e| tx(e).lock_time = LockTime::from_consensus(1)).on(co_signed),
    message("funding-less", "a satoshi less than the capacity", FUNDING, MISMATCH, &["{unfunded}"], |f, e| with_output(f, tx(e), |output| output.value -= SAT)),
    message("funding-more", "a satoshi more than the capacity", FUNDING, MISMATCH, &["{unfunded}"], |f, e| with_output(f, tx(e), |output| output.value += SAT)),
    message("funding-other-script", "pays the payer instead of the channel", FUNDING, MISMATCH, &["{unfunded}"], |f, e| { let own = f.params().payer_payout().to_owned(); with_output(f, tx(e), |output| output.script_pubkey = own); }),
    message("funding-swapped-keys", "the keys have changed places", FUNDING, MISMATCH, &["{unfunded}"], |f, e| { let params = f.params(); let [payer, payee] = [params.payer_key().to_public_key(), params.payee_key().to_public_key()]; let swapped = params.terms().descriptor(PayerKey::new(payee), PayeeKey::new(payer)); let script = swapped.expect("the same lock").script_pubkey(); with_output(f, tx(e), |output| output.script_pubkey = script); }),
    message("funding-twice", "funds the channel with two outputs", FUNDING, MISMATCH, &["outputs 0 and 2"], |f, e| { let output = f.params().funding_output(); tx(e).output.push(output); }).on(refund_in_script),
    // The witness is no part of the txid, so that the length is all that is wrong.
    message("funding-too-long", "the right transaction with a witness that no message holds", FUNDING, RefusalReason::Malformed, &["4096"], |_, e| tx(e).input[0].witness.push(vec![0; wire::MAX_MESSAGE])),
    message("funding-replaced-by-payment", "a payment before there is anything to pay from", FUNDING, UNEXPECTED, &["payment", "waiting to fund"], |_, e| replaced_by_payment(e)),
];

#[rustfmt::skip]
const INSTEAD_OF_FUNDING: &[Forgery] = &[
    message("funding-replaced-by-second-refund-request", "the refund, which is signed already, once more", FUNDING, UNEXPECTED, &["refund-request", "waiting to fund"], |f, e| { let request = f.said().find(|message| message.kind() == MessageKind::RefundRequest); e.message = request.expect("the refund was signed").clone(); }).on(co_signed),
    message("funding-replaced-by-refund-request", "a refund to sign, which the script lets the payer have alone", FUNDING, UNEXPECTED, &["refund-request", "waiting to fund"], |f, e| { let params = f.params(); let funding = FundingTx::find(&params, tx(e).clone()).expect("the honest transaction funds the channel"); let tx = SpendTemplate::refund(&params, funding.outpoint()).unsigned().clone(); e.message = Message::RefundRequest { tx }; }).on(refund_in_script),
    message("funding-replaced-by-settlement", "a settlement of nothing before there is anything to settle", FUNDING, UNEXPECTED, &["settlement", "waiting to fund"], |f, e| e.message = Message::Settlement { paid: Amount::ZERO, feerate: f.params().terms().feerate, signature: UnverifiedSignature::from_compact([1; 64]) }),
    message("funding-replaced-by-close-request", "a wish to close before there is anything to close", FUNDING, UNEXPECTED, &["close-request", "waiting to fund"], |f, e| { let feerate = f.params().terms().feerate; e.message = Message::CloseRequest { feerate, nonce: None }; }),
];

fn with_output(forger: &Forger, tx: &mut Transaction, change: impl FnOnce(&mut bitcoin::TxOut)) {
    let wanted = forger.params().funding_output();
    let output = tx.output.iter_mut().find(|output| **output == wanted);
    change(output.expect("the honest transaction funds the channel"));
}

fn replaced_by_payment(envelope: &mut Envelope) {
    envelope.message = Message::Payment {
        paid: SAT,
        signature: UnverifiedSignature::from_compact([1; 64]),
    };
}
