//! [host] How much the layers of a sandbox hold on disk, looked at every second by a child inside U0.
//!
//! An ordinary user has no quota for a directory, and the files belong to
//! subordinate ids: so the child enters U0, where it may read everything.

use crate::sys::process::{self, Child, Cloned, clone_process, exit_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Directories below one another that are followed: nobody builds deeper.
const DEPTH: usize = 500;

impl Drop for Meter {
    /// A look that nobody waits for any more is reaped all the same.
    fn drop(&mut self) {
        if let Some((child, _)) = self.looking.take() {
            crate::sys::unheard(process::reap(&child.pidfd));
        }
    }
}

/// Looks at one directory again and again.
#[derive(Debug)]
pub struct Meter {
    layers: OwnedFd,
    gateway: i32,
    limit: u64,
    due: Instant,
    looking: Option<(Child, OwnedFd)>,
}

impl Meter {
    /// For the layers of the sandbox whose gateway this is.
    pub fn new(layers: OwnedFd, gateway: i32, limit: u64) -> Self {
        Self {
            layers,
            gateway,
            limit,
            due: Instant::now() + PERIOD,
            looking: None,
        }
    }

    /// When to call [`Meter::look`] next; not while a look is under way.
    pub fn due(&self) -> Option<Instant> {
        self.looking.is_none().then_some(self.due)
    }

    /// Readable when a look is over.
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.looking.as_ref().map(|(_, answer)| answer.as_fd())
    }

    /// Starts a look.
    ///
    /// # Errors
    /// The errno of pipe2(2) or clone(2).
    pub fn look(&mut self) -> Result<(), Errno> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match clone_process(0, false)? {
            Cloned::Child => {
                drop(read);
                let answer = process::die_with_parent()
                    .and_then(|()| enter(self.gateway))
                    .and_then(|()| held(&self.layers));
                let bytes = answer.unwrap_or(u64::MAX).to_le_bytes();
                // Without an answer the supervisor takes the limit for reached.
                crate::sys::unheard(rustix::io::write(&write, &bytes));
                exit_now(0)
            }
            Cloned::Parent(child) => {
                self.looking = Some((child, read));
                Ok(())
            }
        }
    }

    /// Takes the answer: true when the limit is reached, or cannot be judged.
    pub fn over(&mut self) -> bool {
        let Some((child, answer)) = self.looking.take() else {
            return false;
        };
        let mut bytes = [0u8; 8];
        let got = rustix::io::retry_on_intr(|| rustix::io::read(&answer, &mut bytes));
        crate::sys::unheard(process::reap(&child.pidfd));
        self.due = Instant::now() + PERIOD;
        !matches!(got, Ok(8)) || u64::from_le_bytes(bytes) > self.limit
    }
}

fn enter(gateway: i32) -> Result<(), Errno> {
    let path = format!("/proc/{gateway}/ns/user");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
    rustix::thread::move_into_link_name_space(
        namespace.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::User),
    )
}

/// Bytes that a tree occupies. Names come from the job: none is followed.
fn held(top: &OwnedFd) -> Result<u64, Errno> {
    let mut total = 0u64;
    let mut stack = vec![Dir::read_from(top)?];
    while let Some(directory) = stack.last_mut() {
        let Some(entry) = directory.read() else {
            stack.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let here = directory.fd()?;
        let stat = match rustix::fs::statat(here, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        // st_blocks counts units of 512 bytes whatever the file system's own: stat(2).
        total = total.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        if stack.len() >= DEPTH {
            return Err(Errno::LOOP);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let child = stack
            .last()
            .map(|directory| openat(directory.fd()?, name, flags, Mode::empty()));
        match child {
            Some(Ok(child)) => stack.push(Dir::new(child)?),
            Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) | None => {}
            Some(Err(errno)) => return Err(errno),
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there_and_follows_nothing() {
        let base = std::env::temp_dir().join(format!("cofferdam-disk-{}", std::process::id()));
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(base.join("a/b/file"), vec![1u8; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", base.join("link")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let top = openat(rustix::fs::CWD, &base, flags, Mode::empty()).unwrap();
        let total = held(&top).unwrap();
        assert!((100_000..400_000).contains(&total), "{total}");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
