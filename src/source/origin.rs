//! [pure] The origin of an effective value: which preset line, file line or flag set it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Who decided a value. Every grant, plan step and warning carries one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// A line of a built-in preset.
    Preset {
        /// The preset's name.
        name: String,
        /// Counted from 1.
        line: u32,
    },
    /// A line of a policy file.
    File {
        /// The file as the caller named it.
        path: String,
        /// Counted from 1.
        line: u32,
    },
    /// A command-line flag.
    Flag {
        /// Spelled as typed: `--memory`.
        name: String,
    },
    /// Always so, whatever the policy says: part of how Cofferdam confines.
    Always,
    /// Follows from a fact about this host, named as in `doctor`.
    Host {
        /// Its name.
        fact: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset { name, line } => write!(out, "preset {name}:{line}"),
            Self::File { path, line } => write!(out, "{path}:{line}"),
            Self::Flag { name } => write!(out, "flag {name}"),
            Self::Always => write!(out, "always"),
            Self::Host { fact } => write!(out, "host: {fact}"),
        }
    }
}

/// A value and who decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The effective value.
    pub value: T,
    /// Who decided it.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Pairs a value with its origin.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}
