//! Shows that every probe can succeed: outside, where no control of ours is.
//!
//! A refusal inside proves nothing unless the same attempt works outside on
//! the same kernel. And whatever a probe may do there, the host must not change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "probes/catalogue.rs"]
mod catalogue;
mod support;

use catalogue::{Arrangement, Positive, Row, rows};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use support::canary::Canaries;
use support::census::Census;
use support::probe::{Answer, Planted, answers, install};
use support::skip;
use support::user::Account;

/// Errnos that say the kernel has no such thing.
const LACKING: &[&str] = &[
    "ENOSYS",
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
];

/// Dropped in this order: what is planted lies in the directory.
struct Outside {
    planted: Planted,
    directory: support::user::Directory,
    account: Account,
    program: std::path::PathBuf,
}

impl Outside {
    fn new(name: &str) -> Self {
        let account = Account::ordinary();
        let directory = account.directory(name);
        let program = install(&directory.0);
        let planted = Planted::as_account(&account, &program, &directory.0);
        Self {
            account,
            program,
            directory,
            planted,
        }
    }

    /// `sh -c SCRIPT probe PROGRAM OPTION… run NAME…` as `command`, with a
    /// file of the user's on stdin.
    fn run(&self, mut command: Command, script: &str, names: &[&str]) -> BTreeMap<String, Answer> {
        let stdin = self.directory.0.join("workspace/.git/config");
        command
            .args(["-c", script, "probe"])
            .arg(&self.program)
            .args(&self.planted.options);
        command
            .arg("run")
            .args(names)
            .current_dir(&self.planted.workspace);
        let output = command
            .stdin(File::open(stdin).unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {}", output.status);
        answers(&output.stdout)
    }

    fn user(&self) -> Command {
        let mut command = self.account.command("/bin/sh");
        command.env("COFFERDAM_TEST_SECRET", "visible outside");
        command
    }
}

fn names_with(positive: Positive) -> Vec<&'static str> {
    rows()
        .iter()
        .filter(|row| row.positive == positive)
        .map(|row| row.name)
        .collect()
}

/// Every row of `answers` was allowed, or is a named skip.
fn assert_allowed(answers: &BTreeMap<String, Answer>, names: &[&str]) {
    let all: BTreeMap<&str, Row> = rows().into_iter().map(|row| (row.name, row)).collect();
    let mut failures = Vec::new();
    for name in names {
        let answer = answers
            .get(*name)
            .unwrap_or_else(|| panic!("{name} gave no line"));
        let arranged = matches!(all[name].positive, Positive::Arranged(_));
        let lacking = (answer.outcome == "absent" && !arranged)
            || answer
                .errno
                .as_deref()
                .is_some_and(|errno| LACKING.contains(&errno));
        match (answer.outcome.as_str(), all[name].unproven) {
            ("allowed", _) => {}
            ("refused" | "absent", Some(why)) => skip(name, why),
            _ if lacking => skip(name, &format!("this host lacks it: {}", answer.detail)),
            _ => failures.push(format!("{name}: {answer:?}")),
        }
    }
    assert!(
        failures.is_empty(),
        "these could not succeed outside, so a refusal inside shows nothing:\n{}",
        failures.join("\n")
    );
}

fn root() -> bool {
    rustix::process::getuid().is_root()
}

#[test]
fn catalogue_and_program_agree() {
    let listed = Command::new(support::built("examples/probe"))
        .arg("list")
        .output()
        .unwrap();
    let listed: BTreeSet<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let rows: BTreeSet<String> = rows().iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(listed, rows);
    assert!(rows.len() >= 75, "{} probes", rows.len());
}

#[test]
fn as_the_ordinary_user() {
    let outside = Outside::new("caller");
    let names = names_with(Positive::Caller);
    assert_allowed(&outside.run(outside.user(), r#"exec "$@""#, &names), &names);
}

#[test]
fn in_a_user_namespace_of_its_own() {
    let outside = Outside::new("userns");
    let names = names_with(Positive::UserNamespace);
    let script = r#"exec unshare --user --map-root-user --mount --pid --fork --ipc --net --uts --mount-proc -- "$@""#;
    assert_allowed(&outside.run(outside.user(), script, &names), &names);
}

#[test]
fn as_root_of_the_host() {
    if !root() {
        return skip(
            "positive controls as root",
            "the tests were not started by root",
        );
    }
    let outside = Outside::new("root");
    let names = names_with(Positive::Root);
    assert_allowed(
        &outside.run(Command::new("/bin/sh"), r#"exec "$@""#, &names),
        &names,
    );
}

/// All probes, everywhere: nothing may be changed by one that succeeds.
#[test]
fn the_host_stays_as_it_was() {
    let outside = Outside::new("canary");
    let workspace = outside.planted.workspace.clone();
    let trees: &[&Path] = &[&workspace, &outside.planted.outside];
    let canaries = Canaries::take(trees);
    let census = Census::take(&outside.account, trees, &[]);
    let all: Vec<&str> = rows().iter().map(|row| row.name).collect();
    outside.run(outside.user(), r#"exec "$@""#, &all);
    if root() {
        outside.run(Command::new("/bin/sh"), r#"exec "$@""#, &all);
    }
    let mut changed = canaries.changes(&Canaries::take(trees));
    // Outside, asking for a socket family loads its module, and that is for good.
    changed.retain(|name| !["/proc/modules", "/proc/filesystems"].contains(&name.as_str()));
    assert_eq!(changed, Vec::<String>::new());
    let later = Census::take(&outside.account, trees, &[]);
    let left: Vec<String> = census
        .leaks(&later)
        .into_iter()
        .filter(|line| !other_tests(line))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// The other tests of this file run at the same time, as the same user.
fn other_tests(line: &str) -> bool {
    line.starts_with("process ") || line.starts_with("namespace ") || line.starts_with("cgroup ")
}

#[test]
fn after_it_was_arranged() {
    let outside = Outside::new("arranged");
    let arrangements: Vec<(&str, Arrangement)> = rows()
        .iter()
        .filter_map(|row| match row.positive {
            Positive::Arranged(arrangement) => Some((row.name, arrangement)),
            _ => None,
        })
        .collect();
    for (name, arrangement) in arrangements {
        if let Some(found) = arranged(&outside, name, arrangement) {
            assert_allowed(&found, &[name]);
        }
    }
}

/// The answer of one probe after `arrangement`, or `None` after a named skip.
fn arranged(
    outside: &Outside,
    name: &str,
    arrangement: Arrangement,
) -> Option<BTreeMap<String, Answer>> {
    let socket = outside.planted.outside.join("socket");
    let mut command = outside.user();
    let script = match arrangement {
        Arrangement::InheritedDescriptor => r#"exec "$@" 9<"$1""#,
        Arrangement::SessionKey => {
            let careless = outside.directory.0.join("careless");
            support::install(&support::built("examples/careless"), &careless);
            r#"exec "${1%/*}/careless" caller "$@""#
        }
        Arrangement::IgnoredSignal => r#"trap "" HUP; exec "$@""#,
        Arrangement::VanishedDirectory => {
            r#"mkdir vanished; cd vanished; rmdir ../vanished; exec "$@""#
        }
        Arrangement::SessionSocket => {
            command.env("SSH_AUTH_SOCK", &socket);
            r#"exec "$@""#
        }
        Arrangement::UserBus => {
            command.env("XDG_RUNTIME_DIR", &outside.planted.outside);
            r#"ln -s socket "$XDG_RUNTIME_DIR/bus"; "$@"; rm "$XDG_RUNTIME_DIR/bus""#
        }
        Arrangement::SocketInTmp => return Some(with_socket_in_tmp(outside, name)),
        Arrangement::BoundOutside => {
            r#"exec unshare -Urm sh -c 'mount --bind "$0" /mnt; exec "$@"' "$PWD/../outside" "$@""#
        }
        Arrangement::Terminal => {
            r#"c=; for a in "$@"; do c="$c '$a'"; done; exec script --quiet --return --command "exec $c | cat" /dev/null </dev/null"#
        }
        Arrangement::SharedMounts
        | Arrangement::InheritableCapability
        | Arrangement::SupplementaryGroup
            if !root() =>
        {
            skip(name, "arranging it needs root");
            return None;
        }
        Arrangement::SharedMounts => {
            command = Command::new("/bin/sh");
            r#"exec unshare --mount --propagation shared -- "$@""#
        }
        Arrangement::InheritableCapability => {
            command = Command::new("/bin/sh");
            r#"exec setpriv --inh-caps +chown --ambient-caps +chown -- "$@""#
        }
        Arrangement::SupplementaryGroup => {
            command = Command::new("/bin/sh");
            r#"exec setpriv --groups 4 -- "$@""#
        }
    };
    Some(outside.run(command, script, &[name]))
}

fn with_socket_in_tmp(outside: &Outside, name: &str) -> BTreeMap<String, Answer> {
    let path = std::env::temp_dir().join(format!("cofferdam-test-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let found = outside.run(outside.user(), r#"exec "$@""#, &[name]);
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    found
}
