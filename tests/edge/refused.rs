//! Destinations that are refused, quickly.

use super::*;

#[test]
fn what_no_grant_has_and_what_no_grant_may_have_is_reset_at_once() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let grants = vec![
            grant("93.184.216.34", &[443], None),
            grant("10.9.0.0/24", &[7000], None),
            grant("0.0.0.0/0", &[7001], None),
        ];
        let world = build(grants, 7000, LIMITS);
        let decided = |address: Ipv4Addr| world.refused(address, 7000, b"");
        assert_eq!(decided(SERVER), Reason::Decided(Decided::Port));
        let stranger = Ipv4Addr::new(1, 1, 1, 1);
        assert_eq!(decided(stranger), Reason::Decided(Decided::Port));
        // The network is granted, this address of it is the host's own.
        assert_eq!(decided(HOST), Reason::Met(Obstacle::ThisHost));
        let broadcast = Ipv4Addr::new(10, 9, 0, 255);
        assert_eq!(decided(broadcast), Reason::Met(Obstacle::NoRoute));
        // A neighbour of a granted network is dialled, and answers by itself.
        assert_eq!(decided(ROUTER), Reason::Met(Obstacle::Unreachable));
        let server = world.listen(ROUTER, 7000);
        let mut client = world.dial(ROUTER, 7000);
        let (mut far, _) = server.accept().unwrap();
        far.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn neither_loopback_nor_metadata_is_reached_by_a_wide_grant() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let world = build(vec![grant("0.0.0.0/0", &[7000], None)], 7000, LIMITS);
        let _metadata = world.listen(Ipv4Addr::new(169, 254, 169, 254), 7000);
        let _service = TcpListener::bind("0.0.0.0:7000").unwrap();
        for address in [
            [127, 0, 0, 1],
            [127, 8, 8, 8],
            [169, 254, 169, 254],
            [10, 9, 0, 1],
            [10, 9, 0, 2],
            [192, 168, 0, 1],
            [192, 0, 2, 1],
        ] {
            let reason = world.refused(address.into(), 7000, b"");
            assert!(
                matches!(
                    reason,
                    Reason::Decided(Decided::Special | Decided::NotGranted)
                ),
                "{address:?}: {reason:?}"
            );
        }
    });
}

#[test]
fn a_name_that_leads_to_a_private_address_is_refused() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let raw = Some(Proto::Raw);
        let world = build(vec![grant("good.example", &[7000], raw)], 7000, LIMITS);
        world.resolver(ROUTER);
        let _server = world.listen(ROUTER, 7000);
        let (0, Some(address)) = world.ask("good.example") else {
            panic!()
        };
        let reason = world.refused(address, 7000, b"");
        assert_eq!(reason, Reason::Decided(Decided::Special));
    });
}
