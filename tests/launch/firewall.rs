//! The host's own firewall: what a job reaches is what its caller would, and never the host.
//!
//! Scenarios by the numbers that tests/vm/README.md lists. Wherever something is
//! refused, a control of the same rules and another caller shows that it is there.

use crate::site::{Site, output, signal, stdout, until};
use crate::support::skip;
use crate::world::{RESOLVER, SERVER, World, end, ip, keeper, serve, within};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// Says `served`, `refused`, or `hung` where nothing answers.
const FETCH: &str = r#"
fetch() {
    said=$(timeout ${3-10} bash -c "exec 3<>/dev/tcp/$1/$2 && echo hello >&3 && head -n 1 <&3" 2>/dev/null)
    case $? in 124) echo hung;; *) echo ${said:-refused};; esac
}
"#;

/// What is on the host, on its LAN and in the world, all on one port.
const SERVED: u16 = 9000;
/// On the LAN; answers as often as it is spoken to.
const PATIENT: u16 = 7001;
/// Where a host has its own, and what nobody reaches by a name.
const SPECIAL: [&str; 10] = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "10.1.2.3",
    "172.16.0.9",
    "192.168.0.9",
    "100.64.0.9",
    "198.51.100.9",
    "240.0.0.9",
];

/// Says to whoever says a line from where that came.
const ANSWERING: &str = r#"
use Socket;
$SIG{CHLD} = "IGNORE";
socket($s, AF_INET, SOCK_STREAM, 0);
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
bind($s, sockaddr_in(9000, INADDR_ANY)) or die;
listen($s, 99);
while ($who = accept($c, $s)) {
    next if fork;
    while (sysread $c, $_, 6) { syswrite $c, inet_ntoa((sockaddr_in $who)[1]) . "\n" }
    exit;
}
"#;

/// Somebody on a host with a firewall.
struct Caller {
    world: World,
    root: bool,
    name: String,
    site: Site,
}

impl Caller {
    /// The account, and root.
    fn each(test: &str, work: impl Fn(&Self)) {
        if !rustix::process::getuid().is_root() {
            skip("a host with a firewall", "the tester is not root");
            return;
        }
        for root in [false, true] {
            let name = format!("firewall-{test}-{root}");
            let site = Site::alone(&name);
            let world = World::new();
            work(&Self {
                world,
                root,
                name,
                site,
            });
        }
    }

    /// Servers on every address of the host and of the world.
    fn serve_everywhere(&self) {
        for address in SPECIAL {
            ip(&self.world.far, &format!("addr add {address}/32 dev away"));
        }
        for place in [&self.world.host, &self.world.far] {
            let any = (Ipv4Addr::UNSPECIFIED, SERVED);
            let listener = within(place, move || TcpListener::bind(any).unwrap());
            std::thread::spawn(move || serve(&listener));
        }
    }

    /// A script of root on the host; what it prints.
    fn host(&self, script: &str) -> String {
        stdout(&output(
            self.world
                .command(&self.site, true, "bash")
                .args(["-c", &format!("{FETCH}{script}")]),
        ))
    }

    /// What the caller itself gets, outside of any sandbox.
    fn control(&self, root: bool, script: &str) -> String {
        let mut command = self.world.command(&self.site, root, "bash");
        stdout(&output(command.args(["-c", &format!("{FETCH}{script}")])))
    }

    /// The host's firewall is these rules of one hook and nothing else.
    fn rules(&self, hook: &str, rules: &str) {
        let rules = format!(
            "flush ruleset\ntable inet firewall {{\nchain filter {{\n\
             type filter hook {hook} priority filter; policy accept;\n{rules}\n}}\n}}\n"
        );
        let path = self.site.base().join("rules.nft");
        self.site.write(&path, &rules);
        self.host(&format!("nft -f {}", path.display()));
    }

    fn arguments<'a>(&'a self, grants: &[&'a str], script: &'a str) -> Vec<&'a str> {
        let mut arguments = vec!["run", "--name", &self.name];
        for grant in grants {
            arguments.extend(["--allow", grant]);
        }
        arguments.extend(["--", "bash", "-c", script]);
        arguments
    }

    /// What a job with these grants prints.
    fn job(&self, grants: &[&str], script: &str) -> String {
        let script = format!("{FETCH}{script}");
        stdout(&self.cofferdam(&self.arguments(grants, &script)))
    }

    /// A detached job that answers each line on port 9000 with its peer's address.
    fn publish(&self, published: &[&str]) {
        let mut arguments = vec!["run", "-d", "--name", &self.name];
        for each in published {
            arguments.extend(["--publish", each]);
        }
        arguments.extend(["--", "perl", "-e", ANSWERING]);
        stdout(&self.cofferdam(&arguments));
        let exec = [
            "exec",
            &self.name,
            "--",
            "bash",
            "-c",
            "cat </dev/null >/dev/tcp/127.0.0.1/9000",
        ];
        until("a server in the sandbox", || {
            self.cofferdam(&exec).status.success().then_some(())
        });
    }

    /// A script in the world.
    fn far(&self, script: &str) -> String {
        let namespace = format!("--net=/proc/{}/ns/net", self.world.far.id());
        let script = format!("{FETCH}{script}");
        stdout(&output(
            Command::new("nsenter").args([&namespace, "bash", "-c", &script]),
        ))
    }

    fn cofferdam(&self, arguments: &[&str]) -> Output {
        self.world.cofferdam(&self.site, self.root, arguments)
    }

    fn events(&self) -> String {
        stdout(&self.cofferdam(&["events", &self.name]))
    }

    /// A job that answers to each line with what one call of `step` prints.
    fn dialogue(&self, grants: &[&str], step: &str) -> Dialogue {
        let script = format!("{FETCH}{step}\nwhile read -r word; do step $word; done");
        let mut command = self
            .world
            .command(&self.site, self.root, &crate::site::program());
        command.args(self.arguments(grants, &script));
        Dialogue::with(&mut command)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A detached job must not outlive the test that failed.
            for name in [&self.name, &format!("{}-other", self.name)] {
                self.cofferdam(&["rm", "-f", name]);
            }
        }
    }
}

/// A program that answers each line with a line.
struct Dialogue {
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Dialogue {
    fn with(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            answers,
        }
    }

    fn ask(&mut self, word: &str) -> String {
        writeln!(self.input, "{word}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(self) {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

/// T09, T10, T16 with a grant, T21.
#[test]
fn output_rules_decide_as_for_any_program_of_the_caller() {
    Caller::each("output", |caller| {
        caller.serve_everywhere();
        let grants = ["10.9.0.2/32:9000", "www.example.org:8080"];
        // The neighbour, then the world.
        let script = "fetch 10.9.0.2 9000 ${limit-10}; fetch www.example.org 8080";
        for (rules, neighbour, world) in [
            ("", "served", "served"),
            (
                "ip daddr 10.9.0.2 tcp dport 9000 reject with tcp reset",
                "refused",
                "served",
            ),
            (
                "ip daddr 10.9.0.2 tcp dport 9000 reject",
                "refused",
                "served",
            ),
            (
                "ip daddr 10.9.0.2 tcp dport 9000 reject with icmpx admin-prohibited",
                "refused",
                "served",
            ),
            (
                "oifname != lo meta l4proto tcp meta skuid != 0 reject with tcp reset",
                "refused",
                "refused",
            ),
            (
                "oifname != lo meta l4proto tcp meta skuid 0 reject with tcp reset",
                "served",
                "served",
            ),
            ("", "served", "served"),
        ] {
            caller.rules("output", rules);
            let control = script.replace("www.example.org", &SERVER.to_string());
            let expected = format!("{neighbour}\n{world}");
            assert_eq!(
                caller.control(false, &control),
                expected,
                "control: {rules}"
            );
            assert_eq!(caller.job(&grants, script), expected, "{rules}");
        }
        caller.rules("output", "ip daddr 10.9.0.2 tcp dport 9000 drop");
        assert_eq!(caller.control(false, "fetch 10.9.0.2 9000 1"), "hung");
        assert_eq!(caller.job(&grants, "fetch 10.9.0.2 9000 1"), "hung");
        // Whoever starts it, it is never root that dials.
        caller.rules(
            "output",
            "oifname != lo meta skuid 0 meta l4proto { tcp, udp } counter",
        );
        assert_eq!(caller.job(&grants, script), "served\nserved");
        let listed = caller.host("nft list ruleset");
        assert!(listed.contains("counter packets 0 bytes 0"), "{listed}");
    });
}

/// T19 and T21 outwards: what is open is cut when, and only when, a control is.
#[test]
fn an_open_connection_follows_the_rules_as_they_change() {
    Caller::each("open", |caller| {
        let listener = within(&caller.world.far, || {
            TcpListener::bind((RESOLVER, PATIENT)).unwrap()
        });
        std::thread::spawn(move || patient(&listener));
        // From before the first packet on: the kernel tracks no connection that no rule asks about.
        let established = "ct state established accept";
        caller.rules("output", established);
        let step = "step() { said=; echo hello 2>/dev/null >&3 && read -r -t 10 said <&3; \
                    echo ${said:-lost}; }; exec 3<>/dev/tcp/10.9.0.2/7001";
        let mut job = caller.dialogue(&["10.9.0.2/32:7001"], step);
        let mut control = within(&caller.world.host, || {
            let stream = TcpStream::connect((RESOLVER, PATIENT)).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream
        });
        let mut both = |rules: &str, expected: &str| {
            caller.rules("output", rules);
            let mut said = [0; 7];
            let heard = control
                .write_all(b"hello\n")
                .and_then(|()| control.read_exact(&mut said));
            let heard = heard.map_or("lost", |()| "served");
            assert_eq!(heard, expected, "control: {rules}");
            assert_eq!(job.ask("x"), expected, "{rules}");
        };
        let reject = "tcp dport 7001 reject with tcp reset";
        both(established, "served");
        both(&format!("{established}\n{reject}"), "served");
        // A new one is refused while the open one goes on.
        assert_eq!(caller.control(true, "fetch 10.9.0.2 7001"), "refused");
        both(established, "served");
        both(&format!("{reject}\n{established}"), "lost");
        job.end();
    });
}

/// T12, T13, T15 and T16: by no name that resolves to it, and by no notation.
#[test]
fn no_name_leads_to_the_host_its_networks_or_its_metadata() {
    Caller::each("names", |caller| {
        caller.serve_everywhere();
        let own = ["10.9.0.1", "127.0.0.1", "127.8.8.8", "0.0.0.0"];
        let all: Vec<&str> = own.into_iter().chain(["10.9.0.2"]).chain(SPECIAL).collect();
        // 240.0.0.0/4 is nobody's, and nothing dials it.
        let there: Vec<&&str> = all.iter().filter(|at| !at.starts_with("240")).collect();
        let fetch = |of: String| format!("for to in {of}; do fetch $to {SERVED}; done | uniq");
        let plain = |list: &[&str]| list.join(" ");
        let list: Vec<&str> = there.iter().map(|at| **at).collect();
        assert_eq!(caller.control(false, &fetch(plain(&list))), "served");
        let names: Vec<String> = all
            .iter()
            .chain(&["224.0.0.1", "255.255.255.255", "169.254.7.1", "169.254.7.2"])
            .map(|at| format!("at-{}.example.org", at.replace('.', "-")))
            .collect();
        let grants = ["*.example.org:9000"];
        let said = caller.job(&grants, &fetch(names.join(" ")));
        assert_eq!(said, "refused", "{}", caller.events());
        let events = caller.events();
        for name in &names {
            let line = events.lines().find(|line| line.contains(name.as_str()));
            let refused = line.is_some_and(|line| line.contains("refused"));
            assert!(refused, "{name}: {events}");
        }
        // The name's own addresses are the only way; a plain one is nobody's.
        let notations = "127.1 0177.0.0.1 0x7f.1 2130706433 ::1 ::ffff:127.0.0.1 ::ffff:10.9.0.1 \
                         167837697 ::ffff:169.254.169.254 2852039166 0xa9fea9fe fd00:ec2::254 \
                         10.0.2.2 169.254.7.1 host.docker.internal";
        let script = fetch(format!("{} {notations}", plain(&all)));
        assert_eq!(caller.job(&grants, &script), "refused");
        assert_eq!(
            caller.job(
                &grants,
                &format!("fetch at-93-184-216-34.example.org {SERVED}")
            ),
            "served"
        );
    });
}

/// T12 and T14 with a grant for the network, and an address that comes later.
#[test]
fn no_network_grant_leads_to_the_host_itself() {
    Caller::each("networks", |caller| {
        caller.serve_everywhere();
        let step = "step() { fetch $1 9000; }";
        let grants = [
            "10.0.0.0/8:9000",
            "www.example.org:9000",
            "www.example.org:8080",
        ];
        let mut job = caller.dialogue(&grants, step);
        assert_eq!(job.ask("10.9.0.2"), "served");
        assert_eq!(job.ask("10.9.0.1"), "refused");
        assert_eq!(job.ask("192.168.0.9"), "refused");
        assert_eq!(job.ask("10.1.2.3"), "served");
        ip(&caller.world.host, "addr add 10.1.2.3/32 dev near");
        assert_eq!(caller.control(false, "fetch 10.1.2.3 9000"), "served");
        assert_eq!(job.ask("10.1.2.3"), "refused");
        let events = caller.events();
        let last = events
            .lines()
            .rfind(|line| line.contains("10.1.2.3"))
            .unwrap();
        assert!(last.contains("this host"), "{events}");
        // A public address may be a neighbour's: without a gateway it is on the LAN.
        assert_eq!(job.ask("www.example.org"), "served");
        ip(&caller.world.host, "route add 93.184.216.34/32 dev near");
        assert_eq!(
            caller.control(false, &format!("fetch {SERVER} 9000")),
            "served"
        );
        assert_eq!(job.ask("www.example.org"), "refused");
        ip(
            &caller.world.host,
            "route replace blackhole 93.184.216.34/32",
        );
        assert_eq!(job.ask("www.example.org"), "refused");
        job.end();
    });
}

/// T23 and T24: whoever is asked, it is our answer, and nothing else leaves.
#[test]
fn no_query_and_nothing_else_leaves_for_another_server() {
    Caller::each("dns", |caller| {
        let strangers = "ip daddr { 8.8.8.8, 1.1.1.1 } counter\n\
                         udp dport 53 ip daddr != 10.9.0.2 counter";
        caller.rules("output", strangers);
        // An A query for www.example.org; the third byte of the answer says so.
        let query = r"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01";
        let script = format!(
            "exec 4<>/dev/udp/8.8.8.8/53; printf '{query}' >&4; \
             timeout 10 head -c 8 <&4 | od -An -tx1 -v; \
             exec 5<>/dev/tcp/1.1.1.1/53; printf '\\x00\\x21{query}' >&5; \
             timeout 10 head -c 10 <&5 | od -An -tx1 -v; \
             fetch 1.1.1.1 853; fetch 1.1.1.1 443; fetch 1.1.1.1 8080"
        );
        let said = caller.job(&["www.example.org:8080"], &script);
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(
            (&lines[0][..5], &lines[0][18..]),
            ("00 07", "00 01"),
            "one question, one answer: {said}"
        );
        assert!(lines[1].ends_with("00 01 00 01"), "{said}");
        assert_eq!(lines[2..], ["refused"; 3], "{said}");
        let listed = caller.host("nft list ruleset");
        assert_eq!(
            listed.matches("counter packets 0 bytes 0").count(),
            2,
            "{listed}"
        );
    });
}

/// Each has a network of its own and no way to the other.
#[test]
fn two_sandboxes_do_not_reach_each_other() {
    Caller::each("two", |caller| {
        let other = format!("{}-other", caller.name);
        let listen = "use Socket; socket($s, AF_INET, SOCK_STREAM, 0); \
                      bind($s, sockaddr_in(9000, INADDR_ANY)) or die; listen($s, 9); \
                      while (accept($c, $s)) { sysread $c, $_, 6; syswrite $c, \"served\\n\"; close $c }";
        let grants = [
            "--allow",
            "10.0.0.0/8:9000",
            "--allow",
            "*.example.org:9000",
        ];
        let mut arguments = vec!["run", "-d", "--name", &other];
        arguments.extend(grants);
        arguments.extend(["--", "perl", "-e", listen]);
        stdout(&caller.cofferdam(&arguments));
        let fetch = format!("{FETCH}fetch 169.254.7.2 9000");
        until("the other sandbox's server", || {
            let said = caller.cofferdam(&["exec", &other, "--", "bash", "-c", &fetch]);
            (stdout(&said) == "served").then_some(())
        });
        let all = "127.0.0.1 169.254.7.1 169.254.7.2 10.9.0.1 at-169-254-7-2.example.org \
                   at-127-0-0-1.example.org at-10-9-0-1.example.org";
        let script = format!("for to in {all}; do fetch $to 9000; done | uniq");
        let said = caller.job(&["10.0.0.0/8:9000", "*.example.org:9000"], &script);
        assert_eq!(said, "refused");
        stdout(&caller.cofferdam(&["rm", "-f", &other]));
    });
}

/// T22 and T29: the host is the same before, during, after, and after kill -9.
#[test]
fn nothing_of_the_host_changes_and_nothing_is_left() {
    Caller::each("same", |caller| {
        caller.serve_everywhere();
        let state = || {
            caller.host(
                "nft list ruleset; ip rule; ip -o link; ip -o addr; ip route show table all; \
                 ip -6 route show table all; ss -Hltnu; \
                 grep -r . /proc/sys/net 2>/dev/null | grep -v -e random -e secret -e _seq -e count",
            )
        };
        caller.host(
            "sysctl -q net.ipv4.ip_forward=0; nft add table ip filter; \
             nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
        );
        until("addresses that are nobody else's", || {
            (!caller.host("ip -o addr").contains("tentative")).then_some(())
        });
        let before = state();
        let same = |when: &str| {
            let now = state();
            let changes: Vec<&str> = (now.lines().filter(|line| !before.contains(line)))
                .chain(before.lines().filter(|line| !now.contains(line)))
                .collect();
            assert_eq!(changes, Vec::<&str>::new(), "{when}");
        };
        let grants = ["--allow", "www.example.org:8080"];
        let fetch = format!("{FETCH}fetch www.example.org 8080");
        for victim in [None, Some("supervisor"), Some("edge")] {
            let mut arguments = vec!["run", "-d", "--name", &caller.name];
            arguments.extend(grants);
            arguments.extend(["--", "sleep", "1000"]);
            stdout(&caller.cofferdam(&arguments));
            let exec = ["exec", &caller.name, "--", "bash", "-c", &fetch];
            assert_eq!(stdout(&caller.cofferdam(&exec)), "served");
            same("during");
            let inspected = stdout(&caller.cofferdam(&["inspect", &caller.name]));
            let supervisor = supervisor(&inspected);
            match victim {
                None => {}
                Some("supervisor") => signal(supervisor, Signal::KILL),
                Some(_) => signal(edge_of(supervisor), Signal::KILL),
            }
            if let Some(victim) = victim {
                until("the end of the sandbox", || {
                    let said = caller.cofferdam(&exec);
                    (!said.status.success()).then_some(())
                });
                same(&format!("after kill -9 of the {victim}"));
            }
            if victim == Some("supervisor") {
                // Any command cleans up after it.
                let listed = stdout(&caller.cofferdam(&["ps"]));
                assert!(!listed.contains(&caller.name), "{listed}");
            } else {
                stdout(&caller.cofferdam(&["rm", "-f", &caller.name]));
            }
            same("after");
        }
    });
}

/// T01, T02, T03, T05, T07, T08 and T21: open when, and only when, a server of the host is.
#[test]
fn a_published_port_is_as_open_as_a_server_of_the_host() {
    Caller::each("publish", |caller| {
        let any = (Ipv4Addr::UNSPECIFIED, 8081);
        let listener = within(&caller.world.host, move || TcpListener::bind(any).unwrap());
        std::thread::spawn(move || serve(&listener));
        ip(&caller.world.far, "addr add 10.9.0.3/24 dev away");
        caller.publish(&["0.0.0.0:8080:9000"]);
        let own = "iifname lo accept; ct state established,related accept; ";
        let one = "ip saddr 10.9.0.2 tcp dport { 8080, 8081 } accept; ";
        for (rules, first, second) in [
            (String::new(), "served", "served"),
            (format!("{own} drop"), "hung", "hung"),
            (format!("{own} {one} drop"), "served", "hung"),
            (
                format!("{own} {one} reject with tcp reset"),
                "served",
                "refused",
            ),
            (format!("{own} reject"), "refused", "refused"),
            (String::new(), "served", "served"),
        ] {
            caller.rules("input", &rules);
            for (client, expected) in [("10.9.0.2", first), ("10.9.0.3", second)] {
                let by = format!("route replace 10.9.0.1/32 dev away src {client}");
                ip(&caller.world.far, &by);
                let limit = if expected == "hung" { "1" } else { "10" };
                let fetch = |port| caller.far(&format!("fetch 10.9.0.1 {port} {limit}"));
                assert_eq!(fetch(8081), expected, "control, {client}: {rules}");
                // The job sees its peer as a server of the host does.
                let expected = expected.replace("served", client);
                assert_eq!(fetch(8080), expected, "{client}: {rules}");
            }
            // T07: `lo` is open; an address that is the job's own inside is shown as the gateway's.
            assert_eq!(
                caller.host("fetch 127.0.0.1 8080"),
                "169.254.7.1",
                "{rules}"
            );
        }
        // T08: a neighbour that routes 127.0.0.1 here is a martian, whoever listens.
        ip(&caller.world.far, "route add 127.0.0.1/32 via 10.9.0.1");
        assert_eq!(caller.far("fetch 127.0.0.1 8080 1"), "hung");
        stdout(&caller.cofferdam(&["rm", "-f", &caller.name]));
        assert_eq!(caller.far("fetch 10.9.0.1 8080"), "refused");
    });
}

/// T19: what is open goes on or ends as a connection to a server of the host does.
#[test]
fn an_accepted_connection_follows_the_rules_as_they_change() {
    Caller::each("accepted", |caller| {
        let any = (Ipv4Addr::UNSPECIFIED, 8081);
        let listener = within(&caller.world.host, move || TcpListener::bind(any).unwrap());
        std::thread::spawn(move || patient(&listener));
        caller.publish(&["0.0.0.0:8080:9000"]);
        let established = "ct state established accept";
        caller.rules("input", established);
        let open = |port: u16| {
            within(&caller.world.far, move || {
                let stream = TcpStream::connect(("10.9.0.1", port)).unwrap();
                let limit = Some(Duration::from_secs(10));
                stream.set_read_timeout(limit).unwrap();
                stream
            })
        };
        let (mut control, mut published) = (open(8081), open(8080));
        let reject = "tcp dport { 8080, 8081 } reject with tcp reset";
        for (rules, lives) in [
            (established.to_owned(), true),
            (format!("{established}\n{reject}"), true),
            (format!("{reject}\n{established}"), false),
        ] {
            caller.rules("input", &rules);
            assert_eq!(answers(&mut control), lives, "control: {rules}");
            assert_eq!(answers(&mut published), lives, "{rules}");
            let new = if rules.contains("reject") {
                "refused"
            } else {
                "10.9.0.2"
            };
            assert_eq!(caller.far("fetch 10.9.0.1 8080"), new, "{rules}");
        }
        stdout(&caller.cofferdam(&["rm", "-f", &caller.name]));
    });
}

/// T06: rules as Docker's lead a packet around INPUT, and these tests see it.
#[test]
fn a_port_that_goes_around_the_firewall_is_seen() {
    Caller::each("around", |caller| {
        caller.serve_everywhere();
        let mut inner = keeper();
        let pair = format!(
            "link add bridge type veth peer name eth0 netns {}",
            inner.id()
        );
        let host = &caller.world.host;
        for arguments in [
            &pair,
            "addr add 10.8.0.1/24 dev bridge",
            "link set bridge up",
        ] {
            ip(host, arguments);
        }
        for arguments in [
            "addr add 10.8.0.2/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.8.0.1",
        ] {
            ip(&inner, arguments);
        }
        let listener = within(&inner, || TcpListener::bind(("10.8.0.2", 9000)).unwrap());
        std::thread::spawn(move || serve(&listener));
        let all = "iifname lo accept; ct state established accept; drop";
        caller.rules("input", all);
        assert_eq!(
            caller.far("fetch 10.9.0.1 9000 1; fetch 10.9.0.1 8082 1"),
            "hung\nhung"
        );
        caller.host(
            "sysctl -q net.ipv4.ip_forward=1; nft add table ip nat; \
             nft 'add chain ip nat prerouting { type nat hook prerouting priority dstnat; }'; \
             nft add rule ip nat prerouting tcp dport 8082 dnat to 10.8.0.2:9000",
        );
        assert_eq!(
            caller.far("fetch 10.9.0.1 9000 1; fetch 10.9.0.1 8082"),
            "hung\nserved"
        );
        end(&mut inner);
    });
}

/// Whether a server that answers lines still does.
fn answers(stream: &mut TcpStream) -> bool {
    let mut said = [0];
    let heard = stream.write_all(b"hello\n").and_then(|()| {
        while stream.read(&mut said)? == 1 && said != *b"\n" {}
        Ok(said == *b"\n")
    });
    heard.unwrap_or(false)
}

/// Answers every line of every client.
fn patient(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut word = [0; 6];
            while stream.read_exact(&mut word).is_ok() {
                stream.write_all(b"served\n").unwrap();
            }
        });
    }
}

fn supervisor(inspected: &str) -> i32 {
    let value: serde_json::Value = serde_json::from_str(inspected).unwrap();
    let found = value["processes"]["supervisor"]["pid"].as_i64();
    i32::try_from(found.unwrap_or_else(|| panic!("{inspected}"))).unwrap()
}

/// The supervisor's child that reads what the job sends.
fn edge_of(supervisor: i32) -> i32 {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = fs::read_to_string(children).unwrap();
    let mut found = children.split_whitespace().filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "cofferdam-edge"
    });
    found.next().unwrap().parse().unwrap()
}
