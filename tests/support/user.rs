//! The ordinary user that tests run as.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Tests are threads: one makes the account while the others wait for all of it.
static MAKING: Mutex<()> = Mutex::new(());

/// Name of the account that root's tests make and keep.
const NAME: &str = "cofferdam-test";
/// Where its subordinate ids start, if useradd(8) does not choose.
const FIRST_SUBORDINATE: u32 = 0x5000_0000;

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

impl Account {
    /// Whoever runs the tests; as root, an account made for them. Making it
    /// again is no error.
    pub fn ordinary() -> Self {
        Self::ordinary_or(NAME)
    }

    /// The same with an account of its own name for root's tests, so that
    /// processes of other tests are not counted as this one's.
    pub fn ordinary_or(name: &str) -> Self {
        let uid = rustix::process::getuid().as_raw();
        if uid != 0 {
            return Self::find(|fields| fields[2] == uid.to_string())
                .expect("the tester has no passwd entry");
        }
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if Self::named(name).is_none() {
            run(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", name]));
        }
        let account = Self::named(name).expect("useradd made no account");
        account.ensure_subordinate("/etc/subuid", "--add-subuids");
        account.ensure_subordinate("/etc/subgid", "--add-subgids");
        account
    }

    fn named(name: &str) -> Option<Self> {
        Self::find(|fields| fields[0] == name)
    }

    fn find(matches: impl Fn(&[&str]) -> bool) -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let lines = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let fields = lines
            .into_iter()
            .find(|fields| fields.len() == 7 && matches(fields))?;
        Some(Self {
            name: fields[0].into(),
            uid: fields[2].parse().unwrap(),
            gid: fields[3].parse().unwrap(),
            home: fields[5].into(),
        })
    }

    /// useradd(8) gives ranges where login.defs says so; here they are needed.
    fn ensure_subordinate(&self, file: &str, option: &str) {
        let prefix = format!("{}:", self.name);
        let given = fs::read_to_string(file).unwrap_or_default();
        if !given.lines().any(|line| line.starts_with(&prefix)) {
            let range = format!("{FIRST_SUBORDINATE}-{}", FIRST_SUBORDINATE + 65_535);
            run(Command::new("usermod").args([option, &range, &self.name]));
        }
    }

    /// The host ids that are this account's: its own and the subordinate ones.
    pub fn owns(&self, uid: u32) -> bool {
        let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
        let within = |line: &str| {
            let mut fields = line.split(':');
            let (name, start, count) = (
                fields.next()?,
                fields.next()?.parse::<u32>().ok()?,
                fields.next()?.parse::<u32>().ok()?,
            );
            (name == self.name && (start..start.saturating_add(count)).contains(&uid)).then_some(())
        };
        uid == self.uid || subordinate.lines().any(|line| within(line).is_some())
    }

    /// XDG_RUNTIME_DIR, made as a login would make it.
    pub fn runtime_dir(&self) -> PathBuf {
        let path = PathBuf::from(format!("/run/user/{}", self.uid));
        if rustix::process::getuid().is_root() {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&path, Some(self.uid), Some(self.gid)).unwrap();
        }
        path
    }

    /// A command as this account: its ids, no supplementary groups, nothing of
    /// the tester's environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("LOGNAME", &self.name);
        command
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", self.runtime_dir());
        command.current_dir("/");
        if rustix::process::getuid().is_root() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// A fresh directory that this account owns and everybody may pass through.
    /// Not below /tmp, which sandboxes replace.
    pub fn directory(&self, name: &str) -> Directory {
        let path = PathBuf::from(format!(
            "/var/tmp/cofferdam-test-{}-{name}",
            std::process::id()
        ));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&path, Some(self.uid), Some(self.gid)).unwrap();
        Directory(path)
    }
}

/// A directory that goes with the test, unless the test fails.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
