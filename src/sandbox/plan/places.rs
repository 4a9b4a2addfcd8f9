//! [pure] Where things are inside: nothing hides another thing, nothing is made in a directory of the host, masks find what they mask.

use super::Op;
use super::order::Draft;
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;

/// What an earlier step put at a path.
enum Placed {
    /// A tree of the host, from this path of it.
    Host(String),
    /// A directory of the sandbox's own.
    Own,
    /// A file or symlink of the root.
    Entry,
}

/// `path` lies below `above`.
fn below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// What a step puts where, if it puts anything anywhere.
fn placed<'a>(draft: &Draft<'_>, op: &'a Op) -> Option<(&'a str, Placed)> {
    Some(match op {
        Op::Bind { source, path, .. } => {
            let host = draft.sources.get(*source)?.path.clone();
            (path, Placed::Host(host))
        }
        Op::Tmpfs { path, .. }
        | Op::Overlay { path, .. }
        | Op::Proc { path }
        | Op::Mqueue { path }
        | Op::Devpts { path, .. } => (path, Placed::Own),
        Op::File { path, .. } | Op::Symlink { path, .. } => (path, Placed::Entry),
        _ => return None,
    })
}

/// Refuses a step that would hide what an earlier one placed, and one whose
/// mount point would have to be made in a directory of the host.
pub(super) fn check(draft: &mut Draft<'_>) {
    let mut refused = Vec::new();
    let mut before: Vec<(&str, Placed, &Origin)> = Vec::new();
    for step in &draft.steps {
        let Some((path, what)) = placed(draft, &step.op) else {
            continue;
        };
        let clash = before
            .iter()
            .find_map(|(earlier, there, why)| clash(path, &what, earlier, there, why));
        refused.extend(clash.map(|cause| {
            Diagnostic::error(format!(
                "cannot mount at {path} inside ({}): {cause}",
                step.why
            ))
            .with_help("choose another place inside")
        }));
        before.push((path, what, &step.why));
    }
    draft.problems.extend(refused);
}

/// Why `what` cannot be put at `path` after what is there, or above it, already.
fn clash(path: &str, what: &Placed, earlier: &str, there: &Placed, why: &Origin) -> Option<String> {
    if path == earlier || below(earlier, path) {
        return Some(format!("it would hide {earlier} ({why})"));
    }
    if !below(path, earlier) {
        return None;
    }
    match there {
        Placed::Own => None,
        Placed::Entry => Some(format!("{earlier} ({why}) is no directory")),
        // Where the host shows the same file at the same place, it is there.
        Placed::Host(host) => {
            let same = match what {
                Placed::Host(own) => own
                    .strip_prefix(host.as_str())
                    .is_some_and(|rest| Some(rest) == path.strip_prefix(earlier)),
                Placed::Own | Placed::Entry => false,
            };
            let cause =
                format!("{earlier} ({why}) is a directory of the host, and nothing is made in it");
            (!same).then_some(cause)
        }
    }
}

/// The policy's own masks. One that hides nothing is a mistake, not a mask.
pub(super) fn masks(draft: &mut Draft<'_>) {
    for masked in &draft.policy.filesystem.masked {
        let (path, why) = (masked.value.clone(), masked.origin.clone());
        let hidden = draft.steps.iter().any(|step| match &step.op {
            Op::Mask { path: mask, .. } => path == *mask || below(&path, mask),
            _ => false,
        });
        if let Some((empty, whose)) = emptied(draft, &path).filter(|_| !hidden) {
            let cause = format!(
                "filesystem.masked {path} ({why}): {empty} ({whose}) is made empty for each sandbox, so nothing would be hidden"
            );
            draft.refuse(Diagnostic::error(cause).with_help("remove it from filesystem.masked"));
            continue;
        }
        match draft.request.masked.get(&path) {
            _ if hidden => {}
            Some(_) if path == "/" => draft.refuse(
                Diagnostic::error(format!("filesystem.masked / ({why}): the root cannot be masked"))
                    .with_help("name what is to be hidden"),
            ),
            Some(&directory) => draft.step(Op::Mask { path, directory }, why),
            None => draft.refuse(
                Diagnostic::error(format!(
                    "filesystem.masked {path} ({why}): nothing is there inside, so nothing would be hidden"
                ))
                .with_help("remove it from filesystem.masked, or name the path without symlinks"),
            ),
        }
    }
}

/// The empty file system that a path inside lies in, if what shows it is one.
fn emptied<'a>(draft: &'a Draft<'_>, path: &str) -> Option<(&'a str, &'a Origin)> {
    let shows = |at: &str| path == at || below(path, at);
    let last = draft
        .steps
        .iter()
        .rfind(|step| placed(draft, &step.op).is_some_and(|(at, _)| shows(at)))?;
    match &last.op {
        Op::Tmpfs { path: at, .. } | Op::Mqueue { path: at } | Op::Devpts { path: at, .. }
            if path != at =>
        {
            Some((at, &last.why))
        }
        _ => None,
    }
}
