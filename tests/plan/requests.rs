//! Requests as values.

use cofferdam::host::facts::Facts;
use cofferdam::policy::Access;
use cofferdam::sandbox::request::{HostObject, Protected, Request, Workspace};
use cofferdam::source::origin::Origin;
use std::collections::BTreeMap;

pub fn flag(name: &str) -> Origin {
    Origin::Flag {
        name: name.to_owned(),
    }
}

pub fn object(path: &str, directory: bool) -> HostObject {
    HostObject {
        path: path.to_owned(),
        device: 64,
        inode: 4711,
        directory,
        uid: 1000,
        gid: 1000,
    }
}

/// Host view, no workspace.
pub fn bare() -> Request {
    Request {
        name: "golden".to_owned(),
        argv: vec!["make".to_owned(), "-j2".to_owned()],
        rootfs: None,
        workspace: None,
        mounts: Vec::new(),
        environment: vec![
            ("HOME".to_owned(), "/home/u".to_owned()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ],
        workdir: None,
        user: None,
        hostname: None,
        terminal: [false; 3],
        pid1: false,
        layers: Some("/home/u/.local/share/cofferdam/layers/golden".to_owned()),
        keep: false,
        masked: BTreeMap::new(),
    }
}

/// `.git` is there with `config` and without `hooks`; `.vscode` is missing.
pub fn protected() -> Vec<Protected> {
    let one = |path: &str, existing, directory| Protected {
        path: path.to_owned(),
        existing,
        directory,
        origin: Origin::Preset {
            name: "strict".to_owned(),
            line: 47,
        },
    };
    vec![
        one(".git/hooks", 1, true),
        one(".git/config", 2, false),
        one(".vscode", 0, true),
        one(".devcontainer", 1, true),
    ]
}

pub fn workspace(access: Access) -> Workspace {
    Workspace {
        object: object("/home/u/project", true),
        inside: "/home/u/project".to_owned(),
        access,
        origin: flag("--workspace"),
        protected: if access == Access::Rw {
            protected()
        } else {
            Vec::new()
        },
        sockets: vec!["run/agent.sock".to_owned()],
    }
}

fn with_workspace(access: Access) -> Request {
    Request {
        workspace: Some(workspace(access)),
        ..bare()
    }
}

fn rootfs() -> Request {
    Request {
        rootfs: Some(object("/srv/images/debian", true)),
        ..bare()
    }
}

/// What is asked for, by the names of the goldens.
pub fn all() -> impl Iterator<Item = (&'static str, Request)> {
    let writes = Request {
        workspace: Some(workspace(Access::Rw)),
        terminal: [true; 3],
        ..rootfs()
    };
    [
        ("bare", bare()),
        ("ro", with_workspace(Access::Ro)),
        ("rw", with_workspace(Access::Rw)),
        ("copy", with_workspace(Access::Copy)),
        ("rootfs", rootfs()),
        ("rootfs-rw", writes),
    ]
    .into_iter()
}

/// Root acts as the owner of what is written, so that owner is the caller.
pub fn for_host(mut request: Request, facts: &Facts) -> Request {
    if let Some(workspace) = &mut request.workspace
        && facts.privileged
    {
        workspace.object.uid = facts.caller.uid;
        workspace.object.gid = facts.caller.gid;
    }
    request
}
