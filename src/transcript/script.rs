//! Reading scripts: pushes, multisig templates, assembly.

use bitcoin::hex::DisplayHex;
use bitcoin::opcodes::all::{
    OP_CHECKMULTISIG, OP_CLTV, OP_CSV, OP_PUSHNUM_1, OP_PUSHNUM_16, OP_PUSHNUM_NEG1,
};
use bitcoin::opcodes::Opcode;
use bitcoin::script::Instruction;
use bitcoin::{PublicKey, Script};

use super::keys::ScriptKey;
use super::names::Names;

/// Returns the number that `OP_1` to `OP_16` push.
fn small_number(opcode: Opcode) -> Option<u8> {
    let range = OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8();
    range
        .contains(&opcode.to_u8())
        .then(|| opcode.to_u8() - OP_PUSHNUM_1.to_u8() + 1)
}

/// Returns what an instruction pushes, if it is a push.
pub(super) fn pushed(instruction: &Instruction<'_>) -> Option<Vec<u8>> {
    match instruction {
        Instruction::PushBytes(bytes) => Some(bytes.as_bytes().to_vec()),
        Instruction::Op(OP_PUSHNUM_NEG1) => Some(vec![0x81]),
        Instruction::Op(opcode) => small_number(*opcode).map(|number| vec![number]),
    }
}

/// Returns what a scriptSig leaves on the stack, if it has nothing but pushes.
pub(super) fn pushes(script: &Script) -> Option<Vec<Vec<u8>>> {
    script.instructions().map(|part| pushed(&part.ok()?)).collect()
}

/// Returns the threshold and the keys of `m K1 … Kn n OP_CHECKMULTISIG`.
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

/// Returns a script in assembly, with every key and hash in full.
#[must_use]
pub fn asm(script: &Script) -> String {
    words(script, &Names::default()).join(" ")
}

/// Returns the words of a script: pushes in angle brackets, named keys by name, `OP_0` to `OP_16` as numbers.
pub(super) fn words(script: &Script, names: &Names) -> Vec<String> {
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

pub(super) fn word(instruction: Instruction<'_>, names: &Names) -> String {
    match instruction {
        Instruction::PushBytes(bytes) if bytes.is_empty() => "0".to_owned(),
        Instruction::PushBytes(bytes) => {
            let key = ScriptKey::read(bytes.as_bytes());
            let name = key.and_then(|key| names.find_key(&key));
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

/// Returns everything in a script that has the form of a key, which a hash of 32 bytes may have, too.
pub(super) fn keys_in(script: &Script) -> Vec<ScriptKey> {
    let key = |part: Instruction| ScriptKey::read(part.push_bytes()?.as_bytes());
    script.instructions().filter_map(|part| key(part.ok()?)).collect()
}
