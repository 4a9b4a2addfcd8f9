//! [sys] Questions about namespaces that only ioctls answer: ioctl_ns(2), SIOCGSKNS.

use super::process::check;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// `_IO(0xb7, 1)` of include/uapi/linux/nsfs.h.
const NS_GET_USERNS: libc::c_ulong = 0xb701;
/// include/uapi/linux/sockios.h.
const SIOCGSKNS: libc::c_ulong = 0x894c;

fn descriptor(fd: impl AsFd, request: libc::c_ulong) -> Result<OwnedFd, Errno> {
    // SAFETY: both requests of this file take no argument and touch no memory of ours.
    let new = check(libc::c_long::from(unsafe {
        libc::ioctl(fd.as_fd().as_raw_fd(), request as libc::Ioctl, 0)
    }))?;
    // SAFETY: both requests return a new, close-on-exec descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(new as i32) })
}

/// The user namespace that owns this namespace; of a user namespace, its parent.
///
/// # Errors
/// EPERM when the owner is neither the caller's user namespace nor below it.
pub fn owner(namespace: impl AsFd) -> Result<OwnedFd, Errno> {
    descriptor(namespace, NS_GET_USERNS)
}

/// The network namespace a socket was made in.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over that namespace; EOPNOTSUPP or ENOTTY when it is no socket.
pub fn of_socket(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    descriptor(socket, SIOCGSKNS)
}
