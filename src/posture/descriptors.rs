//! [host] The open descriptors of one thread: from /proc, and by copies where /proc does not say.
//!
//! A process that is not dumpable and has no root in its user namespace gives
//! its /proc/PID/fd to an id that U0 cannot be (proc(5)); pidfd_getfd(2) asks
//! for CAP_SYS_PTRACE over its user namespace only, which U0 has.

use super::files::{Failed, Files};
use super::observation::{Class, Descriptor, Status, Unreadable};
use super::tables::{self, Object};
use super::text::{Malformed, shown};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, fstat, readlinkat, statx};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// A thread whose descriptors are read.
#[derive(Debug)]
pub(super) struct Holder<'a> {
    files: &'a Files,
    /// Its process.
    pid: i32,
    /// The thread.
    tid: i32,
    /// Size of its table of descriptors.
    size: u32,
    /// Device of the kernel's own tmpfs, where memfds live.
    memory: (u32, u32),
    pidfd: Option<OwnedFd>,
}

impl<'a> Holder<'a> {
    pub(super) fn new(files: &'a Files, pid: i32, status: &Status, memory: (u32, u32)) -> Self {
        Self {
            files,
            pid,
            tid: status.tid,
            size: status.descriptor_table,
            memory,
            pidfd: None,
        }
    }

    /// All of them, but those closed while we read.
    pub(super) fn descriptors(mut self) -> Result<Vec<Descriptor>, Unreadable> {
        let listed = match self.files.numbers("fd") {
            Ok(numbers) => numbers.into_iter().map(|number| (number, true)).collect(),
            Err(Failed::Kernel(Errno::ACCESS)) => (0..self.size)
                .map(|number| (number, false))
                .collect::<Vec<(u32, bool)>>(),
            Err(failed) => return Err(self.files.unreadable("fd", &failed)),
        };
        let mut descriptors = Vec::new();
        for (number, by_link) in listed {
            let found = if by_link {
                self.by_link(number)
            } else {
                self.by_copy(number)
            };
            match found {
                Ok(descriptor) => descriptors.push(descriptor),
                Err(Failed::Kernel(Errno::NOENT | Errno::BADF)) if !self.files.ended() => {}
                Err(failed) => return Err(self.files.unreadable(&format!("fd/{number}"), &failed)),
            }
        }
        Ok(descriptors)
    }

    fn by_link(&mut self, number: u32) -> Result<Descriptor, Failed> {
        let name = format!("fd/{number}");
        let link = self.files.link(&name)?;
        let stat = self.files.stat(&name)?;
        let class = self.class(&link, &stat);
        let network = match class {
            Class::Socket => self.network_of(number, stat.stx_ino)?,
            _ => None,
        };
        Ok(descriptor(number, class, &link, &stat, network))
    }

    fn by_copy(&mut self, number: u32) -> Result<Descriptor, Failed> {
        let copy = self.copy(number)?;
        let link = readlinkat(
            CWD,
            format!("/proc/self/fd/{}", copy.as_raw_fd()),
            Vec::new(),
        )?;
        let link = link.into_bytes();
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = statx(
            &copy,
            "",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            wanted,
        )?;
        let class = self.class(&link, &stat);
        let network = match class {
            Class::Socket => network(&copy)?,
            _ => None,
        };
        Ok(descriptor(number, class, &link, &stat, network))
    }

    fn class(&self, link: &[u8], stat: &Statx) -> Class {
        let object = Object {
            mode: u32::from(stat.stx_mode),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            memory: device(stat) == self.memory,
        };
        tables::class(link, object)
    }

    /// The network namespace of the socket with this inode.
    fn network_of(&mut self, number: u32, inode: u64) -> Result<Option<u64>, Failed> {
        let copy = match self.copy(number) {
            // Before PIDFD_THREAD only a leader has a pidfd; threads share its table, unless
            // one has made a table of its own, and then this is another object.
            Err(Failed::Kernel(Errno::INVAL)) => copy_of(&self.open(self.pid, 0)?, number)?,
            copy => copy?,
        };
        if fstat(&copy)?.st_ino == inode {
            network(&copy)
        } else {
            Err(Failed::Malformed(Malformed::value(
                "a descriptor that is being replaced",
            )))
        }
    }

    fn copy(&mut self, number: u32) -> Result<OwnedFd, Failed> {
        if let Some(pidfd) = &self.pidfd {
            return copy_of(pidfd, number);
        }
        // PIDFD_THREAD (Linux 6.9) names a thread that is not the leader.
        let flags = if self.tid == self.pid {
            0
        } else {
            libc::PIDFD_THREAD
        };
        let pidfd = self.open(self.tid, flags)?;
        let copy = copy_of(&pidfd, number);
        self.pidfd = Some(pidfd);
        copy
    }

    fn open(&self, id: i32, flags: u32) -> Result<OwnedFd, Failed> {
        let id = Pid::from_raw(id).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(id, PidfdFlags::from_bits_retain(flags))?;
        // The number was still this thread's after the pidfd was taken, so the pidfd is too.
        self.files.stat("status")?;
        Ok(pidfd)
    }
}

fn descriptor(
    number: u32,
    class: Class,
    link: &[u8],
    stat: &Statx,
    network: Option<u64>,
) -> Descriptor {
    Descriptor {
        number,
        class,
        target: shown(link),
        mount: stat.stx_mnt_id,
        device: device(stat),
        network,
    }
}

fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

fn copy_of(pidfd: &OwnedFd, number: u32) -> Result<OwnedFd, Failed> {
    let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
    Ok(pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
}

/// None when U0 has no say over the socket's network namespace.
fn network(socket: &OwnedFd) -> Result<Option<u64>, Failed> {
    match crate::sys::namespace::of_socket(socket) {
        Ok(network) => Ok(Some(fstat(network)?.st_ino)),
        Err(Errno::PERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
