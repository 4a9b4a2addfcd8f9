//! A job with a network: what it has, where what it sends arrives, and what it cannot do.
//!
//! At the far end is `destinations`, which tells every connection and query
//! where it wanted to go; no edge takes part.

use crate::site::{Site, code, output, program, sandboxed, stderr, stdout, text};
use crate::support::skip;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Somebody who runs jobs with a network.
struct User {
    site: Site,
    root: bool,
}

impl User {
    /// The account, and root where the tester is root.
    fn each(name: &str, test: impl Fn(&User)) {
        for root in [false, true] {
            if root && !rustix::process::getuid().is_root() {
                skip("networks of root", "the tester is not root");
                continue;
            }
            let name = format!("network-{name}-{root}");
            let site = Site::alone(&name);
            test(&User { site, root });
        }
    }

    fn command(&self, program: &str) -> Command {
        if !self.root {
            return self.site.command(program);
        }
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .current_dir(self.site.work());
        command
    }

    /// What `cofferdam plan` prints for a script.
    fn plan(&self, script: &str) -> Value {
        let policy = "extends = \"untrusted\"\n[syscalls]\non_denied = \"errno\"\n";
        let policy = self.site.policy("quiet", policy);
        let mut command = self.command(&program());
        command.args(["plan", "-p", &policy, "--network", "allowlist"]);
        command.args(["--", "bash", "-c", script]);
        serde_json::from_str(&stdout(&output(&mut command))).unwrap()
    }

    /// Runs a plan as it is.
    fn obey(&self, plan: &Value) -> Output {
        let path = self.site.base().join("plan.json");
        self.site.write(&path, &plan.to_string());
        let destinations = PathBuf::from(program()).with_file_name("destinations");
        let mut command = self.command(destinations.to_str().unwrap());
        output(command.arg(path))
    }

    fn run(&self, script: &str) -> Output {
        self.obey(&self.plan(script))
    }

    fn says(&self, script: &str) -> String {
        stdout(&self.run(script))
    }
}

/// The network step of a plan.
fn network(plan: &mut Value) -> &mut Value {
    let steps = plan["steps"].as_array_mut().unwrap();
    let mut found = steps
        .iter_mut()
        .filter_map(|step| step["op"].get_mut("network"));
    found.next().unwrap()
}

#[test]
fn the_job_has_one_address_and_one_route_of_each_family() {
    User::each("address", |user| {
        let said = user.says("cat /proc/net/dev /proc/net/route; cat /proc/net/if_inet6 >&2");
        let links: Vec<&str> = said
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()))
            .filter(|name| !name.contains(['|', ' ']))
            .collect();
        assert_eq!(links, ["lo", "eth0"], "{said}");
        // Addresses in network order, as /proc/net/route prints them.
        let routes: Vec<Vec<&str>> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.len() == 11 && fields[0] == "eth0")
            .map(|fields| vec![fields[1], fields[2], fields[7]])
            .collect();
        assert_eq!(
            routes,
            [
                ["00000000", "0107FEA9", "00000000"],
                ["0007FEA9", "00000000", "FCFFFFFF"]
            ]
        );
        let said = user.run("cat /proc/net/fib_trie; cat /proc/net/if_inet6 >&2");
        assert!(
            stdout(&said).contains("|-- 169.254.7.2\n"),
            "{}",
            text(&said)
        );
        // Its own and loopback; not tentative (flag 40), permanent (80), and no link-local one.
        let addresses = stderr(&said);
        let mut lines: Vec<Vec<&str>> = addresses
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        lines.sort();
        let six = [
            lines[0][0],
            lines[1][0],
            lines[1][2],
            lines[1][4],
            lines[1][5],
        ];
        let loopback = "00000000000000000000000000000001";
        let own = "fdc0ffda000700000000000000000002";
        assert_eq!(six, [loopback, own, "7e", "82", "eth0"], "{addresses}");
        assert_eq!(lines.len(), 2, "{addresses}");
        let routes = user.says("cat /proc/net/ipv6_route");
        let gateways: Vec<&str> = routes
            .lines()
            .map(|line| line.split_whitespace().nth(4).unwrap())
            .filter(|gateway| gateway.contains(|digit| digit != '0'))
            .collect();
        assert_eq!(gateways, ["fdc0ffda000700000000000000000001"], "{routes}");
    });
}

#[test]
fn a_connection_to_any_address_arrives_and_says_where_to() {
    User::each("tcp", |user| {
        // 10.0.0.1 by ports of N0's own listeners; then N0's own address.
        let script = "for to in 203.0.113.5/443 10.0.0.1/40443 169.254.7.1/22 169.254.169.254/80 \
                      198.51.100.7/53 169.254.7.1/53 2001:db8::1/443 fdc0:ffda:7::1/22 \
                      ::ffff:203.0.113.5/443 2606:4700::1111/53; do cat </dev/tcp/$to; done";
        assert_eq!(
            user.says(script),
            "tcp 203.0.113.5:443\ntcp 10.0.0.1:40443\ntcp 169.254.7.1:22\n\
             tcp 169.254.169.254:80\ndns-tcp 198.51.100.7:53\ndns-tcp 169.254.7.1:53\n\
             tcp [2001:db8::1]:443\ntcp [fdc0:ffda:7::1]:22\ntcp 203.0.113.5:443\n\
             dns-tcp [2606:4700::1111]:53"
        );
    });
}

#[test]
fn a_query_to_any_server_arrives_and_its_answer_comes_from_there() {
    User::each("dns", |user| {
        // The socket is connected: an answer from anywhere else would not reach it.
        let script = "for to in 9.9.9.9 10.0.0.1 169.254.7.1 2620:fe::fe fdc0:ffda:7::1; do \
                      exec 5<>/dev/udp/$to/53; echo query >&5; timeout 20 head -n 1 <&5; done";
        assert_eq!(
            user.says(script),
            "dns-udp 9.9.9.9:53\ndns-udp 10.0.0.1:53\ndns-udp 169.254.7.1:53\n\
             dns-udp [2620:fe::fe]:53\ndns-udp [fdc0:ffda:7::1]:53"
        );
    });
}

#[test]
fn what_is_refused_is_refused_at_once() {
    User::each("refused", |user| {
        // More than a kernel would answer in a second by its own limits.
        let udp = "for n in $(seq 40); do exec 5<>/dev/udp/9.9.9.9/443; echo hello >&5; \
                   timeout 5 cat <&5; echo $?; done 2>&1 | sort | uniq -c";
        let said = user.says(udp);
        assert!(said.contains("40 cat: -: Connection refused"), "{said}");
        assert!(said.contains("40 1"), "{said}");
        let inner = "exec 5<>/dev/udp/169.254.7.1/40443; echo x >&5; timeout 5 cat <&5; echo $?";
        assert!(user.says(inner).ends_with('1'));
        let said = user.says(&udp.replace("9.9.9.9", "2620:fe::fe"));
        assert!(said.contains("40 cat: -: Connection refused"), "{said}");
    });
}

#[test]
fn the_job_changes_nothing_and_finds_no_way_around() {
    User::each("around", |user| {
        let script = "for it in 'ip link set eth0 down' 'ip link add x type dummy' \
                      'ip route add 9.9.9.9 dev lo' 'ip addr add 10.0.0.1/8 dev eth0' \
                      'ip rule add from all lookup 7' 'nft add table inet x' 'nft list ruleset' \
                      'unshare -Urn true' 'unshare -n true'; \
                      do $it >/dev/null 2>&1; case $? in 0|126|127) echo \"$it\";; esac; done";
        assert_eq!(user.says(script), "");
        // Raw and packet sockets; SO_MARK, IP_TRANSPARENT; another's address.
        let script = r#"
            use Socket;
            socket($s, AF_INET, SOCK_RAW, 1) and print "raw\n";
            socket($s, AF_INET, SOCK_RAW, 255) and print "raw of any\n";
            socket($s, 17, SOCK_RAW, 0x0300) and print "packet\n";
            socket($s, 16, SOCK_RAW, 12) and print "netfilter\n";
            socket($s, AF_INET, SOCK_STREAM, 0) or die;
            setsockopt($s, SOL_SOCKET, 36, pack("i", 0xc0ff)) and print "mark\n";
            setsockopt($s, 0, 19, pack("i", 1)) and print "transparent\n";
            bind($s, sockaddr_in(0, inet_aton("169.254.7.1"))) and print "address\n";
            bind($s, sockaddr_in(0, inet_aton("169.254.7.2"))) or print "not its own\n";
        "#;
        assert_eq!(user.says(&format!("perl -e '{script}'")), "");
    });
}

#[test]
fn nothing_starts_without_its_rules() {
    User::each("rules", |user| {
        let good = user.plan("echo started");
        assert_eq!(stdout(&user.obey(&good)), "started");
        let rules = network(&mut good.clone())["ruleset"].clone();
        let rules = rules.as_str().unwrap();
        // What is loaded is the plan's text, or nothing is; what is loaded is
        // compared with what is there in the tests of `net::nft`.
        for other in [
            rules.replacen("policy drop", "policy accept", 1),
            rules.replacen("\t\tip saddr != 169.254.7.2 drop\n", "", 1),
            format!("{rules}table ip more {{\n}}\n"),
            String::new(),
        ] {
            let mut plan = good.clone();
            network(&mut plan)["ruleset"] = json!(other);
            let ended = user.obey(&plan);
            assert_eq!(code(&ended), 125, "{}", text(&ended));
            assert_eq!(String::from_utf8_lossy(&ended.stdout), "");
            let says = "compare rules the plan's are not those of this program";
            assert!(stderr(&ended).contains(says), "{}", text(&ended));
        }
        assert_eq!(sandboxed(&user.site.account), Default::default());
    });
}

#[test]
fn the_host_is_as_before_and_nothing_is_left() {
    User::each("host", |user| {
        let host = || {
            let all = "nft list ruleset; ip rule; ip -o link; ip route show table all; \
                       grep -r . /proc/sys/net/ipv4 /proc/sys/net/ipv6 2>/dev/null | \
                       grep -v -e random -e _seq -e secret; true";
            let said = output(Command::new("sh").args(["-c", all]));
            String::from_utf8(said.stdout).unwrap()
        };
        let before = host();
        let plan = user.plan("cat </dev/tcp/203.0.113.5/443; readlink /proc/self/ns/net");
        let said = stdout(&user.obey(&plan));
        assert!(said.starts_with("tcp 203.0.113.5:443\n"), "{said}");
        assert_eq!(host(), before);
        assert_eq!(sandboxed(&user.site.account), Default::default());
        let namespace = said.lines().last().unwrap();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let found = fs::read_link(entry.path().join("ns/net")).unwrap_or_default();
            assert_ne!(found.to_str(), Some(namespace), "{entry:?}");
        }
    });
}

#[test]
fn without_a_network_gateway_and_job_share_one_namespace() {
    let site = Site::new("network-none");
    site.detach("alone", &[], "sleep 1000");
    let [supervisor, gateway, init] = site.processes("alone").unwrap();
    let network = |pid: i32| {
        let script = format!("readlink /proc/{pid}/ns/net");
        output(Command::new("sh").args(["-c", &script])).stdout
    };
    // Neither is dumpable: only root may look.
    if rustix::process::getuid().is_root() {
        assert_eq!(network(gateway), network(init));
        assert_ne!(network(supervisor), network(init));
    } else {
        skip("the namespace of a gateway", "the tester is not root");
    }
    site.remove("alone");
}
