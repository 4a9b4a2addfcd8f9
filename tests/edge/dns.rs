//! Questions of the job, and the resolver in the world.

use super::*;

#[test]
fn dns_over_tcp_answers_each_query_of_a_connection() {
    inside(|| {
        let world = build(vec![grant("*.good.example", &[443], None)], 443, LIMITS);
        world.resolver(SERVER);
        let mut client = world.dial(Ipv4Addr::new(9, 9, 9, 9), 53);
        for (name, code) in [
            ("a.good.example", 0),
            ("b.good.example", 0),
            ("good.example", 3),
        ] {
            let message = query(name);
            client
                .write_all(&(message.len() as u16).to_be_bytes())
                .unwrap();
            client.write_all(&message).unwrap();
            let mut length = [0; 2];
            client.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(read_answer(&answer).0, code, "{name}");
        }
    });
}

/// A name whose connections are raw, and its address in the job.
fn raw_name(resolvers: &[u16]) -> (World, Ipv4Addr) {
    let grants = vec![grant("good.example", &[7000], Some(Proto::Raw))];
    let world = build_asking(resolvers, grants, 7000, LIMITS);
    let (0, Some(address)) = world.ask("good.example") else {
        panic!()
    };
    (world, address)
}

/// Connects to the name, and hears of the server.
fn reaches(world: &World, address: Ipv4Addr) {
    let server = world.listen(SERVER, 7000);
    let mut client = world.dial(address, 7000);
    let (mut far, _) = server.accept().unwrap();
    far.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 99);

#[test]
fn a_resolver_that_others_speak_for_is_waited_for() {
    inside(|| {
        let (world, address) = raw_name(&[53]);
        let other = within(&world.world, &world.host, || {
            UdpSocket::bind((ROUTER, 0)).unwrap()
        });
        world.resolver_says(53, move |query, from| {
            let lie = answer(query, &[a(ELSEWHERE)]);
            let mut id = lie.clone();
            id[0] ^= 1;
            let mut question = lie.clone();
            question[13] = b'f';
            let mut kind = lie.clone();
            let at = query.len() - 3;
            kind[at] = 28;
            // The right message from the wrong port.
            other.send_to(&lie, from).unwrap();
            vec![id, question, kind, vec![0; 11], answer(query, &[a(SERVER)])]
        });
        reaches(&world, address);
    });
}

#[test]
fn an_answer_that_is_cut_is_asked_for_by_tcp() {
    inside(|| {
        let (world, address) = raw_name(&[53]);
        let listener = world.listen(ROUTER, 53);
        world.resolver_says(53, |query, _| {
            let mut cut = answer(query, &[]);
            cut[2] |= 2;
            vec![cut]
        });
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            // More than fits a datagram; the one that may be dialled comes last.
            let mut records = vec![a(Ipv4Addr::LOCALHOST); 100];
            records.push(a(SERVER));
            let message = answer(&query, &records);
            let length = (message.len() as u16).to_be_bytes();
            for part in [&length[..], &message[..700], &message[700..]] {
                stream.write_all(part).unwrap();
            }
        });
        reaches(&world, address);
    });
}

#[test]
fn the_next_resolver_is_asked_where_one_is_dead_fails_or_talks_nonsense() {
    inside(|| {
        // Nobody listens at 50.
        let (world, address) = raw_name(&[50, 51, 52]);
        world.resolver_says(51, |query, _| {
            let mut failure = answer(query, &[]);
            failure[3] |= 2;
            vec![failure]
        });
        let asked = world.resolver_says(52, |query, _| vec![answer(query, &[a(SERVER)])]);
        let began = Instant::now();
        reaches(&world, address);
        assert!(began.elapsed() < Duration::from_secs(1));
        asked.recv_timeout(LIMIT).unwrap();
    });
}

#[test]
fn a_silent_resolver_is_given_up_for_the_next() {
    inside(|| {
        let (world, address) = raw_name(&[51, 52]);
        let silent = world.resolver_says(51, |_, _| Vec::new());
        world.resolver_says(52, |query, _| vec![answer(query, &[a(SERVER)])]);
        reaches(&world, address);
        silent.recv_timeout(LIMIT).unwrap();
    });
}

#[test]
fn a_name_that_does_not_exist_is_refused_at_once() {
    inside(|| {
        let (world, address) = raw_name(&[53]);
        world.resolver_says(53, |query, _| {
            let mut none = answer(query, &[]);
            none[3] |= 3;
            vec![none]
        });
        let reason = world.refused(address, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::NoAddress));
    });
}

#[test]
fn an_alias_is_followed_to_the_address_of_its_end() {
    inside(|| {
        let (world, address) = raw_name(&[53]);
        world.resolver_says(53, |query, _| {
            // good.example → cdn.good.example, and its address.
            let at = (query.len() + 12) as u8;
            let alias = [
                &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3][..],
                b"cdn",
                &[0xc0, 12],
            ];
            let end = [
                &[0xc0, at, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..],
                &SERVER.octets(),
            ];
            vec![answer(query, &[alias.concat(), end.concat()])]
        });
        reaches(&world, address);
    });
}

#[test]
fn each_question_has_a_number_and_each_name_a_port_of_its_own() {
    inside(|| {
        let (world, address) = raw_name(&[53]);
        let asked = world.resolver_says(53, |query, _| {
            let mut none = answer(query, &[]);
            none[3] |= 3;
            vec![none]
        });
        let mut seen = std::collections::BTreeSet::new();
        // For A and for AAAA, eight times.
        for _ in 0..8 {
            world.refused(address, 7000, b"");
            seen.insert(asked.recv_timeout(LIMIT).unwrap());
            seen.insert(asked.recv_timeout(LIMIT).unwrap());
        }
        let each = |of: fn(&(u16, u16)) -> u16| {
            let all: std::collections::BTreeSet<u16> = seen.iter().map(of).collect();
            all.len()
        };
        // Two may be alike by chance, hardly more.
        assert!(
            each(|(id, _)| *id) >= 14 && each(|(_, port)| *port) >= 6,
            "{seen:?}"
        );
        let mut numbers: Vec<u16> = seen.iter().map(|(id, _)| *id).collect();
        numbers.sort_unstable();
        let neighbours = numbers.windows(2).filter(|two| two[1] - two[0] == 1);
        assert!(neighbours.count() <= 2, "{seen:?}");
    });
}

#[test]
fn names_that_a_job_invents_have_a_budget() {
    inside(|| {
        use cofferdam::net::budget::NAMES_AT_ONCE;
        use cofferdam::net::decide::Reason as Decided;
        let world = build(vec![grant("*.good.example", &[443], None)], 443, LIMITS);
        world.resolver(SERVER);
        let refused = || match world.edge.next().unwrap() {
            Some(Record::Refused(_, Reason::Decided(reason))) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(world.ask("a.b.c.d.e.f.good.example"), (3, None));
        assert_eq!(refused(), Decided::Depth);
        let mut codes = (0..).map(|number| world.ask(&format!("x{number}.good.example")).0);
        let answered = codes.by_ref().take_while(|code| *code == 0).count() as u32;
        // A few come back while they are asked for.
        assert!(
            (NAMES_AT_ONCE..NAMES_AT_ONCE + 20).contains(&answered),
            "{answered}"
        );
        assert_eq!(refused(), Decided::Names);
        assert_eq!(world.ask("x0.good.example").0, 0);
    });
}

/// The codes of answers to A and AAAA, and whether each has an address.
fn both(world: &World, name: &str) -> [(u8, bool); 2] {
    [1, 28].map(|kind| {
        let mut message = query(name);
        let at = message.len() - 3;
        message[at] = kind;
        let answer = world.answers(&message);
        (answer[3] & 0xf, answer[7] == 1)
    })
}

#[test]
fn a_name_that_the_job_chose_is_as_it_is_upstream() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let world = build_open(vec![grant("exact.example", &[443], None)], 443);
        world.resolver_says(53, |query, _| {
            let six = query[query.len() - 3] == 28;
            let says = |records: &[Vec<u8>]| vec![answer(query, records)];
            let code = |code| {
                let mut answer = answer(query, &[]);
                answer[3] |= code;
                vec![answer]
            };
            match query[13] {
                b'4' if six => says(&[]),
                b'4' => says(&[a(SERVER)]),
                b'6' if six => says(&[aaaa(SERVER6)]),
                b'6' | b'0' => says(&[]),
                b'i' if six => says(&[aaaa(Ipv6Addr::LOCALHOST)]),
                b'i' => says(&[a(Ipv4Addr::new(169, 254, 169, 254))]),
                b'n' => code(3),
                _ => code(2),
            }
        });
        let (nothing, address) = ((0, false), (0, true));
        assert_eq!(both(&world, "4.example"), [address, nothing]);
        assert_eq!(both(&world, "6.example"), [nothing, address]);
        assert_eq!(both(&world, "0.example"), [nothing, nothing]);
        assert_eq!(both(&world, "exact.example"), [address, address]);
        assert_eq!(both(&world, "localhost"), [(3, false); 2]);
        let refused = |name: &str, expected: Reason| {
            // For A and for AAAA.
            for _ in 0..2 {
                match world.edge.next().unwrap() {
                    Some(Record::Refused(asked, reason)) => {
                        assert_eq!(asked.name.unwrap().as_str(), name);
                        assert_eq!(reason, expected, "{name}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        };
        refused("localhost", Reason::Decided(Decided::NotGranted));
        for (name, code, reason) in [
            ("none.example", 3, Reason::Met(Obstacle::NoAddress)),
            ("fails.example", 2, Reason::Met(Obstacle::NoAddress)),
            ("inward.example", 5, Reason::Decided(Decided::Special)),
        ] {
            assert_eq!(both(&world, name), [(code, false); 2], "{name}");
            refused(name, reason);
        }
    });
}
