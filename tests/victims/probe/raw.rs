//! The system calls themselves, and the few things around them that probes share.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One system call by number. Errors are errno values.
pub fn call(number: libc::c_long, arguments: &[u64]) -> Result<i64, i32> {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = six;
    // SAFETY: the probes pass addresses of values that outlive the call, or
    // addresses that are meant to be refused; the process is a throw-away child.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        Err(last())
    } else {
        Ok(result)
    }
}

fn last() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The address of a value, as a system-call argument.
pub fn at<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

/// The address of a value that the kernel fills in.
pub fn at_mut<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>() as u64
}

/// A signed number as an argument: -1 fills the register, as C does.
pub fn signed(number: i32) -> u64 {
    i64::from(number) as u64
}

/// The current directory, as the *at calls take it.
pub const CWD: u64 = libc::AT_FDCWD as i64 as u64;

/// A path as the kernel takes it.
pub fn text(path: impl AsRef<Path>) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

pub fn descriptor(result: Result<i64, i32>) -> Result<OwnedFd, i32> {
    // SAFETY: the call just returned this new descriptor, nobody else has it.
    result.map(|number| unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// openat(2), always close-on-exec and never taking a controlling terminal.
pub fn open(path: impl AsRef<Path>, flags: i32, mode: u32) -> Result<OwnedFd, i32> {
    let path = text(path);
    let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    descriptor(call(
        libc::SYS_openat,
        &[CWD, path.as_ptr() as u64, flags as u64, mode.into()],
    ))
}

pub fn unlink(path: impl AsRef<Path>) -> Result<i64, i32> {
    call(libc::SYS_unlinkat, &[CWD, text(path).as_ptr() as u64, 0])
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>, flags: u32) -> Result<i64, i32> {
    let (from, to) = (text(from), text(to));
    call(
        libc::SYS_renameat2,
        &[
            CWD,
            from.as_ptr() as u64,
            CWD,
            to.as_ptr() as u64,
            flags.into(),
        ],
    )
}

/// stat(2) of a path.
pub fn stat(path: impl AsRef<Path>) -> Result<std::fs::Metadata, i32> {
    std::fs::metadata(path).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// What fork(2) returned.
pub enum Child {
    Here,
    There(i32),
    Failed(i32),
}

pub fn fork() -> Child {
    // SAFETY: the program has one thread, so the child's copy is whole.
    match unsafe { libc::fork() } {
        0 => Child::Here,
        -1 => Child::Failed(last()),
        pid => Child::There(pid),
    }
}

pub fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Waits for a child; the signal that killed it, if one did.
pub fn reap(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: status outlives the call.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1
        && last() == libc::EINTR
    {}
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

/// The exit code of a child, if it exited.
pub fn exit_code(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: status outlives the call.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1
        && last() == libc::EINTR
    {}
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

pub fn kill(pid: i32) {
    // SAFETY: takes no pointers; `pid` is a child we have not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub fn poll_readable(fd: i32, milliseconds: i32) -> bool {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: entry is one pollfd and outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, milliseconds) == 1 }
}

/// A fresh directory that is removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// In the first of these that is writable: /tmp, the workspace, /dev/shm.
    pub fn new(workspace: &str) -> Result<Self, String> {
        let name = format!("probe-{}", std::process::id());
        for parent in ["/tmp", workspace, "/dev/shm"] {
            let path = Path::new(parent).join(&name);
            if std::fs::create_dir(&path).is_ok() {
                return Ok(Self(path));
            }
        }
        Err("no directory is writable".into())
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("probe: {} stays behind: {error}", self.0.display());
        }
    }
}

/// ioctl(2) with the command as wide as the register is.
pub fn ioctl(fd: i32, command: u64, argument: u64) -> Result<i64, i32> {
    call(libc::SYS_ioctl, &[signed(fd), command, argument])
}

/// The number behind a descriptor.
pub fn number(fd: &OwnedFd) -> u64 {
    fd.as_raw_fd() as u64
}
