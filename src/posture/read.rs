//! [host] From the files of one process to its observation.

use super::files::{Failed, Files};
use super::observation::{
    Class, Descriptor, Directory, Kind, Namespace, Observation, Process, Role, Status, Thread,
    Unreadable,
};
use super::tables::Object;
use super::text::shown;
use super::{status, tables};
use crate::host::mounts::Mount;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeMap;

/// The process has ended while it was read.
#[derive(Debug)]
pub(super) struct Gone;

type Read<T> = Result<T, Unreadable>;

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Reader {
    observation: Observation,
    /// Device of the kernel's own tmpfs, where memfds live.
    memory: (u32, u32),
}

impl Reader {
    pub(super) fn new(host: BTreeMap<Kind, u64>) -> Result<Self, Errno> {
        let device = fstat(memfd_create("posture", MemfdFlags::CLOEXEC)?)?.st_dev;
        let observation = Observation {
            host,
            processes: Vec::new(),
            mount_tables: Vec::new(),
            unreadable: Vec::new(),
        };
        let memory = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Self {
            observation,
            memory,
        })
    }

    pub(super) fn finish(self) -> Observation {
        self.observation
    }

    pub(super) fn unreadable(&mut self, unreadable: Unreadable) {
        self.observation.unreadable.push(unreadable);
    }

    /// Reads one process, or notes what of it cannot be read.
    pub(super) fn process(&mut self, pid: i32, role: Role) -> Result<(), Gone> {
        let files = Files::of_process(pid).map_err(|_| Gone)?;
        match self.whole(&files, pid, role) {
            Ok(Some(process)) => self.observation.processes.push(process),
            Ok(None) => return Err(Gone),
            Err(_) if files.ended() => return Err(Gone),
            Err(unreadable) => self.unreadable(unreadable),
        }
        Ok(())
    }

    /// None when no thread is left alive. The first that is speaks for what all
    /// share: a leader that has ended shows nothing.
    fn whole(&mut self, files: &Files, pid: i32, role: Role) -> Read<Option<Process>> {
        let threads = self.threads(files, pid)?;
        let Some(first) = threads.first() else {
            return Ok(None);
        };
        let witness = at(
            files,
            "task",
            files.of_thread(first.status.tid).map_err(Failed::from),
        )?;
        let table = at(
            &witness,
            "mountinfo",
            witness.parsed("mountinfo", tables::mountinfo),
        )?;
        let cgroup = at(&witness, "cgroup", witness.bytes("cgroup"))?;
        let environment = at(&witness, "environ", witness.bytes("environ"))?;
        let owner = at(&witness, "fd", witness.stat("fd").map_err(Failed::from))?.stx_uid;
        Ok(Some(Process {
            role,
            pid,
            pid_inside: first.status.tid_inside,
            name: first.status.name.clone(),
            uid_map: at(
                &witness,
                "uid_map",
                witness.parsed("uid_map", tables::id_map),
            )?,
            gid_map: at(
                &witness,
                "gid_map",
                witness.parsed("gid_map", tables::id_map),
            )?,
            mounts: self.table(table),
            limits: at(&witness, "limits", witness.parsed("limits", tables::limits))?,
            cgroups: cgroup
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(shown)
                .collect(),
            proc_owner: owner,
            environment_bytes: environment.len() as u64,
            threads,
        }))
    }

    fn table(&mut self, table: Vec<Mount>) -> usize {
        let tables = &mut self.observation.mount_tables;
        tables
            .iter()
            .position(|known| *known == table)
            .unwrap_or_else(|| {
                tables.push(table);
                tables.len() - 1
            })
    }

    fn threads(&self, files: &Files, pid: i32) -> Read<Vec<Thread>> {
        let mut threads = Vec::new();
        for tid in at(files, "task", files.threads())? {
            let Ok(thread) = files.of_thread(tid) else {
                continue;
            };
            match self.thread(&thread, pid, tid) {
                Ok(observed) => threads.push(observed),
                Err(_) if thread.ended() => {}
                Err(unreadable) => return Err(unreadable),
            }
        }
        Ok(threads)
    }

    fn thread(&self, files: &Files, pid: i32, tid: i32) -> Read<Thread> {
        let status: Status = at(files, "status", files.parsed("status", status::parse))?;
        let mut namespaces = BTreeMap::new();
        for kind in self.observation.host.keys() {
            let name = format!("ns/{}", kind.file());
            namespaces.insert(*kind, at(files, &name, namespace(files, &name))?);
        }
        Ok(Thread {
            status,
            namespaces,
            root: at(files, "root", directory(files, "root"))?,
            directory: at(files, "cwd", directory(files, "cwd"))?,
            descriptors: self.descriptors(files, pid, tid)?,
        })
    }

    fn descriptors(&self, files: &Files, pid: i32, tid: i32) -> Read<Vec<Descriptor>> {
        let numbers: Vec<u32> = at(files, "fd", files.numbers("fd"))?;
        let mut holder = Holder {
            pid,
            tid,
            files,
            pidfd: None,
        };
        let mut descriptors = Vec::with_capacity(numbers.len());
        for number in numbers {
            let name = format!("fd/{number}");
            match self.descriptor(&mut holder, &name, number) {
                Ok(descriptor) => descriptors.push(descriptor),
                // Closed since the directory was listed.
                Err(Failed::Kernel(Errno::NOENT | Errno::BADF)) if !files.ended() => {}
                Err(failed) => return Err(files.unreadable(&name, &failed)),
            }
        }
        Ok(descriptors)
    }

    fn descriptor(
        &self,
        holder: &mut Holder<'_>,
        name: &str,
        number: u32,
    ) -> Result<Descriptor, Failed> {
        let link = holder.files.link(name)?;
        let stat = holder.files.stat(name)?;
        let object = Object {
            mode: u32::from(stat.stx_mode),
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            memory: (stat.stx_dev_major, stat.stx_dev_minor) == self.memory,
        };
        let class = tables::class(&link, object);
        let network = if class == Class::Socket {
            holder.network(number)?
        } else {
            None
        };
        Ok(Descriptor {
            number,
            class,
            target: shown(&link),
            mount: stat.stx_mnt_id,
            network,
        })
    }
}

/// Says which file a failure is about.
fn at<T>(files: &Files, name: &str, result: Result<T, Failed>) -> Read<T> {
    result.map_err(|failed| files.unreadable(name, &failed))
}

fn namespace(files: &Files, name: &str) -> Result<Namespace, Failed> {
    let fd = files.open(name)?;
    let owner = match crate::sys::namespace::owner(&fd) {
        Ok(owner) => Some(fstat(owner)?.st_ino),
        Err(Errno::PERM) => None,
        Err(errno) => return Err(errno.into()),
    };
    Ok(Namespace {
        inode: fstat(fd)?.st_ino,
        owner,
    })
}

fn directory(files: &Files, name: &str) -> Result<Directory, Failed> {
    Ok(Directory {
        path: shown(&files.link(name)?),
        mount: files.stat(name)?.stx_mnt_id,
    })
}

/// A thread whose descriptors are copied to ask them what /proc does not say.
struct Holder<'a> {
    pid: i32,
    tid: i32,
    files: &'a Files,
    pidfd: Option<OwnedFd>,
}

impl Holder<'_> {
    /// The network namespace a socket belongs to; none when U0 has no say over it.
    fn network(&mut self, number: u32) -> Result<Option<u64>, Failed> {
        let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
        let pidfd = match self.pidfd.take() {
            Some(pidfd) => pidfd,
            None => self.open()?,
        };
        let socket = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty());
        self.pidfd = Some(pidfd);
        match crate::sys::namespace::of_socket(socket?) {
            Ok(network) => Ok(Some(fstat(network)?.st_ino)),
            Err(Errno::PERM) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// PIDFD_THREAD (Linux 6.9) names a thread that is not the leader.
    fn open(&self) -> Result<OwnedFd, Failed> {
        let flags = if self.tid == self.pid {
            0
        } else {
            libc::PIDFD_THREAD
        };
        let tid = Pid::from_raw(self.tid).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(tid, PidfdFlags::from_bits_retain(flags))?;
        // The number was still this thread's after the pidfd was taken, so the pidfd is too.
        self.files.stat("status")?;
        Ok(pidfd)
    }
}
