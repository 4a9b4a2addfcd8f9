//! Workspace modes: what the job sees, and what of it reaches the directory.

use crate::site::{Site, code, complaints, stdout, text};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

#[test]
fn without_one_there_is_an_empty_private_directory() {
    let site = Site::new("workspace-none");
    let script = "pwd; ls -A; echo x > file && cat file";
    assert_eq!(stdout(&site.sh(&[], script)), "/workspace\nx");
    assert!(fs::read_dir(site.work()).unwrap().next().is_none());
}

#[test]
fn rw_writes_the_directory_itself_at_the_same_path() {
    let site = Site::new("workspace-rw");
    let answer = stdout(&site.sh(
        &["-w", "."],
        "pwd; echo made > file; mkdir d; mv file d/file",
    ));
    assert_eq!(answer, site.work().to_str().unwrap());
    assert_eq!(
        fs::read_to_string(site.work().join("d/file")).unwrap(),
        "made\n"
    );
}

#[test]
fn ro_reads_and_every_write_is_refused() {
    let site = Site::new("workspace-ro");
    site.write(&site.work().join("file"), "before\n");
    let script = "cat file; for try in 'echo x > file' 'echo x > new' 'rm file' 'mv file moved' 'mkdir d' 'chmod 777 file' 'touch file'; do
        if (eval $try) 2>/dev/null; then echo wrote: $try; fi; done";
    assert_eq!(stdout(&site.sh(&["-w", ".:ro"], script)), "before");
    assert_eq!(
        fs::read_to_string(site.work().join("file")).unwrap(),
        "before\n"
    );
}

#[test]
fn copy_takes_writes_and_throws_them_away() {
    let site = Site::new("workspace-copy");
    site.write(&site.work().join("file"), "before\n");
    let script = "echo after > file; echo x > new; mkdir -p a/b; mv file a/b/file; cat a/b/file; ls | sort | tr '\\n' ' '";
    let answer = stdout(&site.sh(&["-w", ".:copy"], script));
    assert_eq!(answer, "after\na new");
    assert_eq!(
        fs::read_to_string(site.work().join("file")).unwrap(),
        "before\n"
    );
    assert_eq!(fs::read_dir(site.work()).unwrap().count(), 1);
}

#[test]
fn keep_keeps_a_copy_and_prints_where_and_rm_removes_it() {
    let site = Site::new("workspace-keep");
    site.write(&site.work().join("file"), "before\n");
    let script = "echo after > file; mkdir deep; echo x > deep/new";
    let output = site.sh(&["--name", "kept", "--keep", "-w", ".:copy"], script);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        fs::read_to_string(site.work().join("file")).unwrap(),
        "before\n"
    );
    let said = complaints(&output);
    let path = said.rsplit(": ").next().unwrap().trim();
    assert!(PathBuf::from(path).is_dir(), "{said}");
    let found = site.outside(&format!(
        "find {path}/workspace/upper -name file -exec cat {{}} +"
    ));
    assert_eq!(found, "after\n", "the caller can read what was kept");
    let removed = site.run(&["rm", "kept"]);
    assert!(removed.status.success(), "{}", text(&removed));
    assert!(!PathBuf::from(path).exists());
}

/// A job that plants what the caller's own tools would run.
const PLANT: &str = "mkdir -p .git/hooks .vscode; echo evil > .git/hooks/pre-commit
    echo evil > .git/config; echo evil > .envrc; echo evil > .vscode/tasks.json
    ln -s /elsewhere .devcontainer; echo kept > product";

#[test]
fn what_a_job_plants_at_protected_paths_is_not_kept() {
    let site = Site::new("workspace-planted");
    for (name, repository) in [("with", true), ("without", false)] {
        if repository {
            site.outside("mkdir -p .git/hooks; echo original > .git/config");
        } else {
            site.outside("rm -r .git");
        }
        let output = site.sh(&["--name", name, "--keep", "-w", ".:copy"], PLANT);
        assert!(output.status.success(), "{}", text(&output));
        let said = complaints(&output);
        let path = said.rsplit(": ").next().unwrap().trim();
        let found = site.outside(&format!("cd {path}/workspace/upper; find . ! -type d"));
        assert_eq!(found, "./product\n", "{name}");
        let removed = site.run(&["rm", name]);
        assert!(removed.status.success(), "{}", text(&removed));
    }
    // In a copy that is thrown away the job may do as it likes.
    let output = site.sh(&["-w", ".:copy"], &format!("{PLANT}; cat .git/config"));
    assert_eq!(stdout(&output), "evil");
}

#[test]
fn inside_says_where() {
    let site = Site::new("workspace-inside");
    site.write(&site.work().join("file"), "content\n");
    for suffix in ["", ":ro", ":copy"] {
        let typed = format!("{}=/project/here{suffix}", site.work().display());
        let answer = stdout(&site.sh(&["-w", &typed], "pwd; cat /project/here/file"));
        assert_eq!(answer, "/project/here\ncontent", "{suffix}");
    }
}

#[test]
fn a_path_may_hold_blanks_colons_equals_and_other_letters() {
    let site = Site::new("workspace-odd");
    for name in [
        "with blank",
        "a:b=c",
        "ünïcödé",
        "-dash",
        "new\nline",
        "quote'\"$x",
        "back\\slash\\040",
    ] {
        let directory = site.work().join(name);
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(site.account.uid), None).unwrap();
        let typed = format!("{}=/w", directory.display());
        let output = site.sh(&["-w", &typed], "echo x > made");
        assert!(output.status.success(), "{name:?}: {}", text(&output));
        assert!(directory.join("made").exists(), "{name:?}");
        let typed = format!("{}:rw", directory.display());
        let output = site.sh(&["-w", &typed], "echo x > again");
        // Either it works, or the path is refused with its cause.
        if output.status.success() {
            assert!(directory.join("again").exists(), "{name:?}");
        } else {
            assert_eq!(code(&output), 125, "{name:?}: {}", text(&output));
        }
    }
}

#[test]
fn the_policy_is_the_ceiling() {
    let site = Site::new("workspace-ceiling");
    let policy = site.policy(
        "reader",
        "description = \"x\"\nextends = \"strict\"\n[degrade]\nallow = [\"cgroup\"]\n",
    );
    let output = site.sh(&["-p", &policy, "-w", "."], "true");
    assert_eq!(code(&output), 125, "{}", text(&output));
    assert!(
        complaints(&output).contains("workspace"),
        "{}",
        text(&output)
    );
    let output = site.sh(&["-p", &policy, "-w", ".:ro"], "true");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn set_id_bits_do_not_reach_a_writable_workspace() {
    let site = Site::new("workspace-setid");
    let script = "cp /bin/true t; chmod 4755 t 2>/dev/null && echo setuid
        mkdir -m 2755 d 2>/dev/null; perl -e 'chmod 02755, \"t\" and print \"setgid\"'; true";
    assert_eq!(stdout(&site.sh(&["-w", "."], script)), "");
    let modes = site.outside("find . -perm /6000");
    assert_eq!(modes, "");
}

#[test]
fn the_workspace_is_nosuid_and_nodev() {
    let site = Site::new("workspace-flags");
    for suffix in ["", ":ro", ":copy"] {
        let typed = format!("{}=/w{suffix}", site.work().display());
        let answer = stdout(&site.sh(&["-w", &typed], "grep ' /w ' /proc/self/mountinfo"));
        let options = answer.split_whitespace().nth(5).unwrap();
        for flag in ["nosuid", "nodev"] {
            assert!(
                options.split(',').any(|option| option == flag),
                "{suffix} {answer}"
            );
        }
    }
}

#[test]
fn sockets_in_it_are_masked_at_the_start() {
    let site = Site::new("workspace-sockets");
    site.outside("mkdir -p deep/er");
    let names = ["top.sock", "deep/er/inner.sock"];
    let listeners = names.map(|name| {
        let path = site.work().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        listener
    });
    let connect = "use Socket; for (@ARGV) { socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die $!;
        print connect($s, sockaddr_un($_)) ? qq(connected ) : qq(refused ) }";
    let perl = format!("perl -e '{connect}' {}", names.join(" "));
    // The positive control: outside they answer.
    assert_eq!(site.outside(&perl), "connected connected ");
    for suffix in ["", ":ro"] {
        let typed = format!(".{suffix}");
        let answer = stdout(&site.sh(&["-w", &typed], &perl));
        assert_eq!(answer, "refused refused", "{suffix}");
    }
    for name in names {
        assert!(site.work().join(name).exists(), "{name} is still there");
    }
    drop(listeners);
}

#[test]
fn a_copy_that_is_hard_to_delete_is_deleted() {
    let site = Site::new("workspace-deep");
    let script = r#"perl -e '
        mkdir "n" x 255 or die; mkdir "a\nb\x01" or die;
        mkdir "closed" or die; mkdir "closed/in" or die; chmod 0, "closed" or die;
        for (1..5000) { mkdir "d" or die; chdir "d" or die }
        chmod 0, "." or die'"#;
    let output = site.sh(&["-w", ".:copy", "--keep", "--name", "deep"], script);
    // The disk limit follows 500 directories at most, and then ends the job.
    assert!([0, 125].contains(&code(&output)), "{}", text(&output));
    let removed = site.run(&["rm", "deep"]);
    assert_eq!(code(&removed), 0, "{}", text(&removed));
    assert_eq!(site.left(), Vec::<String>::new());
}
