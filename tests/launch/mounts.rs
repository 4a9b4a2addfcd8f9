//! `--mount` and `--tmpfs`: what is granted, how, and what is refused.

use crate::site::{Site, code, complaints, stdout, text};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

#[test]
fn a_directory_is_read_only_unless_said() {
    let site = Site::new("mount-ro");
    site.outside("mkdir ../common && echo before > ../common/file");
    let shared = site.base().join("common");
    let ro = format!("{}=/shared", shared.display());
    let script = "cat /shared/file; for try in 'echo x > /shared/file' 'echo x > /shared/new' 'rm /shared/file'; do
        if (eval $try) 2>/dev/null; then echo did: $try; fi; done";
    assert_eq!(stdout(&site.sh(&["--mount", &ro], script)), "before");
    let rw = format!("{ro}:rw");
    assert_eq!(
        stdout(&site.sh(&["--mount", &rw], "echo after > /shared/file; echo ok")),
        "ok"
    );
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "after\n");
}

#[test]
fn a_file_can_be_mounted() {
    let site = Site::new("mount-file");
    site.outside("echo content > ../one; echo other > ../two");
    let one = format!("{}=/opt/tool/one", site.base().join("one").display());
    let two = format!("{}=/opt/two:rw", site.base().join("two").display());
    let script = "cat /opt/tool/one; if (echo x > /opt/tool/one) 2>/dev/null; then echo wrote; fi; echo new > /opt/two";
    let output = site.sh(&["--mount", &one, "--mount", &two], script);
    assert_eq!(stdout(&output), "content");
    assert_eq!(site.outside("cat ../one ../two"), "content\nnew\n");
}

/// The exact cause, 125, and nothing left: the site's drop looks for that.
fn refuses(site: &Site, options: &[&str], words: &[&str]) {
    let output = site.sh(options, "true");
    assert_eq!(code(&output), 125, "{options:?}: {}", text(&output));
    let said = complaints(&output);
    for word in words {
        assert!(
            said.contains(word),
            "{options:?}: {word:?} is not in: {said}"
        );
    }
}

#[test]
fn a_missing_source_is_named() {
    let site = Site::new("mount-missing");
    let path = site.base().join("nothing");
    let mount = format!("{}=/x", path.display());
    refuses(
        &site,
        &["--mount", &mount],
        &[path.to_str().unwrap(), "does not exist"],
    );
}

#[test]
fn a_symlink_is_refused_with_what_it_means() {
    let site = Site::new("mount-symlink");
    symlink("/etc", site.base().join("link")).unwrap();
    let mount = format!("{}=/x", site.base().join("link").display());
    refuses(&site, &["--mount", &mount], &["symlink", "/etc"]);
    // On the way, too.
    site.outside("mkdir -p ../real/sub && ln -s real ../way");
    let mount = format!("{}/way/sub=/x", site.base().display());
    refuses(&site, &["--mount", &mount], &["symlink", "real/sub"]);
}

#[test]
fn paths_of_the_command_line_may_go_up_but_through_no_symlink() {
    let site = Site::new("mount-up");
    site.outside(
        "mkdir -p ../common ../root/bin deep && ln -s /usr/bin way && echo up > ../common/file",
    );
    let base = site.base().display();
    for (options, script, answer) in [
        (
            ["--mount", "../common=/shared"],
            "cat /shared/file",
            "up".to_owned(),
        ),
        (
            ["--mount", "deep/../../common=/shared"],
            "cat /shared/file",
            "up".to_owned(),
        ),
        (
            ["-w", "../common"],
            "pwd; cat file",
            format!("{base}/common\nup"),
        ),
        (["-w", "deep/.."], "pwd", format!("{base}/work")),
    ] {
        assert_eq!(stdout(&site.sh(&options, script)), answer, "{options:?}");
    }
    let plan = stdout(&site.run(&["plan", "--rootfs", "../root", "--", "true"]));
    assert!(plan.contains(&format!("\"{base}/root\"")), "{plan}");
    for options in [
        ["--mount", "way/../common=/shared"],
        ["-w", "way/.."],
        ["--rootfs", "way/.."],
    ] {
        refuses(&site, &options, &["symlink", options[0]]);
    }
    refuses(
        &site,
        &["--mount", "../none=/x"],
        &["--mount: ../none does not exist"],
    );
}

#[test]
fn sockets_fifos_and_devices_are_refused() {
    let site = Site::new("mount-special");
    let socket = site.base().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    site.outside("mkfifo ../fifo");
    for path in [
        socket.to_str().unwrap(),
        site.base().join("fifo").to_str().unwrap(),
        "/dev/zero",
    ] {
        refuses(&site, &["--mount", &format!("{path}=/x")], &[path]);
    }
    drop(listener);
}

#[test]
fn sockets_in_a_mounted_directory_are_masked() {
    let site = Site::new("mount-sockets");
    site.outside("mkdir ../common");
    let path = site.base().join("common/socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let mount = format!("{}=/shared", site.base().join("common").display());
    let answer = stdout(&site.sh(
        &["--mount", &mount],
        "test -S /shared/socket && echo socket; ls /shared",
    ));
    assert_eq!(
        answer, "socket",
        "the name is there and no socket behind it"
    );
    drop(listener);
}

#[test]
fn what_is_ours_or_secret_is_refused_for_writing() {
    let site = Site::new("mount-own");
    site.outside("mkdir -p ~/.ssh ~/.config");
    let home = site.account.home.to_str().unwrap().to_owned();
    let base = site.base().to_str().unwrap().to_owned();
    for path in [
        "/".to_owned(),
        home.clone(),
        format!("{home}/.ssh"),
        format!("{home}/.config"),
        format!("{base}/run"),
        format!("{base}/data"),
        base.clone(),
    ] {
        refuses(&site, &["--mount", &format!("{path}=/x:rw")], &[&path]);
    }
}

#[test]
fn targets_that_would_undo_the_sandbox_are_refused() {
    let site = Site::new("mount-targets");
    site.outside("mkdir ../common");
    for target in [
        "/",
        "/proc",
        "/proc/self",
        "/sys",
        "/dev",
        "/dev/shm",
        "relative",
        "/a/../b",
        "",
    ] {
        let mount = format!("{}={target}", site.base().join("common").display());
        let output = site.sh(&["--mount", &mount], "true");
        assert_ne!(code(&output), 0, "{target:?}: {}", text(&output));
        assert!(
            matches!(code(&output), 2 | 125),
            "{target:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn tmpfs_has_its_size_and_no_more() {
    let site = Site::new("tmpfs-size");
    // Without a memory cgroup other sizes shrink so that all together stay below its limit.
    let script = "df -B1 --output=size /scratch | tail -1; head -c 300K /dev/zero > /scratch/fits && echo fits
        head -c 2M /dev/zero > /scratch/more 2>/dev/null || echo full; ls -ld /scratch | cut -c1-10";
    let answer = stdout(&site.sh(&["--tmpfs", "/scratch:1M"], script));
    let lines: Vec<&str> = answer.lines().map(str::trim).collect();
    let size: u64 = lines[0].parse().unwrap();
    assert_eq!(size, 1 << 20, "{answer}");
    assert_eq!(lines[1..], ["fits", "full", "drwxr-xr-x"], "{answer}");
}

#[test]
fn tmpfs_is_private_writable_nosuid_and_nodev() {
    let site = Site::new("tmpfs-flags");
    let script = "for p in /tmp /dev/shm /scratch /home/job /var/tmp; do echo x > $p/file || echo cannot write $p
        awk -v p=$p '$5 == p { print $6 }' /proc/self/mountinfo | grep -q nosuid || echo $p may hold set-id files
        awk -v p=$p '$5 == p { print $6 }' /proc/self/mountinfo | grep -q nodev || echo $p may hold devices; done";
    let output = site.sh(&["--tmpfs", "/scratch"], script);
    assert_eq!(stdout(&output), "", "{}", text(&output));
    assert!(!std::path::Path::new("/scratch").exists());
}

#[test]
fn odd_tmpfs_sizes_are_refused() {
    let site = Site::new("tmpfs-odd");
    for size in ["0", "-1", "1X", "99999999999999999999", "1 M", "+1", ""] {
        let typed = format!("/scratch:{size}");
        let output = site.sh(&["--tmpfs", &typed], "true");
        assert!(
            matches!(code(&output), 2 | 125),
            "{size:?}: {}",
            text(&output)
        );
    }
}
