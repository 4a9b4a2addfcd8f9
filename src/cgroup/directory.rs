//! [host] An open cgroup directory; everything below it is reached through the descriptor.

use super::Error;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// linux/magic.h.
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// A control file is at most this long; cgroup.procs has 8 bytes per process.
const FILE_LIMIT: usize = 4 << 20;

/// An open directory and the path it was opened by, for messages.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: String,
}

impl Directory {
    /// Opens a directory and makes sure that it is a cgroup: what is killed and removed is read
    /// from a state file, and must never be anything else.
    pub fn open_cgroup(path: &str) -> Result<Self, Error> {
        let directory = Self::open(path)?;
        let stat = rustix::fs::fstatfs(&directory.fd).map_err(|cause| Error::Open {
            path: path.into(),
            cause,
        })?;
        match u64::try_from(stat.f_type) {
            Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC) => Ok(directory),
            _ => Err(Error::NotCgroup { path: path.into() }),
        }
    }

    /// As [`Self::open_cgroup`], `None` if it is gone.
    pub fn find_cgroup(path: &str) -> Result<Option<Self>, Error> {
        match Self::open_cgroup(path) {
            Err(Error::Open {
                cause: Errno::NOENT,
                ..
            }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Opens any directory.
    pub fn open(path: &str) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|cause| Error::Open {
                path: path.into(),
                cause,
            })?;
        Ok(Self {
            fd,
            path: path.into(),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Makes a child that must not exist, and opens it.
    pub fn make(&self, name: &str) -> Result<Self, Error> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.child(name),
            Err(Errno::EXIST) => Err(Error::Exists {
                path: self.join(name),
            }),
            Err(cause) => Err(Error::Make {
                path: self.join(name),
                cause,
            }),
        }
    }

    /// Opens a child, made if it is not there.
    pub fn make_or_open(&self, name: &str) -> Result<Self, Error> {
        match self.make(name) {
            Err(Error::Exists { .. }) => self.child(name),
            other => other,
        }
    }

    fn child(&self, name: &str) -> Result<Self, Error> {
        let fd = self.open_in(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self {
            fd,
            path: self.join(name),
        })
    }

    /// Removes an empty child; one that is gone already is no error.
    /// EBUSY is given back as it is, to be waited for.
    pub fn remove(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(cause),
        }
    }

    /// Whether it has a file of that name.
    pub fn has(&self, file: &str) -> bool {
        rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a control file for reading, to be polled.
    pub fn watch(&self, file: &str) -> Result<OwnedFd, Error> {
        self.open_in(file, OFlags::RDONLY)
    }

    /// Writes a value to a control file in one call: the kernel takes it whole or not at all.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Error> {
        let failed = |cause| Error::Write {
            path: self.join(file),
            value: value.into(),
            cause,
        };
        let fd = self
            .open_in(file, OFlags::WRONLY)
            .map_err(|error| match error {
                Error::Open { cause, .. } => failed(cause),
                other => other,
            })?;
        match rustix::io::write(&fd, value.as_bytes()) {
            Ok(length) if length == value.len() => Ok(()),
            Ok(_) => Err(failed(Errno::IO)),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// The start of a control file that [`Self::watch`] opened. Reading it arms poll(2): only
    /// changes after the last read of this descriptor are reported.
    pub fn read_again(&self, watched: &OwnedFd, file: &str) -> Result<String, Error> {
        let mut bytes = [0_u8; 256];
        let length = rustix::io::pread(watched, &mut bytes, 0).map_err(|cause| Error::Read {
            path: self.join(file),
            cause,
        })?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// The text of a control file.
    pub fn read(&self, file: &str) -> Result<String, Error> {
        let fd = self.open_in(file, OFlags::RDONLY)?;
        let failed = |cause| Error::Read {
            path: self.join(file),
            cause,
        };
        let mut bytes = Vec::with_capacity(4096);
        while bytes.len() <= FILE_LIMIT {
            let read = rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes));
            if read.map_err(failed)? == 0 {
                return String::from_utf8(bytes).map_err(|_| Error::Malformed {
                    path: self.join(file),
                });
            }
            bytes.reserve(4096);
        }
        Err(Error::Malformed {
            path: self.join(file),
        })
    }

    /// A control file that holds one number; `None` if its controller is not enabled here.
    pub fn number(&self, file: &str) -> Result<Option<u64>, Error> {
        if !self.has(file) {
            return Ok(None);
        }
        let number = self.read(file)?.trim().parse();
        number.map(Some).map_err(|_| Error::Malformed {
            path: self.join(file),
        })
    }

    /// The value of `key` in a control file of `key value` lines; `None` if the file is not there.
    pub fn keyed(&self, file: &str, key: &str) -> Result<Option<u64>, Error> {
        if !self.has(file) {
            return Ok(None);
        }
        match keyed_value(&self.read(file)?, key) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::Malformed {
                path: self.join(file),
            }),
        }
    }

    fn open_in(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|cause| Error::Open {
            path: self.join(name),
            cause,
        })
    }
}

/// A path as its directory and its last component.
pub fn split(path: &str) -> Result<(&str, &str), Error> {
    match path.rsplit_once('/') {
        Some((parent, name)) if path.starts_with('/') && !matches!(name, "" | "." | "..") => {
            Ok((parent, name))
        }
        _ => Err(Error::NotCgroup { path: path.into() }),
    }
}

/// The number on the line `key NUMBER`.
pub fn keyed_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_cgroup_is_not_opened_as_one() {
        assert!(matches!(
            Directory::open_cgroup("/usr"),
            Err(Error::NotCgroup { .. })
        ));
        assert!(
            Directory::find_cgroup("/sys/fs/cgroup/not-here/x")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn keyed_files() {
        let text = "low 0\nhigh 3\noom 1\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed_value(text, "oom_kill"), Some(2));
        assert_eq!(keyed_value(text, "oom_"), None);
        assert_eq!(keyed_value("oom_kill x", "oom_kill"), None);
    }

    #[test]
    fn only_absolute_paths_with_a_name_split() {
        assert_eq!(split("/a/b").unwrap(), ("/a", "b"));
        for bad in ["a/b", "/a/..", "/a/", "", "/"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
