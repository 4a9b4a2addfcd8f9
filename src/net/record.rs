//! [pure] What the edge tells its supervisor: records of one size, without lengths to trust.
//!
//! The edge reads bytes of the job, so its supervisor does not believe it: a
//! record that [`Record::encode`] does not make is none.

use crate::net::decide;
use crate::net::grant::Name;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use serde::{Deserialize, Serialize};

/// Bytes of a record.
///
/// Byte 0 is the kind, 1 the reason, 2–3 the port, 4–7 a number, 8–15 and 16–23
/// bytes each way, 24–27 the address, 28–29 the grant, 30 the length of the
/// name, 31 is 0, 32–284 the name and zeroes. Where a peer connected, 28–29 are
/// the published port's index and 32–47 the peer's address, an IPv4 one mapped.
pub const RECORD: usize = 285;

const NAME: usize = 32;

/// What a job asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name, where it was known.
    pub name: Option<Name>,
    /// The address: the one dialled, else the one the job used.
    pub address: SocketAddrV4,
}

/// Why a destination was refused: before it was dialled, or by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reason {
    /// The rules say so.
    Decided(decide::Reason),
    /// The world does.
    Met(Obstacle),
}

/// Why something that the rules allow was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The address is this host's own.
    ThisHost,
    /// The address is a neighbour's, on a link of this host, and no network grant has it.
    Neighbour,
    /// This host has no route there.
    NoRoute,
    /// The name does not resolve.
    NoAddress,
    /// Nothing came in time that could be read.
    Silent,
    /// The server refused, or did not answer.
    Unreachable,
    /// There is no descriptor for it.
    Descriptors,
}

impl Obstacle {
    const ALL: [Self; 7] = [
        Self::ThisHost,
        Self::Neighbour,
        Self::NoRoute,
        Self::NoAddress,
        Self::Silent,
        Self::Unreachable,
        Self::Descriptors,
    ];

    /// What happened, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::ThisHost => "the address is this host's own",
            Self::Neighbour => "the address is on a link of this host, and no network has it",
            Self::NoRoute => "this host has no route there",
            Self::NoAddress => "the name does not resolve",
            Self::Silent => "nothing came in time that could be read",
            Self::Unreachable => "the server refused, or did not answer",
            Self::Descriptors => "there is no descriptor for it",
        }
    }
}

/// Numbers of obstacles in a record begin here, those of decisions at 1.
const OBSTACLES: u8 = 128;

impl Reason {
    /// What happened, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::Decided(reason) => reason.text(),
            Self::Met(obstacle) => obstacle.text(),
        }
    }

    fn number(self) -> u8 {
        let place = |at: Option<usize>| at.map_or(0, |at| at as u8);
        match self {
            Self::Decided(reason) => {
                1 + place(
                    decide::Reason::ALL
                        .iter()
                        .position(|known| *known == reason),
                )
            }
            Self::Met(obstacle) => {
                OBSTACLES + place(Obstacle::ALL.iter().position(|known| *known == obstacle))
            }
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        if let Some(place) = number.checked_sub(OBSTACLES) {
            return Some(Self::Met(*Obstacle::ALL.get(usize::from(place))?));
        }
        let place = usize::from(number.checked_sub(1)?);
        Some(Self::Decided(*decide::Reason::ALL.get(place)?))
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Locked down, about to read the first byte.
    Ready,
    /// Could not lock itself down: which step, errno.
    Failed(u32, u32),
    /// A connection was made: its number, where to, index of the grant.
    Allowed(u32, Asked, u16),
    /// That connection ended: its number, bytes sent and received by the job.
    Ended(u32, u64, u64),
    /// Something was refused.
    Refused(Asked, Reason),
    /// This many records were not sent.
    Lost(u32),
    /// A peer was connected to the job: the connection's number, and whom to what.
    Accepted(u32, Peer),
    /// A peer was not.
    Rejected(Peer, Reason),
}

/// Who connected to a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Index of the published port.
    pub port: u16,
    /// Where the peer is.
    pub address: SocketAddr,
}

impl Record {
    /// The record as bytes.
    pub fn encode(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        let mut number = 0;
        match self {
            Self::Ready => out[0] = 1,
            Self::Failed(step, errno) => {
                out[0] = 2;
                number = *step;
                out[8..12].copy_from_slice(&errno.to_le_bytes());
            }
            Self::Allowed(id, asked, grant) => {
                out[0] = 3;
                number = *id;
                out[28..30].copy_from_slice(&grant.to_le_bytes());
                asked.encode(&mut out);
            }
            Self::Ended(id, sent, received) => {
                out[0] = 4;
                number = *id;
                out[8..16].copy_from_slice(&sent.to_le_bytes());
                out[16..24].copy_from_slice(&received.to_le_bytes());
            }
            Self::Refused(asked, reason) => {
                out[0..2].copy_from_slice(&[5, reason.number()]);
                asked.encode(&mut out);
            }
            Self::Lost(count) => {
                out[0] = 6;
                number = *count;
            }
            Self::Accepted(id, peer) => {
                out[0] = 7;
                number = *id;
                peer.encode(&mut out);
            }
            Self::Rejected(peer, reason) => {
                out[0..2].copy_from_slice(&[8, reason.number()]);
                peer.encode(&mut out);
            }
        }
        out[4..8].copy_from_slice(&number.to_le_bytes());
        out
    }

    /// Reads a record; None for everything that [`Record::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD] = bytes.try_into().ok()?;
        let number = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
        let sent = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
        let received = u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?);
        let grant = u16::from_le_bytes(*bytes.get(28..)?.first_chunk()?);
        let record = match bytes[0] {
            1 => Self::Ready,
            2 => Self::Failed(number, u32::try_from(sent).ok()?),
            3 => Self::Allowed(number, Asked::decode(bytes)?, grant),
            4 => Self::Ended(number, sent, received),
            5 => {
                let reason = Reason::of_number(bytes[1])?;
                Self::Refused(Asked::decode(bytes)?, reason)
            }
            6 => Self::Lost(number),
            7 => Self::Accepted(number, Peer::decode(bytes)?),
            8 => Self::Rejected(Peer::decode(bytes)?, Reason::of_number(bytes[1])?),
            _ => return None,
        };
        (record.encode() == *bytes).then_some(record)
    }
}

impl Peer {
    fn encode(&self, out: &mut [u8; RECORD]) {
        let address = match self.address.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        out[2..4].copy_from_slice(&self.address.port().to_le_bytes());
        out[28..30].copy_from_slice(&self.port.to_le_bytes());
        out[NAME..NAME + 16].copy_from_slice(&address.octets());
    }

    fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let port = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
        let index = u16::from_le_bytes(*bytes.get(28..)?.first_chunk()?);
        let octets: [u8; 16] = *bytes.get(NAME..)?.first_chunk()?;
        let address = Ipv6Addr::from(octets).to_canonical();
        Some(Self {
            port: index,
            address: SocketAddr::new(address, port),
        })
    }
}

impl Asked {
    fn encode(&self, out: &mut [u8; RECORD]) {
        out[2..4].copy_from_slice(&self.address.port().to_le_bytes());
        out[24..28].copy_from_slice(&self.address.ip().octets());
        let name = self.name.as_ref().map_or("", Name::as_str).as_bytes();
        for (to, from) in out.iter_mut().skip(NAME).zip(name) {
            *to = *from;
        }
        // At most 253: see Name.
        out[30] = name.len() as u8;
    }

    fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let port = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
        let octets: [u8; 4] = *bytes.get(24..)?.first_chunk()?;
        let length = usize::from(bytes[30]);
        let name = match length {
            0 => None,
            _ => {
                let text = core::str::from_utf8(bytes.get(NAME..NAME + length)?).ok()?;
                Some(Name::parse(text).ok()?)
            }
        };
        Some(Self {
            name,
            address: SocketAddrV4::new(Ipv4Addr::from(octets), port),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOT_GRANTED: Reason = Reason::Decided(decide::Reason::NotGranted);

    fn asked(name: &str) -> Asked {
        Asked {
            name: Name::parse(name).ok(),
            address: "203.0.113.5:443".parse().unwrap(),
        }
    }

    fn peer(address: &str) -> Peer {
        Peer {
            port: 3,
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn each_record_is_read_as_it_was_written() {
        let longest = format!("{}{}", "abcdefg.".repeat(31), "comXY");
        assert_eq!(longest.len(), 253);
        let mut records = vec![
            Record::Ready,
            Record::Failed(3, 13),
            Record::Allowed(9, asked("a.example"), 2),
            Record::Allowed(9, asked(""), 0),
            Record::Ended(9, u64::MAX, 1),
            Record::Lost(4),
            Record::Accepted(9, peer("203.0.113.5:443")),
            Record::Accepted(1, peer("[2001:db8::1]:65535")),
            Record::Rejected(peer("[::]:1"), NOT_GRANTED),
            Record::Refused(asked(&longest), NOT_GRANTED),
        ];
        for number in 0..=255 {
            let reason = Reason::of_number(number);
            records.extend(reason.map(|reason| Record::Refused(asked("b.example"), reason)));
        }
        assert_eq!(records.len(), 10 + 15 + 7);
        for record in records {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn what_is_not_ours_is_no_record() {
        let good = Record::Refused(asked("a.example"), NOT_GRANTED).encode();
        for (at, byte) in [
            (0, 0),
            (0, 9),
            (1, 0),
            (1, 16),
            (1, 135),
            (31, 1),
            (30, 254),
            (32, b'A'),
            (284, 1),
        ] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(Record::decode(&bad), None, "{at}");
        }
        assert_eq!(Record::decode(&good[1..]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), RECORD)) {
            if let Some(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode().to_vec(), bytes);
            }
        }
    }
}
