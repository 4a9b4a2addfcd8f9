//! [pure] Id maps (interim).

use serde::{Deserialize, Serialize};

/// One line of a uid_map or gid_map: user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id in the parent user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The text the kernel reads.
pub fn text(extents: &[Extent]) -> String {
    extents.iter().map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count)).collect()
}

/// Inclusive-exclusive range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range { pub start: u32, pub count: u32 }

#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub uid: u32, pub gid: u32, pub uids: Option<Range>, pub gids: Option<Range>,
    pub mode: crate::policy::IdMode, pub host_view: bool, pub writable_workspace: bool, pub workspace_uid_is_caller: bool,
}

#[derive(Clone, Debug)]
pub struct Maps { pub outer_uids: Vec<Extent>, pub outer_gids: Vec<Extent>, pub job_uids: Vec<Extent>, pub job_gids: Vec<Extent> }

pub fn maps(i: &Input) -> Result<Maps, String> {
    let outer = |id: u32, r: Option<Range>| -> Vec<Extent> {
        let mut v = vec![Extent { inside: 0, outside: id, count: 1 }];
        if let (Some(r), true) = (r, i.mode != crate::policy::IdMode::Caller) { v.push(Extent { inside: 1, outside: r.start, count: r.count }); }
        v
    };
    let job = |id: u32, r: Option<Range>| -> Vec<Extent> {
        let one = i.mode == crate::policy::IdMode::Caller;
        let n = r.map_or(0, |r| r.count);
        if i.host_view || one {
            return vec![Extent { inside: id.max(1), outside: u32::from(!(i.writable_workspace || one)), count: 1 }];
        }
        if i.writable_workspace { vec![Extent { inside: 0, outside: 0, count: 1 }, Extent { inside: 1, outside: 1, count: (n).min(65535) }] }
        else { vec![Extent { inside: 0, outside: 1, count: n.min(65535) }] }
    };
    Ok(Maps { outer_uids: outer(i.uid, i.uids), outer_gids: outer(i.gid, i.gids), job_uids: job(i.uid, i.uids), job_gids: job(i.gid, i.gids) })
}

pub fn to_parent(e: &[Extent], id: u32) -> Option<u32> {
    e.iter().find(|e| id >= e.inside && id - e.inside < e.count).map(|e| e.outside + (id - e.inside))
}

pub fn describe(e: &[Extent]) -> String {
    e.iter().map(|e| if e.count == 1 { format!("{}→{}", e.inside, e.outside) } else { format!("{}–{}→{}", e.inside, e.inside + e.count - 1, e.outside) }).collect::<Vec<_>>().join(", ")
}
