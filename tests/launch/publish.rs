//! Published ports from end to end: who reaches the job, as whom, and by whose leave.
//!
//! The job is `listener`. The world is a host with one link to a neighbour.

use crate::site::{Site, output, program, stderr, stdout, text, until};
use crate::support::skip;
use crate::world::{ip, keeper, namespace, within};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// What answers at all does so long before.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long something is tried that a rule drops.
const DROPPED: Duration = Duration::from_millis(700);

struct World {
    host: Child,
    far: Child,
    /// Sandboxes of root, whose state is in no site.
    of_root: RefCell<Vec<String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.of_root.borrow().iter() {
                let removed = Command::new(program()).args(["rm", "-f", name]).output();
                eprintln!("{removed:?}");
            }
        }
        for keeper in [&mut self.host, &mut self.far] {
            keeper.kill().unwrap();
            keeper.wait().unwrap();
        }
    }
}

/// Where a peer is.
#[derive(Clone, Copy)]
enum From {
    Host,
    Far,
}

impl World {
    fn new() -> Self {
        let (host, far) = (keeper(), keeper());
        let pair = format!("link add near type veth peer name away netns {}", far.id());
        ip(&host, &pair);
        for arguments in [
            "link set lo up",
            "addr add 10.9.0.1/24 dev near",
            "addr add fd09::1/64 dev near nodad",
            "link set near up",
        ] {
            ip(&host, arguments);
        }
        for arguments in [
            "addr add 10.9.0.2/24 dev away",
            "addr add fd09::2/64 dev away nodad",
            "link set away up",
        ] {
            ip(&far, arguments);
        }
        let of_root = RefCell::default();
        Self { host, far, of_root }
    }

    /// Rules of the host, all of them.
    fn rules(&self, rules: &str) {
        let mut nft = Command::new("nsenter");
        nft.arg(format!("--net={}", namespace(&self.host)));
        let mut nft = nft
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("flush ruleset\n{rules}");
        let mut stdin = nft.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        assert!(nft.wait().unwrap().success(), "{rules}");
    }

    /// One rule about a port in the chain INPUT.
    fn input(&self, rule: &str) {
        self.rules(&format!(
            "table inet filter {{ chain input {{ type filter hook input priority 0; {rule}\n}}\n}}\n"
        ));
    }

    fn connect(&self, from: From, to: &str, patience: Duration) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let keeper = match from {
            From::Host => &self.host,
            From::Far => &self.far,
        };
        let stream = within(keeper, move || TcpStream::connect_timeout(&to, patience))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A connection that the job has greeted, and how.
    fn greeted(&self, from: From, to: &str) -> std::io::Result<(Peer, String)> {
        let mut peer = Peer::of(self.connect(from, to, PATIENCE)?);
        let said = peer.line()?;
        match said.strip_prefix("hello ") {
            Some(as_whom) => Ok((peer, as_whom.to_owned())),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// `cofferdam` on this host.
    fn cofferdam(&self, site: &Site, root: bool, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace(&self.host)));
        let (account, mut home) = (&site.account, "/root".to_owned());
        let mut places = Vec::new();
        if !root {
            let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
            command.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--init-groups"]);
            home = account.home.display().to_string();
            let base = site.base().display();
            places.push(format!("XDG_RUNTIME_DIR={base}/run"));
            places.push(format!("XDG_DATA_HOME={base}/data"));
        }
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.arg(format!("HOME={home}")).args(places);
        command.arg(program());
        output(command.args(arguments).current_dir("/"))
    }

    /// A job that listens at these addresses, once it does.
    fn publish(
        &self,
        site: &Site,
        root: bool,
        name: &str,
        options: &[&str],
        at: &[&str],
    ) -> Output {
        let listener = PathBuf::from(program()).with_file_name("listener");
        let mount = format!("{}=/listener", listener.display());
        let mut arguments = vec!["run", "-d", "--name", name, "--mount", &mount];
        arguments.extend(options);
        arguments.extend(["--", "/listener"]);
        arguments.extend(at);
        if root {
            self.of_root.borrow_mut().push(name.to_owned());
        }
        let started = self.cofferdam(site, root, &arguments);
        if started.status.success() {
            until("a job that listens", || {
                let said = stdout(&self.cofferdam(site, root, &["logs", name]));
                said.contains("listening").then_some(())
            });
        }
        started
    }

    /// Waits for an event, which comes after what it is about.
    fn told(&self, site: &Site, root: bool, name: &str, part: &str) {
        until(part, || {
            let events = stdout(&self.cofferdam(site, root, &["events", name]));
            events.contains(part).then_some(())
        });
    }

    fn remove(&self, site: &Site, root: bool, name: &str) {
        let removed = self.cofferdam(site, root, &["rm", "-f", name]);
        assert!(removed.status.success(), "{}", text(&removed));
    }

    /// Every TCP listener of the host, as the kernel lists them.
    fn listeners(&self) -> Vec<String> {
        within(&self.host, || {
            ["tcp", "tcp6"]
                .map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")))
                .into_iter()
                .flat_map(|table| listening(&table.unwrap()))
                .collect()
        })
    }
}

/// Local addresses in state LISTEN (0A) of a table of proc_net_tcp.
fn listening(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(3) == Some(&"0A"))
        .map(|fields| fields[1].to_owned())
        .collect()
}

struct Peer(BufReader<TcpStream>);

impl Peer {
    fn of(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn end(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    fn address(&self) -> SocketAddr {
        self.0.get_ref().local_addr().unwrap()
    }
}

/// What `listener` makes of these bytes.
fn sum(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte) + 1)
    });
    format!("counted {} {sum:x}", bytes.len())
}

/// As the account and as root, each in a world of its own.
fn each(name: &str, test: impl Fn(&Site, &World, bool)) {
    if !rustix::process::getuid().is_root() {
        skip("a world of namespaces", "the tester is not root");
        return;
    }
    for root in [false, true] {
        let site = Site::alone(&format!("publish-{name}-{root}"));
        // Its sockets are this process's: nobody may be counting them now.
        let world = World::new();
        test(&site, &world, root);
    }
}

#[test]
fn a_port_is_where_it_was_asked_for_and_shows_the_job_its_peer() {
    each("where", |site, world, root| {
        let name = format!("publish-where-{root}");
        let options = [
            "--publish",
            "8080:80",
            "--publish",
            "10.9.0.1:8081:80",
            "--publish",
            "[fd09::1]:8082:80",
            "--publish",
            "8083:81",
        ];
        let started = world.publish(site, root, &name, &options, &["0.0.0.0:80"]);
        assert_eq!(stdout(&started), name);
        let mut listeners = world.listeners();
        listeners.sort();
        assert_eq!(
            listeners,
            [
                "0100007F:1F90",
                "0100007F:1F93",
                "0100090A:1F91",
                "000009FD000000000000000001000000:1F92",
            ]
            .map(str::to_owned)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
        );
        let seen = |from, to: &str| {
            let (peer, as_whom) = world.greeted(from, to).unwrap();
            (as_whom, peer.address())
        };
        let (as_whom, own) = seen(From::Host, "127.0.0.1:8080");
        assert_eq!(as_whom, format!("169.254.7.1:{}", own.port()));
        let (as_whom, own) = seen(From::Host, "10.9.0.1:8081");
        assert_eq!(as_whom, own.to_string());
        let (as_whom, own) = seen(From::Far, "10.9.0.1:8081");
        assert_eq!(
            (as_whom, own.ip().to_string()),
            (own.to_string(), "10.9.0.2".into())
        );
        let (as_whom, own) = seen(From::Far, "[fd09::1]:8082");
        assert_eq!(as_whom, format!("169.254.7.1:{}", own.port()));
        // Neither on another address nor on another port.
        for to in [
            "10.9.0.1:8080",
            "10.9.0.1:8082",
            "10.9.0.1:80",
            "[fd09::1]:8080",
        ] {
            let refused = world.connect(From::Far, to, PATIENCE).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        // The job does not listen on port 81.
        let refused = world.greeted(From::Host, "127.0.0.1:8083").err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
        for part in [
            "from 10.9.0.2:",
            "by [fd09::1]:8082 to port 80",
            "by 127.0.0.1:8083 to port 81: the job does not listen there",
        ] {
            world.told(site, root, &name, part);
        }
        world.remove(site, root, &name);
        assert_eq!(world.listeners(), Vec::<String>::new());
    });
}

/// Where the job listens by IPv6 it sees its IPv6 peers, but those that are not its own
/// to see; where it listens by IPv4 alone it sees the gateway, as above.
#[test]
fn a_job_that_listens_by_ipv6_sees_ipv6_peers() {
    each("six", |site, world, root| {
        let name = format!("publish-six-{root}");
        let options = [
            "--publish",
            "[fd09::1]:8082:80",
            "--publish",
            "10.9.0.1:8081:80",
            "--publish",
            "[::1]:8083:80",
        ];
        let started = world.publish(site, root, &name, &options, &["[::]:80"]);
        assert_eq!(stdout(&started), name);
        let seen = |from, to: &str| {
            let (peer, as_whom) = world.greeted(from, to).unwrap();
            (as_whom, peer.address())
        };
        for from in [From::Far, From::Host] {
            let (as_whom, own) = seen(from, "[fd09::1]:8082");
            assert_eq!(as_whom, own.to_string());
        }
        let (as_whom, own) = seen(From::Host, "[::1]:8083");
        assert_eq!(as_whom, format!("[fdc0:ffda:7::1]:{}", own.port()));
        let (as_whom, own) = seen(From::Far, "10.9.0.1:8081");
        assert_eq!(as_whom, format!("[::ffff:10.9.0.2]:{}", own.port()));
        world.told(site, root, &name, "from [fd09::2]:");
        world.remove(site, root, &name);
    });
}

#[test]
fn bytes_ends_and_resets_pass_both_ways() {
    each("flow", |site, world, root| {
        let name = format!("publish-flow-{root}");
        let options = ["--publish", "10.9.0.1:8080:80"];
        let started = world.publish(site, root, &name, &options, &["0.0.0.0:80"]);
        assert!(started.status.success(), "{}", text(&started));
        let greeted = || world.greeted(From::Far, "10.9.0.1:8080").unwrap().0;
        let block: Vec<u8> = (0..1usize << 16).map(|at| (at % 251) as u8).collect();
        let many = block.repeat(512);
        // Towards the job, whose answer comes after the peer's end.
        let mut peer = greeted();
        peer.say(b"count\n");
        peer.say(&many);
        peer.end();
        assert_eq!(peer.line().unwrap(), sum(&many));
        assert_eq!(peer.line().unwrap(), "");
        // From the job, while the peer reads nothing for a while: nothing is lost.
        let mut peer = greeted();
        peer.say(format!("send {}\n", many.len()).as_bytes());
        let held = until("a job that has to wait", || {
            let stream = peer.0.get_ref();
            let held = rustix::io::ioctl_fionread(stream).unwrap();
            (held > 1 << 16).then_some(held)
        });
        assert!(held < many.len() as u64);
        let mut all = Vec::new();
        peer.0.read_to_end(&mut all).unwrap();
        assert_eq!(sum(&all), sum(&many));
        // The job's end comes first, and the peer goes on.
        let mut peer = greeted();
        peer.say(b"end\n");
        let mut said = String::new();
        peer.0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "the end\n");
        peer.say(b"after the end");
        peer.end();
        let counted = sum(b"after the end");
        until("what came after the end", || {
            let said = stdout(&world.cofferdam(site, root, &["logs", &name]));
            said.contains(&counted).then_some(())
        });
        // A reset of the job reaches the peer.
        let mut peer = greeted();
        peer.say(b"reset\n");
        let broken = peer.line().unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
        let bytes = format!("{} received", many.len() + "count\n".len());
        world.told(site, root, &name, &bytes);
        world.remove(site, root, &name);
    });
}

#[test]
fn the_hosts_own_rules_decide() {
    each("rules", |site, world, root| {
        let name = format!("publish-rules-{root}");
        let options = [
            "--publish",
            "0.0.0.0:8080:80",
            "--publish",
            "[::]:8080:80",
            "--network",
            "none",
        ];
        let started = world.publish(site, root, &name, &options, &["0.0.0.0:80"]);
        assert!(started.status.success(), "{}", text(&started));
        let (four, six) = ("10.9.0.1:8080", "[fd09::1]:8080");
        let reached = |to| world.greeted(From::Far, to).is_ok();
        let failed = |to| world.connect(From::Far, to, DROPPED).unwrap_err().kind();
        assert!(reached(four) && reached(six));
        world.input("policy accept; meta nfproto ipv4 tcp dport 8080 drop");
        assert_eq!(failed(four), ErrorKind::TimedOut);
        assert!(reached(six));
        world.input("policy accept; meta nfproto ipv6 tcp dport 8080 drop");
        assert_eq!(failed(six), ErrorKind::TimedOut);
        assert!(reached(four));
        world.input("policy accept; tcp dport 8080 reject with tcp reset");
        assert_eq!(failed(four), ErrorKind::ConnectionRefused);
        assert_eq!(failed(six), ErrorKind::ConnectionRefused);
        world.input("policy drop; meta l4proto ipv6-icmp accept; tcp dport 8080 accept");
        assert!(reached(four) && reached(six));
        // A flow that lives obeys rules that come later.
        let (mut peer, _) = world.greeted(From::Far, four).unwrap();
        peer.say(b"count\n");
        world.input("policy drop;");
        peer.say(b"unheard");
        peer.end();
        peer.0.get_ref().set_read_timeout(Some(DROPPED)).unwrap();
        assert_eq!(peer.line().unwrap_err().kind(), ErrorKind::WouldBlock);
        world.rules("");
        peer.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(peer.line().unwrap(), sum(b"unheard"));
        world.remove(site, root, &name);
    });
}

#[test]
fn a_port_that_cannot_be_had_is_an_error_before_anything_starts() {
    each("refused", |site, world, root| {
        let name = format!("publish-refused-{root}");
        let run = |name: &str, ports: &[&str]| {
            let mut arguments = vec!["run", "--name", name];
            for port in ports {
                arguments.extend(["--publish", port]);
            }
            arguments.extend(["--", "true"]);
            world.cofferdam(site, root, &arguments)
        };
        let taken = within(&world.host, || TcpListener::bind("127.0.0.1:8080").unwrap());
        let privileged = match root {
            true => "",
            false => "is privileged on this host, as all below 1024 are",
        };
        let attempts = [
            (&["8080:80"][..], "127.0.0.1:8080 is in use on this host"),
            (&["0.0.0.0:8080:80"], "0.0.0.0:8080 is in use on this host"),
            (&["8081:80", "8080:80"], "127.0.0.1:8080 is in use"),
            (&["10.9.0.9:8080:80"], "this host has no address 10.9.0.9"),
            (&["8081:80", "8081:81"], "wants the same port of the host"),
            (&["8081:80", "0.0.0.0:8081:80"], "wants the same port"),
            (&["80:80"], privileged),
            (&["8081:80/udp"], "only TCP can be published"),
            (&["localhost:8081:80"], "names are not looked up"),
            (&["8081"], "write [ADDRESS:]HOSTPORT:PORT"),
            (&["8081:0"], "the job's port is a number from 1 to 65535"),
        ];
        for (index, (ports, said)) in attempts.into_iter().enumerate() {
            let name = format!("{name}-{index}");
            let output = run(&name, ports);
            let ran = said.is_empty();
            assert_eq!(output.status.success(), ran, "{ports:?}: {}", text(&output));
            assert!(
                stderr(&output).contains(said),
                "{ports:?}: {}",
                text(&output)
            );
            let made = world.cofferdam(site, root, &["inspect", &name]);
            assert_eq!(made.status.success(), ran, "{ports:?}: {}", text(&made));
        }
        drop(taken);
        // Of two sandboxes the second is told; a free port is told, too.
        let first = world.publish(
            site,
            root,
            &name,
            &["--publish", "8080:80"],
            &["0.0.0.0:80"],
        );
        assert!(first.status.success(), "{}", text(&first));
        let second = format!("{name}-second");
        let options = ["--publish", "8080:80"];
        let output = world.publish(site, root, &second, &options, &["0.0.0.0:80"]);
        assert!(
            stderr(&output).contains("is in use on this host"),
            "{}",
            text(&output)
        );
        let options = ["--publish", "0:80"];
        let output = world.publish(site, root, &second, &options, &["0.0.0.0:80"]);
        assert_eq!(stdout(&output), second);
        let said = stderr(&output);
        let chosen = said.lines().find_map(|line| {
            let line = line.strip_prefix("cofferdam: ")?;
            line.strip_suffix(" leads to port 80")
        });
        let chosen = chosen.expect(&said).to_owned();
        assert!(world.greeted(From::Host, &chosen).is_ok());
        let listed = stdout(&world.cofferdam(site, root, &["ps"]));
        assert!(listed.contains(&format!("{chosen}->80")), "{listed}");
        let inspected = stdout(&world.cofferdam(site, root, &["inspect", &second]));
        assert!(inspected.contains(&format!("{chosen}:80")), "{inspected}");
        for name in [&name, &second] {
            world.remove(site, root, name);
        }
    });
}

#[test]
fn a_job_that_only_answers_reaches_nothing_by_itself() {
    each("inward", |site, world, root| {
        let served = within(&world.far, || TcpListener::bind("10.9.0.2:9000").unwrap());
        let script = "{ exec 3<>/dev/tcp/10.9.0.2/9000 && cat <&3; } 2>&1; \
                      { exec 3<>/dev/tcp/169.254.7.1/8080 && cat <&3; } 2>&1";
        let arguments = ["run", "--publish", "0:80", "--", "bash", "-c", script];
        let output = world.cofferdam(site, root, &arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            said.matches("reset by peer").count() + said.matches("refused").count(),
            2,
            "{}",
            text(&output)
        );
        served.set_nonblocking(true).unwrap();
        assert_eq!(served.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn whatever_is_killed_takes_the_port_with_it() {
    each("killed", |site, world, root| {
        let name = format!("publish-killed-{root}");
        for victim in ["supervisor", "gateway", "init", "edge"] {
            let options = ["--publish", "0.0.0.0:8080:80"];
            let started = world.publish(site, root, &name, &options, &["0.0.0.0:80"]);
            assert!(started.status.success(), "{victim}: {}", text(&started));
            let (mut peer, _) = world.greeted(From::Far, "10.9.0.1:8080").unwrap();
            let inspected = stdout(&world.cofferdam(site, root, &["inspect", &name]));
            let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
            let pid = match victim {
                "edge" => edge(
                    inspected["processes"]["supervisor"]["pid"]
                        .as_i64()
                        .unwrap(),
                ),
                _ => inspected["processes"][victim]["pid"].as_i64().unwrap(),
            };
            crate::site::signal(pid.try_into().unwrap(), rustix::process::Signal::KILL);
            until("no listener", || world.listeners().is_empty().then_some(()));
            assert!(
                !matches!(peer.line(), Ok(line) if !line.is_empty()),
                "{victim}"
            );
            let refused = world
                .connect(From::Far, "10.9.0.1:8080", PATIENCE)
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{victim}");
            let removed = world.cofferdam(site, root, &["rm", "-f", &name]);
            // A supervisor that was killed is cleaned up after, by this very command.
            let gone = stderr(&removed).contains("no sandbox");
            assert!(
                removed.status.success() || gone,
                "{victim}: {}",
                text(&removed)
            );
        }
    });
}

/// The edge among the children of a supervisor.
fn edge(supervisor: i64) -> i64 {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).unwrap();
    let mut pids = children.split_whitespace();
    let named = |pid: &&str| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("cofferdam-edge"))
    };
    pids.find(named).unwrap().parse().unwrap()
}
