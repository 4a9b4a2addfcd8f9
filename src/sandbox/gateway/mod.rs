//! [gateway] Holds U0 for as long as the sandbox lives; ends the sandbox when its supervisor is gone.
//!
//! With network none it makes no socket and parses nothing: it waits for two
//! ends, the supervisor's and the sandbox's, under a filter of its own.

use crate::sys::process::{Child, exit_now};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;

/// Never returns: 0 when the sandbox ended, 125 when it had to be ended.
pub fn serve(supervisor: OwnedFd, init: &Child) -> ! {
    exit_now(hold(&supervisor, init))
}

fn hold(supervisor: &OwnedFd, init: &Child) -> i32 {
    loop {
        let mut watched = [
            PollFd::new(supervisor, PollFlags::IN),
            PollFd::new(&init.pidfd, PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return end(init),
        }
        if !watched[1].revents().is_empty() {
            return 0;
        }
        // The supervisor never writes here: anything but silence is its end.
        if !watched[0].revents().is_empty() {
            return end(init);
        }
    }
}

/// Killing pid 1 of a pid namespace kills everything in it: pid_namespaces(7).
fn end(init: &Child) -> i32 {
    match rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => 125,
        Err(_) => 126,
    }
}
