//! [exposed] Bytes from one socket to another through a pipe, which is borrowed only while they move.

use super::gate::{Gate, Moved};
use crate::net::decide::Decider;
use crate::net::record::Reason;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::rc::Rc;

/// Asked for at once; a pipe holds less.
const MOST: usize = 1 << 20;
/// Size of a large pipe in bytes: each call moves as much, and wakes both sides once.
const LARGE: usize = 1 << 19;
/// Large pipes at once. They count against a limit of the user (pipe(7),
/// pipe-user-pages-soft), beyond which pipes of all its programs are small.
const LARGE_MOST: usize = 8;
/// So few bytes are copied: a pipe would cost more.
const FEW: usize = 4096;
/// Moved for one connection before others get their turn.
const TURN: usize = 1 << 20;
/// Empty pipes that are kept.
const KEPT: usize = 2;

/// A socket of a connection, and what epoll said of it last.
pub(super) struct End {
    pub socket: OwnedFd,
    pub readable: bool,
    pub writable: bool,
    /// Nothing comes after what is there; for that no event will tell of it again.
    pub last: bool,
    /// The kernel reported an error; reading tells which, after the bytes before it.
    pub broken: bool,
    /// The peer sends nothing after what is there.
    pub ended: bool,
}

impl End {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            readable: false,
            writable: false,
            last: false,
            broken: false,
            ended: false,
        }
    }

    /// Nothing more can be read of it.
    pub(super) fn fail(&mut self) {
        self.broken = true;
        self.readable = false;
    }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// What a large one counts as, for as long as it is open.
    _large: Option<Rc<()>>,
}

/// Pipes that nobody uses now, all of them empty.
#[derive(Default)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    /// Held by each large pipe, wherever it is.
    large: Rc<()>,
}

impl Pipes {
    fn borrow(&mut self) -> Result<Pipe, Errno> {
        if let Some(pipe) = self.free.pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Beyond the user's limit it stays as it is, and works.
        let large = Rc::strong_count(&self.large) <= LARGE_MOST
            && fcntl_setpipe_size(&write, LARGE).is_ok();
        Ok(Pipe {
            read,
            write,
            _large: large.then(|| Rc::clone(&self.large)),
        })
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.free.len() < KEPT {
            self.free.push(pipe);
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Flow {
    /// Reads what passes, as long as something has to be read.
    pub gate: Option<Box<Gate>>,
    pipe: Option<Pipe>,
    /// Of a few bytes, those that the other side did not take at once.
    rest: Vec<u8>,
    /// Bytes in the pipe or in `rest`; the other has none then.
    held: usize,
    /// The last reading filled the room for few bytes: a pipe moves the next.
    many: bool,
    ended: bool,
    /// Bytes that reached the other side.
    pub moved: u64,
    /// The end was passed on: nothing more comes.
    pub done: bool,
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more can move until epoll says so.
    Waits,
    /// The turn is over, and more could move.
    More,
    /// There is no pipe to be had.
    Starved,
}

impl Flow {
    /// One that begins at a gate.
    pub(super) fn through(gate: Option<Gate>) -> Self {
        Self {
            gate: gate.map(Box::new),
            ..Self::default()
        }
    }

    /// Moves bytes until one side has to wait or the turn is over.
    ///
    /// A side whose socket fails is marked as broken, and what it cannot take is let go.
    ///
    /// # Errors
    /// Why what was read does not pass.
    pub(super) fn turn(
        &mut self,
        from: &mut End,
        to: &mut End,
        pipes: &mut Pipes,
        decider: &Decider,
    ) -> Result<Turn, Reason> {
        if let Some(turn) = self.checked(from, to, decider)? {
            return Ok(turn);
        }
        let turn = self.spliced(from, to, pipes);
        if self.held == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipes.give_back(pipe);
        }
        Ok(turn)
    }

    fn spliced(&mut self, from: &mut End, to: &mut End, pipes: &mut Pipes) -> Turn {
        let mut left = TURN;
        loop {
            if self.done {
                return Turn::Waits;
            }
            if self.held > 0 {
                match self.drain(to) {
                    Ok(true) => {}
                    Ok(false) => return Turn::Waits,
                    Err(_) => self.cut(to),
                }
            } else if self.ended {
                self.pass_on_end(from, to);
            } else if !from.readable {
                return Turn::Waits;
            } else if left == 0 {
                return Turn::More;
            } else {
                let moved = if self.many || !to.writable {
                    self.fill(from, pipes)
                } else {
                    self.copy(from, to)
                };
                match moved {
                    Ok(count) => left = left.saturating_sub(count),
                    Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Turn::Starved,
                    Err(_) => from.fail(),
                }
            }
        }
    }

    /// Moves what the gate lets pass; None when there is nothing more to read.
    fn checked(
        &mut self,
        from: &mut End,
        to: &mut End,
        decider: &Decider,
    ) -> Result<Option<Turn>, Reason> {
        let mut left = TURN;
        while let Some(gate) = self.gate.as_mut() {
            if gate.is_spent() {
                self.gate = None;
            } else if gate.has_ready() {
                match gate.drain(to) {
                    Ok(Moved::Bytes(count)) => self.moved = self.moved.saturating_add(count as u64),
                    Ok(_) => return Ok(Some(Turn::Waits)),
                    Err(_) => self.cut(to),
                }
            } else if self.ended {
                // Half a request is none.
                self.gate = None;
            } else if gate.awaits_answer() {
                if from.broken {
                    // Nobody is left for whom the answer would be.
                    from.fail();
                }
                return Ok(Some(Turn::Waits));
            } else if !from.readable {
                return Ok(Some(Turn::Waits));
            } else if left == 0 {
                return Ok(Some(Turn::More));
            } else {
                match gate.fill(from, decider) {
                    Ok(moved) => match moved? {
                        Moved::Bytes(count) => left = left.saturating_sub(count),
                        Moved::Nothing => {}
                        Moved::End => self.ended = true,
                    },
                    Err(_) => from.fail(),
                }
            }
        }
        Ok(None)
    }

    /// Whether what comes back has to be looked at first.
    pub(super) fn awaits_answer(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| gate.awaits_answer() && !gate.has_ready())
    }

    /// Looks at what comes back, where the gate waits for it.
    ///
    /// # Errors
    /// Why what was held for it does not pass.
    pub(super) fn take_answer(
        &mut self,
        server: &mut End,
        decider: &Decider,
    ) -> Result<(), Reason> {
        match self.gate.as_mut() {
            Some(gate) if gate.awaits_answer() && !gate.has_ready() && server.readable => {
                gate.take_answer(server, decider)
            }
            _ => Ok(()),
        }
    }

    /// The other side takes nothing any more: what is held for it is lost.
    fn cut(&mut self, to: &mut End) {
        to.broken = true;
        self.gate = None;
        self.pipe = None;
        self.rest = Vec::new();
        self.held = 0;
        self.done = true;
    }

    /// What ends because its side broke is no end that could be passed on.
    fn pass_on_end(&mut self, from: &End, to: &mut End) {
        self.done = true;
        if from.broken {
            return;
        }
        match rustix::net::shutdown(&to.socket, Shutdown::Write) {
            // A peer that has reset meanwhile needs no end.
            Ok(()) | Err(Errno::NOTCONN) => {}
            Err(_) => to.broken = true,
        }
    }

    /// Whether nothing of it waits for the other side.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0 && self.gate.as_ref().is_none_or(|gate| !gate.has_ready())
    }

    /// Reads a few bytes and hands over what the other side takes of them.
    fn copy(&mut self, from: &mut End, to: &mut End) -> Result<usize, Errno> {
        let mut few = [0; FEW];
        match recv(&from.socket, &mut few, RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.ended = true;
                Ok(0)
            }
            Ok((count, _)) => {
                self.many = count == FEW;
                // Fewer than there was room for were all: epoll(7). More will be an event.
                from.readable = self.many || from.last;
                self.put(to, &few[..count]);
                Ok(count)
            }
            Err(Errno::AGAIN) => {
                from.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    fn put(&mut self, to: &mut End, bytes: &[u8]) {
        match send(&to.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => {
                self.moved = self.moved.saturating_add(count as u64);
                self.rest.extend(bytes.get(count..).unwrap_or_default());
            }
            Err(Errno::AGAIN) => {
                to.writable = false;
                self.rest.extend(bytes);
            }
            Err(Errno::INTR) => self.rest.extend(bytes),
            Err(_) => return self.cut(to),
        }
        self.held = self.rest.len();
    }

    fn fill(&mut self, from: &mut End, pipes: &mut Pipes) -> Result<usize, Errno> {
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => pipes.borrow()?,
        };
        let pipe = self.pipe.insert(pipe);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&from.socket, None, &pipe.write, None, MOST, flags) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                self.held = count;
                self.many = count > FEW;
                Ok(count)
            }
            // The pipe is empty: it is the socket that has nothing.
            Err(Errno::AGAIN) => {
                from.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// False when the other side takes no more now.
    fn drain(&mut self, to: &mut End) -> Result<bool, Errno> {
        if !to.writable {
            return Ok(false);
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.put(to, &rest);
            return Ok(to.writable);
        }
        let Some(pipe) = self.pipe.as_ref() else {
            return Ok(false);
        };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&pipe.read, None, &to.socket, None, self.held, flags) {
            Ok(0) => Err(Errno::IO),
            Ok(count) => {
                self.held = self.held.saturating_sub(count);
                self.moved = self.moved.saturating_add(count as u64);
                Ok(true)
            }
            Err(Errno::AGAIN) => {
                to.writable = false;
                Ok(false)
            }
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::grant::{Limits, Rules, WithoutName};
    use rustix::event::{PollFd, PollFlags, poll};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn decider() -> Decider {
        let rules = Rules {
            grants: Vec::new(),
            open: false,
            tls_without_name: WithoutName::Refuse,
            limits: Limits {
                connections: 0,
                new_per_second: 0,
                dns_per_second: 0,
            },
        };
        Decider::new(rules, false)
    }

    fn pair() -> (TcpStream, End) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut end = End::new(near.into());
        end.writable = true;
        (far, end)
    }

    #[test]
    fn bytes_and_the_end_arrive_and_the_pipe_comes_back() {
        let (mut sender, mut from) = pair();
        let (mut receiver, mut to) = pair();
        let (mut pipes, mut flow, decider) = (Pipes::default(), Flow::default(), decider());
        let many = [b'x'; 3 * FEW];
        sender.write_all(&many).unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        while !flow.done {
            from.readable = true;
            flow.turn(&mut from, &mut to, &mut pipes, &decider).unwrap();
        }
        let mut arrived = Vec::new();
        receiver.read_to_end(&mut arrived).unwrap();
        assert!(arrived == many && flow.moved == arrived.len() as u64);
        assert_eq!(pipes.free.len(), 1);
        // The other direction is still open.
        receiver.write_all(b"x").unwrap();
    }

    #[test]
    fn who_cannot_write_keeps_the_pipe_and_stops_reading() {
        let (mut sender, mut from) = pair();
        let (_receiver, mut to) = pair();
        let (mut pipes, mut flow, decider) = (Pipes::default(), Flow::default(), decider());
        sender.write_all(b"bytes").unwrap();
        (from.readable, to.writable) = (true, false);
        while flow.is_empty() {
            from.readable = true;
            assert_eq!(
                flow.turn(&mut from, &mut to, &mut pipes, &decider).unwrap(),
                Turn::Waits
            );
        }
        assert_eq!((flow.moved, pipes.free.len()), (0, 0));
    }

    #[test]
    fn an_end_that_was_announced_is_found_behind_the_last_bytes() {
        let (mut sender, mut from) = pair();
        let (mut receiver, mut to) = pair();
        let (mut pipes, mut flow, decider) = (Pipes::default(), Flow::default(), decider());
        sender.write_all(b"bytes").unwrap();
        sender.shutdown(std::net::Shutdown::Write).unwrap();
        let end = PollFd::new(&from.socket, PollFlags::RDHUP);
        poll(&mut [end], None).unwrap();
        (from.readable, from.last) = (true, true);
        flow.turn(&mut from, &mut to, &mut pipes, &decider).unwrap();
        assert!(flow.done);
        let mut text = String::new();
        receiver.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bytes");
    }

    #[test]
    fn few_bytes_that_the_other_side_does_not_take_are_kept_and_come_in_order() {
        let (mut sender, mut from) = pair();
        let (mut receiver, mut to) = pair();
        let (mut pipes, mut flow, decider) = (Pipes::default(), Flow::default(), decider());
        let mut sent = Vec::new();
        while flow.rest.is_empty() {
            let piece = [sent.len().to_le_bytes()[0]; FEW - 1];
            sender.write_all(&piece).unwrap();
            sent.extend(piece);
            let before = flow.moved;
            while flow.moved == before && flow.rest.is_empty() {
                from.readable = true;
                flow.turn(&mut from, &mut to, &mut pipes, &decider).unwrap();
            }
        }
        assert!(!to.writable && !flow.is_empty());
        let mut arrived = vec![0; sent.len()];
        let reader = std::thread::spawn(move || {
            receiver.read_exact(&mut arrived).unwrap();
            arrived
        });
        while !flow.is_empty() {
            to.writable = true;
            flow.turn(&mut from, &mut to, &mut pipes, &decider).unwrap();
        }
        assert!(reader.join().unwrap() == sent);
    }

    #[test]
    fn few_pipes_are_large_and_the_end_of_one_makes_room() {
        let mut pipes = Pipes::default();
        let mut held: Vec<Pipe> = (0..=LARGE_MOST).map(|_| pipes.borrow().unwrap()).collect();
        let large = |held: &[Pipe]| held.iter().filter(|pipe| pipe._large.is_some()).count();
        assert!(large(&held) <= LARGE_MOST);
        let before = Rc::strong_count(&pipes.large);
        assert_eq!(before, large(&held) + 1);
        held.clear();
        assert_eq!(Rc::strong_count(&pipes.large), 1);
    }
}
