//! [pure] Observed values in words.

use super::observation::{Class, Directory, Process, Role};
use crate::confine::idmap::{self, Extent};
use crate::linux::capability::Capability;

/// `job 2 (sleep)`.
pub(super) fn label(process: &Process) -> String {
    let role = match process.role {
        Role::Gateway => return format!("gateway ({})", process.name),
        Role::Init => "init",
        Role::Job => "job",
        Role::Joined => "joined",
    };
    format!("{role} {} ({})", process.pid_inside, process.name)
}

/// `none`, or names of a capability set.
pub(super) fn capability_words(set: u64) -> String {
    if set == 0 {
        return "none".to_owned();
    }
    let known = Capability::ALL.iter().fold(0, |bits, cap| bits | cap.bit());
    if set == known {
        return "all".to_owned();
    }
    let names = Capability::ALL
        .iter()
        .filter(|cap| set & cap.bit() != 0)
        .map(|cap| cap.name());
    let mut words: Vec<String> = names.map(str::to_owned).collect();
    if set & !known != 0 {
        words.push(format!("{:#x}", set & !known));
    }
    words.join(" ")
}

/// A class in a word or two.
pub(super) fn class_words(class: &Class) -> String {
    match class {
        Class::Null => "null".to_owned(),
        Class::Terminal => "terminal".to_owned(),
        Class::Character(major, minor) => format!("character device {major}:{minor}"),
        Class::Block(major, minor) => format!("block device {major}:{minor}"),
        Class::Pipe => "pipe".to_owned(),
        Class::Fifo => "named pipe".to_owned(),
        Class::Socket => "socket".to_owned(),
        Class::Regular => "file".to_owned(),
        Class::Directory => "directory".to_owned(),
        Class::Symlink => "symlink".to_owned(),
        Class::Memory(name) => format!("memory {name:?}"),
        Class::Namespace(kind, _) => format!("{} namespace", kind.file()),
        Class::Kernel(kind) => kind.clone(),
    }
}

/// A limit as the kernel prints it.
pub(super) fn bound(value: Option<u64>) -> String {
    value.map_or("unlimited".to_owned(), |value| value.to_string())
}

/// An id map, or that it is empty.
pub(super) fn map_words(map: &[Extent]) -> String {
    if map.is_empty() {
        "empty".to_owned()
    } else {
        idmap::describe(map)
    }
}

/// Ids, one after the other.
pub(super) fn numbers(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// A directory and the mount it lies on.
pub(super) fn place(directory: &Directory) -> String {
    format!("{} on mount {}", directory.path, directory.mount)
}
