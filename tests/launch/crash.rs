//! kill -9 of supervisor, gateway and init at any moment: nothing is left once the next command has run.

use crate::site::{Site, code, finish, leaks, sandboxed, signal, start, stdout, text, until};
use crate::support::census::Census;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// What of a sandbox is there to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Supervisor,
    Gateway,
    Init,
}

const VICTIMS: [Victim; 3] = [Victim::Supervisor, Victim::Gateway, Victim::Init];

/// Runs `work` between two counts of everything; the next command must leave no
/// trace of what happened.
fn leaves_nothing(site: &Site, work: impl FnOnce()) {
    let census = || {
        let data = site.data().join("layers");
        Census::take(&site.account, &[&site.runtime(), &data, &site.work()], &[])
    };
    let warm = site.sh(&["-w", "."], "true");
    assert!(warm.status.success(), "{}", text(&warm));
    until("a quiet start", || {
        sandboxed(&site.account).is_empty().then_some(())
    });
    let before = census();
    work();
    let next = site.run(&["ps"]);
    assert_eq!(code(&next), 0, "{}", text(&next));
    assert_eq!(stdout(&next).lines().count(), 1, "{}", text(&next));
    // What was orphaned is killed by then, and reaped by whoever adopted it.
    until("no process", || {
        sandboxed(&site.account).is_empty().then_some(())
    });
    assert_eq!(leaks(&before, &census(), "job"), Vec::<String>::new());
    assert_eq!(site.left(), Vec::<String>::new());
}

/// Children of a process, as the kernel lists them.
fn children(pid: u32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for task in tasks.flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            list.split_whitespace()
                .map(|pid| pid.parse::<i32>().unwrap()),
        );
    }
    all
}

/// Processes of a start that are ours, oldest first: gateway, then stage and init.
fn ours(supervisor: u32) -> Vec<i32> {
    let mut found: Vec<i32> = children(supervisor)
        .into_iter()
        .filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("cofferdam")
        })
        .collect();
    found.sort_unstable();
    found
}

/// The job's own witness: how it was confined from its first instruction on.
const WITNESS: &str = "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status >> witness; ";

/// Every job that wrote a line was confined when it did.
fn witnesses(site: &Site) {
    let said = fs::read_to_string(site.work().join("witness")).unwrap_or_default();
    let lines: BTreeSet<&str> = said.lines().collect();
    let right = BTreeSet::from(["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]);
    assert!(lines.is_subset(&right), "{lines:?}");
    fs::write(site.work().join("witness"), "").unwrap();
}

fn begin(site: &Site) -> Child {
    let script = format!("{WITNESS} echo > ran; sleep 1000");
    let options = [
        "run", "--name", "job", "-w", ".", "--tmpfs", "/scratch", "--", "sh", "-c", &script,
    ];
    start(&mut site.cofferdam(&options))
}

fn prepare(site: &Site) {
    site.outside("rm -f ran; : > witness; chmod 666 witness; mkdir -p .git");
}

fn strike(victim: Victim, child: &Child) {
    let processes = ours(child.id());
    let pid = match victim {
        Victim::Supervisor => i32::try_from(child.id()).ok(),
        Victim::Gateway => processes.first().copied(),
        Victim::Init => processes.get(1).copied(),
    };
    if let Some(pid) = pid {
        signal(pid, Signal::KILL);
    }
}

/// Ends a run that may have survived: a victim that was not there yet was not hit.
fn settle(site: &Site, child: Child) {
    let ran = site.work().join("ran");
    let pid = i32::try_from(child.id()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut child = child;
    while child.try_wait().unwrap().is_none() {
        if ran.exists() || Instant::now() > deadline {
            signal(pid, Signal::TERM);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    finish(child);
}

#[test]
fn while_it_starts_by_what_exists() {
    let site = Site::alone("crash-start");
    prepare(&site);
    type Moment<'a> = (&'a str, Box<dyn Fn(&Child) -> bool + 'a>);
    let state = site.runtime().join("job/state.json");
    let records = site.data().join("sandboxes/job/plan.json");
    let placeholder = site.work().join(".envrc");
    let moments: Vec<Moment> = vec![
        ("the state is written", Box::new(|_| state.exists())),
        ("the plan is written", Box::new(|_| records.exists())),
        ("a placeholder is made", Box::new(|_| placeholder.exists())),
        (
            "the gateway exists",
            Box::new(|child| !ours(child.id()).is_empty()),
        ),
        (
            "a helper maps ids",
            Box::new(|child| children(child.id()).len() > 1),
        ),
        (
            "the stage exists",
            Box::new(|child| ours(child.id()).len() > 1),
        ),
        (
            "the processes are written",
            Box::new(|_| site.processes("job").is_some()),
        ),
        (
            "the job runs",
            Box::new(|_| site.work().join("ran").exists()),
        ),
    ];
    for victim in VICTIMS {
        for (what, there) in &moments {
            leaves_nothing(&site, || {
                fs::remove_file(site.work().join("ran")).ok();
                // Records of the last one would be taken for this one's.
                fs::remove_dir_all(site.data().join("sandboxes/job")).ok();
                let mut child = begin(&site);
                let deadline = Instant::now() + Duration::from_secs(5);
                while !there(&child) && child.try_wait().unwrap().is_none() {
                    // Some moments are over before anybody can see them.
                    if Instant::now() > deadline || site.work().join("ran").exists() {
                        break;
                    }
                }
                strike(victim, &child);
                settle(&site, child);
                fs::remove_file(site.work().join("ran")).ok();
            });
            witnesses(&site);
            println!("{victim:?} killed when {what}");
        }
    }
}

#[test]
fn while_it_starts_at_sixty_moments() {
    let site = Site::alone("crash-delays");
    prepare(&site);
    let before = Instant::now();
    let child = begin(&site);
    until("the job runs", || {
        site.work().join("ran").exists().then_some(())
    });
    let whole = before.elapsed();
    signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
    finish(child);
    for victim in VICTIMS {
        for part in 1..=20 {
            leaves_nothing(&site, || {
                fs::remove_file(site.work().join("ran")).ok();
                let child = begin(&site);
                std::thread::sleep(whole * part / 18);
                strike(victim, &child);
                settle(&site, child);
                fs::remove_file(site.work().join("ran")).ok();
            });
            witnesses(&site);
        }
    }
}

#[test]
fn while_a_job_and_a_command_run() {
    let site = Site::alone("crash-running");
    prepare(&site);
    for index in 0..3 {
        leaves_nothing(&site, || {
            site.detach(
                "job",
                &["-w", "."],
                &format!("{WITNESS} sleep 1000 & sleep 1000"),
            );
            let script = format!("{WITNESS} sleep 1000 & echo > ran; sleep 1000");
            let client = start(&mut site.cofferdam(&["exec", "job", "--", "sh", "-c", &script]));
            until("the command runs", || {
                site.work().join("ran").exists().then_some(())
            });
            signal(site.processes("job").unwrap()[index], Signal::KILL);
            assert_ne!(code(&finish(client)), 0);
            until("every process is gone", || {
                sandboxed(&site.account).is_empty().then_some(())
            });
            if index > 0 {
                let rows = stdout(&site.run(&["ps"]));
                assert!(
                    rows.contains("failed") || rows.lines().count() == 1,
                    "{rows}"
                );
                site.remove("job");
            }
            fs::remove_file(site.work().join("ran")).ok();
        });
        witnesses(&site);
    }
}

#[test]
fn while_a_command_starts() {
    let site = Site::alone("crash-exec");
    prepare(&site);
    for index in 0..3 {
        for delay in [0, 1, 2, 4, 8, 16] {
            leaves_nothing(&site, || {
                site.detach("job", &["-w", "."], &format!("{WITNESS} sleep 1000"));
                let script = format!("{WITNESS} sleep 1000");
                let client =
                    start(&mut site.cofferdam(&["exec", "job", "--", "sh", "-c", &script]));
                std::thread::sleep(Duration::from_millis(delay * 4));
                signal(site.processes("job").unwrap()[index], Signal::KILL);
                finish(client);
                // The client itself has removed it if it began after the kill.
                let removed = site.run(&["rm", "-f", "job"]);
                assert!(code(&removed) == 0 || index == 0, "{}", text(&removed));
            });
            witnesses(&site);
        }
    }
}

#[test]
fn while_it_is_being_stopped() {
    let site = Site::alone("crash-stop");
    prepare(&site);
    for index in 0..3 {
        for delay in [0, 5, 20, 60] {
            leaves_nothing(&site, || {
                site.detach(
                    "job",
                    &["-w", "."],
                    "trap '' TERM; while :; do sleep 0.05; done",
                );
                let processes = site.processes("job").unwrap();
                let stop = start(&mut site.cofferdam(&["stop", "-t", "30s", "job"]));
                std::thread::sleep(Duration::from_millis(delay));
                signal(processes[index], Signal::KILL);
                // It returns, since whom it waits for is gone.
                finish(stop);
                let removed = site.run(&["rm", "-f", "job"]);
                assert!(code(&removed) == 0 || index == 0, "{}", text(&removed));
            });
        }
    }
}

#[test]
fn while_it_ends_and_is_undone() {
    let site = Site::alone("crash-end");
    prepare(&site);
    for delay in 0..16 {
        leaves_nothing(&site, || {
            site.detach(
                "job",
                &["-w", ".:copy", "--keep"],
                "echo x > made; while [ ! -e /tmp/go ]; do sleep 0.01; done",
            );
            let [supervisor, ..] = site.processes("job").unwrap();
            site.run(&["exec", "job", "--", "touch", "/tmp/go"]);
            std::thread::sleep(Duration::from_millis(delay));
            signal(supervisor, Signal::KILL);
            until("no process", || {
                sandboxed(&site.account).is_empty().then_some(())
            });
            site.run(&["ps"]);
            site.run(&["rm", "-f", "job"]);
        });
    }
}

#[test]
fn a_copied_workspace_and_a_root_on_disk_are_removed_too() {
    let site = Site::alone("crash-layers");
    prepare(&site);
    let Some(root) = crate::rootfs::busybox(&site) else {
        return;
    };
    for options in [
        &["-w", ".:copy"][..],
        &["--rootfs", &root],
        &["--rootfs", &root, "-w", ".:copy"],
    ] {
        leaves_nothing(&site, || {
            site.detach(
                "job",
                options,
                "mkdir -p /tmp/a a/b; echo x > a/b/c; chmod 0 a; sleep 1000",
            );
            let [supervisor, ..] = site.processes("job").unwrap();
            signal(supervisor, Signal::KILL);
            until("no process", || {
                sandboxed(&site.account).is_empty().then_some(())
            });
            let said = crate::site::complaints(&site.sh(&["--name", "job"], "true"));
            assert!(said.contains("cleaned up after sandbox job"), "{said}");
        });
    }
}

/// Kills all three and waits for the supervisor's end.
fn kill_all(site: &Site, name: &str) {
    let processes = site.processes(name).unwrap();
    for pid in processes {
        signal(pid, Signal::KILL);
    }
    until("no supervisor", || {
        (!std::path::Path::new(&format!("/proc/{}", processes[0])).exists()).then_some(())
    });
}

#[test]
fn rm_of_one_that_this_command_cleans_up_after_succeeds() {
    let site = Site::new("crash-rm");
    for options in [&["rm", "job"][..], &["rm", "-f", "job"]] {
        site.detach("job", &[], "sleep 1000");
        kill_all(&site, "job");
        let removed = site.run(options);
        assert_eq!(code(&removed), 0, "{options:?}: {}", text(&removed));
        assert_eq!(site.left(), Vec::<String>::new());
        let again = site.run(options);
        assert_eq!(code(&again), 125, "{options:?}: {}", text(&again));
    }
}

#[test]
fn placeholders_go_although_the_state_is_damaged() {
    let site = Site::new("crash-damaged");
    for damage in ["truncate -s 20", "truncate -s 0", "chmod 0", "printf x >"] {
        site.detach("job", &["-w", "."], "sleep 1000");
        let state = site.runtime().join("job/state.json");
        kill_all(&site, "job");
        site.outside(&format!("{damage} {}", state.display()));
        let listed = stdout(&site.run(&["ps"]));
        assert!(listed.contains("unreadable"), "{damage}: {listed}");
        assert!(site.work().join(".git").exists(), "{damage}");
        let removed = site.run(&["rm", "job"]);
        assert_eq!(code(&removed), 0, "{damage}: {}", text(&removed));
        assert_eq!(site.outside("ls -A"), "", "{damage}");
    }
}

#[test]
fn a_dead_sandbox_of_which_nothing_can_be_read_holds_no_placeholders() {
    let site = Site::new("crash-unreadable");
    site.detach("job", &[], "sleep 1000");
    kill_all(&site, "job");
    fs::write(site.runtime().join("job/state.json"), "{").unwrap();
    fs::write(site.data().join("sandboxes/job/plan.json"), "{").unwrap();
    let other = site.sh(&["-w", "."], "true");
    assert!(other.status.success(), "{}", text(&other));
    assert_eq!(site.outside("ls -A"), "");
    let removed = site.run(&["rm", "job"]);
    assert_eq!(code(&removed), 0, "{}", text(&removed));
}

#[test]
fn a_sandbox_with_a_damaged_state_keeps_its_protection() {
    let site = Site::new("crash-relied");
    for plan in [true, false] {
        site.detach("job", &["-w", "."], "sleep 1000");
        let state = site.runtime().join("job/state.json");
        fs::write(&state, "{").unwrap();
        if !plan {
            fs::write(site.data().join("sandboxes/job/plan.json"), "{").unwrap();
        }
        let other = site.sh(&["-w", "."], "true");
        assert!(other.status.success(), "{}", text(&other));
        assert!(site.work().join(".git").exists(), "{plan}");
        let planted = site.run(&["exec", "job", "--", "mkdir", "-p", ".git/hooks"]);
        assert!(!planted.status.success(), "{plan}: {}", text(&planted));
        kill_all(&site, "job");
        let removed = site.run(&["rm", "job"]);
        assert_eq!(code(&removed), 0, "{}", text(&removed));
        let told = crate::site::complaints(&removed);
        assert_eq!(told.contains("mode 444"), !plan, "{told}");
        assert_eq!(site.outside("ls -A").is_empty(), plan);
        site.outside("rm -f .git .envrc .vscode .devcontainer");
    }
}

#[test]
fn verify_tells_that_the_supervisor_was_lost() {
    let site = Site::new("crash-verify");
    site.detach("job", &[], "sleep 1000");
    signal(site.processes("job").unwrap()[0], Signal::KILL);
    let listed = until("the next command", || {
        let output = site.run(&["ps"]);
        (!site.runtime().join("job").exists()).then_some(output)
    });
    assert_eq!(code(&listed), 0);
    let verified = site.run(&["verify", "job"]);
    assert!(verified.status.success(), "{}", text(&verified));
    let events = stdout(&site.run(&["events", "job"]));
    assert!(events.contains("supervisor"), "{events}");
}

/// Nothing goes on without whoever decides about its connections.
#[test]
fn without_its_edge_it_ends_and_the_events_say_so() {
    let site = Site::alone("crash-edge");
    prepare(&site);
    leaves_nothing(&site, || {
        let allow = ["--allow", "www.example.org:80"];
        site.detach("job", &allow, "sleep 1000 & sleep 1000");
        let [supervisor, ..] = site.processes("job").unwrap();
        let is_edge = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "cofferdam-edge")
        };
        let children = children(supervisor.unsigned_abs());
        let edge = children.into_iter().find(is_edge).expect("an edge");
        signal(edge, Signal::KILL);
        until("every process is gone", || {
            sandboxed(&site.account).is_empty().then_some(())
        });
        let events = stdout(&site.run(&["events", "job"]));
        assert!(events.contains("the network edge was gone"), "{events}");
        site.remove("job");
    });
}

/// Gateway and init both hear of the supervisor's end; either suffices.
#[test]
fn without_its_supervisor_it_ends_though_gateway_or_init_stands_still() {
    let site = Site::alone("crash-still");
    prepare(&site);
    for still in [1, 2, 2, 2, 2, 2] {
        leaves_nothing(&site, || {
            site.detach("job", &[], "sleep 1000 & sleep 1000");
            let all = site.processes("job").unwrap();
            signal(all[still], Signal::STOP);
            signal(all[0], Signal::KILL);
            until("init is gone", || {
                let state = fs::read_to_string(format!("/proc/{}/stat", all[2]));
                state
                    .map_or(true, |line| line.contains(") Z "))
                    .then_some(())
            });
            // The sandbox ended without it: now it may see that.
            signal(all[still], Signal::CONT);
            until("every process is gone", || {
                sandboxed(&site.account).is_empty().then_some(())
            });
        });
    }
}

/// A command that is pid 1 itself holds no socket: it ends by the gateway and the kernel.
#[test]
fn without_its_supervisor_a_command_that_is_pid1_ends() {
    let site = Site::alone("crash-pid1");
    prepare(&site);
    for _ in 0..10 {
        leaves_nothing(&site, || {
            site.detach("job", &["--pid1"], "sleep 1000 & sleep 1000");
            signal(site.processes("job").unwrap()[0], Signal::KILL);
            until("every process is gone", || {
                sandboxed(&site.account).is_empty().then_some(())
            });
        });
    }
}
