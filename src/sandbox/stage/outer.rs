//! [stage] The first process of a sandbox: makes U0's namespaces and the stage, writes U2's maps, becomes the gateway.

use super::{Context, Failed, build, network, say};
use crate::confine::idmap::Extent;
use crate::sandbox::fds;
use crate::sandbox::gateway;
use crate::sandbox::message::Report;
use crate::sandbox::plan::{Namespace, Op, Plan};
use crate::sys::process::{self, Child, Cloned, exit_now};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::io::Read;

/// Entry of `cofferdam-init stage`; the caller made U0 and placed the descriptors of [`fds`].
pub fn main() -> ! {
    match process::inherited(fds::GATEWAY) {
        Ok(socket) => run(socket),
        Err(_) => exit_now(125),
    }
}

fn run(socket: OwnedFd) -> ! {
    let (plan, handed) = match prepare() {
        Ok(prepared) => prepared,
        Err(failed) => fail(&socket, failed),
    };
    let (mine, theirs) = match crate::sys::socket::pair().during("socketpair", "") {
        Ok(pair) => pair,
        Err(failed) => fail(&socket, failed),
    };
    let namespaces = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u32;
    match process::clone_process(namespaces, true).during("clone", "pid and mount namespace") {
        Ok(Cloned::Child) => {
            drop((socket, mine));
            build::main(&plan, theirs, handed)
        }
        Ok(Cloned::Parent(child)) => {
            drop((theirs, handed));
            match hold(&socket, &plan, &mine, &child) {
                Ok(dialler) => gateway::serve(socket, &child, dialler),
                Err(failed) => fail(&socket, failed),
            }
        }
        Err(failed) => fail(&socket, failed),
    }
}

fn fail(socket: &OwnedFd, failed: Failed) -> ! {
    // With the supervisor gone there is nobody left to tell.
    crate::sys::unheard(say(socket, &failed.report(), None));
    exit_now(125)
}

/// Everything before the second process exists.
fn prepare() -> Result<(Plan, Vec<OwnedFd>), Failed> {
    process::die_with_parent().during("prctl PR_SET_PDEATHSIG", "")?;
    let permitted = crate::sys::caps::permitted().during("capget", "")?;
    crate::sys::caps::set(permitted).during("capset", "")?;
    let plan = read_plan()?;
    let handed = handed_sources(&plan)?;
    for (index, step) in plan.steps.iter().enumerate() {
        outer_step(&step.op).map_err(|failed| failed.at(index))?;
    }
    Ok((plan, handed))
}

/// What only the first process can do for the second; then its own lock-down.
fn hold(
    socket: &OwnedFd,
    plan: &Plan,
    stage: &OwnedFd,
    child: &Child,
) -> Result<Option<gateway::Dialler>, Failed> {
    say(socket, &Report::Stage { pid: child.pid }, None).during("sendmsg", "supervisor")?;
    network::make(plan, socket, stage)?;
    let dialler = network::dialler(plan, socket)?;
    map_job(plan, stage, child.pid)?;
    let filter = super::lock::receive_filter(socket)?;
    // The job's pipes must end with the job, and init's socket with init: neither is kept.
    for number in [0, 1, 2, fds::INIT] {
        drop(process::inherited(number).during("inherit", number.to_string())?);
    }
    rustix::process::chdir("/").during("chdir", "/")?;
    process::set_undumpable().during("prctl PR_SET_DUMPABLE", "")?;
    // From here on it ends the sandbox when the supervisor ends, and must not be killed first.
    process::outlive_parent().during("prctl PR_SET_PDEATHSIG", "")?;
    process::set_no_new_privileges().during("prctl PR_SET_NO_NEW_PRIVS", "")?;
    crate::sys::seccomp::load(&filter, None).during("seccomp", "gateway filter")?;
    Ok(dialler)
}

fn read_plan() -> Result<Plan, Failed> {
    let memory = process::inherited(fds::PLAN).during("inherit", "plan")?;
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0)).during("lseek", "plan")?;
    let mut text = Vec::new();
    std::fs::File::from(memory)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .during("read", "plan")?;
    serde_json::from_slice(&text)
        .map_err(|_| Errno::INVAL)
        .during("parse", "plan")
}

/// Taken before anything else is opened, while their numbers are still theirs.
fn handed_sources(plan: &Plan) -> Result<Vec<OwnedFd>, Failed> {
    let handed = plan.sources.iter().filter(|source| source.handed);
    (fds::SOURCES..)
        .zip(handed)
        .map(|(number, source)| process::inherited(number).during("inherit", &source.path))
        .collect()
}

/// The steps that need U0 but no mapped ids, so that they overlap with newuidmap.
fn outer_step(op: &Op) -> Result<(), Failed> {
    match op {
        Op::Namespaces { kinds } => unshare(kinds),
        Op::NamespaceLimits { limits } => limits
            .iter()
            .try_for_each(|(name, limit)| limit_namespace(name, *limit)),
        _ => Ok(()),
    }
}

fn unshare(kinds: &[Namespace]) -> Result<(), Failed> {
    let mut flags = UnshareFlags::empty();
    for kind in kinds {
        flags |= match kind {
            Namespace::Network => UnshareFlags::NEWNET,
            Namespace::Ipc => UnshareFlags::NEWIPC,
            Namespace::Uts => UnshareFlags::NEWUTS,
            // Pid and mount come with the stage's clone, cgroup after it has been moved.
            Namespace::Pid | Namespace::Mount | Namespace::Cgroup => UnshareFlags::empty(),
        };
    }
    crate::sys::process::unshare(flags).during("unshare", format!("{kinds:?}"))
}

/// Opened in U0, /proc/sys/user shows and changes U0's own limits (namespaces(7)).
fn limit_namespace(name: &str, limit: u64) -> Result<(), Failed> {
    let path = format!("/proc/sys/user/{name}");
    let file = openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .during("open", &path)?;
    rustix::io::write(&file, limit.to_string().as_bytes())
        .during("write", &path)
        .map(drop)
}

/// Waits until the stage has entered U2, writes U2's maps, and says so.
fn map_job(plan: &Plan, stage: &OwnedFd, pid: i32) -> Result<(), Failed> {
    let mut ready = [0u8; 8];
    if crate::sys::socket::receive(stage, &mut ready)
        .during("recvmsg", "stage")?
        .is_none()
    {
        // The stage has already said why it failed.
        exit_now(125);
    }
    let job = plan
        .steps
        .iter()
        .enumerate()
        .find_map(|(index, step)| match &step.op {
            Op::JobUser {
                uids,
                gids,
                setgroups,
            } => Some((index, uids, gids, *setgroups)),
            _ => None,
        });
    if let Some((index, uids, gids, setgroups)) = job {
        write_maps(pid, uids, gids, setgroups).map_err(|failed| failed.at(index))?;
    }
    crate::sys::socket::send(stage, b"mapped", &[]).during("sendmsg", "stage")
}

fn write_maps(pid: i32, uids: &[Extent], gids: &[Extent], setgroups: bool) -> Result<(), Failed> {
    if !setgroups {
        write_proc(pid, "setgroups", "deny")?;
    }
    write_proc(pid, "uid_map", &crate::confine::idmap::text(uids))?;
    write_proc(pid, "gid_map", &crate::confine::idmap::text(gids))
}

fn write_proc(pid: i32, name: &str, text: &str) -> Result<(), Failed> {
    let path = format!("/proc/{pid}/{name}");
    let file = openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .during("open", &path)?;
    rustix::io::write(&file, text.as_bytes())
        .during("write", &path)
        .map(drop)
}
