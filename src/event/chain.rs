//! [pure] The hash chain over plan and events: whoever keeps its head sees any later change.
//!
//! A line is `BODY,"hash":"HEX"}` where `BODY}` is an [`Event`] and HEX is
//! SHA-256 over the hash before it and the bytes of `BODY`. The hash before the
//! first line is that of the plan, under a prefix of its own, so one head
//! speaks for plan and events. Without a kept head only mistakes are found: who
//! rewrites the whole file can compute the hashes again.

use super::{Event, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// Keeps the hash of a plan from being that of anything else.
const GENESIS: &[u8] = b"cofferdam events 1\0";
const HASH_KEY: &str = ",\"hash\":\"";
const HASH_END: &str = "\"}";
const HEX: usize = 64;

/// A SHA-256, shown and read as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A hash that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn after(self, body: &[u8]) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update(self.0);
        hash.update(body);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADigest;

impl fmt::Display for NotADigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a hash has 64 hexadecimal digits, 0-9 and a-f")
    }
}

impl std::error::Error for NotADigest {}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != HEX || !text.as_bytes().iter().all(lower) {
            return Err(NotADigest);
        }
        let mut digest = [0; 32];
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A chain being written, or read: where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: Digest,
    count: u64,
    ended: bool,
}

impl Chain {
    /// The chain of a plan, no event yet.
    pub fn new(plan: &[u8]) -> Self {
        let head = Digest::of(&[GENESIS, &Digest::of(plan).0].concat());
        Self {
            head,
            count: 0,
            ended: false,
        }
    }

    /// The hash of all there is so far.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the last event was [`Kind::Ended`].
    pub fn complete(&self) -> bool {
        self.ended
    }

    /// Turns the next event into its line, newline included, and the chain as it is once that is written.
    ///
    /// # Errors
    /// Of serde_json; none is known for these types.
    pub fn line(&self, time: String, kind: Kind) -> Result<(String, Self), serde_json::Error> {
        let ended = kind == Kind::Ended;
        let mut line = serde_json::to_string(&Event {
            seq: self.count,
            time,
            kind,
        })?;
        line.truncate(line.len() - 1);
        let head = self.head.after(line.as_bytes());
        line.push_str(&format!("{HASH_KEY}{head}{HASH_END}\n"));
        Ok((
            line,
            Self {
                head,
                count: self.count + 1,
                ended,
            },
        ))
    }

    /// Takes one line, without its newline, as the next one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn follow(&mut self, line: &[u8]) -> Result<Event, Flaw> {
        let (body, written) = split(line).ok_or(Flaw::Shape)?;
        let head = self.head.after(body);
        if head != written {
            return Err(Flaw::Hash);
        }
        let event = event(body).ok_or(Flaw::Event)?;
        if event.seq != self.count {
            return Err(Flaw::Sequence);
        }
        if self.ended {
            return Err(Flaw::AfterEnd);
        }
        *self = Self {
            head,
            count: self.count + 1,
            ended: event.kind == Kind::Ended,
        };
        Ok(event)
    }
}

/// The body, without its closing brace, and the hash.
fn split(line: &[u8]) -> Option<(&[u8], Digest)> {
    let (body, tail) = line.split_at_checked(
        line.len()
            .checked_sub(HASH_KEY.len() + HEX + HASH_END.len())?,
    )?;
    let hex = std::str::from_utf8(tail)
        .ok()?
        .strip_prefix(HASH_KEY)?
        .strip_suffix(HASH_END)?;
    Some((body, hex.parse().ok()?))
}

fn event(body: &[u8]) -> Option<Event> {
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

/// A chain that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where it stands: head, count, whether it is complete.
    pub chain: Chain,
    /// The events.
    pub events: Vec<Event>,
}

/// A chain that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Line, counted from 1, that is the first wrong one.
    pub line: u64,
    /// What is wrong there.
    pub why: Flaw,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not end in a hash.
    Shape,
    /// Its hash is not that of the lines up to it.
    Hash,
    /// It is no event that this version knows.
    Event,
    /// Its number is not the next one.
    Sequence,
    /// It stands after the end of the sandbox.
    AfterEnd,
    /// The file ends in the middle of it.
    Unfinished,
    /// The kept head is that of the line before: this one and all after it came later.
    Later,
    /// All lines hold together, and the kept head is of none of them.
    Head,
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Shape => "it does not end in a hash",
            Self::Hash => "its hash does not follow from plan and lines before it: one of them was changed",
            Self::Event => "it is no event that this version knows",
            Self::Sequence => "its number is not the next one",
            Self::AfterEnd => "it stands after the end of the sandbox",
            Self::Unfinished => "the file ends in the middle of it",
            Self::Later => "the head given is that of the lines before it; from here on they are newer",
            Self::Head => "the head given belongs to none of the lines: lines are missing, or plan and events were written anew",
        })
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Broken {}

/// Checks plan and events against each other and, if there is one, against the head that was kept.
///
/// With a head, every change of plan or events since it was taken is an error:
/// edits, lines taken out, put in, swapped or cut off the end, and lines added.
///
/// # Errors
/// The first line that does not hold.
pub fn verify(plan: &[u8], events: &[u8], head: Option<Digest>) -> Result<Verified, Broken> {
    let start = Chain::new(plan);
    let mut kept = head.filter(|&head| head == start.head()).map(|_| 0);
    let mut list = Vec::new();
    let (chain, broken) = walk(start, events, |event, chain| {
        list.push(event);
        if head == Some(chain.head()) {
            kept = Some(chain.count());
        }
    });
    if let Some(broken) = broken {
        return Err(broken);
    }
    match (head, kept) {
        (Some(_), None) => Err(Broken {
            line: chain.count() + 1,
            why: Flaw::Head,
        }),
        (Some(_), Some(line)) if line < chain.count() => Err(Broken {
            line: line + 1,
            why: Flaw::Later,
        }),
        _ => Ok(Verified {
            chain,
            events: list,
        }),
    }
}

/// Gives each event of `lines` that holds to `each`, with the chain up to it;
/// returns where the chain stands then, and what broke it.
pub fn walk(
    mut chain: Chain,
    lines: &[u8],
    mut each: impl FnMut(Event, &Chain),
) -> (Chain, Option<Broken>) {
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let followed = match line.strip_suffix(b"\n") {
            Some(line) => chain.follow(line),
            None => Err(Flaw::Unfinished),
        };
        match followed {
            Ok(event) => each(event, &chain),
            Err(why) => {
                let line = chain.count() + 1;
                return (chain, Some(Broken { line, why }));
            }
        }
    }
    (chain, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Status;
    use proptest::prelude::*;

    const PLAN: &[u8] = b"{\"name\":\"job\"}";

    fn log(kinds: Vec<Kind>) -> (Vec<u8>, Digest) {
        let mut chain = Chain::new(PLAN);
        let mut bytes = Vec::new();
        for (at, kind) in kinds.into_iter().enumerate() {
            let (line, next) = chain
                .line(crate::event::time::rfc3339(at as u64), kind)
                .unwrap();
            bytes.extend(line.as_bytes());
            chain = next;
        }
        (bytes, chain.head())
    }

    fn kinds() -> impl Strategy<Value = Vec<Kind>> {
        let one = prop_oneof![
            any::<i32>().prop_map(|pid| Kind::Started { pid }),
            any::<u64>().prop_map(|count| Kind::OutOfMemory { count }),
            any::<u64>().prop_map(|count| Kind::ProcessLimit { count }),
            (any::<u32>(), proptest::collection::vec(".{0,8}", 0..3)).prop_map(|(id, argv)| {
                Kind::Exec {
                    id,
                    argv,
                    left_out: 0,
                }
            }),
            any::<i32>().prop_map(|code| Kind::Exited {
                status: Status::Code(code)
            }),
        ];
        proptest::collection::vec(one, 1..6).prop_map(|mut kinds| {
            kinds.push(Kind::Ended);
            kinds
        })
    }

    fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
        bytes
            .split_inclusive(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_written_holds(kinds in kinds()) {
            let (bytes, head) = log(kinds.clone());
            let verified = verify(PLAN, &bytes, Some(head)).unwrap();
            let read: Vec<Kind> = verified.events.into_iter().map(|event| event.kind).collect();
            prop_assert_eq!(read, kinds);
            prop_assert!(verified.chain.complete());
        }

        #[test]
        fn any_changed_byte_is_found(kinds in kinds(), at: prop::sample::Index, byte: u8) {
            let (mut bytes, head) = log(kinds);
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            prop_assert!(verify(PLAN, &bytes, Some(head)).is_err());
        }

        #[test]
        fn any_missing_or_added_byte_is_found(kinds in kinds(), at: prop::sample::Index, byte: u8) {
            let (bytes, head) = log(kinds);
            let at = at.index(bytes.len());
            let mut fewer = bytes.clone();
            fewer.remove(at);
            prop_assert!(verify(PLAN, &fewer, Some(head)).is_err());
            let mut more = bytes;
            more.insert(at, byte);
            prop_assert!(verify(PLAN, &more, Some(head)).is_err());
        }

        #[test]
        fn any_cut_is_found(kinds in kinds(), at: prop::sample::Index) {
            let (bytes, head) = log(kinds);
            prop_assert!(verify(PLAN, &bytes[..at.index(bytes.len())], Some(head)).is_err());
        }

        #[test]
        fn lines_removed_swapped_or_repeated_are_found(
            kinds in kinds(), from: prop::sample::Index, to: prop::sample::Index,
        ) {
            let (bytes, head) = log(kinds);
            let lines = lines(&bytes);
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            let mut removed = lines.clone();
            removed.remove(from);
            prop_assert!(verify(PLAN, &removed.concat(), Some(head)).is_err());
            let mut repeated = lines.clone();
            repeated.insert(to, lines[from].clone());
            prop_assert!(verify(PLAN, &repeated.concat(), Some(head)).is_err());
            if from != to {
                let mut swapped = lines;
                swapped.swap(from, to);
                prop_assert!(verify(PLAN, &swapped.concat(), Some(head)).is_err());
            }
        }
    }

    #[test]
    fn another_plan_is_found_even_without_events() {
        let (bytes, head) = log(vec![Kind::SupervisorLost]);
        assert_eq!(
            verify(b"{}", &bytes, None).unwrap_err(),
            Broken {
                line: 1,
                why: Flaw::Hash
            }
        );
        let (empty, start) = log(vec![]);
        assert_eq!(verify(PLAN, &empty, Some(start)).unwrap().chain.count(), 0);
        assert_eq!(
            verify(b"{}", &empty, Some(start)).unwrap_err().why,
            Flaw::Head
        );
        assert_eq!(
            verify(PLAN, &empty, Some(head)).unwrap_err(),
            Broken {
                line: 1,
                why: Flaw::Head
            }
        );
    }

    #[test]
    fn a_log_written_anew_is_found_by_the_kept_head_only() {
        let (_, head) = log(vec![Kind::OutOfMemory { count: 1 }, Kind::Ended]);
        let (forged, _) = log(vec![Kind::Ended]);
        assert!(verify(PLAN, &forged, None).is_ok());
        assert_eq!(
            verify(PLAN, &forged, Some(head)).unwrap_err().why,
            Flaw::Head
        );
    }

    #[test]
    fn lines_after_the_kept_head_and_after_the_end_are_found() {
        let (_, early) = log(vec![Kind::Started { pid: 1 }]);
        let (bytes, _) = log(vec![Kind::Started { pid: 1 }, Kind::Recovered]);
        assert_eq!(
            verify(PLAN, &bytes, Some(early)).unwrap_err(),
            Broken {
                line: 2,
                why: Flaw::Later
            }
        );
        let (bytes, _) = log(vec![Kind::Ended, Kind::Recovered]);
        assert_eq!(
            verify(PLAN, &bytes, None).unwrap_err(),
            Broken {
                line: 2,
                why: Flaw::AfterEnd
            }
        );
    }

    #[test]
    fn a_digest_is_read_in_one_spelling_only() {
        let text = Digest::of(b"abc").to_string();
        assert!(text.starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
        for bad in [
            text.to_uppercase(),
            format!("+{}", &text[1..]),
            text[1..].to_owned(),
            "é".repeat(32),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NotADigest), "{bad}");
        }
    }
}
