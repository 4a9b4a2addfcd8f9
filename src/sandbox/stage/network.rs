//! [stage] N0 and N1: rules loaded and read back, listeners, and last the links between both.
//!
//! The first process does all of it. N1 is made by the second process, which
//! hands over a netlink socket that acts there. Ids are being mapped meanwhile.

use super::{Context, Failed};
use crate::net::nft::message;
use crate::net::rules::{self, DNS_PORT, GATEWAY, JOB, PREFIX, RELAY_PORT};
use crate::net::rules::{GATEWAY_LINK, JOB_LINK};
use crate::sandbox::gateway::Dialler;
use crate::sandbox::message::Report;
use crate::sandbox::plan::{Op, Plan};
use crate::sys::netlink::{Netlink, Pair, Refused};
use crate::sys::nfnetlink::Nfnetlink;
use crate::sys::process::{self, exit_now};
use crate::sys::{network, socket};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Makes the plan's network, if it has one, in this order: rules, settings,
/// listeners, links. Then the supervisor gets the listeners.
pub(super) fn make(plan: &Plan, supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
    for (index, step) in plan.steps.iter().enumerate() {
        if let Op::Network { ruleset } = &step.op {
            load(ruleset)
                .and_then(|()| complete(supervisor, stage))
                .map_err(|failed| failed.at(index))?;
        }
    }
    Ok(())
}

/// Loads our rules, if they are those of the plan, and compares all that is there with them.
fn load(planned: &str) -> Result<(), Failed> {
    let table = rules::table();
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

fn complete(supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
    apply(&rules::GATEWAY_SETTINGS)?;
    let n0 = Netlink::open().during("socket", "netlink")?;
    local_by_mark(&n0)?;
    let listeners = [
        network::transparent_listener(RELAY_PORT).during("listen", "relay")?,
        network::transparent_datagrams(DNS_PORT).during("bind", "DNS over UDP")?,
        network::transparent_listener(DNS_PORT).during("listen", "DNS over TCP")?,
    ];
    join(&n0, &job_namespace(stage)?)?;
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
            // A kernel without IPv6, or started with ipv6.disable=1.
            Err(Errno::NOENT) if name.starts_with("ipv6/") => {}
            Err(errno) => return Err(errno).during("open", &path),
        }
    }
    Ok(())
}

/// What the rules have marked is delivered here, whatever its address is.
fn local_by_mark(n0: &Netlink) -> Result<(), Failed> {
    network::loopback_up().during("SIOCSIFFLAGS", "lo of N0")?;
    let lo = n0.index("lo").said("SIOCGIFINDEX", "lo of N0")?;
    n0.add_mark_rule(rules::MARK, rules::TABLE)
        .said("RTM_NEWRULE", "marked packets")?;
    n0.add_local_default(lo, rules::TABLE)
        .said("RTM_NEWROUTE", "marked packets")
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
fn join(n0: &Netlink, n1: &Netlink) -> Result<(), Failed> {
    let namespace = crate::sys::namespace::of_socket(n1).during("SIOCGSKNS", "N1")?;
    n0.add_pair(Pair {
        name: GATEWAY_LINK,
        peer: JOB_LINK,
        namespace: namespace.as_fd(),
        mtu: rules::MTU,
    })
    .said("RTM_NEWLINK", "veth pair")?;
    let ends = [(n0, GATEWAY_LINK, GATEWAY), (n1, JOB_LINK, JOB)];
    let mut links = Vec::new();
    for (netlink, name, address) in ends {
        let index = netlink.index(name).said("SIOCGIFINDEX", name)?;
        netlink
            .add_address(index, address, PREFIX)
            .said("RTM_NEWADDR", name)?;
        links.push((netlink, index, name));
    }
    for (netlink, index, name) in links {
        netlink.set_up(index).said("RTM_NEWLINK up", name)?;
    }
    n1.add_default(GATEWAY)
        .said("RTM_NEWROUTE", "default of N1")
}

/// In the second process: enters N1 and hands over a socket that acts in it.
pub(super) fn enter(outer: &OwnedFd) -> Result<(), Failed> {
    process::unshare(UnshareFlags::NEWNET).during("unshare", "N1")?;
    apply(&rules::JOB_SETTINGS)?;
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
