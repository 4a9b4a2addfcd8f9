//! [pure] Laying presets, a file and flags over each other: preset < file < flags.
//!
//! Single values are replaced, lists that grant are added to, and every value
//! keeps the place where it was written.

use crate::policy::NetworkMode;
use crate::policy::document::Field;
use crate::policy::flags::{AllowFlag, Flag, FlagLayer, Limit, MountFlag, TmpfsFlag};
use crate::policy::leaf::{
    AbsolutePath, EnvName, EnvValue, HostPath, Limited, MilliCpus, Seconds, Sentence, Size, Whole,
};
use crate::policy::presets::{STRICT, parse_preset, unknown};
use crate::policy::schema::{RawMount, RawPolicy, RawReach, RawResources};
use crate::policy::text;
use crate::policy::words::{MountAccess, Word};
use crate::source::diagnostic::Diagnostic;
use crate::source::mistakes::Mistakes;
use crate::source::text::{At, Written};
use std::fmt::Display;

/// The most `extends` that may follow each other.
pub const CHAIN_MAX: usize = 3;

/// Everything that was said, in one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layered {
    /// Keys of presets and file, and what flags say about them.
    pub policy: RawPolicy,
    /// `--tmpfs`, which no key can say.
    pub tmpfs: Vec<Written<TmpfsFlag>>,
}

/// Lays `policy` over what it extends, and `flags` over that.
pub fn layer(policy: RawPolicy, flags: &FlagLayer) -> Result<Layered, Vec<Diagnostic>> {
    let mut layers = chain(policy).map_err(|diagnostic| vec![diagnostic])?;
    let mut layered = Layered::default();
    while let Some(later) = layers.pop() {
        layered.policy.layer(later);
    }
    let mut mistakes = Mistakes::default();
    refuse_flags(&layered.policy, flags, &mut mistakes);
    if let Some(diagnostic) = above_ceiling(&layered.policy, flags) {
        mistakes.push(diagnostic);
    }
    layered.policy.layer(flag_policy(flags, &mut mistakes));
    let tmpfs = flags.tmpfs.iter().cloned();
    layered.tmpfs = tmpfs.map(|tmpfs| by_flag(Flag::Tmpfs, tmpfs)).collect();
    mistakes.or(layered)
}

/// `policy` and what it stands on, down to `strict`.
fn chain(policy: RawPolicy) -> Result<Vec<RawPolicy>, Diagnostic> {
    let mut layers = vec![policy];
    while let Some(top) = layers.last() {
        let base = match &top.extends {
            Some(base) => base.clone(),
            None => break,
        };
        if layers.len() > CHAIN_MAX {
            let message = format!("`extends` follow each other more than {CHAIN_MAX} times");
            return Err(pointing(Diagnostic::error(message), &base.at));
        }
        layers.push(preset(&base.value.0).map_err(|error| pointing(error, &base.at))?);
    }
    let is_strict = |policy: &RawPolicy| match policy.schema.as_ref().map(|schema| &schema.at) {
        Some(At::Text { source, .. }) => source.preset_name() == Some(STRICT),
        Some(At::Flag(_)) | None => false,
    };
    if !layers.last().is_some_and(is_strict) {
        layers.push(preset(STRICT)?);
    }
    Ok(layers)
}

/// A preset's own mistakes cannot be mended by the reader of a message: one is enough.
fn preset(name: &str) -> Result<RawPolicy, Diagnostic> {
    parse_preset(name).map_err(|mut diagnostics| match diagnostics.is_empty() {
        true => unknown(name),
        false => diagnostics.swap_remove(0),
    })
}

/// `diagnostic` at the place of `at`, unless it has one.
pub fn pointing(mut diagnostic: Diagnostic, at: &At) -> Diagnostic {
    diagnostic.place = diagnostic.place.or_else(|| at.place());
    diagnostic
}

fn by_flag<T>(flag: Flag, value: T) -> Written<T> {
    Written::new(value, At::Flag(flag.typed()))
}

/// Flags that `[flags] allow` does not name.
fn refuse_flags(policy: &RawPolicy, flags: &FlagLayer, mistakes: &mut Mistakes) {
    let Some(allowed) = &policy.flags.allow.0 else {
        return;
    };
    let names: Vec<&str> = allowed.value.iter().map(|flag| flag.value.word()).collect();
    let known = match names.as_slice() {
        [] => "the policy allows no flag".to_owned(),
        names => format!("the policy allows: {}", names.join(", ")),
    };
    for flag in flags.given() {
        if !names.contains(&flag.word()) {
            let message = format!("this policy does not let a caller use {}", flag.typed());
            let diagnostic = Diagnostic::error(message).with_help(known.clone());
            mistakes.push(pointing(diagnostic, &allowed.at));
        }
    }
}

/// `--workspace` asking for more than `workspace.access`.
fn above_ceiling(policy: &RawPolicy, flags: &FlagLayer) -> Option<Diagnostic> {
    let (asked, ceiling) = (flags.workspace?, policy.workspace.access.as_ref()?);
    if asked <= ceiling.value {
        return None;
    }
    let (asked, most) = (asked.word(), ceiling.value.word());
    let message = format!("--workspace asks for {asked}, and this policy allows {most} at most");
    let help = match most {
        "none" => "leave --workspace out, or use a policy whose workspace.access allows it".into(),
        most => format!(
            "write `--workspace DIR:{most}`, or use a policy with workspace.access = {asked:?}"
        ),
    };
    Some(pointing(
        Diagnostic::error(message).with_help(help),
        &ceiling.at,
    ))
}

/// What the flags say, as a policy of their own.
fn flag_policy(flags: &FlagLayer, mistakes: &mut Mistakes) -> RawPolicy {
    let mut policy = RawPolicy {
        resources: flag_limits(flags, mistakes),
        ..RawPolicy::default()
    };
    let implied = || (!flags.allow.is_empty()).then_some((Flag::Allow, NetworkMode::Allowlist));
    let mode = flags.network.map(|mode| (Flag::Network, mode));
    policy.network.mode = mode
        .or_else(implied)
        .map(|(flag, mode)| by_flag(flag, mode));
    policy.network.allow = flags.allow.iter().map(flag_reach).collect();
    let publish = flags.publish.iter();
    let publish = publish.map(|publish| by_flag(Flag::Publish, *publish));
    policy.network.publish = publish.collect();
    for (name, value) in &flags.env {
        let name = keep(mistakes, Flag::Env, text::env_name(name));
        let value = keep(mistakes, Flag::Env, text::env_value(value));
        if let (Some(name), Some(value)) = (name, value) {
            let value = by_flag(Flag::Env, EnvValue(value));
            policy.environment.set.insert(EnvName(name), value);
        }
    }
    let grants = flags.mounts.iter().map(|mount| flag_mount(mount, mistakes));
    policy.filesystem.mount = grants.collect();
    policy
}

fn flag_limits(flags: &FlagLayer, mistakes: &mut Mistakes) -> RawResources {
    RawResources {
        memory: limit(mistakes, Flag::Memory, flags.memory, Size::checked),
        cpus: limit(mistakes, Flag::Cpus, flags.milli_cpus, |milli| {
            text::cpus(&text::format_cpus(milli)).map(MilliCpus)
        }),
        pids: limit(mistakes, Flag::Pids, flags.pids, |pids| {
            Whole::checked(pids.into())
        }),
        disk: limit(mistakes, Flag::Disk, flags.disk, Size::checked),
        timeout: limit(mistakes, Flag::Timeout, flags.timeout, |seconds| {
            text::duration(&text::format_duration(seconds)).map(Seconds)
        }),
    }
}

fn flag_mount(mount: &MountFlag, mistakes: &mut Mistakes) -> Written<RawMount> {
    let source = keep(mistakes, Flag::Mount, text::sentence(&mount.source));
    let target = keep(mistakes, Flag::Mount, text::absolute_path(&mount.target));
    let access = match mount.writable {
        true => MountAccess::Rw,
        false => MountAccess::Ro,
    };
    let grant = RawMount {
        source: source.map(|source| by_flag(Flag::Mount, HostPath(source))),
        target: target.map(|target| by_flag(Flag::Mount, AbsolutePath(target))),
        access: Some(by_flag(Flag::Mount, access)),
        why: Some(by_flag(Flag::Mount, own_reason())),
    };
    by_flag(Flag::Mount, grant)
}

fn flag_reach(allow: &AllowFlag) -> Written<RawReach> {
    let grant = RawReach {
        to: Some(by_flag(Flag::Allow, allow.to.clone())),
        ports: vec![by_flag(Flag::Allow, allow.ports)],
        proto: None,
        why: Some(by_flag(Flag::Allow, own_reason())),
    };
    by_flag(Flag::Allow, grant)
}

/// A flag is its own reason.
fn own_reason() -> Sentence {
    Sentence("asked for on the command line".into())
}

/// The value, or a mistake that names the flag.
fn keep<T>(mistakes: &mut Mistakes, flag: Flag, read: Result<T, impl Display>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(cause) => {
            mistakes.push(Diagnostic::error(format!("{}: {cause}", flag.typed())));
            None
        }
    }
}

fn limit<N, T, E: Display>(
    mistakes: &mut Mistakes,
    flag: Flag,
    given: Option<Limit<N>>,
    checked: impl Fn(N) -> Result<T, E>,
) -> Option<Written<Limited<T>>> {
    let limit = match given? {
        None => Limited(None),
        Some(number) => Limited(Some(keep(mistakes, flag, checked(number))?)),
    };
    Some(by_flag(flag, limit))
}
