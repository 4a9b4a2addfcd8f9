//! [pure] What is executed: argument vector, environment, directory, user.

use super::ids::Maps;
use super::order::Draft;
use super::{Exec, root};
use crate::confine::idmap::{self, Extent};
use crate::source::diagnostic::Diagnostic;
use std::collections::BTreeMap;

/// Where programs are looked for unless the policy or a flag says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn plan(draft: &mut Draft<'_>, maps: &Maps) -> Exec {
    let (uid, gid) = match draft.request.user {
        Some(user) => (user.uid, user.gid),
        None => (maps.user, maps.group),
    };
    // Without maps there is a refusal already.
    let known = |map: &[Extent], id| map.is_empty() || idmap::to_parent(map, id).is_some();
    if !known(&maps.job_uids, uid) || !known(&maps.job_gids, gid) {
        draft.refuse(
            Diagnostic::error(format!("--user {uid}:{gid}: no such id in this sandbox")).with_help(
                format!("the ids inside are {}", idmap::describe(&maps.job_uids)),
            ),
        );
    }
    Exec {
        argv: draft.request.argv.clone(),
        environment: environment(draft, uid),
        directory: directory(draft),
        uid,
        gid,
        pid1: draft.request.pid1,
        terminal: draft.request.terminal,
    }
}

/// The sandbox's own HOME and PATH, then what is passed, then what is set.
/// HOME of the caller names a directory that does not exist inside.
fn environment(draft: &Draft<'_>, uid: u32) -> BTreeMap<String, String> {
    let home = match (&draft.request.rootfs, uid) {
        (None, _) => root::HOME,
        (Some(_), 0) => "/root",
        // Only the image's own passwd would know.
        (Some(_), _) => "/",
    };
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    environment.extend(draft.request.environment.iter().cloned());
    environment.insert("HOME".to_owned(), home.to_owned());
    let set = &draft.policy.environment.set;
    environment.extend(
        set.iter()
            .map(|(name, value)| (name.clone(), value.value.clone())),
    );
    environment
}

fn directory(draft: &Draft<'_>) -> String {
    let workspace = draft
        .request
        .workspace
        .as_ref()
        .map(|workspace| workspace.inside.clone());
    let fallback = if draft.request.rootfs.is_some() {
        "/"
    } else {
        "/workspace"
    };
    draft
        .request
        .workdir
        .clone()
        .or(workspace)
        .unwrap_or_else(|| fallback.to_owned())
}
