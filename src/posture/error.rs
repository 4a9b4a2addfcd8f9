//! [host] Why a posture could not be read at all.

use rustix::io::Errno;
use std::fmt;

/// Why there is no observation.
#[derive(Debug)]
pub enum PostureError {
    /// A system call of ours failed.
    System {
        /// Its name.
        call: &'static str,
        /// What it was about.
        object: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// A system call of the process in U0 failed.
    Inside {
        /// Its name.
        call: String,
        /// What it was about.
        object: String,
        /// errno(3) number.
        errno: i32,
    },
    /// Init does not belong to that gateway: the sandbox has ended, or its state is stale.
    Stranger {
        /// Its pid.
        init: i32,
    },
    /// The answer of the process in U0 could not be understood: it was killed.
    Answer(std::io::Error),
}

impl PostureError {
    /// Call, object and errno, as they cross the pipe.
    pub(super) fn parts(&self) -> (String, String, i32) {
        match self {
            Self::System {
                call,
                object,
                errno,
            } => ((*call).to_owned(), object.clone(), errno.raw_os_error()),
            Self::Inside {
                call,
                object,
                errno,
            } => (call.clone(), object.clone(), *errno),
            Self::Stranger { init } => (
                "compare namespaces".to_owned(),
                format!("process {init}, which is not init of this sandbox"),
                libc::ESRCH,
            ),
            Self::Answer(_) => ("read".to_owned(), "answer".to_owned(), libc::EIO),
        }
    }

    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self.parts().2 {
            libc::EPERM | libc::EACCES => {
                "only the user who started the sandbox, or root, can look into it"
            }
            libc::ENOENT | libc::ESRCH => {
                "the sandbox has ended: cofferdam ps lists those that run"
            }
            _ => "try again; if it stays so, cofferdam doctor says what this host lacks",
        }
    }
}

impl fmt::Display for PostureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Answer(_) = self {
            return write!(
                f,
                "the process that reads from inside U0 gave no whole answer"
            );
        }
        let (call, object, errno) = self.parts();
        let cause = std::io::Error::from_raw_os_error(errno);
        write!(f, "{call} {object}: {cause}")
    }
}

impl std::error::Error for PostureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Answer(error) => Some(error),
            _ => None,
        }
    }
}
