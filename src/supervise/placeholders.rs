//! [host] Placeholders for protected paths that do not exist yet: sockets and files of ours in the workspace.
//!
//! Sandboxes in one workspace share them: the last one removes them. Removed
//! earlier, the mount over them would go with them (rmdir and unlink detach the
//! mounts of other namespaces), and the job could put its own there.
//!
//! The workspace may be written by others meanwhile, so every path is resolved
//! beneath the pinned directory and never through a symlink.

use crate::sandbox::plan::Placeholder;
use crate::supervise::state::{Placeholders, ReliedOn};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mknodat, openat, openat2, statat,
};
use rustix::io::Errno;

/// How a placeholder is known again.
const MODE: Mode = Mode::from_raw_mode(0o444);

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

/// What lies at the name of a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// One of ours.
    Whole,
    /// One whose maker was killed: the umask's mode still, or nothing written.
    Unfinished,
    /// Somebody's.
    Other,
}

fn look(parent: &OwnedFd, name: &str, kind: &Placeholder) -> Result<Found, Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (length, mode) = match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (Placeholder::Socket, FileType::Socket) => (0, Mode::from_raw_mode(stat.st_mode)),
        (Placeholder::File(text), FileType::RegularFile) => {
            (text.len(), Mode::from_raw_mode(stat.st_mode))
        }
        _ => return Ok(Found::Other),
    };
    let size = usize::try_from(stat.st_size);
    Ok(if stat.st_uid != rustix::process::geteuid().as_raw() {
        Found::Other
    } else if mode == MODE && size == Ok(length) {
        Found::Whole
    } else if MODE.contains(mode) && (size == Ok(0) || size == Ok(length)) {
        Found::Unfinished
    } else {
        Found::Other
    })
}

/// What lies at `name` is such a placeholder: ours, as we make it, and of a mode
/// that nobody gives such a file by accident.
///
/// # Errors
/// That of fstatat(2); ENOENT where nothing lies there.
pub fn is_one(parent: &OwnedFd, name: &str, kind: &Placeholder) -> Result<bool, Errno> {
    Ok(look(parent, name, kind)? == Found::Whole)
}

/// Makes them all. One that is there already is another sandbox's, or was left.
///
/// # Errors
/// The path that could not be made and why; EEXIST when something else appeared meanwhile.
pub fn make(all: &Placeholders) -> Result<(), Failed> {
    let workspace = workspace(all)?;
    for (path, kind) in &all.paths {
        let fail = |errno| (path.clone(), errno);
        let (parent, name) = parent(&workspace, path)?;
        match make_one(&parent, name, kind) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_one(&parent, name, kind) == Ok(true) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

fn make_one(parent: &OwnedFd, name: &str, kind: &Placeholder) -> Result<(), Errno> {
    match kind {
        Placeholder::Socket => mknodat(parent, name, FileType::Socket, MODE, 0)?,
        Placeholder::File(text) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(parent, name, flags, MODE)?;
            if rustix::io::write(&file, text.as_bytes())? != text.len() {
                return Err(Errno::NOSPC);
            }
        }
    }
    // Whatever the umask is: the mode is how it is known again.
    rustix::fs::chmodat(parent, name, MODE, AtFlags::empty())
}

/// Removes those that are as they were made and that no other sandbox relies on; what
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
    for (path, kind) in &all.paths {
        if relied_on.contains(&(all.inode, path.clone())) {
            continue;
        }
        let fail = |errno| (path.clone(), errno);
        let (parent, name) = match parent(&workspace, path) {
            Ok(found) => found,
            Err((_, Errno::NOENT)) => continue,
            Err(failed) => return Err(failed),
        };
        match look(&parent, name, kind) {
            Ok(Found::Whole | Found::Unfinished) => {}
            Ok(Found::Other) | Err(Errno::NOENT) => continue,
            Err(errno) => return Err(fail(errno)),
        }
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn what_a_killed_maker_left_is_removed_and_what_somebody_wrote_stays() {
        let workspace = format!("/var/tmp/cofferdam-placeholders-{}", std::process::id());
        fs::create_dir(&workspace).unwrap();
        let inode = fs::metadata(&workspace).unwrap();
        let text = Placeholder::File("text\n".to_owned());
        let left = [
            ("whole", "text\n", 0o444),
            ("empty", "", 0o400),
            ("new", "text\n", 0o440),
        ];
        let kept = [
            ("written", "tex", 0o444),
            ("used", "", 0o644),
            ("theirs", "text\n", 0o600),
        ];
        for (name, content, mode) in left.iter().chain(&kept) {
            let path = format!("{workspace}/{name}");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
        let all = Placeholders {
            workspace: workspace.clone(),
            inode: (inode.dev(), inode.ino()),
            paths: left
                .iter()
                .chain(&kept)
                .map(|(name, ..)| ((*name).to_owned(), text.clone()))
                .collect(),
        };
        assert_eq!(remove(&all, &ReliedOn::default()), Ok(()));
        let mut names: Vec<_> = fs::read_dir(&workspace)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["theirs", "used", "written"]);
        fs::remove_dir_all(&workspace).unwrap();
    }
}
