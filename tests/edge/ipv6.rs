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
