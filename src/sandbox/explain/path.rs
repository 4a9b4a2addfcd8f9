//! [pure] What the plan says of a path inside: which mount covers it, what Landlock adds, what would change it.

use super::remedy::Remedy;
use crate::confine::landlock::LandlockPlan;
use crate::sandbox::plan::{Op, Plan, Root, Step, Upper};
use crate::source::origin::Origin;
use serde::Serialize;
use serde_json::Value;

/// What a path is, computed from the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathAnswer {
    /// As asked.
    pub asked: String,
    /// Absolute, without dots, through the plan's symlinks.
    pub path: String,
    /// What can be done with it.
    pub standing: Standing,
    /// Why, in one sentence.
    pub reason: String,
    /// The step that decides.
    pub step: String,
    /// The policy line behind that step.
    pub rule: String,
    /// What Landlock by itself allows there; nothing where it confines no files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landlock: Option<String>,
    /// What would allow more.
    pub remedy: Remedy,
}

/// What can be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It does not exist inside.
    Absent,
    /// It is hidden behind something empty.
    Masked,
    /// It can be read, if it exists and its mode says so.
    ReadOnly,
    /// It can be written, if its mode says so.
    Writable,
}

/// What the plan says of a path; a relative one begins at the job's working directory.
pub fn why(plan: &Plan, asked: &str) -> PathAnswer {
    let path = resolve(plan, asked);
    let covering = plan
        .steps
        .iter()
        .rfind(|step| mount_point(&step.op).is_some_and(|at| within(&path, at).is_some()));
    let (mut found, step, rule) = match covering {
        Some(step) => (
            found(plan, step, &path),
            step.op.summary(),
            step.why.to_string(),
        ),
        None => (
            Found::new(Standing::Absent, "the plan has no root", Remedy::None),
            "none".to_owned(),
            "always".to_owned(),
        ),
    };
    let landlock = landlock(plan);
    let rights = landlock.map_or(u64::MAX, |rules| rights(rules, &path));
    if found.standing == Standing::Writable && rights & WRITE_FILE == 0 {
        found.standing = Standing::ReadOnly;
        found.reason.push_str("; Landlock allows no writing there");
    }
    PathAnswer {
        asked: asked.to_owned(),
        landlock: landlock.map(|rules| words(rules, rights)),
        path,
        standing: found.standing,
        reason: found.reason,
        step,
        rule,
        remedy: found.remedy,
    }
}

/// The writable workspace: its path outside and inside.
pub fn writable_workspace(plan: &Plan) -> Option<(&str, &str)> {
    plan.steps.iter().find_map(|step| match &step.op {
        Op::Bind {
            source,
            path,
            attributes,
        } if !attributes.read_only && is_workspace(step) => plan
            .sources
            .get(*source)
            .map(|source| (source.path.as_str(), path.as_str())),
        _ => None,
    })
}

fn is_workspace(step: &Step) -> bool {
    step.why
        == Origin::Flag {
            name: "--workspace".to_owned(),
        }
}

/// The rest of `path` below `base`, empty for `base` itself.
fn within<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let base = base.trim_end_matches('/');
    path.strip_prefix(base)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Absolute, dots removed by name, symlinks of the plan followed as often as the kernel would (40).
fn resolve(plan: &Plan, asked: &str) -> String {
    let mut path = absolute(&plan.exec.directory, asked);
    for _ in 0..40 {
        let link = plan.steps.iter().find_map(|step| match &step.op {
            Op::Symlink { path: at, target } => within(&path, at).map(|rest| (at, target, rest)),
            _ => None,
        });
        let Some((at, target, rest)) = link else {
            break;
        };
        let parent = at.rsplit_once('/').map_or("/", |(parent, _)| parent);
        path = absolute(&format!("/{parent}"), &format!("{target}{rest}"));
    }
    path
}

fn absolute(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Where a step mounts something that decides over paths below. A pin that is not
/// read-only changes nothing that can be read or written.
fn mount_point(op: &Op) -> Option<&str> {
    match op {
        Op::Root { .. } => Some("/"),
        Op::Bind { path, .. }
        | Op::Pin {
            path,
            read_only: true,
        }
        | Op::Tmpfs { path, .. }
        | Op::Overlay { path, .. }
        | Op::Proc { path }
        | Op::Mqueue { path }
        | Op::Devpts { path, .. }
        | Op::Mask { path, .. }
        | Op::ReadOnly { path } => Some(path),
        _ => None,
    }
}

struct Found {
    standing: Standing,
    reason: String,
    remedy: Remedy,
}

impl Found {
    fn new(standing: Standing, reason: impl Into<String>, remedy: Remedy) -> Self {
        Self {
            standing,
            reason: reason.into(),
            remedy,
        }
    }
}

fn found(plan: &Plan, step: &Step, path: &str) -> Found {
    use Standing::{Masked, ReadOnly, Writable};
    match &step.op {
        Op::Root { root } => below_root(plan, root, path),
        Op::Bind {
            source,
            path: at,
            attributes,
        } => {
            let outside = outside(plan, *source, path, at);
            if attributes.devices {
                let reason = format!(
                    "the device node {outside} of the host, one of a few that are harmless"
                );
                Found::new(Writable, reason, Remedy::None)
            } else if attributes.read_only {
                Found::new(
                    ReadOnly,
                    format!("{outside} of the host, read-only"),
                    to_write(step, &outside, path),
                )
            } else {
                let reason =
                    format!("{outside} of the host; what is written there stays after the job");
                Found::new(Writable, reason, Remedy::None)
            }
        }
        Op::Pin { path: at, .. } => Found::new(
            ReadOnly,
            format!(
                "{at} is a protected path of the workspace, read-only even where it did not exist"
            ),
            protected(step),
        ),
        Op::Tmpfs { size, .. } => Found::new(
            Writable,
            format!("a private file system in memory of {size} bytes, gone after the job"),
            Remedy::None,
        ),
        Op::Overlay {
            source, path: at, ..
        } => {
            let outside = outside(plan, *source, path, at);
            let reason = format!("a layer over {outside} of the host, which is never written");
            Found::new(Writable, reason, Remedy::None)
        }
        Op::Proc { .. } => Found::new(
            Writable,
            "the sandbox's own /proc; the kernel decides file by file, and shows only processes of the sandbox",
            Remedy::None,
        ),
        Op::Mqueue { .. } => Found::new(
            Writable,
            "the sandbox's own message queues, none of the host's",
            Remedy::None,
        ),
        Op::Devpts { .. } => Found::new(
            Writable,
            "the sandbox's own terminals, none of the host's",
            Remedy::None,
        ),
        Op::Mask { .. } => Found::new(Masked, mask_reason(&step.why), mask_remedy(&step.why)),
        Op::ReadOnly { .. } => Found::new(
            ReadOnly,
            "a part of /proc that sets values of the kernel, read-only whatever the policy says",
            Remedy::None,
        ),
        other => Found::new(Standing::Absent, other.summary(), Remedy::None),
    }
}

fn outside(plan: &Plan, source: usize, path: &str, at: &str) -> String {
    let base = plan
        .sources
        .get(source)
        .map_or("an unknown source", |source| &source.path);
    format!(
        "{}{}",
        base.trim_end_matches('/'),
        within(path, at).unwrap_or_default()
    )
}

/// Where nothing is mounted: the root itself.
fn below_root(plan: &Plan, root: &Root, path: &str) -> Found {
    let sealed = plan
        .steps
        .iter()
        .any(|step| matches!(step.op, Op::SealRoot));
    match root {
        Root::Overlay { .. } if sealed => {
            let line = "[filesystem] rootfs = \"overlay\"";
            let risk = "the job can change its own copy of system files; the directory itself is never written";
            Found::new(
                Standing::ReadOnly,
                "the directory given by --rootfs, read-only",
                Remedy::policy(line, risk),
            )
        }
        Root::Overlay { upper, .. } => {
            let kept = match upper {
                Upper::Tmpfs { size } => format!("in memory, at most {size} bytes"),
                Upper::Directory { .. } => "on disk until the sandbox is removed".to_owned(),
            };
            let reason = format!("a layer over the directory given by --rootfs, {kept}");
            Found::new(Standing::Writable, reason, Remedy::None)
        }
        Root::Tmpfs { .. } if made(plan, path) => Found::new(
            Standing::ReadOnly,
            "made for the sandbox, read-only like its whole root",
            Remedy::None,
        ),
        Root::Tmpfs { .. } => Found::new(
            Standing::Absent,
            "nothing of the host is there but what the plan names, and it does not name this",
            Remedy::policy(
                mount_line(path, path, "ro"),
                "the job can read that file of the host, or everything below that directory",
            ),
        ),
    }
}

/// Whether the plan makes the path: a file, a directory, or what leads to one.
fn made(plan: &Plan, path: &str) -> bool {
    plan.steps.iter().any(|step| match &step.op {
        Op::File { path: at, .. } | Op::Symlink { path: at, .. } => within(at, path).is_some(),
        op => mount_point(op).is_some_and(|at| within(at, path).is_some()),
    })
}

fn mount_line(source: &str, target: &str, access: &str) -> String {
    // JSON's strings are TOML's basic strings.
    let (source, target) = (Value::from(source), Value::from(target));
    format!(
        "[filesystem] mount = [{{ source = {source}, target = {target}, access = \"{access}\", why = \"…\" }}]"
    )
}

/// What would make a read-only bind writable.
fn to_write(step: &Step, outside: &str, path: &str) -> Remedy {
    match &step.why {
        _ if is_workspace(step) => Remedy::policy(
            "[workspace] access = \"rw\"",
            "with --workspace DIR, the job can change any file of it but the protected ones; running anything from it afterwards runs the job's code",
        ),
        Origin::Always => Remedy::Advice(
            "the host's programs are never written: --rootfs DIR with [filesystem] rootfs = \"overlay\" gives the job a copy"
                .to_owned(),
        ),
        _ => Remedy::policy(
            mount_line(outside, path, "rw"),
            "the job can change these files of the host, and what runs from there afterwards may be its code",
        ),
    }
}

/// Presets' protected paths cannot be taken out of the list.
fn protected(step: &Step) -> Remedy {
    match &step.why {
        Origin::File { path, line } => Remedy::Advice(format!(
            "take it out of [workspace] protected, {path}:{line}"
        )),
        _ => Remedy::Advice(
            "no policy can allow it; with --workspace DIR:copy the job writes to a copy".to_owned(),
        ),
    }
}

fn mask_reason(why: &Origin) -> String {
    match why {
        Origin::Always => "hidden in every sandbox: it tells of the host or controls it",
        Origin::Preset { .. } | Origin::File { .. } => "hidden, as the policy says",
        Origin::Flag { .. } | Origin::Host { .. } => {
            "a socket that was there at the start, hidden: a server of the host may answer on it"
        }
    }
    .to_owned()
}

fn mask_remedy(why: &Origin) -> Remedy {
    match why {
        Origin::File { path, line } => Remedy::Advice(format!("see {path}:{line}, which hides it")),
        _ => Remedy::None,
    }
}

fn landlock(plan: &Plan) -> Option<&LandlockPlan> {
    plan.steps.iter().find_map(|step| match &step.op {
        Op::Landlock { rules } if rules.handled_fs != 0 => Some(rules),
        _ => None,
    })
}

/// LANDLOCK_ACCESS_FS_WRITE_FILE.
const WRITE_FILE: u64 = 1 << 1;

/// Rights of all rules above the path count together: landlock(7).
fn rights(rules: &LandlockPlan, path: &str) -> u64 {
    let above = rules
        .rules
        .iter()
        .filter(|rule| within(path, &rule.path).is_some());
    above.fold(0, |bits, rule| bits | rule.bits)
}

/// The rights that a reader thinks in: include/uapi/linux/landlock.h.
fn words(rules: &LandlockPlan, bits: u64) -> String {
    const WORDS: [(u64, &str); 5] = [
        (1 << 2 | 1 << 3, "read"),
        (1, "execute"),
        (WRITE_FILE, "write"),
        (1 << 8, "create"),
        (1 << 5, "remove"),
    ];
    let handled = WORDS
        .iter()
        .filter(|(right, _)| rules.handled_fs & right != 0);
    let allowed: Vec<&str> = handled
        .filter(|(right, _)| bits & right != 0)
        .map(|(_, word)| *word)
        .collect();
    if allowed.is_empty() {
        "nothing".to_owned()
    } else {
        allowed.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::explain::sample;

    fn standing(path: &str) -> Standing {
        why(&sample::plan(), path).standing
    }

    #[test]
    fn the_last_mount_over_a_path_decides() {
        use Standing::*;
        for (path, expected) in [
            ("/etc/passwd", ReadOnly),
            ("/etc/shadow", Absent),
            ("/etc", ReadOnly),
            ("/", ReadOnly),
            ("/home/me/.ssh/id_ed25519", Absent),
            ("/usr/bin/gcc", ReadOnly),
            ("/bin/sh", ReadOnly),
            ("/tmp/x", Writable),
            ("/tmpx", Absent),
            ("/dev/null", Writable),
            ("/forgotten/by/landlock", ReadOnly),
            ("/proc/kcore", Masked),
            ("/proc/sys/kernel/core_pattern", ReadOnly),
            ("/proc/self/status", Writable),
            ("/home/me/src/main.c", Writable),
            ("main.c", Writable),
            ("./sub/../.git/config", Writable),
            (".git/hooks/pre-commit", ReadOnly),
            ("/home/me/src/agent.sock", Masked),
        ] {
            assert_eq!(standing(path), expected, "{path}");
        }
    }

    #[test]
    fn symlinks_of_the_plan_are_followed_and_loops_end() {
        assert_eq!(why(&sample::plan(), "/bin/../bin/sh").path, "/usr/bin/sh");
        let mut plan = sample::plan();
        for (path, target) in [("/a", "b"), ("/b", "/a")] {
            let op = Op::Symlink {
                path: path.to_owned(),
                target: target.to_owned(),
            };
            plan.steps.push(Step {
                op,
                why: Origin::Always,
            });
        }
        assert!(["/a/x", "/b/x"].contains(&why(&plan, "/a/x").path.as_str()));
    }

    #[test]
    fn landlock_rules_above_a_path_add_up() {
        let answer = |path| why(&sample::plan(), path).landlock.unwrap();
        assert_eq!(answer("/usr/bin/gcc"), "read, execute");
        assert_eq!(answer("/tmp/x"), "read, execute, write, create, remove");
    }
}
