//! Run by root: nothing of the job, and nothing that talks to it, is root on the host.

use crate::site::{Site, code, complaints, output, program, signal, stdout, text, until};
use crate::support::skip;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where root's sandboxes live, whatever the environment says.
const RUNTIME: &str = "/run/cofferdam";
const LAYERS: &str = "/var/lib/cofferdam/layers";

/// A site whose commands are root's; sandboxes are named after it.
struct Root {
    site: Site,
    name: String,
}

impl Root {
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            skip("sandboxes of root", "the tester is not root");
            return None;
        }
        Some(Self {
            site: Site::new(&format!("root-{name}")),
            name: format!("test-{}-{name}", std::process::id()),
        })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .current_dir(self.site.work())
            .args(arguments);
        output(&mut command)
    }

    fn sh(&self, options: &[&str], script: &str) -> Output {
        let mut arguments = vec!["run", "--name", &self.name];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        self.run(&arguments)
    }

    fn detach(&self, options: &[&str], script: &str) {
        let mut all = vec!["-d"];
        all.extend(options);
        assert_eq!(stdout(&self.sh(&all, script)), self.name);
    }

    fn remove(&self) {
        let removed = self.run(&["rm", "-f", &self.name]);
        assert!(removed.status.success(), "{}", text(&removed));
        self.gone();
    }

    /// Nothing of the sandbox is on the host.
    fn gone(&self) {
        for directory in [RUNTIME, LAYERS] {
            assert!(
                !Path::new(directory).join(&self.name).exists(),
                "{directory}"
            );
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mountinfo.contains(&self.name), "{mountinfo}");
        let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = waiting.pop() {
            assert!(
                !directory.to_string_lossy().ends_with(&self.name),
                "{}",
                directory.display()
            );
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    waiting.push(entry.path());
                }
            }
        }
    }

    fn processes(&self) -> Value {
        let path = Path::new(RUNTIME)
            .join(&self.name)
            .join("live/processes.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn pid(&self, which: &str) -> i32 {
        i32::try_from(self.processes()[which]["pid"].as_i64().unwrap()).unwrap()
    }
}

fn status(pid: i32, field: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn supervisor_gateway_init_and_job_are_not_root() {
    let Some(root) = Root::new("ids") else { return };
    for options in [&[][..], &["-w", "."]] {
        root.detach(options, "sleep 1000");
        let init = root.pid("init");
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let job: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        for pid in [root.pid("supervisor"), root.pid("gateway"), init, job] {
            for field in ["Uid:", "Gid:"] {
                let ids = status(pid, field);
                assert!(ids.iter().all(|id| id != "0"), "{pid} {field} {ids:?}");
            }
        }
        // Nothing over the host's namespace but at most CAP_NET_BIND_SERVICE.
        let held = status(root.pid("supervisor"), "CapPrm:");
        let held = u64::from_str_radix(&held[0], 16).unwrap();
        assert_eq!(held & !(1 << 10), 0, "{held:x}");
        assert_eq!(status(job, "Seccomp:"), ["2"]);
        root.remove();
    }
}

#[test]
fn a_workspace_of_an_ordinary_user_is_written_as_that_user() {
    let Some(root) = Root::new("owner") else {
        return;
    };
    let output = root.sh(&["-w", "."], "echo x > made; id -u");
    let uid = root.site.account.uid;
    assert_eq!(stdout(&output), uid.to_string());
    assert_eq!(
        fs::metadata(root.site.work().join("made")).unwrap().uid(),
        uid
    );
    root.gone();
}

#[test]
fn a_workspace_of_root_is_copied_and_that_is_said() {
    let Some(root) = Root::new("copied") else {
        return;
    };
    chown(root.site.work(), Some(0), Some(0)).unwrap();
    fs::write(root.site.work().join("file"), "before\n").unwrap();
    let output = root.sh(
        &["-w", "."],
        "cat file; echo after > file; echo x > new; cat file",
    );
    assert_eq!(stdout(&output), "before\nafter");
    assert!(complaints(&output).contains("copy"), "{}", text(&output));
    assert_eq!(fs::read_dir(root.site.work()).unwrap().count(), 1);
    assert_eq!(
        fs::read_to_string(root.site.work().join("file")).unwrap(),
        "before\n"
    );
    root.gone();
}

#[test]
fn a_kept_copy_of_roots_workspace_has_nothing_planted_in_it() {
    let Some(root) = Root::new("planted") else {
        return;
    };
    chown(root.site.work(), Some(0), Some(0)).unwrap();
    fs::create_dir_all(root.site.work().join(".git/hooks")).unwrap();
    let output = root.sh(
        &["--keep", "-w", "."],
        "echo evil > .git/hooks/pre-commit; echo evil > .envrc; echo x > .git/HEAD; echo x > product",
    );
    assert!(output.status.success(), "{}", text(&output));
    let upper = Path::new(LAYERS).join(&root.name).join("workspace/upper");
    for (name, there) in [
        (".git/hooks/pre-commit", false),
        (".envrc", false),
        (".git/HEAD", true),
        ("product", true),
    ] {
        assert_eq!(upper.join(name).exists(), there, "{name}");
    }
    root.remove();
}

#[test]
fn roots_files_cannot_be_read_where_their_mode_forbids_it() {
    let Some(root) = Root::new("secret") else {
        return;
    };
    let secret = root.site.base().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mount = format!("{}=/secret", secret.display());
    let output = root.sh(
        &["--mount", &mount],
        "cat /secret 2>/dev/null && echo read; ls /root 2>/dev/null; true",
    );
    assert!(!stdout(&output).contains("secret"), "{}", text(&output));
    root.gone();
}

#[test]
fn an_image_of_root_is_used_and_never_written() {
    let Some(root) = Root::new("image") else {
        return;
    };
    let Some(image) = crate::rootfs::busybox(&root.site) else {
        return;
    };
    let owned = Command::new("chown")
        .args(["-R", "0:0", &image])
        .status()
        .unwrap();
    assert!(owned.success());
    let script = "id -u; echo changed > /etc/motd; cat /etc/motd; stat -c %u /bin/busybox";
    assert_eq!(
        stdout(&root.sh(&["--rootfs", &image], script)),
        "0\nchanged\n0"
    );
    let motd = Path::new(&image).join("etc/motd");
    assert_eq!(fs::read_to_string(motd).unwrap(), "original\n");
    root.gone();
}

#[test]
fn exec_stop_and_logs_work() {
    let Some(root) = Root::new("commands") else {
        return;
    };
    root.detach(
        &[],
        "echo said; trap 'exit 3' TERM; while :; do sleep 0.05; done",
    );
    let inside = root.run(&["exec", &root.name, "--", "sh", "-c", "id -u; exit 6"]);
    assert_eq!(code(&inside), 6, "{}", text(&inside));
    assert_ne!(inside.stdout, b"0\n");
    until("the output", || {
        (root.run(&["logs", &root.name]).stdout == b"said\n").then_some(())
    });
    let stopped = root.run(&["stop", &root.name]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    root.remove();
}

#[test]
fn a_killed_supervisor_leaves_nothing() {
    let Some(root) = Root::new("crash") else {
        return;
    };
    for which in ["supervisor", "gateway", "init"] {
        root.detach(&["-w", ".:copy"], "echo x > made; sleep 1000");
        let init = root.pid("init");
        signal(root.pid(which), Signal::KILL);
        until("init is gone", || {
            let status = fs::read_to_string(format!("/proc/{init}/status"));
            status
                .map_or(true, |status| status.contains("State:\tZ"))
                .then_some(())
        });
        root.run(&["ps"]);
        let removed = root.run(&["rm", "-f", &root.name]);
        assert!(matches!(code(&removed), 0 | 125), "{}", text(&removed));
        until("nothing is left", || {
            (!Path::new(RUNTIME).join(&root.name).exists()).then_some(())
        });
        root.gone();
    }
}

#[test]
fn a_command_that_cannot_start_is_told_on_stderr() {
    let Some(root) = Root::new("told") else {
        return;
    };
    for options in [&[][..], &["-d"]] {
        let mut all = vec!["run", "--name", &root.name];
        all.extend(options);
        all.extend(["--", "no-such-command"]);
        let output = root.run(&all);
        assert_eq!(code(&output), 127, "{}", text(&output));
        let said = complaints(&output);
        assert_eq!(said.matches("command not found").count(), 1, "{said}");
        assert!(output.stdout.is_empty(), "{}", text(&output));
        root.gone();
    }
}

#[test]
fn a_detached_sandbox_lets_the_callers_pipes_go() {
    let Some(root) = Root::new("pipes") else {
        return;
    };
    // Reads both pipes to their end.
    root.detach(&[], "sleep 1000");
    let pid = root.pid("supervisor");
    let parent: i32 = status(pid, "PPid:")[0].parse().unwrap();
    for pid in [pid, parent] {
        for number in 0..3 {
            let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
            assert_eq!(target, Path::new("/dev/null"), "{pid}: {number}");
        }
    }
    root.remove();
}

#[test]
fn the_records_stay_roots() {
    let Some(root) = Root::new("records") else {
        return;
    };
    root.detach(&[], "echo said; sleep 1000");
    let records = Path::new("/var/lib/cofferdam/sandboxes").join(&root.name);
    let mut names = Vec::new();
    for entry in fs::read_dir(&records).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), 0, "{entry:?}");
        names.push(entry.file_name());
    }
    assert!(names.len() >= 3, "{names:?}");
    assert_eq!(fs::metadata(&records).unwrap().uid(), 0);
    until("the output", || {
        (root.run(&["logs", &root.name]).stdout == b"said\n").then_some(())
    });
    root.remove();
}

#[test]
fn a_killed_supervisor_is_told_with_what_to_do() {
    let Some(root) = Root::new("lost") else {
        return;
    };
    let path = Path::new(RUNTIME)
        .join(&root.name)
        .join("live/processes.json");
    let running = std::thread::scope(|scope| {
        let run = scope.spawn(|| root.sh(&[], "sleep 1000"));
        until("the supervisor", || path.exists().then_some(()));
        signal(root.pid("supervisor"), Signal::KILL);
        run.join().unwrap()
    });
    assert_eq!(code(&running), 125, "{}", text(&running));
    let said = complaints(&running);
    assert!(
        said.contains("supervisor was killed by signal 9") && said.contains("start the job again"),
        "{said}"
    );
    root.gone();
    root.detach(&[], "sleep 1000");
    signal(root.pid("supervisor"), Signal::KILL);
    until("the launcher has cleaned up", || {
        (!Path::new(RUNTIME).join(&root.name).exists()).then_some(())
    });
    let events = stdout(&root.run(&["events", &root.name]));
    assert!(events.contains("the supervisor was gone"), "{events}");
    assert!(events.contains("cleaned up"), "{events}");
    let verified = root.run(&["verify", &root.name]);
    assert!(verified.status.success(), "{}", text(&verified));
    root.gone();
}

#[test]
fn memory_and_processes_are_held_by_cgroups_where_there_are_any() {
    let Some(root) = Root::new("cgroup") else {
        return;
    };
    let plan = stdout(&root.run(&["plan", "--", "true"]));
    if !plan.contains("memory cgroup") {
        return skip(
            "limits of root's sandboxes",
            "no memory cgroup on this host",
        );
    }
    let output = root.sh(
        &["-p", "strict", "--memory", "64M"],
        "x=$(head -c 200M /dev/zero | tr '\\0' x); echo survived",
    );
    assert!(!output.status.success(), "{}", text(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("survived"));
    root.gone();
    let forks = "my $n = 0; for (1..100) { my $p = fork; last unless defined $p; if (!$p) { sleep 1000; exit } $n++ } print $n; kill 9, -1";
    let output = root.run(&[
        "run", "--name", &root.name, "--pids", "40", "--", "perl", "-e", forks,
    ]);
    let count: u32 = String::from_utf8_lossy(&output.stdout).parse().unwrap();
    assert!((30..40).contains(&count), "{}", text(&output));
    let events = stdout(&root.run(&["events", &root.name]));
    assert_eq!(
        events.matches("process limit reached: 1 fork").count(),
        1,
        "{events}"
    );
    let output = root.sh(&["--pids", "40"], "true");
    assert!(output.status.success(), "{}", text(&output));
    let events = stdout(&root.run(&["events", &root.name]));
    assert!(!events.contains("process limit"), "{events}");
    // One that is killed has met no limit, however much it forks at that moment.
    root.detach(
        &["--pids", "200"],
        "while :; do /bin/true & /bin/true & wait; done",
    );
    std::thread::sleep(std::time::Duration::from_millis(200));
    root.remove();
    let events = stdout(&root.run(&["events", &root.name]));
    assert!(!events.contains("process limit"), "{events}");
    root.gone();
}
