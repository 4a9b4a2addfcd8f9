//! [host] Appends events to `events.jsonl`: admitted by the gate, linked by the chain.
//!
//! No threads and no fsync: an event is one write(2), there as soon as it has
//! happened, and what a crash of the host loses is a tail that a kept head shows.

use super::chain::{Broken, Chain, Digest, verify};
use super::gate::{FILE_BYTES, Gate};
use super::{Kind, time};
use crate::sys::lock;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, openat};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Its name in the directory of a sandbox's records.
pub const FILE: &str = "events.jsonl";

/// The event log of one sandbox, being written. While it lives, the file is
/// locked: nobody else writes, and readers can tell.
#[derive(Debug)]
pub struct Sink {
    file: File,
    bytes: u64,
    torn: bool,
    chain: Chain,
    gate: Gate,
    clock: Instant,
}

/// Why an event log cannot be opened or written.
#[derive(Debug)]
pub enum SinkError {
    /// events.jsonl cannot be made; it must not exist.
    Create(io::Error),
    /// events.jsonl cannot be opened.
    Open(io::Error),
    /// Another process writes it.
    Lock(io::Error),
    /// It cannot be read.
    Read(io::Error),
    /// It is larger than any that we write.
    TooLarge,
    /// It does not hold together with plan.json.
    Broken(Broken),
    /// An event cannot be written; the ones before it stand.
    Write(io::Error),
    /// An event has no JSON form.
    Encode(serde_json::Error),
}

impl SinkError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Create(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                "remove the older records of that name first: cofferdam rm NAME"
            }
            Self::Create(_) | Self::Open(_) | Self::Read(_) => {
                "the directory must belong to you and be a real one, with mode 0700"
            }
            Self::Lock(_) => "the sandbox still has a supervisor: cofferdam stop NAME",
            Self::TooLarge | Self::Broken(_) => {
                "somebody else wrote there: keep the file for inspection and remove the sandbox"
            }
            Self::Write(_) => "make room on the file system of the data directory",
            Self::Encode(_) => "report it: this is a mistake in Cofferdam",
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Create(_) => "making events.jsonl",
            Self::Open(_) => "opening events.jsonl",
            Self::Lock(_) => "locking events.jsonl",
            Self::Read(_) => "reading events.jsonl",
            Self::TooLarge => "reading events.jsonl: it is larger than an event log can be",
            Self::Broken(_) => "continuing events.jsonl",
            Self::Write(_) => "writing events.jsonl",
            Self::Encode(_) => "encoding an event",
        })
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create(cause)
            | Self::Open(cause)
            | Self::Lock(cause)
            | Self::Read(cause)
            | Self::Write(cause) => Some(cause),
            Self::Broken(cause) => Some(cause),
            Self::Encode(cause) => Some(cause),
            Self::TooLarge => None,
        }
    }
}

impl Sink {
    /// A new log below `directory` for the plan whose file has the bytes `plan`.
    /// At most `per_second` events of the job's making are written each second.
    ///
    /// # Errors
    /// The file exists, or cannot be made.
    pub fn create(
        directory: BorrowedFd<'_>,
        plan: &[u8],
        per_second: u32,
    ) -> Result<Self, SinkError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let file = open(directory, flags).map_err(SinkError::Create)?;
        lock::take(&file).map_err(SinkError::Lock)?;
        Ok(Self::over(file, 0, Chain::new(plan), per_second))
    }

    /// The log that a dead supervisor left, checked, to be continued. A line that
    /// it did not finish is cut off.
    ///
    /// # Errors
    /// Another process writes it, or it does not hold together with the plan.
    pub fn resume(
        directory: BorrowedFd<'_>,
        plan: &[u8],
        per_second: u32,
    ) -> Result<Self, SinkError> {
        let file = open(directory, OFlags::RDWR).map_err(SinkError::Open)?;
        lock::take(&file).map_err(SinkError::Lock)?;
        let mut bytes = read_all(&file)?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < bytes.len() {
            bytes.truncate(whole);
            file.set_len(whole as u64).map_err(SinkError::Write)?;
        }
        let chain = verify(plan, &bytes, None).map_err(SinkError::Broken)?.chain;
        Ok(Self::over(file, whole as u64, chain, per_second))
    }

    fn over(file: File, bytes: u64, chain: Chain, per_second: u32) -> Self {
        Self {
            file,
            bytes,
            torn: false,
            chain,
            gate: Gate::new(per_second, 0),
            clock: Instant::now(),
        }
    }

    /// Hash of the plan and all that is written so far.
    pub fn head(&self) -> Digest {
        self.chain.head()
    }

    /// Records that something happened. Repeats of a refusal and what comes too
    /// fast are counted, and the counts written with a later event, by
    /// [`Sink::settle`], or before [`Kind::Ended`].
    ///
    /// # Errors
    /// The file cannot be written; the event is then counted as dropped.
    pub fn record(&mut self, kind: Kind) -> Result<(), SinkError> {
        let admitted = self.gate.admit(self.now(), self.bytes, kind);
        self.write(admitted)
    }

    /// Writes the counts that are held back; for a quiet moment, or when no [`Kind::Ended`] follows.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn settle(&mut self) -> Result<(), SinkError> {
        let held = self.gate.settle(self.now(), self.bytes);
        self.write(held)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn write(&mut self, kinds: Vec<Kind>) -> Result<(), SinkError> {
        let mut left: u64 = kinds.iter().map(Kind::count).sum();
        for kind in kinds {
            let count = kind.count();
            if let Err(error) = self.append(kind) {
                self.gate.lost(left);
                return Err(error);
            }
            left -= count;
        }
        Ok(())
    }

    /// One line, or nothing: half a line is taken back.
    fn append(&mut self, kind: Kind) -> Result<(), SinkError> {
        let (line, chain) = self
            .chain
            .line(time::rfc3339(wall_clock()), kind)
            .map_err(SinkError::Encode)?;
        self.mend().map_err(SinkError::Write)?;
        if let Err(cause) = self.file.write_all(line.as_bytes()) {
            self.torn = true;
            self.mend().map_err(SinkError::Write)?;
            return Err(SinkError::Write(cause));
        }
        self.bytes += line.len() as u64;
        self.chain = chain;
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.torn = false;
        }
        Ok(())
    }
}

fn open(directory: BorrowedFd<'_>, flags: OFlags) -> io::Result<File> {
    let always = OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, FILE, flags | always, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

/// The whole log from the file's present place on.
fn read_all(file: &File) -> Result<Vec<u8>, SinkError> {
    read_bounded(file.as_fd())
        .map_err(SinkError::Read)?
        .ok_or(SinkError::TooLarge)
}

/// Reads an event log; None if it is larger than one can be.
///
/// # Errors
/// The error of read(2).
pub fn read_bounded(file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    // Beside the admitted bytes there are the few events of the supervisor's own.
    const MOST: u64 = FILE_BYTES + (1 << 20);
    let mut bytes = Vec::new();
    File::from(file.try_clone_to_owned()?)
        .take(MOST + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MOST).then_some(bytes))
}

/// Milliseconds since 1970; a clock before that counts as 1970.
fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Status;
    use crate::event::{Decider, Refusal};
    use crate::linux::syscall::Syscall;
    use rustix::fs::CWD;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const PLAN: &[u8] = b"{}";

    struct Directory(PathBuf, File);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("cofferdam-sink-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let file = File::from(
                openat(
                    CWD,
                    &path,
                    OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .unwrap(),
            );
            Self(path, file)
        }

        fn log(&self) -> PathBuf {
            self.0.join(FILE)
        }

        fn bytes(&self) -> Vec<u8> {
            std::fs::read(self.log()).unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn refused(argument: u64) -> Kind {
        Kind::Refused(Refusal {
            who: Decider::Broker,
            call: Syscall::bpf,
            number: 321,
            errno: 1,
            rule: "always".to_owned(),
            arguments: [argument; 6],
            count: 1,
        })
    }

    #[test]
    fn what_is_recorded_can_be_verified() {
        let directory = Directory::new("record");
        let mut sink = Sink::create(directory.1.as_fd(), PLAN, 100).unwrap();
        let start = sink.head();
        sink.record(Kind::Started { pid: 7 }).unwrap();
        sink.record(Kind::Exited {
            status: Status::Code(0),
        })
        .unwrap();
        sink.record(Kind::Ended).unwrap();
        let verified = verify(PLAN, &directory.bytes(), Some(sink.head())).unwrap();
        assert_eq!(
            (verified.chain.count(), verified.chain.complete()),
            (3, true)
        );
        assert!(verify(PLAN, &directory.bytes(), Some(start)).is_err());
        let mode = std::fs::metadata(directory.log())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn an_existing_file_or_symlink_is_never_written() {
        let directory = Directory::new("exists");
        let victim = directory.0.join("victim");
        std::fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, directory.log()).unwrap();
        let create = Sink::create(directory.1.as_fd(), PLAN, 100);
        assert!(matches!(create, Err(SinkError::Create(_))));
        let resume = Sink::resume(directory.1.as_fd(), PLAN, 100);
        assert!(matches!(resume, Err(SinkError::Open(_))));
    }

    #[test]
    fn a_flood_stays_within_its_rate_and_is_counted() {
        let directory = Directory::new("flood");
        let mut sink = Sink::create(directory.1.as_fd(), PLAN, 10).unwrap();
        for argument in 0..10_000 {
            sink.record(refused(argument)).unwrap();
        }
        sink.record(Kind::Ended).unwrap();
        let verified = verify(PLAN, &directory.bytes(), Some(sink.head())).unwrap();
        let (mut refusals, mut dropped) = (0, 0);
        for event in &verified.events {
            match event.kind {
                Kind::Refused(_) => refusals += 1,
                Kind::Dropped { count } => dropped += count,
                _ => {}
            }
        }
        assert_eq!(refusals + dropped, 10_000);
        assert!((10..1000).contains(&refusals), "{refusals}");
    }

    #[test]
    fn a_dead_supervisors_log_goes_on_with_the_same_chain() {
        let directory = Directory::new("resume");
        let mut first = Sink::create(directory.1.as_fd(), PLAN, 100).unwrap();
        first.record(Kind::Started { pid: 7 }).unwrap();
        let held = Sink::resume(directory.1.as_fd(), PLAN, 100);
        assert!(matches!(held, Err(SinkError::Lock(_))));
        drop(first);
        let mut torn = File::options().append(true).open(directory.log()).unwrap();
        torn.write_all(b"{\"seq\":1,\"ti").unwrap();
        drop(torn);
        let mut second = Sink::resume(directory.1.as_fd(), PLAN, 100).unwrap();
        second.record(Kind::SupervisorLost).unwrap();
        second.record(Kind::Ended).unwrap();
        let verified = verify(PLAN, &directory.bytes(), Some(second.head())).unwrap();
        assert_eq!(verified.chain.count(), 3);
    }

    #[test]
    fn an_edited_log_is_not_continued() {
        let directory = Directory::new("edited");
        let mut sink = Sink::create(directory.1.as_fd(), PLAN, 100).unwrap();
        sink.record(Kind::Started { pid: 7 }).unwrap();
        drop(sink);
        let edited = String::from_utf8(directory.bytes())
            .unwrap()
            .replace("\"pid\":7", "\"pid\":8");
        std::fs::write(directory.log(), edited).unwrap();
        let resumed = Sink::resume(directory.1.as_fd(), PLAN, 100);
        assert!(matches!(resumed, Err(SinkError::Broken(_))));
    }

    #[test]
    fn a_full_disk_leaves_whole_lines() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut sink = Sink::over(full, 0, Chain::new(PLAN), 100);
        let start = sink.head();
        assert!(matches!(
            sink.record(Kind::Started { pid: 7 }),
            Err(SinkError::Write(_))
        ));
        assert_eq!(sink.head(), start);
    }
}
