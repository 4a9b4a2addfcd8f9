//! [exposed] Records to the supervisor: never waits for it, and counts what it could not take.

use crate::net::record::Record;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// The edge's end of the record socket.
pub(super) struct Reports {
    socket: OwnedFd,
    lost: u32,
}

impl Reports {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, lost: 0 }
    }

    /// Sends a record, after how many were lost before it.
    pub(super) fn say(&mut self, record: &Record) {
        if self.lost > 0 && self.send(&Record::Lost(self.lost)) {
            self.lost = 0;
        }
        if self.lost > 0 || !self.send(record) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// A supervisor that is gone is seen by the loop, as the end of this socket.
    fn send(&self, record: &Record) -> bool {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent =
            rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &record.encode(), flags));
        !matches!(sent, Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM))
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
