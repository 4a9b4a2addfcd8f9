//! What a probe saw, and how it is printed.

use serde_json::json;

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not work: the errno's name, or `None` where a look found nothing.
    Refused {
        errno: Option<String>,
        detail: String,
    },
    /// It worked, or got further than the control that should have stopped it.
    Allowed {
        errno: Option<String>,
        detail: String,
    },
    /// There is no such thing here.
    Absent { detail: String },
    /// The attempt could not be made.
    NotRun { reason: String },
}

pub fn refused(errno: &str, detail: impl Into<String>) -> Verdict {
    Verdict::Refused {
        errno: Some(errno.into()),
        detail: detail.into(),
    }
}

/// The weakness that was looked for is not there.
pub fn clean(detail: impl Into<String>) -> Verdict {
    Verdict::Refused {
        errno: None,
        detail: detail.into(),
    }
}

pub fn allowed(detail: impl Into<String>) -> Verdict {
    Verdict::Allowed {
        errno: None,
        detail: detail.into(),
    }
}

pub fn absent(detail: impl Into<String>) -> Verdict {
    Verdict::Absent {
        detail: detail.into(),
    }
}

pub fn not_run(reason: String) -> Verdict {
    Verdict::NotRun { reason }
}

/// Success is `allowed`, any errno is `refused`.
pub fn attempt<T>(result: Result<T, i32>, what: &str) -> Verdict {
    match result {
        Ok(_) => allowed(what),
        Err(errno) => refused(&errno_name(errno), what),
    }
}

/// For calls made with arguments that cannot work: only EPERM and ENOSYS are
/// `refused`; any other errno means that the kernel's own code was reached.
pub fn reached<T>(result: Result<T, i32>, what: &str) -> Verdict {
    match result {
        Ok(_) => allowed(what),
        Err(errno @ (libc::EPERM | libc::ENOSYS)) => refused(&errno_name(errno), what),
        Err(errno) => Verdict::Allowed {
            errno: Some(errno_name(errno)),
            detail: format!("{what}: the kernel looked at the arguments"),
        },
    }
}

/// As [`attempt`], but a missing object is `absent`.
pub fn object<T>(result: Result<T, i32>, what: &str) -> Verdict {
    match result {
        Err(errno @ (libc::ENOENT | libc::ENXIO | libc::ENODEV | libc::ENOTDIR)) => {
            absent(format!("{what}: {}", errno_name(errno)))
        }
        other => attempt(other, what),
    }
}

/// The worst of several: allowed, else not run, else refused, else absent.
pub fn worst(all: impl IntoIterator<Item = Verdict>) -> Verdict {
    let all: Vec<Verdict> = all.into_iter().collect();
    let open: Vec<&str> = all.iter().filter_map(allowed_detail).collect();
    if !open.is_empty() {
        return allowed(clip(&open.join(", ")));
    }
    let rank = |verdict: &Verdict| match verdict {
        Verdict::NotRun { .. } => 0,
        Verdict::Refused { .. } => 1,
        Verdict::Absent { .. } | Verdict::Allowed { .. } => 2,
    };
    all.into_iter()
        .min_by_key(rank)
        .unwrap_or_else(|| absent("nothing to try"))
}

fn allowed_detail(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Allowed { detail, .. } => Some(detail),
        _ => None,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(600).collect()
}

/// One line of JSON.
pub fn line(probe: &str, verdict: &Verdict) -> String {
    let (outcome, errno, detail) = match verdict {
        Verdict::Refused { errno, detail } => ("refused", errno.clone(), detail),
        Verdict::Allowed { errno, detail } => ("allowed", errno.clone(), detail),
        Verdict::Absent { detail } => ("absent", None, detail),
        Verdict::NotRun { reason } => ("not-run", None, reason),
    };
    json!({"probe": probe, "outcome": outcome, "errno": errno, "detail": detail}).to_string()
}

/// `EPERM` for 1, as errno(3) names them; the number where it has no name here.
pub fn errno_name(errno: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EINTR, "EINTR"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::ENOTBLK, "ENOTBLK"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::ESPIPE, "ESPIPE"),
        (libc::EROFS, "EROFS"),
        (libc::EMLINK, "EMLINK"),
        (libc::EPIPE, "EPIPE"),
        (libc::ERANGE, "ERANGE"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENODATA, "ENODATA"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::EUSERS, "EUSERS"),
        (libc::ENOTSOCK, "ENOTSOCK"),
        (libc::EPROTOTYPE, "EPROTOTYPE"),
        (libc::ENOPROTOOPT, "ENOPROTOOPT"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EPFNOSUPPORT, "EPFNOSUPPORT"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENETDOWN, "ENETDOWN"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::EINPROGRESS, "EINPROGRESS"),
        (libc::EDQUOT, "EDQUOT"),
        (libc::ENOKEY, "ENOKEY"),
        (libc::EKEYEXPIRED, "EKEYEXPIRED"),
    ];
    match NAMES.iter().find(|(number, _)| *number == errno) {
        Some((_, name)) => (*name).into(),
        None => format!("errno {errno}"),
    }
}
