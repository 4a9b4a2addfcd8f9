//! [host] `cofferdam explain`: recorded refusals of a sandbox, or an answer computed from its plan.

use super::output::{exit_code, note, print};
use super::records::{Paths, Records};
use crate::event::Event;
use crate::event::chain::{Broken, Chain, Flaw, walk};
use crate::sandbox::explain::address::{self, AddressAnswer};
use crate::sandbox::explain::call::{self, CallAnswer};
use crate::sandbox::explain::destination::Destination;
use crate::sandbox::explain::path::{self, PathAnswer, Standing};
use crate::sandbox::explain::question::Question;
use crate::sandbox::explain::remedy::Remedy;
use crate::sandbox::explain::{Explanation, Refused, explain};
use crate::sandbox::plan::Plan;
use crate::source::diagnostic::Diagnostic;
use crate::source::render::one_line;
use serde_json::{Value, json};

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Explain what a sandbox was refused: which rule, and the policy line that would allow it",
    after_help = "Examples:\n  cofferdam explain\n  cofferdam explain build-7 --json\n  cofferdam explain build-7 --why /home/me/.npmrc\n  cofferdam explain --why ptrace\n  cofferdam explain --why 'socket(17, 3, 0)'\n  cofferdam explain --why 10.0.0.1:5432\n\nWithout NAME, the sandbox that ran last. Refusals are recorded; an answer to --why is\ncomputed from the plan, and says nothing of whether anybody tried."
)]
pub struct Args {
    /// Sandbox
    pub name: Option<String>,
    /// Compute the answer for a path (it has a slash), a system call with or without arguments, or an address
    #[arg(long, value_name = "PATH|SYSCALL|ADDRESS")]
    pub why: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Explains, and gives the exit code.
pub fn run(args: &Args, paths: &Paths) -> u8 {
    exit_code(answer(args, paths))
}

fn answer(args: &Args, paths: &Paths) -> Result<u8, Diagnostic> {
    let question = args
        .why
        .as_deref()
        .map(str::parse::<Question>)
        .transpose()?;
    let records = paths.find(args.name.as_deref())?;
    let plan = records.plan()?;
    let text = match question {
        Some(question) => computed(&plan, &question, args.json),
        None => {
            let (events, broken) = events(&records)?;
            if let Some(broken) = broken {
                note(&format!(
                    "the event log does not hold, what follows ends there: {broken}"
                ));
            }
            let explanation = explain(&plan, &events);
            if args.json {
                line(&json!(explanation))
            } else {
                text(&explanation)
            }
        }
    };
    print(&text)?;
    Ok(0)
}

/// Events as far as the chain holds; a line that is being written is no fault.
fn events(records: &Records) -> Result<(Vec<Event>, Option<Broken>), Diagnostic> {
    let mut events = Vec::new();
    let chain = Chain::new(&records.plan_bytes()?);
    let (_, broken) = walk(chain, &records.event_bytes()?, |event, _| {
        events.push(event)
    });
    Ok((
        events,
        broken.filter(|broken| broken.why != Flaw::Unfinished),
    ))
}

fn line(value: &Value) -> String {
    format!("{value:#}\n")
}

fn text(explanation: &Explanation) -> String {
    let Explanation {
        sandbox,
        policy,
        refusals,
        destinations,
        dropped,
        unobserved,
        degraded,
        residues,
    } = explanation;
    let (sandbox, policy) = (one_line(sandbox), one_line(policy));
    let times: u64 = refusals.iter().map(|refused| refused.times).sum();
    let turned: u64 = destinations.iter().map(|refused| refused.times).sum();
    let mut lines = vec![format!(
        "{sandbox}, policy {policy}: {times} refusals recorded"
    )];
    lines.extend(refusals.iter().flat_map(refusal));
    if turned > 0 {
        lines.push(format!("\n{turned} connections and names refused:"));
    }
    lines.extend(destinations.iter().flat_map(destination));
    if *dropped > 0 {
        lines.push(format!(
            "\n{dropped} more events came too fast to be written."
        ));
    }
    if !degraded.is_empty() {
        lines.push("\nWeaker than the policy asks:".to_owned());
    }
    for weaker in degraded {
        lines.push(one_line(&format!(
            "  {}: asked {}, got {}  [{}]",
            weaker.control, weaker.requested, weaker.actual, weaker.rule
        )));
    }
    for sentence in residues.iter().chain([unobserved]) {
        lines.push(format!("\n{}", one_line(sentence)));
    }
    lines.join("\n") + "\n"
}

fn refusal(refused: &Refused) -> Vec<String> {
    let Refused {
        call,
        times,
        arguments,
        errno,
        reason,
        rule,
        remedy,
    } = refused;
    let arguments: Vec<String> = arguments.iter().map(|word| format!("{word:#x}")).collect();
    let mut lines = vec![
        format!("\n{times} x {call}({}): {errno}", arguments.join(", ")),
        format!("  why    {}", one_line(reason)),
        format!("  rule   {}", one_line(rule)),
    ];
    lines.extend(remedy_lines(remedy));
    lines
}

fn destination(refused: &Destination) -> Vec<String> {
    let mut lines = vec![
        format!("\n{} x {}", refused.times, one_line(&refused.to)),
        format!("  why    {}", refused.reason),
    ];
    lines.extend(remedy_lines(&refused.remedy));
    lines
}

fn remedy_lines(remedy: &Remedy) -> Vec<String> {
    match remedy {
        Remedy::Policy { line, risk } => {
            vec![
                format!("  allow  {}", one_line(line)),
                format!("  risk   {}", one_line(risk)),
            ]
        }
        Remedy::Advice(advice) => vec![format!("  try    {}", one_line(advice))],
        Remedy::None => vec!["  allow  no policy can".to_owned()],
    }
}

fn computed(plan: &Plan, question: &Question, as_json: bool) -> String {
    let (value, text) = match question {
        Question::Path(asked) => {
            let answer = path::why(plan, asked);
            (json!(answer), path_text(&answer))
        }
        Question::Call(call, arguments) => {
            let answer = call::why(plan, *call, arguments.as_ref());
            (json!(answer), call_text(&answer))
        }
        Question::Address(asked, host) => {
            let answer = address::why(plan, asked, host);
            (json!(answer), address_text(&answer))
        }
    };
    if as_json {
        return line(&json!({ "sandbox": plan.name, "observed": false, "answer": value }));
    }
    let (name, policy) = (one_line(&plan.name), one_line(&plan.policy));
    format!("{text}  (computed from the plan of {name} under policy {policy}, not observed)\n")
}

fn path_text(answer: &PathAnswer) -> String {
    let standing = match answer.standing {
        Standing::Absent => "not there",
        Standing::Masked => "masked",
        Standing::ReadOnly => "read-only",
        Standing::Writable => "writable",
    };
    let mut lines = vec![
        format!("{}: {standing}", one_line(&answer.path)),
        format!("  why    {}", one_line(&answer.reason)),
        format!(
            "  rule   {}  [{}]",
            one_line(&answer.step),
            one_line(&answer.rule)
        ),
    ];
    if let (Some(rights), Standing::ReadOnly | Standing::Writable) =
        (&answer.landlock, answer.standing)
    {
        lines.push(format!("  and    Landlock by itself allows: {rights}"));
    }
    if answer.standing != Standing::Writable {
        lines.extend(remedy_lines(&answer.remedy));
    }
    lines.join("\n") + "\n"
}

fn call_text(answer: &CallAnswer) -> String {
    let mut lines = vec![format!("{}  [{}]", answer.call, one_line(&answer.rule))];
    for case in &answer.cases {
        lines.push(format!("  {}: {}", case.when, case.verdict));
        lines.push(format!("  why    {}", one_line(&case.reason)));
        lines.extend(case.remedy.iter().flat_map(remedy_lines));
    }
    lines.join("\n") + "\n"
}

fn address_text(answer: &AddressAnswer) -> String {
    let reachable = if answer.reachable {
        "reachable"
    } else {
        "unreachable"
    };
    let (address, reason, rule) = (
        one_line(&answer.address),
        one_line(&answer.reason),
        one_line(&answer.rule),
    );
    format!("{address}: {reachable}\n  why    {reason}\n  rule   {rule}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::explain::sample;

    /// The outputs in `golden/`, made anew where UPDATE_GOLDEN is set.
    fn golden(name: &str, text: &str) {
        let path = format!("{}/src/cli/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{path}");
    }

    #[test]
    fn what_was_recorded() {
        let explanation = explain(&sample::plan(), &sample::events());
        golden("explain.txt", &text(&explanation));
        golden("explain.json", &line(&json!(explanation)));
    }

    #[test]
    fn what_is_computed() {
        let questions = [
            "/home/me/.npmrc",
            "/bin/sh",
            "/proc/kcore",
            "main.c",
            ".git/hooks/pre-commit",
            "agent.sock/",
            "ptrace",
            "read",
            "socket(17, 3, 0x300)",
            "unshare",
            "openat2",
            "10.0.0.1:5432",
            "example.org",
            "[::1]:8080",
        ];
        let plan = sample::plan();
        let all = |json| {
            let answers = questions.map(|text| computed(&plan, &text.parse().unwrap(), json));
            answers.join("\n")
        };
        golden("why.txt", &all(false));
        golden("why.json", &all(true));
    }

    #[test]
    fn a_hostile_plan_writes_nothing_to_the_terminal() {
        let mut plan = sample::plan();
        plan.name = "a\u{1b}[2J".to_owned();
        plan.policy = "b\rc".to_owned();
        let shown = text(&explain(&plan, &[]))
            + &computed(&plan, &Question::Path("/x\u{1b}]0;\u{7}".to_owned()), false);
        assert!(
            shown
                .chars()
                .all(|character| character == '\n' || !character.is_control())
        );
    }
}
