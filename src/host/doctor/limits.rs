//! [pure] Findings about resource limits.

use super::identity::caller;
use super::{Deep, Finding, State, degraded, ok};
use crate::host::facts::{Cgroup, Facts};

/// Which limits a cgroup can carry.
pub fn cgroup(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "cgroup";
    match &facts.cgroup {
        Cgroup::Delegated { dir, controllers } => controllers_of(
            format!("v2, {dir}"),
            controllers.iter().map(String::as_str),
            facts,
        ),
        Cgroup::Systemd { controllers, .. } => {
            let names = controllers.iter().map(String::as_str);
            let finding = controllers_of("v2, scopes of the user manager".into(), names, facts);
            if finding.state == State::Ok && !deep.linger {
                session_only(finding, facts)
            } else {
                finding
            }
        }
        Cgroup::V1 { controllers } => {
            let names = controllers.iter().map(|(name, _)| name.as_str());
            controllers_of("v1, by root".into(), names, facts)
        }
        Cgroup::None { why } => {
            let finding = degraded(CONTROL, why.as_str()).costs(WITHOUT_CGROUP);
            Finding {
                fix: Some(cgroup_fix(facts, deep)),
                ..finding
            }
        }
    }
}

const WITHOUT_CGROUP: &str = "no limit on memory as a whole, cpu only by affinity, processes by \
    RLIMIT_NPROC; a policy starts only if it degrades `cgroup`";

fn controllers_of<'a>(
    place: String,
    names: impl Iterator<Item = &'a str>,
    facts: &Facts,
) -> Finding {
    let names: Vec<_> = names.collect();
    let lacking: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if lacking.is_empty() {
        return ok("cgroup", place);
    }
    let finding = degraded(
        "cgroup",
        format!("{place}, without {}", lacking.join(" and ")),
    )
    .costs("these limits are weaker or absent; a policy starts only if it degrades `cgroup`");
    match facts.cgroup {
        Cgroup::Systemd { .. } => finding.fix(
            "sudo mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate=cpu memory pids\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload",
        ),
        Cgroup::Delegated { .. } | Cgroup::V1 { .. } | Cgroup::None { .. } => finding,
    }
}

fn session_only(finding: Finding, facts: &Facts) -> Finding {
    Finding {
        state: State::Degraded,
        ..finding
    }
    .costs("sandboxes started with --detach end when the last session of this user does")
    .fix(format!("sudo loginctl enable-linger {}", caller(facts)))
}

fn cgroup_fix(facts: &Facts, deep: &Deep) -> String {
    let v1 = matches!(&facts.cgroup, Cgroup::None { why } if why.contains("v1"));
    match (v1, deep.systemd) {
        (true, true) => {
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line".into()
        }
        (true, false) => "run it as root, or mount only cgroup v2 at boot".into(),
        (false, true) => "sudo apt install dbus-user-session, and log in again".into(),
        (false, false) => "delegate a cgroup v2 directory to this user, or run it as root".into(),
    }
}

/// The job's own hard limit is kept below half of ours.
pub fn descriptors(facts: &Facts) -> Finding {
    let what = format!("at most {} open files", facts.nofile_hard);
    if facts.nofile_hard >= 4096 {
        return ok("descriptors", what);
    }
    degraded("descriptors", what)
        .costs("a job gets less than half of them, too few for some builds")
        .fix("ulimit -Hn 524288   (as root, before starting)")
}
