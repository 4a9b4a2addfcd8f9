//! [pure] Which descriptors nobody inside can have opened: they were handed in.

use super::observation::{Class, Descriptor, Kind, Thread};
use crate::host::mounts::Mount;

/// Memory of ours that only stage and gateway ever see. A job may give memory of
/// its own such a name, and is reported for it.
const OUR_MEMORY: [&str; 3] = ["plan", "filters", "cofferdam-init"];

/// What no job can have opened itself, so that it must have been handed in.
pub(super) fn problem(
    descriptor: &Descriptor,
    thread: &Thread,
    table: &[Mount],
) -> Option<&'static str> {
    let own_network = thread
        .namespaces
        .get(&Kind::Net)
        .map(|network| network.inode);
    match &descriptor.class {
        Class::Null | Class::Pipe => None,
        Class::Terminal => {
            (!of_own_devpts(descriptor, table)).then_some("a terminal of the sandbox's devpts")
        }
        Class::Character(..)
        | Class::Block(..)
        | Class::Fifo
        | Class::Regular
        | Class::Directory
        | Class::Symlink => {
            (!holds(table, descriptor.mount)).then_some("on a mount of the sandbox")
        }
        Class::Socket => (descriptor.network.is_none() || descriptor.network != own_network)
            .then_some("a socket of the sandbox's network namespace"),
        Class::Memory(name) => OUR_MEMORY
            .contains(&name.as_str())
            .then_some("no memory of the launcher"),
        Class::Namespace(kind, inode) => {
            let own = thread.namespaces.get(kind).map(|namespace| namespace.inode);
            (own != Some(*inode)).then_some("no namespace but its own")
        }
        // Made with capabilities over mounts, which nobody inside has.
        Class::Kernel(kind) => (kind == "fscontext").then_some("no file system being made"),
    }
}

/// Whether a mount table has the mount with this id.
pub(super) fn holds(table: &[Mount], id: u64) -> bool {
    table.iter().any(|mount| u64::from(mount.id) == id)
}

/// By file system and not by mount: the job's first terminal is opened before its
/// user namespace gets a copy of the mounts.
fn of_own_devpts(descriptor: &Descriptor, table: &[Mount]) -> bool {
    let devpts = |mount: &&Mount| mount.fstype == "devpts" && mount.device == descriptor.device;
    holds(table, descriptor.mount) || table.iter().any(|mount| devpts(&mount))
}

/// A socket over whose network namespace U0 has no say.
pub(super) fn from_outside(descriptor: &Descriptor) -> bool {
    descriptor.class == Class::Socket && descriptor.network.is_none()
}

/// Init serves with what it has: no file, no directory, no memory.
pub(super) fn foreign_to_init(class: &Class) -> Option<&'static str> {
    match class {
        Class::Null | Class::Pipe | Class::Socket | Class::Terminal => None,
        Class::Kernel(kind) if kind == "signalfd" || kind == "pidfd" => None,
        _ => Some("null, pipe, terminal, signalfd, pidfd or its supervisor's socket"),
    }
}
