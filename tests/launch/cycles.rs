//! Many starts and stops, eight at a time: nothing is left of any.

use crate::site::{Site, code, finish, leaks, sandboxed, start, text, until};
use crate::support::census::Census;
use std::sync::atomic::{AtomicU32, Ordering};

/// Kinds of sandbox, one after the other.
const KINDS: [&[&str]; 5] = [
    &["--", "true"],
    &["-w", ".", "--", "sh", "-c", "echo x > /tmp/x"],
    &["-w", ".:copy", "--", "sh", "-c", "mkdir d; echo x > d/x"],
    &[
        "--tmpfs",
        "/scratch:1M",
        "-w",
        ".:ro",
        "--",
        "sh",
        "-c",
        "echo x > /scratch/x",
    ],
    &["-d", "--", "sleep", "1000"],
];

fn one(site: &Site, number: u32) {
    let kind = KINDS[number as usize % KINDS.len()];
    let name = format!("cycle-{number}");
    let mut arguments = vec!["run", "--name", &name];
    arguments.extend(kind);
    let output = finish(start(&mut site.cofferdam(&arguments)));
    assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output));
    if kind[0] == "-d" {
        let exec = site.run(&["exec", &name, "--", "true"]);
        assert_eq!(code(&exec), 0, "{}", text(&exec));
        site.remove(&name);
    }
}

fn cycles(name: &str, count: u32) {
    let site = Site::alone(name);
    // A first one makes the directories that stay.
    one(&site, 1);
    until("a quiet start", || {
        sandboxed(&site.account).is_empty().then_some(())
    });
    let census = || {
        let layers = site.data().join("layers");
        Census::take(
            &site.account,
            &[&site.runtime(), &layers, &site.work()],
            &[std::process::id()],
        )
    };
    let before = census();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    one(&site, number);
                }
            });
        }
    });
    until("no process", || {
        sandboxed(&site.account).is_empty().then_some(())
    });
    assert_eq!(leaks(&before, &census(), "cycle-"), Vec::<String>::new());
    // The last hundred records are kept, and a few more until it is worth removing them.
    let records = std::fs::read_dir(site.data().join("sandboxes"))
        .unwrap()
        .count();
    assert!(
        (count.min(100) as usize..=128).contains(&records),
        "{records}"
    );
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing() {
    cycles("cycles-1000", 1000);
}
