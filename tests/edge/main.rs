//! The network edge between namespaces that the test makes, without a sandbox.
//!
//! Each test runs itself again as root of a user namespace. There, in one thread:
//! the host H, where the edge runs and dials; the job J, whose addresses all lead to
//! the edge's listeners; and the world C behind a router's address on a pair of links.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod dns;
mod flow;
mod ipv6;
mod limits;
mod process;
mod read;
mod refused;
mod tls;

use cofferdam::net::edge::{Edge, Listening, start};
use cofferdam::net::grant::{Grant, Limits, Ports, Proto, Rules, Target, WithoutName};
use cofferdam::net::record::{Obstacle, Reason, Record};
use cofferdam::sys::network;
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream,
    UdpSocket,
};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// Says that a process is the inner one.
const INSIDE: &str = "EDGE_TEST_INSIDE";
/// Public, and in nobody's use here.
const SERVER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The same server's.
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 1);
/// The world's end of the link.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The host's end.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Runs `test` as root of namespaces of its own, alone in its process.
fn inside<T: FnOnce()>(test: T) {
    // A closure's type has the path of the function it stands in.
    let name = std::any::type_name::<T>();
    let name = name.strip_prefix("edge::").unwrap();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let me = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["-Urn", "--kill-child", "--fork", "--"])
        .arg(me)
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

fn enter(namespace: &File) {
    rustix::thread::move_into_link_name_space(
        namespace.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .unwrap();
}

/// Runs `work` in a network namespace, in this thread.
fn within<T>(namespace: &File, home: &File, work: impl FnOnce() -> T) -> T {
    enter(namespace);
    let result = work();
    enter(home);
    result
}

/// A process that keeps a network namespace, and that namespace.
fn namespace() -> (Child, File) {
    let child = Command::new("unshare")
        .args(["-n", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/ns/net", child.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let began = Instant::now();
    while std::fs::read_link(&path).unwrap() == own {
        assert!(began.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(2));
    }
    let file = File::open(path).unwrap();
    (child, file)
}

struct World {
    host: File,
    job: File,
    world: File,
    edge: Edge,
    keepers: Vec<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.edge.end();
        for keeper in &mut self.keepers {
            keeper.kill().unwrap();
            keeper.wait().unwrap();
        }
    }
}

fn grant(to: &str, ports: &[u16], proto: Option<Proto>) -> Grant {
    Grant {
        to: Target::parse(to).unwrap(),
        ports: ports.iter().map(|port| Ports::one(*port)).collect(),
        proto,
    }
}

/// The port of the relay stands for the destination's: nothing redirects here.
fn build(grants: Vec<Grant>, port: u16, limits: Limits) -> World {
    build_asking(&[53], grants, port, limits)
}

/// With resolvers at these ports of the router.
fn build_asking(resolvers: &[u16], grants: Vec<Grant>, port: u16, limits: Limits) -> World {
    let resolvers: Vec<SocketAddr> = resolvers
        .iter()
        .map(|port| SocketAddrV4::new(ROUTER, *port).into())
        .collect();
    let rules = Rules {
        grants,
        open: false,
        tls_without_name: WithoutName::Refuse,
        limits,
    };
    build_by(&rules, &resolvers, port)
}

/// In mode open.
fn build_open(grants: Vec<Grant>, port: u16) -> World {
    let rules = Rules {
        grants,
        open: true,
        tls_without_name: WithoutName::Refuse,
        limits: LIMITS,
    };
    build_by(&rules, &[SocketAddrV4::new(ROUTER, 53).into()], port)
}

fn build_by(rules: &Rules, resolvers: &[SocketAddr], port: u16) -> World {
    ip("link set lo up");
    let host = File::open("/proc/self/ns/net").unwrap();
    let (job_keeper, job) = namespace();
    let (world_keeper, world) = namespace();
    ip(&format!(
        "link add h0 type veth peer name c0 netns {}",
        world_keeper.id()
    ));
    ip("addr add 10.9.0.1/24 dev h0");
    ip("link set h0 up");
    within(&world, &host, || {
        ip("link set lo up");
        ip("addr add 10.9.0.2/24 dev c0");
        ip(&format!("addr add {SERVER}/32 dev c0"));
        ip("addr add 169.254.169.254/32 dev c0");
        ip("link set c0 up");
        ip("addr add fd09::2/64 dev c0 nodad");
        ip(&format!("addr add {SERVER6}/128 dev c0 nodad"));
        ip("addr add fd00:ec2::254/128 dev c0 nodad");
    });
    ip("route add default via 10.9.0.2");
    ip("addr add fd09::1/64 dev h0 nodad");
    ip("route add default via fd09::2");
    let (tcp, udp, dns) = within(&job, &host, || {
        ip("link set lo up");
        // Every address is the job's own, so that the listeners get what is sent there.
        ip("route add local 0.0.0.0/1 dev lo");
        ip("route add local 128.0.0.0/1 dev lo");
        ip("-6 route add local ::/1 dev lo");
        ip("-6 route add local 8000::/1 dev lo");
        (
            network::transparent_listener(port, true).unwrap(),
            network::transparent_datagrams(53, true).unwrap(),
            network::transparent_listener(53, true).unwrap(),
        )
    });
    let listening = Listening {
        tcp: tcp.as_fd(),
        dns_udp: udp.as_fd(),
        dns_tcp: dns.as_fd(),
        gateway: None,
    };
    let edge = start(rules, &[], resolvers)
        .unwrap()
        .listen(listening)
        .unwrap();
    World {
        host,
        job,
        world,
        edge,
        keepers: vec![job_keeper, world_keeper],
    }
}

const LIMITS: Limits = Limits {
    connections: 100,
    new_per_second: 1000,
    dns_per_second: 1000,
};

impl World {
    fn listen(&self, address: impl Into<IpAddr>, port: u16) -> TcpListener {
        let address = address.into();
        within(&self.world, &self.host, || {
            TcpListener::bind((address, port)).unwrap()
        })
    }

    fn dial(&self, address: impl Into<IpAddr>, port: u16) -> TcpStream {
        let address = address.into();
        let stream = within(&self.job, &self.host, || {
            TcpStream::connect((address, port)).unwrap()
        });
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Dials, says `first`, and has to be reset at once.
    fn refused(&self, address: impl Into<IpAddr>, port: u16, first: &[u8]) -> Reason {
        let address = address.into();
        let began = Instant::now();
        // The reset may be here before connect(2) has looked.
        let dialled = within(&self.job, &self.host, || {
            TcpStream::connect((address, port))
        });
        let heard = dialled.and_then(|mut stream| {
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(first)?;
            stream.read(&mut [0; 1])
        });
        let error = heard.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{address}");
        assert!(began.elapsed() < Duration::from_secs(2), "{address}");
        match self.edge.next().unwrap() {
            Some(Record::Refused(_, reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for an A record over UDP; the code and the address.
    fn ask(&self, name: &str) -> (u8, Option<Ipv4Addr>) {
        read_answer(&self.answers(&query(name)))
    }

    /// The answer to a query over UDP.
    fn answers(&self, query: &[u8]) -> Vec<u8> {
        let socket = within(&self.job, &self.host, || {
            UdpSocket::bind("0.0.0.0:0").unwrap()
        });
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect("9.9.9.9:53").unwrap();
        socket.send(query).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// A resolver in the world that has one answer for every name.
    fn resolver(&self, address: Ipv4Addr) {
        self.resolver_says(53, move |query, _| vec![answer(query, &[a(address)])]);
    }

    /// A resolver in the world that sends these messages back, and where queries come from.
    fn resolver_says(
        &self,
        port: u16,
        says: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Receiver<(u16, u16)> {
        let socket = within(&self.world, &self.host, || {
            UdpSocket::bind((ROUTER, port)).unwrap()
        });
        let (asked, queries) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..length];
                let id = u16::from_be_bytes([query[0], query[1]]);
                // Not every test looks.
                asked.send((id, from.port())).unwrap_or_default();
                for message in says(query, from) {
                    socket.send_to(&message, from).unwrap();
                }
            }
        });
        queries
    }
}

/// A record of the name that was asked for.
fn a(address: Ipv4Addr) -> Vec<u8> {
    let fixed = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
    [&fixed[..], &address.octets()].concat()
}

/// AAAA record of the name that was asked for.
fn aaaa(address: Ipv6Addr) -> Vec<u8> {
    let fixed = [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16];
    [&fixed[..], &address.octets()].concat()
}

/// A response to a query, with these records.
fn answer(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[7] = records.len() as u8;
    answer.extend(records.concat());
    answer
}

fn query(name: &str) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

fn read_answer(answer: &[u8]) -> (u8, Option<Ipv4Addr>) {
    assert_eq!(answer[..2], [0xab, 0xcd]);
    let address = (answer[7] == 1).then(|| {
        let octets: [u8; 4] = answer[answer.len() - 4..].try_into().unwrap();
        Ipv4Addr::from(octets)
    });
    (answer[3] & 0xf, address)
}

/// A client hello with one server name and nothing else of interest.
fn hello(name: &str) -> Vec<u8> {
    tls::record(22, &tls::message(&[tls::server_name(&[name.as_bytes()])]))
}

/// Sends so many bytes and the end, in a thread; reads to the end here.
fn exchange(stream: &TcpStream, bytes: usize) -> usize {
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let block = [0x5a; 64 * 1024];
        for _ in 0..bytes / block.len() {
            sender.write_all(&block).unwrap();
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let (mut receiver, mut total) = (stream, 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match receiver.read(&mut buffer).unwrap() {
            0 => break,
            count => {
                assert!(buffer[..count].iter().all(|byte| *byte == 0x5a));
                total += count;
            }
        }
    }
    sending.join().unwrap();
    total
}
