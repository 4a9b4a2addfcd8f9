//! [pure] The Plan as text for people: one line per step.

use super::{Op, Plan, Published, Root};
use std::fmt::Write;

impl Op {
    /// The step in a few words: verb and object.
    pub fn summary(&self) -> String {
        match self {
            Self::OuterUser { uids, writer, .. } => format!(
                "user namespace U0 ({}; written by {writer:?})",
                crate::confine::idmap::describe(uids)
            ),
            Self::Namespaces { kinds } => {
                let kinds: Vec<String> = kinds
                    .iter()
                    .map(|kind| format!("{kind:?}").to_lowercase())
                    .collect();
                format!("namespaces: {}", kinds.join(", "))
            }
            Self::NamespaceLimits { limits } => {
                let limits: Vec<String> = limits
                    .iter()
                    .map(|(name, limit)| format!("{name}={limit}"))
                    .collect();
                format!("limits of U0: {}", limits.join(", "))
            }
            Self::Cgroup { limits } => format!(
                "cgroup: memory {}, cpus {}, pids {}",
                optional(limits.memory),
                optional(limits.milli_cpus.map(|milli| f64::from(milli) / 1000.0)),
                optional(limits.pids)
            ),
            Self::Groups => "drop supplementary groups".to_owned(),
            Self::Affinity { first, cpus } => format!("pin to {cpus} CPUs from {first} on"),
            Self::Network { ruleset, ipv6 } => format!(
                "network: {} in namespace N1 behind N0, which has {} lines of rules",
                if *ipv6 { "IPv4 and IPv6" } else { "IPv4" },
                ruleset.lines().count()
            ),
            Self::Loopback => "bring up loopback".to_owned(),
            Self::Hostname { name } => format!("hostname {name}"),
            Self::Root {
                root: Root::Tmpfs { size },
            } => format!("root: tmpfs of {size} bytes"),
            Self::Root {
                root: Root::Overlay { source, upper, .. },
            } => {
                format!("root: overlay of source {source}, writes to {upper:?}")
            }
            Self::File { path, .. } => format!("file {path}"),
            Self::Symlink { path, target } => format!("symlink {path} -> {target}"),
            Self::Bind {
                source,
                path,
                attributes,
            } => {
                format!("bind source {source} at {path}{}", attributes.words())
            }
            Self::Placeholder { path, .. } => format!("placeholder {path} in the workspace"),
            Self::Pin { path, read_only } => {
                format!("pin {path}{}", if *read_only { " read-only" } else { "" })
            }
            Self::Tmpfs {
                path, size, mode, ..
            } => {
                format!("tmpfs {path} of {size} bytes mode {mode:o}")
            }
            Self::Overlay {
                source,
                path,
                upper,
                ..
            } => {
                format!("overlay of source {source} at {path}, writes to {upper:?}")
            }
            Self::Proc { path } => format!("proc at {path}"),
            Self::Devpts { path, max } => format!("devpts at {path}, at most {max} terminals"),
            Self::Mqueue { path } => format!("message queues at {path}"),
            Self::Terminal { .. } => "terminal of its own".to_owned(),
            Self::Mask { path, .. } => format!("mask {path}"),
            Self::ReadOnly { path } => format!("read-only {path}"),
            Self::SealRoot => "root read-only".to_owned(),
            Self::Pivot => "pivot: the host's tree is gone".to_owned(),
            Self::Rlimits { limits } => {
                let limits: Vec<String> = limits
                    .iter()
                    .map(|(name, soft, hard)| format!("{name:?}={soft}:{hard}").to_lowercase())
                    .collect();
                format!("rlimits {}", limits.join(", "))
            }
            Self::JobUser { uids, .. } => format!(
                "user namespace U2 ({}) with a locked copy of the mounts",
                crate::confine::idmap::describe(uids)
            ),
            Self::Keyring => "fresh session keyring".to_owned(),
            Self::Capabilities { job, .. } => {
                let names: Vec<&str> = job.iter().map(|cap| cap.name()).collect();
                format!(
                    "capabilities: {}",
                    if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(" ")
                    }
                )
            }
            Self::NoNewPrivileges => "no_new_privs".to_owned(),
            Self::Landlock { rules } => format!(
                "landlock: {} paths, rights {:#x}, scopes {:#x}",
                rules.rules.len(),
                rules.handled_fs,
                rules.scoped
            ),
            Self::Seccomp { filter } => format!("seccomp: {}", filter.summary()),
        }
    }
}

fn optional<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

impl super::Attributes {
    fn words(self) -> String {
        let mut words = String::new();
        for (on, word) in [
            (self.read_only, " read-only"),
            (self.no_exec, " noexec"),
            (self.set_id, " suid"),
            (self.devices, " dev"),
        ] {
            if on {
                words.push_str(word);
            }
        }
        words
    }
}

impl Plan {
    /// The whole plan for people.
    pub fn text(&self) -> String {
        let mut out = format!("plan of {} under policy {}\n", self.name, self.policy);
        line(&mut out, format_args!("sources"));
        for (index, source) in self.sources.iter().enumerate() {
            line(&mut out, format_args!("  {index:>3}  {}", source.path));
        }
        line(&mut out, format_args!("steps"));
        for (index, step) in self.steps.iter().enumerate() {
            line(
                &mut out,
                format_args!("  {index:>3}  {}  [{}]", step.op.summary(), step.why),
            );
        }
        if let Some(rules) = &self.network {
            line(&mut out, format_args!("reachable"));
            for reachable in super::network::text(rules) {
                line(&mut out, format_args!("       {reachable}"));
            }
        }
        if !self.published.is_empty() {
            line(&mut out, format_args!("published"));
        }
        for Published { publish, why } in &self.published {
            let text = super::network::published_text(publish);
            line(&mut out, format_args!("       {text}  [{why}]"));
        }
        line(&mut out, format_args!("controls"));
        for control in &self.controls {
            let weaker = if control.degraded.is_some() {
                "  WEAKER"
            } else {
                ""
            };
            line(
                &mut out,
                format_args!(
                    "       {:<14} {:<16} {}{weaker}  [{}]",
                    control.control, control.requested, control.actual, control.why
                ),
            );
        }
        for warning in &self.warnings {
            line(&mut out, format_args!("note   {warning}"));
        }
        line(
            &mut out,
            format_args!(
                "exec   {:?} in {} as {}:{}",
                self.exec.argv, self.exec.directory, self.exec.uid, self.exec.gid
            ),
        );
        out
    }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    if out.write_fmt(arguments).is_ok() {
        out.push('\n');
    }
}
