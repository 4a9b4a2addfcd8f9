//! [host] stdin, stdout and stderr of a job: copied pipes, its own terminal, or /dev/null.

use crate::sandbox::launch::Running;
use crate::sandbox::plan::Plan;
use crate::supervise::failure::{SessionError, system};
use crate::supervise::pump::Pump;
use crate::supervise::terminal::{self, RawTerminal};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

/// Both ends of a sandbox's streams.
#[derive(Debug)]
pub struct Stdio {
    /// The sandbox's ends of 0–2.
    pub inside: [OwnedFd; 3],
    /// Copies between them and the caller's.
    pub pumps: Vec<Pump>,
    /// Output that goes to the log.
    pub logged: Vec<OwnedFd>,
    /// Write end of a stdin that stays open.
    pub held_stdin: Option<OwnedFd>,
}

/// The sandbox's ends of 0–2 and what is done with ours.
///
/// # Errors
/// A pipe or a copy that cannot be made.
pub fn open(plan: &Plan, detached: bool, interactive: bool) -> Result<Stdio, SessionError> {
    let mut pumps = Vec::new();
    let mut logged = Vec::new();
    let mut held_stdin = None;
    let null = open_null().map_err(system("open /dev/null"))?;
    let copy = |fd: &OwnedFd| {
        fd.try_clone()
            .map_err(|_| SessionError::System("dup", Errno::MFILE))
    };
    let [terminal_in, terminal_out, terminal_error] = plan.exec.terminal;
    let input = if terminal_in {
        copy(&null)?
    } else if detached && interactive {
        let (read, write) = pipe().map_err(system("pipe"))?;
        held_stdin = Some(write);
        read
    } else if detached {
        copy(&null)?
    } else {
        let caller = own_stdio(rustix::stdio::stdin()).map_err(system("dup stdin"))?;
        if is_null(&caller).map_err(system("fstat stdin"))? {
            caller
        } else {
            let (read, write) = pipe().map_err(system("pipe"))?;
            pumps.push(Pump::inward(caller, write).map_err(system("fstat"))?);
            read
        }
    };
    let mut output = |terminal: bool, caller: rustix::fd::BorrowedFd<'_>| {
        if terminal {
            return copy(&null);
        }
        let caller = own_stdio(caller).map_err(system("dup stdout"))?;
        if !detached && is_null(&caller).map_err(system("fstat stdout"))? {
            return Ok(caller);
        }
        let (read, write) = pipe().map_err(system("pipe"))?;
        if detached {
            logged.push(read);
        } else {
            pumps.push(Pump::outward(read, caller).map_err(system("fstat"))?);
        }
        Ok(write)
    };
    let stdout = output(terminal_out, rustix::stdio::stdout())?;
    let stderr = output(terminal_error, rustix::stdio::stderr())?;
    Ok(Stdio {
        inside: [input, stdout, stderr],
        pumps,
        logged,
        held_stdin,
    })
}

/// Joins the job's terminal with the caller's, or with the log.
///
/// # Errors
/// A copy that cannot be made, or a terminal that does not become raw.
pub fn connect_terminal(
    detached: bool,
    running: &Running,
    pumps: &mut Vec<Pump>,
    logged: &mut Vec<OwnedFd>,
) -> Result<Option<RawTerminal>, SessionError> {
    let Some(master) = &running.terminal else {
        return Ok(None);
    };
    let copy = || {
        master
            .try_clone()
            .map_err(|_| SessionError::System("dup", Errno::MFILE))
    };
    if detached {
        logged.push(copy()?);
        return Ok(None);
    }
    let Some(caller) = caller_terminal() else {
        return Ok(None);
    };
    let again = || {
        caller
            .try_clone()
            .map_err(|_| SessionError::System("dup", Errno::MFILE))
    };
    pumps.push(Pump::inward(again()?, copy()?).map_err(system("fstat"))?);
    pumps.push(Pump::outward(copy()?, again()?).map_err(system("fstat"))?);
    RawTerminal::enter(caller).map_err(system("raw terminal"))
}

/// A pipe that the job may also open through /dev/stdout, whatever its uid:
/// nobody else has a way to it.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

/// /dev/null, for reading and writing.
///
/// # Errors
/// The errno of openat(2).
pub fn open_null() -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A close-on-exec copy of one of our own 0–2.
///
/// # Errors
/// EBADF when it is closed.
pub fn own_stdio(fd: rustix::fd::BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
}

/// It is /dev/null: character device 1:3.
///
/// # Errors
/// The errno of fstat(2).
pub fn is_null(fd: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let number = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && number == (1, 3))
}

/// The first of our 0–2 that is a terminal.
pub fn caller_terminal() -> Option<OwnedFd> {
    let fds = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let which = terminal::terminals();
    let first = fds
        .into_iter()
        .zip(which)
        .find(|(_, terminal)| *terminal)?
        .0;
    own_stdio(first).ok()
}
