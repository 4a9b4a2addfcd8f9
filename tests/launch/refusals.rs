//! Bad input: a one-line cause, what to do, exit 125, and nothing left behind.

use crate::site::{Site, code, complaints, output, signal, text, until};
use crate::support::skip;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// The first line names the cause with all `words`; 125; the workspace is as it was.
fn refused(site: &Site, arguments: &[&str], words: &[&str]) -> String {
    let before = site.outside("find . | sort");
    let output = site.run(arguments);
    check(&output, &format!("{arguments:?}"), words);
    assert_eq!(site.outside("find . | sort"), before, "{arguments:?}");
    assert_eq!(site.left(), Vec::<String>::new(), "{arguments:?}");
    complaints(&output)
}

fn check(output: &Output, what: &str, words: &[&str]) {
    assert_eq!(code(output), 125, "{what}: {}", text(output));
    assert_eq!(output.stdout, b"", "{what}");
    let said = complaints(output);
    let first = said.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: {word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{what}: {said}");
}

#[test]
fn unknown_policies_and_keys_come_with_place_and_nearest() {
    let site = Site::new("bad-policy");
    refused(
        &site,
        &["run", "-p", "untrustet", "--", "true"],
        &["untrustet", "untrusted"],
    );
    refused(
        &site,
        &["run", "-p", "./no-such.toml", "--", "true"],
        &["no-such.toml"],
    );
    let cases = [
        (
            "[resources]\nmemroy = \"1G\"\n",
            vec!["memroy", "memory", "5"],
        ),
        (
            "[resorces]\nmemory = \"1G\"\n",
            vec!["resorces", "resources"],
        ),
        ("[resources]\nmemory = \"1Q\"\n", vec!["1Q"]),
        ("[resources]\nmemory = 12\n", vec!["memory"]),
        ("extends = \"nothing\"\n", vec!["nothing"]),
        ("[workspace\n", vec!["4"]),
        (
            "[capabilities]\nkeep = [{ name = \"SYS_ADMIN\" }]\n",
            vec!["why"],
        ),
        (
            "[syscalls]\nallow = [{ name = \"no_such_call\", why = \"x\" }]\n",
            vec!["no_such_call"],
        ),
        ("[workspace]\nprotected = [\"../x\"]\n", vec!["../x"]),
        ("[network]\nmode = \"host\"\n", vec!["host"]),
    ];
    for (content, words) in cases {
        let content = format!("description = \"x\"\n{content}");
        let policy = site.policy("bad", &content);
        let said = refused(&site, &["run", "-p", &policy, "--", "true"], &words);
        assert!(said.contains("bad.toml"), "{content}: {said}");
    }
}

#[test]
fn a_policy_file_that_is_no_text_is_refused() {
    let site = Site::new("bad-policy-file");
    let path = site.base().join("binary.toml");
    fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    refused(
        &site,
        &["run", "-p", path.to_str().unwrap(), "--", "true"],
        &["binary.toml"],
    );
    let directory = site.base().join("directory.toml");
    fs::create_dir(&directory).unwrap();
    refused(
        &site,
        &["run", "-p", directory.to_str().unwrap(), "--", "true"],
        &["directory.toml"],
    );
    site.outside("mkfifo ../fifo.toml");
    refused(
        &site,
        &[
            "run",
            "-p",
            site.base().join("fifo.toml").to_str().unwrap(),
            "--",
            "true",
        ],
        &["fifo.toml"],
    );
    refused(
        &site,
        &["run", "-p", "/dev/zero", "--", "true"],
        &["/dev/zero"],
    );
}

#[test]
fn workspaces_that_give_away_too_much_are_refused() {
    let site = Site::new("bad-workspace");
    let home = site.account.home.to_str().unwrap().to_owned();
    let above = fs::canonicalize(&home).unwrap();
    let above = above.parent().unwrap().to_str().unwrap().to_owned();
    let base = site.base().to_str().unwrap().to_owned();
    let state = format!("{base}/run/cofferdam");
    let cases = [
        "/", &home, &above, "/etc", "/usr", "/proc", "/sys", "/dev", &base, &state, "/root",
    ];
    for path in cases {
        refused(&site, &["run", "-w", path, "--", "true"], &["error"]);
    }
    let said = refused(&site, &["run", "-w", &home, "--", "true"], &[&home]);
    assert!(said.contains("home"), "{said}");
    let missing = format!("{base}/nothing");
    refused(
        &site,
        &["run", "-w", &missing, "--", "true"],
        &[&missing, "does not exist"],
    );
    site.write(&site.base().join("file"), "x");
    refused(
        &site,
        &["run", "-w", &format!("{base}/file"), "--", "true"],
        &["not a directory"],
    );
    symlink(site.work(), site.base().join("link")).unwrap();
    refused(
        &site,
        &["run", "-w", &format!("{base}/link"), "--", "true"],
        &["symlink", &format!("{base}/work")],
    );
    refused(
        &site,
        &["run", "-w", &format!("{base}/work/../run"), "--", "true"],
        &["error"],
    );
    for inside in ["/proc", "/etc/x", "/usr", "/", "/dev/shm"] {
        refused(
            &site,
            &["run", "-w", &format!("{base}/work={inside}"), "--", "true"],
            &[inside],
        );
    }
}

#[test]
fn odd_flags_are_refused_as_typed() {
    let site = Site::new("bad-flags");
    let cases: &[(&str, &str)] = &[
        ("--user", "root"),
        ("--user", "01"),
        ("--user", "-1"),
        ("--user", "4294967295"),
        ("--user", "1:2:3"),
        ("--memory", "-1"),
        ("--memory", "1.2.3G"),
        ("--memory", "99999999999999999999G"),
        ("--memory", ""),
        ("--cpus", "0"),
        ("--cpus", "-1"),
        ("--cpus", "many"),
        ("--pids", "0"),
        ("--pids", "1.5"),
        ("--timeout", "soon"),
        ("--timeout", "-1s"),
        ("--timeout", "0s"),
        ("--name", "Upper"),
        ("--name", ""),
        ("--name", ".hidden"),
        ("--name", "a/b"),
        ("--name", "../x"),
        ("--name", "a b"),
        ("--name", "-x"),
        ("--hostname", "a b"),
        ("--hostname", ""),
        ("--workdir", "relative"),
        ("--env", "=x"),
        ("--env", "A B=x"),
        ("--env", "1A=x"),
        ("--network", "host"),
        ("--mount", "nothing"),
        ("--mount", "=/x"),
        ("--tmpfs", "relative"),
        ("--policy", ""),
    ];
    for (flag, value) in cases {
        let typed = format!("{flag}={value}");
        let output = site.run(&["run", &typed, "--", "true"]);
        assert_eq!(code(&output), 125, "{typed}: {}", text(&output));
        let said = complaints(&output);
        assert!(said.starts_with("error: "), "{typed}: {said}");
        assert!(
            said.contains(flag) || said.contains(value),
            "{typed}: {said}"
        );
    }
    let long = "a".repeat(64);
    let output = site.run(&["run", "--name", &long, "--", "true"]);
    assert_eq!(code(&output), 125, "{}", text(&output));
    let fits = "a".repeat(63);
    let output = site.run(&["run", "--name", &fits, "--", "true"]);
    assert_eq!(code(&output), 0, "a name of 63 letters: {}", text(&output));
    for arguments in [
        &["run"][..],
        &["run", "--no-such-flag", "--", "true"],
        &["no-such-command"],
        &["exec", "x"],
    ] {
        let output = site.run(arguments);
        assert_eq!(code(&output), 125, "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn working_directories_that_are_not_there_are_refused() {
    let site = Site::new("bad-workdir");
    refused(
        &site,
        &["run", "--workdir", "/nowhere", "--", "true"],
        &["/nowhere", "working directory"],
    );
    refused(
        &site,
        &["run", "--workdir", "/etc/passwd", "--", "true"],
        &["/etc/passwd"],
    );
}

#[test]
fn a_directory_that_vanishes_under_the_caller_is_refused() {
    let site = Site::new("bad-cwd");
    let script = format!(
        "mkdir gone; cd gone; rmdir ../gone; exec {} run -w . -- true",
        crate::site::program()
    );
    let output = output(site.command("/bin/sh").args(["-c", &script]));
    check(&output, "a removed directory", &["--workspace"]);
}

#[test]
fn names_of_variables_in_files_have_a_place() {
    let site = Site::new("bad-env-file");
    site.write(&site.base().join("vars"), "GOOD=1\nnot a variable\n");
    let file = site.base().join("vars");
    refused(
        &site,
        &["run", "--env-file", file.to_str().unwrap(), "--", "true"],
        &["vars", "2"],
    );
    refused(
        &site,
        &["run", "--env-file", "/no/such", "--", "true"],
        &["/no/such"],
    );
}

#[test]
fn damaged_state_is_shown_and_can_be_removed() {
    let site = Site::new("bad-state");
    let damages: [&[u8]; 6] = [
        b"",
        b"{",
        b"not json",
        b"{\"schema\":1}",
        &[0xff; 300],
        b"[]",
    ];
    for damage in damages {
        site.detach("job", &[], "sleep 1000");
        let processes = site.processes("job").unwrap();
        for pid in processes {
            signal(pid, Signal::KILL);
        }
        let state = site.runtime().join("job/state.json");
        until("the supervisor is gone", || {
            (!std::path::Path::new(&format!("/proc/{}", processes[0])).exists()).then_some(())
        });
        fs::write(&state, damage).unwrap();
        let listed = site.run(&["ps"]);
        assert_eq!(code(&listed), 0, "{damage:?}: {}", text(&listed));
        assert!(
            crate::site::stdout(&listed).contains("unreadable: cofferdam rm job"),
            "{}",
            text(&listed)
        );
        // Others go on; the name itself is taken.
        let other = site.sh(&[], "true");
        assert_eq!(code(&other), 0, "{damage:?}: {}", text(&other));
        check(
            &site.sh(&["--name", "job"], "true"),
            "name of damaged state",
            &["job"],
        );
        check(&site.run(&["inspect", "job"]), "inspect", &["job"]);
        check(&site.run(&["exec", "job", "--", "true"]), "exec", &["job"]);
        site.remove("job");
    }
    // Not a file at all.
    for make in ["mkdir", "mkfifo", "ln -s /etc/passwd"] {
        site.detach("job", &[], "exit 0");
        let ended = || {
            site.run(&["ps"])
                .stdout
                .windows(8)
                .any(|part| part == b"exited 0")
        };
        until("the end", || ended().then_some(()));
        let state = site.runtime().join("job/state.json");
        site.outside(&format!("rm {0}; {make} {0}", state.display()));
        let listed = site.run(&["ps"]);
        assert_eq!(code(&listed), 0, "{make}: {}", text(&listed));
        let other = site.sh(&[], "true");
        assert_eq!(code(&other), 0, "{make}: {}", text(&other));
        let removed = site.run(&["rm", "-f", "job"]);
        assert_eq!(code(&removed), 0, "{make}: {}", text(&removed));
    }
}

#[test]
fn state_directories_open_to_others_are_refused() {
    let site = Site::new("bad-directories");
    site.sh(&[], "true");
    let runtime = site.runtime();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o777)).unwrap();
    let output = site.sh(&[], "true");
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    check(&output, "a runtime directory that is open", &["chmod 700"]);
    // A symlink in its place.
    site.outside(&format!(
        "mv {0} {0}.real && ln -s {0}.real {0}",
        runtime.display()
    ));
    let output = site.sh(&[], "true");
    site.outside(&format!("rm {0} && mv {0}.real {0}", runtime.display()));
    check(&output, "a symlink as runtime directory", &["cofferdam"]);
}

#[test]
fn a_runtime_directory_with_a_long_path_works() {
    let site = Site::new("long-path");
    // sockaddr_un has 108 bytes.
    let long = site.base().join("l".repeat(100)).join("o".repeat(100));
    site.outside(&format!("mkdir -p {0} && chmod 700 {0}", long.display()));
    let run = |arguments: &[&str]| output(site.cofferdam(arguments).env("XDG_RUNTIME_DIR", &long));
    let started = run(&["run", "-d", "--name", "box", "--", "sleep", "1000"]);
    assert_eq!(code(&started), 0, "{}", text(&started));
    assert_eq!(code(&run(&["exec", "box", "--", "true"])), 0);
    assert_eq!(code(&run(&["rm", "-f", "box"])), 0);
    assert_eq!(fs::read_dir(long.join("cofferdam")).unwrap().count(), 0);
}

#[test]
fn a_user_without_subordinate_ids_is_told_how_to_get_some() {
    let site = Site::new("no-subids");
    if !rustix::process::getuid().is_root() {
        return skip(
            "a user without subordinate ids",
            "only root can be another user",
        );
    }
    // Nobody has a passwd entry and no range.
    let uid = 65534;
    let home = site.base().join("nobody");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
    let mut command = Command::new(crate::site::program());
    std::os::unix::process::CommandExt::uid(&mut command, uid);
    std::os::unix::process::CommandExt::gid(&mut command, uid);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &home)
        .env("XDG_DATA_HOME", &home);
    command.current_dir("/").args(["run", "--", "true"]);
    check(
        &output(&mut command),
        "no subordinate ids",
        &[
            "subordinate ids",
            "usermod --add-subuids",
            "ids.mode = \"caller\"",
        ],
    );
}

#[test]
fn no_newuidmap_is_told_with_the_package() {
    let site = Site::new("no-newuidmap");
    let output = output(
        site.cofferdam(&["run", "--", "/bin/true"])
            .env("PATH", "/nowhere"),
    );
    // Where it is looked for is the host's business; then it works.
    if output.status.success() {
        return skip("a host without newuidmap", "it is found outside PATH");
    }
    check(&output, "no newuidmap", &["uidmap"]);
}

#[test]
fn a_kernel_without_user_namespaces_is_refused_by_name() {
    let site = Site::new("no-userns");
    // In a user namespace of its own whose limit is 0: what such a kernel answers.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} run -- true",
        crate::site::program()
    );
    let mut command = site.command("unshare");
    command.args([
        "--user",
        "--map-current-user",
        "--keep-caps",
        "sh",
        "-c",
        &script,
    ]);
    let output = output(&mut command);
    if crate::site::stderr(&output).contains("unshare:") {
        return skip(
            "a kernel without user namespaces",
            "unshare --keep-caps does not work here",
        );
    }
    check(&output, "no user namespaces", &["user namespaces"]);
}

#[test]
fn limits_that_nothing_can_enforce_are_refused_where_not_given_up() {
    let site = Site::new("bad-limits");
    let policy = site.policy(
        "firm",
        "description = \"x\"\nextends = \"strict\"\n[workspace]\naccess = \"rw\"\n",
    );
    let output = site.sh(&["-p", &policy, "-w", "."], "true");
    if output.status.success() {
        return skip(
            "a limit that nothing can enforce",
            "a cgroup is delegated here",
        );
    }
    check(&output, "memory without a cgroup", &["memory", "cgroup"]);
    assert_eq!(site.outside("ls -A"), "");
}

#[test]
fn rootfs_that_is_none_is_refused() {
    let site = Site::new("bad-rootfs");
    for path in ["/no/such", "/etc/passwd"] {
        refused(&site, &["run", "--rootfs", path, "--", "true"], &[path]);
    }
    // An empty directory has no program in it.
    let empty = site.base().join("empty");
    fs::create_dir(&empty).unwrap();
    let output = site.run(&["run", "--rootfs", empty.to_str().unwrap(), "--", "true"]);
    assert!(matches!(code(&output), 125 | 127), "{}", text(&output));
}

#[test]
fn a_sandbox_in_a_sandbox_is_refused_by_name() {
    let site = Site::new("refusals-nested");
    let program = crate::site::program();
    let directory = Path::new(&program).parent().unwrap().display();
    let mount = format!("{directory}={directory}");
    let nested = [
        "run", "--mount", &mount, "--", &program, "run", "--", "true",
    ];
    check(&site.run(&nested), "a sandbox in a sandbox", &["namespace"]);
}
