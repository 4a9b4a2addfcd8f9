//! [host] Asks systemd's user manager for a scope, which is a cgroup delegated to us.
//!
//! An ordinary user may not move a process from the login session's cgroup into another one;
//! systemd may (org.freedesktop.systemd1(5), StartTransientUnit). The limits are not systemd's:
//! they are written below the scope, like in any delegated directory, so that there is one way.

use super::dbus::{self, Call, Kind, Malformed, Message, Reader, Writer};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the bus or systemd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages of others (signals, mostly) are read past before giving up.
const NOISE: usize = 1000;

const BUS: &str = "org.freedesktop.DBus";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Why there is no scope.
#[derive(Debug)]
pub enum BusError {
    /// The bus cannot be reached.
    Connect {
        /// Its socket.
        bus: String,
        /// Why.
        cause: io::Error,
    },
    /// Reading from or writing to the bus failed.
    Talk {
        /// During which call.
        member: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The bus did not accept our uid.
    Authenticate {
        /// Its socket.
        bus: String,
    },
    /// Bytes that are no D-Bus message, or one larger than we accept.
    Malformed {
        /// During which call.
        member: &'static str,
    },
    /// A call was answered with an error.
    Refused {
        /// Which call.
        member: &'static str,
        /// The error's name and text.
        why: String,
    },
    /// The job that makes the scope did not end well.
    Job {
        /// The unit.
        unit: String,
        /// systemd's word: `failed`, `timeout`, `canceled` …
        result: String,
    },
    /// The scope was made, but the process is not in it.
    Place {
        /// The unit.
        unit: String,
        /// Where the process is.
        found: String,
    },
    /// No process was named, and a scope needs one.
    NoProcess,
}

impl fmt::Display for BusError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { bus, .. } => write!(out, "cannot connect to the user bus {bus}"),
            Self::Talk { member, .. } => write!(out, "no answer to {member} from the user bus"),
            Self::Authenticate { bus } => write!(out, "the user bus {bus} does not accept us"),
            Self::Malformed { member } => {
                write!(
                    out,
                    "the answer to {member} from the user bus is no D-Bus message"
                )
            }
            Self::Refused { member, why } => write!(out, "{member} was refused: {why}"),
            Self::Job { unit, result } => write!(out, "starting {unit} ended with {result:?}"),
            Self::Place { unit, found } => {
                write!(
                    out,
                    "{unit} was started, but our process is in the cgroup {found:?}"
                )
            }
            Self::NoProcess => write!(out, "a scope needs a process to hold it"),
        }
    }
}

impl std::error::Error for BusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { cause, .. } | Self::Talk { cause, .. } => Some(cause),
            Self::Authenticate { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::Job { .. }
            | Self::Place { .. }
            | Self::NoProcess => None,
        }
    }
}

/// Makes the scope `unit` with these processes in it and gives its directory. It goes by itself
/// when its last process ends.
pub fn scope(bus: &str, unit: &str, pids: &[u32]) -> Result<String, BusError> {
    let &first = pids.first().ok_or(BusError::NoProcess)?;
    let mut connection = Connection::open(bus)?;
    connection.call(bus_call("AddMatch"), "s", &one_string(JOB_REMOVED))?;
    // Without a subscriber systemd sends no signals.
    connection.call(manager_call("Subscribe"), "", &[])?;
    let reply = connection.call(
        manager_call("StartTransientUnit"),
        SCOPE,
        &scope_body(unit, pids),
    )?;
    let malformed = |_: Malformed| BusError::Malformed {
        member: "StartTransientUnit",
    };
    let job = Reader::new(&reply.body)
        .string()
        .map_err(malformed)?
        .to_owned();
    match connection.job_result(&job)?.as_str() {
        "done" => directory(unit, first),
        result => Err(BusError::Job {
            unit: unit.into(),
            result: result.into(),
        }),
    }
}

const JOB_REMOVED: &str = "type='signal',sender='org.freedesktop.systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved',\
    path='/org/freedesktop/systemd1'";

/// Name, mode, properties, auxiliary units.
const SCOPE: &str = "ssa(sv)a(sa(sv))";

/// A method of the bus itself.
fn bus_call(member: &'static str) -> (Call<'static>, &'static str) {
    let call = Call {
        destination: BUS,
        path: "/org/freedesktop/DBus",
        interface: BUS,
        member,
    };
    (call, member)
}

/// A method of systemd's manager.
fn manager_call(member: &'static str) -> (Call<'static>, &'static str) {
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: MANAGER,
        member,
    };
    (call, member)
}

fn one_string(value: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(value);
    body.into_bytes()
}

fn scope_body(unit: &str, pids: &[u32]) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(unit);
    body.string("fail");
    body.array(8, |properties| {
        property(properties, "Description", "s", |value| {
            value.string("Cofferdam sandbox")
        });
        property(properties, "Delegate", "b", |value| value.boolean(true));
        // A scope whose job was killed for memory must not stay behind as failed.
        property(properties, "CollectMode", "s", |value| {
            value.string("inactive-or-failed")
        });
        property(properties, "PIDs", "au", |value| {
            value.array(4, |numbers| {
                pids.iter().for_each(|&pid| numbers.uint32(pid))
            });
        });
    });
    body.array(8, |_| {});
    body.into_bytes()
}

fn property(to: &mut Writer, name: &str, signature: &str, value: impl FnOnce(&mut Writer)) {
    to.align(8);
    to.string(name);
    to.signature(signature);
    value(to);
}

/// The scope's directory: where its process is now.
fn directory(unit: &str, pid: u32) -> Result<String, BusError> {
    let member = "StartTransientUnit";
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|cause| BusError::Talk { member, cause })?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    if path.starts_with('/') && path.ends_with(&format!("/{unit}")) && !path.contains("/../") {
        Ok(format!("/sys/fs/cgroup{path}"))
    } else {
        Err(BusError::Place {
            unit: unit.into(),
            found: path.into(),
        })
    }
}

/// An authenticated connection to a message bus.
struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while a reply was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects, proves our uid by the socket's credentials (SASL EXTERNAL), says Hello.
    fn open(bus: &str) -> Result<Self, BusError> {
        let failed = |cause| BusError::Connect {
            bus: bus.into(),
            cause,
        };
        let mut stream = UnixStream::connect(bus).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let uid = rustix::process::geteuid().as_raw();
        stream.write_all(external(uid).as_bytes()).map_err(failed)?;
        if !read_line(&mut stream).map_err(failed)?.starts_with("OK ") {
            return Err(BusError::Authenticate { bus: bus.into() });
        }
        stream.write_all(b"BEGIN\r\n").map_err(failed)?;
        let mut connection = Self {
            stream,
            serial: 0,
            signals: Vec::new(),
        };
        connection.call(bus_call("Hello"), "", &[])?;
        Ok(connection)
    }

    /// Sends a call and waits for its reply.
    fn call(
        &mut self,
        (call, member): (Call<'_>, &'static str),
        signature: &str,
        body: &[u8],
    ) -> Result<Message, BusError> {
        self.serial += 1;
        let bytes = dbus::call(self.serial, call, signature, body)
            .map_err(|Malformed| BusError::Malformed { member })?;
        self.stream
            .write_all(&bytes)
            .map_err(|cause| BusError::Talk { member, cause })?;
        for _ in 0..NOISE {
            let message = self.receive(member)?;
            match message.kind {
                Kind::Reply if message.reply_serial == Some(self.serial) => return Ok(message),
                Kind::Error if message.reply_serial == Some(self.serial) => {
                    return Err(refused(member, &message));
                }
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
        Err(BusError::Malformed { member })
    }

    /// Waits for the end of a systemd job, which may have been announced already.
    fn job_result(&mut self, job: &str) -> Result<String, BusError> {
        let mut early = std::mem::take(&mut self.signals).into_iter();
        for _ in 0..NOISE {
            let message = match early.next() {
                Some(message) => message,
                None => self.receive("JobRemoved")?,
            };
            if let Some((path, result)) = job_removed(&message)
                && path == job
            {
                return Ok(result.to_owned());
            }
        }
        Err(BusError::Malformed {
            member: "JobRemoved",
        })
    }

    /// One message, its length checked before it is read.
    fn receive(&mut self, member: &'static str) -> Result<Message, BusError> {
        let talk = |cause| BusError::Talk { member, cause };
        let malformed = |_: Malformed| BusError::Malformed { member };
        let mut fixed = [0_u8; dbus::FIXED];
        self.stream.read_exact(&mut fixed).map_err(talk)?;
        let mut bytes = vec![0_u8; dbus::length(&fixed).map_err(malformed)?];
        let (head, rest) = bytes.split_at_mut(dbus::FIXED);
        head.copy_from_slice(&fixed);
        self.stream.read_exact(rest).map_err(talk)?;
        dbus::parse(&bytes).map_err(malformed)
    }
}

/// The uid in decimal, its digits in hexadecimal.
fn external(uid: u32) -> String {
    let hex: String = uid
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    format!("\0AUTH EXTERNAL {hex}\r\n")
}

/// One short line, read byte by byte because messages follow it.
fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0_u8; 1];
    while line.len() < 512 {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte[0]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn refused(member: &'static str, message: &Message) -> BusError {
    let name = message.error_name.as_deref().unwrap_or("unnamed error");
    let text = match message.signature.starts_with('s') {
        true => Reader::new(&message.body).string().unwrap_or_default(),
        false => "",
    };
    BusError::Refused {
        member,
        why: format!("{name}: {text}"),
    }
}

/// (job, result) of a JobRemoved signal: number, job, unit, result.
fn job_removed(message: &Message) -> Option<(&str, &str)> {
    let named = message.kind == Kind::Signal
        && message.interface.as_deref() == Some(MANAGER)
        && message.member.as_deref() == Some("JobRemoved")
        && message.signature == "uoss";
    let mut body = named.then(|| Reader::new(&message.body))?;
    body.uint32().ok()?;
    let job = body.string().ok()?;
    body.string().ok()?;
    Some((job, body.string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    #[test]
    fn the_scope_request_as_on_the_wire() {
        let golden = b"\x07\0\0\0a.scope\0\x04\0\0\0fail\0\0\0\0\
            \x94\0\0\0\0\0\0\0\
            \x0b\0\0\0Description\0\x01s\0\0\x11\0\0\0Cofferdam sandbox\0\0\0\0\0\0\0\
            \x08\0\0\0Delegate\0\x01b\0\x01\0\0\0\0\0\0\0\
            \x0b\0\0\0CollectMode\0\x01s\0\0\x12\0\0\0inactive-or-failed\0\0\0\0\0\0\
            \x04\0\0\0PIDs\0\x02au\0\0\0\0\x08\0\0\0\x07\0\0\0\x08\0\0\0\
            \0\0\0\0";
        let body = scope_body("a.scope", &[7, 8]);
        assert_eq!(
            body.escape_ascii().to_string(),
            golden.escape_ascii().to_string()
        );
    }

    #[test]
    fn external_is_the_uid_in_hex_digits() {
        assert_eq!(external(1000), "\0AUTH EXTERNAL 31303030\r\n");
    }

    /// A path for a socket, short enough for one.
    fn socket(name: &str) -> String {
        format!(
            "{}/cofferdam-{name}-{}",
            std::env::temp_dir().display(),
            std::process::id()
        )
    }

    /// A message as a bus sends it: `fields` is (code, signature, value).
    fn message(
        kind: u8,
        fields: &[(u8, &str, &str)],
        reply_to: Option<u32>,
        body: &[u8],
    ) -> Vec<u8> {
        let mut header = Writer::default();
        for byte in [b'l', kind, 0, 1] {
            header.byte(byte);
        }
        header.uint32(u32::try_from(body.len()).unwrap());
        header.uint32(77);
        header.array(8, |to| {
            for (code, signature, value) in fields {
                to.align(8);
                to.byte(*code);
                to.signature(signature);
                if *signature == "g" {
                    to.signature(value)
                } else {
                    to.string(value)
                }
            }
            if let Some(serial) = reply_to {
                to.align(8);
                to.byte(5);
                to.signature("u");
                to.uint32(serial);
            }
        });
        header.align(8);
        [header.into_bytes(), body.to_vec()].concat()
    }

    fn removed(job: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.uint32(1);
        for text in [job, "a.scope", result] {
            body.string(text);
        }
        let fields = [(2, "s", MANAGER), (3, "s", "JobRemoved"), (8, "g", "uoss")];
        message(4, &fields, None, &body.into_bytes())
    }

    fn receive(stream: &mut UnixStream) -> Message {
        let mut fixed = [0_u8; dbus::FIXED];
        stream.read_exact(&mut fixed).unwrap();
        let mut bytes = vec![0_u8; dbus::length(&fixed).unwrap()];
        bytes[..dbus::FIXED].copy_from_slice(&fixed);
        stream.read_exact(&mut bytes[dbus::FIXED..]).unwrap();
        dbus::parse(&bytes).unwrap()
    }

    /// A bus and systemd in one, for one client: announces another job and ours, with `result`,
    /// before it answers StartTransientUnit. Gives the methods it was called with.
    fn fake(path: &str, result: &'static str) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            assert!(
                read_line(&mut stream)
                    .unwrap()
                    .starts_with("\0AUTH EXTERNAL ")
            );
            stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
            assert_eq!(read_line(&mut stream).unwrap(), "BEGIN\r");
            let mut members = Vec::new();
            for serial in 1..=4 {
                let call = receive(&mut stream);
                members.push(call.member.unwrap());
                if serial == 4 {
                    stream.write_all(&removed("/job/other", "failed")).unwrap();
                    stream.write_all(&removed("/job/1", result)).unwrap();
                }
                let reply = message(2, &[(8, "g", "o")], Some(serial), &one_string("/job/1"));
                stream.write_all(&reply).unwrap();
            }
            members
        })
    }

    #[test]
    fn the_order_of_calls_and_an_early_announcement() {
        let path = socket("fake-bus");
        let server = fake(&path, "done");
        let error = scope(&path, "a.scope", &[std::process::id()]).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        let members = server.join().unwrap();
        assert_eq!(
            members,
            ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]
        );
        assert!(
            matches!(error, BusError::Place { .. }),
            "the fake moves nobody: {error:?}"
        );
    }

    #[test]
    fn a_job_that_fails_is_named() {
        let path = socket("failing-bus");
        let server = fake(&path, "failed");
        let error = scope(&path, "a.scope", &[std::process::id()]).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        server.join().unwrap();
        assert_eq!(error.to_string(), "starting a.scope ended with \"failed\"");
    }

    #[test]
    fn a_scope_without_a_process_is_not_asked_for() {
        assert!(matches!(
            scope("/not/there", "a.scope", &[]),
            Err(BusError::NoProcess)
        ));
        assert!(matches!(
            scope("/not/there", "a.scope", &[1]),
            Err(BusError::Connect { .. })
        ));
    }

    /// dbus-daemon on a socket of its own, `None` where it is not installed.
    fn daemon(path: &str) -> Option<Child> {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .arg(format!("--address=unix:path={path}"))
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        // It prints its address when it listens.
        daemon
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut [0_u8; 5])
            .unwrap();
        Some(daemon)
    }

    #[test]
    fn a_real_bus_understands_us() {
        let path = socket("real-bus");
        let Some(mut daemon) = daemon(&path) else {
            eprintln!("SKIP a user bus: dbus-daemon is not installed");
            return;
        };
        let matched = Connection::open(&path)
            .and_then(|mut bus| bus.call(bus_call("AddMatch"), "s", &one_string(JOB_REMOVED)));
        let refused = scope(&path, "a.scope", &[std::process::id()]);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(matched.unwrap().kind, Kind::Reply);
        // There is no systemd on this bus, and it says so.
        match refused.unwrap_err() {
            BusError::Refused {
                member: "Subscribe",
                why,
            } => {
                assert!(why.contains("org.freedesktop.systemd1"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}
