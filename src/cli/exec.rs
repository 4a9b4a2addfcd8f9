//! [host] `cofferdam exec`: one more command in a running sandbox, started by its init.

use crate::cli::context::Context;
use crate::cli::problem::{Problem, REFUSED};
use crate::policy::flags::variable;
use crate::policy::text;
use crate::sandbox::launch::LaunchError;
use crate::sandbox::message::{Command, Spawn, Status};
use crate::source::diagnostic::Diagnostic;
use crate::supervise::control::{Answer, Ask};
use crate::supervise::pump::Pump;
use crate::supervise::records::read_plan;
use crate::supervise::state::Home;
use crate::supervise::streams::{caller_terminal, is_null, open_null, own_stdio, pipe};
use crate::supervise::terminal::{self, RawTerminal};
use crate::supervise::watch::FORWARDED;
use crate::supervise::{client, state::StateError};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Run a command in a running sandbox",
    after_help = "Examples:\n  cofferdam exec web -- ps\n  cofferdam exec -t web -- sh\n\nThe command is started by the sandbox's own init: it has the job's namespaces, Landlock domain,\nsystem-call filter and limits. Exit codes are those of `run`."
)]
pub struct Args {
    /// Sandbox
    pub name: String,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Working directory inside; default: the job's
    #[arg(long, value_name = "DIR", value_parser = text::absolute_path)]
    pub workdir: Option<String>,
    /// A terminal of its own, even where the caller has none
    #[arg(short, long)]
    pub tty: bool,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs and gives the exit code.
pub fn run(args: &Args) -> u8 {
    match attempt(args) {
        Ok(code) => code,
        Err(problem) => problem.report(),
    }
}

fn attempt(args: &Args) -> Result<u8, Problem> {
    let context = Context::new()?;
    let home = Home::open(&context.places, &args.name)?;
    let (plan, _) = read_plan(&context.places, &args.name)
        .ok_or_else(|| Problem::from(StateError::Missing(args.name.clone())))?;
    let terminal = if args.tty {
        [true; 3]
    } else {
        terminal::terminals()
    };
    let mut environment = plan.exec.environment.clone();
    environment.extend(args.env.iter().cloned());
    if let Ok(term) = std::env::var("TERM") {
        environment.entry("TERM".to_owned()).or_insert(term);
    }
    let command = Command {
        argv: args.command.clone(),
        environment,
        directory: args
            .workdir
            .clone()
            .unwrap_or_else(|| plan.exec.directory.clone()),
        uid: plan.exec.uid,
        gid: plan.exec.gid,
        terminal,
        size: caller_terminal().and_then(|terminal| terminal::size(&terminal)),
    };
    let signals = signal::descriptor(&FORWARDED).map_err(failed("signalfd"))?;
    let socket = client::connect_to(&home).map_err(|_| not_running(&args.name))?;
    let (inside, pumps) = stdio(terminal)?;
    let fds = [inside[0].as_fd(), inside[1].as_fd(), inside[2].as_fd()];
    client::ask(&socket, &Ask::Exec(command), &fds).map_err(failed("asking the supervisor"))?;
    drop(inside);
    let mut session = Exec {
        args,
        socket,
        signals,
        pumps,
        master: None,
        caller: None,
        raw: None,
    };
    session.run()
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::line(format!("{what}: {errno}"))
}

fn not_running(name: &str) -> Problem {
    Diagnostic::error(format!("sandbox {name} is not running"))
        .with_help("cofferdam ps lists sandboxes and what became of them")
        .into()
}

/// The command's ends of 0–2, and the copies that serve them.
fn stdio(terminal: [bool; 3]) -> Result<([OwnedFd; 3], Vec<Pump>), Problem> {
    let mut pumps = Vec::new();
    let input = own_stdio(rustix::stdio::stdin()).map_err(failed("dup stdin"))?;
    let input = if terminal[0] {
        open_null().map_err(failed("open /dev/null"))?
    } else if is_null(&input).map_err(failed("fstat stdin"))? {
        input
    } else {
        let (read, write) = pipe().map_err(failed("pipe"))?;
        pumps.push(Pump::inward(input, write).map_err(failed("fstat"))?);
        read
    };
    let mut output = |terminal: bool, caller: rustix::fd::BorrowedFd<'_>| {
        if terminal {
            return open_null().map_err(failed("open /dev/null"));
        }
        let caller = own_stdio(caller).map_err(failed("dup stdout"))?;
        let (read, write) = pipe().map_err(failed("pipe"))?;
        pumps.push(Pump::outward(read, caller).map_err(failed("fstat"))?);
        Ok(write)
    };
    let stdout = output(terminal[1], rustix::stdio::stdout())?;
    let stderr = output(terminal[2], rustix::stdio::stderr())?;
    Ok(([input, stdout, stderr], pumps))
}

struct Exec<'a> {
    args: &'a Args,
    socket: OwnedFd,
    signals: OwnedFd,
    pumps: Vec<Pump>,
    master: Option<OwnedFd>,
    caller: Option<OwnedFd>,
    raw: Option<RawTerminal>,
}

impl Exec<'_> {
    fn run(&mut self) -> Result<u8, Problem> {
        let mut status = None;
        loop {
            if let Some(status) = status
                && self.pumps.iter().all(Pump::finished)
            {
                return Ok(Status::exit_code(status));
            }
            let ready = self.wait(status.is_none())?;
            for index in ready.pumps {
                if let Some(pump) = self.pumps.get_mut(index) {
                    pump.step();
                }
            }
            if ready.signals {
                self.forward()?;
            }
            if ready.socket
                && let Some(ended) = self.hear()?
            {
                status = Some(ended);
                self.pumps
                    .iter_mut()
                    .filter(|pump| pump.inward)
                    .for_each(Pump::close);
            }
        }
    }

    fn wait(&self, socket: bool) -> Result<Ready, Problem> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if socket {
            fds.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        let first = fds.len();
        let mut indices = Vec::new();
        for (index, pump) in self.pumps.iter().enumerate() {
            if let Some((fd, flags)) = pump.interest() {
                indices.push(index);
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => {
                return Ok(Ready {
                    signals: false,
                    socket: false,
                    pumps: Vec::new(),
                });
            }
            Err(errno) => return Err(failed("poll")(errno)),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signals: ready(0),
            socket: socket && ready(1),
            pumps: indices
                .iter()
                .enumerate()
                .filter(|(at, _)| ready(first + at))
                .map(|(_, index)| *index)
                .collect(),
        })
    }

    fn forward(&mut self) -> Result<(), Problem> {
        while let Some(signal) = signal::next(&self.signals).map_err(failed("signalfd"))? {
            if signal == libc::SIGWINCH {
                if let (Some(caller), Some(master)) = (&self.caller, &self.master) {
                    // A size is cosmetic.
                    crate::sys::unheard(terminal::copy_size(caller, master));
                }
            } else {
                client::ask(&self.socket, &Ask::Signal { signal }, &[])
                    .map_err(failed("asking the supervisor"))?;
            }
        }
        Ok(())
    }

    /// One answer; the status when the command has ended.
    fn hear(&mut self) -> Result<Option<Status>, Problem> {
        match client::answer(&self.socket).map_err(failed("hearing the supervisor"))? {
            Some((Answer::Started, _)) => Ok(None),
            Some((Answer::Terminal, Some(master))) => self.connect(master).map(|()| None),
            Some((Answer::Exited(status), _)) => Ok(Some(status)),
            Some((Answer::NotStarted { what, errno }, _)) => Err(self.not_started(what, errno)),
            Some((Answer::Refused(why), _)) => Err(Problem::line(why)),
            Some((Answer::Terminal | Answer::Live(_), _)) => {
                Err(Problem::line("the supervisor answered something else"))
            }
            None => Err(Problem {
                diagnostics: vec![Diagnostic::error(format!(
                    "sandbox {} ended, and the command with it",
                    self.args.name
                ))],
                code: REFUSED,
            }),
        }
    }

    fn not_started(&self, what: Spawn, errno: i32) -> Problem {
        LaunchError::Command {
            command: self.args.command.first().cloned().unwrap_or_default(),
            what,
            directory: self.args.workdir.clone().unwrap_or_default(),
            errno: crate::sys::errno(errno),
        }
        .into()
    }

    fn connect(&mut self, master: OwnedFd) -> Result<(), Problem> {
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|error| Problem::line(format!("dup: {error}")))
        };
        let Some(caller) = caller_terminal() else {
            return Ok(());
        };
        self.pumps
            .push(Pump::inward(copy(&caller)?, copy(&master)?).map_err(failed("fstat"))?);
        self.pumps
            .push(Pump::outward(copy(&master)?, copy(&caller)?).map_err(failed("fstat"))?);
        self.raw = RawTerminal::enter(copy(&caller)?).map_err(failed("raw terminal"))?;
        self.caller = Some(caller);
        self.master = Some(master);
        Ok(())
    }
}

struct Ready {
    signals: bool,
    socket: bool,
    pumps: Vec<usize>,
}
