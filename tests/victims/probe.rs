//! A hostile job in miniature: attempts one escape per probe and reports what it saw.
//!
//! `probe list` prints every name, `probe [OPTION]… run NAME…` and
//! `probe [OPTION]… all` print one JSON line per probe,
//! `probe here NAME` runs one without a child process, and
//! `probe plant OUTSIDE WORKSPACE` lays out, outside, what the probes look for.
//!
//! Outcomes: `refused` (with the errno, or without one where the probe looks
//! for a weakness and finds none), `allowed`, `absent` (the kernel, the host or
//! the view has no such thing), `not-run` (the reason is in `detail`; a test
//! counts it as a failure).
//!
//! A probe that is allowed must change nothing: the positive controls run all
//! of them as root on the real host. So they open without writing, set values
//! that are set already, pass arguments that fail only after the permission
//! check, work in a mount namespace of their own where that is allowed, and
//! undo what they made. Each runs in a child process, which dies with whatever
//! it gained.
#![allow(
    unsafe_code,
    reason = "the probes are raw system calls, many with arguments no safe wrapper would take"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program"
)]

#[path = "probe/calls.rs"]
mod calls;
#[path = "probe/descriptors.rs"]
mod descriptors;
#[path = "probe/files.rs"]
mod files;
#[path = "probe/identity.rs"]
mod identity;
#[path = "probe/masks.rs"]
mod masks;
#[path = "probe/mounts.rs"]
mod mounts;
#[path = "probe/namespaces.rs"]
mod namespaces;
#[path = "probe/plant.rs"]
mod plant;
#[path = "probe/processes.rs"]
mod processes;
#[path = "probe/raw.rs"]
mod raw;
#[path = "probe/setid.rs"]
mod setid;
#[path = "probe/sockets.rs"]
mod sockets;
#[path = "probe/verdict.rs"]
mod verdict;
#[path = "probe/workspace.rs"]
mod workspace;

use raw::{Child, fork, poll_readable, reap};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use verdict::{Verdict, line, not_run, refused};

/// A probe that takes longer is stuck, and being stuck is no answer. A sweep of all
/// families has the kernel look for a module each, which takes its time in a guest.
const PATIENCE_MS: i32 = 120_000;

/// What the caller told us about the world outside.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Where the workspace is, as seen from here.
    pub workspace: String,
    /// A directory of the host that nothing grants; holds `secret` and `socket`.
    pub outside: Option<String>,
    /// An abstract socket name that somebody outside listens on.
    pub abstract_name: Option<String>,
    /// A TCP port of the host's loopback that somebody listens on.
    pub port: Option<u16>,
    /// Key of a System V shared memory segment of the host.
    pub shm_key: Option<i32>,
    /// Name, without a slash, of a message queue and of a file in the host's /dev/shm.
    pub ipc_name: Option<String>,
    /// The host's namespaces as readlink(2) of /proc/self/ns shows them.
    pub host_namespaces: Vec<String>,
    /// Descriptors above 2 that were open when the program started.
    pub inherited: Vec<i32>,
}

/// One attempt.
#[derive(Debug)]
pub struct Probe {
    /// Row of the list it belongs to and a name: `S-28-tcp-ulp`.
    pub name: &'static str,
    /// Does it, in a process that is thrown away.
    pub run: fn(&World) -> Verdict,
}

fn probes() -> Vec<Probe> {
    [
        files::PROBES,
        masks::PROBES,
        setid::PROBES,
        workspace::PROBES,
        mounts::PROBES,
        processes::PROBES,
        namespaces::PROBES,
        identity::PROBES,
        calls::PROBES,
        descriptors::PROBES,
        sockets::PROBES,
    ]
    .into_iter()
    .flatten()
    .map(|probe| Probe {
        name: probe.name,
        run: probe.run,
    })
    .collect()
}

fn main() -> ExitCode {
    let inherited = descriptors::open_above_two();
    let mut arguments = std::env::args().skip(1).peekable();
    let mut world = World {
        inherited,
        workspace: ".".into(),
        ..World::default()
    };
    while arguments
        .peek()
        .is_some_and(|argument| argument.starts_with("--"))
    {
        let option = arguments.next().unwrap_or_default();
        let Some(value) = arguments.next() else {
            return usage(&format!("{option} needs a value"));
        };
        if let Err(reason) = set(&mut world, &option, value) {
            return usage(&reason);
        }
    }
    let command = arguments.next().unwrap_or_default();
    let names: Vec<String> = arguments.collect();
    match (command.as_str(), names.as_slice()) {
        ("list", []) => {
            for probe in probes() {
                println!("{}", probe.name);
            }
            ExitCode::SUCCESS
        }
        ("all", []) => report(&world, &probes()),
        ("run", names) if !names.is_empty() => match select(names) {
            Ok(chosen) => report(&world, &chosen),
            Err(reason) => usage(&reason),
        },
        ("here", [name]) => match select(std::slice::from_ref(name)) {
            Ok(chosen) => {
                println!("{}", line(name, &(chosen[0].run)(&world)));
                ExitCode::SUCCESS
            }
            Err(reason) => usage(&reason),
        },
        ("plant", [outside, workspace]) => plant::plant(outside, workspace),
        _ => usage("expected list, run NAME…, all, here NAME, or plant OUTSIDE WORKSPACE"),
    }
}

fn set(world: &mut World, option: &str, value: String) -> Result<(), String> {
    let wrong = |error: std::num::ParseIntError| format!("{option}: {error}");
    match option {
        "--workspace" => world.workspace = value,
        "--outside" => world.outside = Some(value),
        "--abstract" => world.abstract_name = Some(value),
        "--port" => world.port = Some(value.parse().map_err(wrong)?),
        "--shm-key" => world.shm_key = Some(value.parse().map_err(wrong)?),
        "--ipc-name" => world.ipc_name = Some(value),
        "--host-namespaces" => {
            world.host_namespaces = value.split(',').map(str::to_owned).collect()
        }
        _ => return Err(format!("unknown option {option}")),
    }
    Ok(())
}

fn usage(reason: &str) -> ExitCode {
    eprintln!("probe: {reason}");
    ExitCode::from(2)
}

fn select(names: &[String]) -> Result<Vec<Probe>, String> {
    let mut all = probes();
    names
        .iter()
        .map(
            |name| match all.iter().position(|probe| probe.name == name) {
                Some(at) => Ok(all.swap_remove(at)),
                None => Err(format!("no probe is called {name}, or it was named twice")),
            },
        )
        .collect()
}

fn report(world: &World, chosen: &[Probe]) -> ExitCode {
    let mut out = std::io::stdout();
    for probe in chosen {
        let text = in_child(probe, world);
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .is_err()
        {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs one probe in a child process and returns its line.
fn in_child(probe: &Probe, world: &World) -> String {
    let (mut ours, mut theirs) = match std::io::pipe() {
        Ok(pair) => pair,
        Err(error) => return line(probe.name, &not_run(format!("pipe: {error}"))),
    };
    let pid = match fork() {
        Child::Here => {
            drop(ours);
            let text = line(probe.name, &(probe.run)(world));
            let code = i32::from(theirs.write_all(text.as_bytes()).is_err());
            raw::exit(code)
        }
        Child::There(pid) => pid,
        Child::Failed(errno) => {
            let reason = format!("fork: {}", verdict::errno_name(errno));
            return line(probe.name, &not_run(reason));
        }
    };
    drop(theirs);
    let mut text = String::new();
    let answered =
        poll_readable(ours.as_raw_fd(), PATIENCE_MS) && ours.read_to_string(&mut text).is_ok();
    if !answered {
        raw::kill(pid);
    }
    match (reap(pid), text.is_empty()) {
        (_, false) => text,
        (Some(libc::SIGSYS), true) => line(probe.name, &refused("SIGSYS", "killed by the filter")),
        (Some(signal), true) if answered => {
            line(probe.name, &not_run(format!("died of signal {signal}")))
        }
        (_, true) => line(probe.name, &not_run("gave no answer".into())),
    }
}
