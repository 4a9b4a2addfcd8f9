//! [pure] What the plan says of a system call.

use super::remedy::{self, Remedy};
use super::{errno_name, filter};
use crate::confine::seccomp::{Rule, Verdict};
use crate::linux::syscall::Syscall;
use crate::sandbox::plan::Plan;
use serde::Serialize;

/// What a call gets, computed from the filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallAnswer {
    /// The call.
    pub call: Syscall,
    /// The policy line that chose the filter.
    pub rule: String,
    /// One case, or one for each set of arguments that matters, the first that fits deciding.
    pub cases: Vec<Case>,
}

/// What arguments get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Which arguments, in words.
    pub when: String,
    /// What happens.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// What would change a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

/// What the call gets; with `arguments`, only the case that they are.
pub fn why(plan: &Plan, call: Syscall, arguments: Option<&[u64; 6]>) -> CallAnswer {
    let Some((step, filter)) = filter(plan) else {
        return CallAnswer {
            call,
            rule: "the plan has no filter".to_owned(),
            cases: Vec::new(),
        };
    };
    let decided = |when: String, arguments: &[u64; 6]| {
        let verdict = filter.verdict(call, arguments);
        let remedy = (!verdict.allows()).then(|| remedy::of_call(filter, call, arguments));
        Case {
            when,
            verdict: words(verdict),
            reason: filter.reason(call, arguments).to_owned(),
            remedy,
        }
    };
    let cases = match (arguments, filter.rule(call)) {
        (Some(arguments), _) => vec![decided("with these arguments".to_owned(), arguments)],
        (None, Some(Rule::Cases(cases))) => {
            let clauses = cases.clauses.iter().map(|clause| {
                let tests: Vec<String> = clause.when.iter().map(ToString::to_string).collect();
                case(tests.join(" and "), clause.then, &clause.why)
            });
            let otherwise = case("otherwise".to_owned(), cases.otherwise, &cases.why);
            clauses.chain([otherwise]).collect()
        }
        (None, _) => vec![decided("always".to_owned(), &[0; 6])],
    };
    CallAnswer {
        call,
        rule: step.why.to_string(),
        cases,
    }
}

fn case(when: String, verdict: Verdict, reason: &str) -> Case {
    Case {
        when,
        verdict: words(verdict),
        reason: reason.to_owned(),
        remedy: None,
    }
}

fn words(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => "allowed".to_owned(),
        Verdict::Errno(errno) => format!("refused: {}", errno_name(errno as i32)),
        Verdict::Record(errno) => format!("refused and recorded: {}", errno_name(errno as i32)),
        Verdict::Kill => "refused: the process is killed".to_owned(),
    }
}
