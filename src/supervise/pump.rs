//! [host] Copies bytes between a caller's descriptor and a sandbox's pipe, so that neither sees the other's file.
//!
//! A regular file on stdin could be reopened for writing through /proc/self/fd,
//! and O_NONBLOCK set by a job would stay on the caller's stdout.

use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::FileType;
use rustix::io::Errno;

/// What a pipe takes without blocking once poll(2) says it is writable: PIPE_BUF.
const PIPE_CHUNK: usize = 4096;
const CHUNK: usize = 64 << 10;

/// One direction of copying.
#[derive(Debug)]
pub struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    /// Towards the sandbox: nobody waits for it when the job has ended.
    pub inward: bool,
    pending: Vec<u8>,
    written: usize,
    chunk: usize,
}

impl Pump {
    /// From the caller to the sandbox, until the one ends or the other breaks.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn inward(from: OwnedFd, to: OwnedFd) -> Result<Self, Errno> {
        Self::new(from, to, true)
    }

    /// From the sandbox to the caller.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn outward(from: OwnedFd, to: OwnedFd) -> Result<Self, Errno> {
        Self::new(from, to, false)
    }

    fn new(from: OwnedFd, to: OwnedFd, inward: bool) -> Result<Self, Errno> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&to)?.st_mode);
        let chunk = if kind == FileType::RegularFile {
            CHUNK
        } else {
            PIPE_CHUNK
        };
        let (from, to) = (Some(from), Some(to));
        Ok(Self {
            from,
            to,
            inward,
            pending: Vec::new(),
            written: 0,
            chunk,
        })
    }

    /// What to wait for, if anything is left to do.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let (from, to) = (self.from.as_ref(), self.to.as_ref()?);
        if self.pending.is_empty() {
            Some((from?.as_fd(), PollFlags::IN))
        } else {
            Some((to.as_fd(), PollFlags::OUT))
        }
    }

    /// Neither side has anything left.
    pub fn finished(&self) -> bool {
        self.interest().is_none()
    }

    /// One read or one write; call after poll(2) said that [`Pump::interest`] is ready.
    pub fn step(&mut self) {
        let done = if self.pending.is_empty() {
            self.read()
        } else {
            self.write()
        };
        match done {
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO is a terminal whose other side is closed, EPIPE a reader that went away.
            Err(_) => self.close(),
        }
    }

    fn read(&mut self) -> Result<(), Errno> {
        let Some(from) = &self.from else {
            return Ok(());
        };
        // The buffer grows only when there is something to copy.
        self.pending.reserve(self.chunk);
        let length = rustix::io::read(from, rustix::buffer::spare_capacity(&mut self.pending))?;
        if length == 0 {
            self.close();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Errno> {
        let Some(to) = &self.to else { return Ok(()) };
        let rest = self.pending.get(self.written..).unwrap_or_default();
        self.written += rustix::io::write(to, rest)?;
        if self.written >= self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Closes both sides: the reader sees the end, the writer SIGPIPE.
    pub fn close(&mut self) {
        self.from = None;
        self.to = None;
        self.pending.clear();
    }
}
