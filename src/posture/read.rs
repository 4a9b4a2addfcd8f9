//! [host] From the files of one process to its observation.

use super::descriptors::Holder;
use super::files::{Failed, Files};
use super::observation::{
    Directory, Kind, Namespace, Observation, Process, Role, Status, Thread, Unreadable,
};
use super::text::shown;
use super::{status, tables};
use crate::host::mounts::Mount;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::Errno;
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
        // Of init only: a job's is its own affair, and not always readable.
        let environment = match role {
            Role::Init => Some(at(&witness, "environ", witness.bytes("environ"))?.len() as u64),
            _ => None,
        };
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
            environment_bytes: environment,
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
            match self.thread(&thread, pid) {
                Ok(observed) => threads.push(observed),
                Err(_) if thread.ended() => {}
                Err(unreadable) => return Err(unreadable),
            }
        }
        Ok(threads)
    }

    fn thread(&self, files: &Files, pid: i32) -> Read<Thread> {
        let status: Status = at(files, "status", files.parsed("status", status::parse))?;
        let mut namespaces = BTreeMap::new();
        for kind in self.observation.host.keys() {
            let name = format!("ns/{}", kind.file());
            namespaces.insert(*kind, at(files, &name, namespace(files, &name))?);
        }
        let descriptors = Holder::new(files, pid, &status, self.memory).descriptors()?;
        Ok(Thread {
            status,
            namespaces,
            root: at(files, "root", directory(files, "root"))?,
            directory: at(files, "cwd", directory(files, "cwd"))?,
            descriptors,
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
