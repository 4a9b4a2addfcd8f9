//! [host] `cofferdam policy`: list, show, check, origins, diff, schema.
//!
//! Each command returns what it prints and its exit code; printing is `main`'s.

use crate::cli::policy_file::{Reading, load, warnings};
use crate::confine::seccomp::diff::{Difference, freer};
use crate::confine::seccomp::preset::{self, FilterContext};
use crate::linux::syscall::Arch;
use crate::policy::Policy;
use crate::policy::diff::{self, Loosening, loosenings};
use crate::policy::flags::FlagLayer;
use crate::policy::overlap::redundant;
use crate::policy::presets::{DEFAULT, names, parse_preset};
use crate::policy::{effective, json_schema, show};
use crate::source::diagnostic::Diagnostic;
use crate::source::render::{Colour, one_line, render, to_json};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

/// Look at policies before a job runs under them.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands below `policy`. A NAME is a preset; a FILE has a slash or ends in .toml.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the presets.
    #[command(after_help = "Examples:\n  cofferdam policy list\n  cofferdam policy list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print everything that holds under a policy, as a commented policy file.
    #[command(
        after_help = "Examples:\n  cofferdam policy show untrusted\n  cofferdam policy show ./ci.toml --json"
    )]
    Show {
        /// A preset, or a file with a slash in its name or ending in .toml.
        #[arg(value_name = "NAME|FILE", default_value = DEFAULT)]
        policy: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a policy file: every mistake with its place, or what it allows beyond `strict`.
    #[command(
        after_help = "Examples:\n  cofferdam policy check ./ci.toml\n  cofferdam policy check ci.toml --json\n\nExit code: 0 if the policy can be used, 125 if not."
    )]
    Check {
        /// A preset, or a file with a slash in its name or ending in .toml.
        #[arg(value_name = "NAME|FILE")]
        policy: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print each value with the line of the preset or file that says it.
    #[command(
        after_help = "Examples:\n  cofferdam policy origins ./ci.toml\n  cofferdam policy origins untrusted --json"
    )]
    Origins {
        /// A preset, or a file with a slash in its name or ending in .toml.
        #[arg(value_name = "NAME|FILE", default_value = DEFAULT)]
        policy: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what the second policy allows that the first does not, most dangerous first.
    #[command(
        after_help = "Examples:\n  cofferdam policy diff strict untrusted\n  cofferdam policy diff untrusted ./ci.toml --json\n  cofferdam policy diff --syscalls strict untrusted"
    )]
    Diff {
        /// The policy to start from.
        #[arg(value_name = "A")]
        before: String,
        /// The policy that may allow more.
        #[arg(value_name = "B")]
        after: String,
        /// Compare the compiled system-call filters, call by call and argument by argument.
        #[arg(long)]
        syscalls: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of policy files, for editors.
    #[command(after_help = "Example:\n  cofferdam policy schema > policy.schema.json")]
    Schema,
}

/// What a command prints, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// 0, or 125 where the policy cannot be used.
    pub code: u8,
}

/// The exit code of a refusal, as everywhere in Cofferdam.
const REFUSED: u8 = 125;

impl Outcome {
    fn printed(stdout: String) -> Self {
        Self {
            stdout,
            stderr: String::new(),
            code: 0,
        }
    }

    fn json(value: &Json) -> Self {
        Self::printed(format!("{value:#}\n"))
    }

    fn refused(diagnostics: &[Diagnostic], colour: Colour) -> Self {
        Self {
            stdout: String::new(),
            stderr: render(diagnostics, colour),
            code: REFUSED,
        }
    }
}

/// Runs a `policy` command; `colour` is for diagnostics on standard error.
pub fn run(command: &PolicyCommand, reading: &Reading<'_>, colour: Colour) -> Outcome {
    let effective = |selector: &str| load(selector, &FlagLayer::default(), reading);
    let outcome = match command {
        PolicyCommand::List { json } => list(*json),
        PolicyCommand::Show { policy, json } => effective(policy).map(|policy| match json {
            true => Outcome::json(&show::json(&policy)),
            false => Outcome::printed(show::toml(&policy)),
        }),
        PolicyCommand::Check { policy, json } => Ok(check(policy, reading, *json, colour)),
        PolicyCommand::Origins { policy, json } => effective(policy).map(|policy| match json {
            true => Outcome::json(&effective::origins_json(&policy)),
            false => Outcome::printed(effective::origins(&policy)),
        }),
        PolicyCommand::Diff {
            before,
            after,
            syscalls,
            json,
        } => both(effective(before), effective(after)).and_then(|(from, to)| match syscalls {
            true => calls(before, after, &from, &to, *json),
            false => Ok(diff(before, after, &loosenings(&from, &to), *json)),
        }),
        PolicyCommand::Schema => Ok(Outcome::json(&json_schema::json_schema())),
    };
    outcome.unwrap_or_else(|diagnostics| Outcome::refused(&diagnostics, colour))
}

/// Both, or the mistakes of both.
fn both<T>(
    first: Result<T, Vec<Diagnostic>>,
    second: Result<T, Vec<Diagnostic>>,
) -> Result<(T, T), Vec<Diagnostic>> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Err(mut mistakes), Err(more)) => {
            mistakes.extend(more);
            Err(mistakes)
        }
        (Err(mistakes), Ok(_)) | (Ok(_), Err(mistakes)) => Err(mistakes),
    }
}

fn list(as_json: bool) -> Result<Outcome, Vec<Diagnostic>> {
    let mut presets = Vec::new();
    for name in names() {
        let description = parse_preset(name)?.description;
        presets.push((
            name,
            description.map_or(String::new(), |written| written.value.0),
        ));
    }
    if as_json {
        let preset = |(name, description): &(&str, String)| json!({ "name": name, "description": description, "default": *name == DEFAULT });
        return Ok(Outcome::json(&presets.iter().map(preset).collect()));
    }
    let width = presets
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    let line = |(name, description): &(&str, String)| format!("{name:width$}  {description}\n");
    Ok(Outcome::printed(presets.iter().map(line).collect()))
}

fn check(selector: &str, reading: &Reading<'_>, as_json: bool, colour: Colour) -> Outcome {
    let policy = load(selector, &FlagLayer::default(), reading);
    let found = policy.and_then(|policy| {
        let notes = redundant(&policy.network_rules.allow);
        warnings(&policy).map(|warnings| (warnings, notes))
    });
    match (found, as_json) {
        (Ok((warnings, notes)), false) => Outcome::printed(checked(selector, &warnings, &notes)),
        (Err(mistakes), false) => Outcome::refused(&mistakes, colour),
        (Ok((warnings, notes)), true) => report(&[], &warnings, &notes),
        (Err(mistakes), true) => Outcome {
            code: REFUSED,
            ..report(&mistakes, &[], &[])
        },
    }
}

fn report(mistakes: &[Diagnostic], warnings: &[Loosening], notes: &[String]) -> Outcome {
    Outcome::json(&json!({
        "ok": mistakes.is_empty(),
        "diagnostics": to_json(mistakes),
        "warnings": diff::to_json(warnings),
        "notes": notes,
    }))
}

fn checked(selector: &str, warnings: &[Loosening], notes: &[String]) -> String {
    let lines = diff::to_text(warnings);
    let warnings: String = lines
        .lines()
        .map(|line| format!("warning: {line}\n"))
        .collect();
    let note = |note: &String| format!("note: {}\n", one_line(note));
    let notes: String = notes.iter().map(note).collect();
    format!("ok: {}\n{warnings}{notes}", one_line(selector))
}

fn diff(before: &str, after: &str, found: &[Loosening], as_json: bool) -> Outcome {
    match found {
        found if as_json => Outcome::json(&diff::to_json(found)),
        [] => Outcome::printed(format!(
            "`{}` allows nothing that `{}` does not\n",
            one_line(after),
            one_line(before)
        )),
        found => Outcome::printed(diff::to_text(found)),
    }
}

/// What a filter depends on beside its policy: of both the same, and nothing taken away.
fn situation() -> Result<FilterContext, Diagnostic> {
    let machine = std::env::consts::ARCH;
    let arch = Arch::from_machine(machine);
    Ok(FilterContext {
        arch: arch.ok_or_else(|| {
            Diagnostic::error(format!("there is no system-call table for {machine}"))
        })?,
        writable_host_dir: false,
        refuse_memfd: false,
        refuse_affinity: false,
        notify_available: true,
    })
}

/// The filters of two policies, side by side.
fn calls(
    before: &str,
    after: &str,
    from: &Policy,
    to: &Policy,
    as_json: bool,
) -> Result<Outcome, Vec<Diagnostic>> {
    let context = situation().map_err(|mistake| vec![mistake])?;
    let filter = |policy: &Policy| {
        preset::filter(&policy.syscalls, &context).map_err(|unknown| {
            let one =
                |call: &preset::UnknownCall| Diagnostic::error(format!("{}: {call}", call.origin));
            unknown.iter().map(one).collect::<Vec<_>>()
        })
    };
    let (from, to) = both(filter(from), filter(to))?;
    let found = freer(&to, &from);
    if as_json {
        let one = |difference: &Difference| {
            json!({
                "call": difference.call.name(),
                "in_part": difference.in_part,
                "example": difference.example.map(|word| format!("{word:#x}")),
                "why": difference.why,
            })
        };
        return Ok(Outcome::json(&found.iter().map(one).collect()));
    }
    if found.is_empty() {
        return Ok(Outcome::printed(format!(
            "`{}` allows no system call that `{}` does not\n",
            one_line(after),
            one_line(before)
        )));
    }
    let line = |difference: &Difference| format!("{difference}\n");
    Ok(Outcome::printed(found.iter().map(line).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        policy: PolicyArgs,
    }

    fn policy(line: &str) -> Outcome {
        let words = std::iter::once("policy").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).unwrap();
        let reading = Reading::of_caller(Vec::new(), Vec::new(), &["ptrace"]);
        run(&line.policy.command, &reading, Colour::Never)
    }

    fn json(line: &str) -> Json {
        let outcome = policy(line);
        assert_eq!((outcome.stderr.as_str(), outcome.code), ("", 0), "{line}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    #[test]
    fn list_names_the_presets_and_the_default() {
        let lines = policy("list").stdout;
        assert!(lines.starts_with("strict     "), "{lines}");
        assert_eq!(lines.lines().count(), 3);
        assert_eq!(json("list --json")[1]["default"], true);
    }

    #[test]
    fn show_and_origins_print_the_default_unless_told() {
        assert!(policy("show").stdout.contains("name = \"untrusted\""));
        assert!(
            policy("origins strict")
                .stdout
                .contains("resources.pids = 128")
        );
        assert_eq!(json("show strict --json")["resources"]["memory"], "1G");
        assert_eq!(json("origins --json")[0]["key"], "ids.mode");
    }

    #[test]
    fn check_says_ok_and_warns_or_refuses_with_125() {
        assert_eq!(policy("check strict").stdout, "ok: strict\n");
        let loose = policy("check untrusted").stdout;
        assert!(
            loose.starts_with("ok: untrusted\nwarning: workspace.access = \"rw\""),
            "{loose}"
        );
        assert!(
            loose.lines().skip(1).all(|line| line.contains(" allows ")),
            "{loose}"
        );
        let refused = policy("check ./none.toml");
        assert_eq!((refused.stdout.as_str(), refused.code), ("", 125));
        assert!(
            refused
                .stderr
                .starts_with("error: cannot read the policy file ./none.toml: ")
        );
    }

    #[test]
    fn check_as_json_keeps_the_exit_code() {
        let refused = policy("check ./none.toml --json");
        assert_eq!((refused.stderr.as_str(), refused.code), ("", 125));
        let report: Json = serde_json::from_str(&refused.stdout).unwrap();
        assert_eq!(report["ok"], false);
        assert_eq!(report["diagnostics"][0]["severity"], "error");
        assert_eq!(json("check strict --json")["warnings"], json!([]));
    }

    #[test]
    fn check_notes_what_adds_nothing() {
        let notes = ["a grant adds nothing".to_owned()];
        assert_eq!(
            checked("p.toml", &[], &notes),
            "ok: p.toml\nnote: a grant adds nothing\n"
        );
        assert_eq!(json("check strict --json")["notes"], json!([]));
    }

    #[test]
    fn diff_goes_one_way() {
        let back = policy("diff untrusted strict").stdout;
        assert_eq!(back, "`strict` allows nothing that `untrusted` does not\n");
        let forth = json("diff strict untrusted --json");
        assert_eq!(forth[0]["danger"], "host-writes");
        let strangers = policy("diff x y");
        assert_eq!(strangers.code, 125);
        assert_eq!(strangers.stderr.matches("error: unknown preset").count(), 2);
    }

    #[test]
    fn diff_of_system_calls_is_of_what_the_filters_do() {
        let back = policy("diff --syscalls untrusted strict").stdout;
        assert_eq!(
            back,
            "`strict` allows no system call that `untrusted` does not\n"
        );
        let forth = policy("diff strict untrusted --syscalls").stdout;
        let line = |call: &str| forth.lines().find(|line| line.starts_with(call));
        assert!(line("mq_open: ").is_some(), "{forth}");
        assert!(line("read: ").is_none() && line("bpf: ").is_none());
        let socket = line("socket: ").unwrap();
        assert!(
            socket.contains("(for some arguments, such as 0x"),
            "{socket}"
        );
        let listed = json("diff strict untrusted --syscalls --json");
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), forth.lines().count());
        let socket = listed.iter().find(|each| each["call"] == "socket").unwrap();
        assert_eq!(socket["in_part"], true);
        assert!(socket["example"][0].as_str().unwrap().starts_with("0x"));
        assert_eq!(policy("diff --syscalls x strict").code, 125);
    }

    #[test]
    fn schema_is_json() {
        assert_eq!(json("schema")["title"], "Cofferdam policy");
    }

    #[test]
    fn every_command_has_examples() {
        let command = <Line as clap::CommandFactory>::command();
        for sub in command.get_subcommands() {
            let help = sub
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("cofferdam policy {}", sub.get_name())),
                "{help}"
            );
        }
    }
}
