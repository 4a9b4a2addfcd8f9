//! [pure] Statements as the expressions of nf_tables, and the attributes that hold them.
//!
//! Sources: include/uapi/linux/netfilter/nf_tables.h, and the dump functions of
//! net/netfilter/nft_*.c: the kernel writes the attributes of an expression in
//! one order, which is the one used here, so that expressions are compared as
//! bytes.

use super::{Discovery, Family, Op, Protocol, Statement};
use core::net::IpAddr;

/// Either family.
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFT_META_MARK: u32 = 3;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_NFPROTO: u32 = 15;
const NFT_META_L4PROTO: u32 = 16;
/// What iifname loads: IFNAMSIZ bytes, the name and zeroes.
const IFNAMSIZ: usize = 16;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
/// Of the source address in the headers of both families.
const IP_SOURCE: u32 = 12;
const IP6_SOURCE: u32 = 8;
const ICMPV6: u8 = 58;
/// Of the type in its header.
const ICMPV6_TYPE: u32 = 0;
/// Of the destination port in the headers of TCP and UDP.
const DESTINATION_PORT: u32 = 2;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

const NFTA_TPROXY_FAMILY: u16 = 1;
const NFTA_TPROXY_REG_PORT: u16 = 3;

const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;

/// struct nlattr, its value, and zeroes to the next multiple of four; all of
/// ours are far shorter than 64 KiB.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Numbers of nf_tables are big-endian.
pub(super) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// What nft(8) makes of each statement, too: only then does it print them as they were.
pub(super) fn expressions(statement: &Statement) -> Vec<Vec<u8>> {
    match statement {
        Statement::Link(op, name) => {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(IFNAMSIZ, 0);
            vec![meta(NFT_META_IIFNAME), compare(*op, &padded)]
        }
        Statement::Family(op, family) => {
            vec![meta(NFT_META_NFPROTO), compare(*op, &[protocol(*family)])]
        }
        Statement::Source(op, address) => source(*op, *address),
        Statement::Protocol(transport) => is_transport(*transport),
        Statement::Port(transport, port) => {
            let mut all = is_transport(*transport);
            all.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2));
            all.push(compare(Op::Eq, &port.to_be_bytes()));
            all
        }
        Statement::Mark(mark) => vec![meta(NFT_META_MARK), compare(Op::Eq, &mark.to_ne_bytes())],
        Statement::Neighbour(message) => neighbour(*message),
        Statement::Tproxy(family, port) => vec![
            load(&port.to_be_bytes()),
            expression(
                "tproxy",
                &[
                    number(
                        NFTA_TPROXY_FAMILY,
                        family.map_or(NFPROTO_UNSPEC, protocol).into(),
                    ),
                    number(NFTA_TPROXY_REG_PORT, NFT_REG_1),
                ],
            ),
        ],
        Statement::SetMark(mark) => vec![
            load(&mark.to_ne_bytes()),
            expression(
                "meta",
                &[
                    number(NFTA_META_KEY, NFT_META_MARK),
                    number(NFTA_META_SREG, NFT_REG_1),
                ],
            ),
        ],
        Statement::Accept => vec![verdict(NF_ACCEPT)],
        Statement::Drop => vec![verdict(NF_DROP)],
        Statement::Reject => vec![expression(
            "reject",
            &[
                number(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH),
                attribute(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_PORT_UNREACH]),
            ],
        )],
    }
}

/// The header is only where it is looked for in packets of this family.
fn source(op: Op, address: IpAddr) -> Vec<Vec<u8>> {
    let (at, octets) = match address {
        IpAddr::V4(address) => (IP_SOURCE, address.octets().to_vec()),
        IpAddr::V6(address) => (IP6_SOURCE, address.octets().to_vec()),
    };
    vec![
        meta(NFT_META_NFPROTO),
        compare(Op::Eq, &[protocol(Family::of(address))]),
        payload(NFT_PAYLOAD_NETWORK_HEADER, at, octets.len() as u32),
        compare(op, &octets),
    ]
}

fn neighbour(message: Discovery) -> Vec<Vec<u8>> {
    let kind = match message {
        Discovery::Solicit => 135,
        Discovery::Advert => 136,
    };
    vec![
        meta(NFT_META_NFPROTO),
        compare(Op::Eq, &[NFPROTO_IPV6]),
        meta(NFT_META_L4PROTO),
        compare(Op::Eq, &[ICMPV6]),
        payload(NFT_PAYLOAD_TRANSPORT_HEADER, ICMPV6_TYPE, 1),
        compare(Op::Eq, &[kind]),
    ]
}

fn is_transport(transport: Protocol) -> Vec<Vec<u8>> {
    let number = match transport {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    vec![meta(NFT_META_L4PROTO), compare(Op::Eq, &[number])]
}

fn protocol(family: Family) -> u8 {
    match family {
        Family::Ip => NFPROTO_IPV4,
        Family::Ip6 => NFPROTO_IPV6,
    }
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let fields = [
        attribute(NFTA_EXPR_NAME, &string(name)),
        attribute(NFTA_EXPR_DATA, &attributes.concat()),
    ];
    attribute(NFTA_LIST_ELEM, &fields.concat())
}

fn meta(key: u32) -> Vec<u8> {
    let fields = [
        number(NFTA_META_KEY, key),
        number(NFTA_META_DREG, NFT_REG_1),
    ];
    expression("meta", &fields)
}

fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let fields = [
        number(NFTA_PAYLOAD_DREG, NFT_REG_1),
        number(NFTA_PAYLOAD_BASE, base),
        number(NFTA_PAYLOAD_OFFSET, offset),
        number(NFTA_PAYLOAD_LEN, length),
    ];
    expression("payload", &fields)
}

fn compare(op: Op, value: &[u8]) -> Vec<u8> {
    let op = match op {
        Op::Eq => NFT_CMP_EQ,
        Op::Neq => NFT_CMP_NEQ,
    };
    let fields = [
        number(NFTA_CMP_SREG, NFT_REG_1),
        number(NFTA_CMP_OP, op),
        attribute(NFTA_CMP_DATA, &attribute(NFTA_DATA_VALUE, value)),
    ];
    expression("cmp", &fields)
}

fn load(value: &[u8]) -> Vec<u8> {
    let fields = [
        number(NFTA_IMMEDIATE_DREG, NFT_REG_1),
        attribute(NFTA_IMMEDIATE_DATA, &attribute(NFTA_DATA_VALUE, value)),
    ];
    expression("immediate", &fields)
}

fn verdict(code: u32) -> Vec<u8> {
    let verdict = attribute(NFTA_DATA_VERDICT, &number(NFTA_VERDICT_CODE, code));
    let fields = [
        number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT),
        attribute(NFTA_IMMEDIATE_DATA, &verdict),
    ];
    expression("immediate", &fields)
}
