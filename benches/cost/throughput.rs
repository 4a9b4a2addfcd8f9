//! Bytes a second through the relay, against other ways out of a network namespace.

use crate::host::Host;
use crate::table::{Row, median, paired};
use crate::world::{SERVER, World};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const PORT: &str = "5201";
/// pasta drops what it cannot pass on; less in flight keeps it from that.
const TUNED: &str = "echo 4096 16384 262144 >/proc/sys/net/ipv4/tcp_wmem && exec \"$@\"";
/// What iperf3 is told, and what that measures.
const LOADS: [(&str, &[&str]); 4] = [
    ("upload, 1 stream", &[]),
    ("upload, 8 streams", &["-P", "8"]),
    ("download, 1 stream", &["-R"]),
    ("download, 8 streams", &["-R", "-P", "8"]),
];
/// What the relay is compared with, the limits, and the names of both.
const OTHERS: [(&str, &str, &str); 4] = [
    ("pasta with its defaults", "≥ 1.0", "≥ 1.5"),
    ("pasta, tcp_wmem 256 KiB", "≥ 0.8", "≥ 1.0"),
    ("slirp4netns", "≥ 2.5", "≥ 4"),
    ("a plain veth pair", "≥ 0.6", "≥ 0.8"),
];

pub fn measure(host: &Host, rounds: usize) -> Vec<Row> {
    let measured = World::new(host.by_root).and_then(|world| {
        let server = world.far(|| daemon(Command::new("iperf3").args(["-s", "-p", PORT])))?;
        let rows = world.on_host(|| rows(host, rounds));
        end(server);
        rows
    });
    measured.unwrap_or_else(|why| vec![Row::not_measured("TCP throughput", "–", "–", &why)])
}

fn rows(host: &Host, rounds: usize) -> Result<Vec<Row>, String> {
    let mut all = Vec::new();
    let slirp = Slirp::start(host);
    for (load, flags) in LOADS {
        let mut rates: [Vec<f64>; 5] = Default::default();
        let mut errors: [Option<String>; 5] = Default::default();
        for _ in 0..rounds {
            for (which, (rates, error)) in rates.iter_mut().zip(&mut errors).enumerate() {
                if error.is_some() {
                    continue;
                }
                match contestant(host, which, &slirp).and_then(|mut it| rate(&mut it, flags)) {
                    Ok(rate) => rates.push(rate),
                    Err(why) => *error = Some(why),
                }
            }
        }
        for (which, (other, must, aim)) in OTHERS.into_iter().enumerate() {
            let what = format!("TCP {load}, against {other}");
            let failed = errors[0].as_ref().or(errors[which + 1].as_ref());
            all.push(match failed {
                Some(why) => Row::not_measured(&what, must, aim, why),
                None => row(what, &rates[0], &rates[which + 1], must, aim),
            });
        }
    }
    if let Ok(slirp) = slirp {
        slirp.end();
    }
    Ok(all)
}

fn row(what: String, ours: &[f64], theirs: &[f64], must: &'static str, aim: &'static str) -> Row {
    let best = theirs.iter().copied().fold(0.0, f64::max);
    Row {
        what,
        measured: format!("{:.2}", paired(ours, theirs)),
        must,
        aim,
        from: format!(
            "{:.1} and {:.1} Gbit/s; at best {best:.1}, against which {:.2}",
            median(ours),
            median(theirs),
            median(ours) / best
        ),
    }
}

/// The relay, then [`OTHERS`]: a command that runs what is added to it.
fn contestant(host: &Host, which: usize, slirp: &Result<Slirp, String>) -> Result<Command, String> {
    let grant = format!("{SERVER}/32:{PORT}");
    Ok(match which {
        0 => host.cofferdam(&["run", "-p", "ci", "--allow", &grant, "--", "iperf3"]),
        1 | 2 => {
            let mut pasta = host.command("/usr/bin/pasta");
            pasta.args(["--config-net", "--"]);
            if which == 2 {
                pasta.args(["sh", "-c", TUNED, "sh"]);
            }
            pasta.arg("iperf3");
            pasta
        }
        3 => slirp.as_ref().map_err(Clone::clone)?.command(host),
        _ => host.command("/usr/bin/iperf3"),
    })
}

/// Gbit/s that arrived.
fn rate(command: &mut Command, flags: &[&str]) -> Result<f64, String> {
    command.args(["-c", &SERVER.to_string(), "-p", PORT, "-J", "-t", "2"]);
    let output = command
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = output.output().map_err(|error| error.to_string())?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.map(|rate| rate / 1e9)
        .ok_or_else(|| said["error"].to_string())
}

/// A namespace whose only way out is slirp4netns.
struct Slirp {
    keeper: Child,
    slirp: Child,
}

impl Slirp {
    fn start(host: &Host) -> Result<Self, String> {
        let mut keeper = host.command("/usr/bin/unshare");
        keeper.args(["--user", "--map-root-user", "--net", "sleep", "1000"]);
        let keeper = daemon(&mut keeper)?;
        let mut slirp = host.command("/usr/bin/slirp4netns");
        slirp.args([
            "--configure",
            "--mtu=65520",
            &keeper.id().to_string(),
            "tap0",
        ]);
        let slirp = Self {
            keeper,
            slirp: daemon(&mut slirp)?,
        };
        // Its address is its last step; there is nothing to poll(2) for.
        for _ in 0..100 {
            let mut address = slirp.enter(host, "/usr/sbin/ip");
            let said = host.output(address.args(["-4", "addr", "show", "dev", "tap0"]));
            if said.is_ok_and(|said| said.contains("inet ")) {
                return Ok(slirp);
            }
            sleep(Duration::from_millis(50));
        }
        slirp.end();
        Err("slirp4netns configures no device".into())
    }

    fn enter(&self, host: &Host, program: &str) -> Command {
        let mut command = host.command("/usr/bin/nsenter");
        command.args(["--preserve-credentials", "--user", "--net"]);
        command.args(["--target", &self.keeper.id().to_string(), program]);
        command
    }

    fn command(&self, host: &Host) -> Command {
        self.enter(host, "/usr/bin/iperf3")
    }

    fn end(self) {
        end(self.slirp);
        end(self.keeper);
    }
}

fn daemon(command: &mut Command) -> Result<Child, String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
