//! [host] What is kept of the last sandboxes: plan, events and output, one directory each.

use crate::event::Kind;
use crate::event::sink::Sink;
use crate::sandbox::plan::Plan;
use crate::supervise::failure::{SessionError, system};
use crate::supervise::places::{self, Places};
use crate::supervise::state::StateError;
use crate::supervise::sweep;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::io::Write;

/// Plans and event logs that are kept at least.
const RECORDS: usize = 100;
/// As many more may gather before the oldest go, so that few starts look at all.
const SLACK: usize = 28;
/// Name of the plan among a sandbox's records.
pub const PLAN: &str = "plan.json";

/// A fresh records directory with the plan in it; older records make room.
///
/// # Errors
/// A directory or file that could not be made, or an old one not be removed.
pub fn create(places: &Places, plan: &Plan) -> Result<(OwnedFd, Vec<u8>), SessionError> {
    let all = places::open(&places.records)
        .map_err(|error| SessionError::State(StateError::Places(error)))?;
    // Others make room as well, and what one removes the other would look for.
    rustix::fs::flock(&all, rustix::fs::FlockOperation::LockExclusive)
        .map_err(system("lock records"))?;
    sweep::remove_tree(&all, &plan.name).map_err(system("remove older records"))?;
    make_room(&all, places).map_err(system("remove old records"))?;
    let records = places::subdirectory(&all, &plan.name).map_err(system("make records"))?;
    let bytes =
        serde_json::to_vec(plan).map_err(|_| SessionError::System("write plan", Errno::INVAL))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file =
        openat(&records, PLAN, flags, Mode::from_raw_mode(0o600)).map_err(system("write plan"))?;
    std::fs::File::from(file)
        .write_all(&bytes)
        .map_err(|error| {
            SessionError::System(
                "write plan",
                Errno::from_io_error(&error).unwrap_or(Errno::IO),
            )
        })?;
    Ok((records, bytes))
}

/// The plan among a sandbox's records, with its bytes.
pub fn read_plan(places: &Places, name: &str) -> Option<(Plan, Vec<u8>)> {
    let bytes = std::fs::read(places.records.join(name).join(PLAN)).ok()?;
    let plan = serde_json::from_slice(&bytes).ok()?;
    Some((plan, bytes))
}

/// The chain goes on where a dead supervisor left it; if it cannot, that is
/// what `verify` is there to tell.
pub fn note_loss(places: &Places, name: &str) {
    let Some((plan, bytes)) = read_plan(places, name) else {
        return;
    };
    let Ok(records) = places::open(&places.records.join(name)) else {
        return;
    };
    let resumed = Sink::resume(records.as_fd(), &bytes, plan.supervise.events_per_second);
    if let Ok(mut sink) = resumed {
        for kind in [Kind::SupervisorLost, Kind::Recovered, Kind::Ended] {
            if sink.record(kind).is_err() {
                return;
            }
        }
    }
}

/// Removes the oldest records once there are too many, but none of a sandbox that
/// still has a directory.
fn make_room(all: &OwnedFd, places: &Places) -> Result<(), Errno> {
    let mut records = Vec::new();
    for entry in rustix::fs::Dir::read_from(all)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            records.push(name.to_owned());
        }
    }
    if records.len() < RECORDS + SLACK {
        return Ok(());
    }
    let mut aged: Vec<(i64, String)> = Vec::new();
    for name in records {
        match rustix::fs::statat(all, name.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => aged.push((stat.st_mtime, name)),
            // Another sandbox is making room at the same time.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    aged.sort();
    let surplus = (aged.len() + 1).saturating_sub(RECORDS);
    for (_, name) in aged
        .into_iter()
        .filter(|(_, name)| !places.sandbox(name).exists())
        .take(surplus)
    {
        sweep::remove_tree(all, &name)?;
    }
    Ok(())
}
