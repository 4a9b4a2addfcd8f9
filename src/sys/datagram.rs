//! [sys] Datagrams that were meant for another address, and answers from there: ip(7).

use super::process::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes in the buffer.
    pub length: usize,
    /// Who sent it, as the socket's family says it: [`send`] takes it like that.
    pub from: SocketAddr,
    /// Where it was going: IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR. Never IPv4-mapped.
    pub to: SocketAddr,
}

/// Room for one control message with the largest payload used here.
const CONTROL: usize = 64;

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Receives one datagram of a socket that has IP_RECVORIGDSTADDR, and for IPv6
/// IPV6_RECVORIGDSTADDR too.
///
/// # Errors
/// EMSGSIZE when it was longer than the buffer, EPROTO when the kernel did not
/// say where it was going; the errno of recvmsg(2).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    // SAFETY: sockaddr_in6 is plain old data; all zeroes is a valid value.
    let mut from: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain old data; all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of_val(&from) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL as _;
    // SAFETY: every pointer in the header is to memory of the stated length
    // that lives until the call returns.
    let received = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_DONTWAIT,
        )
    };
    let length = check(received as libc::c_long)? as usize;
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno::MSGSIZE);
    }
    let to = destination(&header).ok_or(Errno::PROTO)?;
    // SAFETY: `from` is a sockaddr_in6, which is longer than any address read of it.
    let from = unsafe { address((&raw const from).cast()) }.ok_or(Errno::PROTO)?;
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    Ok(Datagram { length, from, to })
}

fn destination(header: &libc::msghdr) -> Option<SocketAddr> {
    // SAFETY: the kernel filled the header that recvmsg was given.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give whole headers in the buffer, aligned as Control is.
        let found = unsafe { *at };
        let size = match (found.cmsg_level, found.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) => size_of::<libc::sockaddr_in>(),
            (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => size_of::<libc::sockaddr_in6>(),
            _ => usize::MAX,
        };
        // SAFETY: the data follow the header within the buffer.
        let data = unsafe { libc::CMSG_DATA(at) };
        // SAFETY: arithmetic only.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        if (found.cmsg_len as usize).saturating_sub(head) >= size {
            // SAFETY: the payload is of the family of the message, whole and within the buffer.
            return unsafe { address(data) };
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}

/// # Safety
/// At `from` lies a sockaddr_in or a sockaddr_in6, as its family says, aligned or not.
unsafe fn address(from: *const u8) -> Option<SocketAddr> {
    // SAFETY: both begin with their family.
    let family = unsafe { std::ptr::read_unaligned(from.cast::<libc::sa_family_t>()) };
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: by the family it is one.
            let from = unsafe { std::ptr::read_unaligned(from.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip.into(), u16::from_be(from.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: by the family it is one.
            let from = unsafe { std::ptr::read_unaligned(from.cast::<libc::sockaddr_in6>()) };
            let ip = Ipv6Addr::from(from.sin6_addr.s6_addr);
            let port = u16::from_be(from.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, from.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends one datagram from `source`, which need not be an address of this host
/// where the socket is transparent; the port is the socket's own.
///
/// # Errors
/// The errno of sendmsg(2).
pub fn send(socket: impl AsFd, bytes: &[u8], source: IpAddr, to: SocketAddr) -> Result<(), Errno> {
    let (mut address, size) = raw_address(to);
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain old data; all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL as _;
    match source {
        IpAddr::V4(source) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            attach(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, info)?;
        }
        IpAddr::V6(source) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            attach(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)?;
        }
    }
    // SAFETY: every pointer in the header is to memory of the stated length
    // that lives until the call returns; the kernel writes none of it.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const header,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    check(sent as libc::c_long).map(drop)
}

/// An address for the kernel, and its length; a sockaddr_in lies at the front.
fn raw_address(to: SocketAddr) -> (libc::sockaddr_in6, usize) {
    // SAFETY: sockaddr_in6 is plain old data; all zeroes is a valid value.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    match to {
        SocketAddr::V4(to) => {
            let four = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(to.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_in is shorter than sockaddr_in6 and needs no more alignment.
            unsafe { (&raw mut address).cast::<libc::sockaddr_in>().write(four) };
            (address, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(to) => {
            address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            address.sin6_port = to.port().to_be();
            address.sin6_addr.s6_addr = to.ip().octets();
            address.sin6_scope_id = to.scope_id();
            (address, size_of::<libc::sockaddr_in6>())
        }
    }
}

/// The only control message of a header whose control buffer is a Control.
fn attach<T: Copy>(
    header: &mut libc::msghdr,
    level: libc::c_int,
    kind: libc::c_int,
    payload: T,
) -> Result<(), Errno> {
    // SAFETY: CMSG_SPACE is arithmetic.
    let space = unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) } as usize;
    // SAFETY: the header has its Control, whose length it states.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() || space > CONTROL {
        return Err(Errno::INVAL);
    }
    header.msg_controllen = space as _;
    let head = libc::cmsghdr {
        // SAFETY: CMSG_LEN is arithmetic.
        cmsg_len: unsafe { libc::CMSG_LEN(size_of::<T>() as u32) } as _,
        cmsg_level: level,
        cmsg_type: kind,
    };
    // SAFETY: `first` is the start of Control, aligned and long enough.
    unsafe { first.write(head) };
    // SAFETY: the data follow the header within the buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: the space for one payload was compared with Control.
    unsafe { std::ptr::write_unaligned(data.cast(), payload) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_says_where_it_was_going_and_is_answered_from_there() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let on: libc::c_int = 1;
        // SAFETY: IP_RECVORIGDSTADDR reads one int.
        let set = unsafe {
            libc::setsockopt(
                server.as_raw_fd(),
                libc::SOL_IP,
                libc::IP_RECVORIGDSTADDR,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.77", port)).unwrap();
        client.send(b"where").unwrap();
        let mut buffer = [0; 16];
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(
                &server,
                rustix::event::PollFlags::IN,
            )],
            None,
        )
        .unwrap();
        let got = receive(&server, &mut buffer).unwrap();
        assert_eq!(got.length, 5);
        assert_eq!(got.to, SocketAddr::new([127, 0, 0, 77].into(), port));
        send(&server, b"there", got.to.ip(), got.from).unwrap();
        // Connected: anything from another address would not arrive.
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        client.send(&[0; 17]).unwrap();
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(
                &server,
                rustix::event::PollFlags::IN,
            )],
            None,
        )
        .unwrap();
        assert_eq!(receive(&server, &mut buffer), Err(Errno::MSGSIZE));
    }
}
