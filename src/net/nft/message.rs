//! [pure] A table as the messages of nf_tables, and whether the kernel's dump is that table and nothing else.
//!
//! Sources: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h,
//! net/netfilter/nf_tables_api.c.

use super::expression::{NF_DROP, attribute, expressions, number, string};
use super::{Chain, Hook, Priority, Rule, Table, text};

/// What nf_tables holds. Each is dumped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tables.
    Table,
    /// Chains.
    Chain,
    /// Rules.
    Rule,
    /// Sets and maps. We have none.
    Set,
    /// Stateful objects: counters, quotas … We have none.
    Object,
    /// Flow tables. We have none.
    Flowtable,
}

/// All there are.
pub const KINDS: [Kind; 6] = [
    Kind::Table,
    Kind::Chain,
    Kind::Rule,
    Kind::Set,
    Kind::Object,
    Kind::Flowtable,
];

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
/// struct nfgenmsg.
const FAMILY_HEADER: usize = 4;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USE: u16 = 3;
const NFTA_TABLE_HANDLE: u16 = 4;
const NFTA_TABLE_PAD: u16 = 5;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_HANDLE: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_CHAIN_PAD: u16 = 9;
const NFTA_CHAIN_FLAGS: u16 = 10;
const NFT_CHAIN_BASE: u32 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_INET_FORWARD: u32 = 2;

const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_POSITION: u16 = 6;
const NFTA_RULE_PAD: u16 = 8;

impl Kind {
    /// NFT_MSG_NEW*; NFT_MSG_GET* is the next number.
    fn made(self) -> u16 {
        match self {
            Self::Table => 0,
            Self::Chain => 3,
            Self::Rule => 6,
            Self::Set => 9,
            Self::Object => 18,
            Self::Flowtable => 22,
        }
    }

    fn flags(self) -> u16 {
        match self {
            Self::Rule => NLM_F_CREATE | NLM_F_APPEND,
            _ => NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// An attribute that the kernel adds, and that says nothing of what a packet meets.
    fn adds(self, (kind, value): &Attribute) -> bool {
        match self {
            Self::Table => [NFTA_TABLE_USE, NFTA_TABLE_HANDLE, NFTA_TABLE_PAD].contains(kind),
            Self::Chain => {
                [NFTA_CHAIN_HANDLE, NFTA_CHAIN_USE, NFTA_CHAIN_PAD].contains(kind)
                    || (*kind == NFTA_CHAIN_FLAGS && **value == NFT_CHAIN_BASE.to_be_bytes())
            }
            Self::Rule => [NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_PAD].contains(kind),
            Self::Set | Self::Object | Self::Flowtable => false,
        }
    }
}

/// Its type and its bytes.
type Attribute = (u16, Vec<u8>);

/// A table, chain or rule as it is sent.
struct Entry {
    kind: Kind,
    text: String,
    attributes: Vec<Attribute>,
}

/// Everything that makes a table, in one transaction: all of it, or nothing.
/// The last rule, or what is last, is acknowledged.
pub fn batch(table: &Table) -> Vec<u8> {
    let entries = entries(table);
    let last = entries.len().saturating_sub(1);
    let mut bytes = message(NFNL_MSG_BATCH_BEGIN, 0, NFPROTO_UNSPEC, &[]);
    for (index, entry) in entries.iter().enumerate() {
        let ack = if index == last { NLM_F_ACK } else { 0 };
        let (kind, flags) = (subsystem(entry.kind.made()), entry.kind.flags() | ack);
        bytes.extend(message(kind, flags, NFPROTO_INET, &entry.attributes));
    }
    bytes.extend(message(NFNL_MSG_BATCH_END, 0, NFPROTO_UNSPEC, &[]));
    bytes
}

/// Asks for all there is of one kind, in every table of every family.
pub fn dump(kind: Kind) -> Vec<u8> {
    message(subsystem(kind.made() + 1), NLM_F_DUMP, NFPROTO_UNSPEC, &[])
}

/// Asks for the number of the generation, which every transaction changes.
pub fn get_generation() -> Vec<u8> {
    message(subsystem(NFT_MSG_GETGEN), NLM_F_ACK, NFPROTO_UNSPEC, &[])
}

/// That number, from the answer.
pub fn generation(answer: &[u8]) -> Option<u32> {
    let (received, rest) = first(answer)?;
    let expected = received.kind == subsystem(NFT_MSG_NEWGEN) && rest.is_empty();
    let mut found = received.attributes.into_iter();
    let (_, value) = found.find(|(kind, _)| expected && *kind == NFTA_GEN_ID)?;
    Some(u32::from_be_bytes(<[u8; 4]>::try_from(value).ok()?))
}

/// In what the dump of one kind is not this table, in words; None where it is
/// exactly what was sent.
pub fn difference(table: &Table, kind: Kind, dump: &[u8]) -> Option<String> {
    let mut rest = dump;
    for sent in entries(table) {
        if sent.kind != kind {
            continue;
        }
        if rest.is_empty() {
            return Some(format!("`{}` is missing", sent.text));
        }
        let read = first(rest);
        let Some((_, after)) = read.filter(|(found, _)| found.is(&sent)) else {
            return Some(format!("`{}` reads back as something else", sent.text));
        };
        rest = after;
    }
    let more = format!("{kind:?} that was not loaded").to_lowercase();
    (!rest.is_empty()).then_some(more)
}

/// One message of a dump.
struct Received {
    kind: u16,
    family: u8,
    attributes: Vec<Attribute>,
}

impl Received {
    fn is(&self, sent: &Entry) -> bool {
        let mut found: Vec<&Attribute> = self.attributes.iter().collect();
        found.retain(|attribute| !sent.kind.adds(attribute));
        let mut expected: Vec<&Attribute> = sent.attributes.iter().collect();
        found.sort_by_key(|(kind, _)| *kind);
        expected.sort_by_key(|(kind, _)| *kind);
        self.kind == subsystem(sent.kind.made()) && self.family == NFPROTO_INET && found == expected
    }
}

/// The first of these messages, and what follows it.
fn first(bytes: &[u8]) -> Option<(Received, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
    let message = bytes.get(..length)?;
    let mut rest = message.get(HEADER + FAMILY_HEADER..)?;
    let mut attributes = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(short(rest, 0)?);
        attributes.push((short(rest, 2)?, rest.get(4..length)?.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    let received = Received {
        kind: short(message, 4)?,
        family: *message.get(HEADER)?,
        attributes,
    };
    Some((received, bytes.get(length.next_multiple_of(4)..)?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*two))
}

fn subsystem(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// nlmsghdr, nfgenmsg, attributes. What begins and ends a batch names its subsystem.
fn message(kind: u16, flags: u16, family: u8, attributes: &[Attribute]) -> Vec<u8> {
    let batch = [NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END].contains(&kind);
    let [high, low] = if batch { NFNL_SUBSYS_NFTABLES } else { 0 }.to_be_bytes();
    let mut body = vec![family, 0, high, low];
    for (kind, value) in attributes {
        body.extend(attribute(*kind, value));
    }
    let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

fn entries(table: &Table) -> Vec<Entry> {
    let mut entries = vec![Entry {
        kind: Kind::Table,
        text: format!("table inet {}", table.name),
        attributes: vec![
            (NFTA_TABLE_NAME, string(table.name)),
            (NFTA_TABLE_FLAGS, 0u32.to_be_bytes().into()),
        ],
    }];
    entries.extend(table.chains.iter().map(|chain| chain_entry(table, chain)));
    for chain in &table.chains {
        let rules = chain.rules.iter();
        entries.extend(rules.map(|rule| rule_entry(table, chain, rule)));
    }
    entries
}

fn chain_entry(table: &Table, chain: &Chain) -> Entry {
    let hook = match chain.hook {
        Hook::Prerouting => NF_INET_PRE_ROUTING,
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
    };
    let priority: i32 = match chain.priority {
        Priority::Mangle => -150,
        Priority::Filter => 0,
    };
    let hook = [
        number(NFTA_HOOK_HOOKNUM, hook),
        number(NFTA_HOOK_PRIORITY, priority.cast_unsigned()),
    ];
    Entry {
        kind: Kind::Chain,
        text: format!("chain {}", chain.name),
        attributes: vec![
            (NFTA_CHAIN_TABLE, string(table.name)),
            (NFTA_CHAIN_NAME, string(chain.name)),
            (NFTA_CHAIN_HOOK, hook.concat()),
            (NFTA_CHAIN_POLICY, NF_DROP.to_be_bytes().into()),
            (NFTA_CHAIN_TYPE, string("filter")),
        ],
    }
}

fn rule_entry(table: &Table, chain: &Chain, rule: &Rule) -> Entry {
    let expressions: Vec<Vec<u8>> = rule.iter().flat_map(expressions).collect();
    Entry {
        kind: Kind::Rule,
        text: text(rule),
        attributes: vec![
            (NFTA_RULE_TABLE, string(table.name)),
            (NFTA_RULE_CHAIN, string(chain.name)),
            (NFTA_RULE_EXPRESSIONS, expressions.concat()),
        ],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stderr, reason = "a skip is counted by its line")]

    use super::super::Statement::{Accept, Link, Mark, Port, Reject, Source, Tproxy};
    use super::super::{Family, Op, Protocol, Statement};
    use super::*;
    use crate::net::rules;
    use crate::sys::nfnetlink::Nfnetlink;
    use proptest::prelude::*;
    use rustix::io::Errno;
    use std::process::Command;

    /// A network namespace of this thread's own with a table in it, which takes root's rights.
    fn loaded(table: &Table) -> Option<Nfnetlink> {
        let unshared = crate::sys::process::unshare(rustix::thread::UnshareFlags::NEWNET);
        if unshared == Err(Errno::PERM) {
            eprintln!("SKIP rules of a namespace: the tester is not root");
            return None;
        }
        let socket = Nfnetlink::open().unwrap();
        assert_eq!(socket.ask(&batch(table)), Ok(Vec::new()));
        Some(socket)
    }

    fn found(socket: &Nfnetlink, table: &Table) -> Vec<String> {
        let dumped = |kind| difference(table, kind, &socket.ask(&dump(kind)).unwrap());
        KINDS.into_iter().filter_map(dumped).collect()
    }

    /// What nft(8) says in this thread's namespace; None where it is not installed.
    fn nft(arguments: &str) -> Option<String> {
        let words = arguments.split(' ');
        let ran = Command::new("nft").args(words).output();
        if ran
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            eprintln!("SKIP rules beside nft: nft is not installed");
            return None;
        }
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{arguments}: {said}");
        Some(String::from_utf8(ran.stdout).unwrap())
    }

    /// A table with every statement there is.
    fn every_statement() -> Table {
        let mut table = rules::table(true);
        let v6 = "fe80::7:2".parse().unwrap();
        let v4 = "10.1.2.3".parse().unwrap();
        let Some(chain) = table.chains.first_mut() else {
            return table;
        };
        chain.rules.extend([
            vec![Link(Op::Eq, "job"), Port(Protocol::Udp, 65535), Reject],
            vec![Statement::Family(Op::Eq, Family::Ip6), Accept],
            vec![Source(Op::Neq, v6), Statement::Drop],
            vec![Source(Op::Eq, v4), Mark(7), Accept],
            vec![Port(Protocol::Tcp, 1), Tproxy(Some(Family::Ip), 2)],
            vec![
                Statement::Protocol(Protocol::Udp),
                Tproxy(Some(Family::Ip6), 40443),
                Statement::SetMark(0xffff_0001),
                Accept,
            ],
        ]);
        table
    }

    #[test]
    fn nft_prints_what_was_loaded_as_its_text() {
        for table in [rules::table(false), rules::table(true), every_statement()] {
            let Some(socket) = loaded(&table) else { return };
            assert_eq!(found(&socket, &table), Vec::<String>::new());
            let Some(listed) = nft("list ruleset") else {
                return;
            };
            assert_eq!(listed, table.to_string());
        }
    }

    #[test]
    fn nft_makes_the_same_expressions_of_the_text() {
        let table = every_statement();
        if loaded(&table).is_none() || nft("flush ruleset").is_none() {
            return;
        }
        let path = std::env::temp_dir().join(format!("cofferdam-rules-{}", std::process::id()));
        std::fs::write(&path, table.to_string()).unwrap();
        nft(&format!("-f {}", path.to_str().unwrap())).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            found(&Nfnetlink::open().unwrap(), &table),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_way_to_be_another_ruleset_is_found() {
        let table = rules::table(true);
        for (change, says) in [
            ("add table ip more", "table that was not loaded"),
            (
                "add table inet cofferdam { flags dormant; }",
                "`table inet cofferdam` reads",
            ),
            ("add chain inet cofferdam more", "chain that was not loaded"),
            (
                "add chain inet cofferdam input { policy accept; }",
                "`chain input` reads back as something else",
            ),
            (
                "add rule inet cofferdam forward accept",
                "rule that was not loaded",
            ),
            (
                "insert rule inet cofferdam prerouting accept",
                "`iifname != \"job\" drop` reads back as something else",
            ),
            (
                "flush chain inet cofferdam input",
                "`icmpv6 type nd-neighbor-solicit accept` is missing",
            ),
            (
                "delete table inet cofferdam",
                "`table inet cofferdam` is missing",
            ),
            (
                "add set inet cofferdam more { type mark; }",
                "set that was not loaded",
            ),
            (
                "add counter inet cofferdam more",
                "object that was not loaded",
            ),
        ] {
            let Some(socket) = loaded(&table) else { return };
            let generation = || generation(&socket.ask(&get_generation()).unwrap()).unwrap();
            let before = generation();
            if nft(change).is_none() {
                return;
            }
            assert!(generation() > before, "{change}");
            let found = found(&socket, &table).join("; ");
            assert!(found.contains(says), "{change}: {found}");
        }
    }

    #[test]
    fn a_table_is_made_whole_or_not_at_all() {
        let table = rules::table(true);
        let Some(socket) = loaded(&table) else { return };
        let again = Nfnetlink::open().unwrap().ask(&batch(&table)).unwrap_err();
        assert_eq!(again.errno, Errno::EXIST);
        assert_eq!(found(&socket, &table), Vec::<String>::new());
        let mut wrong = rules::table(true);
        wrong.name = "other";
        if let Some(chain) = wrong.chains.last_mut() {
            let rule = vec![
                Statement::Protocol(Protocol::Tcp),
                Tproxy(Some(Family::Ip), 1),
            ];
            chain.rules.push(rule);
        }
        // tproxy works where packets arrive, and nowhere else.
        let refused = Nfnetlink::open().unwrap().ask(&batch(&wrong)).unwrap_err();
        assert_eq!(refused.errno, Errno::OPNOTSUPP);
        assert_eq!(found(&socket, &table), Vec::<String>::new());
    }

    #[test]
    fn what_is_sent_reads_back_and_no_other_bytes_do() {
        let table = rules::table(true);
        let messages = |wanted: Kind| -> Vec<u8> {
            let sent = entries(&table);
            let sent = sent.iter().filter(|entry| entry.kind == wanted);
            sent.flat_map(|entry| {
                let kind = subsystem(wanted.made());
                message(kind, 0, NFPROTO_INET, &entry.attributes)
            })
            .collect()
        };
        for kind in KINDS {
            let sent = messages(kind);
            assert_eq!(difference(&table, kind, &sent), None);
            for at in 0..sent.len() {
                assert!(difference(&table, kind, &sent[..at]).is_some());
            }
        }
        // Of a message only flags, sequence, sender and resource are not compared.
        let sent = messages(Kind::Table);
        for at in (0..6)
            .chain(HEADER..HEADER + 1)
            .chain(HEADER + 4..sent.len())
        {
            let mut other = sent.clone();
            other[at] ^= 1;
            let padding = at == HEADER + 4 + 14 || at == HEADER + 4 + 15;
            assert_eq!(
                difference(&table, Kind::Table, &other).is_none(),
                padding,
                "{at}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_dump_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let table = rules::table(true);
            for kind in KINDS {
                let found = difference(&table, kind, &bytes);
                let nothing = bytes.is_empty() && entries(&table).iter().all(|entry| entry.kind != kind);
                prop_assert_eq!(found.is_none(), nothing);
            }
            if let Some(number) = generation(&bytes) {
                prop_assert!(bytes.windows(4).any(|four| four == number.to_be_bytes()));
            }
        }
    }
}
