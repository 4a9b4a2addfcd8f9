//! The id table: who the job is inside, and whose its files are outside.

use crate::rootfs::busybox;
use crate::site::{Site, stdout};
use crate::support::skip;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const WHO: &str = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map";

/// The numbers of [`WHO`]'s answer.
fn numbers(answer: &str) -> Vec<u32> {
    let words = answer.split_whitespace();
    words.map(|word| word.parse().unwrap()).collect()
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// The host uid of a running sandbox's job, seen from outside.
fn host_uid(site: &Site, name: &str) -> u32 {
    let [_, _, init] = site.processes(name).unwrap();
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    let job = children.split_whitespace().next().unwrap();
    let status = fs::read_to_string(format!("/proc/{job}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
    words[0].parse().unwrap()
}

#[test]
fn host_view_with_writable_workspace_is_the_caller_and_only_the_caller() {
    let site = Site::new("ids-view-rw");
    let (uid, gid) = (site.account.uid, site.account.gid);
    let answer = stdout(&site.sh(&["-w", "."], &format!("touch made; {WHO}")));
    // In U2's own terms: one id, at the parent's 0, which is the caller.
    assert_eq!(numbers(&answer), [uid, gid, uid, 0, 1, gid, 0, 1]);
    assert_eq!(owner(&site.work().join("made")), (uid, gid));
    site.detach("who", &["-w", "."], "sleep 1000");
    assert_eq!(host_uid(&site, "who"), uid);
    site.remove("who");
}

#[test]
fn host_view_without_writable_workspace_is_a_subordinate_id() {
    let site = Site::new("ids-view-ro");
    let (uid, gid) = (site.account.uid, site.account.gid);
    for options in [&[][..], &["-w", ".:ro"]] {
        let answer = stdout(&site.sh(options, WHO));
        assert_eq!(numbers(&answer), [uid, gid, uid, 1, 1, gid, 1, 1]);
    }
    site.detach("who", &[], "sleep 1000");
    assert_eq!(host_uid(&site, "who"), site.first_subordinate());
    site.remove("who");
}

#[test]
fn image_without_writable_workspace_has_only_subordinate_ids() {
    let site = Site::new("ids-image");
    let Some(root) = busybox(&site) else { return };
    let answer = stdout(&site.sh(&["--rootfs", &root], WHO));
    let expected = [0, 0, 0, 1, 65535, 0, 1, 65535];
    let got = numbers(&answer);
    // The range of the account may be larger than one image needs.
    assert_eq!(got[..4], expected[..4], "{answer}");
    assert!(got[4] >= 65535 && got[7] >= 65535, "{answer}");
    site.detach("who", &["--rootfs", &root], "sleep 1000");
    assert_eq!(host_uid(&site, "who"), site.first_subordinate());
    site.remove("who");
}

#[test]
fn image_with_writable_workspace_gives_it_to_inside_root() {
    let site = Site::new("ids-image-rw");
    let Some(root) = busybox(&site) else { return };
    let script = format!("touch zero; touch one; chown 1:1 one; {WHO}");
    let answer = stdout(&site.sh(&["--rootfs", &root, "-w", "."], &script));
    let got = numbers(&answer);
    assert_eq!(got[..5], [0, 0, 0, 0, 1], "{answer}");
    assert_eq!(got[5..7], [1, 1], "{answer}");
    let (uid, gid) = (site.account.uid, site.account.gid);
    assert_eq!(owner(&site.work().join("zero")), (uid, gid));
    assert_eq!(owner(&site.work().join("one")).0, site.first_subordinate());
    // Only U0 may remove it; the caller may, since the directory is the caller's.
    fs::remove_file(site.work().join("one")).unwrap();
}

#[test]
fn workspace_uid_caller_keeps_the_callers_number_inside_an_image() {
    let site = Site::new("ids-caller-number");
    let Some(root) = busybox(&site) else { return };
    let policy = site.policy(
        "numbers",
        "description = \"x\"\nextends = \"untrusted\"\n[ids]\nworkspace_uid = \"caller\"\n",
    );
    let uid = site.account.uid;
    let options = ["-p", &policy, "--rootfs", &root, "-w", "."];
    let script = format!("stat -c %u . ; touch mine; {WHO}");
    let answer = stdout(&site.sh(&options, &script));
    let mut lines = answer.lines();
    assert_eq!(lines.next().unwrap(), uid.to_string(), "{answer}");
    // {{0 → 1 … N-1 → N, N → 0, N+1 → N+1 …}}
    let maps: Vec<Vec<u32>> = lines.skip(2).map(numbers).collect();
    assert_eq!(maps[0], [0, 1, uid], "{answer}");
    assert_eq!(maps[1], [uid, 0, 1], "{answer}");
    assert_eq!(maps[2][..2], [uid + 1, uid + 1], "{answer}");
}

#[test]
fn caller_mode_needs_groups_named_and_uses_no_helper() {
    let site = Site::new("ids-mode-caller");
    let (uid, gid) = (site.account.uid, site.account.gid);
    let policy = site.policy(
        "own",
        "description = \"x\"\nextends = \"untrusted\"\n[ids]\nmode = \"caller\"\n[degrade]\nallow = [\"groups\", \"cgroup\"]\n",
    );
    let mut command = site.cofferdam(&["run", "-p", &policy, "-w", ".", "--", "sh", "-c", WHO]);
    // Without the helpers on the path: they are not needed.
    let answer = stdout(&crate::site::output(command.env("PATH", "/bin")));
    assert_eq!(numbers(&answer), [uid, gid, uid, 0, 1, gid, 0, 1]);
    site.detach("who", &["-p", &policy], "sleep 1000");
    assert_eq!(host_uid(&site, "who"), uid);
    site.remove("who");
}

#[test]
fn exclusive_slices_are_given_or_refused_by_name() {
    let site = Site::new("ids-exclusive");
    let policy = site.policy(
        "slice",
        "description = \"x\"\nextends = \"untrusted\"\n[ids]\nmode = \"exclusive\"\n",
    );
    let output = site.sh(&["-p", &policy], WHO);
    if !output.status.success() {
        let said = crate::site::complaints(&output);
        assert_eq!(crate::site::code(&output), 125, "{said}");
        assert!(said.contains("exclusive"), "{said}");
        skip("ids.mode = exclusive", "run refuses it on this build");
        return;
    }
    site.detach("one", &["-p", &policy], "sleep 1000");
    site.detach("two", &["-p", &policy], "sleep 1000");
    assert_ne!(host_uid(&site, "one"), host_uid(&site, "two"));
    site.remove("one");
    site.remove("two");
}

#[test]
fn no_map_ever_holds_host_root() {
    let site = Site::new("ids-no-root");
    for options in [&[][..], &["-w", "."], &["-p", "strict"]] {
        let [map, ..] = [site.sh(options, "cat /proc/self/uid_map")];
        assert!(map.status.success() || options.contains(&"strict"));
    }
    site.detach("who", &["-w", "."], "sleep 1000");
    let [_, gateway, _] = site.processes("who").unwrap();
    let map = fs::read_to_string(format!("/proc/{gateway}/uid_map")).unwrap();
    for line in map.lines() {
        let extent = numbers(line);
        assert!(extent[1] > 0, "{map}");
    }
    site.remove("who");
}

#[test]
fn users_by_number_are_used_and_outside_the_map_refused() {
    let site = Site::new("ids-user");
    let Some(root) = busybox(&site) else { return };
    let answer = stdout(&site.sh(
        &["--rootfs", &root, "-u", "1000:100"],
        "id -u; id -g; id -G",
    ));
    assert_eq!(
        answer.split_whitespace().collect::<Vec<_>>(),
        ["1000", "100", "100"]
    );
    let refused = site.sh(&["--rootfs", &root, "-u", "4000000000"], "true");
    assert_eq!(
        crate::site::code(&refused),
        125,
        "{}",
        crate::site::text(&refused)
    );
    // In a one-id map there is no other user to be.
    let refused = site.sh(&["-u", "0"], "true");
    assert_eq!(
        crate::site::code(&refused),
        125,
        "{}",
        crate::site::text(&refused)
    );
}
