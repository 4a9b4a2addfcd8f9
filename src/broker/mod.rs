//! [exposed] Answers recorded system calls: request → decide → refuse. It reads no memory of the job and never continues a call.

use crate::confine::seccomp::{Filter, Verdict};
use crate::event::{Decider, Refusal};
use crate::linux::syscall::Syscall;
use crate::sys::seccomp::{self, Notification};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// What to answer, and what to write down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer; there is no other kind.
    pub errno: Errno,
    /// The event, unless the number is none of this architecture's.
    pub refusal: Option<Refusal>,
}

/// The answer to a trapped call is what the plan's own filter says of it; the
/// registers come from the kernel and are not followed.
pub fn decide(filter: &Filter, call: &Notification) -> Decision {
    let known = u32::try_from(call.number)
        .ok()
        .filter(|_| call.arch == filter.arch.audit())
        .and_then(|number| Syscall::from_number(filter.arch, number).map(|name| (number, name)));
    let Some((number, name)) = known else {
        return Decision {
            errno: Errno::NOSYS,
            refusal: None,
        };
    };
    let errno = match filter.verdict(name, &call.arguments) {
        Verdict::Record(errno) | Verdict::Errno(errno) => Errno::from_raw_os_error(errno as i32),
        Verdict::Allow | Verdict::Kill => Errno::PERM,
    };
    let refusal = Refusal {
        who: Decider::Broker,
        call: name,
        number,
        errno: errno.raw_os_error(),
        rule: filter.reason(name, &call.arguments).to_owned(),
        arguments: call.arguments,
        count: 1,
    };
    Decision {
        errno,
        refusal: Some(refusal),
    }
}

/// Serves one notification that poll(2) announced.
///
/// # Errors
/// The errno of ioctl(2), but for a job that died in between.
pub fn serve(listener: BorrowedFd<'_>, filter: &Filter) -> Result<Option<Refusal>, Errno> {
    let call = match seccomp::receive(listener) {
        Ok(call) => call,
        Err(Errno::NOENT | Errno::INTR) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let decision = decide(filter, &call);
    match seccomp::refuse(listener, call.id, decision.errno) {
        Ok(()) | Err(Errno::NOENT) => Ok(decision.refusal),
        Err(errno) => Err(errno),
    }
}
