//! [sys] Landlock's three system calls: landlock(7), include/uapi/linux/landlock.h.

use super::process::check;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// `struct landlock_ruleset_attr` up to ABI 6.
#[repr(C)]
struct RulesetAttr {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, packed as the kernel has it.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

const RULE_PATH_BENEATH: u32 = 1;

/// A ruleset that handles these rights. Fields the ABI does not know must be 0.
///
/// # Errors
/// The errno of landlock_create_ruleset(2).
pub fn create(handled_fs: u64, handled_net: u64, scoped: u64) -> Result<OwnedFd, Errno> {
    let attr = RulesetAttr {
        handled_fs,
        handled_net,
        scoped,
    };
    // The kernel accepts a longer structure when the unknown rest is zero.
    // SAFETY: the size is that of the structure the kernel reads.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::from_ref(&attr),
            size_of::<RulesetAttr>(),
            0u32,
        )
    })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Allows `rights` beneath `parent` (an O_PATH descriptor).
///
/// # Errors
/// The errno of landlock_add_rule(2).
pub fn allow(ruleset: BorrowedFd<'_>, parent: BorrowedFd<'_>, rights: u64) -> Result<(), Errno> {
    let rule = PathBeneath {
        allowed: rights,
        parent: parent.as_raw_fd(),
    };
    // SAFETY: the rule type says which structure the kernel reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            std::ptr::from_ref(&rule),
            0u32,
        )
    })
    .map(drop)
}

/// Puts this thread and its future children into the domain.
///
/// # Errors
/// The errno of landlock_restrict_self(2).
pub fn restrict(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes a descriptor and flags.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) })
        .map(drop)
}
