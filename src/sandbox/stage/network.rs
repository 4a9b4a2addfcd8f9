//! [stage] N0 and N1: rules loaded and read back, listeners, and last the links between both.
//!
//! The first process does all of it. N1 is made by the second process, which
//! hands over a netlink socket that acts there. Ids are being mapped meanwhile.

use super::{Context, Failed};
use crate::net::nft::message;
use crate::net::rules::{self, DNS_PORT, GATEWAY, GATEWAY6, JOB, JOB6, RELAY_PORT};
use crate::net::rules::{GATEWAY_LINK, JOB_LINK};
use crate::net::rules::{PREFIX, PREFIX6};
use crate::sandbox::gateway::Dialler;
use crate::sandbox::message::Report;
use crate::sandbox::plan::{Op, Plan};
use crate::sys::netlink::{Family, Netlink, Pair, Refused};
use crate::sys::nfnetlink::Nfnetlink;
use crate::sys::process::{self, exit_now};
use crate::sys::{network, socket};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the links may take to work; it takes far less than a millisecond.
const SETTLED: Duration = Duration::from_secs(10);

/// Makes the plan's network, if it has one, in this order: rules, settings,
/// listeners, links. Then the supervisor gets the listeners.
pub(super) fn make(plan: &Plan, supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
    for (index, step) in plan.steps.iter().enumerate() {
        if let Op::Network { ruleset, ipv6 } = &step.op {
            load(ruleset, *ipv6)
                .and_then(|()| complete(*ipv6, supervisor, stage))
                .map_err(|failed| failed.at(index))?;
        }
    }
    Ok(())
}

/// Loads our rules, if they are those of the plan, and compares all that is there with them.
fn load(planned: &str, ipv6: bool) -> Result<(), Failed> {
    let table = rules::table(ipv6);
    if table.to_string() != planned {
        return Err(Errno::INVAL)
            .during("compare rules", "the plan's are not those of this program");
    }
    let socket = Nfnetlink::open().during("socket", "nf_tables")?;
    let ask = |messages: Vec<u8>, call, object| socket.ask(&messages).said(call, object);
    ask(message::batch(&table), "NFT_MSG_NEWRULE", "rules")?;
    let generation = || {
        let answer = ask(message::get_generation(), "NFT_MSG_GETGEN", "rules")?;
        message::generation(&answer)
            .ok_or(Errno::BADMSG)
            .during("NFT_MSG_GETGEN", "rules")
    };
    let before = generation()?;
    for kind in message::KINDS {
        let found = ask(message::dump(kind), "NFT_MSG_GETRULE", "rules")?;
        if let Some(difference) = message::difference(&table, kind, &found) {
            return Err(Errno::BADMSG).during("compare rules", difference);
        }
    }
    match generation()? == before {
        true => Ok(()),
        false => Err(Errno::AGAIN).during("compare rules", "they have changed meanwhile"),
    }
}

fn complete(ipv6: bool, supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
    apply(&rules::GATEWAY_SETTINGS)?;
    apply(if ipv6 {
        &rules::GATEWAY_SETTINGS6
    } else {
        &rules::WITHOUT_IPV6
    })?;
    let families = families(ipv6);
    let n0 = Netlink::open().during("socket", "netlink")?;
    local_by_mark(&n0, families)?;
    let listeners = [
        network::transparent_listener(RELAY_PORT, ipv6).during("listen", "relay")?,
        network::transparent_datagrams(DNS_PORT, ipv6).during("bind", "DNS over UDP")?,
        network::transparent_listener(DNS_PORT, ipv6).during("listen", "DNS over TCP")?,
    ];
    join(&n0, &job_namespace(stage)?, families)?;
    let report = serde_json::to_vec(&Report::Listeners)
        .map_err(|_| Errno::INVAL)
        .during("write", "report")?;
    let descriptors = listeners.each_ref().map(AsFd::as_fd);
    socket::send(supervisor, &report, &descriptors).during("sendmsg", "listeners")
}

/// Whoever connects to published ports, where there are any: the supervisor gets
/// the other end.
pub(super) fn dialler(plan: &Plan, supervisor: &OwnedFd) -> Result<Option<Dialler>, Failed> {
    if plan.published.is_empty() {
        return Ok(None);
    }
    let (mine, theirs) = socket::pair().during("socketpair", "published ports")?;
    let flags = rustix::fs::fcntl_getfl(&mine).during("fcntl", "published ports")?;
    rustix::fs::fcntl_setfl(&mine, flags | OFlags::NONBLOCK).during("fcntl", "published ports")?;
    let report = serde_json::to_vec(&Report::Dialler)
        .map_err(|_| Errno::INVAL)
        .during("write", "report")?;
    socket::send(supervisor, &report, &[theirs.as_fd()]).during("sendmsg", "published ports")?;
    let ports = plan
        .published
        .iter()
        .map(|published| published.publish.port);
    Ok(Some(Dialler::new(mine, ports.collect())))
}

/// Writes settings of this network namespace.
fn apply(settings: &[(&str, &str)]) -> Result<(), Failed> {
    for (name, value) in settings {
        let path = format!("/proc/sys/net/{name}");
        match openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                rustix::io::write(&file, value.as_bytes()).during("write", &path)?;
            }
            // A kernel without IPv6, or one that has no such setting yet.
            Err(Errno::NOENT) if name.starts_with("ipv6/") => {}
            Err(errno) => return Err(errno).during("open", &path),
        }
    }
    Ok(())
}

fn families(ipv6: bool) -> &'static [Family] {
    if ipv6 {
        &[Family::Ipv4, Family::Ipv6]
    } else {
        &[Family::Ipv4]
    }
}

/// Gateway, job, and the prefix of their pair.
fn addresses(family: Family) -> (IpAddr, IpAddr, u8) {
    match family {
        Family::Ipv4 => (GATEWAY.into(), JOB.into(), PREFIX),
        Family::Ipv6 => (GATEWAY6.into(), JOB6.into(), PREFIX6),
    }
}

/// What the rules have marked is delivered here, whatever its address is.
fn local_by_mark(n0: &Netlink, families: &[Family]) -> Result<(), Failed> {
    network::loopback_up().during("SIOCSIFFLAGS", "lo of N0")?;
    let lo = n0.index("lo").said("SIOCGIFINDEX", "lo of N0")?;
    for family in families {
        n0.add_mark_rule(*family, rules::MARK, rules::TABLE)
            .said("RTM_NEWRULE", "marked packets")?;
        n0.add_local_default(*family, lo, rules::TABLE)
            .said("RTM_NEWROUTE", "marked packets")?;
    }
    Ok(())
}

/// The socket in N1 that the second process has made.
fn job_namespace(stage: &OwnedFd) -> Result<Netlink, Failed> {
    let mut packet = [0; 8];
    let received = socket::receive(stage, &mut packet).during("recvmsg", "stage")?;
    let Some((_, descriptors)) = received else {
        // The stage has already said why it failed.
        exit_now(125)
    };
    match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([socket]) => Ok(Netlink::from_socket(socket)),
        Err(_) => Err(Errno::PROTO).during("recvmsg", "socket of N1"),
    }
}

/// A pair of links from N0 to N1, up when everything else is as it stays.
fn join(n0: &Netlink, n1: &Netlink, families: &[Family]) -> Result<(), Failed> {
    let namespace = crate::sys::namespace::of_socket(n1).during("SIOCGSKNS", "N1")?;
    n0.add_pair(Pair {
        name: GATEWAY_LINK,
        peer: JOB_LINK,
        namespace: namespace.as_fd(),
        mtu: rules::MTU,
    })
    .said("RTM_NEWLINK", "veth pair")?;
    let gateway = n0.index(GATEWAY_LINK).said("SIOCGIFINDEX", GATEWAY_LINK)?;
    let job = n1.index(JOB_LINK).said("SIOCGIFINDEX", JOB_LINK)?;
    for family in families {
        let (near, far, prefix) = addresses(*family);
        n0.add_address(gateway, near, prefix)
            .said("RTM_NEWADDR", GATEWAY_LINK)?;
        n1.add_address(job, far, prefix)
            .said("RTM_NEWADDR", JOB_LINK)?;
    }
    if families.contains(&Family::Ipv6) {
        // The job's end is asked for by this one where a packet has the address of a peer of a
        // published port: a solicitation needs a source of the link's own (ndisc_send_ns).
        n0.add_address(gateway, rules::GATEWAY_ON_LINK.into(), 64)
            .said("RTM_NEWADDR", GATEWAY_LINK)?;
    }
    n0.set_up(gateway).said("RTM_NEWLINK up", GATEWAY_LINK)?;
    n1.set_up(job).said("RTM_NEWLINK up", JOB_LINK)?;
    for family in families {
        n1.add_default(addresses(*family).0)
            .said("RTM_NEWROUTE", "default of N1")?;
    }
    settle(families, n0, gateway, |family| addresses(family).0)?;
    settle(families, n1, job, |family| addresses(family).1)
}

/// Waits for what the kernel does later, from work queues: it starts a link whose
/// other end came up last, and joins the solicited-node group of an IPv6 address
/// and makes it local (`addrconf_dad_work`). What the job sent before would be
/// lost, and sent again after a second.
fn settle(
    families: &[Family],
    netlink: &Netlink,
    link: u32,
    address: impl Fn(Family) -> IpAddr,
) -> Result<(), Failed> {
    let until = Instant::now() + SETTLED;
    let ready = || -> Result<bool, Refused> {
        for family in families {
            if !netlink.is_local(address(*family))? {
                return Ok(false);
            }
        }
        netlink.is_running(link)
    };
    while !ready().said("RTM_GETROUTE", "pair of links")? {
        if Instant::now() > until {
            return Err(Errno::TIMEDOUT).during("RTM_GETROUTE", "pair of links");
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// In the second process: enters N1 and hands over a socket that acts in it.
pub(super) fn enter(outer: &OwnedFd, ipv6: bool) -> Result<(), Failed> {
    process::unshare(UnshareFlags::NEWNET).during("unshare", "N1")?;
    apply(&rules::JOB_SETTINGS)?;
    apply(if ipv6 {
        &rules::JOB_SETTINGS6
    } else {
        &rules::WITHOUT_IPV6
    })?;
    let socket = Netlink::open().during("socket", "netlink of N1")?;
    socket::send(outer, b"network", &[socket.as_fd()]).during("sendmsg", "gateway")
}

/// Attaches call, object and the kernel's words to its refusal.
trait Said<T> {
    fn said(self, call: &'static str, object: &str) -> Result<T, Failed>;
}

impl<T> Said<T> for Result<T, Refused> {
    fn said(self, call: &'static str, object: &str) -> Result<T, Failed> {
        self.map_err(|refused| {
            let object = match refused.said {
                Some(said) => format!("{object}: {said}"),
                None => object.to_owned(),
            };
            Failed {
                step: None,
                call,
                object,
                errno: refused.errno,
            }
        })
    }
}
