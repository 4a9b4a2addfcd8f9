//! Protected paths of a writable workspace: read-only, in place, and gone again when they were ours.

use crate::site::{Site, code, complaints, stdout, text, until};
use std::fs;
use std::os::unix::fs::symlink;

const REPOSITORY: &str = "mkdir -p .git/hooks .git/objects && echo original > .git/config && echo hook > .git/hooks/pre-commit && echo original > .envrc";

/// Each line is tried in a writable workspace; none may succeed.
fn refused(site: &Site, tries: &[&str]) {
    let mut script = String::new();
    for one in tries {
        script.push_str(&format!(
            "if ({one}) 2>/dev/null; then echo 'done: {one}'; fi\n"
        ));
    }
    assert_eq!(stdout(&site.sh(&["-w", "."], &script)), "");
}

#[test]
fn existing_ones_cannot_be_written_replaced_or_moved_away() {
    let site = Site::new("protected-existing");
    site.outside(REPOSITORY);
    refused(
        &site,
        &[
            "echo evil > .git/config",
            "echo evil > .git/hooks/pre-commit",
            "echo evil > .git/hooks/post-checkout",
            "rm .git/config",
            "rm -r .git/hooks",
            "mv .git/hooks .git/old",
            "mv .git .old",
            "mv .envrc .old",
            "echo x > .git/objects/new; mv -f .git/objects/new .envrc",
            "ln -f .git/objects .git/config",
            "ln .git/config linked && echo evil > linked",
            "chmod 777 .git/config",
            "cp /bin/true .git/hooks/post-merge",
        ],
    );
    let state = site.outside("cat .git/config .envrc .git/hooks/*; ls -A . .git .git/hooks");
    assert_eq!(
        state,
        "original\noriginal\nhook\n.:\n.envrc\n.git\n\n.git:\nconfig\nhooks\nobjects\n\n.git/hooks:\npre-commit\n"
    );
}

#[test]
fn what_is_beside_them_stays_writable() {
    let site = Site::new("protected-beside");
    site.outside(REPOSITORY);
    let script = "echo x > .git/index && echo x > .git/objects/new && mv .git/index .git/HEAD && echo x > src && rm src && echo fine";
    assert_eq!(stdout(&site.sh(&["-w", "."], script)), "fine");
    assert!(site.work().join(".git/HEAD").exists());
}

#[test]
fn missing_ones_have_placeholders_that_go_at_the_end() {
    let site = Site::new("protected-missing");
    site.detach("holder", &["-w", "."], "sleep 1000");
    for name in [".git", ".envrc", ".vscode", ".devcontainer"] {
        assert!(site.work().join(name).exists(), "{name}");
    }
    let script = "for name in .git .envrc .vscode .devcontainer; do
            if (rm -rf $name) 2>/dev/null; then echo removed $name; fi
            if (mv $name x$name) 2>/dev/null; then echo moved $name; fi
            if (echo evil > $name) 2>/dev/null; then echo wrote $name; fi
            if (mkdir -p $name/hooks && echo evil > $name/hooks/pre-commit) 2>/dev/null; then echo planted $name; fi
        done";
    let output = site.run(&["exec", "holder", "--", "sh", "-c", script]);
    assert_eq!(stdout(&output), "");
    site.remove("holder");
    assert_eq!(site.outside("ls -A"), "");
}

#[test]
fn a_repository_made_beside_a_placeholder_by_somebody_else_stays() {
    let site = Site::new("protected-used");
    site.detach("holder", &["-w", "."], "sleep 1000");
    // Outside the placeholder is a socket that its owner can replace.
    site.outside("rm -f .envrc && echo mine > .envrc");
    site.remove("holder");
    assert_eq!(site.outside("ls -A; cat .envrc"), ".envrc\nmine\n");
}

#[test]
fn two_sandboxes_in_one_workspace_leave_no_placeholder() {
    let site = Site::new("protected-shared");
    site.detach("first", &["-w", "."], "sleep 1000");
    site.detach("second", &["-w", "."], "sleep 1000");
    let try_it = "if (mkdir -p .git/hooks && echo evil > .git/hooks/x) 2>/dev/null; then echo planted; fi; if (echo evil > .envrc) 2>/dev/null; then echo wrote; fi";
    // The first one ends: what it made must go on protecting the second.
    site.remove("first");
    let output = site.run(&["exec", "second", "--", "sh", "-c", try_it]);
    assert_eq!(stdout(&output), "");
    site.remove("second");
    assert_eq!(site.outside("ls -A"), "");
}

#[test]
fn a_symlink_in_their_place_is_refused_and_nothing_is_left() {
    let cases = [
        (".git", ".git"),
        (".envrc", ".envrc"),
        (".git/hooks", ".git/hooks"),
        (".vscode", ".vscode"),
    ];
    for (link, named) in cases {
        let site = Site::new(&format!("protected-link-{}", link.replace(['/', '.'], "-")));
        if link.starts_with(".git/") {
            site.outside("mkdir .git");
        }
        symlink("/etc", site.work().join(link)).unwrap();
        let before = site.outside("find . | sort");
        let output = site.sh(&["-w", "."], "true");
        assert_eq!(code(&output), 125, "{}", text(&output));
        let said = complaints(&output);
        assert!(said.contains(named) && said.contains("symlink"), "{said}");
        assert_eq!(site.outside("find . | sort"), before);
    }
}

#[test]
fn a_git_file_of_a_worktree_is_itself_protected() {
    let site = Site::new("protected-gitfile");
    site.outside("echo 'gitdir: /nowhere' > .git");
    refused(
        &site,
        &[
            "echo evil > .git",
            "rm .git",
            "mv .git old",
            "echo 'gitdir: /tmp' > /tmp/new; cp -f --remove-destination /tmp/new .git",
        ],
    );
    assert_eq!(site.outside("cat .git"), "gitdir: /nowhere\n");
}

#[test]
fn the_workspace_itself_renamed_outside_does_not_free_them() {
    let site = Site::new("protected-renamed");
    site.outside("mkdir project && cd project && mkdir -p .git/hooks");
    let typed = site.work().join("project");
    site.detach("holder", &["-w", typed.to_str().unwrap()], "sleep 1000");
    site.outside("mv project moved");
    let script = "if (echo evil > .git/hooks/x) 2>/dev/null; then echo planted; fi";
    let output = site.run(&["exec", "holder", "--", "sh", "-c", script]);
    assert_eq!(stdout(&output), "");
    site.remove("holder");
    let left = site.outside("cd moved && find . -name '.envrc' -o -name .vscode");
    // It cannot be found under its name any more; what is left is empty and inert.
    for name in left.lines() {
        let path = site.work().join("moved").join(name);
        assert_eq!(fs::metadata(path).unwrap().len(), 0);
    }
}

#[test]
fn protected_in_copy_and_ro_needs_no_placeholder() {
    let site = Site::new("protected-copy");
    for typed in [".:copy", ".:ro"] {
        site.detach("holder", &["-w", typed], "sleep 1000");
        assert_eq!(site.outside("ls -A"), "", "{typed}");
        site.remove("holder");
    }
    assert_eq!(site.outside("ls -A"), "");
}

#[test]
fn more_paths_of_a_policy_are_protected_too() {
    let site = Site::new("protected-more");
    site.outside("mkdir -p sub && echo original > sub/Makefile");
    let policy = site.policy(
        "more",
        "description = \"x\"\nextends = \"untrusted\"\n[workspace]\nprotected = [\"sub/Makefile\", \"a/b/c\"]\n",
    );
    let script = "for try in 'echo x > sub/Makefile' 'mv sub other' 'mkdir -p a/b && echo x > a/b/c' 'mv a other'; do
        if (eval $try) 2>/dev/null; then echo did: $try; fi; done";
    let output = site.sh(&["-p", &policy, "-w", "."], script);
    assert_eq!(stdout(&output), "", "{}", text(&output));
    assert_eq!(site.outside("cat sub/Makefile; ls -A"), "original\nsub\n");
    until("nothing left", || site.left().is_empty().then_some(()));
}
