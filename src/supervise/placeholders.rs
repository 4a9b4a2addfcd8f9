//! [host] Placeholders for protected paths that do not exist yet: empty files of ours in the workspace.
//!
//! Sandboxes in one workspace share them: the last one removes them. Removed
//! earlier, the mount over them would go with them (rmdir and unlink detach the
//! mounts of other namespaces), and the job could put its own there.
//!
//! The workspace may be written by others meanwhile, so every path is resolved
//! beneath the pinned directory and never through a symlink.

use crate::supervise::state::{Placeholders, ReliedOn};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2,
};
use rustix::io::Errno;

const FILE: Mode = Mode::from_raw_mode(0o444);
const DIRECTORY: Mode = Mode::from_raw_mode(0o555);

type Failed = (String, Errno);

fn workspace(all: &Placeholders) -> Result<OwnedFd, Failed> {
    let fail = |errno| (all.workspace.clone(), errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS;
    let fd = openat2(CWD, &all.workspace, flags, Mode::empty(), resolve).map_err(fail)?;
    let stat = rustix::fs::fstat(&fd).map_err(fail)?;
    if (stat.st_dev, stat.st_ino) == all.inode {
        Ok(fd)
    } else {
        Err(fail(Errno::STALE))
    }
}

/// The open parent of a relative path and its last name.
fn parent<'p>(workspace: &OwnedFd, path: &'p str) -> Result<(OwnedFd, &'p str), Failed> {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = openat2(workspace, above, flags, Mode::empty(), resolve)
        .map_err(|errno| (path.to_owned(), errno))?;
    Ok((fd, name))
}

/// What lies at `name` is a placeholder: ours, empty, and of a mode that nobody
/// gives a file by accident.
pub fn is_one(parent: &OwnedFd, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    ours && match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => mode == FILE && stat.st_size == 0,
        FileType::Directory => mode == DIRECTORY && is_empty(parent, name),
        _ => false,
    }
}

fn is_empty(parent: &OwnedFd, name: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entries = openat(parent, name, flags, Mode::empty()).and_then(Dir::new);
    entries.is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
        })
    })
}

/// Makes them all. One that is there already is another sandbox's, or was left.
///
/// # Errors
/// The path that could not be made and why; EEXIST when something else appeared meanwhile.
pub fn make(all: &Placeholders) -> Result<(), Failed> {
    let workspace = workspace(all)?;
    for (path, directory) in &all.paths {
        let fail = |errno| (path.clone(), errno);
        let (parent, name) = parent(&workspace, path)?;
        match make_one(&parent, name, *directory) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_one(&parent, name) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

fn make_one(parent: &OwnedFd, name: &str, directory: bool) -> Result<(), Errno> {
    let mode = if directory { DIRECTORY } else { FILE };
    if directory {
        mkdirat(parent, name, mode)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(parent, name, flags, mode)?;
    }
    // Whatever the umask is: the mode is how it is known again.
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
}

/// Removes those that are still empty and that no other sandbox relies on; what
/// somebody has used meanwhile stays.
///
/// # Errors
/// The first path that could not be looked at or removed.
pub fn remove(all: &Placeholders, relied_on: &ReliedOn) -> Result<(), Failed> {
    let workspace = match workspace(all) {
        Ok(workspace) => workspace,
        // The whole workspace is gone or another one: nothing of ours is there.
        Err((_, Errno::NOENT | Errno::STALE)) => return Ok(()),
        Err(failed) => return Err(failed),
    };
    for (path, directory) in &all.paths {
        if relied_on.contains(&(all.inode, path.clone())) {
            continue;
        }
        let fail = |errno| (path.clone(), errno);
        let (parent, name) = match parent(&workspace, path) {
            Ok(found) => found,
            Err((_, Errno::NOENT)) => continue,
            Err(failed) => return Err(failed),
        };
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(fail(errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let flags = match (directory, kind) {
            (true, FileType::Directory) => AtFlags::REMOVEDIR,
            (false, FileType::RegularFile) if stat.st_size == 0 => AtFlags::empty(),
            _ => continue,
        };
        match rustix::fs::unlinkat(&parent, name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}
