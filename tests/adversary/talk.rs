//! An honest conversation of two state machines, in which one message is taken out and a dishonest one delivered.

use spilman::adversary::{Forger, Forgery};
use spilman::channel::{Envelope, Event, MessageKind, Protocol, RefusalReason, SettlementTx, Stage};
use spilman::sim::{Network, Opening, Pair, SimError};
use spilman::transcript::Side;
use spilman::wire;

use crate::pair::{assert_spends, key, sat, Case};

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

/// Where a payment may add 500 and no less.
const PAYMENTS: [u64; 3] = [10_000, 20_000, 30_000];

/// The conversation, with this message in the place of an honest one.
pub fn play(case: &Case, forgery: Option<&Forgery>) -> Verdict {
    let mut case = case.clone();
    case.terms.minimum_payment = sat(500);
    let mut liar = Liar::new(forgery);
    match walk(&case, &mut liar) {
        Ok(()) if forgery.is_some() => Verdict::NeverSent,
        Ok(()) => Verdict::Closed,
        Err(SimError::Network(verdict)) => verdict,
        Err(SimError::Refused { refusal, .. }) if liar.lied => Verdict::Refused(refusal.reason()),
        Err(SimError::Refused { kind, refusal, .. }) => Verdict::HonestRefused(kind, refusal.reason()),
        Err(error) => panic!("{error:?}"),
    }
}

/// One message is the forger's; whoever goes on after it has taken it.
struct Liar<'a> {
    forgery: Option<&'a Forgery>,
    forger: Forger,
    said: u32,
    lied: bool,
}

impl<'a> Liar<'a> {
    fn new(forgery: Option<&'a Forgery>) -> Self {
        let label = match forgery.map(|forgery| forgery.from) {
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
        let mine = |forgery: &&Forgery| forgery.from == from && forgery.kind == honest.message.kind();
        if let Some(forgery) = self.forgery.filter(mine) {
            self.said += 1;
            if self.said == forgery.skip + 1 {
                self.lied = true;
                let bytes = forgery.forge(&self.forger, &honest);
                assert_ne!(bytes, wire::encode(&honest), "{} is honest", forgery.id);
                let forged = wire::decode(&bytes);
                return forged
                    .map(Some)
                    .map_err(|_| Verdict::Refused(RefusalReason::Malformed));
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
    while !pair.pending().is_empty() {
        let held = pair.payee.redeemable().unwrap();
        let result = pair.step();
        if result.is_err() {
            keeps(pair, held);
        }
        result?;
        pair.network.check_refused().map_err(SimError::Network)?;
    }
    Ok(())
}

/// Whoever refuses keeps what it held before.
fn keeps(pair: &Lying<'_, '_>, held: Option<SettlementTx>) {
    if let Some(held) = held {
        assert_eq!(pair.payee.redeemable().unwrap().as_ref(), Some(&held));
        assert_spends(pair.payee.params(), held.tx());
    }
}
