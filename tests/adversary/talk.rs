//! An honest conversation of two state machines, in which one message is taken out and a dishonest one delivered.

use std::collections::VecDeque;

use spilman::adversary::{Forger, Forgery};
use spilman::channel::{
    AcceptedProposal, Action, ApplyError, AwaitsFunding, BroadcastResult, Envelope, Event, FundedOpening,
    MessageKind, NonceSource, PayeeOpening, Payer, PayerOpening, Protected, Protocol, Refusal, RefusalReason,
    SettlementTx, Stage,
};
use spilman::transcript::Side;
use spilman::wire;

use crate::pair::{assert_spends, key, sat, Case, Pair};

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The dishonest message was refused.
    Refused(RefusalReason),
    /// It was taken.
    Taken,
    /// An honest message was refused.
    HonestRefused(MessageKind, RefusalReason),
    /// The channel came to its end without a dishonest message.
    Closed,
    /// It was to be sent, and its turn never came.
    NeverSent,
}

/// The way out of a conversation that is over.
type Passed<T> = Result<T, Verdict>;

pub struct Talk<'a> {
    case: Case,
    forgery: Option<&'a Forgery>,
    forger: Forger,
    said: u32,
    lied: bool,
}

/// Where a payment may add 500 and no less.
const PAYMENTS: [u64; 3] = [10_000, 20_000, 30_000];

impl<'a> Talk<'a> {
    pub fn new(mut case: Case, forgery: Option<&'a Forgery>) -> Self {
        case.terms.minimum_payment = sat(500);
        let liar = forgery.map_or(Side::Payer, |forgery| forgery.from);
        let label = if liar == Side::Payer { "payer" } else { "payee" };
        Self {
            case,
            forgery,
            forger: Forger::new(key(label)),
            said: 0,
            lied: false,
        }
    }

    pub fn play(mut self) -> Verdict {
        match self.opened() {
            Ok(pair) => self.run(pair).err().unwrap_or(match self.forgery {
                Some(_) => Verdict::NeverSent,
                None => Verdict::Closed,
            }),
            Err(verdict) => verdict,
        }
    }

    /// The message, or the dishonest one in its place, as the other side reads it.
    fn pass(&mut self, from: Side, honest: Envelope) -> Passed<Envelope> {
        let mine = |forgery: &&Forgery| forgery.from == from && forgery.kind == honest.message.kind();
        if let Some(forgery) = self.forgery.filter(mine) {
            self.said += 1;
            if self.said == forgery.skip + 1 {
                self.lied = true;
                let bytes = forgery.forge(&self.forger, &honest);
                assert_ne!(bytes, wire::encode(&honest), "{} is honest", forgery.id);
                return wire::decode(&bytes).map_err(|_| Verdict::Refused(RefusalReason::Malformed));
            }
        }
        self.forger.saw(from, &honest);
        Ok(honest)
    }

    fn judged<T>(&self, kind: MessageKind, result: Result<T, Refusal>) -> Passed<T> {
        match result {
            Ok(_) if self.lied => Err(Verdict::Taken),
            Ok(taken) => Ok(taken),
            Err(refusal) if self.lied => Err(Verdict::Refused(refusal.reason())),
            Err(refusal) => Err(Verdict::HonestRefused(kind, refusal.reason())),
        }
    }

    fn opened(&mut self) -> Passed<Pair> {
        let case = self.case.clone();
        let (payer, open) = case.propose();
        let open = self.pass(Side::Payer, open)?;
        let (considered, accept) = self.judged(MessageKind::Open, case.considered(open))?;
        let accept = self.pass(Side::Payee, accept)?;
        let payer = self.judged(MessageKind::Accept, payer.accept(accept))?;
        let funding = case.funding(payer.funding_output());
        let hold = payer.fund(funding).unwrap();
        let (payer, payee, answers) = self.protected(hold, considered)?;
        let (mut payer, actions) = payer.into_payer();
        let mut queue = VecDeque::from(actions);
        for answer in answers {
            let answer = self.pass(Side::Payee, answer)?;
            queue.extend(self.applied(MessageKind::FundingRequest, payer.apply(Event::Message(answer)))?);
        }
        let handed_over = hand_over(&mut payer, queue);
        let handed_over = self.pass(Side::Payer, handed_over)?;
        let (mut payee, actions) = self.judged(MessageKind::Funding, payee.receive_funding(handed_over))?;
        payee.provide_nonces(NonceSource::new([42; 32]));
        let mut pair = Pair {
            payer,
            payee,
            tip: case.now,
            base: case.now,
            log: Vec::new(),
            broadcast: Vec::new(),
        };
        self.carry_out(&mut pair, Side::Payee, actions)?;
        Ok(pair)
    }

    fn protected(
        &mut self,
        hold: FundedOpening,
        considered: AcceptedProposal,
    ) -> Passed<(
        PayerOpening<Protected>,
        PayeeOpening<AwaitsFunding>,
        Vec<Envelope>,
    )> {
        Ok(match (hold, considered) {
            (FundedOpening::Protected(payer), AcceptedProposal::AwaitsFunding(payee)) => {
                (payer, payee, Vec::new())
            }
            (FundedOpening::CoSigned(payer, request), AcceptedProposal::SignsRefund(payee)) => {
                let request = self.pass(Side::Payer, request)?;
                let signed = payee.sign_refund(request, self.case.when_signing);
                let (payee, mut answers) = self.judged(MessageKind::RefundRequest, signed)?;
                let signature = self.pass(Side::Payee, answers.remove(0))?;
                let verified = payer.verify_refund(signature);
                (
                    self.judged(MessageKind::RefundSignature, verified)?,
                    payee,
                    answers,
                )
            }
            other => panic!("the two disagree on who signs the refund: {other:?}"),
        })
    }

    fn run(&mut self, mut pair: Pair) -> Passed<()> {
        for side in [Side::Payer, Side::Payee] {
            let view = pair.view(3, None);
            self.event(&mut pair, side, Event::Chain(view))?;
        }
        let bond = self.case.terms.protocol == Protocol::Bond;
        for payment in PAYMENTS {
            if bond {
                self.event(&mut pair, Side::Payee, Event::RequestPayment(sat(payment)))?;
            }
            self.event(&mut pair, Side::Payer, Event::Pay(sat(payment)))?;
        }
        self.event(&mut pair, Side::Payer, Event::Close)?;
        assert_eq!(
            (pair.payer.stage(), pair.payee.stage()),
            (Stage::Closing, Stage::Closing)
        );
        Ok(())
    }

    fn event(&mut self, pair: &mut Pair, side: Side, event: Event) -> Passed<()> {
        let actions = raw(pair, side, event).expect("an honest wish");
        self.carry_out(pair, side, actions)
    }

    fn carry_out(&mut self, pair: &mut Pair, side: Side, actions: Vec<Action>) -> Passed<()> {
        let mut queue: VecDeque<_> = actions.into_iter().map(|action| (side, action)).collect();
        while let Some((side, action)) = queue.pop_front() {
            let (side, more) = match action {
                Action::Send(honest) => {
                    let kind = honest.message.kind();
                    let envelope = self.pass(side, honest)?;
                    let held = pair.redeemable();
                    let result = raw(pair, side.peer(), Event::Message(envelope));
                    keeps(pair, held.filter(|_| result.is_err()));
                    (side.peer(), self.applied(kind, result)?)
                }
                Action::Broadcast { role, tx } => {
                    let taken = Event::Broadcast(BroadcastResult::accepted(role, &tx));
                    (side, raw(pair, side, taken).unwrap())
                }
                _ => continue,
            };
            queue.extend(more.into_iter().map(|action| (side, action)));
        }
        Ok(())
    }

    fn applied<T>(&self, kind: MessageKind, result: Result<T, ApplyError>) -> Passed<T> {
        self.judged(
            kind,
            result.map_err(|error| match error {
                ApplyError::Refused(refusal) => refusal,
                error => panic!("{kind}: {error}"),
            }),
        )
    }
}

/// Whoever refuses keeps what it held before.
fn keeps(pair: &Pair, held: Option<SettlementTx>) {
    if let Some(held) = held {
        assert_eq!(pair.redeemable().as_ref(), Some(&held));
        assert_spends(pair.payee.params(), held.tx());
    }
}

fn raw(pair: &mut Pair, side: Side, event: Event) -> Result<Vec<Action>, ApplyError> {
    match side {
        Side::Payer => pair.payer.apply(event),
        Side::Payee => pair.payee.apply(event),
    }
}

/// What the payer does until it lets go of the funding transaction.
fn hand_over(payer: &mut Payer, mut queue: VecDeque<Action>) -> Envelope {
    while let Some(action) = queue.pop_front() {
        match action {
            Action::Send(envelope) => return envelope,
            Action::Broadcast { role, tx } => {
                let taken = Event::Broadcast(BroadcastResult::accepted(role, &tx));
                queue.extend(payer.apply(taken).unwrap());
            }
            _ => {}
        }
    }
    panic!("the payer keeps its funding transaction");
}
