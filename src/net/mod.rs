//! [pure] Networking: what a job may reach, decided outside of everything it can touch.

pub mod budget;
pub mod decide;
pub mod dns;
pub mod edge;
pub mod grant;
pub mod http;
pub mod nft;
mod octets;
pub mod pool;
pub mod publish;
pub mod record;
pub mod rules;
pub mod special;
pub mod suffix;
pub mod tls;

use core::net::{Ipv4Addr, Ipv6Addr};

/// Address of the gateway's end of the pair that joins N0 and N1.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 1);
/// Address of the job's end.
pub const JOB: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 2);
/// Prefix length of that pair.
pub const PREFIX: u8 = 30;
/// IPv6 address of the gateway's end: of a unique local prefix (RFC 4193) that is ours alone,
/// and means something between one job and its gateway only.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfdc0, 0xffda, 7, 0, 0, 0, 0, 1);
/// IPv6 address of the job's end.
pub const JOB6: Ipv6Addr = Ipv6Addr::new(0xfdc0, 0xffda, 7, 0, 0, 0, 0, 2);
/// Prefix length of that pair.
pub const PREFIX6: u8 = 126;
/// Port in N0 to which every TCP connection of the job is handed.
pub const RELAY_PORT: u16 = 40443;
/// Port in N0 to which every DNS query of the job is handed, UDP and TCP. An
/// answer over UDP leaves by the socket that got the query, so it must be 53.
pub const DNS_PORT: u16 = 53;
