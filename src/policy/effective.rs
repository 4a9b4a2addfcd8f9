//! [pure] A policy as a flat list of what holds, each value with its key and its origin.
//!
//! `policy origins`, `show`, `diff` and `check` all read this list.

use crate::net::grant::Ports;
use crate::net::publish::Publish;
use crate::policy::leaf::UNLIMITED;
use crate::policy::text::{format_cpus, format_duration, format_size};
use crate::policy::words::Word;
use crate::policy::{
    CapabilityGrant, MountGrant, NetworkGrant, Policy, SyscallGrant, WorkspaceUid,
};
use crate::source::origin::{Origin, Sourced};
use serde_json::{Map, Value as Json, json};

/// One value of a key; a list has an entry for each element.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'p> {
    /// The dotted key; in a map, with the name: `environment.set.LANG`.
    pub key: String,
    /// What holds.
    pub value: Effective<'p>,
    /// Who said so.
    pub origin: &'p Origin,
}

/// A value that holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Effective<'p> {
    /// A word, a name, a path.
    Text(&'p str),
    /// So many of something; `None` is unlimited.
    Amount(Option<u64>, Unit),
    /// A grant of a system call or a capability.
    Named {
        /// Which.
        name: &'p str,
        /// The reason given.
        why: &'p str,
    },
    /// A grant of a mount.
    Mount(&'p MountGrant),
    /// A grant of a destination.
    Reach(&'p NetworkGrant),
    /// A port that the host listens on.
    Publish(&'p Publish),
    /// A list that limits, and has no element: nothing is allowed.
    EmptyList,
}

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `"4G"`
    Bytes,
    /// `"1h"`
    Seconds,
    /// `1.5`
    MilliCpus,
    /// `128`
    Count,
}

impl Effective<'_> {
    /// The value as the language writes it, in JSON's types.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Amount(None, _) => json!(UNLIMITED),
            Self::Amount(Some(bytes), Unit::Bytes) => json!(format_size(*bytes)),
            Self::Amount(Some(seconds), Unit::Seconds) => json!(format_duration(*seconds)),
            Self::Amount(Some(milli), Unit::MilliCpus) => cpus_to_json(*milli),
            Self::Amount(Some(count), Unit::Count) => json!(count),
            Self::Named { name, why } => json!({ "name": name, "why": why }),
            Self::EmptyList => json!([]),
            Self::Reach(reach) => reach_to_json(reach),
            Self::Publish(publish) => json!(publish.to_string()),
            Self::Mount(mount) => json!({
                "source": mount.source,
                "target": mount.target,
                "access": mount.access.word(),
                "why": mount.why,
            }),
        }
    }

    /// The value as TOML, on one line.
    pub fn to_toml(&self) -> String {
        json_to_toml(&self.to_json())
    }
}

/// Without `proto` and `why` where nobody said them.
fn reach_to_json(NetworkGrant { grant, why, .. }: &NetworkGrant) -> Json {
    let port = |ports: &Ports| match ports.first == ports.last {
        true => json!(ports.first),
        false => json!(ports.to_string()),
    };
    let ports: Vec<Json> = grant.ports.iter().map(port).collect();
    let mut object = Map::new();
    object.insert("to".into(), json!(grant.to.to_string()));
    object.insert("ports".into(), json!(ports));
    if let Some(proto) = grant.proto {
        object.insert("proto".into(), json!(proto.word()));
    }
    if let Some(why) = why {
        object.insert("why".into(), json!(why));
    }
    Json::Object(object)
}

/// Whole CPUs stay integers, so that nothing prints as `2.0` here and `2` there.
fn cpus_to_json(milli: u64) -> Json {
    let text = u32::try_from(milli).map(format_cpus);
    let number = text.ok().and_then(|text| text.parse().ok());
    number.map_or(Json::Null, Json::Number)
}

/// Strings, numbers, lists and flat objects as TOML, on one line.
pub fn json_to_toml(value: &Json) -> String {
    match value {
        Json::String(text) => toml_edit::Value::from(text.as_str()).to_string(),
        Json::Object(object) => {
            let pairs = object.iter();
            let pairs: Vec<String> = pairs
                .map(|(key, value)| format!("{key} = {}", json_to_toml(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(json_to_toml).collect();
            format!("[{}]", elements.join(", "))
        }
        other => other.to_string(),
    }
}

/// Everything that holds, in the order of the schema.
pub fn entries(policy: &Policy) -> Vec<Entry<'_>> {
    let mut list = List(Vec::new());
    list.flags(policy);
    list.ids(policy);
    list.files(policy);
    list.calls(policy);
    list.environment(policy);
    list.network(policy);
    list.resources(policy);
    for (control, origin) in &policy.degrade {
        list.add("degrade.allow", Effective::Text(control.word()), origin);
    }
    list.0
}

struct List<'p>(Vec<Entry<'p>>);

impl<'p> List<'p> {
    fn add(&mut self, key: impl Into<String>, value: Effective<'p>, origin: &'p Origin) {
        let key = key.into();
        self.0.push(Entry { key, value, origin });
    }

    fn word<T: Word>(&mut self, key: &str, value: &'p Sourced<T>) {
        self.add(key, Effective::Text(value.value.word()), &value.origin);
    }

    fn texts(&mut self, key: &str, values: &'p [Sourced<String>]) {
        for value in values {
            self.add(key, Effective::Text(&value.value), &value.origin);
        }
    }

    fn count(&mut self, key: &str, value: &'p Sourced<u32>) {
        let amount = Effective::Amount(Some(value.value.into()), Unit::Count);
        self.add(key, amount, &value.origin);
    }

    fn limit<T: Copy + Into<u64>>(&mut self, key: &str, limit: &'p Sourced<Option<T>>, unit: Unit) {
        let amount = Effective::Amount(limit.value.map(Into::into), unit);
        self.add(key, amount, &limit.origin);
    }

    fn flags(&mut self, policy: &'p Policy) {
        let Some(flags) = &policy.flags else { return };
        if flags.value.is_empty() {
            self.add("flags.allow", Effective::EmptyList, &flags.origin);
        }
        for flag in &flags.value {
            self.add("flags.allow", Effective::Text(flag.word()), &flags.origin);
        }
    }

    fn ids(&mut self, policy: &'p Policy) {
        let ids = &policy.ids;
        self.word("ids.mode", &ids.mode);
        let owner = match ids.workspace_uid.value {
            WorkspaceUid::Zero => Effective::Amount(Some(0), Unit::Count),
            WorkspaceUid::Caller => Effective::Text("caller"),
        };
        self.add("ids.workspace_uid", owner, &ids.workspace_uid.origin);
        self.count("ids.exclusive_size", &ids.exclusive_size);
    }

    fn files(&mut self, policy: &'p Policy) {
        self.word("workspace.access", &policy.workspace.access);
        self.texts("workspace.protected", &policy.workspace.protected);
        let files = &policy.filesystem;
        self.word("filesystem.rootfs", &files.rootfs);
        let tmp = Effective::Amount(Some(files.tmp.value), Unit::Bytes);
        self.add("filesystem.tmp", tmp, &files.tmp.origin);
        self.texts("filesystem.masked", &files.masked);
        for mount in &files.mounts {
            self.add("filesystem.mount", Effective::Mount(mount), &mount.origin);
        }
        self.count("landlock.minimum_abi", &policy.landlock_minimum_abi);
    }

    fn calls(&mut self, policy: &'p Policy) {
        let calls = &policy.syscalls;
        self.word("syscalls.profile", &calls.profile);
        for SyscallGrant { name, why, origin } in &calls.allow {
            self.add("syscalls.allow", Effective::Named { name, why }, origin);
        }
        self.texts("syscalls.deny", &calls.deny);
        self.word("syscalls.on_denied", &calls.on_denied);
        for (capability, CapabilityGrant { why, origin }) in &policy.capabilities {
            let name = capability.name();
            self.add("capabilities.keep", Effective::Named { name, why }, origin);
        }
    }

    fn environment(&mut self, policy: &'p Policy) {
        self.texts("environment.pass", &policy.environment.pass);
        for (name, value) in &policy.environment.set {
            let key = format!("environment.set.{name}");
            self.add(key, Effective::Text(&value.value), &value.origin);
        }
    }

    fn network(&mut self, policy: &'p Policy) {
        let rules = &policy.network_rules;
        self.word("network.mode", &policy.network);
        for allow in &rules.allow {
            self.add("network.allow", Effective::Reach(allow), &allow.origin);
        }
        self.word("network.tls_without_name", &rules.tls_without_name);
        for publish in &rules.publish {
            self.add(
                "network.publish",
                Effective::Publish(&publish.value),
                &publish.origin,
            );
        }
        self.count("network.limits.connections", &rules.connections);
        self.count("network.limits.new_per_second", &rules.new_per_second);
        self.count("network.limits.dns_per_second", &rules.dns_per_second);
    }

    fn resources(&mut self, policy: &'p Policy) {
        let resources = &policy.resources;
        self.limit("resources.memory", &resources.memory, Unit::Bytes);
        self.limit("resources.cpus", &resources.milli_cpus, Unit::MilliCpus);
        self.limit("resources.pids", &resources.pids, Unit::Count);
        self.limit("resources.disk", &resources.disk, Unit::Bytes);
        self.limit("resources.timeout", &resources.timeout, Unit::Seconds);
    }
}

/// Each value with its origin, one line each, in columns.
pub fn origins(policy: &Policy) -> String {
    let entries = entries(policy);
    let said: Vec<String> = entries
        .iter()
        .map(|entry| format!("{} = {}", entry.key, entry.value.to_toml()))
        .collect();
    // One long grant must not push every origin to the far right.
    const WIDEST: usize = 60;
    let lengths = said.iter().map(|said| said.chars().count());
    let width = lengths
        .filter(|&length| length <= WIDEST)
        .max()
        .unwrap_or(0);
    let lines = said.iter().zip(&entries);
    lines
        .map(|(said, entry)| format!("{said:width$}  {}\n", entry.origin))
        .collect()
}

/// The same as JSON: a list of key, value, origin.
pub fn origins_json(policy: &Policy) -> Json {
    let entry = |entry: &Entry<'_>| json!({ "key": entry.key, "value": entry.value.to_json(), "origin": entry.origin.to_string() });
    entries(policy).iter().map(entry).collect()
}
