//! [pure] Findings about what the kernel can refuse and mount.

use super::{Deep, Finding, Outcome, degraded, missing, ok, works};
use crate::host::facts::Facts;

/// Landlock ABI 2 (Linux 5.19) is what the default policy asks for at least.
const MINIMUM_LANDLOCK: u32 = 2;

/// Linux 5.11 lets an ordinary user mount an overlay, 5.15 is the oldest release we plan for.
pub fn kernel(facts: &Facts) -> Finding {
    let what = format!("Linux {} on {}", facts.release, facts.machine);
    if facts.kernel < (5, 15) {
        missing("kernel", what)
            .costs("kernels before 5.15 lack calls that every sandbox uses")
            .fix("boot a newer kernel; 6.1 or later is what is tested")
    } else if !matches!(facts.machine.as_str(), "x86_64" | "aarch64") {
        missing("kernel", what)
            .costs("there is no system-call table for this machine")
            .fix("use x86_64 or aarch64")
    } else {
        ok("kernel", what)
    }
}

/// Filters and notifications.
pub fn seccomp(facts: &Facts) -> Finding {
    const CONTROL: &str = "seccomp";
    if !facts.seccomp.filter {
        return missing(CONTROL, "the kernel has no filters")
            .costs("system calls cannot be refused")
            .fix("boot a kernel built with CONFIG_SECCOMP_FILTER");
    }
    if !facts.seccomp.user_notify {
        return degraded(CONTROL, "filters work, notifications do not")
            .costs("refused calls are not recorded for `cofferdam explain`");
    }
    if !facts.seccomp.wait_killable {
        return ok(
            CONTROL,
            "filters and notifications; a notified call can be interrupted (before 5.19)",
        );
    }
    ok(CONTROL, "filters and notifications")
}

/// The ABI, and what the default policy needs of it.
pub fn landlock(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "landlock";
    let newer = "boot Linux 5.19 or later";
    match facts.landlock_abi {
        0 if facts.kernel < (5, 13) => missing(CONTROL, "the kernel has none").fix(newer),
        0 => missing(CONTROL, "built without it, or not in the kernel's list of security modules")
            .fix("add `landlock` to the list in /sys/kernel/security/lsm, as lsm=landlock,… on the kernel command line"),
        abi if abi < MINIMUM_LANDLOCK => {
            missing(CONTROL, format!("ABI {abi}, which forbids every rename between directories"))
                .fix(newer)
        }
        abi => return ok(CONTROL, format!("ABI {abi}, errata {:#x}", deep.landlock_errata)),
    }
    .costs("files are confined by mounts alone; a policy starts only if it degrades `landlock`")
}

/// overlayfs in a user namespace.
pub fn overlay(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "overlay";
    const COSTS: &str = "no --rootfs that may be written, no workspace as `copy`";
    match (facts.overlay_userxattr, deep.overlay) {
        (true, Outcome::Works) => ok(CONTROL, "mounted one in a user namespace"),
        (true, Outcome::Fails(_)) if !works(deep.user_namespace) => {
            degraded(CONTROL, "not tried, for want of a user namespace").costs(COSTS)
        }
        (true, Outcome::Fails(errno)) => degraded(
            CONTROL,
            format!("mounting one in a user namespace fails: {errno}"),
        )
        .costs(COSTS),
        (false, _) => degraded(CONTROL, "the kernel has no overlayfs for user namespaces")
            .costs(COSTS)
            .fix("install the kernel's module overlay, or boot Linux 5.11 or later"),
    }
}

/// Whether a tmpfs can be the upper layer of an overlay.
pub fn tmpfs_xattr(deep: &Deep) -> Finding {
    const CONTROL: &str = "tmpfs_xattr";
    if works(deep.tmpfs_xattr) {
        return ok(CONTROL, "tmpfs keeps user attributes");
    }
    degraded(CONTROL, "tmpfs keeps no user attributes")
        .costs("layers that are thrown away lie on disk instead of in memory")
        .fix("boot Linux 6.6 or later")
}

/// A fresh proc is refused where the visible one is partly covered: a runner inside a container.
pub fn proc(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "proc";
    if works(deep.fresh_proc) {
        return ok(CONTROL, "a fresh one can be mounted");
    }
    let finding = match (facts.proc_overmounted, deep.fresh_proc) {
        (true, _) => missing(CONTROL, covered("/proc", &deep.proc_over_mounts))
            .fix("start the container with --security-opt systempaths=unconfined (podman: unmask=ALL, Kubernetes: procMount: Unmasked)"),
        (false, _) if !works(deep.user_namespace) => {
            missing(CONTROL, "not tried, for want of a user namespace")
        }
        (false, Outcome::Fails(errno)) => missing(CONTROL, format!("a fresh one is refused: {errno}")),
        (false, Outcome::Works) => missing(CONTROL, "a fresh one is refused"),
    };
    finding.costs("a job cannot have a /proc of its own processes")
}

fn covered(place: &str, over: &[String]) -> String {
    match over {
        [] => format!("{place} is mounted read-only or in parts, as in a container"),
        [first] => format!("{first} is mounted over, as in a container"),
        [first, rest @ ..] => {
            format!(
                "{first} and {} more are mounted over, as in a container",
                rest.len()
            )
        }
    }
}

/// What the kernel would load for the first sandbox.
pub fn modules(deep: &Deep) -> Finding {
    if deep.modules.is_empty() {
        return ok("modules", "a sandbox makes the kernel load none");
    }
    let names = deep.modules.join(" ");
    degraded("modules", format!("not loaded yet: {names}"))
        .costs("the first sandbox that needs it makes the kernel load it")
        .fix(format!(
            "printf '%s\\n' {names} | sudo tee /etc/modules-load.d/cofferdam.conf && sudo modprobe -a {names}"
        ))
}
