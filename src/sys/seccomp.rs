//! [sys] Loads proven system-call filters, and speaks with a filter's listener: seccomp(2), seccomp_unotify(2).
#![allow(unsafe_code)]

use crate::confine::seccomp::check::Proven;
use rustix::io::Errno;
use std::fmt;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A seccomp operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Loading a filter.
    Load(Errno),
    /// Receiving a notification.
    Receive(Errno),
    /// Answering a notification.
    Answer(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(_) => write!(out, "cannot load the system-call filter"),
            Self::Receive(_) => write!(out, "cannot receive a refused system call from the filter"),
            Self::Answer(_) => write!(out, "cannot answer a refused system call"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Load(errno) | Self::Receive(errno) | Self::Answer(errno) => Some(errno),
        }
    }
}

/// Whether somebody is told of calls with the verdict `Record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nobody: such calls get ENOSYS.
    None,
    /// The holder of the descriptor that loading returns. A filter stack has at
    /// most one; a second fails with EBUSY.
    New {
        /// Ordinary signals do not interrupt a call that was received
        /// (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 5.19).
        wait_killable: bool,
    },
}

/// Loads a filter for the calling thread and all its later children, for ever.
///
/// The thread must have no_new_privs or CAP_SYS_ADMIN over its user namespace
/// (else EACCES). Other threads of the process are not touched. The listener's
/// descriptor is close-on-exec.
pub fn set_filter(filter: &Proven, listener: Listener) -> Result<Option<OwnedFd>, Error> {
    let flags = match listener {
        Listener::None => 0,
        Listener::New {
            wait_killable: false,
        } => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        Listener::New {
            wait_killable: true,
        } => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    };
    let program = filter.program();
    let len = u16::try_from(program.len()).map_err(|_| Error::Load(Errno::INVAL))?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` points to `len` instructions that outlive the call;
    // `Insn` is repr(C) with the fields of `sock_filter`; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const program,
        )
    };
    match (i32::try_from(result), listener) {
        (Ok(0), Listener::None) => Ok(None),
        // SAFETY: with NEW_LISTENER the kernel returned a descriptor that it
        // made for this call, and nothing else owns it.
        (Ok(fd), Listener::New { .. }) if fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Err(Error::Load(last())),
    }
}

/// `struct seccomp_data`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// System call number.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the caller was.
    pub instruction_pointer: u64,
    /// Register arguments. What a pointer among them points to belongs to the
    /// caller and can change at any time.
    pub args: [u64; 6],
}

/// A call that waits for an answer: `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// Names it in the answer; unique for the listener's life.
    pub id: u64,
    /// The calling thread, in the pid namespace of the reader; 0 if it has none there.
    pub pid: u32,
    flags: u32,
    /// What is called.
    pub call: Call,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: libc::Ioctl = request(0, size_of::<Notification>());
const ANSWER: libc::Ioctl = request(1, size_of::<Answer>());

/// SECCOMP_IOWR(nr, type): both directions, group '!'.
const fn request(nr: u32, size: usize) -> libc::Ioctl {
    (3 << 30 | (size as u32) << 16 | (b'!' as u32) << 8 | nr) as libc::Ioctl
}

/// Waits for the next notification. `None` when there is none after all: the
/// caller was killed between poll and read, or a signal came. Blocks where
/// nothing waits, O_NONBLOCK or not, so poll first.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>, Error> {
    let mut notification = Notification::default();
    // SAFETY: the request is the kernel's for this size of buffer, which is
    // zeroed as the kernel demands, exclusively borrowed and writable.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notification) };
    if result == 0 {
        return Ok(Some(notification));
    }
    match last() {
        Errno::NOENT | Errno::INTR => Ok(None),
        errno => Err(Error::Receive(errno)),
    }
}

/// Makes the call fail with `errno` (a positive number of errno(3)), or return 0 for 0.
/// `false` when the caller no longer waits.
pub fn refuse(listener: BorrowedFd<'_>, id: u64, errno: u16) -> Result<bool, Error> {
    let answer = Answer {
        id,
        val: 0,
        error: -i32::from(errno),
        flags: 0,
    };
    // SAFETY: the request is the kernel's for this size of buffer, which the
    // kernel only reads.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), ANSWER, &raw const answer) };
    if result == 0 {
        return Ok(true);
    }
    match last() {
        Errno::NOENT => Ok(false),
        errno => Err(Error::Answer(errno)),
    }
}

/// The calling thread's errno, after a call that failed.
fn last() -> Errno {
    let raw = std::io::Error::last_os_error()
        .raw_os_error()
        .filter(|&raw| raw > 0);
    raw.map_or(Errno::INVAL, Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::seccomp::preset::{FilterContext, filter};
    use crate::confine::seccomp::{Errno as Answered, Filter, Verdict, check, compile};
    use crate::linux::syscall::{Arch, Syscall};
    use crate::policy::{OnDenied, SyscallProfile, Syscalls};
    use crate::source::origin::{Origin, Sourced};
    use std::os::fd::AsFd;
    use std::sync::mpsc;

    fn here() -> Arch {
        Arch::from_machine(std::env::consts::ARCH).unwrap()
    }

    fn proven(profile: SyscallProfile, on_denied: OnDenied) -> (Filter, Proven) {
        let always = |value| Sourced::new(value, Origin::Always);
        let on_denied = Sourced::new(on_denied, Origin::Always);
        let policy = Syscalls {
            profile: always(profile),
            allow: vec![],
            deny: vec![],
            on_denied,
        };
        let context = FilterContext {
            arch: here(),
            writable_host_dir: false,
            refuse_memfd: false,
            refuse_affinity: false,
            notify_available: true,
        };
        let filter = filter(&policy, &context).unwrap();
        let program = check::prove(&filter, compile::compile(&filter).unwrap()).unwrap();
        (filter, program)
    }

    /// The result, or the negative errno.
    fn call(number: u32, args: [u64; 6]) -> i64 {
        let [a, b, c, d, e, f] = args;
        // SAFETY: the tests pass numbers and null or invalid pointers only, to
        // calls that are refused or change nothing of this process.
        let result = unsafe { libc::syscall(number.into(), a, b, c, d, e, f) };
        if result == -1 {
            -i64::from(last().raw_os_error())
        } else {
            result
        }
    }

    /// Runs `inside` on a thread of its own under the filter.
    fn under<T: Send>(program: &Proven, inside: impl FnOnce() -> T + Send) -> T {
        let confined = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(set_filter(program, Listener::None).unwrap().is_none());
            inside()
        };
        std::thread::scope(|scope| scope.spawn(confined).join().unwrap())
    }

    #[test]
    fn the_kernel_answers_what_the_rules_say() {
        use Syscall::*;
        let refused: &[(Syscall, [u64; 6])] = &[
            (bpf, [u64::MAX, 0, 0, 0, 0, 0]),
            (io_uring_setup, [0; 6]),
            (keyctl, [0; 6]),
            (mount, [0; 6]),
            (clone3, [0; 6]),
            (unshare, [0x1000_0000, 0, 0, 0, 0, 0]),
            (clone, [0xdead_0000_1000_0011, 0, 0, 0, 0, 0]),
            (ioctl, [u64::MAX, 0x1_0000_5412, 0, 0, 0, 0]),
            (setsockopt, [u64::MAX, 6, 31, 0, 0, 0]),
            (socket, [38, 5, 0, 0, 0, 0]),
            (socket, [2, 3, 1, 0, 0, 0]),
            (ptrace, [u64::MAX, 0, 0, 0, 0, 0]),
            (memfd_secret, [u64::MAX, 0, 0, 0, 0, 0]),
        ];
        for profile in [SyscallProfile::Strict, SyscallProfile::Job] {
            let (filter, program) = proven(profile, OnDenied::Errno);
            under(&program, || {
                for (name, args) in refused {
                    let Verdict::Errno(errno) = filter.verdict(*name, args) else {
                        panic!("{name}")
                    };
                    let number = name.number(here()).unwrap();
                    assert_eq!(call(number, *args), -(errno as i64), "{name}, {profile:?}");
                }
                let enosys = -(Answered::ENOSYS as i64);
                for number in [472, 4095, 0x4000_0000, 0x4000_0027, 0x7fff_ffff] {
                    assert_eq!(call(number, [0; 6]), enosys, "{number:#x}");
                }
                assert_eq!(
                    call(getpid.number(here()).unwrap(), [0; 6]),
                    i64::from(std::process::id())
                );
            });
        }
    }

    #[test]
    fn the_core_limit_seems_to_change_and_does_not() {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let (_, program) = proven(SyscallProfile::Job, OnDenied::Errno);
        let before = getrlimit(Resource::Core);
        let mut other = before.clone();
        other.current = Some(before.current.map_or(0, |soft| soft / 2 + 1));
        let after = under(&program, || {
            setrlimit(Resource::Core, other).unwrap();
            getrlimit(Resource::Core)
        });
        assert_eq!(before, after);
    }

    /// S-02. Without CONFIG_IA32_EMULATION the instruction itself faults.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn an_i386_call_kills_the_process() {
        use rustix::process::{Pid, WaitOptions, waitpid};
        let (_, program) = proven(SyscallProfile::Job, OnDenied::Errno);
        // SAFETY: the child only makes system calls until it ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let loaded = rustix::thread::set_no_new_privs(true).is_ok()
                && set_filter(&program, Listener::None).is_ok();
            // SAFETY: getpid of i386 takes no arguments and changes rax alone.
            unsafe { std::arch::asm!("int 0x80", inout("rax") 20_u64 => _) };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(loaded)) };
        }
        let (_, status) = waitpid(Pid::from_raw(child), WaitOptions::empty())
            .unwrap()
            .unwrap();
        let signal = status.terminating_signal();
        assert!(
            matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)),
            "{status:?}"
        );
    }

    #[test]
    fn a_recorded_call_is_told_and_answered() {
        let (filter, program) = proven(SyscallProfile::Job, OnDenied::Record);
        let (send, listeners) = mpsc::channel();
        let args = [38, 5, 0, 0, 0, 0];
        let confined = move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let listener = Listener::New {
                wait_killable: false,
            };
            send.send(set_filter(&program, listener).unwrap().unwrap())
                .unwrap();
            let second = set_filter(&program, listener).unwrap_err();
            (call(Syscall::socket.number(here()).unwrap(), args), second)
        };
        let job = std::thread::spawn(confined);
        let listener = listeners.recv().unwrap();
        let notification = receive(listener.as_fd()).unwrap().unwrap();
        let Call {
            number,
            arch,
            args: seen,
            ..
        } = notification.call;
        assert_eq!((arch, seen), (here().audit(), args));
        let name = Syscall::from_number(here(), number).unwrap();
        assert_eq!(name, Syscall::socket);
        let Verdict::Record(errno) = filter.verdict(name, &seen) else {
            panic!("{name}")
        };
        assert!(refuse(listener.as_fd(), notification.id, errno as u16).unwrap());
        assert_eq!(job.join().unwrap(), (-97, Error::Load(Errno::BUSY)));
        assert!(
            !refuse(listener.as_fd(), notification.id, 1).unwrap(),
            "answered already"
        );
    }
}
