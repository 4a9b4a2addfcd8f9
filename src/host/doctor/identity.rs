//! [pure] Findings about who we are and which ids and namespaces we may have.

use super::{Deep, Finding, Outcome, degraded, missing, ok};
use crate::host::facts::{Facts, IdRange, UserNamespaces};

/// A whole set of ids as images expect it: 1 to 65535.
const WHOLE_RANGE: u32 = 65_535;

/// May we make one, by the switches and in fact.
pub fn user_namespaces(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "user_namespaces";
    const COSTS: &str = "no sandbox can be made";
    let refused = |what: &str, fix: &str| missing(CONTROL, what).costs(COSTS).fix(fix);
    match (facts.user_namespaces, deep.user_namespace) {
        (UserNamespaces::Missing, _) => refused(
            "the kernel has none",
            "boot a kernel built with CONFIG_USER_NS",
        ),
        (UserNamespaces::LimitZero, _) => refused(
            "user.max_user_namespaces is 0",
            &sysctl("user.max_user_namespaces=15000"),
        ),
        (UserNamespaces::SysctlOff, _) => refused(
            "kernel.unprivileged_userns_clone is 0",
            &sysctl("kernel.unprivileged_userns_clone=1"),
        ),
        (UserNamespaces::AppArmor, _) => refused(
            "AppArmor forbids them (kernel.apparmor_restrict_unprivileged_userns is 1) to programs without a profile",
            "sudo install -m 644 packaging/apparmor/cofferdam /etc/apparmor.d/cofferdam && sudo apparmor_parser -r /etc/apparmor.d/cofferdam",
        ),
        (UserNamespaces::Available, Outcome::Fails(errno)) => refused(
            &format!("the switches allow them, and making one fails: {errno}"),
            "inside a container, start it with --security-opt seccomp=unconfined; elsewhere look for a security module",
        ),
        (UserNamespaces::Available, Outcome::Works) => ok(CONTROL, "made and used one"),
    }
}

fn sysctl(setting: &str) -> String {
    format!("echo {setting} | sudo tee /etc/sysctl.d/60-cofferdam.conf && sudo sysctl --system")
}

/// Which ranges we have.
pub fn subordinate_ids(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "subordinate_ids";
    let (uids, gids) = match (facts.subordinate.uids, facts.subordinate.gids) {
        (Some(uids), Some(gids)) => (uids, gids),
        (uids, _) => {
            let file = if uids.is_none() {
                "/etc/subuid"
            } else {
                "/etc/subgid"
            };
            return missing(CONTROL, format!("{file} gives none to {}", caller(facts)))
                .costs("only policies with ids.mode = \"caller\" start: one id, the caller's own")
                .fix(add_ids(facts, deep));
        }
    };
    let what = format!("uids {}, gids {}", span(uids), span(gids));
    if uids.count.min(gids.count) < WHOLE_RANGE {
        return degraded(CONTROL, what)
            .costs("files of an image that belong to higher ids cannot be shown")
            .fix(add_ids(facts, deep));
    }
    ok(CONTROL, what)
}

fn span(range: IdRange) -> String {
    format!("{}-{}", range.start, range.start + (range.count - 1))
}

/// Who started us, for a message or a command.
pub fn caller(facts: &Facts) -> String {
    facts
        .caller
        .name
        .clone()
        .unwrap_or_else(|| format!("uid {}", facts.caller.uid))
}

/// usermod knows only accounts of /etc/passwd; others are written by number.
fn add_ids(facts: &Facts, deep: &Deep) -> String {
    let Some(start) = deep.free_ids else {
        return "free 65536 ids in /etc/subuid and /etc/subgid, where all are given away".into();
    };
    match &facts.caller.name {
        Some(name) => {
            let span = span(IdRange {
                start,
                count: 65_536,
            });
            format!("sudo usermod --add-subuids {span} --add-subgids {span} {name}")
        }
        None => format!(
            "echo {}:{start}:65536 | sudo tee -a /etc/subuid /etc/subgid",
            facts.caller.uid
        ),
    }
}

/// newuidmap and newgidmap.
pub fn id_helpers(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "id_helpers";
    if facts.caller.is_root() {
        return ok(CONTROL, "root maps ids itself");
    }
    let helpers = &facts.subordinate;
    let lacking = match (&helpers.newuidmap, &helpers.newgidmap) {
        (Some(uid), Some(gid)) => return tried(format!("{uid}, {gid}"), deep),
        (None, Some(_)) => "newuidmap is",
        (Some(_), None) => "newgidmap is",
        (None, None) => "newuidmap and newgidmap are",
    };
    missing(
        CONTROL,
        format!("{lacking} not installed, or not setuid root"),
    )
    .costs("subordinate ids cannot be mapped")
    .fix("sudo apt install uidmap   (Fedora: shadow-utils, Arch: shadow, Alpine: shadow-subids)")
}

/// Installed is not enough: set-id bits do nothing below no_new_privs or on a nosuid mount, and
/// the caller must have an account.
fn tried(what: String, deep: &Deep) -> Finding {
    match &deep.id_maps {
        Ok(()) => ok("id_helpers", what),
        Err(complaint) => missing("id_helpers", format!("{what}: {complaint}"))
            .costs("subordinate ids cannot be mapped")
            .fix("start outside of containers and services with no_new_privs, from a mount without nosuid, as a user with an account"),
    }
}

/// newgidmap maps the caller's own gid only where it is the passwd entry's (newgidmap(1)).
pub fn groups(facts: &Facts) -> Finding {
    const CONTROL: &str = "groups";
    match facts.caller.passwd_gid {
        Some(gid) if gid != facts.caller.gid && !facts.caller.is_root() => missing(
            CONTROL,
            format!(
                "the current group is {}, and the account's is {gid}",
                facts.caller.gid
            ),
        )
        .costs("newgidmap refuses to map the current group")
        .fix(format!(
            "start from a shell of `newgrp '#{gid}'` or log in again"
        )),
        _ if facts.caller.supplementary_groups => ok(
            CONTROL,
            "supplementary groups are dropped (ids.mode = \"caller\" keeps them)",
        ),
        _ => ok(CONTROL, "no supplementary groups"),
    }
}
