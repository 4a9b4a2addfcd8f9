//! [pure] The root: the host view (read-only programs, an /etc of our own) or a rootfs directory under an overlay.

use super::ids::Maps;
use super::order::Draft;
use super::{Attributes, Op, Owners, Root, Source, Upper};
use crate::confine::idmap::{compose, to_parent};
use crate::net::GATEWAY;
use crate::policy::RootfsMode;
use crate::sandbox::request::HostObject;
use crate::source::diagnostic::Diagnostic;

/// Bytes of the host view's own root: directories, symlinks and small files only.
const ROOT_BYTES: u64 = 8 << 20;

/// The home directory of the host view.
pub(super) const HOME: &str = "/home/job";

pub(super) fn plan(draft: &mut Draft<'_>, maps: &Maps) {
    if draft.request.rootfs.is_some() {
        rootfs(draft, maps);
    } else {
        draft.always(Op::Root {
            root: Root::Tmpfs { size: ROOT_BYTES },
        });
        programs(draft);
        etc(draft, maps);
    }
    network_files(draft);
    private_directories(draft, maps);
}

/// overlayfs in a user namespace needs `userxattr` (5.11) and the module.
pub(super) fn need_overlay(draft: &mut Draft<'_>, what: &str) {
    if !draft.facts.overlay_userxattr {
        draft.refuse(
            Diagnostic::error(format!(
                "{what} needs an overlay, and this host mounts none in a user namespace"
            ))
            .with_help("sudo modprobe overlay; cofferdam doctor says what is missing"),
        );
    }
}

/// Layers on tmpfs where it keeps user xattrs and the policy does not ask for
/// them on disk; else below the caller's data directory.
pub(super) fn upper(draft: &mut Draft<'_>, name: &str, size: u64, keep: bool) -> Upper {
    if draft.facts.tmpfs_user_xattr && !keep {
        return Upper::Tmpfs { size };
    }
    let Some(layers) = draft.request.layers.clone() else {
        draft.refuse(
            Diagnostic::error(format!(
                "the layer of the {name} has no place: the path of the data directory is no UTF-8"
            ))
            .with_help("set XDG_DATA_HOME to a directory with a plain name"),
        );
        return Upper::Tmpfs { size };
    };
    let path = format!("{layers}/{name}");
    let handed = draft.facts.privileged;
    let source = draft.source(Source {
        handed,
        ..Source::at(path)
    });
    Upper::Directory { source }
}

fn rootfs(draft: &mut Draft<'_>, maps: &Maps) {
    let Some(object) = draft.request.rootfs.clone() else {
        return;
    };
    let source = draft.pinned(&object, owners(draft, maps));
    need_overlay(draft, "--rootfs");
    warn_of_strangers(draft, maps, &object);
    let size = draft.policy.filesystem.tmp.value;
    let upper = upper(draft, "rootfs", size, false);
    let owner = to_parent(&maps.job_uids, 0).unwrap_or(0);
    let why = draft.policy.filesystem.rootfs.origin.clone();
    draft.step(
        Op::Root {
            root: Root::Overlay {
                source,
                upper,
                owner,
            },
        },
        why,
    );
}

/// What belongs to no id of the job is nobody's inside: not even its root changes it.
fn warn_of_strangers(draft: &mut Draft<'_>, maps: &Maps, object: &HostObject) {
    let mapped = compose(&maps.job_uids, &maps.outer_uids)
        .iter()
        .any(|extent| (extent.outside..extent.outside + extent.count).contains(&object.uid));
    if mapped || draft.facts.privileged || !writable(draft) {
        return;
    }
    let HostObject { path, uid, .. } = object;
    let advice = if *uid == draft.facts.caller.uid {
        "they are root's together with a writable workspace (-w DIR)"
    } else {
        "unpack the directory as yourself, and use it with a writable workspace (-w DIR)"
    };
    draft.warnings.push(format!(
        "--rootfs {path}: files of uid {uid} are nobody's inside and cannot be changed there; {advice}"
    ));
}

/// Started by root, a rootfs keeps its owners: id N of its files is id N inside.
fn owners(draft: &Draft<'_>, maps: &Maps) -> Option<Owners> {
    draft.facts.privileged.then(|| Owners {
        uids: compose(&maps.job_uids, &maps.outer_uids),
        gids: compose(&maps.job_gids, &maps.outer_gids),
    })
}

/// The host's own programs, read-only; top-level symlinks as they are.
fn programs(draft: &mut Draft<'_>) {
    for entry in draft.facts.programs.clone() {
        match entry.link {
            Some(target) => draft.always(Op::Symlink {
                path: entry.path,
                target,
            }),
            None => bind_host(draft, &entry.path),
        }
    }
}

pub(super) fn bind_host(draft: &mut Draft<'_>, path: &str) {
    let source = draft.source(Source {
        follow: true,
        ..Source::at(path)
    });
    let attributes = Attributes {
        read_only: true,
        ..Attributes::default()
    };
    draft.always(Op::Bind {
        source,
        path: path.to_owned(),
        attributes,
    });
}

/// Only what programs need to run at all; nothing of the host's accounts or configuration.
fn etc(draft: &mut Draft<'_>, maps: &Maps) {
    for entry in draft.facts.etc.clone() {
        bind_host(draft, &entry.path);
    }
    let (user, group) = (maps.user, maps.group);
    let mut passwd = String::new();
    let mut groups = String::new();
    if user != 0 {
        passwd.push_str("root:x:0:0:root:/root:/usr/sbin/nologin\n");
        groups.push_str("root:x:0:\n");
    }
    passwd.push_str(&format!("job:x:{user}:{group}:job:{HOME}:/bin/sh\n"));
    groups.push_str(&format!("job:x:{group}:\n"));
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    groups.push_str("nogroup:x:65534:\n");
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";
    for (path, content) in [
        ("/etc/passwd", passwd),
        ("/etc/group", groups),
        ("/etc/nsswitch.conf", nsswitch.to_owned()),
    ] {
        draft.always(Op::File {
            path: path.to_owned(),
            content,
        });
    }
}

/// Names: the sandbox's own and localhost. The resolver is us, where there is a
/// network; names are asked for as they stand, resolv.conf(5).
fn network_files(draft: &mut Draft<'_>) {
    let name = draft
        .request
        .hostname
        .clone()
        .unwrap_or_else(|| "cofferdam".to_owned());
    let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback\n");
    let resolver = match draft.policy.has_network() {
        false => "# network: none\n".to_owned(),
        true => format!("nameserver {GATEWAY}\noptions ndots:1\n"),
    };
    let why = draft.policy.network.origin.clone();
    draft.step(
        Op::File {
            path: "/etc/hosts".to_owned(),
            content: hosts,
        },
        why.clone(),
    );
    draft.step(
        Op::File {
            path: "/etc/resolv.conf".to_owned(),
            content: resolver,
        },
        why.clone(),
    );
    draft.step(
        Op::File {
            path: "/etc/hostname".to_owned(),
            content: format!("{name}\n"),
        },
        why,
    );
}

/// /tmp, home and, without a workspace, a place to work: each unless something
/// that was asked for takes its place.
fn private_directories(draft: &mut Draft<'_>, maps: &Maps) {
    let tmp = &draft.policy.filesystem.tmp;
    let mut list = vec![("/tmp", 0o1777)];
    if draft.request.rootfs.is_none() {
        list.extend([(HOME, 0o700), ("/var/tmp", 0o1777)]);
        if draft.request.workspace.is_none() {
            list.push(("/workspace", 0o755));
        }
    }
    list.retain(|(path, _)| !super::workspace::chosen(draft).any(|target| target == *path));
    for (path, mode) in list {
        let op = Op::Tmpfs {
            path: path.to_owned(),
            size: tmp.value,
            mode,
            owner: maps.owner,
            attributes: Attributes::default(),
        };
        draft.step(op, tmp.origin.clone());
    }
}

/// Whether the root is sealed read-only or is a layer the job may write.
pub(super) fn writable(draft: &Draft<'_>) -> bool {
    draft.request.rootfs.is_some() && draft.policy.filesystem.rootfs.value == RootfsMode::Overlay
}
