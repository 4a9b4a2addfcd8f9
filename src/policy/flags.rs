//! [pure] What the command line adds to a policy: the last layer, and its own reason.

use crate::net::grant::{Malformed, Ports, Target};
use crate::net::publish::Publish;
use crate::policy::leaf::UNLIMITED;
use crate::policy::text::{TextError, absolute_path, env_name, env_value, size};
use crate::policy::words::Word;
use crate::policy::{Access, NetworkMode};
use crate::source::diagnostic::Diagnostic;
use crate::source::mistakes::Mistakes;
use crate::source::text::Source;
use std::str::FromStr;

/// A flag of `run` that `[flags] allow` may limit, by its long name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// `--rootfs`
    Rootfs,
    /// `--workspace`
    Workspace,
    /// `--env` and `--env-file`
    Env,
    /// `--workdir`
    Workdir,
    /// `--user`
    User,
    /// `--hostname`
    Hostname,
    /// `--mount`
    Mount,
    /// `--tmpfs`
    Tmpfs,
    /// `--network`
    Network,
    /// `--allow`
    Allow,
    /// `--publish`
    Publish,
    /// `--memory`
    Memory,
    /// `--cpus`
    Cpus,
    /// `--pids`
    Pids,
    /// `--disk`
    Disk,
    /// `--timeout`
    Timeout,
}

impl Flag {
    /// As typed: `--memory`.
    pub fn typed(self) -> String {
        format!("--{}", self.word())
    }
}

/// A limit as typed; `None` is `unlimited`.
pub type Limit<T> = Option<T>;

/// The flags that were given, values already read by [`crate::policy::text`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagLayer {
    /// `--memory`, bytes.
    pub memory: Option<Limit<u64>>,
    /// `--cpus`, thousandths.
    pub milli_cpus: Option<Limit<u32>>,
    /// `--pids`.
    pub pids: Option<Limit<u32>>,
    /// `--disk`, bytes.
    pub disk: Option<Limit<u64>>,
    /// `--timeout`, seconds.
    pub timeout: Option<Limit<u64>>,
    /// `--env` and `--env-file`, in order: a later one of the same name wins.
    pub env: Vec<(String, String)>,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--tmpfs`.
    pub tmpfs: Vec<TmpfsFlag>,
    /// `--workspace`: what it asks for, held against the policy's ceiling.
    pub workspace: Option<Access>,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// `--allow`; without `--network` it means the mode `allowlist`.
    pub allow: Vec<AllowFlag>,
    /// `--publish`.
    pub publish: Vec<Publish>,
    /// Flags given that set no value of a policy but that a policy may refuse.
    pub others: Vec<Flag>,
}

/// `--mount SRC=DST[:rw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// Host path; relative ones are relative to the current directory.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Writes reach the host.
    pub writable: bool,
}

/// `--tmpfs DST[:size]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsFlag {
    /// Absolute path inside.
    pub target: String,
    /// Bytes; without, as large as the policy's /tmp.
    pub size: Option<u64>,
}

/// `--allow HOST[:PORT]|CIDR[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowFlag {
    /// Where to.
    pub to: Target,
    /// Which ports; 443 unless said.
    pub ports: Ports,
}

impl FlagLayer {
    /// Every flag that was given, in the order of [`Flag`].
    pub fn given(&self) -> Vec<Flag> {
        let fields = [
            (self.workspace.is_some(), Flag::Workspace),
            (!self.env.is_empty(), Flag::Env),
            (!self.mounts.is_empty(), Flag::Mount),
            (!self.tmpfs.is_empty(), Flag::Tmpfs),
            (self.network.is_some(), Flag::Network),
            (!self.allow.is_empty(), Flag::Allow),
            (!self.publish.is_empty(), Flag::Publish),
            (self.memory.is_some(), Flag::Memory),
            (self.milli_cpus.is_some(), Flag::Cpus),
            (self.pids.is_some(), Flag::Pids),
            (self.disk.is_some(), Flag::Disk),
            (self.timeout.is_some(), Flag::Timeout),
        ];
        let given = fields.iter().filter(|(given, _)| *given);
        let mut flags: Vec<Flag> = given.map(|(_, flag)| *flag).collect();
        flags.extend(&self.others);
        flags.sort();
        flags.dedup();
        flags
    }
}

/// Reads a limit: the word `unlimited`, or what `read` reads.
pub fn limit<T, E>(text: &str, read: impl Fn(&str) -> Result<T, E>) -> Result<Limit<T>, E> {
    match text {
        UNLIMITED => Ok(None),
        text => read(text).map(Some),
    }
}

fn refuse(text: &str, expected: &'static str, cause: &str) -> TextError {
    TextError {
        text: text.to_owned(),
        expected,
        cause: cause.to_owned(),
    }
}

impl FromStr for MountFlag {
    type Err = TextError;

    /// The suffix is read from the right, and the target begins at the last `=/`.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let (paths, writable) = match text.rsplit_once(':') {
            Some((paths, "rw")) => (paths, true),
            Some((paths, "ro")) => (paths, false),
            _ => (text, false),
        };
        let (source, target) = paths
            .rsplit_once("=/")
            .filter(|(source, _)| !source.is_empty())
            .ok_or_else(|| refuse(text, "a mount", "write SOURCE=/TARGET or SOURCE=/TARGET:rw"))?;
        Ok(Self {
            source: source.to_owned(),
            target: absolute_path(&format!("/{target}"))?,
            writable,
        })
    }
}

impl FromStr for TmpfsFlag {
    type Err = TextError;

    /// What follows the last `:` is the size.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let (target, bytes) = match text.rsplit_once(':') {
            Some((target, bytes)) => (target, Some(size(bytes)?)),
            None => (text, None),
        };
        Ok(Self {
            target: absolute_path(target)?,
            size: bytes,
        })
    }
}

impl FromStr for AllowFlag {
    type Err = TextError;

    /// What follows the only `:` is the port; where there are more, it is an IPv6 address,
    /// which has a port only in brackets: `[ADDRESS]:PORT`, `[ADDRESS/PREFIX]:PORT`.
    fn from_str(text: &str) -> Result<Self, TextError> {
        let bracketed = text
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]:"));
        let (to, ports) = match (bracketed, text.split_once(':')) {
            (Some((to, ports)), _) if to.contains(':') => (to, Some(ports)),
            (_, Some((to, ports))) if !ports.contains([':', '/']) => (to, Some(ports)),
            _ => (text, None),
        };
        let mistake = |error: Malformed| refuse(text, "a destination", error.0);
        Ok(Self {
            to: Target::parse(to).map_err(mistake)?,
            ports: ports
                .map_or(Ok(Ports::one(443)), Ports::parse)
                .map_err(mistake)?,
        })
    }
}

/// `NAME=VALUE`, as `--env` takes it.
pub fn variable(text: &str) -> Result<(String, String), TextError> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| refuse(text, "a variable", "write NAME=VALUE"))?;
    Ok((env_name(name)?, env_value(value)?))
}

/// The variables of an `--env-file`: a `NAME=VALUE` on each line, taken literally; empty lines and those that begin with `#` are skipped.
pub fn variables(file: &Source) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let mut mistakes = Mistakes::default();
    let mut variables = Vec::new();
    let mut start = 0;
    for line in file.text().split_inclusive('\n') {
        let said = line.trim_end_matches(['\n', '\r']);
        if !said.is_empty() && !said.starts_with('#') {
            match variable(said) {
                Ok(variable) => variables.push(variable),
                Err(error) => {
                    let place = file.place(start..start + said.len());
                    mistakes.push(Diagnostic::error(error.to_string()).at(place));
                }
            }
        }
        start += line.len();
    }
    mistakes.or(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_what_was_given() {
        assert_eq!(FlagLayer::default().given(), []);
        let flags = FlagLayer {
            memory: Some(None),
            env: vec![("A".into(), "b".into())],
            others: vec![Flag::Rootfs, Flag::Rootfs],
            ..FlagLayer::default()
        };
        assert_eq!(flags.given(), [Flag::Rootfs, Flag::Env, Flag::Memory]);
        assert_eq!(Flag::Memory.typed(), "--memory");
    }

    #[test]
    fn mounts_read_from_the_right() {
        let mount = |text: &str| text.parse::<MountFlag>();
        let read = |text: &str| {
            mount(text)
                .map(|m| (m.source, m.target, m.writable))
                .unwrap()
        };
        assert_eq!(read("/a=/b"), ("/a".into(), "/b".into(), false));
        assert_eq!(read("a=b:c=/d:rw"), ("a=b:c".into(), "/d".into(), true));
        assert_eq!(read("/a=/b:ro"), ("/a".into(), "/b".into(), false));
        for text in ["", "/a", "=/b", "/a=b", "/a=/../b", "/a=/b\n"] {
            assert!(mount(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_ipv6_address_has_a_port_in_brackets() {
        for (text, to, port) in [
            ("[2001:db8::1]:8080", "2001:db8::1/128", 8080),
            ("[2001:db8::/32]:80", "2001:db8::/32", 80),
            ("2001:db8::/32", "2001:db8::/32", 443),
        ] {
            let flag: AllowFlag = text.parse().unwrap();
            assert_eq!(
                (flag.to.to_string().as_str(), flag.ports),
                (to, Ports::one(port))
            );
        }
        for bad in [
            "[a.b]:80",
            "[10.0.0.1]:80",
            "[2001:db8::1]",
            "[2001:db8::1]:",
            "[::1",
        ] {
            assert!(bad.parse::<AllowFlag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations_have_port_443_unless_said() {
        let read = |text: &str| {
            let allow = text.parse::<AllowFlag>();
            allow.map(|allow| format!("{} {}", allow.to, allow.ports))
        };
        for (text, allow) in [
            ("Example.com", "example.com 443"),
            ("*.cdn.example.com:8000-8099", "*.cdn.example.com 8000-8099"),
            ("10.1.2.0/24:5432", "10.1.2.0/24 5432"),
            ("192.0.2.1", "192.0.2.1/32 443"),
            ("2001:db8::/32", "2001:db8::/32 443"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(allow));
        }
        for text in [
            "",
            ":443",
            "a.b:",
            "a.b:0",
            "a.b:x",
            "a.b:443:1",
            "*",
            "*:443",
            "10.0.0.1/8",
            "https://a.b",
            "a.b/x",
            "[::1:80",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!(
            read("a.b:99999").unwrap_err().to_string(),
            "\"a.b:99999\" is not a destination: a port is a number from 1 to 65535"
        );
    }

    #[test]
    fn tmpfs_may_have_a_size() {
        let read = |text: &str| text.parse::<TmpfsFlag>().map(|t| (t.target, t.size));
        assert_eq!(read("/t"), Ok(("/t".into(), None)));
        assert_eq!(read("/t:1K"), Ok(("/t".into(), Some(1024))));
        assert!(read("t").is_err() && read("/t:x").is_err() && read("/t:").is_err());
    }

    #[test]
    fn a_limit_may_be_lifted() {
        assert_eq!(limit("unlimited", size), Ok(None));
        assert_eq!(limit("1K", size), Ok(Some(1024)));
        assert!(limit("none", size).is_err());
    }

    #[test]
    fn variables_come_from_lines() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        let file = |text: &str| variables(&Source::file("env", text));
        let read = file("# x\n\nA=1\r\nB= 'two' \nA=3").unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(read, [("A", "1"), ("B", " 'two' "), ("A", "3")]);
        let mistakes = file("A=1\nB\nC C=2\n").unwrap_err();
        let spans: Vec<_> = mistakes
            .iter()
            .map(|m| m.place.as_ref().unwrap().span.clone())
            .collect();
        assert_eq!(spans, [4..5, 6..11]);
        assert_eq!(
            mistakes[0].message,
            "\"B\" is not a variable: write NAME=VALUE"
        );
    }
}
