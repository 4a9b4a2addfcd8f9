//! [pure] The effective policy as a policy file of its own, and as JSON.

use crate::policy::Policy;
use crate::policy::document::{Field, Key, Shape};
use crate::policy::effective::{Effective, Entry, entries, json_to_toml};
use crate::policy::schema::RawPolicy;
use serde_json::{Value as Json, json};

/// The policy as commented TOML that, read as a policy file, means the same.
///
/// What `--tmpfs` adds has no key and is left out.
pub fn toml(policy: &Policy) -> String {
    let mut text = format!(
        "# All that holds under `{0}`, each value with who said it.\nschema = 1\nname = {1}\n",
        policy.name,
        json_to_toml(&json!(policy.name)),
    );
    let entries = entries(policy);
    for section in sections(policy) {
        text += &format!("\n[{}]\n", section.name);
        for key in &section.keys {
            text += &comment(key.about);
            text += &key_to_toml(key, &held_by(&entries, &section.name, key.name));
        }
    }
    text
}

/// A table and its keys that are no tables.
struct Section {
    name: String,
    keys: Vec<Key>,
}

/// The tables of the language, each before those in it; `[flags]` only where it limits something.
fn sections(policy: &Policy) -> Vec<Section> {
    let Shape::Table(keys) = RawPolicy::shape() else {
        return Vec::new();
    };
    let limits = |key: &Key| key.name != "flags" || policy.flags.is_some();
    let mut found = Vec::new();
    for key in keys.into_iter().filter(limits) {
        if let Shape::Table(keys) = key.shape {
            add_section(key.name.to_owned(), keys, &mut found);
        }
    }
    found
}

fn add_section(name: String, keys: Vec<Key>, found: &mut Vec<Section>) {
    let (tables, keys) = keys
        .into_iter()
        .partition(|key| matches!(key.shape, Shape::Table(_)));
    let within = |key: &Key| format!("{name}.{}", key.name);
    let inner: Vec<(String, Key)> = Vec::<Key>::into_iter(tables)
        .map(|key| (within(&key), key))
        .collect();
    found.push(Section { name, keys });
    for (name, key) in inner {
        if let Shape::Table(keys) = key.shape {
            add_section(name, keys, found);
        }
    }
}

/// The entries of a key, and those of its names if it is a map.
fn held_by<'e, 'p>(entries: &'e [Entry<'p>], section: &str, key: &str) -> Vec<&'e Entry<'p>> {
    let dotted = format!("{section}.{key}");
    let within = format!("{dotted}.");
    entries
        .iter()
        .filter(|entry| entry.key == dotted || entry.key.starts_with(&within))
        .filter(|entry| entry.value != Effective::EmptyList)
        .collect()
}

fn key_to_toml(key: &Key, held: &[&Entry<'_>]) -> String {
    let said = |entry: &Entry<'_>| format!("{} # {}", entry.value.to_toml(), comment_text(entry));
    match &key.shape {
        Shape::List(_) if held.is_empty() => format!("{} = []\n", key.name),
        Shape::List(_) => {
            let element = |entry: &&Entry<'_>| {
                format!("    {}, # {}\n", entry.value.to_toml(), comment_text(entry))
            };
            let elements: String = held.iter().map(element).collect();
            format!("{} = [\n{elements}]\n", key.name)
        }
        Shape::Map(..) if held.is_empty() => format!("{} = {{}}\n", key.name),
        Shape::Map(..) => held
            .iter()
            .map(|entry| format!("{}.{} = {}\n", key.name, name_in_map(entry), said(entry)))
            .collect(),
        Shape::One(_) | Shape::Table(_) => held
            .iter()
            .map(|entry| format!("{} = {}\n", key.name, said(entry)))
            .collect(),
    }
}

fn name_in_map<'e>(entry: &'e Entry<'_>) -> &'e str {
    entry.key.rsplit('.').next().unwrap_or(&entry.key)
}

/// A file's name may hold anything; a comment must end where its line does.
fn comment_text(entry: &Entry<'_>) -> String {
    crate::source::render::one_line(&entry.origin.to_string())
}

/// `text` as comment lines of 80 columns at most.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 80 {
            lines += &line;
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}

/// An object of tables with every key of the language, lists and maps even where they are empty.
pub fn json(policy: &Policy) -> Json {
    let entries = entries(policy);
    let mut tables = json!({ "schema": 1, "name": policy.name });
    for section in sections(policy) {
        let keys = section.keys.iter();
        let values = keys.map(|key| {
            let held = held_by(&entries, &section.name, key.name);
            (key.name.to_owned(), key_to_json(key, &held))
        });
        let table = Json::Object(values.collect());
        match section.name.rsplit_once('.') {
            Some((outer, name)) => {
                let path = format!("/{}", outer.replace('.', "/"));
                if let Some(outer) = tables.pointer_mut(&path) {
                    outer[name] = table;
                }
            }
            None => tables[section.name.as_str()] = table,
        }
    }
    tables
}

fn key_to_json(key: &Key, held: &[&Entry<'_>]) -> Json {
    let mut values = held.iter().map(|entry| entry.value.to_json());
    match &key.shape {
        Shape::List(_) => values.collect(),
        Shape::Map(..) => {
            let names = held.iter().map(|entry| name_in_map(entry).to_owned());
            Json::Object(names.zip(values).collect())
        }
        Shape::One(_) | Shape::Table(_) => values.next().unwrap_or(Json::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::expand::Expansion;
    use crate::policy::flags::FlagLayer;
    use crate::policy::presets::names;
    use crate::policy::validate::Surroundings;
    use crate::source::text::Source;

    fn read(text: &str) -> Policy {
        let surroundings = Surroundings {
            expansion: &Expansion::default(),
            forbidden: &[],
            known_calls: &["ptrace", "read"],
        };
        Policy::read(
            Source::file("p.toml", text),
            &FlagLayer::default(),
            &surroundings,
        )
        .unwrap()
    }

    /// A policy that says something for every kind of value.
    const EVERYTHING: &str = r#"
        schema = 1
        name = "all"
        extends = "untrusted"
        flags.allow = ["env", "memory"]
        ids = { mode = "exclusive", workspace_uid = "caller", exclusive_size = 65534 }
        environment.set = { A = "a\nb", "B" = "\"" }
        environment.pass = ["CI_*"]
        filesystem.masked = ["/opt/secret"]
        filesystem.mount = [{ source = "/srv/cache", target = "/cache", access = "rw", why = "a 'cache'" }]
        syscalls.allow = [{ name = "ptrace", why = "gdb" }]
        syscalls.deny = ["read"]
        syscalls.on_denied = "kill"
        resources = { memory = "unlimited", cpus = 0.125, disk = 1048577, timeout = "1h1s" }
        network.mode = "allowlist"
        network.tls_without_name = "allow"
        network.publish = ["8080:80", "[::]:0:443"]
        network.limits.connections = 5
        network.allow = [{ to = "a.b", ports = [443, "1-9"], proto = "raw" }, { to = "*.c.d", ports = [80], why = "x" }]
    "#;

    #[test]
    fn what_is_shown_means_the_same() {
        let presets = names().map(|name| Policy::preset(name).unwrap());
        for policy in presets.chain([read(EVERYTHING)]) {
            let again = read(&toml(&policy));
            assert_eq!(json(&again), json(&policy));
            assert_eq!(toml(&again).lines().count(), toml(&policy).lines().count());
        }
    }

    #[test]
    fn each_value_is_shown_with_its_meaning_and_origin() {
        let shown = toml(&read(EVERYTHING));
        for part in [
            "# Memory of all processes together. Relaxing this allows the job to push the",
            "\nmemory = \"unlimited\" # p.toml:14\n",
            "\ncpus = 0.125 # p.toml:14\n",
            "\n    \"CI_*\", # p.toml:8\n",
            "\nset.B = '\"' # p.toml:7\n",
            "\n    { ports = [\"1-9\", 443], proto = \"raw\", to = \"a.b\" }, # p.toml:19\n",
            "\n[network.limits]\n# Open connections, those",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        let mut comments = shown.lines().filter(|line| line.starts_with('#'));
        assert!(comments.all(|line| line.len() <= 80), "{shown}");
    }

    #[test]
    fn empty_lists_are_there_in_json() {
        let json = json(&Policy::preset("strict").unwrap());
        assert_eq!(json["syscalls"]["allow"], json!([]));
        assert_eq!(json["environment"]["set"], json!({}));
        assert_eq!(json["resources"]["cpus"], json!(1));
        assert_eq!(json["network"]["limits"]["connections"], json!(4096));
        assert!(json.get("flags").is_none());
    }
}
