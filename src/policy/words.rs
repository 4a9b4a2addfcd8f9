//! [pure] The closed sets of words of the language, each with the one way to write it.

use crate::net::grant::{Proto, WithoutName};
use crate::policy::flags::Flag;
use crate::policy::{Access, Control, IdMode, NetworkMode, OnDenied, RootfsMode, SyscallProfile};
use crate::source::nearest::nearest;

/// A value that is written as one of a few words.
pub trait Word: Copy + PartialEq + 'static {
    /// Every word with its value.
    const ALL: &'static [(&'static str, Self)];

    /// How the value is written.
    fn word(self) -> &'static str {
        let written = Self::ALL.iter().find(|(_, value)| *value == self);
        written.map_or("", |(word, _)| word)
    }

    /// Reads a word; the error is one line with the nearest word and all of them.
    fn from_word(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let meant = nearest(text, Self::words())
                .map(|word| format!(", did you mean {word:?}?"))
                .unwrap_or_default();
            format!("{text:?} is not {}{meant}", Self::expected())
        })
    }

    /// All words, in order.
    fn words() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(word, _)| *word)
    }

    /// `one of "a", "b"`.
    fn expected() -> String {
        let quoted: Vec<String> = Self::words().map(|word| format!("{word:?}")).collect();
        match quoted.as_slice() {
            [only] => only.clone(),
            words => format!("one of {}", words.join(", ")),
        }
    }
}

macro_rules! words {
    ($($type:ident { $($word:literal = $variant:ident),+ $(,)? })+) => {
        $(impl Word for $type {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        })+
    };
}

words! {
    IdMode { "subuid" = Subuid, "exclusive" = Exclusive, "caller" = Caller }
    Access { "none" = None, "ro" = Ro, "copy" = Copy, "rw" = Rw }
    MountAccess { "ro" = Ro, "rw" = Rw }
    RootfsMode { "read-only" = ReadOnly, "overlay" = Overlay }
    SyscallProfile { "strict" = Strict, "job" = Job }
    OnDenied { "errno" = Errno, "record" = Record, "kill" = Kill }
    NetworkMode { "none" = None, "allowlist" = Allowlist, "open" = Open }
    Proto { "tls" = Tls, "http" = Http, "raw" = Raw }
    WithoutName { "refuse" = Refuse, "allow" = Allow }
    Control { "cgroup" = Cgroup, "landlock" = Landlock, "groups" = Groups, "disk" = Disk }
    Flag {
        "rootfs" = Rootfs, "workspace" = Workspace, "env" = Env, "workdir" = Workdir,
        "user" = User, "hostname" = Hostname, "mount" = Mount, "tmpfs" = Tmpfs,
        "network" = Network, "allow" = Allow, "publish" = Publish, "memory" = Memory, "cpus" = Cpus, "pids" = Pids,
        "disk" = Disk, "timeout" = Timeout,
    }
}

/// The two ways in which a mount of the host may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountAccess {
    /// Read-only.
    Ro,
    /// Writes reach the host.
    Rw,
}

impl From<MountAccess> for Access {
    fn from(access: MountAccess) -> Self {
        match access {
            MountAccess::Ro => Self::Ro,
            MountAccess::Rw => Self::Rw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips<T: Word + std::fmt::Debug>() {
        for (word, value) in T::ALL {
            assert_eq!(value.word(), *word);
            assert_eq!(T::from_word(word), Ok(*value));
        }
    }

    #[test]
    fn every_word_round_trips() {
        round_trips::<IdMode>();
        round_trips::<Access>();
        round_trips::<MountAccess>();
        round_trips::<RootfsMode>();
        round_trips::<SyscallProfile>();
        round_trips::<OnDenied>();
        round_trips::<NetworkMode>();
        round_trips::<Proto>();
        round_trips::<WithoutName>();
        round_trips::<Control>();
        round_trips::<Flag>();
    }

    #[test]
    fn a_stranger_gets_the_list_and_a_slip_its_neighbour() {
        assert_eq!(
            SyscallProfile::from_word("Job").unwrap_err(),
            "\"Job\" is not one of \"strict\", \"job\", did you mean \"job\"?"
        );
        assert_eq!(
            NetworkMode::from_word("everything").unwrap_err(),
            "\"everything\" is not one of \"none\", \"allowlist\", \"open\""
        );
    }
}
