//! [host] Started by root: the launcher that keeps root's rights, and what it does for the supervisor.
//!
//! The supervisor runs as an unprivileged uid of the sandbox's own range. The
//! launcher opens mount sources, writes id maps and moves one process into the
//! cgroup, each once and before the job exists; then it waits for the
//! supervisor's end and undoes what is left. It reads messages of two fixed
//! sizes, requests and one last record, and believes none of them more than
//! their few values can do; anything else ends the supervisor.

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
/// Message: the job has been executed.
const STARTED: u32 = 3;
/// Bytes of a request: what, and the process it is about.
const REQUEST: usize = 8;

/// Signals that the launcher passes on to the supervisor.
const PASSED_ON: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Tells the launcher that the job has been executed.
///
/// # Errors
/// The launcher is gone.
pub fn tell_started(launcher: &OwnedFd) -> Result<(), LaunchError> {
    ask(launcher, STARTED, 0)
}

/// Asks the launcher for one thing and waits for its answer.
pub(super) fn ask(launcher: &OwnedFd, what: u32, pid: i32) -> Result<(), LaunchError> {
    let system = |call| move |errno| LaunchError::System { call, errno };
    let mut message = [0u8; REQUEST];
    message[..4].copy_from_slice(&what.to_le_bytes());
    message[4..].copy_from_slice(&pid.to_le_bytes());
    socket::send(launcher, &message, &[]).map_err(system("ask the launcher"))?;
    let mut answer = [0u8; 4];
    match socket::receive(launcher, &mut answer).map_err(system("hear the launcher"))? {
        Some((4, _)) => match i32::from_le_bytes(answer) {
            0 => Ok(()),
            errno => Err(LaunchError::System {
                call: match what {
                    MAP => "write id maps",
                    ENTER => "enter cgroup",
                    _ => "tell the launcher",
                },
                errno: crate::sys::errno(errno),
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

/// Runs `work` as the plan's uid and gid in a child, without any right of root's,
/// and serves it until it ends. Gives the record that `work` returned, which must
/// be longer than a request; the caller must not trust it. `started` is called
/// here once the child says that the job has been executed.
///
/// # Errors
/// The child could not be made, ended without a record, or said what no
/// supervisor says; it has ended in each case.
pub fn as_unprivileged<const N: usize>(
    plan: &Plan,
    cgroup: Option<&Group>,
    work: impl FnOnce(&OwnedFd) -> [u8; N],
    started: impl FnOnce() -> Result<(), Errno>,
) -> Result<[u8; N], LaunchError> {
    const { assert!(N > REQUEST) };
    let system = |call| move |errno| LaunchError::System { call, errno };
    let (mine, theirs) = socket::pair().map_err(system("socketpair"))?;
    let signals = signal::descriptor(&PASSED_ON).map_err(system("signalfd"))?;
    match clone_process(0, false).map_err(system("clone"))? {
        Cloned::Child => {
            // Only the launcher may tell the caller that the job runs.
            drop((mine, signals, started));
            if let Err(errno) = give_up_root(plan.requires.uid, plan.requires.gid) {
                exit_now(errno.raw_os_error());
            }
            let record = work(&theirs);
            // A launcher that is gone has taken us with it.
            crate::sys::unheard(socket::send(&theirs, &record, &[]));
            exit_now(0)
        }
        Cloned::Parent(child) => {
            // What the supervisor works with is its own from here on.
            drop((theirs, work));
            let keep = Keep {
                plan,
                cgroup,
                supervisor: child.pid,
                mapped: false,
                entered: false,
                started: Some(started),
            };
            Serving {
                child,
                socket: mine,
                keep,
                record: None,
            }
            .run(&signals)
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

/// Serves one supervisor.
struct Serving<K, const N: usize> {
    child: Child,
    socket: OwnedFd,
    keep: K,
    record: Option<[u8; N]>,
}

/// Does what a request asks for.
trait Obey {
    fn obey(&mut self, what: u32, pid: i32) -> Result<(), Errno>;
}

impl<K: Obey, const N: usize> Serving<K, N> {
    /// Serves to the supervisor's end, or ends it.
    fn run(mut self, signals: &OwnedFd) -> Result<[u8; N], LaunchError> {
        let served = self.serve(signals);
        if served.is_err() {
            super::process::end(&self.child);
        }
        served?;
        let (exited, number) =
            process::reap(&self.child.pidfd).map_err(|errno| LaunchError::System {
                call: "waitid",
                errno,
            })?;
        self.record
            .ok_or(LaunchError::Supervisor { exited, number })
    }

    fn serve(&mut self, signals: &OwnedFd) -> Result<(), LaunchError> {
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
            if socket && !self.hear()? {
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
    fn hear(&mut self) -> Result<bool, LaunchError> {
        let system = |call| move |errno| LaunchError::System { call, errno };
        let mut buffer = [0; N];
        let length = match socket::receive(&self.socket, &mut buffer) {
            Ok(Some((length, _))) => length,
            Ok(None) => return Ok(false),
            Err(Errno::MSGSIZE) => return Err(LaunchError::Unknown),
            Err(errno) => return Err(system("hear the supervisor")(errno)),
        };
        // After the record there is nothing to say.
        if self.record.is_some() {
            return Err(LaunchError::Unknown);
        }
        if length == N {
            self.record = Some(buffer);
            return Ok(true);
        }
        let request = (length == REQUEST).then(|| buffer.first_chunk::<REQUEST>());
        let Some(Some([a, b, c, d, e, f, g, h])) = request else {
            return Err(LaunchError::Unknown);
        };
        let what = u32::from_le_bytes([*a, *b, *c, *d]);
        let pid = i32::from_le_bytes([*e, *f, *g, *h]);
        let errno = self.keep.obey(what, pid).err();
        let errno = errno.map_or(0, Errno::raw_os_error);
        match socket::send(&self.socket, &errno.to_le_bytes(), &[]) {
            // It is gone; how it ended is what is told.
            Ok(()) | Err(Errno::PIPE) => Ok(true),
            Err(errno) => Err(system("answer the supervisor")(errno)),
        }
    }
}

/// What root does for a supervisor, each once.
struct Keep<'a, S> {
    plan: &'a Plan,
    cgroup: Option<&'a Group>,
    supervisor: i32,
    mapped: bool,
    entered: bool,
    started: Option<S>,
}

impl<S: FnOnce() -> Result<(), Errno>> Obey for Keep<'_, S> {
    fn obey(&mut self, what: u32, pid: i32) -> Result<(), Errno> {
        match what {
            MAP if !self.mapped => {
                self.is_child(pid)?;
                self.mapped = true;
                idmap::start(self.plan, pid, None)
                    .and_then(idmap::Writing::finish)
                    .map_err(|_| Errno::PERM)
            }
            ENTER if !self.entered => {
                self.is_child(pid)?;
                self.entered = true;
                let group = self.cgroup.ok_or(Errno::NOENT)?;
                group.enter(pid.unsigned_abs()).map_err(|_| Errno::PERM)
            }
            STARTED => {
                let ready = self.mapped && (self.entered || self.cgroup.is_none());
                let started = self.started.take().filter(|_| ready);
                started.ok_or(Errno::INVAL)?()
            }
            _ => Err(Errno::INVAL),
        }
    }
}

impl<S> Keep<'_, S> {
    fn is_child(&self, pid: i32) -> Result<(), Errno> {
        if parent_of(pid)? == self.supervisor {
            Ok(())
        } else {
            Err(Errno::PERM)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::Command;

    /// Long enough for no request.
    const N: usize = 16;

    #[derive(Default)]
    struct Heard(Vec<(u32, i32)>);

    impl Obey for &mut Heard {
        fn obey(&mut self, what: u32, pid: i32) -> Result<(), Errno> {
            self.0.push((what, pid));
            if what == MAP {
                Ok(())
            } else {
                Err(Errno::INVAL)
            }
        }
    }

    type Served = Result<[u8; N], LaunchError>;

    /// A process that the code under test waits for.
    fn spawn(program: &str, argument: &str) -> (std::process::Child, Child) {
        let process = Command::new(program).arg(argument).spawn().unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        (process, Child { pid, pidfd })
    }

    /// Serves a supervisor that has said all this, and lives until it is killed
    /// or, where it stays, for ever.
    fn hear_all(said: &[&[u8]], stays: bool) -> (Served, Vec<(u32, i32)>) {
        let (mine, theirs) = socket::pair().unwrap();
        for message in said {
            socket::send(&theirs, message, &[]).unwrap();
        }
        let program = if stays { "1000" } else { "0" };
        let (_process, child) = spawn("sleep", program);
        let pid = child.pid;
        // Nothing is ever written to it: no signal.
        let (signals, _open) = rustix::pipe::pipe().unwrap();
        if !stays {
            rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write).unwrap();
        }
        let mut heard = Heard::default();
        let serving = Serving {
            child,
            socket: mine,
            keep: &mut heard,
            record: None,
        };
        let result = serving.run(&signals);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        (result, heard.0)
    }

    fn request(what: u32, pid: i32) -> Vec<u8> {
        [what.to_le_bytes(), pid.to_le_bytes()].concat()
    }

    #[test]
    fn a_record_is_handed_on_as_it_is() {
        let (result, heard) = hear_all(&[&request(MAP, 7), &request(9, -1), &[0xa5; N]], false);
        assert_eq!(result.unwrap(), [0xa5; N]);
        assert_eq!(heard, [(MAP, 7), (9, -1)]);
    }

    #[test]
    fn a_lying_supervisor_is_ended_and_not_believed() {
        let record: &[u8] = &[1; N];
        let long = vec![b'{'; 64 << 10];
        for said in [
            &[&[0u8; 1][..]][..],
            &[&[0u8; REQUEST - 1][..]],
            &[&[0u8; REQUEST + 1][..]],
            &[&[0u8; N - 1][..]],
            &[&[0u8; N + 1][..]],
            &[br#"{"Ok":{"outcome""#.get(..15).unwrap()],
            &[&long],
            &[record, record],
            &[record, &[0u8; REQUEST]],
        ] {
            let (result, heard) = hear_all(said, true);
            assert!(matches!(result, Err(LaunchError::Unknown)), "{result:?}");
            assert_eq!(heard, []);
        }
    }

    #[test]
    fn descriptors_in_a_message_are_closed() {
        let (mine, theirs) = socket::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        socket::send(&theirs, &[2; N], &[write.as_fd()]).unwrap();
        drop((write, theirs));
        let (_process, child) = spawn("sleep", "0");
        let (signals, _open) = rustix::pipe::pipe().unwrap();
        let serving = Serving {
            child,
            socket: mine,
            keep: &mut Heard::default(),
            record: None,
        };
        assert_eq!(serving.run(&signals).unwrap(), [2; N]);
        let mut end = [0; 1];
        assert_eq!(rustix::io::read(&read, &mut end), Ok(0));
    }

    #[test]
    fn one_that_ends_without_a_record_is_told_how() {
        let (result, _) = hear_all(&[&request(MAP, 1)], false);
        let error = result.unwrap_err();
        assert!(matches!(
            error,
            LaunchError::Supervisor { exited: true, .. }
        ));
    }
}
