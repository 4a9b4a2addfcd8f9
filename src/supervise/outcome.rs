//! [pure] How a sandbox ended, and the fixed record of it that crosses from the supervisor to root's launcher.

use crate::event::chain::Digest;
use crate::sandbox::message::Status;

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The job ended by itself or by a signal somebody asked for.
    Exited(Status),
    /// The time limit ended it.
    TimedOut,
    /// The disk limit ended it.
    DiskFull,
    /// The memory limit ended it: the kernel kills the whole cgroup, init with it.
    OutOfMemory,
    /// A process of ours was killed: which.
    Lost(Lost),
}

/// What a sandbox cannot go on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Init was killed.
    Init,
    /// The gateway was killed.
    Gateway,
    /// The event log cannot be written.
    Events,
    /// The network edge was killed, or said what it cannot say.
    Edge,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Init => "the sandbox's init",
            Self::Gateway => "the sandbox's gateway",
            Self::Events => "the event log",
            Self::Edge => "the sandbox's network edge",
        })
    }
}

/// What a session came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the job ended.
    pub outcome: Outcome,
    /// Recorded refusals.
    pub refusals: u64,
    /// Head of plan and events.
    pub head: Digest,
}

/// Bytes of a record.
pub const RECORD: usize = 48;

/// The last message of a supervisor: the end of its sandbox, or the exit code of
/// a failure that it has told the caller itself.
///
/// Whoever reads it is root and the writer is not trusted. There are no lengths
/// and no text in it: byte 0 is the kind, byte 1 an exit code or signal, bytes
/// 2–7 are 0, 8–15 the refusals (little-endian), 16–47 the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ran to its end.
    Ended(Ended),
    /// It did not; exit code 125, 126 or 127.
    Failed(u8),
}

const FAILED: u8 = 1;
const CODE: u8 = 2;
const SIGNAL: u8 = 3;
const TIMED_OUT: u8 = 4;
const DISK_FULL: u8 = 5;
const OUT_OF_MEMORY: u8 = 6;
const LOST_INIT: u8 = 7;
const LOST_GATEWAY: u8 = 8;
const LOST_EVENTS: u8 = 9;
const LOST_EDGE: u8 = 10;

/// Last real-time signal: signal(7).
const LAST_SIGNAL: u8 = 64;

impl Answer {
    /// The record.
    pub fn encode(&self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        match self {
            Self::Failed(code) => record[..2].copy_from_slice(&[FAILED, *code]),
            Self::Ended(ended) => {
                record[..2].copy_from_slice(&kind(ended.outcome));
                record[8..16].copy_from_slice(&ended.refusals.to_le_bytes());
                record[16..].copy_from_slice(ended.head.bytes());
            }
        }
        record
    }

    /// Reads a record; None for everything that [`Answer::encode`] does not make.
    pub fn decode(record: &[u8; RECORD]) -> Option<Self> {
        let [kind, value, zero @ ..] = record.first_chunk::<8>()?;
        if zero.iter().any(|byte| *byte != 0) {
            return None;
        }
        if *kind == FAILED {
            let rest = record.iter().skip(2).all(|byte| *byte == 0);
            return (rest && (125..=127).contains(value)).then_some(Self::Failed(*value));
        }
        let (numbers, head) = record.get(8..)?.split_first_chunk::<8>()?;
        Some(Self::Ended(Ended {
            outcome: outcome(*kind, *value)?,
            refusals: u64::from_le_bytes(*numbers),
            head: Digest::from_bytes(*head.first_chunk::<32>()?),
        }))
    }
}

fn kind(outcome: Outcome) -> [u8; 2] {
    match outcome {
        Outcome::Exited(Status::Code(code)) => [CODE, (code & 0xff) as u8],
        Outcome::Exited(Status::Signal(signal)) => [SIGNAL, (signal & 0x7f) as u8],
        Outcome::TimedOut => [TIMED_OUT, 0],
        Outcome::DiskFull => [DISK_FULL, 0],
        Outcome::OutOfMemory => [OUT_OF_MEMORY, 0],
        Outcome::Lost(Lost::Init) => [LOST_INIT, 0],
        Outcome::Lost(Lost::Gateway) => [LOST_GATEWAY, 0],
        Outcome::Lost(Lost::Events) => [LOST_EVENTS, 0],
        Outcome::Lost(Lost::Edge) => [LOST_EDGE, 0],
    }
}

fn outcome(kind: u8, value: u8) -> Option<Outcome> {
    Some(match (kind, value) {
        (CODE, code) => Outcome::Exited(Status::Code(i32::from(code))),
        (SIGNAL, 1..=LAST_SIGNAL) => Outcome::Exited(Status::Signal(i32::from(value))),
        (TIMED_OUT, 0) => Outcome::TimedOut,
        (DISK_FULL, 0) => Outcome::DiskFull,
        (OUT_OF_MEMORY, 0) => Outcome::OutOfMemory,
        (LOST_INIT, 0) => Outcome::Lost(Lost::Init),
        (LOST_GATEWAY, 0) => Outcome::Lost(Lost::Gateway),
        (LOST_EVENTS, 0) => Outcome::Lost(Lost::Events),
        (LOST_EDGE, 0) => Outcome::Lost(Lost::Edge),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every answer there can be, but for refusals and head.
    fn all() -> Vec<Answer> {
        let codes = (0..=255).map(|code| Outcome::Exited(Status::Code(code)));
        let signals = (1..=64).map(|signal| Outcome::Exited(Status::Signal(signal)));
        let lost = [Lost::Init, Lost::Gateway, Lost::Events].map(Outcome::Lost);
        let others = [Outcome::TimedOut, Outcome::DiskFull, Outcome::OutOfMemory];
        let ended = codes.chain(signals).chain(lost).chain(others);
        let ended = ended.map(|outcome| {
            Answer::Ended(Ended {
                outcome,
                refusals: 0x0102_0304_0506_0708,
                head: Digest::of(b"head"),
            })
        });
        ended.chain((125..=127).map(Answer::Failed)).collect()
    }

    #[test]
    fn every_answer_comes_back() {
        for answer in all() {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn every_byte_everywhere_is_the_same_record_or_none() {
        let (mut taken, mut refused) = (0, 0);
        for answer in all() {
            let record = answer.encode();
            for at in 0..RECORD {
                for byte in 0..=255 {
                    let mut other = record;
                    other[at] = byte;
                    match Answer::decode(&other) {
                        Some(read) => {
                            assert_eq!(read.encode(), other);
                            taken += 1;
                        }
                        None => refused += 1,
                    }
                }
            }
        }
        assert!(taken > 0 && refused > 0);
        assert_eq!(Answer::decode(&[0; RECORD]), None);
        assert_eq!(Answer::decode(&[0xff; RECORD]), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_would_be_written(
            start in prop::array::uniform2(0u8..12),
            padding in prop::bool::weighted(0.1),
            rest in prop::array::uniform32(any::<u8>()),
            refusals in any::<u64>(),
        ) {
            let mut record = [0; RECORD];
            record[..2].copy_from_slice(&start);
            record[5] = u8::from(padding);
            record[8..16].copy_from_slice(&refusals.to_le_bytes());
            record[16..].copy_from_slice(&rest);
            if let Some(answer) = Answer::decode(&record) {
                prop_assert_eq!(answer.encode(), record);
            }
        }
    }
}
