//! Memory of sandboxes that do nothing.

use crate::host::Host;
use crate::table::Row;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const AT_A_TIME: usize = 8;

pub fn measure(host: &Host, count: usize) -> Vec<Row> {
    let one = start(host, "bench-idle-0").map(|()| proportional(host, "bench-idle-0"));
    end(host, "bench-idle-0");
    let single = match one.and_then(|sum| sum) {
        Ok(kib) => Row {
            what: "idle supervisor, gateway and init together, proportional set size".into(),
            measured: format!("{:.1} MiB", kib / 1024.0),
            must: "≤ 6 MiB",
            aim: "≤ 3 MiB",
            from: "one sandbox running `sleep`, which is not counted".into(),
        },
        Err(why) => Row::not_measured(
            "idle supervisor, gateway and init together",
            "≤ 6 MiB",
            "≤ 3 MiB",
            &why,
        ),
    };
    vec![single, many(host, count)]
}

/// `count` sandboxes at once.
fn many(host: &Host, count: usize) -> Row {
    let before = available();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let started: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(|| {
                    let numbers = std::iter::from_fn(|| {
                        Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count)
                    });
                    numbers
                        .map(|n| format!("bench-idle-{n}"))
                        .filter(|name| start(host, name).is_ok())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let took = began.elapsed();
    let sum: Result<f64, String> = started.iter().map(|name| proportional(host, name)).sum();
    let taken = (before - available()) / 1024.0;
    for name in &started {
        end(host, name);
    }
    let pss = sum.map_or("proportional sum: needs root".into(), |kib| {
        format!("{:.0} MiB", kib / 1024.0)
    });
    Row {
        what: format!("{count} idle sandboxes at once"),
        measured: format!("{} started; {pss}", started.len()),
        must: "all; ≤ 1 GiB",
        aim: "≤ 500 MiB",
        from: format!(
            "in {:.1} s; the host's available memory fell by {taken:.0} MiB, kernel and jobs included",
            took.as_secs_f64()
        ),
    }
}

fn start(host: &Host, name: &str) -> Result<(), String> {
    host.output(&mut host.cofferdam(&["run", "-d", "--name", name, "--", "sleep", "1000"]))
        .map(drop)
}

fn end(host: &Host, name: &str) {
    if let Err(why) = host.output(&mut host.cofferdam(&["rm", "--force", name])) {
        eprintln!("rm --force {name}: {why}");
    }
}

/// KiB of its three processes. They are not dumpable, so only root may read it.
fn proportional(host: &Host, name: &str) -> Result<f64, String> {
    if !host.by_root {
        return Err("only root may read it: as root, make bench BENCH_ARGS='--as USER'".into());
    }
    let state: Value =
        serde_json::from_str(&host.output(&mut host.cofferdam(&["inspect", name]))?).unwrap();
    let processes = state["processes"].as_object().ok_or("no processes")?;
    processes.values().map(|process| pss(&process["pid"])).sum()
}

/// KiB of a process.
pub fn pss(pid: &Value) -> Result<f64, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .map_err(|error| format!("{pid}: {error}"))?;
    field(&text, "Pss:").ok_or_else(|| format!("{pid}: no Pss"))
}

fn available() -> f64 {
    field(
        &fs::read_to_string("/proc/meminfo").unwrap(),
        "MemAvailable:",
    )
    .unwrap()
}

fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    })
}
