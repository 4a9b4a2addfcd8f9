//! What a job may use up, and what is left to it afterwards.

use super::*;

#[test]
fn more_connections_than_the_limit_are_reset_and_room_comes_back() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let limits = Limits {
            connections: 2,
            ..LIMITS
        };
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, limits);
        let server = world.listen(SERVER, 7000);
        let open: Vec<_> = (0..2)
            .map(|_| {
                let client = world.dial(SERVER, 7000);
                let far = server.accept().unwrap().0;
                let allowed = world.edge.next().unwrap();
                assert!(matches!(allowed, Some(Record::Allowed(..))), "{allowed:?}");
                (client, far)
            })
            .collect();
        let reason = world.refused(SERVER, 7000, b"");
        assert_eq!(reason, Reason::Decided(Decided::Connections));
        drop(open);
        for _ in 0..2 {
            let ended = world.edge.next().unwrap();
            assert!(matches!(ended, Some(Record::Ended(..))), "{ended:?}");
        }
        let _client = world.dial(SERVER, 7000);
        server.accept().unwrap();
    });
}

#[test]
fn more_new_connections_in_a_second_than_the_limit_are_reset() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let limits = Limits {
            new_per_second: 3,
            ..LIMITS
        };
        let world = build(Vec::new(), 7000, limits);
        let mut reasons = (0..).map(|_| world.refused(SERVER, 7000, b""));
        let rate = reasons
            .by_ref()
            .take(10)
            .filter(|reason| *reason == Reason::Decided(Decided::Rate));
        assert!(rate.count() >= 5);
    });
}

/// Who is flooded and not heard neither waits nor grows.
#[test]
fn a_supervisor_that_does_not_listen_holds_up_nobody() {
    inside(|| {
        const MANY: u32 = 3000;
        let limits = Limits {
            new_per_second: 1_000_000,
            ..LIMITS
        };
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, limits);
        let flood = |count| {
            for _ in 0..count {
                let dialled = within(&world.job, &world.host, || {
                    TcpStream::connect((ELSEWHERE, 7000))
                });
                let ended = dialled.and_then(|mut stream| stream.read(&mut [0]));
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        };
        flood(MANY / 10);
        let before = resident(world.edge.child.pid);
        flood(MANY - MANY / 10);
        let after = resident(world.edge.child.pid);
        assert!(after <= before + 512, "{before} KiB, then {after} KiB");
        let server = world.listen(SERVER, 7000);
        let _client = world.dial(SERVER, 7000);
        server.accept().unwrap();
        world.edge.finish();
        let (mut told, mut lost) = (0, 0);
        while let Some(record) = world.edge.next().unwrap() {
            match record {
                Record::Refused(..) => told += 1,
                Record::Lost(count) => lost += count,
                other => assert!(matches!(other, Record::Allowed(..) | Record::Ended(..))),
            }
        }
        assert!(told > 0 && told < MANY, "{told} of {MANY}");
        assert!(
            lost == 0 || told + lost >= MANY,
            "{told} and {lost} of {MANY}"
        );
    });
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 99);

/// Memory of a process, in KiB.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}
