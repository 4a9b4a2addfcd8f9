//! [pure] Socket families, types, protocols and options the filters speak of.
//!
//! Sources: include/linux/socket.h, include/uapi/linux/{in,in6,tcp,udp,netlink}.h,
//! include/uapi/asm-generic/socket.h; the same on x86_64 and aarch64.

/// Local sockets.
pub const AF_UNIX: u64 = 1;
/// IPv4.
pub const AF_INET: u64 = 2;
/// IPv6.
pub const AF_INET6: u64 = 10;
/// Kernel netlink.
pub const AF_NETLINK: u64 = 16;

/// The bits of socket(2)'s type that are the type; the rest are flags.
pub const SOCK_TYPE_MASK: u64 = 0xf;
/// Streams.
pub const SOCK_STREAM: u64 = 1;
/// Datagrams.
pub const SOCK_DGRAM: u64 = 2;
/// Raw access to a protocol.
pub const SOCK_RAW: u64 = 3;
/// Ordered datagrams.
pub const SOCK_SEQPACKET: u64 = 5;

/// rtnetlink(7), the one netlink protocol that name resolution and `ip` need.
pub const NETLINK_ROUTE: u64 = 0;

/// ICMP for IPv4; with SOCK_DGRAM an echo socket, see icmp(7).
pub const IPPROTO_ICMP: u64 = 1;
/// TCP; also the level of its options.
pub const IPPROTO_TCP: u64 = 6;
/// UDP; also the level of its options.
pub const IPPROTO_UDP: u64 = 17;
/// ICMP for IPv6; also the level of its options.
pub const IPPROTO_ICMPV6: u64 = 58;

/// Level of IPv4 options.
pub const SOL_IP: u64 = 0;
/// Level of general options.
pub const SOL_SOCKET: u64 = 1;
/// Level of IPv6 options.
pub const SOL_IPV6: u64 = 41;
/// Level of netlink options.
pub const SOL_NETLINK: u64 = 270;

/// Binds beside connections that have ended, and beside other connections.
pub const SO_REUSEADDR: u64 = 2;
/// Binds to addresses of others.
pub const IP_TRANSPARENT: u64 = 19;
/// The same for IPv6.
pub const IPV6_TRANSPARENT: u64 = 75;
/// The error of a connect that was begun.
pub const SO_ERROR: u64 = 4;
/// What close does with data that are not sent yet.
pub const SO_LINGER: u64 = 13;
/// getsockopt(2): memory of a socket, by use (4.12).
pub const SO_MEMINFO: u64 = 55;
/// Sends small writes at once.
pub const TCP_NODELAY: u64 = 1;
/// Attaches a classic BPF program.
pub const SO_ATTACH_FILTER: u64 = 26;
/// Attaches an eBPF program.
pub const SO_ATTACH_BPF: u64 = 50;
/// Attaches a classic BPF program to a reuseport group.
pub const SO_ATTACH_REUSEPORT_CBPF: u64 = 51;
/// Attaches an eBPF program to a reuseport group.
pub const SO_ATTACH_REUSEPORT_EBPF: u64 = 52;
/// Allows MSG_ZEROCOPY.
pub const SO_ZEROCOPY: u64 = 60;

/// IPsec policy of a socket, old form.
pub const IP_IPSEC_POLICY: u64 = 16;
/// xfrm policy of a socket.
pub const IP_XFRM_POLICY: u64 = 17;
/// Turns an IPv6 socket into an IPv4 one.
pub const IPV6_ADDRFORM: u64 = 1;
/// IPsec policy of an IPv6 socket, old form.
pub const IPV6_IPSEC_POLICY: u64 = 34;
/// xfrm policy of an IPv6 socket.
pub const IPV6_XFRM_POLICY: u64 = 35;

/// Keys for TCP-MD5.
pub const TCP_MD5SIG: u64 = 14;
/// Takes the TCP state apart (CRIU).
pub const TCP_REPAIR: u64 = 19;
/// Puts kTLS, espintcp or another protocol on top of a TCP socket.
pub const TCP_ULP: u64 = 31;
/// Keys for TCP-MD5 with a prefix.
pub const TCP_MD5SIG_EXT: u64 = 32;
/// First of the three TCP-AO options that set keys (6.7).
pub const TCP_AO_ADD_KEY: u64 = 38;
/// Second.
pub const TCP_AO_DEL_KEY: u64 = 39;
/// Third.
pub const TCP_AO_INFO: u64 = 40;
/// ESP, L2TP or GTP in UDP.
pub const UDP_ENCAP: u64 = 100;

/// Out-of-band data in send and receive flags.
pub const MSG_OOB: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_the_c_library() {
        let same = |ours: u64, number: libc::c_int| assert_eq!(i64::from(number), ours as i64);
        same(AF_INET6, libc::AF_INET6);
        same(AF_NETLINK, libc::AF_NETLINK);
        same(SOCK_SEQPACKET, libc::SOCK_SEQPACKET);
        same(IPPROTO_ICMPV6, libc::IPPROTO_ICMPV6);
        same(SOL_NETLINK, libc::SOL_NETLINK);
        same(SO_ATTACH_FILTER, libc::SO_ATTACH_FILTER);
        same(SO_ATTACH_REUSEPORT_CBPF, libc::SO_ATTACH_REUSEPORT_CBPF);
        same(SO_ZEROCOPY, libc::SO_ZEROCOPY);
        same(SO_ERROR, libc::SO_ERROR);
        same(SO_LINGER, libc::SO_LINGER);
        same(SO_MEMINFO, libc::SO_MEMINFO);
        same(TCP_NODELAY, libc::TCP_NODELAY);
        same(TCP_ULP, libc::TCP_ULP);
        same(TCP_REPAIR, libc::TCP_REPAIR);
        same(TCP_MD5SIG, libc::TCP_MD5SIG);
        same(MSG_OOB, libc::MSG_OOB);
    }
}
