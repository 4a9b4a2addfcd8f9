//! [stage] Lock-down: into U2, then capabilities, no_new_privs, Landlock, descriptors, filter — in this order only.

use super::build::Build;
use super::{Context, Failed, say};
use crate::confine::landlock::LandlockPlan;
use crate::sandbox::init;
use crate::sandbox::message::{FILTER, Report};
use crate::sandbox::plan::{Op, Plan, Supervise};
use crate::sys::seccomp::Wait;
use crate::sys::{caps, landlock, process, seccomp, socket};
use rustix::fd::{AsFd, OwnedFd};
use rustix::thread::UnshareFlags;
use std::convert::Infallible;

/// Unshares U2 with a copy of the mounts, which the kernel locks, and takes init's ids.
pub(super) fn enter_job_user(build: &Build<'_>) -> Result<(), Failed> {
    crate::sys::process::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .during("unshare", "job user namespace")?;
    socket::send(&build.outer, b"map", &[]).during("sendmsg", "gateway")?;
    let mut answer = [0u8; 8];
    if socket::receive(&build.outer, &mut answer)
        .during("recvmsg", "gateway")?
        .is_none()
    {
        process::exit_now(125);
    }
    let (uid, gid) = init_ids(build.plan);
    rustix::thread::set_thread_res_gid(gid, gid, gid).during("setresgid", "init")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during("setresuid", "init")?;
    process::set_undumpable().during("prctl PR_SET_DUMPABLE", "")
}

/// Init is root inside where there is one, else the job's own id.
fn init_ids(plan: &Plan) -> (rustix::fs::Uid, rustix::fs::Gid) {
    let has_root = plan.steps.iter().any(|step| match &step.op {
        Op::JobUser { uids, .. } => uids.iter().any(|extent| extent.inside == 0),
        _ => false,
    });
    let (uid, gid) = if has_root {
        (0, 0)
    } else {
        (plan.exec.uid, plan.exec.gid)
    };
    (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    )
}

/// What the lock-down steps of a plan ask for.
#[derive(Default)]
struct Locks<'a> {
    bounding: u64,
    init: u64,
    no_new_privileges: Option<usize>,
    landlock: Option<(usize, &'a LandlockPlan)>,
    seccomp: Option<usize>,
    capabilities: Option<usize>,
}

fn locks(plan: &Plan) -> Locks<'_> {
    let bits = |set: &std::collections::BTreeSet<crate::linux::capability::Capability>| {
        set.iter().fold(0, |bits, cap| bits | cap.bit())
    };
    let mut locks = Locks::default();
    for (index, step) in plan.steps.iter().enumerate() {
        match &step.op {
            Op::Capabilities { bounding, init, .. } => {
                locks.bounding = bits(bounding);
                locks.init = bits(init);
                locks.capabilities = Some(index);
            }
            Op::NoNewPrivileges => locks.no_new_privileges = Some(index),
            Op::Landlock { rules } => locks.landlock = Some((index, rules)),
            Op::Seccomp { .. } => locks.seccomp = Some(index),
            _ => {}
        }
    }
    locks
}

/// The rest of lock-down; ends in init or in the command itself.
pub(super) fn become_init(build: Build<'_>) -> Result<Infallible, (Failed, OwnedFd)> {
    let plan = build.plan;
    let (supervisor, terminal) = build.into_descriptors();
    match lock_down(plan, &supervisor) {
        Ok(signals) => init::serve(plan, supervisor, signals, terminal),
        Err(failed) => Err((failed, supervisor)),
    }
}

fn lock_down(plan: &Plan, supervisor: &OwnedFd) -> Result<OwnedFd, Failed> {
    let locks = locks(plan);
    let filter = receive_filter(supervisor)?;
    let domain = locks
        .landlock
        .map(|(index, rules)| domain(rules).map_err(|failed| failed.at(index)))
        .transpose()?;
    if let Some(index) = locks.capabilities {
        caps::bound(locks.bounding)
            .during("prctl PR_CAPBSET_DROP", "")
            .and_then(|()| caps::set(locks.init).during("capset", ""))
            .map_err(|failed| failed.at(index))?;
    }
    if let Some(index) = locks.no_new_privileges {
        process::set_no_new_privileges()
            .during("prctl PR_SET_NO_NEW_PRIVS", "")
            .map_err(|failed| failed.at(index))?;
    }
    if let (Some(domain), Some((index, _))) = (&domain, locks.landlock) {
        landlock::restrict(domain.as_fd())
            .during("landlock_restrict_self", "")
            .map_err(|failed| failed.at(index))?;
    }
    // After the last change of ids, which would undo it: prctl(2).
    process::die_with_parent().during("prctl PR_SET_PDEATHSIG", "")?;
    let signals = init::signals().during("signalfd", "")?;
    if let Some(index) = locks.seccomp {
        load(&filter, listener(&plan.supervise), supervisor).map_err(|failed| failed.at(index))?;
    }
    Ok(signals)
}

/// A domain whose paths are all ours or mounts of ours: no component may be a symlink.
fn domain(rules: &LandlockPlan) -> Result<OwnedFd, Failed> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    let ruleset = landlock::create(rules.handled_fs, rules.handled_net, rules.scoped)
        .during("landlock_create_ruleset", "")?;
    for rule in &rules.rules {
        let path = rule.path.as_str();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let parent = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .during("openat2", path)?;
        landlock::allow(ruleset.as_fd(), parent.as_fd(), rule.bits)
            .during("landlock_add_rule", path)?;
    }
    Ok(ruleset)
}

/// The next packet of the supervisor, which proved its bytes.
pub(super) fn receive_filter(supervisor: &OwnedFd) -> Result<Vec<u8>, Failed> {
    let mut program = vec![0; FILTER];
    match socket::receive(supervisor, &mut program).during("recvmsg", "filter")? {
        Some((length, _)) => program.truncate(length),
        None => process::exit_now(125),
    }
    Ok(program)
}

fn listener(supervise: &Supervise) -> Option<Wait> {
    let wait = if supervise.wait_killable {
        Wait::Killable
    } else {
        Wait::Interruptible
    };
    supervise.records_refusals.then_some(wait)
}

fn load(filter: &[u8], wait: Option<Wait>, supervisor: &OwnedFd) -> Result<(), Failed> {
    let listener = seccomp::load(filter, wait).during("seccomp", "job filter")?;
    match listener {
        Some(listener) => {
            say(supervisor, &Report::Listener, Some(&listener)).during("sendmsg", "listener")
        }
        None => Ok(()),
    }
}
