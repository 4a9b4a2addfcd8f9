//! [pure] Capability names and numbers: capabilities(7), include/uapi/linux/capability.h.

use serde::{Deserialize, Serialize};

macro_rules! capabilities {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// A capability, named as in the kernel without the `CAP_` prefix.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Capability { $(#[doc = concat!("`CAP_", stringify!($name), "`")] $name = $number),* }

        impl Capability {
            /// All of them, in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name without `CAP_`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// Looks a name up, with or without `CAP_`, in any case.
            pub fn from_name(name: &str) -> Option<Self> {
                let upper = name.to_ascii_uppercase();
                let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
                Self::ALL.iter().copied().find(|cap| cap.name() == bare)
            }

            /// Its bit in a capability set.
            pub fn bit(self) -> u64 {
                1 << (self as u8)
            }
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5,
    SETGID = 6, SETUID = 7, SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10,
    NET_BROADCAST = 11, NET_ADMIN = 12, NET_RAW = 13, IPC_LOCK = 14, IPC_OWNER = 15,
    SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
    SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25,
    SYS_TTY_CONFIG = 26, MKNOD = 27, LEASE = 28, AUDIT_WRITE = 29, AUDIT_CONTROL = 30,
    SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33, SYSLOG = 34, WAKE_ALARM = 35,
    BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39, CHECKPOINT_RESTORE = 40,
}
