//! A job with a network from end to end: `cofferdam run --allow`, its edge, and a
//! world that the test makes.

use crate::site::{Site, output, program, stdout, text};
use crate::support::skip;
use crate::world::{RESOLVER_ON_LINK, RESOLVER6, World, namespace};
use std::process::Command;

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

/// Both accounts, each with a world of its own.
fn each(name: &str, test: impl Fn(&Site, &World, bool)) {
    if !rustix::process::getuid().is_root() {
        skip("a world of namespaces", "the tester is not root");
        return;
    }
    for root in [false, true] {
        let site = Site::alone(&format!("egress-{name}-{root}"));
        test(&site, &World::new(), root);
    }
}

/// By which families a name has addresses.
const LOOK: &str = "look() { getent ahosts $1 | sed -n 's/ .*//; s/.*:.*/6/p; s/.*[.].*/4/p' | \
                    sort -u | tr -d '\\n'; echo .; }; ";

#[test]
fn open_reaches_every_public_address_by_both_families_and_nothing_inward() {
    each("open", |site, world, root| {
        let name = format!("egress-open-{root}");
        let script = format!(
            "{FETCH}{LOOK} fetch 93.184.216.34 8080; fetch 2606:2800:220:1::1 8080; \
             for to in four six both; do fetch $to.example.org 8080; look $to.example.org; done; \
             for to in none inward at-10-9-0-2; do look $to.example.org; done; \
             for to in 10.9.0.2 10.9.0.1 127.0.0.1 fd09::2 fd09::1 ::1 169.254.169.254; do \
             fetch $to 8080 2>/dev/null || echo refused; done | uniq"
        );
        let output = world.cofferdam(
            site,
            root,
            &[
                "run",
                "--name",
                &name,
                "--network",
                "open",
                "--",
                "bash",
                "-c",
                &script,
            ],
        );
        assert_eq!(
            stdout(&output),
            "served\nserved\nserved\n4.\nserved\n6.\nserved\n46.\n.\n.\n.\nrefused",
            "{}",
            text(&output)
        );
        let events = stdout(&world.cofferdam(site, root, &["events", &name]));
        for (name, why) in [
            ("none.example.org", "does not resolve"),
            ("inward.example.org", "no public one"),
            ("at-10-9-0-2.example.org", "no public one"),
            (
                "six.example.org (2606:2800:220:1::1) port 8080",
                "network open",
            ),
        ] {
            let told = events
                .lines()
                .any(|line| line.contains(name) && line.contains(why));
            assert!(told, "{name}: {events}");
        }
    });
}

#[test]
fn names_are_resolved_by_ipv6_and_by_an_address_of_a_link() {
    each("by-six", |site, world, root| {
        for resolver in [RESOLVER6, RESOLVER_ON_LINK] {
            let mut command = world.command_asking(resolver, site, root, &program());
            let script = format!("{FETCH}fetch www.example.org 8080");
            command.args([
                "run",
                "--allow",
                "www.example.org:8080",
                "--",
                "bash",
                "-c",
                &script,
            ]);
            let output = output(&mut command);
            assert_eq!(stdout(&output), "served", "{resolver}: {}", text(&output));
        }
    });
}

#[test]
fn a_host_without_ipv6_gives_a_network_by_ipv4() {
    each("without-six", |site, world, root| {
        let mut disable = Command::new("nsenter");
        disable.arg(format!("--net={}", namespace(&world.host)));
        disable.args(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
        disable.arg("net.ipv6.conf.default.disable_ipv6=1");
        assert!(disable.status().unwrap().success());
        let script = format!(
            "{FETCH}{LOOK} fetch four.example.org 8080; look four.example.org; look six.example.org; \
             fetch both.example.org 8080; fetch 2606:2800:220:1::1 8080 2>/dev/null || echo none"
        );
        let output = world.cofferdam(
            site,
            root,
            &["run", "--network", "open", "--", "bash", "-c", &script],
        );
        // The job may ask for both; what has IPv6 alone cannot be reached from this host.
        let said = stdout(&output);
        assert_eq!(said, "served\n4.\n6.\nserved\nnone", "{}", text(&output));
    });
}
