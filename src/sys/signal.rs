//! [sys] Signal masks and signalfd(2).

use super::process::check;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

fn set_of(signals: &[i32]) -> Result<libc::sigset_t, Errno> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    check(libc::c_long::from(unsafe {
        libc::sigemptyset(set.as_mut_ptr())
    }))?;
    // SAFETY: initialised by the line above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialised; bad numbers give EINVAL.
        check(libc::c_long::from(unsafe {
            libc::sigaddset(&raw mut set, *signal)
        }))?;
    }
    Ok(set)
}

/// Blocks exactly these signals in this thread.
///
/// # Errors
/// The errno of sigprocmask(2).
pub fn block_only(signals: &[i32]) -> Result<(), Errno> {
    let set = set_of(signals)?;
    // SAFETY: the set is initialised, the old one is not asked for.
    check(libc::c_long::from(unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    }))
    .map(drop)
}

/// A non-blocking, close-on-exec signalfd for these signals, which are blocked first.
///
/// # Errors
/// The errno of sigprocmask(2) or signalfd(2).
pub fn descriptor(signals: &[i32]) -> Result<OwnedFd, Errno> {
    block_only(signals)?;
    let set = set_of(signals)?;
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = check(libc::c_long::from(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }))?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The next pending signal's number, or None when there is none.
///
/// # Errors
/// The errno of read(2), but EAGAIN.
pub fn next(descriptor: impl AsFd) -> Result<Option<i32>, Errno> {
    Ok(read(&descriptor)?.map(|info| info.ssi_signo as i32))
}

/// As [`next`], but only signals that a process sent: not those of a terminal.
///
/// # Errors
/// The errno of read(2), but EAGAIN.
pub fn next_sent(descriptor: impl AsFd) -> Result<Option<i32>, Errno> {
    loop {
        match read(&descriptor)? {
            // SI_USER, SI_QUEUE and SI_TKILL are 0 and below; SI_KERNEL is above.
            Some(info) if info.ssi_code <= 0 => return Ok(Some(info.ssi_signo as i32)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

fn read(descriptor: &impl AsFd) -> Result<Option<libc::signalfd_siginfo>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size that is passed.
    let got = unsafe {
        libc::read(
            descriptor.as_fd().as_raw_fd(),
            info.as_mut_ptr().cast(),
            size,
        )
    };
    match check(got as libc::c_long) {
        // SAFETY: signalfd fills whole structures only.
        Ok(n) if n as usize == size => Ok(Some(unsafe { info.assume_init() })),
        Ok(_) => Err(Errno::IO),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Every catchable signal back to its default: ignored signals survive execve(2).
///
/// By the kernel's own call, since glibc's keeps back 32 and 33, which posix_spawn(3)
/// of whoever started us may have left ignored.
///
/// # Errors
/// The errno of sigaction(2).
pub fn reset_all() -> Result<(), Errno> {
    for signal in 1..=64 {
        if [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
            continue;
        }
        // struct sigaction of the kernel: SIG_DFL, and nothing else set.
        let default = [0u64; 4];
        // SAFETY: the kernel reads 32 bytes and writes none; SIG_DFL has no handler to keep alive.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            )
        })?;
    }
    Ok(())
}
