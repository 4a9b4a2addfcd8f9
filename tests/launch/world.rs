//! A network that a test makes: a host with one link to a resolver and a server.

use crate::site::{Site, output, program, text, until};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// Public, and in nobody's use here.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// Another address of that server.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 35);
/// The same server's.
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 1);
/// The resolver, neighbour of the host and its gateway to everywhere.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// It has this address on the link, too.
pub const RESOLVER6: &str = "fd09::2";
/// And this one, which means something there alone.
pub const RESOLVER_ON_LINK: &str = "fe80::2%near";

/// A program in the world; it ends with its owner, and with the tester.
pub struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// A host and all that it can reach.
pub struct World {
    pub host: Child,
    pub far: Child,
    /// Queries that reached the resolver, as they were.
    pub asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for World {
    fn drop(&mut self) {
        for keeper in [&mut self.host, &mut self.far] {
            end(keeper);
        }
    }
}

/// Gives up a namespace.
pub fn end(keeper: &mut Child) {
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}

/// A process that keeps a network namespace.
pub fn keeper() -> Child {
    let child = Command::new("unshare")
        .args(["--net", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    until("a network namespace", || {
        let its = std::fs::read_link(namespace(&child)).ok()?;
        (its != own).then_some(())
    });
    child
}

pub fn namespace(keeper: &Child) -> String {
    format!("/proc/{}/ns/net", keeper.id())
}

/// ip(8) in a namespace.
pub fn ip(within: &Child, arguments: &str) {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace(within)))
        .arg("ip");
    assert!(
        command
            .args(arguments.split(' '))
            .status()
            .unwrap()
            .success()
    );
}

/// Runs `work` in a thread of its own within the namespace.
pub fn within<T: Send + 'static>(keeper: &Child, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(namespace(keeper)).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    thread.join().unwrap()
}

impl World {
    /// While nobody counts descriptors.
    pub fn new() -> Self {
        let (host, far) = (keeper(), keeper());
        let pair = format!("link add near type veth peer name away netns {}", far.id());
        ip(&host, &pair);
        for arguments in [
            "addr add 10.9.0.1/24 dev near",
            "addr add fd09::1/64 dev near nodad",
            "link set lo up",
            "link set near up",
        ] {
            ip(&host, arguments);
        }
        for arguments in [
            "addr add 10.9.0.2/24 dev away",
            "addr add 93.184.216.34/32 dev away",
            "addr add fd09::2/64 dev away nodad",
            "addr add fe80::2/64 dev away nodad",
            "addr add 2606:2800:220:1::1/128 dev away nodad",
            "addr add 93.184.216.35/32 dev away",
            "link set away up",
        ] {
            ip(&far, arguments);
        }
        ip(&host, "route add default via 10.9.0.2");
        ip(&host, "route add default via fd09::2");
        let (resolvers, servers) = within(&far, || {
            let on_link = |socket: &UdpSocket| {
                let index = rustix::net::netdevice::name_to_index(socket, "away").unwrap();
                SocketAddrV6::new("fe80::2".parse().unwrap(), 53, 0, index)
            };
            let by4 = UdpSocket::bind((RESOLVER, 53)).unwrap();
            let by_link = UdpSocket::bind(on_link(&by4)).unwrap();
            let resolvers = [by4, UdpSocket::bind((RESOLVER6, 53)).unwrap(), by_link];
            let servers: [IpAddr; 2] = [SERVER.into(), SERVER6.into()];
            let servers = servers.map(|at| TcpListener::bind((at, 8080)).unwrap());
            (resolvers, servers)
        });
        let asked = Arc::new(Mutex::new(Vec::new()));
        for resolver in resolvers {
            let queries = Arc::clone(&asked);
            std::thread::spawn(move || resolve(&resolver, &queries));
        }
        for server in servers {
            std::thread::spawn(move || serve(&server));
        }
        Self { host, far, asked }
    }

    /// A program where the server is, once it listens on a port.
    pub fn daemon(&self, command: &Command, port: u16) -> Daemon {
        let mut daemon = Command::new("nsenter");
        daemon.arg(format!("--net={}", namespace(&self.far)));
        daemon.args(["setpriv", "--pdeathsig", "KILL"]);
        daemon.arg(command.get_program()).args(command.get_args());
        daemon.stdin(Stdio::null()).stdout(Stdio::null());
        let mut daemon = Daemon(daemon.stderr(Stdio::null()).spawn().unwrap());
        until("a listener", || {
            assert_eq!(daemon.0.try_wait().unwrap(), None, "{command:?}");
            within(&self.far, move || listens(port)).then_some(())
        });
        daemon
    }

    /// `cofferdam`, on the host with this resolver.
    pub fn cofferdam(&self, site: &Site, root: bool, arguments: &[&str]) -> Output {
        output(self.command(site, root, &program()).args(arguments))
    }

    /// A program on the host with this resolver, as root or as the account.
    pub fn command(&self, site: &Site, root: bool, program: &str) -> Command {
        self.command_asking(&RESOLVER.to_string(), site, root, program)
    }

    /// The same with another resolver.
    pub fn command_asking(
        &self,
        resolver: &str,
        site: &Site,
        root: bool,
        program: &str,
    ) -> Command {
        let conf = site.base().join("resolv.conf");
        site.write(&conf, &format!("nameserver {resolver}\n"));
        let mount = format!(
            "mount --bind {} /etc/resolv.conf && exec \"$@\"",
            conf.display()
        );
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace(&self.host)));
        command.args(["unshare", "--mount", "sh", "-c", &mount, "sh"]);
        let (account, mut home) = (&site.account, "/root".to_owned());
        if !root {
            let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
            command.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--init-groups"]);
            home = account.home.display().to_string();
        }
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.arg(format!("HOME={home}")).arg(program);
        command.current_dir("/");
        command
    }
}

/// Whether a TCP socket of this thread's namespace listens: state 0A in proc_net_tcp(5).
fn listens(port: u16) -> bool {
    let port = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|family| {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{family}")).unwrap();
        table.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == "0A"
        })
    })
}

/// Key and certificate of `www.example.org`, as files.
pub fn certificate(site: &Site) -> (PathBuf, PathBuf) {
    let (key, certificate) = (site.base().join("key.pem"), site.base().join("ca.pem"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec"]);
    make.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    make.args(["-nodes", "-days", "30", "-subj", "/CN=www.example.org"]);
    make.args(["-addext", "subjectAltName=DNS:www.example.org", "-keyout"]);
    let made = output(make.arg(&key).arg("-out").arg(&certificate));
    assert!(made.status.success(), "{}", text(&made));
    (key, certificate)
}

/// Every name is the server's, but `inward` is this host's, `at-1-2-3-4.` is what it says,
/// and `none` does not exist. `six` has an IPv6 address alone, `both` has both.
fn resolve(socket: &UdpSocket, asked: &Mutex<Vec<Vec<u8>>>) {
    let mut query = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let query = &query[..length];
        asked.lock().unwrap().push(query.to_vec());
        let has = |part: &[u8]| query.windows(part.len()).any(|bytes| bytes == part);
        let by_six = query[length - 3] == 28;
        let address: Option<IpAddr> = match (has(b"six"), has(b"both"), by_six) {
            (true, _, true) | (_, true, true) => Some(SERVER6.into()),
            (true, _, false) | (_, _, true) => None,
            _ if has(b"inward") => Some(Ipv4Addr::LOCALHOST.into()),
            _ => Some(literal(query).unwrap_or(SERVER).into()),
        };
        let address = address.filter(|_| !has(b"none"));
        let code = if has(b"none") { 0x83 } else { 0x80 };
        let count = u8::from(address.is_some());
        let head = [0x81, code, 0, 1, 0, count, 0, 0, 0, 0];
        let mut answer = [&query[..2], &head, &query[12..]].concat();
        let fixed = |kind, size| [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, size];
        match address {
            Some(IpAddr::V4(address)) => {
                answer.extend(fixed(1, 4));
                answer.extend(address.octets());
            }
            Some(IpAddr::V6(address)) => {
                answer.extend(fixed(28, 16));
                answer.extend(address.octets());
            }
            None => {}
        }
        socket.send_to(&answer, from).unwrap();
    }
}

/// The address that the first label of a question is.
fn literal(query: &[u8]) -> Option<Ipv4Addr> {
    let length = usize::from(*query.get(12)?);
    let label = std::str::from_utf8(query.get(13..13 + length)?).ok()?;
    label.strip_prefix("at-")?.replace('-', ".").parse().ok()
}

/// Says so to whoever says something.
pub fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut word = [0; 6];
        if stream.read_exact(&mut word).is_ok() {
            stream.write_all(b"served\n").unwrap();
        }
    }
}
