//! Messages and bytes: one encoding for each message, and a named error for everything else.

mod defects;
mod spec;

use std::collections::BTreeSet;

use crate::pair::{key, payout, sat, Case};
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Txid};
use proptest::prelude::*;
use spilman::channel::{
    Capacity, ChannelId, Confirmation, Envelope, Features, Message, MessageKind, PartialSignature, PayeeKey,
    Protocol, PublicNonce, RefusalReason, Resume, Resumed, ResumedState, SignedPayment, Terms, Unverified,
    UnverifiedSignature, VersionRange,
};
use spilman::wire::{decode, encode, WireError, FRAME_HEADER};

fn nonce() -> PublicNonce {
    let key = key("nonce").public_key().serialize();
    PublicNonce::from_bytes([key, key].concat().try_into().unwrap()).unwrap()
}

fn signature() -> UnverifiedSignature {
    let mut bytes = [0x11; 64];
    bytes[32..].fill(0x22);
    UnverifiedSignature::from_compact(bytes)
}

fn txid() -> Txid {
    Txid::from_byte_array(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

/// Without a payment, and with all that there can be.
fn resumed() -> [Message; 2] {
    let payment = SignedPayment {
        paid: sat(100),
        signature: signature(),
    };
    let claims = [
        (None, ResumedState::AwaitsFunding),
        (Some(payment), ResumedState::Settled(txid())),
    ];
    claims.map(|(latest_payment, state)| {
        Message::Resumed(Unverified {
            claim: Resumed {
                latest_payment,
                state,
            },
            proof: signature(),
        })
    })
}

/// One message of each kind, in the order of their numbers; two where a field may be null.
fn golden() -> Vec<Envelope> {
    let case = Case::story(Protocol::SteppedLocktime);
    let (payer, _, request) = case.held();
    let funding = case.funding(bitcoin::TxOut {
        value: sat(1_000),
        script_pubkey: case.agreed().0.params().funding_script(),
    });
    assert_eq!(payer.funding_outpoint().txid, funding.compute_txid());
    let mut messages = vec![
        case.propose().1.message,
        Case::story(Protocol::Bond).propose().1.message,
    ];
    messages.extend([
        Message::Accept {
            payee_key: PayeeKey::new(key("payee").public_key()),
            payee_payout: payout("payee"),
            confirmation: Confirmation {
                depth: 3,
                zero_conf_limit: Amount::ZERO,
            },
        },
        request.message,
        Message::RefundSignature {
            signature: signature(),
        },
        Message::FundingRequest,
        Message::Funding { tx: funding },
        Message::Ready,
        Message::PaymentRequest { paid: sat(100_000) },
        Message::Payment {
            paid: sat(100),
            signature: signature(),
        },
        Message::PaymentAccepted { paid: sat(100) },
        Message::CloseRequest {
            feerate: Terms::FEERATE,
            nonce: None,
        },
        Message::CloseRequest {
            feerate: Terms::FEERATE,
            nonce: Some(nonce()),
        },
        Message::Settlement {
            paid: sat(200),
            feerate: Terms::FEERATE,
            signature: signature(),
        },
        Message::CooperativeSettlement {
            paid: sat(200),
            feerate: Terms::FEERATE,
            nonce: nonce(),
            partial: PartialSignature::from_bytes([1; 32]).unwrap(),
        },
        Message::Closed { txid: txid() },
        Message::Refuse {
            reason: RefusalReason::ChannelExpiring,
        },
        Message::Hello {
            versions: VersionRange::new(1, 2).unwrap(),
            features: Features::RESUME | Features::from_bits(1 << 63),
            random: [0x33; 32],
        },
        Message::Resume(Unverified {
            claim: Resume {
                funding: OutPoint::new(txid(), 1),
                signed: sat(200),
                acknowledged: Some(sat(100)),
            },
            proof: signature(),
        }),
    ]);
    messages.extend(resumed());
    messages
        .into_iter()
        .map(|message| Envelope {
            channel: ChannelId(7),
            message,
        })
        .collect()
}

#[test]
fn every_kind_has_one_encoding() {
    let golden = golden();
    // 1. No kind is missing.
    for kind in MessageKind::ALL {
        assert!(
            golden.iter().any(|envelope| envelope.message.kind() == kind),
            "{kind} is missing"
        );
    }
    // 2. There and back.
    for envelope in &golden {
        assert_eq!(decode(&encode(envelope)).as_ref(), Ok(envelope));
    }
    // 3. To the byte, as published.
    let lines: Vec<_> = golden
        .iter()
        .map(|envelope| format!("{}\n    {}", envelope.message.kind(), encode(envelope).as_hex()))
        .collect();
    insta::assert_snapshot!("golden", lines.join("\n"));
}

#[test]
fn a_framed_payment_takes_at_most_78_bytes() {
    let paid = Capacity::MAX.to_amount();
    let channel = ChannelId(u16::MAX);
    #[rustfmt::skip]
    let rows = [
        (Message::Payment { paid, signature: signature() }, 78),
        (Message::Settlement { paid, feerate: FeeRate::from_sat_per_kwu(u64::from(u32::MAX)), signature: signature() }, 83),
        (Message::PaymentAccepted { paid }, 12),
    ];
    for (message, most) in rows {
        let bytes = encode(&Envelope { channel, message });
        assert_eq!(FRAME_HEADER + bytes.len(), most);
    }
}

/// Cut short anywhere, or with any byte changed to anything: an error, or the encoding of another message.
#[test]
fn every_damaged_message_is_an_error_or_another_message() {
    let (mut errors, mut others) = (0, 0);
    for envelope in golden() {
        let bytes = encode(&envelope);
        for len in 0..bytes.len() {
            let error = decode(&bytes[..len]).expect_err("a message that is cut short");
            assert!(
                matches!(error, WireError::Cbor { .. }),
                "{len} of {}: {error}",
                envelope.message.kind()
            );
        }
        for position in 0..bytes.len() {
            for change in 1..=u8::MAX {
                let mut damaged = bytes.clone();
                damaged[position] ^= change;
                match decode(&damaged) {
                    Ok(other) => {
                        assert_ne!(other, envelope);
                        assert_eq!(encode(&other), damaged);
                        others += 1;
                    }
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        errors += 1;
                    }
                }
            }
        }
    }
    assert!(
        errors > 0 && others > 0,
        "{errors} errors, {others} other messages"
    );
}

#[test]
fn the_largest_funding_transaction_fits_and_a_larger_one_is_not_held() {
    use spilman::channel::{FundingError, MAX_FUNDING_SIZE};
    let case = Case::new(Protocol::Example7);
    let (payer, _) = case.agreed();
    let mut tx = case.funding(payer.funding_output());
    let pad = MAX_FUNDING_SIZE - tx.total_size() - 2;
    let script = tx.output[1].script_pubkey.clone().into_bytes();
    tx.output[1].script_pubkey = ScriptBuf::from_bytes([script, vec![0x6a; pad]].concat());
    assert_eq!(tx.total_size(), MAX_FUNDING_SIZE);
    let envelope = Envelope {
        channel: ChannelId(u16::MAX),
        message: Message::Funding { tx: tx.clone() },
    };
    assert_eq!(decode(&encode(&envelope)), Ok(envelope));
    assert!(payer.fund(tx.clone()).is_ok());

    tx.output[1].script_pubkey =
        ScriptBuf::from_bytes([tx.output[1].script_pubkey.as_bytes(), &[0]].concat());
    let expected = FundingError::TooLarge {
        size: MAX_FUNDING_SIZE + 1,
        limit: MAX_FUNDING_SIZE,
    };
    assert_eq!(case.agreed().0.fund(tx).unwrap_err(), expected.into());
}

/// How a message of each kind begins: the number of its elements, its kind, its channel.
fn heads() -> Vec<Vec<u8>> {
    let heads: Vec<_> = golden()
        .iter()
        .map(|message| encode(message)[..3].to_vec())
        .collect();
    let kinds: BTreeSet<_> = heads.iter().map(|head| head[1]).collect();
    assert_eq!(
        kinds.len(),
        MessageKind::ALL.len(),
        "{kinds:?} of {:?}",
        MessageKind::ALL
    );
    heads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(envelope) = decode(&bytes) {
            prop_assert_eq!(encode(&envelope), bytes);
        }
    }

    /// Random bytes seldom get past the head; these always do.
    #[test]
    fn a_right_head_and_random_fields_never_panic(
        head in prop::sample::select(heads()),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&head[..], &tail].concat();
        if let Ok(envelope) = decode(&bytes) {
            prop_assert_eq!(encode(&envelope), bytes);
        }
    }

    #[test]
    fn sums_and_signatures_survive(
        channel in any::<u16>(),
        paid in 0_u64..=Amount::MAX_MONEY.to_sat(),
        bytes in prop::collection::vec(any::<u8>(), 64),
    ) {
        let signature = UnverifiedSignature::from_compact(bytes.try_into().unwrap());
        for message in [
            Message::Payment { paid: sat(paid), signature },
            Message::Settlement { paid: sat(paid), feerate: Terms::FEERATE, signature },
            Message::RefundSignature { signature },
            Message::PaymentAccepted { paid: sat(paid) },
            Message::PaymentRequest { paid: sat(paid) },
        ] {
            let envelope = Envelope { channel: ChannelId(channel), message };
            prop_assert_eq!(decode(&encode(&envelope)), Ok(envelope));
        }
    }
}
