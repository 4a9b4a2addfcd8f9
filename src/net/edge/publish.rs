//! [exposed] Published ports: accepts on the host, asks the gateway for the other half, relays as ever.

use super::connection::{CLIENT, Connection, Stage, reset};
use super::dial::{Attempt, Dialling};
use super::flow::End;
use super::report::Reports;
use super::serve::{ACCEPTS, DIAL, GATEWAY, PUBLISHED, Server, Step};
use crate::net;
use crate::net::publish::{ANSWER, Admission, Request, seen};
use crate::net::record::{Obstacle, Peer, Reason, Record};
use crate::sys::socket;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, acceptfrom_with, sockopt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// Connections that the gateway is asked for at once; the rest wait to be accepted.
const ASKED: usize = 64;

/// A port of the host.
pub(super) struct Listener {
    pub socket: OwnedFd,
    /// The job's.
    pub port: u16,
}

/// What the gateway made for whom, and from which address.
struct Answer {
    who: (usize, u32),
    from: SocketAddr,
    made: Result<OwnedFd, Errno>,
}

/// All published ports.
pub(super) struct Ports {
    gateway: OwnedFd,
    listeners: Vec<Listener>,
    /// Connections that the gateway is making, in the order of its answers.
    asked: VecDeque<((usize, u32), SocketAddr)>,
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
        self.asked.push_back((who, request.from));
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
        let (who, from) = self.asked.pop_front().ok_or(Errno::PROTO)?;
        let made = match (length, i32::from_le_bytes(buffer), descriptors.pop()) {
            (ANSWER, 0, Some(made)) => Ok(made),
            (ANSWER, errno @ 1.., None) => Err(crate::sys::errno(errno)),
            _ => return Err(Errno::PROTO),
        };
        Ok(Some(Answer { who, from, made }))
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
        // Small writes are not held back; nothing depends on it.
        crate::sys::unheard(sockopt::set_tcp_nodelay(&client, true));
        let place = self.vacancy();
        let connection = Connection::inbound(self.next_number(), client, told);
        let mut connection = Box::new(connection);
        let step = match self.register(place, CLIENT, &connection.client) {
            Ok(()) => self.ask_gateway(place, &mut connection, seen(peer)),
            Err(_) => Step::Refuse(Reason::Met(Obstacle::Descriptors)),
        };
        self.settle(place, connection, step, reports);
    }

    /// Asks for a connection to the job from this address.
    fn ask_gateway(&mut self, place: usize, connection: &mut Connection, from: SocketAddr) -> Step {
        let index = connection.peer.map(|peer| usize::from(peer.port));
        let asked = self.published.as_mut().and_then(|ports| {
            let port = ports.listeners.get(index?)?.port;
            ports
                .ask((place, connection.id), Request { from, port })
                .ok()
        });
        if asked.is_none() {
            return Step::Refuse(Reason::Met(Obstacle::Descriptors));
        }
        connection.stage = Stage::Asking;
        self.set_deadline(place, connection, Some(DIAL));
        Step::Wait
    }

    /// The job did not take a connection from this address. Where it listens by IPv4 alone it
    /// refuses IPv6 at once; then an IPv6 peer is shown as the gateway's IPv4 address.
    pub(super) fn job_refused(
        &mut self,
        place: usize,
        connection: &mut Connection,
        from: SocketAddr,
    ) -> Step {
        match from {
            SocketAddr::V4(_) => Step::Refuse(Reason::Met(Obstacle::Unreachable)),
            SocketAddr::V6(_) => {
                let from = SocketAddr::new(net::GATEWAY.into(), from.port());
                self.ask_gateway(place, connection, from)
            }
        }
    }

    /// Sockets that the gateway has made.
    pub(super) fn hear_gateway(&mut self, reports: &mut Reports) {
        while let Some(ports) = self.published.as_mut() {
            let full = ports.asked.len() >= ASKED;
            match ports.answer() {
                Ok(Some(Answer { who, from, made })) => {
                    if full && self.paused.is_none() {
                        ports.listen(&self.epoll, EventFlags::IN);
                    }
                    self.join(who, from, made, reports);
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
        from: SocketAddr,
        made: Result<OwnedFd, Errno>,
        reports: &mut Reports,
    ) {
        let Some(mut connection) = self.take(place) else {
            return;
        };
        let step = if connection.id == id && connection.stage == Stage::Asking {
            match made {
                Ok(socket) => self.connect_to_job(place, &mut connection, from, socket),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    Step::Refuse(Reason::Met(Obstacle::Descriptors))
                }
                Err(_) => self.job_refused(place, &mut connection, from),
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
        from: SocketAddr,
        socket: OwnedFd,
    ) -> Step {
        // As for the peer's side.
        crate::sys::unheard(sockopt::set_tcp_nodelay(&socket, true));
        let end = End::new(socket);
        let until = connection.deadline.unwrap_or_else(|| Instant::now() + DIAL);
        let failed = (from, Reason::Met(Obstacle::Unreachable));
        let mut dialling = Dialling::new(Vec::new(), until, failed);
        let number = dialling.number();
        if self.register(place, number, &end).is_err() {
            return Step::Refuse(Reason::Met(Obstacle::Descriptors));
        }
        dialling.attempts.push(Attempt {
            to: from,
            end,
            number,
        });
        connection.dialling = Some(Box::new(dialling));
        connection.stage = Stage::Connecting;
        Step::Wait
    }
}
