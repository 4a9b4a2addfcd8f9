//! [host] Published ports: the host listens before anything of the sandbox exists.

use crate::cli::output::note;
use crate::cli::problem::Problem;
use crate::net::publish::Publish;
use crate::sandbox::plan::{Plan, Published};
use crate::source::diagnostic::Diagnostic;
use crate::sys::network;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::getsockname;
use std::net::SocketAddr;

/// Ports below this one are for whoever has CAP_NET_BIND_SERVICE: ip(7).
const UNPRIVILEGED: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Listens on the plan's published ports, in their order, and writes those that
/// the kernel chose into the plan, and to stderr.
///
/// # Errors
/// The first port that cannot be had, why, and what to do.
pub fn open(plan: &mut Plan) -> Result<Vec<OwnedFd>, Problem> {
    let published = plan.published.iter_mut();
    published.map(listen).collect()
}

fn listen(Published { publish, why }: &mut Published) -> Result<OwnedFd, Problem> {
    let refused = |errno| refusal(publish, &why.to_string(), errno);
    let listener = network::listener(publish.listens()).map_err(refused)?;
    if publish.host_port == 0 {
        let at = getsockname(&listener).and_then(SocketAddr::try_from);
        publish.host_port = at.map_err(refused)?.port();
        let at = publish.listens();
        note(&format!("cofferdam: {at} leads to port {}", publish.port));
    }
    Ok(listener)
}

fn refusal(publish: &Publish, why: &str, errno: Errno) -> Problem {
    let (address, port) = (publish.address, publish.host_port);
    let (cause, help) = match errno {
        Errno::ADDRINUSE => (
            "is in use on this host".to_owned(),
            format!(
                "`ss -ltnp sport = :{port}` and `cofferdam ps` show by whom; or publish another port, 0 for a free one"
            ),
        ),
        Errno::ACCESS => (
            match std::fs::read_to_string(UNPRIVILEGED) {
                Ok(first) => format!(
                    "is privileged on this host, as all below {} are",
                    first.trim()
                ),
                Err(_) => "is privileged on this host".to_owned(),
            },
            format!(
                "publish a higher port, run as root, or let every user have it: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}"
            ),
        ),
        Errno::ADDRNOTAVAIL => (
            format!("cannot be had: this host has no address {address}"),
            "`ip addr` shows which it has; 0.0.0.0 and [::] are all of them".to_owned(),
        ),
        Errno::AFNOSUPPORT => (
            "cannot be had: this host has no IPv6".to_owned(),
            "publish an IPv4 address".to_owned(),
        ),
        other => (
            format!("cannot be had: {other}"),
            "see ip(7) and tcp(7)".to_owned(),
        ),
    };
    let at = publish.listens();
    Diagnostic::error(format!("publish {publish} ({why}): {at} {cause}"))
        .with_help(help)
        .into()
}
