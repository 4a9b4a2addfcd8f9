//! What a run needs: programs, a workspace with something to find around it, a command line.

use crate::support::probe::{Answer, Planted, answers, install};
use crate::support::user::{Account, Directory};
use crate::support::{built, install as install_program};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where the probe program is inside.
pub const PROBE: &str = "/opt/probe";

/// `strict` with what an ordinary user cannot have without a delegated cgroup.
const STRICT: &str = "schema = 1\nname = \"strict-here\"\nextends = \"strict\"\n\
    [degrade]\nallow = [\"cgroup\"]\n";

/// Who starts the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    User,
    Root,
}

/// A preset, and what the catalogue expects in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Strict,
    Untrusted,
}

/// Dropped in this order: what is planted lies in the directory.
pub struct Site {
    pub planted: Planted,
    pub account: Account,
    program: PathBuf,
    pub directory: Directory,
    _socket: SocketInTmp,
}

/// A socket of the host below /tmp.
struct SocketInTmp {
    path: PathBuf,
    _listener: UnixListener,
}

impl SocketInTmp {
    fn new(name: &str) -> Self {
        let file = format!("cofferdam-test-{}-{name}.sock", std::process::id());
        let path = std::env::temp_dir().join(file);
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        Self {
            path,
            _listener: listener,
        }
    }
}

impl Drop for SocketInTmp {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

impl Site {
    pub fn new(name: &str) -> Self {
        let account = Account::ordinary();
        let directory = account.directory(name);
        let bin = directory.0.join("bin");
        // Examples look for the init program one directory up.
        std::fs::create_dir_all(bin.join("examples")).unwrap();
        for program in [
            "cofferdam",
            "cofferdam-init",
            "examples/careless",
            "examples/run_plan",
        ] {
            install_program(&built(program), &bin.join(program));
        }
        std::fs::write(bin.join("strict.toml"), STRICT).unwrap();
        let project = directory.0.join("project");
        std::fs::create_dir(&project).unwrap();
        chown(&project, Some(account.uid), Some(account.gid)).unwrap();
        let program = install(&directory.0);
        let planted = Planted::as_account(&account, &program, &project);
        // Where XDG_RUNTIME_DIR is the outside directory, this is the user's bus.
        symlink("socket", planted.outside.join("bus")).unwrap();
        Self {
            planted,
            account,
            program,
            directory,
            _socket: SocketInTmp::new(name),
        }
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.directory.0.join("bin").join(name)
    }

    /// The user with a supplementary group, which only root can arrange.
    pub fn with_group(&self, program: &Path) -> Option<Command> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        let mut command = self.command(Who::Root, Path::new("/usr/bin/setpriv"));
        let Account { uid, gid, .. } = self.account;
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--groups=4").arg(program);
        Some(command)
    }

    /// A program, started by a caller that leaks what it can.
    pub fn command(&self, who: Who, program: &Path) -> Command {
        let careless = self.bin("examples/careless");
        let mut command = match who {
            Who::User => self.account.command(careless),
            Who::Root => {
                let mut command = Command::new(careless);
                command.env_clear().env("HOME", "/root").current_dir("/");
                command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                command
            }
        };
        command.env("COFFERDAM_TEST_SECRET", "visible outside");
        command.arg("caller").arg(program);
        command
    }

    /// `cofferdam SUBCOMMAND` with preset, workspace and probe program.
    pub fn sandbox(&self, who: Who, preset: Preset, subcommand: &str) -> Command {
        let mut command = self.command(who, &self.bin("cofferdam"));
        let workspace = self.planted.workspace.display();
        command.arg(subcommand).arg("--policy");
        match (preset, who) {
            (Preset::Untrusted, _) => command.arg("untrusted"),
            (Preset::Strict, Who::Root) => command.arg("strict"),
            (Preset::Strict, Who::User) => command.arg(self.bin("strict.toml")),
        };
        command.arg("--workspace").arg(match preset {
            Preset::Strict => format!("{workspace}:ro"),
            Preset::Untrusted => workspace.to_string(),
        });
        let mount = format!("{}={PROBE}", self.program.display());
        command.args(["--mount", &mount]);
        command
    }

    /// The probe program and its options, as seen from inside.
    pub fn probe(&self) -> Vec<String> {
        let workspace = self.planted.workspace.display().to_string();
        let program = [PROBE.to_owned()].into_iter();
        let options = self.planted.options.iter().cloned();
        let last = ["--workspace".to_owned(), workspace];
        program.chain(options).chain(last).collect()
    }

    /// The same outside.
    pub fn probe_outside(&self) -> Vec<String> {
        let program = [self.program.display().to_string()].into_iter();
        program
            .chain(self.planted.options.iter().cloned())
            .collect()
    }

    /// Runs with a regular file of the user's on stdin.
    pub fn output(&self, command: &mut Command) -> Output {
        let stdin = File::open(self.planted.workspace.join(".git/config")).unwrap();
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.output().unwrap()
    }

    pub fn answers(&self, command: &mut Command) -> BTreeMap<String, Answer> {
        let output = self.output(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        answers(&output.stdout)
    }
}
