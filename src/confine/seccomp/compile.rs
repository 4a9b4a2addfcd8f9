//! [pure] Filter → classic BPF for seccomp(2).
//!
//! The program is written from its end: every jump target is then known when
//! the jump is written, and one that is further than the 255 instructions a
//! conditional jump reaches gets a `ja` or a second `ret` in between.
//! Shape: architecture, then a balanced binary search over the numbers with
//! neighbours of equal verdict merged, then the clauses of conditional calls.

use super::{Clause, Conditional, Filter, Flaw, Rule, Test, Verdict};
use std::fmt;

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when a compare holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// BPF_MAXINSNS.
pub const MAX_INSNS: usize = 4096;

const LD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JA: u16 = 0x05; // BPF_JMP | BPF_JA
const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JSET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JGE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RET: u16 = 0x06; // BPF_RET | BPF_K

// struct seccomp_data, little endian: nr, arch, instruction_pointer, args[6].
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const FULL: u32 = u32::MAX;

/// Why no program came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The filter contradicts itself.
    Flaw(Flaw),
    /// More than [`MAX_INSNS`] instructions.
    TooLong(usize),
}

impl fmt::Display for CompileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flaw(_) => write!(out, "cannot compile the system-call filter"),
            Self::TooLong(length) => write!(
                out,
                "cannot compile the system-call filter: {length} instructions, the kernel takes {MAX_INSNS}"
            ),
        }
    }
}

impl std::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Flaw(flaw) => Some(flaw),
            Self::TooLong(_) => None,
        }
    }
}

/// Compiles a filter. The result is not yet trusted: see [`super::check::prove`].
pub fn compile(filter: &Filter) -> Result<Vec<Insn>, CompileError> {
    let table = filter.table().map_err(CompileError::Flaw)?;
    let mut out = Reversed {
        insns: Vec::with_capacity(512),
        returns: Vec::new(),
        shared: Vec::new(),
    };
    let mut start = out.search(&runs(&table, filter.unlisted));
    if let Target::Code(_) = start {
        start = out.load(NR, FULL);
    }
    let foreign = Target::Return(Verdict::Kill);
    if out.branch(JEQ, filter.arch.audit(), start, foreign) == foreign {
        out.reach(foreign);
    } else {
        out.load(ARCH, FULL);
    }
    out.finish()
}

/// The verdict as a seccomp return value: include/uapi/linux/seccomp.h.
pub fn encode(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Allow => 0x7fff_0000,
        Verdict::Errno(errno) => 0x0005_0000 | errno as u32,
        // The kernel ignores the data bits here; they keep the errno in the proof.
        Verdict::Record(errno) => 0x7fc0_0000 | errno as u32,
        Verdict::Kill => 0x8000_0000,
    }
}

/// Numbers from `start` up to the next run's follow one rule.
struct Run<'a> {
    start: u32,
    rule: Rule<'a>,
}

/// The table as runs that cover all numbers, neighbours with one rule merged.
fn runs<'a>(table: &[(u32, Rule<'a>)], unlisted: Verdict) -> Vec<Run<'a>> {
    let mut runs = vec![Run {
        start: 0,
        rule: Rule::Always(unlisted),
    }];
    let mut push = |start: u32, rule: Rule<'a>| {
        while runs.last().is_some_and(|last| last.start == start) {
            runs.pop();
        }
        if !runs.last().is_some_and(|last| equal(last.rule, rule)) {
            runs.push(Run { start, rule });
        }
    };
    for &(number, rule) in table {
        push(number, rule);
        push(number + 1, Rule::Always(unlisted));
    }
    runs
}

/// Where control goes: a verdict, or an instruction counted from the program's end.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Return(Verdict),
    Code(usize),
}

/// A program under construction, last instruction first.
struct Reversed<'a> {
    insns: Vec<Insn>,
    /// Where each verdict was last written as a `ret`.
    returns: Vec<(Verdict, usize)>,
    /// What was written for each set of conditions; calls that have equal ones share it.
    shared: Vec<(&'a Conditional, Target)>,
}

impl<'a> Reversed<'a> {
    /// Binary search over runs; the number is in the accumulator.
    fn search(&mut self, runs: &[Run<'a>]) -> Target {
        if let [run] = runs {
            return match run.rule {
                Rule::Always(verdict) => Target::Return(verdict),
                Rule::Cases(cases) => self.cases(cases),
            };
        }
        let (low, high) = runs.split_at(runs.len() / 2);
        let above = self.search(high);
        let below = self.search(low);
        self.branch(JGE, high[0].start, above, below)
    }

    fn cases(&mut self, cases: &'a Conditional) -> Target {
        if let Some((_, target)) = self.shared.iter().find(|(have, _)| alike(have, cases)) {
            return *target;
        }
        let otherwise = Target::Return(cases.otherwise);
        let clauses = cases.clauses.iter().rev();
        let target = clauses.fold(otherwise, |next, clause| self.clause(clause, next));
        self.shared.push((cases, target));
        target
    }

    fn clause(&mut self, clause: &Clause, next: Target) -> Target {
        let then = Target::Return(clause.then);
        clause
            .when
            .iter()
            .rev()
            .fold(then, |hit, test| self.test(test, hit, next))
    }

    /// Control goes to `hit` when the test holds, else to `miss`.
    fn test(&mut self, test: &Test, hit: Target, miss: Target) -> Target {
        let (yes, no) = if test.member {
            (hit, miss)
        } else {
            (miss, hit)
        };
        if yes == no {
            return yes;
        }
        let offset = ARGS + 8 * u32::from(test.arg);
        let (low_mask, high_mask) = halves(test.mask);
        if test.values == [0] && high_mask == 0 {
            self.branch(JSET, low_mask, no, yes);
            return self.load(offset, FULL);
        }
        let values = test.values.iter().rev().map(|&value| halves(value));
        if high_mask == 0 {
            values.fold(no, |next, (low, _)| self.branch(JEQ, low, yes, next));
            return self.load(offset, low_mask);
        }
        if low_mask == 0 {
            values.fold(no, |next, (_, high)| self.branch(JEQ, high, yes, next));
            return self.load(offset + 4, high_mask);
        }
        values.fold(no, |next, (low, high)| {
            self.branch(JEQ, low, yes, next);
            let low_half = self.load(offset, low_mask);
            self.branch(JEQ, high, low_half, next);
            self.load(offset + 4, high_mask)
        })
    }

    /// Loads a word, masks it, and goes on with the instruction written before.
    fn load(&mut self, offset: u32, mask: u32) -> Target {
        if mask != FULL {
            self.push(AND, 0, 0, mask);
        }
        Target::Code(self.push(LD, 0, 0, offset))
    }

    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.reach(yes), self.reach(no));
        let here = self.insns.len();
        let distance = |label: usize| u8::try_from(here - label - 1).unwrap_or(u8::MAX);
        Target::Code(self.push(code, distance(yes), distance(no), k))
    }

    /// An instruction that leads to `target` and that the next jump reaches,
    /// even when one more instruction is written in between.
    fn reach(&mut self, target: Target) -> usize {
        let here = self.insns.len();
        let near = |label: &usize| here - label < usize::from(u8::MAX);
        match target {
            Target::Code(label) if near(&label) => label,
            Target::Code(label) => {
                let skipped = u32::try_from(here - label - 1).unwrap_or(u32::MAX);
                self.push(JA, 0, 0, skipped)
            }
            Target::Return(verdict) => {
                let known = self.returns.iter().rev().find(|(have, _)| *have == verdict);
                match known.map(|&(_, label)| label).filter(near) {
                    Some(label) => label,
                    None => {
                        let label = self.push(RET, 0, 0, encode(verdict));
                        self.returns.push((verdict, label));
                        label
                    }
                }
            }
        }
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        self.insns.push(Insn { code, jt, jf, k });
        self.insns.len() - 1
    }

    fn finish(mut self) -> Result<Vec<Insn>, CompileError> {
        if self.insns.len() > MAX_INSNS {
            return Err(CompileError::TooLong(self.insns.len()));
        }
        self.insns.reverse();
        Ok(self.insns)
    }
}

/// Whether two rules decide alike because they are written alike.
fn equal(one: Rule<'_>, other: Rule<'_>) -> bool {
    match (one, other) {
        (Rule::Always(one), Rule::Always(other)) => one == other,
        (Rule::Cases(one), Rule::Cases(other)) => alike(one, other),
        _ => false,
    }
}

/// Whether two calls have the same conditions; names and reasons do not count.
fn alike(one: &Conditional, other: &Conditional) -> bool {
    let same = |(one, other): (&Clause, &Clause)| one.then == other.then && one.when == other.when;
    one.otherwise == other.otherwise
        && one.clauses.len() == other.clauses.len()
        && one.clauses.iter().zip(&other.clauses).all(same)
}

/// Low and high 32 bits.
fn halves(value: u64) -> (u32, u32) {
    ((value & u64::from(FULL)) as u32, (value >> 32) as u32)
}
