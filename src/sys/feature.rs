//! [sys] Asks the kernel which Landlock and seccomp features it has; changes nothing.

#![allow(unsafe_code)]

use std::ptr;

const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1 << 0;
const LANDLOCK_CREATE_RULESET_ERRATA: libc::c_uint = 1 << 1;

/// Landlock's ABI number, 0 where it is not built in or switched off at boot
/// (landlock_create_ruleset(2): ENOSYS, EOPNOTSUPP).
pub fn landlock_abi() -> u32 {
    landlock_query(LANDLOCK_CREATE_RULESET_VERSION)
}

/// Bits of the errata fixed in this kernel, 0 where it cannot say
/// (`LANDLOCK_CREATE_RULESET_ERRATA`, Linux 6.15 and stable back-ports; EINVAL before).
pub fn landlock_errata() -> u32 {
    landlock_query(LANDLOCK_CREATE_RULESET_ERRATA)
}

fn landlock_query(flags: libc::c_uint) -> u32 {
    // SAFETY: the kernel's contract for a query is a null attribute of size 0, which it never
    // reads; both constants are written here, and no memory of ours is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            flags,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}

/// Whether seccomp knows the action `SECCOMP_RET_*` (seccomp(2), SECCOMP_GET_ACTION_AVAIL).
pub fn seccomp_action_available(action: u32) -> bool {
    let action_pointer: *const u32 = &raw const action;
    // SAFETY: the pointer is to a live u32 of this frame, which the kernel only reads (4 bytes).
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0_u32,
            action_pointer,
        )
    };
    answer == 0
}

/// Whether seccomp knows all of these SECCOMP_FILTER_FLAG_* bits. No filter is loaded: flags are
/// checked first (EINVAL), and then the null program is refused (EFAULT).
pub fn seccomp_flags_known(flags: libc::c_ulong) -> bool {
    // SAFETY: the program pointer is null on purpose; the kernel answers EFAULT and touches nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::c_void>(),
        )
    };
    answer == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}
