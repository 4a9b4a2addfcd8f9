//! [exposed] What a client sends, held until it is read: only what may pass leaves.

use super::flow::End;
use crate::net::decide::{self, Decider};
use crate::net::grant::Name;
use crate::net::http::{Http, Step};
use crate::net::record::Reason;
use crate::net::tls::{self, Hello};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Read at once.
const CHUNK: usize = 16 * 1024;

/// How a server answers that switches to another protocol (RFC 9110 §15.2.2).
const SWITCHES: &[u8; 13] = b"HTTP/1.1 101 ";

/// Reads one direction of a connection for the name it was made for.
pub(super) struct Gate {
    reader: Reader,
    name: Name,
    port: u16,
    waiting: Vec<u8>,
    ready: usize,
}

enum Reader {
    Tls(Box<Hello>),
    /// A hello has passed, and the server may ask for another.
    Greeted,
    Http(Http),
    /// The last hello has passed, and so does all that follows.
    Open,
}

/// What a turn of reading or writing came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// The other side has to do something first.
    Nothing,
    /// The end of the stream.
    End,
}

impl Gate {
    pub(super) fn tls(name: Name, port: u16) -> Self {
        Self::new(Reader::Tls(Box::default()), name, port)
    }

    pub(super) fn http(name: Name, port: u16) -> Self {
        Self::new(Reader::Http(Http::default()), name, port)
    }

    fn new(reader: Reader, name: Name, port: u16) -> Self {
        Self {
            reader,
            name,
            port,
            waiting: Vec::new(),
            ready: 0,
        }
    }

    /// Whether there is something to pass on.
    pub(super) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    /// Whether nothing is held and nothing is read any more.
    pub(super) fn is_spent(&self) -> bool {
        let open = match &self.reader {
            Reader::Open => true,
            Reader::Http(http) => http.has_switched(),
            Reader::Tls(_) | Reader::Greeted => false,
        };
        open && self.waiting.is_empty()
    }

    /// Whether the server has to answer before anything else is read.
    pub(super) fn awaits_answer(&self) -> bool {
        match &self.reader {
            Reader::Greeted => true,
            Reader::Http(http) => http.awaits_answer(),
            Reader::Tls(_) | Reader::Open => false,
        }
    }

    /// Looks at how the server answers, without taking it; nothing while too little is there.
    pub(super) fn take_answer(
        &mut self,
        server: &mut End,
        decider: &Decider,
    ) -> Result<(), Reason> {
        let mut start = [0; tls::ANSWER];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let count = match recv(&server.socket, &mut start[..], flags) {
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => {
                server.readable = false;
                return Ok(());
            }
            // Reading it will tell.
            Err(_) => 0,
        };
        let start = start.get(..count).unwrap_or_default();
        let answer = match &self.reader {
            Reader::Greeted => tls::asks_again(start),
            _ => switches(start),
        };
        if answer.is_none() && count > 0 && !server.ended {
            server.readable = false;
            return Ok(());
        }
        let positive = answer.unwrap_or(false);
        match &mut self.reader {
            Reader::Http(http) => http.answered(positive),
            Reader::Greeted if positive => self.reader = Reader::Tls(Box::new(Hello::second())),
            Reader::Greeted => self.reader = Reader::Open,
            Reader::Tls(_) | Reader::Open => {}
        }
        let held = std::mem::take(&mut self.waiting);
        self.take(&held, decider).map_err(Reason::Decided)
    }

    /// Reads what is there once, and decides how much of it may pass.
    ///
    /// # Errors
    /// In the outer result the errno of recv(2), in the inner why the connection
    /// is refused.
    pub(super) fn fill(
        &mut self,
        from: &mut End,
        decider: &Decider,
    ) -> Result<Result<Moved, Reason>, Errno> {
        let mut buffer = [0; CHUNK];
        match recv(&from.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Ok(Moved::End)),
            Ok((_, count)) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                let taken = self.take(bytes, decider).map_err(Reason::Decided);
                Ok(taken.map(|()| Moved::Bytes(count)))
            }
            Err(Errno::AGAIN) => {
                from.readable = false;
                Ok(Ok(Moved::Nothing))
            }
            Err(Errno::INTR) => Ok(Ok(Moved::Bytes(0))),
            Err(errno) => Err(errno),
        }
    }

    /// Sends of what may pass.
    ///
    /// # Errors
    /// The errno of send(2).
    pub(super) fn drain(&mut self, to: &mut End) -> Result<Moved, Errno> {
        let bytes = self.waiting.get(..self.ready).unwrap_or_default();
        if !to.writable {
            return Ok(Moved::Nothing);
        }
        match send(&to.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => {
                self.waiting.drain(..count);
                self.ready = self.ready.saturating_sub(count);
                Ok(Moved::Bytes(count))
            }
            Err(Errno::AGAIN) => {
                to.writable = false;
                Ok(Moved::Nothing)
            }
            Err(Errno::INTR) => Ok(Moved::Bytes(0)),
            Err(errno) => Err(errno),
        }
    }

    fn take(&mut self, bytes: &[u8], decider: &Decider) -> Result<(), decide::Reason> {
        self.waiting.extend_from_slice(bytes);
        match &mut self.reader {
            Reader::Open => self.ready = self.waiting.len(),
            Reader::Greeted => {}
            Reader::Tls(hello) => {
                let Some(outcome) = hello.feed(bytes) else {
                    return Ok(());
                };
                decider.hello(&self.name, outcome)?;
                if hello.is_second() {
                    self.ready = self.waiting.len();
                    self.reader = Reader::Open;
                } else {
                    // What follows it may be another, before anybody has asked.
                    self.ready = hello.length();
                    self.reader = Reader::Greeted;
                }
            }
            Reader::Http(http) => loop {
                match http.feed(self.waiting.get(self.ready..).unwrap_or_default()) {
                    Step::NeedMore => return Ok(()),
                    Step::Pass(count) => self.ready += count,
                    Step::Head(head) => {
                        decider.request(&self.name, self.port, &head.host)?;
                        self.ready += head.length;
                    }
                    Step::Refuse(_) => return Err(decide::Reason::Request),
                }
            },
        }
        Ok(())
    }
}

/// Whether a server switches to another protocol, by the beginning of its answer; None while
/// that is not certain.
fn switches(start: &[u8]) -> Option<bool> {
    if start.starts_with(SWITCHES) {
        Some(true)
    } else if SWITCHES.starts_with(start) {
        None
    } else {
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::grant::{Limits, Rules, WithoutName};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn decider() -> Decider {
        let rules = Rules {
            grants: Vec::new(),
            open: false,
            tls_without_name: WithoutName::Allow,
            limits: Limits {
                connections: 1,
                new_per_second: 1,
                dns_per_second: 1,
            },
        };
        Decider::new(rules, false)
    }

    #[test]
    fn each_request_is_for_the_name() {
        let decider = decider();
        let mut gate = Gate::http(name("a.example"), 80);
        let mut take = |bytes: &[u8]| {
            let taken = gate.take(bytes, &decider);
            (taken, gate.ready, gate.waiting.len())
        };
        let first = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET /2 HT";
        assert_eq!(take(first), (Ok(()), 35, 44));
        assert_eq!(
            take(b"TP/1.1\r\nHost: A.example:80\r\n\r\n"),
            (Ok(()), 74, 74)
        );
        let other = take(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
        assert_eq!((other.0, other.1), (Err(decide::Reason::RequestHost), 74));
    }

    #[test]
    fn what_is_no_tls_does_not_pass() {
        let mut gate = Gate::tls(name("a.example"), 443);
        let taken = gate.take(b"SSH-2.0-x\r\n", &decider());
        assert_eq!(taken, Err(decide::Reason::NotTls));
        assert!(!gate.has_ready());
    }
}
