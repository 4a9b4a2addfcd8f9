//! Limits that hold without a cgroup: processes, processors, files in memory, namespaces.

use crate::site::{Site, stdout, text, until};
use std::fs;

/// Forks until it fails or `ask` are there, says how many there were at once.
fn forks(ask: u32) -> String {
    format!(
        "my $n = 0; for (1..{ask}) {{ my $p = fork; last unless defined $p; if (!$p) {{ sleep 1000; exit }} $n++; push @p, $p }} print $n; kill 9, @p;"
    )
}

#[test]
fn processes_are_limited_whatever_the_ids() {
    let site = Site::new("limit-pids");
    // The positive control: without the limit so many are possible.
    assert_eq!(site.outside(&format!("perl -e '{}'", forks(300))), "300");
    for options in [&[][..], &["-w", "."]] {
        let mut arguments = vec!["run", "--pids", "50"];
        arguments.extend(options);
        let program = forks(300);
        arguments.extend(["--", "perl", "-e", &program]);
        let output = site.run(&arguments);
        let count: u32 = stdout(&output).parse().unwrap();
        assert!((45..50).contains(&count), "{options:?}: {}", text(&output));
    }
}

#[test]
fn the_limit_is_each_sandboxs_own() {
    let site = Site::new("limit-pids-own");
    site.detach(
        "full",
        &["-w", ".", "--pids", "60"],
        &format!(
            "perl -e '{}; sleep 1000'",
            forks(40).replace("kill 9, @p;", "")
        ),
    );
    until("the first one is full", || {
        let count = site.run(&[
            "exec",
            "full",
            "--",
            "sh",
            "-c",
            "ls -d /proc/[0-9]* | wc -l",
        ]);
        (stdout(&count).parse::<u32>().unwrap() > 40).then_some(())
    });
    let program = forks(40);
    let output = site.run(&[
        "run", "-w", ".", "--pids", "60", "--", "perl", "-e", &program,
    ]);
    assert_eq!(stdout(&output), "40", "{}", text(&output));
    site.remove("full");
}

#[test]
fn a_fork_bomb_is_bounded_and_ends_with_the_sandbox() {
    let site = Site::new("limit-bomb");
    site.detach(
        "bomb",
        &["--pids", "100"],
        "perl -e 'while (1) { fork; select undef, undef, undef, 0.001 }'",
    );
    let [_, _, init] = site.processes("bomb").unwrap();
    let inside = |init: i32| {
        let namespace = fs::read_link(format!("/proc/{init}/ns/pid")).ok();
        let mut count = 0;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let link = fs::read_link(entry.path().join("ns/pid")).ok();
            count += u32::from(link.is_some() && link == namespace);
        }
        count
    };
    if rustix::process::getuid().is_root() {
        until("the bomb has grown", || (inside(init) > 80).then_some(()));
        assert!(inside(init) <= 101, "{}", inside(init));
    }
    // The caller is not kept from starting processes.
    assert_eq!(site.outside("echo fine"), "fine\n");
    site.remove("bomb");
}

#[test]
fn the_time_limit_ends_a_fork_bomb() {
    let site = Site::new("limit-bomb-time");
    let output = site.run(&[
        "run",
        "--pids",
        "200",
        "--timeout",
        "1s",
        "--",
        "perl",
        "-e",
        "$SIG{TERM} = 'IGNORE'; while (1) { fork }",
    ]);
    assert_eq!(crate::site::code(&output), 124, "{}", text(&output));
}

#[test]
fn processors_are_pinned_and_stay_so() {
    let site = Site::new("limit-cpus");
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return crate::support::skip("--cpus by affinity", "one processor");
    }
    let plan = site.run(&["plan", "--cpus", "1", "--", "true"]);
    if !stdout(&plan).contains("affinity") {
        return crate::support::skip("--cpus by affinity", "a cgroup is delegated here");
    }
    let script = "nproc; taskset -p ffff $$ >/dev/null 2>&1 && echo changed; nproc";
    assert_eq!(stdout(&site.sh(&["--cpus", "1"], script)), "1\n1");
    assert_eq!(stdout(&site.sh(&["--cpus", "0.5"], "nproc")), "1");
}

#[test]
fn files_in_memory_are_limited() {
    let site = Site::new("limit-tmp");
    let policy = site.policy(
        "small",
        "description = \"x\"\nextends = \"untrusted\"\n[filesystem]\ntmp = \"8M\"\n",
    );
    let script = "for place in /tmp /home/job /var/tmp /workspace /dev/shm; do
        head -c 100M /dev/zero > $place/big 2>/dev/null && echo $place took it all; s=$(stat -c %s $place/big); [ $s -le 70000000 ] || echo $place $s; done; true";
    let output = site.sh(&["-p", &policy, "--memory", "256M"], script);
    assert_eq!(stdout(&output), "", "{}", text(&output));
    // Nor do other places take any.
    let script = "for place in / /dev /etc /run /usr /proc; do (echo x > $place/file) 2>/dev/null && echo wrote $place; done; true";
    assert_eq!(stdout(&site.sh(&[], script)), "");
}

#[test]
fn memfd_and_shared_memory_are_no_way_round() {
    let site = Site::new("limit-memfd");
    // memfd_create is 319; without a memory cgroup it is ENOSYS (38).
    let perl = "my $name = 'x'; my $fd = syscall(319, $name, 0); print $fd < 0 ? 0 + $! : 'made'";
    let answer = stdout(&site.run(&["run", "--", "perl", "-e", perl]));
    let plan = stdout(&site.run(&["plan", "--", "true"]));
    if plan.contains("\"cgroup\"") && plan.contains("\"limits\"") && plan.contains("memory cgroup")
    {
        assert_eq!(answer, "made");
    } else {
        assert_eq!(answer, "38");
    }
}

#[test]
fn nothing_inside_makes_another_namespace() {
    let site = Site::new("limit-namespaces");
    for kind in [
        "--user",
        "--user --mount",
        "--net",
        "--pid --fork",
        "--uts",
        "--ipc",
        "--cgroup",
        "--time",
    ] {
        let script = format!("unshare {kind} true 2>/dev/null && echo made; true");
        assert_eq!(stdout(&site.sh(&[], &script)), "", "{kind}");
    }
}

#[test]
fn soft_and_hard_limits_are_set() {
    let site = Site::new("limit-rlimits");
    let answer = stdout(&site.sh(&[], "ulimit -Sn; ulimit -Hn; ulimit -Hc; cat /proc/self/limits | grep -E 'realtime prio|nice prio'"));
    let lines: Vec<&str> = answer.lines().collect();
    let (soft, hard): (u64, u64) = (lines[0].parse().unwrap(), lines[1].parse().unwrap());
    assert!(soft <= 1024 && soft <= hard, "{answer}");
    // Hard 1 byte is 0 of the shell's blocks of 512.
    assert_eq!(lines[2], "0", "{answer}");
    for line in &lines[3..] {
        let values: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(values[values.len() - 2..], ["0", "0"], "{answer}");
    }
}

/// mq_open(2) by number, since no module of perl-base knows it: creates unless told not to.
const OPEN: &str = "sub queue { my ($name, $flags, $messages) = @_; \
    my $attributes = pack q(q8), 0, $messages, 8192, 0, 0, 0, 0, 0; \
    syscall 240, $name, $flags, 0600, $attributes }";

#[test]
fn message_queues_work_and_are_the_sandboxs_own() {
    let site = Site::new("mqueue");
    let name = format!("cofferdam-{}", std::process::id());
    let outside = |rest: &str| site.outside(&format!("perl -e '{OPEN} {rest}'"));
    assert!(outside(&format!("print queue(qq({name}), 0102, 1)")) != "-1");
    let job = format!(
        "{OPEN} print queue(qq({name}), 2, 1) < 0 ? 0 + $! : q(seen); \
         my $queue = queue(q(own), 0102, 4); my ($text, $buffer) = (q(hello), qq(\\0) x 8192); \
         print q( ), syscall(242, $queue, $text, 5, 0, 0) < 0 ? 0 + $! : q(sent); \
         my $got = syscall(243, $queue, $buffer, 8192, 0, 0); \
         print q( ), substr($buffer, 0, $got), q( ), join q(,), glob q(/dev/mqueue/*); \
         unlink q(/dev/mqueue/own) or print q( ), 0 + $!"
    );
    for options in [&[][..], &["-w", "."]] {
        let mut arguments = vec!["run"];
        arguments.extend(options);
        arguments.extend(["--", "perl", "-e", &job]);
        let output = site.run(&arguments);
        let enoent = "2 sent hello /dev/mqueue/own";
        assert_eq!(stdout(&output), enoent, "{options:?}: {}", text(&output));
    }
    assert!(outside(&format!("print queue(qq({name}), 2, 1)")) != "-1");
    assert_eq!(
        outside(&format!("my $name = qq({name}); print syscall 241, $name")),
        "0"
    );
}

#[test]
fn message_queues_of_a_job_leave_some_to_the_caller() {
    let site = Site::new("mqueue-bytes");
    let fill = format!(
        "{OPEN} my $n = 0; $n++ while queue(qq(q$n), 0102, 10) >= 0; print $n; $| = 1; print qq(\\n); sleep 1000"
    );
    site.detach("full", &["-w", "."], &format!("perl -e '{fill}'"));
    let made: u32 = until("the job has all it can get", || {
        stdout(&site.run(&["logs", "full"])).parse().ok()
    });
    assert!(made > 0, "{made}");
    let outside = "my $name = qq(rest); my $made = queue($name, 0102, 10); print $made < 0 ? $! : syscall 241, $name";
    assert_eq!(site.outside(&format!("perl -e '{OPEN} {outside}'")), "0");
    site.remove("full");
}
