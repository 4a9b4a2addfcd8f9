//! [exposed] DNS for the job, over UDP and TCP: allowed names get an address of the pool, those that it chose once they are found.

use super::connection::reset;
use super::report::Reports;
use super::serve::{DNS_CLIENTS, Server};
use crate::net::DNS_PORT;
use crate::net::decide::{Answer, Found};
use crate::net::dns::{self, Query, Refusal, Reply};
use crate::net::record::{Asked, Obstacle, Reason, Record};
use crate::sys::datagram;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Datagrams that are answered before others get their turn.
const DATAGRAMS: usize = 64;
/// Clients over TCP at once; more are reset.
const CLIENTS: usize = 64;
/// How long a client over TCP may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest query that is read over TCP; a question has at most 271 bytes.
const QUERY: usize = 4096;

/// Queries at once whose names are being resolved; more are answered with a failure.
const QUERIES: usize = 1024;

/// Queries whose names are being resolved, by number.
#[derive(Default)]
pub(super) struct Queries {
    asked: HashMap<u64, (Query, Asker)>,
    next: u64,
}

/// Whom a query is answered.
#[derive(Clone, Copy)]
enum Asker {
    /// By UDP: whom from which address.
    Datagram(SocketAddr, IpAddr),
    /// By TCP: place and number of the client.
    Stream(usize, u64),
}

/// What becomes of a message.
enum Now {
    Answer(Vec<u8>),
    Later,
    Nothing,
}

/// Who asks over TCP.
#[derive(Default)]
pub(super) struct Clients {
    places: Vec<Option<Client>>,
    next: u64,
}

struct Client {
    number: u64,
    socket: OwnedFd,
    got: Vec<u8>,
    until: Instant,
}

impl Clients {
    /// When the first client over TCP has been silent for too long.
    pub(super) fn due(&self) -> Option<Instant> {
        let clients = self.places.iter().flatten();
        clients.map(|client| client.until).min()
    }

    pub(super) fn drop_late(&mut self, now: Instant) {
        for client in &mut self.places {
            client.take_if(|client| client.until <= now);
        }
    }
}

impl Server {
    /// The answer to one message of `asker`, or it comes later.
    fn answer(&mut self, message: &[u8], asker: Asker, reports: &mut Reports) -> Now {
        let now = self.now();
        let query = match dns::parse(message) {
            Ok(query) => query,
            Err(Refusal::Answer { bytes, .. }) if self.decider.query_fits(now) => {
                return Now::Answer(bytes);
            }
            Err(Refusal::Answer { .. } | Refusal::Silence(_)) => return Now::Nothing,
        };
        let decided = self.decider.dns(&query, now);
        let found = match decided {
            Some(_) => None,
            None => {
                self.queries.next += 1;
                self.resolve_query(&query, self.queries.next)
            }
        };
        let answer = match (decided, found) {
            (Some(answer), _) => answer,
            (None, Some(found)) => self.decider.resolved(&query, &found),
            (None, None) if self.queries.asked.len() < QUERIES => {
                self.queries.asked.insert(self.queries.next, (query, asker));
                return Now::Later;
            }
            (None, None) => self.decider.resolved(&query, &Found::Nothing),
        };
        report(&query, answer, reports);
        Now::Answer(query.answer(answer.reply))
    }

    /// What is found of the name of a query that waited for it.
    pub(super) fn answer_later(&mut self, number: u64, found: &Found, reports: &mut Reports) {
        let Some((query, asker)) = self.queries.asked.remove(&number) else {
            return;
        };
        let answer = self.decider.resolved(&query, found);
        report(&query, answer, reports);
        let bytes = query.answer(answer.reply);
        match asker {
            Asker::Datagram(to, from) => self.send_datagram(&bytes, from, to),
            Asker::Stream(place, number) => {
                let Some(slot) = self.dns_clients.places.get_mut(place) else {
                    return;
                };
                let client = slot.as_ref().filter(|client| client.number == number);
                if let Some(client) = client
                    && !client.say(&bytes)
                {
                    reset(&client.socket);
                    *slot = None;
                }
            }
        }
    }

    /// Datagrams may be lost: whoever waits for it asks again.
    fn send_datagram(&self, answer: &[u8], from: IpAddr, to: SocketAddr) {
        let socket = &self.listeners.dns_udp;
        crate::sys::unheard(datagram::send(socket, answer, from, to));
    }

    pub(super) fn answer_datagrams(&mut self, reports: &mut Reports) {
        let mut buffer = [0; dns::UDP];
        for _ in 0..DATAGRAMS {
            let datagram = match datagram::receive(&self.listeners.dns_udp, &mut buffer) {
                Ok(datagram) => datagram,
                Err(Errno::AGAIN) => return,
                // This one cannot be answered.
                Err(_) => continue,
            };
            let message = buffer.get(..datagram.length).unwrap_or_default();
            let asker = Asker::Datagram(datagram.from, datagram.to.ip());
            if let Now::Answer(answer) = self.answer(message, asker, reports) {
                self.send_datagram(&answer, datagram.to.ip(), datagram.from);
            }
        }
    }

    pub(super) fn accept_dns(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match accept_with(&self.listeners.dns_tcp, flags) {
            Ok(socket) => socket,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return self.pause();
            }
            Err(_) => return,
        };
        let clients = &mut self.dns_clients.places;
        let place = clients.iter().position(Option::is_none);
        let place = place.unwrap_or(clients.len());
        let token = EventData::new_u64(DNS_CLIENTS + place as u64);
        let registered = epoll::add(&self.epoll, &socket, token, EventFlags::IN);
        if place >= CLIENTS || registered.is_err() {
            return reset(&socket);
        }
        if place == clients.len() {
            clients.push(None);
        }
        self.dns_clients.next += 1;
        let number = self.dns_clients.next;
        if let Some(slot) = self.dns_clients.places.get_mut(place) {
            *slot = Some(Client {
                number,
                socket,
                got: Vec::new(),
                until: Instant::now() + SILENCE,
            });
        }
    }

    /// A client over TCP has said something: every whole query is answered.
    pub(super) fn answer_stream(&mut self, place: usize, reports: &mut Reports) {
        let Some(mut client) = self
            .dns_clients
            .places
            .get_mut(place)
            .and_then(Option::take)
        else {
            return;
        };
        if !client.read() {
            return;
        }
        while let Some(message) = client.next() {
            let asker = Asker::Stream(place, client.number);
            let said = match self.answer(&message, asker, reports) {
                Now::Answer(answer) => client.say(&answer),
                Now::Later => true,
                Now::Nothing => false,
            };
            if !said {
                return reset(&client.socket);
            }
        }
        if client.got.len() > QUERY {
            return reset(&client.socket);
        }
        if let Some(slot) = self.dns_clients.places.get_mut(place) {
            *slot = Some(client);
        }
    }
}

/// A query that is not answered with an address, where that is not as the client expects.
fn report(query: &Query, answer: Answer, reports: &mut Reports) {
    let reason = match (answer.verdict, answer.reply) {
        (Err(reason), _) => Reason::Decided(reason),
        (Ok(_), Reply::NameError | Reply::ServerFailure) => Reason::Met(Obstacle::NoAddress),
        (Ok(_), _) => return,
    };
    let asked = Asked {
        name: Some(query.name.clone()),
        address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DNS_PORT),
    };
    reports.say(&Record::Refused(asked, reason));
}

impl Client {
    /// False when it has nothing more to say.
    fn read(&mut self) -> bool {
        let mut buffer = [0; QUERY];
        match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => false,
            Ok((_, count)) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.got.extend_from_slice(bytes);
                self.until = Instant::now() + SILENCE;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// The next whole message: two bytes of length, then so many bytes.
    fn next(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.got.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.got.drain(..2 + length);
        Some(message)
    }

    /// A client that does not read its answers is none.
    fn say(&self, answer: &[u8]) -> bool {
        // At most 315 bytes.
        let mut message = (answer.len() as u16).to_be_bytes().to_vec();
        message.extend(answer);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        matches!(send(&self.socket, &message, flags), Ok(sent) if sent == message.len())
    }
}
