//! [sys] In a fresh network namespace: its one interface, netdevice(7), and listeners for any address, ip(7).

use super::process::check;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Sets IFF_UP on `lo` of this network namespace; the kernel adds 127.0.0.1 and ::1 itself.
///
/// # Errors
/// The errno of socket(2) or ioctl(2).
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain old data; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))
    .map(drop)
}

/// The most that wait to be accepted; the kernel takes its own limit where that is lower.
const BACKLOG: i32 = 4096;

/// A TCP listener in this network namespace that is given connections to any
/// address: getsockname(2) of an accepted one is where the peer wanted to go.
/// Non-blocking and close-on-exec.
///
/// # Errors
/// The errno of socket(2), setsockopt(2) (EPERM without CAP_NET_ADMIN), bind(2) or listen(2).
pub fn transparent_listener(port: u16) -> Result<OwnedFd, Errno> {
    let socket = transparent(SocketType::STREAM)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A UDP socket in this network namespace that is given datagrams to any
/// address; recvmsg(2) tells which (IP_ORIGDSTADDR), and sendmsg(2) may answer
/// from it (IP_PKTINFO). Non-blocking and close-on-exec.
///
/// # Errors
/// As [`transparent_listener`].
pub fn transparent_datagrams(port: u16) -> Result<OwnedFd, Errno> {
    let socket = transparent(SocketType::DGRAM)?;
    set_option(&socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok(socket)
}

/// A TCP listener at this address and no other: an IPv6 one gets no IPv4
/// (IPV6_V6ONLY, ipv6(7)). Non-blocking and close-on-exec.
///
/// # Errors
/// The errno of socket(2), setsockopt(2), bind(2) or listen(2).
pub fn listener(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(at), SocketType::STREAM, flags, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Connections that ended lately keep nobody from listening again: socket(7).
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A TCP socket of this network namespace that connects as somebody else, from
/// the address and, unless that is taken, the port of `from` (IP_TRANSPARENT).
/// Non-blocking and close-on-exec.
///
/// # Errors
/// The errno of socket(2), setsockopt(2) (EPERM without CAP_NET_ADMIN), bind(2),
/// or connect(2) but EINPROGRESS.
pub fn connect_as(from: SocketAddr, to: SocketAddr) -> Result<OwnedFd, Errno> {
    match connect_from(from, to) {
        Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {
            connect_from(SocketAddr::new(from.ip(), 0), to)
        }
        result => result,
    }
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(from), SocketType::STREAM, flags, None)?;
    // One peer may connect to two ports from one of its own.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match from {
        SocketAddr::V4(_) => set_option(&socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1)?,
        SocketAddr::V6(_) => set_option(&socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1)?,
    }
    bind(&socket, &from)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn transparent(kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    set_option(&socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1)?;
    Ok(socket)
}

/// setsockopt(2) of an option that is an int.
///
/// # Errors
/// The errno of setsockopt(2).
pub(super) fn set_option(
    socket: &OwnedFd,
    level: i32,
    name: i32,
    value: libc::c_int,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads one int, which lives until the call returns.
    check(libc::c_long::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    }))
    .map(drop)
}

/// The memory that a TCP socket holds for what its peer has not acknowledged: 0 when all
/// that was sent has arrived. SO_MEMINFO (4.12), SK_MEMINFO_WMEM_QUEUED.
///
/// # Errors
/// The errno of getsockopt(2).
pub fn unacknowledged(socket: &OwnedFd) -> Result<u32, Errno> {
    const WMEM_QUEUED: usize = 5;
    let mut info = [0_u32; 9];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`; both live until the call returns.
    check(libc::c_long::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    }))?;
    info.get(WMEM_QUEUED).copied().ok_or(Errno::PROTO)
}
