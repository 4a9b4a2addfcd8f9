//! [host] `stop`, `kill`, `rm` and `prune`: ending sandboxes and removing what is left of them.

use crate::cli::context::Context;
use crate::cli::output::{note, print};
use crate::cli::problem::Problem;
use crate::policy::text;
use crate::source::diagnostic::Diagnostic;
use crate::supervise::control::{Answer, Ask};
use crate::supervise::failure::SessionError;
use crate::supervise::records::read_plan;
use crate::supervise::recover::recover;
use crate::supervise::state::{self, Held, Home, StateError};
use crate::supervise::undo::{remains, undo};
use crate::supervise::{client, places, slices, sweep};

/// How often, and after which pauses, `rm --force` asks a supervisor that does not answer yet.
const ATTEMPTS: u32 = 500;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// `stop` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "End a sandbox: SIGTERM to the job, SIGKILL when that is not enough")]
pub struct StopArgs {
    /// Sandboxes
    #[arg(required = true)]
    pub name: Vec<String>,
    /// How long to wait before SIGKILL
    #[arg(short, long, default_value = "10s", value_parser = text::duration)]
    pub time: u64,
}

/// `kill` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "End a sandbox at once, or send its job a signal")]
pub struct KillArgs {
    /// Sandboxes
    #[arg(required = true)]
    pub name: Vec<String>,
    /// Signal by name or number; default: end everything at once
    #[arg(short, long, value_parser = signal)]
    pub signal: Option<i32>,
}

/// `rm` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "Remove an ended sandbox and what it kept; records stay for explain and verify")]
pub struct RmArgs {
    /// Sandboxes
    #[arg(required = true)]
    pub name: Vec<String>,
    /// End it first
    #[arg(short, long)]
    pub force: bool,
}

/// `prune` as typed.
#[derive(Clone, Debug, clap::Args)]
#[command(about = "Remove all ended sandboxes, and clean up after supervisors that were killed")]
pub struct PruneArgs {}

fn signal(typed: &str) -> Result<i32, String> {
    const NAMES: [(&str, i32); 12] = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("TERM", libc::SIGTERM),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("WINCH", libc::SIGWINCH),
        ("ABRT", libc::SIGABRT),
    ];
    let upper = typed.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES
        .iter()
        .find(|(name, _)| *name == bare)
        .map(|(_, number)| *number);
    let number = named.or_else(|| {
        typed
            .parse()
            .ok()
            .filter(|number| (1..=31).contains(number))
    });
    number.ok_or_else(|| format!("{typed:?} is not a signal: a name such as TERM, or 1 to 31"))
}

/// Runs each name and gives the worst exit code; `act` is told whether the name
/// was that of a lost sandbox, which is removed by then.
fn each(
    names: &[String],
    mut act: impl FnMut(&Context, &str, bool) -> Result<(), Problem>,
) -> Result<u8, Problem> {
    let context = Context::new()?;
    let recovered = recover(&context.places, context.helpers())?;
    let mut code = 0;
    for name in names {
        if let Err(problem) = act(&context, name, recovered.contains(name)) {
            code = problem.report();
        }
    }
    Ok(code)
}

fn report(result: Result<u8, Problem>) -> u8 {
    result.unwrap_or_else(|problem| problem.report())
}

/// `cofferdam stop`.
pub fn stop(args: &StopArgs) -> u8 {
    report(each(&args.name, |context, name, _| {
        end(context, name, &Ask::Stop { grace: args.time })
    }))
}

/// `cofferdam kill`.
pub fn kill(args: &KillArgs) -> u8 {
    report(each(&args.name, |context, name, _| match args.signal {
        None => end(context, name, &Ask::Kill),
        Some(signal) => {
            let socket = connect(context, name)?;
            client::ask(&socket, &Ask::Signal { signal }, &[])
                .map_err(|errno| Problem::line(format!("sandbox {name}: {errno}")))
        }
    }))
}

/// Connects to a running sandbox.
pub(super) fn connect(context: &Context, name: &str) -> Result<rustix::fd::OwnedFd, Problem> {
    connect_to(&Home::open(&context.places, name)?)
}

fn connect_to(home: &Home) -> Result<rustix::fd::OwnedFd, Problem> {
    client::connect_to(home).map_err(|_| {
        Diagnostic::error(format!("sandbox {} is not running", home.name))
            .with_help("cofferdam ps lists sandboxes and what became of them")
            .into()
    })
}

/// Asks for an end and waits until the supervisor has undone everything.
fn end(context: &Context, name: &str, ask: &Ask) -> Result<(), Problem> {
    let home = Home::open(&context.places, name)?;
    let socket = connect_to(&home)?;
    end_over(&home, &socket, ask)
}

fn end_over(home: &Home, socket: &rustix::fd::OwnedFd, ask: &Ask) -> Result<(), Problem> {
    let failed = |errno| Problem::line(format!("sandbox {}: {errno}", home.name));
    client::ask(socket, ask, &[]).map_err(failed)?;
    loop {
        match client::answer(socket) {
            Ok(Some((Answer::Refused(why), _))) => return Err(Problem::line(why)),
            Ok(Some(_)) => {}
            // It watches no more, and undoes what there is to undo.
            Ok(None) => return state::wait_for_end(home).map_err(failed),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Ends a sandbox that may be just starting or ending: then nobody answers for a
/// moment, and it is asked again until somebody does or the lock is free. Whether
/// there was one that ended; if not, `remove` tells why.
fn force(context: &Context, name: &str) -> bool {
    for attempt in 0..ATTEMPTS {
        let Ok(home) = Home::open(&context.places, name) else {
            return attempt > 0;
        };
        let answered = client::connect_to(&home)
            .is_ok_and(|socket| end_over(&home, &socket, &Ask::Kill).is_ok());
        if answered || !matches!(Held::take_over(&context.places, name), Ok(None)) {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// `cofferdam rm`.
pub fn rm(args: &RmArgs) -> u8 {
    report(each(&args.name, |context, name, recovered| {
        let ended = args.force && force(context, name);
        remove(context, name, recovered || ended)
    }))
}

/// Removes what there is. `gone`: there may be nothing left, since this command has
/// ended or recovered that sandbox.
fn remove(context: &Context, name: &str, gone: bool) -> Result<(), Problem> {
    let kept = context.places.layers.join(name).exists();
    let held = match Held::take_over(&context.places, name) {
        Ok(Some(held)) => Some(held),
        Ok(None) => {
            return Err(Diagnostic::error(format!("sandbox {name} is running"))
                .with_help(format!(
                    "cofferdam stop {name}, or cofferdam rm --force {name}"
                ))
                .into());
        }
        // A foreground sandbox leaves no state, but perhaps layers that --keep kept.
        Err(StateError::Missing(_)) if kept || gone => None,
        Err(error) => return Err(error.into()),
    };
    if kept {
        remove_kept(context, name)?;
    }
    if let Some(held) = held {
        undo_known(context, &held)?;
        held.remove(&context.places)?;
    }
    Ok(())
}

/// Undoes what state or plan know of; one whose state is removed has nothing more.
fn undo_known(context: &Context, held: &Held) -> Result<(), Problem> {
    match remains(&context.places, &held.home, &context.facts.cgroup) {
        Ok(state) => undo(&context.places, held, &state, None, context.helpers(), true)?,
        Err(StateError::Malformed(name, _)) => note(&format!(
            "cofferdam: neither state nor plan of sandbox {name} can be read: files or sockets of mode 444 may be left at protected paths of its workspace"
        )),
        Err(StateError::File(_, "open", rustix::io::Errno::NOENT)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn remove_kept(context: &Context, name: &str) -> Result<(), Problem> {
    let layers = places::open(&context.places.layers)?;
    let removed = match read_plan(&context.places, name) {
        Some((plan, _)) => sweep::remove_layers(&plan, context.helpers(), &layers, name)
            .map_err(SessionError::Launch),
        None => sweep::remove_tree(&layers, name)
            .map_err(|errno| SessionError::System("remove layers", errno)),
    };
    removed.map_err(Problem::from)?;
    slices::give_back(&context.places, name)
        .map_err(|error| Problem::line(format!("give back ids of sandbox {name}: {error}")))
}

/// `cofferdam prune`.
pub fn prune(_args: &PruneArgs) -> u8 {
    report(prune_all())
}

fn prune_all() -> Result<u8, Problem> {
    let context = Context::new()?;
    let mut removed = recover(&context.places, context.helpers())?;
    for name in state::names(&context.places)? {
        let Some(held) = Held::take_over(&context.places, &name)? else {
            continue;
        };
        let ended = match held.home.read() {
            Ok(state) => state.ended.is_some(),
            Err(StateError::Malformed(..)) => true,
            Err(error) => return Err(error.into()),
        };
        drop(held);
        if ended {
            remove(&context, &name, false)?;
            removed.push(name);
        }
    }
    for name in &removed {
        print(&format!("{name}\n"))?;
    }
    if removed.is_empty() {
        note("nothing to remove");
    }
    Ok(0)
}
