//! Terminals: the job has one of its own; the caller's is copied, made raw, and given back as it was.

use crate::site::{LIMIT, Site, program, until};
use rustix::fd::OwnedFd;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A terminal with a person at it: this test.
struct Terminal {
    master: OwnedFd,
    slave: File,
    /// All that was shown.
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOCTTY);
        let slave = options
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let terminal = Self {
            master,
            slave,
            shown: Arc::default(),
        };
        terminal.resize(rows, columns);
        let mut reader = File::from(terminal.master.try_clone().unwrap());
        let shown = Arc::clone(&terminal.shown);
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(length) = std::io::Read::read(&mut reader, &mut buffer) {
                if length == 0 {
                    return;
                }
                shown.lock().unwrap().extend(&buffer[..length]);
            }
        });
        terminal
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Starts `cofferdam` with this as the controlling terminal and all of 0–2.
    fn start(&self, site: &Site, arguments: &[&str]) -> Child {
        let mut command = site.command("setsid");
        command
            .args(["--ctty", "--wait", &program()])
            .args(arguments);
        command.env("TERM", "xterm");
        command
            .stdin(self.end())
            .stdout(self.end())
            .stderr(self.end());
        command.spawn().unwrap()
    }

    fn end(&self) -> Stdio {
        Stdio::from(self.slave.try_clone().unwrap())
    }

    fn type_in(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap())
            .write_all(keys.as_bytes())
            .unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.shown().contains(what) {
            assert!(
                Instant::now() < deadline,
                "{what:?} is never shown: {}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    until("the end of a command at a terminal", || {
        child.try_wait().unwrap()
    })
}

fn same(before: &Termios, after: &Termios) -> bool {
    (
        before.input_modes,
        before.output_modes,
        before.control_modes,
        before.local_modes,
    ) == (
        after.input_modes,
        after.output_modes,
        after.control_modes,
        after.local_modes,
    )
}

#[test]
fn the_job_has_a_terminal_of_its_own_with_the_callers_size() {
    let site = Site::new("tty-size");
    let terminal = Terminal::new(41, 133);
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; tty; echo t=$TERM; (: </dev/tty) && echo controlling";
    let mut child = terminal.start(&site, &["run", "--", "sh", "-c", script]);
    assert!(wait(&mut child).success(), "{}", terminal.shown());
    terminal.wait_for("all three\r\n");
    terminal.wait_for("41 133\r\n");
    // Of a devpts instance of its own: the first one in it.
    terminal.wait_for("/dev/pts/0\r\n");
    terminal.wait_for("t=xterm");
    terminal.wait_for("controlling");
}

#[test]
fn a_new_size_arrives() {
    let site = Site::new("tty-resize");
    let terminal = Terminal::new(24, 80);
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut child = terminal.start(&site, &["run", "--", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.resize(50, 99);
    assert_eq!(wait(&mut child).code(), Some(3), "{}", terminal.shown());
    terminal.wait_for("50 99");
}

#[test]
fn control_c_reaches_the_job_and_not_cofferdam() {
    let site = Site::new("tty-ctrl-c");
    let terminal = Terminal::new(24, 80);
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = terminal.start(&site, &["run", "--", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.type_in("\x03");
    assert_eq!(wait(&mut child).code(), Some(9), "{}", terminal.shown());
    terminal.wait_for("caught");
}

#[test]
fn control_c_kills_a_job_that_does_not_catch_it() {
    let site = Site::new("tty-ctrl-c-kills");
    let terminal = Terminal::new(24, 80);
    let mut child = terminal.start(
        &site,
        &["run", "--", "sh", "-c", "echo ready; exec sleep 1000"],
    );
    terminal.wait_for("ready");
    terminal.type_in("\x03");
    assert_eq!(
        wait(&mut child).code(),
        Some(128 + 2),
        "{}",
        terminal.shown()
    );
}

#[test]
fn a_shell_has_job_control() {
    let site = Site::new("tty-job-control");
    let terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let mut child = terminal.start(&site, &["run", "--env", "PS1=> ", "--", "sh", "-i"]);
    terminal.wait_for("> ");
    terminal.type_in("sleep 1000\n");
    terminal.wait_for("sleep 1000");
    // ^C may come before the shell has made it the foreground; then it is for the shell.
    let deadline = Instant::now() + LIMIT;
    while !terminal.shown().contains("answer 42") {
        assert!(Instant::now() < deadline, "{}", terminal.shown());
        terminal.type_in("\x03");
        terminal.type_in("echo answer $((6*7))\n");
        std::thread::sleep(Duration::from_millis(100));
    }
    terminal.type_in("\nexit 4\n");
    assert_eq!(wait(&mut child).code(), Some(4), "{}", terminal.shown());
    assert!(
        !terminal.shown().contains("job control turned off"),
        "{}",
        terminal.shown()
    );
    assert!(same(&before, &terminal.modes()));
}

#[test]
fn the_terminal_is_raw_meanwhile_and_as_before_afterwards() {
    let site = Site::new("tty-raw");
    let terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let mut child = terminal.start(
        &site,
        &[
            "run",
            "--",
            "sh",
            "-c",
            "echo ready; read line; echo got $line",
        ],
    );
    terminal.wait_for("ready");
    until("raw mode", || {
        (!terminal.modes().local_modes.contains(LocalModes::ICANON)).then_some(())
    });
    terminal.type_in("words\n");
    assert!(wait(&mut child).success());
    terminal.wait_for("got words");
    assert!(same(&before, &terminal.modes()));
    // The echo came from the job's own terminal, once.
    assert_eq!(
        terminal.shown().matches("words").count(),
        2,
        "{}",
        terminal.shown()
    );
}

#[test]
fn the_terminal_is_as_before_when_the_job_is_killed_or_the_start_fails() {
    let site = Site::new("tty-restored");
    let terminal = Terminal::new(24, 80);
    let before = terminal.modes();
    let mut child = terminal.start(&site, &["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(wait(&mut child).code(), Some(128 + 9));
    assert!(same(&before, &terminal.modes()));
    let mut child = terminal.start(&site, &["run", "--", "/no/such/program"]);
    assert_eq!(wait(&mut child).code(), Some(127));
    assert!(same(&before, &terminal.modes()));
    let mut child = terminal.start(&site, &["run", "--timeout", "1s", "--", "sleep", "1000"]);
    assert_eq!(wait(&mut child).code(), Some(124));
    assert!(same(&before, &terminal.modes()));
}

#[test]
fn a_file_on_stdout_stays_a_file_beside_a_terminal() {
    let site = Site::new("tty-mixed");
    let terminal = Terminal::new(24, 80);
    let path = site.base().join("out");
    let mut command = site.command("setsid");
    command.args(["--ctty", "--wait", &program(), "run", "--", "sh", "-c"]);
    command
        .arg("test -t 0 && echo in >&2; test -t 1 || echo to the file; test -t 2 && echo err >&2");
    command.stdin(terminal.end()).stderr(terminal.end());
    command.stdout(File::create(&path).unwrap());
    let mut child = command.spawn().unwrap();
    assert!(wait(&mut child).success(), "{}", terminal.shown());
    // No carriage return: it never passed a terminal.
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "to the file\n");
    terminal.wait_for("in\r\n");
    terminal.wait_for("err\r\n");
}

#[test]
fn a_long_file_beside_a_terminal_is_complete() {
    let site = Site::new("tty-mixed-long");
    let terminal = Terminal::new(24, 80);
    for round in 0..5 {
        let path = site.base().join(format!("out{round}"));
        let mut command = site.command("setsid");
        command.args([
            "--ctty",
            "--wait",
            &program(),
            "run",
            "--",
            "head",
            "-c",
            "1000000",
            "/dev/zero",
        ]);
        command.stdin(terminal.end()).stderr(terminal.end());
        command.stdout(File::create(&path).unwrap());
        let mut child = command.spawn().unwrap();
        assert!(wait(&mut child).success(), "{}", terminal.shown());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1_000_000);
    }
}

#[test]
fn all_output_at_a_terminal_is_shown_before_the_end() {
    let site = Site::new("tty-last-words");
    for round in 0..5 {
        let terminal = Terminal::new(24, 80);
        let mut child = terminal.start(
            &site,
            &["run", "--", "sh", "-c", "seq 1 5000; echo the very end"],
        );
        assert!(wait(&mut child).success());
        terminal.wait_for("the very end");
        let shown = terminal.shown();
        let lines = shown
            .lines()
            .filter(|line| line.parse::<u32>().is_ok())
            .count();
        assert_eq!(lines, 5000, "round {round}");
    }
}

#[test]
fn without_a_terminal_there_is_none_unless_asked_for() {
    let site = Site::new("tty-none");
    let script = "for fd in 0 1 2; do test -t $fd && echo terminal; done; (: < /dev/tty) 2>/dev/null && echo controlling; true";
    assert_eq!(crate::site::stdout(&site.sh(&[], script)), "");
}

#[test]
fn the_callers_terminal_cannot_be_reached() {
    let site = Site::new("tty-sti");
    let terminal = Terminal::new(24, 80);
    // TIOCSTI (0x5412) by its low 32 bits, and with high ones set.
    let perl = "my $c = 'x'; for my $n (0x5412, 0x100005412) { print ioctl(STDIN, $n, $c) ? qq(pushed ) : qq(refused ) }; print qq(done)";
    let mut child = terminal.start(&site, &["run", "--", "perl", "-e", perl]);
    assert!(wait(&mut child).success(), "{}", terminal.shown());
    terminal.wait_for("done");
    assert!(
        terminal.shown().contains("refused refused"),
        "{}",
        terminal.shown()
    );
}

#[test]
fn exec_has_a_terminal_with_size_signals_and_restored_modes() {
    let site = Site::new("tty-exec");
    let terminal = Terminal::new(31, 101);
    let before = terminal.modes();
    site.detach("box", &[], "sleep 1000");
    let script = "stty size; tty; trap 'stty size; echo caught; exit 6' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = terminal.start(&site, &["exec", "box", "--", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.wait_for("31 101");
    terminal.wait_for("/dev/pts/");
    terminal.resize(20, 60);
    until("the new size is the caller's", || {
        (tcgetwinsize(terminal.slave.as_fd()).unwrap().ws_col == 60).then_some(())
    });
    terminal.type_in("\x03");
    assert_eq!(wait(&mut child).code(), Some(6), "{}", terminal.shown());
    terminal.wait_for("caught");
    assert!(same(&before, &terminal.modes()));
    site.remove("box");
}

#[test]
fn the_terminal_hanging_up_reaches_the_job() {
    let site = Site::new("tty-hangup");
    let terminal = Terminal::new(24, 80);
    let path = site.work().join("how");
    let script = "trap 'echo hup > how; exit 1' HUP; echo ready; while :; do sleep 0.1; done";
    let mut child = terminal.start(
        &site,
        &["run", "--name", "hung", "-w", ".", "--", "sh", "-c", script],
    );
    terminal.wait_for("ready");
    let supervisor = until("the supervisor", || site.processes("hung"))[0];
    crate::site::signal(supervisor, rustix::process::Signal::HUP);
    wait(&mut child);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "hup\n");
}
