//! [sys] execve(2) and execveat(2) with strings that are already C strings.

use super::process::last_error;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// NULL-terminated pointers to strings that outlive them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// Replaces this process by the file `path`; returns only when that failed.
pub fn execve(path: &CStr, argv: &[CString], environment: &[CString]) -> Errno {
    let argv = pointers(argv);
    let environment = pointers(environment);
    // SAFETY: both arrays end in NULL and point into CStrings that live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Replaces this process by the open file `file`; returns only when that failed.
pub fn fexecve(file: BorrowedFd<'_>, argv: &[CString], environment: &[CString]) -> Errno {
    let argv = pointers(argv);
    let environment = pointers(environment);
    // SAFETY: both arrays end in NULL and point into CStrings that live until
    // the call returns; the path is empty and the descriptor is borrowed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_error()
}
