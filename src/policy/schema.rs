//! [pure] The policy as written: every key of the language, once.
//!
//! The doc comment of a field is the description of its key in the JSON Schema
//! and in `policy show`; what follows "Relaxing this allows" is the sentence
//! that `policy check` and `policy diff` print. A key exists when it is here.

use crate::linux::capability::Capability;
use crate::net::grant::{Ports, Proto, Target, WithoutName};
use crate::net::publish::Publish;
use crate::policy::document::{Element, Field, Key, Node, Reader, Shape, read_table_element};
use crate::policy::flags::Flag;
use crate::policy::leaf::{
    AbsolutePath, CallName, EnvName, EnvPattern, EnvValue, HostPath, Limited, MilliCpus,
    PolicyName, RelativePath, Seconds, Sentence, Size, Version, Whole,
};
use crate::policy::words::MountAccess;
use crate::policy::{
    Access, Control, IdMode, NetworkMode, OnDenied, RootfsMode, SyscallProfile, WorkspaceUid,
};
use crate::source::diagnostic::Diagnostic;
use crate::source::text::{Source, Written};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest policy text that is read, in bytes.
pub const TEXT_MAX: usize = 1 << 20;

/// Reads a policy text. Total on any bytes; all mistakes come together.
pub fn parse(source: Source) -> Result<RawPolicy, Vec<Diagnostic>> {
    if source.text().len() > TEXT_MAX {
        let message = format!("the policy is larger than {} KiB", TEXT_MAX >> 10);
        return Err(vec![Diagnostic::error(message).at(source.place(0..0))]);
    }
    let source = Arc::new(source);
    let document = toml_edit::Document::parse(source.text()).map_err(|error| {
        let cause = error.message().trim().replace('\n', ", ");
        let message = format!("the policy is not valid TOML: {cause}");
        vec![Diagnostic::error(message).at(source.place(error.span().unwrap_or(0..0)))]
    })?;
    let mut reader = Reader::new(Arc::clone(&source), dotted_keys);
    if !document.contains_key("schema") {
        let help = "add `schema = 1` as the first line".to_owned();
        reader.refuse(0..0, "`schema = 1` is missing".to_owned(), Some(help));
    }
    let policy = RawPolicy::read(&Node::document(document.as_table()), &mut reader);
    reader.finish(policy)
}

/// Every dotted key, tables' own names left out.
pub fn dotted_keys() -> Vec<String> {
    fn walk(shape: &Shape, prefix: &str, found: &mut Vec<String>) {
        for key in shape.keys() {
            let dotted = format!("{prefix}{}", key.name);
            if key.shape.keys().is_empty() {
                found.push(dotted);
            } else {
                walk(&key.shape, &format!("{dotted}."), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&RawPolicy::shape(), "", &mut found);
    found
}

macro_rules! tables {
    ($($(#[doc = $about:literal])+ $table:ident { $($(#[doc = $doc:literal])+ $key:ident: $type:ty,)+ })+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, Default, PartialEq)]
            pub struct $table { $($(#[doc = $doc])+ pub $key: $type,)+ }

            impl Field for $table {
                fn read(node: &Node<'_>, reader: &mut Reader) -> Self {
                    let mut table = Self::default();
                    for (name, child) in reader.entries(node, &[$(stringify!($key)),+]) {
                        reader.within(name, |reader| match name {
                            $(stringify!($key) => table.$key = Field::read(&child, reader),)+
                            _ => {}
                        });
                    }
                    table
                }

                fn layer(&mut self, later: Self) {
                    $(self.$key.layer(later.$key);)+
                }

                fn shape() -> Shape {
                    Shape::Table(vec![$(Key {
                        name: stringify!($key),
                        about: concat!($($doc),+).trim_ascii(),
                        shape: <$type as Field>::shape(),
                    }),+])
                }
            }

            impl Element for $table {
                fn read_element(node: &Node<'_>, reader: &mut Reader) -> Option<Written<Self>> {
                    read_table_element(node, reader)
                }

                fn element_shape() -> Shape {
                    <Self as Field>::shape()
                }
            }
        )+
    };
}

tables! {
    /// A policy file, or several laid over each other.
    RawPolicy {
        /// Version of the language, always 1.
        schema: Option<Written<Version>>,
        /// Name of the policy, shown where it is used.
        name: Option<Written<PolicyName>>,
        /// What the policy is for, in one line.
        description: Option<Written<Sentence>>,
        /// Preset whose values hold where this file says nothing; without it, those of `strict`.
        extends: Option<Written<PolicyName>>,
        /// Which flags a caller may use with this policy.
        flags: RawFlags,
        /// Which ids of the host a sandbox uses.
        ids: RawIds,
        /// The directory a job works on.
        workspace: RawWorkspace,
        /// What the job sees of files.
        filesystem: RawFilesystem,
        /// The kernel's path-based restriction that stays on the job's processes.
        landlock: RawLandlock,
        /// System calls.
        syscalls: RawSyscalls,
        /// Capabilities over the job's own user namespace, with a root file system of its own.
        capabilities: RawCapabilities,
        /// Environment variables.
        environment: RawEnvironment,
        /// Network.
        network: RawNetwork,
        /// Limits.
        resources: RawResources,
        /// Controls that may be weaker on a host that cannot enforce them.
        degrade: RawDegrade,
    }

    /// `[flags]`.
    RawFlags {
        /// The only flags of `run` that may be used with this policy, without the dashes; without the key, all may.
        /// Relaxing this allows the caller to change values that the policy's author fixed.
        allow: Restriction,
    }

    /// `[ids]`.
    RawIds {
        /// Ids used: `subuid`, the caller's subordinate ids; `exclusive`, a slice of them that no other sandbox has; `caller`, the caller's own id alone.
        /// Relaxing this allows processes of other sandboxes, or of the caller, to have the same host uid as the job.
        mode: Option<Written<IdMode>>,
        /// Which inside id owns a writable workspace: 0, or the caller's own number.
        workspace_uid: Option<Written<WorkspaceUid>>,
        /// How many ids an exclusive slice has.
        /// Relaxing this allows one sandbox to take ids that others would need.
        exclusive_size: Option<Written<Whole<1, 65_534>>>,
    }

    /// `[workspace]`.
    RawWorkspace {
        /// The most that `--workspace` may ask for: `none`, `ro`, `copy` (writes are thrown away), `rw`.
        /// Relaxing this allows the job to read the directory, then to change files that the caller may run later.
        access: Option<Written<Access>>,
        /// Paths below a writable workspace that stay read-only, even where they do not exist yet.
        /// Relaxing this allows the job to plant programs that git, an editor or a shell runs as the caller.
        protected: Vec<Written<RelativePath>>,
    }

    /// `[filesystem]`.
    RawFilesystem {
        /// What `--rootfs` looks like inside: `read-only`, or `overlay` (writes are thrown away).
        /// Relaxing this allows the job to change its own copy of system files, set-id programs among them.
        rootfs: Option<Written<RootfsMode>>,
        /// Size of the private /tmp.
        /// Relaxing this allows the job to hold more of the host's memory in files.
        tmp: Option<Written<Size<4096>>>,
        /// Paths hidden beside the built-in list of /proc and /sys.
        /// Relaxing this allows the job to read what stands there.
        masked: Vec<Written<AbsolutePath>>,
        /// Directories and files of the host that are shown inside.
        /// Relaxing this allows the job to read, and with `rw` to change, those files of the host.
        mount: Vec<Written<RawMount>>,
    }

    /// `[[filesystem.mount]]`.
    RawMount {
        /// Path on the host; a leading ~/, $XDG_RUNTIME_DIR or $SSH_AUTH_SOCK expands, a relative path begins at the policy file.
        source: Option<Written<HostPath>>,
        /// Absolute path inside.
        target: Option<Written<AbsolutePath>>,
        /// `ro` unless said: `ro` or `rw`.
        access: Option<Written<MountAccess>>,
        /// Why the job needs it.
        why: Option<Written<Sentence>>,
    }

    /// `[landlock]`.
    RawLandlock {
        /// The lowest Landlock ABI that counts as full strength; rights above it are used where the kernel has them.
        /// Relaxing this allows a kernel with fewer Landlock rights to be taken as good enough.
        minimum_abi: Option<Written<Whole<2, 9>>>,
    }

    /// `[syscalls]`.
    RawSyscalls {
        /// The list of system calls that work: `strict`, for computing; `job`, for builds and tests.
        /// Relaxing this allows the job to reach more code of the kernel, where a bug may wait.
        profile: Option<Written<SyscallProfile>>,
        /// System calls that work beside the profile.
        /// Relaxing this allows the job to reach the code of these calls.
        allow: Vec<Written<RawCall>>,
        /// System calls refused whatever `profile` and `allow` say.
        /// Relaxing this allows the job to make these calls again.
        deny: Vec<Written<CallName>>,
        /// What a refused call does: `kill` the process; fail with an `errno`; fail and `record` an event for calls that are rare.
        /// Relaxing this allows the job to go on after a refusal, and with `record` to make the supervisor write events.
        on_denied: Option<Written<OnDenied>>,
    }

    /// An element of `syscalls.allow`.
    RawCall {
        /// The kernel's name of the call.
        name: Option<Written<CallName>>,
        /// Why the job needs it.
        why: Option<Written<Sentence>>,
    }

    /// `[capabilities]`.
    RawCapabilities {
        /// Capabilities the job keeps over its own user namespace; never over the host's.
        /// Relaxing this allows the job to reach kernel code that asks for the capability.
        keep: Vec<Written<RawCapability>>,
    }

    /// An element of `capabilities.keep`.
    RawCapability {
        /// Its name, with or without CAP_.
        name: Option<Written<Capability>>,
        /// Why the job needs it.
        why: Option<Written<Sentence>>,
    }

    /// `[environment]`.
    RawEnvironment {
        /// Variables passed from the caller, by name or by the beginning of a name and `*`.
        /// Relaxing this allows the job to read these variables of the caller.
        pass: Vec<Written<EnvPattern>>,
        /// Variables set whatever the caller has.
        /// Relaxing this allows the job to read these values.
        set: BTreeMap<EnvName, Written<EnvValue>>,
    }

    /// `[network]`.
    RawNetwork {
        /// `none`: a loopback of its own and nothing else; `allowlist`: what `allow` names and nothing else; `open`: every name and public address by TCP, and what `allow` names.
        /// Relaxing this allows the job to send what it knows to the destinations of `allow`.
        mode: Option<Written<NetworkMode>>,
        /// What the job may reach.
        /// Relaxing this allows the job to send what it knows to these destinations.
        allow: Vec<Written<RawReach>>,
        /// A TLS connection whose hello names no server, or another one than was asked for: `refuse`, or `allow` it to go to an address of the name that was asked for.
        /// Relaxing this allows the job to reach other names that are served at the same address.
        tls_without_name: Option<Written<WithoutName>>,
        /// Ports of the job that the host listens on, as [ADDRESS:]HOSTPORT:PORT; 127.0.0.1 unless an address is given. Host port 0 is chosen by the kernel. With mode `none` too: the job answers, and reaches nothing by itself.
        /// Relaxing this allows whoever reaches that port of the host to speak to the job.
        publish: Vec<Written<Publish>>,
        /// Limits of one sandbox.
        limits: RawNetworkLimits,
    }

    /// An element of `network.allow`.
    RawReach {
        /// A name, `*.NAME` for every name below it, an address, or a network as ADDRESS/PREFIX.
        to: Option<Written<Target>>,
        /// Ports of TCP: numbers, or ranges such as "8000-8099".
        ports: Vec<Written<Ports>>,
        /// How a connection is read: `tls` and `http` hold the name it asks for against `to`, `raw` reads nothing. Without it, port 443 is `tls`, port 80 is `http`, every other `raw`.
        proto: Option<Written<Proto>>,
        /// Why the job needs it; required for wildcards, addresses and networks.
        why: Option<Written<Sentence>>,
    }

    /// `[network.limits]`.
    RawNetworkLimits {
        /// Open connections, those to published ports counted apart.
        /// Relaxing this allows the job to hold more of the host's memory and ports.
        connections: Option<Written<Whole<1, 65_536>>>,
        /// New connections in one second, those to published ports counted apart.
        /// Relaxing this allows the job to knock on more doors, and to load the host and its network.
        new_per_second: Option<Written<Whole<1, 65_536>>>,
        /// DNS queries in one second.
        /// Relaxing this allows the job to say more to others in the names it asks for.
        dns_per_second: Option<Written<Whole<1, 65_536>>>,
    }

    /// `[resources]`; each may be "unlimited".
    RawResources {
        /// Memory of all processes together.
        /// Relaxing this allows the job to push the host's other processes out of memory.
        memory: Option<Written<Limited<Size<1_048_576>>>>,
        /// CPU time per time, 1 being one CPU.
        /// Relaxing this allows the job to slow the host's other processes down.
        cpus: Option<Written<Limited<MilliCpus>>>,
        /// Processes and threads.
        /// Relaxing this allows the job to take more of the host's process numbers.
        pids: Option<Written<Limited<Whole<1, 4_194_304>>>>,
        /// Bytes the job may leave on the host's disk, outside a writable workspace.
        /// Relaxing this allows the job to fill the disk.
        disk: Option<Written<Limited<Size<1_048_576>>>>,
        /// Time from start to kill.
        /// Relaxing this allows the job to hold its resources for longer.
        timeout: Option<Written<Limited<Seconds>>>,
    }

    /// `[degrade]`.
    RawDegrade {
        /// Controls that may be weaker than asked where the host cannot enforce them: `cgroup`, `landlock`, `groups`, `disk`.
        /// Relaxing this allows the job to start on a host that enforces the control only in part.
        allow: Vec<Written<Control>>,
    }
}

/// `flags.allow`: a list that a later layer replaces, because it limits and does not grant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restriction(pub Option<Written<Vec<Written<Flag>>>>);

impl Field for Restriction {
    fn read(node: &Node<'_>, reader: &mut Reader) -> Self {
        let flags = Vec::read(node, reader);
        Self(Some(Written::new(flags, reader.at(node))))
    }

    fn layer(&mut self, later: Self) {
        if later.0.is_some() {
            *self = later;
        }
    }

    fn shape() -> Shape {
        <Vec<Written<Flag>> as Field>::shape()
    }
}
