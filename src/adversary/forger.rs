use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{Message as Digest, SecretKey};
use bitcoin::{Amount, FeeRate, OutPoint, Transaction};

use super::STRANGER;
use crate::channel::{
    Balance, ChannelKey, ChannelParams, Construction, Envelope, FundingTx, Message, Parties, PayerKey,
    PublicNonce, SpendPath, SpendTemplate, UnverifiedSignature,
};
use crate::transcript::Side;

/// What the dishonest side knows: its own key, and the conversation so far.
#[derive(Debug)]
pub struct Forger {
    key: ChannelKey,
    conversation: Vec<(Side, Envelope)>,
}

impl Forger {
    /// Before the first message.
    #[must_use]
    pub const fn new(key: ChannelKey) -> Self {
        Self {
            key,
            conversation: Vec::new(),
        }
    }

    /// Every message of the conversation, of both sides, in order, before the one to be forged.
    pub fn saw(&mut self, from: Side, envelope: &Envelope) {
        self.conversation.push((from, envelope.clone()));
    }

    pub(super) const fn key(&self) -> &ChannelKey {
        &self.key
    }

    /// What was said, the newest first.
    pub(super) fn said(&self) -> impl Iterator<Item = &Message> {
        self.conversation
            .iter()
            .rev()
            .map(|(_, envelope)| &envelope.message)
    }

    /// The proposal as the channel has it.
    pub(super) fn open(&self) -> &Envelope {
        let first = self.conversation.first();
        &first.expect("the conversation was seen from the proposal on").1
    }

    pub(super) fn params(&self) -> ChannelParams {
        let accepted = self.said().find_map(|message| match message {
            Message::Accept {
                payee_key,
                payee_payout,
                confirmation,
            } => Some((*payee_key, payee_payout.clone(), *confirmation)),
            _ => None,
        });
        let (payee_key, payee_payout, confirmation) = accepted.expect("the proposal was accepted");
        let Envelope { channel, message } = self.open().clone();
        let Message::Open {
            terms,
            payer_key,
            payer_payout,
        } = message
        else {
            unreachable!("a conversation begins with a proposal");
        };
        let parties = Parties {
            payer_key,
            payee_key,
            payer_payout,
            payee_payout,
        };
        ChannelParams::new(channel, terms, parties, confirmation).expect("both sides agreed on them")
    }

    /// The funding output.
    pub(super) fn outpoint(&self) -> OutPoint {
        let named = self.said().find_map(|message| match message {
            Message::RefundRequest { tx } => tx.input.first().map(|input| input.previous_output),
            Message::Funding { tx } => {
                let found = FundingTx::find(&self.params(), tx.clone()).ok();
                found.map(|funding| funding.outpoint())
            }
            _ => None,
        });
        named.expect("the funding transaction was named or handed over")
    }

    /// What was paid before.
    pub(super) fn paid(&self) -> Amount {
        let newest = self.said().find_map(|message| match message {
            Message::Payment { paid, .. } => Some(*paid),
            _ => None,
        });
        newest.unwrap_or(Amount::ZERO)
    }

    /// The nonce with which the payee asked to close.
    pub(super) fn nonce(&self) -> PublicNonce {
        let asked = self.said().find_map(|message| match message {
            Message::CloseRequest { nonce, .. } => *nonce,
            _ => None,
        });
        asked.expect("the payee asked with a nonce")
    }

    /// The transaction that a message's signature is for, and the path that it takes.
    pub(super) fn signed_by(&self, params: &ChannelParams, message: &Message) -> (Transaction, SpendPath) {
        let funding = self.outpoint();
        let spend = match message {
            Message::RefundSignature { .. } => SpendTemplate::refund(params, funding),
            Message::Payment { paid, .. } => {
                let balance = balance(params, *paid, params.terms().feerate);
                SpendTemplate::payment(params, funding, &balance)
            }
            Message::Settlement { paid, feerate, .. } => {
                SpendTemplate::settlement(params, funding, &balance(params, *paid, *feerate))
            }
            other => unreachable!("{} has no such signature", other.kind()),
        };
        (spend.unsigned().clone(), spend.path())
    }

    /// This side's signature over any spend of the funding output.
    pub(super) fn sign(
        &self,
        params: &ChannelParams,
        tx: &Transaction,
        path: SpendPath,
    ) -> UnverifiedSignature {
        self.sign_digest(
            params,
            &params.scripts().digest(tx, &params.funding_output(), path),
        )
    }

    pub(super) fn sign_digest(&self, params: &ChannelParams, digest: &Digest) -> UnverifiedSignature {
        self.key.sign(params.scripts().scheme(), digest).to_unverified()
    }

    /// The payer's part of a settlement with one signature, in answer to `nonce`.
    pub(super) fn join(&self, paid: Amount, feerate: FeeRate, nonce: &PublicNonce) -> Message {
        self.join_as(&self.key, paid, feerate, nonce)
    }

    /// The same by a stranger in the place of the payer.
    pub(super) fn join_as(
        &self,
        key: &ChannelKey,
        paid: Amount,
        feerate: FeeRate,
        nonce: &PublicNonce,
    ) -> Message {
        let params = self.params();
        let balance = params
            .cooperative_balance(paid, feerate)
            .unwrap_or_else(|| all_to_payee(paid));
        let spend = SpendTemplate::cooperative(&params, self.outpoint(), &balance);
        let theirs = with_payer(&params, PayerKey::new(key.public_key()));
        let aggregate = theirs
            .aggregate_key()
            .expect("the construction has one key of both");
        let (nonce, partial) = aggregate
            .sign_with(key, nonce, spend.digest())
            .expect("the key is the payer's there");
        Message::CooperativeSettlement {
            paid,
            feerate,
            nonce,
            partial,
        }
    }
}

/// The same channel of another payer.
fn with_payer(params: &ChannelParams, payer_key: PayerKey) -> ChannelParams {
    rebuilt(params, |parties| parties.payer_key = payer_key)
}

/// The same channel between other parties.
pub(super) fn rebuilt(params: &ChannelParams, change: impl FnOnce(&mut Parties)) -> ChannelParams {
    let mut parties = Parties {
        payer_key: params.payer_key(),
        payee_key: params.payee_key(),
        payer_payout: params.payer_payout().to_owned(),
        payee_payout: params.payee_payout().to_owned(),
    };
    change(&mut parties);
    let confirmation = crate::channel::Confirmation {
        depth: params.confirmations(),
        zero_conf_limit: params.zero_conf_limit(),
    };
    ChannelParams::new(params.id(), params.terms().clone(), parties, confirmation)
        .expect("a channel with another key or script is one, too")
}

/// How the capacity is divided; all of it to the payee where it is too little.
fn balance(params: &ChannelParams, paid: Amount, feerate: FeeRate) -> Balance {
    let balance = params.balance_at(paid, feerate);
    balance.unwrap_or_else(|| all_to_payee(paid))
}

const fn all_to_payee(paid: Amount) -> Balance {
    Balance {
        paid,
        change: Amount::ZERO,
        fee: Amount::ZERO,
        to_payee: Some(paid),
        to_payer: None,
    }
}

/// The key of [`STRANGER`].
pub(super) fn stranger() -> ChannelKey {
    let hash = sha256::Hash::hash(STRANGER.as_bytes());
    ChannelKey::new(SecretKey::from_slice(&hash.to_byte_array()).expect("a number below the curve's order"))
}

/// Whether the construction's signatures are those of BIP 340.
pub(super) fn is_schnorr(params: &ChannelParams) -> bool {
    params.terms().construction == Construction::Taproot
}
