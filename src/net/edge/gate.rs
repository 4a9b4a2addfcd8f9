//! [exposed] What a client sends, held until it is read: only what may pass leaves.

use super::flow::End;
use crate::net::grant::{Name, WithoutName};
use crate::net::http::{Http, Step};
use crate::net::record::Reason;
use crate::net::tls::{Hello, Outcome};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Read at once.
const CHUNK: usize = 16 * 1024;

/// Reads one direction of a connection for the name it was made for.
pub(super) struct Gate {
    reader: Reader,
    name: Name,
    port: u16,
    waiting: Vec<u8>,
    ready: usize,
}

enum Reader {
    Tls(Box<Hello>, WithoutName),
    Http(Http),
    /// The hello has passed, and so does all that follows.
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
    pub(super) fn tls(name: Name, port: u16, without: WithoutName) -> Self {
        Self::new(Reader::Tls(Box::default(), without), name, port)
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
        matches!(self.reader, Reader::Open) && self.waiting.is_empty()
    }

    /// Reads what is there once, and decides how much of it may pass.
    ///
    /// # Errors
    /// In the outer result the errno of recv(2), in the inner why the connection
    /// is refused.
    pub(super) fn fill(&mut self, from: &mut End) -> Result<Result<Moved, Reason>, Errno> {
        let mut buffer = [0; CHUNK];
        match recv(&from.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Ok(Moved::End)),
            Ok((_, count)) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                Ok(self.take(bytes).map(|()| Moved::Bytes(count)))
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

    fn take(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.waiting.extend_from_slice(bytes);
        match &mut self.reader {
            Reader::Open => self.ready = self.waiting.len(),
            Reader::Tls(hello, without) => {
                let Some(outcome) = hello.feed(bytes) else {
                    return Ok(());
                };
                may_pass(outcome, &self.name, *without)?;
                self.reader = Reader::Open;
                self.ready = self.waiting.len();
            }
            Reader::Http(http) => loop {
                match http.feed(self.waiting.get(self.ready..).unwrap_or_default()) {
                    Step::NeedMore => return Ok(()),
                    Step::Pass(count) => self.ready += count,
                    Step::Head(head) => {
                        let port = head.host.port.is_none_or(|port| port == self.port);
                        if head.host.name != self.name || !port {
                            return Err(Reason::OtherName);
                        }
                        self.ready += head.length;
                    }
                    Step::Refuse(_) => return Err(Reason::NotProtocol),
                }
            },
        }
        Ok(())
    }
}

fn may_pass(outcome: &Outcome, asked: &Name, without: WithoutName) -> Result<(), Reason> {
    match outcome {
        Outcome::Name { name, .. } if name == asked => Ok(()),
        Outcome::Name { .. } | Outcome::NoName { .. } => match without {
            WithoutName::Allow => Ok(()),
            WithoutName::Refuse => Err(Reason::OtherName),
        },
        Outcome::NotTls | Outcome::Malformed(_) => Err(Reason::NotProtocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn each_request_is_for_the_name() {
        let mut gate = Gate::http(name("a.example"), 80);
        gate.take(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET /2 HT")
            .unwrap();
        assert_eq!((gate.ready, gate.waiting.len()), (35, 44));
        gate.take(b"TP/1.1\r\nHost: A.example:80\r\n\r\n").unwrap();
        assert_eq!(gate.ready, gate.waiting.len());
        let other = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n";
        assert_eq!(gate.take(other), Err(Reason::OtherName));
        let mut gate = Gate::http(name("a.example"), 80);
        let port = b"GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n";
        assert_eq!(gate.take(port), Err(Reason::OtherName));
    }

    #[test]
    fn what_is_no_tls_does_not_pass() {
        let mut gate = Gate::tls(name("a.example"), 443, WithoutName::Allow);
        assert_eq!(gate.take(b"SSH-2.0-x\r\n"), Err(Reason::NotProtocol));
        assert!(!gate.has_ready());
    }
}
