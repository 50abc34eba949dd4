use bitcoin::{Amount, OutPoint};

use crate::channel::{
    ChannelKey, ChannelParams, Features, HelloRandoms, Message, MessageKind, RefusalReason, Resume, Resumed,
    ResumedState, SignedPayment, UnverifiedSignature, VersionRange,
};
use crate::transcript::Side;
use Side::{Payee, Payer};

/// What our side says in place of an honest message, on a new connection of a channel.
#[derive(Debug)]
pub(in crate::conform) struct Lie {
    pub id: &'static str,
    pub comment: &'static str,
    pub speaker: Side,
    pub reason: RefusalReason,
    /// The first thing that our side says.
    pub is_first: bool,
    pub kind: MessageKind,
    pub message: fn(&Scene<'_>) -> Message,
}

/// What a lie is made from.
pub(in crate::conform) struct Scene<'a> {
    pub randoms: HelloRandoms,
    pub funding: OutPoint,
    pub params: &'a ChannelParams,
    pub key: ChannelKey,
    pub stranger: ChannelKey,
    /// What is paid, and its signature if our side has it.
    pub paid: Amount,
    pub signature: UnverifiedSignature,
}

impl Scene<'_> {
    const fn honest_resume(&self) -> Resume {
        Resume {
            funding: self.funding,
            signed: self.paid,
            acknowledged: Some(self.paid),
        }
    }

    fn resume(&self, resume: Resume) -> Message {
        Message::Resume(resume.sign(&self.randoms, self.params, &self.key))
    }

    fn resumed(&self, paid: Amount, key: &ChannelKey) -> Message {
        let signature = self.signature;
        let resumed = Resumed {
            latest_payment: Some(SignedPayment { paid, signature }),
            state: ResumedState::Open,
        };
        Message::Resumed(resumed.sign(&self.randoms, self.funding, self.params, key))
    }

    /// A hello with a feature that has no name, which is no reason to refuse it.
    pub fn hello(&self, speaker: Side, least: u8, greatest: u8) -> Message {
        Message::Hello {
            versions: VersionRange::new(least, greatest).expect("the caller gives a range"),
            features: Features::RESUME | Features::from_bits(1 << 63),
            random: match speaker {
                Payer => self.randoms.payer,
                Payee => self.randoms.payee,
            },
        }
    }
}

/// More than any case pays.
const MORE: Amount = Amount::from_sat(400_000);

#[rustfmt::skip]
pub(super) const LIES: &[Lie] = &[
    lie(Payer, "strange-proof", "resume with a proof by another key", RefusalReason::ProofWrong, MessageKind::Resume,
        |scene| Message::Resume(scene.honest_resume().sign(&scene.randoms, scene.params, &scene.stranger))),
    lie(Payer, "replayed-proof", "resume with a proof for another connection", RefusalReason::ProofWrong, MessageKind::Resume,
        |scene| Message::Resume(scene.honest_resume().sign(&HelloRandoms { payee: [0; 32], ..scene.randoms }, scene.params, &scene.key))),
    lie(Payer, "unknown-channel", "resume of a funding output that no channel has", RefusalReason::UnknownChannel, MessageKind::Resume,
        |scene| scene.resume(Resume { funding: OutPoint { vout: 99, ..scene.funding }, ..scene.honest_resume() })),
    lie(Payer, "acknowledged-unsigned", "resume with more acknowledged than signed", RefusalReason::ResumeDiffers, MessageKind::Resume,
        |scene| scene.resume(Resume { acknowledged: Some(MORE), ..scene.honest_resume() })),
    lie(Payer, "payment-before-resume", "payment right after hello", RefusalReason::UnexpectedMessage, MessageKind::Payment,
        |scene| Message::Payment { paid: MORE, signature: scene.signature }),
    lie(Payer, "resume-without-hello", "resume as the first message", RefusalReason::UnexpectedMessage, MessageKind::Resume,
        |scene| scene.resume(scene.honest_resume())).first(),
    lie(Payer, "no-common-version", "hello with versions 2 to 3", RefusalReason::NoCommonVersion, MessageKind::Hello,
        |scene| scene.hello(Payer, 2, 3)).first(),
    lie(Payee, "strange-proof", "resumed with a proof by another key", RefusalReason::ProofWrong, MessageKind::Resumed,
        |scene| scene.resumed(scene.paid, &scene.stranger)),
    lie(Payee, "invented-payment", "resumed with a payment that the payer has not signed", RefusalReason::ResumeDiffers, MessageKind::Resumed,
        |scene| scene.resumed(MORE, &scene.key)),
    lie(Payee, "ready-before-resumed", "ready in answer to resume", RefusalReason::UnexpectedMessage, MessageKind::Ready,
        |_| Message::Ready),
    lie(Payee, "no-common-version", "hello with versions 2 to 3", RefusalReason::NoCommonVersion, MessageKind::Hello,
        |scene| scene.hello(Payee, 2, 3)).first(),
];

const fn lie(
    speaker: Side,
    id: &'static str,
    comment: &'static str,
    reason: RefusalReason,
    kind: MessageKind,
    message: fn(&Scene<'_>) -> Message,
) -> Lie {
    Lie {
        id,
        comment,
        speaker,
        reason,
        is_first: false,
        kind,
        message,
    }
}

impl Lie {
    const fn first(mut self) -> Self {
        self.is_first = true;
        self
    }
}
