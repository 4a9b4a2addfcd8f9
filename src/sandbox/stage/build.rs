//! [stage] Pid 1 of the sandbox before lock-down: builds the root the Plan describes.

use super::mounts::{self, attach, attach_scratch, clone_tree, magic, own, restrict};
use super::paths::Below;
use super::{Context, Failed, lock, network, say};
use crate::sandbox::fds;
use crate::sandbox::message::{JOB, Order, Report, SHORT, Size};
use crate::sandbox::plan::{Attributes, Op, Plan, Rlimit, Root, Upper};
use crate::sys::process::{self, exit_now};
use crate::sys::socket;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as Limits, setrlimit};
use std::convert::Infallible;

/// A source, and whether it is already a detached mount of a privileged launcher.
struct Opened {
    fd: OwnedFd,
    detached: bool,
}

/// What the steps have made so far.
pub(super) struct Build<'a> {
    pub(super) plan: &'a Plan,
    /// To the supervisor.
    pub(super) supervisor: OwnedFd,
    /// To the first process, which writes U2's maps.
    pub(super) outer: OwnedFd,
    sources: Vec<Opened>,
    /// Of the job's terminal.
    size: Option<Size>,
    root: Option<OwnedFd>,
    masks: Option<Masks>,
    /// Slave side of the job's terminal.
    pub(super) terminal: Option<OwnedFd>,
}

/// The empty file and the empty directory that hide things, both read-only.
struct Masks {
    file: OwnedFd,
    directory: OwnedFd,
}

/// Runs the stage to its end in init, or reports the step that failed.
pub(super) fn main(plan: &Plan, outer: OwnedFd, handed: Vec<OwnedFd>) -> ! {
    let Ok(supervisor) = process::inherited(fds::INIT) else {
        exit_now(125)
    };
    let Err((failed, supervisor)) = run(plan, supervisor, outer, handed);
    // With the supervisor gone there is nobody left to tell.
    crate::sys::unheard(say(&supervisor, &failed.report(), None));
    exit_now(125)
}

fn run(
    plan: &Plan,
    supervisor: OwnedFd,
    outer: OwnedFd,
    handed: Vec<OwnedFd>,
) -> Result<Infallible, (Failed, OwnedFd)> {
    let sources = match private_mounts().and_then(|()| open_sources(plan, handed)) {
        Ok(sources) => sources,
        Err(failed) => return Err((failed, supervisor)),
    };
    let mut build = Build {
        plan,
        supervisor,
        outer,
        sources,
        size: None,
        root: None,
        masks: None,
        terminal: None,
    };
    match build.all() {
        Ok(()) => lock::become_init(build),
        Err(failed) => Err((failed, build.supervisor)),
    }
}

fn private_mounts() -> Result<(), Failed> {
    let root = rustix::fs::openat2(
        CWD,
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )
    .during("openat2", "/")?;
    crate::sys::mount::make_private(root.as_fd()).during("mount_setattr private", "/")
}

/// Before any id is mapped, with the caller's own groups: so the caller's rights decide.
fn open_sources(plan: &Plan, handed: Vec<OwnedFd>) -> Result<Vec<Opened>, Failed> {
    let mut handed = handed.into_iter();
    plan.sources
        .iter()
        .map(|source| {
            if source.handed {
                let fd = handed
                    .next()
                    .ok_or(Errno::BADF)
                    .during("inherit", &source.path)?;
                Ok(Opened { fd, detached: true })
            } else {
                Ok(Opened {
                    fd: mounts::open_source(source)?,
                    detached: false,
                })
            }
        })
        .collect()
}

fn wait_for_go(supervisor: &OwnedFd) -> Result<Option<Size>, Failed> {
    let mut buffer = [0; SHORT];
    let Some((length, _)) = socket::receive(supervisor, &mut buffer).during("recvmsg", "order")?
    else {
        exit_now(125);
    };
    match serde_json::from_slice(&buffer[..length]) {
        Ok(Order::Go { size }) => Ok(size),
        Ok(_) | Err(_) => Err(Errno::PROTO).during("parse", "order"),
    }
}

/// While newuidmap and newgidmap run. Copies of sources are not made here: each
/// detached tree counts as a mount namespace, of which U0 may have few.
fn ahead(op: &Op, outer: &OwnedFd) -> Result<(), Failed> {
    match op {
        Op::Network { ipv6, .. } => network::enter(outer, *ipv6),
        Op::Loopback => loopback_up(),
        Op::Hostname { name } => {
            rustix::system::sethostname(name.as_bytes()).during("sethostname", name)
        }
        _ => Ok(()),
    }
}

impl Build<'_> {
    /// What needs no mapped ids, then the wait for them, then the rest in order.
    fn all(&mut self) -> Result<(), Failed> {
        for (index, step) in self.plan.steps.iter().enumerate() {
            ahead(&step.op, &self.outer).map_err(|failed| failed.at(index))?;
        }
        self.size = wait_for_go(&self.supervisor)?;
        for (index, step) in self.plan.steps.iter().enumerate() {
            self.step(&step.op).map_err(|failed| failed.at(index))?;
        }
        Ok(())
    }

    fn step(&mut self, op: &Op) -> Result<(), Failed> {
        match op {
            // Done ahead.
            Op::Network { .. } | Op::Loopback | Op::Hostname { .. } => Ok(()),
            // Done by the launcher or by the first process.
            Op::OuterUser { .. }
            | Op::NamespaceLimits { .. }
            | Op::Cgroup { .. }
            | Op::Placeholder { .. } => Ok(()),
            Op::Namespaces { kinds } => self.late_namespaces(kinds),
            Op::Groups => rustix::thread::set_thread_groups(&[]).during("setgroups", "none"),
            Op::Affinity { first, cpus } => pin(*first, *cpus),
            Op::Root { root } => self.make_root(root),
            Op::File { path, content } => self.file(path, content),
            Op::Symlink { path, target } => self.symlink(path, target),
            Op::Bind {
                source,
                path,
                attributes,
            } => self.bind(*source, path, *attributes),
            Op::Pin { path, read_only } => self.pin(path, *read_only),
            Op::Tmpfs {
                path,
                size,
                mode,
                owner,
                attributes,
            } => {
                let mount = tmpfs(*size, *mode, *owner, *attributes)?;
                attach(&mount, &self.below()?.directories(path)?, path)
            }
            Op::Overlay {
                source,
                path,
                upper,
                owner,
                attributes,
            } => {
                let mount = self.overlay(*source, upper, *owner, *attributes)?;
                attach(&mount, &self.below()?.directories(path)?, path)
            }
            Op::Proc { path } => self.kernel_files("proc", path),
            Op::Mqueue { path } => self.kernel_files("mqueue", path),
            Op::Devpts { path, max } => self.devpts(path, *max),
            Op::Terminal { owner } => self.open_terminal(*owner),
            Op::Mask { path, directory } => self.mask(path, *directory),
            Op::ReadOnly { path } => self.pin(path, true),
            Op::SealRoot => self.seal_root(),
            Op::Pivot => self.pivot(),
            Op::Rlimits { limits } => set_limits(limits),
            Op::JobUser { .. } => lock::enter_job_user(self),
            Op::Keyring => process::join_fresh_keyring().during("keyctl", "session keyring"),
            // Applied together, in one order that cannot be wrong: lock.rs.
            Op::Capabilities { .. }
            | Op::NoNewPrivileges
            | Op::Landlock { .. }
            | Op::Seccomp { .. } => Ok(()),
        }
    }

    /// Lets go of everything but what init keeps: its supervisor and the job's terminal.
    pub(super) fn into_descriptors(self) -> (OwnedFd, Option<OwnedFd>) {
        (self.supervisor, self.terminal)
    }

    pub(super) fn below(&self) -> Result<Below<'_>, Failed> {
        match &self.root {
            Some(root) => Ok(Below::new(root)),
            None => Err(Errno::NOENT).during("find root", "no root step came before"),
        }
    }

    fn source(&self, index: usize) -> Result<&Opened, Failed> {
        self.sources
            .get(index)
            .ok_or(Errno::NOENT)
            .during("find source", index.to_string())
    }

    /// The cgroup namespace's root is the cgroup at the time: only now are we in it.
    fn late_namespaces(&self, kinds: &[crate::sandbox::plan::Namespace]) -> Result<(), Failed> {
        if kinds.contains(&crate::sandbox::plan::Namespace::Cgroup) {
            crate::sys::process::unshare(rustix::thread::UnshareFlags::NEWCGROUP)
                .during("unshare", "cgroup")?;
        }
        Ok(())
    }

    fn make_root(&mut self, root: &Root) -> Result<(), Failed> {
        let mount = match root {
            Root::Tmpfs { size } => tmpfs(*size, 0o755, 0, Attributes::default())?,
            Root::Overlay {
                source,
                upper,
                owner,
            } => self.overlay(
                *source,
                upper,
                *owner,
                Attributes {
                    set_id: true,
                    ..Attributes::default()
                },
            )?,
        };
        // Over `/` of our copy of the host's tree: lookups from our root do not
        // cross it, so sources and the host's /proc stay in reach until the pivot.
        let slash = rustix::fs::openat2(
            CWD,
            "/",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        )
        .during("openat2", "/")?;
        attach(&mount, &slash, "new root")?;
        self.root = Some(mount);
        Ok(())
    }

    fn file(&self, path: &str, content: &str) -> Result<(), Failed> {
        let (parent, name) = self.below()?.parent(path)?;
        // An image may have the file, or a symlink in its place: ours replaces the name.
        match rustix::fs::unlinkat(&parent, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).during("unlinkat", path),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o444))
            .during("openat", path)?;
        let mut rest = content.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).during("write", path)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn symlink(&self, path: &str, target: &str) -> Result<(), Failed> {
        let (parent, name) = self.below()?.parent(path)?;
        rustix::fs::symlinkat(target, &parent, name).during("symlinkat", path)
    }

    fn bind(&self, source: usize, path: &str, attributes: Attributes) -> Result<(), Failed> {
        let opened = self.source(source)?;
        let stat = rustix::fs::fstat(&opened.fd).during("fstat", path)?;
        let directory =
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
        let tree = self.tree(opened, path)?;
        restrict(&tree, attributes, path)?;
        attach(&tree, &self.below()?.mount_point(path, directory)?, path)
    }

    fn tree(&self, opened: &Opened, name: &str) -> Result<OwnedFd, Failed> {
        if opened.detached {
            opened
                .fd
                .try_clone()
                .map_err(|_| Errno::MFILE)
                .during("dup", name)
        } else {
            clone_tree(&opened.fd, name)
        }
    }

    fn pin(&self, path: &str, read_only: bool) -> Result<(), Failed> {
        let below = self.below()?;
        let target = below.open_plain(path)?;
        let tree = clone_tree(&target, path)?;
        if read_only {
            crate::sys::mount::add_attributes(tree.as_fd(), crate::sys::mount::RDONLY, true)
                .during("mount_setattr", path)?;
        }
        attach(&tree, &target, path)
    }

    fn overlay(
        &self,
        source: usize,
        upper: &Upper,
        owner: u32,
        attributes: Attributes,
    ) -> Result<OwnedFd, Failed> {
        let opened = self.source(source)?;
        let attached;
        let lower = if opened.detached {
            attached = attach_scratch(&opened.fd, "overlay lower")?;
            &attached
        } else {
            &opened.fd
        };
        let layers = match upper {
            Upper::Tmpfs { size } => attach_scratch(
                &tmpfs(*size, 0o700, 0, Attributes::default())?,
                "overlay upper",
            )?,
            Upper::Directory { source } => {
                let opened = self.source(*source)?;
                if opened.detached {
                    attach_scratch(&opened.fd, "overlay upper")?
                } else {
                    clone_fd(&opened.fd)?
                }
            }
        };
        let upper = layer(&layers, "upper", owner, 0o755)?;
        let work = layer(&layers, "work", 0, 0o700)?;
        let (lower, upper, work) = (magic(lower), magic(&upper), magic(&work));
        let options = [
            ("source", Some("cofferdam")),
            ("lowerdir", Some(lower.as_str())),
            ("upperdir", Some(upper.as_str())),
            ("workdir", Some(work.as_str())),
            ("userxattr", None),
        ];
        mounts::new("overlay", &options, attributes)
    }

    /// What a namespace of the sandbox shows of itself.
    fn kernel_files(&self, kind: &'static str, path: &str) -> Result<(), Failed> {
        let attributes = Attributes {
            no_exec: true,
            ..Attributes::default()
        };
        let mount = mounts::new(kind, &[], attributes)?;
        attach(&mount, &self.below()?.directories(path)?, path)
    }

    fn devpts(&self, path: &str, max: u32) -> Result<(), Failed> {
        let max = max.to_string();
        let options = [
            ("ptmxmode", Some("0666")),
            ("mode", Some("0600")),
            ("max", Some(max.as_str())),
        ];
        let attributes = Attributes {
            no_exec: true,
            devices: true,
            ..Attributes::default()
        };
        let mount = mounts::new("devpts", &options, attributes)?;
        attach(&mount, &self.below()?.directories(path)?, path)
    }

    /// The peer comes from TIOCGPTPEER, never from a path (CVE-2025-52565).
    fn open_terminal(&mut self, owner: u32) -> Result<(), Failed> {
        let point = self.below()?.open("/dev/pts/ptmx")?;
        let master = rustix::fs::openat(
            CWD,
            magic(&point).as_str(),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open", "/dev/pts/ptmx")?;
        let slave = terminal_peer(&master, self.size).during("TIOCGPTPEER", "/dev/pts")?;
        own(&slave, owner, 0o620, "terminal")?;
        say(
            &self.supervisor,
            &Report::Terminal { id: JOB },
            Some(&master),
        )
        .during("sendmsg", "terminal")?;
        self.terminal = Some(slave);
        Ok(())
    }

    fn mask(&mut self, path: &str, directory: bool) -> Result<(), Failed> {
        let target = self.below()?.open_plain(path)?;
        let masks = match self.masks.take() {
            Some(masks) => masks,
            None => make_masks()?,
        };
        let tree = clone_tree(
            if directory {
                &masks.directory
            } else {
                &masks.file
            },
            path,
        )?;
        self.masks = Some(masks);
        attach(&tree, &target, path)
    }

    fn seal_root(&self) -> Result<(), Failed> {
        let root = self.below()?.open("/")?;
        crate::sys::mount::add_attributes(root.as_fd(), crate::sys::mount::RDONLY, false)
            .during("mount_setattr", "/")
    }

    /// pivot_root(".", "."): pivot_root(2), NOTES; nothing of the old tree stays reachable.
    fn pivot(&self) -> Result<(), Failed> {
        let root = self.below()?.open("/")?;
        rustix::process::fchdir(&root).during("fchdir", "new root")?;
        rustix::process::pivot_root(".", ".").during("pivot_root", "new root")?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
            .during("umount2", "old root")?;
        rustix::process::chdir("/").during("chdir", "/")
    }
}

/// Opens the other end of a pseudo-terminal, unlocked and of this size.
pub(crate) fn terminal_peer(master: &OwnedFd, size: Option<Size>) -> Result<OwnedFd, Errno> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    unlockpt(master)?;
    if let Some(Size { rows, columns }) = size {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size)?;
    }
    ioctl_tiocgptpeer(
        master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
}

fn clone_fd(fd: &OwnedFd) -> Result<OwnedFd, Failed> {
    fd.try_clone()
        .map_err(|_| Errno::MFILE)
        .during("dup", "layers")
}

fn layer(layers: &OwnedFd, name: &str, owner: u32, mode: u32) -> Result<OwnedFd, Failed> {
    match rustix::fs::mkdirat(layers, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).during("mkdirat", name),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(layers, name, flags, Mode::empty()).during("openat", name)?;
    own(&fd, owner, mode, name)?;
    Ok(fd)
}

fn tmpfs(size: u64, mode: u32, owner: u32, attributes: Attributes) -> Result<OwnedFd, Failed> {
    let (size, mode, owner) = (size.to_string(), format!("{mode:o}"), owner.to_string());
    let options = [
        ("source", Some("cofferdam")),
        ("size", Some(size.as_str())),
        ("mode", Some(mode.as_str())),
        ("uid", Some(owner.as_str())),
        ("gid", Some(owner.as_str())),
    ];
    mounts::new("tmpfs", &options, attributes)
}

fn make_masks() -> Result<Masks, Failed> {
    let attributes = Attributes {
        no_exec: true,
        ..Attributes::default()
    };
    let mount = tmpfs(4096, 0o755, 0, attributes)?;
    rustix::fs::mkdirat(&mount, "directory", Mode::from_raw_mode(0o555))
        .during("mkdirat", "mask")?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, "file", flags, Mode::from_raw_mode(0o444))
        .during("openat", "mask")?;
    crate::sys::mount::add_attributes(mount.as_fd(), crate::sys::mount::RDONLY, false)
        .during("mount_setattr", "mask")?;
    let root = attach_scratch(&mount, "mask")?;
    let open = |name: &str| {
        rustix::fs::openat(&root, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .during("openat", "mask")
    };
    Ok(Masks {
        file: open("file")?,
        directory: open("directory")?,
    })
}

/// SIOCSIFFLAGS through the only interface a fresh network namespace has.
fn loopback_up() -> Result<(), Failed> {
    crate::sys::network::loopback_up().during("SIOCSIFFLAGS", "lo")
}

/// Pins to `cpus` of the CPUs we may use, starting at the `first`.
fn pin(first: u32, cpus: u32) -> Result<(), Failed> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).during("sched_getaffinity", "")?;
    let numbers: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let mut set = CpuSet::new();
    for cpu in numbers
        .iter()
        .cycle()
        .skip(first as usize)
        .take(cpus as usize)
    {
        set.set(*cpu);
    }
    sched_setaffinity(None, &set).during("sched_setaffinity", cpus.to_string())
}

fn set_limits(limits: &[(Rlimit, u64, u64)]) -> Result<(), Failed> {
    for (name, soft, hard) in limits {
        let resource = match name {
            Rlimit::Core => Resource::Core,
            Rlimit::Nofile => Resource::Nofile,
            Rlimit::Nproc => Resource::Nproc,
            Rlimit::Memlock => Resource::Memlock,
            Rlimit::Msgqueue => Resource::Msgqueue,
            Rlimit::Sigpending => Resource::Sigpending,
            Rlimit::Rtprio => Resource::Rtprio,
            Rlimit::Nice => Resource::Nice,
        };
        setrlimit(
            resource,
            Limits {
                current: Some(*soft),
                maximum: Some(*hard),
            },
        )
        .during("setrlimit", format!("{name:?}"))?;
    }
    Ok(())
}
