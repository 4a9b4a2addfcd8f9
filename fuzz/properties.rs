//! What each fuzz target holds of any bytes; the tests run the same over the seeds.
#![allow(dead_code, reason = "every target uses one of these functions")]

use cofferdam::event::chain::{self, Chain, Digest};
use cofferdam::net::dns::{self, Kind, Refusal, Reply, Resolved};
use cofferdam::net::grant::Name;
use cofferdam::net::http::{Http, Step};
use cofferdam::net::nft::message::{KINDS, difference, generation};
use cofferdam::net::publish::Request;
use cofferdam::net::record::Record;
use cofferdam::net::rules;
use cofferdam::net::tls::{ANSWER, Hello, Outcome, asks_again};
use cofferdam::policy::Policy;
use cofferdam::policy::expand::Expansion;
use cofferdam::policy::flags::FlagLayer;
use cofferdam::policy::validate::Surroundings;
use cofferdam::sandbox::message::{Order, Report};
use cofferdam::sandbox::plan::Plan;
use cofferdam::source::render::{Colour, render};
use cofferdam::source::text::Source;
use cofferdam::supervise::control::{Answer, Ask};
use cofferdam::supervise::state;
use core::net::IpAddr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What was read is written and read again as the same value.
fn same_again<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(value, again);
    Some(value)
}

/// A policy is read, or refused with diagnostics that can be shown.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let surroundings = Surroundings {
        expansion: &Expansion::default(),
        forbidden: &[],
        known_calls: &["ptrace", "read"],
    };
    match Policy::read(
        Source::file("p.toml", text),
        &FlagLayer::default(),
        &surroundings,
    ) {
        Ok(policy) => {
            let text = cofferdam::policy::effective::origins(&policy);
            assert!(!text.is_empty());
        }
        Err(diagnostics) => assert!(!render(&diagnostics, Colour::Never).is_empty()),
    }
}

/// A plan survives its JSON and can be shown.
pub fn plan(bytes: &[u8]) {
    if let Some(plan) = same_again::<Plan>(bytes) {
        assert!(plan.text().lines().count() > plan.steps.len());
        assert!(plan.layer_names().count() <= plan.steps.len());
    }
}

/// Whatever a hostile init, or a command of the same user, sends.
pub fn messages(bytes: &[u8]) {
    same_again::<Order>(bytes);
    same_again::<Report>(bytes);
    same_again::<Ask>(bytes);
    same_again::<Answer>(bytes);
}

/// A state file, perhaps half written.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = state::parse(bytes) {
        let text = serde_json::to_vec(&state).expect("what was read can be written");
        assert_eq!(state::parse(&text), Ok(state));
    }
}

/// An event log next to the plan it began with: the first line is the plan.
pub fn events(bytes: &[u8]) {
    let at = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |at| at + 1);
    let (plan, lines) = bytes.split_at(at);
    verified(plan, lines);
    verified(plan, &with_hashes(plan, lines));
}

/// A log that holds does so with its own head, and without its end no prefix has it.
fn verified(plan: &[u8], lines: &[u8]) {
    if let Ok(verified) = chain::verify(plan, lines, None) {
        let head = verified.chain.head();
        assert!(chain::verify(plan, lines, Some(head)).is_ok());
        if !lines.is_empty() {
            assert!(chain::verify(plan, &lines[..lines.len() - 1], Some(head)).is_err());
        }
    }
}

/// The lines with the hashes they should have; else nobody would read what is in them.
fn with_hashes(plan: &[u8], lines: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b",\"hash\":\"";
    let mut head = Chain::new(plan).head();
    let mut log = Vec::new();
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let end = line.windows(KEY.len()).rposition(|part| part == KEY);
        let body = &line[..end.unwrap_or(line.len())];
        head = Digest::of(&[&digest_bytes(head)[..], body].concat());
        log.extend_from_slice(&[body, KEY, head.to_string().as_bytes(), b"\"}\n"].concat());
    }
    log
}

fn digest_bytes(digest: Digest) -> Vec<u8> {
    let text = digest.to_string();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A query of a job: its answer is short, and says to a client what was decided.
pub fn dns(bytes: &[u8]) {
    let id = bytes
        .get(..2)
        .map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
    match dns::parse(bytes) {
        Ok(query) => {
            let both: [(IpAddr, Kind); 2] = [
                ([198, 18, 0, 1].into(), Kind::A),
                ([0xfdc0, 0xffda, 7, 1, 0, 0, 0, 1].into(), Kind::Aaaa),
            ];
            for (address, kind) in both {
                let answer = query.answer(Reply::Address(address, 30));
                answers(bytes, &answer);
                let read = dns::answer(&answer, id, &query.name, kind);
                let expected = Resolved::Addresses(vec![address], 30);
                assert_eq!(read == Ok(expected), query.kind == kind);
            }
            for other in [
                Reply::NoData,
                Reply::NameError,
                Reply::ServerFailure,
                Reply::Refused,
            ] {
                answers(bytes, &query.answer(other));
            }
        }
        Err(Refusal::Answer { bytes: answer, .. }) => answers(bytes, &answer),
        Err(Refusal::Silence(reason)) => assert!(!reason.is_empty()),
    }
    let name = Name::parse("example.com").expect("a name");
    for kind in [Kind::A, Kind::Aaaa] {
        if let Ok(Resolved::Addresses(addresses, _)) = dns::answer(bytes, id, &name, kind) {
            assert!((1..=128).contains(&addresses.len()));
        }
    }
}

/// A response to the query that nobody takes for a query, and that UDP can carry.
fn answers(query: &[u8], answer: &[u8]) {
    assert_eq!(query[..2], answer[..2]);
    assert!(answer[2] & 0x80 != 0 && answer.len() <= 315);
    assert!(matches!(dns::parse(answer), Err(Refusal::Silence(_))));
}

/// What an edge that was taken over tells its supervisor, and asks of the gateway: of each
/// value there is one form.
pub fn records(bytes: &[u8]) {
    if let Some(record) = Record::decode(bytes) {
        assert_eq!(record.encode(), *bytes);
    }
    if let Some(request) = Request::decode(bytes) {
        assert_eq!(request.encode(), *bytes);
    }
}

/// What nf_tables says it holds: of the bytes that are as they were sent no part is.
pub fn dump(bytes: &[u8]) {
    let table = rules::table(true);
    for kind in KINDS {
        let same = |bytes: &[u8]| difference(&table, kind, bytes).is_none();
        if same(bytes) && !bytes.is_empty() {
            assert!(!same(&bytes[..bytes.len() - 1]) && !same(&bytes[1..]));
            assert!(!same(&[bytes, bytes].concat()));
        }
    }
    if let Some(number) = generation(bytes) {
        let number = number.to_be_bytes();
        assert!(bytes.windows(number.len()).any(|part| part == number));
    }
}

/// The beginning of a connection says the same however it is cut.
pub fn tls(bytes: &[u8]) {
    let whole = begins(bytes, bytes.len());
    for cut in [
        1,
        1 + usize::from(bytes.first().copied().unwrap_or(0)),
        1000,
    ] {
        assert_eq!(begins(bytes, cut), whole);
        assert_eq!(
            reads(Hello::second(), bytes, cut),
            reads(Hello::second(), bytes, bytes.len())
        );
    }
    if let Some(asks) = asks_again(bytes) {
        assert!(asks_again(&bytes[..bytes.len().min(ANSWER)]) == Some(asks));
    }
}

/// How a connection begins whose bytes come `cut` at a time.
pub fn begins(bytes: &[u8], cut: usize) -> Option<Outcome> {
    reads(Hello::default(), bytes, cut)
}

fn reads(mut hello: Hello, bytes: &[u8], cut: usize) -> Option<Outcome> {
    let mut parts = bytes.chunks(cut.max(1));
    let outcome = parts.find_map(|part| hello.feed(part).cloned());
    assert!(hello.length() <= bytes.len());
    outcome
}

/// The same requests are found however they are cut, and nothing passes that was not there.
pub fn http(bytes: &[u8]) {
    let whole = requests(bytes, bytes.len());
    for cut in [1, 2 + usize::from(bytes.last().copied().unwrap_or(0))] {
        assert_eq!(requests(bytes, cut), whole);
    }
}

/// The hosts of all requests, how many bytes pass, and why no more do.
pub fn requests(bytes: &[u8], cut: usize) -> (Vec<String>, usize, Option<&'static str>) {
    let mut http = Http::default();
    let (mut hosts, mut passed, mut there) = (Vec::new(), 0, 0);
    loop {
        match http.feed(&bytes[passed..there]) {
            Step::NeedMore if there == bytes.len() => return (hosts, passed, None),
            Step::NeedMore => there = bytes.len().min(there + cut.max(1)),
            Step::Head(head) => {
                assert!(head.length > 0);
                hosts.push(head.host.name.as_str().to_owned());
                http.answered(bytes.len().is_multiple_of(2));
                passed += head.length;
            }
            Step::Pass(count) => {
                assert!(count > 0);
                passed += count;
            }
            Step::Refuse(reason) => return (hosts, passed, Some(reason)),
        }
        assert!(passed <= there);
    }
}
