//! [host] From a Plan to a running sandbox: U0, id maps, cgroup, the handshake with the stage.

mod error;
mod files;
mod idmap;
pub mod privileged;
mod process;

pub use error::LaunchError;
pub use files::Program;

use crate::cgroup::Group;
use crate::confine::seccomp::{self, check, compile, preset};
use crate::linux::syscall::Arch;
use crate::sandbox::message::{JOB, Order, Report, SHORT, Size};
use crate::sandbox::plan::{Op, Plan, Step};
use crate::sys::process::Child;
use crate::sys::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long each half of a start may take: far more than any needs, so that only a hung one meets it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a launch needs beside the Plan.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The program that becomes stage, gateway and init.
    pub program: &'a Program,
    /// The sandbox's ends of stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
    /// Cgroup the job is put into.
    pub cgroup: Option<&'a Group>,
    /// Who does what takes rights that we may not have.
    pub keeper: Keeper<'a>,
    /// Size of the job's terminal, where it has one.
    pub size: Option<Size>,
    /// Sources that a privileged launcher opened, in the plan's order.
    pub handed: &'a [OwnedFd],
}

/// Who maps ids and moves processes into cgroups.
#[derive(Clone, Copy, Debug)]
pub enum Keeper<'a> {
    /// We do, with newuidmap and newgidmap where they are needed.
    Own {
        /// Paths of both.
        helpers: Option<(&'a str, &'a str)>,
    },
    /// A privileged launcher, asked over this socket.
    Launcher(&'a OwnedFd),
}

/// A sandbox whose job has been executed.
#[derive(Debug)]
pub struct Running {
    /// The gateway.
    pub gateway: Child,
    /// Init, pid 1 inside.
    pub init: Child,
    /// Socket to the gateway; closing it ends the sandbox.
    pub gateway_socket: OwnedFd,
    /// Socket to init; closing it ends the sandbox.
    pub init_socket: OwnedFd,
    /// Refused cold calls.
    pub listener: Option<OwnedFd>,
    /// Master of the job's terminal.
    pub terminal: Option<OwnedFd>,
}

/// Sockets in N0 that are given everything the job sends, whatever its address.
/// All are non-blocking. What they tell of the far end is the job's own words.
#[derive(Debug)]
pub struct Listeners {
    /// TCP to every port but 53; getsockname(2) of a connection is its destination.
    pub tcp: OwnedFd,
    /// DNS over UDP; IP_ORIGDSTADDR of a datagram is its destination.
    pub dns_udp: OwnedFd,
    /// DNS over TCP.
    pub dns_tcp: OwnedFd,
    /// Asks the gateway for connections to published ports, where there are any.
    pub dialler: Option<OwnedFd>,
}

/// A sandbox whose network is being made.
#[derive(Debug)]
pub struct Arriving<'a> {
    plan: &'a Plan,
    sockets: Sockets<'a>,
}

impl Arriving<'_> {
    /// Waits for the listeners, if there is a network.
    ///
    /// # Errors
    /// The step that failed and why; see [`LaunchError`].
    pub fn listeners(self) -> Result<Option<Listeners>, LaunchError> {
        let network = |step: &Step| matches!(step.op, Op::Network { .. });
        if !self.plan.steps.iter().any(network) {
            return Ok(None);
        }
        listeners(self.plan, self.sockets)
            .map(Some)
            .map_err(|error| cause(self.plan, error, self.sockets))
    }
}

/// Starts a sandbox. When this fails, nothing of it is left running.
///
/// `meanwhile` runs while the stage builds the root and the first process the
/// network; the job's filter is sent only after it: no job runs when it failed.
///
/// # Errors
/// The step that failed and why; see [`LaunchError`]. What `meanwhile` said.
pub fn launch<E: From<LaunchError>>(
    launch: Launch<'_>,
    meanwhile: impl FnOnce(Arriving<'_>) -> Result<(), E>,
) -> Result<Running, E> {
    let plan = launch.plan;
    let text = serde_json::to_vec(&plan.without_rules())
        .map_err(|error| LaunchError::Encode(error.to_string()))?;
    let plan_file = files::sealed("plan", &text)?;
    let (gateway_socket, gateway_end) = pair()?;
    let (init_socket, init_end) = pair()?;
    let sockets = Sockets {
        gateway: &gateway_socket,
        init: &init_socket,
    };
    let gateway = process::start(process::Descriptors {
        program: launch.program,
        stdio: &launch.stdio,
        gateway: &gateway_end,
        init: &init_end,
        plan: &plan_file,
        handed: launch.handed,
    })?;
    drop((gateway_end, init_end, plan_file, launch.stdio));
    let mut starting = Starting {
        gateway,
        init: None,
    };
    let followed = starting
        .prepare(plan, launch.keeper, launch.cgroup, launch.size, sockets)
        .map_err(|error| E::from(cause(plan, error, sockets)))
        .and_then(|filters| meanwhile(Arriving { plan, sockets }).map(|()| filters))
        .and_then(|filters| {
            let finished = starting.finish(plan, &filters, sockets);
            finished.map_err(|error| E::from(cause(plan, error, sockets)))
        });
    match followed {
        Ok((init, terminal, listener)) => Ok(Running {
            gateway: starting.gateway,
            init,
            gateway_socket,
            init_socket,
            listener,
            terminal,
        }),
        Err(error) => {
            drop((gateway_socket, init_socket));
            starting.undo();
            Err(error)
        }
    }
}

/// Work as root of a sandbox's U0, when the sandbox itself is gone.
#[derive(Debug)]
pub struct Outer;

impl Outer {
    /// Runs `work` in a child process inside a U0 with the plan's maps.
    ///
    /// # Errors
    /// U0 could not be made, or what `work` said.
    pub fn run(
        plan: &Plan,
        helpers: Option<(&str, &str)>,
        work: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), LaunchError> {
        process::run_in_outer(plan, helpers, work)
    }
}

/// A sandbox on its way, with its own undo.
struct Starting {
    gateway: Child,
    init: Option<Child>,
}

type Started = (Child, Option<OwnedFd>, Option<OwnedFd>);

/// Our ends.
#[derive(Clone, Copy, Debug)]
struct Sockets<'a> {
    gateway: &'a OwnedFd,
    init: &'a OwnedFd,
}

impl Starting {
    /// Until the stage has ids and builds the root.
    fn prepare(
        &mut self,
        plan: &Plan,
        keeper: Keeper<'_>,
        cgroup: Option<&Group>,
        size: Option<Size>,
        sockets: Sockets<'_>,
    ) -> Result<Filters, LaunchError> {
        let writer = keeper.start_mapping(plan, self.gateway.pid)?;
        let filters = Filters::proven(plan)?;
        let init = stage_process(plan, sockets)?;
        let pid = init.pid;
        self.init = Some(init);
        if let Some(group) = cgroup {
            keeper.enter(group, pid)?;
        }
        writer.finish()?;
        tell(sockets.init, &Order::Go { size })?;
        Ok(filters)
    }

    /// Until the job has been executed.
    fn finish(
        &mut self,
        plan: &Plan,
        filters: &Filters,
        sockets: Sockets<'_>,
    ) -> Result<Started, LaunchError> {
        send(sockets.gateway, &filters.gateway)?;
        send(sockets.init, &filters.job)?;
        let (terminal, listener) = started(plan, sockets.init)?;
        match self.init.take() {
            Some(init) => Ok((init, terminal, listener)),
            None => Err(LaunchError::Gone),
        }
    }

    /// Kills and reaps both processes. What is already gone is fine.
    fn undo(self) {
        for child in [Some(self.gateway), self.init].into_iter().flatten() {
            process::end(&child);
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    socket::pair().map_err(|errno| LaunchError::System {
        call: "socketpair",
        errno,
    })
}

/// What gateway and stage are sent, one packet each; unproven bytes have no way
/// into a sandbox.
struct Filters {
    gateway: Vec<u8>,
    job: Vec<u8>,
}

impl Filters {
    fn proven(plan: &Plan) -> Result<Self, LaunchError> {
        let failed = |why: &str| LaunchError::Filter(why.to_owned());
        let arch = Arch::from_machine(&plan.requires.machine)
            .ok_or_else(|| failed("no system-call table for this machine"))?;
        let job = plan.steps.iter().find_map(|step| match &step.op {
            Op::Seccomp { filter } => Some(filter),
            _ => None,
        });
        let job = job.ok_or_else(|| failed("the plan has no seccomp step"))?;
        Ok(Self {
            gateway: prove(&preset::gateway_filter(arch, !plan.published.is_empty()))?,
            job: prove(job)?,
        })
    }
}

fn prove(filter: &seccomp::Filter) -> Result<Vec<u8>, LaunchError> {
    let failed = |error: String| LaunchError::Filter(error);
    let program = compile::compile(filter).map_err(|error| failed(error.to_string()))?;
    check::prove(filter, program)
        .map(|proven| proven.bytes())
        .map_err(|error| failed(error.to_string()))
}

/// The next report on a socket, or why there is none.
fn hear(socket: &OwnedFd, deadline: Instant) -> Result<(Report, Vec<OwnedFd>), LaunchError> {
    wait_readable(&[socket], deadline)?;
    let mut buffer = [0; SHORT];
    match socket::receive(socket, &mut buffer) {
        Ok(Some((length, descriptors))) => {
            let bytes = buffer.get(..length).unwrap_or_default();
            match serde_json::from_slice(bytes) {
                Ok(report) => Ok((report, descriptors)),
                Err(error) => Err(LaunchError::Protocol(error.to_string())),
            }
        }
        Ok(None) => Err(LaunchError::Gone),
        Err(errno) => Err(LaunchError::System {
            call: "recvmsg",
            errno,
        }),
    }
}

/// The step that failed, where one of both processes has said so: then the
/// other, a helper or a message failed only because of that.
fn cause(plan: &Plan, error: LaunchError, sockets: Sockets<'_>) -> LaunchError {
    if matches!(error, LaunchError::Step { .. }) {
        return error;
    }
    for socket in [sockets.gateway, sockets.init] {
        while let Ok((report, _)) = hear(socket, Instant::now()) {
            if let Report::Failed(failure) = report {
                return LaunchError::step(plan, failure);
            }
        }
    }
    error
}

fn wait_readable(sockets: &[&OwnedFd], deadline: Instant) -> Result<Vec<bool>, LaunchError> {
    loop {
        let mut watched: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(*socket, PollFlags::IN))
            .collect();
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        match poll(&mut watched, Some(&left)) {
            Ok(0) => return Err(LaunchError::Hung),
            Ok(_) => return Ok(watched.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(LaunchError::System {
                    call: "poll",
                    errno,
                });
            }
        }
    }
}

/// Waits for the stage process; a failed step of either process arrives here too.
fn stage_process(plan: &Plan, sockets: Sockets<'_>) -> Result<Child, LaunchError> {
    let deadline = Instant::now() + DEADLINE;
    let ready = wait_readable(&[sockets.gateway, sockets.init], deadline)?;
    let socket = if ready.first() == Some(&true) {
        sockets.gateway
    } else {
        sockets.init
    };
    match hear(socket, deadline)?.0 {
        Report::Stage { pid } => {
            // It is our child (CLONE_PARENT) and not yet waited for, so the number is still its.
            let pidfd = rustix::process::Pid::from_raw(pid)
                .ok_or(Errno::SRCH)
                .and_then(|pid| {
                    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
                })
                .map_err(|errno| LaunchError::System {
                    call: "pidfd_open",
                    errno,
                })?;
            Ok(Child { pid, pidfd })
        }
        Report::Failed(failure) => Err(LaunchError::step(plan, failure)),
        other => Err(LaunchError::Protocol(format!("{other:?} before the stage"))),
    }
}

/// Waits for the first process to have made the network.
fn listeners(plan: &Plan, sockets: Sockets<'_>) -> Result<Listeners, LaunchError> {
    let deadline = Instant::now() + DEADLINE;
    let (report, descriptors) = hear(sockets.gateway, deadline)?;
    match (report, <[OwnedFd; 3]>::try_from(descriptors)) {
        (Report::Listeners, Ok([tcp, dns_udp, dns_tcp])) => Ok(Listeners {
            tcp,
            dns_udp,
            dns_tcp,
            dialler: dialler(plan, sockets, deadline)?,
        }),
        (Report::Failed(failure), _) => Err(LaunchError::step(plan, failure)),
        (other, _) => Err(LaunchError::Protocol(format!(
            "{other:?} instead of three listeners"
        ))),
    }
}

fn dialler(
    plan: &Plan,
    sockets: Sockets<'_>,
    deadline: Instant,
) -> Result<Option<OwnedFd>, LaunchError> {
    if plan.published.is_empty() {
        return Ok(None);
    }
    let (report, descriptors) = hear(sockets.gateway, deadline)?;
    match (report, <[OwnedFd; 1]>::try_from(descriptors)) {
        (Report::Dialler, Ok([dialler])) => Ok(Some(dialler)),
        (Report::Failed(failure), _) => Err(LaunchError::step(plan, failure)),
        (other, _) => Err(LaunchError::Protocol(format!(
            "{other:?} instead of the gateway's socket"
        ))),
    }
}

impl Keeper<'_> {
    fn start_mapping(self, plan: &Plan, pid: i32) -> Result<idmap::Writing, LaunchError> {
        match self {
            Self::Own { helpers } => idmap::start(plan, pid, helpers),
            Self::Launcher(socket) => {
                privileged::ask(socket, privileged::MAP, pid)?;
                Ok(idmap::Writing::done())
            }
        }
    }

    fn enter(self, group: &Group, pid: i32) -> Result<(), LaunchError> {
        match self {
            Self::Own { .. } => group
                .enter(pid.unsigned_abs())
                .map_err(|error| LaunchError::Cgroup(error.to_string())),
            Self::Launcher(socket) => privileged::ask(socket, privileged::ENTER, pid),
        }
    }
}

fn tell(socket: &OwnedFd, order: &Order) -> Result<(), LaunchError> {
    let bytes =
        serde_json::to_vec(order).map_err(|error| LaunchError::Encode(error.to_string()))?;
    send(socket, &bytes)
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<(), LaunchError> {
    match socket::send(socket.as_fd(), bytes, &[]) {
        // The other side is gone; what it said last is still to be read.
        Ok(()) | Err(Errno::PIPE) => Ok(()),
        Err(errno) => Err(LaunchError::System {
            call: "sendmsg",
            errno,
        }),
    }
}

/// Follows the stage until the job has been executed.
fn started(plan: &Plan, init: &OwnedFd) -> Result<(Option<OwnedFd>, Option<OwnedFd>), LaunchError> {
    let deadline = Instant::now() + DEADLINE;
    let (mut terminal, mut listener) = (None, None);
    let mut executed = false;
    loop {
        let (report, mut descriptors) = match hear(init, deadline) {
            // Init's socket is closed by execve when the command takes its place.
            Err(LaunchError::Gone) if executed => return Ok((terminal, listener)),
            heard => heard?,
        };
        match report {
            Report::Terminal { id: JOB } => terminal = descriptors.pop(),
            Report::Listener => listener = descriptors.pop(),
            Report::Started { id: JOB } if plan.exec.pid1 => executed = true,
            Report::Started { id: JOB } => return Ok((terminal, listener)),
            Report::NotStarted {
                id: JOB,
                what,
                errno,
            } => {
                return Err(LaunchError::command(plan, what, errno));
            }
            Report::Failed(failure) => return Err(LaunchError::step(plan, failure)),
            other => return Err(LaunchError::Protocol(format!("{other:?} before the job"))),
        }
    }
}
