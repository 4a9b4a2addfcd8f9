//! [host] The command line: one file per command, and what several of them read.

pub mod args;
pub mod completion;
pub mod context;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod explain;
pub mod life;
pub mod list;
pub mod output;
pub mod plan;
pub mod policy;
pub mod policy_file;
pub mod ports;
pub mod posture;
pub mod problem;
pub mod records;
pub mod request;
pub mod run;
pub mod verify;

use crate::supervise::records::read_plan;
use crate::supervise::state::Home;
use context::Context;
use problem::{Problem, REFUSED};

/// A command line that cannot be read, or help that was asked for.
pub fn usage(error: &clap::Error) -> u8 {
    let asked = !error.use_stderr();
    // Help that nobody reads any more is no failure.
    drop(error.print());
    if asked { 0 } else { REFUSED }
}

/// Runs a command that reads records of sandboxes.
pub fn with_records(run: impl FnOnce(&records::Paths) -> u8) -> u8 {
    match Context::new() {
        Ok(context) => run(&records::Paths {
            data: context.places.records,
        }),
        Err(problem) => problem.report(),
    }
}

/// `cofferdam policy`.
pub fn policy_command(args: &policy::PolicyArgs) -> u8 {
    let context = match Context::new() {
        Ok(context) => context,
        Err(problem) => return problem.report(),
    };
    let calls = context::known_calls();
    let colour = output::colour(rustix::stdio::stderr());
    let outcome = policy::run(&args.command, &context.reading(&calls), colour);
    if !outcome.stderr.is_empty() {
        output::note(outcome.stderr.trim_end());
    }
    match output::print(&outcome.stdout) {
        Ok(_) => outcome.code,
        Err(diagnostic) => Problem::new(diagnostic).report(),
    }
}

/// `cofferdam doctor`.
pub fn doctor_command(args: &doctor::Args) -> u8 {
    let runtime = std::env::var("XDG_RUNTIME_DIR").ok();
    let maskable = context::maskable();
    let request = context::probe_request(&maskable, runtime.as_deref(), None);
    match doctor::run(args, &request, &mut std::io::stdout()) {
        Ok(code) => code,
        Err(error) => Problem::line(error.to_string()).report(),
    }
}

/// `cofferdam posture`.
pub fn posture_command(args: &posture::PostureArgs) -> u8 {
    match posture_target(&args.name) {
        Ok(target) => posture::run(args, &target),
        Err(problem) => problem.report(),
    }
}

/// The processes of a running sandbox, each checked to be still the one that was written down.
fn posture_target(name: &str) -> Result<posture::Target, Problem> {
    let context = Context::new()?;
    let home = Home::open(&context.places, name)?;
    let processes = home
        .processes()
        .filter(|processes| processes.gateway.lives() && processes.init.lives())
        .ok_or_else(|| Problem::line(format!("sandbox {name} is not running")))?;
    let (plan, _) = read_plan(&context.places, name)
        .ok_or_else(|| Problem::line(format!("sandbox {name} has no plan among its records")))?;
    Ok(posture::Target {
        supervisor_pid: Some(processes.supervisor.pid),
        gateway_pid: processes.gateway.pid,
        init_pid: processes.init.pid,
        plan,
    })
}
