//! [pure] The one renderer of diagnostics: for people with the line and a caret, and as JSON.

use crate::source::diagnostic::{Diagnostic, Place, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

/// Whether terminal colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI escapes.
    Always,
}

/// All diagnostics for people. The first line of each is its one-line cause.
///
/// Control characters of messages and excerpts are shown as escapes, so that a
/// hostile text cannot write to the terminal.
pub fn render(diagnostics: &[Diagnostic], colour: Colour) -> String {
    let renderer = match colour {
        Colour::Never => Renderer::plain(),
        Colour::Always => Renderer::styled(),
    };
    let rendered: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| render_one(diagnostic, &renderer) + "\n")
        .collect();
    rendered.join("\n")
}

fn render_one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = Group::with_title(level.primary_title(one_line(&diagnostic.message)));
    let help = diagnostic.help.as_deref().map(one_line);
    let Some(excerpt) = diagnostic.place.as_ref().map(Excerpt::of) else {
        // Help beside no excerpt would hang from an empty margin.
        let help = help.map(|help| Group::with_title(Level::HELP.secondary_title(help)));
        let parts = std::iter::once(title).chain(help);
        let rendered: Vec<String> = parts.map(|part| renderer.render(&[part])).collect();
        return rendered.join("\n");
    };
    let help = help.map(|help| Level::HELP.message(help));
    renderer.render(&[title.element(excerpt.snippet()).elements(help)])
}

/// All diagnostics as JSON: severity, message, help, and the place with line and column from 1.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(one_to_json).collect()
}

fn one_to_json(diagnostic: &Diagnostic) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = diagnostic.place.as_ref().map(|place| {
        let excerpt = Excerpt::of(place);
        let column = excerpt.line[..excerpt.start].chars().count() + 1;
        json!({ "file": place.file, "line": excerpt.number, "column": column })
    });
    json!({
        "severity": severity,
        "message": diagnostic.message,
        "help": diagnostic.help,
        "place": place,
    })
}

/// The first line of a place, cut to what a terminal can show, and the marked part of it.
struct Excerpt {
    file: String,
    line: String,
    number: usize,
    start: usize,
    end: usize,
}

impl Excerpt {
    fn of(place: &Place) -> Self {
        let text: &str = &place.text;
        let from = floor(text, place.span.start);
        let to = floor(text, place.span.end).max(from);
        let line_start = text[..from].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[from..].find('\n').map_or(text.len(), |at| from + at);
        // A line may be a megabyte: show what stands around the mark.
        const AROUND: usize = 160;
        let left = floor(text, from.saturating_sub(AROUND)).max(line_start);
        let right = floor(text, (from + AROUND).min(line_end)).max(from);
        let visible = |part: &str| -> String { part.chars().map(printable).collect() };
        let before = visible(&text[left..from]);
        let marked = visible(&text[from..to.min(right)]);
        let after = visible(&text[to.min(right)..right]);
        Self {
            file: one_line(&place.file),
            number: text[..line_start].matches('\n').count() + 1,
            start: before.len(),
            end: before.len() + marked.len(),
            line: before + &marked + &after,
        }
    }

    fn snippet(&self) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        Snippet::source(self.line.as_str())
            .path(self.file.as_str())
            .line_start(self.number)
            .annotation(AnnotationKind::Primary.span(self.start..self.end))
    }
}

/// The nearest character boundary of `text` at or below `offset`.
fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// A control character as one that shows and does nothing.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        character if hidden(character) => '\u{fffd}',
        character => character,
    }
}

/// Controls, and the marks that reorder a line when it is shown (CVE-2021-42574).
fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` on one line, with controls escaped.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = hidden(character).then(|| character.escape_default());
            let plain = (!hidden(character)).then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::text::Source;
    use proptest::prelude::*;

    fn sample(text: &str, span: std::ops::Range<usize>) -> Diagnostic {
        Diagnostic::error("unknown key `memroy`")
            .at(Source::file("p.toml", text).place(span))
            .with_help("the nearest known key is `memory`")
    }

    #[test]
    fn shows_cause_place_caret_and_help() {
        let shown = render(&[sample("schema = 1\nmemroy = 2\n", 11..17)], Colour::Never);
        assert_eq!(
            shown,
            "error: unknown key `memroy`\n \
             --> p.toml:2:1\n  \
             |\n\
             2 | memroy = 2\n  \
             | ^^^^^^\n  \
             |\n  \
             = help: the nearest known key is `memory`\n"
        );
    }

    #[test]
    fn colour_is_a_choice() {
        let diagnostic = [Diagnostic::error("x")];
        assert!(!render(&diagnostic, Colour::Never).contains('\u{1b}'));
        assert!(render(&diagnostic, Colour::Always).contains('\u{1b}'));
    }

    #[test]
    fn without_a_place_the_cause_stands_alone() {
        let alone = Diagnostic::error("no");
        assert_eq!(
            render(std::slice::from_ref(&alone), Colour::Never),
            "error: no\n"
        );
        let helped = [alone.with_help("try yes")];
        assert_eq!(render(&helped, Colour::Never), "error: no\nhelp: try yes\n");
    }

    #[test]
    fn json_counts_lines_and_columns_from_one() {
        let json = to_json(&[sample("é\nä = memroy", 7..13)]);
        assert_eq!(json[0]["severity"], "error");
        assert_eq!(
            json[0]["place"],
            json!({ "file": "p.toml", "line": 2, "column": 4 })
        );
    }

    #[test]
    fn hostile_text_cannot_write_to_the_terminal() {
        let text = "a = \"\u{1b}]0;x\u{7}\u{202e}\"";
        let diagnostic =
            Diagnostic::error("unknown key `\u{1b}[2J\nok`")
                .at(Source::file("p\u{1b}.toml", text).place(0..text.len()));
        let shown = render(&[diagnostic], Colour::Never);
        assert!(
            !shown.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{shown:?}"
        );
        assert_eq!(
            shown.lines().next(),
            Some("error: unknown key `\\u{1b}[2J\\nok`")
        );
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_renders(text in "\\PC*|.*\n.*", start in 0usize..90, length in 0usize..90) {
            let diagnostic = sample(&text, start..start + length);
            prop_assert!(render(std::slice::from_ref(&diagnostic), Colour::Never).starts_with("error: "));
            prop_assert!(to_json(&[diagnostic])[0]["place"]["line"].is_u64());
        }
    }
}
