//! Somebody with every capability over the job's network namespace, as an engine inside
//! has it: whatever is configured or sent there, nothing reaches the host, its networks or
//! the world but what is granted, and the sandbox's edge lives on.

use crate::site::{Site, output, program, stdout, text, until};
use crate::support::skip;
use crate::world::{RESOLVER, World, namespace, serve, within};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::{Command, Output};

const NAME: &str = "inside";
/// Served on every address of the host and of its neighbour, and granted to nobody.
const FORBIDDEN: u16 = 9000;
/// Says what the server said, or that there is nothing; nobody who is refused waits.
const FETCH: &str = r#"
fetch() { timeout 1 bash -c "exec 3<>/dev/tcp/$1/$2 && echo hello >&3 && cat <&3" 2>/dev/null ||
          echo none; }
"#;

/// A running sandbox of the account, with one name granted, and root in its namespaces.
struct Inside {
    world: World,
    gateway: i32,
    init: i32,
    // Last: it looks whether anything is left.
    site: Site,
}

impl Inside {
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            skip("root in a job's network", "the tester is not root");
            return None;
        }
        let site = Site::alone(&format!("inside-{test}"));
        let world = World::new();
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for keeper in [&world.host, &world.far] {
            let listener = within(keeper, move || {
                TcpListener::bind((everywhere[1], FORBIDDEN)).unwrap()
            });
            std::thread::spawn(move || serve(&listener));
        }
        let mut inside = Self {
            world,
            gateway: 0,
            init: 0,
            site,
        };
        let arguments = [
            "run",
            "-d",
            "--name",
            NAME,
            "--allow",
            "www.example.org:8080",
        ];
        let started = inside.cofferdam(&[&arguments[..], &["--", "sleep", "1000"]].concat());
        assert_eq!(stdout(&started), NAME);
        let [_, gateway, init] = inside.site.processes(NAME).unwrap();
        (inside.gateway, inside.init) = (gateway, init);
        // What the host sends and gets by itself is neighbour discovery and nothing else.
        let watch = "add table inet watch; \
                     add chain inet watch out { type filter hook output priority 0; }; \
                     add chain inet watch in { type filter hook input priority 0; }; \
                     add rule inet watch out meta l4proto != icmpv6 counter; \
                     add rule inet watch in meta l4proto != icmpv6 counter";
        inside.on_host(&["nft", watch]);
        Some(inside)
    }

    fn cofferdam(&self, arguments: &[&str]) -> Output {
        let mut command = self.world.command(&self.site, false, "env");
        let base = self.site.base().display();
        command.arg(format!("XDG_RUNTIME_DIR={base}/run"));
        command.arg(format!("XDG_DATA_HOME={base}/data"));
        output(command.arg(program()).args(arguments))
    }

    /// What the job itself gets of what it may have, and of what it may not.
    fn job(&self, script: &str) -> String {
        let script = format!("{FETCH}{script}");
        stdout(&self.cofferdam(&["exec", NAME, "--", "bash", "-c", &script]))
    }

    fn in_network(process: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={process}")).args(arguments);
        output(&mut command)
    }

    fn on_host(&self, arguments: &[&str]) -> String {
        stdout(&Self::in_network(&namespace(&self.world.host), arguments))
    }

    /// As root in N0, to look.
    fn gateway(&self, script: &str) -> String {
        let network = format!("/proc/{}/ns/net", self.gateway);
        stdout(&Self::in_network(&network, &["sh", "-c", script]))
    }

    /// As root in N1, to do what can be done.
    fn root(&self, script: &str) -> Output {
        let network = format!("/proc/{}/ns/net", self.init);
        let script = format!("{FETCH}{script}");
        Self::in_network(&network, &["bash", "-c", &script])
    }

    /// Packets that the host has sent or got, but neighbour discovery.
    fn packets(&self) -> u64 {
        let said = self.on_host(&["nft", "list", "table", "inet", "watch"]);
        let mut words = said.split_whitespace();
        let mut packets = 0;
        while words.any(|word| word == "packets") {
            packets += words.next().unwrap().parse::<u64>().unwrap();
        }
        packets
    }

    /// All that could be otherwise in N0.
    fn state(&self) -> String {
        self.gateway(
            "nft list ruleset; ip rule; ip -6 rule; ip -o addr; ip route show table all; \
             ip -6 route show table all | grep -v '^ff00\\|cache'; ip -o link; \
             grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        )
    }

    /// N0 has taken nothing for somebody else, and nobody is connected to anything.
    fn forwarded_nothing(&self) {
        let forwarded = self.gateway(
            "awk '/^Ip: [0-9]/ { print $7 }' /proc/net/snmp; \
             awk '/^Ip6OutForwDatagrams/ { print $2 }' /proc/net/snmp6",
        );
        assert_eq!(forwarded, "0\n0");
    }

    /// The pair is as it was, and what is granted is reached.
    fn lives(&self) {
        let repair = "ip link set eth0 down; ip link set eth0 mtu 65520 promisc off; \
                      ip link set eth0 up; ip addr flush dev eth0; ip -6 addr flush dev eth0; \
                      ip addr add 169.254.7.2/30 dev eth0; \
                      ip -6 addr add fdc0:ffda:7::2/126 dev eth0 nodad; \
                      ip route replace default via 169.254.7.1; \
                      ip -6 route replace default via fdc0:ffda:7::1; \
                      ip neigh flush all; ip -6 neigh flush all";
        let repaired = self.root(repair);
        assert!(repaired.status.success(), "{}", text(&repaired));
        until("what is granted", || {
            (self.job("fetch www.example.org 8080") == "served").then_some(())
        });
    }

    fn end(&self) {
        let output = self.cofferdam(&["rm", "-f", NAME]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn no_configuration_of_the_jobs_network_leads_out_of_it() {
    let Some(inside) = Inside::new("configuration") else {
        return;
    };
    inside.lives();
    assert!(inside.packets() > 0, "what is granted was not counted");
    let before = inside.state();
    let link = |name: &str| {
        let said = inside.gateway(&format!("ip -o link show {name}"));
        said.split_whitespace()
            .skip_while(|word| *word != "link/ether")
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let mac = link("job");
    let forbidden = format!(
        "for to in 10.9.0.1 10.9.0.2 127.0.0.1 169.254.7.1 fd09::1 fd09::2 fdc0:ffda:7::1; do \
         fetch $to {FORBIDDEN} & done; fetch 93.184.216.34 8080 & fetch 169.254.7.1 40443 & \
         fetch 169.254.7.1 53 & fetch fdc0:ffda:7::1 40443 & wait"
    );
    for change in [
        "true".to_owned(),
        "ip addr add 10.9.0.7/24 dev eth0; ip -6 addr add fd09::7/64 dev eth0 nodad".to_owned(),
        "ip addr flush dev eth0; ip addr add 169.254.7.1/30 dev eth0".to_owned(),
        "ip addr add 93.184.216.34/32 dev eth0; ip addr add 10.9.0.1/32 dev eth0".to_owned(),
        "ip route add default via 169.254.7.1 metric 7; ip route replace default dev eth0; \
         ip -6 route replace default dev eth0"
            .to_owned(),
        format!("ip route replace 10.9.0.0/24 dev eth0; ip neigh replace 10.9.0.2 lladdr {mac} dev eth0"),
        "ip link set eth0 mtu 1280; ip link set eth0 mtu 65535".to_owned(),
        "ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 promisc on".to_owned(),
        "ip link add link eth0 name far type vlan id 5; ip link add link eth0 name mac type macvlan; \
         ip link set mac up; ip addr add 169.254.7.2/30 dev mac"
            .to_owned(),
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
         net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.all.route_localnet=1"
            .to_owned(),
        "nft flush ruleset; nft add table ip nat; \
         nft 'add chain ip nat out { type nat hook postrouting priority 100; }'; \
         nft add rule ip nat out ip daddr 10.9.0.0/24 snat to 10.9.0.1"
            .to_owned(),
    ] {
        let counted = inside.packets();
        let changed = inside.root(&change);
        let said = stdout(&inside.root(&forbidden));
        // An address that it gave itself may answer: nothing is served there.
        assert!(!said.contains("served"), "{change}: {said}\n{}", text(&changed));
        assert!(!said.contains("hello"), "{change}: {said}");
        assert_eq!(inside.packets(), counted, "{change}: {}", text(&changed));
        let undo = "nft flush ruleset; ip link del far; ip link del mac; \
                    ip route del default metric 7; ip route del 10.9.0.0/24; \
                    ip link set eth0 address 02:00:00:00:00:99";
        // What was not made is not there.
        drop(inside.root(undo));
        inside.lives();
        assert_eq!(inside.state(), before, "{change}");
    }
    inside.forwarded_nothing();
    inside.end();
}

/// Sends frames as they are, then a DNS query; says what came back until its answer.
///
/// Arguments: index and address of the link, address of the other end. Then one frame a
/// line: type, then its bytes after the Ethernet header, in hexadecimal; `!` before the type
/// sends it to the broadcast address.
const FRAMES: &str = r#"
my ($index, $own, $far) = @ARGV;
sub mac { pack "H*", $_[0] =~ tr/://dr }
socket(S, 17, 3, unpack("S", pack("n", 3))) or die "socket: $!";
sub to { pack "S n l S C C a8", 17, 3, $index, 0, 0, 6, $_[0] }
bind(S, pack "S n l S C C a8", 17, 3, $index, 0, 0, 0, "") or die "bind: $!";
sub frame { my ($to, $type, $data) = @_;
            send(S, $to . mac($own) . pack("H4", $type) . $data, 0, to($to)) or print "unsent $!\n" }
while (<STDIN>) {
    chomp; my ($type, $data) = split / /;
    my $to = $type =~ s/^!// ? "\xff" x 6 : mac($far);
    frame($to, $type, pack("H*", $data));
}
my $dns = pack("H*", "be5d01000001000000000000") . "\5fence\0" . pack("nn", 1, 1);
my $udp = pack("nnnn", 4000, 53, 8 + length $dns, 0) . $dns;
my @ip = (0x4500, 20 + length $udp, 7, 0, 0x4011, 0, 0xa9fe, 0x0702, 0xa9fe, 0x0701);
my $sum = 0; $sum += $_ for @ip; $sum = ($sum >> 16) + ($sum & 0xffff) while $sum >> 16;
$ip[5] = ~$sum & 0xffff;
frame(mac($far), "0800", pack("n10", @ip) . $udp);
$SIG{ALRM} = sub { print "no fence\n"; exit 1 }; alarm 20;
while (my $from = recv(S, my $got, 65536, 0)) {
    my ($source, $type, $rest) = unpack "x6 H12 H4 a*", $got;
    next if $source ne ($far =~ tr/://dr);
    if ($type eq "0806") { print "arp\n"; next }
    if ($type eq "0800") {
        my ($proto, $sender, $data) = unpack "x9 C x2 H8 x4 a*", $rest;
        if ($proto == 17) { last if substr($data, 8, 2) eq "\xbe\x5d"; print "udp $sender\n" }
        elsif ($proto == 1) { print "icmp ", join("/", unpack "CC", $data), "\n" }
        elsif ($proto == 6) { print "tcp $sender ", unpack("x13 H2", $data), "\n" }
        else { print "ip $proto\n" }
    } elsif ($type eq "86dd") {
        my ($next, $sender, $data) = unpack "x6 C x1 H32 x16 a*", $rest;
        if ($next == 58) { print "icmp6 ", join("/", unpack "CC", $data), "\n" }
        elsif ($next == 6) { print "tcp6 $sender ", unpack("x13 H2", $data), "\n" }
        else { print "ip6 $next\n" }
    } else { print "type $type\n" }
}
"#;

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes
        .chunks(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An IPv4 packet; `fragment` is flags and offset, `options` whole words.
fn ip4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    proto: u8,
    fragment: u16,
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let length = (words * 4 + data.len()) as u16;
    let mut head = vec![0x40 | words as u8, 0];
    head.extend(length.to_be_bytes());
    head.extend([0, 9]);
    head.extend(fragment.to_be_bytes());
    head.extend([64, proto, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    head.extend(options);
    let sum = checksum(&[&head]);
    head[10..12].copy_from_slice(&sum);
    [&head, data].concat()
}

/// The same of IPv6, where `first` is the number of what `data` begins with.
fn ip6(from: Ipv6Addr, to: Ipv6Addr, first: u8, data: &[u8]) -> Vec<u8> {
    let mut head = vec![0x60, 0, 0, 0];
    head.extend((data.len() as u16).to_be_bytes());
    head.extend([first, 255]);
    head.extend(from.octets());
    head.extend(to.octets());
    [&head, data].concat()
}

/// A SYN with a checksum for these addresses.
fn syn(from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let mut head = vec![];
    head.extend(4001u16.to_be_bytes());
    head.extend(port.to_be_bytes());
    head.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo(from, to, 6, head.len()), &head]);
    head[16..18].copy_from_slice(&sum);
    head
}

fn pseudo(from: IpAddr, to: IpAddr, proto: u8, length: usize) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    };
    let rest = [0, proto, 0, length as u8];
    [octets(from), octets(to), rest.to_vec()].concat()
}

/// An ICMPv6 message with its checksum.
fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let sum = checksum(&[&pseudo(from.into(), to.into(), 58, message.len()), &message]);
    message[2..4].copy_from_slice(&sum);
    ip6(from, to, 58, &message)
}

impl Inside {
    /// Sends frames from N1; what N0 answered, one line each.
    fn send(&self, frames: &[(&str, Vec<u8>)]) -> Vec<String> {
        let link = stdout(&self.root("ip -o link show eth0"));
        let index = link.split(':').next().unwrap().to_owned();
        let ether = |link: &str| {
            let mut words = link.split_whitespace();
            words.by_ref().find(|word| *word == "link/ether");
            words.next().unwrap().to_owned()
        };
        let (own, far) = (ether(&link), ether(&self.gateway("ip -o link show job")));
        let lines: Vec<String> = frames
            .iter()
            .map(|(kind, data)| {
                let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{kind} {data}\n")
            })
            .collect();
        let path = self.site.base().join("frames");
        self.site.write(&path, &lines.concat());
        let script = self.site.base().join("frames.pl");
        self.site.write(&script, FRAMES);
        let run = format!(
            "perl {} {index} {own} {far} < {}",
            script.display(),
            path.display()
        );
        let said = stdout(&self.root(&run));
        said.lines().map(str::to_owned).collect()
    }

    /// Sends them and looks that these answers came of it and nothing else, but that the
    /// gateway asks who is there.
    fn sends(&self, frames: &[(&str, Vec<u8>)], answers: &[&str]) {
        self.lives();
        let (before, counted) = (self.state(), self.packets());
        self.world.asked.lock().unwrap().clear();
        let said = self.send(frames);
        let fits = |line: &String, answer: &&str| line.starts_with(answer);
        for line in &said {
            let mut expected = answers.iter().chain(&["arp", "icmp6 135/", "icmp6 136/"]);
            assert!(expected.any(|answer| fits(line, answer)), "{line}");
        }
        for answer in answers {
            let came = said.iter().any(|line| fits(line, answer));
            assert!(came, "no {answer}: {said:?}");
        }
        assert_eq!(self.packets(), counted);
        assert!(self.world.asked.lock().unwrap().is_empty());
        self.forwarded_nothing();
        self.lives();
        assert_eq!(self.state(), before);
    }
}

#[test]
fn no_ipv4_packet_gets_further_than_the_gateway() {
    let Some(inside) = Inside::new("ipv4") else {
        return;
    };
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    let (job, gateway, server) = (
        address("169.254.7.2"),
        address("169.254.7.1"),
        address("93.184.216.34"),
    );
    let tcp = |from: Ipv4Addr, to: Ipv4Addr, port| {
        (
            "0800",
            ip4(from, to, 6, 0, &[], &syn(from.into(), to.into(), port)),
        )
    };
    // Somebody else's address, and the gateway's own: no answer to any of them.
    let mut spoofed = Vec::new();
    for from in [
        "169.254.7.1",
        "127.0.0.1",
        "10.9.0.1",
        "10.9.0.2",
        "8.8.8.8",
        "198.18.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        for (to, port) in [
            (server, 8080),
            (RESOLVER, FORBIDDEN),
            (gateway, 40443),
            (gateway, 53),
        ] {
            spoofed.push(tcp(address(from), to, port));
        }
    }
    inside.sends(&spoofed, &[]);
    // Every other protocol, to the gateway, to the host and beyond: refused by ICMP at once.
    let mut others = Vec::new();
    for proto in [1, 2, 4, 17, 33, 41, 47, 50, 51, 89, 103, 132, 136, 253, 255] {
        for to in [gateway, address("10.9.0.1"), RESOLVER, server] {
            let data = match proto {
                1 => vec![8, 0, 0xf7, 0xfe, 0, 1, 0, 0],
                // An IPv4 packet to the host in another one.
                4 => tcp(job, address("10.9.0.1"), FORBIDDEN).1,
                17 => [&[0x0f, 0xa0, 0, 123, 0, 8, 0, 0][..]].concat(),
                _ => vec![0; 24],
            };
            others.push(("0800", ip4(job, to, proto, 0, &[], &data)));
        }
    }
    inside.sends(&others, &["icmp 3/"]);
    // Source routes, fragments, broadcast, multicast, and frames that are no IP.
    let loose = [0x83, 7, 4, 10, 9, 0, 1, 0];
    let strict = [0x89, 7, 4, 10, 9, 0, 1, 0];
    let whole = syn(job.into(), address("10.9.0.1").into(), FORBIDDEN);
    let (all, group) = (Ipv4Addr::BROADCAST, address("224.0.0.1"));
    let udp = [0x0f, 0xa0, 0x14, 0xe9, 0, 8, 0, 0];
    let arp = |kind: u8, sender: Ipv4Addr, target: Ipv4Addr| {
        let head = [0, 1, 8, 0, 6, 4, 0, kind, 2, 0, 0, 0, 0, 0x66];
        [&head[..], &sender.octets(), &[0; 6], &target.octets()].concat()
    };
    let mut odd = vec![
        ("0800", ip4(job, gateway, 6, 0, &loose, &whole)),
        ("0800", ip4(job, gateway, 6, 0, &strict, &whole)),
        (
            "0800",
            ip4(job, address("10.9.0.1"), 6, 0x2000, &[], &whole[..16]),
        ),
        (
            "0800",
            ip4(job, address("10.9.0.1"), 6, 2, &[], &whole[16..]),
        ),
        (
            "0800",
            ip4(job, address("10.9.0.1"), 6, 0x2001, &[], &whole[..8]),
        ),
        ("!0800", ip4(job, all, 17, 0, &[], &udp)),
        ("!0800", ip4(job, group, 17, 0, &[], &udp)),
        ("!0800", ip4(job, address("169.254.7.3"), 17, 0, &[], &udp)),
        (
            "8100",
            [&[0, 5, 8, 0][..], &tcp(job, RESOLVER, FORBIDDEN).1].concat(),
        ),
        ("8847", vec![0; 64]),
        ("88cc", vec![0; 64]),
        ("888e", vec![0; 64]),
        ("0800", vec![0x45]),
        ("0800", vec![0xff; 60]),
        ("86dd", vec![0; 40]),
        // It is asked for and told about addresses that are not its own.
        ("!0806", arp(1, job, address("10.9.0.1"))),
        ("!0806", arp(1, job, RESOLVER)),
        ("!0806", arp(2, gateway, gateway)),
        ("!0806", arp(1, gateway, gateway)),
    ];
    odd.push(("0806", arp(2, address("10.9.0.2"), gateway)));
    // The fragments of one SYN are that SYN: it is the relay's, as any is.
    inside.sends(&odd, &["tcp 0a090001 12"]);
    // Listeners of the gateway by their own ports: a relay like every other port.
    let own = [22, 53, 40443].map(|port| tcp(job, gateway, port));
    inside.sends(&own, &["tcp a9fe0701 12"]);
    inside.end();
}

#[test]
fn no_ipv6_packet_gets_further_than_the_gateway() {
    let Some(inside) = Inside::new("ipv6") else {
        return;
    };
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let (job, gateway) = (address("fdc0:ffda:7::2"), address("fdc0:ffda:7::1"));
    let (host, server) = (address("fd09::1"), address("2606:2800:220:1::1"));
    let tcp = |from: Ipv6Addr, to: Ipv6Addr, port| {
        ("86dd", ip6(from, to, 6, &syn(from.into(), to.into(), port)))
    };
    let mut spoofed = Vec::new();
    for from in [
        "fdc0:ffda:7::1",
        "::1",
        "fd09::1",
        "fd09::2",
        "2001:db8::5",
        "fe80::5",
        "::",
        "::ffff:10.9.0.1",
        "fdc0:ffda:7:1::1",
    ] {
        for (to, port) in [
            (server, 8080),
            (host, FORBIDDEN),
            (gateway, 40443),
            (gateway, 53),
        ] {
            spoofed.push(tcp(address(from), to, port));
        }
    }
    inside.sends(&spoofed, &[]);
    let mut others = Vec::new();
    for next in [4, 17, 41, 47, 50, 59, 132, 253] {
        for to in [gateway, host, server] {
            let data = match next {
                41 => tcp(job, host, FORBIDDEN).1,
                17 => vec![0x0f, 0xa0, 0, 123, 0, 8, 0xff, 0xff],
                _ => vec![0; 24],
            };
            others.push(("86dd", ip6(job, to, next, &data)));
        }
    }
    // Echo, router solicitation and advertisement, redirect, listener reports, node information.
    let nodes = address("ff02::1");
    for kind in [128, 133, 134, 137, 130, 131, 143, 139] {
        for to in [gateway, host, nodes] {
            others.push(("86dd", icmp6(job, to, kind, &[0; 36])));
        }
    }
    inside.sends(&others, &["icmp6 1/"]);
    // Headers before TCP: hop by hop, destination options, routing, fragments.
    let whole = syn(job.into(), host.into(), FORBIDDEN);
    let padding = [6, 0, 1, 4, 0, 0, 0, 0];
    let mut routing = vec![6, 2, 0, 1, 0, 0, 0, 0];
    routing.extend(host.octets());
    let segment = {
        let mut header = routing.clone();
        header[2] = 4;
        header
    };
    let fragment = |more: u8, offset: u8| vec![6, 0, 0, offset << 3 | more, 0, 0, 0, 7];
    let solicit =
        |target: Ipv6Addr| [&[0; 4][..], &target.octets(), &[1, 1, 2, 0, 0, 0, 0, 0x66]].concat();
    let advert = |target: Ipv6Addr| {
        [
            &[0x20, 0, 0, 0][..],
            &target.octets(),
            &[2, 1, 2, 0, 0, 0, 0, 0x66],
        ]
        .concat()
    };
    let odd = vec![
        (
            "86dd",
            ip6(job, gateway, 43, &[&routing[..], &whole].concat()),
        ),
        (
            "86dd",
            ip6(job, gateway, 43, &[&segment[..], &whole].concat()),
        ),
        (
            "86dd",
            ip6(job, host, 44, &[&fragment(1, 0)[..], &whole[..8]].concat()),
        ),
        (
            "86dd",
            ip6(job, host, 44, &[&fragment(0, 2)[..], &whole[8..]].concat()),
        ),
        (
            "86dd",
            ip6(job, host, 44, &[&fragment(1, 0)[..], &whole[..16]].concat()),
        ),
        (
            "!86dd",
            ip6(job, nodes, 17, &[0x0f, 0xa0, 0x14, 0xe9, 0, 8, 0xff, 0xff]),
        ),
        (
            "8100",
            [&[0, 5, 0x86, 0xdd][..], &tcp(job, host, FORBIDDEN).1].concat(),
        ),
        ("86dd", icmp6(job, gateway, 135, &solicit(host))),
        ("86dd", icmp6(host, gateway, 135, &solicit(gateway))),
        ("86dd", icmp6(job, gateway, 136, &advert(host))),
        ("86dd", icmp6(job, nodes, 136, &advert(gateway))),
        ("86dd", ip6(job, gateway, 0, &padding[..4])),
        ("86dd", vec![0x60; 39]),
    ];
    inside.sends(&odd, &["icmp6 4/0"]);
    let own = [22, 53, 40443].map(|port| tcp(job, gateway, port));
    inside.sends(&own, &["tcp6 fdc0ffda000700000000000000000001 12"]);
    // Options before TCP are no way around: what is handed over is not the host's.
    let hop = [
        ("86dd", ip6(job, host, 0, &[&padding[..], &whole].concat())),
        ("86dd", ip6(job, host, 60, &[&padding[..], &whole].concat())),
    ];
    inside.sends(&hop, &["tcp6 fd090000000000000000000000000001 12"]);
    inside.end();
}
