//! [pure] The workspace with its protected paths, and the granted mounts.

use super::ids::Maps;
use super::order::Draft;
use super::{Attributes, Op, Owners, Placeholder};
use crate::confine::idmap::{Extent, to_parent};
use crate::policy::words::Word;
use crate::policy::{Access, TmpfsGrant};
use crate::sandbox::request::{Mount, Protected, Request, Workspace};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn plan(draft: &mut Draft<'_>, maps: &Maps) {
    let (policy, request) = (draft.policy, draft.request);
    let tmpfs = policy.filesystem.tmpfs.iter().map(Chosen::Tmpfs);
    let mounts = request.mounts.iter().map(Chosen::Mount);
    let workspace = request.workspace.iter().map(Chosen::Workspace);
    let mut all: Vec<Chosen<'_>> = tmpfs.chain(mounts).chain(workspace).collect();
    // A directory comes before what lies below it.
    all.sort_by_key(Chosen::target);
    for chosen in all {
        match chosen {
            Chosen::Tmpfs(grant) => tmpfs_grant(draft, maps, grant),
            Chosen::Mount(mount) => mount_grant(draft, mount),
            Chosen::Workspace(workspace) => mount_workspace(draft, maps, workspace),
        }
    }
}

/// Something mounted where policy or caller want it.
enum Chosen<'a> {
    Tmpfs(&'a TmpfsGrant),
    Mount(&'a Mount),
    Workspace(&'a Workspace),
}

impl<'a> Chosen<'a> {
    fn target(&self) -> &'a str {
        match self {
            Self::Tmpfs(grant) => &grant.target,
            Self::Mount(mount) => &mount.target,
            Self::Workspace(workspace) => &workspace.inside,
        }
    }
}

/// The places inside that policy and caller chose.
pub(super) fn chosen<'a>(draft: &Draft<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let (policy, request) = (draft.policy, draft.request);
    let tmpfs = policy.filesystem.tmpfs.iter().map(|grant| &*grant.target);
    let mounts = request.mounts.iter().map(|mount| &*mount.target);
    let workspace = request.workspace.iter().map(|workspace| &*workspace.inside);
    tmpfs.chain(mounts).chain(workspace)
}

fn tmpfs_grant(draft: &mut Draft<'_>, maps: &Maps, grant: &TmpfsGrant) {
    let op = Op::Tmpfs {
        path: grant.target.clone(),
        size: grant.size.unwrap_or(draft.policy.filesystem.tmp.value),
        mode: 0o755,
        owner: maps.owner,
        attributes: Attributes::default(),
    };
    draft.step(op, grant.origin.clone());
}

fn mount_grant(draft: &mut Draft<'_>, mount: &Mount) {
    let source = draft.pinned(&mount.object, None);
    let attributes = Attributes {
        read_only: !mount.writable,
        ..Attributes::default()
    };
    let op = Op::Bind {
        source,
        path: mount.target.clone(),
        attributes,
    };
    draft.step(op, mount.origin.clone());
    mask_sockets(draft, &mount.target, &mount.sockets, &mount.origin);
}

/// The policy's ceiling holds whatever the request says.
fn ceiling(draft: &mut Draft<'_>, workspace: &Workspace) {
    let most = &draft.policy.workspace.access;
    if workspace.access == Access::None || workspace.access > most.value {
        let cause = format!(
            "workspace {}: {:?} is more than workspace.access = {:?} ({})",
            workspace.object.path,
            workspace.access.word(),
            most.value.word(),
            most.origin
        );
        draft.refuse(Diagnostic::error(cause).with_help("use a policy that allows it"));
    }
}

/// Started by root, what root owns in a copied workspace belongs to the job inside.
fn owners(draft: &Draft<'_>, maps: &Maps, workspace: &Workspace) -> Option<Owners> {
    let one = |inside, outer: &[Extent]| {
        let outside = to_parent(outer, maps.owner)?;
        Some(vec![Extent {
            inside,
            outside,
            count: 1,
        }])
    };
    let copied = workspace.access == Access::Copy && draft.facts.privileged;
    copied.then_some(Owners {
        uids: one(workspace.object.uid, &maps.outer_uids)?,
        gids: one(workspace.object.gid, &maps.outer_gids)?,
    })
}

fn mount_workspace(draft: &mut Draft<'_>, maps: &Maps, workspace: &Workspace) {
    let why = workspace.origin.clone();
    let path = workspace.inside.clone();
    let access = workspace.access;
    let owners = owners(draft, maps, workspace);
    ceiling(draft, workspace);
    let source = draft.pinned(&workspace.object, owners);
    if access == Access::Rw {
        placeholders(draft, source, workspace);
    }
    let attributes = Attributes {
        read_only: access == Access::Ro,
        ..Attributes::default()
    };
    match access {
        // Refused by the ceiling.
        Access::None => {}
        Access::Ro | Access::Rw => {
            draft.step(
                Op::Bind {
                    source,
                    path: path.clone(),
                    attributes,
                },
                why.clone(),
            );
        }
        Access::Copy => {
            super::root::need_overlay(draft, "a copied workspace");
            let keep = draft.request.keep;
            let size = draft.policy.filesystem.tmp.value;
            let upper = super::root::upper(draft, "workspace", size, keep);
            let owner = maps.owner;
            let op = Op::Overlay {
                source,
                path: path.clone(),
                upper,
                owner,
                attributes,
            };
            draft.step(op, why.clone());
            if keep {
                draft.warnings.push(
                    "the copy is kept without what the job writes to protected paths: running anything from it runs the job's code"
                        .to_owned(),
                );
            }
        }
    }
    mask_sockets(draft, &path, &workspace.sockets, &why);
    if access == Access::Rw {
        protect(draft, workspace);
        draft.warnings.push(
            "the workspace is writable: running anything from it afterwards runs the job's code"
                .to_owned(),
        );
    }
}

/// Where a kept copy loses what the job wrote: as in a writable workspace nothing
/// of the job's is left at a protected path, nor in place of a missing part of one.
pub(super) fn not_kept(request: &Request) -> Vec<String> {
    let kept = request
        .workspace
        .iter()
        .filter(|workspace| request.keep && workspace.access == Access::Copy);
    let ends: BTreeSet<String> = kept
        .flat_map(|workspace| workspace.protected.iter().map(end))
        .collect();
    ends.into_iter().collect()
}

/// The first missing component of each protected path is made, so that it can be
/// mounted over.
fn placeholders(draft: &mut Draft<'_>, source: usize, workspace: &Workspace) {
    for protected in &workspace.protected {
        if let Some(path) = protected.missing() {
            let already = draft.steps.iter().any(
                |step| matches!(&step.op, Op::Placeholder { path: made, .. } if *made == path),
            );
            if !already {
                let kind = Placeholder::holding(&path);
                draft.step(
                    Op::Placeholder { source, path, kind },
                    protected.origin.clone(),
                );
            }
        }
    }
}

/// Every directory on the way becomes a mount point, so that it cannot be renamed
/// away; the protected path itself, or its placeholder, becomes read-only.
fn protect(draft: &mut Draft<'_>, workspace: &Workspace) {
    let ends: BTreeSet<String> = workspace.protected.iter().map(end).collect();
    let mut pins: BTreeMap<String, Origin> = BTreeMap::new();
    for protected in &workspace.protected {
        let names = protected.components();
        let last = (protected.existing + 1).min(names.len());
        for depth in 1..=last {
            pins.entry(names[..depth].join("/"))
                .or_insert_with(|| protected.origin.clone());
        }
    }
    // In the order of a map a directory comes before what lies below it.
    for (path, why) in pins {
        let read_only = ends.contains(&path);
        draft.step(
            Op::Pin {
                path: format!("{}/{path}", workspace.inside),
                read_only,
            },
            why,
        );
    }
}

/// The path itself, or its first missing component.
fn end(protected: &Protected) -> String {
    let names = protected.components();
    names[..(protected.existing + 1).min(names.len())].join("/")
}

fn mask_sockets(draft: &mut Draft<'_>, below: &str, sockets: &[String], why: &Origin) {
    for socket in sockets {
        let path = format!("{below}/{socket}");
        draft.warnings.push(format!("socket {path} is masked"));
        draft.step(
            Op::Mask {
                path,
                directory: false,
            },
            why.clone(),
        );
    }
}
