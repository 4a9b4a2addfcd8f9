//! Runs a Plan that has a network, and tells each connection and query of the
//! job where it wanted to go: `destinations PLAN`.
//!
//! A line `tcp ADDRESS:PORT` or `dns-tcp ADDRESS:PORT` is what a connection gets
//! before it is closed; a datagram is answered with `dns-udp ADDRESS:PORT`.
#![allow(
    unsafe_code,
    reason = "the destination of a datagram is in a control message that no safe wrapper has"
)]
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
use cofferdam::sys::{process, socket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

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

/// A control message of one structure, as the kernel lays it out.
#[repr(C)]
struct Control<T> {
    header: libc::cmsghdr,
    value: T,
}

/// Answers a datagram from the address it was sent to.
fn answer(socket: &OwnedFd) {
    // SAFETY: all of these are plain old data; all zeroes is a valid value.
    let (mut from, mut control, mut message): (
        libc::sockaddr_in,
        Control<libc::sockaddr_in>,
        libc::msghdr,
    ) = unsafe { std::mem::zeroed() };
    let mut bytes = [0u8; 512];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of_val(&from) as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in the header is to a local with the length beside it.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    assert!(received > 0);
    assert_eq!(control.header.cmsg_type, libc::IP_ORIGDSTADDR);
    let to = Ipv4Addr::from(u32::from_be(control.value.sin_addr.s_addr));
    let port = u16::from_be(control.value.sin_port);
    let text = format!("dns-udp {}\n", SocketAddrV4::new(to, port));

    // SAFETY: as above.
    let mut source: Control<libc::in_pktinfo> = unsafe { std::mem::zeroed() };
    source.header.cmsg_level = libc::SOL_IP;
    source.header.cmsg_type = libc::IP_PKTINFO;
    source.header.cmsg_len = size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>();
    source.value.ipi_spec_dst = control.value.sin_addr;
    let mut part = libc::iovec {
        iov_base: text.as_ptr().cast_mut().cast(),
        iov_len: text.len(),
    };
    message.msg_iov = &raw mut part;
    message.msg_control = (&raw mut source).cast();
    message.msg_controllen = size_of_val(&source);
    message.msg_flags = 0;
    // SAFETY: as above; the kernel only reads from them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    assert_eq!(
        sent,
        text.len() as isize,
        "{}",
        std::io::Error::last_os_error()
    );
}
