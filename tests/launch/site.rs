//! Where one test runs sandboxes: the account, the installed programs, its own directories.

use crate::support::built;
use crate::support::census::Census;
use crate::support::user::{Account, Directory};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Nothing here takes this long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Held for reading by every test, for writing by one that counts processes.
static MACHINE: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "guards are held, not read")]
enum Guard {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Directories of one test.
pub struct Site {
    pub account: Account,
    base: Directory,
    guard: Option<Guard>,
}

impl Site {
    /// Beside other tests.
    pub fn new(name: &str) -> Self {
        let guard = MACHINE
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Self::make(name, Guard::Shared(guard))
    }

    /// With no other test of this program running.
    pub fn alone(name: &str) -> Self {
        let guard = MACHINE
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Self::make(name, Guard::Alone(guard))
    }

    fn make(name: &str, guard: Guard) -> Self {
        let account = account();
        // Not below /tmp, which sandboxes replace.
        let base = PathBuf::from(format!(
            "/var/tmp/cofferdam-launch-{}-{name}",
            std::process::id()
        ));
        fs::create_dir(&base).unwrap();
        chown(&base, Some(account.uid), Some(account.gid)).unwrap();
        let site = Self {
            account,
            base: Directory(base),
            guard: Some(guard),
        };
        for (name, mode) in [("work", 0o755), ("data", 0o700), ("run", 0o700)] {
            site.directory(name, mode);
        }
        site
    }

    fn directory(&self, name: &str, mode: u32) {
        let path = self.base.0.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(self.account.uid), Some(self.account.gid)).unwrap();
    }

    /// The directory that tests use as workspace.
    pub fn work(&self) -> PathBuf {
        self.base.0.join("work")
    }

    /// The directory above: policies, mounts, rootfs.
    pub fn base(&self) -> &Path {
        &self.base.0
    }

    /// Where living sandboxes are.
    pub fn runtime(&self) -> PathBuf {
        self.base.0.join("run/cofferdam")
    }

    /// Plans, events, logs, layers.
    pub fn data(&self) -> PathBuf {
        self.base.0.join("data/cofferdam")
    }

    /// Any program as the account.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.account.command(program);
        command
            .current_dir(self.work())
            .env("XDG_RUNTIME_DIR", self.base.0.join("run"))
            .env("XDG_DATA_HOME", self.base.0.join("data"));
        command
    }

    /// `cofferdam` with arguments.
    pub fn cofferdam<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command(&program());
        command.args(arguments.iter().map(AsRef::as_ref));
        command
    }

    /// Runs `cofferdam` to its end.
    pub fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Output {
        output(&mut self.cofferdam(arguments))
    }

    /// Runs a shell script in a sandbox: `run OPTIONS -- sh -c SCRIPT`.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        let mut arguments = vec!["run"];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        self.run(&arguments)
    }

    /// Starts a detached shell script under a name, once it runs.
    pub fn detach(&self, name: &str, options: &[&str], script: &str) {
        let mut arguments = vec!["run", "-d", "--name", name];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        let output = self.run(&arguments);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), name);
    }

    /// Runs a shell script outside as the account; its stdout.
    pub fn outside(&self, script: &str) -> String {
        let output = output(self.command("/bin/sh").args(["-c", script]));
        assert!(output.status.success(), "{script}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a file as the account would.
    pub fn write(&self, path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        chown(path, Some(self.account.uid), Some(self.account.gid)).unwrap();
    }

    /// A policy file above the workspace; its path as an argument.
    pub fn policy(&self, name: &str, content: &str) -> String {
        let path = self.base.0.join(format!("{name}.toml"));
        self.write(&path, &format!("schema = 1\nname = \"{name}\"\n{content}"));
        path.to_str().unwrap().to_owned()
    }

    /// First host id that is subordinate to the account.
    pub fn first_subordinate(&self) -> u32 {
        let file = fs::read_to_string("/etc/subuid").unwrap();
        let of_account = |line: &&str| {
            let owner = line.split(':').next();
            owner == Some(&self.account.name) || owner == Some(&self.account.uid.to_string())
        };
        let line = file.lines().find(of_account).expect("subordinate ids");
        line.split(':').nth(1).unwrap().parse().unwrap()
    }

    /// What sandboxes left in this site, one line each.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for directory in [self.runtime(), self.data().join("layers")] {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                left.push(entry.unwrap().path().display().to_string());
            }
        }
        left
    }

    /// Host pids of this site's sandbox: supervisor, gateway, init.
    pub fn processes(&self, name: &str) -> Option<[i32; 3]> {
        let text = fs::read(self.runtime().join(name).join("live/processes.json")).ok()?;
        let all: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let pid = |which: &str| i32::try_from(all[which]["pid"].as_i64()?).ok();
        Some([pid("supervisor")?, pid("gateway")?, pid("init")?])
    }

    /// Ends and removes a sandbox.
    pub fn remove(&self, name: &str) {
        let output = self.run(&["rm", "-f", name]);
        assert!(output.status.success(), "rm -f {name}: {}", text(&output));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A detached job must not outlive the test that failed.
            for name in fs::read_dir(self.runtime()).into_iter().flatten().flatten() {
                let name = name.file_name().to_string_lossy().into_owned();
                self.cofferdam(&["rm", "-f", &name]).output().unwrap();
            }
        } else {
            assert_eq!(self.left(), Vec::<String>::new(), "left behind");
        }
        drop(self.guard.take());
    }
}

/// Both programs where the account can execute them, by install(1): a file that
/// this process wrote itself could still be open in a child forked just then.
pub fn program() -> String {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    let directory = INSTALLED.get_or_init(|| {
        let build = |name| fs::metadata(built(name)).unwrap().ino();
        let builds = ["cofferdam", "examples/destinations", "examples/listener"];
        let build = builds.map(|name| build(name).to_string()).join("-");
        let user = rustix::process::getuid().as_raw();
        let directory = PathBuf::from(format!("/var/tmp/cofferdam-launch-programs-{user}-{build}"));
        // Whole or not at all: another run of the same build may be doing the same.
        let fresh = directory.with_extension(std::process::id().to_string());
        let mut install = Command::new("install");
        install.args(["-D", "--mode", "755", "-t"]).arg(&fresh);
        install.args([built("cofferdam"), built("cofferdam-init")]);
        install.args([built("examples/destinations"), built("examples/listener")]);
        assert!(install.status().unwrap().success(), "{install:?}");
        if fs::rename(&fresh, &directory).is_err() {
            // There already, and of the same build.
            fs::remove_dir_all(&fresh).unwrap();
        }
        directory
    });
    directory.join("cofferdam").to_str().unwrap().to_owned()
}

/// Starts with nothing on stdin and pipes on stdout and stderr.
pub fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs to the end, or fails the test at [`LIMIT`].
pub fn output(command: &mut Command) -> Output {
    finish(start(command))
}

/// Waits for a child's end and all its output.
pub fn finish(child: Child) -> Output {
    let pid = child.id();
    let (send, receive) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match receive.recv_timeout(LIMIT) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            signal(i32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
            panic!("process {pid} did not end");
        }
    }
}

/// Sends a signal to a process that may have ended.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => panic!("kill {pid:?}: {errno}"),
    }
}

/// Exit code as a shell has it.
pub fn code(output: &Output) -> i32 {
    let status = output.status;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// Everything a command said, for messages.
pub fn text(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        stderr(output)
    )
}

/// stdout without the last newline; the command must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// stderr without the line about weaker controls.
pub fn complaints(output: &Output) -> String {
    let said = stderr(output);
    let lines = said
        .lines()
        .filter(|line| !line.starts_with("cofferdam: weaker than asked on this host"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Waits until `condition` gives something.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What `later` has more than `before`, of sandboxes whose names begin with
/// `names`. Processes are counted apart; cgroups of others come and go.
pub fn leaks(before: &Census, later: &Census, names: &str) -> Vec<String> {
    let mut leaks = before.leaks(later);
    leaks.retain(|line| match line.split(' ').next() {
        Some("process" | "namespace") => false,
        Some("cgroup") => line.contains(names),
        _ => true,
    });
    leaks
}

/// Processes of the account that are ours or in a sandbox: pid, name, state.
/// A process that waits only to be reaped has ended.
pub fn sandboxed(account: &Account) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let uid = field("Uid:").split_whitespace().next().map(str::to_owned);
        let Some(uid) = uid.and_then(|uid| uid.parse().ok()) else {
            continue;
        };
        let inner = field("NSpid:").split_whitespace().count() > 1;
        let ours = inner || field("Name:").starts_with("cofferdam");
        if account.owns(uid) && ours && !field("State:").starts_with('Z') {
            let pid = entry.file_name().to_string_lossy().into_owned();
            found.insert(format!("{pid} {} {}", field("Name:"), field("State:")));
        }
    }
    found
}

/// The tests' account, made once.
fn account() -> Account {
    static ACCOUNT: OnceLock<Account> = OnceLock::new();
    let make = || Account::ordinary_or("cofferdam-launch");
    ACCOUNT.get_or_init(make).clone()
}
