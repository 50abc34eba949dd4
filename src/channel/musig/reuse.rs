use bitcoin::secp256k1::SecretKey;
use musig2::secp::{MaybeScalar, Point, Scalar};
use musig2::{AggNonce, SecNonce};

use super::tests::KeyPair;
use super::{to_point, to_scalar};
use crate::channel::keys::SECP;

/// What the types prevent, done with the bare library: a payee that signs three settlements with one nonce has
/// given its secret key to the payer, who knows everything in these equations but `k1`, `k2` and `d`:
///
/// `s = r·k1 + r·b·k2 + e·a·g·d`, where `r` and `g` are signs.
#[test]
fn a_nonce_that_signs_three_times_gives_the_key_away() {
    let KeyPair { payer, payee, output } = &KeyPair::example();
    let (context, aggregate) = (&output.context, output.context.aggregated_pubkey::<Point>());
    let (public, secret) = (to_point(&payee.public_key().serialize()), to_scalar(payee));
    let nonce = SecNonce::build_with_seckey([5; 32], secret).build();
    let sign = MaybeScalar::from(Scalar::one());

    let equations = [1, 2, 3].map(|byte| {
        let message = [byte; 32];
        let theirs = SecNonce::build_with_seckey([byte; 32], to_scalar(payer)).build();
        let sum = AggNonce::sum([nonce.public_nonce(), theirs.public_nonce()]);
        let s: MaybeScalar = musig2::sign_partial(context, secret, nonce.clone(), &sum, message).unwrap();

        let b: MaybeScalar = sum.nonce_coefficient(aggregate, message);
        let point: Point = sum.final_nonce(b);
        let e: MaybeScalar =
            musig2::compute_challenge_hash_tweak(&point.serialize_xonly(), &aggregate, message);
        let r = sign.negate_if(point.parity());
        [r, r * b, e * context.key_coefficient(public).unwrap(), s]
    });

    // Cramer's rule. The sign `g` is one of two, so the payer tries both against the public key.
    let solved = determinant(equations.map(|[r, rb, _, s]| [r, rb, s]))
        * inverse(determinant(equations.map(|[r, rb, ea, _]| [r, rb, ea])));
    let found = [solved, -solved].map(|scalar| SecretKey::from_slice(&scalar.serialize()).unwrap());
    let key = found.map(|secret| secret.public_key(&SECP) == payee.public_key());
    assert!(
        key[0] != key[1],
        "one of the two has to be the payee's secret key: {key:?}"
    );
}

fn determinant([a, b, c]: [[MaybeScalar; 3]; 3]) -> MaybeScalar {
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
}

/// By Fermat's little theorem: the power of the order less two.
fn inverse(value: MaybeScalar) -> MaybeScalar {
    let exponent = (MaybeScalar::max() - MaybeScalar::one()).serialize();
    let bits = exponent
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    bits.fold(MaybeScalar::one(), |power, bit| {
        let square = power * power;
        if bit {
            square * value
        } else {
            square
        }
    })
}
