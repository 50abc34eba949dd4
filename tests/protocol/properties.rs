//! What holds whatever the peer says, and in whatever order.

use bitcoin::{Amount, FeeRate, Sequence, Transaction};
use proptest::prelude::*;
use spilman::channel::{
    Action, ApplyError, ChannelId, Envelope, Event, Message, NonceSource, Protocol, PublicNonce,
    RefusalReason, SpendRole, Stage, UnverifiedSignature,
};

use crate::pair::{
    assert_spends, channels, hears, restart, sat, signature, tip, Case, Inspect, Pair, Side, Sign, HEIGHT,
    MTP,
};

/// Every protocol on every construction that has it.
fn case() -> impl Strategy<Value = Case> {
    prop::sample::select(channels().collect::<Vec<_>>())
}

fn co_signed() -> impl Strategy<Value = Case> {
    let cases = channels().filter(|case| !case.terms.construction.has_script_refund());
    prop::sample::select(cases.collect::<Vec<_>>())
}

/// One thing that happens to a pair.
#[derive(Debug, Clone)]
enum Step {
    Pay(u64),
    Request(u64),
    Close(Side),
    Gone(Side),
    /// The payer asks to close, or the payee does with a nonce that is not its own.
    CloseRequest {
        to: Side,
        feerate: u64,
    },
    /// The payer's part for a nonce that the payee has sent, or a spoiled one.
    Cooperative {
        index: usize,
        paid: u64,
        spoiled: bool,
    },
    /// A tip so many blocks ahead, confirmations of the funding, and whether the refund or the settlement
    /// is in sight, with how many confirmations.
    Look {
        side: Side,
        ahead: u32,
        confirmations: u32,
        spend: Option<(bool, u32)>,
    },
    /// A correctly signed payment or settlement of any amount.
    Signed {
        paid: u64,
        settlement: bool,
    },
    /// A payment whose signature has one byte changed.
    Spoiled {
        paid: u64,
        byte: usize,
        bit: u8,
    },
    /// Something that has been said before, or for another channel.
    Replay {
        index: usize,
        to: Side,
        foreign: bool,
    },
    Accepted(u64),
    Refuse(Side),
    /// The process dies, and another one goes on with what was stored. It sees the chain first.
    Restart(Side),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop::sample::select(&[Side::Payer, Side::Payee][..]);
    prop_oneof![
        4 => (0_u64..400_000).prop_map(Step::Pay),
        1 => (0_u64..400_000).prop_map(Step::Request),
        1 => side().prop_map(Step::Close),
        1 => side().prop_map(Step::Gone),
        1 => (side(), 400_u64..1_000).prop_map(|(to, feerate)| Step::CloseRequest { to, feerate }),
        2 => (any::<usize>(), prop_oneof![Just(0), 0_u64..400_000], any::<bool>())
            .prop_map(|(index, paid, spoiled)| Step::Cooperative { index, paid, spoiled }),
        2 => (side(), 0_u32..200, 0_u32..6, prop::option::of((any::<bool>(), 0_u32..8)))
            .prop_map(|(side, ahead, confirmations, spend)| Step::Look { side, ahead, confirmations, spend }),
        4 => (0_u64..1_100_000, any::<bool>()).prop_map(|(paid, settlement)| Step::Signed { paid, settlement }),
        2 => (0_u64..1_100_000, 0_usize..64, 0_u8..8)
            .prop_map(|(paid, byte, bit)| Step::Spoiled { paid, byte, bit }),
        3 => (any::<usize>(), side(), any::<bool>())
            .prop_map(|(index, to, foreign)| Step::Replay { index, to, foreign }),
        1 => (0_u64..1_100_000).prop_map(Step::Accepted),
        1 => side().prop_map(Step::Refuse),
        2 => side().prop_map(Step::Restart),
    ]
}

struct Walk {
    pair: Pair,
    said: Vec<Envelope>,
    /// The largest sum that the payee ever acknowledged.
    acknowledged: Amount,
    restarts: u8,
}

impl Walk {
    fn take(&mut self, step: &Step) {
        let channel = self.pair.payer.params().id();
        let message = |message| hears(channel, message);
        let (side, event) = match step {
            Step::Restart(side) => return self.restart(*side),
            Step::Pay(amount) => (Side::Payer, Event::Pay(sat(*amount))),
            Step::Request(amount) => (Side::Payee, Event::RequestPayment(sat(*amount))),
            Step::Close(side) => (*side, Event::Close),
            Step::Gone(side) => (*side, Event::PeerGone),
            Step::CloseRequest { to, feerate } => {
                let feerate = FeeRate::from_sat_per_kwu(*feerate);
                let nonce = self.nonce(0).filter(|_| *to == Side::Payer);
                (*to, message(Message::CloseRequest { feerate, nonce }))
            }
            Step::Cooperative { index, paid, spoiled } => {
                let Some(nonce) = self.nonce(*index) else {
                    return;
                };
                // A sum that would be right, or one that is not.
                let paid = if *paid == 0 {
                    self.pair.payee.paid().to_sat()
                } else {
                    *paid
                };
                let label = if *spoiled { "stranger" } else { "payer" };
                let feerate = self.pair.payee.params().terms().feerate;
                (
                    Side::Payee,
                    message(self.pair.cooperative_settlement(paid, feerate, &nonce, label)),
                )
            }
            Step::Look {
                side,
                ahead,
                confirmations,
                spend,
            } => {
                self.pair.tip = tip(HEIGHT + ahead, MTP + ahead * 600);
                let spend = spend.map(|(refund, depth)| (self.spend(refund), depth));
                let spend = spend.as_ref().map(|(tx, depth)| (tx, *depth));
                (*side, Event::Chain(self.pair.view(*confirmations, spend)))
            }
            Step::Signed {
                paid,
                settlement: false,
            } => (Side::Payee, message(self.pair.payment(*paid, "payer"))),
            Step::Signed {
                paid,
                settlement: true,
            } => (Side::Payee, message(self.pair.settlement(*paid, "payer"))),
            Step::Spoiled { paid, byte, bit } => {
                let Message::Payment { paid, signature } = self.pair.payment(*paid, "payer") else {
                    return;
                };
                let mut bytes = signature.to_compact();
                bytes[*byte] ^= 1 << bit;
                let signature = UnverifiedSignature::from_compact(bytes);
                (Side::Payee, message(Message::Payment { paid, signature }))
            }
            Step::Replay { index, to, foreign } => {
                let Some(mut said) = self.said.get(index % self.said.len().max(1)).cloned() else {
                    return;
                };
                if *foreign {
                    said.channel = ChannelId(said.channel.0 + 1);
                }
                (*to, Event::Message(said))
            }
            Step::Accepted(paid) => (
                Side::Payer,
                message(Message::PaymentAccepted { paid: sat(*paid) }),
            ),
            Step::Refuse(side) => (
                *side,
                message(Message::Refuse {
                    reason: RefusalReason::Malformed,
                }),
            ),
        };
        self.apply(side, event);
    }

    /// Whatever the store holds is what the party was, so its death costs nothing that was acknowledged or signed.
    fn restart(&mut self, side: Side) {
        let paid = [self.pair.payer.paid(), self.pair.payee.paid()];
        let (stages, held) = (self.pair.stages(), self.pair.redeemable());
        restart(&mut self.pair, side);
        assert_eq!([self.pair.payer.paid(), self.pair.payee.paid()], paid);
        assert_eq!(self.pair.stages(), stages);
        assert_eq!(self.pair.redeemable(), held);
        if side == Side::Payee {
            // Drawn anew, as each process must.
            self.restarts += 1;
            self.pair
                .payee
                .provide_nonces(NonceSource::fixed([self.restarts; 32]));
        }
    }

    /// One with which the payee asked.
    fn nonce(&self, index: usize) -> Option<PublicNonce> {
        let nonces: Vec<_> = self
            .said
            .iter()
            .filter_map(|said| match said.message {
                Message::CloseRequest { nonce, .. } => nonce,
                _ => None,
            })
            .collect();
        nonces.get(index % nonces.len().max(1)).copied()
    }

    fn spend(&self, refund: bool) -> Transaction {
        let settlement = self
            .pair
            .redeemable()
            .filter(|_| !refund)
            .map(|held| held.tx().clone());
        settlement.unwrap_or_else(|| self.pair.payer.refund().tx().clone())
    }

    /// Applies one event, and delivers what it makes a party say, as long as the other accepts it.
    fn apply(&mut self, side: Side, event: Event) {
        let (before, but_nonce) = (format!("{:?}", self.pair), self.pair.state());
        let (paid, held) = (self.pair.payee.paid(), self.pair.redeemable());
        let (sent, was_closed) = (self.pair.payer.paid(), self.pair.payee.stage() == Stage::Closed);
        match self.pair.tell(side, event) {
            Err(error) => {
                // A nonce that has met a wrong answer is spent, and nothing else.
                let spent = matches!(&error, ApplyError::Refused(refusal)
                    if refusal.reason() == RefusalReason::PartialSignatureWrong);
                assert!(
                    if spent {
                        self.pair.state() == but_nonce
                    } else {
                        format!("{:?}", self.pair) == before
                    },
                    "{error}: and the state changed"
                );
                assert!(!matches!(error, ApplyError::Spend(_)), "{error}");
                assert_eq!(self.pair.redeemable(), held);
            }
            Ok(actions) => {
                self.is_stored();
                for action in actions {
                    self.carry_out(side, action);
                }
            }
        }
        assert!(
            self.pair.payee.paid() >= paid,
            "{} after {paid}",
            self.pair.payee.paid()
        );
        assert!(
            self.pair.payer.paid() >= sent,
            "{} after {sent}",
            self.pair.payer.paid()
        );
        assert!(!was_closed || self.pair.payee.stage() == Stage::Closed);
        self.is_stored();
        self.can_settle();
    }

    /// Nothing leaves a party before its store holds what the party has become. Only what the payee tells again may lag.
    fn is_stored(&self) {
        let mut payer = self.pair.payer.state();
        let stored = self.pair.network.payer.as_ref().unwrap();
        payer.progress.acknowledged = stored.progress.acknowledged;
        assert_eq!(&payer, stored);
        assert_eq!(Some(&self.pair.payee.state()), self.pair.network.payee.as_ref());
    }

    fn carry_out(&mut self, side: Side, action: Action) {
        match action {
            Action::Send(envelope) => {
                if let Message::PaymentAccepted { paid } = envelope.message {
                    assert!(paid >= self.acknowledged);
                    self.acknowledged = paid;
                }
                self.said.push(envelope.clone());
                let peer = if side == Side::Payer {
                    Side::Payee
                } else {
                    Side::Payer
                };
                self.apply(peer, Event::Message(envelope));
            }
            Action::Broadcast {
                role: SpendRole::Funding,
                tx,
            } => assert_eq!(&tx, self.pair.payer.funding().tx()),
            Action::Broadcast { tx, .. } => assert_spends(self.pair.payer.params(), &tx),
            _ => {}
        }
    }

    /// Whatever was acknowledged is held, valid, and final when the payee has to settle.
    fn can_settle(&self) {
        let payee = &self.pair.payee;
        assert!(
            payee.paid() >= self.acknowledged,
            "acknowledged {}, held {}",
            self.acknowledged,
            payee.paid()
        );
        let Some(held) = self.pair.redeemable() else {
            return;
        };
        let params = payee.params();
        // More than was acknowledged, if it came while payments did not count.
        let paid = held.balance().paid;
        assert!(paid >= payee.paid());
        assert_spends(params, held.tx());
        // In the stepped protocol at the payments' lock, otherwise now.
        let at = tip(HEIGHT + 108, MTP);
        assert!(held.tx().is_absolute_timelock_satisfied(at.height, at.mtp));
        let expected = Some(paid).filter(|paid| *paid >= params.payee_dust());
        let received: Option<Amount> = held
            .tx()
            .output
            .iter()
            .find(|output| *output.script_pubkey == *params.payee_payout())
            .map(|output| output.value);
        assert_eq!(received, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Never a panic, never a sum that falls, never a change on error, never a payment that cannot be settled.
    #[test]
    fn whatever_is_said_what_was_accepted_can_be_settled(
        case in case(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut walk = Walk { pair: case.open(), said: vec![case.propose().1], acknowledged: Amount::ZERO, restarts: 0 };
        for step in &steps {
            walk.take(step);
            #[cfg(feature = "service")]
            crate::records::survives_as_rows(&walk.pair);
        }
    }

    /// The payee's key signs the one refund that follows from the terms, and no other.
    #[test]
    fn a_changed_refund_is_never_signed(
        case in co_signed(),
        field in 0_usize..8,
        value in any::<u32>(),
    ) {
        let (payer, payee, mut request) = case.held();
        let Message::RefundRequest { tx } = &mut request.message else { unreachable!() };
        let honest = tx.clone();
        change(tx, field, value);
        let asked = tx.clone();
        match payee.sign_refund(request, case.now) {
            Err(_) => prop_assert_ne!(&asked, &honest),
            Ok((payee, answers)) => {
                // Only the outpoint is the payer's to choose, and the signature is over the template.
                let mut template = honest;
                template.input[0].previous_output = asked.input[0].previous_output;
                prop_assert_eq!(&asked, &template);
                let expected = signature(payee.params(), &template, "payee");
                prop_assert_eq!(&answers[0].message, &Message::RefundSignature { signature: expected });
                prop_assert_eq!(answers.len(), if case.terms.protocol == Protocol::Bond { 2 } else { 1 });
            }
        }
        drop(payer);
    }
}

fn change(tx: &mut Transaction, field: usize, value: u32) {
    match field {
        0 => tx.lock_time = bitcoin::absolute::LockTime::from_consensus(value),
        1 => tx.input[0].sequence = Sequence(value),
        2 => tx.output[0].value = sat(value.into()),
        3 => tx.version = bitcoin::transaction::Version(value.cast_signed()),
        4 => tx.input[0].previous_output.vout = value,
        5 => tx.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(value.to_be_bytes().to_vec()),
        6 => tx.input[0].script_sig = bitcoin::ScriptBuf::from_bytes(value.to_be_bytes().to_vec()),
        _ => tx.output.push(bitcoin::TxOut {
            value: sat(value.into()),
            ..tx.output[0].clone()
        }),
    }
}
