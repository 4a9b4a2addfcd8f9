//! [sys] Making processes: clone(2) without a new stack, pidfds, and the attributes of our own process.

use rustix::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Turns a libc-style return value into a result.
pub(super) fn check(value: libc::c_long) -> Result<libc::c_long, Errno> {
    if value < 0 {
        Err(last_error())
    } else {
        Ok(value)
    }
}

/// The calling thread's errno; only of use right after a call that failed.
pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// In the child.
    Child,
    /// In the parent, with the child.
    Parent(Child),
}

/// A child by number and by descriptor; the number stays valid until it is waited for.
#[derive(Debug)]
pub struct Child {
    /// Its pid in our pid namespace.
    pub pid: i32,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// clone(2) as fork(2) does it, with namespace flags; the child returns here as well.
///
/// `sibling` makes the child a child of our parent (CLONE_PARENT).
/// The caller must be single-threaded: only this thread exists in the child.
///
/// # Errors
/// The errno of clone(2).
pub fn clone_process(namespaces: u32, sibling: bool) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let parent = if sibling { libc::CLONE_PARENT } else { 0 };
    let signal = if sibling { 0 } else { libc::SIGCHLD };
    let flags = u64::from(namespaces) | (parent | libc::CLONE_PIDFD | signal) as u64;
    // SAFETY: without CLONE_VM the child has a copy of our memory and keeps
    // this stack; the kernel writes one int to `pidfd`. Every caller in this
    // crate is a single-threaded process, so no lock can be held by a thread
    // that does not exist in the child.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            0usize,
            &raw mut pidfd,
            0usize,
            0usize,
        )
    })?;
    if result == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: CLONE_PIDFD returned a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent(Child {
        pid: result as i32,
        pidfd,
    }))
}

/// Ends this process at once: no destructors, no flushing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// prctl(PR_SET_DUMPABLE, 0): /proc/PID belongs to root, no ptrace by the same uid.
///
/// # Errors
/// The errno of prctl(2).
pub fn set_undumpable() -> Result<(), Errno> {
    // SAFETY: PR_SET_DUMPABLE takes one integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    }))
    .map(drop)
}

/// prctl(PR_SET_NO_NEW_PRIVS).
///
/// # Errors
/// The errno of prctl(2).
pub fn set_no_new_privileges() -> Result<(), Errno> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers only.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    }))
    .map(drop)
}

/// prctl(PR_SET_PDEATHSIG, SIGKILL): this process dies with the thread that made it.
///
/// # Errors
/// The errno of prctl(2).
pub fn die_with_parent() -> Result<(), Errno> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)
    }))
    .map(drop)
}

/// Takes [`die_with_parent`] back: this process has something to do when its parent ends.
///
/// # Errors
/// The errno of prctl(2).
pub fn outlive_parent() -> Result<(), Errno> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0)
    }))
    .map(drop)
}

/// prctl(PR_SET_CHILD_SUBREAPER): orphaned descendants become our children.
///
/// # Errors
/// The errno of prctl(2).
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    }))
    .map(drop)
}

/// prctl(PR_SET_NAME): the name `ps` shows, at most 15 bytes.
///
/// # Errors
/// The errno of prctl(2).
pub fn set_name(name: &std::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most 16 bytes up to the NUL of a CStr.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    }))
    .map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL): a fresh, empty session keyring.
///
/// Keyrings of processes that are gone count until the kernel has collected them,
/// which it does at leisure and without telling (security/keys/gc.c): a quota that
/// is used up is tried again for two seconds.
///
/// # Errors
/// The errno of keyctl(2); EDQUOT when the user has all keys that
/// /proc/sys/kernel/keys/maxkeys allows.
pub fn join_fresh_keyring() -> Result<(), Errno> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match join_keyring() {
            Err(Errno::DQUOT) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn join_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<u8>(),
        )
    })
    .map(drop)
}

/// close_range(2) over all descriptors from `first` on.
///
/// # Errors
/// The errno of close_range(2).
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: callers own no OwnedFd at or above `first` any more that they
    // still use: they are about to execve or to enter a loop that knows only
    // lower numbers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) }).map(drop)
}

/// Keeps 0–2 and `fd`, which becomes descriptor 3 and close-on-exec; closes all others.
///
/// For a process about to exec: every other OwnedFd it has is dead after this.
///
/// # Errors
/// The errno of dup3(2) or close_range(2).
pub fn keep_only(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let number = fd.into_raw_fd();
    if number == 3 {
        // SAFETY: sets a flag of an entry we own.
        check(libc::c_long::from(unsafe {
            libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC)
        }))?;
    } else {
        // SAFETY: replaces entry 3 of a process about to exec; `number` is closed below.
        check(libc::c_long::from(unsafe {
            libc::dup3(number, 3, libc::O_CLOEXEC)
        }))?;
    }
    close_from(4)?;
    inherited(3)
}

/// Marks all descriptors from `first` on close-on-exec.
///
/// # Errors
/// The errno of close_range(2).
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: sets a flag, closes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Makes the descriptor with this number ours.
///
/// Only for numbers that a parent put there before exec and that nothing else
/// in this process owns: `sandbox::fds`. A number that is not open gives EBADF.
///
/// # Errors
/// EBADF.
pub fn inherited(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD touches nothing but the table entry.
    check(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_GETFD)
    }))?;
    // SAFETY: the number is open, and by this function's contract it is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts descriptors at fixed numbers for a child about to exec: each (from, to).
///
/// Sources are first moved above every target, so that no target overwrites a
/// source that is still needed. The targets are not close-on-exec.
///
/// # Errors
/// The errno of fcntl(2) or dup2(2).
pub fn place(pairs: &[(i32, i32)]) -> Result<(), Errno> {
    let above = 1 + pairs.iter().map(|(_, to)| *to).max().unwrap_or(0);
    let mut moved = Vec::with_capacity(pairs.len());
    for (from, to) in pairs {
        // SAFETY: duplicates a table entry of a process about to exec.
        let high = check(libc::c_long::from(unsafe {
            libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, above)
        }))?;
        moved.push((high as i32, *to));
    }
    for (high, to) in moved {
        // SAFETY: replaces a table entry; whoever owned `to` in this process is
        // gone with the exec that follows.
        check(libc::c_long::from(unsafe { libc::dup2(high, to) }))?;
    }
    Ok(())
}

/// How a child ended: (exited normally, code or signal).
pub type Ended = (bool, i32);

fn wait_pidfd(pidfd: &OwnedFd, flags: i32) -> Result<Option<Ended>, Errno> {
    // SAFETY: siginfo_t is plain old data; all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // __WALL also waits for children that send no signal: CLONE_PARENT siblings.
    let flags = flags | libc::WEXITED | libc::__WALL;
    // SAFETY: waitid fills the siginfo_t it is given.
    check(libc::c_long::from(unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd() as libc::id_t,
            &raw mut info,
            flags,
        )
    }))?;
    // SAFETY: waitid of an ended child fills the SIGCHLD members; of none it leaves zeroes.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some((info.si_code == libc::CLD_EXITED, status)))
}

/// Waits for the end of a child.
///
/// # Errors
/// The errno of waitid(2).
pub fn reap(pidfd: &OwnedFd) -> Result<Ended, Errno> {
    loop {
        match wait_pidfd(pidfd, 0) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The end of a child, if it has come.
///
/// # Errors
/// The errno of waitid(2).
pub fn try_reap(pidfd: &OwnedFd) -> Result<Option<Ended>, Errno> {
    wait_pidfd(pidfd, libc::WNOHANG)
}

/// unshare(2) of namespaces.
///
/// # Errors
/// The errno of unshare(2); EINVAL for anything that is not a namespace.
pub fn unshare(namespaces: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    use rustix::thread::UnshareFlags as Flags;
    if namespaces.intersects(Flags::FILES | Flags::FS | Flags::SYSVSEM) {
        return Err(Errno::INVAL);
    }
    // SAFETY: only CLONE_FILES endangers descriptors that others rely on, and it is refused above.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}
