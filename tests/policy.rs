//! The policy language from outside: presets, mistakes with their places, layering, goldens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cofferdam::policy::Policy;
use cofferdam::policy::diff::{loosenings, to_text};
use cofferdam::policy::document::{Field, Shape};
use cofferdam::policy::effective::{entries, origins};
use cofferdam::policy::expand::Expansion;
use cofferdam::policy::flags::{Flag, FlagLayer, MountFlag, TmpfsFlag};
use cofferdam::policy::forbidden::{HostDirectories, roots};
use cofferdam::policy::json_schema::json_schema;
use cofferdam::policy::presets::{PRESETS, names};
use cofferdam::policy::schema::{RawPolicy, TEXT_MAX, dotted_keys, parse};
use cofferdam::policy::validate::Surroundings;
use cofferdam::policy::{Access, NetworkMode};
use cofferdam::source::diagnostic::Diagnostic;
use cofferdam::source::render::{Colour, render};
use cofferdam::source::text::Source;
use proptest::prelude::*;
use serde_json::Value as Json;

fn read_with(text: &str, flags: &FlagLayer) -> Result<Policy, Vec<Diagnostic>> {
    let expansion = Expansion {
        home: Some("/home/u".into()),
        xdg_runtime_dir: Some("/run/user/7".into()),
        ssh_auth_sock: None,
        file_dir: Some("/etc/ci".into()),
        current_dir: Some("/src".into()),
    };
    let directories = HostDirectories {
        homes: vec!["/home/u".into()],
        xdg_runtime_dir: Some("/run/user/7".into()),
        state: vec!["/home/u/.local/share/cofferdam".into()],
        programs: vec!["/opt/cofferdam".into()],
    };
    let surroundings = Surroundings {
        expansion: &expansion,
        forbidden: &roots(&directories),
        known_calls: &["ptrace", "read", "io_uring_setup"],
    };
    Policy::read(Source::file("p.toml", text), flags, &surroundings)
}

fn read(text: &str) -> Result<Policy, Vec<Diagnostic>> {
    read_with(text, &FlagLayer::default())
}

fn rendered(result: Result<Policy, Vec<Diagnostic>>) -> String {
    let diagnostics = result.expect_err("must be refused");
    render(&diagnostics, Colour::Never)
}

/// The cause, the line shown and the caret, of the only mistake.
fn only_mistake(text: &str) -> (String, String, String) {
    let shown = rendered(read(text));
    assert_eq!(shown.matches("error: ").count(), 1, "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let after_margin = |line: &str| {
        line.split_once("| ")
            .map_or(String::new(), |(_, rest)| rest.to_owned())
    };
    let cause = lines[0].strip_prefix("error: ").unwrap_or_default();
    (
        cause.to_owned(),
        after_margin(lines[3]),
        after_margin(lines[4]),
    )
}

/// Text after `schema = 1`, cause, caret line under the last line of the text.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("memroy = 3", "unknown key `memroy`", "^^^^^^"),
    ("[engine]", "unknown key `engine`", " ^^^^^^"),
    ("[[socket]]", "unknown key `socket`", "  ^^^^^^"),
    (
        "network.published = []",
        "unknown key `network.published`",
        "        ^^^^^^^^^",
    ),
    (
        "network.publish = ['8080']",
        "network.publish: \"8080\" is no published port: write [ADDRESS:]HOSTPORT:PORT",
        "                   ^^^^^^",
    ),
    (
        "network.limits.conections = 3",
        "unknown key `network.limits.conections`",
        "               ^^^^^^^^^^",
    ),
    (
        "network.limits.connections = 0",
        "network.limits.connections: 0 is not an integer from 1 to 65536",
        "                             ^",
    ),
    (
        "network.limits.dns_per_second = \"unlimited\"",
        "network.limits.dns_per_second: expected an integer from 1 to 65536, found a string",
        "                                ^^^^^^^^^^^",
    ),
    (
        "network.tls_without_name = true",
        "network.tls_without_name: expected one of \"refuse\", \"allow\", found a boolean",
        "                           ^^^^",
    ),
    (
        "network.allow = [\"a.b\"]",
        "network.allow: expected a table { to, ports, proto, why }, found a string",
        "                 ^^^^^",
    ),
    (
        "network.mode = \"open\"",
        "network.mode: \"open\" is not one of \"none\", \"allowlist\"",
        "               ^^^^^^",
    ),
    (
        "ids.mode = \"sub\"",
        "ids.mode: \"sub\" is not one of \"subuid\", \"exclusive\", \"caller\"",
        "           ^^^^^",
    ),
    (
        "ids.mode = \"callr\"",
        "ids.mode: \"callr\" is not one of \"subuid\", \"exclusive\", \"caller\", did you mean \"caller\"?",
        "           ^^^^^^^",
    ),
    (
        "ids.workspace_uid = 1",
        "ids.workspace_uid: 1 is not 0 or \"caller\"",
        "                    ^",
    ),
    (
        "ids.exclusive_size = 65535",
        "ids.exclusive_size: 65535 is not an integer from 1 to 65534",
        "                     ^^^^^",
    ),
    (
        "ids = 3",
        "ids: expected a table, found an integer",
        "      ^",
    ),
    (
        "[[ids]]",
        "ids: expected a table, found a list of tables",
        "^^^^^^^",
    ),
    (
        "name = \"A\"",
        "name: \"A\" is not a name: it must begin with a-z or 0-9",
        "       ^^^",
    ),
    (
        "name = 1",
        "name: expected a name such as \"ci-acme\", found an integer",
        "       ^",
    ),
    (
        "extends = \"strct\"",
        "unknown preset `strct`",
        "          ^^^^^^^",
    ),
    (
        "extends = [\"strict\"]",
        "extends: expected a name such as \"ci-acme\", found a list",
        "          ^^^^^^^^^^",
    ),
    (
        "extends = \"./x.toml\"",
        "extends: \"./x.toml\" is not a name: it must begin with a-z or 0-9",
        "          ^^^^^^^^^^",
    ),
    (
        "resources.memory = \"5X\"",
        "resources.memory: \"5X\" is not a size: unknown unit \"x\", the units are B K M G T",
        "                   ^^^^",
    ),
    (
        "resources.memory = true",
        "resources.memory: expected a size such as \"512M\" or \"unlimited\", found a boolean",
        "                   ^^^^",
    ),
    (
        "resources.memory = 4",
        "resources.memory: 4 is too small, the least is 1M",
        "                   ^",
    ),
    (
        "resources.memory = -4",
        "resources.memory: -4 is less than nothing",
        "                   ^^",
    ),
    (
        "resources.cpus = nan",
        "resources.cpus: \"NaN\" is not a number of CPUs: write a number such as 2 or 1.5, with three decimals at most",
        "                 ^^^",
    ),
    (
        "resources.cpus = 1e300",
        "resources.cpus: ",
        "                 ^^^^^",
    ),
    (
        "resources.cpus = 0",
        "resources.cpus: \"0\" is not a number of CPUs: the least is 0.01",
        "                 ^",
    ),
    (
        "resources.pids = 0",
        "resources.pids: 0 is not an integer from 1 to 4194304",
        "                 ^",
    ),
    (
        "resources.timeout = 90",
        "resources.timeout: expected a duration such as \"1h30m\" or \"unlimited\", found an integer",
        "                    ^^",
    ),
    (
        "resources.timeout = \"1w\"",
        "resources.timeout: \"1w\" is not a duration: the units are d h m s, each once, largest first",
        "                    ^^^^",
    ),
    (
        "landlock.minimum_abi = 1",
        "landlock.minimum_abi: 1 is not an integer from 2 to 9",
        "                       ^",
    ),
    (
        "workspace.protected = [\"a\", \"../b\"]",
        "workspace.protected: \"../b\" is not a relative path: `..` is not allowed, write where it leads",
        "                            ^^^^^^",
    ),
    (
        "workspace.protected = \"a\"",
        "workspace.protected: expected a list, found a string",
        "                      ^^^",
    ),
    (
        "filesystem.masked = [\"proc\"]",
        "filesystem.masked: \"proc\" is not an absolute path: it must begin with /",
        "                     ^^^^^^",
    ),
    (
        "filesystem.mount = [1]",
        "filesystem.mount: expected a table { source, target, access, why }, found an integer",
        "                    ^",
    ),
    (
        "[[filesystem.mount]]\nsource = \"/srv\"\nwhy = \"x\"\ntarget = \"/proc/1\"",
        "cannot mount at /proc/1 inside: /proc is made for each sandbox and nothing is mounted in it",
        "         ^^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"/srv\", target = \"/s\" }]",
        "filesystem.mount: this grant has no `why`",
        "                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"/srv\", why = \"x\" }]",
        "filesystem.mount: this grant has no `target`",
        "                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"/\", target = \"/s\", why = \"x\", access = \"rw\" }]",
        "cannot mount /: / is the whole file system",
        "                               ^^^",
    ),
    (
        "filesystem.mount = [{ source = \"~/.ssh\", target = \"/s\", why = \"x\", access = \"rw\" }]",
        "cannot mount /home/u/.ssh: /home/u/.ssh is where ssh keeps its keys",
        "                               ^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"~/.local\", target = \"/s\", why = \"x\" }]",
        "cannot mount /home/u/.local: /home/u/.local holds /home/u/.local/share/cofferdam, which is where Cofferdam keeps its state",
        "                               ^^^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"$HOME/a\", target = \"/s\", why = \"x\" }]",
        "filesystem.mount.source: \"$HOME/a\" is not a path that can be used here: only a leading ~/, $XDG_RUNTIME_DIR or $SSH_AUTH_SOCK expands",
        "                               ^^^^^^^^^",
    ),
    (
        "filesystem.mount = [{ source = \"/srv\", target = \"/\", why = \"x\" }]",
        "cannot mount at / inside: it would cover the whole root",
        "                                                ^^^",
    ),
    (
        "filesystem.mount = [{ source = \"/srv\", target = \"/s\", why = \"x\", access = \"copy\" }]",
        "filesystem.mount.access: \"copy\" is not one of \"ro\", \"rw\"",
        "                                                                          ^^^^^^",
    ),
    (
        "syscalls.allow = [\"ptrace\"]",
        "syscalls.allow: expected a table { name, why }, found a string",
        "                  ^^^^^^^^",
    ),
    (
        "syscalls.allow = [{ name = \"ptrace\" }]",
        "syscalls.allow: this grant has no `why`",
        "                  ^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "syscalls.allow = [{ name = \"ptrace\", why = \" \" }]",
        "syscalls.allow.why: \" \" is not a line of text: it is empty",
        "                                           ^^^",
    ),
    (
        "syscalls.deny = [\"ptrac\"]",
        "no system call is called `ptrac`",
        "                 ^^^^^^^",
    ),
    (
        "capabilities.keep = [{ name = \"CAP_CHWON\", why = \"x\" }]",
        "capabilities.keep.name: no capability is called \"CAP_CHWON\", did you mean \"CHOWN\"?",
        "                              ^^^^^^^^^^^",
    ),
    (
        "environment.pass = [\"*\"]",
        "environment.pass: \"*\" is not a variable name: it would pass everything the caller has",
        "                    ^^^",
    ),
    (
        "environment.set.\"A-B\" = \"x\"",
        "environment.set: \"A-B\" is not a variable name: it may hold letters, digits and _ only",
        "                ^^^^^",
    ),
    (
        "environment.set.A = 1",
        "environment.set.A: expected a string, found an integer",
        "                    ^",
    ),
    (
        "degrade.allow = [\"seccomp\"]",
        "degrade.allow: \"seccomp\" is not one of \"cgroup\", \"landlock\", \"groups\", \"disk\"",
        "                 ^^^^^^^^^",
    ),
    (
        "flags.allow = [\"memry\"]",
        "flags.allow: \"memry\" is not one of ",
        "               ^^^^^^^",
    ),
    (
        "name = \"a\"\nname = \"b\"",
        "the policy is not valid TOML: duplicate key",
        "^^^^",
    ),
];

#[test]
fn each_mistake_has_its_cause_line_and_caret() {
    for (text, cause, caret) in MISTAKES {
        let (found, line, mark) = only_mistake(&format!("schema = 1\n{text}\n"));
        // Lists of words and numbers in words may grow: their beginning is enough.
        let same = if cause.ends_with(' ') {
            found.starts_with(cause)
        } else {
            found == *cause
        };
        assert!(same, "{text}\n{found}\n{cause}");
        assert_eq!(Some(line.as_str()), text.lines().last(), "{text}");
        assert_eq!(mark, *caret, "{text}");
    }
}

#[test]
fn all_mistakes_of_a_file_come_together_in_its_order() {
    let shown = rendered(read(
        "bogus = 1\nids.mode = 2\n[resources]\npids = -1\nmemory = \"x\"\n",
    ));
    let causes: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    assert_eq!(causes.len(), 5, "{shown}");
    assert_eq!(causes[0], "`schema = 1` is missing");
    assert_eq!(causes[1], "unknown key `bogus`");
    assert!(causes[4].starts_with("resources.memory: "));
}

#[test]
fn advice_names_the_nearest_key() {
    for (text, near) in [
        ("memroy = 3", "resources.memory"),
        ("resources.memroy = 3", "resources.memory"),
        ("resource.memory = 3", "resources"),
        ("[[filesystem.mount]]\nsorce = 3", "filesystem.mount.source"),
    ] {
        let shown = rendered(read(&format!("schema = 1\n{text}")));
        assert!(
            shown.contains(&format!("help: the nearest known key is `{near}`")),
            "{shown}"
        );
    }
}

#[test]
fn schema_is_required_and_checked() {
    assert!(rendered(read("")).starts_with("error: `schema = 1` is missing\n"));
    let newer = rendered(read("schema = 2"));
    assert!(newer.starts_with(
        "error: schema: this program reads version 1 of the language, the file says 2\n"
    ));
}

#[test]
fn hostile_texts_are_refused_in_bounded_space() {
    let texts = [
        format!("schema = 1\na = {}", "[".repeat(100_000)),
        format!("schema = 1\na = {}1{}", "[".repeat(70), "]".repeat(70)),
        format!("schema = 1\n{}a = 1", "a.".repeat(100_000)),
        format!("schema = 1\n[{}a]", "a.".repeat(100_000)),
        format!("schema = 1\nids = {}", "{a=".repeat(100_000)),
        (0..50_000)
            .map(|number| format!("k{number} = 1\n"))
            .collect(),
        (0..5_000)
            .map(|_| "[[filesystem.mount]]\n".to_owned())
            .collect(),
        format!(
            "schema = 1\nnetwork.mode = 'allowlist'\nnetwork.allow = [{}]",
            "{to='a.b',ports=[1]},".repeat(40_000)
        ),
        " ".repeat(TEXT_MAX + 1),
        "\0".into(),
        "= =".into(),
        "schema = 1\r".into(),
    ];
    for text in texts {
        let diagnostics = read(&text).expect_err("must be refused");
        let shown = render(&diagnostics, Colour::Never);
        let start: String = text.chars().take(30).collect();
        assert!(diagnostics.len() <= 101, "{start}: {}", diagnostics.len());
        assert!(shown.len() < 200_000, "{start}: {}", shown.len());
    }
}

/// A grant beside mode `allowlist`; what of it is pointed at; why it is refused.
const BAD_GRANTS: &[(&str, &str, &str)] = &[
    (
        "to = 'https://a.b/', ports = [443]",
        "'https://a.b/'",
        "network.allow.to: \"https://a.b/\" is no destination: a destination has no scheme and no path",
    ),
    (
        "to = '', ports = [443]",
        "''",
        "network.allow.to: \"\" is no destination: a name has 1 to 253 bytes",
    ),
    (
        "to = 'a..b', ports = [443]",
        "'a..b'",
        "network.allow.to: \"a..b\" is no destination: a label of a name has 1 to 63 bytes",
    ),
    (
        "to = 'a.b.', ports = [443]",
        "'a.b.'",
        "network.allow.to: \"a.b.\" is no destination: a label of a name has 1 to 63 bytes",
    ),
    (
        "to = 'a_b.c', ports = [443]",
        "'a_b.c'",
        "network.allow.to: \"a_b.c\" is no destination: a name has letters, digits, hyphens and dots; write others in their xn-- form",
    ),
    (
        "to = '-a.b', ports = [443]",
        "'-a.b'",
        "network.allow.to: \"-a.b\" is no destination: a label neither begins nor ends with a hyphen",
    ),
    (
        "to = 'a.0x7f', ports = [443]",
        "'a.0x7f'",
        "network.allow.to: \"a.0x7f\" is no destination: a name that ends in a number is an address",
    ),
    (
        "to = '*', ports = [443], why = 'x'",
        "'*'",
        "network.allow.to: \"*\" is no destination: `*` stands only in front of a name: *.NAME",
    ),
    (
        "to = 'a.*.b', ports = [443], why = 'x'",
        "'a.*.b'",
        "network.allow.to: \"a.*.b\" is no destination: `*` stands only in front of a name: *.NAME",
    ),
    (
        "to = '127.1', ports = [443], why = 'x'",
        "'127.1'",
        "network.allow.to: \"127.1\" is no destination: an address has four numbers, or groups with colons",
    ),
    (
        "to = '010.0.0.1', ports = [443], why = 'x'",
        "'010.0.0.1'",
        "network.allow.to: \"010.0.0.1\" is no destination: an address has four numbers, or groups with colons",
    ),
    (
        "to = '10.0.0.1/8', ports = [443], why = 'x'",
        "'10.0.0.1/8'",
        "network.allow.to: \"10.0.0.1/8\" is no destination: the address has bits below its prefix",
    ),
    (
        "to = '10.0.0.0/33', ports = [443], why = 'x'",
        "'10.0.0.0/33'",
        "network.allow.to: \"10.0.0.0/33\" is no destination: a prefix length is at most 32, or 128 for IPv6",
    ),
    (
        "to = 4, ports = [443]",
        "4",
        "network.allow.to: expected a name, *.NAME, an address or a network such as \"10.1.2.0/24\", found an integer",
    ),
    (
        "to = 'a.b', ports = [0]",
        "0",
        "network.allow.ports: 0 is no port: a port is a number from 1 to 65535",
    ),
    (
        "to = 'a.b', ports = [65536]",
        "65536",
        "network.allow.ports: 65536 is no port: a port is a number from 1 to 65535",
    ),
    (
        "to = 'a.b', ports = [-1]",
        "-1",
        "network.allow.ports: -1 is no port: a port is a number from 1 to 65535",
    ),
    (
        "to = 'a.b', ports = ['443']",
        "'443'",
        "network.allow.ports: \"443\" is not a port such as 443 or \"8000-8099\"",
    ),
    (
        "to = 'a.b', ports = ['9-8']",
        "'9-8'",
        "network.allow.ports: 9-8 is no port: the last port is below the first",
    ),
    (
        "to = 'a.b', ports = [4.5]",
        "4.5",
        "network.allow.ports: expected a port such as 443 or \"8000-8099\", found a float",
    ),
    (
        "to = 'a.b', ports = 443",
        "443",
        "network.allow.ports: expected a list, found an integer",
    ),
    (
        "to = 'a.b', ports = [443, 53]",
        "53",
        "network.allow: port 53 can never match: every DNS query of a sandbox is answered by its own resolver",
    ),
    (
        "to = 'a.b', ports = [443], proto = 'udp'",
        "'udp'",
        "network.allow.proto: \"udp\" is not one of \"tls\", \"http\", \"raw\"",
    ),
    (
        "ports = [443]",
        "{ ports = [443] }",
        "network.allow: this grant has no `to`",
    ),
    (
        "to = 'a.b'",
        "{ to = 'a.b' }",
        "network.allow: this grant can never match: it names no port",
    ),
    (
        "to = 'a.b', ports = []",
        "{ to = 'a.b', ports = [] }",
        "network.allow: this grant can never match: it names no port",
    ),
    (
        "to = '10.0.0.0/8', ports = [443]",
        "{ to = '10.0.0.0/8', ports = [443] }",
        "network.allow: 10.0.0.0/8 is reached without a name, and this grant has no `why`",
    ),
    (
        "to = '*.a.b', ports = [443]",
        "{ to = '*.a.b', ports = [443] }",
        "network.allow: *.a.b is more than one name, and this grant has no `why`",
    ),
    (
        "to = '*.co.uk', ports = [443]",
        "{ to = '*.co.uk', ports = [443] }",
        "network.allow: *.co.uk is every name that anybody registers below co.uk, and this grant has no `why`",
    ),
    (
        "to = '*.com', ports = [443]",
        "{ to = '*.com', ports = [443] }",
        "network.allow: *.com is every name that anybody registers below com, and this grant has no `why`",
    ),
    (
        "to = '10.0.0.0/8', ports = [443], why = 'x', proto = 'tls'",
        "'tls'",
        "network.allow: this grant can never match: a network has no name to hold a request against",
    ),
    (
        "to = '10.0.0.1', ports = [80], why = 'x', proto = 'http'",
        "'http'",
        "network.allow: this grant can never match: a network has no name to hold a request against",
    ),
    (
        "to = 'localhost', ports = [80]",
        "'localhost'",
        "network.allow: localhost can never match: localhost is the sandbox itself",
    ),
    (
        "to = '127.0.0.1', ports = [80], why = 'x'",
        "'127.0.0.1'",
        "network.allow: 127.0.0.1/32 can never match: that is the sandbox's own loopback",
    ),
    (
        "to = '198.18.7.0/24', ports = [80], why = 'x'",
        "'198.18.7.0/24'",
        "network.allow: 198.18.7.0/24 can never match: these addresses stand for names inside the sandbox",
    ),
    (
        "to = '2001:db8::/32', ports = [80], why = 'x'",
        "'2001:db8::/32'",
        "network.allow: 2001:db8::/32 can never match: sandboxes have IPv4 only in this version",
    ),
];

#[test]
fn each_bad_grant_is_refused_where_it_stands() {
    for (grant, marked, cause) in BAD_GRANTS {
        let line = format!("network = {{ mode = 'allowlist', allow = [{{ {grant} }}] }}");
        let (found, shown, mark) = only_mistake(&format!("schema = 1\n{line}\n"));
        assert_eq!(found, *cause, "{grant}");
        assert_eq!(shown, line);
        // The list holds one grant, so its braces are found before the table's own.
        let start = line.find("[{").unwrap() + 1;
        let at = start + line[start..].find(marked).unwrap();
        let caret = format!("{}{}", " ".repeat(at), "^".repeat(marked.len()));
        assert_eq!(mark, caret, "{grant}");
    }
}

#[test]
fn grants_that_contradict_are_refused_at_the_later() {
    let text = "schema = 1\nnetwork.mode = 'allowlist'\nnetwork.allow = [\n\
        { to = '*.b.c', ports = ['1-65535'], proto = 'raw', why = 'x' },\n\
        { to = 'a.b.c', ports = [443] },\n]\n";
    let shown = rendered(read(text));
    assert!(
        shown.starts_with(
            "error: network.allow: port 443 of a.b.c is read as tls here and as raw by *.b.c (p.toml:4)\n --> p.toml:5:1\n"
        ),
        "{shown}"
    );
    let ports: Vec<String> = (0..65).map(|at| (1000 + 2 * at).to_string()).collect();
    let text = format!(
        "schema = 1\nnetwork.mode = 'allowlist'\nnetwork.allow = [{{ to = 'a.b', ports = [{}] }}]",
        ports.join(", ")
    );
    assert!(
        rendered(read(&text))
            .starts_with("error: network.allow: 65 ports and ranges are more than 64\n")
    );
}

#[test]
fn a_grant_without_a_network_can_never_match() {
    let text = "schema = 1\nnetwork.allow = [{ to = 'a.b', ports = [443] }]\n";
    let shown = rendered(read(text));
    assert!(
        shown.starts_with(
            "error: network.allow: this grant can never match: network.mode is \"none\" (preset strict:"
        ),
        "{shown}"
    );
    assert!(shown.contains("--> p.toml:2:18\n"), "{shown}");
    assert!(shown.contains("help: set network.mode = \"allowlist\", or remove the grant"));
}

fn allowing(network: Option<NetworkMode>, allow: &[&str]) -> FlagLayer {
    FlagLayer {
        network,
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        ..FlagLayer::default()
    }
}

#[test]
fn allow_flags_are_their_own_reason_and_bring_the_mode() {
    let flags = allowing(None, &["*.b.c", "10.0.0.0/8:22"]);
    for text in ["schema = 1", "schema = 1\nextends = 'ci'"] {
        let policy = read_with(text, &flags).unwrap();
        assert_eq!(value(&policy, "network.mode"), "\"allowlist\" flag --allow");
        let why = "why = \"asked for on the command line\" } flag --allow";
        assert_eq!(
            value(&policy, "network.allow"),
            format!(
                "{{ ports = [443], to = \"*.b.c\", {why}; {{ ports = [22], proto = \"raw\", to = \"10.0.0.0/8\", {why}"
            )
        );
    }
    let none = allowing(Some(NetworkMode::None), &["a.b"]);
    let shown = rendered(read_with("schema = 1", &none));
    assert!(
        shown.starts_with(
            "error: --allow: this grant can never match: network.mode is \"none\" (flag --network)\n"
        ),
        "{shown}"
    );
    let shown = rendered(read_with("schema = 1", &allowing(None, &["127.0.0.1"])));
    assert!(
        shown.starts_with("error: --allow: 127.0.0.1/32 can never match: "),
        "{shown}"
    );
}

#[test]
fn a_caller_may_take_the_network_away_and_not_bring_one_unasked() {
    let text = "schema = 1\nflags.allow = ['network']\nnetwork = { mode = 'allowlist', allow = [{ to = 'a.b', ports = [443] }] }";
    let policy = read_with(text, &allowing(Some(NetworkMode::None), &[])).unwrap();
    assert_eq!(value(&policy, "network.mode"), "\"none\" flag --network");
    assert_eq!(value(&policy, "network.allow"), "");
    let shown = rendered(read_with(text, &allowing(None, &["c.d"])));
    assert!(
        shown.starts_with("error: this policy does not let a caller use --allow\n"),
        "{shown}"
    );
}

#[test]
fn grants_are_kept_in_order_with_ports_joined_and_equals_once() {
    let text = "schema = 1\nnetwork.mode = 'allowlist'\nnetwork.allow = [\n\
        { to = 'B.c', ports = [82, '80-81', 443, 81] },\n\
        { to = 'a.b', ports = [1], why = 'x' },\n\
        { to = 'b.C', ports = ['80-82', 443] },\n]\n";
    let policy = read(text).unwrap();
    assert_eq!(
        value(&policy, "network.allow"),
        "{ ports = [\"80-82\", 443], to = \"b.c\" } p.toml:4; { ports = [1], to = \"a.b\", why = \"x\" } p.toml:5"
    );
    let rules = policy.network_rules.rules();
    assert_eq!(rules.grants.len(), 2);
    assert_eq!(rules.limits.connections, 4096);
}

#[test]
fn what_reaches_furthest_is_said_first() {
    let network = |grants: &str| {
        read(&format!(
            "schema = 1\nextends = 'ci'\nnetwork.allow = [{grants}]"
        ))
        .unwrap()
    };
    let grants = "{ to = 'a.b', ports = [443] }, { to = '*.b.c', ports = [80, 443], why = 'x' }, \
        { to = '*.co.uk', ports = [443], why = 'x' }, { to = '10.0.0.0/8', ports = [5432], why = 'x' }, \
        { to = '169.254.169.254', ports = [80], why = 'x' }, \
        { to = '9.0.0.0/8', ports = [5432], why = 'x' }";
    let found = loosenings(&network(""), &network(grants));
    let sentences: Vec<String> = found.iter().map(|found| found.sentence()).collect();
    assert_eq!(
        sentences,
        [
            "network.allow of 169.254.169.254/32 port 80 allows the job to ask a cloud for the credentials of this machine",
            "network.allow of 10.0.0.0/8 port 5432 allows the job to speak to every machine of 10.0.0.0/8, which is a private network",
            "network.allow of 9.0.0.0/8 port 5432 allows the job to speak to every public machine of 9.0.0.0/8",
            "network.allow of *.co.uk port 443 allows the job to send what it knows to whoever registers a name below co.uk",
            "network.allow of *.b.c port 80, 443 allows the job to send what it knows to any name below b.c",
            "network.allow of a.b port 443 allows the job to send what it knows to a.b",
        ]
    );
    let narrower =
        "{ to = 'x.b.c', ports = [443] }, { to = '10.1.0.0/16', ports = [5432], why = 'x' }";
    assert_eq!(loosenings(&network(grants), &network(narrower)), []);
}

fn value(policy: &Policy, key: &str) -> String {
    let entries = entries(policy);
    let held = entries.iter().filter(|entry| entry.key == key);
    let shown: Vec<String> = held
        .map(|entry| format!("{} {}", entry.value.to_toml(), entry.origin))
        .collect();
    shown.join("; ")
}

#[test]
fn the_last_layer_wins_and_is_the_origin() {
    let text = "schema = 1\nextends = \"untrusted\"\nresources.memory = \"2G\"\nresources.pids = \"unlimited\"\n";
    let flags = FlagLayer {
        milli_cpus: Some(Some(500)),
        network: Some(NetworkMode::None),
        timeout: Some(None),
        ..FlagLayer::default()
    };
    let policy = read_with(text, &flags).unwrap();
    assert_eq!(value(&policy, "resources.memory"), "\"2G\" p.toml:3");
    assert_eq!(value(&policy, "resources.pids"), "\"unlimited\" p.toml:4");
    assert_eq!(value(&policy, "resources.cpus"), "0.5 flag --cpus");
    assert_eq!(
        value(&policy, "resources.timeout"),
        "\"unlimited\" flag --timeout"
    );
    assert_eq!(value(&policy, "network.mode"), "\"none\" flag --network");
    assert!(value(&policy, "resources.disk").starts_with("\"20G\" preset untrusted:"));
    assert!(value(&policy, "landlock.minimum_abi").starts_with("2 preset strict:"));
}

#[test]
fn flags_add_mounts_variables_and_tmpfs() {
    let flags = FlagLayer {
        env: vec![("A".into(), "1".into()), ("A".into(), "2".into())],
        mounts: vec![MountFlag {
            source: "data".into(),
            target: "/data".into(),
            writable: true,
        }],
        tmpfs: vec![
            TmpfsFlag {
                target: "/scratch".into(),
                size: Some(4096),
            },
            TmpfsFlag {
                target: "/more".into(),
                size: None,
            },
        ],
        ..FlagLayer::default()
    };
    let policy = read_with("schema = 1\nextends = \"untrusted\"", &flags).unwrap();
    assert_eq!(value(&policy, "environment.set.A"), "\"2\" flag --env");
    let mount = &policy.filesystem.mounts[0];
    assert_eq!(
        (mount.source.as_str(), mount.target.as_str(), mount.access),
        ("/src/data", "/data", Access::Rw)
    );
    assert_eq!(mount.origin.to_string(), "flag --mount");
    let sizes: Vec<Option<u64>> = policy
        .filesystem
        .tmpfs
        .iter()
        .map(|tmpfs| tmpfs.size)
        .collect();
    assert_eq!(sizes, [Some(4096), None]);
}

#[test]
fn bad_flags_are_refused_by_their_name() {
    let mount = |source: &str, target: &str| MountFlag {
        source: source.into(),
        target: target.into(),
        writable: true,
    };
    let cases = [
        (
            FlagLayer {
                memory: Some(Some(1)),
                ..FlagLayer::default()
            },
            "--memory: 1 is too small, the least is 1M",
        ),
        (
            FlagLayer {
                pids: Some(Some(0)),
                ..FlagLayer::default()
            },
            "--pids: 0 is not an integer from 1 to 4194304",
        ),
        (
            FlagLayer {
                milli_cpus: Some(Some(1)),
                ..FlagLayer::default()
            },
            "--cpus: \"0.001\" is not a number of CPUs: the least is 0.01",
        ),
        (
            FlagLayer {
                timeout: Some(Some(0)),
                ..FlagLayer::default()
            },
            "--timeout: \"0s\" is not a duration: nothing can run in no time",
        ),
        (
            FlagLayer {
                env: vec![("A B".into(), "1".into())],
                ..FlagLayer::default()
            },
            "--env: \"A B\" is not a variable name: it may hold letters, digits and _ only",
        ),
        (
            FlagLayer {
                mounts: vec![mount("/home/u", "/x")],
                ..FlagLayer::default()
            },
            "--mount: cannot mount /home/u: /home/u is a home directory",
        ),
        (
            FlagLayer {
                mounts: vec![mount("/srv", "/dev/x")],
                ..FlagLayer::default()
            },
            "--mount: cannot mount at /dev/x inside: /dev is made for each sandbox and nothing is mounted in it",
        ),
        (
            FlagLayer {
                mounts: vec![mount("/srv", "/x"), mount("/srv", "/x")],
                ..FlagLayer::default()
            },
            "--mount: cannot mount at /x inside: flag --mount mounts something there already",
        ),
        (
            FlagLayer {
                tmpfs: vec![TmpfsFlag {
                    target: "/".into(),
                    size: None,
                }],
                ..FlagLayer::default()
            },
            "--tmpfs: cannot mount at / inside: it would cover the whole root",
        ),
    ];
    for (flags, cause) in cases {
        let shown = rendered(read_with("schema = 1", &flags));
        assert_eq!(
            shown.lines().next(),
            Some(format!("error: {cause}").as_str())
        );
    }
}

#[test]
fn an_operators_file_limits_flags() {
    let text = "schema = 1\n[flags]\nallow = [\"env\"]\n";
    let flags = FlagLayer {
        memory: Some(None),
        env: vec![("A".into(), "1".into())],
        others: vec![Flag::Rootfs],
        ..FlagLayer::default()
    };
    let shown = rendered(read_with(text, &flags));
    assert!(
        shown.starts_with(
            "error: this policy does not let a caller use --rootfs\n --> p.toml:3:9\n"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("error: this policy does not let a caller use --memory\n"),
        "{shown}"
    );
    assert_eq!(shown.matches("error: ").count(), 2);
    assert!(shown.contains("help: the policy allows: env"), "{shown}");
    let only_env = FlagLayer {
        memory: None,
        others: Vec::new(),
        ..flags.clone()
    };
    assert!(read_with(text, &only_env).is_ok());
    let nothing = rendered(read_with("schema = 1\nflags.allow = []", &only_env));
    assert!(
        nothing.contains("help: the policy allows no flag"),
        "{nothing}"
    );
}

#[test]
fn the_workspace_flag_stays_below_the_ceiling() {
    let asks = |access| FlagLayer {
        workspace: Some(access),
        ..FlagLayer::default()
    };
    let shown = rendered(read_with("schema = 1", &asks(Access::Rw)));
    let (cause, rest) = shown.split_once('\n').unwrap();
    assert_eq!(
        cause,
        "error: --workspace asks for rw, and this policy allows ro at most"
    );
    assert!(rest.starts_with("  --> preset strict:"), "{rest}");
    assert!(rest.contains("| access = \"ro\"\n"), "{rest}");
    for (ceiling, access, fits) in [
        ("ro", Access::Ro, true),
        ("ro", Access::Copy, false),
        ("copy", Access::Copy, true),
        ("copy", Access::Rw, false),
        ("none", Access::Ro, false),
        ("rw", Access::Rw, true),
    ] {
        let text = format!("schema = 1\nworkspace.access = \"{ceiling}\"");
        assert_eq!(
            read_with(&text, &asks(access)).is_ok(),
            fits,
            "{ceiling} {access:?}"
        );
    }
}

#[test]
fn deny_wins_over_allow_in_any_layer() {
    let text = "schema = 1\nextends = \"untrusted\"\n[syscalls]\nallow = [{ name = \"ptrace\", why = \"gdb\" }, { name = \"read\", why = \"x\" }]\ndeny = [\"ptrace\"]\n";
    let policy = read(text).unwrap();
    let allowed: Vec<&str> = policy
        .syscalls
        .allow
        .iter()
        .map(|grant| grant.name.as_str())
        .collect();
    assert_eq!(allowed, ["read"]);
}

/// The text of each table with the lines that `#` turns into examples; a header may be one of them.
fn regions(text: &str) -> Vec<(String, String)> {
    let mut regions = vec![(String::new(), String::new())];
    for line in text.lines() {
        let said = line.trim_start_matches(['#', ' ']);
        match said
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(header) => {
                regions.push((header.trim_matches(['[', ']']).to_owned(), String::new()))
            }
            None => {
                if let Some((_, body)) = regions.last_mut() {
                    *body += said;
                    body.push('\n');
                }
            }
        }
    }
    regions
}

#[test]
fn strict_shows_every_key_of_the_language() {
    let regions = regions(PRESETS[0].1);
    for key in dotted_keys() {
        let name = key.rsplit('.').next().unwrap();
        let shown = regions.iter().any(|(table, body)| {
            key.starts_with(table.as_str()) && body.contains(&format!("{name} = "))
        });
        assert!(shown, "strict.toml shows no `{key}`");
    }
}

#[test]
fn every_value_of_a_preset_says_what_relaxing_it_allows() {
    for (preset, text) in PRESETS {
        let mut table = String::new();
        let mut comment = String::new();
        for line in text.lines() {
            if let Some(said) = line.strip_prefix('#') {
                comment += said;
            } else if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']').to_owned();
                comment.clear();
            } else if let Some((name, _)) =
                line.split_once(" = ").filter(|_| !line.starts_with(' '))
            {
                assert!(!comment.is_empty(), "{preset}: {name} has no comment");
                let relaxes = comment.contains("Relaxing this allows")
                    || table.is_empty()
                    || name == "workspace_uid";
                assert!(
                    relaxes,
                    "{preset}: {table}.{name} does not say what relaxing it allows"
                );
                comment.clear();
            } else if line.is_empty() {
                comment.clear();
            }
        }
    }
}

#[test]
fn the_json_schema_has_every_key_and_no_other() {
    fn same(schema: &Json, shape: &Shape, key: &str) {
        let (schema, keys) = match shape {
            Shape::List(element) => (&schema["items"], element.keys()),
            other => (schema, other.keys()),
        };
        if keys.is_empty() {
            return;
        }
        assert_eq!(schema["additionalProperties"], Json::Bool(false), "{key}");
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), keys.len(), "{key}");
        for child in keys {
            let property = &properties[child.name];
            assert!(
                property["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
            same(property, &child.shape, child.name);
        }
    }
    same(&json_schema(), &RawPolicy::shape(), "");
}

#[test]
fn what_the_schema_lists_the_reader_knows() {
    for key in dotted_keys() {
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        let text = match table {
            "filesystem.mount" | "syscalls.allow" | "capabilities.keep" | "network.allow" => {
                format!(
                    "schema = 1\n{table} = [{{ {} = true }}]",
                    key.rsplit('.').next().unwrap()
                )
            }
            _ => format!("schema = 1\n{key} = true").replace("schema = 1\nschema", "schema"),
        };
        let shown = rendered(read(&text));
        assert!(!shown.contains("unknown key"), "{shown}");
    }
}

fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/policy/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, text, "{path} differs; UPDATE_GOLDEN=1 writes it");
}

#[test]
fn goldens() {
    for name in names() {
        golden(
            &format!("origins-{name}.txt"),
            &origins(&Policy::preset(name).unwrap()),
        );
    }
    let preset = |name| Policy::preset(name).unwrap();
    let found = loosenings(&preset("strict"), &preset("untrusted"));
    golden("diff-strict-untrusted.txt", &to_text(&found));
    let found = loosenings(&preset("untrusted"), &preset("ci"));
    golden("diff-untrusted-ci.txt", &to_text(&found));
    golden("schema.json", &format!("{:#}\n", json_schema()));
}

fn some_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[{}]".to_owned()),
        Just("[{ name = \"read\", why = \"x\" }]".to_owned()),
        "-?[0-9]{1,20}",
        "\"[a-zA-Z0-9/~.$_*-]{0,12}\"",
        "\\[(\"[a-z/.]{0,8}\",? ?){0,3}\\]",
    ]
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(text in "\\PC{0,200}|[a-z=\\[\\]{}\". \n#']{0,200}") {
        if let Err(diagnostics) = parse(Source::file("p.toml", &text)) {
            prop_assert!(!diagnostics.is_empty());
            prop_assert!(render(&diagnostics, Colour::Never).starts_with("error: "));
        }
    }

    #[test]
    fn any_values_at_any_keys_make_a_policy_or_mistakes(
        said in prop::collection::vec((prop::sample::select(dotted_keys()), some_value()), 0..6),
    ) {
        let lines: String = said.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        if let Err(diagnostics) = read(&lines) {
            prop_assert!(!diagnostics.is_empty());
        }
    }

    #[test]
    fn a_denied_call_is_never_allowed(
        allow in prop::collection::vec(prop::sample::select(vec!["ptrace", "read", "io_uring_setup"]), 0..4),
        deny in prop::collection::vec(prop::sample::select(vec!["ptrace", "read", "io_uring_setup"]), 0..4),
    ) {
        let grants: Vec<String> = allow.iter().map(|name| format!("{{ name = {name:?}, why = \"x\" }}")).collect();
        let text = format!("schema = 1\n[syscalls]\nallow = [{}]\ndeny = {deny:?}\n", grants.join(", "));
        let policy = read(&text).unwrap();
        for name in ["ptrace", "read", "io_uring_setup"] {
            let allowed = policy.syscalls.allow.iter().any(|grant| grant.name == name);
            prop_assert_eq!(allowed, allow.contains(&name) && !deny.contains(&name));
        }
    }

    #[test]
    fn a_file_adds_to_the_lists_of_its_preset(
        pass in prop::collection::vec("[A-Z]{1,4}", 0..5),
        masked in prop::collection::vec("/[a-z]{1,4}", 0..5),
    ) {
        let preset = Policy::preset("untrusted").unwrap();
        let text = format!("schema = 1\nextends = \"untrusted\"\nenvironment.pass = {pass:?}\nfilesystem.masked = {masked:?}\n");
        let policy = read(&text).unwrap();
        let passed: Vec<&String> = policy.environment.pass.iter().map(|name| &name.value).collect();
        prop_assert!(preset.environment.pass.iter().all(|name| passed.contains(&&name.value)));
        prop_assert!(pass.iter().all(|name| passed.contains(&name)));
        prop_assert!(masked.iter().all(|path| policy.filesystem.masked.iter().any(|held| held.value == *path)));
        prop_assert_eq!(&policy.workspace, &preset.workspace);
        let lost = loosenings(&policy, &preset);
        prop_assert!(lost.iter().all(|loosening| loosening.key == "filesystem.masked"));
    }
}
