//! [pure] What of a flood of events is written: a rate, repeats as one, a share of the file.
//!
//! The caller hands in the clock, so the same calls give the same events.

use super::{Cause, Kind};

/// Bytes of events that one sandbox may leave.
pub const FILE_BYTES: u64 = 16 << 20;
/// Of these, what the job can fill; the rest is for what the caller does.
const JOB_BYTES: u64 = 15 << 20;
/// Milliseconds after which repeats are written although they go on.
const REPEATS: u64 = 1000;

/// A token bucket: `per_second` at once, and again as time goes by.
#[derive(Clone, Debug)]
struct Bucket {
    per_second: u64,
    thousandths: u64,
    filled: u64,
}

impl Bucket {
    fn take(&mut self, now: u64) -> bool {
        let gained = now
            .saturating_sub(self.filled)
            .saturating_mul(self.per_second);
        self.thousandths = self
            .thousandths
            .saturating_add(gained)
            .min(self.per_second * 1000);
        self.filled = self.filled.max(now);
        let enough = self.thousandths >= 1000;
        self.thousandths -= if enough { 1000 } else { 0 };
        enough
    }
}

/// A refusal that was written, and how often it has come again since.
#[derive(Clone, Debug)]
struct Repeats {
    refusal: Kind,
    count: u64,
    since: u64,
}

/// Decides what is written. Times are milliseconds of a clock that never goes back.
#[derive(Clone, Debug)]
pub struct Gate {
    bucket: Bucket,
    repeats: Option<Repeats>,
    dropped: u64,
}

impl Gate {
    /// At most `per_second` events of the job's making each second, and that many at once.
    pub fn new(per_second: u32, now: u64) -> Self {
        let per_second = u64::from(per_second);
        let bucket = Bucket {
            per_second,
            thousandths: per_second * 1000,
            filled: now,
        };
        Self {
            bucket,
            repeats: None,
            dropped: 0,
        }
    }

    /// What to write, in order, now that `kind` has happened and the file has `used` bytes.
    pub fn admit(&mut self, now: u64, used: u64, kind: Kind) -> Vec<Kind> {
        let mut out = Vec::new();
        // What the edge could not say, which a job can make happen at any rate.
        if let Kind::Dropped { count } = kind {
            self.lost(count);
            return out;
        }
        if let Some(repeats) = &mut self.repeats
            && repeats.refusal.repeats(&kind)
        {
            repeats.count = repeats.count.saturating_add(kind.count());
            if now.saturating_sub(repeats.since) >= REPEATS {
                self.repeats(now, used, &mut out);
            }
            return out;
        }
        self.repeats(now, used, &mut out);
        if kind == Kind::Ended {
            self.drops(&mut out);
        }
        self.offer(now, used, kind, &mut out);
        out
    }

    /// What is held back: counts of repeats and drops.
    pub fn settle(&mut self, now: u64, used: u64) -> Vec<Kind> {
        let mut out = Vec::new();
        self.repeats(now, used, &mut out);
        self.drops(&mut out);
        out
    }

    /// Counts events that were admitted and then could not be written.
    pub fn lost(&mut self, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
    }

    fn repeats(&mut self, now: u64, used: u64, out: &mut Vec<Kind>) {
        if let Some(Repeats {
            refusal,
            count: count @ 1..,
            ..
        }) = self.repeats.take()
        {
            self.offer(now, used, refusal.standing_for(count), out);
        }
    }

    fn drops(&mut self, out: &mut Vec<Kind>) {
        if self.dropped > 0 {
            out.push(Kind::Dropped {
                count: std::mem::take(&mut self.dropped),
            });
        }
    }

    fn offer(&mut self, now: u64, used: u64, kind: Kind, out: &mut Vec<Kind>) {
        let cause = kind.cause();
        let admitted = match cause {
            Cause::Job => used < JOB_BYTES && self.bucket.take(now),
            Cause::Caller => used < FILE_BYTES,
            Cause::Supervisor => true,
        };
        if !admitted {
            return self.lost(kind.count());
        }
        if cause == Cause::Job {
            self.drops(out);
        }
        if let Kind::Refused(_) | Kind::NetworkRefused { .. } = &kind {
            self.repeats = Some(Repeats {
                refusal: kind.clone(),
                count: 0,
                since: now,
            });
        }
        out.push(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decider, Refusal};
    use crate::linux::syscall::Syscall;
    use crate::net::decide;
    use crate::net::record::Reason;

    fn refused(argument: u64) -> Kind {
        Kind::Refused(Refusal {
            who: Decider::Broker,
            call: Syscall::ptrace,
            number: 101,
            errno: 1,
            rule: "always".to_owned(),
            arguments: [argument, 0, 0, 0, 0, 0],
            count: 1,
        })
    }

    fn counted(argument: u64, times: u64) -> Kind {
        refused(argument).standing_for(times)
    }

    #[test]
    fn refused_connections_to_one_place_are_one_event_with_a_count() {
        let to = |port| Kind::NetworkRefused {
            name: None,
            address: Some("192.0.2.1".to_owned()),
            port,
            reason: Reason::Decided(decide::Reason::NotGranted),
            count: 1,
        };
        let mut gate = Gate::new(100, 0);
        assert_eq!(gate.admit(0, 0, to(1)), [to(1)]);
        for _ in 0..100_000 {
            assert_eq!(gate.admit(1, 0, to(1)), []);
        }
        let many = to(1).standing_for(100_000);
        assert_eq!(gate.admit(2, 0, to(2)), [many, to(2)]);
        assert_eq!(gate.admit(3, 0, refused(1)), [refused(1)]);
    }

    #[test]
    fn equal_refusals_are_one_event_with_a_count() {
        let mut gate = Gate::new(100, 0);
        assert_eq!(gate.admit(0, 0, refused(1)), [refused(1)]);
        for _ in 0..1000 {
            assert_eq!(gate.admit(1, 0, refused(1)), []);
        }
        assert_eq!(gate.admit(2, 0, refused(2)), [counted(1, 1000), refused(2)]);
        assert_eq!(gate.admit(3, 0, refused(2)), []);
        assert_eq!(gate.admit(4, 0, Kind::Ended), [counted(2, 1), Kind::Ended]);
        assert_eq!(gate.settle(5, 0), []);
    }

    #[test]
    fn repeats_that_go_on_are_written_each_second() {
        let mut gate = Gate::new(100, 0);
        assert_eq!(gate.admit(0, 0, refused(1)), [refused(1)]);
        assert_eq!(gate.admit(999, 0, refused(1)), []);
        assert_eq!(gate.admit(1000, 0, refused(1)), [counted(1, 2)]);
        assert_eq!(gate.admit(1001, 0, refused(1)), []);
        assert_eq!(gate.settle(1002, 0), [counted(1, 1)]);
    }

    #[test]
    fn a_flood_is_cut_at_the_rate_and_the_drop_is_an_event() {
        let mut gate = Gate::new(100, 0);
        let written: usize = (0..1000)
            .map(|at| gate.admit(0, 0, refused(at)).len())
            .sum();
        assert_eq!(written, 100);
        assert_eq!(
            gate.admit(10, 0, refused(0)),
            [Kind::Dropped { count: 900 }, refused(0)]
        );
        assert_eq!(gate.admit(10, 0, refused(1)), []);
        assert_eq!(
            gate.admit(11, 0, Kind::Ended),
            [Kind::Dropped { count: 1 }, Kind::Ended]
        );
    }

    #[test]
    fn what_others_dropped_is_added_to_our_own() {
        let mut gate = Gate::new(1, 0);
        for _ in 0..1000 {
            assert_eq!(gate.admit(0, 0, Kind::Dropped { count: 2 }), []);
        }
        let dropped = Kind::Dropped { count: 2000 };
        assert_eq!(gate.admit(0, 0, Kind::Ended), [dropped, Kind::Ended]);
    }

    #[test]
    fn over_any_second_no_more_than_twice_the_rate_and_nothing_uncounted() {
        let mut gate = Gate::new(50, 0);
        let (mut written, mut dropped) = (0, 0);
        let mut count = |kinds: Vec<Kind>| {
            for kind in kinds {
                match kind {
                    Kind::Dropped { count } => dropped += count,
                    other => written += other.count(),
                }
            }
        };
        for now in 0..1000 {
            for at in 0..5 {
                count(gate.admit(now, 0, refused(at)));
            }
        }
        count(gate.settle(1000, 0));
        assert_eq!(written + dropped, 5000);
        assert!((99..=101).contains(&written), "{written}");
    }

    #[test]
    fn a_full_file_ends_in_one_drop_and_the_end() {
        let mut gate = Gate::new(100, 0);
        for at in 0..50 {
            assert_eq!(gate.admit(at, JOB_BYTES, refused(at)), []);
        }
        let exec = Kind::exec(1, &["sh".to_owned()]);
        assert_eq!(
            gate.admit(60, JOB_BYTES, exec.clone()),
            std::slice::from_ref(&exec)
        );
        assert_eq!(gate.admit(60, FILE_BYTES, exec), []);
        assert_eq!(
            gate.admit(61, FILE_BYTES, Kind::Ended),
            [Kind::Dropped { count: 51 }, Kind::Ended]
        );
    }

    #[test]
    fn a_rate_of_nothing_and_a_clock_that_stands_are_fine() {
        let mut gate = Gate::new(0, 5);
        assert_eq!(gate.admit(u64::MAX, 0, refused(1)), []);
        assert_eq!(gate.admit(0, 0, refused(1)), []);
        assert_eq!(gate.settle(0, 0), [Kind::Dropped { count: 2 }]);
    }
}
