//! [host] `cofferdam run`: policy, request, plan, then one sandbox to its end.

use crate::cli::args::SandboxArgs;
use crate::cli::context::{Context, known_calls};
use crate::cli::output::{note, print};
use crate::cli::problem::{Problem, REFUSED};
use crate::cli::request;
use crate::cli::{policy_file, ports};
use crate::confine::idmap::IMAGE_IDS;
use crate::host::facts::{Caller, Facts, IdRange};
use crate::policy::flags::variables;
use crate::policy::{Access, IdMode};
use crate::sandbox::message::Status;
use crate::sandbox::plan::{self, Plan};
use crate::sandbox::request::Request;
use crate::source::diagnostic::Diagnostic;
use crate::source::text::Source;
use crate::supervise::outcome::{Ended, Outcome};
use crate::supervise::recover::recover;
use crate::supervise::serve::Session;
use crate::supervise::slices::Slice;
use crate::supervise::terminal;
use rustix::fd::OwnedFd;

/// The time limit ended the job.
const TIMED_OUT: u8 = 124;

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Run an untrusted job and wait for it",
    after_help = "Examples:\n  cofferdam run -w . -- make                     a build; the job may write this directory\n  cofferdam run -w .:copy -- ./configure         …writes are thrown away at the end\n  cofferdam run -p strict -w .:ro -- ./checker   a program that only reads and computes\n  cofferdam run --allow registry.example.com -w . -- make deps   …TLS to that name and nowhere else\n  cofferdam run -d --name web -- ./server        in the background; see ps, logs, stop\n  cofferdam run -d --publish 8080:80 --name web -- busybox httpd -f -p 80\n                                                 …reached at 127.0.0.1:8080\n\nExit code: the command's own, 128+n for signal n, 124 at the time limit, 126 and 127 when the\ncommand cannot be executed or found, 125 when Cofferdam failed or refused."
)]
pub struct Args {
    /// What is run, and how it is confined
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    /// Run in the background and print the name
    #[arg(short, long)]
    pub detach: bool,
    /// With --detach: leave stdin open instead of at its end
    #[arg(short, long, requires = "detach")]
    pub interactive: bool,
    /// Print the head of plan and event log at the end, for `verify --head`
    #[arg(long)]
    pub head: bool,
}

/// A sandbox that is ready to start.
#[derive(Debug)]
pub struct Prepared {
    /// Caller and host.
    pub context: Context,
    /// The plan.
    pub plan: Plan,
    /// The ids that are this sandbox's alone.
    pub slice: Option<Slice>,
}

/// Policy, request and plan; what `plan` prints and `run` does.
///
/// # Errors
/// Everything that is wrong with any of the three.
pub fn prepare(args: &SandboxArgs, terminal: [bool; 3]) -> Result<Prepared, Problem> {
    let context = Context::new()?;
    let calls = known_calls();
    let reading = context.reading(&calls);
    let mut from_files = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problem::line(format!("--env-file {}: {error}", path.display())))?;
        from_files.extend(variables(&Source::file(&path.to_string_lossy(), &text))?);
    }
    let mut flags = args
        .flags(from_files, |name| std::env::var(name).ok())
        .map_err(|error| Problem::line(format!("--env: {error}")))?;
    for mount in &mut flags.mounts {
        mount.source = request::mount_source(&mount.source)?;
    }
    let policy = policy_file::load(&args.policy, &flags, &reading)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => made_up_name()?,
    };
    let request = request::request(args, name, &policy, &context, &reading.forbidden, terminal)?;
    let mut context = context;
    let slice = if policy.ids.mode.value == IdMode::Exclusive {
        let size = policy.ids.exclusive_size.value;
        let slice = Slice::take(&context.places, &context.facts.subordinate, size)
            .map_err(|error| Problem::line(error.to_string()))?;
        context.facts.subordinate = slice.ids.clone();
        Some(slice)
    } else {
        None
    };
    if context.facts.privileged {
        context.facts = act_for(context.facts, &request)?;
    }
    let plan = plan::plan(&policy, &request, &context.facts)?;
    Ok(Prepared {
        context,
        plan,
        slice,
    })
}

/// Started by root, a sandbox has the rights of the workspace's owner, or of the
/// first id of root's range; the rest of the range are its subordinate ids.
fn act_for(mut facts: Facts, request: &Request) -> Result<Facts, Problem> {
    let (Some(uids), Some(gids)) = (facts.subordinate.uids, facts.subordinate.gids) else {
        return Err(Problem::line("root has no range of ids for sandboxes"));
    };
    let writable = request
        .workspace
        .as_ref()
        .filter(|workspace| workspace.access == Access::Rw);
    let (uid, gid, first) = match writable {
        Some(workspace) => (workspace.object.uid, workspace.object.gid, 0),
        None => (uids.start, gids.start, 1),
    };
    let rest = |range: IdRange| IdRange {
        start: range.start + first,
        count: range.count.saturating_sub(first).min(IMAGE_IDS + 1),
    };
    facts.subordinate.uids = Some(rest(uids));
    facts.subordinate.gids = Some(rest(gids));
    facts.caller = Caller {
        uid,
        gid,
        name: None,
        passwd_gid: None,
        home: None,
        supplementary_groups: false,
    };
    Ok(facts)
}

/// `job-` and 40 random bits in base 32.
fn made_up_name() -> Result<String, Problem> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Problem::line(format!("getrandom: {errno}")))?;
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    let name = bytes
        .iter()
        .map(|byte| char::from(letters[usize::from(byte & 31)]));
    Ok(format!("job-{}", name.collect::<String>()))
}

/// Runs and gives the exit code.
pub fn run(args: &Args) -> u8 {
    match attempt(args) {
        Ok(code) => code,
        Err(problem) => problem.report(),
    }
}

fn attempt(args: &Args) -> Result<u8, Problem> {
    let terminal = if args.sandbox.tty {
        [true; 3]
    } else if args.detach {
        [false; 3]
    } else {
        terminal::terminals()
    };
    let mut prepared = prepare(&args.sandbox, terminal)?;
    let recovered = recover(&prepared.context.places, prepared.context.helpers())?;
    for name in recovered {
        note(&format!(
            "cofferdam: cleaned up after sandbox {name}, whose supervisor was killed"
        ));
    }
    tell_degraded(&prepared.plan);
    let ports = ports::open(&mut prepared.plan)?;
    if args.detach {
        detach(args, &prepared, ports)
    } else {
        foreground(args, &prepared, ports)
    }
}

/// One line, whatever is degraded.
fn tell_degraded(plan: &Plan) {
    let weaker: Vec<&str> = plan
        .controls
        .iter()
        .filter(|control| control.degraded.is_some())
        .map(|control| control.control.as_str())
        .collect();
    if !weaker.is_empty() {
        note(&format!(
            "cofferdam: weaker than asked on this host: {}; see cofferdam doctor",
            weaker.join(", ")
        ));
    }
}

fn session<'a>(args: &Args, prepared: &'a Prepared) -> Session<'a> {
    Session {
        plan: &prepared.plan,
        places: &prepared.context.places,
        cgroup: &prepared.context.facts.cgroup,
        helpers: prepared.context.helpers(),
        detached: args.detach,
        interactive: args.interactive,
        keep: args.sandbox.keep,
        privileged: prepared.context.facts.privileged,
        tell: |error| Problem::from(error).report(),
    }
}

fn foreground(args: &Args, prepared: &Prepared, ports: Vec<OwnedFd>) -> Result<u8, Problem> {
    let session = session(args, prepared);
    let ended = session.run(ports, || Ok(()))?;
    keep_slice(prepared, &session)?;
    tell_end(args, &session, &ended);
    exit_code(&ended)
}

/// Ids of files that are kept stay with them.
fn keep_slice(prepared: &Prepared, session: &Session<'_>) -> Result<(), Problem> {
    match (session.kept(), &prepared.slice) {
        (Some(_), Some(slice)) => slice.keep(&prepared.plan.name).map_err(|errno| {
            Problem::line(format!("ids.mode = \"exclusive\": keep the slice: {errno}"))
        }),
        _ => Ok(()),
    }
}

fn tell_end(args: &Args, session: &Session<'_>, ended: &Ended) {
    let name = &session.plan.name;
    if ended.refusals > 0 {
        let noun = if ended.refusals == 1 {
            "refusal"
        } else {
            "refusals"
        };
        note(&format!(
            "{} {noun}: cofferdam explain {name}",
            ended.refusals
        ));
    }
    if let Some(kept) = session.kept() {
        note(&format!("cofferdam: kept what the job wrote: {kept}"));
    }
    if args.head {
        note(&format!("cofferdam: head {name} {}", ended.head));
    }
}

fn exit_code(ended: &Ended) -> Result<u8, Problem> {
    match ended.outcome {
        Outcome::Exited(status) => Ok(status.exit_code()),
        Outcome::TimedOut => {
            note("cofferdam: the time limit ended the job");
            Ok(TIMED_OUT)
        }
        Outcome::OutOfMemory => {
            note("cofferdam: the memory limit ended the job");
            Ok(Status::Signal(libc::SIGKILL).exit_code())
        }
        Outcome::DiskFull => {
            note("cofferdam: the disk limit ended the job");
            Ok(REFUSED)
        }
        Outcome::Lost(what) => Err(Diagnostic::error(format!(
            "{what} was lost, so the sandbox was ended"
        ))
        .with_help("something outside killed it; the host's log may say what")
        .into()),
    }
}

/// The supervisor becomes a process of its own; the caller waits until the job
/// has been executed, or whoever failed has said why on the caller's stderr.
fn detach(args: &Args, prepared: &Prepared, ports: Vec<OwnedFd>) -> Result<u8, Problem> {
    use crate::sys::process::{Cloned, clone_process, exit_now};
    let (mine, theirs) = crate::sys::socket::pair()
        .map_err(|errno| Problem::line(format!("socketpair: {errno}")))?;
    match clone_process(0, false) {
        Err(errno) => Err(Problem::line(format!("clone: {errno}"))),
        Ok(Cloned::Child) => {
            drop(mine);
            let code = match background(args, prepared, ports, theirs) {
                Ok(()) => 0,
                Err(problem) => problem.report(),
            };
            exit_now(i32::from(code))
        }
        Ok(Cloned::Parent(child)) => {
            drop((theirs, ports));
            let mut answer = [0u8; 1];
            if let Ok(Some((1, _))) = crate::sys::socket::receive(&mine, &mut answer) {
                print(&format!("{}\n", prepared.plan.name))?;
                return Ok(0);
            }
            match crate::sys::process::reap(&child.pidfd) {
                Ok((true, code @ 1..=255)) => Ok(code as u8),
                ended => Err(lost(ended)),
            }
        }
    }
}

/// The process in the background ended before the job ran, and not by itself.
fn lost(ended: Result<(bool, i32), rustix::io::Errno>) -> Problem {
    let how = match ended {
        Ok((false, signal)) => format!("was killed by signal {signal}"),
        Ok((true, _)) => "ended".to_owned(),
        Err(errno) => format!("is gone: {errno}"),
    };
    Diagnostic::error(format!("the supervisor {how} before the job started"))
        .with_help("something outside killed it; what it left is removed by the next command")
        .into()
}

/// Until the job runs, stderr is the caller's: whoever fails, says so there.
fn background(
    args: &Args,
    prepared: &Prepared,
    ports: Vec<OwnedFd>,
    caller: OwnedFd,
) -> Result<(), Problem> {
    rustix::process::setsid().map_err(|errno| Problem::line(format!("setsid: {errno}")))?;
    let null = quiet().map_err(|errno| Problem::line(format!("/dev/null: {errno}")))?;
    let started = || {
        rustix::stdio::dup2_stderr(&null)?;
        // If the caller is gone, nobody needs to know.
        crate::sys::unheard(crate::sys::socket::send(&caller, &[0], &[]));
        drop((null, caller));
        Ok(())
    };
    let session = session(args, prepared);
    session.run(ports, started)?;
    keep_slice(prepared, &session)
}

/// The caller's stdin, stdout and directory are not ours any more.
fn quiet() -> Result<OwnedFd, rustix::io::Errno> {
    let null = crate::supervise::streams::open_null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::process::chdir("/")?;
    Ok(null)
}
