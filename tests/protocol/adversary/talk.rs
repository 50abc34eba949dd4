//! An honest conversation of two state machines, in which one message is taken out and a dishonest one delivered.

use spilman::adversary::{Forger, Forgery};
use spilman::channel::{Action, Envelope, Event, MessageKind, Protocol, RefusalReason, Stage};
use spilman::sim::{Network, Opening, Pair, SimError};
use spilman::transcript::Side;
use spilman::wire;

use crate::pair::{key, sat, Case};
use crate::refusal_keeps_state::Before;

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The dishonest message was refused, in these words.
    Refused(RefusalReason, String),
    /// It was accepted.
    Taken,
    /// An honest message was refused.
    HonestRefused(MessageKind, RefusalReason),
    /// The channel came to its end without a dishonest message.
    Closed,
    /// It was to be sent, and its turn never came.
    NeverSent,
}

/// Where a payment may add 500 and no less.
const PAYMENTS: [u64; 3] = [10_000, 20_000, 30_000];

/// The conversation, with this message in the place of an honest one; and the words that its refusal has to have.
pub fn play(case: &Case, forgery: Option<&Forgery>) -> (Verdict, Vec<String>) {
    let mut case = case.clone();
    case.terms.minimum_payment = sat(500);
    let mut liar = Liar::new(forgery);
    let verdict = match walk(&case, &mut liar) {
        Ok(()) if forgery.is_some() => Verdict::NeverSent,
        Ok(()) => Verdict::Closed,
        Err(SimError::Network(verdict)) => verdict,
        Err(SimError::Refused { refusal, .. }) if liar.lied => {
            Verdict::Refused(refusal.reason(), refusal.to_string())
        }
        Err(SimError::Refused { kind, refusal, .. }) => Verdict::HonestRefused(kind, refusal.reason()),
        Err(error) => panic!("{error:?}"),
    };
    let words = forgery
        .filter(|_| liar.lied)
        .map(|forgery| forgery.words(&liar.forger));
    (verdict, words.unwrap_or_default())
}

/// One message is the forger's; a receiver that goes on after it has accepted it.
#[derive(Debug)]
struct Liar<'a> {
    forgery: Option<&'a Forgery>,
    forger: Forger,
    said: u32,
    lied: bool,
}

impl<'a> Liar<'a> {
    fn new(forgery: Option<&'a Forgery>) -> Self {
        let label = match forgery.map(|forgery| forgery.position.from) {
            Some(Side::Payee) => "payee",
            _ => "payer",
        };
        Self {
            forgery,
            forger: Forger::new(key(label)),
            said: 0,
            lied: false,
        }
    }

    /// The forgery, if this message is of its kind and from its side.
    fn forges(&self, from: Side, honest: &Envelope) -> Option<&'a Forgery> {
        let mine = |forgery: &&Forgery| {
            forgery.position.from == from && forgery.position.kind == honest.message.kind()
        };
        self.forgery.filter(mine)
    }

    fn check_refused(&self) -> Result<(), Verdict> {
        if self.lied {
            Err(Verdict::Taken)
        } else {
            Ok(())
        }
    }
}

impl Network for Liar<'_> {
    type Error = Verdict;

    fn deliver(&mut self, from: Side, honest: Envelope) -> Result<Option<Envelope>, Verdict> {
        self.check_refused()?;
        if let Some(forgery) = self.forges(from, &honest) {
            self.said += 1;
            if self.said == forgery.position.skip + 1 {
                self.lied = true;
                let bytes = forgery.forge(&self.forger, &honest);
                assert_ne!(bytes, wire::encode(&honest), "{} is honest", forgery.id);
                let malformed = |error| Verdict::Refused(RefusalReason::Malformed, format!("{error}"));
                return wire::decode(&bytes).map(Some).map_err(malformed);
            }
        }
        self.forger.saw(from, &honest);
        Ok(Some(honest))
    }
}

type Walked<T> = Result<T, SimError<Verdict>>;
type Lying<'a, 'b> = Pair<&'a mut Liar<'b>>;

fn walk(case: &Case, liar: &mut Liar<'_>) -> Walked<()> {
    let mut pair = opened(case, liar)?;
    run(&mut pair)?;
    for side in [Side::Payer, Side::Payee] {
        let view = pair.view(3, None);
        apply(&mut pair, side, Event::Chain(view))?;
    }
    let bond = case.terms.protocol == Protocol::Bond;
    for payment in PAYMENTS {
        if bond {
            apply(&mut pair, Side::Payee, Event::RequestPayment(sat(payment)))?;
        }
        apply(&mut pair, Side::Payer, Event::Pay(sat(payment)))?;
    }
    apply(&mut pair, Side::Payer, Event::Close)?;
    assert_eq!(
        (pair.payer.stage(), pair.payee.stage()),
        (Stage::Closing, Stage::Closing)
    );
    Ok(())
}

fn opened<'a, 'b>(case: &Case, liar: &'a mut Liar<'b>) -> Walked<Lying<'a, 'b>> {
    let agreed = Opening::propose(case.setup(), liar)?.accept()?;
    let signed = case.funding(agreed.state.payer.funding_output());
    let pair = agreed.fund(signed)?.protect()?.hand_over()?;
    pair.network.check_refused().map_err(SimError::Network)?;
    Ok(pair)
}

fn apply(pair: &mut Lying<'_, '_>, side: Side, event: Event) -> Walked<()> {
    let actions = pair.tell(side, event).expect("an honest wish");
    pair.queue(side, actions);
    run(pair)
}

fn run(pair: &mut Lying<'_, '_>) -> Walked<()> {
    while let Some((from, action)) = pair.pending().front() {
        let from = *from;
        let before = match action {
            Action::Send(honest) if pair.network.forges(from, honest).is_some() => Some(Before::of(pair)),
            _ => None,
        };
        let result = pair.step();
        if let (Some(before), Err(SimError::Refused { refusal, .. })) = (before, &result) {
            let at = format!("{:?}", pair.network.forgery);
            before.assert_kept(pair, from.peer(), refusal, &at);
        }
        result?;
        pair.network.check_refused().map_err(SimError::Network)?;
    }
    Ok(())
}
