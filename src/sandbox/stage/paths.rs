//! [stage] Paths below the new root, always by descriptor: openat2(2) with RESOLVE_IN_ROOT.

use super::{Context, Failed};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

/// The new root, before and after it becomes `/`.
#[derive(Debug)]
pub(super) struct Below<'a> {
    root: &'a OwnedFd,
}

impl<'a> Below<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        Self { root }
    }

    /// Opens `path` as O_PATH; symlinks resolve inside the root, magic links never.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd, Failed> {
        self.resolve(path, OFlags::PATH, ResolveFlags::empty())
            .during("openat2", path)
    }

    /// As [`Below::open`], and no component may be a symlink.
    pub(super) fn open_plain(&self, path: &str) -> Result<OwnedFd, Failed> {
        self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
            .during("openat2", path)
    }

    fn resolve(&self, path: &str, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        openat2(
            self.root.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    }

    /// Makes `path` and what is missing above it, mode 0755; returns the directory.
    pub(super) fn directories(&self, path: &str) -> Result<OwnedFd, Failed> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let path = if path.is_empty() { "/" } else { path };
        match self.resolve(path, directory, ResolveFlags::empty()) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).during("openat2", path),
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directories(above)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).during("mkdirat", path),
        }
        self.resolve(path, directory, ResolveFlags::empty())
            .during("openat2", path)
    }

    /// The directory that holds `path`, made if missing, and the last name.
    pub(super) fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Failed> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directories(above)?, name))
    }

    /// A mount point of the right kind at `path`, made if missing.
    pub(super) fn mount_point(&self, path: &str, directory: bool) -> Result<OwnedFd, Failed> {
        if directory {
            return self.directories(path);
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        match rustix::fs::openat(
            &parent,
            name,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o444),
        ) {
            Ok(_) | Err(Errno::EXIST) => self.open(path),
            Err(errno) => Err(errno).during("openat", path),
        }
    }
}
