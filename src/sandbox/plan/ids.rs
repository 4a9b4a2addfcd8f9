//! [pure] Which ids a sandbox uses, from the id tables.

use super::MapWriter;
use super::order::Draft;
use crate::confine::idmap::{self, Extent};
use crate::policy::words::Word;
use crate::policy::{Access, Control, IdMode};
use crate::source::diagnostic::Diagnostic;

/// The maps, and what follows from them for files that steps make.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) outer_uids: Vec<Extent>,
    pub(super) outer_gids: Vec<Extent>,
    pub(super) job_uids: Vec<Extent>,
    pub(super) job_gids: Vec<Extent>,
    pub(super) writer: MapWriter,
    /// Inside id of the job unless `--user` says otherwise.
    pub(super) user: u32,
    pub(super) group: u32,
    /// U0 id of that user: the owner of /tmp, home and layers.
    pub(super) owner: u32,
    /// The job's user namespace has one id only.
    pub(super) single: bool,
}

/// The workspace is one the job writes to, whether or not it reaches the host:
/// its files are the caller's. An exclusive slice shares no id with them, so it
/// has a copy only as far as others may read it.
fn writes_workspace(draft: &Draft<'_>, mode: IdMode) -> bool {
    let access = draft.request.workspace.as_ref().map(|w| w.access);
    access == Some(Access::Rw) || access == Some(Access::Copy) && mode != IdMode::Exclusive
}

pub(super) fn maps(draft: &mut Draft<'_>) -> Maps {
    let facts = draft.facts;
    let mode = draft.policy.ids.mode.value;
    let rw_mount = draft.request.mounts.iter().any(|mount| mount.writable);
    let case = idmap::Case {
        mode,
        host_view: draft.request.rootfs.is_none(),
        writable_workspace: writes_workspace(draft, mode) || rw_mount,
        workspace_uid: draft.policy.ids.workspace_uid.value,
    };
    let most = draft.policy.ids.exclusive_size.value;
    let sliced = facts
        .subordinate
        .uids
        .is_none_or(|range| range.count <= most);
    if mode == IdMode::Exclusive && !sliced {
        let why = &draft.policy.ids.mode.origin;
        draft.refuse(
            Diagnostic::error(format!(
                "ids.mode = \"exclusive\" ({why}): no slice of ids was taken for this sandbox"
            ))
            .with_help("use ids.mode = \"subuid\""),
        );
        return Maps::none();
    }
    let account = |own, subordinate| idmap::Account { own, subordinate };
    let uid = account(facts.caller.uid, facts.subordinate.uids);
    let gid = account(facts.caller.gid, facts.subordinate.gids);
    if need_helpers(draft, mode) {
        return Maps::none();
    }
    let writer = if facts.privileged {
        MapWriter::Launcher
    } else if mode == IdMode::Caller {
        MapWriter::Caller
    } else {
        MapWriter::Helpers
    };
    if mode == IdMode::Caller && facts.caller.supplementary_groups {
        let why = draft.policy.ids.mode.origin.clone();
        draft.weaker(
            Control::Groups,
            "groups",
            "dropped".to_owned(),
            "a one-id map cannot drop supplementary groups (user_namespaces(7))".to_owned(),
            &why,
            "use ids.mode = \"subuid\"",
        );
    }
    match idmap::maps(&case, &uid, &gid) {
        Ok(maps) => {
            let why = draft.policy.ids.mode.origin.clone();
            let (uids, gids) = (maps.uids, maps.gids);
            let inside = uids.job.iter().map(|e| u64::from(e.count)).sum::<u64>();
            draft.control(
                "ids",
                mode.word().to_owned(),
                format!("{inside} inside"),
                &why,
            );
            let single = inside == 1;
            let (user, group) = if single {
                let only = |map: &[Extent]| map.first().map_or(0, |extent| extent.inside);
                (only(&uids.job), only(&gids.job))
            } else {
                (0, 0)
            };
            Maps {
                owner: idmap::to_parent(&uids.job, user).unwrap_or(0),
                outer_uids: uids.gateway,
                outer_gids: gids.gateway,
                job_uids: uids.job,
                job_gids: gids.job,
                writer,
                user,
                group,
                single,
            }
        }
        Err(error) => {
            draft.refuse(Diagnostic::error(error.to_string()));
            Maps::none()
        }
    }
}

impl Maps {
    /// For a draft that is refused anyway.
    fn none() -> Self {
        Self {
            outer_uids: Vec::new(),
            outer_gids: Vec::new(),
            job_uids: Vec::new(),
            job_gids: Vec::new(),
            writer: MapWriter::Caller,
            user: 0,
            group: 0,
            owner: 0,
            single: true,
        }
    }
}

/// newuidmap is needed by everybody but root and one-id maps; true when that is refused.
fn need_helpers(draft: &mut Draft<'_>, mode: IdMode) -> bool {
    let facts = draft.facts;
    if facts.privileged || mode == IdMode::Caller {
        return false;
    }
    let before = draft.problems.len();
    let user = facts
        .caller
        .name
        .clone()
        .unwrap_or_else(|| facts.caller.uid.to_string());
    if facts.subordinate.newuidmap.is_none() || facts.subordinate.newgidmap.is_none() {
        draft.refuse(
            Diagnostic::error(
                "newuidmap and newgidmap are not installed, so subordinate ids cannot be mapped",
            )
            .with_help("sudo apt-get install uidmap; or use a policy with ids.mode = \"caller\""),
        );
    }
    if facts.subordinate.uids.is_none() || facts.subordinate.gids.is_none() {
        draft.refuse(
            Diagnostic::error(format!("user {user} has no subordinate ids in /etc/subuid and /etc/subgid"))
                .with_help(format!(
                    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (cofferdam doctor finds a free range); or use ids.mode = \"caller\""
                )),
        );
    }
    if facts
        .caller
        .passwd_gid
        .is_some_and(|gid| gid != facts.caller.gid)
    {
        draft.refuse(
            Diagnostic::error(format!(
                "the current group is {} but newgidmap insists on the passwd group {}",
                facts.caller.gid,
                facts.caller.passwd_gid.unwrap_or(0)
            ))
            .with_help(format!(
                "start from a shell of that group: sg or newgrp, or log in again as {user}"
            )),
        );
    }
    draft.problems.len() > before
}
