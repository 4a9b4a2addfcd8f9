//! [host] The edge of a supervisor: found among its children, read from outside.

use super::PostureError;
use super::descriptors::Holder;
use super::edge::{Edge, Held};
use super::files::{Failed, Files, all_processes};
use super::observation::{Kind, Status};
use super::{find, status, tables};
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// What an edge calls itself.
const NAME: &str = "cofferdam-edge";

/// The edge of this supervisor, if it has one.
///
/// # Errors
/// When /proc or a file of the edge cannot be read.
pub fn observe_edge(supervisor: i32) -> Result<Option<Edge>, PostureError> {
    let all = all_processes().map_err(|failed| error(0, "", &failed))?;
    for pid in all {
        // Processes end while we look.
        let Ok(files) = Files::of_process(pid) else {
            continue;
        };
        let Ok(status) = files.parsed("status", status::parse) else {
            continue;
        };
        if status.parent == supervisor && status.name == NAME {
            return read(&files, pid, status).map(Some);
        }
    }
    Ok(None)
}

fn read(files: &Files, pid: i32, status: Status) -> Result<Edge, PostureError> {
    let map = |name: &str| {
        let map = files.parsed(name, tables::id_map);
        map.map_err(|failed| error(pid, name, &failed))
    };
    let mounts = files.parsed("mountinfo", tables::mountinfo);
    Ok(Edge {
        pid,
        uid_map: map("uid_map")?,
        gid_map: map("gid_map")?,
        mounts: mounts.map_err(|failed| error(pid, "mountinfo", &failed))?,
        held: held(files, pid, &status)?,
        status,
    })
}

/// None where the kernel does not show it to us.
fn held(files: &Files, pid: i32, status: &Status) -> Result<Option<Held>, PostureError> {
    let mut namespaces = BTreeMap::<Kind, (u64, u64)>::new();
    for (kind, ours) in find::own_namespaces()? {
        match files.namespace(kind.file()) {
            Ok(own) => namespaces.insert(kind, (own, ours)),
            Err(Failed::Kernel(Errno::ACCESS | Errno::PERM)) => return Ok(None),
            Err(failed) => return Err(error(pid, kind.file(), &failed)),
        };
    }
    let device = memfd_create("posture", MemfdFlags::CLOEXEC)
        .and_then(fstat)
        .map_err(|errno| error(pid, "memfd", &Failed::Kernel(errno)))?
        .st_dev;
    let memory = (rustix::fs::major(device), rustix::fs::minor(device));
    let descriptors = Holder::new(files, pid, status, memory).descriptors();
    let descriptors = descriptors.map_err(|unreadable| PostureError::Inside {
        call: format!("read ({})", unreadable.cause),
        object: format!("/proc/{pid}/{}", unreadable.file),
        errno: Errno::IO.raw_os_error(),
    })?;
    let classes: Vec<_> = descriptors.into_iter().map(|one| one.class).collect();
    Ok(Some(Held::new(namespaces, &classes)))
}

fn error(pid: i32, file: &str, failed: &Failed) -> PostureError {
    find::kernel("read", format!("/proc/{pid}/{file}"), failed)
}
