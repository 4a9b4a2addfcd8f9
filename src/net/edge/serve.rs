//! [exposed] The loop: one epoll(7) over listeners, connections, lookups and the supervisor.

use super::connection::{CLIENT, Connection, Relayed, Stage, reset};
use super::dial::{self, Attempt, Dialling, SOCKETS};
use super::flow::{End, Pipes};
use super::gate::Gate;
use super::names::{Clients, Queries};
use super::publish::{Listener, Ports};
use super::report::Reports;
use super::resolve::{Resolver, Waiting};
use crate::net::decide::{Decider, Dial, Found, To, Verdict};
use crate::net::dns::Query;
use crate::net::grant::{Proto, Rules};
use crate::net::publish::Admission;
use crate::net::record::{Asked, Obstacle, Reason, Record};
use crate::sys::netlink::Netlink;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, getsockname, sockopt};
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Events that are taken at once.
const EVENTS: usize = 256;
/// Connections that are accepted before others get their turn.
pub(super) const ACCEPTS: usize = 64;
/// How long a client has to say what is read.
const HEAD: Duration = Duration::from_secs(10);
/// How long all addresses of a destination together have to answer.
pub(super) const DIAL: Duration = Duration::from_secs(30);
/// How long nothing is accepted, and a connection waits, when there is no descriptor to be had.
const SHORTAGE: Duration = Duration::from_millis(20);
/// How often it is looked whether a side has taken what was sent before the other broke.
const DELIVERED: Duration = Duration::from_millis(5);

/// What an event belongs to; numbers from [`LOOKUPS`] and [`CONNECTIONS`] on are places.
const TCP: u64 = 0;
const RECORDS: u64 = 1;
pub(super) const DNS_UDP: u64 = 2;
pub(super) const DNS_TCP: u64 = 3;
pub(super) const GATEWAY: u64 = 4;
const LOOKUPS: u64 = 16;
pub(super) const DNS_CLIENTS: u64 = 512;
const CONNECTIONS: u64 = 1024;
pub(super) const PUBLISHED: u64 = 1 << 48;

/// The sockets of [`super::Listening`], its own.
pub(super) struct Listeners {
    pub tcp: OwnedFd,
    pub dns_udp: OwnedFd,
    pub dns_tcp: OwnedFd,
    /// The gateway's socket, and the ports of the host.
    pub published: Option<(OwnedFd, Vec<Listener>)>,
}

/// What the edge works with.
pub(super) struct Server {
    pub(super) epoll: OwnedFd,
    pub(super) listeners: Listeners,
    pub(super) decider: Decider,
    pub(super) dns_clients: Clients,
    pub(super) queries: Queries,
    pub(super) published: Option<Ports>,
    started: Instant,
    connections: Vec<Option<Box<Connection>>>,
    vacant: Vec<usize>,
    pipes: Pipes,
    routes: Netlink,
    resolver: Resolver,
    deadlines: BTreeSet<(Instant, usize)>,
    again: VecDeque<usize>,
    pub(super) paused: Option<Instant>,
    next: u32,
}

/// What a connection does next.
pub(super) enum Step {
    Wait,
    Again,
    Starved,
    Refuse(Reason),
    Finished,
    Broken,
}

impl Server {
    /// Everything that takes calls the filter refuses later.
    pub(super) fn new(
        rules: Rules,
        mut listeners: Listeners,
        resolvers: &[std::net::SocketAddr],
        records: BorrowedFd<'_>,
    ) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let published = listeners.published.take().map(|(gateway, ports)| {
            let admission = Admission::new(&rules.limits);
            Ports::new(gateway, ports, admission)
        });
        let listening = [
            (listeners.tcp.as_fd(), TCP),
            (listeners.dns_udp.as_fd(), DNS_UDP),
            (listeners.dns_tcp.as_fd(), DNS_TCP),
            (records, RECORDS),
        ];
        let ports = published.iter().flat_map(Ports::watched);
        for (socket, token) in listening.into_iter().chain(ports) {
            let flags = rustix::fs::fcntl_getfl(socket)?;
            rustix::fs::fcntl_setfl(socket, flags | rustix::fs::OFlags::NONBLOCK)?;
            epoll::add(&epoll, socket, EventData::new_u64(token), EventFlags::IN)?;
        }
        // One listener for both families, or for IPv4 where the host has no other.
        let ipv6 = matches!(
            SocketAddr::try_from(getsockname(&listeners.tcp)?),
            Ok(SocketAddr::V6(_))
        );
        Ok(Self {
            epoll,
            listeners,
            decider: Decider::new(rules, ipv6),
            dns_clients: Clients::default(),
            queries: Queries::default(),
            published,
            started: Instant::now(),
            connections: Vec::new(),
            vacant: Vec::new(),
            pipes: Pipes::default(),
            routes: Netlink::open()?,
            resolver: Resolver::new(resolvers),
            deadlines: BTreeSet::new(),
            again: VecDeque::new(),
            paused: None,
            next: 0,
        })
    }

    /// Serves until the supervisor is gone or wants the end.
    pub(super) fn run(&mut self, reports: &mut Reports) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for Event { data, flags } in events.iter().copied() {
                if data.u64() == RECORDS {
                    self.close_all(reports);
                    return Ok(());
                }
                self.handle(data.u64(), flags, reports);
            }
            for place in std::mem::take(&mut self.again) {
                self.resume(place, None, reports);
            }
            self.check_time(reports);
        }
    }

    fn handle(&mut self, token: u64, flags: EventFlags, reports: &mut Reports) {
        let place = |base| usize::try_from(token - base).unwrap_or(usize::MAX);
        match token {
            TCP => self.accept(reports),
            DNS_UDP => self.answer_datagrams(reports),
            DNS_TCP => self.accept_dns(),
            GATEWAY => self.hear_gateway(reports),
            PUBLISHED.. => self.accept_published(place(PUBLISHED), reports),
            LOOKUPS..DNS_CLIENTS => self.look_up(place(LOOKUPS), false, reports),
            DNS_CLIENTS..CONNECTIONS => self.answer_stream(place(DNS_CLIENTS), reports),
            CONNECTIONS.. => {
                let (at, number) = (
                    (token - CONNECTIONS) / SOCKETS,
                    (token - CONNECTIONS) % SOCKETS,
                );
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                self.resume(at, Some((number, flags)), reports);
            }
            _ => {}
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let next = if self.again.is_empty() {
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            let dates = [
                deadline,
                self.resolver.due(),
                self.paused,
                self.dns_clients.due(),
            ];
            dates.into_iter().flatten().min()?
        } else {
            now
        };
        let left = next.saturating_duration_since(now);
        // Rounded up: a wait that returns early would spin.
        let left = if left.is_zero() {
            left
        } else {
            left + Duration::from_millis(1)
        };
        Timespec::try_from(left).ok()
    }

    fn check_time(&mut self, reports: &mut Reports) {
        let now = Instant::now();
        while let Some((at, place)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            self.too_late(place, reports);
        }
        for place in self.resolver.late(now) {
            self.look_up(place, true, reports);
        }
        self.dns_clients.drop_late(now);
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            self.listen(EventFlags::IN);
        }
    }

    /// Its deadline has come: it is refused, or gets another try at a pipe.
    fn too_late(&mut self, place: usize, reports: &mut Reports) {
        let Some(mut connection) = self.take(place) else {
            return;
        };
        connection.deadline = None;
        let step = match connection.stage {
            Stage::Reading => Step::Refuse(Reason::Met(Obstacle::Silent)),
            Stage::Resolving => Step::Refuse(Reason::Met(Obstacle::NoAddress)),
            Stage::Asking => Step::Refuse(Reason::Met(Obstacle::Unreachable)),
            Stage::Connecting => self.dial_more(place, &mut connection),
            Stage::Relaying => Step::Again,
            Stage::Delivering(_) => Step::Broken,
        };
        self.settle(place, connection, step, reports);
    }

    /// Connections of the job, as many as there are descriptors for.
    fn accept(&mut self, reports: &mut Reports) {
        for _ in 0..ACCEPTS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match accept_with(&self.listeners.tcp, flags) {
                Ok(socket) => self.begin(socket, reports),
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause();
                }
                // Errors of one connection: accept(2).
                Err(_) => {}
            }
        }
    }

    /// Nothing is accepted for a while: there is no descriptor to be had.
    pub(super) fn pause(&mut self) {
        self.listen(EventFlags::empty());
        self.paused = Some(Instant::now() + SHORTAGE);
    }

    fn listen(&self, flags: EventFlags) {
        let listeners = [
            (&self.listeners.tcp, TCP),
            (&self.listeners.dns_tcp, DNS_TCP),
        ];
        for (listener, token) in listeners {
            let token = EventData::new_u64(token);
            // A listener that is registered can be changed.
            crate::sys::unheard(epoll::modify(&self.epoll, listener, token, flags));
        }
        if let Some(published) = &self.published {
            published.listen(&self.epoll, flags);
        }
    }

    /// Decides about a new connection by the address it was going to.
    fn begin(&mut self, client: OwnedFd, reports: &mut Reports) {
        let to = getsockname(&client).and_then(SocketAddr::try_from);
        let Ok(to) = to else {
            return reset(&client);
        };
        // A listener for both families tells IPv4 as IPv4-mapped: from here on it is IPv4.
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let dial = match self.decider.connect(to, self.now()) {
            Verdict::Dial(dial) => dial,
            Verdict::Refuse(reason, name) => {
                reset(&client);
                let asked = Asked { name, address: to };
                return reports.say(&Record::Refused(asked, Reason::Decided(reason)));
            }
        };
        let gate = gate(&dial);
        let name = match dial.to {
            To::Name(name) => Some(name),
            To::Address(_) => None,
        };
        let asked = Asked { name, address: to };
        // A plan has fewer grants than that.
        let grant = u16::try_from(dial.grant).unwrap_or(u16::MAX);
        // Small writes of a job are not held back; nothing depends on it.
        crate::sys::unheard(sockopt::set_tcp_nodelay(&client, true));
        let place = self.vacancy();
        let connection = Connection::new(self.next_number(), client, asked, grant, gate);
        let mut connection = Box::new(connection);
        let step = match self.register(place, CLIENT, &connection.client) {
            Ok(()) => self.enter(place, &mut connection),
            Err(_) => Step::Refuse(Reason::Met(Obstacle::Descriptors)),
        };
        self.settle(place, connection, step, reports);
    }

    /// A place for one more connection.
    pub(super) fn vacancy(&mut self) -> usize {
        let place = self.vacant.pop().unwrap_or(self.connections.len());
        if place == self.connections.len() {
            self.connections.push(None);
        }
        place
    }

    /// The number of one more connection.
    pub(super) fn next_number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Time as decisions count it.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn register(&self, place: usize, number: u64, end: &End) -> Result<(), Errno> {
        let token = CONNECTIONS + SOCKETS * place as u64 + number;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &end.socket, EventData::new_u64(token), flags)
    }

    /// From a decision, or from what was read, to the next thing to wait for.
    fn enter(&mut self, place: usize, connection: &mut Connection) -> Step {
        if connection.stage == Stage::Reading {
            self.set_deadline(place, connection, Some(HEAD));
            return Step::Wait;
        }
        self.resolve(place, connection)
    }

    fn resolve(&mut self, place: usize, connection: &mut Connection) -> Step {
        self.set_deadline(place, connection, Some(DIAL));
        let Some(name) = &connection.asked.name else {
            let address = connection.asked.address.ip();
            return self.dial(place, connection, vec![address], Obstacle::NoAddress);
        };
        let who = Waiting::Connection(place, connection.id);
        let token = |lookup: usize| LOOKUPS + lookup as u64;
        match self.resolver.ask(name, who, self.epoll.as_fd(), token) {
            Some(found) => self.dial_found(place, connection, &found),
            None => {
                connection.stage = Stage::Resolving;
                Step::Wait
            }
        }
    }

    /// What is known of the name of a query now; None when its number is told later.
    pub(super) fn resolve_query(&mut self, query: &Query, number: u64) -> Option<Found> {
        let token = |lookup: usize| LOOKUPS + lookup as u64;
        let who = Waiting::Query(number);
        let epoll = self.epoll.as_fd();
        self.resolver.ask(&query.name, who, epoll, token)
    }

    /// A lookup is ready or late; whoever waited for it goes on.
    fn look_up(&mut self, lookup: usize, late: bool, reports: &mut Reports) {
        let token = LOOKUPS + lookup as u64;
        let answer = self.resolver.step(lookup, late, self.epoll.as_fd(), token);
        let Some(answer) = answer else { return };
        for waiting in answer.waiting {
            let (place, id) = match waiting {
                Waiting::Connection(place, id) => (place, id),
                Waiting::Query(number) => {
                    self.answer_later(number, &answer.found, reports);
                    continue;
                }
            };
            let Some(mut connection) = self.take(place) else {
                continue;
            };
            let waits = connection.id == id && connection.stage == Stage::Resolving;
            let step = if waits {
                self.dial_found(place, &mut connection, &answer.found)
            } else {
                Step::Wait
            };
            self.settle(place, connection, step, reports);
        }
    }

    fn dial_found(&mut self, place: usize, connection: &mut Connection, found: &Found) -> Step {
        match found {
            Found::Addresses(list) => {
                let list = dial::in_turn(list.clone(), connection.original.ip());
                self.dial(place, connection, list, Obstacle::NoAddress)
            }
            Found::NoAddress | Found::NoSuchName | Found::Nothing => {
                Step::Refuse(Reason::Met(Obstacle::NoAddress))
            }
        }
    }

    /// Dials the first address that may be; `why` is said where there is none.
    fn dial(
        &mut self,
        place: usize,
        connection: &mut Connection,
        addresses: Vec<IpAddr>,
        why: Obstacle,
    ) -> Step {
        let until = connection.deadline.unwrap_or_else(|| Instant::now() + DIAL);
        let failed = (connection.asked.address, Reason::Met(why));
        connection.dialling = Some(Box::new(Dialling::new(addresses, until, failed)));
        connection.stage = Stage::Connecting;
        self.dial_next(place, connection)
    }

    /// No address that was dialled has answered by now.
    fn dial_more(&mut self, place: usize, connection: &mut Connection) -> Step {
        match &connection.dialling {
            Some(dialling) if dialling.until > Instant::now() => self.dial_next(place, connection),
            Some(dialling) => {
                if connection.peer.is_none() {
                    connection.asked.address = dialling.first();
                }
                Step::Refuse(Reason::Met(Obstacle::Unreachable))
            }
            None => Step::Broken,
        }
    }

    /// Dials the next address that may be dialled, beside those that have not answered.
    fn dial_next(&mut self, place: usize, connection: &mut Connection) -> Step {
        let Some(mut dialling) = connection.dialling.take() else {
            return Step::Broken;
        };
        let port = connection.asked.address.port();
        while let Some(address) = dialling.next() {
            let to = SocketAddr::new(address, port);
            let number = dialling.number();
            let begun = self.dial_one(to).and_then(|end| {
                let registered = self.register(place, number, &end);
                let descriptors = |_| Reason::Met(Obstacle::Descriptors);
                registered.map(|()| end).map_err(descriptors)
            });
            match begun {
                Ok(end) => {
                    dialling.attempts.push(Attempt { to, end, number });
                    break;
                }
                Err(reason) => dialling.failed = (to, reason),
            }
        }
        if dialling.attempts.is_empty() {
            let (to, reason) = dialling.failed;
            if connection.peer.is_some() {
                return self.job_refused(place, connection, to);
            }
            connection.asked.address = to;
            return Step::Refuse(reason);
        }
        self.set_deadline(place, connection, Some(dialling.wait(Instant::now())));
        connection.dialling = Some(dialling);
        Step::Wait
    }

    fn dial_one(&mut self, to: SocketAddr) -> Result<End, Reason> {
        let address = to.ip();
        let decided = self.decider.dialled(address, to.port());
        decided.map_err(Reason::Decided)?;
        let by_network = self.decider.has_network(address, to.port());
        let routed = dial::check(&self.routes, address, by_network);
        let begun = routed.and_then(|()| {
            dial::begin(to).map_err(|errno| match errno {
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Obstacle::Descriptors,
                _ => Obstacle::Unreachable,
            })
        });
        begun.map(End::new).map_err(Reason::Met)
    }

    /// Goes on with a connection, after what epoll said of it.
    fn resume(&mut self, place: usize, event: Option<(u64, EventFlags)>, reports: &mut Reports) {
        let Some(mut connection) = self.take(place) else {
            return;
        };
        if let Some((number, flags)) = event {
            connection.mark(number, flags);
        }
        let step = match connection.stage {
            Stage::Relaying => self.relay(&mut connection),
            Stage::Delivering(_) => Step::Broken,
            _ if connection.client.broken => Step::Broken,
            Stage::Reading => match connection.read(&self.decider) {
                Ok(true) => self.resolve(place, &mut connection),
                Ok(false) => Step::Wait,
                Err(reason) => Step::Refuse(reason),
            },
            Stage::Resolving | Stage::Asking => Step::Wait,
            Stage::Connecting => self.connected(place, &mut connection, reports),
        };
        self.settle(place, connection, step, reports);
    }

    /// Whether one of the addresses that are being dialled has answered.
    fn connected(
        &mut self,
        place: usize,
        connection: &mut Connection,
        reports: &mut Reports,
    ) -> Step {
        let Some(dialling) = &mut connection.dialling else {
            return Step::Broken;
        };
        let before = dialling.attempts.len();
        for attempt in std::mem::take(&mut dialling.attempts) {
            if !attempt.end.writable {
                dialling.attempts.push(attempt);
            } else if let Ok(Ok(())) = sockopt::socket_error(&attempt.end.socket) {
                return self.take_answer(place, connection, attempt, reports);
            } else {
                dialling.failed = (attempt.to, Reason::Met(Obstacle::Unreachable));
            }
        }
        if dialling.attempts.len() == before {
            return Step::Wait;
        }
        self.dial_next(place, connection)
    }

    /// The first address that answered is the connection's; the others are given up.
    fn take_answer(
        &mut self,
        place: usize,
        connection: &mut Connection,
        attempt: Attempt,
        reports: &mut Reports,
    ) -> Step {
        connection.dialling = None;
        connection.dialled = attempt.number;
        connection.upstream = Some(attempt.end);
        connection.stage = Stage::Relaying;
        self.set_deadline(place, connection, None);
        reports.say(&match connection.peer {
            Some(peer) => Record::Accepted(connection.id, peer),
            None => {
                connection.asked.address = attempt.to;
                Record::Allowed(connection.id, connection.asked.clone(), connection.grant)
            }
        });
        self.relay(connection)
    }

    fn relay(&mut self, connection: &mut Connection) -> Step {
        match connection.relay(&mut self.pipes, &self.decider) {
            Relayed::Waits => Step::Wait,
            Relayed::More => Step::Again,
            Relayed::Starved => Step::Starved,
            Relayed::Finished => Step::Finished,
            Relayed::Broken => Step::Broken,
            Relayed::Refused(reason) => Step::Refuse(reason),
        }
    }

    pub(super) fn take(&mut self, place: usize) -> Option<Box<Connection>> {
        self.connections.get_mut(place)?.take()
    }

    /// Keeps a connection, or ends it.
    pub(super) fn settle(
        &mut self,
        place: usize,
        mut connection: Box<Connection>,
        step: Step,
        reports: &mut Reports,
    ) {
        match step {
            Step::Wait => {}
            Step::Again => self.again.push_back(place),
            Step::Starved => self.set_deadline(place, &mut connection, Some(SHORTAGE)),
            Step::Broken if connection.delivers(Instant::now()) => {
                self.set_deadline(place, &mut connection, Some(DELIVERED));
            }
            Step::Refuse(_) | Step::Finished | Step::Broken => {
                return self.remove(place, connection, &step, reports);
            }
        }
        if let Some(slot) = self.connections.get_mut(place) {
            *slot = Some(connection);
        }
    }

    fn remove(
        &mut self,
        place: usize,
        mut connection: Box<Connection>,
        step: &Step,
        reports: &mut Reports,
    ) {
        self.set_deadline(place, &mut connection, None);
        self.vacant.push(place);
        match (connection.peer, &mut self.published) {
            (None, _) => self.decider.closed(connection.original),
            (Some(_), Some(ports)) => ports.admission.closed(),
            (Some(_), None) => {}
        }
        report_end(&connection, step, reports);
        if !matches!(step, Step::Finished) {
            connection.reset();
        }
    }

    pub(super) fn set_deadline(
        &mut self,
        place: usize,
        connection: &mut Connection,
        left: Option<Duration>,
    ) {
        if let Some(before) = connection.deadline.take() {
            self.deadlines.remove(&(before, place));
        }
        if let Some(left) = left {
            let at = Instant::now() + left;
            connection.deadline = Some(at);
            self.deadlines.insert((at, place));
        }
    }

    /// Says how far each connection came.
    fn close_all(&mut self, reports: &mut Reports) {
        for connection in std::mem::take(&mut self.connections).into_iter().flatten() {
            report_end(&connection, &Step::Broken, reports);
        }
    }
}

/// What reads a connection; an address has no name to compare with.
fn gate(dial: &Dial) -> Option<Gate> {
    match (&dial.to, dial.proto) {
        (To::Name(name), Proto::Tls) => Some(Gate::tls(name.clone(), dial.port)),
        (To::Name(name), Proto::Http) => Some(Gate::http(name.clone(), dial.port)),
        (To::Name(_) | To::Address(_), _) => None,
    }
}

fn report_end(connection: &Connection, step: &Step, reports: &mut Reports) {
    if let Step::Refuse(reason) = step {
        reports.say(&match connection.peer {
            Some(peer) => Record::Rejected(peer, *reason),
            None => Record::Refused(connection.asked.clone(), *reason),
        });
    }
    if let Stage::Relaying | Stage::Delivering(_) = connection.stage {
        let (sent, received) = connection.moved();
        reports.say(&Record::Ended(connection.id, sent, received));
    }
}
