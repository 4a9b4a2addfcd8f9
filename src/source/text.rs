//! [pure] A text that values were read from, and the places in it.

use crate::source::diagnostic::Place;
use crate::source::origin::{Origin, Sourced};
use std::ops::Range;
use std::sync::Arc;

/// A whole text under the name the reader knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    kind: Kind,
    name: String,
    text: Arc<str>,
    line_starts: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Preset,
    File,
}

impl Source {
    /// The text of a built-in preset.
    pub fn preset(name: &str, text: &str) -> Self {
        Self::new(Kind::Preset, name, text)
    }

    /// The text of a file, named as the caller named it.
    pub fn file(path: &str, text: &str) -> Self {
        Self::new(Kind::File, path, text)
    }

    fn new(kind: Kind, name: &str, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at + 1))
            .collect();
        Self {
            kind,
            name: name.to_owned(),
            text: Arc::from(text),
            line_starts,
        }
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The preset's name, if this is one.
    pub fn preset_name(&self) -> Option<&str> {
        (self.kind == Kind::Preset).then_some(self.name.as_str())
    }

    /// The span as a place that a diagnostic can point at.
    pub fn place(&self, span: Range<usize>) -> Place {
        let file = match self.kind {
            Kind::Preset => format!("preset {}", self.name),
            Kind::File => self.name.clone(),
        };
        Place {
            file,
            text: Arc::clone(&self.text),
            span,
        }
    }

    /// The line that `offset` stands on, as an origin.
    fn origin(&self, offset: usize) -> Origin {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        match self.kind {
            Kind::Preset => Origin::Preset {
                name: self.name.clone(),
                line,
            },
            Kind::File => Origin::File {
                path: self.name.clone(),
                line,
            },
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// In a text, at a byte range of it.
    Text {
        /// The text.
        source: Arc<Source>,
        /// Byte range within it.
        span: Range<usize>,
    },
    /// On the command line, by the flag of this name: `--memory`.
    Flag(String),
}

impl At {
    /// The origin of a value that was written here.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Text { source, span } => source.origin(span.start),
            Self::Flag(name) => Origin::Flag { name: name.clone() },
        }
    }

    /// The place to point at; a command line has none.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Text { source, span } => Some(source.place(span.clone())),
            Self::Flag(_) => None,
        }
    }
}

/// A value as it was written, with the exact place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: At,
}

impl<T> Written<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, at: At) -> Self {
        Self { value, at }
    }

    /// `value` with this one's origin.
    pub fn sourced<U>(&self, value: U) -> Sourced<U> {
        Sourced::new(value, self.at.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, offset: usize) -> String {
        Source::file("p.toml", text).origin(offset).to_string()
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line("", 0), "p.toml:1");
        assert_eq!(line("a\nb\n", 0), "p.toml:1");
        assert_eq!(line("a\nb\n", 1), "p.toml:1");
        assert_eq!(line("a\nb\n", 2), "p.toml:2");
        assert_eq!(line("a\nb\n", 4), "p.toml:3");
    }

    #[test]
    fn a_preset_is_named_as_one() {
        let source = Arc::new(Source::preset("strict", "x"));
        let at = At::Text { source, span: 0..1 };
        assert_eq!(at.origin().to_string(), "preset strict:1");
        assert_eq!(
            at.place().map(|place| place.file),
            Some("preset strict".into())
        );
        assert_eq!(At::Flag("--memory".into()).place(), None);
    }
}
