//! [host] One sandbox from execve to its end: a single poll(2) over its sockets, pipes, processes and clients.

mod clients;
mod edge;
mod job;
mod limits;

use crate::cgroup::Group;
use crate::event::sink::Sink;
use crate::net::edge::Edge;
use crate::sandbox::launch::Running;
use crate::sandbox::plan::Plan;
use crate::supervise::disk::Meter;
use crate::supervise::logs::Log;
use crate::supervise::outcome::Outcome;
use crate::supervise::pump::Pump;
use clients::Client;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long a job may go on after SIGTERM at its time limit.
const GRACE: Duration = Duration::from_secs(10);

/// Signals that are passed on to the job.
pub const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// What a supervisor keeps while its sandbox runs.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The sandbox.
    pub running: Running,
    /// The process that relays its connections, where it has a network.
    pub edge: Option<Edge>,
    /// The job's cgroup.
    pub cgroup: Option<&'a Group>,
    /// Looks at layers on disk.
    pub meter: Option<Meter>,
    /// Copies of stdin, stdout, stderr or terminal.
    pub pumps: Vec<Pump>,
    /// Output that goes to the log: the sandbox's pipes.
    pub logged: Vec<OwnedFd>,
    /// The log.
    pub log: Option<Log>,
    /// Write end of a stdin that stays open.
    pub held_stdin: Option<OwnedFd>,
    /// Events.
    pub sink: &'a mut Sink,
    /// [`FORWARDED`], as a signalfd.
    pub signals: OwnedFd,
    /// Listening control socket.
    pub control: OwnedFd,
    /// The caller's terminal, whose size is copied.
    pub terminal: Option<OwnedFd>,
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
enum Token {
    Init,
    InitEnd,
    GatewayEnd,
    Edge,
    Signals,
    Listener,
    ListenerEnd,
    Control,
    Client(usize),
    Pump(usize),
    Logged(usize),
    Meter,
}

struct Loop<'a> {
    watch: Watch<'a>,
    clients: Vec<Client>,
    next_command: u32,
    commands: usize,
    refusals: u64,
    outcome: Option<Outcome>,
    /// Init has closed its socket: it is ending, and says no more.
    init_silent: bool,
    init_ended: bool,
    gateway_ended: bool,
    deadline: Option<Instant>,
    kill_at: Option<Instant>,
    timed_out: bool,
}

impl Watch<'_> {
    /// Watches until the job has ended, its output is copied and both of our
    /// processes are reaped. Also says how many refusals were recorded.
    ///
    /// # Errors
    /// The errno of poll(2); the sandbox is killed then.
    pub fn run(self) -> Result<(Outcome, u64), Errno> {
        let deadline = self
            .plan
            .supervise
            .timeout
            .map(|limit| Instant::now() + Duration::from_secs(limit));
        let mut watching = Loop {
            watch: self,
            clients: Vec::new(),
            next_command: 1,
            commands: 0,
            refusals: 0,
            outcome: None,
            init_silent: false,
            init_ended: false,
            gateway_ended: false,
            deadline,
            kill_at: None,
            timed_out: false,
        };
        let result = watching.run();
        if result.is_err() {
            watching.kill();
        }
        result.map(|outcome| (outcome, watching.refusals))
    }
}

impl Loop<'_> {
    fn run(&mut self) -> Result<Outcome, Errno> {
        loop {
            if let Some(outcome) = self.finished() {
                self.finish_edge();
                self.note_lost_output();
                self.tell_end(outcome);
                return Ok(outcome);
            }
            let ready = self.wait()?;
            for token in ready {
                self.handle(token);
            }
            self.clients.retain(|client| !client.left);
            self.check_time();
        }
    }

    /// Ended, reaped, and nothing left to copy.
    fn finished(&self) -> Option<Outcome> {
        let outcome = self.outcome?;
        let copied = self.watch.pumps.iter().all(Pump::finished) && self.watch.logged.is_empty();
        (self.init_ended && self.gateway_ended && copied).then_some(outcome)
    }

    /// Everything there is to wait for now.
    fn watched(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let watch = &self.watch;
        let input = |token, fd| (token, fd, PollFlags::IN);
        let mut all = vec![input(Token::Signals, watch.signals.as_fd())];
        if !self.init_ended {
            // Closed already where the command has taken init's place.
            if !watch.plan.exec.pid1 && !self.init_silent {
                all.push(input(Token::Init, watch.running.init_socket.as_fd()));
            }
            all.push(input(Token::InitEnd, watch.running.init.pidfd.as_fd()));
        }
        if !self.gateway_ended {
            all.push(input(
                Token::GatewayEnd,
                watch.running.gateway.pidfd.as_fd(),
            ));
        }
        let edge = watch.edge.as_ref();
        all.extend(edge.map(|edge| input(Token::Edge, edge.records.as_fd())));
        let listener = watch.running.listener.as_ref();
        all.extend(listener.map(|fd| input(Token::Listener, fd.as_fd())));
        if self.outcome.is_none() {
            all.push(input(Token::Control, watch.control.as_fd()));
        }
        let clients = self.clients.iter().enumerate();
        all.extend(
            clients.map(|(index, client)| input(Token::Client(index), client.socket.as_fd())),
        );
        for (index, pump) in watch.pumps.iter().enumerate() {
            all.extend(
                pump.interest()
                    .map(|(fd, flags)| (Token::Pump(index), fd, flags)),
            );
        }
        let meter = watch.meter.as_ref().and_then(Meter::interest);
        all.extend(meter.map(|fd| input(Token::Meter, fd)));
        let logged = watch.logged.iter().enumerate();
        all.extend(logged.map(|(index, fd)| input(Token::Logged(index), fd.as_fd())));
        all
    }

    fn wait(&self) -> Result<Vec<Token>, Errno> {
        let watched = self.watched();
        let mut fds: Vec<PollFd<'_>> = watched
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        match poll(&mut fds, self.timeout().as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let ready = watched
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        // Backwards, so that removing one by its index leaves the others in place.
        Ok(ready
            .rev()
            .map(|((token, ..), fd)| match token {
                // Nobody is left under the filter: the kernel says so for ever.
                Token::Listener if fd.revents().contains(PollFlags::HUP) => Token::ListenerEnd,
                token => *token,
            })
            .collect())
    }

    fn timeout(&self) -> Option<Timespec> {
        let meter = self.watch.meter.as_ref().and_then(Meter::due);
        let next = [self.deadline, self.kill_at, meter]
            .into_iter()
            .flatten()
            .min()?;
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up: a poll that returns early would spin.
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Init => self.hear_init(),
            Token::InitEnd => self.init_ended(),
            Token::GatewayEnd => self.gateway_ended(),
            Token::Edge => self.hear_edge(),
            Token::Signals => self.forward_signals(),
            Token::Listener => self.answer_call(),
            Token::ListenerEnd => self.watch.running.listener = None,
            Token::Control => self.accept(),
            Token::Client(index) => self.hear_client(index),
            Token::Pump(index) => {
                if let Some(pump) = self.watch.pumps.get_mut(index) {
                    pump.step();
                }
            }
            Token::Logged(index) => self.copy_to_log(index),
            Token::Meter => self.read_meter(),
        }
    }
}
