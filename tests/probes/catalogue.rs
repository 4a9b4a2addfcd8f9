//! What each probe of `tests/victims/probe.rs` must see inside, which control
//! stops it, where it succeeds, and how to take the control away.
//!
//! Data only. The expectations are for the host view, where the job has one id
//! and no capability; `untrusted` with a writable workspace, `strict` with a
//! read-only one or none.

#![allow(
    dead_code,
    reason = "each test that includes this module reads some of it"
)]

#[path = "calls.rs"]
mod calls;
#[path = "files.rs"]
mod files;
#[path = "identity.rs"]
mod identity;
#[path = "inherited.rs"]
mod inherited;
#[path = "namespaces.rs"]
mod namespaces;
#[path = "sockets.rs"]
mod sockets;
#[path = "workspace.rs"]
mod workspace;

/// One probe.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `probe list` prints it: the row of the list, then a name.
    pub name: &'static str,
    /// What is attempted, or looked for.
    pub shows: &'static str,
    /// What it must see in `strict`.
    pub strict: Expect,
    /// What it must see in `untrusted`.
    pub untrusted: Expect,
    /// What stops it.
    pub control: Control,
    /// Where it succeeds, to show that it can.
    pub positive: Positive,
    /// Why it succeeds nowhere on the build hosts (kernel 6.18), if so.
    pub unproven: Option<&'static str>,
    /// What to take away, all of it at once, to see the probe succeed inside.
    pub removal: &'static [Removal],
}

impl Row {
    /// The row of the list: `S-28` of `S-28-tcp-ulp-tls`.
    pub fn group(&self) -> &'static str {
        let end = self
            .name
            .match_indices('-')
            .nth(1)
            .map_or(self.name.len(), |(at, _)| at);
        &self.name[..end]
    }

    /// With another expectation in `strict`.
    const fn strict(mut self, expect: Expect) -> Self {
        self.strict = expect;
        self
    }

    /// Without a working positive control on the build hosts.
    const fn unproven(mut self, why: &'static str) -> Self {
        self.unproven = Some(why);
        self
    }
}

/// What a probe may see. `not-run` is never among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// `refused` with one of these.
    Errno(&'static [&'static str]),
    /// `refused` with one of these, or `absent`.
    ErrnoOrAbsent(&'static [&'static str]),
    /// `refused` without an errno: looked for and not found.
    Clean,
    /// As `Clean`, or `absent`.
    CleanOrAbsent,
    /// As `CleanOrAbsent`, or `refused` with one of these.
    CleanOrAbsentOrErrno(&'static [&'static str]),
    /// `absent`.
    Absent,
    /// `allowed`: it must keep working.
    Allowed,
    /// `refused` with one of these where Landlock has this ABI, else anything.
    FromLandlock(u32, &'static [&'static str]),
    /// Anything: no promise is made, for this reason.
    Recorded(&'static str),
}

impl Expect {
    /// Whether an outcome is as expected. `landlock` is the host's ABI.
    pub fn holds(self, outcome: &str, errno: Option<&str>, landlock: u32) -> bool {
        let among = |list: &[&str]| {
            outcome == "refused" && errno.is_some_and(|errno| list.contains(&errno))
        };
        let clean = outcome == "refused" && errno.is_none();
        let absent = outcome == "absent";
        match self {
            Self::Errno(list) => among(list),
            Self::ErrnoOrAbsent(list) => among(list) || absent,
            Self::Clean => clean,
            Self::CleanOrAbsent => clean || absent,
            Self::CleanOrAbsentOrErrno(list) => clean || absent || among(list),
            Self::Absent => absent,
            Self::Allowed => outcome == "allowed",
            Self::FromLandlock(abi, list) => {
                outcome != "not-run" && (landlock < abi || among(list))
            }
            Self::Recorded(_) => outcome != "not-run",
        }
    }
}

/// What stops a probe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The filter, by this call.
    Seccomp(&'static str),
    /// What is mounted, or not, at this path.
    Mounts(&'static str),
    /// An over-mount of this path.
    Mask(&'static str),
    /// A read-only mount of this path.
    ReadOnly(&'static str),
    /// Mounts made by an ancestor's user namespace are locked.
    LockedMounts,
    /// A protected path of the workspace.
    Protected(&'static str),
    /// A namespace of the sandbox's own, by its name in /proc/self/ns.
    Namespace(&'static str),
    /// The owner of that namespace is an ancestor of the job's user namespace.
    NamespaceOwner(&'static str),
    /// A user.max_* limit.
    NamespaceLimit(&'static str),
    /// Landlock.
    Landlock,
    /// The job holds no capability.
    Capabilities,
    /// no_new_privs.
    NoNewPrivs,
    /// The id map, and the ids in it.
    IdMap,
    /// Supplementary groups are dropped.
    Groups,
    /// Descriptors are closed, or replaced by pipes.
    Descriptors,
    /// The environment is built from a list.
    Environment,
    /// A session and a pts of its own.
    Terminal,
    /// A resource limit.
    Rlimit(&'static str),
    /// Signal dispositions and mask are reset.
    Signals,
    /// Our pid 1 is not dumpable.
    InitUndumpable,
    /// The kernel alone, whatever we do.
    Kernel,
}

/// Where a probe must succeed (`absent`, and an errno that says that the
/// kernel has no such thing, make a named skip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positive {
    /// As the ordinary user, unconfined.
    Caller,
    /// As the ordinary user in `unshare -Urmpfinu --mount-proc`.
    UserNamespace,
    /// As root of the host.
    Root,
    /// As the ordinary user, after this was arranged.
    Arranged(Arrangement),
    /// Nowhere, for this reason.
    Nowhere(&'static str),
}

/// What the caller must have for a probe to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Descriptor 9 is open on the probe's own program.
    InheritedDescriptor,
    /// SIGHUP is ignored.
    IgnoredSignal,
    /// The user has a supplementary group.
    SupplementaryGroup,
    /// As root: CAP_CHOWN is inheritable and ambient.
    InheritableCapability,
    /// As root: every mount is shared, in a mount namespace of its own.
    SharedMounts,
    /// As the user in a mount namespace: the outside directory is bound elsewhere.
    BoundOutside,
    /// A terminal is the controlling one.
    Terminal,
    /// The current directory was removed.
    VanishedDirectory,
    /// SSH_AUTH_SOCK names the outside socket.
    SessionSocket,
    /// XDG_RUNTIME_DIR holds a listening `bus`.
    UserBus,
    /// A socket listens below /tmp.
    SocketInTmp,
}

/// How to take a control out of a Plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Allow this call (and its arguments).
    DropSeccompRule(&'static str),
    /// Leave out the steps of this kind for this target.
    DropStep(&'static str, &'static str),
    /// Mount this without that flag.
    DropMountFlag(&'static str, &'static str),
    /// Show this path of the host, writable. OUTSIDE, WORKSPACE and HOME stand for the test's own.
    AddBind(&'static str),
    /// Keep this capability.
    AddCapability(&'static str),
    /// Keep the caller's namespace of this kind.
    ShareNamespace(&'static str),
    /// Make this namespace together with the job's user namespace, so that the job owns it.
    MoveNamespace(&'static str),
    /// Do not set this user.max_* limit.
    RaiseLimit(&'static str),
    /// Do not set this resource limit.
    RaiseRlimit(&'static str),
    /// Give the job the caller's descriptors 0 to 2.
    SkipStdioPipes,
    /// Do not set no_new_privs.
    SkipNoNewPrivs,
    /// Keep the caller's environment.
    SkipEnvironment,
    /// Keep supplementary groups.
    SkipSetgroups,
    /// Leave pid 1 dumpable.
    InitDumpable,
    /// Nothing of ours: something else stops it as well, named here.
    Behind(&'static str),
}

/// What the filter answers.
const DENIED: &[&str] = &["EPERM", "ENOSYS"];
/// What a foreign entry gets: the filter's answer, or its signal.
const FOREIGN: &[&str] = &["ENOSYS", "EPERM", "SIGSYS"];
/// What a file that must not be written answers.
const UNWRITABLE: &[&str] = &["EROFS", "EACCES", "EPERM"];

/// A row that is the same in both presets.
const fn row(
    name: &'static str,
    shows: &'static str,
    expect: Expect,
    control: Control,
    positive: Positive,
    removal: &'static [Removal],
) -> Row {
    Row {
        name,
        shows,
        strict: expect,
        untrusted: expect,
        control,
        positive,
        unproven: None,
        removal,
    }
}

/// Every row, in the order of `probe list`.
pub fn rows() -> Vec<Row> {
    [
        files::ROWS,
        workspace::ROWS,
        namespaces::ROWS,
        identity::ROWS,
        calls::ROWS,
        inherited::ROWS,
        sockets::ROWS,
    ]
    .concat()
}
