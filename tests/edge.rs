//! The network edge between namespaces that the test makes, without a sandbox.
//!
//! Each test runs itself again as root of a user namespace. There, in one thread:
//! the host H, where the edge runs and dials; the job J, whose addresses all lead to
//! the edge's listeners; and the world C behind a router's address on a pair of links.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use cofferdam::net::edge::{Edge, Listening, start};
use cofferdam::net::grant::{Grant, Limits, Ports, Proto, Rules, Target, WithoutName};
use cofferdam::net::record::{Obstacle, Reason, Record};
use cofferdam::sys::network;
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket,
};
use std::process::{Child, Command, Stdio};
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
fn inside(name: &str, test: impl FnOnce()) {
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
    let rules = Rules {
        grants,
        open: false,
        tls_without_name: WithoutName::Refuse,
        limits,
    };
    let listening = Listening {
        tcp: tcp.as_fd(),
        dns_udp: udp.as_fd(),
        dns_tcp: dns.as_fd(),
        published: None,
    };
    let resolver = SocketAddrV4::new(ROUTER, 53).into();
    let edge = start(&rules, listening, &[resolver]).unwrap();
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
        let socket = within(&self.job, &self.host, || {
            UdpSocket::bind("0.0.0.0:0").unwrap()
        });
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect("9.9.9.9:53").unwrap();
        socket.send(&query(name)).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        read_answer(&buffer[..length])
    }

    /// A resolver in the world that has one answer for every name.
    fn resolver(&self, address: Ipv4Addr) {
        let socket = within(&self.world, &self.host, || {
            UdpSocket::bind((ROUTER, 53)).unwrap()
        });
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let mut answer = buffer[..length].to_vec();
                answer[2] |= 0x80;
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address.octets());
                socket.send_to(&answer, from).unwrap();
            }
        });
    }
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
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &sized(&sized(&entry))].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(sized(&extension));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
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

#[test]
fn a_granted_network_gets_every_byte_both_ways_and_both_ends() {
    inside(
        "a_granted_network_gets_every_byte_both_ways_and_both_ends",
        || {
            const BYTES: usize = 100 << 20;
            let world = build(vec![grant("93.184.216.0/24", &[7000], None)], 7000, LIMITS);
            let server = world.listen(SERVER, 7000);
            let client = world.dial(SERVER, 7000);
            let (far, from) = server.accept().unwrap();
            assert_eq!(from.ip(), HOST);
            let serving = thread::spawn(move || exchange(&far, BYTES));
            assert_eq!(exchange(&client, BYTES), BYTES);
            assert_eq!(serving.join().unwrap(), BYTES);
            drop(client);
            let Some(Record::Allowed(id, asked, 0)) = world.edge.next().unwrap() else {
                panic!()
            };
            assert_eq!(asked.address, SocketAddrV4::new(SERVER, 7000).into());
            let both = BYTES as u64;
            assert_eq!(
                world.edge.next().unwrap(),
                Some(Record::Ended(id, both, both))
            );
        },
    );
}

#[test]
fn half_of_a_connection_ends_by_itself_and_a_reset_is_passed_on() {
    inside(
        "half_of_a_connection_ends_by_itself_and_a_reset_is_passed_on",
        || {
            let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
            let server = world.listen(SERVER, 7000);
            let mut client = world.dial(SERVER, 7000);
            let (mut far, _) = server.accept().unwrap();
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            far.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "question");
            far.write_all(b"answer").unwrap();
            let mut buffer = [0; 6];
            client.read_exact(&mut buffer).unwrap();
            rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
            drop(far);
            let error = client.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        },
    );
}

#[test]
fn what_no_grant_has_and_what_no_grant_may_have_is_reset_at_once() {
    inside(
        "what_no_grant_has_and_what_no_grant_may_have_is_reset_at_once",
        || {
            use cofferdam::net::decide::Reason as Decided;
            let grants = vec![
                grant("93.184.216.34", &[443], None),
                grant("10.9.0.0/24", &[7000], None),
                grant("0.0.0.0/0", &[7001], None),
            ];
            let world = build(grants, 7000, LIMITS);
            let decided = |address: Ipv4Addr| world.refused(address, 7000, b"");
            assert_eq!(decided(SERVER), Reason::Decided(Decided::Port));
            let stranger = Ipv4Addr::new(1, 1, 1, 1);
            assert_eq!(decided(stranger), Reason::Decided(Decided::Port));
            // The network is granted, this address of it is the host's own.
            assert_eq!(decided(HOST), Reason::Met(Obstacle::ThisHost));
            let broadcast = Ipv4Addr::new(10, 9, 0, 255);
            assert_eq!(decided(broadcast), Reason::Met(Obstacle::NoRoute));
            // A neighbour of a granted network is dialled, and answers by itself.
            assert_eq!(decided(ROUTER), Reason::Met(Obstacle::Unreachable));
            let server = world.listen(ROUTER, 7000);
            let mut client = world.dial(ROUTER, 7000);
            let (mut far, _) = server.accept().unwrap();
            far.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        },
    );
}

#[test]
fn neither_loopback_nor_metadata_is_reached_by_a_wide_grant() {
    inside(
        "neither_loopback_nor_metadata_is_reached_by_a_wide_grant",
        || {
            use cofferdam::net::decide::Reason as Decided;
            let world = build(vec![grant("0.0.0.0/0", &[7000], None)], 7000, LIMITS);
            let _metadata = world.listen(Ipv4Addr::new(169, 254, 169, 254), 7000);
            let _service = TcpListener::bind("0.0.0.0:7000").unwrap();
            for address in [
                [127, 0, 0, 1],
                [127, 8, 8, 8],
                [169, 254, 169, 254],
                [10, 9, 0, 1],
                [10, 9, 0, 2],
                [192, 168, 0, 1],
                [192, 0, 2, 1],
            ] {
                let reason = world.refused(Ipv4Addr::from(address), 7000, b"");
                assert!(
                    matches!(
                        reason,
                        Reason::Decided(Decided::Special | Decided::NotGranted)
                    ),
                    "{address:?}: {reason:?}"
                );
            }
        },
    );
}

#[test]
fn only_granted_names_have_an_address_and_the_hello_has_to_say_which() {
    inside(
        "only_granted_names_have_an_address_and_the_hello_has_to_say_which",
        || {
            use cofferdam::net::decide::Reason as Decided;
            let world = build(vec![grant("good.example", &[443], None)], 443, LIMITS);
            world.resolver(SERVER);
            assert_eq!(world.ask("bad.example"), (3, None));
            let refused = world.edge.next().unwrap();
            let Some(Record::Refused(asked, reason)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(asked.name.unwrap().as_str(), "bad.example");
            assert_eq!(reason, Reason::Decided(Decided::NotGranted));
            let (0, Some(address)) = world.ask("Good.Example") else {
                panic!()
            };
            assert_eq!(world.ask("good.example"), (0, Some(address)));
            let lie = world.refused(address, 443, &hello("bad.example"));
            assert_eq!(lie, Reason::Decided(Decided::HelloName));
            let plain = world.refused(address, 443, b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(plain, Reason::Decided(Decided::NotTls));
            // The server's own address belongs to no name.
            let direct = world.refused(SERVER, 443, b"");
            assert_eq!(direct, Reason::Decided(Decided::NotGranted));

            let server = world.listen(SERVER, 443);
            let mut client = world.dial(address, 443);
            let hello = hello("good.example");
            let (first, second) = hello.split_at(20);
            client.write_all(first).unwrap();
            thread::sleep(Duration::from_millis(50));
            client.write_all(second).unwrap();
            let (mut far, _) = server.accept().unwrap();
            let mut heard = vec![0; hello.len()];
            far.read_exact(&mut heard).unwrap();
            assert_eq!(heard, hello);
            far.write_all(b"server hello").unwrap();
            client.read_exact(&mut [0; 12]).unwrap();
        },
    );
}

#[test]
fn each_request_of_a_connection_has_to_be_for_the_name() {
    inside(
        "each_request_of_a_connection_has_to_be_for_the_name",
        || {
            use cofferdam::net::decide::Reason as Decided;
            let world = build(vec![grant("good.example", &[80], None)], 80, LIMITS);
            world.resolver(SERVER);
            let (0, Some(address)) = world.ask("good.example") else {
                panic!()
            };
            let server = world.listen(SERVER, 80);
            let mut client = world.dial(address, 80);
            let good = b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n";
            client.write_all(good).unwrap();
            let (mut far, _) = server.accept().unwrap();
            let mut heard = vec![0; good.len()];
            far.read_exact(&mut heard).unwrap();
            assert_eq!(heard, good);
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: bad.example\r\n\r\n")
                .unwrap();
            let error = client.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let error = far.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let allowed = world.edge.next().unwrap();
            assert!(matches!(allowed, Some(Record::Allowed(..))), "{allowed:?}");
            let refused = world.edge.next().unwrap();
            let Some(Record::Refused(_, reason)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(reason, Reason::Decided(Decided::RequestHost));
        },
    );
}

#[test]
fn a_name_that_leads_to_a_private_address_is_refused() {
    inside("a_name_that_leads_to_a_private_address_is_refused", || {
        use cofferdam::net::decide::Reason as Decided;
        let raw = Some(Proto::Raw);
        let world = build(vec![grant("good.example", &[7000], raw)], 7000, LIMITS);
        world.resolver(ROUTER);
        let _server = world.listen(ROUTER, 7000);
        let (0, Some(address)) = world.ask("good.example") else {
            panic!()
        };
        let reason = world.refused(address, 7000, b"");
        assert_eq!(reason, Reason::Decided(Decided::Special));
    });
}

#[test]
fn dns_over_tcp_answers_each_query_of_a_connection() {
    inside("dns_over_tcp_answers_each_query_of_a_connection", || {
        let world = build(vec![grant("*.good.example", &[443], None)], 443, LIMITS);
        let mut client = world.dial(Ipv4Addr::new(9, 9, 9, 9), 53);
        for (name, code) in [
            ("a.good.example", 0),
            ("b.good.example", 0),
            ("good.example", 3),
        ] {
            let message = query(name);
            client
                .write_all(&(message.len() as u16).to_be_bytes())
                .unwrap();
            client.write_all(&message).unwrap();
            let mut length = [0; 2];
            client.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(read_answer(&answer).0, code, "{name}");
        }
    });
}

#[test]
fn more_connections_than_the_limit_are_reset_and_room_comes_back() {
    inside(
        "more_connections_than_the_limit_are_reset_and_room_comes_back",
        || {
            use cofferdam::net::decide::Reason as Decided;
            let limits = Limits {
                connections: 2,
                ..LIMITS
            };
            let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, limits);
            let server = world.listen(SERVER, 7000);
            let open: Vec<_> = (0..2)
                .map(|_| {
                    let client = world.dial(SERVER, 7000);
                    let far = server.accept().unwrap().0;
                    let allowed = world.edge.next().unwrap();
                    assert!(matches!(allowed, Some(Record::Allowed(..))), "{allowed:?}");
                    (client, far)
                })
                .collect();
            let reason = world.refused(SERVER, 7000, b"");
            assert_eq!(reason, Reason::Decided(Decided::Connections));
            drop(open);
            for _ in 0..2 {
                let ended = world.edge.next().unwrap();
                assert!(matches!(ended, Some(Record::Ended(..))), "{ended:?}");
            }
            let _client = world.dial(SERVER, 7000);
            server.accept().unwrap();
        },
    );
}

#[test]
fn it_holds_only_its_descriptors_and_ends_with_the_last_word_about_each_connection() {
    inside(
        "it_holds_only_its_descriptors_and_ends_with_the_last_word_about_each_connection",
        || {
            let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
            let pid = world.edge.child.pid;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.contains(line), "{line} not in {status}");
            }
            let server = world.listen(SERVER, 7000);
            let mut client = world.dial(SERVER, 7000);
            let (mut far, _) = server.accept().unwrap();
            client.write_all(b"four").unwrap();
            far.read_exact(&mut [0; 4]).unwrap();
            world.edge.finish();
            let allowed = world.edge.next().unwrap();
            let Some(Record::Allowed(id, ..)) = allowed else {
                panic!("{allowed:?}")
            };
            assert_eq!(world.edge.next().unwrap(), Some(Record::Ended(id, 4, 0)));
            assert_eq!(world.edge.next().unwrap(), None);
            let ended: OwnedFd = world.edge.child.pidfd.try_clone().unwrap();
            assert_eq!(cofferdam::sys::process::reap(&ended), Ok((true, 0)));
        },
    );
}

#[test]
fn ipv6_is_relayed_and_refused_as_ipv4_is() {
    inside("ipv6_is_relayed_and_refused_as_ipv4_is", || {
        use cofferdam::net::decide::Reason as Decided;
        let grants = vec![
            grant("2606:2800:220:1::/64", &[7000], None),
            grant("::/0", &[7000], None),
            grant("0.0.0.0/0", &[7000], None),
        ];
        let world = build(grants, 7000, LIMITS);
        let server = world.listen(SERVER6, 7000);
        let mut client = world.dial(SERVER6, 7000);
        let (mut far, from) = server.accept().unwrap();
        assert_eq!(from.ip().to_string(), "fd09::1");
        far.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let Some(Record::Allowed(_, asked, 0)) = world.edge.next().unwrap() else {
            panic!()
        };
        assert_eq!(asked.address, (SERVER6, 7000).into());
        drop((client, far));
        world.edge.next().unwrap();
        let _metadata = world.listen("fd00:ec2::254".parse::<Ipv6Addr>().unwrap(), 7000);
        for address in [
            "::1",
            "fd00:ec2::254",
            "fd09::1",
            "fd09::2",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.9.0.2",
            "64:ff9b:1::1",
            "2002:0a09:0002::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "::10.9.0.2",
            "::ffff:127.0.0.1",
            "::ffff:10.9.0.2",
            "::ffff:169.254.169.254",
        ] {
            // Not every one of them can be connected to: then nothing came here at all.
            let address: IpAddr = address.parse().unwrap();
            let scoped = address.to_string().starts_with("fe80") || address.is_multicast();
            if scoped {
                continue;
            }
            let reason = world.refused(address, 7000, b"");
            assert_eq!(reason, Reason::Decided(Decided::NotGranted), "{address}");
        }
        // Public, and the host's own since now.
        ip("addr add 2606:4700::1/128 dev h0 nodad");
        let own: Ipv6Addr = "2606:4700::1".parse().unwrap();
        // The kernel adds the route of an address after it has answered.
        let began = Instant::now();
        let told = || {
            Command::new("ip")
                .args(["route", "get", "2606:4700::1"])
                .output()
        };
        while !told().unwrap().stdout.starts_with(b"local") {
            assert!(began.elapsed() < LIMIT);
        }
        let reason = world.refused(own, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::ThisHost));
        // A public network on a link of the host, which no grant names.
        ip("-6 route add blackhole 2a00::/32");
        let nowhere: Ipv6Addr = "2a00::1".parse().unwrap();
        let reason = world.refused(nowhere, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::NoRoute));
    });
}

#[test]
fn a_name_is_reached_by_the_family_that_answers() {
    inside("a_name_is_reached_by_the_family_that_answers", || {
        let world = build(vec![grant("www.example.org", &[7000], None)], 7000, LIMITS);
        let socket = within(&world.world, &world.host, || {
            UdpSocket::bind((ROUTER, 53)).unwrap()
        });
        // Both families; the server listens at the IPv6 one alone.
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let mut answer = buffer[..length].to_vec();
                let six = answer[length - 3] == 28;
                answer[2] |= 0x80;
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, answer[length - 3], 0, 1, 0, 0, 0, 60, 0]);
                if six {
                    answer.push(16);
                    answer.extend(SERVER6.octets());
                } else {
                    answer.push(4);
                    answer.extend(SERVER.octets());
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        let server = world.listen(SERVER6, 7000);
        let Some(four) = world.ask("www.example.org").1 else {
            panic!("no address")
        };
        let six: Ipv6Addr = "fdc0:ffda:7:1::1".parse().unwrap();
        for pooled in [IpAddr::from(four), six.into()] {
            let mut client = world.dial(pooled, 7000);
            let (mut far, _) = server.accept().unwrap();
            far.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let Some(Record::Allowed(_, asked, 0)) = world.edge.next().unwrap() else {
                panic!()
            };
            assert_eq!(asked.address, (SERVER6, 7000).into());
            assert_eq!(asked.name.unwrap().as_str(), "www.example.org");
            drop((client, far));
            world.edge.next().unwrap();
        }
    });
}

#[test]
fn it_has_ids_and_mounts_of_its_own_an_empty_root_and_the_hosts_network() {
    inside(
        "it_has_ids_and_mounts_of_its_own_an_empty_root_and_the_hosts_network",
        || {
            let world = build(Vec::new(), 7000, LIMITS);
            let its = |file: &str| format!("/proc/{}/{file}", world.edge.child.pid);
            let link = |path: String| std::fs::read_link(path).unwrap();
            for (kind, shared) in [("user", false), ("mnt", false), ("net", true)] {
                let same =
                    link(its(&format!("ns/{kind}"))) == link(format!("/proc/self/ns/{kind}"));
                assert_eq!(same, shared, "{kind}");
            }
            let mounts = std::fs::read_to_string(its("mountinfo")).unwrap();
            assert_eq!(mounts.lines().count(), 1, "{mounts}");
            assert!(mounts.contains(" ro,nosuid,nodev,noexec"), "{mounts}");
            assert_eq!(std::fs::read_dir(its("root")).unwrap().count(), 0);
            assert_eq!(std::fs::read_dir(its("cwd")).unwrap().count(), 0);
            let map = std::fs::read_to_string(its("uid_map")).unwrap();
            assert_eq!(map, "", "no id of the host");
        },
    );
}
