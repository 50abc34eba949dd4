//! The path that the items of an input take through a script: what it asks for, and what each item is for.
//!
//! Only the opcodes that channels use are followed. Nothing is claimed about a script with any other one on its path.

use std::ops::Range;

use bitcoin::opcodes::all::{
    OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CLTV, OP_CSV, OP_DROP, OP_ELSE, OP_ENDIF, OP_IF, OP_NOTIF, OP_VERIFY,
};
use bitcoin::opcodes::{Class, ClassifyContext, Opcode};
use bitcoin::script::Instruction;
use bitcoin::Script;

use super::keys::ScriptKey;
use super::problem::Problem;
use super::script::pushed;
use super::script_lock::ScriptLock;

/// Something that the path through a script asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A signature by this key.
    Signature(ScriptKey),
    /// The end of this lock.
    Lock(ScriptLock),
}

/// What an item is for.
pub(super) enum Use {
    /// It chooses a side of an `OP_IF`, which asks for these of the path's asks.
    Branch { taken: bool, asks: Range<usize> },
    /// It is the signature that the script checks against this key.
    Signature(ScriptKey),
}

/// A path through a script.
pub(super) struct ScriptPath {
    /// In the order in which the script asks.
    pub asks: Vec<Ask>,
    /// One for each item.
    pub uses: Vec<Option<Use>>,
    /// Why the script fails, as far as the items show it.
    pub problem: Option<Problem>,
}

enum StackValue {
    Item(usize),
    Push(Vec<u8>),
    Verdict,
}

enum Obstacle {
    /// There are too few items.
    Missing,
    /// The script does something that is not followed here.
    Foreign,
}

/// An open `OP_IF`.
struct OpenIf {
    runs: bool,
    /// The item that chose it, and how many asks came before; `None` where it is inside a side that does not run.
    chosen: Option<(usize, usize)>,
}

struct Machine<'a> {
    items: &'a [Vec<u8>],
    tapscript: bool,
    stack: Vec<StackValue>,
    sides: Vec<OpenIf>,
    path: ScriptPath,
}

/// Follows `items` through the script; `None` if an opcode is not followed.
pub(super) fn follow(script: &Script, items: &[Vec<u8>], tapscript: bool) -> Option<ScriptPath> {
    let parts: Vec<Instruction> = script.instructions().collect::<Result<_, _>>().ok()?;
    // A tapscript with such an opcode is valid whatever else it says (BIP 342), even where it does not run.
    let succeeds = |opcode: Opcode| opcode.classify(ClassifyContext::TapScript) == Class::SuccessOp;
    if tapscript && parts.iter().filter_map(Instruction::opcode).any(succeeds) {
        return None;
    }
    let mut machine = Machine {
        items,
        tapscript,
        stack: (0..items.len()).map(StackValue::Item).collect(),
        sides: Vec::new(),
        path: ScriptPath {
            asks: Vec::new(),
            uses: items.iter().map(|_| None).collect(),
            problem: None,
        },
    };
    for part in &parts {
        match machine.step(part) {
            Ok(()) => {}
            Err(Obstacle::Foreign) => return None,
            Err(Obstacle::Missing) => {
                while let Some(side) = machine.sides.pop() {
                    machine.close(&side);
                }
                machine.path.problem = Some(Problem::MissingItems);
                return Some(machine.path);
            }
        }
    }
    match machine.stack.len() {
        _ if !machine.sides.is_empty() => return None,
        0 => return None,
        1 => {}
        _ => machine.path.problem = Some(Problem::LeftoverItems),
    }
    Some(machine.path)
}

impl Machine<'_> {
    fn step(&mut self, part: &Instruction<'_>) -> Result<(), Obstacle> {
        let runs = self.sides.iter().all(|side| side.runs);
        match part.opcode() {
            Some(opcode @ (OP_IF | OP_NOTIF)) => self.open(opcode == OP_IF, runs),
            Some(OP_ELSE) => {
                let side = self.sides.last_mut().ok_or(Obstacle::Foreign)?;
                side.runs = !side.runs;
                Ok(())
            }
            Some(OP_ENDIF) => {
                let side = self.sides.pop().ok_or(Obstacle::Foreign)?;
                self.close(&side);
                Ok(())
            }
            _ if !runs => Ok(()),
            _ => self.run(part),
        }
    }

    fn open(&mut self, side: bool, runs: bool) -> Result<(), Obstacle> {
        if !runs {
            self.sides.push(OpenIf {
                runs: false,
                chosen: None,
            });
            return Ok(());
        }
        let StackValue::Item(item) = self.pop()? else {
            return Err(Obstacle::Foreign);
        };
        let taken = is_true(&self.items[item]);
        let before = self.path.asks.len();
        self.path.uses[item] = Some(Use::Branch {
            taken,
            asks: before..before,
        });
        self.sides.push(OpenIf {
            runs: taken == side,
            chosen: Some((item, before)),
        });
        Ok(())
    }

    /// Gives the item that chose a side what the side asked for.
    fn close(&mut self, side: &OpenIf) {
        let end = self.path.asks.len();
        if let Some((item, before)) = side.chosen {
            if let Some(Use::Branch { asks, .. }) = &mut self.path.uses[item] {
                *asks = before..end;
            }
        }
    }

    fn run(&mut self, part: &Instruction<'_>) -> Result<(), Obstacle> {
        if let Some(bytes) = pushed(part) {
            self.stack.push(StackValue::Push(bytes));
            return Ok(());
        }
        match part.opcode() {
            Some(opcode @ (OP_CHECKSIG | OP_CHECKSIGVERIFY)) => {
                self.check_signature()?;
                if opcode == OP_CHECKSIG {
                    self.stack.push(StackValue::Verdict);
                }
                Ok(())
            }
            Some(opcode @ (OP_CLTV | OP_CSV)) => {
                let Some(StackValue::Push(operand)) = self.stack.last() else {
                    return Err(Obstacle::Foreign);
                };
                let lock = ScriptLock::of(opcode, operand).ok_or(Obstacle::Foreign)?;
                self.path.asks.push(Ask::Lock(lock));
                Ok(())
            }
            Some(OP_DROP | OP_VERIFY) => self.pop().map(drop),
            _ => Err(Obstacle::Foreign),
        }
    }

    fn check_signature(&mut self) -> Result<(), Obstacle> {
        let StackValue::Push(key) = self.pop()? else {
            return Err(Obstacle::Foreign);
        };
        let key = match ScriptKey::read(&key) {
            Some(key @ ScriptKey::XOnly(_)) if self.tapscript => key,
            Some(key @ ScriptKey::Full(_)) if !self.tapscript => key,
            _ => return Err(Obstacle::Foreign),
        };
        // It is asked for even if it is missing, so that a reader learns whose signature is missing.
        self.path.asks.push(Ask::Signature(key));
        let StackValue::Item(item) = self.pop()? else {
            return Err(Obstacle::Foreign);
        };
        self.path.uses[item] = Some(Use::Signature(key));
        Ok(())
    }

    fn pop(&mut self) -> Result<StackValue, Obstacle> {
        self.stack.pop().ok_or(Obstacle::Missing)
    }
}

/// Returns whether the item is true. Zero of any length is false, negative zero as well.
fn is_true(bytes: &[u8]) -> bool {
    let negative_zero =
        matches!(bytes.split_last(), Some((0x80, rest)) if rest.iter().all(|byte| *byte == 0));
    !negative_zero && bytes.iter().any(|byte| *byte != 0)
}
