//! [pure] Flags and options of process calls the filters speak of.
//!
//! Sources: include/uapi/linux/{sched,prctl,futex,personality,resource,stat}.h,
//! arch/x86/include/uapi/asm/prctl.h.

/// Namespace flags of clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER,
/// NEWPID, NEWNET. CLONE_NEWTIME (0x80) lies in the bits that clone(2) reads as
/// the exit signal, so only unshare(2) and clone3(2) can ask for it.
pub const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// CLONE_NEWTIME, for unshare(2).
pub const CLONE_NEWTIME: u64 = 0x80;

/// The set-user-id and set-group-id bits of a mode.
pub const S_ISUID_ISGID: u64 = 0o6000;
/// The file type bits of a mode.
pub const S_IFMT: u64 = 0o170_000;
/// A character device.
pub const S_IFCHR: u64 = 0o020_000;
/// A block device.
pub const S_IFBLK: u64 = 0o060_000;
/// O_CREAT and __O_TMPFILE: open(2) reads a mode only with one of them.
pub const O_CREAT_TMPFILE: u64 = 0o100 | 0o20_000_000;
/// A command of fcntl(2).
pub const F_SETPIPE_SZ: u64 = 1031;

/// RLIMIT_CORE.
pub const RLIMIT_CORE: u64 = 4;
/// PROT_EXEC of mmap(2) and mprotect(2).
pub const PROT_EXEC: u64 = 4;

/// Bits of a scheduling policy beside SCHED_RESET_ON_FORK.
pub const SCHED_POLICY_MASK: u64 = 0xbfff_ffff;
/// SCHED_OTHER, SCHED_BATCH, SCHED_IDLE.
pub const SCHED_FAIR: &[u64] = &[0, 3, 5];
/// Bits of an I/O priority that hold its class, and the real-time class.
pub const IOPRIO_CLASS_MASK: u64 = 0xe000;
/// IOPRIO_CLASS_RT shifted into place.
pub const IOPRIO_CLASS_RT: u64 = 0x2000;

/// Bits of a futex operation beside FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
pub const FUTEX_CMD_MASK: u64 = 0xffff_fe7f;
/// LOCK_PI, UNLOCK_PI, TRYLOCK_PI, WAIT_REQUEUE_PI, CMP_REQUEUE_PI, LOCK_PI2.
pub const FUTEX_PI: &[u64] = &[6, 7, 8, 11, 12, 13];

/// personality(2) values that change nothing for others: PER_LINUX, PER_LINUX32,
/// both with UNAME26, both with ADDR_NO_RANDOMIZE (gdb, sanitizers), and the query.
pub const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0x4_0008, 0xffff_ffff];

/// prctl(2) options that act on the caller alone.
#[rustfmt::skip]
pub const PRCTL_OPTIONS: &[u64] = &[
    1, 2, // PDEATHSIG
    3, 4, // DUMPABLE
    7, 8, // KEEPCAPS
    15, 16, // NAME
    21, 22, // SECCOMP
    23, 24, // CAPBSET
    25, 26, // TSC
    27, // GET_SECUREBITS
    29, 30, // TIMERSLACK
    36, 37, // CHILD_SUBREAPER
    38, 39, // NO_NEW_PRIVS
    40, // GET_TID_ADDRESS
    41, 42, // THP_DISABLE
    47, // CAP_AMBIENT
    50, 51, // SVE vector length
    52, 53, // SPECULATION_CTRL
    54, 55, 56, // PAC_RESET_KEYS, TAGGED_ADDR_CTRL
    59, // SYSCALL_USER_DISPATCH
    60, 61, // PAC_ENABLED_KEYS
    63, 64, // SME vector length
    65, 66, // MDWE
    74, 75, 76, // SHADOW_STACK
    0x5961_6d61, // PTRACER
    0x5356_4d41, // VMA names
];

/// arch_prctl(2) codes for thread-local storage, CPUID faulting, AMX and shadow stacks.
#[rustfmt::skip]
pub const ARCH_PRCTL_CODES: &[u64] = &[
    0x1001, 0x1002, 0x1003, 0x1004, // SET_GS SET_FS GET_FS GET_GS
    0x1011, 0x1012, // CPUID
    0x1021, 0x1022, 0x1023, // XCOMP_SUPP XCOMP_PERM REQ_XCOMP_PERM
    0x3001, // CET_STATUS, asked by older C libraries
    0x5001, 0x5002, 0x5003, 0x5004, 0x5005, // SHSTK
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_agree_with_the_c_library() {
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET;
        assert_eq!(namespaces as u64, CLONE_NAMESPACES);
        assert_eq!(u64::from(libc::S_ISUID | libc::S_ISGID), S_ISUID_ISGID);
        assert_eq!(u64::from(libc::S_IFMT), S_IFMT);
        let creating = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);
        assert_eq!(creating as u64, O_CREAT_TMPFILE);
        assert_eq!(libc::F_SETPIPE_SZ as u64, F_SETPIPE_SZ);
        let futex = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u32;
        assert_eq!(u64::from(futex), FUTEX_CMD_MASK);
        for option in [
            libc::PR_SET_NAME,
            libc::PR_SET_SECCOMP,
            libc::PR_SET_NO_NEW_PRIVS,
            libc::PR_SET_VMA,
        ] {
            assert!(PRCTL_OPTIONS.contains(&(option as u64)));
        }
        for option in [libc::PR_SET_MM, libc::PR_SET_SECUREBITS] {
            assert!(!PRCTL_OPTIONS.contains(&(option as u64)));
        }
    }
}
