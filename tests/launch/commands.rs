//! exec, ps, inspect, logs, stop, kill, rm, prune, and names.

use crate::site::{LIMIT, Site, code, complaints, finish, signal, start, stdout, text, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Instant;

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

#[test]
fn detach_prints_the_name_and_the_job_goes_on() {
    let site = Site::new("detach");
    let output = site.run(&["run", "-d", "--", "sleep", "1000"]);
    let name = stdout(&output);
    assert!(name.starts_with("job-") && !name.contains('\n'), "{name}");
    let rows = json(&site.run(&["ps", "--json"]));
    assert_eq!(rows[0]["name"], *name, "{rows}");
    assert_eq!(rows[0]["status"], "running");
    assert_eq!(rows[0]["detached"], true);
    site.remove(&name);
    assert_eq!(json(&site.run(&["ps", "--json"])), Value::Array(vec![]));
}

#[test]
fn a_detached_job_holds_no_descriptor_of_its_caller() {
    let site = Site::new("detach-descriptors");
    let before = Instant::now();
    // A pipe that stayed open in the supervisor would keep this waiting.
    let output = site.run(&["run", "-d", "--name", "box", "--", "sleep", "1000"]);
    assert_eq!(stdout(&output), "box");
    assert!(before.elapsed() < LIMIT);
    let [supervisor, ..] = site.processes("box").unwrap();
    let mut targets = Vec::new();
    for fd in 0..3 {
        let target = fs::read_link(format!("/proc/{supervisor}/fd/{fd}"));
        targets.extend(target.map(|target| target.display().to_string()));
    }
    // An ordinary tester may not read them: the supervisor is undumpable.
    assert!(
        targets.iter().all(|target| target == "/dev/null"),
        "{targets:?}"
    );
    site.remove("box");
}

#[test]
fn exec_gives_code_environment_directory_and_streams() {
    let site = Site::new("exec");
    site.detach("box", &["-e", "FROM_RUN=1"], "echo here > file; sleep 1000");
    until("the file", || {
        site.run(&["exec", "box", "--", "test", "-e", "file"])
            .status
            .success()
            .then_some(())
    });
    let script = "echo $FROM_RUN $FROM_EXEC; pwd; cat file; echo err >&2; exit 33";
    let output = site.run(&["exec", "-e", "FROM_EXEC=2", "box", "--", "sh", "-c", script]);
    assert_eq!(code(&output), 33, "{}", text(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1 2\n/workspace\nhere\n"
    );
    assert_eq!(complaints(&output), "err");
    let output = site.run(&["exec", "--workdir", "/tmp", "box", "--", "pwd"]);
    assert_eq!(stdout(&output), "/tmp");
    let output = site.run(&["exec", "box", "--", "no-such-program"]);
    assert_eq!(code(&output), 127, "{}", text(&output));
    let output = site.run(&["exec", "box", "--", "/etc/passwd"]);
    assert_eq!(code(&output), 126, "{}", text(&output));
    let output = site.run(&["exec", "--workdir", "/nowhere", "box", "--", "true"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    let output = site.run(&["exec", "box", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(code(&output), 137, "{}", text(&output));
    site.remove("box");
}

#[test]
fn exec_copies_stdin_and_its_end() {
    let site = Site::new("exec-stdin");
    site.detach("box", &[], "sleep 1000");
    let mut command = site.cofferdam(&["exec", "box", "--", "wc", "-c"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 3_000_000]));
    assert_eq!(stdout(&finish(child)), "3000000");
    writer.join().unwrap().unwrap();
    site.remove("box");
}

#[test]
fn exec_passes_signals_on() {
    let site = Site::new("exec-signals");
    site.detach("box", &["-w", "."], "sleep 1000");
    let script = "trap 'exit 21' USR1; echo > ready; while :; do sleep 0.05; done";
    let child = start(&mut site.cofferdam(&["exec", "box", "--", "sh", "-c", script]));
    let ready = site.work().join("ready");
    until("the command is ready", || ready.exists().then_some(()));
    signal(i32::try_from(child.id()).unwrap(), Signal::USR1);
    assert_eq!(code(&finish(child)), 21);
    site.remove("box");
}

#[test]
fn a_command_whose_client_is_killed_is_killed() {
    let site = Site::new("exec-client");
    site.detach("box", &["-w", "."], "sleep 1000");
    let child = start(&mut site.cofferdam(&[
        "exec",
        "box",
        "--",
        "sh",
        "-c",
        "echo $$ > pid; exec sleep 1000",
    ]));
    let file = site.work().join("pid");
    let pid = until("the command runs", || {
        let text = fs::read_to_string(&file).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    });
    let alive = |pid: &str| {
        site.run(&["exec", "box", "--", "test", "-d", &format!("/proc/{pid}")])
            .status
            .success()
    };
    assert!(alive(&pid));
    signal(i32::try_from(child.id()).unwrap(), Signal::KILL);
    finish(child);
    until("the command is gone", || (!alive(&pid)).then_some(()));
    site.remove("box");
}

#[test]
fn an_execd_command_is_confined_as_the_job_is() {
    let site = Site::new("exec-confined");
    let fields = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Cpus_allowed):' /proc/self/status
        for name in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$name; done
        cat /proc/self/uid_map /proc/self/gid_map /proc/self/limits /proc/self/mountinfo
        cat /proc/self/oom_score_adj; umask; for fd in /proc/self/fd/*; do echo ${fd##*/}; done";
    let busybox = crate::rootfs::busybox(&site);
    let mut cases = vec![vec![], vec!["-w", "."]];
    if let Some(root) = &busybox {
        cases.push(vec!["--rootfs", root]);
    }
    for mut options in cases {
        options.extend(["--tmpfs", "/seen"]);
        site.detach(
            "box",
            &options,
            &format!("({fields}) > /seen/next 2>&1; mv /seen/next /seen/job; sleep 1000"),
        );
        until("the job has looked", || {
            site.run(&["exec", "box", "--", "test", "-e", "/seen/job"])
                .status
                .success()
                .then_some(())
        });
        let job = stdout(&site.run(&["exec", "box", "--", "cat", "/seen/job"]));
        let command = stdout(&site.run(&[
            "exec",
            "box",
            "--",
            "sh",
            "-c",
            &format!("({fields}) 2>&1 | cat"),
        ]));
        assert!(
            job.contains("Seccomp:\t2") && job.contains("NoNewPrivs:\t1"),
            "{job}"
        );
        assert_eq!(job, command, "{options:?}");
        site.remove("box");
    }
}

#[test]
fn exec_into_what_does_not_run_is_refused() {
    let site = Site::new("exec-missing");
    let output = site.run(&["exec", "nothing", "--", "true"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert!(complaints(&output).contains("nothing"), "{}", text(&output));
    site.detach("ended", &[], "exit 4");
    until("the end", || {
        (json(&site.run(&["ps", "--json"]))[0]["status"] == "exited 4").then_some(())
    });
    let output = site.run(&["exec", "ended", "--", "true"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert!(
        complaints(&output).contains("not running"),
        "{}",
        text(&output)
    );
    site.remove("ended");
}

#[test]
fn the_job_ending_ends_its_commands() {
    let site = Site::new("exec-job-ends");
    site.detach(
        "box",
        &["-w", "."],
        "while [ ! -e go ]; do sleep 0.05; done",
    );
    let child =
        start(&mut site.cofferdam(&["exec", "box", "--", "sh", "-c", "echo > ready; sleep 1000"]));
    let ready = site.work().join("ready");
    until("the command runs", || ready.exists().then_some(()));
    site.outside("touch go");
    assert_eq!(code(&finish(child)), 125);
    site.remove("box");
}

#[test]
fn ps_shows_what_runs_and_how_what_ended_did() {
    let site = Site::new("ps");
    site.detach("running", &[], "sleep 1000");
    site.detach("ended", &[], "exit 7");
    site.detach("killed", &[], "kill -9 $$");
    let status = |name: &str| {
        let rows = json(&site.run(&["ps", "--json"]));
        let row = rows
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .cloned();
        row.unwrap()["status"].as_str().unwrap().to_owned()
    };
    until("both ends", || {
        (status("ended") != "running" && status("killed") != "running").then_some(())
    });
    assert_eq!(status("running"), "running");
    assert_eq!(status("ended"), "exited 7");
    assert_eq!(status("killed"), "killed by signal 9");
    let shown = stdout(&site.run(&["ps"]));
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(shown.starts_with("NAME"), "{shown}");
    // A name stays taken until it is removed.
    let again = site.sh(&["--name", "ended"], "true");
    assert_eq!(code(&again), 125, "{}", text(&again));
    let pruned = stdout(&site.run(&["prune"]));
    let mut names: Vec<&str> = pruned.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["ended", "killed"]);
    site.remove("running");
}

#[test]
fn inspect_tells_plan_controls_and_head() {
    let site = Site::new("inspect");
    site.detach("box", &["-w", "."], "sleep 1000");
    let live = json(&site.run(&["inspect", "box"]));
    assert_eq!(live["status"], "running");
    assert_eq!(live["policy"], "untrusted");
    assert_eq!(live["command"][0], "sh");
    assert!(
        live["live"]["head"]
            .as_str()
            .is_some_and(|head| head.len() == 64),
        "{live}"
    );
    site.remove("box");
    let gone = json(&site.run(&["inspect", "box"]));
    assert_eq!(gone["status"], "gone");
    let head = gone["head"].as_str().unwrap().to_owned();
    let verified = site.run(&["verify", "box", "--head", &head]);
    assert!(verified.status.success(), "{}", text(&verified));
    let missing = site.run(&["inspect", "nothing"]);
    assert_eq!(code(&missing), 125, "{}", text(&missing));
}

#[test]
fn logs_keep_the_output_of_a_detached_job() {
    let site = Site::new("logs");
    site.detach("box", &[], "echo out; echo err >&2; exit 0");
    until("the end", || {
        (json(&site.run(&["ps", "--json"]))[0]["status"] == "exited 0").then_some(())
    });
    let logs = stdout(&site.run(&["logs", "box"]));
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    site.remove("box");
    let missing = site.run(&["logs", "nothing"]);
    assert_eq!(code(&missing), 125, "{}", text(&missing));
}

#[test]
fn logs_follow_until_the_end() {
    let site = Site::new("logs-follow");
    site.detach(
        "box",
        &["-w", "."],
        "echo first; while [ ! -e go ]; do sleep 0.05; done; seq 1 20000; echo last",
    );
    let follower = start(&mut site.cofferdam(&["logs", "-f", "box"]));
    site.outside("touch go");
    let output = finish(follower);
    let said = stdout(&output);
    assert_eq!(said.lines().count(), 20002);
    assert!(said.starts_with("first\n1\n") && said.ends_with("\nlast"));
    site.remove("box");
}

#[test]
fn logs_stop_at_their_limit_and_the_job_goes_on() {
    let site = Site::new("logs-limit");
    site.detach(
        "box",
        &["-w", "."],
        "head -c 80000000 /dev/zero; echo done > done",
    );
    let done = site.work().join("done");
    until("the job has written it all", || done.exists().then_some(()));
    until("the end", || {
        (json(&site.run(&["ps", "--json"]))[0]["status"] == "exited 0").then_some(())
    });
    let log = site.data().join("sandboxes/box/output.log");
    assert_eq!(fs::metadata(&log).unwrap().len(), 64 << 20);
    let events = stdout(&site.run(&["events", "box"]));
    let lost = format!("log full: {} bytes of output lost", 80_000_000 - (64 << 20));
    assert!(events.contains(&lost), "{events}");
    site.remove("box");
}

#[test]
fn stop_asks_and_then_kills() {
    let site = Site::new("stop");
    site.detach(
        "kind",
        &["-w", "."],
        "trap 'echo asked > asked; exit 0' TERM; echo > ready; while :; do sleep 0.05; done",
    );
    until("ready", || site.work().join("ready").exists().then_some(()));
    let output = site.run(&["stop", "kind"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        fs::read_to_string(site.work().join("asked")).unwrap(),
        "asked\n"
    );
    assert_eq!(json(&site.run(&["ps", "--json"]))[0]["status"], "exited 0");
    site.remove("kind");
    site.outside("rm ready");
    site.detach(
        "stubborn",
        &["-w", "."],
        "trap '' TERM; echo > ready; while :; do sleep 0.05; done",
    );
    until("ready", || site.work().join("ready").exists().then_some(()));
    let before = Instant::now();
    let output = site.run(&["stop", "-t", "1s", "stubborn"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(before.elapsed().as_millis() >= 1000);
    let rows = json(&site.run(&["ps", "--json"]));
    assert_eq!(rows[0]["status"], "killed by signal 9", "{rows}");
    site.remove("stubborn");
}

#[test]
fn kill_ends_at_once_or_sends_what_was_asked() {
    let site = Site::new("kill");
    site.detach(
        "box",
        &["-w", "."],
        "trap 'echo got > got' USR1; trap '' TERM; echo > ready; while :; do sleep 0.05; done",
    );
    until("ready", || site.work().join("ready").exists().then_some(()));
    for name in ["USR1", "sigusr1", "10"] {
        let output = site.run(&["kill", "-s", name, "box"]);
        assert!(output.status.success(), "{}", text(&output));
        until("the signal", || {
            site.work().join("got").exists().then_some(())
        });
        site.outside("rm got");
    }
    for odd in ["NOPE", "0", "-1", "32", "99", ""] {
        let output = site.run(&["kill", "-s", odd, "box"]);
        assert_ne!(code(&output), 0, "{odd}: {}", text(&output));
    }
    let output = site.run(&["kill", "box"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        json(&site.run(&["ps", "--json"]))[0]["status"],
        "killed by signal 9"
    );
    site.remove("box");
}

#[test]
fn rm_refuses_what_runs_and_force_ends_it() {
    let site = Site::new("rm");
    site.detach("box", &[], "sleep 1000");
    let output = site.run(&["rm", "box"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert!(complaints(&output).contains("running"), "{}", text(&output));
    site.remove("box");
    for command in ["rm", "stop", "kill"] {
        let output = site.run(&[command, "box"]);
        assert_eq!(code(&output), 125, "{command}: {}", text(&output));
        assert!(complaints(&output).contains("box"), "{}", text(&output));
    }
    // What runs in the foreground leaves nothing to be removed once it has ended.
    let job = start(&mut site.cofferdam(&["run", "--name", "front", "--", "sleep", "1000"]));
    until("it runs", || site.processes("front"));
    site.remove("front");
    assert_ne!(code(&finish(job)), 0);
    // One bad name does not keep the others from being removed.
    site.detach("box", &[], "sleep 1000");
    let output = site.run(&["rm", "-f", "nothing", "box"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_taken_name_is_refused_and_the_first_one_unharmed() {
    let site = Site::new("name-taken");
    site.detach("box", &["-w", "."], "sleep 1000");
    let output = site.sh(&["--name", "box", "-w", "."], "echo ran > ran");
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert!(
        complaints(&output).contains("box exists"),
        "{}",
        text(&output)
    );
    assert!(!site.work().join("ran").exists());
    assert!(site.run(&["exec", "box", "--", "true"]).status.success());
    // Its plan and events are still its own.
    assert!(site.run(&["verify", "box"]).status.success());
    site.remove("box");
}

#[test]
fn of_many_that_want_a_name_one_gets_it() {
    let site = Site::new("name-race");
    for _ in 0..3 {
        let all: Vec<_> = (0..8)
            .map(|_| {
                start(&mut site.cofferdam(&["run", "-d", "--name", "one", "--", "sleep", "1000"]))
            })
            .collect();
        let outputs: Vec<Output> = all.into_iter().map(finish).collect();
        let won = outputs
            .iter()
            .filter(|output| output.status.success())
            .count();
        for output in &outputs {
            assert!(
                output.status.success() || complaints(output).contains("one exists"),
                "{}",
                text(output)
            );
        }
        assert_eq!(won, 1);
        assert!(site.run(&["exec", "one", "--", "true"]).status.success());
        site.remove("one");
    }
}

#[test]
fn listing_while_others_come_and_go_never_fails() {
    let site = Site::new("ps-race");
    std::thread::scope(|scope| {
        let runners: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let output = site.sh(&["-w", "."], "true");
                        assert_eq!(code(&output), 0, "{}", text(&output));
                    }
                })
            })
            .collect();
        while !runners.iter().all(|runner| runner.is_finished()) {
            let output = site.run(&["ps"]);
            assert_eq!(code(&output), 0, "{}", text(&output));
        }
    });
}
