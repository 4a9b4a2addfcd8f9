//! [exposed] Names to addresses by the host's resolvers: UDP with retries, TCP where an answer is cut.

use crate::net::decide::Found;
use crate::net::dns::{self, Kind, Resolved as Said, Unusable};
use crate::net::grant::Name;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Lookups at once; more fail.
const LOOKUPS: usize = 128;
/// Answers that are remembered.
const KNOWN: usize = 1024;
/// Longest that an answer is remembered, whatever its time to live.
const FRESH: Duration = Duration::from_secs(30);
/// How long one resolver has for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each resolver is asked.
const ROUNDS: usize = 2;
/// Both are asked at once, by numbers that follow each other.
const KINDS: [Kind; 2] = [Kind::A, Kind::Aaaa];

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiting {
    /// A connection by place and number.
    Connection(usize, u32),
    /// A query of the job by its number.
    Query(u64),
}

/// An answer that came, and who waited for it.
pub(super) struct Resolved {
    pub found: Found,
    pub waiting: Vec<Waiting>,
}

struct Lookup {
    name: Name,
    /// Number of the question of each kind, at random.
    ids: [u16; 2],
    socket: OwnedFd,
    stream: Option<Stream>,
    attempt: usize,
    until: Instant,
    waiting: Vec<Waiting>,
    /// Of each kind, once a resolver has said: addresses, and for how many seconds.
    answers: [Option<(Vec<IpAddr>, u32)>; 2],
    /// A resolver has said that there is no such name.
    missing: bool,
}

/// The same question over TCP.
#[derive(Default)]
struct Stream {
    asked: bool,
    got: Vec<u8>,
}

pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    lookups: Vec<Option<Lookup>>,
    known: HashMap<Name, (Vec<IpAddr>, Instant)>,
}

/// What a ready or late lookup does next.
enum Next {
    Wait,
    Done,
    Tcp,
    Retry,
}

impl Resolver {
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.to_vec(),
            lookups: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// What is known of a name; None when `who` is told later.
    pub(super) fn ask(
        &mut self,
        name: &Name,
        who: Waiting,
        epoll: BorrowedFd<'_>,
        token: impl Fn(usize) -> u64,
    ) -> Option<Found> {
        let now = Instant::now();
        if let Some((addresses, until)) = self.known.get(name)
            && *until > now
        {
            return Some(Found::Addresses(addresses.clone()));
        }
        let running = self.lookups.iter_mut().flatten();
        if let Some(lookup) = running.into_iter().find(|lookup| lookup.name == *name) {
            lookup.waiting.push(who);
            return None;
        }
        let Some(place) = self.vacant() else {
            return Some(Found::Nothing);
        };
        match self.open(name, now, epoll, token(place)) {
            Ok(mut lookup) => {
                lookup.waiting.push(who);
                if let Some(slot) = self.lookups.get_mut(place) {
                    *slot = Some(lookup);
                }
                None
            }
            Err(_) => Some(Found::Nothing),
        }
    }

    fn vacant(&mut self) -> Option<usize> {
        let place = self.lookups.iter().position(Option::is_none);
        place.or_else(|| {
            (self.lookups.len() < LOOKUPS).then(|| {
                self.lookups.push(None);
                self.lookups.len() - 1
            })
        })
    }

    /// The first resolver that a socket can be connected to.
    fn open(
        &self,
        name: &Name,
        now: Instant,
        epoll: BorrowedFd<'_>,
        token: u64,
    ) -> Result<Lookup, Errno> {
        let ids = [number()?, number()?];
        let each = KINDS.into_iter().zip(ids);
        let questions: Vec<_> = each.map(|(kind, id)| dns::query(id, name, kind)).collect();
        let mut lookup = None;
        for (attempt, server) in self.attempts() {
            if let Ok(socket) = ask_by_udp(*server, &questions, epoll, token) {
                lookup = Some((attempt, socket));
                break;
            }
        }
        let (attempt, socket) = lookup.ok_or(Errno::NETUNREACH)?;
        Ok(Lookup {
            name: name.clone(),
            ids,
            socket,
            stream: None,
            attempt,
            until: now + PATIENCE,
            waiting: Vec::new(),
            answers: [None, None],
            missing: false,
        })
    }

    fn attempts(&self) -> impl Iterator<Item = (usize, &SocketAddr)> {
        let each = self.servers.iter().cycle();
        each.take(self.servers.len() * ROUNDS).enumerate()
    }

    /// When the next lookup is late.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lookups
            .iter()
            .flatten()
            .map(|lookup| lookup.until)
            .min()
    }

    /// Places of the lookups that are late.
    pub(super) fn late(&self, now: Instant) -> Vec<usize> {
        let late =
            |lookup: &Option<Lookup>| lookup.as_ref().is_some_and(|lookup| lookup.until <= now);
        let places = self.lookups.iter().enumerate();
        places
            .filter(|(_, lookup)| late(lookup))
            .map(|(place, _)| place)
            .collect()
    }

    /// A lookup's socket is ready, or it is late; gives the answer when there is one.
    pub(super) fn step(
        &mut self,
        place: usize,
        late: bool,
        epoll: BorrowedFd<'_>,
        token: u64,
    ) -> Option<Resolved> {
        let lookup = self.lookups.get_mut(place)?.as_mut()?;
        let mut next = match late {
            // Whoever says where the name is and nothing of the other kind will not.
            true if lookup.knows_some() => Next::Done,
            true => Next::Retry,
            false => lookup.read(),
        };
        if matches!(next, Next::Tcp) {
            next = self.by_tcp(place, epoll, token);
        }
        if matches!(next, Next::Retry) {
            next = self.retry(place, epoll, token);
        }
        match next {
            Next::Done => self.done(place),
            _ => None,
        }
    }

    fn by_tcp(&mut self, place: usize, epoll: BorrowedFd<'_>, token: u64) -> Next {
        let count = self.servers.len().max(1);
        let Some(Some(lookup)) = self.lookups.get_mut(place) else {
            return Next::Wait;
        };
        let Some(server) = self.servers.get(lookup.attempt % count) else {
            return Next::Retry;
        };
        match open(*server, SocketType::STREAM, epoll, token) {
            Ok(socket) => {
                lookup.socket = socket;
                lookup.stream = Some(Stream::default());
                lookup.until = Instant::now() + PATIENCE;
                Next::Wait
            }
            Err(_) => Next::Retry,
        }
    }

    fn retry(&mut self, place: usize, epoll: BorrowedFd<'_>, token: u64) -> Next {
        let attempts: Vec<(usize, SocketAddr)> =
            self.attempts().map(|(at, server)| (at, *server)).collect();
        let Some(Some(lookup)) = self.lookups.get_mut(place) else {
            return Next::Wait;
        };
        let questions = lookup.questions();
        for (attempt, server) in attempts.into_iter().skip(lookup.attempt + 1) {
            if let Ok(socket) = ask_by_udp(server, &questions, epoll, token) {
                lookup.socket = socket;
                lookup.stream = None;
                lookup.attempt = attempt;
                lookup.until = Instant::now() + PATIENCE;
                return Next::Wait;
            }
        }
        Next::Done
    }

    fn done(&mut self, place: usize) -> Option<Resolved> {
        let lookup = self.lookups.get_mut(place)?.take()?;
        let (found, seconds) = lookup.found();
        if let Found::Addresses(addresses) = &found {
            let now = Instant::now();
            if self.known.len() >= KNOWN {
                self.known.retain(|_, (_, until)| *until > now);
            }
            if self.known.len() < KNOWN {
                let fresh = FRESH.min(Duration::from_secs(seconds.into()));
                let known = (addresses.clone(), now + fresh);
                self.known.insert(lookup.name, known);
            }
        }
        Some(Resolved {
            found,
            waiting: lookup.waiting,
        })
    }
}

impl Lookup {
    /// What has not been answered yet.
    fn questions(&self) -> Vec<Vec<u8>> {
        let each = KINDS.into_iter().zip(self.ids).zip(&self.answers);
        each.filter(|(_, answer)| answer.is_none())
            .map(|((kind, id), _)| dns::query(id, &self.name, kind))
            .collect()
    }

    /// What resolvers have said, and for how many seconds it holds.
    fn found(&self) -> (Found, u32) {
        let mut addresses = Vec::new();
        let mut ttl = u32::MAX;
        for (found, seconds) in self.answers.iter().flatten() {
            if !found.is_empty() {
                addresses.extend(found);
                ttl = ttl.min(*seconds);
            }
        }
        let silent = self.answers.iter().any(Option::is_none);
        let found = match (addresses.is_empty(), self.missing, silent) {
            (false, _, _) => Found::Addresses(addresses),
            (true, true, _) => Found::NoSuchName,
            (true, false, false) => Found::NoAddress,
            (true, false, true) => Found::Nothing,
        };
        (found, ttl)
    }

    fn knows_some(&self) -> bool {
        let mut known = self.answers.iter().flatten();
        known.any(|(addresses, _)| !addresses.is_empty())
    }

    /// Reads what has come, until both kinds are answered.
    fn read(&mut self) -> Next {
        while self.answers.iter().any(Option::is_none) {
            let questions = self.questions();
            let message = match &mut self.stream {
                None => datagram(&self.socket),
                Some(stream) => stream.message(&self.socket, &questions),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Next::Wait,
                Err(_) => return Next::Retry,
            };
            if let Some(next) = self.take(&message) {
                return next;
            }
        }
        Next::Done
    }

    /// Takes one message in; None when there is more to read.
    fn take(&mut self, message: &[u8]) -> Option<Next> {
        let over_udp = self.stream.is_none();
        let each = KINDS.into_iter().zip(self.ids).zip(&mut self.answers);
        for ((kind, id), answer) in each {
            match dns::answer(message, id, &self.name, kind) {
                // That of the other kind, or somebody guesses.
                Err(Unusable::Foreign) => {}
                Ok(Said::Truncated) if over_udp => return Some(Next::Tcp),
                Ok(Said::Addresses(addresses, ttl)) => {
                    *answer = Some((addresses, ttl));
                    return None;
                }
                Ok(said @ (Said::NoSuchName | Said::NoAddress)) => {
                    self.missing |= said == Said::NoSuchName;
                    *answer = Some((Vec::new(), 0));
                    return None;
                }
                // A resolver that does not know IPv6 records says so in many ways.
                Ok(Said::Failed(_)) if kind == Kind::Aaaa => {
                    *answer = Some((Vec::new(), 0));
                    return None;
                }
                Ok(Said::Truncated | Said::Failed(_)) | Err(Unusable::Malformed) => {
                    return Some(Next::Retry);
                }
            }
        }
        // Over UDP the right answer may still come.
        (!over_udp).then_some(Next::Retry)
    }
}

/// A number that nobody can guess.
fn number() -> Result<u16, Errno> {
    let mut number = [0; 2];
    getrandom(&mut number, GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(number))
}

impl Stream {
    /// The next whole answer, once it is here.
    fn message(
        &mut self,
        socket: &OwnedFd,
        questions: &[Vec<u8>],
    ) -> Result<Option<Vec<u8>>, Errno> {
        if !self.asked {
            sockopt::socket_error(socket)??;
            let mut message = Vec::new();
            for question in questions {
                // At most 271 bytes: see Name.
                message.extend((question.len() as u16).to_be_bytes());
                message.extend(question);
            }
            match send(socket, &message, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == message.len() => self.asked = true,
                Ok(_) => return Err(Errno::IO),
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            if let Some((length, rest)) = self.got.split_first_chunk()
                && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*length)))
            {
                let message = message.to_vec();
                self.got.drain(..2 + message.len());
                return Ok(Some(message));
            }
            match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Errno::CONNRESET),
                Ok((_, count)) => self
                    .got
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
            if self.got.len() > 2 * (2 + dns::TCP) {
                return Err(Errno::MSGSIZE);
            }
        }
    }
}

fn datagram(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = [0; 4096];
    match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((_, count)) => Ok(buffer.get(..count).map(<[u8]>::to_vec)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A socket connected to one resolver, so that nobody else's answer arrives; its
/// port is the kernel's choice, at random.
fn open(
    server: SocketAddr,
    kind: SocketType,
    epoll: BorrowedFd<'_>,
    token: u64,
) -> Result<OwnedFd, Errno> {
    let family = match server.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, kind, flags, None)?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    let mut interest = EventFlags::IN;
    if kind == SocketType::STREAM {
        interest |= EventFlags::OUT | EventFlags::ET;
    }
    epoll::add(epoll, &socket, EventData::new_u64(token), interest)?;
    Ok(socket)
}

fn ask_by_udp(
    server: SocketAddr,
    questions: &[Vec<u8>],
    epoll: BorrowedFd<'_>,
    token: u64,
) -> Result<OwnedFd, Errno> {
    let socket = open(server, SocketType::DGRAM, epoll, token)?;
    for question in questions {
        send(&socket, question, SendFlags::NOSIGNAL)?;
    }
    Ok(socket)
}
