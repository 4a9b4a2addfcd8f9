//! The plan from outside: golden plans and refusals, and what holds for every plan.
//!
//! `host-baseline` has whole plans, one file per preset and request. Every other
//! host has one file that says what is different there. `UPDATE_GOLDEN=1` writes them.

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

#[path = "plan/hosts.rs"]
mod hosts;
#[path = "plan/network.rs"]
mod network;
#[path = "plan/properties.rs"]
mod properties;
#[path = "plan/requests.rs"]
mod requests;
#[path = "plan/review.rs"]
mod review;

use cofferdam::host::facts::Facts;
use cofferdam::policy::Policy;
use cofferdam::sandbox::plan::{Op, Plan, plan};
use cofferdam::sandbox::request::Request;
use cofferdam::source::diagnostic::Diagnostic;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

const PRESETS: [&str; 2] = ["strict", "untrusted"];

/// One value per line, two levels deep: long enough to read, short enough to compare.
fn lines(value: &Value) -> Vec<String> {
    let Value::Object(fields) = value else {
        return vec![value.to_string()];
    };
    let mut out = vec!["{".to_owned()];
    for (at, (key, field)) in fields.iter().enumerate() {
        let comma = if at + 1 < fields.len() { "," } else { "" };
        match field {
            Value::Array(items) if items.len() > 1 => {
                out.push(format!("{key:?}: ["));
                let last = items.len() - 1;
                let item = |(at, item): (usize, &Value)| {
                    format!("  {item}{}", if at < last { "," } else { "" })
                };
                out.extend(items.iter().enumerate().map(item));
                out.push(format!("]{comma}"));
            }
            _ => out.push(format!("{key:?}: {field}{comma}")),
        }
    }
    out.push("}".to_owned());
    out
}

/// Lines of one and not of the other, in order.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let missing = |from: &[String], other: &[String], sign: &str| {
        let plain = |line: &String| line.trim_end_matches(',').to_owned();
        let mut there: BTreeMap<String, usize> = BTreeMap::new();
        for line in other {
            *there.entry(plain(line)).or_default() += 1;
        }
        let mut found = Vec::new();
        for line in from {
            match there.get_mut(&plain(line)) {
                Some(count) if *count > 0 => *count -= 1,
                _ => found.push(format!("{sign} {}", plain(line).trim())),
            }
        }
        found
    };
    let mut all = missing(before, after, "-");
    all.extend(missing(after, before, "+"));
    all
}

fn golden(name: &str) -> PathBuf {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan");
    PathBuf::from(directory).join(name)
}

/// Compares with the golden file, or writes it.
fn same_as_golden(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let split = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let changes = difference(&split(&kept), &split(text));
    assert!(
        kept == text,
        "{name} is not as kept (UPDATE_GOLDEN=1 writes it):\n{}",
        changes.join("\n")
    );
}

/// Filters seen, by a name that says what they depend on.
type Filters = BTreeMap<String, Value>;

/// The filter's long value moves to a golden of its own; its digest stays.
fn without_filter(plan: &Plan, filters: &mut Filters) -> Value {
    let mut value = serde_json::to_value(plan).unwrap();
    for (at, step) in plan.steps.iter().enumerate() {
        let Op::Seccomp { filter } = &step.op else {
            continue;
        };
        let long = serde_json::to_value(filter).unwrap();
        let digest = Sha256::digest(long.to_string().as_bytes());
        let short: String = digest[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let profile = step.why.to_string();
        let profile = profile.split([' ', ':']).nth(1).unwrap();
        filters.insert(format!("{profile}-{short}"), long);
        value["steps"][at]["op"]["seccomp"]["filter"] = json!(format!(
            "{}; see filters.json: {profile}-{short}",
            filter.summary()
        ));
    }
    value
}

fn refusal(diagnostics: &[Diagnostic]) -> Value {
    let one =
        |diagnostic: &Diagnostic| json!({ "error": diagnostic.message, "help": diagnostic.help });
    json!({ "refused": diagnostics.iter().map(one).collect::<Vec<_>>() })
}

fn outcome(preset: &str, request: &Request, facts: &Facts, filters: &mut Filters) -> Vec<String> {
    let policy = Policy::preset(preset).unwrap();
    match plan(&policy, request, facts) {
        Ok(plan) => lines(&without_filter(&plan, filters)),
        Err(diagnostics) => lines(&refusal(&diagnostics)),
    }
}

fn is_refusal(lines: &[String]) -> bool {
    lines[1].starts_with("\"refused\"")
}

/// What every case of a host says stands once, before the cases.
fn once(mut cases: BTreeMap<String, Vec<String>>) -> Value {
    let first = cases.values().next().unwrap().clone();
    let common: Vec<String> = first
        .into_iter()
        .filter(|line| cases.values().all(|lines| lines.contains(line)))
        .collect();
    for lines in cases.values_mut() {
        lines.retain(|line| !common.contains(line));
    }
    json!({ "every case": common, "and": cases })
}

#[test]
fn plans_are_as_kept() {
    let mut filters = Filters::new();
    let mut baseline: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for preset in PRESETS {
        for (what, request) in requests::all() {
            let request = requests::for_host(request, &hosts::debian_6_1());
            let out = outcome(preset, &request, &hosts::debian_6_1(), &mut filters);
            same_as_golden(&format!("{preset}-{what}.json"), &(out.join("\n") + "\n"));
            baseline.insert(format!("{preset} {what}"), out);
        }
    }
    for (host, facts) in hosts::others() {
        let mut changes = BTreeMap::new();
        for (case, before) in baseline.iter().filter(|(_, out)| !is_refusal(out)) {
            let (preset, what) = case.split_once(' ').unwrap();
            let (_, request) = requests::all().find(|(name, _)| *name == what).unwrap();
            let request = requests::for_host(request, &facts);
            let out = outcome(preset, &request, &facts, &mut filters);
            let refused = is_refusal(&out);
            let change = if refused {
                out
            } else {
                difference(before, &out)
            };
            changes.insert(case.clone(), change);
        }
        let text = serde_json::to_string_pretty(&once(changes)).unwrap();
        same_as_golden(&format!("host-{host}.json"), &(text + "\n"));
    }
    filters_are_as_kept(&filters);
}

/// The first filter of each profile whole, the others by what is different.
fn filters_are_as_kept(filters: &Filters) {
    let mut out = serde_json::Map::new();
    for preset in PRESETS {
        let mut first: Option<Vec<String>> = None;
        for (name, filter) in filters.iter().filter(|(name, _)| name.starts_with(preset)) {
            let whole = lines(filter);
            let shown = match &first {
                Some(first) => difference(first, &whole),
                None => whole.clone(),
            };
            out.insert(name.clone(), json!(shown));
            first.get_or_insert(whole);
        }
    }
    let text = serde_json::to_string_pretty(&out).unwrap();
    same_as_golden("filters.json", &(text + "\n"));
}

#[test]
fn goldens_are_all_used() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return;
    }
    let mut expected = vec!["filters.json".to_owned(), network::GOLDEN.to_owned()];
    expected.extend(hosts::others().map(|(host, _)| format!("host-{host}.json")));
    for preset in PRESETS {
        expected.extend(requests::all().map(|(what, _)| format!("{preset}-{what}.json")));
    }
    expected.sort();
    let mut kept: Vec<String> = std::fs::read_dir(golden("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, expected);
}
