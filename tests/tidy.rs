//! The rules of the house, as tests over the text of `src/`.
//!
//! A side is who may be hurt by a file and what it may reach: see ARCHITECTURE.md.
//! The code of `#[cfg(test)] mod tests` at the end of a file is not looked at.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SIDES: [&str; 8] = [
    "pure", "host", "exposed", "stage", "init", "gateway", "sys", "main",
];

/// What code inside a sandbox may know of the pure rooms.
const KNOWN_INSIDE: [&str; 11] = [
    "sandbox",
    "sandbox::plan",
    "sandbox::message",
    "sandbox::fds",
    "sandbox::filters",
    "confine",
    "linux",
    "net::publish",
    "net::rules",
    "policy",
    "source::origin",
];

/// What pure code may not name: it has no files, clock, environment or processes.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::os",
    "std::io",
    "std::thread",
    "SystemTime",
    "Instant",
    "libc::",
    "rustix::",
];

/// A file of `src/`, without comments, strings and its tests.
struct File {
    path: String,
    module: String,
    side: String,
    text: String,
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `policy::text` for `policy/text.rs`, `policy` for `policy/mod.rs`.
fn module(path: &str) -> String {
    let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
    stem.replace('/', "::")
}

fn side(text: &str) -> Option<&str> {
    let first = text.lines().next()?;
    let (side, owns) = first.strip_prefix("//! [")?.split_once("] ")?;
    (!owns.is_empty()).then_some(side)
}

/// Replaces comments, strings and characters by spaces; keeps lines.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = literal(rest).unwrap_or(0);
        if length == 0 {
            let next = rest.chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
        } else {
            let blanks = rest[..length]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' });
            out.extend(blanks);
            at += length;
        }
    }
    out
}

/// Length of the comment, string or character that the text begins with.
fn literal(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = raw[hashes..].strip_prefix('"')?;
        return Some(2 + hashes + body.find(&end)? + end.len());
    }
    if text.starts_with('"') {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Some(at + 1),
                _ => {}
            }
        }
        return Some(text.len());
    }
    // 'x' and '\n', but no lifetime.
    let body = text.strip_prefix('\'')?;
    let inner = body.chars().next()?;
    let length = if inner == '\\' {
        body[2..].find('\'')? + 2
    } else {
        inner.len_utf8()
    };
    body[length..].starts_with('\'').then_some(length + 2)
}

fn files() -> Vec<File> {
    let src = root().join("src");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path
            .strip_prefix(&src)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let production = match text.find("#[cfg(test)]\nmod tests {") {
            Some(end) => &text[..end],
            None => &text,
        };
        File {
            module: module(&path),
            side: side(&text).unwrap_or("none").to_owned(),
            code: blank(production),
            path,
            text,
        }
    };
    rust_files(&src).into_iter().map(read).collect()
}

/// The paths that a `use` tree names.
fn expand(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let plain = tree.split(" as ").next().unwrap().trim();
        out.push(format!("{prefix}{plain}"));
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inner = &tree[open + 1..tree.rfind('}').unwrap()];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&prefix, &inner[start..at], out);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// All paths that begin with `crate` or `super`, those of `use` expanded.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let statement = statement.trim_start();
        let public = statement.find("use ").filter(|&at| {
            let before = statement[..at].trim_end();
            before.is_empty() || before.ends_with("pub") || before.ends_with([')', '}', ']'])
        });
        if let Some(at) = public {
            expand("", &statement[at + 4..], &mut found);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let rest = &code[at..];
            let end = rest.find(|c| !path(c)).unwrap_or(rest.len());
            found.push(rest[..end].trim_end_matches(':').to_owned());
        }
    }
    found.retain(|path| path.starts_with("crate::") || path.starts_with("super::"));
    found
}

/// The module a path means: the longest beginning that is a file.
fn target<'a>(from: &str, path: &str, all: &BTreeMap<&'a str, &'a str>) -> Option<&'a str> {
    let mut base: Vec<&str> = from.split("::").collect();
    let mut rest = path;
    if let Some(absolute) = rest.strip_prefix("crate::") {
        (base, rest) = (Vec::new(), absolute);
    }
    while let Some(above) = rest.strip_prefix("super::") {
        base.pop();
        rest = above;
    }
    base.extend(rest.split("::"));
    let mut length = base.len();
    while length > 0 {
        if let Some((&name, _)) = all.get_key_value(base[..length].join("::").as_str()) {
            return Some(name);
        }
        length -= 1;
    }
    None
}

fn may_import(from: &str, module: &str, side: &str) -> bool {
    let inside = |side: &str| matches!(side, "stage" | "init" | "gateway");
    match from {
        "main" => true,
        "host" => !inside(side),
        "pure" => side == "pure",
        "exposed" => matches!(side, "pure" | "sys" | "exposed"),
        "sys" => side == "sys",
        _ if inside(from) => {
            let known = |room: &str| {
                let whole = !matches!(room, "sandbox" | "net");
                module == room || (whole && module.starts_with(&format!("{room}::")))
            };
            inside(side)
                || side == "sys"
                || (side == "pure" && KNOWN_INSIDE.iter().any(|room| known(room)))
        }
        _ => false,
    }
}

/// Fails with all findings at once.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// `path:line: line` of every line that matches.
fn matching(file: &File, is: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = file.code.lines().zip(file.text.lines()).enumerate();
    lines
        .filter(|(_, (code, _))| is(code))
        .map(|(at, (_, text))| format!("src/{}:{}: {}", file.path, at + 1, text.trim()))
        .collect()
}

#[test]
fn every_file_begins_with_its_side() {
    let wrong = |file: &File| !SIDES.contains(&file.side.as_str());
    none(
        files()
            .iter()
            .filter(|f| wrong(f))
            .map(|f| format!("src/{}: no side", f.path))
            .collect(),
    );
}

#[test]
fn imports_follow_the_sides() {
    let files = files();
    let all: BTreeMap<&str, &str> = files
        .iter()
        .map(|file| (file.module.as_str(), file.side.as_str()))
        .collect();
    let mut found = BTreeSet::new();
    let mut seen = 0;
    for file in &files {
        for path in paths(&file.code) {
            let Some(module) = target(&file.module, &path, &all) else {
                continue;
            };
            seen += 1;
            let side = all[module];
            if module != file.module && !may_import(&file.side, module, side) {
                found.insert(format!(
                    "src/{} [{}] names {path} [{side}]",
                    file.path, file.side
                ));
            }
        }
    }
    assert!(seen > 500, "only {seen} imports were understood");
    none(found.into_iter().collect());
}

/// `rustix::io::Errno` and the constants of `libc` are numbers with names, and the exceptions.
#[test]
fn pure_files_reach_nothing_outside() {
    let impure = |code: &str| {
        let code = code.replace("rustix::io::Errno", "");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        IMPURE.iter().any(|name| {
            code.match_indices(name).any(|(at, _)| {
                let rest = &code[at + name.len()..];
                let constant =
                    *name == "libc::" && rest.starts_with(|c: char| c.is_ascii_uppercase());
                !constant && !code[..at].ends_with(word)
            })
        })
    };
    let pure = files().into_iter().filter(|file| file.side == "pure");
    none(pure.flat_map(|file| matching(&file, impure)).collect());
}

#[test]
fn unsafe_is_in_sys_alone_and_each_block_says_why_it_is_sound() {
    let mut found = Vec::new();
    for file in files() {
        let blocks = matching(&file, |code| {
            code.contains("unsafe {") || code.contains("unsafe impl")
        });
        if file.side != "sys" {
            found.extend(blocks);
            continue;
        }
        let lines: Vec<&str> = file.text.lines().collect();
        for block in blocks {
            let line: usize = block.split(':').nth(1).unwrap().parse().unwrap();
            // The comment stands above the statement, which may have begun a few lines earlier.
            let above = &lines[line.saturating_sub(9)..line];
            if !above
                .iter()
                .any(|line| line.trim_start().starts_with("// SAFETY: "))
            {
                found.push(block);
            }
        }
    }
    none(found);
}

#[test]
fn production_does_not_know_that_it_is_tested_and_keeps_no_hidden_state() {
    let forbidden = |code: &str| {
        [
            "cfg!(test)",
            "cfg(not(test))",
            "static mut ",
            "allow(dead_code)",
            "thread_local!",
            "OnceLock",
            "LazyLock",
        ]
        .iter()
        .any(|what| code.contains(what))
    };
    none(
        files()
            .iter()
            .flat_map(|file| matching(file, forbidden))
            .collect(),
    );
}

#[test]
fn nothing_is_left_half_done() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "XX".to_owned() + "X:",
    ];
    let macros = ["to".to_owned() + "do!(", "unimple".to_owned() + "mented!("];
    let mut found = Vec::new();
    for folder in ["src", "tests", "policies", "benches", "fuzz/fuzz_targets"] {
        let folder = root().join(folder);
        if !folder.is_dir() {
            continue;
        }
        for path in rust_files(&folder) {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let unfinished = words
                    .iter()
                    .chain(&macros)
                    .any(|word| line.contains(word.as_str()));
                let ignored = line.trim() == "#[ignore]";
                if unfinished || ignored {
                    found.push(format!("{}:{}: {line}", path.display(), at + 1));
                }
            }
        }
    }
    none(found);
}

/// The lines of `## Map`: folder → the names it lists.
fn map() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Map\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| {
            let (folder, rest) = line.strip_prefix("- `")?.split_once('`')?;
            let names = rest.split('`').skip(1).step_by(2).map(str::to_owned);
            Some((folder.to_owned(), names.collect()))
        })
        .collect()
}

#[test]
fn the_map_names_every_file_and_no_other() {
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files() {
        let (folder, name) = match file.path.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name),
            None => ("src/".to_owned(), file.path.as_str()),
        };
        let names = there.entry(folder).or_default();
        if name != "mod.rs" {
            names.insert(name.trim_end_matches(".rs").to_owned());
        }
    }
    let map = map();
    let mut found = Vec::new();
    for folder in there.keys().chain(map.keys()).collect::<BTreeSet<_>>() {
        let empty = BTreeSet::new();
        let (files, listed) = (there.get(folder).unwrap_or(&empty), map.get(folder));
        match listed {
            None => found.push(format!("`{folder}` is not in the map")),
            Some(_) if !there.contains_key(folder) => {
                found.push(format!("`{folder}` is in the map only"))
            }
            Some(listed) => {
                let differ = files.symmetric_difference(listed);
                found.extend(
                    differ.map(|name| {
                        format!("`{folder}`: `{name}` is only in one of map and folder")
                    }),
                );
            }
        }
    }
    none(found);
}

#[test]
fn every_kind_of_step_is_in_a_test_and_in_the_text_of_plans() {
    let plan = std::fs::read_to_string(root().join("src/sandbox/plan/mod.rs")).unwrap();
    let body = plan.split("pub enum Op {").nth(1).unwrap();
    let body = body.split("\n}").next().unwrap();
    let variants = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric())?;
        let begins = name.starts_with(|c: char| c.is_ascii_uppercase());
        begins.then(|| name[..end].to_owned())
    });
    let variants: Vec<String> = variants.collect();
    assert!(variants.len() > 25, "{variants:?}");
    let render = std::fs::read_to_string(root().join("src/sandbox/plan/render.rs")).unwrap();
    let tests: String = rust_files(&root().join("tests"))
        .iter()
        .filter(|path| !path.ends_with("tidy.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let snake = |name: &str| {
        let mut out = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        }
        out
    };
    let lacks = |name: &&String| {
        let tested =
            tests.contains(&format!("Op::{name}")) || tests.contains(&format!("{:?}", snake(name)));
        !tested || !render.contains(&format!("Self::{name}"))
    };
    none(variants.iter().filter(lacks).cloned().collect());
}

/// A hint, not a rule: what is long may hold two ideas.
#[test]
fn long_files_and_functions_are_printed() {
    let mut longest = Vec::new();
    for file in files() {
        let lines = file.code.lines().count();
        if lines > 400 {
            longest.push(format!("{lines:4} lines  src/{}", file.path));
        }
        let mut start = None;
        for (at, line) in file.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let opens = line.contains("fn ") && indent <= 4 && !line.trim_end().ends_with(';');
            match start {
                None if opens => start = Some((at, indent)),
                Some((from, depth)) if line.trim() == "}" && indent == depth => {
                    if at - from > 50 {
                        let text = file.text.lines().nth(from).unwrap().trim();
                        longest.push(format!(
                            "{:4} lines  src/{}:{}: {text}",
                            at - from + 1,
                            file.path,
                            from + 1
                        ));
                    }
                    start = None;
                }
                _ => {}
            }
        }
    }
    longest.sort();
    println!("{}", longest.join("\n"));
    assert!(longest.len() < 200, "nearly everything is long");
}

#[test]
fn the_reader_of_code_reads_code() {
    let code = blank(
        "let a = \"unsafe { // \\\"\"; // unsafe {\nlet b = 'x'; let c: &'a str = r#\"\"unsafe\"#;",
    );
    assert!(
        !code.contains("unsafe") && code.contains("let c: &'a str") && code.lines().count() == 2
    );
    let found = paths("use crate::a::{b, c::{D, e as f}};\nfn g() { crate::h::i::j() }");
    for path in [
        "crate::a::b",
        "crate::a::c::D",
        "crate::a::c::e",
        "crate::h::i::j",
    ] {
        assert!(found.iter().any(|one| one == path), "{path}: {found:?}");
    }
    assert!(
        may_import("stage", "sandbox::plan", "pure")
            && !may_import("stage", "supervise::state", "host")
    );
    assert!(
        !may_import("stage", "supervise::control", "pure")
            && !may_import("pure", "sys::mount", "sys")
    );
    assert!(!may_import("sys", "linux", "pure") && may_import("host", "broker", "exposed"));
    assert!(!may_import("host", "sandbox::init", "init"));
}
