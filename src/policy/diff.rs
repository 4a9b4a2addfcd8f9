//! [pure] What one policy allows that another does not, as sentences, most dangerous first.
//!
//! The warnings of a policy are what it allows that `strict` does not.

use crate::net::grant::{Grant, Target};
use crate::net::publish::Publish;
use crate::net::special::METADATA;
use crate::net::suffix;
use crate::policy::consequence;
use crate::policy::document::{Field, Shape};
use crate::policy::effective::{Effective, Entry, entries};
use crate::policy::forbidden::below;
use crate::policy::overlap;
use crate::policy::schema::RawPolicy;
use crate::policy::text::env_matches;
use crate::policy::words::Word;
use crate::policy::{Access, MountGrant, Policy};
use crate::source::origin::Origin;
use serde_json::{Value as Json, json};

/// How bad a loosening can become, worst first: this is the order of the sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Danger {
    /// The job changes files of the host that the caller may run: no kernel bug is needed.
    HostWrites,
    /// The job shares a host uid with something else.
    SharedIds,
    /// The job reaches more kernel code: one bug is needed.
    Kernel,
    /// A control may be weaker than asked.
    WeakerControl,
    /// The caller may change what the policy fixed.
    CallersChoice,
    /// The job reads more of the host.
    HostReads,
    /// The job speaks to machines by address: of the host's own networks, if the grant says so.
    Addresses,
    /// Others speak to the job: from anywhere, if the address and the host's firewall say so.
    Published,
    /// The job sends what it knows.
    Network,
    /// The job takes more of the host's resources.
    Resources,
}

impl Danger {
    /// As JSON and text name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostWrites => "host-writes",
            Self::SharedIds => "shared-ids",
            Self::Kernel => "kernel",
            Self::WeakerControl => "weaker-control",
            Self::CallersChoice => "callers-choice",
            Self::HostReads => "host-reads",
            Self::Addresses => "addresses",
            Self::Published => "published",
            Self::Network => "network",
            Self::Resources => "resources",
        }
    }
}

/// When a value is looser than another.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Neither way.
    Never,
    /// The later in this list, strictest first.
    Ladder(&'static [&'static str]),
    /// The larger amount; unlimited is the largest.
    More,
    /// The smaller amount.
    Less,
    /// An element more.
    Added,
    /// An element less.
    Lost,
    /// An element more; no list at all is the loosest.
    Unrestricted,
}

/// Every key of the language, and what makes it looser.
const RULES: &[(&str, Danger, Rule)] = {
    use Danger::*;
    use Rule::*;
    &[
        ("flags.allow", CallersChoice, Unrestricted),
        (
            "ids.mode",
            SharedIds,
            Ladder(&["exclusive", "subuid", "caller"]),
        ),
        ("ids.workspace_uid", SharedIds, Never),
        ("ids.exclusive_size", Resources, More),
        (
            "workspace.access",
            HostWrites,
            Ladder(&["none", "ro", "copy", "rw"]),
        ),
        ("workspace.protected", HostWrites, Lost),
        (
            "filesystem.rootfs",
            Kernel,
            Ladder(&["read-only", "overlay"]),
        ),
        ("filesystem.tmp", Resources, More),
        ("filesystem.masked", HostReads, Lost),
        ("filesystem.mount", HostWrites, Added),
        ("landlock.minimum_abi", WeakerControl, Less),
        ("syscalls.profile", Kernel, Ladder(&["strict", "job"])),
        ("syscalls.allow", Kernel, Added),
        ("syscalls.deny", Kernel, Lost),
        (
            "syscalls.on_denied",
            Kernel,
            Ladder(&["kill", "errno", "record"]),
        ),
        ("capabilities.keep", Kernel, Added),
        ("environment.pass", HostReads, Added),
        ("environment.set", HostReads, Added),
        (
            "network.mode",
            Network,
            Ladder(&["none", "allowlist", "open"]),
        ),
        ("network.allow", Network, Added),
        (
            "network.tls_without_name",
            Network,
            Ladder(&["refuse", "allow"]),
        ),
        ("network.publish", Published, Added),
        ("network.limits.connections", Resources, More),
        ("network.limits.new_per_second", Resources, More),
        ("network.limits.dns_per_second", Network, More),
        ("resources.memory", Resources, More),
        ("resources.cpus", Resources, More),
        ("resources.pids", Resources, More),
        ("resources.disk", Resources, More),
        ("resources.timeout", Resources, More),
        ("degrade.allow", WeakerControl, Added),
    ]
};

/// One thing that the second policy allows and the first does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loosening {
    /// How bad it can become.
    pub danger: Danger,
    /// The key it stands at.
    pub key: String,
    /// What is said there, and what was.
    pub what: String,
    /// What follows "allows".
    pub allows: String,
    /// Who said it; nobody did where something is only left out.
    pub origin: Option<Origin>,
}

impl Loosening {
    /// One sentence, without its origin.
    pub fn sentence(&self) -> String {
        format!("{} allows {}", self.what, self.allows)
    }

    fn to_json(&self) -> Json {
        json!({
            "danger": self.danger.name(),
            "key": self.key,
            "sentence": self.sentence(),
            "origin": self.origin.as_ref().map(ToString::to_string),
        })
    }
}

/// What `after` allows that `before` does not, most dangerous first, then in the order of the keys.
pub fn loosenings(before: &Policy, after: &Policy) -> Vec<Loosening> {
    let (before, after) = (entries(before), entries(after));
    let mut found: Vec<Loosening> = RULES
        .iter()
        .flat_map(|rule| {
            let (key, _, _) = rule;
            compare(rule, &at_key(&before, key), &at_key(&after, key))
        })
        .collect();
    found.sort_by_key(|loosening| loosening.danger);
    found
}

/// The sentences with their origins, one line each.
pub fn to_text(loosenings: &[Loosening]) -> String {
    let line = |loosening: &Loosening| match &loosening.origin {
        Some(origin) => format!("{} ({origin})\n", loosening.sentence()),
        None => format!("{}\n", loosening.sentence()),
    };
    loosenings.iter().map(line).collect()
}

/// The same as a JSON list.
pub fn to_json(loosenings: &[Loosening]) -> Json {
    loosenings.iter().map(Loosening::to_json).collect()
}

/// The entries of `key`, or of the names in the map `key`.
fn at_key<'e, 'p>(entries: &'e [Entry<'p>], key: &str) -> Vec<&'e Entry<'p>> {
    let map = format!("{key}.");
    let belongs = |entry: &&Entry<'_>| entry.key == key || entry.key.starts_with(&map);
    entries.iter().filter(belongs).collect()
}

fn compare(
    &(key, danger, rule): &(&str, Danger, Rule),
    before: &[&Entry<'_>],
    after: &[&Entry<'_>],
) -> Vec<Loosening> {
    match rule {
        Rule::Never => Vec::new(),
        Rule::Ladder(steps) => changed(danger, before, after, |before, after| {
            step(steps, before) < step(steps, after)
        }),
        Rule::More => changed(danger, before, after, more),
        Rule::Less => changed(danger, before, after, |before, after| more(after, before)),
        Rule::Added => added(danger, before, after),
        Rule::Lost => lost(key, danger, before, after),
        Rule::Unrestricted if before.is_empty() => Vec::new(),
        Rule::Unrestricted if after.is_empty() => vec![Loosening {
            danger,
            key: key.to_owned(),
            what: format!("no {key}"),
            allows: relaxing(key),
            origin: None,
        }],
        Rule::Unrestricted => added(danger, before, after),
    }
}

fn step(steps: &[&str], value: &Effective<'_>) -> Option<usize> {
    steps
        .iter()
        .position(|step| *value == Effective::Text(step))
}

fn more(before: &Effective<'_>, after: &Effective<'_>) -> bool {
    match (before, after) {
        (Effective::Amount(Some(before), _), Effective::Amount(after, _)) => {
            after.is_none_or(|after| after > *before)
        }
        _ => false,
    }
}

fn changed(
    danger: Danger,
    before: &[&Entry<'_>],
    after: &[&Entry<'_>],
    looser: impl Fn(&Effective<'_>, &Effective<'_>) -> bool,
) -> Vec<Loosening> {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|(before, after)| looser(&before.value, &after.value))
        .map(|(before, after)| {
            let (was, is) = (before.value.to_toml(), after.value.to_toml());
            Loosening {
                danger,
                key: after.key.clone(),
                what: format!("{} = {is} instead of {was}", after.key),
                allows: relaxing(&after.key),
                origin: Some(after.origin.clone()),
            }
        })
        .collect()
}

fn added(danger: Danger, before: &[&Entry<'_>], after: &[&Entry<'_>]) -> Vec<Loosening> {
    let covered = |after: &Entry<'_>| {
        before.iter().any(|before| {
            let same_name = before.key == after.key;
            same_name && covers(&before.value, &after.value)
        })
    };
    let grants = after
        .iter()
        .filter(|after| after.value != Effective::EmptyList);
    let mut new: Vec<_> = grants.filter(|after| !covered(after)).collect();
    new.sort_by_key(|entry| narrowness(&entry.value));
    let new = new.into_iter();
    new.map(|entry| {
        let (danger, what, allows) = grant(danger, entry);
        Loosening {
            danger,
            key: entry.key.clone(),
            what,
            allows,
            origin: Some(entry.origin.clone()),
        }
    })
    .collect()
}

/// Whether who has `before` has `after` too.
fn covers(before: &Effective<'_>, after: &Effective<'_>) -> bool {
    match (before, after) {
        (Effective::Text(before), Effective::Text(after)) => {
            before == after || env_matches(before, after)
        }
        (Effective::Named { name: before, .. }, Effective::Named { name: after, .. }) => {
            before == after
        }
        (Effective::Reach(before), Effective::Reach(after)) => {
            overlap::covers(&before.grant, &after.grant)
        }
        (Effective::Publish(before), Effective::Publish(after)) => {
            let same = before.host_port == after.host_port && before.port == after.port;
            let family = before.address.is_ipv4() == after.address.is_ipv4();
            let wider = before.address == after.address || before.address.is_unspecified();
            same && family && wider
        }
        (Effective::Mount(before), Effective::Mount(after)) => {
            let reaches = before.source == after.source || below(&after.source, &before.source);
            reaches && before.access >= after.access
        }
        _ => false,
    }
}

/// The beginning of the sentence about a new element, and its end.
fn grant(danger: Danger, entry: &Entry<'_>) -> (Danger, String, String) {
    let key = &entry.key;
    match &entry.value {
        Effective::Mount(mount) => mount_grant(mount),
        Effective::Reach(reach) => reach_grant(&reach.grant),
        Effective::Publish(publish) => publish_grant(publish),
        Effective::Named { name, .. } => {
            let allows = match key.as_str() {
                "capabilities.keep" => consequence::of_capability(name),
                _ => consequence::of_call(name),
            };
            (danger, format!("{key} with {name}"), allows)
        }
        Effective::Text(control) if key == "degrade.allow" => {
            let what = format!("{key} with {control:?}");
            (danger, what, consequence::of_control(control))
        }
        Effective::Text(_) if key.starts_with("environment.set.") => {
            (danger, key.clone(), relaxing("environment.set"))
        }
        Effective::Text(_) | Effective::Amount(..) | Effective::EmptyList => {
            let what = format!("{key} with {}", entry.value.to_toml());
            (danger, what, relaxing(key))
        }
    }
}

fn mount_grant(mount: &MountGrant) -> (Danger, String, String) {
    let (danger, verb) = match mount.access {
        Access::Rw => (Danger::HostWrites, "read and change"),
        Access::None | Access::Ro | Access::Copy => (Danger::HostReads, "read"),
    };
    let access = mount.access.word();
    let what = format!("filesystem.mount of {} ({access})", mount.target);
    (
        danger,
        what,
        format!("the job to {verb} the host's {}", mount.source),
    )
}

fn reach_grant(grant: &Grant) -> (Danger, String, String) {
    let ports = overlap::ports_text(&grant.ports);
    let (danger, allows) = match &grant.to {
        Target::Network(network) => {
            let allows = match overlap::special(network).map(|block| block.what) {
                Some(METADATA) => {
                    "the job to ask a cloud for the credentials of this machine".to_owned()
                }
                Some(what) => {
                    format!("the job to speak to every machine of {network}, which is {what}")
                }
                None => format!("the job to speak to every public machine of {network}"),
            };
            (Danger::Addresses, allows)
        }
        Target::Below(zone) if suffix::is_public(zone) => (
            Danger::Network,
            format!("the job to send what it knows to whoever registers a name below {zone}"),
        ),
        Target::Below(zone) => (
            Danger::Network,
            format!("the job to send what it knows to any name below {zone}"),
        ),
        Target::Host(name) => (
            Danger::Network,
            format!("the job to send what it knows to {name}"),
        ),
    };
    let what = format!("network.allow of {} port {ports}", grant.to);
    (danger, what, allows)
}

fn publish_grant(publish: &Publish) -> (Danger, String, String) {
    let whom = match publish.address {
        address if address.is_loopback() => "every user of this host".to_owned(),
        address if address.is_unspecified() => {
            "whoever the host's firewall lets reach any of its addresses".to_owned()
        }
        address => format!("whoever the host's firewall lets reach {address}"),
    };
    let what = format!("network.publish of {publish}");
    let allows = format!("{whom} to speak to port {} of the job", publish.port);
    (Danger::Published, what, allows)
}

/// How far a new element reaches, within its danger: whole zones come before names.
fn narrowness(value: &Effective<'_>) -> u8 {
    match value {
        Effective::Reach(reach) => match &reach.grant.to {
            Target::Network(network) => match overlap::special(network).map(|block| block.what) {
                Some(METADATA) => 0,
                Some(_) => 1,
                None => 2,
            },
            Target::Below(zone) if suffix::is_public(zone) => 3,
            Target::Below(_) => 4,
            Target::Host(_) => 5,
        },
        Effective::Publish(publish) => match publish.address {
            address if address.is_unspecified() => 0,
            address if address.is_loopback() => 2,
            _ => 1,
        },
        _ => 0,
    }
}

fn lost(key: &str, danger: Danger, before: &[&Entry<'_>], after: &[&Entry<'_>]) -> Vec<Loosening> {
    let kept = |before: &Entry<'_>| after.iter().any(|after| after.value == before.value);
    let lost = before.iter().filter(|before| !kept(before));
    lost.map(|entry| Loosening {
        danger,
        key: key.to_owned(),
        what: format!("{key} without {}", entry.value.to_toml()),
        allows: relaxing(key),
        origin: None,
    })
    .collect()
}

/// What the schema says that relaxing `key` allows.
fn relaxing(key: &str) -> String {
    let mut shape = RawPolicy::shape();
    let mut about = "";
    for name in key.split('.') {
        let Shape::Table(keys) = shape else { break };
        let Some(found) = keys.into_iter().find(|key| key.name == name) else {
            break;
        };
        about = found.about;
        shape = found.shape;
    }
    let after = about.split_once("Relaxing this allows ");
    after
        .map_or("", |(_, allows)| allows)
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::expand::Expansion;
    use crate::policy::flags::FlagLayer;
    use crate::policy::schema::dotted_keys;
    use crate::policy::validate::Surroundings;
    use crate::source::text::Source;

    fn policy(text: &str) -> Policy {
        let surroundings = Surroundings {
            expansion: &Expansion::default(),
            forbidden: &[],
            known_calls: &["ptrace", "read"],
        };
        let text = format!("schema = 1\n{text}");
        Policy::read(
            Source::file("p.toml", &text),
            &FlagLayer::default(),
            &surroundings,
        )
        .unwrap()
    }

    /// The sentences about going from one text to another, both on `strict`.
    fn sentences(before: &str, after: &str) -> Vec<String> {
        let found = loosenings(&policy(before), &policy(after));
        found.iter().map(Loosening::sentence).collect()
    }

    #[test]
    fn every_key_has_a_rule_and_a_sentence() {
        let ruled = |key: &str| {
            RULES
                .iter()
                .any(|(rule, _, _)| key == *rule || key.starts_with(&format!("{rule}.")))
        };
        let of_the_file = ["schema", "name", "description", "extends"];
        for key in dotted_keys() {
            assert!(ruled(&key) || of_the_file.contains(&key.as_str()), "{key}");
        }
        for (key, _, rule) in RULES {
            assert_eq!(
                relaxing(key).is_empty(),
                matches!(rule, Rule::Never),
                "{key}"
            );
        }
    }

    #[test]
    fn each_looser_value_makes_one_sentence_and_its_way_back_none() {
        let steps = [
            ("ids.mode = 'exclusive'", "ids.mode = 'subuid'"),
            ("ids.mode = 'subuid'", "ids.mode = 'caller'"),
            ("ids.exclusive_size = 2", "ids.exclusive_size = 3"),
            ("workspace.access = 'ro'", "workspace.access = 'copy'"),
            ("workspace.protected = ['a']", ""),
            ("", "filesystem.rootfs = 'overlay'"),
            ("filesystem.tmp = '1M'", "filesystem.tmp = '2M'"),
            ("filesystem.masked = ['/a']", ""),
            ("landlock.minimum_abi = 3", "landlock.minimum_abi = 2"),
            ("", "syscalls.profile = 'job'"),
            ("", "syscalls.allow = [{ name = 'ptrace', why = 'x' }]"),
            ("syscalls.deny = ['read']", ""),
            (
                "syscalls.on_denied = 'kill'",
                "syscalls.on_denied = 'errno'",
            ),
            (
                "syscalls.on_denied = 'errno'",
                "syscalls.on_denied = 'record'",
            ),
            ("", "capabilities.keep = [{ name = 'NET_RAW', why = 'x' }]"),
            ("", "environment.pass = ['CI']"),
            ("environment.pass = ['CI_A']", "environment.pass = ['CI_*']"),
            ("environment.set.A = 'x'", "environment.set.A = 'y'"),
            ("", "network.mode = 'allowlist'"),
            ("network.mode = 'allowlist'", "network.mode = 'open'"),
            (
                "network = { mode = 'allowlist' }",
                "network = { mode = 'allowlist', allow = [{ to = 'a.b', ports = [443] }] }",
            ),
            ("", "network.tls_without_name = 'allow'"),
            ("", "network.publish = ['8080:80']"),
            (
                "network.publish = ['8080:80']",
                "network.publish = ['0.0.0.0:8080:80']",
            ),
            ("", "network.limits.connections = 4097"),
            ("", "network.limits.new_per_second = 201"),
            ("", "network.limits.dns_per_second = 51"),
            ("resources.memory = '1G'", "resources.memory = 'unlimited'"),
            ("resources.cpus = 0.5", "resources.cpus = 1"),
            ("resources.pids = 1", "resources.pids = 2"),
            ("resources.disk = '1G'", "resources.disk = '1.5G'"),
            ("resources.timeout = '1s'", "resources.timeout = '1m'"),
            ("", "degrade.allow = ['cgroup']"),
            ("flags.allow = ['env']", "flags.allow = ['env', 'memory']"),
            ("flags.allow = []", ""),
        ];
        for (before, after) in steps {
            assert_eq!(sentences(before, after).len(), 1, "{before} -> {after}");
            let back = usize::from(after.contains("set.A"));
            assert_eq!(sentences(after, before).len(), back, "{after} -> {before}");
            assert!(sentences(after, after).is_empty(), "{after}");
        }
    }

    #[test]
    fn sentences_say_what_where_and_the_consequence() {
        assert_eq!(
            sentences("", "syscalls.allow = [{ name = 'ptrace', why = 'gdb' }]"),
            [
                "syscalls.allow with ptrace allows the job to read and change any other process of the sandbox"
            ]
        );
        assert_eq!(
            sentences("", "environment.set.A = 'secret'"),
            ["environment.set.A allows the job to read these values"]
        );
        assert_eq!(
            sentences("flags.allow = []", ""),
            ["no flags.allow allows the caller to change values that the policy's author fixed"]
        );
    }

    #[test]
    fn a_mount_covers_what_lies_in_it_with_no_more_access() {
        let mount = |source: &str, access: &str| {
            format!(
                "filesystem.mount = [{{ source = '{source}', target = '/m', access = '{access}', why = 'x' }}]"
            )
        };
        assert!(sentences(&mount("/srv", "rw"), &mount("/srv/a", "ro")).is_empty());
        assert_eq!(
            sentences(&mount("/srv/a", "ro"), &mount("/srv", "ro")),
            ["filesystem.mount of /m (ro) allows the job to read the host's /srv"]
        );
        assert_eq!(
            sentences(&mount("/srv", "ro"), &mount("/srv", "rw")),
            ["filesystem.mount of /m (rw) allows the job to read and change the host's /srv"]
        );
    }

    #[test]
    fn the_most_dangerous_comes_first() {
        let after = "resources.pids = 'unlimited'\nsyscalls.profile = 'job'\nworkspace.access = 'rw'\nids.mode = 'caller'";
        let found = loosenings(&policy(""), &policy(after));
        let dangers: Vec<&str> = found.iter().map(|found| found.danger.name()).collect();
        assert_eq!(
            dangers,
            ["host-writes", "shared-ids", "kernel", "resources"]
        );
        let origins: Vec<String> = found
            .iter()
            .flat_map(|found| &found.origin)
            .map(ToString::to_string)
            .collect();
        assert_eq!(origins, ["p.toml:4", "p.toml:5", "p.toml:3", "p.toml:2"]);
    }
}
