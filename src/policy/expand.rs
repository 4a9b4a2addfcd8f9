//! [pure] Host paths as written, made absolute with what the reader knows of the caller.

use crate::policy::text::{TextError, absolute_path};
use crate::source::text::At;

/// What the beginning of a host path may stand for; `None` where the caller has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// `~/`
    pub home: Option<String>,
    /// `$XDG_RUNTIME_DIR`
    pub xdg_runtime_dir: Option<String>,
    /// `$SSH_AUTH_SOCK`
    pub ssh_auth_sock: Option<String>,
    /// Where relative paths of the policy file begin: its own directory, absolute.
    pub file_dir: Option<String>,
    /// Where relative paths of flags begin: the current directory.
    pub current_dir: Option<String>,
}

impl Expansion {
    /// `text`, written at `at`, as an absolute path.
    ///
    /// Only a leading `~/`, `$SSH_AUTH_SOCK` or `$XDG_RUNTIME_DIR` expands, and
    /// never in a flag: there the shell has done it.
    pub fn host_path(&self, text: &str, at: &At) -> Result<String, TextError> {
        let refuse = |cause: &str| TextError {
            text: text.to_owned(),
            expected: "a path that can be used here",
            cause: cause.to_owned(),
        };
        let (beginning, rest) = text.split_once('/').unwrap_or((text, ""));
        let (base, unknown) = match (at, beginning) {
            (_, "") => return absolute_path(text),
            (At::Flag(_), _) => (&self.current_dir, "the current directory is not known"),
            (_, "~") => (&self.home, "HOME is not set to an absolute path"),
            (_, "$XDG_RUNTIME_DIR") => (
                &self.xdg_runtime_dir,
                "XDG_RUNTIME_DIR is not set to an absolute path",
            ),
            (_, "$SSH_AUTH_SOCK") => (
                &self.ssh_auth_sock,
                "SSH_AUTH_SOCK is not set to an absolute path",
            ),
            (_, other) if other.starts_with(['~', '$']) => {
                return Err(refuse(
                    "only a leading ~/, $XDG_RUNTIME_DIR or $SSH_AUTH_SOCK expands",
                ));
            }
            (At::Text { .. }, _) => (
                &self.file_dir,
                "the directory of the policy file is not known",
            ),
        };
        let base = base.as_deref().ok_or_else(|| refuse(unknown))?;
        let expands = matches!(at, At::Text { .. }) && beginning.starts_with(['~', '$']);
        absolute_path(&format!("{base}/{}", if expands { rest } else { text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::text::Source;
    use std::sync::Arc;

    fn expand(text: &str, at: &At) -> Result<String, String> {
        let expansion = Expansion {
            home: Some("/home/u".into()),
            xdg_runtime_dir: Some("/run/user/7".into()),
            ssh_auth_sock: None,
            file_dir: Some("/etc/ci".into()),
            current_dir: Some("/src".into()),
        };
        expansion
            .host_path(text, at)
            .map_err(|error| error.to_string())
    }

    fn in_file() -> At {
        At::Text {
            source: Arc::new(Source::file("p.toml", "")),
            span: 0..0,
        }
    }

    #[test]
    fn only_the_beginning_expands_and_only_in_a_file() {
        let good = [
            ("/a", "/a"),
            ("~/a", "/home/u/a"),
            ("$XDG_RUNTIME_DIR", "/run/user/7"),
            ("$XDG_RUNTIME_DIR/bus", "/run/user/7/bus"),
            ("./a", "/etc/ci/a"),
            ("a/~/$HOME", "/etc/ci/a/~/$HOME"),
        ];
        for (text, path) in good {
            assert_eq!(expand(text, &in_file()).as_deref(), Ok(path));
        }
        let flag = At::Flag("--mount".into());
        assert_eq!(expand("~/a", &flag).as_deref(), Ok("/src/~/a"));
        assert_eq!(expand("a", &flag).as_deref(), Ok("/src/a"));
    }

    #[test]
    fn what_cannot_expand_is_refused() {
        let bad = [
            (
                "~root/a",
                "only a leading ~/, $XDG_RUNTIME_DIR or $SSH_AUTH_SOCK expands",
            ),
            (
                "$HOME/a",
                "only a leading ~/, $XDG_RUNTIME_DIR or $SSH_AUTH_SOCK expands",
            ),
            (
                "$SSH_AUTH_SOCK",
                "SSH_AUTH_SOCK is not set to an absolute path",
            ),
        ];
        for (text, cause) in bad {
            let message = format!("{text:?} is not a path that can be used here: {cause}");
            assert_eq!(expand(text, &in_file()), Err(message));
        }
        assert!(expand("../a", &in_file()).is_err());
    }
}
