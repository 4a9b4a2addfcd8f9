//! [host] The network edge of a watched sandbox: its records, and its end.

use super::Loop;
use super::job::readable;
use crate::event::Kind;
use crate::net::record::Record;
use crate::supervise::network;
use crate::supervise::outcome::{Lost, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Records that are taken before others get their turn.
const RECORDS: usize = 64;
/// How long the edge has to tell what its last connections came to.
const LAST_WORDS: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

impl Loop<'_> {
    pub(super) fn hear_edge(&mut self) {
        for _ in 0..RECORDS {
            let Some(edge) = self.watch.edge.as_ref() else {
                return;
            };
            if !readable(&edge.records) {
                return;
            }
            let heard = edge.next();
            if !self.note_record(heard.ok().flatten()) {
                return self.lose_edge();
            }
        }
    }

    /// False when there is no record, or one that no edge of ours sends.
    fn note_record(&mut self, record: Option<Record>) -> bool {
        let plan = self.watch.plan;
        let event = record
            .zip(plan.network.as_ref())
            .and_then(|(record, rules)| network::event(rules, &plan.published, record));
        let known = event.is_some();
        if let Some(event) = event {
            self.note(event);
        }
        known
    }

    /// It ends, or lies: a sandbox with a network does not go on without it.
    fn lose_edge(&mut self) {
        if let Some(edge) = self.watch.edge.take() {
            edge.end();
        }
        if self.outcome.is_none() {
            self.note(Kind::EdgeLost);
            self.kill();
            self.job_ended(Outcome::Lost(Lost::Edge));
        }
    }

    /// Nothing uses the network any more: the edge says what every connection came to.
    pub(super) fn finish_edge(&mut self) {
        if let Some(edge) = self.watch.edge.as_ref() {
            edge.finish();
        }
        while let Some(edge) = self.watch.edge.as_ref() {
            let mut watched = [PollFd::new(&edge.records, PollFlags::IN)];
            // Who is silent now has lost its chance.
            let spoke = matches!(poll(&mut watched, Some(&LAST_WORDS)), Ok(1));
            if !spoke {
                return self.lose_edge();
            }
            self.hear_edge();
        }
    }
}
