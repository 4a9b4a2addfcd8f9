//! [pure] The mistakes found in a text, as many as somebody reads.

use crate::source::diagnostic::Diagnostic;

/// More than anybody reads at once; a hostile text could make a million.
const SHOWN: usize = 100;

/// Collects diagnostics in bounded space: the rest are counted.
#[derive(Debug, Default)]
pub struct Mistakes {
    shown: Vec<Diagnostic>,
    unshown: usize,
}

impl Mistakes {
    /// Whether one more would be shown; if not, it is counted and need not be made.
    pub fn has_room(&mut self) -> bool {
        let room = self.shown.len() < SHOWN;
        self.unshown += usize::from(!room);
        room
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.has_room() {
            self.shown.push(diagnostic);
        }
    }

    /// `value` if there is no mistake; else the mistakes in the order of their places.
    pub fn or<T>(mut self, value: T) -> Result<T, Vec<Diagnostic>> {
        if self.shown.is_empty() {
            return Ok(value);
        }
        let start = |mistake: &Diagnostic| mistake.place.as_ref().map(|place| place.span.start);
        self.shown.sort_by_key(start);
        if self.unshown > 0 {
            let message = format!("{} more mistakes are not shown", self.unshown);
            self.shown.push(Diagnostic::error(message));
        }
        Err(self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::text::Source;

    #[test]
    fn they_come_in_the_order_of_the_text() {
        let source = Source::file("p.toml", "abc");
        let mut mistakes = Mistakes::default();
        for at in [2, 0, 1] {
            mistakes.push(Diagnostic::error(at.to_string()).at(source.place(at..3)));
        }
        let found = mistakes.or(()).unwrap_err();
        let order: Vec<&str> = found
            .iter()
            .map(|mistake| mistake.message.as_str())
            .collect();
        assert_eq!(order, ["0", "1", "2"]);
        assert_eq!(Mistakes::default().or(7), Ok(7));
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let mut mistakes = Mistakes::default();
        for _ in 0..=SHOWN {
            mistakes.push(Diagnostic::error("x"));
        }
        assert!(!mistakes.has_room());
        let found = mistakes.or(()).unwrap_err();
        assert_eq!(found.len(), SHOWN + 1);
        assert_eq!(found[SHOWN].message, "2 more mistakes are not shown");
    }
}
