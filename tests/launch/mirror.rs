//! Package managers and git in a sandbox, each against a mirror of its own.

use crate::site::{Site, output, program, stdout, text};
use crate::support::skip;
use crate::world::{Daemon, SERVER, World, certificate};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each client, by its name in `mirror.sh`, and the programs that it and its mirror need.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("git_https", &["git"]),
    (
        "git_ssh",
        &["git", "ssh", "ssh-keygen", "dropbear", "dropbearkey"],
    ),
    ("apt", &["apt-get", "dpkg-deb"]),
    ("pip", &["pip3"]),
    ("npm", &["npm"]),
    ("cargo", &[]),
    ("iperf3", &["iperf3"]),
];

const GRANTS: [&str; 6] = [
    "--allow",
    "www.example.org:443",
    "--allow",
    "www.example.org:22",
    "--allow",
    "www.example.org:5201",
];

fn installed(program: &str) -> bool {
    let find = format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v {program}");
    output(Command::new("sh").args(["-c", &find]))
        .status
        .success()
}

/// Clients that can be tried; a skip for each that cannot.
fn clients() -> Vec<&'static str> {
    let mut found = Vec::new();
    for (client, programs) in CLIENTS {
        let missing = match client {
            "cargo" => cargo().is_none().then_some("cargo"),
            _ => programs.iter().copied().find(|program| !installed(program)),
        };
        match missing {
            Some(program) => skip(
                &format!("{client} against a mirror"),
                &format!("no {program}"),
            ),
            None => found.push(client),
        }
    }
    found
}

/// The program itself, which needs no rustup: cargo names it to the tests that it runs.
fn cargo() -> Option<PathBuf> {
    let cargo = PathBuf::from(std::env::var_os("CARGO")?);
    cargo.is_file().then_some(cargo)
}

fn done(command: &mut Command) -> String {
    let output = output(command);
    stdout(&output)
}

/// What listens in the world, and what a client has to know of it.
struct Mirror {
    _daemons: Vec<Daemon>,
    /// Shell variables.
    known: String,
}

impl Mirror {
    fn start(site: &Site, world: &World, clients: &[&str]) -> Self {
        let files = site.base().join("mirror");
        fs::create_dir(&files).unwrap();
        let (key, certificate) = certificate(site);
        let mut serve = Command::new("python3");
        serve
            .args(["-c", include_str!("mirror.py")])
            .arg(&files)
            .arg(SERVER.to_string());
        serve.arg(&certificate).arg(&key);
        let makes = clients
            .iter()
            .map(|client| client.split('_').next().unwrap());
        serve.args(makes.filter(|make| *make != "iperf3"));
        let mut daemons = vec![world.daemon(&serve, 443)];
        let mut known = format!(
            "CERTIFICATE='{}'\nLOGIN='{}'\nREPOSITORY='{}'\nCLIENTS='{}'\n",
            fs::read_to_string(certificate).unwrap(),
            site.account.name,
            files.join("probe.git").display(),
            clients.join(" ")
        );
        if clients.contains(&"iperf3") {
            let mut server = Command::new("iperf3");
            daemons.push(world.daemon(server.arg("-s"), 5201));
        }
        if clients.contains(&"git_ssh") {
            let (server, keys) = ssh(site);
            daemons.push(world.daemon(&server, 22));
            known += &keys;
        }
        Self {
            _daemons: daemons,
            known,
        }
    }
}

/// A server where the account has a home of its own, and the keys of both sides.
fn ssh(site: &Site) -> (Command, String) {
    let home = site.base().join("home");
    let (key, host_key) = (site.base().join("key"), site.base().join("host-key"));
    let mut make = Command::new("ssh-keygen");
    done(make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let mut make = Command::new("dropbearkey");
    let made = done(make.args(["-t", "ed25519", "-f"]).arg(&host_key));
    let public = made.lines().find(|line| line.starts_with("ssh-")).unwrap();
    let account = (Some(site.account.uid), Some(site.account.gid));
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::copy(key.with_extension("pub"), home.join(".ssh/authorized_keys")).unwrap();
    // The repository was made by the tester.
    fs::write(home.join(".gitconfig"), "[safe]\n\tdirectory = *\n").unwrap();
    for (name, mode) in [
        ("", 0o755),
        (".ssh", 0o700),
        (".ssh/authorized_keys", 0o600),
        (".gitconfig", 0o644),
    ] {
        let path = home.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, account.0, account.1).unwrap();
    }
    let mut server = Command::new("unshare");
    server.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"",
    ]);
    server.arg(&home).arg(&site.account.home);
    server
        .args(["dropbear", "-F", "-E", "-s", "-m", "-P", "", "-r"])
        .arg(&host_key);
    server.args(["-p", &format!("{SERVER}:22")]);
    let keys = format!(
        "KEY='{}'\nHOST_KEY='{public}'\n",
        fs::read_to_string(&key).unwrap()
    );
    (server, keys)
}

/// Where the account can execute it.
fn install(cargo: &Path, site: &Site) -> String {
    let place = site.base().join("cargo");
    done(
        Command::new("install")
            .args(["--mode", "755"])
            .arg(cargo)
            .arg(&place),
    );
    format!("{}=/opt/cargo", place.display())
}

#[test]
fn package_managers_and_git_fetch_what_a_mirror_has() {
    if !rustix::process::getuid().is_root() {
        skip("a world of namespaces", "the tester is not root");
        return;
    }
    if let Some(program) = ["python3", "openssl"]
        .into_iter()
        .find(|program| !installed(program))
    {
        skip("clients of a mirror", &format!("no {program}"));
        return;
    }
    let clients = clients();
    for root in [false, true] {
        let site = Site::alone(&format!("mirror-{root}"));
        let world = World::new();
        let mirror = Mirror::start(&site, &world, &clients);
        let script = format!("{}{}", mirror.known, include_str!("mirror.sh"));
        let mut arguments = vec!["run", "-p", "ci"];
        arguments.extend(GRANTS);
        let cargo = cargo().map(|cargo| install(&cargo, &site));
        if let Some(mount) = &cargo {
            arguments.extend(["--mount", mount]);
        }
        arguments.extend(["--", "bash", "-c", &script]);
        let output = output(world.command(&site, root, &program()).args(arguments));
        let said = stdout(&output);
        let expected: Vec<_> = clients.iter().map(|client| format!("{client} 0")).collect();
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            expected,
            "{}",
            text(&output)
        );
    }
}
