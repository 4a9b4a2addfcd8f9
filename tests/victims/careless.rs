//! A caller that leaks, and a launcher that can forget one control.
//!
//! Some controls of Cofferdam are code and no step of a Plan: nothing printed
//! can leave them out. `careless caller PROGRAM…` becomes PROGRAM after leaving
//! about all that they are for: open descriptors, an ignored and a blocked
//! signal, a key in the session keyring. `careless launch OPTION… PROGRAM…`
//! starts PROGRAM in namespaces of its own with those controls, by the product's
//! own functions where it has one for it, but for those that `--without` names.
//!
//! ```text
//! careless caller careless launch --without signals probe run D-12-ignored-signals
//! ```
//!
//! `--filter PLAN` loads the job's filter of a plan; `--root DIRECTORY` makes it
//! the root and starts in descriptor 10, which lies outside.
#![allow(
    unsafe_code,
    reason = "a few system calls that a caller makes and the product does not"
)]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test program"
)]

use cofferdam::confine::seccomp::{check, compile};
use cofferdam::sandbox::plan::{Op, Plan};
use cofferdam::sys::process::{self, Cloned};
use cofferdam::sys::{caps, exec, mount, seccomp, signal};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

/// Every control that can be forgotten.
const CONTROLS: &[&str] = &[
    "descriptors",
    "dumpable",
    "end",
    "foreign",
    "getcwd",
    "pids",
    "propagation",
    "session",
    "signals",
];

/// What the key is called that a caller leaves in its session keyring.
const KEY: &std::ffi::CStr = c"cofferdam-test";

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let command = arguments.next().unwrap();
    let mut options = Options::default();
    while let Some(option) = arguments.next_if(|one| one.as_encoded_bytes().starts_with(b"--")) {
        let value = arguments.next().unwrap().into_string().unwrap();
        match option.to_str().unwrap() {
            "--without" => options.without.push(value),
            "--filter" => options.filter = Some(value),
            "--root" => options.root = Some(value),
            other => panic!("no option {other}"),
        }
    }
    let known = |name: &String| CONTROLS.contains(&name.as_str());
    assert!(options.without.iter().all(known), "{:?}", options.without);
    let program: Vec<CString> = arguments
        .map(|argument| CString::new(argument.into_vec()).unwrap())
        .collect();
    match command.to_str() {
        Some("caller") => leak(&program),
        Some("launch") => launch(&options, &program),
        _ => panic!("expected caller or launch"),
    }
}

#[derive(Default)]
struct Options {
    without: Vec<String>,
    filter: Option<String>,
    root: Option<String>,
}

impl Options {
    fn has(&self, control: &str) -> bool {
        assert!(CONTROLS.contains(&control), "{control}");
        !self.without.iter().any(|name| name == control)
    }
}

fn environment() -> Vec<CString> {
    std::env::vars_os()
        .map(|(name, value)| {
            let both = [name.into_vec(), value.into_vec()].join(&b'=');
            CString::new(both).unwrap()
        })
        .collect()
}

fn become_program(program: &[CString], environment: &[CString]) -> ! {
    let errno = exec::execve(&program[0], program, environment);
    panic!("{:?}: {errno}", program[0]);
}

/// Descriptor 9 is this program and 10 the root directory, SIGHUP is ignored,
/// SIGUSR1 blocked, and a fresh session keyring holds a key.
fn leak(program: &[CString]) -> ! {
    let own = openat(CWD, "/proc/self/exe", OFlags::RDONLY, Mode::empty()).unwrap();
    let root = openat(CWD, "/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let numbers = [&own, &root].map(rustix::fd::AsRawFd::as_raw_fd);
    process::place(&[(numbers[0], 9), (numbers[1], 10)]).unwrap();
    // SAFETY: SIG_IGN is no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    signal::block_only(&[libc::SIGUSR1]).unwrap();
    process::join_fresh_keyring().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = add_key() {
        // Keys of processes that are gone count until the kernel has collected them.
        let full = error.raw_os_error() == Some(libc::EDQUOT);
        assert!(full && Instant::now() < end, "{error}");
        std::thread::sleep(Duration::from_millis(5));
    }
    become_program(program, &environment())
}

fn add_key() -> std::io::Result<()> {
    // SAFETY: three strings and a length that outlive the call.
    let key = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            KEY.as_ptr(),
            c"secret".as_ptr(),
            6,
            libc::KEY_SPEC_SESSION_KEYRING,
        )
    };
    if key > 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// As the product does: namespaces, a first process, the command below it.
fn launch(options: &Options, program: &[CString]) -> ! {
    let filter = options.filter.as_deref().map(|plan| filter(options, plan));
    enter_user_namespace();
    let kind = if options.has("pids") {
        libc::CLONE_NEWPID
    } else {
        0
    };
    match process::clone_process(kind as u32, false).unwrap() {
        Cloned::Parent(first) => {
            let (exited, code) = process::reap(&first.pidfd).unwrap();
            process::exit_now(if exited { code } else { 125 })
        }
        Cloned::Child => first(options, program, filter.as_deref()),
    }
}

/// The caller's own id, and mounts that are shared with a copy of them.
fn enter_user_namespace() {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    process::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    let one = |id: u32| format!("{id} {id} 1");
    std::fs::write("/proc/self/uid_map", one(uid.as_raw())).unwrap();
    std::fs::write("/proc/self/gid_map", one(gid.as_raw())).unwrap();
    mounted(None, "/", libc::MS_SHARED | libc::MS_REC);
    process::unshare(UnshareFlags::NEWNS).unwrap();
}

fn mounted(kind: Option<&std::ffi::CStr>, at: &str, flags: libc::c_ulong) {
    let at = CString::new(at).unwrap();
    let kind = kind.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: the strings outlive the call, and null is allowed for both.
    let result = unsafe { libc::mount(kind, at.as_ptr(), kind, flags, std::ptr::null()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn first(options: &Options, program: &[CString], filter: Option<&[u8]>) -> ! {
    if options.has("end") {
        process::die_with_parent().unwrap();
    }
    if options.has("propagation") {
        let root = openat(CWD, "/", OFlags::PATH, Mode::empty()).unwrap();
        mount::make_private(root.as_fd()).unwrap();
    }
    if options.has("pids") {
        mounted(Some(c"proc"), "/proc", 0);
    }
    if let Some(root) = &options.root {
        rustix::process::chroot(root.as_str()).unwrap();
    }
    caps::set(0).unwrap();
    if options.has("dumpable") {
        process::set_undumpable().unwrap();
    }
    match process::clone_process(0, false).unwrap() {
        Cloned::Parent(command) => {
            let (exited, code) = process::reap(&command.pidfd).unwrap();
            process::exit_now(if exited { code } else { 125 })
        }
        Cloned::Child => command(options, program, filter),
    }
}

fn command(options: &Options, program: &[CString], filter: Option<&[u8]>) -> ! {
    if options.has("session") {
        rustix::process::setsid().unwrap();
    }
    if options.root.is_some() {
        let outside = process::inherited(10).unwrap();
        rustix::process::fchdir(&outside).unwrap();
        std::mem::forget(outside);
        let now = rustix::process::getcwd(Vec::new()).unwrap();
        let below = now.to_bytes().first() == Some(&b'/');
        assert!(
            below || !options.has("getcwd"),
            "{now:?} is not below the root"
        );
    }
    if options.has("descriptors") {
        let answer: OwnedFd = std::io::pipe().unwrap().1.into();
        std::mem::forget(process::keep_only(answer).unwrap());
    }
    if options.has("signals") {
        signal::block_only(&[]).unwrap();
        signal::reset_all().unwrap();
    }
    if let Some(filter) = filter {
        process::set_no_new_privileges().unwrap();
        seccomp::load(filter, None).unwrap();
    }
    become_program(program, &environment())
}

/// The proven program of a plan's job; without `foreign`, calls through the
/// table of i386 are let through before it is asked.
fn filter(options: &Options, plan: &str) -> Vec<u8> {
    let plan: Plan = serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap();
    let mut filters = plan.steps.iter().filter_map(|step| match &step.op {
        Op::Seccomp { filter } => Some(filter),
        _ => None,
    });
    let filter = filters.next_back().unwrap();
    let program = compile::compile(filter).unwrap();
    let proven = check::prove(filter, program).unwrap().bytes();
    if options.has("foreign") {
        return proven;
    }
    // struct sock_filter: load the architecture; is it AUDIT_ARCH_I386; allow.
    let instructions: [(u16, u8, u8, u32); 3] = [
        (0x20, 0, 0, 4),
        (0x15, 0, 1, 0x4000_0003),
        (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let before = instructions.into_iter().flat_map(|(code, jt, jf, k)| {
        let [c0, c1] = code.to_le_bytes();
        let [k0, k1, k2, k3] = k.to_le_bytes();
        [c0, c1, jt, jf, k0, k1, k2, k3]
    });
    before.chain(proven).collect()
}
