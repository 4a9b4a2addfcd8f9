//! [pure] /dev, /proc and /sys: what is in them, what is hidden, what is read-only.

use super::ids::Maps;
use super::order::Draft;
use super::{Attributes, Op, Source};
use crate::linux::paths;
use crate::source::origin::Origin;

/// The device nodes of a sandbox, by number: Documentation/admin-guide/devices.txt.
const NODES: [(&str, (u32, u32)); 6] = [
    ("/dev/null", (1, 3)),
    ("/dev/zero", (1, 5)),
    ("/dev/full", (1, 7)),
    ("/dev/random", (1, 8)),
    ("/dev/urandom", (1, 9)),
    ("/dev/tty", (5, 0)),
];

/// Terminals a sandbox may have at once; the host's limit is for all together.
const TERMINALS: u32 = 64;

pub(super) fn devices(draft: &mut Draft<'_>, maps: &Maps) {
    let directory = Attributes {
        no_exec: true,
        ..Attributes::default()
    };
    draft.always(Op::Tmpfs {
        path: "/dev".to_owned(),
        size: 64 << 10,
        mode: 0o755,
        owner: 0,
        attributes: directory,
    });
    for (path, number) in NODES {
        let source = draft.source(Source {
            character: Some(number),
            ..Source::at(path)
        });
        let attributes = Attributes {
            no_exec: true,
            devices: true,
            ..Attributes::default()
        };
        draft.always(Op::Bind {
            source,
            path: path.to_owned(),
            attributes,
        });
    }
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        draft.always(Op::Symlink {
            path: path.to_owned(),
            target: target.to_owned(),
        });
    }
    draft.always(Op::Devpts {
        path: "/dev/pts".to_owned(),
        max: TERMINALS,
    });
    draft.always(Op::Mqueue {
        path: "/dev/mqueue".to_owned(),
    });
    let size = draft.policy.filesystem.tmp.value;
    draft.always(Op::Tmpfs {
        path: "/dev/shm".to_owned(),
        size,
        mode: 0o1777,
        owner: maps.owner,
        attributes: directory,
    });
    if draft.request.terminal.contains(&true) {
        draft.step(
            Op::Terminal { owner: maps.owner },
            Origin::Flag {
                name: "--tty".to_owned(),
            },
        );
    }
}

/// A fresh /proc, a few files of /sys, then what of /proc is hidden or read-only.
pub(super) fn file_systems(draft: &mut Draft<'_>) {
    draft.always(Op::Proc {
        path: "/proc".to_owned(),
    });
    // No sysfs at all: programs size themselves by a few files of it, and the
    // rest tells of the host's hardware (CVE-2020-8694, GHSA-6fw5-f8r9-fgfm).
    for path in draft.facts.sys.clone() {
        super::root::bind_host(draft, &path);
    }
    // Its files belong to U0's root, who is the job where it writes the host:
    // mode and owner alone would let it write pid 1's oom_score_adj and clear_refs.
    if !draft.request.pid1 {
        draft.always(Op::ReadOnly {
            path: "/proc/1".to_owned(),
        });
    }
    for entry in draft.facts.maskable.clone() {
        let op = if paths::READ_ONLY
            .iter()
            .any(|path| paths::matches(path.pattern, &entry.path))
        {
            Op::ReadOnly { path: entry.path }
        } else {
            Op::Mask {
                path: entry.path,
                directory: entry.directory,
            }
        };
        draft.always(op);
    }
}
