//! What is read of a connection: the client hello, each request.

use super::*;

#[test]
fn only_granted_names_have_an_address_and_the_hello_has_to_say_which() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let world = build(vec![grant("good.example", &[443], None)], 443, LIMITS);
        world.resolver(SERVER);
        assert_eq!(world.ask("bad.example"), (3, None));
        let refused = world.edge.next().unwrap();
        let Some(Record::Refused(asked, reason)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(asked.name.unwrap().as_str(), "bad.example");
        assert_eq!(reason, Reason::Decided(Decided::NotGranted));
        let (0, Some(address)) = world.ask("Good.Example") else {
            panic!()
        };
        assert_eq!(world.ask("good.example"), (0, Some(address)));
        let lie = world.refused(address, 443, &hello("bad.example"));
        assert_eq!(lie, Reason::Decided(Decided::HelloName));
        let plain = world.refused(address, 443, b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(plain, Reason::Decided(Decided::NotTls));
        // The server's own address belongs to no name.
        let direct = world.refused(SERVER, 443, b"");
        assert_eq!(direct, Reason::Decided(Decided::NotGranted));

        let server = world.listen(SERVER, 443);
        let mut client = world.dial(address, 443);
        let hello = hello("good.example");
        let (first, second) = hello.split_at(20);
        client.write_all(first).unwrap();
        thread::sleep(Duration::from_millis(50));
        client.write_all(second).unwrap();
        let (mut far, _) = server.accept().unwrap();
        let mut heard = vec![0; hello.len()];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(heard, hello);
        far.write_all(b"server hello").unwrap();
        client.read_exact(&mut [0; 12]).unwrap();
    });
}

#[test]
fn each_request_of_a_connection_has_to_be_for_the_name() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        let world = build(vec![grant("good.example", &[80], None)], 80, LIMITS);
        world.resolver(SERVER);
        let (0, Some(address)) = world.ask("good.example") else {
            panic!()
        };
        let server = world.listen(SERVER, 80);
        let mut client = world.dial(address, 80);
        let good = b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n";
        client.write_all(good).unwrap();
        let (mut far, _) = server.accept().unwrap();
        let mut heard = vec![0; good.len()];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(heard, good);
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: bad.example\r\n\r\n")
            .unwrap();
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = far.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let allowed = world.edge.next().unwrap();
        assert!(matches!(allowed, Some(Record::Allowed(..))), "{allowed:?}");
        let refused = world.edge.next().unwrap();
        let Some(Record::Refused(_, reason)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(reason, Reason::Decided(Decided::RequestHost));
    });
}

#[test]
fn websocket_passes_once_the_server_has_switched() {
    inside(|| {
        use cofferdam::net::decide::Reason as Decided;
        const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nHost: good.example\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        const LIE: &[u8] = b"GET / HTTP/1.1\r\nHost: bad.example\r\n\r\n";
        let world = build(vec![grant("good.example", &[80], None)], 80, LIMITS);
        world.resolver(SERVER);
        let (0, Some(address)) = world.ask("good.example") else {
            panic!()
        };
        let server = world.listen(SERVER, 80);
        for answer in [
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            let mut client = world.dial(address, 80);
            // What is said too early waits for the answer.
            client.write_all(&[ASK, LIE].concat()).unwrap();
            let (mut far, _) = server.accept().unwrap();
            let mut heard = vec![0; ASK.len()];
            far.read_exact(&mut heard).unwrap();
            assert_eq!(heard, ASK);
            let (first, rest) = answer.as_bytes().split_at(5);
            far.write_all(first).unwrap();
            far.write_all(rest).unwrap();
            if answer.contains("101") {
                let mut heard = vec![0; answer.len()];
                client.read_exact(&mut heard).unwrap();
                assert_eq!(heard, answer.as_bytes());
                let mut heard = vec![0; LIE.len()];
                far.read_exact(&mut heard).unwrap();
                assert_eq!(heard, LIE);
            } else {
                let error = far.read(&mut [0; 1]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
        let told = std::iter::from_fn(|| world.edge.next().unwrap());
        let refused = told.into_iter().find_map(|record| match record {
            Record::Refused(_, reason) => Some(reason),
            _ => None,
        });
        assert_eq!(refused, Some(Reason::Decided(Decided::RequestHost)));
    });
}
