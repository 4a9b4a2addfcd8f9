//! [exposed] Lock-down of the edge's process, before it reads a byte of the job; then it serves.

use super::Port;
use super::publish::Listener;
use super::report::Reports;
use super::serve::{Listeners, Server};
use crate::confine::landlock::LandlockPlan;
use crate::net::grant::Rules;
use crate::net::record::Record;
use crate::sys::{caps, landlock, process, seccomp, signal, socket};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsmount, fsopen, move_mount, unmount,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;

/// What it is put under.
pub(super) struct Confinement {
    /// The proven program.
    pub filter: Vec<u8>,
    /// Every right handled, none allowed back.
    pub landlock: LandlockPlan,
}

/// Steps in their order; a failure travels as an index.
const STEPS: [&str; 16] = [
    "prctl PR_SET_PDEATHSIG",
    "open /dev/null",
    "place descriptors",
    "mount an empty tmpfs",
    "move_mount",
    "pivot_root",
    "umount2",
    "prctl PR_SET_DUMPABLE",
    "block signals",
    "setrlimit RLIMIT_NOFILE",
    "capset",
    "prctl PR_SET_NO_NEW_PRIVS",
    "landlock_restrict_self",
    "receive listeners",
    "make sockets",
    "seccomp",
];

pub(super) fn step_name(index: u32) -> &'static str {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    STEPS.get(index).copied().unwrap_or("an unknown step")
}

/// Signals of a terminal and of whoever stops a sandbox: they are for its supervisor.
const BLOCKED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGTSTP,
];

/// Descriptor numbers, all others are closed.
const RECORDS: i32 = 3;
/// Published ports are the last.
const PUBLISHED: i32 = 4;

/// A step that failed.
struct Failed(u32, Errno);

/// In the child: never returns.
pub(super) fn run(
    rules: &Rules,
    ports: &[Port<'_>],
    resolvers: &[SocketAddr],
    records: OwnedFd,
    confinement: Confinement,
) -> ! {
    let code = match keep(ports, &records) {
        Ok((published, records)) => {
            let server = confine(&confinement.landlock)
                .and_then(|()| hear(&records, published))
                .and_then(|listeners| {
                    let server = Server::new(rules.clone(), listeners, resolvers, records.as_fd());
                    server.map_err(at("make sockets"))
                })
                .and_then(|server| {
                    let loaded = seccomp::load(&confinement.filter, None);
                    loaded.map_err(at("seccomp")).map(|_| server)
                });
            match server {
                Ok(server) => serve_until_end(server, records),
                Err(failed) => tell(&records, &failed),
            }
        }
        Err(failed) => tell(&records, &failed),
    };
    process::exit_now(code)
}

fn serve_until_end(mut server: Server, records: OwnedFd) -> i32 {
    let mut reports = Reports::new(records);
    reports.say(&Record::Ready);
    match server.run(&mut reports) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn tell(records: &OwnedFd, Failed(step, errno): &Failed) -> i32 {
    let errno = errno.raw_os_error().unsigned_abs();
    // Nobody else is left to hear it.
    crate::sys::unheard(socket::send(
        records,
        &Record::Failed(*step, errno).encode(),
        &[],
    ));
    125
}

fn at(step: &'static str) -> impl Fn(Errno) -> Failed {
    let index = STEPS.iter().position(|known| *known == step);
    move |errno| Failed(index.map_or(u32::MAX, |index| index as u32), errno)
}

/// Only the published ports, and the socket on which the rest comes. The
/// standard streams lead nowhere, so that no message of a dying process can
/// reach a socket.
fn keep(ports: &[Port<'_>], records: &OwnedFd) -> Result<(Vec<Listener>, OwnedFd), Failed> {
    process::die_with_parent().map_err(at("prctl PR_SET_PDEATHSIG"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(at("open /dev/null"))?;
    let place = || {
        let mut places = vec![
            (null.as_raw_fd(), 0),
            (null.as_raw_fd(), 1),
            (null.as_raw_fd(), 2),
            (records.as_raw_fd(), RECORDS),
        ];
        let numbered = || ports.iter().zip(PUBLISHED..);
        places.extend(numbered().map(|(port, number)| (port.listener.as_raw_fd(), number)));
        let last = places.last().map_or(RECORDS, |(_, number)| *number);
        process::place(&places)?;
        process::close_from(last.unsigned_abs() + 1)?;
        let published = numbered().map(|(port, number)| {
            Ok(Listener {
                socket: process::inherited(number)?,
                port: port.port,
            })
        });
        let published = published.collect::<Result<_, Errno>>()?;
        Ok((published, process::inherited(RECORDS)?))
    };
    let placed = place().map_err(at("place descriptors"));
    // Its number is closed, or belongs to what was placed there.
    std::mem::forget(null);
    placed
}

/// All but the filter, which lets no sockets be made.
fn confine(landlocked: &LandlockPlan) -> Result<(), Failed> {
    enter_empty_root()?;
    process::set_undumpable().map_err(at("prctl PR_SET_DUMPABLE"))?;
    process::set_name(c"cofferdam-edge").map_err(at("prctl PR_SET_DUMPABLE"))?;
    signal::block_only(&BLOCKED).map_err(at("block signals"))?;
    raise_descriptors().map_err(at("setrlimit RLIMIT_NOFILE"))?;
    caps::set(0).map_err(at("capset"))?;
    process::set_no_new_privileges().map_err(at("prctl PR_SET_NO_NEW_PRIVS"))?;
    if landlocked.abi > 0 {
        landlock::create(
            landlocked.handled_fs,
            landlocked.handled_net,
            landlocked.scoped,
        )
        .and_then(|ruleset| landlock::restrict(ruleset.as_fd()))
        .map_err(at("landlock_restrict_self"))?;
    }
    Ok(())
}

/// The listeners, once the sandbox has them; without a supervisor there is no use for us.
fn hear(records: &OwnedFd, published: Vec<Listener>) -> Result<Listeners, Failed> {
    let failed = at("receive listeners");
    let received = socket::receive(records, &mut [0; 8]).map_err(&failed)?;
    let (_, descriptors) = received.ok_or(failed(Errno::PIPE))?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(failed(Errno::PROTO));
    Ok(Listeners {
        tcp: next()?,
        dns_udp: next()?,
        dns_tcp: next()?,
        published: descriptors.next().map(|gateway| (gateway, published)),
    })
}

/// In a mount namespace of our own: its only mount is empty and read-only.
///
/// Mounted over the old root, which pivot_root(2) then swaps with it and umount2(2)
/// takes away with everything below.
fn enter_empty_root() -> Result<(), Failed> {
    let root = empty_mount().map_err(at("mount an empty tmpfs"))?;
    let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/", from).map_err(at("move_mount"))?;
    rustix::process::fchdir(&root)
        .and_then(|()| rustix::process::pivot_root(".", "."))
        .map_err(at("pivot_root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(at("umount2"))?;
    rustix::process::chdir("/").map_err(at("pivot_root"))
}

fn empty_mount() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// As many as we may have: a connection takes two, and four more while bytes move.
fn raise_descriptors() -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
}
