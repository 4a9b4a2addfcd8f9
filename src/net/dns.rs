//! [pure] DNS messages (RFC 1035): the job's queries and their answers, and our own to a resolver.
//!
//! Towards the job this is a server that knows names of its own and forwards
//! nothing; towards a resolver of the host it asks for the addresses of one name.
//! Any bytes are parsed in time linear in their number, into bounded memory.

use super::grant::Name;
use super::octets::Octets;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest query that is read over UDP (RFC 1035 §4.2.1); a longer one is no query.
/// No answer of ours is longer either, so none is ever truncated.
pub const UDP: usize = 512;
/// The longest message over TCP, after its two bytes of length (RFC 1035 §4.2.2).
pub const TCP: usize = 65_535;
/// What EDNS says we take over UDP: the size that is not fragmented (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const RCODE: u16 = 0x000f;
const NAME_ERROR: u16 = 3;
const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
/// The DNSSEC OK bit of EDNS, which an answer repeats (RFC 3225 §3).
const DNSSEC_OK: u32 = 0x8000;
/// A pointer to where a name goes on (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;
/// `\xc0\x0c`: the name that was asked for, right after the header.
const ASKED: u16 = 0xc00c;

/// What kind of record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Anything else; HTTPS (65) and SVCB (64) would carry keys that hide server names.
    Other(u16),
}

/// One question of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name.
    pub name: Name,
    /// The kind of record.
    pub kind: Kind,
    head: Head,
}

/// What every answer to a query repeats of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    id: u16,
    recursion_desired: bool,
    /// As it came, in its own case; empty where it could not be read.
    question: Vec<u8>,
    /// The flags of EDNS to repeat, if the query has it.
    edns: Option<u32>,
}

/// Why a query is not even decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// These bytes are no query, and an answer could only feed a loop.
    Silence(&'static str),
    /// This answer says so.
    Answer {
        /// The whole message.
        bytes: Vec<u8>,
        /// What is wrong with the query.
        reason: &'static str,
    },
}

/// What is answered. The numbers are response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The address of the name, to be kept for so many seconds; to a question that is not
    /// for an address of its family, no data.
    Address(IpAddr, u32),
    /// The name exists and has no record of this kind (RFC 2308 §2.2).
    NoData,
    /// No such name (NXDOMAIN).
    NameError,
    /// Not now (SERVFAIL).
    ServerFailure,
    /// Not for you (REFUSED).
    Refused,
}

/// Reads a query: exactly one question, of class IN, for a name as [`Name`] has them, and
/// beside it at most EDNS (RFC 6891). A name in the question is not compressed.
///
/// # Errors
/// What to send back, if anything.
pub fn parse(message: &[u8]) -> Result<Query, Refusal> {
    if message.len() > TCP {
        return Err(Refusal::Silence("the message is longer than 65,535 bytes"));
    }
    let mut octets = Octets::new(message);
    let header = Header::read(&mut octets).ok_or(Refusal::Silence("the header is cut off"))?;
    if header.flags & RESPONSE != 0 {
        return Err(Refusal::Silence("the message is a response"));
    }
    let mut head = Head {
        id: header.id,
        recursion_desired: header.flags & RECURSION_DESIRED != 0,
        question: Vec::new(),
        edns: None,
    };
    if header.flags & OPCODE != 0 {
        return Err(head.refusal(4, "the operation is not a query"));
    }
    // More than one question is malformed (RFC 9619).
    if (header.questions, header.answers, header.authorities) != (1, 0, 0) {
        return Err(head.refusal(1, "a query has one question and no records"));
    }
    let Some((name, kind, class)) = question(&mut octets) else {
        return Err(head.refusal(1, "the question is malformed"));
    };
    head.question = octets.since(HEADER).unwrap_or_default().to_vec();
    let Some(edns) = additional(&mut octets, header.additional) else {
        return Err(head.refusal(1, "what follows the question is not EDNS alone"));
    };
    head.edns = edns.map(|flags| flags & DNSSEC_OK);
    if edns.is_some_and(|flags| flags >> 16 & 0xff != 0) {
        return Err(head.refusal(16, "this version of EDNS does not exist"));
    }
    if class != CLASS_IN {
        return Err(head.refusal(5, "the class is not IN"));
    }
    match name_of(&name) {
        Ok(name) => Ok(Query { name, kind, head }),
        Err(reason) => Err(head.refusal(3, reason)),
    }
}

impl Query {
    /// The whole answer, at most 315 bytes.
    pub fn answer(&self, reply: Reply) -> Vec<u8> {
        match reply {
            Reply::Address(address, ttl) if self.kind == kind_of(address) => {
                self.head.message(0, Some((address, ttl)))
            }
            Reply::Address(..) | Reply::NoData => self.head.message(0, None),
            Reply::ServerFailure => self.head.message(2, None),
            Reply::NameError => self.head.message(3, None),
            Reply::Refused => self.head.message(5, None),
        }
    }
}

impl Head {
    fn refusal(&self, code: u16, reason: &'static str) -> Refusal {
        let bytes = self.message(code, None);
        Refusal::Answer { bytes, reason }
    }

    /// A response. The upper eight bits of its code lie in EDNS (RFC 6891 §6.1.3).
    fn message(&self, code: u16, address: Option<(IpAddr, u32)>) -> Vec<u8> {
        let desired = if self.recursion_desired {
            RECURSION_DESIRED
        } else {
            0
        };
        let negative = code == NAME_ERROR || code == 0 && address.is_none();
        let counts = [
            self.id,
            RESPONSE | RECURSION_AVAILABLE | desired | code & RCODE,
            u16::from(!self.question.is_empty()),
            u16::from(address.is_some()),
            u16::from(negative),
            u16::from(self.edns.is_some()),
        ];
        let mut out: Vec<u8> = counts.into_iter().flat_map(u16::to_be_bytes).collect();
        out.extend_from_slice(&self.question);
        if let Some((address, ttl)) = address {
            put(&mut out, [ASKED, number(kind_of(address)), CLASS_IN]);
            out.extend_from_slice(&ttl.to_be_bytes());
            match address {
                IpAddr::V4(address) => {
                    put(&mut out, [4]);
                    out.extend_from_slice(&address.octets());
                }
                IpAddr::V6(address) => {
                    put(&mut out, [16]);
                    out.extend_from_slice(&address.octets());
                }
            }
        }
        if negative {
            authority(&mut out);
        }
        if let Some(flags) = self.edns {
            out.push(0);
            put(&mut out, [TYPE_OPT, PAYLOAD]);
            let code = u32::from(code >> 4) << 24;
            out.extend_from_slice(&(code | flags).to_be_bytes());
            put(&mut out, [0]);
        }
        out
    }
}

/// The SOA record of the root, without which a client keeps no negative answer
/// (RFC 2308 §3); it may for so many seconds.
fn authority(out: &mut Vec<u8>) {
    const NEGATIVE: u32 = 60;
    out.push(0);
    put(out, [TYPE_SOA, CLASS_IN]);
    out.extend_from_slice(&NEGATIVE.to_be_bytes());
    put(out, [22]);
    // Neither its server nor its keeper has a name.
    out.extend_from_slice(&[0, 0]);
    for number in [1, NEGATIVE, NEGATIVE, NEGATIVE, NEGATIVE] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// The kind of record that has such an address.
fn kind_of(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(_) => Kind::A,
        IpAddr::V6(_) => Kind::Aaaa,
    }
}

fn number(kind: Kind) -> u16 {
    match kind {
        Kind::A => TYPE_A,
        Kind::Aaaa => TYPE_AAAA,
        Kind::Other(number) => number,
    }
}

fn put<const N: usize>(out: &mut Vec<u8>, numbers: [u16; N]) {
    out.extend(numbers.into_iter().flat_map(u16::to_be_bytes));
}

#[derive(Clone, Copy, Debug)]
struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
}

impl Header {
    fn read(octets: &mut Octets<'_>) -> Option<Self> {
        Some(Self {
            id: octets.u16()?,
            flags: octets.u16()?,
            questions: octets.u16()?,
            answers: octets.u16()?,
            authorities: octets.u16()?,
            additional: octets.u16()?,
        })
    }
}

/// Labels of a name, in lower case.
type Labels<'a> = Vec<&'a [u8]>;

/// The question, whose name may not be compressed: nothing stands before it.
fn question<'a>(octets: &mut Octets<'a>) -> Option<(Labels<'a>, Kind, u16)> {
    let name = labels(octets, false)?;
    let kind = match octets.u16()? {
        TYPE_A => Kind::A,
        TYPE_AAAA => Kind::Aaaa,
        other => Kind::Other(other),
    };
    Some((name, kind, octets.u16()?))
}

/// The flags of EDNS if it is there, and `None` if anything else or more is.
fn additional(octets: &mut Octets<'_>, count: u16) -> Option<Option<u32>> {
    let flags = match count {
        0 => None,
        1 => {
            let root = octets.u8()? == 0;
            let opt = octets.u16()? == TYPE_OPT;
            octets.u16()?;
            let flags = octets.u32()?;
            octets.long()?;
            (root && opt).then_some(Some(flags))?
        }
        _ => return None,
    };
    octets.is_empty().then_some(flags)
}

/// A name: at most 255 bytes in labels of at most 63. Each pointer leads to before the part
/// it stands in, so there is an end to them.
fn labels<'a>(octets: &mut Octets<'a>, compressed: bool) -> Option<Labels<'a>> {
    let mut found = Labels::new();
    let mut length: usize = 1;
    let mut reader = *octets;
    let mut part = reader.at();
    let mut end = None;
    loop {
        let here = reader;
        let count = reader.u8()?;
        if count == 0 {
            *octets = end.unwrap_or(reader);
            return Some(found);
        }
        if count & POINTER == POINTER && compressed {
            reader = here;
            let to = usize::from(reader.u16()? & 0x3fff);
            if to >= part {
                return None;
            }
            end = end.or(Some(reader));
            part = to;
            reader = reader.moved(to);
            continue;
        }
        if count & POINTER != 0 {
            return None;
        }
        let label = reader.take(usize::from(count))?;
        length = length.checked_add(label.len())?.checked_add(1)?;
        if length > 255 {
            return None;
        }
        found.push(label);
    }
}

/// A dot inside a label must not become one between labels.
fn name_of(labels: &[&[u8]]) -> Result<Name, &'static str> {
    const ODD: &str = "the name has bytes that no host name has";
    if labels.iter().any(|label| label.contains(&b'.')) {
        return Err(ODD);
    }
    let text = String::from_utf8(labels.join(&b'.')).map_err(|_| ODD)?;
    Name::parse(&text).map_err(|malformed| malformed.0)
}

/// What a resolver says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Its addresses of this kind, at least one, and for how many seconds they hold. An
    /// IPv4-mapped one is the IPv4 address it is.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    NoSuchName,
    /// The name has no address of this kind.
    NoAddress,
    /// The answer did not fit: ask by TCP.
    Truncated,
    /// The resolver would not or could not, with its response code.
    Failed(u8),
}

/// Why a message of a resolver is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It answers no question of ours; the right one may yet come.
    Foreign,
    /// It answers ours and cannot be read.
    Malformed,
}

/// The most records of an answer that are looked at.
const RECORDS: usize = 128;
/// The most aliases that are followed.
const ALIASES: usize = 16;

/// Asks a resolver for the records of this kind of a name, with recursion and without EDNS:
/// what needs more than 512 bytes comes by TCP.
pub fn query(id: u16, name: &Name, kind: Kind) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, [id, RECURSION_DESIRED, 1, 0, 0, 0]);
    for label in name.as_str().split('.') {
        // A Name has no label above 63 bytes.
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    put(&mut out, [number(kind), CLASS_IN]);
    out
}

/// Reads the answer to [`query`]: same id, same question (RFC 5452 §9.1), then the addresses
/// of this kind of the name or of where its aliases lead, however they are ordered.
///
/// # Errors
/// When it is not the answer, or malformed.
pub fn answer(message: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Resolved, Unusable> {
    let mut octets = Octets::new(message);
    let header = Header::read(&mut octets).ok_or(Unusable::Foreign)?;
    let ours = header.id == id
        && header.flags & (RESPONSE | OPCODE) == RESPONSE
        && header.questions == 1
        && asks_for(&mut octets, name, kind);
    if !ours {
        return Err(Unusable::Foreign);
    }
    match header.flags & RCODE {
        _ if header.flags & TRUNCATED != 0 => Ok(Resolved::Truncated),
        0 => {
            let count = usize::from(header.answers).min(RECORDS);
            let records: Option<Vec<Record<'_>>> =
                (0..count).map(|_| Record::read(&mut octets)).collect();
            Ok(follow(&records.ok_or(Unusable::Malformed)?, name, kind))
        }
        3 => Ok(Resolved::NoSuchName),
        code => Ok(Resolved::Failed(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

fn asks_for(octets: &mut Octets<'_>, name: &Name, wanted: Kind) -> bool {
    question(octets).is_some_and(|(labels, kind, class)| {
        kind == wanted && class == CLASS_IN && same(&labels, &labels_of(name))
    })
}

fn labels_of(name: &Name) -> Labels<'_> {
    name.as_str().split('.').map(str::as_bytes).collect()
}

/// Case does not count in names (RFC 4343).
fn same(one: &[&[u8]], other: &[&[u8]]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| a.eq_ignore_ascii_case(b))
}

struct Record<'a> {
    owner: Labels<'a>,
    ttl: u32,
    data: Data<'a>,
}

enum Data<'a> {
    Address(IpAddr),
    Alias(Labels<'a>),
    Other,
}

impl<'a> Record<'a> {
    fn read(octets: &mut Octets<'a>) -> Option<Self> {
        let owner = labels(octets, true)?;
        let kind = octets.u16()?;
        let class = octets.u16()?;
        // A lifetime with the top bit set is none (RFC 2181 §8).
        let ttl = i32::try_from(octets.u32()?).map_or(0, i32::unsigned_abs);
        let length = usize::from(octets.u16()?);
        let mut inside = *octets;
        let raw = octets.take(length)?;
        let data = match (class, kind) {
            (CLASS_IN, TYPE_A) => {
                let bytes: [u8; 4] = raw.try_into().ok()?;
                Data::Address(Ipv4Addr::from(bytes).into())
            }
            (CLASS_IN, TYPE_AAAA) => {
                let bytes: [u8; 16] = raw.try_into().ok()?;
                Data::Address(Ipv6Addr::from(bytes).into())
            }
            (CLASS_IN, TYPE_CNAME) => {
                let alias = labels(&mut inside, true)?;
                (inside.at() == octets.at()).then_some(Data::Alias(alias))?
            }
            _ => Data::Other,
        };
        Some(Self { owner, ttl, data })
    }
}

/// Addresses of the name, or of what it is an alias of.
fn follow(records: &[Record<'_>], name: &Name, kind: Kind) -> Resolved {
    let mut current = labels_of(name);
    let mut ttl = u32::MAX;
    for _ in 0..=ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in records {
            if !same(&record.owner, &current) {
                continue;
            }
            match &record.data {
                Data::Address(address) if kind_of(*address) == kind => {
                    addresses.push(address.to_canonical());
                }
                Data::Alias(to) => alias = Some(to),
                Data::Address(_) | Data::Other => continue,
            }
            ttl = ttl.min(record.ttl);
        }
        if !addresses.is_empty() {
            return Resolved::Addresses(addresses, ttl);
        }
        match alias {
            Some(to) => current.clone_from(to),
            None => break,
        }
    }
    Resolved::NoAddress
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A query as a stub resolver sends it: id 0x1234, RD.
    fn asked(labels: &[&[u8]], kind: u16, class: u16, edns: &[u8]) -> Vec<u8> {
        let mut out = vec![
            0x12,
            0x34,
            1,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            u8::from(!edns.is_empty()),
        ];
        out.extend_from_slice(&wire(labels));
        put(&mut out, [kind, class]);
        out.extend_from_slice(edns);
        out
    }

    fn wire(labels: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for label in labels {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label);
        }
        out.push(0);
        out
    }

    const OPT: &[u8] = &[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 4, 0, 10, 0, 0];

    fn code(refusal: Refusal) -> u8 {
        match refusal {
            Refusal::Answer { bytes, .. } => bytes[3] & 15,
            Refusal::Silence(reason) => panic!("silence: {reason}"),
        }
    }

    #[test]
    fn an_answer_repeats_id_question_and_edns() {
        let message = asked(&[b"ExaMple", b"com"], 1, 1, OPT);
        let query = parse(&message).unwrap();
        assert_eq!((query.name.as_str(), query.kind), ("example.com", Kind::A));
        let address = Ipv4Addr::new(198, 18, 0, 7);
        let answer = query.answer(Reply::Address(address.into(), 30));
        let mut expected = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1];
        expected.extend_from_slice(&message[12..29]);
        expected.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 198, 18, 0, 7]);
        expected.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(answer, expected);
    }

    #[test]
    fn other_replies_have_their_code_and_negative_ones_how_long_they_hold() {
        let soa = [
            &[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0, 0, 0, 0, 1][..],
            &[0, 0, 0, 60].repeat(4),
        ]
        .concat();
        for (kind, reply, code) in [
            (28, Reply::Address(Ipv4Addr::LOCALHOST.into(), 1), 0),
            (1, Reply::Address(Ipv6Addr::LOCALHOST.into(), 1), 0),
            (65, Reply::NoData, 0),
            (1, Reply::NameError, 3),
            (1, Reply::ServerFailure, 2),
            (1, Reply::Refused, 5),
        ] {
            let message = asked(&[b"a", b"b"], kind, 1, &[]);
            let answer = parse(&message).unwrap().answer(reply);
            assert_eq!(answer[..4], [0x12, 0x34, 0x81, 0x80 | code]);
            let negative = matches!(code, 0 | 3);
            assert_eq!(answer[4..12], [0, 1, 0, 0, 0, u8::from(negative), 0, 0]);
            let (question, authority) = answer[12..].split_at(message.len() - 12);
            assert_eq!(question, &message[12..]);
            assert_eq!(authority, if negative { &soa[..] } else { &[] });
        }
    }

    #[test]
    fn the_longest_answer_fits_into_udp() {
        let long = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]];
        let query = parse(&asked(&long, 28, 1, OPT)).unwrap();
        let longest = [
            Reply::Address(Ipv6Addr::LOCALHOST.into(), u32::MAX),
            Reply::NameError,
        ]
        .map(|reply| query.answer(reply).len());
        assert_eq!(longest, [310, 315]);
        const { assert!(315 < UDP) };
        let over = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 62]];
        assert_eq!(code(parse(&asked(&over, 1, 1, &[])).unwrap_err()), 1);
    }

    #[test]
    fn odd_names_do_not_exist() {
        for odd in [
            &[&b"a.b"[..], b"com"][..],
            &[b"a\0", b"com"],
            &[b"_http", b"com"],
            &[b"\xc3\xa4", b"de"],
            &[b"1", b"2", b"3", b"4"],
            &[b"-a", b"com"],
            &[],
        ] {
            assert_eq!(
                code(parse(&asked(odd, 1, 1, &[])).unwrap_err()),
                3,
                "{odd:?}"
            );
        }
    }

    #[test]
    fn what_is_no_single_question_is_refused() {
        let good = asked(&[b"a", b"b"], 1, 1, &[]);
        let with = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            code(parse(&message).unwrap_err())
        };
        assert_eq!(with(2, 0x28), 4, "update");
        assert_eq!(with(5, 0), 1, "no question");
        assert_eq!(with(5, 2), 1, "two questions");
        assert_eq!(with(7, 1), 1, "an answer");
        assert_eq!(with(9, 1), 1, "an authority");
        assert_eq!(with(11, 1), 1, "an additional record that is not there");
        assert_eq!(with(12, 0xc0), 1, "a pointer");
        assert_eq!(with(12, 0x41), 1, "an extended label");
        assert_eq!(with(20, 3), 5, "class CH");
        let trailing = [&good[..], b"x"].concat();
        assert_eq!(code(parse(&trailing).unwrap_err()), 1);
        let tsig = asked(&[b"a", b"b"], 1, 1, &[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code(parse(&tsig).unwrap_err()), 1);
        let owned = asked(&[b"a", b"b"], 1, 1, &[1, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code(parse(&owned).unwrap_err()), 1, "EDNS is the root's");
        for cut in 12..good.len() {
            assert_eq!(code(parse(&good[..cut]).unwrap_err()), 1);
        }
        assert!(matches!(parse(&good[..11]), Err(Refusal::Silence(_))));
        let mut response = good.clone();
        response[2] |= 0x80;
        assert!(matches!(parse(&response), Err(Refusal::Silence(_))));
    }

    #[test]
    fn a_new_version_of_edns_is_told_ours() {
        let opt = &[0, 0, 41, 0x10, 0, 0, 1, 0, 0, 0, 0];
        let Err(Refusal::Answer { bytes, .. }) = parse(&asked(&[b"a", b"b"], 1, 1, opt)) else {
            panic!("it was read");
        };
        assert_eq!(bytes[3] & 15, 0);
        assert_eq!(bytes[bytes.len() - 6..], [1, 0, 0, 0, 0, 0], "BADVERS");
    }

    /// A response to `query(7, name)` with these answer records.
    fn response(asked: &str, records: &[Vec<u8>]) -> Vec<u8> {
        let mut out = query(7, &name(asked), Kind::A);
        out[2] = 0x81;
        out[7] = u8::try_from(records.len()).unwrap();
        out.extend(records.concat());
        out
    }

    fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut out = owner.to_vec();
        put(&mut out, [kind, 1]);
        out.extend_from_slice(&ttl.to_be_bytes());
        put(&mut out, [u16::try_from(data.len()).unwrap()]);
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let cdn = wire(&[b"CDN", b"_x", b"net"]);
        let mut records = vec![
            record(&wire(&[b"cdn", b"_X", b"net"]), 1, 9, &[1, 1, 1, 1]),
            record(&[0xc0, 12], 5, 60, &cdn),
            record(&wire(&[b"else", b"net"]), 1, 1, &[6, 6, 6, 6]),
            record(&cdn, 1, 20, &[2, 2, 2, 2]),
            record(&cdn, 46, 1, b"signature"),
        ];
        let expected = Resolved::Addresses(vec![[1, 1, 1, 1].into(), [2, 2, 2, 2].into()], 9);
        let asked = name("A.example");
        let read =
            |records: &[Vec<u8>]| answer(&response("a.example", records), 7, &asked, Kind::A);
        assert_eq!(read(&records), Ok(expected));
        records.remove(1);
        assert_eq!(
            read(&records),
            Ok(Resolved::NoAddress),
            "no record of the name itself"
        );
        let circle = [
            record(&[0xc0, 12], 5, 60, &cdn),
            record(&cdn, 5, 60, &[0xc0, 12]),
        ];
        assert_eq!(read(&circle), Ok(Resolved::NoAddress));
    }

    #[test]
    fn only_our_answer_is_read() {
        let asked = name("a.example");
        let good = response("a.example", &[record(&[0xc0, 12], 1, 5, &[1, 2, 3, 4])]);
        let expected = Resolved::Addresses(vec![[1, 2, 3, 4].into()], 5);
        assert_eq!(answer(&good, 7, &asked, Kind::A), Ok(expected));
        assert_eq!(answer(&good, 8, &asked, Kind::A), Err(Unusable::Foreign));
        assert_eq!(
            answer(&good, 7, &name("b.example"), Kind::A),
            Err(Unusable::Foreign)
        );
        let question = query(7, &asked, Kind::A);
        assert_eq!(
            answer(&question, 7, &asked, Kind::A),
            Err(Unusable::Foreign)
        );
        let with = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            answer(&message, 7, &asked, Kind::A)
        };
        assert_eq!(with(3, 3), Ok(Resolved::NoSuchName));
        assert_eq!(with(3, 5), Ok(Resolved::Failed(5)));
        assert_eq!(with(2, 0x83), Ok(Resolved::Truncated));
        assert_eq!(with(7, 2), Err(Unusable::Malformed), "a record is missing");
        assert_eq!(
            with(28, 0xff),
            Err(Unusable::Malformed),
            "a pointer forward"
        );
        assert_eq!(
            with(28, 27),
            Err(Unusable::Malformed),
            "a pointer to itself"
        );
        for cut in 27..good.len() {
            assert_eq!(
                answer(&good[..cut], 7, &asked, Kind::A),
                Err(Unusable::Malformed),
                "{cut}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_read_as_it_was_written(
            labels in prop::collection::vec("[a-z]{1,20}", 2..6),
            id: u16, address: std::net::IpAddr, ttl in 0..=0x7fff_ffff_u32,
        ) {
            let asked = name(&labels.join("."));
            let kind = kind_of(address);
            let query = parse(&query(id, &asked, kind)).unwrap();
            prop_assert_eq!(&query.name, &asked);
            let reply = query.answer(Reply::Address(address, ttl));
            prop_assert_eq!(
                answer(&reply, id, &asked, kind),
                Ok(Resolved::Addresses(vec![address.to_canonical()], ttl))
            );
            let other = if kind == Kind::A { Kind::Aaaa } else { Kind::A };
            prop_assert_eq!(answer(&reply, id, &asked, other), Err(Unusable::Foreign));
        }
    }
}
