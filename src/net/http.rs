//! [pure] Follows the requests of an HTTP/1 connection: whose each is, and where it ends.
//!
//! ```text
//!           ┌──────────────── no body ─────────────────┐
//! head ──→ Head ──→ length n ──→ Body… ──────────────→ head
//!             ├──→ chunked: size ─→ data ─→ end ─→ size … 0 ─→ last ─→ head
//!             └──→ WebSocket: nothing passes until the server has answered ─→ all, or head
//! ```
//! Only what every server reads alike passes (RFC 9112): bytes are never changed, so what
//! could be read in two ways is refused, and with it all that would turn the connection
//! into something else. Trailers, chunk extensions and folded lines are refused too: no
//! client needs them, and differences between servers hide there (RFC 9112 §11.2).

use super::grant::Name;

/// The most bytes of a request's head.
pub const LONGEST: usize = 32 * 1024;
/// The most digits of a chunk's size: it then fits a u64.
const SIZE_DIGITS: usize = 15;
/// As above, of a length in decimal.
const LENGTH_DIGITS: usize = 18;

/// One connection, between its requests or inside one.
#[derive(Clone, Debug, Default)]
pub struct Http {
    state: State,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a head of which so many bytes were looked at.
    Head(usize),
    /// So many bytes of body.
    Length(u64),
    /// Before the line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// Before the end of a chunk's line.
    End,
    /// Before the line that ends the last chunk.
    Last,
    /// The server has to say whether it switches to WebSocket.
    Switching,
    /// It has: what follows is no HTTP.
    Switched,
    Refused(&'static str),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(0)
    }
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads more, and keeps what did not pass yet.
    NeedMore,
    /// Looks at a whole head, the first `length` bytes; passes them if its host may be reached.
    Head(Head),
    /// Passes the first so many bytes, at least one.
    Pass(usize),
    /// Ends the connection, for this reason; every later step is the same.
    Refuse(&'static str),
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whom the request is for; a target with another host was refused.
    pub host: Host,
    /// Bytes of the head.
    pub length: usize,
    /// What follows it.
    pub body: Body,
    /// Whether it asks to go on in WebSocket (RFC 6455 §4.1).
    pub websocket: bool,
}

/// A host as requests name it: `NAME` or `NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name.
    pub name: Name,
    /// The port, if it was written.
    pub port: Option<u16>,
}

/// How the end of a request is found (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// After the chunk of size 0.
    Chunked,
}

type Refused = &'static str;

impl Http {
    /// Says what to do with the bytes that did not pass yet: `waiting` begins with the first of
    /// them, and holds at least what it held at the last [`Step::NeedMore`]. To be called again
    /// with the rest until it needs more. Whatever part of them is there, the same heads are
    /// found and the same bytes pass.
    pub fn feed(&mut self, waiting: &[u8]) -> Step {
        let (state, step) = match self.next(waiting) {
            Ok(next) => next,
            Err(reason) => (State::Refused(reason), Step::Refuse(reason)),
        };
        if let Step::Head(head) = &step {
            // The first answer is that to the first request: no other is known from outside.
            if head.websocket && self.begun {
                return self.refuse("only the first request may ask for WebSocket");
            }
            self.begun = true;
        }
        self.state = state;
        step
    }

    fn refuse(&mut self, reason: Refused) -> Step {
        self.state = State::Refused(reason);
        Step::Refuse(reason)
    }

    /// Whether the server has to answer before anything else may pass.
    pub fn awaits_answer(&self) -> bool {
        self.state == State::Switching
    }

    /// The server has answered the request that asked for WebSocket: with 101, or not.
    pub fn answered(&mut self, switches: bool) {
        if self.awaits_answer() {
            self.state = if switches {
                State::Switched
            } else {
                State::Head(0)
            };
        }
    }

    /// Whether the connection is HTTP no more, and everything passes.
    pub fn has_switched(&self) -> bool {
        self.state == State::Switched
    }

    /// Whether a request has begun and has not ended; until one ends, no other begins.
    pub fn inside(&self) -> bool {
        !matches!(self.state, State::Head(0) | State::Refused(_))
    }

    fn next(&self, waiting: &[u8]) -> Result<(State, Step), Refused> {
        match self.state {
            State::Head(looked) => head_step(waiting, looked),
            State::Length(left) => Ok(pass(waiting, left, State::Length, State::Head(0))),
            State::Data(left) => Ok(pass(waiting, left, State::Data, State::End)),
            State::End => line_end(waiting, State::End, State::Size),
            State::Last => line_end(waiting, State::Last, State::Head(0)),
            State::Size => size_step(waiting),
            State::Switching => Ok((State::Switching, Step::NeedMore)),
            State::Switched => Ok(match waiting.len() {
                0 => (State::Switched, Step::NeedMore),
                count => (State::Switched, Step::Pass(count)),
            }),
            State::Refused(reason) => Err(reason),
        }
    }
}

/// Passes what is there of `left` bytes.
fn pass(waiting: &[u8], left: u64, inside: fn(u64) -> State, after: State) -> (State, Step) {
    let there = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
    let count = usize::try_from(there.min(left)).unwrap_or(waiting.len());
    let rest = left.saturating_sub(there);
    match (count, rest) {
        (0, _) => (inside(left), Step::NeedMore),
        (_, 0) => (after, Step::Pass(count)),
        _ => (inside(rest), Step::Pass(count)),
    }
}

/// Exactly a line's end, which passes as a whole.
fn line_end(waiting: &[u8], before: State, after: State) -> Result<(State, Step), Refused> {
    match waiting {
        [] | [b'\r'] => Ok((before, Step::NeedMore)),
        [b'\r', b'\n', ..] => Ok((after, Step::Pass(2))),
        _ if before == State::Last => Err("a chunked body has trailers"),
        _ => Err("a chunk is longer than its size"),
    }
}

/// `HEX\r\n`, which passes as a whole.
fn size_step(waiting: &[u8]) -> Result<(State, Step), Refused> {
    const BAD: &str = "the size of a chunk is malformed";
    let digits = waiting
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if digits > SIZE_DIGITS {
        return Err(BAD);
    }
    let (number, rest) = waiting.split_at_checked(digits).ok_or(BAD)?;
    match rest {
        [] => return Ok((State::Size, Step::NeedMore)),
        [b'\r'] if digits > 0 => return Ok((State::Size, Step::NeedMore)),
        [b'\r', b'\n', ..] if digits > 0 => {}
        _ => return Err(BAD),
    }
    let text = str::from_utf8(number).map_err(|_| BAD)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| BAD)?;
    let next = if size == 0 {
        State::Last
    } else {
        State::Data(size)
    };
    Ok((next, Step::Pass(digits.saturating_add(2))))
}

fn head_step(waiting: &[u8], looked: usize) -> Result<(State, Step), Refused> {
    let within = waiting.get(..LONGEST).unwrap_or(waiting);
    let Some(length) = head_length(within, looked)? else {
        if within.len() == LONGEST {
            return Err("the head is longer than 32 KiB");
        }
        return Ok((State::Head(within.len()), Step::NeedMore));
    };
    let (host, body, websocket) = head(within.get(..length).unwrap_or_default())?;
    let next = match body {
        _ if websocket => State::Switching,
        Body::Length(0) => State::Head(0),
        Body::Length(left) => State::Length(left),
        Body::Chunked => State::Size,
    };
    let head = Head {
        host,
        length,
        body,
        websocket,
    };
    Ok((next, Step::Head(head)))
}

/// Where the head ends, behind its empty line. All lines end in CR LF and hold no other control.
fn head_length(bytes: &[u8], looked: usize) -> Result<Option<usize>, Refused> {
    for at in looked..bytes.len() {
        let until = bytes.get(..=at).unwrap_or_default();
        match *until {
            [.., b'\r', b'\n', b'\r', b'\n'] => return Ok(at.checked_add(1)),
            [.., b'\r', b'\n'] | [.., b'\t'] => {}
            [.., b'\n'] => return Err("a line ends without CR"),
            [.., b'\r', _] => return Err("a CR stands inside a line"),
            [.., b'\r'] => {}
            [.., byte] if byte < b' ' || byte == 0x7f => {
                return Err("the head has a control character");
            }
            _ => {}
        }
    }
    Ok(None)
}

/// What the lines of a whole head say together.
fn head(bytes: &[u8]) -> Result<(Host, Body, bool), Refused> {
    let mut lines = Lines(bytes);
    let request = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for line in lines {
        if !line.is_empty() {
            fields.take(line)?;
        }
    }
    let host = host(fields.host.ok_or("the request has no Host")?)?;
    if let Some(authority) = request.authority
        && self::host(authority)? != host
    {
        return Err("the target is on another host than Host says");
    }
    let body = fields.body(request.old)?;
    let websocket = fields.websocket()?;
    if websocket && (request.old || !request.get || body != Body::Length(0)) {
        return Err("only a GET without a body asks for WebSocket");
    }
    Ok((host, body, websocket))
}

/// Lines without their ends. The head was looked at: CR stands only before LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == b'\r')?;
        let (line, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(2..).unwrap_or_default();
        Some(line)
    }
}

struct Request<'a> {
    /// HTTP/1.0, which has no chunks.
    old: bool,
    get: bool,
    /// The host of a target that has one.
    authority: Option<&'a [u8]>,
}

/// `METHOD TARGET HTTP/1.x`, one space between (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<Request<'_>, Refused> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next())
    else {
        return Err("the request line is malformed");
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err("the request line is malformed");
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        b"HTTP/2.0" => return Err("HTTP/2 without TLS is not read"),
        _ => return Err("the version is not HTTP/1"),
    };
    if method.eq_ignore_ascii_case(b"CONNECT") {
        return Err("CONNECT would open a tunnel");
    }
    let authority = authority(method, target)?;
    Ok(Request {
        old,
        get: method == b"GET",
        authority,
    })
}

/// The host in the target's absolute form; none in `/PATH`, or in `*` for OPTIONS.
fn authority<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, Refused> {
    const SCHEME: &[u8] = b"http://";
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let (scheme, rest) = target
        .split_at_checked(SCHEME.len())
        .ok_or("the target is neither a path nor an http URL")?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err("the target is neither a path nor an http URL");
    }
    let end = rest.iter().position(|byte| b"/?#".contains(byte));
    Ok(rest.get(..end.unwrap_or(rest.len())))
}

/// A host and perhaps a port (RFC 9110 §7.2); user names, addresses and a dot at the end are none.
fn host(value: &[u8]) -> Result<Host, Refused> {
    const BAD: &str = "the host of the request is no name";
    let text = str::from_utf8(value).map_err(|_| BAD)?;
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let name = Name::parse(name).map_err(|_| BAD)?;
    let port = match port {
        Some(port) => {
            let digits = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|_| digits);
            Some(port.ok_or("the port of the request is malformed")?)
        }
        None => None,
    };
    Ok(Host { name, port })
}

/// The fields that decide whose a request is and where it ends.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    /// `Connection` names `Upgrade`.
    upgrades: bool,
}

/// Fields that `Connection` may not have taken off on the way (RFC 9110 §7.6.1).
const KEPT: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), Refused> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err("a field is folded over two lines");
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon
            .and_then(|at| line.split_at_checked(at))
            .filter(|(name, _)| is_token(name))
            .ok_or("a field is malformed")?;
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        match name.to_ascii_lowercase().as_slice() {
            b"host" => once(&mut self.host, value, "Host stands there twice"),
            b"content-length" => once(&mut self.length, value, "Content-Length stands there twice"),
            b"transfer-encoding" => once(
                &mut self.coding,
                value,
                "Transfer-Encoding stands there twice",
            ),
            b"upgrade" => once(&mut self.upgrade, value, "Upgrade stands there twice"),
            b"connection" => self.connection(value),
            _ => Ok(()),
        }
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Refused> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if KEPT.iter().any(|name| option.eq_ignore_ascii_case(name)) {
                return Err("Connection names a field that decides about the request");
            }
            self.upgrades |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    /// The only other protocol; h2c would hide every later request.
    fn websocket(&self) -> Result<bool, Refused> {
        match (self.upgrade, self.upgrades) {
            (None, false) => Ok(false),
            (Some(to), true) if to.eq_ignore_ascii_case(b"websocket") => Ok(true),
            _ => Err("the request asks for another protocol"),
        }
    }

    fn body(&self, old: bool) -> Result<Body, Refused> {
        match (self.length, self.coding) {
            (None, None) => Ok(Body::Length(0)),
            (Some(length), None) => content_length(length).map(Body::Length),
            (None, Some(_)) if old => Err("HTTP/1.0 has no Transfer-Encoding"),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            (None, Some(_)) => Err("the Transfer-Encoding is not chunked alone"),
            (Some(_), Some(_)) => Err("the request has Content-Length and Transfer-Encoding"),
        }
    }
}

fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8], twice: Refused) -> Result<(), Refused> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

/// Digits alone: no sign, no list (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, Refused> {
    const BAD: &str = "the Content-Length is malformed";
    let digits =
        !value.is_empty() && value.len() <= LENGTH_DIGITS && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| digits).ok_or(BAD)?;
    text.parse().map_err(|_| BAD)
}

/// A word of RFC 9110 §5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that is found in the bytes: heads by their host, and how many bytes passed.
    fn run(bytes: &[u8], cuts: &[usize]) -> (Vec<String>, usize, Option<&'static str>) {
        let mut http = Http::default();
        let (mut heads, mut passed, mut there) = (Vec::new(), 0, 0);
        let mut cuts = cuts.iter().cycle();
        loop {
            match http.feed(&bytes[passed..there]) {
                Step::NeedMore if there == bytes.len() => return (heads, passed, None),
                Step::NeedMore => there = bytes.len().min(there + cuts.next().unwrap()),
                Step::Head(head) => {
                    heads.push(format!("{} {:?}", head.host.name.as_str(), head.body));
                    passed += head.length;
                }
                Step::Pass(count) => {
                    assert!(count > 0);
                    passed += count;
                }
                Step::Refuse(reason) => {
                    assert_eq!(http.feed(b""), Step::Refuse(reason));
                    return (heads, passed, Some(reason));
                }
            }
            assert!(passed <= there);
        }
    }

    fn refused(text: &str) -> &'static str {
        let (heads, passed, reason) = run(text.as_bytes(), &[usize::MAX / 2]);
        assert_eq!((heads.len(), passed), (0, 0), "{text:?}");
        reason.unwrap_or_else(|| panic!("{text:?} was not refused"))
    }

    const PIPELINE: &str = "GET /a?b HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\n\r\n\
        POST http://b.example:8080/x HTTP/1.1\r\nhost:\tb.example:8080 \r\ncontent-length: 5\r\n\r\nGET /\
        PUT / HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4\r\n\r\n\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\n\
        OPTIONS * HTTP/1.0\r\nHost: d.example\r\nX: \u{e9}\r\n\r\n";

    #[test]
    fn every_request_of_a_connection_is_seen_however_it_is_cut() {
        let heads = [
            "example.com Length(0)",
            "b.example Length(5)",
            "c.example Chunked",
            "d.example Length(0)",
        ];
        for cut in 1..PIPELINE.len() {
            let (found, passed, reason) = run(PIPELINE.as_bytes(), &[cut]);
            assert_eq!((passed, reason), (PIPELINE.len(), None), "{cut}");
            assert_eq!(found, heads, "{cut}");
        }
    }

    #[test]
    fn a_head_tells_host_port_length_and_body() {
        let text = "POST / HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\r\nabcd";
        let mut http = Http::default();
        let name = Name::parse("a.example").unwrap();
        let port = Some(80);
        let head = Head {
            host: Host { name, port },
            length: text.len() - 4,
            body: Body::Length(3),
            websocket: false,
        };
        assert_eq!(http.feed(text.as_bytes()), Step::Head(head));
        assert!(http.inside());
        assert_eq!(http.feed(b"abcd"), Step::Pass(3));
        assert!(!http.inside());
        assert_eq!(http.feed(b"d"), Step::NeedMore);
        assert!(http.inside());
    }

    #[test]
    fn lines_that_are_none() {
        for (text, what) in [
            ("GET / HTTP/1.1\nHost: a.b\n\n", "without CR"),
            (
                "GET / HTTP/1.1\r\nHost: a.b\r\nX: a\rb\r\n\r\n",
                "inside a line",
            ),
            ("GET / HTTP/1.1\r\nHost: a.b\r\r\n", "inside a line"),
            ("GET / HTTP/1.1\r\nHost: a.b\0\r\n\r\n", "control"),
            ("GET / HTTP/1.1\r\nHost: a.b\x7f\r\n\r\n", "control"),
            ("\x16\x03\x01", "control"),
            ("\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n", "request line"),
            ("GET / HTTP/1.1\r\nHost: a.b\r\n c: d\r\n\r\n", "folded"),
            ("GET / HTTP/1.1\r\n Host: a.b\r\n\r\n", "folded"),
            ("GET / HTTP/1.1\r\nHost : a.b\r\n\r\n", "field is malformed"),
            (
                "GET / HTTP/1.1\r\nHost: a.b\r\n: x\r\n\r\n",
                "field is malformed",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.b\r\nx\r\n\r\n",
                "field is malformed",
            ),
        ] {
            assert!(refused(text).contains(what), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn request_lines_that_are_none() {
        for (line, what) in [
            ("GET /", "request line"),
            ("GET  / HTTP/1.1", "request line"),
            ("GET / HTTP/1.1 ", "request line"),
            ("GET\t/ HTTP/1.1", "request line"),
            (" / HTTP/1.1", "request line"),
            ("G(T / HTTP/1.1", "request line"),
            ("GET /\u{e9} HTTP/1.1", "request line"),
            ("GET / HTTP/1.2", "version"),
            ("GET / http/1.1", "version"),
            ("PRI * HTTP/2.0", "HTTP/2"),
            ("CONNECT a.b:443 HTTP/1.1", "tunnel"),
            ("connect a.b:443 HTTP/1.1", "tunnel"),
            ("GET * HTTP/1.1", "neither"),
            ("GET a.b HTTP/1.1", "neither"),
            ("GET https://a.b/ HTTP/1.1", "neither"),
            ("GET http://evil.example/ HTTP/1.1", "another host"),
            ("GET http://a.b:81/ HTTP/1.1", "another host"),
            ("GET http://a.b?@evil.example/ HTTP/1.1", ""),
            ("GET http://x@a.b/ HTTP/1.1", "no name"),
            ("GET http://evil.example\\@a.b/ HTTP/1.1", "no name"),
            ("GET http:// HTTP/1.1", "no name"),
        ] {
            let text = format!("{line}\r\nHost: a.b\r\n\r\n");
            if what.is_empty() {
                assert_eq!(run(text.as_bytes(), &[9]).0, ["a.b Length(0)"], "{line}");
            } else {
                assert!(refused(&text).contains(what), "{line}: {}", refused(&text));
            }
        }
    }

    #[test]
    fn fields_that_two_servers_could_read_differently() {
        for (fields, what) in [
            ("", "no Host"),
            ("Host: a.b\r\nHost: a.b", "twice"),
            ("Host: a.b\r\nhOST: c.d", "twice"),
            ("Host:", "no name"),
            ("Host: a.b.", "no name"),
            ("Host: a_b.c", "no name"),
            ("Host: 10.0.0.1", "no name"),
            ("Host: [::1]", "no name"),
            ("Host: a.b, c.d", "no name"),
            ("Host: a.b c.d", "no name"),
            ("Host: a.b:", "port"),
            ("Host: a.b:80:80", "port"),
            ("Host: a.b:+80", "port"),
            ("Host: a.b:65536", "port"),
            ("Host: a.b:000080", "port"),
            (
                "Host: a.b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
                "and Transfer",
            ),
            (
                "Host: a.b\r\nContent-Length: 1\r\nContent-Length: 1",
                "twice",
            ),
            ("Host: a.b\r\nContent-Length: 1, 1", "Content-Length"),
            ("Host: a.b\r\nContent-Length: +1", "Content-Length"),
            ("Host: a.b\r\nContent-Length: 0x1", "Content-Length"),
            ("Host: a.b\r\nContent-Length:", "Content-Length"),
            (
                "Host: a.b\r\nContent-Length: 1000000000000000000",
                "Content-Length",
            ),
            (
                "Host: a.b\r\nTransfer-Encoding: gzip, chunked",
                "chunked alone",
            ),
            ("Host: a.b\r\nTransfer-Encoding: \x0bchunked", "control"),
            ("Host: a.b\r\nTransfer-Encoding: identity", "chunked alone"),
            (
                "Host: a.b\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x",
                "twice",
            ),
            ("Host: a.b\r\nUpgrade: h2c", "another protocol"),
            (
                "Host: a.b\r\nUpgrade: websocket\r\nConnection: upgrade",
                "GET",
            ),
            ("Host: a.b\r\nConnection: close, Host", "Connection names"),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert!(
                refused(&text).contains(what),
                "{fields}: {}",
                refused(&text)
            );
        }
        let old = "POST / HTTP/1.0\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(refused(old).contains("HTTP/1.0"));
    }

    const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: a.b\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: WebSocket\r\n\r\n";

    #[test]
    fn websocket_begins_when_the_server_says_so() {
        for switches in [true, false] {
            let mut http = Http::default();
            let Step::Head(head) = http.feed(WEBSOCKET.as_bytes()) else {
                panic!()
            };
            assert!(head.websocket && head.length == WEBSOCKET.len());
            let frame = b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
            assert_eq!(http.feed(frame), Step::NeedMore);
            assert!(http.awaits_answer());
            http.answered(switches);
            match http.feed(frame) {
                Step::Pass(count) => assert!(switches && count == frame.len()),
                Step::Head(head) => {
                    assert!(!switches);
                    assert_eq!(head.host.name.as_str(), "evil.example");
                }
                other => panic!("{other:?}"),
            }
            http.answered(true);
            assert_eq!(http.has_switched(), switches, "nothing awaited that answer");
        }
    }

    #[test]
    fn only_a_first_plain_request_asks_for_websocket() {
        let other = "GET / HTTP/1.1\r\nHost: a.b\r\n\r\n";
        let (heads, passed, reason) = run([other, WEBSOCKET].concat().as_bytes(), &[7]);
        assert_eq!((heads.len(), passed), (1, other.len()));
        assert!(reason.unwrap().contains("first"), "{reason:?}");
        for (from, to, what) in [
            ("GET", "POST", "GET"),
            ("HTTP/1.1", "HTTP/1.0", "GET"),
            ("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n", "GET"),
            ("WebSocket", "websocket, h2c", "another protocol"),
            ("WebSocket", "h2c", "another protocol"),
            ("keep-alive, Upgrade", "keep-alive", "another protocol"),
            ("Upgrade: WebSocket", "X: y", "another protocol"),
            ("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n", "twice"),
        ] {
            let text = WEBSOCKET.replacen(from, to, 1);
            assert!(refused(&text).contains(what), "{text}: {}", refused(&text));
        }
    }

    #[test]
    fn chunks_end_where_they_say() {
        const HEAD: &str = "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, passes, what) in [
            ("g\r\n", 0, "size"),
            ("\r\n", 0, "size"),
            ("-1\r\n", 0, "size"),
            ("0x1\r\n", 0, "size"),
            ("1 \r\n", 0, "size"),
            ("1;a=b\r\n", 0, "size"),
            ("1\n", 0, "size"),
            ("1\rx", 0, "size"),
            ("0000000000000001\r\n", 0, "size"),
            ("1\r\nabc", 4, "longer"),
            ("1\r\na\n", 4, "longer"),
            ("0\r\nX: y\r\n\r\n", 3, "trailers"),
        ] {
            for cut in 1..8 {
                let text = [HEAD, body].concat();
                let (heads, passed, reason) = run(text.as_bytes(), &[cut]);
                assert_eq!((heads.len(), passed - HEAD.len()), (1, passes), "{body:?}");
                assert!(reason.unwrap().contains(what), "{body:?}: {reason:?}");
            }
        }
    }

    #[test]
    fn a_head_has_an_end() {
        let start = "GET / HTTP/1.1\r\nHost: a.b\r\nX: ";
        let fill = |count: usize| format!("{start}{}\r\n\r\n", "x".repeat(count));
        let most = LONGEST - start.len() - 4;
        for cut in [1, 1000, usize::MAX / 2] {
            assert_eq!(run(fill(most).as_bytes(), &[cut]).1, LONGEST);
            let (_, passed, reason) = run(fill(most + 1).as_bytes(), &[cut]);
            assert_eq!(passed, 0);
            assert!(reason.unwrap().contains("32 KiB"));
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            cuts in prop::collection::vec(1..60_usize, 1..30),
            at in 0..PIPELINE.len(), to in prop::sample::select(&b"\r\n\0 :;0x"[..]),
        ) {
            let mut bytes = PIPELINE.as_bytes().to_vec();
            bytes[at] = to;
            prop_assert_eq!(run(&bytes, &cuts), run(&bytes, &[bytes.len()]));
        }
    }
}
