//! The protocol, pure: parameters, scripts, transactions, verification, and the two parties as state
//! machines. Nothing here does I/O, reads a clock or makes random numbers.
//!
//! The opening is a chain of types, [`PayerOpening`] and [`PayeeOpening`]. Then [`Payer::apply`] and
//! [`Payee::apply`] take one [`Event`] after the other and answer with the [`Action`]s to carry out. A whole
//! channel without a connection and without a chain:
//!
//! ```
//! use bitcoin::absolute::{Height, Time};
//! use bitcoin::secp256k1::SecretKey;
//! use bitcoin::{Amount, CompressedPublicKey, Psbt, ScriptBuf, Transaction, TxIn, Witness};
//! use spilman::channel::*;
//!
//! # fn key(byte: u8) -> (ChannelKey, ScriptBuf) {
//! #     let key = ChannelKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
//! #     let payout = ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash());
//! #     (key, payout)
//! # }
//! let tip = Tip { height: Height::from_consensus(800_000)?, mtp: Time::from_consensus(1_700_000_000)? };
//! let capacity = Capacity::new(Amount::from_sat(1_000_000))?;
//! let terms = Terms::with(Protocol::Example7, Construction::P2wsh, capacity, tip)?;
//! let ((k1, to_payer), (k2, to_payee)) = (key(1), key(2));
//!
//! // Steps 1 to 5: nothing is locked before the refund is signed and verified.
//! let limits = Limits::default;
//! let (payer, open) = PayerOpening::propose(ChannelId(1), terms, k1, to_payer, limits(), tip)?;
//! let (AcceptedProposal::SignsRefund(payee), accept) = PayeeOpening::accept(open, k2, to_payee, limits(), tip)? else {
//!     panic!("the refund is not in the script");
//! };
//! let payer = payer.accept(accept)?;
//! let signed = Transaction { // by the payer's wallet, left out here
//!     version: bitcoin::transaction::Version::TWO,
//!     lock_time: bitcoin::absolute::LockTime::ZERO,
//!     input: vec![TxIn { witness: Witness::from_slice(&[[1; 71]]), ..TxIn::default() }],
//!     output: vec![payer.funding_output()],
//! };
//! let FundedOpening::CoSigned(payer, request) = payer.fund(signed)? else { panic!("nor is it for the payer") };
//! let (payee, answers) = payee.sign_refund(request, tip)?;
//! let payer = payer.verify_refund(answers[0].clone())?;
//!
//! // Step 6: the payer lets go of the funding transaction; the payee checks it and would broadcast it.
//! let (mut payer, actions) = payer.into_payer();
//! let Some(Action::Send(funding)) = actions.last() else { panic!("example 7 hands it over") };
//! let (mut payee, _) = payee.receive_funding(funding.clone())?;
//!
//! // Three confirmations later payments count.
//! let confirmed = ChainView { tip, confirmations: 3, funding_parent: Some(tip), spend: None };
//! let mut inbox = payee.apply(Event::Chain(confirmed))?;
//! let mut to_payer = true;
//! while let Some(Action::Send(message)) = inbox.iter().find(|action| matches!(action, Action::Send(_))) {
//!     let event = Event::Message(message.clone());
//!     inbox = if to_payer { payer.apply(event)? } else { payee.apply(event)? };
//!     to_payer = !to_payer;
//! }
//! let payment = payer.apply(Event::Pay(Amount::from_sat(5_000)))?;
//! let [Action::Persist(_), Action::Send(message)] = &payment[..] else { panic!("stored, then sent") };
//! payee.apply(Event::Message(message.clone()))?;
//! assert_eq!(payee.paid(), Amount::from_sat(5_000));
//! assert!(payee.redeemable()?.expect("a payment").balance().is_enforceable());
//!
//! // A wallet that knows nothing of channels can finish it: it takes a PSBT (BIP 174), here in base64.
//! let for_wallet = payee.payment_psbt().expect("a payment").to_string();
//! let psbt: Psbt = for_wallet.parse()?;
//! assert_eq!(psbt.inputs[0].partial_sigs.len(), 1, "the payer's, and the wallet adds the payee's");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod amount;
mod bump;
mod channel_keys;
mod claim;
mod construction;
mod digest;
mod durable;
mod error;
mod event;
mod feerate;
mod funding;
mod hello;
mod keys;
mod limits;
mod lock;
mod message;
mod musig;
mod params;
mod params_error;
mod payee;
mod payer;
mod payment_template;
mod protocol;
mod psbt;
mod reason;
mod resume;
mod script_check;
mod stage;
mod terms;
#[cfg(test)]
pub(crate) mod test_support;
mod transaction;

pub use amount::{dust_limit, Balance, Capacity, CapacityError};
#[cfg(feature = "service")]
pub(crate) use bump::Raisable;
pub use bump::{ChildTx, Cpfp, CpfpError, CpfpPackage, MAX_CHILD_VSIZE};
pub use channel_keys::{ChannelKeys, KeyId, KeyRole};
pub use construction::Construction;
pub(crate) use construction::SpendPath;
pub use durable::{
    Change, ChannelState, PayeePhase, PayeeProgress, PayeeState, PayerPhase, PayerProgress, PayerState,
    Progress, RestoreError, SettlementForm, SignedPayment, SignedSettlement,
};
pub use error::{ApplyError, CommandError, PaymentError, RefundError, Refusal};
pub use event::{
    Action, BroadcastResult, ChainView, Event, Notice, Outcome, SeenSpend, BLIND_BLOCKS, SETTLED_DEPTH,
};
pub use funding::{FundingError, FundingTx};
pub use hello::{Features, VersionRange, VersionRangeError};
pub(crate) use keys::Scheme;
pub use keys::{ChannelKey, PayeeKey, PayerKey, SignatureError, UnverifiedSignature, VerifiedSignature};
#[cfg(feature = "fixtures")]
pub(crate) use keys::{Signer, SECP};
#[cfg(feature = "fixtures")]
pub(crate) use limits::check_construction;
pub use limits::{Limits, TermsError};
pub use lock::{ClosingMargin, Expiry, LockKind, RefundLock, Tip, LOCKED_SEQUENCE};
pub use message::{Envelope, Message, MessageKind};
pub use musig::{
    AggregateKey, AggregateOutputKey, MusigError, NonceSeed, NonceSource, PartialSignature, PublicNonce,
    SecretNonce,
};
pub(crate) use params::Parties;
pub use params::{ChannelId, ChannelParams, Confirmation};
pub use params_error::ParamsError;
pub use payee::{Accepted, AcceptedProposal, AwaitsFunding, Payee, PayeeOpening};
pub use payer::{
    Agreed, FundError, Funded, FundedOpening, Payer, PayerOpening, Proposed, Protected, MAX_FUNDING_SIZE,
};
pub use protocol::Protocol;
pub use reason::RefusalReason;
#[cfg(feature = "fixtures")]
pub(crate) use resume::digest as proof_digest;
pub use resume::{HelloRandoms, ProofError, Resume, Resumed, ResumedState, Unverified};
#[cfg(feature = "electrum")]
pub(crate) use script_check::verify_input;
pub use script_check::SpendError;
pub use stage::Stage;
pub use terms::{NoLockError, Terms};
pub(crate) use transaction::SpendTemplate;
pub use transaction::{PaymentTx, RefundTx, SettlementTx, SpendRole, SPEND_VERSION};
