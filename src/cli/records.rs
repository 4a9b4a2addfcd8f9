//! [host] Finds the records that a sandbox leaves: plan.json and events.jsonl in a directory of its name.

use crate::event::sink;
use crate::sandbox::plan::Plan;
use crate::source::diagnostic::Diagnostic;
use crate::source::nearest::nearest;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Its name in the directory of a sandbox's records.
pub const PLAN: &str = "plan.json";

/// Where records are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// `$XDG_DATA_HOME/cofferdam/sandboxes`: a directory per sandbox.
    pub data: PathBuf,
}

/// The records of one sandbox: its directory, open.
#[derive(Debug)]
pub struct Records {
    /// Where they are.
    pub path: PathBuf,
    directory: OwnedFd,
    events: String,
}

/// `[a-z0-9][a-z0-9_.-]{0,62}`: no such name leads out of a directory.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|&first| plain(first))
        && bytes
            .iter()
            .all(|&byte| plain(byte) || b"_.-".contains(&byte))
}

fn failed(operation: &str, path: &Path, cause: impl Display) -> Diagnostic {
    Diagnostic::error(format!("{operation} {}: {cause}", path.display()))
}

impl Paths {
    /// The records of the sandbox with this name; without one, of the sandbox that ran last.
    ///
    /// # Errors
    /// There is none, with the nearest name there is; or they cannot be read.
    pub fn find(&self, name: Option<&str>) -> Result<Records, Diagnostic> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.latest()?,
        };
        if !is_name(&name) {
            return Err(
                Diagnostic::error(format!("{name:?} is no name of a sandbox")).with_help(
                    "a name has letters a-z, digits, and after the first of them also _ . -",
                ),
            );
        }
        let path = self.data.join(&name);
        if !path.is_dir() {
            return Err(self.unknown(&name)?);
        }
        Records::open(path, sink::FILE, OFlags::NOFOLLOW)
    }

    fn unknown(&self, name: &str) -> Result<Diagnostic, Diagnostic> {
        let known: Vec<String> = self.list()?.into_iter().map(|(known, _)| known).collect();
        let help = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "no sandbox has run yet".to_owned(),
            None => format!("there are records of: {}", known.join(", ")),
        };
        Ok(Diagnostic::error(format!("no sandbox has the name {name}")).with_help(help))
    }

    fn latest(&self) -> Result<String, Diagnostic> {
        let newest = self.list()?.into_iter().max_by_key(|(_, time)| *time);
        newest.map(|(name, _)| name).ok_or_else(|| {
            Diagnostic::error("there are no records of any sandbox")
                .with_help("run one first: cofferdam run -- COMMAND")
        })
    }

    /// Names, each with the time of its plan, which is written once.
    fn list(&self) -> Result<Vec<(String, std::time::SystemTime)>, Diagnostic> {
        let entries = match std::fs::read_dir(&self.data) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed("reading", &self.data, cause)),
        };
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| failed("reading", &self.data, cause))?;
            let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| is_name(name))
                .map(str::to_owned)
            else {
                continue;
            };
            // Without a plan it is half made, or half removed.
            if let Ok(time) = entry
                .path()
                .join(PLAN)
                .metadata()
                .and_then(|data| data.modified())
            {
                list.push((name, time));
            }
        }
        list.sort();
        Ok(list)
    }
}

impl Records {
    /// An event log by its path, and the plan beside it; or the directory that holds both.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn at(path: &Path) -> Result<Self, Diagnostic> {
        if path.is_dir() {
            return Self::open(path.to_owned(), sink::FILE, OFlags::empty());
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| {
                Diagnostic::error(format!("{} does not name an event log", path.display()))
            })?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        Self::open(
            parent.unwrap_or(Path::new(".")).to_owned(),
            name,
            OFlags::empty(),
        )
    }

    fn open(path: PathBuf, events: &str, extra: OFlags) -> Result<Self, Diagnostic> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
        let directory = openat(CWD, &path, flags, Mode::empty())
            .map_err(|cause| failed("opening", &path, cause))?;
        Ok(Self {
            path,
            directory,
            events: events.to_owned(),
        })
    }

    /// The bytes of the plan, as they are hashed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn plan_bytes(&self) -> Result<Vec<u8>, Diagnostic> {
        self.read(self.file(PLAN)?, PLAN)
    }

    /// The plan.
    ///
    /// # Errors
    /// It cannot be read, or is no plan of this version.
    pub fn plan(&self) -> Result<Plan, Diagnostic> {
        serde_json::from_slice(&self.plan_bytes()?).map_err(|cause| {
            failed("reading", &self.path.join(PLAN), cause)
                .with_help("it was written by another version of Cofferdam, or changed")
        })
    }

    /// The whole event log.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn event_bytes(&self) -> Result<Vec<u8>, Diagnostic> {
        self.read(self.event_file()?, &self.events)
    }

    /// The event log, open for reading.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn event_file(&self) -> Result<File, Diagnostic> {
        self.file(&self.events)
    }

    /// A regular file; opening anything else neither waits nor follows.
    fn file(&self, name: &str) -> Result<File, Diagnostic> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty())
            .map_err(|cause| failed("opening", &path, cause))?;
        let stat = fstat(&file).map_err(|cause| failed("looking at", &path, cause))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed("opening", &path, "not a regular file"));
        }
        Ok(File::from(file))
    }

    fn read(&self, file: File, name: &str) -> Result<Vec<u8>, Diagnostic> {
        let path = self.path.join(name);
        let bytes =
            sink::read_bounded(file.as_fd()).map_err(|cause| failed("reading", &path, cause))?;
        bytes.ok_or_else(|| failed("reading", &path, "larger than any record of a sandbox"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["a", "0", "job-1_x.y", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "é", "a b", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_and_the_newest_is_the_default() {
        let data = std::env::temp_dir().join(format!("cofferdam-records-{}", std::process::id()));
        let paths = Paths { data: data.clone() };
        assert_eq!(
            paths.find(None).unwrap_err().to_string(),
            "there are no records of any sandbox"
        );
        for (name, seconds) in [("builder", 20), ("tester", 30), ("older", 10)] {
            std::fs::create_dir_all(data.join(name)).unwrap();
            let plan = File::create(data.join(name).join(PLAN)).unwrap();
            plan.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .unwrap();
        }
        std::fs::create_dir_all(data.join("no-plan")).unwrap();
        assert_eq!(paths.find(None).unwrap().path, data.join("tester"));
        let slip = paths.find(Some("bulider")).unwrap_err();
        assert_eq!(slip.help.as_deref(), Some("did you mean `builder`?"));
        let strange = paths.find(Some("zzzzzzzz")).unwrap_err();
        assert_eq!(
            strange.help.as_deref(),
            Some("there are records of: builder, older, tester")
        );
        assert!(paths.find(Some("../tester")).is_err());
        std::fs::remove_dir_all(&data).unwrap();
    }
}
