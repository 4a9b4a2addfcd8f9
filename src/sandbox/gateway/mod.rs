//! [gateway] Holds U0 for as long as the sandbox lives; ends the sandbox when its supervisor is gone.
//!
//! It waits for two ends, the supervisor's and the sandbox's, under a filter of
//! its own. With published ports it also makes connections to the job in N0,
//! which nobody else can; it never sees a byte of them.

mod dial;

pub use dial::Dialler;

use crate::sys::process::{Child, exit_now};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;

/// Never returns: 0 when the sandbox ended, 125 when it had to be ended.
pub fn serve(supervisor: OwnedFd, init: &Child, dialler: Option<Dialler>) -> ! {
    exit_now(hold(&supervisor, init, dialler))
}

fn hold(supervisor: &OwnedFd, init: &Child, mut dialler: Option<Dialler>) -> i32 {
    loop {
        let mut watched = vec![
            PollFd::new(supervisor, PollFlags::IN),
            PollFd::new(&init.pidfd, PollFlags::IN),
        ];
        watched.extend(
            dialler
                .as_ref()
                .map(|dialler| PollFd::new(dialler, PollFlags::IN)),
        );
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return end(init),
        }
        let ready: Vec<bool> = watched
            .iter()
            .map(|one| !one.revents().is_empty())
            .collect();
        let ready = |index| ready.get(index) == Some(&true);
        if ready(1) {
            return 0;
        }
        // The supervisor never writes here: anything but silence is its end.
        if ready(0) {
            return end(init);
        }
        if ready(2) {
            dialler = dialler.and_then(Dialler::answer);
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
