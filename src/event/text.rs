//! [pure] Events and foreign strings as text that a terminal cannot be hurt by.

use super::{Event, Kind, Status};
use std::fmt::Write;

/// `text` with every character that a terminal might act on, or that changes how
/// others are shown, written as an escape. What a job chose goes through here
/// before it reaches a terminal: names, arguments, paths.
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        if acts(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
        out
    })
}

/// C0 and C1 controls; line and paragraph separators; bidirectional, invisible and tag characters.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A command line, each word quoted where a shell would need it.
pub fn command(argv: &[String]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(bare) {
        return word.to_owned();
    }
    plain(&format!("'{}'", word.replace('\'', "'\\''")))
}

impl Status {
    /// In a few words.
    pub fn text(self) -> String {
        match self {
            Self::Code(code) => format!("status {code}"),
            Self::Signal(signal) => format!("signal {signal}"),
            Self::NotStarted(errno) => format!("not started, errno {errno}"),
        }
    }
}

impl Event {
    /// One line, safe for a terminal.
    pub fn text(&self) -> String {
        format!("{}  {}", plain(&self.time), self.kind.text())
    }
}

impl Kind {
    /// The event in a few words, safe for a terminal.
    pub fn text(&self) -> String {
        match self {
            Self::Planned { plan_sha256, policy } => {
                format!("planned under policy {}, plan {plan_sha256}", plain(policy))
            }
            Self::Started { pid } => format!("started, init is pid {pid}"),
            Self::Degraded { control, requested, actual } => format!(
                "degraded: {} asked {}, got {}",
                plain(control),
                plain(requested),
                plain(actual)
            ),
            Self::Refused(refusal) => refused(refusal),
            Self::Exec { id, argv, left_out: 0 } => format!("exec {id}: {}", command(argv)),
            Self::Exec { id, argv, left_out } => {
                format!("exec {id}: {} and {left_out} bytes of arguments more", command(argv))
            }
            Self::ExecEnded { id, status } => format!("exec {id} ended: {}", status.text()),
            Self::Signal { signal, by } => {
                format!("signal {signal} sent for {}", format!("{by:?}").to_lowercase())
            }
            Self::TimeLimit { seconds } => format!("time limit of {seconds} s reached"),
            Self::DiskLimit { bytes } => format!("disk limit of {bytes} bytes reached"),
            Self::OutOfMemory { count } => format!("out of memory: {count} killed by the kernel"),
            Self::LogTruncated { bytes } => format!("log full: {bytes} bytes of output lost"),
            Self::Dropped { count } => format!("{count} events not written: too many, too fast"),
            Self::SupervisorLost => "the supervisor was gone".to_owned(),
            Self::Recovered => "what it left is cleaned up".to_owned(),
            Self::Exited { status } => format!("exited: {}", status.text()),
            Self::Ended => "ended".to_owned(),
        }
    }
}

fn refused(refusal: &super::Refusal) -> String {
    let mut text = format!("refused {}(", refusal.call);
    for (at, argument) in refusal.arguments.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        if write!(text, "{comma}{argument:#x}").is_err() {
            break;
        }
    }
    text.push_str(&format!(") with errno {} [{}]", refusal.errno, plain(&refusal.rule)));
    if refusal.count > 1 {
        text.push_str(&format!(", {} times", refusal.count));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n\t\u{7f}\u{202e}gpj.exe\u{2066}\u{200b}\u{e0041}é";
        let shown = plain(hostile);
        assert!(shown.chars().all(|c| !acts(c)), "{shown:?}");
        assert!(shown.ends_with("gpj.exe\\u{2066}\\u{200b}\\u{e0041}é"));
        let event = Kind::exec(1, &["echo".to_owned(), hostile.to_owned(), "it's".to_owned()]);
        assert!(event.text().chars().all(|c| !acts(c)));
        assert!(event.text().ends_with("'it'\\''s'"));
    }
}
