//! Runs a Plan as it is, without supervision: from a file, or from standard input.
//!
//! `cofferdam plan` prints what `cofferdam run` would do; with this one can
//! change a step and see what it was for, or what it costs:
//!
//! ```text
//! cofferdam plan -p ./quiet.toml -- make | jq … | run_plan
//! ```
//!
//! From a file (`run_plan plan.json`), the job gets the caller's standard input.
//!
//! For measurements and tests only: no events, no limits of time, no cleaning
//! up, no cgroup. The init program is searched beside this program's directory.

#![allow(clippy::print_stderr, reason = "its messages are for whoever measures")]

use cofferdam::sandbox::launch::{Keeper, Launch, LaunchError, Program, launch};
use cofferdam::sandbox::message::{JOB, PACKET, Report};
use cofferdam::sandbox::plan::Plan;
use cofferdam::sys::socket;
use rustix::fd::OwnedFd;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;

const HELPERS: (&str, &str) = ("/usr/bin/newuidmap", "/usr/bin/newgidmap");

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("run_plan: {error}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let (text, input) = plan_and_input()?;
    let plan: Plan = serde_json::from_str(&text)?;
    if plan.supervise.records_refusals {
        // Nobody would answer the refused calls: the job would wait for ever.
        return Err("the policy records refusals; set on_denied = \"errno\"".into());
    }
    let program = Program::open(&beside("cofferdam-init")?)?;
    let running: Result<_, LaunchError> = launch(
        Launch {
            plan: &plan,
            program: &program,
            stdio: stdio(input)?,
            cgroup: None,
            keeper: Keeper::Own {
                helpers: Some(HELPERS),
            },
            size: None,
            handed: &[],
        },
        |_| Ok(()),
    );
    let running = running?;
    outcome(&running.init_socket)
}

/// A program of this build: examples lie one directory below.
fn beside(name: &str) -> Result<std::path::PathBuf, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let directory = own.parent().and_then(std::path::Path::parent);
    Ok(directory
        .ok_or("no directory above this program")?
        .join(name))
}

/// The plan's text, and the job's standard input: empty where that was the plan.
fn plan_and_input() -> Result<(String, OwnedFd), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        return Ok((std::fs::read_to_string(path)?, input));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok((text, File::open("/dev/null")?.into()))
}

fn stdio(input: OwnedFd) -> Result<[OwnedFd; 3], Box<dyn Error>> {
    let out = std::io::stdout().as_fd().try_clone_to_owned()?;
    let err = std::io::stderr().as_fd().try_clone_to_owned()?;
    Ok([input, out, err])
}

/// Waits for the job, past what init says of other things.
fn outcome(init: &OwnedFd) -> Result<u8, Box<dyn Error>> {
    let mut packet = vec![0; PACKET];
    loop {
        let Some((length, _)) = socket::receive(init, &mut packet)? else {
            return Err("init ended before the job".into());
        };
        let report = serde_json::from_slice(packet.get(..length).unwrap_or_default())?;
        if let Report::Exited { id: JOB, status } = report {
            return Ok(status.exit_code());
        }
    }
}
