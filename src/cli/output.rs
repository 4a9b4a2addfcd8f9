//! [host] How a command that reads records ends: results to stdout, mistakes to stderr, one exit code.

use crate::source::diagnostic::Diagnostic;
use crate::source::render::{Colour, render};
use std::io::{self, Write};

/// Cofferdam itself failed or refused.
const FAILED: u8 = 125;

/// Writes results. False when nobody reads them any more, as with `| head`: time to stop quietly.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(text: &str) -> Result<bool, Diagnostic> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Diagnostic::error(format!("writing to stdout: {cause}"))),
    }
}

/// Colours only on a terminal that has not refused them (NO_COLOR).
pub fn colour(on: impl rustix::fd::AsFd) -> Colour {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && rustix::termios::isatty(on) {
        Colour::Always
    } else {
        Colour::Never
    }
}

/// Notes beside the results. A lost note is no reason to fail: stderr may be closed.
pub fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// The exit code; a mistake is shown and is 125.
pub fn exit_code(result: Result<u8, Diagnostic>) -> u8 {
    result.unwrap_or_else(|diagnostic| {
        note(render(&[diagnostic], Colour::Never).trim_end());
        FAILED
    })
}
