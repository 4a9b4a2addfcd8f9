//! [host] Where state and records are kept: directories of ours, mode 0700, never in /tmp.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// The directories of one user's sandboxes.
#[derive(Clone, Debug)]
pub struct Places {
    /// One directory per living sandbox: state, control socket, lock.
    pub runtime: PathBuf,
    /// Plans, events and output of the last sandboxes.
    pub records: PathBuf,
    /// Layers of overlays that cannot or must not be on tmpfs.
    pub layers: PathBuf,
    /// One file per slice of subordinate ids.
    pub slices: PathBuf,
}

/// A directory that cannot be used.
#[derive(Debug)]
pub enum PlacesError {
    /// Neither XDG_RUNTIME_DIR nor a home directory is known.
    NoHome,
    /// The directory cannot be made or opened.
    Open(PathBuf, Errno),
    /// It belongs to somebody else or others may enter it.
    Exposed(PathBuf),
}

impl fmt::Display for PlacesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHome => write!(out, "no home directory is known: set HOME or XDG_DATA_HOME"),
            Self::Open(path, errno) => write!(out, "directory {}: {errno}", path.display()),
            Self::Exposed(path) => write!(
                out,
                "directory {} must belong to you and be closed to others: chmod 700",
                path.display()
            ),
        }
    }
}

impl std::error::Error for PlacesError {}

impl Places {
    /// From the environment, as cli(1) says; made if missing, owner and mode checked.
    ///
    /// # Errors
    /// [`PlacesError`].
    pub fn of_caller(uid: u32, home: Option<&str>) -> Result<Self, PlacesError> {
        let places = Self::paths(uid, home)?;
        for directory in [
            &places.runtime,
            &places.records,
            &places.layers,
            &places.slices,
        ] {
            make(directory)?;
        }
        Ok(places)
    }

    fn paths(uid: u32, home: Option<&str>) -> Result<Self, PlacesError> {
        if uid == 0 {
            return Ok(Self::below(
                PathBuf::from("/run/cofferdam"),
                Path::new("/var/lib/cofferdam"),
            ));
        }
        let data = match absolute("XDG_DATA_HOME") {
            Some(data) => data,
            None => match absolute("HOME").or_else(|| home.map(PathBuf::from)) {
                Some(home) => home.join(".local/share"),
                None => return Err(PlacesError::NoHome),
            },
        }
        .join("cofferdam");
        let run = absolute("XDG_RUNTIME_DIR")
            .or_else(|| Some(PathBuf::from(format!("/run/user/{uid}"))))
            .filter(|directory| usable(directory, uid))
            .map_or_else(|| data.join("run"), |directory| directory.join("cofferdam"));
        Ok(Self::below(run, &data))
    }

    fn below(runtime: PathBuf, data: &Path) -> Self {
        Self {
            runtime,
            records: data.join("sandboxes"),
            layers: data.join("layers"),
            slices: data.join("ids"),
        }
    }

    /// The directory of one living sandbox.
    pub fn sandbox(&self, name: &str) -> PathBuf {
        self.runtime.join(name)
    }

    /// Directories of ours that no job may see, for the forbidden list.
    pub fn all(&self) -> Vec<String> {
        [&self.runtime, &self.records, &self.layers, &self.slices]
            .into_iter()
            .filter_map(|path| path.to_str().map(str::to_owned))
            .collect()
    }
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn usable(directory: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).is_ok_and(|data| data.is_dir() && data.uid() == uid)
}

/// Makes a directory 0700 with what is missing above it, and checks that it is ours alone.
fn make(path: &Path) -> Result<(), PlacesError> {
    use std::os::unix::fs::DirBuilderExt;
    match open(path) {
        Err(PlacesError::Open(_, Errno::NOENT)) => {}
        found => return found.map(drop),
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| {
            PlacesError::Open(
                path.to_owned(),
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )
        })?;
    open(path).map(drop)
}

/// Opens a directory of ours.
///
/// # Errors
/// [`PlacesError::Open`], or [`PlacesError::Exposed`] when it is not ours alone.
pub fn open(path: &Path) -> Result<OwnedFd, PlacesError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fail = |errno| PlacesError::Open(path.to_owned(), errno);
    let directory = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&directory).map_err(fail)?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() || stat.st_uid == 0;
    if ours && stat.st_mode & 0o077 == 0 {
        Ok(directory)
    } else {
        Err(PlacesError::Exposed(path.to_owned()))
    }
}

/// Makes a directory 0700 below an open one and opens it; it may exist.
///
/// # Errors
/// The errno of mkdirat(2) or openat(2).
pub fn subdirectory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}
