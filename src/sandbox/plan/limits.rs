//! [pure] Resource limits: what a cgroup does, what the user namespace does, what is left weaker.

use super::order::Draft;
use super::{CgroupLimits, Op, Rlimit, Root, Upper};
use crate::host::facts::{Cgroup, Facts};
use crate::policy::text::format_size;
use crate::policy::{Access, Control, Policy, RootfsMode};
use crate::sandbox::request::Request;
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;
use std::collections::BTreeMap;

/// Names of the controllers this host lets us use, as v2 calls them.
pub(super) fn controllers(cgroup: &Cgroup) -> Vec<&str> {
    match cgroup {
        Cgroup::Delegated { controllers, .. } | Cgroup::Systemd { controllers, .. } => {
            controllers.iter().map(String::as_str).collect()
        }
        Cgroup::V1 { controllers } => controllers.iter().map(|(name, _)| name.as_str()).collect(),
        Cgroup::None { .. } => Vec::new(),
    }
}

fn why_not(cgroup: &Cgroup, controller: &str) -> String {
    match cgroup {
        Cgroup::None { why } => why.clone(),
        _ => format!("the {controller} controller is not available to us"),
    }
}

const FIX: &str = "cofferdam doctor says how to delegate a cgroup";

pub(super) fn plan(draft: &mut Draft<'_>) {
    namespace_limits(draft);
    let limits = cgroup(draft);
    if limits != CgroupLimits::default() {
        draft.always(Op::Cgroup { limits });
    }
    time_and_disk(draft);
}

/// Exactly what the sandbox itself needs: nothing inside can make another.
/// Made in U0, these bind U2 and its root; the instances of inotify stay far
/// below the 128 that the host gives the caller's uid in total.
fn namespace_limits(draft: &mut Draft<'_>) {
    let networks = if draft.policy.has_network() { 2 } else { 1 };
    let limits: BTreeMap<String, u64> = [
        ("max_user_namespaces", 1),
        ("max_mnt_namespaces", 2),
        ("max_pid_namespaces", 1),
        ("max_net_namespaces", networks),
        ("max_ipc_namespaces", 1),
        ("max_uts_namespaces", 1),
        ("max_cgroup_namespaces", 1),
        ("max_time_namespaces", 0),
        ("max_inotify_instances", 48),
        ("max_inotify_watches", 32_768),
        ("max_fanotify_groups", 0),
        ("max_fanotify_marks", 0),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit))
    .collect();
    draft.always(Op::NamespaceLimits { limits });
}

fn cgroup(draft: &mut Draft<'_>) -> CgroupLimits {
    let available: Vec<String> = controllers(&draft.facts.cgroup)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let has = |name: &str| available.iter().any(|controller| controller == name);
    CgroupLimits {
        memory: memory(draft, has("memory")),
        milli_cpus: cpu(draft, has("cpu")),
        pids: pids(draft, has("pids")),
    }
}

fn memory(draft: &mut Draft<'_>, by_cgroup: bool) -> Option<u64> {
    let limit = draft.policy.resources.memory.clone();
    let bytes = limit.value?;
    let requested = format_size(bytes);
    if by_cgroup {
        draft.control(
            "memory",
            requested,
            "memory cgroup".to_owned(),
            &limit.origin,
        );
        return Some(bytes);
    }
    let actual = format!(
        "only files in memory are limited; {}",
        why_not(&draft.facts.cgroup, "memory")
    );
    draft.weaker(
        Control::Cgroup,
        "memory",
        requested,
        actual,
        &limit.origin,
        FIX,
    );
    None
}

fn cpu(draft: &mut Draft<'_>, by_cgroup: bool) -> Option<u32> {
    let limit = draft.policy.resources.milli_cpus.clone();
    let milli = limit.value?;
    let requested = crate::policy::text::format_cpus(milli);
    if by_cgroup {
        draft.control("cpus", requested, "cpu cgroup".to_owned(), &limit.origin);
        return Some(milli);
    }
    if u64::from(milli) >= u64::from(draft.facts.cpus) * 1000 {
        let actual = format!("this host has no more than {} CPUs", draft.facts.cpus);
        draft.control("cpus", requested, actual, &limit.origin);
        return None;
    }
    if let Some(cpus) = affinity(milli, draft.facts.cpus) {
        let first = spread(&draft.request.name, draft.facts.cpus);
        draft.step(Op::Affinity { first, cpus }, limit.origin.clone());
    }
    let actual = format!(
        "pinned to whole CPUs; {}",
        why_not(&draft.facts.cgroup, "cpu")
    );
    draft.weaker(
        Control::Cgroup,
        "cpus",
        requested,
        actual,
        &limit.origin,
        FIX,
    );
    None
}

/// How many whole CPUs to pin to, when that is fewer than there are.
fn affinity(milli: u32, cpus: u32) -> Option<u32> {
    let wanted = milli.div_ceil(1000).max(1);
    (wanted < cpus).then_some(wanted)
}

/// Sandboxes should not all sit on the first CPUs: the name decides where to begin.
fn spread(name: &str, cpus: u32) -> u32 {
    name.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    }) % cpus.max(1)
}

fn pids(draft: &mut Draft<'_>, by_cgroup: bool) -> Option<u32> {
    let limit = draft.policy.resources.pids.clone();
    let pids = limit.value?;
    let actual = if by_cgroup {
        "pids cgroup"
    } else {
        "RLIMIT_NPROC of the user namespace"
    };
    draft.control("pids", pids.to_string(), actual.to_owned(), &limit.origin);
    by_cgroup.then_some(pids)
}

/// Bytes of POSIX message queues: half of what the kernel gives a user, since
/// those of a sandbox count for the caller's uid, too (getrlimit(2)).
const MESSAGE_QUEUES: u64 = 409_600;

/// A pipe handler ignores a core limit of 0 and takes 1 for "nothing": core(5).
/// Half of the descriptors stay with gateway and edge, since those of one uid
/// in flight are counted together: unix(7), ETOOMANYREFS. The step comes right
/// before U2 is made, which takes its RLIMIT_NPROC from the process making it.
pub(super) fn rlimits(draft: &mut Draft<'_>) {
    let nofile = (draft.facts.nofile_hard / 2)
        .saturating_sub(1)
        .clamp(64, 1 << 20);
    let soft = nofile.min(1024);
    let mut limits = vec![
        (Rlimit::Core, 1, 1),
        (Rlimit::Nofile, soft, nofile),
        (Rlimit::Memlock, 8 << 20, 8 << 20),
        (Rlimit::Msgqueue, MESSAGE_QUEUES, MESSAGE_QUEUES),
        (Rlimit::Sigpending, 4096, 4096),
        (Rlimit::Rtprio, 0, 0),
        (Rlimit::Nice, 0, 0),
    ];
    let mut why = Origin::Always;
    if let (None, Some(pids)) = (by_cgroup(draft), draft.policy.resources.pids.value) {
        // Read by the kernel when U2 is made (set_userns_rlimit_max): +1 for init.
        limits.push((Rlimit::Nproc, u64::from(pids) + 1, u64::from(pids) + 1));
        why = draft.policy.resources.pids.origin.clone();
    }
    draft.step(Op::Rlimits { limits }, why);
}

fn by_cgroup(draft: &Draft<'_>) -> Option<()> {
    controllers(&draft.facts.cgroup)
        .contains(&"pids")
        .then_some(())
}

fn time_and_disk(draft: &mut Draft<'_>) {
    let timeout = draft.policy.resources.timeout.clone();
    if let Some(seconds) = timeout.value {
        let requested = crate::policy::text::format_duration(seconds);
        draft.control(
            "time",
            requested,
            "the supervisor's clock".to_owned(),
            &timeout.origin,
        );
    }
    if let (Some(bytes), limit) = (
        disk(draft.policy, draft.request, draft.facts),
        draft.policy.resources.disk.clone(),
    ) {
        draft.weaker(
            Control::Disk,
            "disk",
            format_size(bytes),
            "looked at every second, not held by the kernel".to_owned(),
            &limit.origin,
            "tmpfs layers need Linux 6.6",
        );
    }
}

/// The disk limit counts only where a layer that the job can write is kept on disk.
pub(super) fn disk(policy: &Policy, request: &Request, facts: &Facts) -> Option<u64> {
    let on_disk = |keep: bool| !facts.tmpfs_user_xattr || keep;
    let copies = request
        .workspace
        .as_ref()
        .is_some_and(|workspace| workspace.access == Access::Copy);
    let writes_root =
        request.rootfs.is_some() && policy.filesystem.rootfs.value == RootfsMode::Overlay;
    let limited = (copies && on_disk(request.keep)) || (writes_root && on_disk(false));
    if limited {
        policy.resources.disk.value
    } else {
        None
    }
}

/// Least size of a tmpfs: to the kernel 0 is no limit at all (tmpfs(5)).
const PAGE: u64 = 4096;
/// What every tmpfs keeps of its size, if that is not less: the root's own files fit.
const LEAST: u64 = 64 << 10;

/// Without a memory cgroup all tmpfs together stay within the memory limit: sizes
/// that nobody asked for shrink alike, one that was asked for is kept.
pub(super) fn fit_tmpfs(draft: &mut Draft<'_>) {
    let by_cgroup = draft.memory_by_cgroup();
    let asked: Vec<&str> = draft
        .policy
        .filesystem
        .tmpfs
        .iter()
        .filter_map(|grant| grant.size.map(|_| &*grant.target))
        .collect();
    let mut kept = 0u128;
    let mut sizes: Vec<&mut u64> = Vec::new();
    for step in &mut draft.steps {
        let keep = matches!(&step.op, Op::Tmpfs { path, .. } if asked.contains(&&**path));
        if let Some(size) = tmpfs_size(&mut step.op) {
            *size = (*size).max(PAGE);
            if keep {
                kept += u128::from(*size);
            } else {
                sizes.push(size);
            }
        }
    }
    let limit = &draft.policy.resources.memory;
    if let Some(bytes) = limit.value.filter(|_| !by_cgroup)
        && let Err(least) = shrink(sizes, kept, bytes)
    {
        let (bytes, origin) = (format_size(bytes), &limit.origin);
        let mut cause = format!(
            "memory {bytes} ({origin}) cannot hold the file systems in memory, {least} bytes at least"
        );
        if kept > 0 {
            cause.push_str(&format!(", {kept} of them asked for by --tmpfs"));
        }
        draft.refuse(
            Diagnostic::error(cause).with_help("raise the memory limit or ask for less by --tmpfs"),
        );
    }
}

/// Shrinks sizes until they and what is kept are within a limit; else says how much it takes.
fn shrink(sizes: Vec<&mut u64>, kept: u128, limit: u64) -> Result<(), u128> {
    let sum = |each: &dyn Fn(u64) -> u64| sizes.iter().map(|size| u128::from(each(**size))).sum();
    let (wished, least): (u128, u128) = (sum(&|size| size), sum(&|size| size.min(LEAST)));
    let limit = u128::from(limit);
    if kept + wished <= limit {
        return Ok(());
    }
    let rest = limit.checked_sub(kept + least).ok_or(kept + least)?;
    for size in sizes {
        let floor = (*size).min(LEAST);
        let share = u128::from(*size - floor) * rest / (wished - least).max(1);
        // At most what is above the floor, so it always fits.
        *size = floor + u64::try_from(share).unwrap_or(0) / PAGE * PAGE;
    }
    Ok(())
}

/// The size of the tmpfs that a step makes, if it makes one.
fn tmpfs_size(op: &mut Op) -> Option<&mut u64> {
    match op {
        Op::Tmpfs { size, .. }
        | Op::Root {
            root:
                Root::Tmpfs { size }
                | Root::Overlay {
                    upper: Upper::Tmpfs { size },
                    ..
                },
        }
        | Op::Overlay {
            upper: Upper::Tmpfs { size },
            ..
        } => Some(size),
        _ => None,
    }
}
