//! A job with a network from end to end: `cofferdam run --allow`, its edge, and a
//! world that the test makes.

use crate::site::{Site, stdout, text};
use crate::support::skip;
use crate::world::World;

/// Says what the server said.
const FETCH: &str = "fetch() { exec 3<>/dev/tcp/$1/$2 && echo hello >&3 && cat <&3; }; ";

#[test]
fn only_what_is_granted_is_reached_and_the_events_say_what() {
    if !rustix::process::getuid().is_root() {
        skip("a world of namespaces", "the tester is not root");
        return;
    }
    for root in [false, true] {
        let site = Site::alone(&format!("egress-{root}"));
        // Its sockets are this process's: nobody may be counting them now.
        let world = World::new();
        let name = format!("egress-{root}");
        let run = |script: &str| {
            let script = format!("{FETCH}{script}");
            let grants = [
                "--allow",
                "www.example.org:8080",
                "--allow",
                "inward.example.org:8080",
            ];
            let mut arguments = vec!["run", "--name", &name];
            arguments.extend(grants);
            arguments.extend(["--", "bash", "-c", &script]);
            world.cofferdam(&site, root, &arguments)
        };
        let output = run("fetch www.example.org 8080");
        assert_eq!(stdout(&output), "served", "{}", text(&output));
        let events = stdout(&world.cofferdam(&site, root, &["events", &name]));
        assert!(
            events.contains("www.example.org (93.184.216.34) port 8080"),
            "{events}"
        );
        assert!(events.contains("6 bytes sent, 7 received"), "{events}");
        world.asked.lock().unwrap().clear();
        for (refused, told) in [
            ("fetch other.example.org 8080", "other.example.org"),
            ("fetch 93.184.216.34 8080", "93.184.216.34 port 8080"),
            (
                "fetch www.example.org 8081",
                "www.example.org (fdc0:ffda:7:1::1) port 8081",
            ),
            ("fetch inward.example.org 8080", "inward.example.org"),
            ("fetch 10.9.0.1 22", "10.9.0.1 port 22"),
        ] {
            let output = run(refused);
            assert!(output.stdout.is_empty(), "{refused}: {}", text(&output));
            let events = stdout(&world.cofferdam(&site, root, &["events", &name]));
            let line = events.lines().find(|line| line.contains(told));
            assert!(
                line.is_some_and(|line| line.contains("refused")),
                "{refused}: {events}"
            );
        }
        let asked = world.asked.lock().unwrap();
        let leaked = asked
            .iter()
            .any(|query| query.windows(5).any(|part| part == b"other"));
        assert!(!leaked, "a name without a grant was asked for upstream");
    }
}
