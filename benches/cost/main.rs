//! What a sandbox costs, as ratios measured in one run: `make bench`.
//!
//! Everything compared is run in turn, A B A B …, so that a slow moment of the
//! host meets both; each figure is the median over the pairs. Nothing is
//! written outside one temporary directory. Nothing here passes or fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark: it prints, and stops where something is not as it must be"
)]

mod build;
mod bundle;
mod calls;
mod connections;
mod cycles;
mod host;
mod idle;
mod published;
mod start;
mod table;
mod throughput;
mod world;

use host::{Cgroups, Host};
use std::path::PathBuf;
use table::Row;

const USAGE: &str = "usage: cost --programs DIR [--as USER] [--cgroup none|systemd|DIR] [--rounds N] [--cycles N] [--idle N] [--transfers N] [--files N] [--only start|build|calls|idle|cycles|throughput|connect|published|open]
  --programs  directory of the optimised cofferdam and cofferdam-init
  --as        by root only: measure as this ordinary user, and read what only root can
  --cgroup    limits by scopes of the user manager, or below a delegated directory (none)
  --rounds    pairs per comparison of starts (60)
  --files     C files of the real build (200)
  --idle      idle sandboxes at once (200)
  --cycles    starts and stops, 8 at a time (1000)
  --transfers of each kind by each contestant, 2 s each (5)
  --only      one part";

/// As typed.
struct Options {
    programs: PathBuf,
    account: Option<String>,
    cgroup: String,
    rounds: usize,
    files: usize,
    idle: usize,
    cycles: usize,
    transfers: usize,
    only: Option<String>,
}

fn main() {
    if inner() {
        return;
    }
    let options = parse(std::env::args().skip(1));
    let host = Host::new(
        &options.programs,
        options.account.as_deref(),
        Cgroups::named(&options.cgroup),
    );
    println!("{}\n", host.describe());
    type Part = (&'static str, fn(&Host, &Options) -> Vec<Row>);
    let parts: [Part; 9] = [
        ("start", |host, options| {
            start::measure(host, options.rounds)
        }),
        ("build", |host, options| build::measure(host, options.files)),
        ("calls", |host, _| calls::measure(host)),
        ("idle", |host, options| idle::measure(host, options.idle)),
        ("cycles", |host, options| {
            cycles::measure(host, options.cycles)
        }),
        ("throughput", |host, options| {
            throughput::measure(host, options.transfers)
        }),
        ("connect", |host, _| connections::first_byte(host)),
        ("published", |host, _| published::measure(host)),
        ("open", |host, _| connections::memory(host)),
    ];
    println!("{}", table::HEAD);
    for (name, measure) in parts {
        if options.only.as_deref().is_none_or(|only| only == name) {
            for row in measure(&host, &options) {
                println!("{row}");
            }
        }
    }
}

/// What this program does where it is the measured job; false where it measures.
fn inner() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--inner"] => calls::inner(),
        ["--connect", address, count] => connections::connect(address, count.parse().unwrap()),
        ["--hold", address, count] => connections::hold(address, count.parse().unwrap()),
        ["--serve", port] => published::serve(port.parse().unwrap()),
        _ => return false,
    }
    true
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        programs: PathBuf::new(),
        account: None,
        cgroup: "none".into(),
        rounds: 60,
        files: 200,
        idle: 200,
        cycles: 1000,
        transfers: 5,
        only: None,
    };
    while let Some(flag) = arguments.next() {
        // cargo bench adds this one to whatever was typed.
        if flag == "--bench" {
            continue;
        }
        let value = arguments.next().unwrap_or_else(|| panic!("{USAGE}"));
        let number = || {
            value
                .parse()
                .unwrap_or_else(|_| panic!("{flag} {value}\n{USAGE}"))
        };
        match flag.as_str() {
            "--programs" => options.programs = value.into(),
            "--as" => options.account = Some(value),
            "--cgroup" => options.cgroup = value,
            "--rounds" => options.rounds = number(),
            "--files" => options.files = number(),
            "--idle" => options.idle = number(),
            "--cycles" => options.cycles = number(),
            "--transfers" => options.transfers = number(),
            "--only" => options.only = Some(value),
            _ => panic!("{flag}\n{USAGE}"),
        }
    }
    options
}
