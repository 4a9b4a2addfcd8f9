//! Runs a Plan that has a network, and tells each connection and query of the
//! job where it wanted to go: `destinations PLAN`.
//!
//! A line `tcp ADDRESS:PORT` or `dns-tcp ADDRESS:PORT` is what a connection gets
//! before it is closed; a datagram is answered with `dns-udp ADDRESS:PORT`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::exit,
    clippy::print_stderr,
    reason = "a test program"
)]

use cofferdam::sandbox::launch::{
    Keeper, Launch, LaunchError, Listeners, Program, Running, launch, privileged,
};
use cofferdam::sandbox::message::{JOB, PACKET, Report};
use cofferdam::sandbox::plan::{MapWriter, Op, Plan};
use cofferdam::sys::{datagram, process, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

const HELPERS: (&str, &str) = ("/usr/bin/newuidmap", "/usr/bin/newgidmap");

fn main() {
    let path = std::env::args_os().nth(1).expect("destinations PLAN");
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let launcher = |step: &Op| {
        matches!(
            step,
            Op::OuterUser {
                writer: MapWriter::Launcher,
                ..
            }
        )
    };
    let code = if plan.steps.iter().any(|step| launcher(&step.op)) {
        let handed = privileged::open_sources(&plan).unwrap();
        let work = |socket: &OwnedFd| {
            let code = run(&plan, Keeper::Launcher(socket), &handed);
            [code; 16]
        };
        privileged::as_unprivileged(&plan, None, work, || Ok(())).unwrap()[0]
    } else {
        let helpers = Some(HELPERS);
        run(&plan, Keeper::Own { helpers }, &[])
    };
    std::process::exit(i32::from(code));
}

fn run(plan: &Plan, keeper: Keeper<'_>, handed: &[OwnedFd]) -> u8 {
    let own = std::env::current_exe().unwrap();
    let program = Program::open(&own.with_file_name("cofferdam-init")).unwrap();
    let copy = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().unwrap();
    let mut network = None;
    let launched: Result<Running, LaunchError> = launch(
        Launch {
            plan,
            program: &program,
            stdio: [
                copy(&std::io::stdin()),
                copy(&std::io::stdout()),
                copy(&std::io::stderr()),
            ],
            cgroup: None,
            keeper,
            size: None,
            handed,
        },
        |arriving| {
            network = arriving.listeners()?;
            Ok(())
        },
    );
    match launched {
        Ok(running) => serve(running, network.expect("no listeners")),
        Err(error) => {
            eprintln!("destinations: {error}");
            error.exit_code()
        }
    }
}

/// Answers until the job has ended; then everything of the sandbox is gone.
fn serve(running: Running, network: Listeners) -> u8 {
    let Running {
        gateway,
        init,
        gateway_socket,
        init_socket,
        ..
    } = running;
    let Listeners {
        tcp,
        dns_udp,
        dns_tcp,
        dialler: _,
    } = network;
    let (tcp, dns_tcp) = (TcpListener::from(tcp), TcpListener::from(dns_tcp));
    let code = loop {
        let mut watched = [
            PollFd::new(&init_socket, PollFlags::IN),
            PollFd::new(&tcp, PollFlags::IN),
            PollFd::new(&dns_tcp, PollFlags::IN),
            PollFd::new(&dns_udp, PollFlags::IN),
        ];
        poll(&mut watched, None).unwrap();
        let [ended, connected, query, datagram] = watched.map(|fd| !fd.revents().is_empty());
        if connected {
            tell("tcp", &tcp);
        }
        if query {
            tell("dns-tcp", &dns_tcp);
        }
        if datagram {
            answer(&dns_udp);
        }
        if ended && let Some(code) = exited(&init_socket) {
            break code;
        }
    };
    drop((gateway_socket, init_socket, tcp, dns_tcp, dns_udp));
    process::reap(&init.pidfd).unwrap();
    process::reap(&gateway.pidfd).unwrap();
    code
}

fn tell(what: &str, listener: &TcpListener) {
    // A peer may have gone between poll and accept, or before it is told.
    if let Ok((mut connection, _)) = listener.accept() {
        let destination = connection.local_addr().unwrap();
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        match writeln!(connection, "{what} {destination}") {
            Ok(()) | Err(_) => {}
        }
    }
}

fn exited(init: &OwnedFd) -> Option<u8> {
    let mut packet = vec![0; PACKET];
    let Some((length, _)) = socket::receive(init, &mut packet).unwrap() else {
        return Some(125);
    };
    match serde_json::from_slice(&packet[..length]).unwrap() {
        Report::Exited { id: JOB, status } => Some(status.exit_code()),
        _ => None,
    }
}

/// Answers a datagram from the address it was sent to.
fn answer(socket: &OwnedFd) {
    let datagram = datagram::receive(socket, &mut [0; 512]).unwrap();
    let text = format!("dns-udp {}\n", datagram.to);
    datagram::send(socket, text.as_bytes(), datagram.to.ip(), datagram.from).unwrap();
}
