//! The compiled filter in the real kernel: what it answers is what the rules say.
//!
//! Each filter is loaded into a thread or child of its own. `unsafe` is here for
//! raw system calls and `fork`, which the library has no reason to offer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]
#![expect(unsafe_code, reason = "raw system calls, in tests only")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cofferdam::confine::seccomp::check::Proven;
use cofferdam::confine::seccomp::preset::{FilterContext, filter};
use cofferdam::confine::seccomp::{Errno as Answered, Filter, Verdict, check, compile};
use cofferdam::linux::syscall::{Arch, Syscall};
use cofferdam::policy::{OnDenied, SyscallProfile, Syscalls};
use cofferdam::source::origin::{Origin, Sourced};
use cofferdam::sys::seccomp::{Wait, load, receive, refuse};
use rustix::io::Errno;
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
        -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        result
    }
}

/// Runs `inside` on a thread of its own under the filter.
fn under<T: Send>(program: &Proven, inside: impl FnOnce() -> T + Send) -> T {
    let confined = || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert!(load(&program.bytes(), None).unwrap().is_none());
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
    let mut other = before;
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
    // Encoded before the fork: the child of a threaded process must not allocate what is held.
    let program = program.bytes();
    // SAFETY: the child only makes system calls until it ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let loaded = rustix::thread::set_no_new_privs(true).is_ok() && load(&program, None).is_ok();
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
        send.send(
            load(&program.bytes(), Some(Wait::Killable))
                .unwrap()
                .unwrap(),
        )
        .unwrap();
        let second = load(&program.bytes(), Some(Wait::Killable)).unwrap_err();
        (call(Syscall::socket.number(here()).unwrap(), args), second)
    };
    let job = std::thread::spawn(confined);
    let listener = listeners.recv().unwrap();
    let told = receive(listener.as_fd()).unwrap();
    assert_eq!((told.arch, told.arguments), (here().audit(), args));
    let name = Syscall::from_number(here(), u32::try_from(told.number).unwrap()).unwrap();
    assert_eq!(name, Syscall::socket);
    let Verdict::Record(errno) = filter.verdict(name, &told.arguments) else {
        panic!("{name}")
    };
    let errno = Errno::from_raw_os_error(errno as i32);
    refuse(listener.as_fd(), told.id, errno).unwrap();
    assert_eq!(job.join().unwrap(), (-97, Errno::BUSY));
    let again = refuse(listener.as_fd(), told.id, errno);
    assert_eq!(again, Err(Errno::NOENT), "answered already");
}

#[test]
fn a_program_that_is_no_program_is_not_loaded() {
    let refused = |bytes: &'static [u8]| {
        std::thread::spawn(move || load(bytes, None).err())
            .join()
            .unwrap()
    };
    assert_eq!(
        refused(&[]),
        Some(Errno::INVAL),
        "an empty program would allow everything"
    );
    assert_eq!(
        refused(&[6, 0, 0, 0, 0, 0, 0xff]),
        Some(Errno::INVAL),
        "cut short"
    );
}
