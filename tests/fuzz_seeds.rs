//! The fuzz targets without a fuzzer: their seeds, each cut, changed and repeated, and random bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../fuzz/properties.rs"]
mod properties;

use cofferdam::event::Kind;
use cofferdam::event::chain::Chain;
use cofferdam::policy::presets::PRESETS;
use proptest::prelude::*;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 10] = [
    ("policy", properties::policy),
    ("plan", properties::plan),
    ("messages", properties::messages),
    ("state", properties::state),
    ("events", properties::events),
    ("dns", properties::dns),
    ("tls", properties::tls),
    ("http", properties::http),
    ("records", properties::records),
    ("dump", properties::dump),
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let mut found: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    found.extend(made(target));
    assert!(!found.is_empty(), "{target} has no seeds");
    found
}

/// Seeds that are made from the code, so that they are never old.
fn made(target: &str) -> Vec<Vec<u8>> {
    match target {
        "policy" => PRESETS
            .iter()
            .map(|(_, text)| text.as_bytes().to_vec())
            .collect(),
        "events" => {
            let plan = b"{}\n";
            let kind = Kind::exec(1, &["make".to_owned()]);
            let time = "2026-01-01T00:00:00.000Z".to_owned();
            let (line, _) = Chain::new(plan).line(time, kind).unwrap();
            vec![[&plan[..], line.trim_end().as_bytes(), b"\n"].concat()]
        }
        "records" => records(),
        "dump" => dumps(),
        _ => Vec::new(),
    }
}

/// One of each kind that the edge sends.
fn records() -> Vec<Vec<u8>> {
    use cofferdam::net::decide::Reason as Decided;
    use cofferdam::net::publish::Request;
    use cofferdam::net::record::{Asked, Peer, Reason, Record};
    let asked = Asked {
        name: cofferdam::net::grant::Name::parse("www.example.com").ok(),
        address: "203.0.113.5:443".parse().unwrap(),
    };
    let address = "[2001:db8::1]:443".parse().unwrap();
    let peer = Peer { port: 3, address };
    let refused = Reason::Decided(Decided::HelloName);
    let records = [
        Record::Ready,
        Record::Failed(3, 13),
        Record::Allowed(9, asked.clone(), 2),
        Record::Ended(9, 1 << 40, 1),
        Record::Refused(asked, refused),
        Record::Lost(4),
        Record::Accepted(9, peer),
        Record::Rejected(peer, refused),
    ];
    let mut found: Vec<Vec<u8>> = records.iter().map(|one| one.encode().to_vec()).collect();
    let from = "10.1.2.3:4711".parse().unwrap();
    found.push(Request { from, port: 80 }.encode().to_vec());
    found
}

/// What nf_tables would say of our table: its kinds apart, as they are dumped.
fn dumps() -> Vec<Vec<u8>> {
    use std::collections::BTreeMap;
    let batch = cofferdam::net::nft::message::batch(&cofferdam::net::rules::table(true));
    let mut kinds = BTreeMap::<u16, Vec<u8>>::new();
    let mut rest = &batch[..];
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
        let (message, after) = rest.split_at(length.next_multiple_of(4));
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        kinds.entry(kind).or_default().extend(message);
        rest = after;
    }
    // Without what begins and ends a batch: NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
    kinds.retain(|kind, _| *kind > 17);
    kinds.into_values().collect()
}

#[test]
fn seeds_and_what_is_near_them_hold() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            target(&seed);
            let step = (seed.len() / 200).max(1);
            for at in (0..seed.len()).step_by(step) {
                target(&seed[..at]);
                let mut changed = seed.clone();
                changed[at] ^= 0x11;
                target(&changed);
                changed.truncate(at);
                changed.extend_from_slice(&seed);
                target(&changed);
            }
        }
    }
}

#[test]
fn seeds_of_our_own_messages_are_read() {
    use cofferdam::net::nft::message::{KINDS, difference};
    use cofferdam::net::publish::Request;
    use cofferdam::net::record::Record;
    for seed in made("records") {
        assert!(Record::decode(&seed).is_some() || Request::decode(&seed).is_some());
    }
    let table = cofferdam::net::rules::table(true);
    for seed in made("dump") {
        let same = KINDS
            .iter()
            .filter(|kind| difference(&table, **kind, &seed).is_none());
        assert_eq!(same.count(), 1);
    }
}

/// Seeds that are refused at once would test nothing.
#[test]
fn seeds_reach_the_inside() {
    use cofferdam::sandbox::message::{Order, Report};
    use cofferdam::supervise::control::{Answer, Ask};
    assert!(
        seeds("plan")
            .iter()
            .all(|seed| serde_json::from_slice::<cofferdam::sandbox::plan::Plan>(seed).is_ok())
    );
    assert!(
        seeds("state")
            .iter()
            .all(|seed| cofferdam::supervise::state::parse(seed).is_ok())
    );
    for seed in seeds("messages") {
        let known = serde_json::from_slice::<Order>(&seed).is_ok()
            || serde_json::from_slice::<Report>(&seed).is_ok()
            || serde_json::from_slice::<Ask>(&seed).is_ok()
            || serde_json::from_slice::<Answer>(&seed).is_ok();
        assert!(known, "{}", String::from_utf8_lossy(&seed));
    }
    for seed in seeds("events") {
        let at = seed.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let verified = cofferdam::event::chain::verify(&seed[..at], &seed[at..], None);
        assert!(!verified.unwrap().events.is_empty());
    }
}

#[test]
fn seeds_of_the_network_are_what_clients_send() {
    use cofferdam::net::dns::{self, Resolved, Unusable};
    use cofferdam::net::tls::Outcome;
    let name = cofferdam::net::grant::Name::parse("example.com").unwrap();
    let (mut queries, mut responses) = (0, Vec::new());
    for seed in seeds("dns") {
        match dns::answer(&seed, 0x1234, &name, dns::Kind::A) {
            Ok(resolved) => responses.push(resolved),
            Err(Unusable::Foreign) => {
                dns::parse(&seed).unwrap();
                queries += 1;
            }
            Err(Unusable::Malformed) => panic!("{seed:?}"),
        }
    }
    assert_eq!((queries, responses.len()), (3, 3));
    assert!(responses.contains(&Resolved::NoSuchName));
    let addresses = |list: &[[u8; 4]], ttl| {
        Resolved::Addresses(list.iter().map(|&address| address.into()).collect(), ttl)
    };
    assert!(responses.contains(&addresses(&[[93, 184, 216, 34]], 20)));
    assert!(responses.contains(&addresses(&[[93, 184, 216, 34], [93, 184, 216, 35]], 30)));
    let hellos: Vec<_> = seeds("tls")
        .iter()
        .map(|seed| properties::begins(seed, seed.len()).unwrap())
        .collect();
    let named = |outcome: &&Outcome| matches!(outcome, Outcome::Name { .. });
    assert_eq!((hellos.len(), hellos.iter().filter(named).count()), (5, 4));
    let encrypted = true;
    assert!(hellos.contains(&Outcome::Name { name, encrypted }));
    for seed in seeds("http") {
        let (hosts, passed, refused) = properties::requests(&seed, seed.len());
        assert!(!hosts.is_empty() && passed == seed.len() && refused.is_none());
    }
}

proptest! {
    #[test]
    fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }

    #[test]
    fn any_text_holds(text in "[\\[\\]{}\"=:,a-z_0-9. \n-]{0,300}") {
        for (_, target) in TARGETS {
            target(text.as_bytes());
        }
    }
}
