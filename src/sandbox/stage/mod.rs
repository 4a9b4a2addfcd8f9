//! [stage] The set-up inside U0: walks the Plan's steps, then becomes gateway and init.
//!
//! Two processes share this room. The first is the one that made U0; it makes
//! the namespaces and then turns into the gateway. The second is pid 1 of the
//! new pid namespace; it builds the root, enters U2, locks itself down and turns
//! into init. Both are single-threaded; neither returns.

mod build;
mod lock;
mod mounts;
mod network;
mod outer;
mod paths;

pub(super) use build::terminal_peer;
pub use outer::main;

use crate::sandbox::message::{Failure, Report};
use crate::sys::socket;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// A failed step on its way to the supervisor.
#[derive(Debug)]
pub(super) struct Failed {
    step: Option<usize>,
    call: &'static str,
    object: String,
    errno: Errno,
}

/// Attaches call and object to an errno.
trait Context<T> {
    fn during(self, call: &'static str, object: impl Into<String>) -> Result<T, Failed>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn during(self, call: &'static str, object: impl Into<String>) -> Result<T, Failed> {
        self.map_err(|errno| Failed {
            step: None,
            call,
            object: object.into(),
            errno,
        })
    }
}

impl Failed {
    fn at(mut self, step: usize) -> Self {
        self.step.get_or_insert(step);
        self
    }

    fn report(self) -> Report {
        Report::Failed(Failure {
            step: self.step,
            call: self.call.to_owned(),
            object: self.object,
            errno: self.errno.raw_os_error(),
        })
    }
}

/// Sends one report; the supervisor's death shows as EPIPE.
pub(super) fn say(socket: &OwnedFd, report: &Report, fd: Option<&OwnedFd>) -> Result<(), Errno> {
    use rustix::fd::AsFd;
    let bytes = serde_json::to_vec(report).map_err(|_| Errno::INVAL)?;
    match fd {
        Some(fd) => socket::send(socket, &bytes, &[fd.as_fd()]),
        None => socket::send(socket, &bytes, &[]),
    }
}
