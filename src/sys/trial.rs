//! [sys] Tries something in a child with namespaces of its own and tells how it ended.

#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
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
                    Some(code) => Err(Errno::from_raw_os_error(code)),
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
