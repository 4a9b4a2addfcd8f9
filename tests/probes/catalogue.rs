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

/// What a probe must see. `not-run` is never it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// `refused` with this errno (or signal), no other.
    Errno(&'static str),
    /// `refused` without an errno: looked for and not found.
    Clean,
    /// `absent`.
    Absent,
    /// `allowed`: it must keep working.
    Allowed,
    /// One of these, by what this host is, for this reason.
    Host(&'static [Expect], &'static str),
    /// Anything: no promise is made, for this reason.
    Recorded(&'static str),
}

impl Expect {
    /// Whether an outcome is as expected.
    pub fn holds(self, outcome: &str, errno: Option<&str>) -> bool {
        match self {
            Self::Errno(name) => outcome == "refused" && errno == Some(name),
            Self::Clean => outcome == "refused" && errno.is_none(),
            Self::Absent => outcome == "absent",
            Self::Allowed => outcome == "allowed",
            Self::Host(any, _) => any.iter().any(|one| one.holds(outcome, errno)),
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
    /// All mounts are private.
    Propagation,
    /// Calls through the table of another architecture kill the process.
    Foreign,
    /// The working directory must lie below the root.
    Directory,
    /// Our pid 1 is not dumpable.
    InitUndumpable,
    /// A session keyring of its own.
    Keyring,
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
    /// The session keyring holds a key.
    SessionKey,
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
    /// Forget what is code and no step of a plan: `careless launch --without` this.
    Forget(&'static str),
    /// Nothing of ours: something else stops it as well, named here.
    Behind(&'static str),
}

impl Removal {
    /// Whether this takes that control away.
    pub fn is_of(self, control: Control) -> bool {
        match (self, control) {
            (Self::Behind(_), _) => true,
            (Self::DropSeccompRule(name), Control::Seccomp(call)) => name == call,
            (Self::DropStep("landlock", _), Control::Landlock)
            | (Self::DropStep("keyring", _), Control::Keyring)
            | (Self::DropStep("capabilities", _), Control::Capabilities)
            | (Self::AddCapability(_), Control::Capabilities)
            | (Self::AddBind(_) | Self::DropMountFlag(..), Control::Mounts(_))
            | (Self::SkipNoNewPrivs, Control::NoNewPrivs)
            | (Self::SkipSetgroups, Control::Groups)
            | (Self::SkipEnvironment, Control::Environment)
            | (Self::SkipStdioPipes, Control::Descriptors)
            | (Self::InitDumpable, Control::InitUndumpable)
            | (Self::MoveNamespace("mnt"), Control::LockedMounts)
            | (Self::Forget("descriptors"), Control::Descriptors)
            | (Self::Forget("session"), Control::Terminal)
            | (Self::Forget("signals"), Control::Signals)
            | (Self::Forget("propagation"), Control::Propagation)
            | (Self::Forget("foreign"), Control::Foreign)
            | (Self::Forget("dumpable"), Control::InitUndumpable)
            | (Self::Forget("getcwd"), Control::Directory)
            | (Self::Forget("pids"), Control::Namespace("pid")) => true,
            (Self::DropStep("mask", at), Control::Mask(path))
            | (Self::DropStep("read_only", at), Control::ReadOnly(path))
            | (Self::DropStep("protect", at), Control::Protected(path)) => at == path,
            (Self::ShareNamespace(kind), Control::Namespace(name))
            | (Self::MoveNamespace(kind), Control::NamespaceOwner(name))
            | (Self::RaiseLimit(kind), Control::NamespaceLimit(name))
            | (Self::RaiseRlimit(kind), Control::Rlimit(name)) => kind == name,
            _ => false,
        }
    }
}

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
