//! [host] Started by root: the launcher that keeps root's rights, and what it does for the supervisor.
//!
//! The supervisor runs as an unprivileged uid of the sandbox's own range. The
//! launcher opens mount sources, writes id maps and moves one process into the
//! cgroup, each once and before the job exists; then it waits for the
//! supervisor's end and undoes what is left. Before the job exists it reads fixed
//! messages of eight bytes; at the end, one bounded answer of the supervisor (how
//! the job ended, or why it did not start), which `supervise::serve` decodes as
//! JSON and acts on in no other way than to print it and to exit.

use super::{LaunchError, idmap};
use crate::cgroup::Group;
use crate::sandbox::plan::{Owners, Plan, Source};
use crate::sys::process::{Child, Cloned, clone_process, exit_now};
use crate::sys::{mount, process, signal, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// Message: write the maps of this process.
pub(super) const MAP: u32 = 1;
/// Message: move this process into the cgroup.
pub(super) const ENTER: u32 = 2;

/// Signals that the launcher passes on to the supervisor.
const PASSED_ON: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Asks the launcher for one thing and waits for its answer.
pub(super) fn ask(launcher: &OwnedFd, what: u32, pid: i32) -> Result<(), LaunchError> {
    let system = |call| move |errno| LaunchError::System { call, errno };
    let mut message = [0u8; 8];
    message[..4].copy_from_slice(&what.to_le_bytes());
    message[4..].copy_from_slice(&pid.to_le_bytes());
    socket::send(launcher, &message, &[]).map_err(system("ask the launcher"))?;
    let mut answer = [0u8; 4];
    match socket::receive(launcher, &mut answer).map_err(system("hear the launcher"))? {
        Some((4, _)) => match i32::from_le_bytes(answer) {
            0 => Ok(()),
            errno => Err(LaunchError::System {
                call: if what == MAP {
                    "write id maps"
                } else {
                    "enter cgroup"
                },
                errno: Errno::from_raw_os_error(errno),
            }),
        },
        _ => Err(LaunchError::Gone),
    }
}

/// Opens the sources that a plan wants handed over, as detached mounts, their
/// owners mapped where the plan says so.
///
/// # Errors
/// A source that is not what it was, or cannot be opened or mapped.
pub fn open_sources(plan: &Plan) -> Result<Vec<OwnedFd>, LaunchError> {
    plan.sources
        .iter()
        .filter(|source| source.handed)
        .map(open_source)
        .collect()
}

fn open_source(source: &Source) -> Result<OwnedFd, LaunchError> {
    let fail = |call: &'static str| {
        move |errno| LaunchError::Source {
            path: source.path.clone(),
            call,
            errno,
        }
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = openat2(
        CWD,
        &source.path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
    .map_err(fail("openat2"))?;
    let stat = rustix::fs::fstat(&fd).map_err(fail("fstat"))?;
    if source
        .inode
        .is_some_and(|inode| inode != (stat.st_dev, stat.st_ino))
    {
        return Err(fail("compare inode")(Errno::STALE));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(&fd, "", flags).map_err(fail("open_tree"))?;
    mount::make_private(tree.as_fd()).map_err(fail("mount_setattr private"))?;
    if let Some(owners) = &source.owners {
        let namespace = namespace_with(owners).map_err(fail("map owners"))?;
        mount::map_ids(tree.as_fd(), namespace.as_fd()).map_err(fail("mount_setattr idmap"))?;
    }
    Ok(tree)
}

/// A user namespace with these maps, held by its descriptor alone.
fn namespace_with(owners: &Owners) -> Result<OwnedFd, Errno> {
    let (mine, theirs) = socket::pair()?;
    match clone_process(libc::CLONE_NEWUSER as u32, false)? {
        Cloned::Child => {
            drop(mine);
            let mut end = [0u8; 1];
            // Returns when the parent closes its end.
            crate::sys::unheard(socket::receive(&theirs, &mut end));
            exit_now(0)
        }
        Cloned::Parent(child) => {
            drop(theirs);
            let namespace = write_and_open(child.pid, owners);
            drop(mine);
            process::reap(&child.pidfd)?;
            namespace
        }
    }
}

fn write_and_open(pid: i32, owners: &Owners) -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    for (name, extents) in [("uid_map", &owners.uids), ("gid_map", &owners.gids)] {
        let text = crate::confine::idmap::text(extents);
        std::fs::write(format!("/proc/{pid}/{name}"), text).map_err(errno)?;
    }
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Runs `work` as `uid` and `gid` in a child, without any right of root's, and
/// serves it until it ends. Gives the bytes that `work` returned.
///
/// # Errors
/// The child could not be made, or ended without an answer.
pub fn as_unprivileged(
    plan: &Plan,
    cgroup: Option<&Group>,
    work: impl FnOnce(&OwnedFd) -> Vec<u8>,
) -> Result<Vec<u8>, LaunchError> {
    let system = |call| move |errno| LaunchError::System { call, errno };
    let (mine, theirs) = socket::pair().map_err(system("socketpair"))?;
    let signals = signal::descriptor(&PASSED_ON).map_err(system("signalfd"))?;
    match clone_process(0, false).map_err(system("clone"))? {
        Cloned::Child => {
            drop((mine, signals));
            let answer = match give_up_root(plan.requires.uid, plan.requires.gid) {
                Ok(()) => work(&theirs),
                Err(_) => Vec::new(),
            };
            // A launcher that is gone has taken us with it.
            crate::sys::unheard(socket::send(&theirs, &answer, &[]));
            exit_now(0)
        }
        Cloned::Parent(child) => {
            drop(theirs);
            let mut serving = Serving {
                plan,
                cgroup,
                child,
                socket: mine,
                mapped: false,
                entered: false,
                answer: None,
            };
            serving.run(&signals)?;
            process::reap(&serving.child.pidfd).map_err(system("waitid"))?;
            serving.answer.ok_or(LaunchError::Gone)
        }
    }
}

/// From here on the process is the sandbox's own uid, and dies with its launcher.
fn give_up_root(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    crate::sys::caps::set(0)?;
    process::set_no_new_privileges()?;
    // Both are cleared by the change of uid, so they come last.
    process::set_undumpable()?;
    process::die_with_parent()
}

struct Serving<'a> {
    plan: &'a Plan,
    cgroup: Option<&'a Group>,
    child: Child,
    socket: OwnedFd,
    mapped: bool,
    entered: bool,
    answer: Option<Vec<u8>>,
}

impl Serving<'_> {
    fn run(&mut self, signals: &OwnedFd) -> Result<(), LaunchError> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.child.pidfd, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    return Err(LaunchError::System {
                        call: "poll",
                        errno,
                    });
                }
            }
            let [socket, signalled, ended] = fds.map(|fd| !fd.revents().is_empty());
            if signalled {
                self.pass_on(signals);
            }
            if socket && !self.serve()? {
                return Ok(());
            }
            if ended && !socket {
                return Ok(());
            }
        }
    }

    /// What the terminal sends reaches the supervisor by itself.
    fn pass_on(&self, signals: &OwnedFd) {
        while let Ok(Some(number)) = signal::next_sent(signals) {
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                // It may have ended meanwhile.
                crate::sys::unheard(rustix::process::pidfd_send_signal(
                    &self.child.pidfd,
                    signal,
                ));
            }
        }
    }

    /// One message; false when the supervisor has nothing more to say.
    fn serve(&mut self) -> Result<bool, LaunchError> {
        let system = |call| move |errno| LaunchError::System { call, errno };
        let mut buffer = vec![0; 64 << 10];
        let Some((length, _)) =
            socket::receive(&self.socket, &mut buffer).map_err(system("hear the supervisor"))?
        else {
            return Ok(false);
        };
        buffer.truncate(length);
        // Before both are done there is no job; after, only the answer can come.
        let request = <[u8; 8]>::try_from(buffer.as_slice())
            .ok()
            .filter(|_| !self.done());
        let Some([a, b, c, d, e, f, g, h]) = request else {
            self.answer = Some(buffer);
            return Ok(true);
        };
        let (what, pid) = (
            u32::from_le_bytes([a, b, c, d]),
            i32::from_le_bytes([e, f, g, h]),
        );
        let errno = self.obey(what, pid).err().map_or(0, Errno::raw_os_error);
        socket::send(&self.socket, &errno.to_le_bytes(), &[])
            .map_err(system("answer the supervisor"))?;
        Ok(true)
    }

    fn done(&self) -> bool {
        self.mapped && (self.entered || self.cgroup.is_none())
    }

    fn obey(&mut self, what: u32, pid: i32) -> Result<(), Errno> {
        if parent_of(pid)? != self.child.pid {
            return Err(Errno::PERM);
        }
        match what {
            MAP if !self.mapped => {
                self.mapped = true;
                idmap::start(self.plan, pid, None)
                    .and_then(idmap::Writing::finish)
                    .map_err(|_| Errno::PERM)
            }
            ENTER if !self.entered => {
                self.entered = true;
                let group = self.cgroup.ok_or(Errno::NOENT)?;
                group.enter(pid.unsigned_abs()).map_err(|_| Errno::PERM)
            }
            _ => Err(Errno::INVAL),
        }
    }
}

/// proc_pid_stat(5), field 4.
fn parent_of(pid: i32) -> Result<i32, Errno> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).map_err(|_| Errno::SRCH)?;
    let end = stat
        .iter()
        .rposition(|byte| *byte == b')')
        .ok_or(Errno::SRCH)?;
    let rest = String::from_utf8_lossy(stat.get(end + 1..).unwrap_or_default()).into_owned();
    rest.split_ascii_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .ok_or(Errno::SRCH)
}
