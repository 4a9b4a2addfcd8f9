//! What connections through the relay cost: the wait for the first byte, and memory while they are open.

use crate::host::Host;
use crate::idle::pss;
use crate::table::{Row, median};
use crate::world::{SERVER, World};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const PORT: u16 = 7000;
/// Rounds of [`EACH`] connections one after the other, host and relay in turn.
const ROUNDS: usize = 10;
const EACH: usize = 200;
/// Connections at once.
const OPEN: usize = 8000;
/// A policy whose limits are out of the way.
const POLICY: &str = "schema = 1\nname = \"bench-network\"\nextends = \"ci\"\n\
    [network.limits]\nconnections = 16384\nnew_per_second = 65535\n";
/// The most a connection may add to the host's own, in µs.
const ADDED: (&str, &str) = ("≤ 300 µs", "≤ 100 µs");
const MEMORY: (&str, &str) = ("≤ 120 MiB", "≤ 60 MiB");

/// Connect and first byte.
pub fn first_byte(host: &Host) -> Vec<Row> {
    let what = "connect and first byte through the relay, added to the host's own";
    let measured = with_server(host, || {
        let (mut ours, mut hosts) = (Vec::new(), Vec::new());
        let count = EACH.to_string();
        for _ in 0..ROUNDS {
            let mut outside = host.command(host.program("cost"));
            outside.args(["--connect", &address(), &count]);
            hosts.push(number(host, &mut outside)?);
            ours.push(number(
                host,
                &mut job(host, &[], &["--connect", &address(), &count]),
            )?);
        }
        Ok((median(&ours), median(&hosts)))
    });
    vec![match measured {
        Ok((ours, hosts)) => Row {
            what: what.into(),
            measured: format!("{:.0} µs", ours - hosts),
            must: ADDED.0,
            aim: ADDED.1,
            from: format!(
                "{ours:.0} µs, {hosts:.0} µs without a sandbox; one byte there and one back"
            ),
        },
        Err(why) => Row::not_measured(what, ADDED.0, ADDED.1, &why),
    }]
}

/// Many open connections.
pub fn memory(host: &Host) -> Vec<Row> {
    let what = format!("memory of the edge at {OPEN} open connections, proportional set size");
    let measured = with_server(host, || {
        let mut job = job(host, &[], &["--hold", &address(), &OPEN.to_string()]);
        let mut job = job
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = job.stdout.as_mut().ok_or("no output")?;
        BufReader::new(said)
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let memory = if line.trim() == "open" {
            edge(&job).and_then(|edge| pss(&edge.into()))
        } else {
            Err(format!(
                "the job said {line:?}: it needs 2 descriptors for each connection"
            ))
        };
        drop(job.stdin.take());
        job.wait().map_err(|error| error.to_string())?;
        memory
    });
    vec![match measured {
        Ok(kib) => Row {
            what,
            measured: format!("{:.1} MiB", kib / 1024.0),
            must: MEMORY.0,
            aim: MEMORY.1,
            from: "a byte went each way on every one of them".into(),
        },
        Err(why) => Row::not_measured(&what, MEMORY.0, MEMORY.1, &why),
    }]
}

fn address() -> String {
    format!("{SERVER}:{PORT}")
}

/// `cost` in a sandbox that may reach the server.
pub fn job(host: &Host, options: &[&str], arguments: &[&str]) -> Command {
    let policy = host.write("network.toml", POLICY);
    let program = format!("{}=/cost", host.program("cost").display());
    let grant = format!("{SERVER}/32:{PORT}");
    let mut command = host.cofferdam(&["run", "--policy"]);
    command
        .arg(policy)
        .args(options)
        .args(["--allow", &grant, "--mount", &program]);
    command.args(["--", "/cost"]).args(arguments);
    command
}

fn number(host: &Host, command: &mut Command) -> Result<f64, String> {
    let said = host.output(command)?;
    said.trim()
        .parse()
        .map_err(|_| format!("{command:?} said {said:?}"))
}

fn with_server<T: Send>(
    host: &Host,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    let world = World::new(host.by_root)?;
    raise_descriptors();
    let listener = world.far(|| TcpListener::bind((SERVER, PORT)).unwrap());
    std::thread::scope(|scope| {
        // Ends with its listener, which is shut down below.
        scope.spawn(|| echo(&listener));
        let result = world.on_host(work);
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        result
    })
}

/// One byte back for the first of each connection, which stays open until its peer ends.
fn echo(listener: &TcpListener) {
    let mut open = Vec::new();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
        open.push(stream);
        if open.len() > OPEN {
            open.clear();
        }
    }
}

/// The edge below a supervisor, by its name.
fn edge(supervisor: &Child) -> Result<u32, String> {
    let id = supervisor.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.map_err(|error| error.to_string())?;
    let is_edge = |pid: &&str| {
        let name = fs::read_to_string(Path::new("/proc").join(pid).join("comm"));
        name.is_ok_and(|name| name.trim() == "cofferdam-edge")
    };
    let found = children.split_whitespace().find(is_edge);
    let pid = found.and_then(|pid| pid.parse().ok());
    pid.ok_or_else(|| "the sandbox has no edge".into())
}

/// In the job: the median of `count` connections one after the other, in µs.
pub fn connect(address: &str, count: usize) {
    let once = || {
        let start = Instant::now();
        drop(greeted(address));
        start.elapsed().as_secs_f64() * 1e6
    };
    let times: Vec<f64> = (0..count).map(|_| once()).collect();
    println!("{}", median(&times));
}

/// In the job: says `open` once `count` connections are, and holds them until its input ends.
pub fn hold(address: &str, count: usize) {
    raise_descriptors();
    let open: Vec<TcpStream> = (0..count).map(|_| greeted(address)).collect();
    println!("open");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(open);
}

/// As many as it may have.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn greeted(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}
