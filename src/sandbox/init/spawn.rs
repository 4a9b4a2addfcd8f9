//! [init] From a command to a process: session, terminal, ids, capabilities, descriptors, directory, execve.

use crate::sandbox::message::{Command, JOB, Report, Size, Spawn};
use crate::sys::process::{self, Cloned, exit_now};
use crate::sys::{caps, exec, signal};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, major, minor, openat};
use rustix::io::Errno;
use std::ffi::CString;

/// What a started command may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// Capability bits of the job.
    pub(super) job: u64,
}

/// Where a command's descriptors 0–2 come from.
#[derive(Debug)]
pub(super) struct Stdio {
    /// These three; else those init has.
    pub(super) given: Option<[OwnedFd; 3]>,
    /// A terminal, which becomes the controlling one and replaces those that
    /// `Command::terminal` names.
    pub(super) terminal: Option<OwnedFd>,
}

type NotStarted = (Spawn, Errno);

/// Starts a command; when this returns Ok, execve has succeeded.
pub(super) fn spawn(command: &Command, rights: &Rights, stdio: Stdio) -> Result<i32, NotStarted> {
    let strings = Strings::new(command).ok_or((Spawn::Exec, Errno::INVAL))?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| (Spawn::Process, errno))?;
    match process::clone_process(0, false).map_err(|errno| (Spawn::Process, errno))? {
        Cloned::Child => {
            drop(read);
            let ((what, errno), write) = become_command(command, &strings, rights, &stdio, write);
            if let Some(write) = write {
                // Whether or not init hears it, this process ends.
                crate::sys::unheard(rustix::io::write(
                    &write,
                    &[what as u8, errno.raw_os_error() as u8],
                ));
            }
            exit_now(125)
        }
        Cloned::Parent(child) => {
            drop(write);
            match failure(&read) {
                None => Ok(child.pid),
                Some(failed) => Err(failed),
            }
        }
    }
}

/// Waits for execve to close the pipe, or for the two bytes that say why it did not.
fn failure(read: &OwnedFd) -> Option<NotStarted> {
    let mut answer = [0u8; 2];
    match rustix::io::retry_on_intr(|| rustix::io::read(read, &mut answer)) {
        Ok(0) => None,
        Ok(_) => {
            let what = match answer[0] {
                1 => Spawn::Directory,
                2 => Spawn::Exec,
                _ => Spawn::Process,
            };
            Some((what, crate::sys::errno(answer[1].into())))
        }
        Err(errno) => Some((Spawn::Process, errno)),
    }
}

/// `--pid1`: this process becomes the command. Never returns.
pub(super) fn replace(
    command: &Command,
    rights: &Rights,
    terminal: Option<OwnedFd>,
    supervisor: OwnedFd,
) -> ! {
    let stdio = Stdio {
        given: None,
        terminal,
    };
    let ((what, errno), supervisor) = match Strings::new(command) {
        Some(strings) => become_command(command, &strings, rights, &stdio, supervisor),
        None => ((Spawn::Exec, Errno::INVAL), Some(supervisor)),
    };
    if let Some(supervisor) = supervisor {
        let report = Report::NotStarted {
            id: JOB,
            what,
            errno: errno.raw_os_error(),
        };
        crate::sys::unheard(crate::sandbox::stage::say(&supervisor, &report, None));
    }
    exit_now(125)
}

/// A terminal of our own devpts for one more command: (master, slave).
pub(super) fn new_terminal(size: Option<Size>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(CWD, "/dev/pts/ptmx", flags, Mode::empty())?;
    let slave = crate::sandbox::stage::terminal_peer(&master, size)?;
    Ok((master, slave))
}

/// Replaces init's own 0–2 by /dev/null.
pub(super) fn detach_stdio() -> Result<(), Errno> {
    let null = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    onto_stdio([&null, &null, &null])
}

fn onto_stdio(three: [&OwnedFd; 3]) -> Result<(), Errno> {
    rustix::stdio::dup2_stdin(three[0])?;
    rustix::stdio::dup2_stdout(three[1])?;
    rustix::stdio::dup2_stderr(three[2])
}

/// Argument and environment vectors, made before the fork.
struct Strings {
    argv: Vec<CString>,
    environment: Vec<CString>,
    /// Files to try, in order: one, or one per PATH entry.
    files: Vec<CString>,
}

impl Strings {
    fn new(command: &Command) -> Option<Self> {
        let argv = command
            .argv
            .iter()
            .map(|arg| CString::new(arg.as_str()).ok())
            .collect::<Option<Vec<_>>>()?;
        let environment = command
            .environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .collect::<Option<_>>()?;
        let name = command.argv.first()?;
        let files = if name.contains('/') {
            vec![argv.first()?.clone()]
        } else {
            command
                .environment
                .get("PATH")
                .map_or("", String::as_str)
                .split(':')
                .filter(|directory| directory.starts_with('/'))
                .map(|directory| CString::new(format!("{directory}/{name}")).ok())
                .collect::<Option<_>>()?
        };
        Some(Self {
            argv,
            environment,
            files,
        })
    }
}

/// Turns this process into the command; returns only why it could not, and the
/// descriptor over which to say so.
fn become_command(
    command: &Command,
    strings: &Strings,
    rights: &Rights,
    stdio: &Stdio,
    answer: OwnedFd,
) -> (NotStarted, Option<OwnedFd>) {
    if let Err(errno) = take_stdio(stdio, command.terminal) {
        return ((Spawn::Process, errno), Some(answer));
    }
    // Only 0-2 and the answer stay open, and the answer until execve: CVE-2024-21626.
    let answer = match process::keep_only(answer) {
        Ok(answer) => answer,
        Err(errno) => return ((Spawn::Process, errno), None),
    };
    let not_started = match prepare(command, rights) {
        Ok(()) => (Spawn::Exec, execute(strings)),
        Err(not_started) => not_started,
    };
    (not_started, Some(answer))
}

fn take_stdio(stdio: &Stdio, which: [bool; 3]) -> Result<(), Errno> {
    // Pid 1 may already lead a session when it is replaced by the command.
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    if let Some([input, output, error]) = &stdio.given {
        onto_stdio([input, output, error])?;
    }
    own_null()?;
    let Some(slave) = &stdio.terminal else {
        return Ok(());
    };
    rustix::process::ioctl_tiocsctty(slave)?;
    let [input, output, error] = which;
    if input {
        rustix::stdio::dup2_stdin(slave)?;
    }
    if output {
        rustix::stdio::dup2_stdout(slave)?;
    }
    if error {
        rustix::stdio::dup2_stderr(slave)?;
    }
    Ok(())
}

/// The caller's /dev/null is a file of the host, which cannot be opened by the
/// name of its descriptor (/dev/stderr); the sandbox's own can.
fn own_null() -> Result<(), Errno> {
    let is_null = |fd| {
        let stat = rustix::fs::fstat(fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let number = (major(stat.st_rdev), minor(stat.st_rdev));
        Ok::<_, Errno>(kind == FileType::CharacterDevice && number == (1, 3))
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let open = || openat(CWD, "/dev/null", flags, Mode::empty());
    if is_null(rustix::stdio::stdin())? {
        rustix::stdio::dup2_stdin(open()?)?;
    }
    if is_null(rustix::stdio::stdout())? {
        rustix::stdio::dup2_stdout(open()?)?;
    }
    if is_null(rustix::stdio::stderr())? {
        rustix::stdio::dup2_stderr(open()?)?;
    }
    Ok(())
}

fn prepare(command: &Command, rights: &Rights) -> Result<(), NotStarted> {
    let process = |errno| (Spawn::Process, errno);
    signal::block_only(&[]).map_err(process)?;
    signal::reset_all().map_err(process)?;
    take_ids(command, rights).map_err(process)?;
    enter(&command.directory).map_err(|errno| (Spawn::Directory, errno))
}

/// The bounding set is the job's already; a user other than root starts with
/// nothing, as everywhere on Linux.
fn take_ids(command: &Command, rights: &Rights) -> Result<(), Errno> {
    let uid = rustix::fs::Uid::from_raw(command.uid);
    let gid = rustix::fs::Gid::from_raw(command.gid);
    if rustix::process::getuid() != uid || rustix::process::getgid() != gid {
        caps::keep_over_setuid()?;
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    let wanted = if command.uid == 0 { rights.job } else { 0 };
    // Under `strict` capset(2) itself is refused, and init has nothing to give up.
    if caps::permitted()? == wanted && wanted == 0 {
        return Ok(());
    }
    caps::set(wanted)
}

/// chdir, and a check that the directory lies below the root: getcwd(2) gives
/// "(unreachable)" for one that does not.
fn enter(directory: &str) -> Result<(), Errno> {
    rustix::process::chdir(directory)?;
    let now = rustix::process::getcwd(Vec::new())?;
    if now.to_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(Errno::NOENT)
    }
}

/// As execvp(3) searches: the first file that is not missing decides.
fn execute(strings: &Strings) -> Errno {
    let mut last = Errno::NOENT;
    for file in &strings.files {
        let errno = exec::execve(file, &strings.argv, &strings.environment);
        match errno {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => last = Errno::ACCESS,
            other => return other,
        }
    }
    last
}
