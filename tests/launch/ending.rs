//! How jobs end: exit codes, signals, the time limit, and the one line about what is weaker.

use crate::site::{
    Site, code, complaints, finish, sandboxed, signal, start, stderr, stdout, text, until,
};
use crate::support::skip;
use rustix::process::Signal;
use std::fs;
use std::time::Instant;

#[test]
fn exit_codes_are_the_jobs_own() {
    let site = Site::new("exit-codes");
    for expected in [0, 1, 3, 77, 124, 125, 126, 127, 255] {
        let output = site.sh(&[], &format!("exit {expected}"));
        assert_eq!(code(&output), expected, "{}", text(&output));
        assert_eq!(complaints(&output), "");
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    let site = Site::new("exit-signals");
    for number in [1, 2, 3, 6, 9, 11, 13, 15] {
        let output = site.sh(&[], &format!("kill -{number} $$"));
        assert_eq!(code(&output), 128 + number, "{}", text(&output));
    }
}

#[test]
fn a_missing_command_is_127_and_one_that_cannot_run_126() {
    let site = Site::new("exit-command");
    site.outside(
        "echo text > not-executable; echo garbage > garbage; chmod 755 garbage; mkdir directory",
    );
    let here = site.work();
    let here = here.to_str().unwrap();
    let cases = [
        ("no-such-program", 127),
        ("/no/such/program", 127),
        ("./no-such-file", 127),
        ("./not-executable", 126),
        ("./garbage", 126),
        ("./directory", 126),
        ("", 127),
    ];
    for (command, expected) in cases {
        let output = site.run(&["run", "-w", here, "--", command]);
        if command.is_empty() {
            assert_ne!(code(&output), 0, "{}", text(&output));
        } else {
            assert_eq!(code(&output), expected, "{command}: {}", text(&output));
            let said = complaints(&output);
            assert!(
                said.starts_with("error: ") && said.contains(command),
                "{said}"
            );
        }
        let detached = site.run(&["run", "-d", "-w", here, "--", command]);
        assert_eq!(
            code(&detached),
            code(&output),
            "{command}: {}",
            text(&detached)
        );
        assert_eq!(
            detached.stdout, b"",
            "no name is printed of what did not start"
        );
    }
}

#[test]
fn an_interpreter_that_is_missing_is_127() {
    let site = Site::new("exit-interpreter");
    site.outside("printf '#!/no/such/interpreter\\n' > script; chmod 755 script");
    let output = site.run(&["run", "-w", ".", "--", "./script"]);
    assert_eq!(code(&output), 127, "{}", text(&output));
}

#[test]
fn the_time_limit_is_124_and_ends_everything() {
    let site = Site::new("exit-timeout");
    let before = Instant::now();
    let output = site.sh(&["--timeout", "1s"], "echo started; sleep 1000");
    assert_eq!(code(&output), 124, "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "started\n");
    assert!(
        complaints(&output).contains("time limit"),
        "{}",
        text(&output)
    );
    assert!(before.elapsed().as_millis() >= 1000);
}

#[test]
fn the_time_limit_first_asks_by_sigterm() {
    let site = Site::new("exit-timeout-term");
    let output = site.sh(
        &["--timeout", "1s", "-w", "."],
        "trap 'echo asked > asked; exit 0' TERM; while :; do sleep 0.05; done",
    );
    assert_eq!(code(&output), 124, "{}", text(&output));
    assert_eq!(
        fs::read_to_string(site.work().join("asked")).unwrap(),
        "asked\n"
    );
}

#[test]
fn signals_to_cofferdam_are_passed_on() {
    let site = Site::new("signals");
    for (name, number) in [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("QUIT", Signal::QUIT),
    ] {
        let script = format!(
            "trap 'echo {name} > got; exit 42' {name}; echo > ready; while :; do sleep 0.05; done"
        );
        let mut command = site.cofferdam(&["run", "-w", ".", "--", "sh", "-c", &script]);
        let child = start(&mut command);
        let ready = site.work().join("ready");
        until("the job is ready", || ready.exists().then_some(()));
        signal(i32::try_from(child.id()).unwrap(), number);
        let output = finish(child);
        assert_eq!(code(&output), 42, "{name}: {}", text(&output));
        assert_eq!(
            fs::read_to_string(site.work().join("got")).unwrap(),
            format!("{name}\n")
        );
        site.outside("rm got ready");
    }
}

#[test]
fn a_signal_that_the_job_does_not_catch_ends_it() {
    let site = Site::new("signals-default");
    for (number, expected) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::USR1, 138)] {
        let child = start(&mut site.cofferdam(&["run", "--name", "job", "--", "sleep", "1000"]));
        until("the job runs", || site.processes("job"));
        signal(i32::try_from(child.id()).unwrap(), number);
        let output = finish(child);
        assert_eq!(code(&output), expected, "{}", text(&output));
    }
}

#[test]
fn pid1_is_the_command_itself() {
    let site = Site::new("pid1");
    let output = site.sh(&["--pid1"], "echo $$; exit 9");
    assert_eq!(code(&output), 9, "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
    site.detach(
        "one",
        &["--pid1"],
        "trap 'exit 0' TERM; while :; do sleep 0.05; done",
    );
    let refused = site.run(&["exec", "one", "--", "true"]);
    assert_eq!(code(&refused), 125, "{}", text(&refused));
    assert!(complaints(&refused).contains("pid 1"), "{}", text(&refused));
    site.remove("one");
}

#[test]
fn what_is_weaker_is_said_once_and_only_on_stderr() {
    let site = Site::new("degraded");
    let output = site.sh(&[], "echo out");
    assert_eq!(stdout(&output), "out");
    let said = stderr(&output);
    if said.is_empty() {
        return skip(
            "the line about weaker controls",
            "a cgroup is delegated here",
        );
    }
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("memory"), "{said}");
    let plan = site.run(&["plan", "--", "true"]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let controls = plan["controls"].as_array().unwrap();
    let weaker = controls
        .iter()
        .filter(|control| !control["degraded"].is_null());
    assert!(weaker.count() >= 1, "{controls:?}");
}

#[test]
fn strict_refuses_a_host_that_cannot_hold_its_limits() {
    let site = Site::new("strict-refused");
    let output = site.sh(&["-p", "strict"], "true");
    if output.status.success() {
        return skip("strict without a cgroup", "a cgroup is delegated here");
    }
    assert_eq!(code(&output), 125, "{}", text(&output));
    let said = complaints(&output);
    for word in ["memory", "cgroup", "doctor", "help"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // With the limits given up by name it starts.
    let policy = site.policy(
        "weak",
        "description = \"x\"\nextends = \"strict\"\n[degrade]\nallow = [\"cgroup\"]\n",
    );
    let output = site.sh(
        &["-p", &policy],
        "echo runs; exec 2>&1; echo $(echo $(echo pipes)) | cat",
    );
    assert_eq!(stdout(&output), "runs\npipes");
    let output = site.sh(
        &[
            "-p",
            "strict",
            "--memory",
            "unlimited",
            "--cpus",
            "unlimited",
        ],
        "echo runs",
    );
    assert!(matches!(code(&output), 0 | 125), "{}", text(&output));
}

#[test]
fn a_lost_init_or_gateway_is_told_as_such() {
    let site = Site::new("lost");
    for (index, name) in [(1, "gateway"), (2, "init")] {
        let child = start(&mut site.cofferdam(&["run", "--name", "job", "--", "sleep", "1000"]));
        let processes = until("the job runs", || site.processes("job"));
        signal(processes[index], Signal::KILL);
        let output = finish(child);
        assert_eq!(code(&output), 125, "{}", text(&output));
        assert!(complaints(&output).contains(name), "{}", text(&output));
    }
}

#[test]
fn what_left_the_jobs_session_and_parents_ends_with_it() {
    let site = Site::alone("ending-daemon");
    let daemon = "trap '' HUP TERM; echo up >&3; sleep 1000 & sleep 1000";
    let script = format!("mkfifo f; (setsid sh -c \"{daemon}\" 3>f &); read up < f; exit 7");
    let output = site.sh(&["-w", ".:copy"], &script);
    assert_eq!(code(&output), 7, "{}", text(&output));
    until("every process is gone", || {
        sandboxed(&site.account).is_empty().then_some(())
    });
}
