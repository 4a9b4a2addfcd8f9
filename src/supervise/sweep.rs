//! [host] Removing what belongs to subordinate ids: from inside a user namespace that maps them.
//!
//! Names below come from a job. They are only ever used relative to an open
//! directory, never followed, and a deep tree is flattened instead of descended:
//! the number of descriptors and the depth of calls stay constant.

use crate::sandbox::launch::{LaunchError, Outer};
use crate::sandbox::plan::Plan;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::path::Path;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes directory `name` below `parent` and everything in it, as root of the
/// plan's U0.
///
/// # Errors
/// U0 could not be made, or something in the tree could not be removed.
pub fn remove_layers(
    plan: &Plan,
    helpers: Option<(&str, &str)>,
    parent: &OwnedFd,
    name: &str,
) -> Result<(), LaunchError> {
    // Also where every file is the caller's own: a directory may be closed to its owner.
    Outer::run(plan, helpers, || remove_tree(parent, name))
}

/// What a job changed in a copied workspace, below its sandbox's layers.
pub const KEPT_WORKSPACE: &str = "workspace/upper";

/// Removes what a job wrote to the plan's protected paths in the copy at `upper`,
/// as root of the plan's U0. A copy that was never begun has nothing.
///
/// # Errors
/// U0 could not be made, or something could not be removed.
pub fn forget(plan: &Plan, helpers: Option<(&str, &str)>, upper: &Path) -> Result<(), LaunchError> {
    Outer::run(plan, helpers, || {
        let upper = match openat(CWD, upper, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let paths = &plan.supervise.not_kept;
        paths.iter().try_for_each(|path| remove_at(&upper, path))
    })
}

/// Removes what lies at a relative path; what is no directory on the way to it as
/// well, since it may lead anywhere.
fn remove_at(top: &OwnedFd, path: &str) -> Result<(), Errno> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut parent = top.try_clone().map_err(|_| Errno::MFILE)?;
    for component in above.split('/').filter(|name| !name.is_empty()) {
        parent = match openat(&parent, component, DIRECTORY, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return gone(unlinkat(&parent, component, AtFlags::empty()));
            }
            Err(errno) => return Err(errno),
        };
    }
    match unlinkat(&parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => remove_tree(&parent, name),
        other => gone(other),
    }
}

/// Removes a tree below an open directory.
///
/// # Errors
/// The first errno that is not ENOENT.
pub fn remove_tree(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let top = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut moved = 0u64;
    while empty(&top, &top, &mut moved)? {}
    gone(unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// Removes what is no directory, and moves directories below `directory` to the
/// top under new names. True when there may be more to do.
fn empty(top: &OwnedFd, directory: &OwnedFd, moved: &mut u64) -> Result<bool, Errno> {
    let mut more = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if is_directory(directory, name, entry.file_type())? {
            more = true;
            remove_directory(top, directory, name, moved)?;
        } else {
            gone(unlinkat(directory, name, AtFlags::empty()))?;
        }
    }
    Ok(more)
}

fn remove_directory(
    top: &OwnedFd,
    directory: &OwnedFd,
    name: &std::ffi::CStr,
    moved: &mut u64,
) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return gone(other),
    }
    let child = match openat(directory, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in Dir::read_from(&child)? {
        let entry = entry?;
        let inner = entry.file_name();
        if inner == c"." || inner == c".." {
            continue;
        }
        if is_directory(&child, inner, entry.file_type())? {
            match unlinkat(&child, inner, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    *moved += 1;
                    renameat(&child, inner, top, format!(".removing-{moved}"))?;
                }
                other => gone(other)?,
            }
        } else {
            gone(unlinkat(&child, inner, AtFlags::empty()))?;
        }
    }
    gone(unlinkat(directory, name, AtFlags::REMOVEDIR))
}

/// As the listing says, or where the file system does not list kinds the inode.
fn is_directory(
    directory: &OwnedFd,
    name: &std::ffi::CStr,
    listed: FileType,
) -> Result<bool, Errno> {
    if listed != FileType::Unknown {
        return Ok(listed == FileType::Directory);
    }
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Somebody else was faster: fine.
fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_at_the_path_goes_and_nothing_is_followed() {
        let base = std::env::temp_dir().join(format!("cofferdam-forget-{}", std::process::id()));
        let outside = base.join("outside");
        std::fs::create_dir_all(outside.join("hooks")).unwrap();
        std::fs::write(outside.join("hooks/evil"), "x").unwrap();
        let upper = base.join("upper");
        for at in ["plain", "linked", "file"] {
            std::fs::create_dir_all(upper.join(at)).unwrap();
        }
        std::fs::create_dir_all(upper.join("plain/.git/hooks/deep")).unwrap();
        std::fs::write(upper.join("plain/.git/HEAD"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("linked/.git")).unwrap();
        std::fs::write(upper.join("file/.git"), "gitdir: ../outside").unwrap();
        for at in ["plain", "linked", "file", "none"] {
            let top = openat(rustix::fs::CWD, &upper, DIRECTORY, Mode::empty()).unwrap();
            remove_at(&top, &format!("{at}/.git/hooks")).unwrap();
        }
        assert!(upper.join("plain/.git/HEAD").exists());
        assert!(!upper.join("plain/.git/hooks").exists());
        for at in ["linked", "file"] {
            assert!(upper.join(at).is_dir());
            assert!(upper.join(at).join(".git").symlink_metadata().is_err());
        }
        assert!(outside.join("hooks/evil").exists());
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_deep_wide_and_closed_tree_is_removed_with_few_descriptors() {
        let base = std::env::temp_dir().join(format!("cofferdam-sweep-{}", std::process::id()));
        std::fs::create_dir_all(base.join("layer")).unwrap();
        let parent = openat(rustix::fs::CWD, &base, DIRECTORY, Mode::empty()).unwrap();
        let mut here = openat(&parent, "layer", DIRECTORY, Mode::empty()).unwrap();
        for depth in 0..3000 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o700)).unwrap();
            rustix::fs::symlinkat("/etc", &here, "link").unwrap();
            if depth % 100 == 0 {
                rustix::fs::mkdirat(&here, "e", Mode::from_raw_mode(0o700)).unwrap();
            }
            here = openat(&here, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        remove_tree(&parent, "layer").unwrap();
        remove_tree(&parent, "layer").unwrap();
        assert!(!base.join("layer").exists());
        assert!(std::path::Path::new("/etc").is_dir());
        std::fs::remove_dir(&base).unwrap();
    }
}
