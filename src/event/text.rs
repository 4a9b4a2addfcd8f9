//! [pure] Events as text, one line each, that no terminal acts on.

use super::{Event, Kind, Refusal, Status};
use crate::net::record::{Obstacle, Reason};
use crate::source::render::one_line;

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
    one_line(&format!("'{}'", word.replace('\'', "'\\''")))
}

fn ended(status: Status) -> String {
    match status {
        Status::Code(code) => format!("status {code}"),
        Status::Signal(signal) => format!("signal {signal}"),
        Status::NotStarted(errno) => format!("not started, errno {errno}"),
    }
}

impl Event {
    /// One line, safe for a terminal.
    pub fn text(&self) -> String {
        format!("{}  {}", one_line(&self.time), self.kind.text())
    }
}

impl Kind {
    /// The event in a few words, safe for a terminal.
    pub fn text(&self) -> String {
        match self {
            Self::Planned {
                plan_sha256,
                policy,
            } => {
                format!(
                    "planned under policy {}, plan {plan_sha256}",
                    one_line(policy)
                )
            }
            Self::Started { pid } => format!("started, init is pid {pid}"),
            Self::Degraded {
                control,
                requested,
                actual,
            } => format!(
                "degraded: {} asked {}, got {}",
                one_line(control),
                one_line(requested),
                one_line(actual)
            ),
            Self::Refused(refusal) => refused(refusal),
            Self::NetworkAllowed {
                connection,
                name,
                address,
                port,
                rule,
            } => format!(
                "connection {connection} to {} by {}",
                destination(name.as_deref(), address.as_deref(), *port),
                one_line(rule)
            ),
            Self::NetworkEnded {
                connection,
                sent,
                received,
            } => format!("connection {connection} ended: {sent} bytes sent, {received} received"),
            Self::NetworkRefused {
                name,
                address,
                port,
                reason,
                count,
            } => format!(
                "refused {}: {}{}",
                destination(name.as_deref(), address.as_deref(), *port),
                reason.text(),
                times(*count)
            ),
            Self::NetworkAccepted {
                connection,
                peer,
                published,
                port,
            } => format!(
                "connection {connection} from {} by {} to port {port}",
                one_line(peer),
                one_line(published)
            ),
            Self::NetworkRejected {
                peer,
                published,
                port,
                reason,
            } => format!(
                "refused {} by {} to port {port}: {}",
                one_line(peer),
                one_line(published),
                rejected(*reason)
            ),
            Self::Exec {
                id,
                argv,
                left_out: 0,
            } => format!("exec {id}: {}", command(argv)),
            Self::Exec { id, argv, left_out } => {
                format!(
                    "exec {id}: {} and {left_out} bytes of arguments more",
                    command(argv)
                )
            }
            Self::ExecEnded { id, status } => format!("exec {id} ended: {}", ended(*status)),
            Self::Signal { signal, by } => {
                format!(
                    "signal {signal} sent for {}",
                    format!("{by:?}").to_lowercase()
                )
            }
            Self::TimeLimit { seconds } => format!("time limit of {seconds} s reached"),
            Self::DiskLimit { bytes } => format!("disk limit of {bytes} bytes reached"),
            Self::OutOfMemory { count } => format!("out of memory: {count} killed by the kernel"),
            Self::ProcessLimit { count } => {
                format!("process limit reached: {count} forks or threads refused by the kernel")
            }
            Self::LogTruncated { bytes } => format!("log full: {bytes} bytes of output lost"),
            Self::Dropped { count } => format!("{count} events not written: too many, too fast"),
            Self::EdgeLost => "the network edge was gone".to_owned(),
            Self::SupervisorLost => "the supervisor was gone".to_owned(),
            Self::Recovered => "what it left is cleaned up".to_owned(),
            Self::Exited { status } => format!("exited: {}", ended(*status)),
            Self::Ended => "ended".to_owned(),
        }
    }
}

/// Why a peer did not reach the job.
fn rejected(reason: Reason) -> &'static str {
    match reason {
        Reason::Met(Obstacle::Unreachable) => "the job does not listen there, or did not answer",
        other => other.text(),
    }
}

/// `NAME (ADDRESS) port PORT`, as far as each is known.
fn destination(name: Option<&str>, address: Option<&str>, port: u16) -> String {
    let text = match (name, address) {
        (Some(name), Some(address)) => format!("{name} ({address}) port {port}"),
        (Some(name), None) => format!("the name {name}"),
        (None, Some(address)) => format!("{address} port {port}"),
        (None, None) => format!("port {port}"),
    };
    one_line(&text)
}

fn refused(refusal: &Refusal) -> String {
    let arguments: Vec<String> = refusal
        .arguments
        .iter()
        .map(|word| format!("{word:#x}"))
        .collect();
    format!(
        "refused {}({}) with errno {} [{}]{}",
        refusal.call,
        arguments.join(", "),
        refusal.errno,
        one_line(&refusal.rule),
        times(refusal.count)
    )
}

fn times(count: u64) -> String {
    match count {
        0 | 1 => String::new(),
        more => format!(", {more} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}31m\r\n\t\u{7f}\u{202e}gpj.exe\u{2066}é";
        let words = ["echo", hostile, "it's"].map(str::to_owned);
        let shown = Kind::exec(1, &words).text();
        assert_eq!(
            shown,
            "exec 1: echo '\\u{1b}]0;owned\\u{7}\\u{9b}31m\\r\\n\\t\\u{7f}\\u{202e}gpj.exe\\u{2066}é' 'it'\\''s'"
        );
    }

    #[test]
    fn each_event_is_one_line() {
        let event = Event {
            seq: 3,
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            kind: Kind::Exited {
                status: Status::Signal(9),
            },
        };
        assert_eq!(event.text(), "2026-01-02T03:04:05.678Z  exited: signal 9");
    }
}
