use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use minicbor::Decoder;

use super::{elements, WireError, VERSION};
use crate::channel::{
    Capacity, ChannelId, ClosingMargin, Confirmation, Construction, Envelope, Expiry, Features, Message,
    MessageKind, PartialSignature, PayeeKey, PayerKey, Protocol, PublicNonce, RefundLock, RefusalReason,
    Resume, Resumed, ResumedState, SignedPayment, Terms, Unverified, UnverifiedSignature, VersionRange,
};

/// Reads field after field; what is not the one encoding of a message is told from what it would have been.
pub(super) struct Reader<'b>(pub Decoder<'b>);

impl<'b> Reader<'b> {
    pub fn envelope(&mut self) -> Result<Envelope, WireError> {
        let received = self.0.array().map_err(|e| self.cbor("array", &e))?;
        let received = received.ok_or(WireError::NotCanonical { position: 0 })?;
        let number = self.number::<u8>("kind")?;
        let kind = MessageKind::ALL.into_iter().find(|kind| *kind as u8 == number);
        let kind = kind.ok_or(WireError::UnknownKind { number })?;
        let expected = elements(kind);
        if received != expected {
            return Err(WireError::FieldCount {
                kind,
                expected,
                received,
            });
        }
        let channel = ChannelId(self.number("channel")?);
        Ok(Envelope {
            channel,
            message: self.message(kind)?,
        })
    }

    fn message(&mut self, kind: MessageKind) -> Result<Message, WireError> {
        Ok(match kind {
            MessageKind::Open => self.open()?,
            MessageKind::Accept => Message::Accept {
                payee_key: PayeeKey::new(self.key("payee key")?),
                payee_payout: self.script("payee payout")?,
                confirmation: Confirmation {
                    depth: self.number("confirmations")?,
                    zero_conf_limit: self.amount("unconfirmed limit")?,
                },
            },
            MessageKind::RefundRequest => Message::RefundRequest {
                tx: self.transaction()?,
            },
            MessageKind::RefundSignature => Message::RefundSignature {
                signature: self.signature("signature")?,
            },
            MessageKind::FundingRequest => Message::FundingRequest,
            MessageKind::Funding => Message::Funding {
                tx: self.transaction()?,
            },
            MessageKind::Ready => Message::Ready,
            MessageKind::PaymentRequest => Message::PaymentRequest {
                paid: self.amount("paid")?,
            },
            MessageKind::Payment => Message::Payment {
                paid: self.amount("paid")?,
                signature: self.signature("signature")?,
            },
            MessageKind::PaymentAccepted => Message::PaymentAccepted {
                paid: self.amount("paid")?,
            },
            MessageKind::CloseRequest => Message::CloseRequest {
                feerate: self.feerate("feerate")?,
                nonce: self.optional("nonce", Self::nonce)?,
            },
            MessageKind::CooperativeSettlement => Message::CooperativeSettlement {
                paid: self.amount("paid")?,
                feerate: self.feerate("feerate")?,
                nonce: self.nonce("nonce")?,
                partial: self.partial("partial signature")?,
            },
            MessageKind::Settlement => Message::Settlement {
                paid: self.amount("paid")?,
                feerate: self.feerate("feerate")?,
                signature: self.signature("signature")?,
            },
            MessageKind::Closed => Message::Closed {
                txid: self.txid("txid")?,
            },
            MessageKind::Refuse => Message::Refuse {
                reason: self.one_of("reason", RefusalReason::OF_MESSAGES, |reason| reason as u8)?,
            },
            MessageKind::Hello => Message::Hello {
                versions: self.versions()?,
                features: Features::from_bits(u64::from_be_bytes(self.array("features")?)),
                random: self.array("random")?,
            },
            MessageKind::Resume => Message::Resume(Unverified {
                claim: Resume {
                    funding: OutPoint::new(self.txid("txid")?, self.number("vout")?),
                    signed: self.amount("signed")?,
                    acknowledged: self.optional("acknowledged", Self::amount)?,
                },
                proof: self.signature("proof")?,
            }),
            MessageKind::Resumed => Message::Resumed(Unverified {
                claim: Resumed {
                    latest_payment: self.latest_payment()?,
                    state: self.state()?,
                },
                proof: self.signature("proof")?,
            }),
        })
    }

    fn open(&mut self) -> Result<Message, WireError> {
        let version = self.number::<u8>("version")?;
        if version != VERSION {
            return Err(WireError::Version {
                expected: VERSION,
                received: version,
            });
        }
        let protocol = self.one_of("protocol", &Protocol::ALL, |protocol| protocol as u8)?;
        let construction = self.one_of("construction", &Construction::ALL, |construction| {
            construction as u8
        })?;
        let terms = Terms {
            protocol,
            construction,
            capacity: {
                let position = self.0.position();
                let amount = self.amount("capacity")?;
                Capacity::new(amount).map_err(|e| WireError::Value {
                    field: "capacity",
                    position,
                    error: e.to_string(),
                })?
            },
            feerate: self.feerate("feerate")?,
            dust_feerate: self.feerate("dust feerate")?,
            refund_lock: if construction.has_relative_lock() {
                self.relative_lock("expiry")?
            } else {
                self.expiry("expiry")?.into()
            },
            payment_expiry: self.optional("payment expiry", Self::expiry)?,
            closing_margin: ClosingMargin::from_blocks(self.number("closing margin")?),
            minimum_payment: self.amount("minimum payment")?,
            reserve: self.amount("reserve")?,
        };
        Ok(Message::Open {
            terms,
            payer_key: PayerKey::new(self.key("payer key")?),
            payer_payout: self.script("payer payout")?,
        })
    }

    fn versions(&mut self) -> Result<VersionRange, WireError> {
        let position = self.0.position();
        let (least, greatest) = (self.number("least version")?, self.number("greatest version")?);
        VersionRange::new(least, greatest).map_err(|e| WireError::Value {
            field: "least version",
            position,
            error: e.to_string(),
        })
    }

    fn latest_payment(&mut self) -> Result<Option<SignedPayment>, WireError> {
        let paid = self.optional("paid", Self::amount)?;
        let position = self.0.position();
        let signature = self.optional("signature", Self::signature)?;
        match (paid, signature) {
            (Some(paid), Some(signature)) => Ok(Some(SignedPayment { paid, signature })),
            (None, None) => Ok(None),
            (Some(_), None) => Err("expected 64 bytes beside a sum, got null"),
            (None, Some(_)) => Err("expected null beside a sum of null, got 64 bytes"),
        }
        .map_err(|error| WireError::Value {
            field: "signature",
            position,
            error: error.to_owned(),
        })
    }

    fn state(&mut self) -> Result<ResumedState, WireError> {
        let position = self.0.position();
        let number = self.number("state")?;
        let txid = self.optional("txid", Self::txid)?;
        ResumedState::from_parts(number, txid).ok_or_else(|| WireError::Value {
            field: "state",
            position,
            error: match txid {
                Some(txid) => format!("there is no state {number} with a txid, got {txid}"),
                None => format!("there is no state {number} without a txid"),
            },
        })
    }

    /// An unsigned number of at most the type's size.
    fn number<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, WireError> {
        let position = self.0.position();
        let value = self.0.u64().map_err(|e| self.cbor(field, &e))?;
        T::try_from(value).map_err(|_| WireError::Value {
            field,
            position,
            error: format!("{value} is out of range"),
        })
    }

    /// One of a closed list, whose numbers may have gaps.
    fn one_of<T: Copy>(
        &mut self,
        field: &'static str,
        all: &[T],
        number_of: fn(T) -> u8,
    ) -> Result<T, WireError> {
        let position = self.0.position();
        let number = self.number::<u8>(field)?;
        let found = all.iter().copied().find(|one| number_of(*one) == number);
        found.ok_or_else(|| {
            let last = all.last().map_or(0, |last| number_of(*last));
            WireError::Value {
                field,
                position,
                error: format!("{number} is unknown, the last known is {last}"),
            }
        })
    }

    fn amount(&mut self, field: &'static str) -> Result<Amount, WireError> {
        let position = self.0.position();
        let amount = Amount::from_sat(self.number(field)?);
        if amount > Amount::MAX_MONEY {
            let error = format!("{amount} exceeds the supply of bitcoin, {}", Amount::MAX_MONEY);
            return Err(WireError::Value {
                field,
                position,
                error,
            });
        }
        Ok(amount)
    }

    /// In sat/kwu, and no more than 32 bits, so that no fee computed from it can overflow.
    fn feerate(&mut self, field: &'static str) -> Result<FeeRate, WireError> {
        Ok(FeeRate::from_sat_per_kwu(u64::from(self.number::<u32>(field)?)))
    }

    fn expiry(&mut self, field: &'static str) -> Result<Expiry, WireError> {
        Ok(match LockTime::from_consensus(self.number(field)?) {
            LockTime::Blocks(height) => Expiry::from_height(height),
            LockTime::Seconds(time) => Expiry::from_time(time),
        })
    }

    fn relative_lock(&mut self, field: &'static str) -> Result<RefundLock, WireError> {
        let position = self.0.position();
        let number: u32 = self.number(field)?;
        RefundLock::from_sequence(number).ok_or_else(|| WireError::Value {
            field,
            position,
            error: format!("{number:#010x} is not a relative lock"),
        })
    }

    fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.0.datatype().map_err(|e| self.cbor(field, &e))? == minicbor::data::Type::Null {
            self.0.null().map_err(|e| self.cbor(field, &e))?;
            return Ok(None);
        }
        read(self, field).map(Some)
    }

    fn nonce(&mut self, field: &'static str) -> Result<PublicNonce, WireError> {
        let position = self.0.position();
        PublicNonce::from_bytes(self.array(field)?).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn partial(&mut self, field: &'static str) -> Result<PartialSignature, WireError> {
        let position = self.0.position();
        PartialSignature::from_bytes(self.array(field)?).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn bytes(&mut self, field: &'static str) -> Result<&'b [u8], WireError> {
        self.0.bytes().map_err(|e| self.cbor(field, &e))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let position = self.0.position();
        let bytes = self.bytes(field)?;
        let len = bytes.len();
        bytes.try_into().map_err(|_| WireError::Value {
            field,
            position,
            error: format!("expected {N} bytes, got {len}"),
        })
    }

    fn signature(&mut self, field: &'static str) -> Result<UnverifiedSignature, WireError> {
        self.array(field).map(UnverifiedSignature::from_compact)
    }

    fn txid(&mut self, field: &'static str) -> Result<Txid, WireError> {
        self.array(field).map(Txid::from_byte_array)
    }

    fn key(&mut self, field: &'static str) -> Result<PublicKey, WireError> {
        let position = self.0.position();
        let bytes: [u8; 33] = self.array(field)?;
        PublicKey::from_slice(&bytes).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn script(&mut self, field: &'static str) -> Result<ScriptBuf, WireError> {
        self.bytes(field).map(|bytes| ScriptBuf::from(bytes.to_vec()))
    }

    fn transaction(&mut self) -> Result<Transaction, WireError> {
        let field = "transaction";
        let position = self.0.position();
        let bytes = self.bytes(field)?;
        super::transaction(bytes).map_err(|e| WireError::Value {
            field,
            position,
            error: e.to_string(),
        })
    }

    fn cbor(&self, field: &'static str, error: &minicbor::decode::Error) -> WireError {
        let position = error.position().unwrap_or_else(|| self.0.position());
        WireError::Cbor {
            field,
            position,
            error: error.to_string(),
        }
    }
}
