//! [sys] Loading filter programs and answering notifications: seccomp(2), seccomp_unotify(2).

use super::process::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

const SET_MODE_FILTER: libc::c_long = 1;
const FLAG_NEW_LISTENER: u64 = 1 << 3;
const FLAG_WAIT_KILLABLE: u64 = 1 << 5;
/// Bytes of `struct sock_filter`.
const INSTRUCTION: usize = 8;

/// How a call waits for the answer of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Any signal handler makes it start anew.
    Interruptible,
    /// Once received, only until a fatal signal: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (5.19).
    Killable,
}

/// Loads a program, encoded as the kernel reads it, into this thread; with a
/// listener if calls are to wait for one.
///
/// # Errors
/// EINVAL for a program that is empty or no whole number of instructions, and for
/// a wait that the kernel does not know; the errno of seccomp(2).
pub fn load(program: &[u8], listener: Option<Wait>) -> Result<Option<OwnedFd>, Errno> {
    if program.is_empty() || !program.len().is_multiple_of(INSTRUCTION) {
        return Err(Errno::INVAL);
    }
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION)
        .map(|bytes| libc::sock_filter {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let length = u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?;
    let flags = match listener {
        None => 0,
        Some(Wait::Interruptible) => FLAG_NEW_LISTENER,
        Some(Wait::Killable) => FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE,
    };
    install(&instructions, length, flags)
}

fn install(
    instructions: &[libc::sock_filter],
    length: u16,
    flags: u64,
) -> Result<Option<OwnedFd>, Errno> {
    let program = libc::sock_fprog {
        len: length,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` describes a slice that lives until the call returns; the kernel only reads it.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the result is a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }))
}

/// One trapped call: numbers only, no memory of the target is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Cookie for the answer.
    pub id: u64,
    /// Thread id in our pid namespace, 0 if not visible.
    pub pid: u32,
    /// System-call number.
    pub number: i32,
    /// AUDIT_ARCH of the call.
    pub arch: u32,
    /// The six register arguments.
    pub arguments: [u64; 6],
}

/// Receives one notification; call only after poll(2) said POLLIN.
///
/// # Errors
/// ENOENT when the target is gone; the errno of ioctl(2).
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: seccomp_notif is plain old data, and the kernel wants it zeroed.
    let mut notification: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV writes one seccomp_notif.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notification,
        )
    }))?;
    Ok(Notification {
        id: notification.id,
        pid: notification.pid,
        number: notification.data.nr,
        arch: notification.data.arch,
        arguments: notification.data.args,
    })
}

/// Answers a notification with an errno; there is no way to answer CONTINUE.
///
/// # Errors
/// ENOENT when the target is gone; the errno of ioctl(2).
pub fn refuse(listener: BorrowedFd<'_>, id: u64, errno: Errno) -> Result<(), Errno> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno.raw_os_error(),
        flags: 0,
    };
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads one seccomp_notif_resp.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response,
        )
    }))
    .map(drop)
}
