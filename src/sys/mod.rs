//! [sys] Thin safe wrappers over system calls that rustix lacks; the only room with `unsafe`; no policy.
#![allow(unsafe_code, reason = "this is the one place where it is allowed")]

pub mod caps;
pub mod datagram;
pub mod exec;
pub mod feature;
pub mod landlock;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod nfnetlink;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod trial;

/// Lets a result go that nobody is left to hear; the caller says why.
pub fn unheard<T, E>(_result: Result<T, E>) {}
