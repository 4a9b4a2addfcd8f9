//! Who measures, where, and with which programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An ordinary user that root measures as.
#[derive(Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

/// Where cgroups come from.
#[derive(Debug)]
pub enum Cgroups {
    /// Nowhere: contestants are told of none.
    None,
    /// The user manager makes one per start.
    Systemd,
    /// A directory of cgroup v2 that the measured user owns.
    Directory(PathBuf),
}

impl Cgroups {
    /// `none`, `systemd` or a directory.
    pub fn named(name: &str) -> Self {
        match name {
            "none" => Self::None,
            "systemd" => Self::Systemd,
            directory => Self::Directory(directory.into()),
        }
    }
}

/// The place of one measurement; removed at the end.
#[derive(Debug)]
pub struct Host {
    /// Temporary directory; not below /tmp, which a sandbox replaces.
    pub directory: PathBuf,
    /// State of running sandboxes: in memory, as the runtime directory of a login session is.
    pub runtime: PathBuf,
    account: Option<Account>,
    pub cgroups: Cgroups,
    /// The tester is root.
    pub by_root: bool,
}

impl Host {
    pub fn new(programs: &Path, account: Option<&str>, cgroups: Cgroups) -> Self {
        let by_root = rustix::process::getuid().is_root();
        let account = account.map(|name| find(name).expect("--as: no such user"));
        assert!(account.is_none() || by_root, "--as needs root");
        let name = format!("cofferdam-bench.{}", std::process::id());
        let directory = Path::new("/var/tmp").join(&name);
        let host = Self {
            directory,
            runtime: Path::new("/dev/shm").join(name),
            account,
            cgroups,
            by_root,
        };
        fs::create_dir(&host.directory).unwrap();
        host.give(&host.directory);
        fs::create_dir(&host.runtime).unwrap();
        host.make(&host.runtime, 0o700);
        for (name, mode) in [
            ("data", 0o700),
            ("home", 0o755),
            ("programs", 0o755),
            ("programs/examples", 0o755),
        ] {
            host.make(name, mode);
        }
        // The caller's checkout may be closed to the user that is measured.
        for name in ["cofferdam", "cofferdam-init", "examples/run_plan"] {
            fs::copy(programs.join(name), host.program(name))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        fs::copy(std::env::current_exe().unwrap(), host.program("cost")).unwrap();
        host
    }

    /// A directory below ours, or at an absolute path, that the measured user owns.
    pub fn make(&self, name: impl AsRef<Path>, mode: u32) -> PathBuf {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self.give(&path);
        path
    }

    /// A file below ours that the measured user owns.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        self.give(&path);
        path
    }

    /// Hands over everything below `path` too.
    pub fn give_all(&self, path: &Path) {
        self.give(path);
        for entry in fs::read_dir(path).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.give_all(&entry.path());
            } else if !kind.is_symlink() {
                self.give(&entry.path());
            }
        }
    }

    fn give(&self, path: &Path) {
        if let Some(account) = &self.account {
            chown(path, Some(account.uid), Some(account.gid)).unwrap();
        }
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join("programs").join(name)
    }

    /// Sandboxes are started by root.
    pub fn as_root(&self) -> bool {
        self.by_root && self.account.is_none()
    }

    /// A quiet command as the measured user, its state below our directory.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.directory.join("home"))
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("XDG_DATA_HOME", self.directory.join("data"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match &self.cgroups {
            Cgroups::None => {}
            Cgroups::Systemd => {
                command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.uid()));
            }
            Cgroups::Directory(directory) => {
                command.env("COFFERDAM_CGROUP", directory);
            }
        }
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn uid(&self) -> u32 {
        let own = rustix::process::getuid().as_raw();
        self.account.as_ref().map_or(own, |account| account.uid)
    }

    pub fn cofferdam(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.program("cofferdam"));
        command.args(arguments);
        command
    }

    /// What a command prints; its error text when it fails.
    pub fn output(&self, command: &mut Command) -> Result<String, String> {
        let output = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| format!("{command:?}: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Kernel, CPUs, user, cgroup: what a reader needs to compare.
    pub fn describe(&self) -> String {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let release: String = kernel
            .trim()
            .split('.')
            .take(2)
            .collect::<Vec<_>>()
            .join(".");
        let cpus = std::thread::available_parallelism().unwrap();
        let user = if self.as_root() {
            "root"
        } else {
            "an ordinary user"
        };
        let plan = self
            .output(&mut self.cofferdam(&["plan", "--", "true"]))
            .unwrap();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let weaker: Vec<_> = plan["controls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|control| !control["degraded"].is_null())
            .map(|control| control["control"].as_str().unwrap())
            .collect();
        let weaker = if weaker.is_empty() {
            "no control".into()
        } else {
            weaker.join(", ")
        };
        format!("Kernel {release}, {cpus} CPUs, as {user}; degraded on this host: {weaker}.")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for directory in [&self.directory, &self.runtime] {
            if let Err(error) = fs::remove_dir_all(directory) {
                eprintln!("{}: {error}", directory.display());
            }
        }
    }
}

/// How long a command takes from spawn to wait; it must succeed.
pub fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.status().unwrap();
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

fn find(name: &str) -> Option<Account> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut lines = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name))?;
    Some(Account {
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
    })
}
