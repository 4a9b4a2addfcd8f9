//! [pure] Destinations that were refused to a job, and the flag that would allow each.

use super::remedy::Remedy;
use crate::event::{Event, Kind};
use crate::net::DNS_PORT;
use crate::net::decide::Reason as Decided;
use crate::net::record::{Obstacle, Reason};
use serde::Serialize;

/// A destination that was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// `NAME`, `NAME:PORT` or `ADDRESS:PORT`.
    pub to: String,
    /// How often.
    pub times: u64,
    /// Why.
    pub reason: String,
    /// What would change it.
    pub remedy: Remedy,
}

/// All that the edge refused, the most frequent first.
pub fn refused(events: &[Event]) -> Vec<Destination> {
    let mut list: Vec<Destination> = Vec::new();
    for event in events {
        let Kind::NetworkRefused {
            name,
            address,
            port,
            reason,
            count,
        } = &event.kind
        else {
            continue;
        };
        let mut one = destination(name.as_deref(), address.as_deref(), *port, *reason);
        one.times = *count;
        let same = |have: &&mut Destination| (&have.to, &have.reason) == (&one.to, &one.reason);
        match list.iter_mut().find(same) {
            Some(have) => have.times = have.times.saturating_add(one.times),
            None => list.push(one),
        }
    }
    list.sort_by_key(|destination| std::cmp::Reverse(destination.times));
    list
}

fn destination(
    name: Option<&str>,
    address: Option<&str>,
    port: u16,
    reason: Reason,
) -> Destination {
    let to = match (name, address) {
        // Only asked for, by DNS: the port is not known yet.
        (Some(name), None) if port == DNS_PORT => name.to_owned(),
        (None, Some(host)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), _) | (None, Some(host)) => format!("{host}:{port}"),
        (None, None) => format!("port {port}"),
    };
    Destination {
        remedy: remedy(&to, address, port, reason),
        to,
        times: 1,
        reason: reason.text().to_owned(),
    }
}

fn remedy(to: &str, address: Option<&str>, port: u16, reason: Reason) -> Remedy {
    let advice = |text: &str| Remedy::Advice(text.to_owned());
    match reason {
        Reason::Decided(Decided::NotGranted | Decided::Port) => {
            Remedy::policy(format!("--allow {to}"), RISK)
        }
        Reason::Decided(Decided::Special) | Reason::Met(Obstacle::Neighbour) => match address {
            Some(address) if address.contains(':') => {
                Remedy::policy(format!("--allow [{address}]:{port}"), LOCAL)
            }
            Some(address) => Remedy::policy(format!("--allow {address}:{port}"), LOCAL),
            None => Remedy::None,
        },
        Reason::Decided(Decided::HelloName | Decided::HelloWithoutName) => {
            advice("the name that is dialled has to be the one in the TLS client hello")
        }
        Reason::Decided(Decided::RequestHost) => {
            advice("the name that is dialled has to be the Host of each request")
        }
        Reason::Decided(Decided::NotTls | Decided::Hello | Decided::Request) => {
            advice("proto = \"raw\" of the grant leaves its connections unread")
        }
        Reason::Decided(Decided::Connections | Decided::Rate | Decided::PoolFull) => {
            advice("raise the limits of [network], or ask less often")
        }
        Reason::Decided(Decided::Depth | Decided::Names) => {
            advice("name the hosts in the policy: only names below a wildcard have this limit")
        }
        Reason::Decided(Decided::NoName) => advice("resolve the name again"),
        Reason::Met(Obstacle::ThisHost) => Remedy::None,
        Reason::Met(Obstacle::NoRoute | Obstacle::NoAddress | Obstacle::Unreachable) => {
            advice("see whether the host itself reaches it")
        }
        Reason::Met(Obstacle::Silent) => {
            advice("a protocol in which the server speaks first needs proto = \"raw\"")
        }
        Reason::Met(Obstacle::Descriptors) => advice("raise the caller's limit of open files"),
    }
}

const RISK: &str = "whatever the job reads can be sent there";
const LOCAL: &str = "the job reaches a machine that is no public server, as the host does";

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: Option<&str>, address: Option<&str>, port: u16, reason: Reason) -> Event {
        Event {
            seq: 0,
            time: String::new(),
            kind: Kind::NetworkRefused {
                name: name.map(str::to_owned),
                address: address.map(str::to_owned),
                port,
                reason,
                count: 1,
            },
        }
    }

    #[test]
    fn each_destination_comes_once_with_its_flag() {
        let not_granted = Reason::Decided(Decided::NotGranted);
        let own = Reason::Met(Obstacle::ThisHost);
        let events = [
            event(None, Some("192.168.0.1"), 22, own),
            event(Some("a.example"), None, DNS_PORT, not_granted),
            event(Some("a.example"), None, DNS_PORT, not_granted),
            event(None, Some("1.1.1.1"), 853, not_granted),
        ];
        let list = refused(&events);
        let shown: Vec<(&str, u64)> = list
            .iter()
            .map(|one| (one.to.as_str(), one.times))
            .collect();
        assert_eq!(
            shown,
            [("a.example", 2), ("192.168.0.1:22", 1), ("1.1.1.1:853", 1)]
        );
        assert_eq!(list[0].remedy, Remedy::policy("--allow a.example", RISK));
        assert_eq!(list[1].remedy, Remedy::None);
    }
}
