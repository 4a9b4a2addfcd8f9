//! [exposed] Published ports: accepts on the host, asks the gateway for the other half, relays as ever.

use super::connection::{Connection, Side, Stage, reset};
use super::flow::End;
use super::report::Reports;
use super::serve::{ACCEPTS, DIAL, GATEWAY, PUBLISHED, Server, Step};
use crate::net::publish::{ANSWER, Admission, Request, seen};
use crate::net::record::{Obstacle, Peer, Reason, Record};
use crate::sys::socket;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, acceptfrom_with, sockopt};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Connections that the gateway is asked for at once; the rest wait to be accepted.
const ASKED: usize = 64;

/// A port of the host.
pub(super) struct Listener {
    pub socket: OwnedFd,
    /// The job's.
    pub port: u16,
}

/// What the gateway made for whom.
struct Answer {
    who: (usize, u32),
    made: Result<OwnedFd, Errno>,
}

/// All published ports.
pub(super) struct Ports {
    gateway: OwnedFd,
    listeners: Vec<Listener>,
    /// Connections that the gateway is making, in the order of its answers.
    asked: VecDeque<(usize, u32)>,
    pub admission: Admission,
}

impl Ports {
    pub(super) fn new(gateway: OwnedFd, listeners: Vec<Listener>, admission: Admission) -> Self {
        Self {
            gateway,
            listeners,
            asked: VecDeque::new(),
            admission,
        }
    }

    /// What is waited for, by token.
    pub(super) fn watched(&self) -> impl Iterator<Item = (BorrowedFd<'_>, u64)> {
        let tokens = PUBLISHED..;
        let listeners = self.listeners.iter().zip(tokens);
        let listeners = listeners.map(|(listener, token)| (listener.socket.as_fd(), token));
        listeners.chain([(self.gateway.as_fd(), GATEWAY)])
    }

    pub(super) fn listen(&self, epoll: &OwnedFd, flags: EventFlags) {
        for (socket, token) in self.watched().filter(|(_, token)| *token != GATEWAY) {
            // A listener that is registered can be changed.
            crate::sys::unheard(epoll::modify(
                epoll,
                socket,
                EventData::new_u64(token),
                flags,
            ));
        }
    }

    fn ask(&mut self, who: (usize, u32), request: Request) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::send(&self.gateway, &request.encode(), flags)?;
        self.asked.push_back(who);
        Ok(())
    }

    /// The next answer, None for now; an error when the gateway is gone or answers what nobody asked.
    fn answer(&mut self) -> Result<Option<Answer>, Errno> {
        let mut buffer = [0; ANSWER];
        let (length, mut descriptors) = match socket::receive(&self.gateway, &mut buffer) {
            Ok(received) => received.ok_or(Errno::PIPE)?,
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let who = self.asked.pop_front().ok_or(Errno::PROTO)?;
        let made = match (length, i32::from_le_bytes(buffer), descriptors.pop()) {
            (ANSWER, 0, Some(made)) => Ok(made),
            (ANSWER, errno @ 1.., None) => Err(crate::sys::errno(errno)),
            _ => return Err(Errno::PROTO),
        };
        Ok(Some(Answer { who, made }))
    }
}

impl Server {
    /// Peers of a published port, as many as there are descriptors for.
    pub(super) fn accept_published(&mut self, index: usize, reports: &mut Reports) {
        for _ in 0..ACCEPTS {
            let Some(ports) = self.published.as_mut() else {
                return;
            };
            let Some(listener) = ports.listeners.get(index) else {
                return;
            };
            if ports.asked.len() >= ASKED {
                return ports.listen(&self.epoll, EventFlags::empty());
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(&listener.socket, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    match peer {
                        Some(peer) => self.begin_published(index, socket, peer, reports),
                        None => reset(&socket),
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause();
                }
                // Errors of one connection: accept(2).
                Err(_) => {}
            }
        }
    }

    fn begin_published(
        &mut self,
        index: usize,
        client: OwnedFd,
        peer: SocketAddr,
        reports: &mut Reports,
    ) {
        let now = self.now();
        let Some(ports) = self.published.as_mut() else {
            return reset(&client);
        };
        let told = Peer {
            // A plan has no more than fit.
            port: u16::try_from(index).unwrap_or(u16::MAX),
            address: peer,
        };
        if let Err(reason) = ports.admission.admit(now) {
            reset(&client);
            return reports.say(&Record::Rejected(told, Reason::Decided(reason)));
        }
        let port = ports
            .listeners
            .get(index)
            .map_or(0, |listener| listener.port);
        // Small writes are not held back; nothing depends on it.
        crate::sys::unheard(sockopt::set_tcp_nodelay(&client, true));
        let place = self.vacancy();
        let connection = Connection::inbound(self.next_number(), client, told);
        let mut connection = Box::new(connection);
        let request = Request {
            from: SocketAddr::V4(seen(peer)),
            port,
        };
        let registered = self.register(place, Side::Client, &connection.client);
        let asked = registered.and_then(|()| match self.published.as_mut() {
            Some(ports) => ports.ask((place, connection.id), request),
            None => Err(Errno::PIPE),
        });
        let step = match asked {
            Ok(()) => {
                self.set_deadline(place, &mut connection, Some(DIAL));
                Step::Wait
            }
            Err(_) => Step::Refuse(Reason::Met(Obstacle::Descriptors)),
        };
        self.settle(place, connection, step, reports);
    }

    /// Sockets that the gateway has made.
    pub(super) fn hear_gateway(&mut self, reports: &mut Reports) {
        while let Some(ports) = self.published.as_mut() {
            let full = ports.asked.len() >= ASKED;
            match ports.answer() {
                Ok(Some(Answer { who, made })) => {
                    if full && self.paused.is_none() {
                        ports.listen(&self.epoll, EventFlags::IN);
                    }
                    self.join(who, made, reports);
                }
                Ok(None) => return,
                // The sandbox is about to end. Whoever waits is reset when its time is up.
                Err(_) => self.published = None,
            }
        }
    }

    /// The other half of a connection, unless the peer is gone by now.
    fn join(
        &mut self,
        (place, id): (usize, u32),
        made: Result<OwnedFd, Errno>,
        reports: &mut Reports,
    ) {
        let Some(mut connection) = self.take(place) else {
            return;
        };
        let step = if connection.id == id && connection.stage == Stage::Asking {
            match made {
                Ok(socket) => self.connect_to_job(place, &mut connection, socket),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    Step::Refuse(Reason::Met(Obstacle::Descriptors))
                }
                Err(_) => Step::Refuse(Reason::Met(Obstacle::Unreachable)),
            }
        } else {
            Step::Wait
        };
        self.settle(place, connection, step, reports);
    }

    fn connect_to_job(
        &mut self,
        place: usize,
        connection: &mut Connection,
        socket: OwnedFd,
    ) -> Step {
        // As for the peer's side.
        crate::sys::unheard(sockopt::set_tcp_nodelay(&socket, true));
        let end = End::new(socket);
        if self.register(place, Side::Upstream, &end).is_err() {
            return Step::Refuse(Reason::Met(Obstacle::Descriptors));
        }
        connection.upstream = Some(end);
        connection.stage = Stage::Connecting(Vec::new());
        Step::Wait
    }
}
