//! [host] Slices of the caller's subordinate ids that no other sandbox uses: `ids.mode = "exclusive"`.
//!
//! A slice is a file named after its offset. Whoever holds the file's lock has
//! the slice; a name in the file is a sandbox whose kept layers still have
//! files of these ids.

use crate::host::facts::{IdRange, Subordinate};
use crate::supervise::places::{self, Places};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::fmt;

/// A slice that is ours for as long as this lives.
#[derive(Debug)]
pub struct Slice {
    /// The slice of both ranges.
    pub ids: Subordinate,
    lock: OwnedFd,
}

/// Why there is no slice.
#[derive(Debug)]
pub enum SliceError {
    /// There are no subordinate ids to slice.
    NoRange,
    /// All slices are taken: how many there are.
    AllTaken(u32),
    /// The directory of slices cannot be used.
    Directory(String),
}

impl fmt::Display for SliceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRange => write!(
                out,
                "ids.mode = \"exclusive\": there are no subordinate ids"
            ),
            Self::AllTaken(count) => write!(
                out,
                "ids.mode = \"exclusive\": all {count} slices of the subordinate ids are taken"
            ),
            Self::Directory(why) => write!(out, "ids.mode = \"exclusive\": {why}"),
        }
    }
}

impl std::error::Error for SliceError {}

impl Slice {
    /// Takes the first free slice of `size` ids of both ranges.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn take(places: &Places, ids: &Subordinate, size: u32) -> Result<Self, SliceError> {
        let (Some(uids), Some(gids)) = (ids.uids, ids.gids) else {
            return Err(SliceError::NoRange);
        };
        let directory = places::open(&places.slices)
            .map_err(|error| SliceError::Directory(error.to_string()))?;
        let count = uids.count.min(gids.count) / size.max(1);
        for offset in (0..count).map(|number| number * size) {
            let taken = lock(&directory, offset)
                .map_err(|errno| SliceError::Directory(errno.to_string()))?;
            if let Some(lock) = taken {
                let part = |range: IdRange| {
                    Some(IdRange {
                        start: range.start + offset,
                        count: size,
                    })
                };
                let ids = Subordinate {
                    uids: part(uids),
                    gids: part(gids),
                    ..ids.clone()
                };
                return Ok(Self { ids, lock });
            }
        }
        Err(SliceError::AllTaken(count))
    }

    /// Keeps the slice taken after our end, since files of sandbox `name` remain.
    ///
    /// # Errors
    /// The errno of write(2).
    pub fn keep(&self, name: &str) -> Result<(), Errno> {
        rustix::io::pwrite(&self.lock, name.as_bytes(), 0).map(drop)
    }
}

/// The lock of the slice at `offset`, unless somebody has it or files remain.
fn lock(directory: &OwnedFd, offset: u32) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(
        directory,
        offset.to_string(),
        flags,
        Mode::from_raw_mode(0o600),
    )?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((rustix::fs::fstat(&file)?.st_size == 0).then_some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Gives back what was kept for sandbox `name`: its last file is gone.
///
/// # Errors
/// The directory of slices cannot be read or written.
pub fn give_back(places: &Places, name: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(&places.slices)? {
        let path = entry?.path();
        if std::fs::read(&path)? == name.as_bytes() {
            std::fs::write(&path, b"")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::DirBuilderExt;

    #[test]
    fn slices_are_disjoint_kept_and_given_back() {
        let base = std::env::temp_dir().join(format!("cofferdam-slices-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&base)
            .unwrap();
        let places = Places {
            runtime: base.clone(),
            records: base.clone(),
            layers: base.clone(),
            slices: base.clone(),
        };
        let range = Some(IdRange {
            start: 1000,
            count: 25,
        });
        let ids = Subordinate {
            uids: range,
            gids: range,
            newuidmap: None,
            newgidmap: None,
        };
        let first = Slice::take(&places, &ids, 10).unwrap();
        let second = Slice::take(&places, &ids, 10).unwrap();
        assert_eq!(
            first.ids.uids,
            Some(IdRange {
                start: 1000,
                count: 10
            })
        );
        assert_eq!(
            second.ids.gids,
            Some(IdRange {
                start: 1010,
                count: 10
            })
        );
        assert!(matches!(
            Slice::take(&places, &ids, 10),
            Err(SliceError::AllTaken(2))
        ));
        first.keep("kept").unwrap();
        drop(first);
        assert!(Slice::take(&places, &ids, 10).is_err(), "files remain");
        give_back(&places, "kept").unwrap();
        assert_eq!(
            Slice::take(&places, &ids, 10).unwrap().ids.uids,
            Some(IdRange {
                start: 1000,
                count: 10
            })
        );
        std::fs::remove_dir_all(&base).unwrap();
    }
}
