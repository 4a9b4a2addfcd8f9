//! Starting and ending a sandbox, against crun and bubblewrap.

use crate::bundle;
use crate::host::{Cgroups, Host, time};
use crate::table::{Row, median, milliseconds, paired};
use std::process::Command;

/// One contestant: what it is called and how it is started.
struct Contestant<'a> {
    name: &'static str,
    command: Box<dyn Fn() -> Command + 'a>,
}

const CALLER: &str = "schema = 1\nname = \"caller\"\nextends = \"untrusted\"\n\
    [ids]\nmode = \"caller\"\n[degrade]\nallow = [\"groups\"]\n";

const RUN: &str = "`run -p untrusted -- /bin/true`";

pub fn measure(host: &Host, rounds: usize) -> Vec<Row> {
    let caller = host
        .write("caller.toml", CALLER)
        .to_string_lossy()
        .into_owned();
    let contestants = [
        ours(host, "untrusted".into(), "cofferdam"),
        ours(host, caller, "cofferdam caller"),
        bwrap(host),
        crun(host, "crun", true),
        crun(host, "crun without a filter", false),
    ];
    let tried = contestants.map(|contestant| {
        contestant.and_then(|contestant| {
            host.output(&mut (contestant.command)())?;
            Ok(contestant)
        })
    });
    let mut times = vec![Vec::new(); tried.len()];
    for _ in 0..rounds {
        for (contestant, times) in tried.iter().zip(&mut times) {
            if let Ok(contestant) = contestant {
                times.push(milliseconds(time(&mut (contestant.command)())));
            }
        }
    }
    let compare = |what: String, a: usize, b: usize, must, aim| match (&tried[a], &tried[b]) {
        (Ok(ours), Ok(theirs)) => Row {
            what,
            measured: format!("{:.2}", paired(&times[a], &times[b])),
            must,
            aim,
            from: format!(
                "{} {:.1} ms, {} {:.1} ms",
                ours.name,
                median(&times[a]),
                theirs.name,
                median(&times[b])
            ),
        },
        (Err(why), _) | (_, Err(why)) => Row::not_measured(&what, must, aim, why),
    };
    vec![
        compare(
            format!("{RUN} against `crun run`, equal bundle"),
            0,
            3,
            "≤ 1.0",
            "≤ 0.6",
        ),
        compare(
            "the same, the bundle without a system-call filter".into(),
            0,
            4,
            "–",
            "–",
        ),
        compare(
            "the same against bubblewrap, one id and no filter".into(),
            0,
            2,
            "≤ 2.0",
            "≤ 1.4",
        ),
        compare(
            "with `ids.mode = \"caller\"` against the same".into(),
            1,
            2,
            "≤ 1.4",
            "≤ 1.0",
        ),
    ]
}

type Ready<'a> = Result<Contestant<'a>, String>;

fn ours<'a>(host: &'a Host, policy: String, name: &'static str) -> Ready<'a> {
    let command = move || host.cofferdam(&["run", "-p", &policy, "--", "/bin/true"]);
    Ok(Contestant {
        name,
        command: Box::new(command),
    })
}

fn bwrap(host: &Host) -> Ready<'_> {
    let command = || {
        let mut command = host.command("/usr/bin/bwrap");
        command.args([
            "--unshare-all",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "/bin/true",
        ]);
        command
    };
    Ok(Contestant {
        name: "bwrap",
        command: Box::new(command),
    })
}

fn crun<'a>(host: &'a Host, name: &'static str, filtered: bool) -> Ready<'a> {
    let plan = host.output(&mut host.cofferdam(&["plan", "--", "/bin/true"]))?;
    let plan = serde_json::from_str(&plan).map_err(|error| error.to_string())?;
    let bundle = bundle::write(host, &name.replace(' ', "-"), &plan, filtered);
    let state = host.make(host.runtime.join("crun"), 0o700);
    let manager = match host.cgroups {
        Cgroups::None => "disabled",
        Cgroups::Systemd => "systemd",
        Cgroups::Directory(_) => "cgroupfs",
    };
    let command = move || {
        let mut command = host.command("/usr/bin/crun");
        command
            .arg("--root")
            .arg(&state)
            .arg(format!("--cgroup-manager={manager}"));
        command.arg("run").arg("--bundle").arg(&bundle).arg("bench");
        command
    };
    Ok(Contestant {
        name,
        command: Box::new(command),
    })
}
