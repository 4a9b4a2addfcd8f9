//! [host] One sandbox from its Plan to nothing left: state and records, launch, watch, undo.

use crate::cgroup::Group;
use crate::event::sink::Sink;
use crate::event::{self, Kind};
use crate::host::facts::Cgroup;
use crate::net::edge::Starting;
use crate::sandbox::launch::{self, Keeper, Launch, LaunchError, Program, Running, privileged};
use crate::sandbox::plan::Plan;
use crate::supervise::disk::Meter;
use crate::supervise::failure::{SessionError, system};
use crate::supervise::logs::Log;
use crate::supervise::outcome::{Answer, Ended, Lost, Outcome};
use crate::supervise::places::{self, Places};
use crate::supervise::state::{End, Held, Process, Processes, State, StateError};
use crate::supervise::streams::{self, caller_terminal, open_null};
use crate::supervise::watch::{FORWARDED, Watch};
use crate::supervise::{client, network, placeholders, records, state, sweep, terminal, undo};
use crate::sys::{process, signal};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

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

impl Session<'_> {
    /// Runs the sandbox to its end, with these listeners for the plan's published
    /// ports. `started` is called once the job has been
    /// executed, in the process that called this.
    ///
    /// # Errors
    /// Why it did not start, or could not be watched; nothing of it is left then.
    pub fn run(
        &self,
        ports: Vec<OwnedFd>,
        started: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<Ended, SessionError> {
        let state = undo::planned(self.plan, self.cgroup, self.detached);
        let held = Held::create(self.places, &state)?;
        let result = self
            .open(&held, &state, ports)
            .and_then(|opened| self.attended(&held, opened, started));
        self.close(held, state, result)
    }

    /// Everything that takes the rights of whoever started us.
    fn open(
        &self,
        held: &Held,
        state: &State,
        ports: Vec<OwnedFd>,
    ) -> Result<Opened, SessionError> {
        // A supervisor without root's rights gets files of records that stay root's:
        // the two it writes, so that it cannot put another plan there.
        let record = self.privileged.then(|| self.record()).transpose()?;
        if let Some(wanted) = &state.placeholders {
            let _locked = state::lock_placeholders(self.places)?;
            placeholders::make(wanted)
                .map_err(|(path, errno)| SessionError::Placeholder(path, errno))?;
        }
        let layers = self.make_layers()?;
        let name = &self.plan.name;
        let cgroup = undo::limits(self.plan)
            .map(|limits| crate::cgroup::create(self.cgroup, name, &limits, &[std::process::id()]))
            .transpose()
            .map_err(|error| SessionError::Launch(LaunchError::Cgroup(error.to_string())))?;
        let program = Program::find().map_err(SessionError::Launch)?;
        let handed = privileged::open_sources(self.plan).map_err(SessionError::Launch)?;
        if self.privileged {
            self.give(&held.home.live)?;
        }
        Ok(Opened {
            record,
            cgroup,
            program,
            handed,
            ports,
            layers,
        })
    }

    /// What is kept of this sandbox, begun with its plan.
    fn record(&self) -> Result<Record, SessionError> {
        let (records, plan) = records::create(self.places, self.plan)?;
        let per_second = self.plan.supervise.events_per_second;
        let mut sink =
            Sink::create(records.as_fd(), &plan, per_second).map_err(SessionError::Events)?;
        self.note_plan(&mut sink, &plan)?;
        let log = self
            .detached
            .then(|| Log::create(&records, self.plan.supervise.log_bytes))
            .transpose()
            .map_err(system("make log"))?;
        Ok(Record { sink, log })
    }

    /// The record, begun now if it has not been.
    fn recorded<'r>(&self, record: &'r mut Option<Record>) -> Result<&'r mut Record, SessionError> {
        let begun = match record.take() {
            Some(begun) => begun,
            None => self.record()?,
        };
        Ok(record.insert(begun))
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
        let counts = opened.cgroup.as_ref().map_or(Ok((0, 0)), limits_met);
        let sink = &mut self.recorded(&mut opened.record)?.sink;
        let (kills, forks) = *counts.as_ref().unwrap_or(&(0, 0));
        for (count, kind) in [
            (kills, Kind::OutOfMemory { count: kills }),
            (forks, Kind::ProcessLimit { count: forks }),
        ] {
            if count > 0 {
                sink.record(kind).map_err(SessionError::Events)?;
            }
        }
        sink.record(end_of(&result)).map_err(SessionError::Events)?;
        sink.record(Kind::Ended).map_err(SessionError::Events)?;
        let (outcome, refusals) = result?;
        counts?;
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

    /// What is kept holds nothing of the job's at protected paths.
    fn forget_protected(&self) -> Result<(), SessionError> {
        if !self.keep || self.plan.supervise.not_kept.is_empty() {
            return Ok(());
        }
        let upper = self.places.layers.join(&self.plan.name);
        let upper = upper.join(sweep::KEPT_WORKSPACE);
        sweep::forget(self.plan, self.helpers, &upper).map_err(SessionError::Kept)
    }

    /// Where what the job wrote is kept, if it is.
    pub fn kept(&self) -> Option<String> {
        let path = self.places.layers.join(&self.plan.name);
        let any = self.keep && self.plan.layer_names().next().is_some();
        any.then(|| path.to_string_lossy().into_owned())
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
        let mut stdio = streams::open(self.plan, self.detached, self.interactive)?;
        let launch = Launch {
            plan: self.plan,
            program: &opened.program,
            stdio: stdio.inside,
            cgroup: opened.cgroup.as_ref(),
            keeper,
            size: caller_terminal()
                .filter(|_| !self.detached)
                .and_then(|terminal| terminal::size(&terminal)),
            handed: &opened.handed,
        };
        let record = &mut opened.record;
        let mut edge = None;
        // Only the edge keeps them.
        let ports = std::mem::take(&mut opened.ports);
        let running = launch::launch(launch, |arriving| {
            let starting = self.edge(ports)?;
            self.recorded(record)?;
            let listening = starting.zip(arriving.listeners()?);
            edge = listening
                .map(|(starting, listeners)| network::listen(starting, &listeners))
                .transpose()?;
            Ok(())
        });
        let running = match running {
            Ok(running) => running,
            Err(error) => {
                if let Some(edge) = edge {
                    edge.end();
                }
                return Err(error);
            }
        };
        opened.handed.clear();
        if let Some(processes) = processes(&running) {
            held.home.write_processes(&processes)?;
        }
        let record = self.recorded(&mut opened.record)?;
        record
            .sink
            .record(Kind::Started {
                pid: running.init.pid,
            })
            .map_err(SessionError::Events)?;
        started()?;
        let raw = streams::connect_terminal(
            self.detached,
            &running,
            &mut stdio.pumps,
            &mut stdio.logged,
        )?;
        let limit = self.plan.supervise.disk.zip(opened.layers.take());
        let meter = limit.map(|(bytes, layers)| Meter::new(layers, running.gateway.pid, bytes));
        let watch = Watch {
            plan: self.plan,
            running,
            edge,
            cgroup: opened.cgroup.as_ref(),
            meter,
            pumps: stdio.pumps,
            logged: stdio.logged,
            log: record.log.take(),
            held_stdin: stdio.held_stdin,
            sink: &mut record.sink,
            signals,
            control,
            terminal: raw.as_ref().and_then(|_| caller_terminal()),
        };
        let outcome = watch.run().map_err(system("watch"));
        drop(raw);
        outcome
    }

    /// The process that relays the job's connections, where it has a network.
    fn edge(&self, ports: Vec<OwnedFd>) -> Result<Option<Starting>, SessionError> {
        let rules = self.plan.network.as_ref();
        rules
            .map(|rules| network::start(self.plan, rules, &ports))
            .transpose()
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

    /// Undoes what the host still has of the sandbox.
    fn close(
        &self,
        held: Held,
        mut state: State,
        result: Result<Ended, SessionError>,
    ) -> Result<Ended, SessionError> {
        let cleaned = undo::undo(
            self.places,
            &held,
            &state,
            Some(self.plan),
            self.helpers,
            self.keep,
        );
        let cleaned = cleaned.and_then(|()| self.forget_protected());
        let lost = matches!(
            result,
            Err(SessionError::Launch(
                LaunchError::Supervisor { .. } | LaunchError::Unknown
            ))
        );
        if lost {
            records::note_loss(self.places, &self.plan.name);
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
    /// Started by root begun at once, else while the stage builds the root.
    record: Option<Record>,
    cgroup: Option<Group>,
    program: Program,
    handed: Vec<OwnedFd>,
    /// Listeners of published ports.
    ports: Vec<OwnedFd>,
    layers: Option<OwnedFd>,
}

/// What is written down of a sandbox while it runs.
struct Record {
    sink: Sink,
    log: Option<Log>,
}

/// Processes killed for memory, and forks refused, by a group's own limits.
fn limits_met(group: &Group) -> Result<(u64, u64), SessionError> {
    let fail = |error: crate::cgroup::Error| LaunchError::Cgroup(error.to_string());
    let counts = group.oom_kills().and_then(|kills| {
        let forks = group.refused_forks()?;
        Ok((kills, forks))
    });
    counts.map_err(fail).map_err(SessionError::Launch)
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

fn processes(running: &Running) -> Option<Processes> {
    let own = i32::try_from(std::process::id()).ok()?;
    Some(Processes {
        supervisor: Process::of(own).ok()?,
        gateway: Process::of(running.gateway.pid).ok()?,
        init: Process::of(running.init.pid).ok()?,
    })
}
