//! [stage] N0 and N1: rules loaded and read back, listeners, and last the links between both.
//!
//! The first process does all of it. N1 is made by the second process, which
//! hands over a netlink socket that acts there. nft(8) runs while the ids are
//! being mapped; it has CAP_NET_ADMIN over N0, no environment, and reads its
//! rules from sealed memory.

use super::{Context, Failed};
use crate::linux::capability::Capability;
use crate::net::rules::{self, DNS_PORT, GATEWAY, GATEWAY6, JOB, JOB6, RELAY_PORT};
use crate::net::rules::{GATEWAY_LINK, JOB_LINK};
use crate::net::rules::{PREFIX, PREFIX6};
use crate::sandbox::gateway::Dialler;
use crate::sandbox::message::Report;
use crate::sandbox::plan::{Op, Plan};
use crate::sys::netlink::{Family, Netlink, Pair, Refused};
use crate::sys::process::{self, Child, Cloned, exit_now};
use crate::sys::{caps, exec, network, socket};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;
use std::net::IpAddr;

/// Most that is read of what nft says: many times the rules.
const SAID: u64 = 64 << 10;
/// Most bytes of it in a report.
const TOLD: usize = 400;

/// Rules on their way into N0.
pub(super) struct Loading<'a> {
    step: usize,
    nft: Nft,
    ruleset: &'a str,
    ipv6: bool,
    running: Running,
}

/// The program that loads and lists rules.
struct Nft {
    path: String,
    file: OwnedFd,
}

/// One run of it, and the memory it writes to.
struct Running {
    child: Child,
    said: OwnedFd,
}

/// Starts to load the plan's rules into this network namespace; None without a network.
pub(super) fn start(plan: &Plan) -> Result<Option<Loading<'_>>, Failed> {
    let step = plan.steps.iter().enumerate();
    let mut found = step.filter_map(|(index, step)| match &step.op {
        Op::Network { nft, ruleset, ipv6 } => Some((index, nft, ruleset, *ipv6)),
        _ => None,
    });
    match found.next() {
        Some((step, nft, ruleset, ipv6)) => load(step, nft, ruleset, ipv6)
            .map(Some)
            .map_err(|failed| failed.at(step)),
        None => Ok(None),
    }
}

fn load<'a>(step: usize, nft: &str, ruleset: &'a str, ipv6: bool) -> Result<Loading<'a>, Failed> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = openat(CWD, nft, flags, Mode::empty()).during("open", nft)?;
    let nft = Nft {
        path: nft.to_owned(),
        file,
    };
    let running = nft.run(&[c"-f", c"-"], ruleset)?;
    Ok(Loading {
        step,
        nft,
        ruleset,
        ipv6,
        running,
    })
}

impl Loading<'_> {
    /// Everything that is left, in this order: rules read back, settings,
    /// listeners, links. Then the supervisor gets the listeners.
    pub(super) fn finish(self, supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
        let step = self.step;
        self.all(supervisor, stage)
            .map_err(|failed| failed.at(step))
    }

    fn all(self, supervisor: &OwnedFd, stage: &OwnedFd) -> Result<(), Failed> {
        self.nft.wait(self.running)?;
        let listed = self.nft.run(&[c"list", c"ruleset"], "")?;
        let listed = self.nft.wait(listed)?;
        if let Some((loaded, found)) = rules::difference(self.ruleset, &listed) {
            let object = bounded(format!("`{loaded}` reads back as `{found}`"));
            return Err(Errno::BADMSG).during("compare rules", object);
        }
        apply(&rules::GATEWAY_SETTINGS)?;
        apply(if self.ipv6 {
            &rules::GATEWAY_SETTINGS6
        } else {
            &rules::WITHOUT_IPV6
        })?;
        let families = families(self.ipv6);
        let n0 = Netlink::open().during("socket", "netlink")?;
        local_by_mark(&n0, families)?;
        let ipv6 = self.ipv6;
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

impl Nft {
    fn run(&self, arguments: &[&std::ffi::CStr], input: &str) -> Result<Running, Failed> {
        let input = sealed(input).during("memfd_create", "rules")?;
        let said = memfd_create("cofferdam-nft", MemfdFlags::CLOEXEC)
            .during("memfd_create", &self.path)?;
        match process::clone_process(0, false).during("clone", &self.path)? {
            Cloned::Parent(child) => Ok(Running { child, said }),
            Cloned::Child => {
                let argv: Vec<CString> = std::iter::once(c"nft")
                    .chain(arguments.iter().copied())
                    .map(CString::from)
                    .collect();
                let Err(errno) = self.become_nft(&argv, &input, &said);
                let message = format!("cannot be executed: {errno}");
                // Where even this fails, the exit code alone says that it did.
                crate::sys::unheard(rustix::io::write(
                    rustix::stdio::stderr(),
                    message.as_bytes(),
                ));
                exit_now(125)
            }
        }
    }

    fn become_nft(
        &self,
        argv: &[CString],
        input: &OwnedFd,
        said: &OwnedFd,
    ) -> Result<Infallible, Errno> {
        process::die_with_parent()?;
        let (input, said) = (input.as_raw_fd(), said.as_raw_fd());
        process::place(&[(input, 0), (said, 1), (said, 2)])?;
        let file = self.file.try_clone().map_err(|_| Errno::MFILE)?;
        let file = process::keep_only(file)?;
        // Whether or not our uid is mapped by now, exec gives it this one and no other.
        let only = Capability::NET_ADMIN.bit();
        caps::bound(only)?;
        caps::set(only)?;
        caps::carry_over_exec()?;
        process::set_no_new_privileges()?;
        Err(exec::fexecve(file.as_fd(), argv, &[]))
    }

    /// What it said, once it has ended well.
    fn wait(&self, running: Running) -> Result<String, Failed> {
        let ended = process::reap(&running.child.pidfd).during("waitid", &self.path)?;
        rustix::fs::seek(&running.said, rustix::fs::SeekFrom::Start(0))
            .during("lseek", &self.path)?;
        let mut said = Vec::new();
        std::fs::File::from(running.said)
            .take(SAID)
            .read_to_end(&mut said)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .during("read", &self.path)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        if ended == (true, 0) {
            return Ok(said);
        }
        let end = match ended {
            (true, code) => format!("ended with {code}"),
            (false, signal) => format!("was killed by signal {signal}"),
        };
        let object = bounded(format!("{} {end}: {}", self.path, said.trim()));
        Err(Errno::IO).during("execute", object)
    }
}

fn bounded(mut text: String) -> String {
    let end = (0..=TOLD).rev().find(|end| text.is_char_boundary(*end));
    if text.len() > TOLD {
        text.truncate(end.unwrap_or(0));
    }
    text
}

fn sealed(text: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("cofferdam-rules", flags)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&memory, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals)?;
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    Ok(memory)
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
    n0.set_up(gateway).said("RTM_NEWLINK up", GATEWAY_LINK)?;
    n1.set_up(job).said("RTM_NEWLINK up", JOB_LINK)?;
    for family in families {
        n1.add_default(addresses(*family).0)
            .said("RTM_NEWROUTE", "default of N1")?;
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
