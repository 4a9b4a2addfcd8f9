//! [stage] Making mounts with the new mount API: every one is a descriptor before it has a place.

use super::{Context, Failed};
use crate::sandbox::plan::{Attributes, Source};
use crate::sys::mount as attr;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// Attribute bits of mount_setattr(2): nosuid and nodev unless said.
pub(super) fn bits(attributes: Attributes) -> u64 {
    let mut bits = 0;
    if attributes.read_only {
        bits |= attr::RDONLY;
    }
    if attributes.no_exec {
        bits |= attr::NOEXEC;
    }
    if !attributes.set_id {
        bits |= attr::NOSUID;
    }
    if !attributes.devices {
        bits |= attr::NODEV;
    }
    bits
}

/// A new file system of this type, detached. An option without a value is a flag.
pub(super) fn new(
    kind: &'static str,
    options: &[(&str, Option<&str>)],
    attributes: Attributes,
) -> Result<OwnedFd, Failed> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during("fsopen", kind)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), *key, *value),
            None => fsconfig_set_flag(context.as_fd(), *key),
        }
        .during("fsconfig", format!("{kind}: {key}"))?;
    }
    fsconfig_create(context.as_fd()).during("fsconfig create", kind)?;
    let flags = MountAttrFlags::from_bits_retain(bits(attributes) as u32);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).during("fsmount", kind)
}

/// Opens a source as O_PATH and checks that it is what was looked at.
pub(super) fn open_source(source: &Source) -> Result<OwnedFd, Failed> {
    let resolve = if source.follow {
        ResolveFlags::empty()
    } else {
        ResolveFlags::NO_SYMLINKS
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = openat2(CWD, &source.path, flags, Mode::empty(), resolve)
        .during("openat2", &source.path)?;
    check_source(source, &fd)?;
    Ok(fd)
}

/// The inode behind a path may have been exchanged since the plan was made: then nothing starts.
fn check_source(source: &Source, fd: &OwnedFd) -> Result<(), Failed> {
    let stat = rustix::fs::fstat(fd).during("fstat", &source.path)?;
    let same = source
        .inode
        .is_none_or(|inode| inode == (stat.st_dev, stat.st_ino));
    let character = source.character.is_none_or(|number| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
            && number
                == (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                )
    });
    if same && character {
        Ok(())
    } else {
        Err(Errno::STALE).during("compare inode", &source.path)
    }
}

/// A detached copy of the mounts at and below an open file or directory.
pub(super) fn clone_tree(fd: &OwnedFd, name: &str) -> Result<OwnedFd, Failed> {
    // Without AT_RECURSIVE the kernel refuses trees with locked mounts below
    // (mount_namespaces(7)); with it nothing that was hidden shows.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(fd, "", flags).during("open_tree", name)
}

/// Sets attributes on a whole detached tree.
pub(super) fn restrict(tree: &OwnedFd, attributes: Attributes, name: &str) -> Result<(), Failed> {
    attr::add_attributes(tree.as_fd(), bits(attributes), true).during("mount_setattr", name)
}

/// Puts a detached mount on an open mount point.
pub(super) fn attach(mount: &OwnedFd, point: &OwnedFd, name: &str) -> Result<(), Failed> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags).during("move_mount", name)
}

/// Puts a detached mount where only we see it — over the host's /dev in our
/// copy of its tree, which goes away with the pivot — and opens its root: an
/// overlay's layers and the source of a bind must be attached somewhere.
pub(super) fn attach_scratch(mount: &OwnedFd, what: &str) -> Result<OwnedFd, Failed> {
    move_mount(
        mount,
        "",
        CWD,
        "/dev",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .during("move_mount", what)?;
    openat2(
        CWD,
        "/dev",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )
    .during("openat2", what)
}

/// `/proc/self/fd/N`: the only way to hand an open directory to overlayfs.
pub(super) fn magic(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Owner and mode of a directory we made.
pub(super) fn own(fd: &OwnedFd, owner: u32, mode: u32, name: &str) -> Result<(), Failed> {
    let uid = rustix::fs::Uid::from_raw(owner);
    let gid = rustix::fs::Gid::from_raw(owner);
    rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .during("fchownat", name)?;
    rustix::fs::chmodat(
        CWD,
        magic(fd).as_str(),
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )
    .during("fchmodat", name)
}
