use super::lies::{Lie, LIES};
use crate::channel::MessageKind;
use crate::conform::case::{Case, CaseContext, Group, Interference, InterferenceRule};
use crate::scenario::{skip_before, STAGES};
use crate::transcript::{MessagePosition, Side};

/// What comes after the connection broke.
#[derive(Debug, Clone, Copy)]
pub(in crate::conform) enum Resumption {
    /// Both sides come back as they were.
    Plain,
    /// The funding transaction is reorganised away first.
    Reorganised,
    /// After some more payments, this side goes on from a copy that does not have them.
    OlderCopy(Side),
    /// Our side says something that must be refused first.
    Lie(&'static Lie),
    /// Another payee answers, and does not know the channel.
    Stranger,
}

/// The message with which the payer begins to close.
const fn closing(case: &Case) -> MessageKind {
    if case.construction.closes_with_one_key() {
        MessageKind::CloseRequest
    } else {
        MessageKind::Settlement
    }
}

/// The connection breaks when the payer closes.
pub(super) fn closes(case: &Case) -> InterferenceRule {
    loses(MessagePosition::new(Side::Payer, closing(case), 0))
}

const fn loses(message: MessagePosition) -> InterferenceRule {
    let interference = Interference::Lose;
    InterferenceRule {
        message,
        interference,
    }
}

impl CaseContext {
    /// The connection breaks at each message after the opening; then at the second acknowledgement, with something else
    /// that goes wrong.
    pub(in crate::conform) fn resuming(self) -> impl Iterator<Item = Case> {
        let lost = STAGES.into_iter().filter(move |(_, kind)| {
            *kind > MessageKind::Funding && kind.is_said(self.protocol, self.construction)
        });
        let lost = lost.map(move |(who, kind)| {
            // The payee's answer to a request to close has the same name.
            let asks = if kind == MessageKind::CloseRequest {
                format!("{who}-")
            } else {
                String::new()
            };
            let name = format!("resumes-after-lost-{asks}{kind}");
            let summary =
                format!("The connection breaks: {kind} of the {who} is lost; then both sides resume");
            self.resumes(&name, summary, (who, kind), Resumption::Plain)
        });
        let acknowledged = (Side::Payee, MessageKind::PaymentAccepted);
        let others = [
            (
                "reorganised".to_owned(),
                "While both sides are apart, the funding transaction is reorganised away".to_owned(),
                Resumption::Reorganised,
            ),
            (
                "older-payer".to_owned(),
                "The payer lost what it signed last: the payee tells it".to_owned(),
                Resumption::OlderCopy(Side::Payer),
            ),
            (
                "older-payee".to_owned(),
                "The payee lost what it accepted last: the payer sends it again".to_owned(),
                Resumption::OlderCopy(Side::Payee),
            ),
        ];
        let stranger = (
            "refused-by-a-stranger".to_owned(),
            "A payee that does not know the channel refuses: the payer refunds in the end".to_owned(),
            Resumption::Stranger,
        );
        let stranger = (self.program == Side::Payer).then_some(stranger);
        let lies = LIES
            .iter()
            .filter(move |lie| lie.speaker != self.program)
            .map(|lie| {
                let summary = format!(
                    "Must be refused with {}, and then resume: {}",
                    lie.reason, lie.comment
                );
                (
                    format!("after-refusing-{}", lie.id),
                    summary,
                    Resumption::Lie(lie),
                )
            });
        let others = others.into_iter().chain(stranger).chain(lies);
        let others = others.map(move |(name, summary, resumption)| {
            self.resumes(&format!("resumes-{name}"), summary, acknowledged, resumption)
        });
        lost.chain(others)
    }

    fn resumes(
        self,
        name: &str,
        summary: String,
        (from, kind): (Side, MessageKind),
        resumption: Resumption,
    ) -> Case {
        let message = MessagePosition::new(from, kind, skip_before(self.protocol, kind));
        Case {
            rule: Some(loses(message)),
            resumption: Some(resumption),
            ..self.case(Group::Resuming, name, summary)
        }
    }
}
