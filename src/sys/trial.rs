//! [sys] Tries something in a child with namespaces of its own and tells how it ended.

#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

/// Forks, unshares `flags` in the child, runs `body` there, and gives its result; the outer error
/// is that of forking or waiting. Nothing the child does outlives it.
///
/// `body` must only make system calls and short allocations: it runs after a fork.
pub fn in_new_namespaces(
    flags: UnshareFlags,
    body: fn(u32, u32) -> Result<(), Errno>,
) -> Result<Result<(), Errno>, Errno> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    // SAFETY: the child runs only the code below and ends in _exit, so it never returns into its
    // parent's frames and runs none of its destructors; glibc makes malloc usable after fork, and
    // the contract above keeps `body` from waiting for other threads of the parent.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => {
            // SAFETY: the flags name namespaces only (no CLONE_FILES), and the child has one thread.
            let unshared = unsafe { rustix::thread::unshare_unsafe(flags) };
            let ended = unshared.and_then(|()| body(uid, gid));
            let code = ended.map_or_else(|errno| errno.raw_os_error(), |()| 0);
            // SAFETY: _exit is always allowed; Linux errno values are below 256.
            unsafe { libc::_exit(code) }
        }
        child => ended(child),
    }
}

fn ended(child: libc::pid_t) -> Result<Result<(), Errno>, Errno> {
    let pid = Pid::from_raw(child).ok_or(Errno::CHILD)?;
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Err(cause) => return Err(cause),
            Ok(None) => return Err(Errno::CHILD),
            Ok(Some((_, status))) => {
                return Ok(match status.exit_status() {
                    Some(0) => Ok(()),
                    Some(code) => Err(super::errno(code)),
                    // Killed: by a filter that does not answer with an errno.
                    None => Err(Errno::PERM),
                });
            }
        }
    }
}

fn last_errno() -> Errno {
    let last = std::io::Error::last_os_error();
    Errno::from_io_error(&last).unwrap_or(Errno::INVAL)
}

/// A child that sits in namespaces of its own until it is dropped, for others to act upon.
#[derive(Debug)]
pub struct Sitter {
    pid: Pid,
}

impl Sitter {
    /// Forks a child that unshares `flags` and waits; returns when it has.
    pub fn new(flags: UnshareFlags) -> Result<Self, Errno> {
        let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // SAFETY: as above: the child makes system calls only and ends in _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            sit(flags, &tell);
        }
        let pid = Pid::from_raw(child)
            .filter(|_| child > 0)
            .ok_or_else(last_errno)?;
        let sitter = Self { pid };
        drop(tell);
        // An unshare that fails closes the pipe without a word.
        match rustix::io::read(&ready, &mut [0_u8; 1])? {
            1 => Ok(sitter),
            _ => Err(Errno::PERM),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

fn sit(flags: UnshareFlags, tell: &rustix::fd::OwnedFd) -> ! {
    let killed = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // SAFETY: the flags name namespaces only (no CLONE_FILES), and the child has one thread.
    let unshared = killed.and_then(|()| unsafe { rustix::thread::unshare_unsafe(flags) });
    let told = unshared.and_then(|()| rustix::io::write(tell, b"1").map(drop));
    while told.is_ok() {
        // SAFETY: pause takes no argument and only waits.
        unsafe { libc::pause() };
    }
    // SAFETY: _exit is always allowed.
    unsafe { libc::_exit(1) }
}

impl Drop for Sitter {
    fn drop(&mut self) {
        // It is our own unreaped child, so that both calls reach it; a destructor has nobody to
        // tell if they do not, and PR_SET_PDEATHSIG ends it with us.
        match rustix::process::kill_process(self.pid, Signal::KILL)
            .and_then(|()| waitpid(Some(self.pid), WaitOptions::empty()))
        {
            Ok(_) | Err(_) => {}
        }
    }
}
