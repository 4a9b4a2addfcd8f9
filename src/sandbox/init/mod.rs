//! [init] Pid 1 inside, after lock-down: starts the job, reaps, serves `exec`, dies with its supervisor.
//!
//! Everything it starts inherits its namespaces, Landlock domain, filter and
//! no_new_privs, so an exec'd command is never weaker confined than the job.

mod spawn;

use crate::sandbox::message::{Command, JOB, Order, PACKET, Report, Status};
use crate::sandbox::plan::{Op, Plan};
use crate::sys::process::exit_now;
use crate::sys::{signal, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use spawn::{Rights, Stdio};
use std::collections::BTreeMap;

/// The signals init listens to; made before the filter, used after it.
///
/// # Errors
/// The errno of signalfd(2).
pub fn signals() -> Result<OwnedFd, Errno> {
    signal::descriptor(&[libc::SIGCHLD])
}

/// Starts the job and serves until it ends. Never returns.
pub fn serve(plan: &Plan, supervisor: OwnedFd, signals: OwnedFd, terminal: Option<OwnedFd>) -> ! {
    let command = Command {
        argv: plan.exec.argv.clone(),
        environment: plan.exec.environment.clone(),
        directory: plan.exec.directory.clone(),
        uid: plan.exec.uid,
        gid: plan.exec.gid,
        terminal: plan.exec.terminal,
        size: None,
    };
    let rights = rights(plan);
    if plan.exec.pid1 {
        // Nobody is left to say it afterwards: what follows is why not, or the
        // end of this socket at execve.
        if crate::sandbox::stage::say(&supervisor, &Report::Started { id: JOB }, None).is_err() {
            exit_now(125);
        }
        spawn::replace(&command, &rights, terminal, supervisor);
    }
    let mut init = Init {
        supervisor,
        rights,
        running: BTreeMap::new(),
    };
    init.start(
        JOB,
        &command,
        Stdio {
            given: None,
            terminal,
        },
    );
    // From here on the job's own copies decide when its output ends.
    if spawn::detach_stdio().is_err() {
        exit_now(125);
    }
    init.run(&signals)
}

fn rights(plan: &Plan) -> Rights {
    plan.steps
        .iter()
        .find_map(|step| match &step.op {
            Op::Capabilities { job, .. } => Some(Rights {
                job: job.iter().fold(0, |bits, cap| bits | cap.bit()),
            }),
            _ => None,
        })
        .unwrap_or(Rights { job: 0 })
}

struct Init {
    supervisor: OwnedFd,
    rights: Rights,
    /// Commands by pid, with the number messages use.
    running: BTreeMap<i32, u32>,
}

impl Init {
    fn run(mut self, signals: &OwnedFd) -> ! {
        let mut buffer = vec![0; PACKET];
        loop {
            let mut watched = [
                PollFd::new(&self.supervisor, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
            ];
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => exit_now(125),
            }
            let [orders, children] = watched.map(|fd| !fd.revents().is_empty());
            if children {
                self.reap(signals);
            }
            if orders {
                self.obey(&mut buffer);
            }
        }
    }

    /// Reports every ended command; the end of the job is the end of init and so of everything.
    fn reap(&mut self, signals: &OwnedFd) {
        while let Ok(Some(_)) = signal::next(signals) {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(id) = self.running.remove(&pid.as_raw_pid()) else {
                continue;
            };
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Code(code),
                (None, signal) => Status::Signal(signal.unwrap_or(libc::SIGKILL)),
            };
            self.say(&Report::Exited { id, status });
            if id == JOB {
                exit_now(i32::from(status.exit_code()));
            }
        }
    }

    fn obey(&mut self, buffer: &mut [u8]) {
        let Ok(Some((length, descriptors))) = socket::receive(&self.supervisor, buffer) else {
            // The supervisor is gone: exiting kills every process of this pid namespace.
            exit_now(125);
        };
        match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
            Ok(Order::Run { id, command }) => self.start_more(id, &command, descriptors),
            Ok(Order::Signal { id, signal }) => self.forward(id, signal),
            Ok(Order::Go { .. }) | Err(_) => exit_now(125),
        }
    }

    fn start_more(&mut self, id: u32, command: &Command, descriptors: Vec<OwnedFd>) {
        let Ok(given) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return self.not_started(id, Errno::BADF);
        };
        let terminal = if command.terminal.contains(&true) {
            match spawn::new_terminal(command.size) {
                Ok((master, slave)) => {
                    self.say_with(&Report::Terminal { id }, &master);
                    Some(slave)
                }
                Err(errno) => return self.not_started(id, errno),
            }
        } else {
            None
        };
        self.start(
            id,
            command,
            Stdio {
                given: Some(given),
                terminal,
            },
        );
    }

    fn start(&mut self, id: u32, command: &Command, stdio: Stdio) {
        match spawn::spawn(command, &self.rights, stdio) {
            Ok(pid) => {
                self.running.insert(pid, id);
                self.say(&Report::Started { id });
            }
            Err((what, errno)) => {
                self.say(&Report::NotStarted {
                    id,
                    what,
                    errno: errno.raw_os_error(),
                });
                if id == JOB {
                    exit_now(125);
                }
            }
        }
    }

    fn not_started(&self, id: u32, errno: Errno) {
        let what = crate::sandbox::message::Spawn::Process;
        self.say(&Report::NotStarted {
            id,
            what,
            errno: errno.raw_os_error(),
        });
    }

    fn forward(&self, id: u32, signal: i32) {
        let target = self
            .running
            .iter()
            .find(|(_, number)| **number == id)
            .map(|(pid, _)| *pid);
        let (Some(pid), Some(signal)) = (
            target.and_then(Pid::from_raw),
            Signal::from_named_raw(signal),
        ) else {
            return;
        };
        // The command may have ended in between: its end is already on its way.
        crate::sys::unheard(kill_process(pid, signal));
    }

    fn say(&self, report: &Report) {
        if crate::sandbox::stage::say(&self.supervisor, report, None).is_err() {
            exit_now(125);
        }
    }

    fn say_with(&self, report: &Report, descriptor: &OwnedFd) {
        if crate::sandbox::stage::say(&self.supervisor, report, Some(descriptor)).is_err() {
            exit_now(125);
        }
    }
}
