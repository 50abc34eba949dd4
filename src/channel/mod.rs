//! The protocol, pure: parameters, scripts, transactions, verification, and the two parties as state
//! machines. Nothing here does I/O, tells the time or makes random numbers.

mod amount;
mod construction;
mod error;
mod event;
mod keys;
mod limits;
mod lock;
mod message;
mod params;
mod payee;
mod payer;
#[cfg(test)]
mod test_support;
mod transaction;
mod verify;

pub use amount::{Balance, Capacity, CapacityError};
pub use construction::Construction;
pub use error::{ApplyError, CommandError, PaymentError, Reason, RefundError, Refusal, Stage};
pub use event::{Action, BroadcastResult, ChainView, Event, Notice, Outcome, SeenSpend, SETTLED_DEPTH};
pub use keys::{ChannelKey, PayeeKey, PayerKey, SignatureError, UnverifiedSignature, VerifiedSignature};
pub use limits::{Limits, TermsError};
pub use lock::{ClosingMargin, Expiry, LockKind, Tip};
pub use message::{Envelope, Kind, Message};
pub use params::{ChannelId, ChannelParams, ParamsError, Protocol, Terms};
pub use payee::{Accepted, Payee, PayeeOpening, RefundSigned};
pub use payer::{Agreed, Held, Payer, PayerOpening, Proposed, Protected, MAX_FUNDING_SIZE};
pub use transaction::{
    FundingError, FundingTx, PaymentTx, RefundTx, SettlementTx, SpendRole, LOCKED_SEQUENCE,
};
pub use verify::SpendError;

fn unexpected(stage: Stage, message: &Message) -> Refusal {
    Refusal::Unexpected {
        stage,
        received: message.kind(),
    }
}

fn for_channel(expected: ChannelId, envelope: Envelope) -> Result<Message, Refusal> {
    if envelope.channel == expected {
        Ok(envelope.message)
    } else {
        Err(Refusal::WrongChannel {
            expected,
            received: envelope.channel,
        })
    }
}
