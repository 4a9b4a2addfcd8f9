//! [pure] What `--why` asks about: a path, a system call, or an address.

use crate::linux::syscall::Syscall;
use crate::source::diagnostic::Diagnostic;
use crate::source::nearest::nearest;
use core::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A question that the plan can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A path inside.
    Path(String),
    /// A system call, with its arguments if they were given.
    Call(Syscall, Option<[u64; 6]>),
    /// An address as written, and its host part.
    Address(String, String),
}

impl FromStr for Question {
    type Err = Diagnostic;

    /// `/etc/passwd`, `./x`; `ptrace`, `socket(17, 3, 0)`; `10.0.0.1:80`, `[::1]:80`, `example.org`.
    ///
    /// # Errors
    /// It is none of these.
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let (word, arguments) = match text.split_once('(') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        if word.contains('/') || word == "." || word == ".." {
            return Ok(Self::Path(text.to_owned()));
        }
        match (Syscall::from_name(word), arguments) {
            (Some(call), None) => return Ok(Self::Call(call, None)),
            (Some(call), Some(rest)) => return Ok(Self::Call(call, Some(numbers(rest)?))),
            (None, Some(_)) => return Err(unknown(text, word)),
            (None, None) => {}
        }
        match host(text) {
            Some(host) => Ok(Self::Address(text.to_owned(), host.to_owned())),
            None => Err(unknown(text, word)),
        }
    }
}

fn unknown(text: &str, word: &str) -> Diagnostic {
    let names = Syscall::ALL.iter().map(|call| call.name());
    let help = match nearest(word, names) {
        Some(near) => {
            format!("did you mean the system call `{near}`? a path has a slash: ./{word}")
        }
        None => format!(
            "a path has a slash: ./{word}; an address is 10.0.0.1:80, [::1]:80 or host.example"
        ),
    };
    Diagnostic::error(format!("{text:?} is no path, system call or address")).with_help(help)
}

/// `17, 0x3, 0)`: up to six numbers, the rest 0. Negative ones stand for all their 64 bits.
fn numbers(rest: &str) -> Result<[u64; 6], Diagnostic> {
    let bad = |what: &str| {
        Diagnostic::error(format!("{what} in the arguments of the system call"))
            .with_help("up to six numbers, such as socket(17, 3, 0x300)")
    };
    let list = rest
        .strip_suffix(')')
        .ok_or_else(|| bad("no closing parenthesis"))?;
    let mut numbers = [0; 6];
    if list.trim().is_empty() {
        return Ok(numbers);
    }
    for (at, word) in list.split(',').map(str::trim).enumerate() {
        let slot = numbers.get_mut(at).ok_or_else(|| bad("more than six"))?;
        *slot = number(word).ok_or_else(|| bad(&format!("{word:?} is no number")))?;
    }
    Ok(numbers)
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if word.starts_with('-') => word.parse::<i64>().ok().map(i64::cast_unsigned),
        None => word.parse().ok(),
    }
}

/// The host of `ip`, `ip:port`, `[ip]:port`, `name`, `name:port`; a lone word but localhost is no name.
fn host(text: &str) -> Option<&str> {
    if text.parse::<IpAddr>().is_ok() {
        return Some(text);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return None;
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Some(host.trim_start_matches('[').trim_end_matches(']'));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let labels = host.trim_end_matches('.');
    let named = host == "localhost" || port.is_some() || labels.contains('.');
    (named && labels.split('.').all(label)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Question {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_is_told_by_its_form() {
        assert_eq!(ask("/etc/passwd"), Question::Path("/etc/passwd".into()));
        assert_eq!(ask("./odd(name"), Question::Path("./odd(name".into()));
        assert_eq!(ask("ptrace"), Question::Call(Syscall::ptrace, None));
        assert_eq!(
            ask("socket(17, 0x3,-1)"),
            Question::Call(Syscall::socket, Some([17, 3, u64::MAX, 0, 0, 0]))
        );
        assert_eq!(ask("sync()"), Question::Call(Syscall::sync, Some([0; 6])));
        for (text, host) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("::1", "::1"),
            ("[fe80::1]:443", "fe80::1"),
            ("example.org", "example.org"),
            ("registry:5000", "registry"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(ask(text), Question::Address(text.into(), host.into()));
        }
    }

    #[test]
    fn what_is_none_of_them_gets_the_nearest() {
        let slip = "ptrase".parse::<Question>().unwrap_err();
        assert!(
            slip.help
                .unwrap()
                .starts_with("did you mean the system call `ptrace`?")
        );
        for bad in [
            "",
            "Makefile",
            "socket(1",
            "socket(1,2,3,4,5,6,7)",
            "socket(x)",
            "nocall(1)",
            "a:99999",
            "a..b",
            "\u{1b}[m",
        ] {
            assert!(bad.parse::<Question>().is_err(), "{bad:?}");
        }
    }
}
