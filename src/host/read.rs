//! [host] Bounded reads of the host's own text files; a missing file is an answer, not an error.

use super::probe::ProbeError;
use std::fs::File;
use std::io::{ErrorKind, Read};

/// The most that is read of one file. A mountinfo of ten thousand mounts has about 2 MiB.
const LIMIT: u64 = 4 << 20;

/// The text of `path`, or `None` if there is no such file. Bytes that are no UTF-8 are replaced:
/// what is looked for is ASCII, and comments in a passwd file may be Latin-1.
pub fn text(path: &str) -> Result<Option<String>, ProbeError> {
    let failed = |cause| ProbeError::Read {
        path: path.to_owned(),
        cause,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if is_absent(&cause) => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let mut bytes = Vec::with_capacity(4096);
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(ProbeError::TooLarge {
            path: path.to_owned(),
            limit: LIMIT,
        });
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The text of a file that every supported kernel has.
pub fn required(path: &str) -> Result<String, ProbeError> {
    text(path)?.ok_or_else(|| ProbeError::Read {
        path: path.to_owned(),
        cause: ErrorKind::NotFound.into(),
    })
}

/// A file below /proc/sys that holds one number; `None` if there is no such file.
pub fn sysctl(path: &str) -> Result<Option<u64>, ProbeError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(ProbeError::Malformed {
            path: path.to_owned(),
            expected: "one number",
        }),
    }
}

fn is_absent(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
