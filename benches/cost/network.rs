//! What a network adds to starting and ending a sandbox.

use crate::host::{Host, time};
use crate::table::{Row, median, milliseconds};
use std::process::Command;

const MUST: &str = "≤ 8 ms";
const AIM: &str = "≤ 3 ms";
/// TEST-NET-3, which is never dialled.
const GRANT: &str = "203.0.113.5:443";

pub fn measure(host: &Host, rounds: usize) -> Vec<Row> {
    let what = "`run --allow … -- /bin/true`, added to `--network none`";
    let without = || started(host, &["--network", "none"]);
    let with = || started(host, &["--allow", GRANT]);
    for mut first in [without(), with()] {
        if let Err(why) = host.output(&mut first) {
            return vec![Row::not_measured(what, MUST, AIM, &why)];
        }
    }
    let (mut none, mut some, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let pair = [without(), with()].map(|mut command| milliseconds(time(&mut command)));
        let [one, other] = pair;
        none.push(one);
        some.push(other);
        added.push(other - one);
    }
    vec![Row {
        what: what.into(),
        measured: format!("{:.1} ms", median(&added)),
        must: MUST,
        aim: AIM,
        from: format!(
            "with {:.1} ms, without {:.1} ms",
            median(&some),
            median(&none)
        ),
    }]
}

fn started(host: &Host, network: &[&str]) -> Command {
    host.cofferdam(&[&["run"], network, &["--", "/bin/true"]].concat())
}
