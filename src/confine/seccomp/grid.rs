//! [pure] Tests of compiler and proof by brute force: an interpreter of its own over a grid of inputs.

use super::check::{Refuted, prove};
use super::compile::{Insn, MAX_INSNS, compile, encode};
use super::preset::{self, FilterContext};
use super::{Clause, Conditional, Errno, Filter, Group, Rule, Test, Verdict};
use crate::linux::syscall::{Arch, Syscall};
use crate::policy::{OnDenied, SyscallProfile, Syscalls};
use crate::source::origin::{Origin, Sourced};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Classic BPF over `struct seccomp_data`, as net/core/filter.c runs it.
fn interpret(program: &[Insn], number: u32, arch: u32, args: &[u64; 6]) -> u32 {
    let mut bytes = [number.to_le_bytes(), arch.to_le_bytes()].concat();
    bytes.extend([0x41; 8]);
    bytes.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let Insn { code, jt, jf, k } = program[at];
        at += 1;
        match code {
            0x20 => a = u32::from_le_bytes(bytes[k as usize..][..4].try_into().unwrap()),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += usize::from(if a == k { jt } else { jf }),
            0x35 => at += usize::from(if a >= k { jt } else { jf }),
            0x45 => at += usize::from(if a & k != 0 { jt } else { jf }),
            0x06 => return k,
            _ => panic!("code {code:#x}"),
        }
    }
}

/// Deterministic noise (splitmix64).
fn noise(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *seed;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// For each argument of a conditional call: its constants, their neighbours,
/// with garbage in the high half, single bits, all ones, noise.
fn values(cases: &Conditional, arg: u8) -> Vec<u64> {
    let tests = cases
        .clauses
        .iter()
        .flat_map(|clause| &clause.when)
        .filter(|test| test.arg == arg);
    let mut values = BTreeSet::from([
        0,
        1,
        u64::MAX,
        u64::from(u32::MAX),
        1 << 31,
        1 << 32,
        1 << 63,
    ]);
    for test in tests {
        for &value in &test.values {
            for near in [
                value,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value | !test.mask,
            ] {
                values.extend([near, near | 0xdead_beef_0000_0000]);
            }
        }
    }
    values.into_iter().collect()
}

fn grid(cases: &Conditional, seed: &mut u64) -> Vec<[u64; 6]> {
    let axes: [Vec<u64>; 6] = std::array::from_fn(|arg| values(cases, arg as u8));
    let mut rows: Vec<[u64; 6]> = vec![[0; 6], [u64::MAX; 6]];
    for arg in 0..6 {
        for value in axes[arg].iter().copied().chain((0..64).map(|bit| 1 << bit)) {
            let mut row = [0; 6];
            row[arg] = value;
            rows.push(row);
        }
    }
    rows.extend((0..500).map(|_| {
        std::array::from_fn(|arg| match noise(seed) {
            pick if pick % 8 == 0 => noise(seed),
            pick => axes[arg][pick as usize / 8 % axes[arg].len()],
        })
    }));
    rows
}

/// The first input on the grid for which program and filter differ.
fn difference(filter: &Filter, program: &[Insn], seed: &mut u64) -> Option<(u32, [u64; 6])> {
    let rules: BTreeMap<u32, Rule<'_>> = filter.table().unwrap().into_iter().collect();
    let differs = |number: u32, args: &[u64; 6]| {
        let expected = rules
            .get(&number)
            .map_or(filter.unlisted, |rule| rule.verdict(args));
        interpret(program, number, filter.arch.audit(), args) != encode(expected)
    };
    let around = [
        0x3fff_ffff,
        0x4000_0000,
        0x4000_0001,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX - 1,
        u32::MAX,
    ];
    let x32 = (0..600).map(|number| number | 0x4000_0000);
    for number in (0..=4095).chain(around).chain(x32) {
        for args in [[0; 6], [u64::MAX; 6]] {
            if differs(number, &args) {
                return Some((number, args));
            }
        }
    }
    for cases in &filter.conditional {
        let number = cases.call.number(filter.arch)?;
        if let Some(args) = grid(cases, seed)
            .into_iter()
            .find(|args| differs(number, args))
        {
            return Some((number, args));
        }
    }
    None
}

fn job(arch: Arch) -> Filter {
    let always = |value| Sourced::new(value, Origin::Always);
    let policy = Syscalls {
        profile: always(SyscallProfile::Job),
        allow: vec![],
        deny: vec![],
        on_denied: Sourced::new(OnDenied::Record, Origin::Always),
    };
    let context = FilterContext {
        arch,
        writable_host_dir: true,
        refuse_memfd: false,
        refuse_affinity: false,
        notify_available: true,
    };
    preset::filter(&policy, &context).unwrap()
}

#[test]
fn the_job_filter_agrees_on_the_grid() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let filter = job(arch);
        let program = compile(&filter).unwrap();
        assert_eq!(difference(&filter, &program, &mut 1), None);
        for foreign in [
            0x4000_0003,
            0x4000_0028,
            0xc000_003d,
            0xc000_003f,
            0,
            u32::MAX,
        ] {
            for number in [0, 1, 0x4000_0000, u32::MAX] {
                assert_eq!(
                    interpret(&program, number, foreign, &[0; 6]),
                    encode(Verdict::Kill)
                );
            }
        }
    }
}

/// Every single changed bit of the gateway's program is noticed, or changes
/// nothing: a jump may skip a compare whose answer is known by then.
#[test]
fn a_flipped_bit_is_found() {
    let filter = preset::gateway_filter(Arch::X86_64, false);
    let program = compile(&filter).unwrap();
    for at in 0..program.len() {
        for bit in 0..64 {
            let mut changed = program.clone();
            match bit {
                0..16 => changed[at].code ^= 1 << bit,
                16..24 => changed[at].jt ^= 1 << (bit - 16),
                24..32 => changed[at].jf ^= 1 << (bit - 24),
                _ => changed[at].k ^= 1 << (bit - 32),
            }
            if prove(&filter, changed.clone()).is_ok() {
                assert!(bit < 32, "instruction {at}: a changed constant passed");
                assert_eq!(
                    difference(&filter, &changed, &mut 2),
                    None,
                    "instruction {at}, bit {bit}"
                );
            }
        }
    }
}

#[test]
fn a_changed_job_program_is_found() {
    let filter = job(Arch::X86_64);
    let program = compile(&filter).unwrap();
    for at in 0..program.len() {
        let mut changed = program.clone();
        let insn = &mut changed[at];
        match insn.code {
            0x15 | 0x35 | 0x45 => (insn.jt, insn.jf) = (insn.jf, insn.jt),
            _ => insn.k ^= 4,
        }
        assert!(prove(&filter, changed).is_err(), "instruction {at}");
    }
}

#[test]
fn programs_that_are_no_filters_are_refused() {
    let filter = preset::gateway_filter(Arch::X86_64, false);
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    let kill = insn(0x06, 0, 0, 0x8000_0000);
    let arch = [insn(0x20, 0, 0, 4), insn(0x15, 1, 0, Arch::X86_64.audit())];
    let with = |rest: &[Insn]| [&arch[..], &[kill], rest].concat();
    let refuted = |program: Vec<Insn>| prove(&filter, program).unwrap_err();
    assert_eq!(refuted(vec![]), Refuted::Length(0));
    assert_eq!(
        refuted(vec![kill; MAX_INSNS + 1]),
        Refuted::Length(MAX_INSNS + 1)
    );
    assert_eq!(
        refuted(with(&[insn(0x20, 0, 0, 0)])),
        Refuted::OutOfBounds(3),
        "falls off the end"
    );
    assert_eq!(
        refuted(with(&[insn(0x05, 0, 0, 9), kill])),
        Refuted::OutOfBounds(3)
    );
    assert_eq!(
        refuted(with(&[insn(0x20, 0, 0, 8), kill])),
        Refuted::Invalid(3),
        "instruction pointer"
    );
    assert_eq!(
        refuted(with(&[insn(0x20, 0, 0, 64), kill])),
        Refuted::Invalid(3),
        "past the data"
    );
    assert_eq!(
        refuted(with(&[insn(0x20, 0, 0, 2), kill])),
        Refuted::Invalid(3),
        "unaligned"
    );
    assert_eq!(
        refuted(with(&[insn(0x16, 0, 0, 0)])),
        Refuted::Invalid(3),
        "returns the accumulator"
    );
    assert_eq!(refuted(with(&[kill, kill])), Refuted::Unreached(4));
    assert_eq!(
        refuted(vec![insn(0x15, 0, 0, 0), kill]),
        Refuted::Ambiguous(0),
        "compares nothing"
    );
    let allow = insn(0x06, 0, 0, 0x7fff_0000);
    assert_eq!(refuted(vec![allow]), Refuted::Foreign(Arch::X86_64.audit()));
    assert!(matches!(refuted(with(&[allow])), Refuted::Differs { .. }));
}

fn a_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Allow),
        Just(Verdict::Errno(Errno::EPERM)),
        Just(Verdict::Errno(Errno::SUCCESS)),
        Just(Verdict::Record(Errno::EPERM)),
        Just(Verdict::Kill),
    ]
}

fn a_test() -> impl Strategy<Value = Test> {
    const MASKS: &[u64] = &[
        0xffff_ffff,
        u64::MAX,
        0xf,
        0xff00,
        1 << 31,
        0xffff_ffff_0000_0000,
        0x8000_0000_0000_0001,
        0x7e02_0000,
    ];
    let values = prop::collection::btree_set(prop_oneof![Just(0), 0_u64..20, any::<u64>()], 1..4);
    (0_u8..6, prop::sample::select(MASKS), values, any::<bool>()).prop_map(
        |(arg, mask, raw, member)| {
            let values: BTreeSet<u64> = raw.into_iter().map(|value| value & mask).collect();
            Test {
                arg,
                mask,
                values: values.into_iter().collect(),
                member,
            }
        },
    )
}

fn a_conditional() -> impl Strategy<Value = Conditional> {
    let clause =
        (prop::collection::vec(a_test(), 1..4), a_verdict()).prop_map(|(when, then)| Clause {
            when,
            then,
            why: "random".into(),
        });
    let call = prop::sample::select(Syscall::ALL);
    (call, prop::collection::vec(clause, 1..4), a_verdict()).prop_map(
        |(call, clauses, otherwise)| Conditional {
            call,
            clauses,
            otherwise,
            why: "random".into(),
        },
    )
}

fn a_filter() -> impl Strategy<Value = Filter> {
    let entries = prop::collection::vec((prop::sample::select(Syscall::ALL), a_verdict()), 0..200);
    let conditional = prop::collection::vec(a_conditional(), 0..12);
    (any::<bool>(), entries, conditional, a_verdict()).prop_map(
        |(arm, entries, mut conditional, unlisted)| {
            let arch = if arm { Arch::Aarch64 } else { Arch::X86_64 };
            let mut seen = BTreeSet::new();
            let mut fresh = |call: Syscall| call.number(arch).is_some() && seen.insert(call);
            conditional.retain(|cases| fresh(cases.call));
            let entries: Vec<_> = entries.into_iter().filter(|entry| fresh(entry.0)).collect();
            let group = |(call, then)| Group {
                then,
                why: "random".into(),
                calls: vec![call],
            };
            Filter {
                arch,
                groups: entries.into_iter().map(group).collect(),
                conditional,
                unlisted,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Random conditions may exclude each other or be too many to go through, so
    /// dead instructions and a refusal to prove are the complaints that are right.
    #[test]
    fn random_filters_compile_to_what_they_say(filter in a_filter(), mut seed: u64) {
        let program = compile(&filter).unwrap();
        prop_assert_eq!(difference(&filter, &program, &mut seed), None);
        match prove(&filter, program) {
            Ok(_) | Err(Refuted::Unreached(_) | Refuted::TooManyCases(_)) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_program_proves_no_other_filter(filter in a_filter(), at: prop::sample::Index, verdict in a_verdict()) {
        let program = compile(&filter).unwrap();
        let mut other = filter.clone();
        if !other.groups.is_empty() {
            let group = at.get(&other.groups).clone();
            prop_assume!(group.then != verdict);
            let place = other.groups.iter().position(|have| *have == group).unwrap();
            other.groups[place].then = verdict;
            let refuted = prove(&other, program);
            let refused = matches!(refuted, Err(Refuted::Differs { .. } | Refuted::TooManyCases(_)));
            prop_assert!(refused, "{refuted:?}");
        }
    }
}
