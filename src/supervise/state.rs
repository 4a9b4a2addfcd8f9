//! [host] What is known of a living sandbox: one directory with a lock, a state file and a control socket.
//!
//! The lock is held by the supervisor for as long as it lives; whoever can take
//! it knows that the supervisor is gone. A directory appears under its name
//! only when its lock is already held.

use crate::cgroup::Group;
use crate::net::publish::Publish;
use crate::sandbox::message::Status;
use crate::sandbox::plan::Placeholder;
use crate::supervise::places::{self, Places};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest state file that is read.
const LARGEST: u64 = 256 << 10;
const FILE: &str = "state.json";
const PROCESSES: &str = "processes.json";
/// Directory below a sandbox's own that belongs to its supervisor.
const LIVE: &str = "live";
const LOCK: &str = "lock";
/// Name of the control socket.
pub const SOCKET: &str = "control";

/// One sandbox, as whoever started it wrote it down: enough to undo it.
///
/// Started by root, this file is root's and the supervisor cannot change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file.
    pub schema: u32,
    /// Name.
    pub name: String,
    /// Policy name.
    pub policy: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// Runs without a terminal or caller of its own.
    pub detached: bool,
    /// How it ended, once it has and everything is undone.
    pub ended: Option<End>,
    /// Cgroup to remove.
    pub cgroup: Option<Group>,
    /// Files of ours in the workspace, to remove if nobody has used them.
    pub placeholders: Option<Placeholders>,
    /// Ports of the host that lead to the job.
    #[serde(default)]
    pub published: Vec<Publish>,
    /// There is a directory of this name among the layers.
    pub layers: bool,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The job ended.
    Exited(Status),
    /// The supervisor ended it.
    Failed,
}

/// The processes of a sandbox, by pid and start time (proc_pid_stat(5), field 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processes {
    /// Supervisor.
    pub supervisor: Process,
    /// Gateway.
    pub gateway: Process,
    /// Init.
    pub init: Process,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Pid.
    pub pid: i32,
    /// Clock ticks after boot.
    pub started: u64,
}

/// Placeholders below a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placeholders {
    /// The workspace directory, absolute.
    pub workspace: String,
    /// Its device and inode.
    pub inode: (u64, u64),
    /// Relative paths, and what is made there.
    pub paths: Vec<(String, Placeholder)>,
}

/// Placeholders that other sandboxes rely on: device and inode of the workspace, relative path.
pub type ReliedOn = BTreeSet<((u64, u64), String)>;

/// Why a state cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// A sandbox of this name exists.
    Exists(String),
    /// There is none of this name.
    Missing(String),
    /// A file of it cannot be read or written: name, operation, cause.
    File(String, &'static str, Errno),
    /// The state file is not one of ours: name and why.
    Malformed(String, String),
    /// One of our directories cannot be used.
    Places(places::PlacesError),
}

impl fmt::Display for StateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(name) => write!(
                out,
                "a sandbox named {name} exists: cofferdam rm {name}, or choose another --name"
            ),
            Self::Missing(name) => write!(out, "no sandbox named {name}: cofferdam ps lists them"),
            Self::File(name, what, errno) => {
                write!(out, "state of sandbox {name}: {what}: {errno}")
            }
            Self::Malformed(name, why) => write!(
                out,
                "state of sandbox {name} cannot be read ({why}): cofferdam rm {name} removes it"
            ),
            Self::Places(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for StateError {}

/// The directory of one sandbox, open.
#[derive(Debug)]
pub struct Home {
    /// The sandbox's name.
    pub name: String,
    /// Its runtime directory.
    pub directory: OwnedFd,
    /// The part of it that is the supervisor's: control socket, processes.
    pub live: OwnedFd,
}

/// A sandbox's directory whose lock is ours.
#[derive(Debug)]
pub struct Held {
    /// The directory.
    pub home: Home,
    lock: OwnedFd,
}

/// Now, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Process {
    /// The process with this pid, as it is now.
    ///
    /// # Errors
    /// ESRCH when there is none.
    pub fn of(pid: i32) -> Result<Self, Errno> {
        let path = format!("/proc/{pid}/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(|_| Errno::SRCH)?;
        // Fifty numbers and a name of at most 64 bytes; procfs gives it in one read.
        let mut stat = Vec::with_capacity(2048);
        rustix::io::read(&file, rustix::buffer::spare_capacity(&mut stat))
            .map_err(|_| Errno::SRCH)?;
        // The name in parentheses may hold anything; the last one closes it.
        let after = stat
            .iter()
            .rposition(|byte| *byte == b')')
            .ok_or(Errno::SRCH)?;
        let rest = String::from_utf8_lossy(stat.get(after + 1..).unwrap_or_default());
        let started = rest
            .split_ascii_whitespace()
            .nth(19)
            .and_then(|field| field.parse().ok());
        Ok(Self {
            pid,
            started: started.ok_or(Errno::SRCH)?,
        })
    }

    /// Still the same process, and not a zombie's number used again.
    pub fn lives(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }
}

impl Held {
    /// Takes a name: makes its directory, which appears under the name with its
    /// lock held and its first state in it.
    ///
    /// # Errors
    /// [`StateError::Exists`] and failures of the file system.
    pub fn create(places: &Places, state: &State) -> Result<Self, StateError> {
        let name = state.name.as_str();
        let fail = |what| move |errno| StateError::File(name.to_owned(), what, errno);
        let text = encode(name, state)?;
        let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
        let hidden = format!(".new-{}-{name}", std::process::id());
        let made = Self::build(&runtime, &hidden, name, &text).and_then(|held| {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&runtime, hidden.as_str(), &runtime, name, flags) {
                Ok(()) => Ok(held),
                Err(Errno::EXIST | Errno::NOTEMPTY) => Err(StateError::Exists(name.to_owned())),
                Err(errno) => Err(fail("name directory")(errno)),
            }
        });
        if made.is_err() {
            // The first error is the one to tell.
            crate::sys::unheard(crate::supervise::sweep::remove_tree(&runtime, &hidden));
        }
        made
    }

    fn build(runtime: &OwnedFd, hidden: &str, name: &str, text: &[u8]) -> Result<Self, StateError> {
        let fail = |what| move |errno| StateError::File(name.to_owned(), what, errno);
        let directory = places::subdirectory(runtime, hidden).map_err(fail("make directory"))?;
        let live = places::subdirectory(&directory, LIVE).map_err(fail("make directory"))?;
        let lock = open_lock(&directory, OFlags::CREATE).map_err(fail("make lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(fail("lock"))?;
        write_new(&directory, FILE, text).map_err(fail("write"))?;
        let home = Home {
            name: name.to_owned(),
            directory,
            live,
        };
        Ok(Self { home, lock })
    }

    /// Takes over the directory of a sandbox whose supervisor is gone; None while it lives.
    ///
    /// Others take it over for a moment to look at it. Where the state says that
    /// the job has ended its supervisor only has to go, so the lock is waited for.
    ///
    /// # Errors
    /// [`StateError::Missing`] and failures of the file system.
    pub fn take_over(places: &Places, name: &str) -> Result<Option<Self>, StateError> {
        let home = Home::open(places, name)?;
        let lock = match open_lock(&home.directory, OFlags::empty()) {
            Ok(lock) => lock,
            // Whoever removes a sandbox removes its lock first.
            Err(Errno::NOENT) => return Err(StateError::Missing(name.to_owned())),
            Err(errno) => return Err(StateError::File(name.to_owned(), "open lock", errno)),
        };
        let mut locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) && home.read().is_ok_and(|state| state.ended.is_some())
        {
            locked = flock(&lock, FlockOperation::LockExclusive);
        }
        match locked {
            // Removed by whoever held it while we opened it.
            Ok(()) if !linked(&lock) => Err(StateError::Missing(name.to_owned())),
            Ok(()) => Ok(Some(Self { home, lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StateError::File(name.to_owned(), "lock", errno)),
        }
    }

    /// Replaces the state file as a whole.
    ///
    /// # Errors
    /// Failures of the file system.
    pub fn write(&self, state: &State) -> Result<(), StateError> {
        let name = &self.home.name;
        let text = encode(name, state)?;
        replace(&self.home.directory, FILE, &text)
            .map_err(|errno| StateError::File(name.clone(), "write", errno))
    }

    /// Removes the directory: the name is free again, at once and as a whole.
    ///
    /// # Errors
    /// Failures of the file system.
    pub fn remove(self, places: &Places) -> Result<(), StateError> {
        let fail = |what, errno| StateError::File(self.home.name.clone(), what, errno);
        let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
        let hidden = format!(".old-{}-{}", std::process::id(), self.home.name);
        renameat(&runtime, self.home.name.as_str(), &runtime, hidden.as_str())
            .map_err(|errno| fail("rename directory", errno))?;
        self.home.empty();
        match unlinkat(&runtime, hidden.as_str(), AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                crate::supervise::sweep::remove_tree(&runtime, &hidden)
            }
            other => other,
        }
        .map_err(|errno| fail("remove directory", errno))?;
        drop(self.lock);
        Ok(())
    }
}

/// Held while placeholders are made or removed, by all sandboxes of a user.
///
/// # Errors
/// The runtime directory cannot be opened or locked.
pub fn lock_placeholders(places: &Places) -> Result<OwnedFd, StateError> {
    let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
    flock(&runtime, FlockOperation::LockExclusive)
        .map_err(|errno| StateError::File("*".to_owned(), "lock placeholders", errno))?;
    Ok(runtime)
}

/// Waits until nobody holds a sandbox's lock: its supervisor has undone everything.
///
/// # Errors
/// The errno of openat(2) or flock(2).
pub fn wait_for_end(home: &Home) -> Result<(), Errno> {
    match open_lock(&home.directory, OFlags::empty()) {
        Ok(lock) => flock(&lock, FlockOperation::LockExclusive),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn linked(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

/// Removes directories that somebody was making or removing when killed; their
/// hidden names hold the pid of that process.
///
/// # Errors
/// The runtime directory cannot be read, or one of them not be removed.
pub fn remove_unfinished(places: &Places) -> Result<(), StateError> {
    let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
    let fail = |errno| StateError::File("*".to_owned(), "remove unfinished", errno);
    for entry in rustix::fs::Dir::read_from(&runtime).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if maker(name).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            crate::supervise::sweep::remove_tree(&runtime, name).map_err(fail)?;
        }
    }
    Ok(())
}

/// The pid in `.new-PID-NAME` and `.old-PID-NAME`.
fn maker(hidden: &str) -> Option<Pid> {
    let rest = hidden
        .strip_prefix(".new-")
        .or_else(|| hidden.strip_prefix(".old-"))?;
    let (pid, _) = rest.split_once('-')?;
    Pid::from_raw(pid.parse().ok()?)
}

fn open_lock(directory: &OwnedFd, create: OFlags) -> Result<OwnedFd, Errno> {
    let flags = create | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, LOCK, flags, Mode::from_raw_mode(0o600))
}

impl Home {
    /// Opens the directory of a sandbox.
    ///
    /// # Errors
    /// [`StateError::Missing`] and failures of the file system.
    pub fn open(places: &Places, name: &str) -> Result<Self, StateError> {
        let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&runtime, name, flags, Mode::empty()) {
            Ok(directory) => match openat(&directory, LIVE, flags, Mode::empty()) {
                Ok(live) => Ok(Self {
                    name: name.to_owned(),
                    directory,
                    live,
                }),
                // It was removed meanwhile.
                Err(Errno::NOENT) => Err(StateError::Missing(name.to_owned())),
                Err(errno) => Err(StateError::File(name.to_owned(), "open directory", errno)),
            },
            Err(Errno::NOENT) => Err(StateError::Missing(name.to_owned())),
            Err(errno) => Err(StateError::File(name.to_owned(), "open directory", errno)),
        }
    }

    /// Reads the state file; bounded, unknown keys refused.
    ///
    /// # Errors
    /// [`StateError::Malformed`] for a file that is half written or not ours.
    pub fn read(&self) -> Result<State, StateError> {
        let text = read(&self.directory, FILE).map_err(|errno| match errno {
            // Its supervisor has not come so far, or it is being removed.
            Errno::NOENT => StateError::File(self.name.clone(), "open", errno),
            // A directory or a symlink in its place, or closed to us.
            errno => StateError::Malformed(self.name.clone(), errno.to_string()),
        })?;
        parse(&text).map_err(|why| StateError::Malformed(self.name.clone(), why))
    }

    /// The processes of a sandbox that runs or was killed while it ran.
    pub fn processes(&self) -> Option<Processes> {
        serde_json::from_slice(&read(&self.live, PROCESSES).ok()?).ok()
    }

    /// Removes the files that a sandbox usually has; whatever stays is swept.
    fn empty(&self) {
        let files = [
            (&self.directory, LOCK),
            (&self.directory, FILE),
            (&self.live, PROCESSES),
            (&self.live, SOCKET),
        ];
        for (directory, name) in files {
            crate::sys::unheard(unlinkat(directory, name, AtFlags::empty()));
        }
        crate::sys::unheard(unlinkat(&self.directory, LIVE, AtFlags::REMOVEDIR));
    }

    /// Writes down the processes: the supervisor's only file.
    ///
    /// # Errors
    /// Failures of the file system.
    pub fn write_processes(&self, processes: &Processes) -> Result<(), StateError> {
        let text = encode(&self.name, processes)?;
        replace(&self.live, PROCESSES, &text)
            .map_err(|errno| StateError::File(self.name.clone(), "write processes", errno))
    }
}

fn encode(name: &str, value: &impl Serialize) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value)
        .map_err(|error| StateError::Malformed(name.to_owned(), error.to_string()))
}

/// Replaces a file as a whole: nobody ever sees half of it.
fn replace(directory: &OwnedFd, name: &str, text: &[u8]) -> Result<(), Errno> {
    let next = format!(".{name}");
    write_new(directory, &next, text)?;
    renameat(directory, next.as_str(), directory, name)
}

fn write_new(directory: &OwnedFd, name: &str, text: &[u8]) -> Result<(), Errno> {
    let flags =
        OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(file)
        .write_all(text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn read(directory: &OwnedFd, name: &str) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(text)
}

/// Reads a state file's text; total on any bytes.
///
/// # Errors
/// Why it is not one of ours.
pub fn parse(text: &[u8]) -> Result<State, String> {
    let state: State = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if state.schema == 1 {
        Ok(state)
    } else {
        Err(format!("schema {}", state.schema))
    }
}

/// Names of all sandboxes that have a directory, sorted.
///
/// # Errors
/// The runtime directory cannot be read.
pub fn names(places: &Places) -> Result<Vec<String>, StateError> {
    let runtime = places::open(&places.runtime).map_err(StateError::Places)?;
    let fail = |errno| StateError::File("*".to_owned(), "list", errno);
    let mut names: Vec<String> = rustix::fs::Dir::read_from(&runtime)
        .map_err(fail)?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}
