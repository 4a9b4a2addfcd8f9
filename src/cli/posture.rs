//! [host] `cofferdam posture NAME`: what the kernel says of each process, next to the plan.

use crate::posture::edge::{self, Edge};
use crate::posture::observation::Observation;
use crate::posture::{
    Difference, Expectation, PostureError, differences, expected, full, observe, observe_edge,
    short,
};
use crate::sandbox::plan::Plan;
use clap::Args;
use serde::Serialize;
use std::io::Write;

/// Show what the kernel says of each process of a sandbox, next to its plan.
///
/// Reads /proc of every process from inside the sandbox's outer user namespace:
/// capabilities, seccomp, no_new_privs, namespaces, id maps, mounts, open
/// descriptors, limits and signal state; of the network edge what /proc tells
/// of it outside. Prints a line per control and every
/// difference; with --all, what each process has. What differs from the plan,
/// and what cannot be read, is an error: exit code 125, else 0.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    cofferdam run -d --name build -w . -- make\n  \
    cofferdam posture build\n  \
    cofferdam posture --all build\n  \
    cofferdam posture --json build | jq .differences")]
pub struct PostureArgs {
    /// Name of a running sandbox.
    pub name: String,
    /// Print everything that was read, process by process.
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
    /// Print observation, expectation and differences as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The sandbox that a name stands for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its supervisor's pid, whose child the edge is; None looks for no edge.
    pub supervisor_pid: Option<i32>,
    /// Its gateway's pid outside.
    pub gateway_pid: i32,
    /// Its init's pid outside.
    pub init_pid: i32,
    /// Its plan.
    pub plan: Plan,
}

#[derive(Serialize)]
struct Json<'a> {
    observation: &'a Observation,
    edge: Option<&'a Edge>,
    expectation: &'a Expectation,
    differences: &'a [Difference],
}

/// Runs the command: 0 when all is as planned, 125 when not or when it cannot be told.
pub fn run(args: &PostureArgs, target: &Target) -> u8 {
    match shown(args, target) {
        Ok((text, equal)) => {
            let written = std::io::stdout().lock().write_all(text.as_bytes());
            if equal && written.is_ok() { 0 } else { 125 }
        }
        Err(error) => {
            let line = format!(
                "cofferdam: posture of {}: {error}\n  {}\n",
                args.name,
                error.help()
            );
            // With stderr gone, the exit code is all that is left to say it.
            match std::io::stderr().lock().write_all(line.as_bytes()) {
                Ok(()) | Err(_) => 125,
            }
        }
    }
}

fn shown(args: &PostureArgs, target: &Target) -> Result<(String, bool), PostureError> {
    let observation = observe(target.gateway_pid, target.init_pid)?;
    let expectation = expected(&target.plan);
    let mut differences = differences(&target.plan, &observation);
    let mut edge = None;
    if let Some(supervisor) = target.supervisor_pid {
        edge = observe_edge(supervisor)?;
        differences.extend(edge::differences(expectation.behind_gateway, edge.as_ref()));
    }
    let text = if args.json {
        let json = Json {
            observation: &observation,
            edge: edge.as_ref(),
            expectation: &expectation,
            differences: &differences,
        };
        serde_json::to_string_pretty(&json)
            .map(|text| text + "\n")
            .map_err(|error| PostureError::Answer(error.into()))?
    } else {
        let line = edge.as_ref().map(edge::text).unwrap_or_default();
        let of = if args.all { full } else { short };
        line + &of(&observation, &expectation, &differences)
    };
    Ok((text, differences.is_empty()))
}
