//! [pure] From what was written to a [`Policy`]: the checks that look beyond one value.

use crate::linux::capability::Capability;
use crate::policy::expand::Expansion;
use crate::policy::forbidden::{ForbiddenRoot, below, refusal};
use crate::policy::layer::{Layered, layer, pointing};
use crate::policy::leaf::{CallName, Sentence};
use crate::policy::presets::parse_preset;
use crate::policy::schema::{RawCall, RawCapability, RawMount, RawPolicy, parse};
use crate::policy::words::MountAccess;
use crate::policy::*;
use crate::source::diagnostic::Diagnostic;
use crate::source::mistakes::Mistakes;
use crate::source::nearest::nearest;
use crate::source::text::{At, Source, Written};
use flags::FlagLayer;

/// What a policy is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What the beginnings of host paths stand for.
    pub expansion: &'a Expansion,
    /// Directories that no mount may give away.
    pub forbidden: &'a [ForbiddenRoot],
    /// The kernel's names of all system calls we know.
    pub known_calls: &'a [&'a str],
}

/// Checks everything and reports all mistakes together.
pub fn validate(
    layered: &Layered,
    surroundings: &Surroundings<'_>,
) -> Result<Policy, Vec<Diagnostic>> {
    let mut check = Check {
        surroundings,
        mistakes: Mistakes::default(),
    };
    let policy = check.policy(layered);
    // A missing part is always a mistake too, so that `None` cannot come out of `Ok`.
    let missing = || vec![Diagnostic::error("the policy is incomplete")];
    check.mistakes.or(policy)?.ok_or_else(missing)
}

impl Policy {
    /// The whole way from a text to a policy: parse, lay over what it extends, lay flags over it, check.
    pub fn read(
        source: Source,
        flags: &FlagLayer,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, Vec<Diagnostic>> {
        validate(&layer(parse(source)?, flags)?, surroundings)
    }

    /// A preset as it is; presets name no path of the host and no single system call.
    pub fn preset(name: &str) -> Result<Self, Vec<Diagnostic>> {
        let nowhere = Surroundings {
            expansion: &Expansion::default(),
            forbidden: &[],
            known_calls: &[],
        };
        validate(
            &layer(parse_preset(name)?, &FlagLayer::default())?,
            &nowhere,
        )
    }
}

/// A policy being checked; the checks of the network are in `egress`.
pub(super) struct Check<'a> {
    surroundings: &'a Surroundings<'a>,
    mistakes: Mistakes,
}

impl Check<'_> {
    /// `None` only with a diagnostic.
    fn policy(&mut self, layered: &Layered) -> Option<Policy> {
        let raw = &layered.policy;
        let name = self.need(&raw.name, "name", |name| name.0.clone());
        let ids = self.ids(raw);
        let workspace = self.workspace(raw);
        let filesystem = self.filesystem(layered);
        let minimum = self.need(&raw.landlock.minimum_abi, "landlock.minimum_abi", |abi| {
            abi.0
        });
        let syscalls = self.syscalls(raw);
        let capabilities = self.capabilities(&raw.capabilities.keep);
        let network = self.need(&raw.network.mode, "network.mode", |mode| *mode);
        let network_rules = self.network_rules(&raw.network);
        let resources = self.resources(raw);
        Some(Policy {
            name: name?.value,
            ids: ids?,
            workspace: workspace?,
            filesystem: filesystem?,
            landlock_minimum_abi: minimum?,
            syscalls: syscalls?,
            capabilities,
            environment: environment(raw),
            network: network?,
            network_rules: network_rules?,
            resources: resources?,
            degrade: degrade(raw),
            flags: raw.flags.allow.0.as_ref().map(|allowed| {
                allowed.sourced(allowed.value.iter().map(|flag| flag.value).collect())
            }),
        })
    }

    pub(super) fn refuse(&mut self, at: &At, diagnostic: Diagnostic) {
        let named = match at {
            At::Flag(flag) => Diagnostic {
                message: format!("{flag}: {}", diagnostic.message),
                ..diagnostic
            },
            At::Text { .. } => diagnostic,
        };
        self.mistakes.push(pointing(named, at));
    }

    /// A value that `strict` gives if nobody else does.
    pub(super) fn need<T, U>(
        &mut self,
        written: &Option<Written<T>>,
        key: &str,
        valid: impl Fn(&T) -> U,
    ) -> Option<Sourced<U>> {
        if written.is_none() {
            let message = format!("`{key}` is set neither by the policy nor by a preset");
            self.mistakes.push(Diagnostic::error(message));
        }
        written
            .as_ref()
            .map(|written| written.sourced(valid(&written.value)))
    }

    /// A part that a grant at `key` must have.
    pub(super) fn part<'w, T>(
        &mut self,
        part: &'w Option<Written<T>>,
        key: &str,
        grant: &At,
    ) -> Option<&'w T> {
        if part.is_none() {
            let (list, name) = key.rsplit_once('.').unwrap_or(("", key));
            let help = match name {
                "why" => "say in one line why the job needs it: why = \"…\"".to_owned(),
                name => format!("add {name} = …"),
            };
            let message = format!("{list}: this grant has no `{name}`");
            self.refuse(grant, Diagnostic::error(message).with_help(help));
        }
        part.as_ref().map(|part| &part.value)
    }

    fn ids(&mut self, raw: &RawPolicy) -> Option<Ids> {
        let mode = self.need(&raw.ids.mode, "ids.mode", |mode| *mode);
        let uid = self.need(&raw.ids.workspace_uid, "ids.workspace_uid", |uid| *uid);
        let size = self.need(&raw.ids.exclusive_size, "ids.exclusive_size", |size| size.0);
        Some(Ids {
            mode: mode?,
            workspace_uid: uid?,
            exclusive_size: size?,
        })
    }

    fn workspace(&mut self, raw: &RawPolicy) -> Option<WorkspaceRule> {
        let access = self.need(&raw.workspace.access, "workspace.access", |access| *access);
        Some(WorkspaceRule {
            access: access?,
            protected: first_of_each(&raw.workspace.protected, |path| path.0.clone()),
        })
    }

    fn filesystem(&mut self, layered: &Layered) -> Option<Filesystem> {
        let raw = &layered.policy.filesystem;
        let rootfs = self.need(&raw.rootfs, "filesystem.rootfs", |mode| *mode);
        let tmp = self.need(&raw.tmp, "filesystem.tmp", |size| size.0);
        let mut targets = Targets::default();
        let mounts = raw.mount.iter();
        let mounts = mounts
            .filter_map(|mount| self.mount(mount, &mut targets))
            .collect();
        let tmpfs = layered.tmpfs.iter().filter_map(|tmpfs| {
            let target = self.inside(&tmpfs.value.target, &tmpfs.at, &mut targets)?;
            Some(TmpfsGrant {
                target,
                size: tmpfs.value.size,
                origin: tmpfs.at.origin(),
            })
        });
        Some(Filesystem {
            tmpfs: tmpfs.collect(),
            rootfs: rootfs?,
            tmp: tmp?,
            masked: first_of_each(&raw.masked, |path| path.0.clone()),
            mounts,
        })
    }

    fn mount(&mut self, grant: &Written<RawMount>, targets: &mut Targets) -> Option<MountGrant> {
        let (mount, at) = (&grant.value, &grant.at);
        let source = self.part(&mount.source, "filesystem.mount.source", at);
        let target = self.part(&mount.target, "filesystem.mount.target", at);
        let why = self.part(&mount.why, "filesystem.mount.why", at);
        let access = mount
            .access
            .as_ref()
            .map_or(MountAccess::Ro, |access| access.value);
        let access = Access::from(access);
        let source_at = mount.source.as_ref().map_or(at, |source| &source.at);
        let source = source.and_then(|source| self.mount_source(&source.0, access, source_at));
        let target_at = mount.target.as_ref().map_or(at, |target| &target.at);
        let target = target.and_then(|target| self.inside(&target.0, target_at, targets));
        Some(MountGrant {
            source: source?,
            target: target?,
            access,
            why: why?.0.clone(),
            origin: at.origin(),
        })
    }

    fn mount_source(&mut self, text: &str, access: Access, at: &At) -> Option<String> {
        let path = match self.surroundings.expansion.host_path(text, at) {
            Ok(path) => path,
            Err(error) => {
                self.refuse(
                    at,
                    Diagnostic::error(format!("filesystem.mount.source: {error}")),
                );
                return None;
            }
        };
        if let Some(why) = refusal(&path, access, self.surroundings.forbidden) {
            let help = match access {
                Access::Rw => "name a directory of its own for this, or mount it read-only",
                Access::None | Access::Ro | Access::Copy => "name a directory of its own for this",
            };
            let message = format!("cannot mount {path}: {why}");
            self.refuse(at, Diagnostic::error(message).with_help(help));
            return None;
        }
        Some(path)
    }

    /// A place inside that may be mounted over, once.
    fn inside(&mut self, target: &str, at: &At, targets: &mut Targets) -> Option<String> {
        const OURS: [&str; 3] = ["/proc", "/sys", "/dev"];
        let ours = OURS
            .iter()
            .find(|ours| target == **ours || below(target, ours));
        let cause = match (target, ours) {
            ("/", _) => "it would cover the whole root".to_owned(),
            (_, Some(ours)) => {
                format!("{ours} is made for each sandbox and nothing is mounted in it")
            }
            (_, None) => match targets.0.insert(target.to_owned(), at.origin()) {
                None => return Some(target.to_owned()),
                Some(first) => format!("{first} mounts something there already"),
            },
        };
        let message = format!("cannot mount at {target} inside: {cause}");
        self.refuse(
            at,
            Diagnostic::error(message).with_help("choose another target"),
        );
        None
    }

    fn syscalls(&mut self, raw: &RawPolicy) -> Option<Syscalls> {
        let raw = &raw.syscalls;
        let profile = self.need(&raw.profile, "syscalls.profile", |profile| *profile);
        let on_denied = self.need(&raw.on_denied, "syscalls.on_denied", |on_denied| *on_denied);
        for denied in &raw.deny {
            self.known_call(&denied.value, &denied.at);
        }
        let deny = first_of_each(&raw.deny, |name| name.0.clone());
        let grants: Vec<_> = raw
            .allow
            .iter()
            .filter_map(|call| self.call(call))
            .collect();
        let mut allow: Vec<SyscallGrant> = Vec::new();
        for grant in grants {
            let denied = deny.iter().any(|denied| denied.value == grant.name);
            let repeated = allow.iter().any(|other| other.name == grant.name);
            if !denied && !repeated {
                allow.push(grant);
            }
        }
        Some(Syscalls {
            profile: profile?,
            allow,
            deny,
            on_denied: on_denied?,
        })
    }

    fn call(&mut self, grant: &Written<RawCall>) -> Option<SyscallGrant> {
        let name = self.part(&grant.value.name, "syscalls.allow.name", &grant.at);
        let why = self.part(&grant.value.why, "syscalls.allow.why", &grant.at);
        let at = grant.value.name.as_ref().map_or(&grant.at, |name| &name.at);
        let name = name.filter(|name| self.known_call(name, at))?;
        Some(SyscallGrant {
            name: name.0.clone(),
            why: why?.0.clone(),
            origin: grant.at.origin(),
        })
    }

    fn known_call(&mut self, name: &CallName, at: &At) -> bool {
        let known = self.surroundings.known_calls;
        let found = known.contains(&name.0.as_str());
        if !found {
            let help = match nearest(&name.0, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "names are the kernel's, as in syscalls(2)".to_owned(),
            };
            let message = format!("no system call is called `{}`", name.0);
            self.refuse(at, Diagnostic::error(message).with_help(help));
        }
        found
    }

    fn capabilities(
        &mut self,
        keep: &[Written<RawCapability>],
    ) -> BTreeMap<Capability, CapabilityGrant> {
        let mut kept = BTreeMap::new();
        for grant in keep {
            let name = self.part(&grant.value.name, "capabilities.keep.name", &grant.at);
            let why = self.part(&grant.value.why, "capabilities.keep.why", &grant.at);
            if let (Some(name), Some(Sentence(why))) = (name, why) {
                kept.entry(*name).or_insert_with(|| CapabilityGrant {
                    why: why.clone(),
                    origin: grant.at.origin(),
                });
            }
        }
        kept
    }

    fn resources(&mut self, raw: &RawPolicy) -> Option<Resources> {
        let raw = &raw.resources;
        let memory = self.need(&raw.memory, "resources.memory", |limit| {
            limit.0.map(|size| size.0)
        });
        let cpus = self.need(&raw.cpus, "resources.cpus", |limit| {
            limit.0.map(|cpus| cpus.0)
        });
        let pids = self.need(&raw.pids, "resources.pids", |limit| {
            limit.0.map(|pids| pids.0)
        });
        let disk = self.need(&raw.disk, "resources.disk", |limit| {
            limit.0.map(|size| size.0)
        });
        let timeout = self.need(&raw.timeout, "resources.timeout", |limit| {
            limit.0.map(|time| time.0)
        });
        Some(Resources {
            memory: memory?,
            milli_cpus: cpus?,
            pids: pids?,
            disk: disk?,
            timeout: timeout?,
        })
    }
}

/// What is mounted where inside, and who said so.
#[derive(Default)]
struct Targets(BTreeMap<String, Origin>);

/// The elements in order; of equal ones the first, which is the lowest layer's.
fn first_of_each<T>(list: &[Written<T>], valid: impl Fn(&T) -> String) -> Vec<Sourced<String>> {
    let mut seen = BTreeSet::new();
    let all = list
        .iter()
        .map(|written| written.sourced(valid(&written.value)));
    all.filter(|element| seen.insert(element.value.clone()))
        .collect()
}

fn environment(raw: &RawPolicy) -> Environment {
    let set = raw.environment.set.iter();
    Environment {
        pass: first_of_each(&raw.environment.pass, |pattern| pattern.0.clone()),
        set: set
            .map(|(name, value)| (name.0.clone(), value.sourced(value.value.0.clone())))
            .collect(),
    }
}

fn degrade(raw: &RawPolicy) -> BTreeMap<Control, Origin> {
    let mut allowed = BTreeMap::new();
    for control in &raw.degrade.allow {
        allowed
            .entry(control.value)
            .or_insert_with(|| control.at.origin());
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::forbidden::{HostDirectories, roots};
    use crate::source::render::{Colour, render};

    fn read(text: &str) -> Result<Policy, String> {
        read_with(text, &FlagLayer::default())
    }

    fn read_with(text: &str, flags: &FlagLayer) -> Result<Policy, String> {
        let expansion = Expansion {
            home: Some("/home/u".into()),
            xdg_runtime_dir: Some("/run/user/7".into()),
            ssh_auth_sock: None,
            file_dir: Some("/etc/ci".into()),
            current_dir: Some("/src".into()),
        };
        let directories = HostDirectories {
            homes: vec!["/home/u".into()],
            state: vec!["/home/u/.local/share/cofferdam".into()],
            ..HostDirectories::default()
        };
        let surroundings = Surroundings {
            expansion: &expansion,
            forbidden: &roots(&directories),
            known_calls: &["ptrace", "read", "io_uring_setup"],
        };
        let source = Source::file("p.toml", text);
        Policy::read(source, flags, &surroundings)
            .map_err(|diagnostics| render(&diagnostics, Colour::Never))
    }

    #[test]
    fn the_presets_are_policies() {
        for name in crate::policy::presets::names() {
            let policy = Policy::preset(name);
            assert_eq!(policy.map(|policy| policy.name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_strict() {
        let policy = read("schema = 1").unwrap();
        let strict = Policy::preset("strict").unwrap();
        assert_eq!(policy, strict);
    }
}
