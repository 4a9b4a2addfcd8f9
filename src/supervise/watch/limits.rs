//! [host] What else happens to a watched sandbox: time and disk limits, signals, recorded refusals, output.

use super::{GRACE, Loop};
use crate::event::{Kind, Sender};
use crate::sandbox::message::Status;
use crate::sandbox::plan::Op;
use crate::supervise::disk::Meter;
use crate::supervise::outcome::Outcome;
use crate::supervise::terminal;
use crate::sys::signal;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::time::Instant;

impl Loop<'_> {
    pub(super) fn check_time(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.timed_out = true;
            self.kill_at = Some(now + GRACE);
            let seconds = self.watch.plan.supervise.timeout.unwrap_or_default();
            self.note(Kind::TimeLimit { seconds });
            self.signal_job(libc::SIGTERM, Sender::Limit);
        }
        let look = self
            .watch
            .meter
            .as_mut()
            .filter(|meter| meter.due().is_some_and(|at| at <= now));
        if let Some(meter) = look
            && meter.look().is_err()
        {
            // What cannot be looked at cannot be limited.
            self.kill();
            self.job_ended(Outcome::DiskFull);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.kill();
            self.job_ended(Outcome::Exited(Status::Signal(libc::SIGKILL)));
        }
    }

    /// A limit that is reached, or can no longer be judged, ends the sandbox.
    pub(super) fn read_meter(&mut self) {
        if self.watch.meter.as_mut().is_some_and(Meter::over) && self.outcome.is_none() {
            let bytes = self.watch.plan.supervise.disk.unwrap_or_default();
            self.note(Kind::DiskLimit { bytes });
            self.kill();
            self.job_ended(Outcome::DiskFull);
        }
    }

    pub(super) fn forward_signals(&mut self) {
        while let Ok(Some(number)) = signal::next(&self.watch.signals) {
            if number == libc::SIGWINCH {
                self.copy_size();
            } else if self.outcome.is_none() {
                self.signal_job(number, Sender::Caller);
            }
        }
    }

    pub(super) fn copy_size(&self) {
        if let (Some(terminal), Some(master)) = (&self.watch.terminal, &self.watch.running.terminal)
        {
            // A size is cosmetic.
            crate::sys::unheard(terminal::copy_size(terminal, master));
        }
    }

    pub(super) fn answer_call(&mut self) {
        let Some(listener) = &self.watch.running.listener else {
            return;
        };
        let filter = self
            .watch
            .plan
            .steps
            .iter()
            .find_map(|step| match &step.op {
                Op::Seccomp { filter } => Some(filter),
                _ => None,
            });
        let Some(filter) = filter else { return };
        match crate::broker::serve(listener.as_fd(), filter) {
            Ok(Some(refusal)) => {
                self.refusals += 1;
                self.note(Kind::Refused(refusal));
            }
            Ok(None) => {}
            // Closed, so that every waiting and later call fails with ENOSYS.
            Err(_) => self.watch.running.listener = None,
        }
    }

    /// What the log could not keep is told once, at the end.
    pub(super) fn note_lost_output(&mut self) {
        let bytes = self.watch.log.as_ref().map_or(0, |log| log.dropped);
        if bytes > 0 {
            self.note(Kind::LogTruncated { bytes });
        }
    }

    pub(super) fn copy_to_log(&mut self, index: usize) {
        let Some(fd) = self.watch.logged.get(index) else {
            return;
        };
        let mut buffer = Vec::with_capacity(64 << 10);
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(0) => drop(self.watch.logged.swap_remove(index)),
            Ok(_) => {
                if let Some(log) = &mut self.watch.log {
                    log.append(&buffer);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => drop(self.watch.logged.swap_remove(index)),
        }
    }
}
