//! [host] Files of one process in /proc, always below an open directory: it stays
//! that process's even when the number is given to another.

use super::observation::Unreadable;
use super::tables;
use super::text::Malformed;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

/// The most that is read of one file: a mountinfo of ten thousand mounts has about 2 MiB.
const LIMIT: usize = 4 << 20;

/// Why a file has no value.
#[derive(Debug)]
pub(super) enum Failed {
    /// The kernel refused.
    Kernel(Errno),
    /// Longer than the limit.
    TooLong,
    /// Not as the kernel writes it.
    Malformed(Malformed),
}

impl From<Malformed> for Failed {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// /proc/PID or /proc/PID/task/TID.
#[derive(Debug)]
pub(super) struct Files {
    directory: OwnedFd,
    pid: i32,
    below: String,
}

impl Files {
    /// Opens the directory of a process.
    pub(super) fn of_process(pid: i32) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self {
            directory,
            pid,
            below: String::new(),
        })
    }

    /// Opens the directory of one of its threads.
    pub(super) fn of_thread(&self, tid: i32) -> Result<Self, Errno> {
        let below = format!("task/{tid}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.directory, &below, flags, Mode::empty())?;
        Ok(Self {
            directory,
            pid: self.pid,
            below,
        })
    }

    /// Its threads.
    pub(super) fn threads(&self) -> Result<Vec<i32>, Failed> {
        self.numbers("task")
    }

    /// Names of a directory that are numbers.
    pub(super) fn numbers<T: std::str::FromStr + Ord>(&self, name: &str) -> Result<Vec<T>, Failed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.directory, name, flags, Mode::empty())?;
        numbers(Dir::new(fd)?)
    }

    /// The whole file, through its parser.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Failed> {
        Ok(parse(&self.bytes(name)?)?)
    }

    /// The whole file.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failed> {
        let file = self.open(name)?;
        let mut bytes = Vec::with_capacity(4096);
        let mut chunk = [0u8; 4096];
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut chunk))? {
                0 => return Ok(bytes),
                n => bytes.extend(chunk.get(..n).unwrap_or_default()),
            }
            if bytes.len() > LIMIT {
                return Err(Failed::TooLong);
            }
        }
    }

    /// Opens a file for reading, through a magic link if it is one.
    pub(super) fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        openat(
            &self.directory,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Where a magic link says it leads.
    pub(super) fn link(&self, name: &str) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.directory, name, Vec::new())?.into_bytes())
    }

    /// What lies behind a name; a magic link is followed to its object without any path.
    pub(super) fn stat(&self, name: &str) -> Result<Statx, Errno> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        // Without syncing, no file system is asked for anything.
        statx(&self.directory, name, AtFlags::STATX_DONT_SYNC, wanted)
    }

    /// The inode of a namespace.
    pub(super) fn namespace(&self, kind: &str) -> Result<u64, Failed> {
        let link = self.link(&format!("ns/{kind}"))?;
        tables::inode(&link).ok_or(Failed::Malformed(Malformed::value("a link of ns")))
    }

    /// Whether this process or thread has ended, so that there is nothing to read of it.
    pub(super) fn ended(&self) -> bool {
        match self.parsed("status", super::status::parse) {
            Ok(status) => matches!(status.state, 'Z' | 'X' | 'x'),
            Err(Failed::Kernel(Errno::NOENT | Errno::SRCH)) => true,
            Err(_) => false,
        }
    }

    /// Says of a failure which file it was.
    pub(super) fn unreadable(&self, name: &str, failed: &Failed) -> Unreadable {
        let cause = match failed {
            Failed::Kernel(errno) => std::io::Error::from(*errno).to_string(),
            Failed::TooLong => format!("longer than {LIMIT} bytes"),
            Failed::Malformed(malformed) => malformed.to_string(),
        };
        let slash = if self.below.is_empty() { "" } else { "/" };
        Unreadable {
            pid: self.pid,
            file: format!("{}{slash}{name}", self.below),
            cause,
        }
    }
}

/// The processes of the whole /proc.
pub(super) fn all_processes() -> Result<Vec<i32>, Failed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    numbers(Dir::new(openat(CWD, "/proc", flags, Mode::empty())?)?)
}

fn numbers<T: std::str::FromStr + Ord>(directory: Dir) -> Result<Vec<T>, Failed> {
    let mut numbers = Vec::new();
    for entry in directory {
        if let Some(number) = entry?
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
