//! [pure] Why something did not work in a sandbox: recorded refusals joined with the plan, and
//! answers computed from the plan alone.
//!
//! Each answer names its rule and the policy line that would change it. What is
//! computed says what the plan does to a path, a call or an address; whether
//! anybody tried is not known.

pub mod address;
pub mod call;
pub mod destination;
pub mod path;
pub mod question;
pub mod remedy;

use crate::confine::seccomp::{Filter, Verdict};
use crate::event::{Event, Kind, Refusal};
use crate::linux::syscall::Syscall;
use crate::sandbox::plan::{Op, Plan, Step};
use destination::Destination;
use remedy::Remedy;
use serde::Serialize;

/// What is known of a sandbox's refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The sandbox.
    pub sandbox: String,
    /// Its policy.
    pub policy: String,
    /// Refusals that were recorded, the most frequent first.
    pub refusals: Vec<Refused>,
    /// Destinations that were refused, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
    /// Events that were not written: there were more refusals than these.
    pub dropped: u64,
    /// Which refusals cannot be known.
    pub unobserved: String,
    /// Controls weaker than the policy asks.
    pub degraded: Vec<Degraded>,
    /// What remains of the job's doing.
    pub residues: Vec<String>,
}

/// Recorded refusals of one call for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The call.
    pub call: Syscall,
    /// How often.
    pub times: u64,
    /// Its arguments when it was first refused, up to the last one that the rule looks at.
    pub arguments: Vec<u64>,
    /// What it answered.
    pub errno: String,
    /// Why.
    pub reason: String,
    /// The policy line behind it.
    pub rule: String,
    /// What would change it.
    pub remedy: Remedy,
}

/// A control weaker than asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// Its name.
    pub control: String,
    /// What the policy asks.
    pub requested: String,
    /// What this host gave.
    pub actual: String,
    /// The policy line that asks.
    pub rule: String,
}

/// Joins what was recorded with the plan.
pub fn explain(plan: &Plan, events: &[Event]) -> Explanation {
    let dropped = events.iter().map(|event| match event.kind {
        Kind::Dropped { count } => count,
        _ => 0,
    });
    Explanation {
        sandbox: plan.name.clone(),
        policy: plan.policy.clone(),
        refusals: refusals(plan, events),
        destinations: destination::refused(events),
        dropped: dropped.sum(),
        unobserved: unobserved(plan),
        degraded: degraded(plan),
        residues: residues(plan),
    }
}

/// The filter of the job, and the step that loads it.
fn filter(plan: &Plan) -> Option<(&Step, &Filter)> {
    plan.steps.iter().find_map(|step| match &step.op {
        Op::Seccomp { filter } => Some((step, filter)),
        _ => None,
    })
}

fn refusals(plan: &Plan, events: &[Event]) -> Vec<Refused> {
    let mut list: Vec<Refused> = Vec::new();
    for event in events {
        let Kind::Refused(refusal) = &event.kind else {
            continue;
        };
        let refused = refused(plan, refusal);
        let same = list.iter_mut().find(|have| {
            (have.call, &have.errno, &have.reason, &have.rule)
                == (refused.call, &refused.errno, &refused.reason, &refused.rule)
        });
        match same {
            Some(have) => have.times = have.times.saturating_add(refused.times),
            None => list.push(refused),
        }
    }
    list.sort_by_key(|refused| std::cmp::Reverse(refused.times));
    list
}

fn refused(plan: &Plan, refusal: &Refusal) -> Refused {
    let Refusal {
        call, arguments, ..
    } = *refusal;
    let (reason, rule, remedy) = match filter(plan) {
        Some((step, filter)) => (
            filter.reason(call, &arguments).to_owned(),
            step.why.to_string(),
            remedy::of_call(filter, call, &arguments),
        ),
        None => (
            refusal.rule.clone(),
            "not in the plan".to_owned(),
            Remedy::None,
        ),
    };
    Refused {
        call,
        times: refusal.count,
        arguments: looked_at(plan, call, &arguments).to_vec(),
        errno: errno_name(refusal.errno),
        reason,
        rule,
        remedy,
    }
}

/// Registers beyond are the caller's leftovers.
fn looked_at<'a>(plan: &Plan, call: Syscall, arguments: &'a [u64; 6]) -> &'a [u64] {
    let conditional = filter(plan).map_or(&[][..], |(_, filter)| &filter.conditional);
    let tests = conditional
        .iter()
        .filter(|cases| cases.call == call)
        .flat_map(|cases| cases.clauses.iter().flat_map(|clause| &clause.when));
    let count = tests.map(|test| usize::from(test.arg) + 1).max();
    arguments.get(..count.unwrap_or(0)).unwrap_or(arguments)
}

/// The names of the errors that our filters give: errno(3).
pub(crate) fn errno_name(number: i32) -> String {
    let name = match number {
        0 => "success",
        1 => "EPERM",
        22 => "EINVAL",
        38 => "ENOSYS",
        93 => "EPROTONOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

/// What the kernel refuses by itself leaves no trace that we could read.
fn unobserved(plan: &Plan) -> String {
    let recorded = filter(plan).map_or(0, |(_, filter)| recorded(filter));
    let observed = match (plan.supervise.records_refusals, recorded) {
        (true, calls @ 1..) => format!("Only refusals of {calls} rarely used system calls are recorded"),
        _ => "Under this policy no refusal is recorded ([syscalls] on_denied is not \"record\", or this host cannot)".to_owned(),
    };
    format!(
        "{observed}. What the kernel refuses by itself - missing or read-only files, Landlock, \
         other system calls, the network - is not observed; `--why PATH|SYSCALL|ADDRESS` computes \
         it from the plan."
    )
}

fn recorded(filter: &Filter) -> usize {
    let records = |verdict: &Verdict| matches!(verdict, Verdict::Record(_));
    let groups = filter.groups.iter().filter(|group| records(&group.then));
    let cases = filter.conditional.iter().filter(|cases| {
        records(&cases.otherwise) || cases.clauses.iter().any(|clause| records(&clause.then))
    });
    groups.map(|group| group.calls.len()).sum::<usize>() + cases.count()
}

fn degraded(plan: &Plan) -> Vec<Degraded> {
    let weaker = plan
        .controls
        .iter()
        .filter(|control| control.degraded.is_some());
    weaker
        .map(|control| Degraded {
            control: control.control.clone(),
            requested: control.requested.clone(),
            actual: control.actual.clone(),
            rule: control.why.to_string(),
        })
        .collect()
}

/// A writable workspace outlives the job.
fn residues(plan: &Plan) -> Vec<String> {
    let Some((outside, inside)) = path::writable_workspace(plan) else {
        return Vec::new();
    };
    let protected: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Pin {
                path,
                read_only: true,
            } => path.strip_prefix(inside)?.strip_prefix('/'),
            _ => None,
        })
        .collect();
    let protected = match protected.as_slice() {
        [] => "Nothing in it was protected.".to_owned(),
        list => format!(
            "Protected were {}; nested repositories and build files were not.",
            list.join(", ")
        ),
    };
    vec![format!(
        "The workspace {outside} was writable: running anything from it afterwards runs the job's code. {protected}"
    )]
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_joined_with_rule_reason_and_remedy() {
        let explanation = explain(&sample::plan(), &sample::events());
        let calls: Vec<(&str, u64)> = explanation
            .refusals
            .iter()
            .map(|refused| (refused.call.name(), refused.times))
            .collect();
        assert_eq!(calls, [("ptrace", 41), ("socket", 2), ("socket", 1)]);
        assert_eq!(explanation.dropped, 7);
        assert_eq!(explanation.refusals[0].rule, "preset untrusted:31");
        assert_eq!(explanation.degraded.len(), 1);
        assert!(explanation.residues[0].contains("/home/me/src was writable"));
        assert!(explanation.residues[0].contains(".git/hooks, .envrc; nested"));
    }

    #[test]
    fn says_that_nothing_is_recorded_where_that_is_so() {
        let mut plan = sample::plan();
        plan.supervise.records_refusals = false;
        assert!(
            explain(&plan, &[])
                .unobserved
                .starts_with("Under this policy no refusal is recorded")
        );
    }
}
