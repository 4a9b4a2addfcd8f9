//! [sys] Datagrams that were meant for another address, and answers from there: ip(7).

use super::process::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes in the buffer.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// Where it was going: IP_RECVORIGDSTADDR.
    pub to: SocketAddrV4,
}

/// Room for one control message with the largest payload used here.
const CONTROL: usize = 64;

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Receives one datagram of a socket that has IP_RECVORIGDSTADDR.
///
/// # Errors
/// EMSGSIZE when it was longer than the buffer, EPROTO when the kernel did not
/// say where it was going; the errno of recvmsg(2).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Datagram, Errno> {
    // SAFETY: sockaddr_in is plain old data; all zeroes is a valid value.
    let mut from: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain old data; all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
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
    Ok(Datagram {
        length,
        from: address(&from).ok_or(Errno::PROTO)?,
        to,
    })
}

fn destination(header: &libc::msghdr) -> Option<SocketAddrV4> {
    // SAFETY: the kernel filled the header that recvmsg was given.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give whole headers in the buffer, aligned as Control is.
        let found = unsafe { *at };
        let enough = found.cmsg_len as usize >= size_of::<libc::sockaddr_in>();
        if found.cmsg_level == libc::IPPROTO_IP && found.cmsg_type == libc::IP_ORIGDSTADDR && enough
        {
            // SAFETY: the data follow the header within the buffer.
            let data = unsafe { libc::CMSG_DATA(at) };
            // SAFETY: IP_ORIGDSTADDR carries one sockaddr_in; its length was compared.
            let address = unsafe { std::ptr::read_unaligned(data.cast::<libc::sockaddr_in>()) };
            return self::address(&address);
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}

fn address(from: &libc::sockaddr_in) -> Option<SocketAddrV4> {
    let ip = Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes());
    (i32::from(from.sin_family) == libc::AF_INET)
        .then(|| SocketAddrV4::new(ip, u16::from_be(from.sin_port)))
}

/// Sends one datagram from `source`, which need not be an address of this host
/// where the socket has IP_TRANSPARENT; the port is the socket's own.
///
/// # Errors
/// The errno of sendmsg(2).
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    source: Ipv4Addr,
    to: SocketAddrV4,
) -> Result<(), Errno> {
    let mut address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(to.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from_ne_bytes(source.octets()),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain old data; all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE is arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of_val(&info) as u32) } as _;
    // SAFETY: the control buffer holds one header: it is longer than CMSG_SPACE of its payload.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if first.is_null() {
        return Err(Errno::INVAL);
    }
    let head = libc::cmsghdr {
        // SAFETY: CMSG_LEN is arithmetic.
        cmsg_len: unsafe { libc::CMSG_LEN(size_of_val(&info) as u32) } as _,
        cmsg_level: libc::IPPROTO_IP,
        cmsg_type: libc::IP_PKTINFO,
    };
    // SAFETY: `first` is the start of Control, aligned and long enough.
    unsafe { first.write(head) };
    // SAFETY: the data follow the header within the buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: CMSG_SPACE of one in_pktinfo fits in Control.
    unsafe { std::ptr::write_unaligned(data.cast(), info) };
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
        assert_eq!(
            got.to,
            SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 77), port)
        );
        send(&server, b"there", *got.to.ip(), got.from).unwrap();
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
