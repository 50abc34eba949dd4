//! Reading scripts: pushes, multisig templates, assembly.

use bitcoin::hex::DisplayHex;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CLTV, OP_CSV, OP_PUSHNUM_1, OP_PUSHNUM_16, OP_PUSHNUM_NEG1,
};
use bitcoin::opcodes::Opcode;
use bitcoin::script::Instruction;
use bitcoin::{PublicKey, Script, ScriptBuf};

use super::names::Names;

/// The output script that the items imply, where the spent output is not known.
pub(super) fn infer(pushes: &[Vec<u8>], witness: &[Vec<u8>]) -> Option<ScriptBuf> {
    let script = |bytes: &Vec<u8>| ScriptBuf::from_bytes(bytes.clone());
    match (pushes, witness) {
        ([program], [_, ..]) if script(program).is_witness_program() => Some(script(program).to_p2sh()),
        ([_, key], []) if is_key(key) => Some(ScriptBuf::new_p2pkh(
            &PublicKey::from_slice(key).ok()?.pubkey_hash(),
        )),
        ([], [_, key]) if is_key(key) => Some(ScriptBuf::new_p2wpkh(
            &PublicKey::from_slice(key).ok()?.wpubkey_hash().ok()?,
        )),
        ([.., last], []) if multisig(&script(last)).is_some() => Some(script(last).to_p2sh()),
        ([], [.., last]) if multisig(&script(last)).is_some() => Some(script(last).to_p2wsh()),
        _ => None,
    }
}

fn is_key(bytes: &[u8]) -> bool {
    PublicKey::from_slice(bytes).is_ok()
}

/// The number that `OP_1` to `OP_16` push.
fn small_number(opcode: Opcode) -> Option<u8> {
    let range = OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8();
    range
        .contains(&opcode.to_u8())
        .then(|| opcode.to_u8() - OP_PUSHNUM_1.to_u8() + 1)
}

/// What a scriptSig leaves on the stack, if it is made of pushes alone.
pub(super) fn pushes(script: &Script) -> Option<Vec<Vec<u8>>> {
    let push = |instruction| match instruction {
        Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes().to_vec()),
        Ok(Instruction::Op(OP_PUSHNUM_NEG1)) => Some(vec![0x81]),
        Ok(Instruction::Op(opcode)) => small_number(opcode).map(|number| vec![number]),
        Err(_) => None,
    };
    script.instructions().map(push).collect()
}

/// The threshold and the keys of `m K1 … Kn n OP_CHECKMULTISIG`.
pub(super) fn multisig(script: &Script) -> Option<(usize, Vec<PublicKey>)> {
    let parts: Vec<Instruction> = script.instructions().collect::<Result<_, _>>().ok()?;
    let [Instruction::Op(m), keys @ .., Instruction::Op(n), Instruction::Op(OP_CHECKMULTISIG)] = &parts[..]
    else {
        return None;
    };
    let (m, n) = (usize::from(small_number(*m)?), usize::from(small_number(*n)?));
    let key = |part: &Instruction| PublicKey::from_slice(part.push_bytes()?.as_bytes()).ok();
    let keys: Vec<PublicKey> = keys.iter().map(key).collect::<Option<_>>()?;
    (m <= n && keys.len() == n).then_some((m, keys))
}

/// The words of a script: pushes in angle brackets, named keys by name, `OP_0` to `OP_16` as numbers.
pub(super) fn asm(script: &Script, names: &Names) -> Vec<String> {
    let mut words = Vec::new();
    let mut instructions = script.instructions();
    loop {
        let rest = instructions.as_script().to_hex_string();
        match instructions.next() {
            Some(Ok(instruction)) => words.push(word(instruction, names)),
            Some(Err(_)) => words.push(format!("[malformed: {rest}]")),
            None => return words,
        }
    }
}

fn word(instruction: Instruction<'_>, names: &Names) -> String {
    match instruction {
        Instruction::PushBytes(bytes) if bytes.is_empty() => "0".to_owned(),
        Instruction::PushBytes(bytes) => {
            let key = PublicKey::from_slice(bytes.as_bytes()).ok();
            let name = key.and_then(|key| names.name_of_key(&key));
            name.map_or_else(
                || format!("<{:x}>", bytes.as_bytes().as_hex()),
                |name| format!("<{name}>"),
            )
        }
        Instruction::Op(OP_CLTV) => "OP_CHECKLOCKTIMEVERIFY".to_owned(),
        Instruction::Op(OP_CSV) => "OP_CHECKSEQUENCEVERIFY".to_owned(),
        Instruction::Op(OP_PUSHNUM_NEG1) => "-1".to_owned(),
        Instruction::Op(op) => small_number(op).map_or_else(|| op.to_string(), |number| number.to_string()),
    }
}

pub(super) fn keys_in(script: &Script) -> Vec<PublicKey> {
    let key = |part: Instruction| PublicKey::from_slice(part.push_bytes()?.as_bytes()).ok();
    script.instructions().filter_map(|part| key(part.ok()?)).collect()
}
