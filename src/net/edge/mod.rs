//! [exposed] The process that reads what a sandbox sends: relay and DNS, confined before the first byte.
//!
//! ```text
//! accept → original address → decide → resolve → route → connect → splice
//! ```
//! It holds the listeners that were made in N0 and makes every other socket in
//! the network namespace of its supervisor: what it dials is ordinary traffic
//! of the caller, under the host's own rules. It has a user and a mount namespace
//! of its own, and its root is empty.

mod connection;
mod dial;
mod flow;
mod gate;
mod lock;
mod names;
mod publish;
mod report;
mod resolve;
mod serve;

use crate::confine::landlock;
use crate::confine::seccomp::{check, compile, preset};
use crate::linux::syscall::Arch;
use crate::net::grant::Rules;
use crate::net::record::{RECORD, Record};
use crate::sys::process::{Child, Cloned, clone_process};
use crate::sys::{feature, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::fmt;
use std::net::SocketAddr;

/// How long its lock-down may take; it takes under a millisecond.
const READY: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Namespaces of its own. The user namespace has no ids: its process keeps the
/// caller's, as the host's rules about sockets see them, and has a right over nothing.
const OWN: u32 = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u32;

/// What the edge listens on, made in the sandbox's network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Listening<'a> {
    /// TCP, listening, IP_TRANSPARENT: every connection of the job.
    pub tcp: BorrowedFd<'a>,
    /// UDP, IP_TRANSPARENT and IP_RECVORIGDSTADDR: every DNS query of the job.
    ///
    /// Answers leave with its own port, so it has to be bound to 53.
    pub dns_udp: BorrowedFd<'a>,
    /// TCP, listening, IP_TRANSPARENT: DNS over TCP.
    pub dns_tcp: BorrowedFd<'a>,
    /// Here the gateway is asked for connections to published ports, one
    /// [`Request`](crate::net::publish::Request) a packet.
    pub gateway: Option<BorrowedFd<'a>>,
}

/// One published port.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// TCP, listening, in the host's network namespace.
    pub listener: BorrowedFd<'a>,
    /// The job's port.
    pub port: u16,
}

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    /// The process, a child of ours.
    pub child: Child,
    /// Its records, one [`Record`] a packet; closing it ends the edge.
    pub records: OwnedFd,
}

/// Why there is no edge.
#[derive(Debug)]
pub enum EdgeError {
    /// No filter for this machine, or one that was not proven.
    Filter(String),
    /// A call of ours.
    System(&'static str, Errno),
    /// A step of its lock-down, in its own process.
    Step(&'static str, Errno),
    /// It ended, or was silent, or said something else.
    Silent,
}

impl fmt::Display for EdgeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(why) => write!(out, "the network edge has no filter: {why}"),
            Self::System(call, errno) => write!(out, "start the network edge: {call}: {errno}"),
            Self::Step(step, errno) => {
                write!(
                    out,
                    "the network edge cannot confine itself: {step}: {errno}"
                )
            }
            Self::Silent => write!(out, "the network edge did not start"),
        }
    }
}

impl std::error::Error for EdgeError {}

/// An edge that is confined as far as it can be and waits for its listeners.
/// Dropped, it is ended.
#[derive(Debug)]
pub struct Starting(Option<Edge>);

/// Starts the edge; the caller has to be single-threaded.
///
/// Names are resolved by `resolvers`, in their order. At most
/// [`PORTS_MAX`](crate::net::publish::PORTS_MAX) ports are published. It ends
/// when [`Edge::records`] is closed or the calling process ends.
///
/// # Errors
/// See [`EdgeError`]; nothing of it is left running then.
pub fn start(
    rules: &Rules,
    ports: &[Port<'_>],
    resolvers: &[SocketAddr],
) -> Result<Starting, EdgeError> {
    let confinement = lock::Confinement {
        filter: proven_filter()?,
        landlock: landlock::nothing(feature::landlock_abi()),
    };
    let system = |call| move |errno| EdgeError::System(call, errno);
    let (records, theirs) = socket::pair().map_err(system("socketpair"))?;
    let child = match clone_process(OWN, false).map_err(system("clone"))? {
        Cloned::Child => lock::run(rules, ports, resolvers, theirs, confinement),
        Cloned::Parent(child) => child,
    };
    Ok(Starting(Some(Edge { child, records })))
}

impl Starting {
    /// Hands over the listeners; the edge is confined and serves when this returns.
    ///
    /// # Errors
    /// See [`EdgeError`]; nothing of it is left running then.
    pub fn listen(mut self, listening: Listening<'_>) -> Result<Edge, EdgeError> {
        let edge = self.0.as_ref().ok_or(EdgeError::Silent)?;
        let mut descriptors = vec![listening.tcp, listening.dns_udp, listening.dns_tcp];
        descriptors.extend(listening.gateway);
        match socket::send(&edge.records, b"listen", &descriptors) {
            // What it said last is still to be read.
            Ok(()) | Err(Errno::PIPE) => edge.wait_ready()?,
            Err(errno) => return Err(EdgeError::System("sendmsg", errno)),
        }
        self.0.take().ok_or(EdgeError::Silent)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(edge) = self.0.take() {
            edge.end();
        }
    }
}

impl Edge {
    fn wait_ready(&self) -> Result<(), EdgeError> {
        let mut watched = [PollFd::new(&self.records, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut watched, Some(&READY)))
            .map_err(|errno| EdgeError::System("poll", errno))?;
        if watched[0].revents().is_empty() {
            return Err(EdgeError::Silent);
        }
        match self.next() {
            Ok(Some(Record::Ready)) => Ok(()),
            Ok(Some(Record::Failed(step, errno))) => Err(EdgeError::Step(
                lock::step_name(step),
                crate::sys::errno(i32::try_from(errno).unwrap_or_default()),
            )),
            _ => Err(EdgeError::Silent),
        }
    }

    /// The next record, None at its end.
    ///
    /// # Errors
    /// EPROTO for what is no record; the errno of recvmsg(2).
    pub fn next(&self) -> Result<Option<Record>, Errno> {
        let mut buffer = [0; RECORD];
        let Some((length, _)) = socket::receive(&self.records, &mut buffer)? else {
            return Ok(None);
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        Record::decode(bytes).map(Some).ok_or(Errno::PROTO)
    }

    /// Lets it end by itself and takes its last records: it reports every open
    /// connection with its bytes.
    pub fn finish(&self) {
        // A peer that is gone has nothing more to say.
        crate::sys::unheard(rustix::net::shutdown(
            &self.records,
            rustix::net::Shutdown::Write,
        ));
    }

    /// Kills and reaps it. What is already gone is fine.
    pub fn end(&self) {
        crate::sys::unheard(rustix::process::pidfd_send_signal(
            self.child.pidfd.as_fd(),
            rustix::process::Signal::KILL,
        ));
        crate::sys::unheard(crate::sys::process::reap(&self.child.pidfd));
    }
}

fn proven_filter() -> Result<Vec<u8>, EdgeError> {
    let arch = Arch::from_machine(std::env::consts::ARCH)
        .ok_or_else(|| EdgeError::Filter("no system-call table for this machine".to_owned()))?;
    let filter = preset::edge_filter(arch);
    let program =
        compile::compile(&filter).map_err(|error| EdgeError::Filter(error.to_string()))?;
    check::prove(&filter, program)
        .map(|proven| proven.bytes())
        .map_err(|error| EdgeError::Filter(error.to_string()))
}
