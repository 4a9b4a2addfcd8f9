//! [host] `cofferdam plan`: prints exactly what `run` would do.

use crate::cli::args::SandboxArgs;
use crate::cli::output::print;
use crate::cli::problem::Problem;
use crate::cli::run::prepare;
use crate::sandbox::plan::Plan;
use std::path::PathBuf;

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Print what `run` would do, as JSON",
    after_help = "Examples:\n  cofferdam plan -w . -- make > plan.json\n  cofferdam plan --text -p strict -- true\n  cofferdam plan -w . --diff plan.json -- make     what is different today"
)]
pub struct Args {
    /// What would be run, and how it would be confined
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    /// Print for people
    #[arg(long)]
    pub text: bool,
    /// Print what differs from this plan; exit code 1 if anything does
    #[arg(long, value_name = "FILE")]
    pub diff: Option<PathBuf>,
}

/// Prints and gives the exit code.
pub fn run(args: &Args) -> u8 {
    match attempt(args) {
        Ok(code) => code,
        Err(problem) => problem.report(),
    }
}

fn attempt(args: &Args) -> Result<u8, Problem> {
    let terminal = [args.sandbox.tty; 3];
    let plan = prepare(&args.sandbox, terminal)?.plan;
    if let Some(path) = &args.diff {
        let other = std::fs::read(path)
            .map_err(|error| Problem::line(format!("{}: {error}", path.display())))?;
        let other: Plan = serde_json::from_slice(&other)
            .map_err(|error| Problem::line(format!("{} is not a plan: {error}", path.display())))?;
        let (before, after) = (other.text(), plan.text());
        let difference = difference(&before, &after);
        print(&difference)?;
        return Ok(u8::from(!difference.is_empty()));
    }
    if args.text {
        print(&plan.text())?;
    } else {
        let text = serde_json::to_string_pretty(&plan)
            .map_err(|error| Problem::line(format!("plan: {error}")))?;
        print(&(text + "\n"))?;
    }
    Ok(0)
}

/// Lines of one text and not of the other, numbers of steps aside.
fn difference(before: &str, after: &str) -> String {
    let strip = |line: &str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .to_owned()
    };
    let old: Vec<String> = before.lines().map(strip).collect();
    let new: Vec<String> = after.lines().map(strip).collect();
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}\n"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}
