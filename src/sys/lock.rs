//! [sys] Locks on open files that end with their last descriptor: fcntl(2), F_OFD_SETLK.

use rustix::fd::{AsFd, AsRawFd};
use std::io::Error;

/// Takes the whole file for writing, for as long as a descriptor of this opening lives.
///
/// Forked children share it; close-on-exec ends it for programs.
///
/// # Errors
/// EAGAIN if somebody has it; else the errno of fcntl(2).
pub fn take(file: impl AsFd) -> Result<(), Error> {
    fcntl(file, libc::F_OFD_SETLK, libc::F_WRLCK).map(drop)
}

/// Whether somebody has taken the file; asking takes nothing.
///
/// # Errors
/// The errno of fcntl(2).
pub fn is_taken(file: impl AsFd) -> Result<bool, Error> {
    let found = fcntl(file, libc::F_OFD_GETLK, libc::F_RDLCK)?;
    Ok(found != libc::F_UNLCK)
}

/// The lock type that the kernel leaves in the argument.
fn fcntl(file: impl AsFd, command: libc::c_int, kind: libc::c_int) -> Result<libc::c_int, Error> {
    // F_OFD commands demand l_pid 0; start and length 0 mean the whole file.
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the kernel reads and writes one struct flock, which is a live local of exactly that
    // type for the length of the call; the descriptor is borrowed, so it is open.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) };
    if answer == -1 {
        Err(Error::last_os_error())
    } else {
        Ok(lock.l_type.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_opening_excludes_another_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("cofferdam-lock-{}", std::process::id()));
        let (first, second) = (
            std::fs::File::create(&path).unwrap(),
            std::fs::File::options().append(true).open(&path).unwrap(),
        );
        let reader = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_taken(&reader).unwrap());
        take(&first).unwrap();
        let copy = first.try_clone().unwrap();
        drop(first);
        assert!(is_taken(&reader).unwrap());
        assert_eq!(
            take(&second).unwrap_err().raw_os_error(),
            Some(libc::EAGAIN)
        );
        drop(copy);
        assert!(!is_taken(&reader).unwrap());
        take(&second).unwrap();
    }
}
