//! `--rootfs DIR`: used as a lower layer and never written, whatever lies in it.

use crate::site::{Site, code, complaints, stdout, text};
use crate::support::skip;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A root file system of one static program; None, with a named skip, without it.
pub fn busybox(site: &Site) -> Option<String> {
    let program = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static"];
    let is_static = |path: &&&str| fs::read(path).is_ok_and(|bytes| has_no_interpreter(&bytes));
    let Some(program) = program.iter().find(is_static) else {
        skip(
            "--rootfs",
            "no static busybox: apt-get install busybox-static",
        );
        return None;
    };
    let root = site.base().join("rootfs");
    site.outside(&format!(
        "mkdir -p {0}/bin {0}/etc {0}/dev {0}/proc {0}/tmp {0}/root && cp {program} {0}/bin/busybox &&
         for name in $({0}/bin/busybox --list); do [ $name = busybox ] || ln -s busybox {0}/bin/$name; done &&
         echo root:x:0:0:root:/root:/bin/sh > {0}/etc/passwd && echo original > {0}/etc/motd",
        root.display()
    ));
    Some(root.to_str().unwrap().to_owned())
}

/// elf(5): no program header of a 64-bit program is PT_INTERP.
fn has_no_interpreter(elf: &[u8]) -> bool {
    let word = |at: usize| u16::from_le_bytes([elf[at], elf[at + 1]]) as usize;
    let start = u64::from_le_bytes(elf[32..40].try_into().unwrap()) as usize;
    (0..word(56)).all(|number| elf[start + number * word(54)] != 3)
}

/// Every path with kind, owner, size and time: what a write would change.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(root)];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        found.push(format!(
            "{} {:o} {} {} {} {} {}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.ino(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn an_overlay_takes_every_write_and_the_directory_none() {
    let site = Site::new("rootfs-overlay");
    let Some(root) = busybox(&site) else { return };
    let before = listing(Path::new(&root));
    let script = "set -e; echo changed > /etc/motd; rm /bin/vi; mv /root /moved; mkdir /new
        chmod 700 /etc; echo x > /new/x; cat /etc/motd; test ! -e /bin/vi; test -d /moved";
    // With a writable workspace, what the caller owns belongs to root inside.
    let answer = stdout(&site.sh(&["--rootfs", &root, "-w", "."], script));
    assert_eq!(answer, "changed");
    assert_eq!(listing(Path::new(&root)), before);
    // And nothing of the first run is there in a second one.
    let answer = stdout(&site.sh(
        &["--rootfs", &root, "-w", "."],
        "cat /etc/motd; test ! -e /new",
    ));
    assert_eq!(answer, "original");
}

#[test]
fn strict_makes_the_root_read_only() {
    let site = Site::new("rootfs-strict");
    let Some(root) = busybox(&site) else { return };
    let before = listing(Path::new(&root));
    let policy = site.policy(
        "readonly",
        "description = \"x\"\nextends = \"strict\"\n[degrade]\nallow = [\"cgroup\"]\n",
    );
    let script = "for target in /etc/motd /new /bin/new; do
            if (echo x > $target) 2>/dev/null; then echo wrote $target; fi
        done; echo x > /tmp/x && echo tmp works";
    let output = site.sh(&["-p", &policy, "--rootfs", &root], script);
    assert_eq!(stdout(&output), "tmp works", "{}", text(&output));
    assert_eq!(listing(Path::new(&root)), before);
}

#[test]
fn a_command_is_looked_up_in_the_root_not_on_the_host() {
    let site = Site::new("rootfs-lookup");
    let Some(root) = busybox(&site) else { return };
    let missing = site.run(&["run", "--rootfs", &root, "--", "perl", "-e", "1"]);
    assert_eq!(code(&missing), 127, "{}", text(&missing));
    assert!(complaints(&missing).contains("perl"), "{}", text(&missing));
}

/// Changes a small root, runs `cat /proc/self/status` in it, and proves that
/// nothing outside it was touched and that what runs is confined, or refused.
fn hostile(name: &str, change: &str) {
    let site = Site::new(name);
    let Some(root) = busybox(&site) else { return };
    // What a followed link would reach.
    let bait = site.base().join("bait");
    site.outside(&format!(
        "mkdir {0} && echo bait > {0}/file && echo bait > {0}/passwd",
        bait.display()
    ));
    site.outside(&format!("cd {root} && BAIT={} && {change}", bait.display()));
    let (before, outside) = (listing(Path::new(&root)), listing(&bait));
    let script = "cat /etc/hosts /etc/resolv.conf; echo x > /tmp/here; echo y > /dev/null
        grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; grep -c '' /proc/self/mountinfo";
    let output = site.sh(&["--rootfs", &root], script);
    assert_eq!(listing(Path::new(&root)), before, "{}", text(&output));
    assert_eq!(listing(&bait), outside, "{}", text(&output));
    if output.status.success() {
        let said = stdout(&output);
        assert!(
            said.contains("Seccomp:\t2") && said.contains("NoNewPrivs:\t1"),
            "{said}"
        );
        assert!(said.contains("localhost"), "hosts are ours: {said}");
        assert!(!said.contains("bait"), "{said}");
    } else {
        // Refused is as good, when the cause is told.
        assert_eq!(code(&output), 125, "{}", text(&output));
        assert!(
            complaints(&output).lines().count() <= 3,
            "{}",
            text(&output)
        );
        assert!(complaints(&output).contains("error"), "{}", text(&output));
    }
}

#[test]
fn hostile_proc_is_a_symlink() {
    hostile("hostile-proc", "rmdir proc && ln -s $BAIT proc");
}

#[test]
fn hostile_proc_is_a_symlink_within() {
    hostile("hostile-proc-etc", "rmdir proc && ln -s etc proc");
}

#[test]
fn hostile_proc_is_a_file() {
    hostile("hostile-proc-file", "rmdir proc && echo x > proc");
}

#[test]
fn hostile_dev_is_a_symlink() {
    hostile("hostile-dev", "rmdir dev && ln -s $BAIT dev");
}

#[test]
fn hostile_dev_null_is_a_file_and_a_symlink() {
    hostile(
        "hostile-dev-null",
        "echo evil > dev/null && ln -s $BAIT/file dev/zero",
    );
}

#[test]
fn hostile_passwd_is_a_symlink() {
    hostile(
        "hostile-passwd",
        "rm etc/passwd && ln -s $BAIT/passwd etc/passwd",
    );
}

#[test]
fn hostile_hosts_is_a_symlink() {
    hostile("hostile-hosts", "ln -s $BAIT/file etc/hosts");
}

#[test]
fn hostile_hosts_is_a_dangling_symlink() {
    hostile("hostile-hosts-dangling", "ln -s $BAIT/new etc/hosts");
}

#[test]
fn hostile_hosts_is_a_directory() {
    hostile("hostile-hosts-dir", "mkdir etc/hosts");
}

#[test]
fn hostile_etc_is_a_symlink() {
    hostile("hostile-etc", "rm -r etc && ln -s $BAIT etc");
}

#[test]
fn hostile_etc_is_a_symlink_up() {
    hostile(
        "hostile-etc-up",
        "rm -r etc && ln -s ../../../../../../../../etc etc",
    );
}

#[test]
fn hostile_resolv_conf_is_a_fifo() {
    hostile("hostile-fifo", "mkfifo etc/resolv.conf");
}

#[test]
fn hostile_tmp_is_a_symlink_to_the_root() {
    hostile("hostile-tmp", "rmdir tmp && ln -s / tmp");
}

#[test]
fn hostile_sys_is_a_symlink() {
    hostile("hostile-sys", "ln -s $BAIT sys");
}

#[test]
fn hostile_workspace_target_is_a_symlink() {
    let site = Site::new("hostile-workspace");
    let Some(root) = busybox(&site) else { return };
    let bait = site.base().join("bait");
    fs::create_dir(&bait).unwrap();
    symlink(&bait, Path::new(&root).join("project")).unwrap();
    let output = site.sh(
        &["--rootfs", &root, "-w", ".=/project"],
        "echo x > /project/made",
    );
    assert_eq!(fs::read_dir(&bait).unwrap().count(), 0, "{}", text(&output));
    if output.status.success() {
        assert!(site.work().join("made").exists());
    } else {
        assert_eq!(code(&output), 125, "{}", text(&output));
    }
}

#[test]
fn device_nodes_of_a_root_do_not_open() {
    let site = Site::new("hostile-nodes");
    let Some(root) = busybox(&site) else { return };
    if !rustix::process::getuid().is_root() {
        return skip("device nodes in --rootfs", "only root can make them");
    }
    let node = Path::new(&root).join("kmsg");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 5),
    );
    made.unwrap();
    fs::set_permissions(&node, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // The positive control: outside, the same node (1:5, zero) opens.
    fs::File::open(&node).unwrap();
    let script = "if head -c 1 /kmsg >/dev/null 2>&1; then echo opened; else echo refused; fi";
    let answer = stdout(&site.sh(&["--rootfs", &root], script));
    assert_eq!(answer, "refused");
}
