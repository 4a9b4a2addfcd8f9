//! [host] Init and gateway of a watched sandbox: what they say, their ends, and signals to the job.

use super::Loop;
use crate::event::{Kind, Sender};
use crate::sandbox::message::{JOB, Order, PACKET, Report, SHORT, Status};
use crate::supervise::control::Answer;
use crate::supervise::outcome::{Lost, Outcome};
use crate::supervise::pump::Pump;
use crate::sys::{process, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;

impl Loop<'_> {
    pub(super) fn hear_init(&mut self) {
        let mut buffer = [0; SHORT];
        let Ok(Some((length, descriptors))) =
            socket::receive(&self.watch.running.init_socket, &mut buffer)
        else {
            // Its end is on its way through the pidfd; a closed socket is ready for ever.
            self.init_silent = true;
            return self.kill();
        };
        match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
            Ok(Report::Exited { id: JOB, status }) => self.job_ended(Outcome::Exited(status)),
            Ok(Report::Exited { id, status }) => self.command_ended(id, status),
            Ok(Report::Started { id }) => self.answer(id, &Answer::Started, None),
            Ok(Report::Terminal { id }) => {
                self.answer(id, &Answer::Terminal, descriptors.first());
            }
            Ok(Report::NotStarted { id, what, errno }) => {
                self.answer(id, &Answer::NotStarted { what, errno }, None);
                self.forget(id);
            }
            Ok(
                Report::Stage { .. }
                | Report::Failed(_)
                | Report::Listener
                | Report::Listeners
                | Report::Dialler,
            )
            | Err(_) => {
                self.kill();
            }
        }
    }

    pub(super) fn job_ended(&mut self, outcome: Outcome) {
        let outcome = if self.timed_out {
            Outcome::TimedOut
        } else {
            outcome
        };
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
        self.watch
            .pumps
            .iter_mut()
            .filter(|pump| pump.inward)
            .for_each(Pump::close);
        self.watch.held_stdin = None;
        self.deadline = None;
        self.kill_at = None;
        self.watch.meter = None;
    }

    pub(super) fn init_ended(&mut self) {
        let Ok(Some((exited, code))) = process::try_reap(&self.watch.running.init.pidfd) else {
            return;
        };
        // Its last words may still be in the socket.
        let speaks = !self.watch.plan.exec.pid1;
        while speaks && self.outcome.is_none() && readable(&self.watch.running.init_socket) {
            let before = self.outcome;
            self.hear_init();
            if before == self.outcome {
                break;
            }
        }
        self.init_ended = true;
        let status = if exited {
            Status::Code(code)
        } else {
            Status::Signal(code)
        };
        let outcome = if self.watch.plan.exec.pid1 {
            Outcome::Exited(status)
        } else {
            Outcome::Lost(Lost::Init)
        };
        self.job_ended(outcome);
        self.watch.running.listener = None;
    }

    pub(super) fn gateway_ended(&mut self) {
        if let Ok(Some(_)) = process::try_reap(&self.watch.running.gateway.pidfd) {
            self.gateway_ended = true;
            // It ends by itself only after init, which is then waiting to be reaped.
            let init_lives = !self.init_ended && !readable(&self.watch.running.init.pidfd);
            if self.outcome.is_none() && init_lives {
                self.kill();
                self.job_ended(Outcome::Lost(Lost::Gateway));
            }
        }
    }

    /// Kills everything inside: init is pid 1. Its cgroup is killed afterwards, once
    /// what it counted is read.
    pub(super) fn kill(&self) {
        // ESRCH: it has ended already.
        crate::sys::unheard(rustix::process::pidfd_send_signal(
            &self.watch.running.init.pidfd,
            Signal::KILL,
        ));
    }

    pub(super) fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(order).map_err(|_| Errno::INVAL)?;
        if bytes.len() > PACKET {
            return Err(Errno::TOOBIG);
        }
        socket::send(&self.watch.running.init_socket, &bytes, descriptors)
    }

    pub(super) fn signal_job(&mut self, number: i32, by: Sender) {
        let sent = if self.watch.plan.exec.pid1 {
            Signal::from_named_raw(number).map_or(Err(Errno::INVAL), |signal| {
                rustix::process::pidfd_send_signal(&self.watch.running.init.pidfd, signal)
            })
        } else {
            self.order(
                &Order::Signal {
                    id: JOB,
                    signal: number,
                },
                &[],
            )
        };
        if sent.is_ok() {
            self.note(Kind::Signal { signal: number, by });
        }
    }

    /// A sandbox whose events cannot be written is ended: nothing runs unrecorded.
    pub(super) fn note(&mut self, kind: Kind) {
        if self.watch.sink.record(kind).is_err() && self.outcome.is_none() {
            self.kill();
            self.job_ended(Outcome::Lost(Lost::Events));
        }
    }
}

pub(super) fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
}
