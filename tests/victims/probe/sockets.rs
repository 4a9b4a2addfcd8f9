//! K: sockets: families, protocols, options, netlink, and what they reach.

use crate::raw::{at, at_mut, call, descriptor, number, stat};
use crate::verdict::{
    Verdict, absent, allowed, attempt, clean, errno_name, not_run, object, reached, refused, worst,
};
use crate::{Probe, World};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

const STREAM: i32 = libc::SOCK_STREAM;
const DATAGRAM: i32 = libc::SOCK_DGRAM;
const RAW: i32 = libc::SOCK_RAW;
const SEQUENCED: i32 = libc::SOCK_SEQPACKET;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "K-01-family-sweep",
        run: |_| family_sweep(),
    },
    Probe {
        name: "K-01-family-high-bits",
        run: |_| wide_socket(0x1_0000_0000 | libc::AF_PACKET as u64, DATAGRAM as u64, 0),
    },
    Probe {
        name: "K-01-type-high-bits",
        run: |_| wide_socket(libc::AF_INET as u64, 0x1_0000_0000 | RAW as u64, 1),
    },
    Probe {
        name: "K-02-socketpair-families",
        run: |_| socketpairs(),
    },
    Probe {
        name: "K-03-alg",
        run: |_| family(libc::AF_ALG, SEQUENCED, 0),
    },
    Probe {
        name: "K-04-vsock",
        run: |_| family(libc::AF_VSOCK, STREAM, 0),
    },
    Probe {
        name: "K-05-packet-raw",
        run: |_| family(libc::AF_PACKET, RAW, 0),
    },
    Probe {
        name: "K-05-packet-datagram",
        run: |_| family(libc::AF_PACKET, DATAGRAM, 0),
    },
    Probe {
        name: "K-05-inet-raw",
        run: |_| family(libc::AF_INET, RAW, 1),
    },
    Probe {
        name: "K-05-inet6-raw",
        run: |_| family(libc::AF_INET6, RAW, 58),
    },
    // SOCK_PACKET, the way to a packet socket without naming its family.
    Probe {
        name: "K-05-inet-packet",
        run: |_| family(libc::AF_INET, 10, 0x300),
    },
    Probe {
        name: "K-50-ax25",
        run: |_| family(3, SEQUENCED, 0),
    },
    Probe {
        name: "K-50-appletalk",
        run: |_| family(5, DATAGRAM, 0),
    },
    Probe {
        name: "K-50-x25",
        run: |_| family(9, SEQUENCED, 0),
    },
    Probe {
        name: "K-50-key",
        run: |_| family(15, RAW, 2),
    },
    Probe {
        name: "K-50-rds",
        run: |_| family(21, SEQUENCED, 0),
    },
    Probe {
        name: "K-50-pppox",
        run: |_| family(24, STREAM, 0),
    },
    Probe {
        name: "K-50-llc",
        run: |_| family(26, STREAM, 0),
    },
    Probe {
        name: "K-50-can",
        run: |_| family(29, RAW, 1),
    },
    Probe {
        name: "K-50-tipc",
        run: |_| family(30, STREAM, 0),
    },
    Probe {
        name: "K-50-bluetooth",
        run: |_| family(31, RAW, 1),
    },
    Probe {
        name: "K-50-rxrpc",
        run: |_| family(33, DATAGRAM, 2),
    },
    Probe {
        name: "K-50-phonet",
        run: |_| family(35, DATAGRAM, 0),
    },
    Probe {
        name: "K-50-ieee802154",
        run: |_| family(36, DATAGRAM, 0),
    },
    Probe {
        name: "K-50-caif",
        run: |_| family(37, STREAM, 0),
    },
    Probe {
        name: "K-50-nfc",
        run: |_| family(39, SEQUENCED, 1),
    },
    Probe {
        name: "K-50-kcm",
        run: |_| family(41, DATAGRAM, 0),
    },
    Probe {
        name: "K-50-qipcrtr",
        run: |_| family(42, DATAGRAM, 0),
    },
    Probe {
        name: "K-50-smc",
        run: |_| family(43, STREAM, 0),
    },
    Probe {
        name: "K-50-xdp",
        run: |_| family(44, RAW, 0),
    },
    Probe {
        name: "K-50-mctp",
        run: |_| family(45, DATAGRAM, 0),
    },
    Probe {
        name: "K-51-sctp",
        run: |_| family(libc::AF_INET, STREAM, 132),
    },
    Probe {
        name: "K-51-dccp",
        run: |_| family(libc::AF_INET, 6, 33),
    },
    Probe {
        name: "K-51-udplite",
        run: |_| family(libc::AF_INET, DATAGRAM, 136),
    },
    Probe {
        name: "K-51-mptcp",
        run: |_| family(libc::AF_INET, STREAM, 262),
    },
    Probe {
        name: "K-51-smc-protocol",
        run: |_| family(libc::AF_INET, STREAM, 256),
    },
    Probe {
        name: "K-51-l2tp",
        run: |_| family(libc::AF_INET, DATAGRAM, 115),
    },
    Probe {
        name: "K-51-protocol-high-bits",
        run: |_| wide_socket(libc::AF_INET as u64, STREAM as u64, 0x1_0000_0000 | 262),
    },
    Probe {
        name: "K-06-netlink-sweep",
        run: |_| worst((1..32).map(|protocol| family(libc::AF_NETLINK, RAW, protocol))),
    },
    Probe {
        name: "K-06-netlink-netfilter",
        run: |_| family(libc::AF_NETLINK, RAW, 12),
    },
    Probe {
        name: "K-06-netlink-xfrm",
        run: |_| family(libc::AF_NETLINK, RAW, 6),
    },
    Probe {
        name: "K-06-netlink-crypto",
        run: |_| family(libc::AF_NETLINK, RAW, 21),
    },
    Probe {
        name: "K-06-netlink-audit",
        run: |_| family(libc::AF_NETLINK, RAW, 9),
    },
    Probe {
        name: "K-06-netlink-uevent",
        run: |_| family(libc::AF_NETLINK, RAW, 15),
    },
    Probe {
        name: "K-06-netlink-generic",
        run: |_| family(libc::AF_NETLINK, RAW, 16),
    },
    Probe {
        name: "K-06-netlink-socket-diagnostics",
        run: |_| family(libc::AF_NETLINK, RAW, 4),
    },
    Probe {
        name: "K-06-netlink-high-bits",
        run: |_| wide_socket(libc::AF_NETLINK as u64, RAW as u64, 0x1_0000_0000 | 12),
    },
    Probe {
        name: "K-07-route-new-link",
        run: |_| route_write(16),
    },
    Probe {
        name: "K-07-route-new-address",
        run: |_| route_write(20),
    },
    Probe {
        name: "K-07-route-new-route",
        run: |_| route_write(24),
    },
    Probe {
        name: "K-07-route-new-rule",
        run: |_| route_write(32),
    },
    Probe {
        name: "K-07-route-new-queue",
        run: |_| route_write(36),
    },
    Probe {
        name: "K-07-route-new-filter",
        run: |_| route_write(44),
    },
    Probe {
        name: "K-07-interface-flags",
        run: |_| interface_flags(),
    },
    Probe {
        name: "K-08-abstract-connect",
        run: abstract_connect,
    },
    Probe {
        name: "K-08-abstract-list",
        run: abstract_list,
    },
    Probe {
        name: "K-09-outside-socket",
        run: outside_socket,
    },
    Probe {
        name: "K-09-workspace-socket",
        run: workspace_socket,
    },
    Probe {
        name: "K-09-engine-sockets",
        run: |_| worst(ENGINES.iter().map(|path| connect(Path::new(path)))),
    },
    Probe {
        name: "K-09-session-sockets",
        run: |_| session_sockets(),
    },
    Probe {
        name: "K-09-sockets-below-run",
        run: |_| sockets_below(&["/run", "/var/run", "/tmp"]),
    },
    Probe {
        name: "K-10-user-bus",
        run: |_| user_bus(),
    },
    Probe {
        name: "W-03-host-loopback",
        run: host_loopback,
    },
    Probe {
        name: "W-05-route-out",
        run: |_| route_out(),
    },
    Probe {
        name: "W-05-interfaces",
        run: |_| interfaces(),
    },
    Probe {
        name: "S-28-tcp-ulp-tls",
        run: |_| option(STREAM, 6, 31, b"tls\0"),
    },
    Probe {
        name: "S-28-tcp-ulp-espintcp",
        run: |_| option(STREAM, 6, 31, b"espintcp\0"),
    },
    Probe {
        name: "S-28-tcp-ulp-smc",
        run: |_| option(STREAM, 6, 31, b"smc\0"),
    },
    Probe {
        name: "S-28-tcp-ulp-high-bits",
        run: |_| option(STREAM, 0x1_0000_0006, 0x1_0000_001f, b"tls\0"),
    },
    Probe {
        name: "S-28-udp-encap",
        run: |_| option(DATAGRAM, 17, 100, b"\x02\0\0\0"),
    },
    Probe {
        name: "S-28-udp-encap-high-bits",
        run: |_| option(DATAGRAM, 0x1_0000_0011, 100, b"\x02\0\0\0"),
    },
    Probe {
        name: "S-28-ip-xfrm-policy",
        run: |_| option(DATAGRAM, 0, 17, b"probe\0"),
    },
    Probe {
        name: "S-28-ip-ipsec-policy",
        run: |_| option(DATAGRAM, 0, 16, b"probe\0"),
    },
    Probe {
        name: "S-28-ipv6-xfrm-policy",
        run: |_| option(DATAGRAM, 41, 35, b"probe\0"),
    },
    Probe {
        name: "S-28-iptables-replace",
        run: |_| option(DATAGRAM, 0, 64, b"probe\0"),
    },
    Probe {
        name: "S-28-ip6tables-replace",
        run: |_| option(DATAGRAM, 41, 64, b"probe\0"),
    },
    Probe {
        name: "S-28-ebtables-replace",
        run: |_| option(DATAGRAM, 0, 128, b"probe\0"),
    },
    Probe {
        name: "S-28-ipvs",
        run: |_| option(DATAGRAM, 0, 1154, b"probe\0"),
    },
    Probe {
        name: "S-28-packet-ring",
        run: |_| option(DATAGRAM, 263, 5, b"probe\0"),
    },
    Probe {
        name: "S-28-socket-mark",
        run: |_| option(DATAGRAM, 1, 36, b"\x01\0\0\0"),
    },
    Probe {
        name: "S-28-transparent",
        run: |_| option(STREAM, 0, 19, b"\x01\0\0\0"),
    },
    Probe {
        name: "S-28-tcp-repair",
        run: |_| option(STREAM, 6, 19, b"\x01\0\0\0"),
    },
];

fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, i32> {
    let kind = kind | libc::SOCK_CLOEXEC;
    descriptor(call(
        libc::SYS_socket,
        &[family as u64, kind as u64, protocol as u64],
    ))
}

/// EPROTONOSUPPORT and the like say that the kernel has no such thing; only
/// outside can that be told from a filter that answers the same.
fn family(family: i32, kind: i32, protocol: i32) -> Verdict {
    attempt(
        socket(family, kind, protocol),
        &format!("socket({family}, {kind}, {protocol})"),
    )
}

/// The kernel takes `int`s, so it drops the high halves; a filter that compares all 64 bits does not.
fn wide_socket(family: u64, kind: u64, protocol: u64) -> Verdict {
    let what = format!("socket({family:#x}, {kind:#x}, {protocol:#x})");
    attempt(
        descriptor(call(libc::SYS_socket, &[family, kind, protocol])),
        &what,
    )
}

fn family_sweep() -> Verdict {
    const GRANTED: &[i32] = &[
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let families = (0..256).filter(|family| !GRANTED.contains(family));
    worst(families.flat_map(|family| {
        [STREAM, DATAGRAM, RAW, SEQUENCED].map(|kind| self::family(family, kind, 0))
    }))
}

fn socketpairs() -> Verdict {
    let pair = |family: i32| {
        let mut pair = [-1_i32; 2];
        reached_pair(
            call(
                libc::SYS_socketpair,
                &[family as u64, STREAM as u64, 0, at_mut(&mut pair)],
            ),
            family,
        )
    };
    worst(
        [
            libc::AF_TIPC,
            libc::AF_NETLINK,
            libc::AF_PACKET,
            libc::AF_ALG,
        ]
        .map(pair),
    )
}

fn reached_pair(result: Result<i64, i32>, family: i32) -> Verdict {
    let what = format!("socketpair({family})");
    match result {
        Err(libc::EAFNOSUPPORT) => refused("EAFNOSUPPORT", what),
        other => reached(other, &what),
    }
}

/// A message that is too short to do anything; the right to send it is asked first.
fn route_write(kind: u16) -> Verdict {
    let netlink = match socket(libc::AF_NETLINK, RAW, 0) {
        Ok(netlink) => netlink,
        Err(errno) => return refused(&errno_name(errno), "socket(AF_NETLINK)"),
    };
    const REQUEST_ACK: u16 = 5;
    let mut message = [0_u8; 20];
    message[..4].copy_from_slice(&17_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_ACK.to_ne_bytes());
    if let Err(errno) = call(
        libc::SYS_sendto,
        &[number(&netlink), at(&message), 20, 0, 0, 0],
    ) {
        return attempt(Err::<(), _>(errno), "send");
    }
    let mut answer = [0_u8; 256];
    match call(
        libc::SYS_recvfrom,
        &[
            number(&netlink),
            at_mut(&mut answer),
            256,
            libc::MSG_DONTWAIT as u64,
            0,
            0,
        ],
    ) {
        Ok(length) if length >= 20 => {
            let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
            let result = if error == 0 { Ok(()) } else { Err(-error) };
            reached(result, &format!("rtnetlink message {kind}"))
        }
        other => not_run(format!("no answer from rtnetlink: {other:?}")),
    }
}

/// SIOCSIFFLAGS on lo, to the flags it has.
fn interface_flags() -> Verdict {
    use std::os::fd::AsRawFd;
    let holder = match socket(libc::AF_INET, DATAGRAM, 0) {
        Ok(holder) => holder,
        Err(errno) => return refused(&errno_name(errno), "socket(AF_INET)"),
    };
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    if let Err(errno) = crate::raw::ioctl(holder.as_raw_fd(), 0x8913, at_mut(&mut request)) {
        return attempt(Err::<(), _>(errno), "SIOCGIFFLAGS");
    }
    attempt(
        crate::raw::ioctl(holder.as_raw_fd(), 0x8914, at_mut(&mut request)),
        "SIOCSIFFLAGS",
    )
}

/// sockaddr_un; an abstract name starts with NUL.
fn unix_address(name: &[u8]) -> Option<([u8; 110], u64)> {
    let mut address = [0_u8; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address.get_mut(2..2 + name.len())?.copy_from_slice(name);
    Some((address, 2 + name.len() as u64))
}

fn connect_unix(name: &[u8]) -> Result<i64, i32> {
    let Some((address, length)) = unix_address(name) else {
        return Err(libc::ENAMETOOLONG);
    };
    let mut last = Err(libc::EPROTOTYPE);
    for kind in [STREAM, DATAGRAM, SEQUENCED] {
        let socket = socket(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK, 0)?;
        last = call(libc::SYS_connect, &[number(&socket), at(&address), length]);
        if last != Err(libc::EPROTOTYPE) {
            break;
        }
    }
    last
}

fn connect(path: &Path) -> Verdict {
    use std::os::unix::ffi::OsStrExt;
    let what = path.display().to_string();
    match connect_unix(path.as_os_str().as_bytes()) {
        // A full queue is a listener all the same.
        Err(libc::EAGAIN) => allowed(what),
        Err(libc::ECONNREFUSED) if stat(path).is_ok_and(|meta| !meta.file_type().is_socket()) => {
            clean(format!("{what} is no socket here"))
        }
        other => object(other, &what),
    }
}

fn abstract_connect(world: &World) -> Verdict {
    let Some(name) = &world.abstract_name else {
        return not_run("needs --abstract".into());
    };
    let mut full = vec![0];
    full.extend_from_slice(name.as_bytes());
    attempt(connect_unix(&full), &format!("@{name}"))
}

fn abstract_list(world: &World) -> Verdict {
    let Some(name) = &world.abstract_name else {
        return not_run("needs --abstract".into());
    };
    match std::fs::read_to_string("/proc/net/unix") {
        Ok(text) if text.contains(name) => allowed("the host's sockets are listed"),
        Ok(_) => clean("the host's sockets are not listed"),
        Err(error) => object(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "/proc/net/unix",
        ),
    }
}

fn outside_socket(world: &World) -> Verdict {
    match &world.outside {
        None => not_run("needs --outside".into()),
        Some(outside) => connect(&Path::new(outside).join("socket")),
    }
}

fn workspace_socket(world: &World) -> Verdict {
    connect(&Path::new(&world.workspace).join("agent.sock"))
}

const ENGINES: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/notify",
    "/run/systemd/journal/stdout",
    "/run/systemd/userdb/io.systemd.DynamicUser",
    "/run/udev/control",
    "/run/nscd/socket",
    "/run/snapd.socket",
    "/run/libvirt/libvirt-sock",
];

fn session_sockets() -> Verdict {
    let named = [
        "SSH_AUTH_SOCK",
        "GPG_AGENT_INFO",
        "DBUS_SESSION_BUS_ADDRESS",
        "DOCKER_HOST",
        "PULSE_SERVER",
    ];
    let from_environment = named
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .map(|value| {
            let path = value
                .rsplit_once("path=")
                .map_or(value.as_str(), |(_, path)| path);
            PathBuf::from(
                path.trim_start_matches("unix://")
                    .split(',')
                    .next()
                    .unwrap_or_default(),
            )
        });
    let fixed = ["/tmp/.X11-unix/X0", "/tmp/.X11-unix/X1"].map(PathBuf::from);
    let all: Vec<PathBuf> = from_environment.chain(fixed).collect();
    worst(all.iter().map(|path| connect(path)))
}

/// The user manager would start anything it is asked to, outside.
fn user_bus() -> Verdict {
    let mut directories: Vec<PathBuf> = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    directories.extend(
        std::fs::read_dir("/run/user")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let sockets = [
        "bus",
        "systemd/private",
        "systemd/notify",
        "docker.sock",
        "podman/podman.sock",
        "gnupg/S.gpg-agent",
        "keyring/control",
        "pipewire-0",
        "wayland-0",
    ];
    worst(
        directories
            .iter()
            .flat_map(|directory| sockets.map(|name| connect(&directory.join(name)))),
    )
}

/// Every socket file that can be found, tried.
fn sockets_below(tops: &[&str]) -> Verdict {
    let mut pending: Vec<PathBuf> = tops.iter().map(PathBuf::from).collect();
    let mut verdicts = Vec::new();
    while let Some(directory) = pending.pop() {
        let Ok(listing) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in listing.flatten().take(2000) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && pending.len() < 500 => pending.push(entry.path()),
                Ok(kind) if kind.is_socket() => verdicts.push(connect(&entry.path())),
                _ => {}
            }
        }
    }
    if verdicts.is_empty() {
        absent("no socket")
    } else {
        worst(verdicts)
    }
}

/// sockaddr_in.
fn connect_inet(kind: i32, address: [u8; 4], port: u16) -> Result<i64, i32> {
    let socket = socket(libc::AF_INET, kind, 0)?;
    let mut name = [0_u8; 16];
    name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    name[4..8].copy_from_slice(&address);
    call(libc::SYS_connect, &[number(&socket), at(&name), 16])
}

fn host_loopback(world: &World) -> Verdict {
    match world.port {
        None => not_run("needs --port".into()),
        Some(port) => attempt(
            connect_inet(STREAM, [127, 0, 0, 1], port),
            &format!("127.0.0.1:{port}"),
        ),
    }
}

/// Connecting a datagram socket sends nothing; it only asks for a route.
fn route_out() -> Verdict {
    worst(
        [[192, 0, 2, 1], [169, 254, 169, 254], [10, 0, 2, 2]].map(|address| {
            attempt(
                connect_inet(DATAGRAM, address, 9),
                &format!("route to {address:?}"),
            )
        }),
    )
}

fn interfaces() -> Verdict {
    match std::fs::read_to_string("/proc/net/dev") {
        Err(error) => object(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "/proc/net/dev",
        ),
        Ok(text) => {
            let names: Vec<&str> = text
                .lines()
                .skip(2)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.trim())
                .filter(|name| *name != "lo")
                .collect();
            if names.is_empty() {
                clean("only lo")
            } else {
                allowed(names.join(" "))
            }
        }
    }
}

/// An option on a fresh socket. Where there is none, it is asked for on no
/// descriptor: then EBADF only says again that there is no socket.
fn option(kind: i32, level: u64, name: u64, value: &[u8]) -> Verdict {
    let what = format!("setsockopt({level:#x}, {name:#x})");
    let held = socket(libc::AF_INET, kind, 0);
    let fd = held.as_ref().map_or(u64::MAX, number);
    let set = call(
        libc::SYS_setsockopt,
        &[fd, level, name, value.as_ptr() as u64, value.len() as u64],
    );
    match (held, set) {
        (Err(errno), Err(libc::EBADF)) => {
            refused(&errno_name(errno), "there is no socket to set it on")
        }
        (_, set) => reached(set, &what),
    }
}
