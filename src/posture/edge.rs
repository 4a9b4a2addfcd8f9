//! [pure] The network edge, a child of the supervisor outside of the sandbox: what /proc shows of it, and what differs.
//!
//! It is not dumpable and its user namespace has no ids, so of namespaces and
//! descriptors the kernel tells root alone. A Landlock domain is in no file of /proc.

use super::compare::Difference;
use super::observation::{Class, Kind, Status};
use super::words::{capability_words, class_words, map_words};
use crate::confine::idmap::Extent;
use crate::host::mounts::Mount;
use serde::Serialize;
use std::collections::BTreeMap;

/// A running edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Its pid.
    pub pid: i32,
    /// /proc/PID/status.
    pub status: Status,
    /// Maps of its user namespace.
    pub uid_map: Vec<Extent>,
    /// As above.
    pub gid_map: Vec<Extent>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// What root can see.
    pub held: Option<Held>,
}

/// What it has that only root is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Namespaces, those of the reader beside them.
    pub namespaces: BTreeMap<Kind, (u64, u64)>,
    /// How many descriptors of each class, in words.
    pub descriptors: BTreeMap<String, usize>,
}

impl Held {
    /// Counts descriptors by their class.
    pub fn new(namespaces: BTreeMap<Kind, (u64, u64)>, classes: &[Class]) -> Self {
        let mut descriptors = BTreeMap::new();
        for class in classes {
            *descriptors.entry(class_words(class)).or_default() += 1;
        }
        Self {
            namespaces,
            descriptors,
        }
    }
}

/// Classes of descriptors that an edge has: /dev/null, sockets, epoll(7), pipes between them.
const CLASSES: [&str; 4] = ["null", "socket", "eventpoll", "pipe"];
/// Options of its only mount.
const OPTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// Everything that is not as planned of the edge, or of there being one.
pub fn differences(planned: bool, found: Option<&Edge>) -> Vec<Difference> {
    let mut list = Vec::new();
    let mut differs = |what: &str, expected: &str, actual: String| {
        list.push(Difference {
            process: "edge".to_owned(),
            what: what.to_owned(),
            expected: expected.to_owned(),
            actual,
        });
    };
    let edge = match (planned, found) {
        (true, Some(edge)) => edge,
        (true, None) => {
            differs("process", "a child of the supervisor", "none".to_owned());
            return list;
        }
        (false, Some(edge)) => {
            differs("process", "none", format!("pid {}", edge.pid));
            return list;
        }
        (false, None) => return list,
    };
    let status = &edge.status;
    let sets = status.capabilities;
    for (what, set) in [
        ("permitted capabilities", sets.permitted),
        ("effective capabilities", sets.effective),
        ("inheritable capabilities", sets.inheritable),
        ("ambient capabilities", sets.ambient),
    ] {
        if set != 0 {
            differs(what, "none", capability_words(set));
        }
    }
    if !status.no_new_privileges {
        differs("no_new_privs", "1", "0".to_owned());
    }
    if (status.seccomp, status.seccomp_filters) != (2, 1) {
        let (mode, filters) = (status.seccomp, status.seccomp_filters);
        differs(
            "seccomp",
            "mode 2, filters 1",
            format!("mode {mode}, filters {filters}"),
        );
    }
    for (what, map) in [("uid map", &edge.uid_map), ("gid map", &edge.gid_map)] {
        if !map.is_empty() {
            differs(what, "empty", map_words(map));
        }
    }
    if !has_empty_root(&edge.mounts) {
        let points: Vec<&str> = edge.mounts.iter().map(|one| one.point.as_str()).collect();
        differs("mounts", "one, an empty read-only /", points.join(" "));
    }
    for (kind, (own, ours)) in edge.held.iter().flat_map(|held| &held.namespaces) {
        let separate = matches!(kind, Kind::User | Kind::Mnt);
        if (own != ours) != separate {
            let word = |separate| if separate { "its own" } else { "the host's" };
            let what = format!("{} namespace", kind.file());
            differs(&what, word(separate), word(!separate).to_owned());
        }
    }
    for (class, count) in edge.held.iter().flat_map(|held| &held.descriptors) {
        if !CLASSES.contains(&class.as_str()) {
            differs(
                "descriptors",
                &CLASSES.join(", "),
                format!("{count} {class}"),
            );
        }
    }
    list
}

fn has_empty_root(mounts: &[Mount]) -> bool {
    match mounts {
        [one] => one.point == "/" && one.fstype == "tmpfs" && OPTIONS.iter().all(|is| one.has(is)),
        _ => false,
    }
}

/// The edge in one line; `differences` says what of it is otherwise.
pub fn text(edge: &Edge) -> String {
    let mut words = "no capability, no_new_privs, one filter, no ids, an empty root".to_owned();
    match &edge.held {
        Some(held) => {
            for (class, count) in &held.descriptors {
                words.push_str(&format!(", {count} {class}"));
            }
        }
        None => words.push_str("; namespaces and descriptors are shown to root alone"),
    }
    format!("  {:<16} {words}\n", "edge")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::compare::sample;
    use crate::posture::observation::Role;

    fn edge() -> Edge {
        let mut status = sample::process(Role::Job, 7).threads.remove(0).status;
        status.capabilities = crate::posture::observation::Capabilities {
            bounding: 1,
            ..Default::default()
        };
        let table = "2 1 0:40 / / ro,nosuid,nodev,noexec,relatime - tmpfs none ro\n";
        let namespaces = [
            (Kind::User, (101, 1)),
            (Kind::Mnt, (102, 2)),
            (Kind::Net, (3, 3)),
        ];
        let classes = [
            Class::Null,
            Class::Null,
            Class::Socket,
            Class::Pipe,
            Class::Kernel("eventpoll".to_owned()),
        ];
        Edge {
            pid: 7,
            status,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            mounts: crate::host::mounts::parse(table).unwrap(),
            held: Some(Held::new(namespaces.into(), &classes)),
        }
    }

    fn held(edge: &mut Edge) -> &mut Held {
        edge.held.as_mut().unwrap()
    }

    #[test]
    fn an_edge_is_there_exactly_where_it_is_planned() {
        assert_eq!(differences(true, Some(&edge())), []);
        assert_eq!(differences(false, None), []);
        for (planned, found) in [(true, None), (false, Some(edge()))] {
            let found = differences(planned, found.as_ref());
            assert_eq!((found.len(), found[0].what.as_str()), (1, "process"));
        }
    }

    #[test]
    fn each_single_deviation_is_a_difference() {
        let map = sample::process(Role::Job, 7).uid_map;
        type Change<'a> = &'a dyn Fn(&mut Edge);
        let cases: [(&str, Change<'_>); 16] = [
            ("permitted capabilities", &|e| {
                e.status.capabilities.permitted = 1
            }),
            ("effective capabilities", &|e| {
                e.status.capabilities.effective = 1
            }),
            ("inheritable capabilities", &|e| {
                e.status.capabilities.inheritable = 1
            }),
            ("ambient capabilities", &|e| {
                e.status.capabilities.ambient = 1
            }),
            ("no_new_privs", &|e| e.status.no_new_privileges = false),
            ("seccomp", &|e| e.status.seccomp = 0),
            ("seccomp", &|e| e.status.seccomp_filters = 0),
            ("uid map", &|e| e.uid_map.clone_from(&map)),
            ("gid map", &|e| e.gid_map.clone_from(&map)),
            ("mounts", &|e| e.mounts.clear()),
            ("mounts", &|e| e.mounts.push(e.mounts[0].clone())),
            ("mounts", &|e| {
                e.mounts[0].options = "rw,nosuid,nodev,noexec".to_owned()
            }),
            ("user namespace", &|e| {
                held(e).namespaces.insert(Kind::User, (1, 1));
            }),
            ("net namespace", &|e| {
                held(e).namespaces.insert(Kind::Net, (103, 3));
            }),
            ("descriptors", &|e| {
                held(e).descriptors.insert("directory".to_owned(), 1);
            }),
            ("descriptors", &|e| {
                held(e).descriptors.insert("file".to_owned(), 1);
            }),
        ];
        for (what, change) in cases {
            let mut changed = edge();
            change(&mut changed);
            let found = differences(true, Some(&changed));
            let found: Vec<&str> = found.iter().map(|one| one.what.as_str()).collect();
            assert_eq!(found, [what]);
        }
    }

    #[test]
    fn what_only_root_is_shown_is_said_not_to_be_there() {
        let mut edge = edge();
        assert!(text(&edge).ends_with("an empty root, 1 eventpoll, 2 null, 1 pipe, 1 socket\n"));
        edge.held = None;
        assert!(text(&edge).contains("to root alone"));
        assert_eq!(differences(true, Some(&edge)), []);
    }
}
