//! Controls that are code and no step of a Plan: with each forgotten its
//! probes succeed, with it they do not.
//!
//! `careless launch` makes the same start in small, with the product's own
//! functions, and can leave one out; the product itself cannot. All starts, here
//! and in `modes`, are by a caller that leaks what these controls are for.

use crate::catalogue::{Removal, Row, rows};
use crate::site::{Preset, Site, Who};
use crate::support::probe::{Answer, answers};
use crate::support::skip;
use cofferdam::sandbox::plan::{Op, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

fn of(control: &'static str) -> Vec<Row> {
    let mut rows = rows();
    rows.retain(|row| row.removal == [Removal::Forget(control)]);
    rows
}

fn names(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().map(|row| row.name.to_owned())
}

impl Site {
    fn save(&self, plan: &Plan) -> String {
        let file = self.directory.0.join("plan.json");
        std::fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
        file.display().to_string()
    }

    /// `careless launch OPTION…` with the probe program and these rows.
    fn launched(&self, options: &[&str], rows: &[Row]) -> Vec<String> {
        let careless = self.bin("examples/careless").display().to_string();
        let start = [careless, "launch".to_owned()].into_iter();
        let options = options.iter().map(|&option| option.to_owned());
        let probe = self.probe_outside().into_iter().chain(["run".to_owned()]);
        start
            .chain(options)
            .chain(probe)
            .chain(names(rows))
            .collect()
    }

    /// These words as the user, with a controlling terminal outside that is on no descriptor.
    fn in_terminal(&self, words: &[String]) -> BTreeMap<String, Answer> {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!("exec {} </dev/null 2>/dev/null | cat", words.join(" "));
        let mut command = self.account.command("/usr/bin/script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        answers(&output.stdout)
    }

    fn words(&self, command: &Command) -> Vec<String> {
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect()
    }

    /// What the rows of a control see under `careless launch`.
    fn careless(&self, control: &'static str, options: &[&str]) -> BTreeMap<String, Answer> {
        let rows = of(control);
        let launched = self.launched(options, &rows);
        if control == "session" {
            return self.in_terminal(&launched);
        }
        let mut command = self.command(Who::User, launched[0].as_ref());
        self.answers(command.args(&launched[1..]))
    }
}

fn unexpected(rows: &[Row], found: &BTreeMap<String, Answer>) -> Vec<String> {
    let as_expected = |row: &&Row| {
        found.get(row.name).is_some_and(|answer| {
            row.untrusted
                .holds(&answer.outcome, answer.errno.as_deref())
        })
    };
    rows.iter()
        .filter(|row| !as_expected(row))
        .map(|row| format!("{}: {:?}", row.name, found.get(row.name)))
        .collect()
}

#[test]
fn every_probe_succeeds_when_its_control_is_forgotten() {
    let site = Site::new("code");
    let filter = site.save(&site.plan(Preset::Untrusted, &site.probe()));
    let controls: BTreeSet<&'static str> = rows()
        .iter()
        .filter_map(|row| match row.removal {
            [Removal::Forget(control)] => Some(*control),
            _ => None,
        })
        .collect();
    let mut failures = Vec::new();
    // What its rows need besides; the start that `getcwd` refuses has a test of its own.
    for control in controls.iter().filter(|control| **control != "getcwd") {
        let options: &[&str] = match *control {
            "foreign" => &["--filter", &filter],
            _ => &[],
        };
        let rows = of(control);
        let green = site.careless(control, options);
        failures.extend(
            unexpected(&rows, &green)
                .into_iter()
                .map(|line| format!("with {control}: {line}")),
        );
        let red = site.careless(control, &[options, &["--without", control]].concat());
        let stopped = red.values().filter(|answer| answer.outcome != "allowed");
        failures.extend(stopped.map(|answer| format!("without {control}: {answer:?}")));
        assert_eq!((green.len(), red.len()), (rows.len(), rows.len()));
    }
    eprintln!("controls in code: {controls:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_directory_outside_the_root_is_no_working_directory() {
    let site = Site::new("getcwd");
    let rows = of("getcwd");
    let root = site.directory.0.join("root");
    std::fs::create_dir(&root).unwrap();
    crate::support::install(site.probe_outside()[0].as_ref(), &root.join("probe"));
    let start = |without: &[&str]| {
        let mut command = site.command(Who::User, &site.bin("examples/careless"));
        command.args(["launch", "--root"]).arg(&root).args(without);
        command.args(["/probe", "run"]).args(names(&rows));
        site.output(&mut command)
    };
    let forgotten = answers(&start(&["--without", "getcwd"]).stdout);
    assert!(
        forgotten.values().all(|answer| answer.outcome == "allowed"),
        "{forgotten:?}"
    );
    assert_eq!(forgotten.len(), rows.len());
    let checked = start(&[]);
    assert!(
        !checked.status.success() && checked.stdout.is_empty(),
        "{checked:?}"
    );

    // The product: its standard input is a directory of the host.
    let mut plan = site.plan(Preset::Untrusted, &site.probe());
    // Those need what only the supervisor makes.
    let held = |op: &Op| matches!(op, Op::Pin { .. } | Op::Placeholder { .. });
    plan.steps.retain(|step| !held(&step.op));
    plan.exec.directory = "/proc/self/fd/0".to_owned();
    let mut command = site.command(Who::User, &site.bin("examples/run_plan"));
    command.arg(site.save(&plan));
    let outside = File::open(&site.planted.outside).unwrap();
    let output = command.stdin(outside).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(said.contains("/proc/self/fd/0"), "{said}");
    assert_eq!(output.status.code(), Some(125), "{said}");
}

#[test]
fn a_terminal_of_the_caller_is_not_inside() {
    let site = Site::new("terminal");
    let rows = of("session");
    let mut command = site.sandbox(Who::User, Preset::Untrusted, "run");
    command
        .arg("--")
        .args(site.probe())
        .arg("run")
        .args(names(&rows));
    let found = site.in_terminal(&site.words(&command));
    assert_eq!(unexpected(&rows, &found), Vec::<String>::new());
}

#[test]
fn shared_mounts_of_the_caller_are_private_inside() {
    if !rustix::process::getuid().is_root() {
        return skip("shared mounts", "arranging them needs root");
    }
    let site = Site::new("shared");
    let rows = of("propagation");
    let mut run = site.sandbox(Who::User, Preset::Untrusted, "run");
    run.arg("--")
        .args(site.probe())
        .arg("run")
        .args(names(&rows));
    let mut command = site.command(Who::Root, "/usr/bin/unshare".as_ref());
    command.args([
        "--mount",
        "--propagation",
        "shared",
        "--",
        "setpriv",
        "--clear-groups",
    ]);
    let account = &site.account;
    command.args([
        format!("--reuid={}", account.uid),
        format!("--regid={}", account.gid),
    ]);
    command.env("HOME", &account.home);
    command.env("XDG_RUNTIME_DIR", account.runtime_dir());
    let found = site.answers(command.args(site.words(&run)));
    assert_eq!(unexpected(&rows, &found), Vec::<String>::new());
}

/// Whether the first process of a namespace outlives its launcher, which is killed.
fn outlives(site: &Site, options: &[&str]) -> bool {
    let mut command = site.command(Who::User, &site.bin("examples/careless"));
    command
        .arg("launch")
        .args(options)
        .args(["/bin/sleep", "300"]);
    let mut launcher = command.stdin(Stdio::null()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", launcher.id());
    // The first process and the command below it.
    let below = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let until = |done: &dyn Fn() -> Option<i32>| {
        (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            done()
        })
    };
    let first = until(&|| {
        let first = std::fs::read_to_string(&children).ok()?.trim().to_owned();
        (!below(&first).ok()?.is_empty()).then(|| first.parse().unwrap())
    });
    let first = rustix::process::Pid::from_raw(first.unwrap()).unwrap();
    let first = rustix::process::pidfd_open(first, rustix::process::PidfdFlags::empty()).unwrap();
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let mut ended = [rustix::event::PollFd::new(
        &first,
        rustix::event::PollFlags::IN,
    )];
    let patience = rustix::time::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let gone = rustix::event::poll(&mut ended, Some(&patience)).unwrap() == 1;
    if !gone {
        rustix::process::pidfd_send_signal(&first, rustix::process::Signal::KILL).unwrap();
    }
    !gone
}

/// What the launch tests show of the product, in every state, needs this.
#[test]
fn a_first_process_outlives_its_launcher_only_when_that_is_forgotten() {
    let site = Site::new("outlives");
    assert!(outlives(&site, &["--without", "end"]));
    assert!(!outlives(&site, &[]));
}
