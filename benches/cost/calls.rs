//! Single system calls inside against outside, and the share of each control.
//!
//! Inside and outside run the same static program on the same files. A share is
//! the Plan run once more with the control left out.

use crate::host::Host;
use crate::table::{Row, median, paired};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 15;
const NAMES: [&str; 4] = ["getpid", "stat", "open+close at depth 3", "fork+exec"];
const MUST: [&str; 4] = ["≤ 1.25", "≤ 1.10", "≤ 1.45", "≤ 1.10"];
/// Three directories deep, from the workspace.
const FILE: &str = "a/b/c/file";
/// Refusals that are recorded need a supervisor, which `run_plan` is not.
const QUIET: &str =
    "schema = 1\nname = \"quiet\"\nextends = \"untrusted\"\n[syscalls]\non_denied = \"errno\"\n";

type Times = [f64; 4];

pub fn measure(host: &Host) -> Vec<Row> {
    let tree = host.make("tree", 0o755);
    fs::create_dir_all(tree.join(FILE).parent().unwrap()).unwrap();
    File::create(tree.join(FILE)).unwrap();
    host.write("quiet.toml", QUIET);
    let program = host.program("cost");
    let mount = format!("{}=/cost", program.display());
    let workspace = tree.to_string_lossy();
    let read_only = format!("{workspace}:ro");
    let sandbox = |workspace| ["-w", workspace, "--mount", &mount, "--", "/cost", "--inner"];

    let outside = || {
        let mut command = host.command(&program);
        command.arg("--inner").current_dir(&tree);
        times(host, &mut command)
    };
    let inside = |workspace| {
        let sandbox = sandbox(workspace);
        times(
            host,
            &mut host.cofferdam(&[&["run"], &sandbox[..]].concat()),
        )
    };
    // Without placeholders, which a supervisor makes.
    let plans = plans(host, &sandbox(&read_only));
    let without = |plan: &Path| {
        let mut command = host.command(host.program("examples/run_plan"));
        times(host, command.stdin(File::open(plan).unwrap()))
    };
    let mut measured: Vec<Vec<Times>> = vec![Vec::new(); 6];
    for _ in 0..ROUNDS {
        let mut round = vec![outside(), inside(&workspace), inside(&read_only)];
        round.extend(plans.iter().flatten().map(|plan| without(plan)));
        for (times, all) in round.into_iter().zip(&mut measured) {
            match times {
                Ok(times) => all.push(times),
                Err(why) => return vec![Row::not_measured("single system calls", "–", "–", &why)],
            }
        }
    }
    (0..NAMES.len()).map(|call| row(call, &measured)).collect()
}

fn row(call: usize, measured: &[Vec<Times>]) -> Row {
    let column = |which: usize| {
        measured[which]
            .iter()
            .map(|times| times[call])
            .collect::<Vec<_>>()
    };
    let (outside, inside) = (column(0), column(1));
    let read_only = paired(&column(2), &outside);
    let share = |name: &str, which: usize| {
        let share = (median(&column(3)) - median(&column(which))) / median(&outside);
        format!("; {name} {:+.0} %", share * 100.0)
    };
    let shares = if measured[3].is_empty() {
        "; shares: by an ordinary user only".into()
    } else {
        share("seccomp", 4) + &share("Landlock", 5)
    };
    Row {
        what: format!("{} inside against outside", NAMES[call]),
        measured: format!("{:.2}", paired(&inside, &outside)),
        must: MUST[call],
        aim: "–",
        from: format!(
            "{:.2} µs, {:.2} µs; in a read-only workspace {read_only:.2}{shares}",
            median(&inside),
            median(&outside)
        ),
    }
}

/// Files of the whole Plan, without system-call rules, without Landlock.
/// A Plan of root's needs the launcher.
fn plans(host: &Host, sandbox: &[&str]) -> Option<[std::path::PathBuf; 3]> {
    if host.as_root() {
        return None;
    }
    let arguments = [&["plan", "-p", "./quiet.toml"], sandbox].concat();
    let text = host.output(&mut host.cofferdam(&arguments)).unwrap();
    let plan: Value = serde_json::from_str(&text).unwrap();
    let write = |name: &str, plan: &Value| host.write(name, &plan.to_string());
    let mut open = plan.clone();
    let mut free = plan.clone();
    for step in open["steps"].as_array_mut().unwrap() {
        if let Some(seccomp) = step["op"].get_mut("seccomp") {
            seccomp["filter"]["groups"] = json!([]);
            seccomp["filter"]["conditional"] = json!([]);
            seccomp["filter"]["unlisted"] = json!("allow");
        }
    }
    free["steps"]
        .as_array_mut()
        .unwrap()
        .retain(|step| step["op"].get("landlock").is_none());
    Some([
        write("plan.json", &plan),
        write("open.json", &open),
        write("free.json", &free),
    ])
}

fn times(host: &Host, command: &mut Command) -> Result<Times, String> {
    let text = host.output(command)?;
    let times: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    times
        .try_into()
        .map_err(|_| format!("{command:?} printed {text}"))
}

/// Runs inside and outside: four times in microseconds per call.
pub fn inner() {
    let getpid = each(300_000, || {
        black_box(rustix::process::getpid());
    });
    let stat = each(50_000, || {
        black_box(rustix::fs::stat(FILE).unwrap());
    });
    let open = each(30_000, || drop(File::open(FILE).unwrap()));
    let spawn = each(60, || {
        let status = Command::new("/bin/true")
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    });
    println!("{getpid} {stat} {open} {spawn}");
}

/// Microseconds per call, the best of three rows: interruptions only add.
fn each(count: u32, call: impl Fn()) -> f64 {
    let row = || {
        let start = Instant::now();
        for _ in 0..count {
            call();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    };
    [row(), row(), row()]
        .into_iter()
        .fold(f64::INFINITY, f64::min)
}
