//! [host] One sandbox from execve to its end: a single poll(2) over its sockets, pipes, processes and clients.

use crate::cgroup::Group;
use crate::event::sink::Sink;
use crate::event::{Kind, Sender};
use crate::sandbox::launch::Running;
use crate::sandbox::message::{Command, JOB, Order, PACKET, Report, SHORT, Status};
use crate::sandbox::plan::{Op, Plan};
use crate::supervise::control::{Answer, Ask, Live};
use crate::supervise::disk::Meter;
use crate::supervise::logs::Log;
use crate::supervise::outcome::{Lost, Outcome};
use crate::supervise::pump::Pump;
use crate::supervise::{client, terminal};
use crate::sys::{process, signal, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;
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

struct Client {
    socket: OwnedFd,
    /// Number of the command it started.
    command: Option<u32>,
    /// Wants to know when the sandbox has ended.
    waits: bool,
    /// Has closed its side.
    left: bool,
}

/// What a ready descriptor belongs to.
#[derive(Clone, Copy)]
enum Token {
    Init,
    InitEnd,
    GatewayEnd,
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
            init_ended: false,
            gateway_ended: false,
            deadline,
            kill_at: None,
            timed_out: false,
        };
        let result = watching.run();
        if result.is_err() {
            watching.kill_all();
        }
        result.map(|outcome| (outcome, watching.refusals))
    }
}

impl Loop<'_> {
    fn run(&mut self) -> Result<Outcome, Errno> {
        loop {
            if let Some(outcome) = self.finished() {
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
            if !watch.plan.exec.pid1 {
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

    // ---- init and gateway -------------------------------------------------

    fn hear_init(&mut self) {
        let mut buffer = [0; SHORT];
        let Ok(Some((length, descriptors))) =
            socket::receive(&self.watch.running.init_socket, &mut buffer)
        else {
            // Its end is on its way through the pidfd.
            return self.kill_init();
        };
        match serde_json::from_slice(buffer.get(..length).unwrap_or_default()) {
            Ok(Report::Exited { id: JOB, status }) => self.job_ended(Outcome::Exited(status)),
            Ok(Report::Exited { id, status }) => self.command_ended(id, status),
            Ok(Report::Started { id }) => self.answer(id, &Answer::Started, None),
            Ok(Report::Terminal { id }) => {
                self.answer(id, &Answer::Terminal, descriptors.first());
            }
            Ok(Report::NotStarted { id, what, errno }) => {
                self.answer(id, &Answer::NotStarted { what, errno }, None);
                self.forget(id);
            }
            Ok(Report::Stage { .. } | Report::Failed(_) | Report::Listener) | Err(_) => {
                self.kill_init();
            }
        }
    }

    fn job_ended(&mut self, outcome: Outcome) {
        let outcome = if self.timed_out {
            Outcome::TimedOut
        } else {
            outcome
        };
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
        }
        self.watch
            .pumps
            .iter_mut()
            .filter(|pump| pump.inward)
            .for_each(Pump::close);
        self.watch.held_stdin = None;
        self.deadline = None;
        self.kill_at = None;
        self.watch.meter = None;
    }

    fn init_ended(&mut self) {
        let Ok(Some((exited, code))) = process::try_reap(&self.watch.running.init.pidfd) else {
            return;
        };
        // Its last words may still be in the socket.
        let speaks = !self.watch.plan.exec.pid1;
        while speaks && self.outcome.is_none() && readable(&self.watch.running.init_socket) {
            let before = self.outcome;
            self.hear_init();
            if before == self.outcome {
                break;
            }
        }
        self.init_ended = true;
        let status = if exited {
            Status::Code(code)
        } else {
            Status::Signal(code)
        };
        let outcome = if self.watch.plan.exec.pid1 {
            Outcome::Exited(status)
        } else {
            Outcome::Lost(Lost::Init)
        };
        self.job_ended(outcome);
        self.watch.running.listener = None;
    }

    fn gateway_ended(&mut self) {
        if let Ok(Some(_)) = process::try_reap(&self.watch.running.gateway.pidfd) {
            self.gateway_ended = true;
            // It ends by itself only after init, which is then waiting to be reaped.
            let init_lives = !self.init_ended && !readable(&self.watch.running.init.pidfd);
            if self.outcome.is_none() && init_lives {
                self.kill_init();
                self.job_ended(Outcome::Lost(Lost::Gateway));
            }
        }
    }

    fn kill_init(&self) {
        // ESRCH: it has ended already.
        crate::sys::unheard(rustix::process::pidfd_send_signal(
            &self.watch.running.init.pidfd,
            Signal::KILL,
        ));
    }

    fn kill_all(&self) {
        self.kill_init();
        if let Some(group) = self.watch.cgroup {
            // Init's death kills the same processes.
            crate::sys::unheard(group.kill());
        }
    }

    fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(order).map_err(|_| Errno::INVAL)?;
        if bytes.len() > PACKET {
            return Err(Errno::TOOBIG);
        }
        socket::send(&self.watch.running.init_socket, &bytes, descriptors)
    }

    fn signal_job(&mut self, number: i32, by: Sender) {
        let sent = if self.watch.plan.exec.pid1 {
            Signal::from_named_raw(number).map_or(Err(Errno::INVAL), |signal| {
                rustix::process::pidfd_send_signal(&self.watch.running.init.pidfd, signal)
            })
        } else {
            self.order(
                &Order::Signal {
                    id: JOB,
                    signal: number,
                },
                &[],
            )
        };
        if sent.is_ok() {
            self.note(Kind::Signal { signal: number, by });
        }
    }

    /// A sandbox whose events cannot be written is ended: nothing runs unrecorded.
    fn note(&mut self, kind: Kind) {
        if self.watch.sink.record(kind).is_err() && self.outcome.is_none() {
            self.kill_all();
            self.job_ended(Outcome::Lost(Lost::Events));
        }
    }

    // ---- time, signals, refusals, output -----------------------------------

    fn check_time(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.timed_out = true;
            self.kill_at = Some(now + GRACE);
            let seconds = self.watch.plan.supervise.timeout.unwrap_or_default();
            self.note(Kind::TimeLimit { seconds });
            self.signal_job(libc::SIGTERM, Sender::Limit);
        }
        let look = self
            .watch
            .meter
            .as_mut()
            .filter(|meter| meter.due().is_some_and(|at| at <= now));
        if let Some(meter) = look
            && meter.look().is_err()
        {
            // What cannot be looked at cannot be limited.
            self.kill_all();
            self.job_ended(Outcome::DiskFull);
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.kill_all();
            self.job_ended(Outcome::Exited(Status::Signal(libc::SIGKILL)));
        }
    }

    /// A limit that is reached, or can no longer be judged, ends the sandbox.
    fn read_meter(&mut self) {
        if self.watch.meter.as_mut().is_some_and(Meter::over) && self.outcome.is_none() {
            let bytes = self.watch.plan.supervise.disk.unwrap_or_default();
            self.note(Kind::DiskLimit { bytes });
            self.kill_all();
            self.job_ended(Outcome::DiskFull);
        }
    }

    fn forward_signals(&mut self) {
        while let Ok(Some(number)) = signal::next(&self.watch.signals) {
            if number == libc::SIGWINCH {
                self.copy_size();
            } else if self.outcome.is_none() {
                self.signal_job(number, Sender::Caller);
            }
        }
    }

    fn copy_size(&self) {
        if let (Some(terminal), Some(master)) = (&self.watch.terminal, &self.watch.running.terminal)
        {
            // A size is cosmetic.
            crate::sys::unheard(terminal::copy_size(terminal, master));
        }
    }

    fn answer_call(&mut self) {
        let Some(listener) = &self.watch.running.listener else {
            return;
        };
        let filter = self
            .watch
            .plan
            .steps
            .iter()
            .find_map(|step| match &step.op {
                Op::Seccomp { filter } => Some(filter),
                _ => None,
            });
        let Some(filter) = filter else { return };
        match crate::broker::serve(listener.as_fd(), filter) {
            Ok(Some(refusal)) => {
                self.refusals += 1;
                self.note(Kind::Refused(refusal));
            }
            Ok(None) => {}
            // Closed, so that every waiting and later call fails with ENOSYS.
            Err(_) => self.watch.running.listener = None,
        }
    }

    fn copy_to_log(&mut self, index: usize) {
        let Some(fd) = self.watch.logged.get(index) else {
            return;
        };
        let mut buffer = Vec::with_capacity(64 << 10);
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(0) => drop(self.watch.logged.swap_remove(index)),
            Ok(_) => {
                if let Some(log) = &mut self.watch.log {
                    log.append(&buffer);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => drop(self.watch.logged.swap_remove(index)),
        }
    }

    // ---- clients ------------------------------------------------------------

    fn accept(&mut self) {
        if let Some(socket) = client::accept(&self.watch.control) {
            self.clients.push(Client {
                socket,
                command: None,
                waits: false,
                left: false,
            });
        }
    }

    fn hear_client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else {
            return;
        };
        let mut buffer = vec![0; PACKET];
        match socket::receive(&client.socket, &mut buffer) {
            Ok(Some((length, descriptors))) => {
                let ask = serde_json::from_slice(buffer.get(..length).unwrap_or_default());
                match ask {
                    Ok(ask) => self.obey(index, ask, &descriptors),
                    Err(error) => self.reply(index, &Answer::Refused(error.to_string())),
                }
            }
            Ok(None) | Err(_) => self.client_left(index),
        }
    }

    /// A command whose client has gone away has nobody to talk to.
    fn client_left(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if let Some(id) = client.command.take() {
            // It may have ended already.
            crate::sys::unheard(self.order(
                &Order::Signal {
                    id,
                    signal: libc::SIGKILL,
                },
                &[],
            ));
        }
        if let Some(client) = self.clients.get_mut(index) {
            client.left = true;
        }
    }

    fn obey(&mut self, index: usize, ask: Ask, descriptors: &[OwnedFd]) {
        match ask {
            Ask::Exec(command) => self.start_command(index, command, descriptors),
            Ask::Signal { signal } => {
                match self.clients.get(index).and_then(|client| client.command) {
                    Some(id) => crate::sys::unheard(self.order(&Order::Signal { id, signal }, &[])),
                    None => self.signal_job(signal, Sender::Caller),
                }
            }
            Ask::Stop { grace } => {
                self.wait_for_end(index);
                self.kill_at = Some(Instant::now() + Duration::from_secs(grace));
                self.signal_job(libc::SIGTERM, Sender::Caller);
            }
            Ask::Kill => {
                self.wait_for_end(index);
                self.note(Kind::Signal {
                    signal: libc::SIGKILL,
                    by: Sender::Caller,
                });
                if self.watch.plan.exec.pid1 {
                    self.kill_all();
                } else {
                    // The job's death is init's end and so everybody's; a job that is
                    // stuck in the kernel does not keep the rest alive.
                    crate::sys::unheard(self.order(
                        &Order::Signal {
                            id: JOB,
                            signal: libc::SIGKILL,
                        },
                        &[],
                    ));
                    self.kill_at = Some(Instant::now() + Duration::from_secs(1));
                }
            }
            Ask::Inspect => {
                let live = Live {
                    head: self.watch.sink.head().to_string(),
                    commands: self.commands,
                    refusals: self.refusals,
                    usage: self.watch.cgroup.and_then(|group| group.usage().ok()),
                };
                self.reply(index, &Answer::Live(live));
            }
        }
    }

    fn wait_for_end(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            client.waits = true;
        }
    }

    fn start_command(&mut self, index: usize, command: Command, descriptors: &[OwnedFd]) {
        if self.watch.plan.exec.pid1 {
            let why = "the command itself is pid 1 (--pid1), so there is no exec";
            return self.reply(index, &Answer::Refused(why.to_owned()));
        }
        let id = self.next_command;
        let fds: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let argv = command.argv.clone();
        match self.order(&Order::Run { id, command }, &fds) {
            Ok(()) => {
                self.next_command += 1;
                self.commands += 1;
                if let Some(client) = self.clients.get_mut(index) {
                    client.command = Some(id);
                }
                self.note(Kind::exec(id, &argv));
            }
            Err(errno) => self.reply(index, &Answer::Refused(format!("command: {errno}"))),
        }
    }

    fn command_ended(&mut self, id: u32, status: Status) {
        self.commands = self.commands.saturating_sub(1);
        self.note(Kind::ExecEnded {
            id,
            status: status.into(),
        });
        self.answer(id, &Answer::Exited(status), None);
        self.forget(id);
    }

    fn forget(&mut self, id: u32) {
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.command == Some(id))
        {
            client.command = None;
        }
    }

    fn answer(&mut self, id: u32, answer: &Answer, descriptor: Option<&OwnedFd>) {
        let client = self
            .clients
            .iter()
            .find(|client| client.command == Some(id));
        if let Some(client) = client {
            // A client that went away is noticed when it is polled.
            crate::sys::unheard(client::send(&client.socket, answer, descriptor));
        }
    }

    fn reply(&self, index: usize, answer: &Answer) {
        if let Some(client) = self.clients.get(index) {
            crate::sys::unheard(client::send(&client.socket, answer, None));
        }
    }

    fn tell_end(&self, outcome: Outcome) {
        let status = match outcome {
            Outcome::Exited(status) => status,
            Outcome::TimedOut | Outcome::DiskFull | Outcome::OutOfMemory | Outcome::Lost(_) => {
                Status::Signal(libc::SIGKILL)
            }
        };
        for client in self.clients.iter().filter(|client| client.waits) {
            crate::sys::unheard(client::send(&client.socket, &Answer::Exited(status), None));
        }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
}
