//! IPv6 by the same path, and names that have both.

use super::*;

#[test]
fn ipv6_is_relayed_and_refused_as_ipv4_is() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let grants = vec![
            grant("2606:2800:220:1::/64", &[7000], None),
            grant("::/0", &[7000], None),
            grant("0.0.0.0/0", &[7000], None),
        ];
        let world = build(grants, 7000, LIMITS);
        let server = world.listen(SERVER6, 7000);
        let mut client = world.dial(SERVER6, 7000);
        let (mut far, from) = server.accept().unwrap();
        assert_eq!(from.ip().to_string(), "fd09::1");
        far.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let Some(Record::Allowed(_, asked, 0)) = world.edge.next().unwrap() else {
            panic!()
        };
        assert_eq!(asked.address, (SERVER6, 7000).into());
        drop((client, far));
        world.edge.next().unwrap();
        let _metadata = world.listen("fd00:ec2::254".parse::<Ipv6Addr>().unwrap(), 7000);
        for address in [
            "::1",
            "fd00:ec2::254",
            "fd09::1",
            "fd09::2",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.9.0.2",
            "64:ff9b:1::1",
            "2002:0a09:0002::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "::10.9.0.2",
            "::ffff:127.0.0.1",
            "::ffff:10.9.0.2",
            "::ffff:169.254.169.254",
        ] {
            // Not every one of them can be connected to: then nothing came here at all.
            let address: IpAddr = address.parse().unwrap();
            let scoped = address.to_string().starts_with("fe80") || address.is_multicast();
            if scoped {
                continue;
            }
            let reason = world.refused(address, 7000, b"");
            assert_eq!(reason, Reason::Decided(Decided::NotGranted), "{address}");
        }
        // Public, and the host's own since now.
        ip("addr add 2606:4700::1/128 dev h0 nodad");
        let own: Ipv6Addr = "2606:4700::1".parse().unwrap();
        let reason = world.refused(own, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::ThisHost));
        // A public network on a link of the host, which no grant names.
        ip("-6 route add blackhole 2a00::/32");
        let nowhere: Ipv6Addr = "2a00::1".parse().unwrap();
        let reason = world.refused(nowhere, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::NoRoute));
    });
}

#[test]
fn a_name_is_reached_by_the_family_that_answers() {
    inside(|| {
        let world = build(vec![grant("www.example.org", &[7000], None)], 7000, LIMITS);
        let socket = within(&world.world, &world.host, || {
            UdpSocket::bind((ROUTER, 53)).unwrap()
        });
        // Both families; the server listens at the IPv6 one alone.
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let mut answer = buffer[..length].to_vec();
                let six = answer[length - 3] == 28;
                answer[2] |= 0x80;
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, answer[length - 3], 0, 1, 0, 0, 0, 60, 0]);
                if six {
                    answer.push(16);
                    answer.extend(SERVER6.octets());
                } else {
                    answer.push(4);
                    answer.extend(SERVER.octets());
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        let server = world.listen(SERVER6, 7000);
        let Some(four) = world.ask("www.example.org").1 else {
            panic!("no address")
        };
        let six: Ipv6Addr = "fdc0:ffda:7:1::1".parse().unwrap();
        for pooled in [IpAddr::from(four), six.into()] {
            let mut client = world.dial(pooled, 7000);
            let (mut far, _) = server.accept().unwrap();
            far.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let Some(Record::Allowed(_, asked, 0)) = world.edge.next().unwrap() else {
                panic!()
            };
            assert_eq!(asked.address, (SERVER6, 7000).into());
            assert_eq!(asked.name.unwrap().as_str(), "www.example.org");
            drop((client, far));
            world.edge.next().unwrap();
        }
    });
}

#[test]
fn a_silent_address_costs_a_quarter_of_a_second() {
    inside(|| {
        let world = build(vec![grant("www.example.org", &[7000], None)], 7000, LIMITS);
        // Nobody answers for the first three; the last one of a family is the server.
        let silent: Vec<Ipv4Addr> = (1..=3)
            .map(|last| Ipv4Addr::new(93, 184, 216, last))
            .collect();
        within(&world.world, &world.host, || {
            for address in &silent {
                ip(&format!("route add blackhole {address}"));
            }
        });
        let mut records: Vec<Vec<u8>> = silent.iter().map(|address| a(*address)).collect();
        records.push(a(SERVER));
        world.resolver_says(53, move |query, _| {
            let six = query[query.len() - 3] == 28;
            vec![answer(query, if six { &[] } else { &records })]
        });
        let server = world.listen(SERVER, 7000);
        let Some(pooled) = world.ask("www.example.org").1 else {
            panic!("no address")
        };
        let began = Instant::now();
        let mut client = world.dial(pooled, 7000);
        let (mut far, _) = server.accept().unwrap();
        far.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let took = began.elapsed();
        // Three times a quarter of a second, and what a busy host adds.
        assert!(took >= Duration::from_millis(750), "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        let Some(Record::Allowed(_, asked, 0)) = world.edge.next().unwrap() else {
            panic!()
        };
        assert_eq!(asked.address, (SERVER, 7000).into());
        // What was dialled beside it is given up.
        let sockets = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let syn_sent = sockets
            .lines()
            .filter(|line| line.split_whitespace().nth(3) == Some("02"));
        assert_eq!(syn_sent.count(), 0, "{sockets}");
    });
}

#[test]
fn the_first_address_to_answer_is_taken_and_a_refusal_is_not_waited_for() {
    inside(|| {
        let world = build(vec![grant("www.example.org", &[7000], None)], 7000, LIMITS);
        // One refuses at once, the next is never dialled.
        let records = [Ipv4Addr::new(93, 184, 216, 35), HOST, SERVER].map(a);
        world.resolver_says(53, move |query, _| {
            let six = query[query.len() - 3] == 28;
            vec![answer(query, if six { &[] } else { &records })]
        });
        within(&world.world, &world.host, || {
            ip("addr add 93.184.216.35/32 dev c0")
        });
        let server = world.listen(SERVER, 7000);
        let Some(pooled) = world.ask("www.example.org").1 else {
            panic!("no address")
        };
        let began = Instant::now();
        let mut client = world.dial(pooled, 7000);
        let (mut far, _) = server.accept().unwrap();
        far.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert!(began.elapsed() < Duration::from_secs(2));
        drop((client, far, server));
        let allowed = world.edge.next().unwrap();
        assert!(matches!(allowed, Some(Record::Allowed(..))), "{allowed:?}");
        world.edge.next().unwrap();
        // Now all of them refuse.
        let reason = world.refused(pooled, 7000, b"");
        assert_eq!(reason, Reason::Met(Obstacle::Unreachable));
    });
}
