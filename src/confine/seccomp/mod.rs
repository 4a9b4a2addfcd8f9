//! [pure] System-call filters as values: which call gets which verdict, and why.
//!
//! ```text
//! policy → filter() → Filter ─┬→ compile() → [Insn] ─┐
//!                             └───────── prove() ────┴→ Proven → seccomp(2)
//! ```
//! A [`Filter`] is a total map from (number, arguments) to a [`Verdict`] for one
//! architecture. A call it does not list, which includes every x32 number
//! (bit 30 set) and every number newer than our table, gets ENOSYS: programs
//! then use what older kernels have. A call through another architecture's
//! entry (i386 `int 0x80`, 32-bit ARM) kills the process, since its numbers
//! mean other calls.

pub mod check;
pub mod classes;
pub mod compile;
#[rustfmt::skip] // a table: one clause on one line
pub mod conditions;
pub mod diff;
#[cfg(test)]
mod grid;
pub mod preset;
pub mod profile;
#[cfg(test)]
mod rows;

use crate::linux::syscall::{Arch, Syscall};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Why a verdict is as it is: static for built-in rules, the operator's words for grants.
pub type Why = Cow<'static, str>;

/// What a matching call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The kernel runs it.
    Allow,
    /// It fails with this errno and does nothing.
    Errno(Errno),
    /// The broker is told and answers with this errno; with no broker the kernel answers ENOSYS.
    Record(Errno),
    /// The process ends with SIGSYS (SECCOMP_RET_KILL_PROCESS).
    Kill,
}

impl Verdict {
    /// Whether the kernel does what was asked.
    pub fn allows(self) -> bool {
        self == Self::Allow
    }
}

/// The errors our filters give: errno(3), the same numbers on x86_64 and aarch64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum Errno {
    /// The call returns 0 and does nothing.
    SUCCESS = 0,
    /// Refused.
    EPERM = 1,
    /// No such option.
    EINVAL = 22,
    /// No such system call.
    ENOSYS = 38,
    /// No such protocol.
    EPROTONOSUPPORT = 93,
    /// Not on this file system.
    EOPNOTSUPP = 95,
    /// No such address family.
    EAFNOSUPPORT = 97,
}

/// `argument & mask` is one of `values` (`member`), or none of them (not `member`).
///
/// A mask of 0xffff_ffff is a compare of the low 32 bits, which is right for
/// every argument that the kernel takes as an int: the high half of the
/// register is then garbage of the caller's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// Which of its bits count; never 0.
    pub mask: u64,
    /// Compared with; never empty, no bits outside `mask`, none twice.
    pub values: Vec<u64>,
    /// Whether being one of `values` satisfies the test, or being none of them.
    pub member: bool,
}

impl Test {
    /// Whether these arguments satisfy it.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let masked = args[usize::from(self.arg) % 6] & self.mask;
        self.values.contains(&masked) == self.member
    }
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = if self.member { "is" } else { "is not" };
        write!(out, "arg{} & {:#x} {relation}", self.arg, self.mask)?;
        for (at, value) in self.values.iter().enumerate() {
            write!(out, "{}{value:#x}", if at == 0 { " " } else { " or " })?;
        }
        Ok(())
    }
}

/// When all tests hold, the verdict is `then`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// All must hold.
    pub when: Vec<Test>,
    /// The verdict.
    pub then: Verdict,
    /// The reason.
    pub why: Why,
}

/// Calls that get one verdict whatever their arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The verdict.
    pub then: Verdict,
    /// The reason.
    pub why: Why,
    /// The calls.
    pub calls: Vec<Syscall>,
}

/// A call whose verdict depends on its arguments: the first clause that holds decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditional {
    /// The call.
    pub call: Syscall,
    /// Tried in order.
    pub clauses: Vec<Clause>,
    /// The verdict when no clause holds.
    pub otherwise: Verdict,
    /// Why `otherwise`.
    pub why: Why,
}

impl Conditional {
    /// The verdict for these arguments.
    pub fn verdict(&self, args: &[u64; 6]) -> Verdict {
        self.deciding(args)
            .map_or(self.otherwise, |clause| clause.then)
    }

    /// The first clause that holds for these arguments.
    fn deciding(&self, args: &[u64; 6]) -> Option<&Clause> {
        self.clauses
            .iter()
            .find(|clause| clause.when.iter().all(|test| test.holds(args)))
    }
}

/// A total map from system calls to verdicts, for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Calls through any other architecture kill the process.
    pub arch: Arch,
    /// Verdicts that do not look at arguments.
    pub groups: Vec<Group>,
    /// Verdicts that do.
    pub conditional: Vec<Conditional>,
    /// The verdict for every number that no call above has.
    pub unlisted: Verdict,
}

/// What a filter says of one number.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// The same for all arguments.
    Always(Verdict),
    /// Depends on the arguments.
    Cases(&'a Conditional),
}

/// A filter that contradicts itself or cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The architecture has no such call.
    NoSuchCall(Syscall, Arch),
    /// The call has two rules.
    Twice(Syscall),
    /// A test of this call names an argument above 5, has an empty mask or no
    /// values, a value twice, or a value outside its mask.
    BadTest(Syscall, Test),
    /// A clause of this call has no test, so that it would hide those after it.
    Untested(Syscall),
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchCall(call, arch) => {
                write!(out, "system call {call} does not exist on {arch:?}")
            }
            Self::Twice(call) => write!(out, "system call {call} has two rules in one filter"),
            Self::BadTest(call, test) => write!(
                out,
                "system call {call} has a test that means nothing: {test}"
            ),
            Self::Untested(call) => write!(out, "system call {call} has a clause without a test"),
        }
    }
}

impl std::error::Error for Flaw {}

impl Filter {
    /// How many calls it allows, allows by their arguments, and refuses by name.
    pub fn summary(&self) -> String {
        let count = |allows: bool| {
            let groups = self
                .groups
                .iter()
                .filter(|group| group.then.allows() == allows);
            groups.map(|group| group.calls.len()).sum::<usize>()
        };
        format!(
            "{} calls allowed, {} by their arguments, {} refused by name, all others {:?}",
            count(true),
            self.conditional.len(),
            count(false),
            self.unlisted
        )
    }

    /// Every listed number with its rule, ascending.
    pub fn table(&self) -> Result<Vec<(u32, Rule<'_>)>, Flaw> {
        let grouped = self.groups.iter().flat_map(|group| {
            group
                .calls
                .iter()
                .map(|&call| (call, Rule::Always(group.then)))
        });
        let conditional = self
            .conditional
            .iter()
            .map(|cases| (cases.call, Rule::Cases(cases)));
        let mut table = Vec::with_capacity(Syscall::ALL.len());
        let mut seen = [false; Syscall::ALL.len()];
        for (call, rule) in grouped.chain(conditional) {
            let number = call
                .number(self.arch)
                .ok_or(Flaw::NoSuchCall(call, self.arch))?;
            if std::mem::replace(&mut seen[call as usize], true) {
                return Err(Flaw::Twice(call));
            }
            if let Rule::Cases(cases) = rule {
                sound(cases)?;
            }
            table.push((number, rule));
        }
        table.sort_unstable_by_key(|&(number, _)| number);
        Ok(table)
    }

    /// The rule of a call, if the filter lists it.
    pub fn rule(&self, call: Syscall) -> Option<Rule<'_>> {
        let group = self.groups.iter().find(|group| group.calls.contains(&call));
        let cases = self.conditional.iter().find(|cases| cases.call == call);
        group
            .map(|group| Rule::Always(group.then))
            .or(cases.map(Rule::Cases))
    }

    /// Why a call with these arguments gets its verdict.
    pub fn reason(&self, call: Syscall, args: &[u64; 6]) -> &str {
        let group = self.groups.iter().find(|group| group.calls.contains(&call));
        let cases = self.conditional.iter().find(|cases| cases.call == call);
        match (group, cases) {
            (Some(group), _) => &group.why,
            (None, Some(cases)) => cases
                .deciding(args)
                .map_or(&cases.why, |clause| &clause.why),
            (None, None) => "not a system call that this version knows",
        }
    }

    /// The verdict for a call with these arguments.
    pub fn verdict(&self, call: Syscall, args: &[u64; 6]) -> Verdict {
        self.rule(call)
            .map_or(self.unlisted, |rule| rule.verdict(args))
    }
}

impl Rule<'_> {
    /// The verdict for these arguments.
    pub fn verdict(self, args: &[u64; 6]) -> Verdict {
        match self {
            Self::Always(verdict) => verdict,
            Self::Cases(cases) => cases.verdict(args),
        }
    }
}

/// Every test of the call means something.
fn sound(cases: &Conditional) -> Result<(), Flaw> {
    if cases.clauses.iter().any(|clause| clause.when.is_empty()) {
        return Err(Flaw::Untested(cases.call));
    }
    for test in cases.clauses.iter().flat_map(|clause| &clause.when) {
        let outside = test.values.iter().any(|value| value & !test.mask != 0);
        let twice = (1..test.values.len()).any(|at| test.values[..at].contains(&test.values[at]));
        if test.arg > 5 || test.mask == 0 || test.values.is_empty() || outside || twice {
            return Err(Flaw::BadTest(cases.call, test.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(groups: Vec<Group>, conditional: Vec<Conditional>) -> Filter {
        let unlisted = Verdict::Errno(Errno::ENOSYS);
        Filter {
            arch: Arch::X86_64,
            groups,
            conditional,
            unlisted,
        }
    }

    fn group(calls: &[Syscall]) -> Group {
        Group {
            then: Verdict::Allow,
            why: "test".into(),
            calls: calls.to_vec(),
        }
    }

    fn cases(call: Syscall, test: Test) -> Conditional {
        let clause = Clause {
            when: vec![test],
            then: Verdict::Kill,
            why: "test".into(),
        };
        Conditional {
            call,
            clauses: vec![clause],
            otherwise: Verdict::Allow,
            why: "test".into(),
        }
    }

    #[test]
    fn the_table_is_sorted_and_total_by_its_default() {
        let filter = filter(vec![group(&[Syscall::write, Syscall::read])], vec![]);
        let numbers: Vec<u32> = filter.table().unwrap().iter().map(|row| row.0).collect();
        assert_eq!(numbers, [0, 1]);
        assert_eq!(
            filter.verdict(Syscall::bpf, &[0; 6]),
            Verdict::Errno(Errno::ENOSYS)
        );
    }

    #[test]
    fn errors_have_the_numbers_of_the_c_library() {
        let same = |errno: Errno, number: libc::c_int| assert_eq!(i32::from(errno as u16), number);
        same(Errno::EPERM, libc::EPERM);
        same(Errno::EINVAL, libc::EINVAL);
        same(Errno::ENOSYS, libc::ENOSYS);
        same(Errno::EPROTONOSUPPORT, libc::EPROTONOSUPPORT);
        same(Errno::EOPNOTSUPP, libc::EOPNOTSUPP);
        same(Errno::EAFNOSUPPORT, libc::EAFNOSUPPORT);
    }

    #[test]
    fn contradictions_are_refused() {
        let twice = filter(
            vec![group(&[Syscall::read]), group(&[Syscall::read])],
            vec![],
        );
        assert_eq!(twice.table().unwrap_err(), Flaw::Twice(Syscall::read));
        let good = Test {
            arg: 1,
            mask: 0xff,
            values: vec![1],
            member: true,
        };
        let bad = [
            Test {
                arg: 6,
                ..good.clone()
            },
            Test {
                mask: 0,
                values: vec![0],
                ..good.clone()
            },
            Test {
                values: vec![],
                ..good.clone()
            },
            Test {
                values: vec![0x100],
                ..good.clone()
            },
            Test {
                values: vec![1, 1],
                ..good
            },
        ];
        for test in bad {
            let filter = filter(vec![], vec![cases(Syscall::ioctl, test.clone())]);
            assert_eq!(
                filter.table().unwrap_err(),
                Flaw::BadTest(Syscall::ioctl, test)
            );
        }
        let mut arm = filter(vec![group(&[Syscall::open])], vec![]);
        arm.arch = Arch::Aarch64;
        assert_eq!(
            arm.table().unwrap_err(),
            Flaw::NoSuchCall(Syscall::open, Arch::Aarch64)
        );
    }

    #[test]
    fn json_keeps_everything_and_refuses_unknown_keys() {
        let test = Test {
            arg: 1,
            mask: u64::MAX,
            values: vec![u64::MAX],
            member: false,
        };
        let filter = filter(
            vec![group(&[Syscall::read])],
            vec![cases(Syscall::ioctl, test)],
        );
        let json = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
        let odd = json.replacen("\"arch\"", "\"extra\":1,\"arch\"", 1);
        assert!(serde_json::from_str::<Filter>(&odd).is_err());
    }
}
