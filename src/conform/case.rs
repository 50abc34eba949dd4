//! The cases, and what each demands of a program.

use std::fmt;

use bitcoin::Amount;

use super::resuming::Resumption;
use crate::adversary::Forgery;
use crate::channel::{Construction, MessageKind, Protocol};
use crate::scenario::{skip_before, STAGES};
use crate::transcript::{MessagePosition, Side};

/// The kind of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Both sides are honest, and stay connected.
    Good,
    /// One of the two sides vanishes.
    Vanishing,
    /// Both sides are honest, and the chain takes something back.
    Chain,
    /// Our side sends a message that must be refused.
    Malicious,
    /// The connection breaks, the program is killed and started again, and the channel is resumed.
    Resuming,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Good,
        Self::Vanishing,
        Self::Chain,
        Self::Malicious,
        Self::Resuming,
    ];

    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Vanishing => "vanishing",
            Self::Chain => "chain",
            Self::Malicious => "malicious",
            Self::Resuming => "resuming",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the channel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    ClosedByPayer,
    ClosedByPayee,
    /// Neither side closes until the closing margin.
    NeverClosed,
    /// Our side closes, at a higher feerate than agreed.
    HigherFeerate,
}

/// What the chain takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakenBack {
    /// The funding transaction, before the last payment: its blocks are reorganised away, and no mempool has it.
    Funding,
    /// The spend of the funding output: the mempool loses it.
    Spend,
}

/// What happens to one message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interference {
    /// Our side disconnects instead of sending it.
    Vanish,
    /// Our side sends a forgery in its place.
    Forge(&'static Forgery),
    /// The program is killed after sending it.
    Kill,
    /// The connection breaks while it is on its way, and the program is killed.
    Lose,
    /// It is not what an honest side would send, and must be refused.
    Lie(&'static str),
}

/// What happens to which message.
#[derive(Debug, Clone, Copy)]
pub(super) struct InterferenceRule {
    pub message: MessagePosition,
    pub interference: Interference,
}

/// One test of a program.
#[derive(Debug, Clone)]
pub struct Case {
    pub(super) name: String,
    pub(super) summary: String,
    pub(super) group: Group,
    pub(super) construction: Construction,
    pub(super) protocol: Protocol,
    /// The side of the program.
    pub(super) program: Side,
    pub(super) ending: Ending,
    /// Whether the payee offers to close with one signature, where that is possible.
    pub(super) cooperative: bool,
    pub(super) rule: Option<InterferenceRule>,
    pub(super) taken_back: Option<TakenBack>,
    /// What comes after the first connection, if the channel is resumed.
    pub(super) resumption: Option<Resumption>,
}

impl Case {
    /// Returns its unique name: construction, protocol and case, separated by slashes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its summary of one line.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Returns its kind.
    pub const fn group(&self) -> Group {
        self.group
    }

    /// Returns what the funding output is made of.
    pub const fn construction(&self) -> Construction {
        self.construction
    }

    /// Returns the conversation.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the payments in order, each the total so far.
    pub(super) fn payments(&self) -> Vec<Amount> {
        let empty = (self.protocol == Protocol::Example7).then_some(0);
        let paid = [100_000, 200_000, 300_000];
        empty.into_iter().chain(paid).map(Amount::from_sat).collect()
    }

    /// Returns whether both close with one signature.
    pub(super) fn closes_cooperatively(&self) -> bool {
        self.construction.closes_with_one_key() && self.cooperative
    }
}

/// Returns every case for a program on this side, in the order of the constructions.
#[must_use]
pub fn cases(program: Side) -> Vec<Case> {
    let mut all = Vec::new();
    for construction in Construction::ALL {
        for protocol in Protocol::ALL {
            if construction.runs(protocol) {
                let place = CaseContext {
                    construction,
                    protocol,
                    program,
                };
                all.extend(place.good().chain(place.vanishing()).chain(place.chain()));
                all.extend(place.malicious());
                all.extend(place.resuming());
            }
        }
    }
    all
}

#[derive(Clone, Copy)]
pub(super) struct CaseContext {
    pub construction: Construction,
    pub protocol: Protocol,
    pub program: Side,
}

impl CaseContext {
    pub fn case(self, group: Group, name: &str, summary: String) -> Case {
        let Self {
            construction,
            protocol,
            program,
        } = self;
        Case {
            name: format!("{construction}/{protocol}/{name}"),
            summary,
            group,
            construction,
            protocol,
            program,
            ending: Ending::ClosedByPayer,
            cooperative: true,
            rule: None,
            taken_back: None,
            resumption: None,
        }
    }

    #[rustfmt::skip]
    fn good(self) -> impl Iterator<Item = Case> {
        let cases = [
            ("closed-by-payer", Ending::ClosedByPayer, true, "The payer closes"),
            ("closed-by-payee", Ending::ClosedByPayee, true, "The payee closes"),
            ("closed-by-payer-apart", Ending::ClosedByPayer, false,
                "The payer closes, and the payee offers no nonce"),
            ("closed-by-payee-apart", Ending::ClosedByPayee, false, "The payee closes without a nonce"),
            ("never-closed", Ending::NeverClosed, true,
                "Neither side closes: the payee settles at the closing margin"),
            ("higher-feerate", Ending::HigherFeerate, true,
                "The settlement pays a higher feerate than agreed, out of the payer's change"),
        ];
        let one_key = self.construction.closes_with_one_key();
        let cases = cases.into_iter().filter(move |(_, _, cooperative, _)| *cooperative || one_key);
        cases.map(move |(name, ending, cooperative, summary)| Case {
            ending,
            cooperative,
            ..self.case(Group::Good, name, summary.to_owned())
        })
    }

    fn vanishing(self) -> impl Iterator<Item = Case> {
        let ours = self.program.peer();
        let vanishes = STAGES
            .into_iter()
            .filter(move |(who, kind)| *who == ours && kind.is_said(self.protocol, self.construction));
        let vanishes = vanishes.map(move |(who, kind)| {
            let name = format!("{who}-vanishes-before-{kind}");
            let summary = format!("The {who} vanishes instead of sending {kind}");
            self.with_rule(Group::Vanishing, &name, summary, (kind, Interference::Vanish))
        });
        let signed = match self.program {
            Side::Payee => &[MessageKind::RefundSignature, MessageKind::PaymentAccepted][..],
            Side::Payer => &[MessageKind::Payment],
        };
        let signed = signed
            .iter()
            .filter(move |kind| kind.is_said(self.protocol, self.construction));
        let killed = signed.map(move |kind| {
            let name = format!("killed-after-{kind}");
            let summary = format!("The program is killed after {kind}; its signatures remain valid");
            self.with_rule(Group::Vanishing, &name, summary, (*kind, Interference::Kill))
        });
        vanishes.chain(killed)
    }

    fn chain(self) -> impl Iterator<Item = Case> {
        let reorganised = Case {
            taken_back: Some(TakenBack::Funding),
            ..self.case(
                Group::Chain,
                "funding-reorganised",
                "The funding transaction is reorganised away, and has to be broadcast again".to_owned(),
            )
        };
        let dropped = match self.program {
            Side::Payee => Case {
                ending: Ending::NeverClosed,
                ..self.case(
                    Group::Chain,
                    "settlement-dropped",
                    "The settlement is dropped from the mempool, and has to be broadcast again".to_owned(),
                )
            },
            Side::Payer => self.with_rule(
                Group::Chain,
                "refund-dropped",
                "The refund is dropped from the mempool, and has to be broadcast again".to_owned(),
                (MessageKind::PaymentAccepted, Interference::Vanish),
            ),
        };
        let taken_back = Some(TakenBack::Spend);
        [
            reorganised,
            Case {
                taken_back,
                ..dropped
            },
        ]
        .into_iter()
    }

    fn with_rule(
        self,
        group: Group,
        name: &str,
        summary: String,
        (kind, interference): (MessageKind, Interference),
    ) -> Case {
        let from = match interference {
            Interference::Kill => self.program,
            _ => self.program.peer(),
        };
        let message = MessagePosition::new(from, kind, skip_before(self.protocol, kind));
        Case {
            rule: Some(InterferenceRule {
                message,
                interference,
            }),
            ..self.case(group, name, summary)
        }
    }

    fn malicious(self) -> impl Iterator<Item = Case> {
        let ours = self.program.peer();
        let said = Forgery::all().iter().filter(move |forgery| {
            forgery.position.from == ours && forgery.applies(self.protocol, self.construction)
        });
        said.map(move |forgery| {
            let summary = format!("Must be refused with {}: {}", forgery.reason, forgery.comment);
            Case {
                rule: Some(InterferenceRule {
                    message: forgery.position,
                    interference: Interference::Forge(forgery),
                }),
                ..self.case(Group::Malicious, &format!("refuses-{}", forgery.id), summary)
            }
        })
    }
}
