//! [host] The first process: a clone in U0 that becomes the init program from sealed memory.

use super::LaunchError;
use super::files::{Program, memory, seal};
use crate::sandbox::fds;
use crate::sandbox::message::{Failure, Report};
use crate::sys::process::{Child, Cloned, clone_process, exit_now, place};
use crate::sys::{caps, exec, signal, socket};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::convert::Infallible;

/// What the first process is given.
pub(super) struct Descriptors<'a> {
    pub(super) program: &'a Program,
    pub(super) stdio: &'a [OwnedFd; 3],
    pub(super) gateway: &'a OwnedFd,
    pub(super) init: &'a OwnedFd,
    pub(super) plan: &'a OwnedFd,
    /// Detached mounts that a privileged launcher opened.
    pub(super) handed: &'a [OwnedFd],
}

/// Makes U0 with the first process in it. While that copies and executes the
/// init program, the caller has its ids mapped.
pub(super) fn start(descriptors: Descriptors<'_>) -> Result<Child, LaunchError> {
    match clone_process(libc::CLONE_NEWUSER as u32, false) {
        Ok(Cloned::Parent(child)) => Ok(child),
        Ok(Cloned::Child) => {
            let Err((call, errno)) = become_init_program(&descriptors);
            report(descriptors.gateway, call, errno);
            exit_now(125)
        }
        Err(errno) => Err(LaunchError::System {
            call: "clone of a user namespace",
            errno,
        }),
    }
}

type Failed = (&'static str, Errno);

fn become_init_program(given: &Descriptors<'_>) -> Result<Infallible, Failed> {
    let during = |call| move |errno| (call, errno);
    let copy;
    let program_file = if given.program.writable {
        copy = copy_program(&given.program.file)?;
        &copy
    } else {
        &given.program.file
    };
    let [input, output, error] = given.stdio;
    let mut pairs = vec![
        (input.as_raw_fd(), 0),
        (output.as_raw_fd(), 1),
        (error.as_raw_fd(), 2),
        (given.gateway.as_raw_fd(), fds::GATEWAY),
        (given.init.as_raw_fd(), fds::INIT),
        (given.plan.as_raw_fd(), fds::PLAN),
    ];
    let handed = given.handed.iter().map(AsRawFd::as_raw_fd);
    pairs.extend(handed.zip(fds::SOURCES..));
    let program = fds::SOURCES + given.handed.len() as i32;
    pairs.push((program_file.as_raw_fd(), program));
    place(&pairs).map_err(during("dup"))?;
    crate::sys::process::cloexec_from(program as u32).map_err(during("close_range"))?;
    signal::block_only(&[]).map_err(during("sigprocmask"))?;
    signal::reset_all().map_err(during("sigaction"))?;
    caps::carry_over_exec().map_err(during("capset"))?;
    let argv = [c"cofferdam-init".to_owned(), c"stage".to_owned()];
    let program = crate::sys::process::inherited(program).map_err(during("fcntl"))?;
    Err((
        "execveat of cofferdam-init",
        exec::fexecve(program.as_fd(), &argv, &[]),
    ))
}

/// A copy that no id of the sandbox can ever open for writing: CVE-2019-5736.
fn copy_program(file: &OwnedFd) -> Result<OwnedFd, Failed> {
    let during = |call| move |errno| (call, errno);
    let copy = memory("cofferdam-init").map_err(during("memfd_create"))?;
    let size = rustix::fs::fstat(file).map_err(during("fstat"))?.st_size;
    let mut left = usize::try_from(size).map_err(|_| ("fstat", Errno::FBIG))?;
    let mut offset = 0;
    while left > 0 {
        match rustix::fs::sendfile(&copy, file, Some(&mut offset), left) {
            Ok(0) => return Err(("sendfile", Errno::IO)),
            Ok(sent) => left = left.saturating_sub(sent),
            Err(errno) => return Err(("sendfile", errno)),
        }
    }
    seal(&copy).map_err(during("fcntl F_ADD_SEALS"))?;
    Ok(copy)
}

fn report(gateway: &OwnedFd, call: &str, errno: Errno) {
    let failure = Failure {
        step: None,
        call: call.to_owned(),
        object: String::new(),
        errno: errno.raw_os_error(),
    };
    if let Ok(bytes) = serde_json::to_vec(&Report::Failed(failure)) {
        // If the launcher is gone, so is everybody who wants to know.
        crate::sys::unheard(socket::send(gateway, &bytes, &[]));
    }
}

/// Kills a child and waits for its end.
pub(super) fn end(child: &Child) {
    crate::sys::unheard(rustix::process::pidfd_send_signal(
        &child.pidfd,
        rustix::process::Signal::KILL,
    ));
    // __WALL: a sibling made with CLONE_PARENT and no exit signal is waited for as well.
    match crate::sys::process::reap(&child.pidfd) {
        Ok(_) | Err(_) => {}
    }
}

/// Runs `work` in a child that is root of a U0 with the plan's maps, and waits for it.
pub(super) fn run_in_outer(
    plan: &crate::sandbox::plan::Plan,
    helpers: Option<(&str, &str)>,
    work: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), LaunchError> {
    let (mine, theirs) = socket::pair().map_err(|errno| LaunchError::System {
        call: "socketpair",
        errno,
    })?;
    match clone_process(libc::CLONE_NEWUSER as u32, false) {
        Err(errno) => Err(LaunchError::System {
            call: "clone of a user namespace",
            errno,
        }),
        Ok(Cloned::Child) => {
            drop(mine);
            let mut mapped = [0u8; 8];
            let ready = socket::receive(&theirs, &mut mapped);
            let done = match ready {
                Ok(Some(_)) => work(),
                Ok(None) | Err(_) => Err(Errno::PIPE),
            };
            exit_now(done.map_or_else(|errno| errno.raw_os_error().min(255), |()| 0))
        }
        Ok(Cloned::Parent(child)) => {
            drop(theirs);
            let mapped = super::idmap::start(plan, child.pid, helpers)
                .and_then(super::idmap::Writing::finish);
            if mapped.is_ok() {
                // A child that is gone shows in its exit code.
                crate::sys::unheard(socket::send(&mine, b"mapped", &[]));
            }
            drop(mine);
            let ended =
                crate::sys::process::reap(&child.pidfd).map_err(|errno| LaunchError::System {
                    call: "waitid",
                    errno,
                })?;
            mapped?;
            match ended {
                (true, 0) => Ok(()),
                (true, code) => Err(LaunchError::System {
                    call: "remove layers",
                    errno: crate::sys::errno(code),
                }),
                (false, _) => Err(LaunchError::Gone),
            }
        }
    }
}
