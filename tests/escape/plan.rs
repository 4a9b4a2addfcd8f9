//! The plan of a preset as a value, and taking a control out of it.

use crate::catalogue::Removal;
use crate::site::{Preset, Site, Who};
use cofferdam::confine::landlock::{Access, PathRule, ruleset};
use cofferdam::confine::seccomp::{Errno, Filter, Group, Verdict};
use cofferdam::linux::capability::Capability;
use cofferdam::linux::syscall::{Arch, Syscall};
use cofferdam::sandbox::plan::{Attributes, Namespace, Op, Plan, Rlimit, Source, Step};
use cofferdam::source::origin::Origin;

impl Site {
    /// What `cofferdam plan` prints for this command, as the ordinary user.
    pub fn plan(&self, preset: Preset, command: &[String]) -> Plan {
        let mut plan = self.sandbox(Who::User, preset, "plan");
        let output = self.output(plan.arg("--").args(command));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{plan:?}: {said}");
        let mut plan: Plan = serde_json::from_slice(&output.stdout).unwrap();
        unrecorded(&mut plan);
        plan
    }

    /// Takes one control out; why it cannot be done, if so.
    pub fn remove(&self, plan: &mut Plan, removal: Removal) -> Result<(), &'static str> {
        match removal {
            Removal::DropSeccompRule(name) => allow(plan, name),
            Removal::DropStep(kind, target) => self.drop_step(plan, kind, target)?,
            Removal::DropMountFlag(at, flag) => loosen(plan, &self.named(at), flag),
            Removal::AddBind(path) => self.bind(plan, path),
            Removal::AddCapability(name) => grant(plan, name),
            Removal::ShareNamespace(kind) => share(plan, kind),
            Removal::MoveNamespace(_) | Removal::InitDumpable => stay_in_outer(plan),
            Removal::RaiseLimit(name) => limits(plan).for_each(|limits| {
                limits.remove(name);
            }),
            Removal::RaiseRlimit("CORE") => unlimit(plan, Rlimit::Core),
            Removal::SkipNoNewPrivs => without_no_new_privileges(plan),
            Removal::SkipEnvironment => {
                let outside = self.planted.outside.display();
                let inherited = [
                    ("COFFERDAM_TEST_SECRET", "visible outside".to_owned()),
                    ("SSH_AUTH_SOCK", format!("{outside}/socket")),
                    ("XDG_RUNTIME_DIR", outside.to_string()),
                ];
                let inherited = inherited.map(|(name, value)| (name.to_owned(), value));
                plan.exec.environment.extend(inherited);
            }
            // run_plan gives the job its own descriptors.
            Removal::SkipStdioPipes => {}
            Removal::SkipSetgroups => drop_steps(plan, |op| matches!(op, Op::Groups)),
            Removal::RaiseRlimit(_) => return Err("no such limit"),
            Removal::Forget(_) => return Err("no step of a plan: see code.rs"),
            Removal::Behind(why) => return Err(why),
        }
        Ok(())
    }

    /// OUTSIDE, WORKSPACE and HOME stand for the site's own.
    fn named(&self, path: &str) -> String {
        let workspace = self.planted.workspace.display().to_string();
        match path {
            "OUTSIDE" => self.planted.outside.display().to_string(),
            "HOME" => self.account.home.display().to_string(),
            other => other.replace("WORKSPACE", &workspace),
        }
    }

    fn drop_step(&self, plan: &mut Plan, kind: &str, target: &str) -> Result<(), &'static str> {
        let workspace = self.planted.workspace.display().to_string();
        let at = match kind {
            "protect" => format!("{workspace}/{target}"),
            _ => self.named(target),
        };
        let before = plan.steps.len();
        drop_steps(plan, |op| match (kind, op) {
            ("mask", Op::Mask { path, .. }) => *path == at,
            ("read_only", Op::ReadOnly { path }) => *path == at,
            ("protect", Op::Pin { path, .. }) => *path == at,
            ("protect", Op::Placeholder { path, .. }) => at.ends_with(path.as_str()),
            ("keyring", Op::Keyring)
            | ("landlock", Op::Landlock { .. })
            | ("capabilities", Op::Capabilities { .. }) => true,
            _ => false,
        });
        if plan.steps.len() == before {
            return Err("this host has no such step in its plan");
        }
        Ok(())
    }

    /// Shows a path of the host, writable, at the same place.
    fn bind(&self, plan: &mut Plan, path: &str) {
        let path = self.named(path);
        let source = plan.sources.len();
        plan.sources.push(Source {
            follow: true,
            ..Source::at(&path)
        });
        let attributes = Attributes {
            devices: true,
            set_id: true,
            ..Attributes::default()
        };
        // Before any mask: those are kept over the host's /dev until the pivot.
        let at = 1 + position(
            plan,
            |op| matches!(op, Op::Tmpfs { path, .. } if path == "/dev/shm"),
        );
        let op = Op::Bind {
            source,
            path: path.clone(),
            attributes,
        };
        plan.steps.insert(at, always(op));
        let abi = plan.requires.landlock_abi;
        for step in &mut plan.steps {
            if let Op::Landlock { rules } = &mut step.op {
                let all = [Access::ReadWrite, Access::Device].map(|access| PathRule {
                    path: path.clone(),
                    access,
                    directory: true,
                });
                // What was mounted below is hidden by it, and cannot be opened.
                let below = format!("{path}/");
                rules.rules.retain(|rule| !rule.path.starts_with(&below));
                rules.rules.extend(ruleset(abi, 0, &all).rules);
            }
        }
    }
}

fn always(op: Op) -> Step {
    Step {
        op,
        why: Origin::Always,
    }
}

fn position(plan: &Plan, is: impl Fn(&Op) -> bool) -> usize {
    plan.steps.iter().position(|step| is(&step.op)).unwrap()
}

fn drop_steps(plan: &mut Plan, is: impl Fn(&Op) -> bool) {
    plan.steps.retain(|step| !is(&step.op));
}

fn limits(plan: &mut Plan) -> impl Iterator<Item = &mut std::collections::BTreeMap<String, u64>> {
    plan.steps.iter_mut().filter_map(|step| match &mut step.op {
        Op::NamespaceLimits { limits } => Some(limits),
        _ => None,
    })
}

fn filter(plan: &mut Plan) -> &mut Filter {
    let filters = plan.steps.iter_mut().filter_map(|step| match &mut step.op {
        Op::Seccomp { filter } => Some(filter),
        _ => None,
    });
    filters.last().unwrap()
}

/// Nobody listens to refusals here: they get the errno they would be answered with.
fn unrecorded(plan: &mut Plan) {
    plan.supervise.records_refusals = false;
    let plain = |verdict: &mut Verdict| {
        if let Verdict::Record(errno) = verdict {
            *verdict = Verdict::Errno(*errno);
        }
    };
    let filter = filter(plan);
    filter
        .groups
        .iter_mut()
        .for_each(|group| plain(&mut group.then));
    for rule in &mut filter.conditional {
        plain(&mut rule.otherwise);
        rule.clauses
            .iter_mut()
            .for_each(|clause| plain(&mut clause.then));
    }
    // Two groups with one verdict and reason may not stand beside each other.
    assert_ne!(filter.unlisted, Verdict::Record(Errno::EPERM));
}

/// The call with any arguments. One that this architecture lacks stays as it is.
fn allow(plan: &mut Plan, name: &str) {
    let call = Syscall::from_name(name).unwrap_or_else(|| panic!("no call {name}"));
    let arch = Arch::from_machine(&plan.requires.machine).unwrap();
    if call.number(arch).is_none() {
        return;
    }
    let filter = filter(plan);
    filter.conditional.retain(|rule| rule.call != call);
    for group in &mut filter.groups {
        group.calls.retain(|listed| *listed != call);
    }
    filter.groups.retain(|group| !group.calls.is_empty());
    filter.groups.push(Group {
        then: Verdict::Allow,
        why: format!("{name} is let through by this test").into(),
        calls: vec![call],
    });
}

fn loosen(plan: &mut Plan, at: &str, flag: &str) {
    for step in &mut plan.steps {
        if let Op::Bind {
            path, attributes, ..
        } = &mut step.op
            && path == at
        {
            match flag {
                "nosuid" => attributes.set_id = true,
                "nodev" => attributes.devices = true,
                other => panic!("no flag {other}"),
            }
        }
    }
}

/// A capability counts for uid 0 of the map alone, so the job becomes that.
fn grant(plan: &mut Plan, name: &str) {
    let capability = Capability::from_name(name).unwrap_or_else(|| panic!("no {name}"));
    for step in &mut plan.steps {
        match &mut step.op {
            Op::Capabilities {
                bounding,
                job,
                init,
            } => {
                for set in [bounding, job, init] {
                    set.insert(capability);
                }
            }
            Op::JobUser { uids, gids, .. } => {
                for extent in uids.iter_mut().chain(gids) {
                    extent.inside = 0;
                }
            }
            _ => {}
        }
    }
    (plan.exec.uid, plan.exec.gid) = (0, 0);
}

fn share(plan: &mut Plan, kind: &str) {
    let (shared, needs): (Namespace, fn(&Op) -> bool) = match kind {
        "net" => (Namespace::Network, |op| matches!(op, Op::Loopback)),
        "uts" => (Namespace::Uts, |op| matches!(op, Op::Hostname { .. })),
        "ipc" => (Namespace::Ipc, |op| matches!(op, Op::Mqueue { .. })),
        "cgroup" => (Namespace::Cgroup, |_| false),
        other => panic!("no namespace {other}"),
    };
    // A rule for a place that is not made any more would stop the stage.
    let unmade: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| needs(&step.op))
        .filter_map(|step| match &step.op {
            Op::Mqueue { path } => Some(path.clone()),
            _ => None,
        })
        .collect();
    drop_steps(plan, needs);
    for step in &mut plan.steps {
        match &mut step.op {
            Op::Namespaces { kinds } => kinds.retain(|kind| *kind != shared),
            Op::Landlock { rules } => {
                rules.rules.retain(|rule| !unmade.contains(&rule.path));
            }
            _ => {}
        }
    }
}

/// Without U2 the job lives in U0, which owns its namespaces and mounts; and
/// init, which becomes undumpable as it enters U2, stays dumpable.
fn stay_in_outer(plan: &mut Plan) {
    drop_steps(plan, |op| matches!(op, Op::JobUser { .. }));
    (plan.exec.uid, plan.exec.gid) = (0, 0);
}

fn unlimit(plan: &mut Plan, which: Rlimit) {
    for step in &mut plan.steps {
        if let Op::Rlimits { limits } = &mut step.op {
            limits.retain(|(limit, ..)| *limit != which);
        }
    }
}

/// A filter without no_new_privs takes CAP_SYS_ADMIN, which init alone keeps for it.
fn without_no_new_privileges(plan: &mut Plan) {
    drop_steps(plan, |op| matches!(op, Op::NoNewPrivileges));
    for step in &mut plan.steps {
        if let Op::Capabilities { init, .. } = &mut step.op {
            init.insert(Capability::SYS_ADMIN);
        }
    }
}
