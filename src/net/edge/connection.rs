//! [exposed] One connection of the job, from accept to its end.

use super::dial::Dialling;
use super::flow::{End, Flow, Pipes, Turn};
use super::gate::{Gate, Moved};
use crate::net::decide::Decider;
use crate::net::record::{Asked, Obstacle, Peer, Reason};
use crate::sys::network::unacknowledged;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a side may take what was sent to it before the other side broke.
const DELIVERY: Duration = Duration::from_secs(10);

/// Number of the client's socket among those of a connection.
pub(super) const CLIENT: u64 = 0;

/// How far a connection has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its first bytes are awaited, to be read.
    Reading,
    /// Its name is being resolved.
    Resolving,
    /// The gateway makes a socket that leads to the job.
    Asking,
    /// Addresses are being dialled.
    Connecting,
    /// Bytes move.
    Relaying,
    /// One side has broken it; until then the other may take what was sent to it before.
    Delivering(Instant),
}

/// A connection.
pub(super) struct Connection {
    /// Its number in records.
    pub id: u32,
    pub stage: Stage,
    pub client: End,
    pub upstream: Option<End>,
    /// Number of the upstream's socket.
    pub dialled: u64,
    /// What is being dialled.
    pub dialling: Option<Box<Dialling>>,
    /// Where the job connected to.
    pub original: SocketAddr,
    /// What is told of it.
    pub asked: Asked,
    /// Index of the grant that covers it.
    pub grant: u16,
    pub deadline: Option<Instant>,
    /// Who connected to a published port; None where the job connects.
    pub peer: Option<Peer>,
    up: Flow,
    down: Flow,
}

/// What becomes of a connection after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    /// It waits for its sockets.
    Waits,
    /// It could go on at once.
    More,
    /// It needs a pipe and there is none.
    Starved,
    /// Both sides have ended it.
    Finished,
    /// One side broke it.
    Broken,
    /// What the job sent does not pass.
    Refused(Reason),
}

impl Connection {
    pub(super) fn new(
        id: u32,
        client: OwnedFd,
        asked: Asked,
        grant: u16,
        gate: Option<Gate>,
    ) -> Self {
        let stage = match gate {
            Some(_) => Stage::Reading,
            None => Stage::Resolving,
        };
        Self {
            id,
            stage,
            client: End::new(client),
            original: asked.address,
            upstream: None,
            dialled: CLIENT,
            dialling: None,
            asked,
            grant,
            deadline: None,
            peer: None,
            up: Flow::through(gate),
            down: Flow::default(),
        }
    }

    /// One that a peer of a published port has begun.
    pub(super) fn inbound(id: u32, client: OwnedFd, peer: Peer) -> Self {
        let asked = Asked {
            name: None,
            address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        Self {
            stage: Stage::Asking,
            peer: Some(peer),
            ..Self::new(id, client, asked, 0, None)
        }
    }

    /// Reads what the client says first; true once something of it may pass.
    ///
    /// # Errors
    /// Why the connection is refused.
    pub(super) fn read(&mut self, decider: &Decider) -> Result<bool, Reason> {
        let Some(gate) = self.up.gate.as_mut() else {
            return Ok(true);
        };
        while self.client.readable && !gate.has_ready() {
            match gate.fill(&mut self.client, decider) {
                Ok(moved) => {
                    if moved? == Moved::End {
                        return Err(Reason::Met(Obstacle::Silent));
                    }
                }
                Err(_) => return Err(Reason::Met(Obstacle::Silent)),
            }
        }
        Ok(gate.has_ready())
    }

    /// Takes in what epoll said of one of its sockets.
    pub(super) fn mark(&mut self, number: u64, flags: EventFlags) {
        let end = match &mut self.dialling {
            _ if number == CLIENT => Some(&mut self.client),
            Some(dialling) => {
                let mut attempts = dialling.attempts.iter_mut();
                let attempt = attempts.find(|attempt| attempt.number == number);
                attempt.map(|attempt| &mut attempt.end)
            }
            None if number == self.dialled => self.upstream.as_mut(),
            // Of an address that another one was faster than.
            None => None,
        };
        let Some(end) = end else { return };
        let ends = EventFlags::HUP | EventFlags::ERR;
        end.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | ends);
        end.last |= flags.intersects(EventFlags::RDHUP | ends);
        end.writable |= flags.intersects(EventFlags::OUT | ends);
        end.broken |= flags.contains(EventFlags::ERR);
        end.ended |= flags.intersects(EventFlags::RDHUP | ends);
    }

    /// Moves what can be moved, both ways.
    pub(super) fn relay(&mut self, pipes: &mut Pipes, decider: &Decider) -> Relayed {
        let Some(upstream) = self.upstream.as_mut() else {
            return Relayed::Broken;
        };
        let client = &mut self.client;
        let up = self.up.turn(client, upstream, pipes, decider);
        let awaited = self.up.awaits_answer();
        if let Err(reason) = self.up.take_answer(upstream, decider) {
            return Relayed::Refused(reason);
        }
        let awaits = self.up.awaits_answer();
        let down = if awaits {
            Ok(Turn::Waits)
        } else {
            self.down.turn(upstream, client, pipes, decider)
        };
        let turns = match up.and_then(|up| Ok([up, down?])) {
            Ok(turns) => turns,
            Err(reason) => return Relayed::Refused(reason),
        };
        let spent = |end: &End, flow: &Flow| {
            end.broken && (flow.done || (flow.is_empty() && !end.readable))
        };
        if spent(client, &self.up) || spent(upstream, &self.down) {
            return Relayed::Broken;
        }
        if self.up.done && self.down.done {
            return Relayed::Finished;
        }
        if turns.contains(&Turn::More) || (awaited && !awaits) {
            Relayed::More
        } else if turns.contains(&Turn::Starved) {
            Relayed::Starved
        } else {
            Relayed::Waits
        }
    }

    /// Whether one side has broken it and the other has yet to take what was sent to it
    /// before: a reset now would discard that, and a host that forwards packets would not.
    pub(super) fn delivers(&mut self, now: Instant) -> bool {
        let until = match self.stage {
            Stage::Relaying => now + DELIVERY,
            Stage::Delivering(until) => until,
            _ => return false,
        };
        let ends = [Some(&self.client), self.upstream.as_ref()];
        let owed = ends
            .into_iter()
            .flatten()
            .any(|end| !end.broken && unacknowledged(&end.socket).is_ok_and(|bytes| bytes > 0));
        if owed && now < until {
            self.stage = Stage::Delivering(until);
            return true;
        }
        false
    }

    /// Bytes that the job sent, and received.
    pub(super) fn moved(&self) -> (u64, u64) {
        match self.peer {
            None => (self.up.moved, self.down.moved),
            Some(_) => (self.down.moved, self.up.moved),
        }
    }

    /// Ends it with a reset on both sides.
    pub(super) fn reset(self) {
        for end in [Some(self.client), self.upstream].into_iter().flatten() {
            reset(&end.socket);
        }
    }
}

/// Makes the close that follows a reset: SO_LINGER with no time, socket(7).
pub(super) fn reset(socket: impl AsFd) {
    let set: Result<(), Errno> = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    // Without it the peer gets an end, or a reset because bytes were not read.
    crate::sys::unheard(set);
}
