//! A network that belongs to the benchmark: a host, where contestants run, with one link to a server.
//!
//! Both are network namespaces, so nothing of the real host's network is used or
//! changed. What is started from within [`World::on_host`] lives there.

use cofferdam::sys::process::unshare;
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

/// Public, and in nobody's use here.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

/// Programs for this network want /dev/net/tun, which is root's on some hosts. The
/// host of the benchmark has one for everybody, as most hosts do.
const TUN: &str = "mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && \
    mkdir -p /dev/net && { [ -e /dev/net/tun ] || touch /dev/net/tun; } && \
    mount --bind /mnt/tun /dev/net/tun && umount -l /mnt";

/// Two network namespaces and the link between them.
pub struct World {
    host: File,
    far: File,
}

impl World {
    /// Needs root.
    pub fn new(by_root: bool) -> Result<Self, String> {
        if !by_root {
            return Err("needs root: as root, make bench BENCH_ARGS='--as USER'".into());
        }
        let world = Self {
            host: namespace(),
            far: namespace(),
        };
        let far = format!("/proc/{}/fd/{}", std::process::id(), world.far.as_raw_fd());
        within(&world.host, || {
            ip(&[
                "link", "add", "near", "type", "veth", "peer", "name", "away", "netns", &far,
            ])?;
            ip(&["addr", "add", "10.9.0.1/24", "dev", "near"])?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["link", "set", "near", "up"])
        })?;
        within(&world.far, || {
            ip(&["addr", "add", "10.9.0.2/24", "dev", "away"])?;
            ip(&["addr", "add", &format!("{SERVER}/32"), "dev", "away"])?;
            ip(&["link", "set", "away", "up"])
        })?;
        within(&world.host, || {
            ip(&["route", "add", "default", "via", "10.9.0.2"])
        })?;
        Ok(world)
    }

    /// In a thread on the host, with mounts of its own.
    pub fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.host, || {
            own_mounts();
            work()
        })
    }

    /// In a thread where the server is.
    pub fn far<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.far, work)
    }
}

fn namespace() -> File {
    let made = std::thread::spawn(|| {
        unshare(UnshareFlags::NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    made.join().unwrap()
}

fn own_mounts() {
    unshare(UnshareFlags::NEWNS).unwrap();
    let private = format!("mount --make-rprivate / && {TUN}");
    let status = Command::new("sh").args(["-c", &private]).status().unwrap();
    assert!(status.success(), "{private}: {status}");
}

fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {said}", arguments.join(" ")))
}
