//! [pure] Id maps: inside → U0 → host.
//!
//! ```text
//! host   caller   first subordinate …
//!   U0        0   1 …                   the gateway's namespace
//!     U2      what the table of cases says; the job's
//! ```
//! user_namespaces(7): an extent of a nested map must lie within one extent of
//! its parent's map, so extents of U2 are split where U0's end. Host uid 0 is
//! never mapped. Gids follow uids, each with ranges of their own.

use crate::host::facts::IdRange;
use crate::policy::{IdMode, WorkspaceUid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One line of a uid_map or gid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in its parent.
    pub outside: u32,
    /// How many, at least 1.
    pub count: u32,
}

/// The maps of both namespaces for one kind of id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maps {
    /// U0 in the host's namespace.
    pub gateway: Vec<Extent>,
    /// U2 in U0.
    pub job: Vec<Extent>,
}

/// The maps of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMaps {
    /// uid_map.
    pub uids: Maps,
    /// gid_map.
    pub gids: Maps,
}

/// What decides between the rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Which host ids are used.
    pub mode: IdMode,
    /// The root shows the host's programs; else it is a rootfs of its own.
    pub host_view: bool,
    /// The job writes to a directory of the caller.
    pub writable_workspace: bool,
    /// With a rootfs and a writable workspace: the inside id that is the caller.
    pub workspace_uid: WorkspaceUid,
}

/// An account of the host: its own id and the subordinate ones it may map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The caller's uid or gid.
    pub own: u32,
    /// Its subordinate range, or the slice of it for this sandbox.
    pub subordinate: Option<IdRange>,
}

/// The highest id of an image's map.
pub const LAST_ID: u32 = 65534;
/// Ids an image's map needs beside the caller: 0 to [`LAST_ID`].
pub const IMAGE_IDS: u32 = LAST_ID + 1;

/// Why there is no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapError {
    /// The host's root would be mapped.
    HostRoot,
    /// The mode needs subordinate ids and there are none.
    NoSubordinate,
    /// The range is empty, reaches past the last id, or holds the caller's own id.
    BadRange(IdRange),
    /// The range has fewer ids than the case needs.
    TooFew {
        /// How many the range has.
        have: u32,
        /// How many are needed.
        need: u32,
    },
    /// An exclusive slice cannot share files of the caller.
    ExclusiveWorkspace,
    /// This extent is empty, reaches past the last id, overlaps another one, or
    /// lies in no single extent of its parent.
    Unsound(Extent),
}

impl fmt::Display for IdMapError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostRoot => write!(
                out,
                "cannot map ids: id 0 of the host is never mapped into a sandbox"
            ),
            Self::NoSubordinate => write!(
                out,
                "cannot map ids: no subordinate ids; add a range with `usermod --add-subuids --add-subgids`, or set ids.mode = \"caller\""
            ),
            Self::BadRange(IdRange { start, count }) => {
                write!(
                    out,
                    "cannot map ids: the subordinate range {start}:{count} is not usable"
                )
            }
            Self::TooFew { have, need } => {
                write!(
                    out,
                    "cannot map ids: {need} subordinate ids are needed, the range has {have}"
                )
            }
            Self::ExclusiveWorkspace => write!(
                out,
                "cannot map ids: ids.mode = \"exclusive\" excludes a writable workspace, which belongs to the caller; use access = \"copy\""
            ),
            Self::Unsound(Extent {
                inside,
                outside,
                count,
            }) => {
                write!(
                    out,
                    "cannot map ids: the extent {inside} {outside} {count} is not sound"
                )
            }
        }
    }
}

impl std::error::Error for IdMapError {}

/// The text the kernel reads from uid_map and gid_map.
pub fn text(extents: &[Extent]) -> String {
    extents
        .iter()
        .map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count))
        .collect()
}

/// What an inside id is in the parent, if it is mapped.
pub fn to_parent(extents: &[Extent], id: u32) -> Option<u32> {
    let extent = extents
        .iter()
        .find(|e| id >= e.inside && id - e.inside < e.count)?;
    Some(extent.outside + (id - extent.inside))
}

/// The map from inside straight to the host, through both namespaces.
pub fn compose(job: &[Extent], gateway: &[Extent]) -> Vec<Extent> {
    let host = |extent: &Extent| to_parent(gateway, extent.outside);
    job.iter()
        .filter_map(|extent| {
            Some(Extent {
                outside: host(extent)?,
                ..*extent
            })
        })
        .collect()
}

/// `0→1000, 1–65535→100000`, for people.
pub fn describe(extents: &[Extent]) -> String {
    let line = |e: &Extent| match e.count {
        1 => format!("{}→{}", e.inside, e.outside),
        _ => format!("{}–{}→{}", e.inside, e.inside + (e.count - 1), e.outside),
    };
    extents.iter().map(line).collect::<Vec<_>>().join(", ")
}

/// The maps for a case; both are sound, as [`Maps::check`] says.
pub fn maps(case: &Case, uid: &Account, gid: &Account) -> Result<IdMaps, IdMapError> {
    Ok(IdMaps {
        uids: maps_of(case, uid)?,
        gids: maps_of(case, gid)?,
    })
}

fn maps_of(case: &Case, account: &Account) -> Result<Maps, IdMapError> {
    let gateway = gateway(case, account)?;
    let mapped: u32 = gateway.iter().map(|extent| extent.count).sum();
    let wanted = job(case, account.own, mapped)?;
    let maps = Maps {
        job: split(&wanted, &gateway),
        gateway,
    };
    maps.check()?;
    Ok(maps)
}

impl Maps {
    /// What the kernel and we ask of both maps: extents neither empty nor
    /// overlapping, none of the job's across a border of the gateway's, and the
    /// host's id 0 nowhere.
    pub fn check(&self) -> Result<(), IdMapError> {
        sound(&self.gateway)?;
        sound(&self.job)?;
        let within = |extent: &Extent, outer: &Extent| {
            outer.inside <= extent.outside
                && extent.outside + extent.count <= outer.inside + outer.count
        };
        let lost = |extent: &&Extent| !self.gateway.iter().any(|outer| within(extent, outer));
        if let Some(&extent) = self.job.iter().find(lost) {
            return Err(IdMapError::Unsound(extent));
        }
        let root = self.gateway.iter().any(|extent| extent.outside == 0);
        if root {
            Err(IdMapError::HostRoot)
        } else {
            Ok(())
        }
    }
}

/// No extent is empty, too long, or overlaps an earlier one on either side.
fn sound(extents: &[Extent]) -> Result<(), IdMapError> {
    let apart = |a: u32, a_count: u32, b: u32, b_count: u32| a + a_count <= b || b + b_count <= a;
    for (at, extent) in extents.iter().enumerate() {
        let fits = |start: u32| start.checked_add(extent.count).is_some();
        let clear = |other: &Extent| {
            apart(extent.inside, extent.count, other.inside, other.count)
                && apart(extent.outside, extent.count, other.outside, other.count)
        };
        let good = extent.count > 0 && fits(extent.inside) && fits(extent.outside);
        if !good || !extents[..at].iter().all(clear) {
            return Err(IdMapError::Unsound(*extent));
        }
    }
    if extents.is_empty() {
        Err(IdMapError::Unsound(Extent {
            inside: 0,
            outside: 0,
            count: 0,
        }))
    } else {
        Ok(())
    }
}

/// U0: {0 → caller, 1.. → subordinates}.
fn gateway(case: &Case, account: &Account) -> Result<Vec<Extent>, IdMapError> {
    let own = Extent {
        inside: 0,
        outside: account.own,
        count: 1,
    };
    if account.own == 0 {
        return Err(IdMapError::HostRoot);
    }
    if case.mode == IdMode::Caller {
        return Ok(vec![own]);
    }
    if case.mode == IdMode::Exclusive && case.writable_workspace {
        return Err(IdMapError::ExclusiveWorkspace);
    }
    let range = account.subordinate.ok_or(IdMapError::NoSubordinate)?;
    let end = range
        .start
        .checked_add(range.count)
        .filter(|_| range.count > 0 && range.start > 0);
    let end = end.ok_or(IdMapError::BadRange(range))?;
    if (range.start..end).contains(&account.own) {
        return Err(IdMapError::BadRange(range));
    }
    let count = range.count.min(IMAGE_IDS);
    Ok(vec![
        own,
        Extent {
            inside: 1,
            outside: range.start,
            count,
        },
    ])
}

/// U2 in U0, extents not yet split; `mapped` is how many ids U0 has.
fn job(case: &Case, own: u32, mapped: u32) -> Result<Vec<Extent>, IdMapError> {
    let extent = |inside, outside, count| Extent {
        inside,
        outside,
        count,
    };
    let enough = |need: u32| {
        let have = mapped - 1;
        if have < need {
            Err(IdMapError::TooFew { have, need })
        } else {
            Ok(())
        }
    };
    let zero = case.workspace_uid == WorkspaceUid::Zero;
    if case.host_view {
        let subordinate = case.mode != IdMode::Caller && !case.writable_workspace;
        return Ok(vec![extent(own, u32::from(subordinate), 1)]);
    }
    if case.mode == IdMode::Caller {
        return Ok(vec![extent(if zero { 0 } else { own }, 0, 1)]);
    }
    if case.mode == IdMode::Exclusive {
        // The last id of the slice is 65534 inside, the owner of what has none.
        let last = mapped - 1;
        if last > LAST_ID {
            return Ok(vec![extent(0, 1, IMAGE_IDS)]);
        }
        enough(2)?;
        return Ok(vec![extent(0, 1, last - 1), extent(LAST_ID, last, 1)]);
    }
    enough(IMAGE_IDS)?;
    if !case.writable_workspace {
        return Ok(vec![extent(0, 1, IMAGE_IDS)]);
    }
    if zero {
        return Ok(vec![extent(0, 0, 1), extent(1, 1, IMAGE_IDS)]);
    }
    // {0 → 1 … own-1 → own, own → 0, own+1 → own+1 …}, as far as U0 reaches.
    let below = own.min(mapped - 1);
    let above = mapped.saturating_sub(own.saturating_add(1));
    let mut extents = vec![extent(0, 1, below), extent(own, 0, 1)];
    if above > 0 {
        extents.push(extent(own + 1, own + 1, above));
    }
    Ok(extents)
}

/// Cuts extents so that each lies within one extent of the parent.
fn split(wanted: &[Extent], parent: &[Extent]) -> Vec<Extent> {
    let mut pieces = Vec::new();
    for extent in wanted {
        for outer in parent {
            let start = extent.outside.max(outer.inside);
            let end = (extent.outside + extent.count).min(outer.inside + outer.count);
            if start < end {
                let inside = extent.inside + (start - extent.outside);
                pieces.push(Extent {
                    inside,
                    outside: start,
                    count: end - start,
                });
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: Option<IdRange> = Some(IdRange {
        start: 100_000,
        count: 65536,
    });

    fn case(
        mode: IdMode,
        host_view: bool,
        writable_workspace: bool,
        workspace_uid: WorkspaceUid,
    ) -> Case {
        Case {
            mode,
            host_view,
            writable_workspace,
            workspace_uid,
        }
    }

    /// (inside, outside, count) of each extent.
    type Lines = Vec<(u32, u32, u32)>;

    fn lines(extents: &[Extent]) -> Lines {
        extents
            .iter()
            .map(|extent| (extent.inside, extent.outside, extent.count))
            .collect()
    }

    /// (U0, job) for an account with uid `own`.
    fn of(case: &Case, own: u32, subordinate: Option<IdRange>) -> (Lines, Lines) {
        let maps = maps_of(case, &Account { own, subordinate }).unwrap();
        (lines(&maps.gateway), lines(&maps.job))
    }

    #[test]
    fn every_row_of_the_table() {
        use IdMode::{Caller, Subuid};
        use WorkspaceUid::{Caller as Own, Zero};
        let u0 = vec![(0, 1000, 1), (1, 100_000, 65535)];
        let row =
            |mode, host_view, writable, uid| of(&case(mode, host_view, writable, uid), 1000, FULL);
        assert_eq!(
            row(Subuid, true, true, Zero),
            (u0.clone(), vec![(1000, 0, 1)]),
            "host view, writable"
        );
        assert_eq!(
            row(Subuid, true, false, Zero),
            (u0.clone(), vec![(1000, 1, 1)]),
            "host view, otherwise"
        );
        assert_eq!(
            row(Subuid, false, false, Zero),
            (u0.clone(), vec![(0, 1, 65535)]),
            "rootfs"
        );
        assert_eq!(
            row(Subuid, false, false, Own),
            (u0.clone(), vec![(0, 1, 65535)]),
            "rootfs"
        );
        assert_eq!(
            row(Subuid, false, true, Zero),
            (u0.clone(), vec![(0, 0, 1), (1, 1, 65535)]),
            "rootfs, writable"
        );
        assert_eq!(
            row(Subuid, false, true, Own),
            (u0, vec![(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64535)]),
            "rootfs, writable, workspace_uid = caller"
        );
        assert_eq!(
            row(Caller, true, true, Zero),
            (vec![(0, 1000, 1)], vec![(1000, 0, 1)]),
            "caller"
        );
        assert_eq!(
            row(Caller, true, false, Own),
            (vec![(0, 1000, 1)], vec![(1000, 0, 1)]),
            "caller"
        );
        assert_eq!(
            row(Caller, false, true, Zero),
            (vec![(0, 1000, 1)], vec![(0, 0, 1)]),
            "caller, rootfs"
        );
    }

    #[test]
    fn an_exclusive_slice_maps_65534_too() {
        let slice = Some(IdRange {
            start: 200_000,
            count: 4096,
        });
        let exclusive = case(IdMode::Exclusive, false, false, WorkspaceUid::Zero);
        let (u0, job) = of(&exclusive, 1000, slice);
        assert_eq!(u0, [(0, 1000, 1), (1, 200_000, 4096)]);
        assert_eq!(job, [(0, 1, 4095), (65534, 4096, 1)]);
        assert_eq!(of(&exclusive, 1000, FULL).1, [(0, 1, 65535)]);
    }

    #[test]
    fn callers_numbers_at_the_edges() {
        let own = case(IdMode::Subuid, false, true, WorkspaceUid::Caller);
        assert_eq!(of(&own, 1, FULL).1, [(0, 1, 1), (1, 0, 1), (2, 2, 65534)]);
        assert_eq!(of(&own, 65535, FULL).1, [(0, 1, 65535), (65535, 0, 1)]);
        assert_eq!(
            of(&own, 2_000_000, FULL).1,
            [(0, 1, 65535), (2_000_000, 0, 1)]
        );
    }

    #[test]
    fn what_cannot_be_mapped() {
        let image = case(IdMode::Subuid, false, false, WorkspaceUid::Zero);
        let range = |start, count| Some(IdRange { start, count });
        let error = |case: &Case, own, subordinate| {
            maps_of(case, &Account { own, subordinate }).unwrap_err()
        };
        assert_eq!(error(&image, 0, FULL), IdMapError::HostRoot);
        assert_eq!(error(&image, 1000, None), IdMapError::NoSubordinate);
        assert_eq!(
            error(&image, 1000, range(100_000, 1000)),
            IdMapError::TooFew {
                have: 1000,
                need: 65535
            }
        );
        for (start, count) in [(0, 65536), (100_000, 0), (u32::MAX - 5, 10), (900, 65536)] {
            let bad = IdRange { start, count };
            assert_eq!(error(&image, 1000, Some(bad)), IdMapError::BadRange(bad));
        }
        let shared = case(IdMode::Exclusive, false, true, WorkspaceUid::Zero);
        assert_eq!(error(&shared, 1000, FULL), IdMapError::ExclusiveWorkspace);
        let caller = case(IdMode::Caller, true, true, WorkspaceUid::Zero);
        assert_eq!(error(&caller, 0, None), IdMapError::HostRoot);
    }

    #[test]
    fn unsound_maps_are_found() {
        let extent = |inside, outside, count| Extent {
            inside,
            outside,
            count,
        };
        let gateway = vec![extent(0, 1000, 1), extent(1, 100_000, 65535)];
        let bad = [
            vec![extent(0, 0, 65536)],
            vec![extent(0, 0, 0)],
            vec![extent(0, 1, 2), extent(1, 3, 1)],
            vec![extent(0, 1, 2), extent(2, 2, 1)],
            vec![extent(0, 65536, 1)],
            vec![extent(u32::MAX, 1, 2)],
            vec![],
        ];
        for job in bad {
            let maps = Maps {
                gateway: gateway.clone(),
                job,
            };
            assert!(maps.check().is_err(), "{maps:?}");
        }
        let root = Maps {
            gateway: vec![extent(0, 0, 1)],
            job: vec![extent(0, 0, 1)],
        };
        assert_eq!(root.check(), Err(IdMapError::HostRoot));
    }

    proptest! {
        #[test]
        fn every_map_given_is_sound_and_maps_no_id_twice(
            own in 1_u32..200_000, start in 1_u32..400_000, count in 1_u32..70_000,
            host_view: bool, writable: bool, zero: bool, mode in 0_usize..3,
        ) {
            let mode = [IdMode::Subuid, IdMode::Exclusive, IdMode::Caller][mode];
            let workspace_uid = if zero { WorkspaceUid::Zero } else { WorkspaceUid::Caller };
            let subordinate = Some(IdRange { start, count });
            if let Ok(maps) = maps_of(&case(mode, host_view, writable, workspace_uid), &Account { own, subordinate }) {
                prop_assert_eq!(maps.check(), Ok(()));
                let caller_mapped = maps.job.iter().any(|extent| extent.outside == 0);
                prop_assert_eq!(caller_mapped, writable || mode == IdMode::Caller);
            }
        }
    }
}
