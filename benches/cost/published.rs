//! Requests a second to a published port, against rootlesskit's builtin port driver.

use crate::connections::job;
use crate::host::Host;
use crate::table::{Row, median, paired};
use crate::world::World;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Where the job listens.
const PORT: &str = "8000";
const OURS: u16 = 8080;
const THEIRS: u16 = 8081;
const ROUNDS: usize = 3;
const LOADS: [(&str, &[&str]); 2] = [
    ("keep-alive", &[]),
    ("a connection for each", &["-H", "Connection: close"]),
];
const LIMITS: (&str, &str) = ("≥ 1.0", "≥ 1.5");

pub fn measure(host: &Host) -> Vec<Row> {
    let measured = World::new(host.by_root).map(|world| world.on_host(|| rows(host)));
    measured.unwrap_or_else(|why| {
        vec![Row::not_measured(
            "published port",
            LIMITS.0,
            LIMITS.1,
            &why,
        )]
    })
}

fn rows(host: &Host) -> Vec<Row> {
    let published = format!("{OURS}:{PORT}");
    let mut ours = job(host, &["--publish", &published], &["--serve", PORT]);
    let servers = [
        server(&mut ours, OURS),
        server(&mut rootlesskit(host), THEIRS),
    ];
    let rows = LOADS.map(|(load, flags)| {
        let what = format!(
            "requests a second to a published port, {load}, against rootlesskit's builtin driver"
        );
        match compare(host, &servers, flags) {
            Ok([ours, theirs]) => Row {
                what,
                measured: format!("{:.2}", paired(&ours, &theirs)),
                must: LIMITS.0,
                aim: LIMITS.1,
                from: format!("{:.0}, {:.0}", median(&ours), median(&theirs)),
            },
            Err(why) => Row::not_measured(&what, LIMITS.0, LIMITS.1, &why),
        }
    });
    for server in servers.into_iter().flatten() {
        end(server);
    }
    rows.into()
}

fn compare(
    host: &Host,
    servers: &[Result<Child, String>; 2],
    flags: &[&str],
) -> Result<[Vec<f64>; 2], String> {
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for ((server, port), rates) in servers.iter().zip([OURS, THEIRS]).zip(&mut rates) {
            server.as_ref().map_err(Clone::clone)?;
            rates.push(rate(host, port, flags)?);
        }
    }
    Ok(rates)
}

/// What wrk counts.
fn rate(host: &Host, port: u16, flags: &[&str]) -> Result<f64, String> {
    let mut wrk = host.command("/usr/bin/wrk");
    wrk.args(["-t", "1", "-c", "32", "-d", "2s"]).args(flags);
    let said = host.output(wrk.arg(format!("http://127.0.0.1:{port}/")))?;
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = line.and_then(|rate| rate.trim().parse().ok());
    rate.ok_or_else(|| format!("wrk said {said:?}"))
}

fn rootlesskit(host: &Host) -> Command {
    let mut command = host.command("/usr/bin/rootlesskit");
    command.args([
        "--net=slirp4netns",
        "--port-driver=builtin",
        "--disable-host-loopback",
    ]);
    command.args([
        "--copy-up=/etc",
        "-p",
        &format!("127.0.0.1:{THEIRS}:{PORT}/tcp"),
    ]);
    command.arg(host.program("cost")).args(["--serve", PORT]);
    command
}

/// Starts it and waits until it answers.
fn server(command: &mut Command, port: u16) -> Result<Child, String> {
    let child = command.stdin(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("{command:?}: {error}"))?;
    for _ in 0..200 {
        if answers(port) {
            return Ok(child);
        }
        sleep(Duration::from_millis(50));
    }
    end(child);
    Err(format!(
        "{} does not answer",
        command.get_program().display()
    ))
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut first = [0; 4];
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    asked.is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"HTTP"
}

/// The server ends with its input; what started it ends after it.
fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// In the job: answers every request, until its input ends.
pub fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(&stream.unwrap()));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn answer(mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    let mut last = false;
    while let Some(Ok(line)) = lines.next() {
        last |= line.eq_ignore_ascii_case("connection: close");
        if line.is_empty() {
            let said = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
            if last || said.is_err() {
                return;
            }
        }
    }
}
