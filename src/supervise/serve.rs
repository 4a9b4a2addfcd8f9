//! [host] One sandbox from its Plan to nothing left: state and records, launch, watch, undo.

use crate::cgroup::Group;
use crate::event::sink::{Sink, SinkError};
use crate::event::{self, Kind};
use crate::host::facts::Cgroup;
use crate::sandbox::launch::{self, Keeper, Launch, LaunchError, Program, Running, privileged};
use crate::sandbox::plan::{CgroupLimits, Op, Plan};
use crate::supervise::disk::Meter;
use crate::supervise::logs::Log;
use crate::supervise::outcome::{Answer, Ended, Lost, Outcome};
use crate::supervise::places::{self, Places};
use crate::supervise::pump::Pump;
use crate::supervise::state::{End, Held, Placeholders, Process, Processes, State, StateError};
use crate::supervise::terminal::{self, RawTerminal};
use crate::supervise::watch::{FORWARDED, Watch};
use crate::supervise::{client, placeholders, recover, state, sweep};
use crate::sys::{process, signal};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fmt;
use std::io::Write;

/// Plans and event logs that are kept.
const RECORDS: usize = 100;
/// Name of the plan among a sandbox's records.
pub const PLAN: &str = "plan.json";

/// What a session needs beside the plan.
#[derive(Debug)]
pub struct Session<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Directories of ours.
    pub places: &'a Places,
    /// Cgroups of this host.
    pub cgroup: &'a Cgroup,
    /// newuidmap and newgidmap.
    pub helpers: Option<(&'a str, &'a str)>,
    /// No caller waits for it.
    pub detached: bool,
    /// A detached job's stdin stays open.
    pub interactive: bool,
    /// Keep what the job wrote into layers.
    pub keep: bool,
    /// Started by root.
    pub privileged: bool,
    /// Tells the caller on stderr why it failed, and gives the exit code: for a
    /// supervisor that may tell its launcher nothing in words.
    pub tell: fn(SessionError) -> u8,
}

/// Why a session failed.
#[derive(Debug)]
pub enum SessionError {
    /// State or lock.
    State(StateError),
    /// Event log.
    Events(SinkError),
    /// A sandbox that did not start.
    Launch(LaunchError),
    /// A file or descriptor of ours: operation, cause.
    System(&'static str, Errno),
    /// A placeholder in the workspace: path, cause.
    Placeholder(String, Errno),
    /// A supervisor without root's rights has told the caller why; exit code.
    Told(u8),
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(out),
            Self::Events(error) => error.fmt(out),
            Self::Launch(error) => error.fmt(out),
            Self::Told(code) => write!(out, "told already, exit code {code}"),
            Self::System(what, errno) => write!(out, "{what}: {errno}"),
            Self::Placeholder(path, errno) => {
                write!(
                    out,
                    "protected path {path} cannot be held in the workspace: {errno}"
                )
            }
        }
    }
}

impl std::error::Error for SessionError {}

impl From<StateError> for SessionError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

fn system(what: &'static str) -> impl Fn(Errno) -> SessionError {
    move |errno| SessionError::System(what, errno)
}

impl Session<'_> {
    /// Runs the sandbox to its end. `started` is called once the job has been
    /// executed, in the process that called this.
    ///
    /// # Errors
    /// Why it did not start, or could not be watched; nothing of it is left then.
    pub fn run(&self, started: impl FnOnce() -> Result<(), Errno>) -> Result<Ended, SessionError> {
        let held = Held::create(self.places, &self.plan.name)?;
        let state = self.initial_state();
        let result = held
            .write(&state)
            .map_err(SessionError::State)
            .and_then(|()| self.open(&held, &state))
            .and_then(|opened| self.attended(&held, opened, started));
        self.close(held, state, result)
    }

    fn initial_state(&self) -> State {
        let limited = self.limits().is_some();
        State {
            schema: 1,
            name: self.plan.name.clone(),
            policy: self.plan.policy.clone(),
            command: self.plan.exec.argv.clone(),
            created: crate::supervise::state::now(),
            detached: self.detached,
            ended: None,
            cgroup: if limited {
                crate::cgroup::of(self.cgroup, &self.plan.name)
            } else {
                None
            },
            placeholders: placeholders(self.plan),
            layers: self.plan.layer_names().next().is_some(),
        }
    }

    fn limits(&self) -> Option<CgroupLimits> {
        self.plan.steps.iter().find_map(|step| match &step.op {
            Op::Cgroup { limits } => Some(*limits),
            _ => None,
        })
    }

    /// Everything that takes the rights of whoever started us.
    fn open(&self, held: &Held, state: &State) -> Result<Opened, SessionError> {
        let (records, plan) = self.records()?;
        let per_second = self.plan.supervise.events_per_second;
        let mut sink =
            Sink::create(records.as_fd(), &plan, per_second).map_err(SessionError::Events)?;
        self.note_plan(&mut sink, &plan)?;
        if let Some(wanted) = &state.placeholders {
            let _locked = state::lock_placeholders(self.places)?;
            placeholders::make(wanted)
                .map_err(|(path, errno)| SessionError::Placeholder(path, errno))?;
        }
        let layers = self.make_layers()?;
        let name = &self.plan.name;
        let cgroup = self
            .limits()
            .map(|limits| crate::cgroup::create(self.cgroup, name, &limits, &[std::process::id()]))
            .transpose()
            .map_err(|error| SessionError::Launch(LaunchError::Cgroup(error.to_string())))?;
        let program = Program::find().map_err(SessionError::Launch)?;
        let handed = privileged::open_sources(self.plan).map_err(SessionError::Launch)?;
        if self.privileged {
            // The records stay root's: the supervisor has the two files of them
            // that it writes, and cannot put another plan there.
            self.give(&held.home.live)?;
        }
        let log = self
            .detached
            .then(|| Log::create(&records, self.plan.supervise.log_bytes))
            .transpose()
            .map_err(system("make log"))?;
        Ok(Opened {
            sink,
            log,
            cgroup,
            program,
            handed,
            layers,
        })
    }

    /// Makes a directory the supervisor's.
    fn give(&self, directory: &OwnedFd) -> Result<(), SessionError> {
        let uid = rustix::fs::Uid::from_raw(self.plan.requires.uid);
        let gid = rustix::fs::Gid::from_raw(self.plan.requires.gid);
        rustix::fs::fchown(directory, Some(uid), Some(gid)).map_err(system("chown"))
    }

    /// In this process, or started by root in one that has none of its rights.
    fn attended(
        &self,
        held: &Held,
        opened: Opened,
        started: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<Ended, SessionError> {
        if !self.privileged {
            let keeper = Keeper::Own {
                helpers: self.helpers,
            };
            let started = || started().map_err(system("tell the caller"));
            return self.attend(held, opened, keeper, started);
        }
        let cgroup = opened.cgroup.clone();
        let work = |launcher: &OwnedFd| {
            let started = || self.tell_launcher(launcher);
            let result = self.attend(held, opened, Keeper::Launcher(launcher), started);
            result
                .map_or_else(|error| Answer::Failed((self.tell)(error)), Answer::Ended)
                .encode()
        };
        let record = privileged::as_unprivileged(self.plan, cgroup.as_ref(), work, started)
            .map_err(SessionError::Launch)?;
        match Answer::decode(&record) {
            Some(Answer::Ended(ended)) => Ok(ended),
            Some(Answer::Failed(code)) => Err(SessionError::Told(code)),
            None => Err(SessionError::Launch(LaunchError::Unknown)),
        }
    }

    /// The job runs: the supervisor's own part of letting the caller go.
    fn tell_launcher(&self, launcher: &OwnedFd) -> Result<(), SessionError> {
        if self.detached {
            let null = open_null().map_err(system("open /dev/null"))?;
            rustix::stdio::dup2_stderr(&null).map_err(system("dup"))?;
        }
        privileged::tell_started(launcher).map_err(SessionError::Launch)
    }

    /// Launches, watches, and writes the events down.
    fn attend(
        &self,
        held: &Held,
        mut opened: Opened,
        keeper: Keeper<'_>,
        started: impl FnOnce() -> Result<(), SessionError>,
    ) -> Result<Ended, SessionError> {
        let result = self.launched(held, &mut opened, keeper, started);
        let kills = opened
            .cgroup
            .as_ref()
            .and_then(|group| group.oom_kills().ok())
            .unwrap_or(0);
        let sink = &mut opened.sink;
        if kills > 0 {
            sink.record(Kind::OutOfMemory { count: kills })
                .map_err(SessionError::Events)?;
        }
        sink.record(end_of(&result)).map_err(SessionError::Events)?;
        sink.record(Kind::Ended).map_err(SessionError::Events)?;
        let (outcome, refusals) = result?;
        let outcome = match outcome {
            Outcome::Lost(Lost::Init) if kills > 0 => Outcome::OutOfMemory,
            other => other,
        };
        Ok(Ended {
            outcome,
            refusals,
            head: sink.head(),
        })
    }

    /// Where what the job wrote is kept, if it is.
    pub fn kept(&self) -> Option<String> {
        let path = self.places.layers.join(&self.plan.name);
        let any = self.keep && self.plan.layer_names().next().is_some();
        any.then(|| path.to_string_lossy().into_owned())
    }

    /// A fresh records directory with the plan in it; older records make room.
    fn records(&self) -> Result<(OwnedFd, Vec<u8>), SessionError> {
        let all = places::open(&self.places.records)
            .map_err(|error| SessionError::State(StateError::Places(error)))?;
        // Others make room as well, and what one removes the other would look for.
        rustix::fs::flock(&all, rustix::fs::FlockOperation::LockExclusive)
            .map_err(system("lock records"))?;
        sweep::remove_tree(&all, &self.plan.name).map_err(system("remove older records"))?;
        make_room(&all, self.places).map_err(system("remove old records"))?;
        let records =
            places::subdirectory(&all, &self.plan.name).map_err(system("make records"))?;
        let bytes = serde_json::to_vec(self.plan)
            .map_err(|_| SessionError::System("write plan", Errno::INVAL))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&records, PLAN, flags, Mode::from_raw_mode(0o600))
            .map_err(system("write plan"))?;
        std::fs::File::from(file)
            .write_all(&bytes)
            .map_err(|error| {
                SessionError::System(
                    "write plan",
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                )
            })?;
        Ok((records, bytes))
    }

    fn note_plan(&self, sink: &mut Sink, plan: &[u8]) -> Result<(), SessionError> {
        let planned = Kind::Planned {
            plan_sha256: event::chain::Digest::of(plan),
            policy: self.plan.policy.clone(),
        };
        sink.record(planned).map_err(SessionError::Events)?;
        for control in self
            .plan
            .controls
            .iter()
            .filter(|control| control.degraded.is_some())
        {
            sink.record(Kind::Degraded {
                control: control.control.clone(),
                requested: control.requested.clone(),
                actual: control.actual.clone(),
            })
            .map_err(SessionError::Events)?;
        }
        Ok(())
    }

    fn launched(
        &self,
        held: &Held,
        opened: &mut Opened,
        keeper: Keeper<'_>,
        started: impl FnOnce() -> Result<(), SessionError>,
    ) -> Result<(Outcome, u64), SessionError> {
        process::become_subreaper().map_err(system("prctl PR_SET_CHILD_SUBREAPER"))?;
        let signals = signal::descriptor(&FORWARDED).map_err(system("signalfd"))?;
        let control = client::serve(&held.home).map_err(system("control socket"))?;
        let mut stdio = self.stdio()?;
        let running = launch::launch(Launch {
            plan: self.plan,
            program: &opened.program,
            stdio: stdio.inside,
            cgroup: opened.cgroup.as_ref(),
            keeper,
            size: caller_terminal()
                .filter(|_| !self.detached)
                .and_then(|terminal| terminal::size(&terminal)),
            handed: &opened.handed,
        })
        .map_err(SessionError::Launch)?;
        opened.handed.clear();
        if let Some(processes) = processes(&running) {
            held.home.write_processes(&processes)?;
        }
        opened
            .sink
            .record(Kind::Started {
                pid: running.init.pid,
            })
            .map_err(SessionError::Events)?;
        started()?;
        let raw = self.connect_terminal(&running, &mut stdio.pumps, &mut stdio.logged)?;
        let limit = self.plan.supervise.disk.zip(opened.layers.take());
        let meter = limit.map(|(bytes, layers)| Meter::new(layers, running.gateway.pid, bytes));
        let watch = Watch {
            plan: self.plan,
            running,
            cgroup: opened.cgroup.as_ref(),
            meter,
            pumps: stdio.pumps,
            logged: stdio.logged,
            log: opened.log.take(),
            held_stdin: stdio.held_stdin,
            sink: &mut opened.sink,
            signals,
            control,
            terminal: raw.as_ref().and_then(|_| caller_terminal()),
        };
        let outcome = watch.run().map_err(system("watch"));
        drop(raw);
        outcome
    }

    /// The directory of this sandbox's layers, where it has any.
    fn make_layers(&self) -> Result<Option<OwnedFd>, SessionError> {
        if self.plan.layer_names().next().is_none() {
            return Ok(None);
        }
        let layers = places::open(&self.places.layers)
            .map_err(|error| SessionError::State(StateError::Places(error)))?;
        let own = places::subdirectory(&layers, &self.plan.name).map_err(system("make layers"))?;
        for name in self.plan.layer_names() {
            let layer = places::subdirectory(&own, name).map_err(system("make layers"))?;
            if self.privileged {
                self.give(&layer)?;
            }
        }
        if self.privileged {
            self.give(&own)?;
        }
        Ok(Some(own))
    }

    /// The sandbox's ends of 0–2 and what is done with ours.
    fn stdio(&self) -> Result<Stdio, SessionError> {
        let mut pumps = Vec::new();
        let mut logged = Vec::new();
        let mut held_stdin = None;
        let null = open_null().map_err(system("open /dev/null"))?;
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|_| SessionError::System("dup", Errno::MFILE))
        };
        let [terminal_in, terminal_out, terminal_error] = self.plan.exec.terminal;
        let input = if terminal_in {
            copy(&null)?
        } else if self.detached && self.interactive {
            let (read, write) = pipe().map_err(system("pipe"))?;
            held_stdin = Some(write);
            read
        } else if self.detached {
            copy(&null)?
        } else {
            let caller = own_stdio(rustix::stdio::stdin()).map_err(system("dup stdin"))?;
            if is_null(&caller).map_err(system("fstat stdin"))? {
                caller
            } else {
                let (read, write) = pipe().map_err(system("pipe"))?;
                pumps.push(Pump::inward(caller, write).map_err(system("fstat"))?);
                read
            }
        };
        let mut output = |terminal: bool, caller: rustix::fd::BorrowedFd<'_>| {
            if terminal {
                return copy(&null);
            }
            let caller = own_stdio(caller).map_err(system("dup stdout"))?;
            if !self.detached && is_null(&caller).map_err(system("fstat stdout"))? {
                return Ok(caller);
            }
            let (read, write) = pipe().map_err(system("pipe"))?;
            if self.detached {
                logged.push(read);
            } else {
                pumps.push(Pump::outward(read, caller).map_err(system("fstat"))?);
            }
            Ok(write)
        };
        let stdout = output(terminal_out, rustix::stdio::stdout())?;
        let stderr = output(terminal_error, rustix::stdio::stderr())?;
        Ok(Stdio {
            inside: [input, stdout, stderr],
            pumps,
            logged,
            held_stdin,
        })
    }

    /// Joins the job's terminal with the caller's, or with the log.
    fn connect_terminal(
        &self,
        running: &Running,
        pumps: &mut Vec<Pump>,
        logged: &mut Vec<OwnedFd>,
    ) -> Result<Option<RawTerminal>, SessionError> {
        let Some(master) = &running.terminal else {
            return Ok(None);
        };
        let copy = || {
            master
                .try_clone()
                .map_err(|_| SessionError::System("dup", Errno::MFILE))
        };
        if self.detached {
            logged.push(copy()?);
            return Ok(None);
        }
        let Some(caller) = caller_terminal() else {
            return Ok(None);
        };
        let again = || {
            caller
                .try_clone()
                .map_err(|_| SessionError::System("dup", Errno::MFILE))
        };
        pumps.push(Pump::inward(again()?, copy()?).map_err(system("fstat"))?);
        pumps.push(Pump::outward(copy()?, again()?).map_err(system("fstat"))?);
        RawTerminal::enter(caller).map_err(system("raw terminal"))
    }

    /// Undoes what the host still has of the sandbox.
    fn close(
        &self,
        held: Held,
        mut state: State,
        result: Result<Ended, SessionError>,
    ) -> Result<Ended, SessionError> {
        let cleaned = undo(
            self.places,
            &held,
            &state,
            Some(self.plan),
            self.helpers,
            self.keep,
        );
        let lost = matches!(
            result,
            Err(SessionError::Launch(
                LaunchError::Supervisor { .. } | LaunchError::Unknown
            ))
        );
        if lost {
            recover::note(self.places, &self.plan.name);
        }
        match &result {
            Ok(ended) if self.detached => {
                state.ended = Some(match ended.outcome {
                    Outcome::Exited(status) => End::Exited(status),
                    Outcome::OutOfMemory => {
                        End::Exited(crate::sandbox::message::Status::Signal(libc::SIGKILL))
                    }
                    _ => End::Failed,
                });
                held.write(&state)?;
            }
            _ => held.remove(self.places)?,
        }
        let ended = result?;
        cleaned?;
        Ok(ended)
    }
}

/// What a session has open, before it gives up any right.
struct Opened {
    sink: Sink,
    log: Option<Log>,
    cgroup: Option<Group>,
    program: Program,
    handed: Vec<OwnedFd>,
    layers: Option<OwnedFd>,
}

/// The event that tells how the job ended, or that it never began.
fn end_of(result: &Result<(Outcome, u64), SessionError>) -> Kind {
    match result {
        Ok((Outcome::Exited(status), _)) => Kind::Exited {
            status: (*status).into(),
        },
        Ok(_) => Kind::Exited {
            status: event::Status::Signal(libc::SIGKILL),
        },
        Err(SessionError::Launch(LaunchError::Command { errno, .. })) => Kind::Exited {
            status: event::Status::NotStarted(errno.raw_os_error()),
        },
        Err(_) => Kind::Exited {
            status: event::Status::NotStarted(0),
        },
    }
}

struct Stdio {
    inside: [OwnedFd; 3],
    pumps: Vec<Pump>,
    logged: Vec<OwnedFd>,
    held_stdin: Option<OwnedFd>,
}

/// Removes what a sandbox may have left on the host: cgroup, placeholders, layers.
/// All are tried; the first failure is told.
///
/// # Errors
/// What could not be removed.
pub fn undo(
    places: &Places,
    held: &Held,
    state: &State,
    plan: Option<&Plan>,
    helpers: Option<(&str, &str)>,
    keep: bool,
) -> Result<(), SessionError> {
    let mut result = Ok(());
    if let Some(group) = &state.cgroup {
        let removed = group.kill().and_then(|()| group.remove());
        result =
            removed.map_err(|error| SessionError::Launch(LaunchError::Cgroup(error.to_string())));
    }
    if let Some(made) = &state.placeholders {
        result = result.and(remove_placeholders(places, held, state, made));
    }
    if let (true, false, Some(plan)) = (state.layers, keep, plan) {
        let removed = places::open(&places.layers)
            .map_err(|error| SessionError::State(StateError::Places(error)))
            .and_then(|layers| {
                sweep::remove_layers(plan, helpers, &layers, &state.name)
                    .map_err(SessionError::Launch)
            });
        result = result.and(removed);
    }
    result
}

/// Removes those that nobody else relies on, and then relies on none itself: of
/// two sandboxes that end at once the second one removes them.
fn remove_placeholders(
    places: &Places,
    held: &Held,
    state: &State,
    made: &Placeholders,
) -> Result<(), SessionError> {
    let _locked = state::lock_placeholders(places)?;
    let relied_on = state::relied_on(places, &state.name)?;
    placeholders::remove(made, &relied_on)
        .map_err(|(path, errno)| SessionError::Placeholder(path, errno))?;
    let without = State {
        placeholders: None,
        ..state.clone()
    };
    Ok(held.write(&without)?)
}

/// The placeholder steps of a plan, as state has them.
fn placeholders(plan: &Plan) -> Option<Placeholders> {
    let mut all: Option<Placeholders> = None;
    for step in &plan.steps {
        let Op::Placeholder { source, path, kind } = &step.op else {
            continue;
        };
        let workspace = plan.sources.get(*source)?;
        all.get_or_insert_with(|| Placeholders {
            workspace: workspace.path.clone(),
            inode: workspace.inode.unwrap_or_default(),
            paths: Vec::new(),
        })
        .paths
        .push((path.clone(), kind.clone()));
    }
    all
}

fn processes(running: &Running) -> Option<Processes> {
    let own = i32::try_from(std::process::id()).ok()?;
    Some(Processes {
        supervisor: Process::of(own).ok()?,
        gateway: Process::of(running.gateway.pid).ok()?,
        init: Process::of(running.init.pid).ok()?,
    })
}

/// A pipe that the job may also open through /dev/stdout, whatever its uid:
/// nobody else has a way to it.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

/// /dev/null, for reading and writing.
///
/// # Errors
/// The errno of openat(2).
pub fn open_null() -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A close-on-exec copy of one of our own 0–2.
///
/// # Errors
/// EBADF when it is closed.
pub fn own_stdio(fd: rustix::fd::BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

/// It is /dev/null: character device 1:3.
///
/// # Errors
/// The errno of fstat(2).
pub fn is_null(fd: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let number = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && number == (1, 3))
}

/// The first of our 0–2 that is a terminal.
pub fn caller_terminal() -> Option<OwnedFd> {
    let fds = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let which = terminal::terminals();
    let first = fds
        .into_iter()
        .zip(which)
        .find(|(_, terminal)| *terminal)?
        .0;
    own_stdio(first).ok()
}

/// Removes the oldest records while there are as many as are kept, but none of
/// a sandbox that still has a directory.
fn make_room(all: &OwnedFd, places: &Places) -> Result<(), Errno> {
    let mut records = Vec::new();
    for entry in rustix::fs::Dir::read_from(all)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            records.push(name.to_owned());
        }
    }
    if records.len() < RECORDS {
        return Ok(());
    }
    let mut aged: Vec<(i64, String)> = Vec::new();
    for name in records {
        match rustix::fs::statat(all, name.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => aged.push((stat.st_mtime, name)),
            // Another sandbox is making room at the same time.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    aged.sort();
    let surplus = (aged.len() + 1).saturating_sub(RECORDS);
    for (_, name) in aged
        .into_iter()
        .filter(|(_, name)| !places.sandbox(name).exists())
        .take(surplus)
    {
        sweep::remove_tree(all, &name)?;
    }
    Ok(())
}
