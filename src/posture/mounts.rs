//! [pure] Mounts as they are against mounts as planned.

use super::expect::ExpectedMount;
use crate::host::mounts::Mount;
use std::collections::BTreeSet;

/// The options that take something away.
const RESTRICTING: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// A deviation: what, expected, actual.
pub(super) type Deviation = (String, String, String);

/// Every planned mount that is missing, hidden or laxer than planned, and every
/// mount that nobody planned.
pub(super) fn deviations(planned: &[ExpectedMount], table: &[Mount]) -> Vec<Deviation> {
    let mut found = Vec::new();
    for (index, expected) in planned.iter().enumerate() {
        let replaced = planned
            .iter()
            .skip(index + 1)
            .any(|later| later.path == expected.path);
        if !replaced {
            found.extend(planned_mount(expected, table));
        }
    }
    for mount in table {
        if !planned.iter().any(|expected| expected.path == mount.point) {
            found.extend(unplanned_mount(planned, mount));
        }
        if !mount.propagation.is_empty() {
            let what = format!("propagation of {}", mount.point);
            found.push((what, "private".to_owned(), mount.propagation.clone()));
        }
    }
    found
}

fn planned_mount(expected: &ExpectedMount, table: &[Mount]) -> Option<Deviation> {
    let what = format!("mount {}", expected.path);
    match top(&expected.path, table) {
        None => Some((what, words(expected), "no such mount".to_owned())),
        Some(mount) if !fits(expected, mount) => Some((what, words(expected), shown(mount))),
        Some(_) => None,
    }
}

/// The mount at this point that no other covers.
fn top<'a>(point: &str, table: &'a [Mount]) -> Option<&'a Mount> {
    let here = || table.iter().filter(|mount| mount.point == point);
    here().find(|mount| !here().any(|other| other.parent == mount.id))
}

fn fits(expected: &ExpectedMount, mount: &Mount) -> bool {
    expected.kind.is_none_or(|kind| mount.fstype == kind)
        && expected.root.is_none_or(|root| mount.root == root)
        && expected.options.is_subset(&restrictions(mount))
        && (!expected.exact || restrictions(mount).is_subset(&expected.options))
}

fn restrictions(mount: &Mount) -> BTreeSet<&'static str> {
    RESTRICTING
        .into_iter()
        .filter(|option| mount.has(option))
        .collect()
}

/// A mount of the host below a source comes along with its tree, restricted like it.
fn unplanned_mount(planned: &[ExpectedMount], mount: &Mount) -> Option<Deviation> {
    let what = format!("mount {}", mount.point);
    let above = planned
        .iter()
        .filter(|expected| lies_below(&mount.point, &expected.path))
        .max_by_key(|expected| expected.path.len());
    match above.filter(|expected| expected.carries) {
        Some(above) if above.options.is_subset(&restrictions(mount)) => None,
        Some(above) => Some((what, words(above), shown(mount))),
        None => Some((what, "no mount".to_owned(), shown(mount))),
    }
}

fn lies_below(path: &str, directory: &str) -> bool {
    directory == "/"
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn words(expected: &ExpectedMount) -> String {
    let kind = expected.kind.unwrap_or("any file system");
    let options: Vec<&str> = expected.options.iter().copied().collect();
    let more = if expected.exact { "" } else { " or stricter" };
    let root = match expected.root {
        Some("/") | None => String::new(),
        Some(root) => format!(" {root} of"),
    };
    format!(
        "{}{root} {kind}{more}",
        if options.is_empty() {
            "rw".to_owned()
        } else {
            options.join(",")
        }
    )
    .trim()
    .to_owned()
}

fn shown(mount: &Mount) -> String {
    let root = if mount.root == "/" {
        String::new()
    } else {
        format!(" {} of", mount.root)
    };
    format!("{}{root} {}", mount.options, mount.fstype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mounts::parse;

    const TABLE: &str = "\
2 1 0:40 / / ro,nosuid,nodev,relatime - tmpfs cofferdam rw
3 2 254:0 /usr /usr ro,nosuid,nodev,relatime - ext4 /dev/vda rw
4 3 254:1 / /usr/local ro,nosuid,nodev,relatime - ext4 /dev/vdb rw
5 2 0:48 / /proc rw,nosuid,nodev,noexec,relatime - proc none rw
6 5 0:50 /file /proc/keys ro,nosuid,nodev,noexec,relatime - tmpfs cofferdam rw
";

    fn expected(path: &str, kind: Option<&'static str>, options: &[&'static str]) -> ExpectedMount {
        ExpectedMount {
            path: path.to_owned(),
            kind,
            options: options.iter().copied().collect(),
            exact: kind.is_some(),
            carries: kind.is_none(),
            root: None,
        }
    }

    fn plan() -> Vec<ExpectedMount> {
        let strict = ["ro", "nosuid", "nodev", "noexec"];
        let mut mask = expected("/proc/keys", Some("tmpfs"), &strict);
        mask.root = Some("/file");
        vec![
            expected("/", Some("tmpfs"), &["ro", "nosuid", "nodev"]),
            expected("/usr", None, &["ro", "nosuid", "nodev"]),
            expected("/proc", Some("proc"), &["nosuid", "nodev", "noexec"]),
            mask,
        ]
    }

    fn found(text: &str) -> Vec<Deviation> {
        deviations(&plan(), &parse(text).unwrap())
    }

    #[test]
    fn what_is_planned_is_no_deviation() {
        assert_eq!(found(TABLE), []);
    }

    #[test]
    fn each_single_deviation_is_found() {
        for (good, bad, what) in [
            (
                "/ / ro,nosuid,nodev,relatime - tmpfs",
                "/ / rw,nosuid,nodev,relatime - tmpfs",
                "mount /",
            ),
            (
                "/ / ro,nosuid,nodev,relatime - tmpfs",
                "/ / ro,nosuid,nodev,relatime - ext4",
                "mount /",
            ),
            (
                "/usr /usr ro,nosuid,nodev",
                "/usr /usr ro,nodev",
                "mount /usr",
            ),
            (
                "/ /usr/local ro,nosuid,nodev",
                "/ /usr/local ro,nosuid",
                "mount /usr/local",
            ),
            ("/ /proc rw,nosuid", "/ /proc ro,nosuid", "mount /proc"),
            (
                "/file /proc/keys",
                "/directory /proc/keys",
                "mount /proc/keys",
            ),
            (
                "/usr /usr ro,nosuid,nodev,relatime -",
                "/usr /usr ro,nosuid,nodev,relatime shared:3 -",
                "propagation of /usr",
            ),
            (
                "6 5 0:50 /file /proc/keys",
                "6 5 0:50 /file /proc/kcore",
                "mount /proc/keys",
            ),
        ] {
            let text = TABLE.replace(good, bad);
            assert_ne!(text, TABLE, "{good}");
            assert!(
                found(&text).iter().any(|deviation| deviation.0 == what),
                "{what}: {bad}"
            );
        }
    }

    #[test]
    fn mounts_that_nobody_planned_are_found() {
        for line in [
            "7 2 0:60 / /mnt ro,nosuid,nodev,noexec - tmpfs x rw\n",
            "7 2 0:60 / /usrx ro,nosuid,nodev,noexec - tmpfs x rw\n",
            "7 5 0:60 / /proc/acpi ro,nosuid,nodev,noexec - tmpfs x rw\n",
            // Over a planned one: what is seen there is another.
            "7 5 0:60 / /proc rw,nosuid,nodev - tmpfs x rw\n",
        ] {
            assert_eq!(found(&format!("{TABLE}{line}")).len(), 1, "{line}");
        }
    }
}
