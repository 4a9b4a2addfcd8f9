//! [host] Flags that `run` and `plan` share, as typed: nothing is looked at or done here.

use crate::net::publish::Publish;
use crate::policy::flags::{AllowFlag, Flag, FlagLayer, MountFlag, TmpfsFlag, limit, variable};
use crate::policy::text::{self, TextError};
use crate::policy::words::Word;
use crate::policy::{Access, NetworkMode};
use crate::sandbox::request::User;
use clap::Args;
use std::path::PathBuf;

/// What a sandbox is made of.
#[derive(Clone, Debug, Args)]
pub struct SandboxArgs {
    /// Preset, or a file (contains a slash or ends in .toml)
    #[arg(short, long, value_name = "NAME|FILE", default_value = "untrusted")]
    pub policy: String,
    /// Directory that becomes the root; never written. Default: a read-only view of the host's programs
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<String>,
    /// Directory the job works in, at the same path inside unless =INSIDE; :ro and :copy leave it unchanged
    #[arg(short, long, value_name = "DIR[=INSIDE][:ro|:copy]", value_parser = workspace)]
    pub workspace: Option<WorkspaceArg>,
    /// Set a variable; without =VALUE, pass the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables of a file, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside
    #[arg(long, value_name = "DIR", value_parser = text::absolute_path)]
    pub workdir: Option<String>,
    /// Run as this uid and gid inside, by number
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    pub user: Option<User>,
    /// Host name inside
    #[arg(long, value_name = "NAME", value_parser = text::name)]
    pub hostname: Option<String>,
    /// Show a host file or directory inside, read-only unless :rw
    #[arg(long, value_name = "SRC=DST[:rw]")]
    pub mount: Vec<MountFlag>,
    /// Empty private directory
    #[arg(long, value_name = "DST[:SIZE]")]
    pub tmpfs: Vec<TmpfsFlag>,
    /// Network mode
    #[arg(long, value_name = "none|allowlist|open", value_parser = NetworkMode::from_word)]
    pub network: Option<NetworkMode>,
    /// Let the job reach this, by TCP; port 443 unless said. Alone it means --network allowlist
    #[arg(long, value_name = "HOST[:PORT]|CIDR[:PORT]")]
    pub allow: Vec<AllowFlag>,
    /// Let the host listen on HOSTPORT for the job's PORT, by TCP; on 127.0.0.1 unless said. 0: a free port
    #[arg(long, value_name = "[ADDR:]HOSTPORT:PORT")]
    pub publish: Vec<Publish>,
    /// Memory limit: 512M, 4G, unlimited
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<Amount<u64>>,
    /// CPU limit: 0.5, 2, unlimited
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<Amount<u32>>,
    /// Limit of processes and threads
    #[arg(long, value_name = "N", value_parser = pids)]
    pub pids: Option<Amount<u32>>,
    /// Limit of layers kept on disk
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub disk: Option<Amount<u64>>,
    /// Time limit: 90s, 10m, 1h30m, unlimited
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub timeout: Option<Amount<u64>>,
    /// Name; made up when not given
    #[arg(long, value_name = "NAME", value_parser = text::name)]
    pub name: Option<String>,
    /// Keep what the job wrote into a copied workspace, and print where it is
    #[arg(long)]
    pub keep: bool,
    /// A terminal of the job's own, even where the caller has none
    #[arg(short, long)]
    pub tty: bool,
    /// The command itself is pid 1; there is no `exec` then
    #[arg(long)]
    pub pid1: bool,
    /// Command and arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// A limit, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount<T>(pub Option<T>);

/// `--workspace` as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceArg {
    /// Directory outside.
    pub directory: String,
    /// Path inside, when another.
    pub inside: Option<String>,
    /// How it appears.
    pub access: Access,
    /// `:ro`, `:copy` or `:rw` was typed.
    pub explicit: bool,
}

fn memory(typed: &str) -> Result<Amount<u64>, TextError> {
    limit(typed, text::size).map(Amount)
}

fn cpus(typed: &str) -> Result<Amount<u32>, TextError> {
    limit(typed, text::cpus).map(Amount)
}

fn timeout(typed: &str) -> Result<Amount<u64>, TextError> {
    limit(typed, text::duration).map(Amount)
}

fn pids(typed: &str) -> Result<Amount<u32>, String> {
    let read = |typed: &str| match typed.parse() {
        Ok(0) | Err(_) => Err(format!("{typed:?} is not a number of processes above 0")),
        Ok(number) => Ok(number),
    };
    limit(typed, read).map(Amount)
}

fn user(typed: &str) -> Result<User, String> {
    // Strictly digits: "+1", "01" and names never mean a number (CVE-2026-30892).
    let number = |typed: &str| {
        let plain = !typed.is_empty()
            && typed.bytes().all(|byte| byte.is_ascii_digit())
            && (typed.len() == 1 || !typed.starts_with('0'));
        let parsed = typed
            .parse::<u32>()
            .ok()
            .filter(|id| plain && *id < u32::MAX);
        parsed.ok_or_else(|| format!("{typed:?} is not a uid or gid by number"))
    };
    match typed.split_once(':') {
        Some((uid, gid)) => Ok(User {
            uid: number(uid)?,
            gid: number(gid)?,
        }),
        None => number(typed).map(|uid| User { uid, gid: uid }),
    }
}

/// Suffixes are read from the right, so that a path may hold `:` and `=`.
fn workspace(typed: &str) -> Result<WorkspaceArg, String> {
    let (rest, access, explicit) = match typed.rsplit_once(':') {
        Some((rest, "ro")) => (rest, Access::Ro, true),
        Some((rest, "copy")) => (rest, Access::Copy, true),
        Some((rest, "rw")) => (rest, Access::Rw, true),
        _ => (typed, Access::Rw, false),
    };
    let (directory, inside) = match rest.rsplit_once('=') {
        Some((directory, inside)) => {
            let inside = text::absolute_path(inside).map_err(|error| error.to_string())?;
            (directory, Some(inside))
        }
        None => (rest, None),
    };
    if directory.is_empty() {
        return Err("the directory is missing".to_owned());
    }
    Ok(WorkspaceArg {
        directory: directory.to_owned(),
        inside,
        access,
        explicit,
    })
}

impl SandboxArgs {
    /// The last layer of the policy. Variables of `--env` without a value are the
    /// caller's own, if there are any.
    ///
    /// # Errors
    /// A variable that is none.
    pub fn flags(
        &self,
        file_variables: Vec<(String, String)>,
        caller: impl Fn(&str) -> Option<String>,
    ) -> Result<FlagLayer, TextError> {
        let mut env = file_variables;
        for typed in &self.env {
            if typed.contains('=') {
                env.push(variable(typed)?);
            } else {
                let name = text::env_name(typed)?;
                if let Some(value) = caller(&name) {
                    env.push((name, value));
                }
            }
        }
        let others = [
            (self.rootfs.is_some(), Flag::Rootfs),
            (self.workdir.is_some(), Flag::Workdir),
            (self.user.is_some(), Flag::User),
            (self.hostname.is_some(), Flag::Hostname),
        ];
        Ok(FlagLayer {
            memory: self.memory.map(|amount| amount.0),
            milli_cpus: self.cpus.map(|amount| amount.0),
            pids: self.pids.map(|amount| amount.0),
            disk: self.disk.map(|amount| amount.0),
            timeout: self.timeout.map(|amount| amount.0),
            env,
            mounts: self.mount.clone(),
            tmpfs: self.tmpfs.clone(),
            workspace: self.workspace.as_ref().map(|workspace| workspace.access),
            network: self.network,
            allow: self.allow.clone(),
            publish: self.publish.clone(),
            others: others
                .into_iter()
                .filter(|(given, _)| *given)
                .map(|(_, flag)| flag)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_suffixes_are_read_from_the_right() {
        let parsed = workspace("/a:b=c=/in:ro").unwrap();
        assert_eq!(parsed.directory, "/a:b=c");
        assert_eq!(parsed.inside.as_deref(), Some("/in"));
        assert_eq!(parsed.access, Access::Ro);
        assert_eq!(workspace("x:y").unwrap().directory, "x:y");
        for bad in ["", ":ro", "=/x", "a=b", "a=/x/../y"] {
            assert!(workspace(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn users_are_plain_numbers() {
        assert_eq!(user("5").unwrap(), User { uid: 5, gid: 5 });
        assert_eq!(user("5:6").unwrap(), User { uid: 5, gid: 6 });
        for odd in [
            "",
            "root",
            "01",
            "+1",
            "-1",
            "1:",
            ":1",
            "1:2:3",
            "0x1",
            " 1",
            "4294967295",
            "4294967296",
        ] {
            assert!(user(odd).is_err(), "{odd:?}");
        }
    }
}
