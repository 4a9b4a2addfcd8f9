//! Posture against sandboxes that run on this kernel, as an ordinary user and as root.
//!
//! A launcher must be one thread, so each case runs in a process of its own:
//! this program again, with the case's name in the environment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use cofferdam::cli::context::maskable;
use cofferdam::cli::posture::{PostureArgs, Target, run};
use cofferdam::confine::idmap::IMAGE_IDS;
use cofferdam::host::facts::{Caller, Cgroup, Facts, IdRange};
use cofferdam::host::probe::{ProbeRequest, probe};
use cofferdam::linux::capability::Capability;
use cofferdam::policy::{Access, Policy};
use cofferdam::posture::observation::{Class, Role};
use cofferdam::posture::{Difference, differences, observe};
use cofferdam::sandbox::launch::{
    Keeper, Launch, LaunchError, Program, Running, launch, privileged,
};
use cofferdam::sandbox::plan::{Op, Plan, plan};
use cofferdam::sandbox::request::{HostObject, Protected, Request, Workspace};
use cofferdam::source::origin::Origin;
use cofferdam::sys::process::reap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

const CASE: &str = "COFFERDAM_TEST_CASE";

struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// The first account that has subordinate ids.
fn account() -> Option<Account> {
    let subuid = std::fs::read_to_string("/etc/subuid").ok()?;
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    subuid
        .lines()
        .filter_map(|line| line.split(':').next())
        .find_map(|name| {
            let fields: Vec<&str> = passwd
                .lines()
                .find(|line| line.split(':').next() == Some(name))?
                .split(':')
                .collect();
            let uid = fields.get(2)?.parse().ok()?;
            let gid = fields.get(3)?.parse().ok()?;
            (uid != 0).then(|| Account {
                name: name.to_owned(),
                uid,
                gid,
            })
        })
}

/// Runs one case in a process of its own, as this user and, from root, as an ordinary one too.
fn everywhere(test: &str) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    alone(test, None);
    if rustix::process::geteuid().is_root() {
        match account() {
            Some(account) => alone(test, Some(&account)),
            None => eprintln!("SKIPPED as an ordinary user: nobody has subordinate ids"),
        }
    }
}

fn alone(test: &str, account: Option<&Account>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE, test);
    command.current_dir("/");
    let who = match account {
        Some(account) => {
            command
                .uid(account.uid)
                .gid(account.gid)
                .env("HOME", "/")
                .env("USER", &account.name);
            account.name.as_str()
        }
        None => "this user",
    };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} as {who}: {text}");
    assert!(
        text.contains("case done"),
        "{test} as {who} did nothing: {text}"
    );
}

fn is_case(test: &str) -> bool {
    std::env::var(CASE).is_ok_and(|case| case == test)
}

fn request(argv: &[&str]) -> Request {
    Request {
        name: "posture".to_owned(),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        rootfs: None,
        workspace: None,
        mounts: vec![],
        environment: vec![],
        workdir: None,
        user: None,
        hostname: None,
        terminal: [false; 3],
        pid1: false,
        layers: None,
        keep: false,
        masked: std::collections::BTreeMap::new(),
    }
}

/// A sandbox, and who holds it: this process, or a supervisor that root started.
struct Sandbox {
    plan: Plan,
    gateway: i32,
    init: i32,
    held: Held,
}

enum Held {
    Own(Running),
    /// Ends when the stream is shut down.
    Supervised(UnixStream, std::thread::JoinHandle<()>),
}

/// This host; by root, with the first id of root's range as the caller, as `run` does.
fn facts() -> Facts {
    let mut facts = probe(&ProbeRequest {
        maskable: &maskable(),
        ..ProbeRequest::default()
    })
    .unwrap();
    // Not what is tested here, and made by other rooms.
    facts.cgroup = Cgroup::None {
        why: "not asked for".to_owned(),
    };
    if facts.privileged {
        let rest = |range: IdRange| IdRange {
            start: range.start + 1,
            count: range.count.saturating_sub(1).min(IMAGE_IDS + 1),
        };
        let (uids, gids) = (
            facts.subordinate.uids.unwrap(),
            facts.subordinate.gids.unwrap(),
        );
        facts.subordinate.uids = Some(rest(uids));
        facts.subordinate.gids = Some(rest(gids));
        facts.caller = Caller {
            uid: uids.start,
            gid: gids.start,
            name: None,
            passwd_gid: None,
            home: None,
            supplementary_groups: false,
        };
    }
    facts
}

fn launched(
    plan: &Plan,
    keeper: Keeper<'_>,
    handed: &[OwnedFd],
    stdio: impl Fn() -> OwnedFd,
) -> Running {
    let program = Program::open(&env!("CARGO_BIN_EXE_cofferdam-init").into()).unwrap();
    let launched: Result<_, LaunchError> = launch(
        Launch {
            plan,
            program: &program,
            stdio: [stdio(), stdio(), stdio()],
            cgroup: None,
            keeper,
            size: None,
            handed,
        },
        |_| Ok(()),
    );
    launched.unwrap()
}

fn stop(running: Running) {
    let Running {
        gateway,
        init,
        gateway_socket,
        init_socket,
        ..
    } = running;
    drop((gateway_socket, init_socket));
    reap(&init.pidfd).unwrap();
    reap(&gateway.pidfd).unwrap();
}

/// Root's way: a supervisor without root's rights, served from a thread of its own.
fn supervised(plan: Plan, stdio: fn() -> OwnedFd) -> Sandbox {
    let (mine, theirs) = UnixStream::pair().unwrap();
    let copy = plan.clone();
    let thread = std::thread::spawn(move || {
        let handed = privileged::open_sources(&copy).unwrap();
        let work = |launcher: &OwnedFd| {
            let running = launched(&copy, Keeper::Launcher(launcher), &handed, stdio);
            for pid in [running.gateway.pid, running.init.pid] {
                (&theirs).write_all(&pid.to_ne_bytes()).unwrap();
            }
            // Returns when the test has shut its end down.
            (&theirs).read_to_end(&mut Vec::new()).unwrap();
            stop(running);
            [0; 16]
        };
        privileged::as_unprivileged(&copy, None, work, || Ok(())).unwrap();
    });
    let pid = || {
        let mut bytes = [0; 4];
        (&mine).read_exact(&mut bytes).unwrap();
        i32::from_ne_bytes(bytes)
    };
    let (gateway, init) = (pid(), pid());
    Sandbox {
        plan,
        gateway,
        init,
        held: Held::Supervised(mine, thread),
    }
}

impl Sandbox {
    fn start(argv: &[&str], stdio: fn() -> OwnedFd) -> Self {
        Self::of(&request(argv), stdio)
    }

    fn of(request: &Request, stdio: fn() -> OwnedFd) -> Self {
        let policy = Policy::preset("untrusted").unwrap();
        let facts = facts();
        let plan = plan(&policy, request, &facts).unwrap();
        if facts.privileged {
            return supervised(plan, stdio);
        }
        let helpers = facts
            .subordinate
            .newuidmap
            .as_deref()
            .zip(facts.subordinate.newgidmap.as_deref());
        let running = launched(&plan, Keeper::Own { helpers }, &[], stdio);
        Self {
            plan,
            gateway: running.gateway.pid,
            init: running.init.pid,
            held: Held::Own(running),
        }
    }

    fn observe(&self) -> cofferdam::posture::observation::Observation {
        observe(self.gateway, self.init).unwrap()
    }

    /// What `cofferdam posture` exits with.
    fn command(&self, json: bool) -> u8 {
        let target = Target {
            supervisor_pid: None,
            gateway_pid: self.gateway,
            init_pid: self.init,
            plan: self.plan.clone(),
        };
        run(
            &PostureArgs {
                name: self.plan.name.clone(),
                all: !json,
                json,
            },
            &target,
        )
    }

    fn differences(&self) -> Vec<Difference> {
        differences(&self.plan, &self.observe())
    }

    /// Waits until this many processes of the job are there.
    fn settle(&self, jobs: usize) {
        for _ in 0..500 {
            let found = self.observe();
            if found
                .processes
                .iter()
                .filter(|process| process.role == Role::Job)
                .count()
                >= jobs
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the job has not started {jobs} processes");
    }

    fn end(self) {
        match self.held {
            Held::Own(running) => stop(running),
            Held::Supervised(stream, thread) => {
                stream.shutdown(Shutdown::Both).unwrap();
                thread.join().unwrap();
            }
        }
        println!("case done");
    }
}

fn null() -> OwnedFd {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

#[test]
fn a_sandbox_is_as_planned() {
    if !is_case("a_sandbox_is_as_planned") {
        return everywhere("a_sandbox_is_as_planned");
    }
    let sandbox = Sandbox::start(&["sh", "-c", "sleep 60 | sleep 60"], null);
    sandbox.settle(3);
    let observation = sandbox.observe();
    assert_eq!(differences(&sandbox.plan, &observation), []);
    let roles: Vec<Role> = observation
        .processes
        .iter()
        .map(|process| process.role)
        .collect();
    assert_eq!(
        roles,
        [Role::Gateway, Role::Init, Role::Job, Role::Job, Role::Job]
    );
    let init = &observation.processes[1];
    assert!(
        init.threads[0]
            .descriptors
            .iter()
            .any(|fd| fd.class == Class::Socket)
    );
    assert!(!observation.mount_tables[init.mounts].is_empty());
    assert_eq!(sandbox.command(false), 0);
    assert_eq!(sandbox.command(true), 0);
    sandbox.end();
}

#[test]
fn a_terminal_and_a_workspace_are_as_planned() {
    if !is_case("a_terminal_and_a_workspace_are_as_planned") {
        return everywhere("a_terminal_and_a_workspace_are_as_planned");
    }
    if rustix::process::geteuid().is_root() {
        return println!("case done: root has no writable workspace of its own");
    }
    let directory = std::env::temp_dir().join(format!("posture-{}", std::process::id()));
    std::fs::create_dir_all(directory.join(".git/hooks")).unwrap();
    let stat = rustix::fs::stat(&directory).unwrap();
    let path = directory.to_str().unwrap().to_owned();
    let protected = |path: &str, existing| Protected {
        path: path.to_owned(),
        existing,
        directory: true,
        origin: Origin::Always,
    };
    let workspace = Workspace {
        object: HostObject {
            path: path.clone(),
            device: stat.st_dev,
            inode: stat.st_ino,
            directory: true,
            uid: stat.st_uid,
            gid: stat.st_gid,
        },
        inside: path,
        access: Access::Rw,
        protected: vec![protected(".git/hooks", 2)],
        sockets: vec![],
        origin: Origin::Always,
    };
    let request = Request {
        workspace: Some(workspace),
        terminal: [true; 3],
        ..request(&["sleep", "60"])
    };
    let sandbox = Sandbox::of(&request, null);
    let observation = sandbox.observe();
    assert_eq!(differences(&sandbox.plan, &observation), []);
    let job = observation
        .processes
        .iter()
        .find(|process| process.role == Role::Job)
        .unwrap();
    assert!(
        job.threads[0]
            .descriptors
            .iter()
            .all(|found| found.class == Class::Terminal)
    );
    sandbox.end();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_plan_that_asks_for_something_else_differs() {
    if !is_case("a_plan_that_asks_for_something_else_differs") {
        return everywhere("a_plan_that_asks_for_something_else_differs");
    }
    let mut sandbox = Sandbox::start(&["sleep", "60"], null);
    let planned = sandbox.plan.clone();
    type Change = (&'static str, fn(&mut Op));
    let changes: [Change; 5] = [
        ("capabilities", |op| {
            if let Op::Capabilities {
                init,
                job,
                bounding,
            } = op
            {
                for set in [init, job, bounding] {
                    set.insert(Capability::SYS_CHROOT);
                }
            }
        }),
        ("uid map", |op| {
            if let Op::JobUser { uids, .. } = op {
                uids[0].inside += 1;
            }
        }),
        ("limit Max open files", |op| {
            if let Op::Rlimits { limits } = op {
                limits
                    .iter_mut()
                    .for_each(|(_, soft, hard)| (*soft, *hard) = (0, 0));
            }
        }),
        ("mount /tmp", |op| {
            if let Op::Tmpfs { attributes, .. } = op {
                attributes.no_exec = true;
            }
        }),
        ("mount /usr", |op| {
            if let Op::Bind { path, .. } = op {
                path.push_str("-elsewhere");
            }
        }),
    ];
    for (what, change) in changes {
        sandbox.plan = planned.clone();
        sandbox
            .plan
            .steps
            .iter_mut()
            .for_each(|step| change(&mut step.op));
        let found = sandbox.differences();
        assert!(
            found.iter().any(|found| found.what.contains(what)),
            "{what}: {found:?}"
        );
    }
    sandbox.end();
}

#[test]
fn a_descriptor_of_the_host_inside_differs() {
    if !is_case("a_descriptor_of_the_host_inside_differs") {
        return everywhere("a_descriptor_of_the_host_inside_differs");
    }
    for (stdio, class) in [
        (
            (|| std::fs::File::open("/etc/passwd").unwrap().into()) as fn() -> OwnedFd,
            "file",
        ),
        (|| std::fs::File::open("/").unwrap().into(), "directory"),
        (
            || std::os::unix::net::UnixStream::pair().unwrap().0.into(),
            "socket",
        ),
    ] {
        let sandbox = Sandbox::start(&["sleep", "60"], stdio);
        let found = sandbox.differences();
        let of_job: Vec<_> = found
            .iter()
            .filter(|found| found.process.starts_with("job"))
            .collect();
        assert_eq!(of_job.len(), 3, "{class}: {found:?}");
        assert!(
            of_job.iter().all(|found| found.actual.starts_with(class)),
            "{class}: {found:?}"
        );
        sandbox.end();
    }
}

#[test]
fn a_leader_that_has_ended_hides_no_thread() {
    if !is_case("a_leader_that_has_ended_hides_no_thread") {
        return everywhere("a_leader_that_has_ended_hides_no_thread");
    }
    let script = "import ctypes,threading,time\n\
        threading.Thread(target=time.sleep,args=(60,)).start()\n\
        ctypes.CDLL(None).pthread_exit(None)";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return println!("SKIPPED, case done: no python3");
    }
    let sandbox = Sandbox::start(&["python3", "-c", script], null);
    for _ in 0..500 {
        let observation = sandbox.observe();
        let found = observation
            .processes
            .iter()
            .find(|process| process.role == Role::Job);
        // Between fork and exec of the job there may be none.
        let Some(job) = found else { continue };
        let leader = job
            .threads
            .iter()
            .any(|thread| thread.status.tid == job.pid && thread.status.state != 'Z');
        if !leader && !job.threads.is_empty() {
            assert_eq!(differences(&sandbox.plan, &observation), []);
            return sandbox.end();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the leader did not end");
}

/// Waits until python has done what it was told and sleeps.
fn python(script: &str) -> Option<Sandbox> {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        println!("SKIPPED, case done: no python3");
        return None;
    }
    let script = format!(
        "import ctypes,os,socket,threading,time\n{script}\nr=open('/tmp/ready','w')\ntime.sleep(60)"
    );
    let sandbox = Sandbox::start(&["python3", "-c", &script], null);
    for _ in 0..500 {
        let job = sandbox.observe();
        let job = job
            .processes
            .iter()
            .find(|process| process.role == Role::Job);
        let opened = |name: &str| {
            job.is_some_and(|job| {
                let mut all = job.threads.iter().flat_map(|thread| &thread.descriptors);
                all.any(|descriptor| descriptor.target == name)
            })
        };
        if opened("/tmp/ready") {
            return Some(sandbox);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("python did not get ready");
}

#[test]
fn a_job_that_is_not_dumpable_hides_nothing() {
    if !is_case("a_job_that_is_not_dumpable_hides_nothing") {
        return everywhere("a_job_that_is_not_dumpable_hides_nothing");
    }
    let script = "ctypes.CDLL(None).prctl(4,0,0,0,0); d=os.open('/usr',0); s=socket.socketpair()";
    let Some(sandbox) = python(script) else {
        return;
    };
    let observation = sandbox.observe();
    assert_eq!(differences(&sandbox.plan, &observation), []);
    let job = observation
        .processes
        .iter()
        .find(|process| process.role == Role::Job)
        .unwrap();
    let descriptors = &job.threads[0].descriptors;
    let of = |class: &Class| {
        descriptors
            .iter()
            .filter(|found| found.class == *class)
            .count()
    };
    assert_eq!(
        (of(&Class::Directory), of(&Class::Socket), of(&Class::Null)),
        (1, 2, 3)
    );
    sandbox.end();
}

#[test]
fn threads_with_sockets_are_read_each() {
    if !is_case("threads_with_sockets_are_read_each") {
        return everywhere("threads_with_sockets_are_read_each");
    }
    let script = "s=socket.socket(); t=threading.Thread(target=time.sleep,args=(60,)); t.start()";
    let Some(sandbox) = python(script) else {
        return;
    };
    let observation = sandbox.observe();
    assert_eq!(differences(&sandbox.plan, &observation), []);
    let job = observation
        .processes
        .iter()
        .find(|process| process.role == Role::Job)
        .unwrap();
    assert_eq!(job.threads.len(), 2);
    for thread in &job.threads {
        assert!(
            thread
                .descriptors
                .iter()
                .any(|found| found.class == Class::Socket)
        );
    }
    sandbox.end();
}

#[test]
fn what_is_no_sandbox_is_an_error() {
    if !is_case("what_is_no_sandbox_is_an_error") {
        return everywhere("what_is_no_sandbox_is_an_error");
    }
    let own = rustix::process::getpid().as_raw_pid();
    assert!(observe(own, own).is_err(), "our own user namespace");
    let sandbox = Sandbox::start(&["sleep", "60"], null);
    let error = observe(sandbox.gateway, own).unwrap_err();
    assert!(
        error.to_string().contains("not init of this sandbox"),
        "{error}"
    );
    assert!(observe(i32::MAX, sandbox.init).is_err());
    sandbox.end();
}
