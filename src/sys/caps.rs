//! [sys] Capability sets of the calling thread: capabilities(7).

use super::process::check;
use rustix::io::Errno;

/// _LINUX_CAPABILITY_VERSION_3
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets effective and permitted to `set`, inheritable to nothing, and clears the ambient set.
///
/// # Errors
/// The errno of capset(2) or prctl(2).
pub fn set(set: u64) -> Result<(), Errno> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |bits: u64| Data {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    let data = [half(set & 0xffff_ffff), half(set >> 32)];
    // SAFETY: version 3 reads one header and two data structures.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })?;
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes integers only.
    check(libc::c_long::from(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    }))
    .map(drop)
}

/// Drops every capability that is not in `keep` from the bounding set.
///
/// The first number the kernel does not know (EINVAL) ends the walk.
///
/// # Errors
/// The errno of prctl(2); EPERM without CAP_SETPCAP.
pub fn bound(keep: u64) -> Result<(), Errno> {
    for number in (0..64u64).filter(|number| keep >> number & 1 == 0) {
        // SAFETY: PR_CAPBSET_DROP takes one integer.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match check(libc::c_long::from(dropped)) {
            Ok(_) => {}
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Keeps the permitted set over a change from uid 0 to others: PR_SET_KEEPCAPS.
///
/// # Errors
/// The errno of prctl(2).
pub fn keep_over_setuid() -> Result<(), Errno> {
    // SAFETY: PR_SET_KEEPCAPS takes one integer.
    check(libc::c_long::from(unsafe {
        libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)
    }))
    .map(drop)
}

fn get() -> Result<[Data; 2], Errno> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 writes two data structures.
    check(unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_ref(&header),
            data.as_mut_ptr(),
        )
    })?;
    Ok(data)
}

/// The permitted set.
///
/// # Errors
/// The errno of capget(2).
pub fn permitted() -> Result<u64, Errno> {
    let [low, high] = get()?;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Makes the whole permitted set survive one execve(2) of a process whose uid
/// is not yet mapped, by way of the ambient set. [`set`] takes that back.
///
/// # Errors
/// The errno of capget(2), capset(2) or prctl(2).
pub fn carry_over_exec() -> Result<(), Errno> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let data = get()?.map(|half| Data {
        inheritable: half.permitted,
        ..half
    });
    // SAFETY: version 3 reads one header and two data structures.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })?;
    let permitted = permitted()?;
    for number in (0..64u64).filter(|number| permitted >> number & 1 == 1) {
        // SAFETY: PR_CAP_AMBIENT_RAISE takes integers only.
        check(libc::c_long::from(unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                number,
                0,
                0,
            )
        }))?;
    }
    Ok(())
}
