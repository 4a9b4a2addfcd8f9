//! Plans with a network: what is different from one without, and what it needs of a host.

use crate::{difference, hosts, lines, requests, same_as_golden, without_filter};
use cofferdam::host::facts::{Facts, Tproxy};
use cofferdam::policy::Policy;
use cofferdam::policy::expand::Expansion;
use cofferdam::policy::flags::FlagLayer;
use cofferdam::policy::validate::Surroundings;
use cofferdam::sandbox::plan::{Op, Plan, plan};
use cofferdam::source::text::Source;
use serde_json::json;

pub const GOLDEN: &str = "network-allowlist.json";

const POLICY: &str = r#"schema = 1
extends = "untrusted"
[network]
mode = "allowlist"
allow = [
    { to = "registry.example.com", ports = [443] },
    { to = "*.mirror.example.org", ports = [80, 443], why = "package mirrors" },
    { to = "a.mirror.example.org", ports = [443] },
    { to = "git.example.com", ports = [22, "8000-8099"], proto = "raw" },
    { to = "*.github.io", ports = [443], why = "documentation of many projects" },
    { to = "10.1.2.0/24", ports = [5432], why = "test database" },
]
limits.connections = 100
"#;

fn policy(text: &str) -> Policy {
    let surroundings = Surroundings {
        expansion: &Expansion::default(),
        forbidden: &[],
        known_calls: &[],
    };
    let source = Source::file("net.toml", text);
    Policy::read(source, &FlagLayer::default(), &surroundings).unwrap()
}

fn planned(text: &str) -> Plan {
    plan(&policy(text), &requests::bare(), &hosts::debian_6_1()).unwrap()
}

fn file<'p>(plan: &'p Plan, wanted: &str) -> &'p str {
    let content = plan.steps.iter().find_map(|step| match &step.op {
        Op::File { path, content } if path == wanted => Some(content),
        _ => None,
    });
    content.unwrap()
}

#[test]
fn a_network_changes_this_much_of_a_plan() {
    let value = |text: &str| {
        let mut filters = crate::Filters::new();
        lines(&without_filter(&planned(text), &mut filters))
    };
    let without = value("schema = 1\nextends = \"untrusted\"\nname = \"untrusted\"\n");
    let text = planned(POLICY).text();
    let reachable: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "reachable")
        .take_while(|line| *line != "controls")
        .collect();
    let golden = json!({ "change": difference(&without, &value(POLICY)), "text": reachable });
    let golden = serde_json::to_string_pretty(&golden).unwrap();
    same_as_golden(GOLDEN, &(golden + "\n"));
}

#[test]
fn a_plan_with_a_network_reads_back() {
    let plan = planned(POLICY);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    let none = planned("schema = 1\n");
    assert_eq!(none.network, None);
    assert!(
        !serde_json::to_string(&none)
            .unwrap()
            .contains("\"network\":")
    );
}

#[test]
fn the_resolver_is_ours_and_nothing_is_searched() {
    assert_eq!(
        file(&planned(POLICY), "/etc/resolv.conf"),
        "nameserver 169.254.7.1\noptions ndots:1\n"
    );
    assert_eq!(
        file(&planned("schema = 1\n"), "/etc/resolv.conf"),
        "# network: none\n"
    );
}

#[test]
fn a_host_that_lacks_something_is_refused_and_only_with_a_network() {
    let causes = |text: &str, change: fn(&mut Facts)| {
        let mut facts = hosts::debian_6_1();
        change(&mut facts);
        match plan(&policy(text), &requests::bare(), &facts) {
            Ok(_) => Vec::new(),
            Err(found) => found.into_iter().map(|found| found.message).collect(),
        }
    };
    let tproxy: fn(&mut Facts) = |facts| facts.network.tproxy = Tproxy::Missing;
    let unknown: fn(&mut Facts) = |facts| facts.network.tproxy = Tproxy::Unknown;
    assert_eq!(
        causes(POLICY, tproxy),
        ["network allowlist (net.toml:4) needs TPROXY, which kernel 6.1.0-38-amd64 lacks"]
    );
    assert!(causes(POLICY, unknown).is_empty());
    assert!(
        causes("schema = 1\n", |facts| {
            facts.network.tproxy = Tproxy::Missing;
        })
        .is_empty()
    );
}
