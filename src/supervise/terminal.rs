//! [host] The caller's terminal while a job has one of its own: raw, restored at the end, sizes forwarded.

use crate::sandbox::message::Size;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// The caller's terminal in raw mode; dropping restores it.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

/// Which of descriptors 0–2 of this process are terminals.
pub fn terminals() -> [bool; 3] {
    [
        isatty(rustix::stdio::stdin()),
        isatty(rustix::stdio::stdout()),
        isatty(rustix::stdio::stderr()),
    ]
}

impl RawTerminal {
    /// Makes a terminal raw, unless we are in its background, where that would stop us.
    ///
    /// # Errors
    /// The errno of tcgetattr(3) or tcsetattr(3).
    pub fn enter(terminal: OwnedFd) -> Result<Option<Self>, Errno> {
        let foreground = rustix::termios::tcgetpgrp(&terminal)?;
        if foreground != rustix::process::getpgrp() {
            return Ok(None);
        }
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        crate::sys::unheard(tcsetattr(
            &self.terminal,
            OptionalActions::Now,
            &self.before,
        ));
    }
}

/// Gives the job's terminal the size of the caller's.
///
/// # Errors
/// The errno of TIOCGWINSZ or TIOCSWINSZ.
pub fn copy_size(from: impl AsFd, master: impl AsFd) -> Result<(), Errno> {
    let size = rustix::termios::tcgetwinsize(from)?;
    rustix::termios::tcsetwinsize(master, size)
}

/// The size of a terminal, if it has one.
pub fn size(terminal: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
