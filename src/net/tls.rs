//! [pure] Reads a TLS client hello as it arrives, for the one server name in it.
//!
//! ```text
//! records (RFC 8446 §5.1)  →  handshake message (§4)  →  extensions (§4.2)  →  server name (RFC 6066 §3)
//! ```
//! Nothing is changed or answered: the caller keeps the bytes and passes them on. What
//! servers could read in two ways is refused. Memory and work are linear in at most
//! [`LONGEST`] bytes, however they are cut.
//!
//! A server may ask for a second hello (HelloRetryRequest, RFC 8446 §4.1.4). Its name has to
//! be the first one's (§4.1.2), but a server that keeps no state reads the second alone, and
//! one that serves many names would then serve another. So the second is read like the
//! first; after that, and after any other answer, nothing more is said in plain text.

use super::grant::Name;
use super::octets::Octets;
use std::collections::BTreeSet;

/// The most bytes in which a hello has to end; the ones of browsers have about 2,000.
pub const LONGEST: usize = 64 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Bytes before the body of a handshake message.
const MESSAGE_HEADER: usize = 4;
/// The most payload of a plain record.
const FRAGMENT: usize = 1 << 14;
/// And of an encrypted one (RFC 8446 §5.2).
const SEALED: usize = FRAGMENT + 256;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Encrypted client hello (RFC 9849): the name outside it is the one that counts for us.
const ENCRYPTED_HELLO: u16 = 0xfe0d;

/// Kinds of record without a hello that a client may send before its second one.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

const SERVER_HELLO: u8 = 2;
/// Bytes of an answer up to the end of its random: headers of record and message, version.
pub const ANSWER: usize = 5 + MESSAGE_HEADER + 2 + 32;
/// The random by which a server hello asks for a second hello: RFC 8446 §4.1.3.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Whether a server asks for a second hello, by the beginning of its answer; `None` while
/// more of the first [`ANSWER`] bytes is needed. A server hello that is cut into records too
/// short to tell counts as one that does: what follows is then a hello or refused.
pub fn asks_again(answer: &[u8]) -> Option<bool> {
    let plain = [
        Some(HANDSHAKE),
        Some(3),
        None,
        None,
        None,
        Some(SERVER_HELLO),
    ];
    let differs = |(byte, expected): (&u8, &Option<u8>)| expected.is_some_and(|is| is != *byte);
    if answer.iter().zip(&plain).any(differs) {
        return Some(false);
    }
    let length = u16::from_be_bytes([*answer.get(3)?, *answer.get(4)?]);
    if usize::from(length) < ANSWER - 5 {
        return Some(true);
    }
    Some(answer.get(ANSWER - RETRY.len()..ANSWER)? == RETRY)
}

/// A hello of which a part has been read.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// Whether a server has asked for it.
    second: bool,
    /// Whether the present record has no part of it.
    skips: bool,
    seen: usize,
    header: Vec<u8>,
    /// What the present record still holds.
    left: usize,
    message: Vec<u8>,
    outcome: Option<Outcome>,
}

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A hello for one name.
    Name {
        /// The server name.
        name: Name,
        /// Whether it has an encrypted hello, or what looks like one (browsers add noise
        /// of that form to every hello).
        encrypted: bool,
    },
    /// A hello without a server name.
    NoName {
        /// As above.
        encrypted: bool,
    },
    /// Something else than TLS.
    NotTls,
    /// TLS, but no hello that every server reads alike; what is wrong with it.
    Malformed(&'static str),
}

impl Hello {
    /// The one that a server asked for: records without a hello may precede it, such as
    /// early data that was on its way (RFC 8446 §4.2.10).
    pub fn second() -> Self {
        Self {
            second: true,
            ..Self::default()
        }
    }

    /// Whether it is the one that a server asked for.
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Bytes it has taken: once it is known, those of its records and what was before them.
    pub fn length(&self) -> usize {
        self.seen
    }

    /// Takes the next bytes of the connection, and says how it begins as soon as that is
    /// certain; `None` while more bytes are needed. How the bytes are cut makes no difference,
    /// and what follows a hello is not looked at.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Option<&Outcome> {
        while self.outcome.is_none() {
            let Some((taken, rest)) = bytes.split_at_checked(self.wanted().min(bytes.len())) else {
                break;
            };
            if taken.is_empty() {
                break;
            }
            bytes = rest;
            self.outcome = self.take(taken);
        }
        self.outcome.as_ref()
    }

    /// How many bytes belong together: never more than are left of a header or a record.
    fn wanted(&self) -> usize {
        if self.left > 0 && self.skips {
            self.left
        } else if self.left > 0 {
            self.left.min(self.message_left())
        } else {
            // The first byte alone already tells TLS from the rest.
            1
        }
    }

    /// Bytes up to the end of the message, or of its header while that is not complete.
    fn message_left(&self) -> usize {
        let whole = match message_length(&self.message) {
            Some(length) => MESSAGE_HEADER.saturating_add(length),
            None => MESSAGE_HEADER,
        };
        whole.saturating_sub(self.message.len())
    }

    fn take(&mut self, taken: &[u8]) -> Option<Outcome> {
        self.seen = self.seen.saturating_add(taken.len());
        if self.seen > LONGEST {
            return Some(Outcome::Malformed("the hello is longer than 64 KiB"));
        }
        if self.left > 0 {
            self.left = self.left.saturating_sub(taken.len());
            if self.skips {
                return None;
            }
            self.message.extend_from_slice(taken);
            return self.message_so_far();
        }
        self.header.extend_from_slice(taken);
        self.header_so_far()
    }

    fn header_so_far(&mut self) -> Option<Outcome> {
        let first = self.message.is_empty();
        self.skips = self.second
            && first
            && matches!(
                self.header.first(),
                Some(&(CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA))
            );
        match *self.header.as_slice() {
            [kind, ..] if kind != HANDSHAKE && first && !self.skips => Some(Outcome::NotTls),
            [_, major, ..] if major != 3 && first => Some(Outcome::NotTls),
            [kind, ..] if kind != HANDSHAKE && !self.skips => Some(Outcome::Malformed(
                "a record of another kind splits the hello",
            )),
            [_, major, ..] if major != 3 => Some(Outcome::Malformed(
                "a record of the hello has another version",
            )),
            [_, _, _, high, low] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
                self.left = length;
                let most = if self.skips { SEALED } else { FRAGMENT };
                (length == 0 || length > most).then_some(Outcome::Malformed(
                    "a record has no bytes, or more than 16 KiB",
                ))
            }
            _ => None,
        }
    }

    fn message_so_far(&self) -> Option<Outcome> {
        if self
            .message
            .first()
            .is_some_and(|kind| *kind != CLIENT_HELLO)
        {
            return Some(Outcome::Malformed("the first message is no client hello"));
        }
        let length = message_length(&self.message)?;
        if length > LONGEST {
            return Some(Outcome::Malformed("the hello is longer than 64 KiB"));
        }
        let body = self.message.get(MESSAGE_HEADER..)?;
        if body.len() < length {
            return None;
        }
        if self.left > 0 {
            return Some(Outcome::Malformed("the record does not end with the hello"));
        }
        Some(hello(body).unwrap_or_else(Outcome::Malformed))
    }
}

/// Length of the message's body, once its header is there.
fn message_length(message: &[u8]) -> Option<usize> {
    let [_, high, middle, low] = *message.first_chunk::<MESSAGE_HEADER>()?;
    usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()
}

fn hello(body: &[u8]) -> Result<Outcome, &'static str> {
    let extensions = extensions(body).ok_or("the hello is malformed")?;
    let mut seen = BTreeSet::new();
    let mut name = None;
    let mut list = Octets::new(extensions);
    while !list.is_empty() {
        let (kind, data) = extension(&mut list).ok_or("an extension is cut off")?;
        if !seen.insert(kind) {
            return Err("an extension stands there twice");
        }
        if kind == SERVER_NAME {
            name = Some(server_name(data)?);
        }
    }
    let encrypted = seen.contains(&ENCRYPTED_HELLO);
    Ok(match name {
        Some(name) => Outcome::Name { name, encrypted },
        None => Outcome::NoName { encrypted },
    })
}

/// The list of extensions, empty where there is none: TLS 1.2 can do without (RFC 5246 §7.4.1.2).
fn extensions(body: &[u8]) -> Option<&[u8]> {
    let mut octets = Octets::new(body);
    let major = octets.u16()? >> 8;
    octets.take(32)?;
    let session = octets.short()?;
    let suites = octets.long()?;
    let compressions = octets.short()?;
    let sound = major == 3
        && session.len() <= 32
        && suites.len() >= 2
        && suites.len().is_multiple_of(2)
        && !compressions.is_empty();
    let list = if octets.is_empty() {
        &[]
    } else {
        octets.long()?
    };
    (sound && octets.is_empty()).then_some(list)
}

fn extension<'a>(list: &mut Octets<'a>) -> Option<(u16, &'a [u8])> {
    Some((list.u16()?, list.long()?))
}

/// Exactly one name, of the only kind there is, without a dot at its end (RFC 6066 §3).
fn server_name(data: &[u8]) -> Result<Name, &'static str> {
    let bytes = only_name(data).ok_or("the list of server names is not one host name")?;
    let text = str::from_utf8(bytes).map_err(|_| "the server name is no host name")?;
    Name::parse(text).map_err(|_| "the server name is no host name")
}

fn only_name(data: &[u8]) -> Option<&[u8]> {
    let mut octets = Octets::new(data);
    let mut list = Octets::new(octets.long()?);
    let kind = list.u8()?;
    let name = list.long()?;
    (kind == HOST_NAME && list.is_empty() && octets.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap();
        [&length.to_be_bytes()[..], data].concat()
    }

    fn ext(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(data)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        ext(0, &long(&[&[0][..], &long(name)].concat()))
    }

    /// A handshake message of which the extensions are given.
    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 4, 0x13, 1, 0x0a, 0x0a, 1, 0]);
        body.extend_from_slice(&long(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1][..], &long(part)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn read(bytes: &[u8]) -> Option<Outcome> {
        Hello::default().feed(bytes).cloned()
    }

    fn named(name: &str, encrypted: bool) -> Option<Outcome> {
        let name = Name::parse(name).unwrap();
        Some(Outcome::Name { name, encrypted })
    }

    fn malformed(extensions: &[Vec<u8>]) {
        let found = read(&records(&message(extensions), FRAGMENT));
        assert!(matches!(found, Some(Outcome::Malformed(_))), "{found:?}");
    }

    #[test]
    fn the_name_of_a_hello_with_grease() {
        let grease = ext(0x0a0a, &[]);
        let hello = message(&[grease.clone(), sni(b"WWW.Example.com"), ext(0xfafa, b"x")]);
        let bytes = records(&hello, FRAGMENT);
        assert_eq!(read(&bytes), named("www.example.com", false));
        let more = [&bytes[..], b"what follows"].concat();
        assert_eq!(read(&more), named("www.example.com", false));
        let mut known = Hello::default();
        known.feed(&more);
        assert_eq!((known.length(), known.is_second()), (bytes.len(), false));
        let hello = message(&[sni(b"a.b"), ext(0xfe0d, b"sealed"), grease]);
        assert_eq!(read(&records(&hello, 9)), named("a.b", true));
    }

    #[test]
    fn a_hello_without_a_name() {
        let none = Some(Outcome::NoName { encrypted: false });
        assert_eq!(read(&records(&message(&[]), FRAGMENT)), none);
        let mut bare = message(&[]);
        bare.truncate(bare.len() - 2);
        bare[3] -= 2;
        assert_eq!(read(&records(&bare, FRAGMENT)), none);
    }

    #[test]
    fn every_cut_is_as_good_as_none() {
        for size in [1, 3, 5, 50, FRAGMENT] {
            let bytes = records(&message(&[sni(b"example.com")]), size);
            for at in 0..bytes.len() {
                let mut hello = Hello::default();
                assert_eq!(hello.feed(&bytes[..at]), None, "{size} {at}");
                let rest = hello.feed(&bytes[at..]);
                assert_eq!(rest.cloned(), named("example.com", false), "{size} {at}");
            }
        }
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        for other in [
            &b"G"[..],
            b"SSH-2.0",
            b"\x80\x2e\x01",
            b"\x16\x02",
            b"\x15\x03\x01",
        ] {
            assert_eq!(read(other), Some(Outcome::NotTls), "{other:?}");
        }
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\x16"), None);
    }

    #[test]
    fn names_that_are_none() {
        for odd in [
            &b""[..],
            b"example.com.",
            b"127.0.0.1",
            b"::1",
            b"a_b.c",
            b"a\0.b",
            b"\xff",
            b"0x7f.1",
        ] {
            malformed(&[sni(odd)]);
        }
    }

    #[test]
    fn what_two_servers_could_read_differently() {
        let one = [&[0][..], &long(b"a.b")].concat();
        malformed(&[sni(b"a.b"), sni(b"a.b")]);
        malformed(&[ext(0, &long(&[one.clone(), one.clone()].concat()))]);
        malformed(&[ext(0, &long(&[&[1][..], &long(b"a.b")].concat()))]);
        malformed(&[ext(0, &[&long(&one)[..], b"x"].concat())]);
        malformed(&[ext(0, &[])]);
        malformed(&[ext(0, &[0, 0])]);
        malformed(&[ext(7, b""), ext(7, b"")]);
        malformed(&[ext(7, b""), vec![0]]);
    }

    #[test]
    fn what_stands_before_the_extensions_has_its_form() {
        // Version, random, session, suites, compressions: each part by itself.
        let read = |major: u8, session: u8, suites: &[u8], compressions: u8, more: &[u8]| {
            let mut body = vec![major, 3];
            body.extend_from_slice(&[7; 32]);
            body.push(session);
            body.extend(vec![1; session.into()]);
            body.extend_from_slice(&long(suites));
            body.push(compressions);
            body.extend(vec![0; compressions.into()]);
            body.extend_from_slice(&long(&sni(b"a.b")));
            body.extend_from_slice(more);
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            read(&records(
                &[&[1][..], &length[1..], &body].concat(),
                FRAGMENT,
            ))
        };
        assert_eq!(read(3, 32, &[0x13, 1], 1, b""), named("a.b", false));
        let is = Some(Outcome::Malformed("the hello is malformed"));
        assert_eq!(read(2, 0, &[0x13, 1], 1, b""), is);
        assert_eq!(read(3, 33, &[0x13, 1], 1, b""), is);
        assert_eq!(read(3, 0, &[], 1, b""), is);
        assert_eq!(read(3, 0, &[0x13, 1, 0x13], 1, b""), is);
        assert_eq!(read(3, 0, &[0x13, 1], 0, b""), is);
        assert_eq!(read(3, 0, &[0x13, 1], 1, b"x"), is);
    }

    #[test]
    fn records_hold_the_hello_and_nothing_else() {
        let hello = message(&[sni(b"a.b")]);
        let is = |bytes: &[u8], what: &str| match read(bytes) {
            Some(Outcome::Malformed(reason)) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{other:?}"),
        };
        is(&records(&[&hello[..], b"x"].concat(), FRAGMENT), "end with");
        is(&[22, 3, 1, 0, 0], "no bytes");
        is(&[22, 3, 1, 0x40, 1], "16 KiB");
        is(&[22, 3, 1, 0, 1, 2], "no client hello");
        is(&[22, 3, 1, 0, 4, 1, 1, 0, 1], "64 KiB");
        let mut cut = records(&hello, 20);
        cut[25] = 21;
        is(&cut, "another kind");
        cut[25] = 22;
        cut[26] = 2;
        is(&cut, "another version");
        // Six bytes of record for each byte of hello.
        let padded = message(&[ext(21, &vec![0; 30_000]), sni(b"a.b")]);
        is(&records(&padded, 1), "64 KiB");
        assert_eq!(read(&records(&padded, FRAGMENT)), named("a.b", false));
    }

    #[test]
    fn an_answer_tells_whether_a_second_hello_comes() {
        let answer = |length: u16, kind: u8, random: [u8; 32]| {
            let [high, low] = length.to_be_bytes();
            let headers = [22, 3, 3, high, low, kind, 0, 0, 84, 3, 3];
            [&headers[..], &random, &[32]].concat()
        };
        let mut other = RETRY;
        other[31] ^= 1;
        for (bytes, asks) in [
            (answer(88, 2, RETRY), true),
            (answer(88, 2, other), false),
            (answer(88, 2, [0; 32]), false),
            (answer(88, 4, RETRY), false),
            (answer(37, 2, other), true),
            (answer(38, 2, other), false),
        ] {
            assert_eq!(asks_again(&bytes), Some(asks), "{bytes:?}");
            for end in 0..ANSWER {
                let early = asks_again(&bytes[..end]);
                assert!(early.is_none_or(|early| early == asks), "{end} {bytes:?}");
                assert!(early.is_none() || bytes[5] == 4 || bytes[4] == 37);
            }
        }
        for other in [&b"\x15"[..], b"\x16\x02", b"H", b"\x80"] {
            assert_eq!(asks_again(other), Some(false));
        }
        assert_eq!(asks_again(b""), None);
    }

    #[test]
    fn a_second_hello_may_have_other_records_before_it() {
        let hello = records(&message(&[sni(b"a.b")]), 9);
        let early = [&[23, 3, 3][..], &long(&vec![22; SEALED])].concat();
        let before = [&early[..], &[20, 3, 3, 0, 1, 1], &[21, 3, 3, 0, 2, 1, 0]].concat();
        let bytes = [before, hello.clone()].concat();
        for cut in [1, 7, 5000, bytes.len()] {
            let mut second = Hello::second();
            assert!(second.is_second());
            let mut parts = bytes.chunks(cut);
            let found = parts.find_map(|part| second.feed(part).cloned());
            assert_eq!(found, named("a.b", false), "{cut}");
        }
        assert_eq!(read(&bytes), Some(Outcome::NotTls), "a first one may not");
        let second = |bytes: &[u8]| Hello::second().feed(bytes).cloned();
        assert_eq!(second(b"\x18"), Some(Outcome::NotTls));
        assert_eq!(second(b"\x17\x02"), Some(Outcome::NotTls));
        let is = |bytes: &[u8], what: &str| match second(bytes) {
            Some(Outcome::Malformed(reason)) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{other:?}"),
        };
        is(&[23, 3, 3, 0x41, 1], "16 KiB");
        is(&[20, 3, 3, 0, 0], "no bytes");
        is(&[22, 3, 3, 0x40, 1], "16 KiB");
        is(&early.repeat(4), "64 KiB");
        is(
            &[&hello[..14], &[20, 3, 3, 0, 1, 1]].concat(),
            "another kind",
        );
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            size in 1..80_usize, cuts in prop::collection::vec(1..90_usize, 1..20),
            change in 0..200_usize, to: u8,
        ) {
            let mut bytes = records(&message(&[ext(21, b"xy"), sni(b"example.com")]), size);
            if let Some(byte) = bytes.get_mut(change) {
                *byte = to;
            }
            let whole = read(&bytes);
            let mut hello = Hello::default();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                let outcome = hello.feed(now).cloned();
                rest = later;
                if rest.is_empty() || outcome.is_some() {
                    prop_assert_eq!(outcome, whole);
                    break;
                }
            }
        }
    }
}
