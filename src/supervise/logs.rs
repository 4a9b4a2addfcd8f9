//! [host] The output of a detached job: one file, as bytes, up to a limit.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// Name of the file among a sandbox's records.
pub const FILE: &str = "output.log";

/// A log that stops taking bytes at its limit.
#[derive(Debug)]
pub struct Log {
    file: OwnedFd,
    left: u64,
    /// Bytes that were not kept.
    pub dropped: u64,
}

impl Log {
    /// Starts a new log in a records directory.
    ///
    /// # Errors
    /// The errno of openat(2).
    pub fn create(directory: &OwnedFd, limit: u64) -> Result<Self, Errno> {
        let flags = OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let file = openat(directory, FILE, flags, Mode::from_raw_mode(0o600))?;
        Ok(Self {
            file,
            left: limit,
            dropped: 0,
        })
    }

    /// Keeps what fits; a full disk counts as dropped, since a job must not stop its supervisor.
    pub fn append(&mut self, bytes: &[u8]) {
        let fits = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let bytes_that_fit = bytes.get(..fits).unwrap_or_default();
        let kept = rustix::io::write(&self.file, bytes_that_fit).unwrap_or(0);
        self.left = self.left.saturating_sub(kept as u64);
        self.dropped += (bytes.len() - kept) as u64;
    }
}
