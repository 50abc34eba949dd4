//! The third-party malleation that segwit ended: `(r, s)` and `(r, n - s)` sign the same thing.

use bitcoin::script::{Builder, Instruction, PushBytesBuf, Script};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Transaction, Witness};

use crate::scenario::error::ScenarioError;

/// Returns the transaction with every signature's S negated: still valid in a block, and with another id unless the
/// signatures are in the witness.
pub(super) fn malleate(tx: &Transaction) -> Result<Transaction, ScenarioError> {
    let mut twin = tx.clone();
    for input in &mut twin.input {
        let script = pushes(&input.script_sig)?
            .into_iter()
            .map(flip)
            .collect::<Vec<_>>();
        let mut builder = Builder::new();
        for push in script {
            let push = PushBytesBuf::try_from(push).map_err(|error| failed(&error))?;
            builder = builder.push_slice(push);
        }
        input.script_sig = builder.into_script();
        input.witness = Witness::from_slice(
            &input
                .witness
                .iter()
                .map(<[u8]>::to_vec)
                .map(flip)
                .collect::<Vec<_>>(),
        );
    }
    Ok(twin)
}

fn failed(error: &dyn std::fmt::Display) -> ScenarioError {
    ScenarioError::Range(format!("the transaction cannot be malleated: {error}"))
}

fn pushes(script: &Script) -> Result<Vec<Vec<u8>>, ScenarioError> {
    script
        .instructions()
        .map(|instruction| match instruction {
            Ok(Instruction::PushBytes(bytes)) => Ok(bytes.as_bytes().to_vec()),
            Ok(Instruction::Op(opcode)) => Err(failed(&opcode)),
            Err(error) => Err(failed(&error)),
        })
        .collect()
}

/// Negates a signature's S; anything that is not a signature stays unchanged.
fn flip(element: Vec<u8>) -> Vec<u8> {
    let Some((hash_type, der)) = element.split_last() else {
        return element;
    };
    let Ok(signature) = Signature::from_der(der) else {
        return element;
    };
    let mut compact = signature.serialize_compact();
    let (_, s) = compact.split_at_mut(32);
    // A signature's S is a number below the curve's order, and so is a secret key.
    let Ok(scalar) = SecretKey::from_slice(s) else {
        return element;
    };
    s.copy_from_slice(&scalar.negate().secret_bytes());
    let Ok(other) = Signature::from_compact(&compact) else {
        return element;
    };
    let mut flipped = other.serialize_der().to_vec();
    flipped.push(*hash_type);
    flipped
}
