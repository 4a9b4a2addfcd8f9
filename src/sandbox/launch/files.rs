//! [host] The init program and the sealed memory files a sandbox starts from.

use super::LaunchError;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Name of the program beside or in ../libexec/cofferdam of our own.
const NAME: &str = "cofferdam-init";

/// The opened init program.
///
/// Where an id of a sandbox could ever write the file, it is copied into sealed
/// memory before it runs (CVE-2019-5736); root's own file is executed as it is.
#[derive(Debug)]
pub struct Program {
    pub(super) file: OwnedFd,
    pub(super) writable: bool,
}

impl Program {
    /// Finds it beside the running program, then in ../libexec/cofferdam.
    ///
    /// # Errors
    /// [`LaunchError::Program`] when neither place has it.
    pub fn find() -> Result<Self, LaunchError> {
        let own = std::env::current_exe()
            .map_err(|error| LaunchError::Program(format!("where am I: {error}")))?;
        let directory = own.parent().unwrap_or(Path::new("/")).to_owned();
        let places = [
            directory.join(NAME),
            directory.join("../libexec/cofferdam").join(NAME),
        ];
        places
            .iter()
            .find_map(|path| Self::open(path).ok())
            .ok_or_else(|| LaunchError::Program(format!("not found beside {}", own.display())))
    }

    /// Opens the program at this path.
    ///
    /// # Errors
    /// [`LaunchError::Program`] when it cannot be opened.
    pub fn open(path: &PathBuf) -> Result<Self, LaunchError> {
        let fail = |errno| LaunchError::Program(format!("{}: {errno}", path.display()));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        let writable = stat.st_uid != 0 || stat.st_gid != 0 || stat.st_mode & 0o022 != 0;
        Ok(Self { file, writable })
    }
}

/// Memory that nobody can change any more, not even us.
pub(super) fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd, LaunchError> {
    let fail = |call| move |errno| LaunchError::System { call, errno };
    let memory = memory(name).map_err(fail("memfd_create"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&memory, rest).map_err(fail("write"))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    seal(&memory).map_err(fail("fcntl F_ADD_SEALS"))?;
    Ok(memory)
}

pub(super) fn memory(name: &str) -> Result<OwnedFd, Errno> {
    memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
}

pub(super) fn seal(memory: &OwnedFd) -> Result<(), Errno> {
    fcntl_add_seals(
        memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )
}
