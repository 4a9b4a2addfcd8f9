//! [exposed] Bytes that somebody else chose, as text that is safe to show; and what is wrong with a file.

use std::fmt;

/// Bytes of foreign text that are kept.
const KEPT: usize = 256;

/// Printable ASCII as it is, the rest escaped; cut after 256 bytes.
pub fn shown(bytes: &[u8]) -> String {
    let kept = bytes.get(..KEPT).unwrap_or(bytes);
    let mut text = kept.escape_ascii().to_string();
    if kept.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

/// A file of /proc that is not as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    key: &'static str,
    problem: &'static str,
}

impl Malformed {
    pub(super) fn missing(key: &'static str) -> Self {
        Self {
            key,
            problem: "is missing",
        }
    }

    pub(super) fn twice(key: &'static str) -> Self {
        Self {
            key,
            problem: "comes twice",
        }
    }

    pub(super) fn value(key: &'static str) -> Self {
        Self {
            key,
            problem: "has no value of its kind",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.problem)
    }
}

impl std::error::Error for Malformed {}
