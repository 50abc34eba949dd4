#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::hint::black_box;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{ecdsa, schnorr, All, Keypair, Message, PublicKey, Secp256k1, XOnlyPublicKey};
use spilman::channel::Construction;

use crate::common::pair::secret;

/// So many that the processor learns none of them by heart.
const DIGESTS: usize = 1_024;

/// The signatures of a construction by the library alone: one context, and everything else at hand.
pub struct Bare {
    secp: Secp256k1<All>,
    pair: Keypair,
    digests: Vec<Message>,
    signatures: Signatures,
    next: usize,
}

enum Signatures {
    Ecdsa(PublicKey, Vec<ecdsa::Signature>),
    Schnorr(XOnlyPublicKey, Vec<schnorr::Signature>),
}

impl Bare {
    pub fn new(construction: Construction) -> Self {
        let secp = Secp256k1::new();
        let pair = Keypair::from_secret_key(&secp, &secret("payer"));
        let digest =
            |number: usize| Message::from_digest(sha256::Hash::hash(&number.to_le_bytes()).to_byte_array());
        let digests: Vec<Message> = (0..DIGESTS).map(digest).collect();
        let signatures = if construction == Construction::Taproot {
            let sign = |digest| secp.sign_schnorr_no_aux_rand(digest, &pair);
            Signatures::Schnorr(pair.x_only_public_key().0, digests.iter().map(sign).collect())
        } else {
            let sign = |digest| secp.sign_ecdsa(digest, &pair.secret_key());
            Signatures::Ecdsa(pair.public_key(), digests.iter().map(sign).collect())
        };
        Self {
            secp,
            pair,
            digests,
            signatures,
            next: 0,
        }
    }

    pub const fn scheme(&self) -> &'static str {
        match self.signatures {
            Signatures::Ecdsa(..) => "ECDSA",
            Signatures::Schnorr(..) => "Schnorr",
        }
    }

    pub fn sign(&mut self, count: u32) {
        let secret = self.pair.secret_key();
        for _ in 0..count {
            let digest = &self.digests[self.next];
            match self.signatures {
                Signatures::Ecdsa(..) => {
                    black_box(self.secp.sign_ecdsa(digest, &secret));
                }
                Signatures::Schnorr(..) => {
                    black_box(self.secp.sign_schnorr_no_aux_rand(digest, &self.pair));
                }
            }
            self.next = (self.next + 1) % DIGESTS;
        }
    }

    pub fn verify(&mut self, count: u32) {
        for _ in 0..count {
            let (digest, number) = (&self.digests[self.next], self.next);
            match &self.signatures {
                Signatures::Ecdsa(key, made) => self.secp.verify_ecdsa(digest, &made[number], key),
                Signatures::Schnorr(key, made) => self.secp.verify_schnorr(&made[number], digest, key),
            }
            .expect("it was made for this digest");
            self.next = (self.next + 1) % DIGESTS;
        }
    }
}
