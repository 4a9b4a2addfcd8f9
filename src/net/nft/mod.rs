//! [pure] A small part of nf_tables as values: one table, its chains and rules, and their text as nft(8) prints it.
//!
//! Each [`Statement`] is one phrase of that text and a few of the kernel's
//! expressions (`expression`): what people read and what the kernel is sent have
//! one source.

mod expression;
pub mod message;

use core::fmt;
use core::net::IpAddr;

/// A table of the inet family, which sees IPv4 and IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// In the order in which they are made.
    pub chains: Vec<Chain>,
}

/// A base chain of type filter: what no rule decides is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where the kernel calls it.
    pub hook: Hook,
    /// When, among the chains of one hook.
    pub priority: Priority,
    /// Asked in their order.
    pub rules: Vec<Rule>,
}

/// Statements, each asked only where those before it hold.
pub type Rule = Vec<Statement>;

/// enum nf_inet_hooks of include/uapi/linux/netfilter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Everything that arrives, before it is routed.
    Prerouting,
    /// What is for this network namespace.
    Input,
    /// What is for somebody else.
    Forward,
}

/// enum nf_ip_hook_priorities of include/uapi/linux/netfilter_ipv4.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// -150.
    Mangle,
    /// 0.
    Filter,
}

/// Family of a packet's network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A message by which neighbours on a link find each other (RFC 4861 §4.3, §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Who has this address?
    Solicit,
    /// I have.
    Advert,
}

/// How a packet is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is the same.
    Eq,
    /// It is another.
    Neq,
}

/// One phrase of a rule: a comparison that has to hold, or something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Name of the link on which it arrived.
    Link(Op, &'static str),
    /// Family of its network header.
    Family(Op, Family),
    /// Its source address; holds for no packet of the other family.
    Source(Op, IpAddr),
    /// Its transport protocol.
    Protocol(Protocol),
    /// Its protocol and destination port.
    Port(Protocol, u16),
    /// Its mark.
    Mark(u32),
    /// It is a message of ICMPv6 about neighbours.
    Neighbour(Discovery),
    /// Given to the socket of this network namespace that listens on this port; packets
    /// of one family, or of both.
    Tproxy(Option<Family>, u16),
    /// Marks it.
    SetMark(u32),
    /// No other rule of the hook's chain is asked.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and ICMP says to its sender that the port is unreachable.
    Reject,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ip,
            IpAddr::V6(_) => Self::Ip6,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// As `nft list ruleset` prints it, where it is all there is.
impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "table inet {} {{", self.name)?;
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{chain}")?;
        }
        writeln!(out, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hook, priority) = (self.hook, self.priority);
        writeln!(out, "\tchain {} {{", self.name)?;
        writeln!(
            out,
            "\t\ttype filter hook {hook} priority {priority}; policy drop;"
        )?;
        for rule in &self.rules {
            writeln!(out, "\t\t{}", text(rule))?;
        }
        writeln!(out, "\t}}")
    }
}

/// The text of one rule.
pub fn text(rule: &Rule) -> String {
    let words: Vec<String> = rule.iter().map(Statement::to_string).collect();
    words.join(" ")
}

impl fmt::Display for Statement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(op, name) => write!(out, "iifname {op}\"{name}\""),
            Self::Family(op, Family::Ip) => write!(out, "meta nfproto {op}ipv4"),
            Self::Family(op, Family::Ip6) => write!(out, "meta nfproto {op}ipv6"),
            Self::Source(op, address) => {
                write!(out, "{} saddr {op}{address}", Family::of(*address).word())
            }
            Self::Protocol(protocol) => write!(out, "meta l4proto {protocol}"),
            Self::Port(protocol, port) => write!(out, "{protocol} dport {port}"),
            Self::Mark(mark) => write!(out, "meta mark 0x{mark:08x}"),
            Self::Neighbour(message) => write!(out, "icmpv6 type {message}"),
            Self::Tproxy(Some(family), port) => write!(out, "tproxy {} to :{port}", family.word()),
            Self::Tproxy(None, port) => write!(out, "tproxy to :{port}"),
            Self::SetMark(mark) => write!(out, "meta mark set 0x{mark:08x}"),
            Self::Accept => write!(out, "accept"),
            Self::Drop => write!(out, "drop"),
            Self::Reject => write!(out, "reject"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eq => Ok(()),
            Self::Neq => write!(out, "!= "),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
        })
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Mangle => "mangle",
            Self::Filter => "filter",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Solicit => "nd-neighbor-solicit",
            Self::Advert => "nd-neighbor-advert",
        })
    }
}
