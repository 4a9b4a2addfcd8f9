//! [host] `ps`, `inspect` and `logs`: what there is and what it says.

use crate::cli::context::Context;
use crate::cli::output::print;
use crate::cli::problem::Problem;
use crate::net::publish::Publish;
use crate::sandbox::message::Status;
use crate::source::diagnostic::Diagnostic;
use crate::source::render::one_line;
use crate::supervise::control::{Answer, Ask, Live};
use crate::supervise::records::read_plan;
use crate::supervise::recover::recover;
use crate::supervise::state::{self, End, Home, State, StateError};
use crate::supervise::{client, logs};
use serde_json::json;
use std::io::{Read, Write};

/// `ps` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "List sandboxes")]
pub struct PsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `inspect` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Print what is known of a sandbox, as JSON",
    after_help = "Examples:\n  cofferdam inspect web\n  cofferdam inspect web | jq .controls"
)]
pub struct InspectArgs {
    /// Sandbox
    pub name: String,
}

/// `logs` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Print the output of a detached sandbox",
    after_help = "Examples:\n  cofferdam logs web\n  cofferdam logs -f web      until it ends"
)]
pub struct LogsArgs {
    /// Sandbox
    pub name: String,
    /// Go on until the sandbox ends
    #[arg(short, long)]
    pub follow: bool,
}

fn report(result: Result<(), Problem>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(problem) => problem.report(),
    }
}

/// `cofferdam ps`.
pub fn ps(args: &PsArgs) -> u8 {
    report(list(args))
}

/// `cofferdam inspect`.
pub fn inspect(args: &InspectArgs) -> u8 {
    report(show(args))
}

/// `cofferdam logs`.
pub fn logs(args: &LogsArgs) -> u8 {
    report(output(args))
}

/// How far a sandbox is.
fn phase(home: &Home, state: &State) -> String {
    match state.ended {
        Some(End::Exited(Status::Code(code))) => format!("exited {code}"),
        Some(End::Exited(Status::Signal(signal))) => format!("killed by signal {signal}"),
        Some(End::Failed) => "failed".to_owned(),
        None if home.processes().is_some() => "running".to_owned(),
        None => "starting".to_owned(),
    }
}

fn list(args: &PsArgs) -> Result<(), Problem> {
    let context = Context::new()?;
    recover(&context.places, context.helpers())?;
    let mut states: Vec<(String, Option<(String, State)>)> = Vec::new();
    for name in state::names(&context.places)? {
        let read = Home::open(&context.places, &name)
            .and_then(|home| home.read().map(|state| (phase(&home, &state), state)));
        match read {
            Ok(found) => states.push((name, Some(found))),
            Err(StateError::Malformed(..)) => states.push((name, None)),
            // It ended while we looked.
            Err(_) => {}
        }
    }
    if args.json {
        let rows: Vec<_> = states
            .iter()
            .map(|(name, state)| match state {
                Some((status, state)) => json!({
                    "name": name, "status": status, "policy": state.policy,
                    "published": state.published, "created": state.created, "detached": state.detached, "command": state.command,
                }),
                None => json!({ "name": name, "status": "unreadable" }),
            })
            .collect();
        print(&format!("{}\n", json!(rows)))?;
        return Ok(());
    }
    let mut text = format!(
        "{:<24} {:<22} {:<12} {:>8}  {:<24} COMMAND\n",
        "NAME", "STATUS", "POLICY", "AGE", "PORTS"
    );
    let now = state::now();
    for (name, state) in &states {
        match state {
            Some((status, state)) => {
                let age = age(now.saturating_sub(state.created));
                let command = one_line(&state.command.join(" "));
                let ports = ports(&state.published);
                text.push_str(&format!(
                    "{name:<24} {:<22} {:<12} {age:>8}  {ports:<24} {command}\n",
                    status,
                    one_line(&state.policy)
                ));
            }
            None => text.push_str(&format!("{name:<24} unreadable: cofferdam rm {name}\n")),
        }
    }
    print(&text)?;
    Ok(())
}

/// `ADDRESS:HOSTPORT->PORT`, separated by commas.
fn ports(published: &[Publish]) -> String {
    let text = |publish: &Publish| format!("{}->{}", publish.listens(), publish.port);
    let all: Vec<String> = published.iter().map(text).collect();
    all.join(",")
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

fn show(args: &InspectArgs) -> Result<(), Problem> {
    let context = Context::new()?;
    recover(&context.places, context.helpers())?;
    let state = match Home::open(&context.places, &args.name) {
        Ok(home) => Some((home.read()?, home)),
        Err(StateError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let plan = read_plan(&context.places, &args.name).map(|(plan, _)| plan);
    if state.is_none() && plan.is_none() {
        return Err(StateError::Missing(args.name.clone()).into());
    }
    let live = live(&context, &args.name);
    let head = match &live {
        Some(live) => Some(live.head.clone()),
        None => recorded_head(&context, &args.name),
    };
    let value = json!({
        "name": args.name,
        "status": state.as_ref().map_or_else(|| "gone".to_owned(), |(state, home)| phase(home, state)),
        "policy": plan.as_ref().map(|plan| &plan.policy),
        "command": plan.as_ref().map(|plan| &plan.exec.argv),
        "processes": state.as_ref().and_then(|(_, home)| home.processes()),
        "cgroup": state.as_ref().and_then(|(state, _)| state.cgroup.as_ref()),
        "published": plan.as_ref().map(|plan| &plan.published),
        "controls": plan.as_ref().map(|plan| &plan.controls),
        "warnings": plan.as_ref().map(|plan| &plan.warnings),
        "live": live,
        "head": head,
        "records": context.places.records.join(&args.name),
    });
    let text = serde_json::to_string_pretty(&value)
        .map_err(|error| Problem::line(format!("inspect: {error}")))?;
    print(&(text + "\n"))?;
    Ok(())
}

fn live(context: &Context, name: &str) -> Option<Live> {
    let socket = super::life::connect(context, name).ok()?;
    client::ask(&socket, &Ask::Inspect, &[]).ok()?;
    match client::answer(&socket).ok()?? {
        (Answer::Live(live), _) => Some(live),
        _ => None,
    }
}

/// The head of records whose supervisor has ended.
fn recorded_head(context: &Context, name: &str) -> Option<String> {
    let records = context.places.records.join(name);
    let plan = std::fs::read(records.join(crate::supervise::records::PLAN)).ok()?;
    let events = std::fs::read(records.join(crate::event::sink::FILE)).ok()?;
    let verified = crate::event::chain::verify(&plan, &events, None).ok()?;
    Some(verified.chain.head().to_string())
}

fn output(args: &LogsArgs) -> Result<(), Problem> {
    let context = Context::new()?;
    recover(&context.places, context.helpers())?;
    let path = context.places.records.join(&args.name).join(logs::FILE);
    let mut file = std::fs::File::open(&path).map_err(|error| {
        Problem::new(
            Diagnostic::error(format!("no output of sandbox {}: {error}", args.name)).with_help(
                "only a detached sandbox keeps its output; that of others went to their caller",
            ),
        )
    })?;
    // Connected before the first read: what is written before the end is read after it.
    let waiting = if args.follow {
        super::life::connect(&context, &args.name).ok()
    } else {
        None
    };
    let watch = match &waiting {
        Some(_) => Some(watch(&path)?),
        None => None,
    };
    loop {
        let more = copy(&mut file)?;
        let (Some(socket), Some(watch)) = (&waiting, &watch) else {
            return Ok(());
        };
        if !more {
            return Ok(());
        }
        if !wait(socket, watch)? {
            copy(&mut file)?;
            return Ok(());
        }
    }
}

/// False when nobody reads any more.
fn copy(file: &mut std::fs::File) -> Result<bool, Problem> {
    let mut buffer = vec![0; 64 << 10];
    let mut out = std::io::stdout().lock();
    loop {
        let length = file
            .read(&mut buffer)
            .map_err(|error| Problem::line(format!("read output: {error}")))?;
        if length == 0 {
            return Ok(out.flush().is_ok());
        }
        if out
            .write_all(buffer.get(..length).unwrap_or_default())
            .is_err()
        {
            return Ok(false);
        }
    }
}

fn watch(path: &std::path::Path) -> Result<rustix::fd::OwnedFd, Problem> {
    use rustix::fs::inotify;
    let fail = |errno: rustix::io::Errno| Problem::line(format!("inotify: {errno}"));
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(fail)?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).map_err(fail)?;
    Ok(watch)
}

/// Waits for more output (true) or for the supervisor's end (false).
fn wait(socket: &rustix::fd::OwnedFd, watch: &rustix::fd::OwnedFd) -> Result<bool, Problem> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [
        PollFd::new(watch, PollFlags::IN),
        PollFd::new(socket, PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))
        .map_err(|errno| Problem::line(format!("poll: {errno}")))?;
    if fds[0].revents().is_empty() {
        return Ok(false);
    }
    let mut events = [0u8; 4096];
    rustix::io::read(watch, &mut events)
        .map_err(|errno| Problem::line(format!("inotify: {errno}")))?;
    Ok(true)
}
