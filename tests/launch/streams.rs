//! Descriptors 0–2: bytes unchanged, ends where they belong, and nothing of the caller's file inside.

use crate::site::{LIMIT, Site, code, complaints, finish, output, stderr, stdout, text, until};
use rustix::fs::{OFlags, fcntl_getfl};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Instant;

/// Bytes without a pattern that buffers could hide.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn sixty_four_mebibytes_pass_unchanged() {
    let site = Site::new("streams-64m");
    let bytes = noise(64 << 20);
    let expected = Sha256::digest(&bytes);
    let mut command = site.cofferdam(&["run", "--", "cat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = finish(child);
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(output.stdout.len(), 64 << 20);
    assert_eq!(Sha256::digest(&output.stdout), expected);
}

#[test]
fn files_in_and_out_pass_unchanged() {
    let site = Site::new("streams-files");
    let bytes = noise((3 << 20) + 17);
    fs::write(site.base().join("in"), &bytes).unwrap();
    let mut command = site.cofferdam(&["run", "--", "cat"]);
    command.stdin(File::open(site.base().join("in")).unwrap());
    command.stdout(File::create(site.base().join("out")).unwrap());
    let status = command.stderr(Stdio::null()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read(site.base().join("out")).unwrap(), bytes);
}

#[test]
fn the_end_of_stdin_arrives_while_output_goes_on() {
    let site = Site::new("streams-half");
    let mut command =
        site.cofferdam(&["run", "--", "sh", "-c", "wc -c; echo after the end; exit 7"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"12345").unwrap();
    let output = finish(child);
    assert_eq!(code(&output), 7, "{}", text(&output));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "5\nafter the end\n"
    );
}

#[test]
fn a_job_that_does_not_read_stdin_ends_all_the_same() {
    let site = Site::new("streams-unread");
    let mut command = site.cofferdam(&["run", "--", "true"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{}", text(&output));
    drop(stdin);
}

#[test]
fn a_reader_that_goes_away_ends_the_writer_by_sigpipe() {
    let site = Site::new("streams-sigpipe");
    let mut command = site.cofferdam(&["run", "--", "yes"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0u8; 4];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = finish(child);
    assert_eq!(&first, b"y\ny\n");
    assert_eq!(code(&output), 128 + 13, "{}", text(&output));
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let site = Site::new("streams-apart");
    let output = site.sh(&[], "echo out; echo err >&2");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(complaints(&output), "err");
}

#[test]
fn everything_written_before_the_end_is_delivered() {
    let site = Site::new("streams-last-words");
    // stdin null, pipe and file: which one it is must not matter for output.
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    for round in 0..10 {
        let file = File::open("/etc/passwd").unwrap();
        for stdin in [Stdio::null(), Stdio::piped(), Stdio::from(file)] {
            let mut command = site.cofferdam(&["run", "--", "sh", "-c", script]);
            let child = command
                .stdin(stdin)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let output = finish(child);
            assert_eq!(
                output.stdout.len(),
                1_000_000,
                "round {round}: {:?}",
                output.status
            );
            let zeros = output.stderr.iter().filter(|byte| **byte == 0).count();
            assert_eq!(zeros, 1_000_000, "round {round}: {:?}", output.status);
        }
    }
}

#[test]
fn a_slow_reader_gets_all_output_of_a_job_that_has_ended() {
    let site = Site::new("streams-slow");
    let mut command = site.cofferdam(&[
        "run",
        "--name",
        "slow",
        "--",
        "sh",
        "-c",
        "head -c 60000 /dev/zero; echo x > /dev/null",
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Nothing is read until the job is gone.
    let events = site.data().join("sandboxes/slow");
    until("records", || events.exists().then_some(()));
    let mut read = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(read.len(), 60_000);
}

#[test]
fn a_regular_file_on_stdin_cannot_be_written_through_proc() {
    let site = Site::new("streams-reopen");
    let path = site.base().join("input");
    site.write(&path, "original");
    let script = "(echo evil > /proc/self/fd/0) 2>/dev/null; (echo evil > /dev/stdin) 2>/dev/null; chmod 4777 /proc/self/fd/0 2>/dev/null; readlink /proc/self/fd/0";
    for options in [&[][..], &["-w", "."]] {
        let mut arguments = vec!["run"];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        let mut command = site.cofferdam(&arguments);
        command.stdin(File::options().read(true).write(true).open(&path).unwrap());
        let output = command.stderr(Stdio::null()).output().unwrap();
        let link = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(link.starts_with("pipe:"), "{link}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "original");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o644);
    }
}

#[test]
fn non_blocking_mode_does_not_stay_on_the_callers_descriptors() {
    let site = Site::new("streams-nonblock");
    let set = "use Fcntl; for my $f (*STDIN, *STDOUT, *STDERR) { my $flags = fcntl($f, F_GETFL, 0); fcntl($f, F_SETFL, $flags | O_NONBLOCK | O_APPEND) or die $! }";
    let mut command = site.cofferdam(&["run", "--", "perl", "-e", set]);
    let (read, write) = rustix::pipe::pipe().unwrap();
    let file = File::create(site.base().join("out")).unwrap();
    let before = (fcntl_getfl(&write).unwrap(), fcntl_getfl(&file).unwrap());
    command.stdin(Stdio::from(read.try_clone().unwrap()));
    command.stdout(Stdio::from(write.try_clone().unwrap()));
    command.stderr(Stdio::from(file.try_clone().unwrap()));
    assert!(command.status().unwrap().success());
    assert_eq!(
        (fcntl_getfl(&write).unwrap(), fcntl_getfl(&file).unwrap()),
        before
    );
    assert!(!before.0.contains(OFlags::NONBLOCK));
}

#[test]
fn no_other_descriptor_of_the_caller_comes_in() {
    let site = Site::new("streams-inherited");
    let secret = site.base().join("secret");
    site.write(&secret, "secret");
    // A shell opens descriptors 7 and 200 without close-on-exec.
    let inner = "for fd in /proc/self/fd/*; do readlink $fd; done; cat <&7 2>/dev/null";
    let outer = format!(
        "exec 7<{0}; exec 9</etc; {1} run -- sh -c '{inner}'",
        secret.display(),
        crate::site::program()
    );
    let output = output(site.command("/bin/sh").args(["-c", &outer]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("secret") && !said.contains("/etc"), "{said}");
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("pipe:"))
            .count(),
        2,
        "{said}"
    );
}

#[test]
fn closed_descriptors_are_refused_or_harmless() {
    let site = Site::new("streams-closed");
    for closed in ["<&-", ">&-", "2>&-"] {
        let script = format!("{} run -- sh -c 'exit 5' {closed}", crate::site::program());
        let output = output(site.command("/bin/sh").args(["-c", &script]));
        assert!(
            matches!(code(&output), 5 | 125),
            "{closed}: {}",
            text(&output)
        );
    }
}

#[test]
fn dev_stdout_can_be_opened_by_name() {
    let site = Site::new("streams-by-name");
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    for options in [&[][..], &["-w", "."]] {
        let output = site.sh(options, script);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "out\n",
            "{}",
            text(&output)
        );
        assert_eq!(complaints(&output), "err");
    }
}

#[test]
fn a_background_process_of_the_job_does_not_hold_the_output_open() {
    let site = Site::new("streams-background");
    let before = Instant::now();
    let output = site.sh(&[], "sleep 1000 & echo started");
    assert_eq!(stdout(&output), "started");
    assert!(before.elapsed() < LIMIT);
}

#[test]
fn exec_delivers_all_output_whatever_stdin_is() {
    let site = Site::new("streams-exec");
    site.detach("box", &[], "sleep 1000");
    let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 9";
    for round in 0..5 {
        let file = File::open("/etc/passwd").unwrap();
        for stdin in [Stdio::null(), Stdio::piped(), Stdio::from(file)] {
            let mut command = site.cofferdam(&["exec", "box", "--", "sh", "-c", script]);
            let child = command
                .stdin(stdin)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let output = finish(child);
            assert_eq!(code(&output), 9, "round {round}");
            assert_eq!(output.stdout.len(), 300_000, "round {round}");
            assert_eq!(output.stderr.len(), 300_000, "round {round}");
        }
    }
    site.remove("box");
}
