//! [pure] Proof that a BPF program does what its filter says; shares no code with the compiler
//! but the form of an instruction.
//!
//! The proof is exact, not a sample. A valid program looks at its input only
//! through compares of a masked 32-bit word with a constant. Architecture and
//! number: every interval between two constants (of program or filter) is run
//! once. Arguments: all inputs with the same answers to all compares, of
//! program and rule, are treated alike by both, so one representative of each
//! satisfiable set of answers is run. Beside equality it shows that every
//! instruction was executed.

use super::classes::{self, Atom};
use super::compile::{Insn, MAX_INSNS};
use super::{Filter, Flaw, Rule, Verdict};
use crate::linux::syscall::{Arch, X32_BIT};
use sha2::{Digest, Sha256};
use std::fmt;

/// A program that was proven equal to a filter. Only [`prove`] makes one, and
/// only a `Proven` can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    program: Vec<Insn>,
    digest: [u8; 32],
}

impl Proven {
    /// The instructions.
    pub fn program(&self) -> &[Insn] {
        &self.program
    }

    /// The instructions as the kernel reads them: `struct sock_filter`, little endian.
    pub fn bytes(&self) -> Vec<u8> {
        bytes(&self.program)
    }

    /// SHA-256 of the instructions as the kernel reads them, little endian.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Why a program was not proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refuted {
    /// The filter contradicts itself.
    Flaw(Flaw),
    /// No instructions, or more than the kernel takes.
    Length(usize),
    /// The instruction at this place is none a filter of ours may have.
    Invalid(usize),
    /// A jump or the fall-through from this place leaves the program.
    OutOfBounds(usize),
    /// The compare at this place does not always see the same word.
    Ambiguous(usize),
    /// A foreign architecture gets something else than a kill, or is not settled first.
    Foreign(u32),
    /// Program and filter differ.
    Differs {
        /// The call's number.
        number: u32,
        /// Its arguments.
        args: [u64; 6],
        /// What the filter says.
        expected: Verdict,
        /// What the program returned.
        returned: u32,
    },
    /// The number has more distinct cases than [`classes::MAX_CASES`].
    TooManyCases(u32),
    /// No input executes the instruction at this place.
    Unreached(usize),
}

impl fmt::Display for Refuted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the compiled system-call filter is not proven: ")?;
        match self {
            Self::Flaw(_) => write!(out, "its rules are contradictory"),
            Self::Length(length) => write!(out, "{length} instructions"),
            Self::Invalid(at) => write!(out, "instruction {at} is not one it may have"),
            Self::OutOfBounds(at) => write!(out, "instruction {at} leaves the program"),
            Self::Ambiguous(at) => {
                write!(out, "instruction {at} compares a word that is not settled")
            }
            Self::Foreign(arch) => write!(out, "architecture {arch:#x} is not killed at once"),
            Self::Differs {
                number,
                args,
                expected,
                returned,
            } => {
                write!(
                    out,
                    "call {number} with {args:x?} returns {returned:#x}, not {expected:?}"
                )
            }
            Self::TooManyCases(number) => write!(out, "call {number} has too many cases"),
            Self::Unreached(at) => write!(out, "nothing executes instruction {at}"),
        }
    }
}

impl std::error::Error for Refuted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Flaw(flaw) => Some(flaw),
            _ => None,
        }
    }
}

/// Architectures that are tried whatever the program compares with: i386, ARM,
/// both of ours, both of ours without the 64-bit flag, none, all bits.
const FOREIGN: &[u32] = &[
    0x4000_0003,
    0x4000_0028,
    0xc000_003e,
    0xc000_00b7,
    0x4000_003e,
    0x4000_00b7,
    0,
    u32::MAX,
];

/// Proves that `program` is valid, equal to `filter` for every input, and
/// without a dead instruction.
pub fn prove(filter: &Filter, program: Vec<Insn>) -> Result<Proven, Refuted> {
    let table = filter.table().map_err(Refuted::Flaw)?;
    let ops = decode(&program)?;
    let words = settle(&ops)?;
    let mut check = Check {
        ops: &ops,
        words: &words,
        covered: vec![false; ops.len()],
    };
    check.foreign(filter.arch)?;
    check.numbers(filter, &table)?;
    if let Some(at) = check.covered.iter().position(|covered| !covered) {
        return Err(Refuted::Unreached(at));
    }
    let digest = digest(&program);
    Ok(Proven { program, digest })
}

fn bytes(program: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for insn in program {
        bytes.extend(insn.code.to_le_bytes());
        bytes.extend([insn.jt, insn.jf]);
        bytes.extend(insn.k.to_le_bytes());
    }
    bytes
}

fn digest(program: &[Insn]) -> [u8; 32] {
    Sha256::digest(bytes(program)).into()
}

/// What the kernel must be told for a verdict, by the C library's constants.
fn returns(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Verdict::Record(errno) => libc::SECCOMP_RET_USER_NOTIF | errno as u32,
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    }
}

/// `struct seccomp_data` as 32-bit words: number, architecture, two of the
/// instruction pointer, then low and high half of each argument.
type Data = [u32; 16];

const NUMBER: usize = 0;
const ARCH: usize = 1;
const FIRST_ARG: usize = 4;

/// An instruction with its operands checked: every place it names exists.
#[derive(Clone, Copy)]
enum Op {
    Load(usize),
    Mask(u32),
    Jump(usize),
    Equal { k: u32, yes: usize, no: usize },
    AtLeast { k: u32, yes: usize, no: usize },
    AnyBit { k: u32, yes: usize, no: usize },
    Return(u32),
}

fn decode(program: &[Insn]) -> Result<Vec<Op>, Refuted> {
    if program.is_empty() || program.len() > MAX_INSNS {
        return Err(Refuted::Length(program.len()));
    }
    let length = program.len();
    program
        .iter()
        .enumerate()
        .map(|(at, &insn)| decode_one(insn, at, length))
        .collect()
}

/// The instruction pointer (offsets 8 and 12) must not be looked at: the caller
/// chooses it.
fn decode_one(Insn { code, jt, jf, k }: Insn, at: usize, length: usize) -> Result<Op, Refuted> {
    let within = |skip: usize| {
        Some(at + 1 + skip)
            .filter(|&to| to < length)
            .ok_or(Refuted::OutOfBounds(at))
    };
    let plain = jt == 0 && jf == 0;
    match code {
        0x20 if plain && k % 4 == 0 && k < 64 && k != 8 && k != 12 => {
            within(0).map(|_| Op::Load(k as usize / 4))
        }
        0x54 if plain => within(0).map(|_| Op::Mask(k)),
        0x05 if plain => within(k as usize).map(Op::Jump),
        0x15 => Ok(Op::Equal {
            k,
            yes: within(jt.into())?,
            no: within(jf.into())?,
        }),
        0x35 => Ok(Op::AtLeast {
            k,
            yes: within(jt.into())?,
            no: within(jf.into())?,
        }),
        0x45 => Ok(Op::AnyBit {
            k,
            yes: within(jt.into())?,
            no: within(jf.into())?,
        }),
        0x06 if plain => Ok(Op::Return(k)),
        _ => Err(Refuted::Invalid(at)),
    }
}

/// What the accumulator holds before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accumulator {
    /// No path leads here.
    Unreached,
    /// Different words on different paths, or none yet: must not be compared.
    Mixed,
    /// A word of the input, masked.
    Word(usize, u32),
}

impl Accumulator {
    fn join(&mut self, other: Self) {
        *self = match *self {
            Self::Unreached => other,
            same if same == other => same,
            _ => Self::Mixed,
        };
    }
}

/// Settles which word each instruction sees. One pass will do, since jumps only
/// go forward.
fn settle(ops: &[Op]) -> Result<Vec<Accumulator>, Refuted> {
    let mut before = vec![Accumulator::Unreached; ops.len()];
    before[0] = Accumulator::Mixed;
    for (at, &op) in ops.iter().enumerate() {
        let here = before[at];
        if here == Accumulator::Unreached {
            return Err(Refuted::Unreached(at));
        }
        match (op, here) {
            (Op::Load(word), _) => before[at + 1].join(Accumulator::Word(word, u32::MAX)),
            (Op::Mask(mask), Accumulator::Word(word, have)) if word >= FIRST_ARG => {
                before[at + 1].join(Accumulator::Word(word, have & mask));
            }
            (Op::Jump(to), _) => before[to].join(here),
            (Op::Equal { yes, no, .. }, Accumulator::Word(..)) => {
                before[yes].join(here);
                before[no].join(here);
            }
            (Op::AtLeast { yes, no, .. }, Accumulator::Word(NUMBER, _)) => {
                before[yes].join(here);
                before[no].join(here);
            }
            (Op::AnyBit { yes, no, .. }, Accumulator::Word(FIRST_ARG.., _)) => {
                before[yes].join(here);
                before[no].join(here);
            }
            (Op::Return(_), _) => {}
            _ => return Err(Refuted::Ambiguous(at)),
        }
    }
    Ok(before)
}

struct Check<'a> {
    ops: &'a [Op],
    words: &'a [Accumulator],
    covered: Vec<bool>,
}

impl Check<'_> {
    /// Runs the program, and marks what it executes.
    fn run(&mut self, data: &Data) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            self.covered[at] = true;
            at = match self.ops[at] {
                Op::Load(word) => {
                    accumulator = data[word];
                    at + 1
                }
                Op::Mask(mask) => {
                    accumulator &= mask;
                    at + 1
                }
                Op::Jump(to) => to,
                Op::Equal { k, yes, no } => {
                    if accumulator == k {
                        yes
                    } else {
                        no
                    }
                }
                Op::AnyBit { k, yes, no } => {
                    if accumulator & k != 0 {
                        yes
                    } else {
                        no
                    }
                }
                Op::AtLeast { k, yes, no } => {
                    if accumulator >= k {
                        yes
                    } else {
                        no
                    }
                }
                Op::Return(value) => return value,
            };
        }
    }

    /// Every other architecture is killed before anything else is looked at.
    /// The shape is exact for all values; the runs show that it is reached.
    fn foreign(&mut self, ours: Arch) -> Result<(), Refuted> {
        let kill = returns(Verdict::Kill);
        let shape = match *self.ops {
            [Op::Return(value)] => value == kill,
            [Op::Load(ARCH), Op::Equal { k, no, .. }, ..] => {
                k == ours.audit() && matches!(self.ops[no], Op::Return(value) if value == kill)
            }
            _ => false,
        };
        if !shape {
            return Err(Refuted::Foreign(ours.audit()));
        }
        for &arch in FOREIGN.iter().filter(|&&arch| arch != ours.audit()) {
            let mut data = [u32::MAX; 16];
            data[ARCH] = arch;
            if self.run(&data) != kill {
                return Err(Refuted::Foreign(arch));
            }
        }
        Ok(())
    }

    /// All numbers, one of each interval that nothing distinguishes.
    fn numbers(&mut self, filter: &Filter, table: &[(u32, Rule<'_>)]) -> Result<(), Refuted> {
        let mut listed = table.iter().peekable();
        let mut seen = vec![u32::MAX; self.ops.len()];
        for (turn, number) in self.cuts(table).into_iter().enumerate() {
            let rule = listed.next_if(|row| row.0 == number).map(|row| row.1);
            let rule = rule.unwrap_or(Rule::Always(filter.unlisted));
            let mut atoms = classes::atoms(rule);
            self.program_atoms(filter.arch, number, &mut seen, turn as u32, &mut atoms)?;
            self.cases(filter.arch, number, rule, atoms)?;
        }
        Ok(())
    }

    /// The first number of every interval, ascending.
    fn cuts(&self, table: &[(u32, Rule<'_>)]) -> Vec<u32> {
        let mut cuts = vec![0, X32_BIT - 1, X32_BIT, u32::MAX];
        cuts.extend(
            table
                .iter()
                .flat_map(|&(number, _)| [number, number.saturating_add(1)]),
        );
        for at in 0..self.ops.len() {
            match (self.ops[at], self.words[at]) {
                (Op::Equal { k, .. }, Accumulator::Word(NUMBER, _)) => {
                    cuts.extend([k, k.saturating_add(1)]);
                }
                (Op::AtLeast { k, .. }, Accumulator::Word(NUMBER, _)) => cuts.push(k),
                _ => {}
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// Adds every compare of an argument that the program makes for this number.
    /// `seen` remembers the last turn in which an instruction was visited.
    fn program_atoms(
        &self,
        arch: Arch,
        number: u32,
        seen: &mut [u32],
        turn: u32,
        atoms: &mut Vec<Atom>,
    ) -> Result<(), Refuted> {
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut seen[at], turn) == turn {
                continue;
            }
            match (self.ops[at], self.words[at]) {
                (Op::Return(_), _) => {}
                (Op::Load(_) | Op::Mask(_), _) => todo.push(at + 1),
                (Op::Jump(to), _) => todo.push(to),
                (Op::Equal { k, yes, no }, Accumulator::Word(NUMBER, _)) => {
                    todo.push(if number == k { yes } else { no });
                }
                (Op::AtLeast { k, yes, no }, Accumulator::Word(NUMBER, _)) => {
                    todo.push(if number >= k { yes } else { no });
                }
                (Op::Equal { k, yes, no }, Accumulator::Word(ARCH, _)) => {
                    todo.push(if arch.audit() == k { yes } else { no });
                }
                (Op::AnyBit { k, yes, no }, Accumulator::Word(word @ FIRST_ARG.., mask)) => {
                    atoms.push(Atom {
                        word: word - FIRST_ARG,
                        mask: mask & k,
                        value: 0,
                    });
                    todo.extend([yes, no]);
                }
                (Op::Equal { k, yes, no }, Accumulator::Word(word, mask)) => {
                    atoms.push(Atom {
                        word: word - FIRST_ARG,
                        mask,
                        value: k,
                    });
                    todo.extend([yes, no]);
                }
                _ => return Err(Refuted::Ambiguous(at)),
            }
        }
        Ok(())
    }

    /// Runs one representative of every set of answers to `atoms`.
    fn cases(
        &mut self,
        arch: Arch,
        number: u32,
        rule: Rule<'_>,
        atoms: Vec<Atom>,
    ) -> Result<(), Refuted> {
        let mut data: Data = [0; 16];
        data[NUMBER] = number;
        data[ARCH] = arch.audit();
        for args in classes::inputs(atoms).ok_or(Refuted::TooManyCases(number))? {
            data[FIRST_ARG..].copy_from_slice(&args);
            let args = classes::args(&args);
            let (expected, returned) = (rule.verdict(&args), self.run(&data));
            if returned != returns(expected) {
                return Err(Refuted::Differs {
                    number,
                    args,
                    expected,
                    returned,
                });
            }
        }
        Ok(())
    }
}
