//! [pure] Asking the kernel where a packet would go: rtnetlink(7), RTM_GETROUTE.
//!
//! The question asks for the entry that matches (RTM_F_FIB_MATCH, 4.13), since a
//! resolved answer always has prefix 32. Numbers: include/uapi/linux/rtnetlink.h.

use core::net::Ipv4Addr;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const AF_INET: u8 = 2;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_MULTICAST: u8 = 5;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct rtmsg`.
const ROUTE: usize = 12;
/// `struct rtnexthop`.
const HOP: usize = 8;

/// Bytes of a question.
pub const QUESTION: usize = HEADER + ROUTE + 8;

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a router, whichever prefix matches.
    Gateway,
    /// By the default route, without a router: a point-to-point link.
    Default,
    /// To a neighbour on a link of this host.
    Link,
    /// To this host itself.
    Local,
    /// To many: broadcast or multicast.
    Many,
    /// Nowhere: no route, or one that refuses.
    Nowhere,
}

/// A question about one address.
pub fn question(sequence: u32, address: Ipv4Addr) -> [u8; QUESTION] {
    let mut out = [0; QUESTION];
    out[0..4].copy_from_slice(&(QUESTION as u32).to_ne_bytes());
    out[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
    out[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    out[8..12].copy_from_slice(&sequence.to_ne_bytes());
    out[16] = AF_INET;
    out[17] = 32;
    out[24..28].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    out[28..30].copy_from_slice(&8u16.to_ne_bytes());
    out[30..32].copy_from_slice(&RTA_DST.to_ne_bytes());
    out[32..36].copy_from_slice(&address.octets());
    out
}

/// What the kernel answered; None for what is no answer to `sequence`.
///
/// Any error is [`Route::Nowhere`]: blackhole, prohibit and unreachable routes
/// and a missing route answer with an errno.
pub fn answer(sequence: u32, message: &[u8]) -> Option<Route> {
    let kind = u16_at(message, 4)?;
    if u32_at(message, 8)? != sequence {
        return None;
    }
    let length = usize::try_from(u32_at(message, 0)?).ok()?;
    let message = message.get(..length)?;
    match kind {
        NLMSG_ERROR => Some(Route::Nowhere),
        RTM_NEWROUTE => route(message.get(HEADER..)?),
        _ => None,
    }
}

fn route(message: &[u8]) -> Option<Route> {
    let prefix = *message.get(1)?;
    let routed = routed(message.get(ROUTE..)?);
    Some(match *message.get(7)? {
        RTN_UNICAST if routed => Route::Gateway,
        RTN_UNICAST if prefix == 0 => Route::Default,
        RTN_UNICAST => Route::Link,
        RTN_LOCAL => Route::Local,
        RTN_BROADCAST | RTN_MULTICAST => Route::Many,
        _ => Route::Nowhere,
    })
}

/// Whether every hop there is has a gateway.
fn routed(attributes: &[u8]) -> bool {
    Attributes(attributes).any(|(kind, value)| match kind {
        RTA_GATEWAY | RTA_VIA => true,
        RTA_MULTIPATH => hops_routed(value),
        _ => false,
    })
}

fn hops_routed(mut hops: &[u8]) -> bool {
    let mut any = false;
    while !hops.is_empty() {
        let Some(length) = u16_at(hops, 0).map(usize::from) else {
            return false;
        };
        let Some(attributes) = hops.get(HOP..length) else {
            return false;
        };
        if !routed(attributes) {
            return false;
        }
        any = true;
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    any
}

/// `struct rtattr` one after the other; ends at the first that does not fit.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)?;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn message(kind: u8, prefix: u8, attributes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER + ROUTE];
        out.extend(attributes);
        let length = out.len() as u32;
        out[0..4].copy_from_slice(&length.to_ne_bytes());
        out[4..6].copy_from_slice(&RTM_NEWROUTE.to_ne_bytes());
        out[8..12].copy_from_slice(&7u32.to_ne_bytes());
        out[17] = prefix;
        out[23] = kind;
        out
    }

    fn hop(attributes: &[u8]) -> Vec<u8> {
        let mut out = ((HOP + attributes.len()) as u16).to_ne_bytes().to_vec();
        out.resize(HOP, 0);
        out.extend(attributes);
        out
    }

    #[test]
    fn a_route_is_told_by_type_gateway_and_prefix() {
        let gateway = attribute(RTA_GATEWAY, &[10, 0, 0, 1]);
        let said = |kind, prefix, attributes: &[u8]| answer(7, &message(kind, prefix, attributes));
        assert_eq!(said(1, 0, &gateway), Some(Route::Gateway));
        assert_eq!(said(1, 24, &gateway), Some(Route::Gateway));
        assert_eq!(said(1, 0, &[]), Some(Route::Default));
        assert_eq!(said(1, 24, &[]), Some(Route::Link));
        assert_eq!(said(2, 32, &gateway), Some(Route::Local));
        assert_eq!(said(3, 32, &[]), Some(Route::Many));
        assert_eq!(said(5, 4, &[]), Some(Route::Many));
        assert_eq!(said(6, 8, &gateway), Some(Route::Nowhere));
        assert_eq!(answer(8, &message(1, 0, &gateway)), None);
    }

    #[test]
    fn of_several_hops_each_needs_a_gateway() {
        let gateway = hop(&attribute(RTA_GATEWAY, &[10, 0, 0, 1]));
        let both = attribute(RTA_MULTIPATH, &[gateway.clone(), gateway.clone()].concat());
        let one = attribute(RTA_MULTIPATH, &[gateway, hop(&[])].concat());
        assert_eq!(answer(7, &message(1, 8, &both)), Some(Route::Gateway));
        assert_eq!(answer(7, &message(1, 8, &one)), Some(Route::Link));
        let torn = attribute(RTA_MULTIPATH, &[9, 0, 0]);
        assert_eq!(answer(7, &message(1, 8, &torn)), Some(Route::Link));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, at in 0usize..60, byte: u8) {
            let _ = answer(0, &bytes);
            let mut torn = message(1, 8, &attribute(RTA_MULTIPATH, &hop(&attribute(RTA_GATEWAY, &[1; 4]))));
            if let Some(place) = torn.get_mut(at) {
                *place = byte;
            }
            let _ = answer(7, &torn);
        }
    }
}
