//! [host] Finding and reading the policy that a command names: a preset, or a file.

use crate::policy::diff::{Loosening, loosenings};
use crate::policy::expand::Expansion;
use crate::policy::flags::FlagLayer;
use crate::policy::forbidden::{ForbiddenRoot, HostDirectories, roots};
use crate::policy::layer::layer;
use crate::policy::presets::{self, STRICT};
use crate::policy::schema::{RawPolicy, TEXT_MAX, parse};
use crate::policy::validate::{Surroundings, validate};
use crate::policy::{MountGrant, Policy};
use crate::source::diagnostic::Diagnostic;
use crate::source::text::Source;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the caller's account and this program mean for reading a policy.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// What the beginnings of host paths stand for; the policy file's directory is filled in by [`load`].
    pub expansion: Expansion,
    /// Directories that no policy may give away.
    pub forbidden: Vec<ForbiddenRoot>,
    /// The kernel's names of all system calls we know.
    pub known_calls: &'a [&'a str],
}

impl<'a> Reading<'a> {
    /// From the environment and the current directory.
    ///
    /// `state` are the directories in which we keep state, data and caches,
    /// `programs` those of our programs and policies; all absolute.
    pub fn of_caller(
        state: Vec<String>,
        programs: Vec<String>,
        known_calls: &'a [&'a str],
    ) -> Self {
        let absolute = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|path| path.starts_with('/'))
        };
        let here = std::env::current_dir().ok();
        let expansion = Expansion {
            home: absolute("HOME"),
            xdg_runtime_dir: absolute("XDG_RUNTIME_DIR"),
            ssh_auth_sock: absolute("SSH_AUTH_SOCK"),
            file_dir: None,
            current_dir: here.and_then(|path| path.into_os_string().into_string().ok()),
        };
        let forbidden = roots(&HostDirectories {
            homes: expansion.home.iter().cloned().collect(),
            xdg_runtime_dir: expansion.xdg_runtime_dir.clone(),
            state,
            programs,
        });
        Self {
            expansion,
            forbidden,
            known_calls,
        }
    }
}

/// Finds, reads and checks the policy called `selector`, with `flags` laid over it.
///
/// A selector with a slash, or that ends in `.toml`, is a file; any other is a preset.
pub fn load(
    selector: &str,
    flags: &FlagLayer,
    reading: &Reading<'_>,
) -> Result<Policy, Vec<Diagnostic>> {
    let mut expansion = reading.expansion.clone();
    let raw = if is_file(selector) {
        expansion.file_dir = directory_of(selector);
        read_file(selector)?
    } else {
        presets::parse_preset(selector)?
    };
    let surroundings = Surroundings {
        expansion: &expansion,
        forbidden: &reading.forbidden,
        known_calls: reading.known_calls,
    };
    validate(&layer(raw, flags)?, &surroundings)
}

/// What `policy` allows beyond `strict`, most dangerous first.
pub fn warnings(policy: &Policy) -> Result<Vec<Loosening>, Vec<Diagnostic>> {
    Ok(loosenings(&Policy::preset(STRICT)?, policy))
}

/// Mount sources that do not exist or are not named by their own path.
///
/// Asked before a start, not by `policy check`: a policy may be written on
/// another host. A symbolic link in a source would let whoever owns it choose
/// what is mounted, so the path it leads to must be named; whoever mounts
/// opens the source without following links.
pub fn unusable_sources(policy: &Policy) -> Vec<Diagnostic> {
    let mounts = policy.filesystem.mounts.iter();
    mounts.filter_map(unusable_source).collect()
}

fn unusable_source(mount: &MountGrant) -> Option<Diagnostic> {
    let (source, origin) = (&mount.source, &mount.origin);
    let refuse = |cause: &str, help: String| {
        let message = format!("cannot mount {source} ({origin}): {cause}");
        Some(Diagnostic::error(message).with_help(help))
    };
    match Path::new(source).canonicalize() {
        Ok(resolved) if resolved == Path::new(source) => None,
        Ok(resolved) => refuse(
            "its path goes through a symbolic link",
            format!("if that is what you mean, name {}", resolved.display()),
        ),
        Err(error) => refuse(
            &error.to_string(),
            "make it, or remove the mount".to_owned(),
        ),
    }
}

/// Whether a selector names a file and not a preset.
pub fn is_file(selector: &str) -> bool {
    selector.contains('/') || selector.ends_with(".toml")
}

/// The file's directory with symbolic links resolved, so that a relative path may begin there.
fn directory_of(path: &str) -> Option<String> {
    let parent = Path::new(path).parent()?;
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let resolved = parent.canonicalize().ok()?;
    resolved.into_os_string().into_string().ok()
}

fn read_file(path: &str) -> Result<RawPolicy, Vec<Diagnostic>> {
    let refuse = |cause: String, help: &str| {
        let message = format!("cannot read the policy file {path}: {cause}");
        vec![Diagnostic::error(message).with_help(help)]
    };
    let bytes =
        read_bounded(path).map_err(|cause| refuse(cause, "a policy is a readable TOML file"))?;
    if bytes.len() > TEXT_MAX {
        let cause = format!("it is larger than {} KiB", TEXT_MAX >> 10);
        return Err(refuse(cause, "a policy is a short TOML file"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refuse(
            format!("byte {at} is not UTF-8"),
            "a TOML file is UTF-8 text",
        )
    })?;
    parse(Source::file(path, &text))
}

/// At most one byte more than a policy may have, from a regular file.
///
/// O_NONBLOCK keeps a named pipe from holding us before we can see what it is.
fn read_bounded(path: &str) -> Result<Vec<u8>, String> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file: File = options.open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(TEXT_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory of its own for a test, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let name = format!("cofferdam-policy-{}-{test}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn file(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path.into_os_string().into_string().unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn load_it(selector: &str) -> Result<Policy, Diagnostic> {
        let reading =
            Reading::of_caller(vec!["/var/lib/cofferdam".into()], Vec::new(), &["ptrace"]);
        load(selector, &FlagLayer::default(), &reading)
            .map_err(|mut diagnostics| diagnostics.remove(0))
    }

    #[test]
    fn a_slash_or_toml_makes_a_file() {
        assert!(is_file("./strict") && is_file("ci.toml") && is_file("/etc/x"));
        assert!(!is_file("strict") && !is_file("toml"));
    }

    #[test]
    fn a_preset_is_found_and_a_stranger_gets_the_list() {
        assert_eq!(load_it("untrusted").unwrap().name, "untrusted");
        let slip = load_it("untrsted").unwrap_err();
        assert_eq!(slip.message, "unknown preset `untrsted`");
        assert_eq!(
            slip.help.as_deref(),
            Some("did you mean `untrusted`? the presets are: strict, untrusted, ci")
        );
    }

    #[test]
    fn relative_sources_begin_at_the_file() {
        let directory = Directory::new("relative");
        let text = b"schema = 1\n[[filesystem.mount]]\nsource = \"data\"\ntarget = \"/data\"\nwhy = \"x\"\n";
        let path = directory.file("p.toml", text);
        let policy = load_it(&path).unwrap();
        let expected = directory.0.join("data");
        assert_eq!(Path::new(&policy.filesystem.mounts[0].source), expected);
    }

    #[test]
    fn a_source_must_exist_under_its_own_name() {
        let directory = Directory::new("sources");
        let text = b"schema = 1\nfilesystem.mount = [{ source = \"data\", target = \"/data\", why = \"x\" }]\n";
        let path = directory.file("p.toml", text);
        let policy = load_it(&path).unwrap();
        let cause = || unusable_sources(&policy).first().map(ToString::to_string);
        let data = directory.0.join("data");
        let named = format!("cannot mount {} ({path}:2): ", data.display());
        assert_eq!(
            cause(),
            Some(format!("{named}No such file or directory (os error 2)"))
        );
        std::os::unix::fs::symlink("/", &data).unwrap();
        assert_eq!(
            cause(),
            Some(format!("{named}its path goes through a symbolic link"))
        );
        std::fs::remove_file(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        assert_eq!(cause(), None);
    }

    #[test]
    fn what_is_no_policy_file_is_refused_by_its_cause() {
        let directory = Directory::new("refused");
        let pipe = directory.0.join("pipe.toml");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let cases = [
            (directory.file("a.toml", b"\xff"), "byte 0 is not UTF-8"),
            (
                directory.file("b.toml", &vec![b' '; TEXT_MAX + 1]),
                "it is larger than 1024 KiB",
            ),
            (
                directory.0.display().to_string(),
                "it is not a regular file",
            ),
            (pipe.display().to_string(), "it is not a regular file"),
            ("/dev/zero".into(), "it is not a regular file"),
            (
                format!("{}/none.toml", directory.0.display()),
                "No such file or directory (os error 2)",
            ),
        ];
        for (path, cause) in cases {
            let message = load_it(&path).unwrap_err().message;
            assert_eq!(
                message,
                format!("cannot read the policy file {path}: {cause}")
            );
        }
    }
}
