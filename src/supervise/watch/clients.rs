//! [host] Commands that talk to a watched sandbox: exec, signals, stop, kill, inspect.

use super::Loop;
use crate::event::{Kind, Sender};
use crate::sandbox::message::{Command, JOB, Order, PACKET, Status};
use crate::supervise::client;
use crate::supervise::control::{Answer, Ask, Live};
use crate::supervise::outcome::Outcome;
use crate::sys::socket;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A command of the same user that talks to this supervisor.
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    /// Number of the command it started.
    command: Option<u32>,
    /// Wants to know when the sandbox has ended.
    waits: bool,
    /// Has closed its side.
    pub(super) left: bool,
}

impl Loop<'_> {
    pub(super) fn accept(&mut self) {
        if let Some(socket) = client::accept(&self.watch.control) {
            self.clients.push(Client {
                socket,
                command: None,
                waits: false,
                left: false,
            });
        }
    }

    pub(super) fn hear_client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else {
            return;
        };
        let mut buffer = vec![0; PACKET];
        match socket::receive(&client.socket, &mut buffer) {
            Ok(Some((length, descriptors))) => {
                let ask = serde_json::from_slice(buffer.get(..length).unwrap_or_default());
                match ask {
                    Ok(ask) => self.obey(index, ask, &descriptors),
                    Err(error) => self.reply(index, &Answer::Refused(error.to_string())),
                }
            }
            Ok(None) | Err(_) => self.client_left(index),
        }
    }

    /// A command whose client has gone away has nobody to talk to.
    pub(super) fn client_left(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if let Some(id) = client.command.take() {
            // It may have ended already.
            crate::sys::unheard(self.order(
                &Order::Signal {
                    id,
                    signal: libc::SIGKILL,
                },
                &[],
            ));
        }
        if let Some(client) = self.clients.get_mut(index) {
            client.left = true;
        }
    }

    pub(super) fn obey(&mut self, index: usize, ask: Ask, descriptors: &[OwnedFd]) {
        match ask {
            Ask::Exec(command) => self.start_command(index, command, descriptors),
            Ask::Signal { signal } => {
                match self.clients.get(index).and_then(|client| client.command) {
                    Some(id) => crate::sys::unheard(self.order(&Order::Signal { id, signal }, &[])),
                    None => self.signal_job(signal, Sender::Caller),
                }
            }
            Ask::Stop { grace } => {
                self.wait_for_end(index);
                self.kill_at = Some(Instant::now() + Duration::from_secs(grace));
                self.signal_job(libc::SIGTERM, Sender::Caller);
            }
            Ask::Kill => {
                self.wait_for_end(index);
                self.note(Kind::Signal {
                    signal: libc::SIGKILL,
                    by: Sender::Caller,
                });
                if self.watch.plan.exec.pid1 {
                    self.kill();
                } else {
                    // The job's death is init's end and so everybody's; a job that is
                    // stuck in the kernel does not keep the rest alive.
                    crate::sys::unheard(self.order(
                        &Order::Signal {
                            id: JOB,
                            signal: libc::SIGKILL,
                        },
                        &[],
                    ));
                    self.kill_at = Some(Instant::now() + Duration::from_secs(1));
                }
            }
            Ask::Inspect => {
                let live = Live {
                    head: self.watch.sink.head().to_string(),
                    commands: self.commands,
                    refusals: self.refusals,
                    usage: self.watch.cgroup.and_then(|group| group.usage().ok()),
                };
                self.reply(index, &Answer::Live(live));
            }
        }
    }

    pub(super) fn wait_for_end(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            client.waits = true;
        }
    }

    pub(super) fn start_command(
        &mut self,
        index: usize,
        command: Command,
        descriptors: &[OwnedFd],
    ) {
        if self.watch.plan.exec.pid1 {
            let why = "the command itself is pid 1 (--pid1), so there is no exec";
            return self.reply(index, &Answer::Refused(why.to_owned()));
        }
        let id = self.next_command;
        let fds: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let argv = command.argv.clone();
        match self.order(&Order::Run { id, command }, &fds) {
            Ok(()) => {
                self.next_command += 1;
                self.commands += 1;
                if let Some(client) = self.clients.get_mut(index) {
                    client.command = Some(id);
                }
                self.note(Kind::exec(id, &argv));
            }
            Err(errno) => self.reply(index, &Answer::Refused(format!("command: {errno}"))),
        }
    }

    pub(super) fn command_ended(&mut self, id: u32, status: Status) {
        self.commands = self.commands.saturating_sub(1);
        self.note(Kind::ExecEnded {
            id,
            status: status.into(),
        });
        self.answer(id, &Answer::Exited(status), None);
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: u32) {
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.command == Some(id))
        {
            client.command = None;
        }
    }

    pub(super) fn answer(&mut self, id: u32, answer: &Answer, descriptor: Option<&OwnedFd>) {
        let client = self
            .clients
            .iter()
            .find(|client| client.command == Some(id));
        if let Some(client) = client {
            // A client that went away is noticed when it is polled.
            crate::sys::unheard(client::send(&client.socket, answer, descriptor));
        }
    }

    pub(super) fn reply(&self, index: usize, answer: &Answer) {
        if let Some(client) = self.clients.get(index) {
            crate::sys::unheard(client::send(&client.socket, answer, None));
        }
    }

    pub(super) fn tell_end(&self, outcome: Outcome) {
        let status = match outcome {
            Outcome::Exited(status) => status,
            Outcome::TimedOut | Outcome::DiskFull | Outcome::OutOfMemory | Outcome::Lost(_) => {
                Status::Signal(libc::SIGKILL)
            }
        };
        for client in self.clients.iter().filter(|client| client.waits) {
            crate::sys::unheard(client::send(&client.socket, &Answer::Exited(status), None));
        }
    }
}
