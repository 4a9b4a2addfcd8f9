//! [pure] The built-in policies: the files of `policies/`, embedded.

use crate::policy::schema::{RawPolicy, parse};
use crate::source::diagnostic::Diagnostic;
use crate::source::nearest::nearest;
use crate::source::text::Source;

/// The preset that a policy stands on when it extends no other.
pub const STRICT: &str = "strict";

/// The preset of a run that names no policy.
pub const DEFAULT: &str = "untrusted";

/// Every preset with its text, strictest first.
pub const PRESETS: &[(&str, &str)] = &[
    (STRICT, include_str!("../../policies/strict.toml")),
    (DEFAULT, include_str!("../../policies/untrusted.toml")),
    ("ci", include_str!("../../policies/ci.toml")),
];

/// The names, strictest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Reads the preset called `name`; an unknown one gets the nearest name and all of them.
pub fn parse_preset(name: &str) -> Result<RawPolicy, Vec<Diagnostic>> {
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => parse(Source::preset(name, text)),
        None => Err(vec![unknown(name)]),
    }
}

/// Says that no preset is called `name`.
pub fn unknown(name: &str) -> Diagnostic {
    let all: Vec<&str> = names().collect();
    let all = all.join(", ");
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`? the presets are: {all}"),
        None => format!(
            "the presets are: {all}; a policy file is named by a path with a slash or by *.toml"
        ),
    };
    Diagnostic::error(format!("unknown preset `{name}`")).with_help(help)
}
