//! [host] `cofferdam events`: prints the event log, and with `-f` what is added until the sandbox ends.

use super::output::{exit_code, print};
use super::records::{Paths, Records};
use crate::event::chain::{Broken, Chain, Flaw, walk};
use crate::source::diagnostic::Diagnostic;
use crate::sys::lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::io::{self, Read};

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Print what happened to a sandbox",
    after_help = "Examples:\n  cofferdam events build-7\n  cofferdam events -f build-7\n  cofferdam events --json build-7 | jq 'select(.kind.refused)'\n\nEach line is checked against the hash chain before it is printed."
)]
pub struct Args {
    /// Wait for more until the sandbox ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print the lines of the log as they are: JSON, one event each
    #[arg(long)]
    pub json: bool,
    /// Sandbox
    pub name: String,
}

/// Prints, and gives the exit code.
pub fn run(args: &Args, paths: &Paths) -> u8 {
    exit_code(show(args, paths))
}

fn show(args: &Args, paths: &Paths) -> Result<u8, Diagnostic> {
    let records = paths.find(Some(&args.name))?;
    let mut log = Log::open(&records)?;
    if !args.follow {
        print(&log.more(args.json)?)?;
        return Ok(0);
    }
    let changes = Changes::of(&log.file).map_err(|cause| failed("watching", cause))?;
    loop {
        // Asked before reading: what a writer wrote before it went is then read.
        let written =
            lock::is_taken(&log.file).map_err(|cause| failed("looking at the lock of", cause))?;
        if !print(&log.more(args.json)?)? || log.chain.complete() {
            return Ok(0);
        }
        if !written {
            return Err(Diagnostic::error(format!(
                "the supervisor of {} is gone without an end",
                args.name
            ))
            .with_help("cofferdam prune cleans up what it left and ends the log"));
        }
        changes
            .wait()
            .map_err(|cause| failed("waiting for", cause))?;
    }
}

fn failed(operation: &str, cause: io::Error) -> Diagnostic {
    Diagnostic::error(format!("{operation} the event log: {cause}"))
}

/// An event log being read; what is read is checked.
struct Log {
    file: File,
    chain: Chain,
    unfinished: Vec<u8>,
}

impl Log {
    fn open(records: &Records) -> Result<Self, Diagnostic> {
        let chain = Chain::new(&records.plan_bytes()?);
        Ok(Self {
            file: records.event_file()?,
            chain,
            unfinished: Vec::new(),
        })
    }

    /// What has been added since the last time, as it is printed.
    fn more(&mut self, raw: bool) -> Result<String, Diagnostic> {
        let mut bytes = std::mem::take(&mut self.unfinished);
        self.file
            .read_to_end(&mut bytes)
            .map_err(|cause| failed("reading", cause))?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        self.unfinished = bytes.split_off(whole);
        let mut text = String::new();
        let (chain, broken) = walk(self.chain.clone(), &bytes, |event, _| {
            text.push_str(&event.text());
            text.push('\n');
        });
        self.chain = chain;
        match broken {
            Some(broken) => Err(changed(&broken)),
            None if raw => String::from_utf8(bytes).map_err(|_| {
                changed(&Broken {
                    line: self.chain.count(),
                    why: Flaw::Event,
                })
            }),
            None => Ok(text),
        }
    }
}

fn changed(broken: &Broken) -> Diagnostic {
    Diagnostic::error(format!("the event log does not hold: {broken}"))
        .with_help("cofferdam verify NAME --head HASH says whether it is the log that was written")
}

/// Wakes when a file is written, closed by its writer, or removed.
struct Changes(OwnedFd);

impl Changes {
    fn of(file: &File) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        inotify::add_watch(&inotify, path, flags)?;
        Ok(Self(inotify))
    }

    /// A second at most: a dying writer's close is told just before its lock goes
    /// (fs/file_table.c, `__fput`), so that the lock must be looked at again.
    fn wait(&self) -> io::Result<()> {
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&second)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match rustix::io::read(&self.0, &mut [0_u8; 4096]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
