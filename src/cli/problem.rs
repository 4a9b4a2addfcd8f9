//! [host] What went wrong, as every command tells it: one line, then what to try, then an exit code.

use crate::cli::output;
use crate::host::probe::ProbeError;
use crate::sandbox::launch::LaunchError;
use crate::source::diagnostic::Diagnostic;
use crate::source::render::render;
use crate::supervise::failure::SessionError;
use crate::supervise::places::PlacesError;
use crate::supervise::state::StateError;

/// Cofferdam failed or refused.
pub const REFUSED: u8 = 125;

/// Something that ends a command.
#[derive(Debug)]
pub struct Problem {
    /// What to print; nothing where the caller has been told.
    pub diagnostics: Vec<Diagnostic>,
    /// Exit code.
    pub code: u8,
}

impl Problem {
    /// One diagnostic, exit code 125.
    pub fn new(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
            code: REFUSED,
        }
    }

    /// One line, exit code 125.
    pub fn line(message: impl Into<String>) -> Self {
        Self::new(Diagnostic::error(message))
    }

    /// Prints it on stderr and gives the exit code.
    pub fn report(&self) -> u8 {
        if !self.diagnostics.is_empty() {
            let colour = output::colour(rustix::stdio::stderr());
            output::note(render(&self.diagnostics, colour).trim_end());
        }
        self.code
    }
}

impl From<Vec<Diagnostic>> for Problem {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            diagnostics,
            code: REFUSED,
        }
    }
}

impl From<Diagnostic> for Problem {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::new(diagnostic)
    }
}

impl From<PlacesError> for Problem {
    fn from(error: PlacesError) -> Self {
        Self::line(error.to_string())
    }
}

impl From<ProbeError> for Problem {
    fn from(error: ProbeError) -> Self {
        Self::line(error.to_string())
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        Self::line(error.to_string())
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Launch(error) => error.into(),
            SessionError::Told(code) => Self {
                diagnostics: Vec::new(),
                code,
            },
            error => Self::line(error.to_string()),
        }
    }
}

impl From<LaunchError> for Problem {
    fn from(error: LaunchError) -> Self {
        let mut diagnostic = Diagnostic::error(error.to_string());
        diagnostic.help = error.help();
        Self {
            diagnostics: vec![diagnostic],
            code: error.exit_code(),
        }
    }
}
