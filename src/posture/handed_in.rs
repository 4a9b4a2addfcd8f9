//! [pure] Which descriptors nobody inside can have opened: they were handed in.

use super::observation::{Class, Descriptor, Kind, Thread};
use std::collections::BTreeSet;

/// Memory of ours that only stage and gateway ever see. A job may give memory of
/// its own such a name, and is reported for it.
const OUR_MEMORY: [&str; 3] = ["plan", "filters", "cofferdam-init"];

/// What no job can have opened itself, so that it must have been handed in.
pub(super) fn problem(
    descriptor: &Descriptor,
    thread: &Thread,
    table: &BTreeSet<u64>,
) -> Option<&'static str> {
    let own_network = thread
        .namespaces
        .get(&Kind::Net)
        .map(|network| network.inode);
    match &descriptor.class {
        Class::Null | Class::Pipe => None,
        Class::Terminal
        | Class::Character(..)
        | Class::Block(..)
        | Class::Fifo
        | Class::Regular
        | Class::Directory
        | Class::Symlink => {
            (!table.contains(&descriptor.mount)).then_some("on a mount of the sandbox")
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
