//! [exposed] DNS for the job, over UDP and TCP: allowed names get an address of the pool, nothing is asked of anybody.

use super::connection::reset;
use super::report::Reports;
use super::serve::{DNS_CLIENTS, Server};
use crate::net::DNS_PORT;
use crate::net::dns::{self, Refusal};
use crate::net::record::{Asked, Reason, Record};
use crate::sys::datagram;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// Datagrams that are answered before others get their turn.
const DATAGRAMS: usize = 64;
/// Clients over TCP at once; more are reset.
const CLIENTS: usize = 64;
/// How long a client over TCP may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// The longest query that is read over TCP; a question has at most 271 bytes.
const QUERY: usize = 4096;

/// Who asks over TCP.
#[derive(Default)]
pub(super) struct Clients {
    places: Vec<Option<Client>>,
}

struct Client {
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
    /// The answer to one message, None where there is none.
    fn answer(&mut self, message: &[u8], reports: &mut Reports) -> Option<Vec<u8>> {
        let now = self.now();
        let query = match dns::parse(message) {
            Ok(query) => query,
            Err(Refusal::Answer { bytes, .. }) => {
                return self.decider.query_fits(now).then_some(bytes);
            }
            Err(Refusal::Silence(_)) => return None,
        };
        let answer = self.decider.dns(&query, now);
        if let Err(reason) = answer.verdict {
            let asked = Asked {
                name: Some(query.name.clone()),
                address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DNS_PORT),
            };
            reports.say(&Record::Refused(asked, Reason::Decided(reason)));
        }
        Some(query.answer(answer.reply))
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
            if let Some(answer) = self.answer(message, reports) {
                // Datagrams may be lost: whoever waits for it asks again.
                crate::sys::unheard(datagram::send(
                    &self.listeners.dns_udp,
                    &answer,
                    *datagram.to.ip(),
                    datagram.from,
                ));
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
        if let Some(slot) = clients.get_mut(place) {
            *slot = Some(Client {
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
            let Some(answer) = self.answer(&message, reports) else {
                return reset(&client.socket);
            };
            if !client.say(&answer) {
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
