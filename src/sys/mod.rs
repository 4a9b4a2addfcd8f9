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

use rustix::io::Errno;

/// Lets a result go that nobody is left to hear; the caller says why.
pub fn unheard<T, E>(_result: Result<T, E>) {}

/// The errno of a number that another process has sent; EPROTO for one that Linux has not
/// (rustix panics at those).
pub fn errno(number: i32) -> Errno {
    if (1..4096).contains(&number) {
        Errno::from_raw_os_error(number)
    } else {
        Errno::PROTO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_errno_is_a_broken_protocol() {
        for odd in [i32::MIN, -4095, -1, 0, 4096, 65_537, i32::MAX] {
            assert_eq!(errno(odd), Errno::PROTO, "{odd}");
        }
        assert_eq!((errno(1), errno(4095).raw_os_error()), (Errno::PERM, 4095));
    }
}
