//! Client hellos, as honest and other clients send them.

use super::*;
use cofferdam::net::decide::Reason as Decided;

/// Bytes after their length, in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(data)].concat()
}

/// The extension with these names in its list.
pub(super) fn server_name(names: &[&[u8]]) -> Vec<u8> {
    let entry = |name: &&[u8]| [&[0][..], &sized(name)].concat();
    extension(
        0,
        &sized(&names.iter().flat_map(entry).collect::<Vec<u8>>()),
    )
}

/// A client hello with these extensions, without a record around it.
pub(super) fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(sized(&extensions.concat()));
    let length = (body.len() as u32).to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

pub(super) fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &sized(payload)].concat()
}

/// A hello for these bytes as its name.
fn named(name: &[u8]) -> Vec<u8> {
    record(22, &message(&[server_name(&[name])]))
}

/// A server hello that has this random.
fn answer(random: [u8; 32]) -> Vec<u8> {
    let body = [&[3, 3][..], &random, &[0, 0x13, 1, 0, 0, 0]].concat();
    let header = [2, 0, 0, body.len() as u8];
    record(22, &[&header[..], &body].concat())
}

/// SHA-256 of "HelloRetryRequest": RFC 8446 §4.1.3.
fn retry() -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(b"HelloRetryRequest").into()
}

/// A world with one server that `good.example` leads to, and the name's address inside.
fn world(without: WithoutName) -> (World, TcpListener, Ipv4Addr) {
    let rules = Rules {
        grants: vec![grant("good.example", &[443], None)],
        open: false,
        tls_without_name: without,
        limits: LIMITS,
    };
    let world = build_by(&rules, &[SocketAddrV4::new(ROUTER, 53).into()], 443);
    world.resolver(SERVER);
    let server = world.listen(SERVER, 443);
    let (0, Some(address)) = world.ask("good.example") else {
        panic!()
    };
    (world, server, address)
}

fn hears(far: &mut TcpStream, bytes: &[u8]) {
    far.set_read_timeout(Some(LIMIT)).unwrap();
    let mut heard = vec![0; bytes.len()];
    far.read_exact(&mut heard).unwrap();
    assert_eq!(heard, bytes);
}

/// A client's connection and the server's, after this hello.
fn greeted(world: &World, server: &TcpListener, to: Ipv4Addr, hello: &[u8]) -> [TcpStream; 2] {
    let mut client = world.dial(to, 443);
    client.write_all(hello).unwrap();
    let (mut far, _) = server.accept().unwrap();
    hears(&mut far, hello);
    [client, far]
}

/// The server got nothing, and nobody connected to it.
fn untouched(server: &TcpListener) {
    server.set_nonblocking(true).unwrap();
    let error = server.accept().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

fn reason(world: &World) -> Reason {
    loop {
        match world.edge.next().unwrap() {
            Some(Record::Refused(_, reason)) => return reason,
            Some(_) => {}
            None => panic!("the edge ended"),
        }
    }
}

fn reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn however_a_hello_is_cut_it_arrives_whole_and_unchanged() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let inner = message(&[server_name(&[b"GOOD.Example"])]);
        let fragments: Vec<u8> = inner.chunks(1).flat_map(|part| record(22, part)).collect();
        for hello in [record(22, &inner), fragments] {
            let mut client = world.dial(address, 443);
            client.set_nodelay(true).unwrap();
            for byte in &hello {
                client.write_all(&[*byte]).unwrap();
            }
            let (mut far, _) = server.accept().unwrap();
            hears(&mut far, &hello);
        }
    });
}

#[test]
fn a_second_hello_has_to_have_the_name_too() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let first = hello("good.example");
        let early = [record(23, &[9; 500]), record(20, &[1])].concat();
        for (name, same) in [("good.example", true), ("bad.example", false)] {
            for at_once in [false, true] {
                let second = [&early[..], &hello(name)].concat();
                let mut client = world.dial(address, 443);
                client.write_all(&first).unwrap();
                if at_once {
                    client.write_all(&second).unwrap();
                }
                let (mut far, _) = server.accept().unwrap();
                hears(&mut far, &first);
                let asks = answer(retry());
                let (start, rest) = asks.split_at(20);
                far.write_all(start).unwrap();
                far.write_all(rest).unwrap();
                if same || !at_once {
                    hears(&mut client, &asks);
                }
                if !at_once {
                    client.write_all(&second).unwrap();
                }
                if same {
                    hears(&mut far, &second);
                    client.write_all(b"anything").unwrap();
                    hears(&mut far, b"anything");
                } else {
                    reset(&mut far);
                    reset(&mut client);
                    assert_eq!(reason(&world), Reason::Decided(Decided::HelloName));
                }
            }
        }
    });
}

/// What a server would not read as a hello is not looked at: it is sealed, and nobody's to read.
#[test]
fn after_any_other_answer_everything_passes() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let lie = hello("bad.example");
        let alert = record(21, &[2, 40]);
        for answer in [answer([1; 32]), alert, b"no TLS".to_vec()] {
            let first = hello("good.example");
            let [mut client, mut far] = greeted(&world, &server, address, &first);
            far.write_all(&answer).unwrap();
            hears(&mut client, &answer);
            client.write_all(&lie).unwrap();
            hears(&mut far, &lie);
        }
    });
}

#[test]
fn a_server_that_ends_or_a_client_that_goes_does_not_leave_the_other_waiting() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let first = hello("good.example");
        for said in [&b""[..], &answer(retry())[..9]] {
            let [mut client, mut far] = greeted(&world, &server, address, &first);
            far.write_all(said).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            hears(&mut client, said);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        let [client, mut far] = greeted(&world, &server, address, &first);
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        reset(&mut far);
        let [client, mut far] = greeted(&world, &server, address, &first);
        drop(client);
        far.write_all(&answer([1; 32])).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap_or(0), 0);
    });
}

#[test]
fn an_encrypted_hello_is_judged_by_its_outer_name() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let with = |name: &[u8]| {
            let sealed = extension(0xfe0d, &[0; 200]);
            record(22, &message(&[sealed, server_name(&[name])]))
        };
        let lie = world.refused(address, 443, &with(b"public.example"));
        assert_eq!(lie, Reason::Decided(Decided::HelloName));
        greeted(&world, &server, address, &with(b"good.example"));
    });
}

#[test]
fn without_a_name_the_policy_decides() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        for extensions in [vec![], vec![extension(0xfe0d, &[0; 200])]] {
            let none = record(22, &message(&extensions));
            let reason = world.refused(address, 443, &none);
            assert_eq!(reason, Reason::Decided(Decided::HelloWithoutName));
        }
        untouched(&server);
    });
}

#[test]
fn where_the_policy_says_so_a_hello_needs_no_name() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Allow);
        let none = record(22, &message(&[]));
        let [mut client, mut far] = greeted(&world, &server, address, &none);
        far.write_all(&answer(retry())).unwrap();
        client.write_all(&none).unwrap();
        hears(&mut far, &none);
        greeted(&world, &server, address, &hello("other.example"));
        // It has to be TLS all the same.
        let mut client = world.dial(address, 443);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        reset(&mut client);
        assert_eq!(reason(&world), Reason::Decided(Decided::NotTls));
    });
}

#[test]
fn what_is_no_hello_or_two_reaches_nobody() {
    inside(|| {
        let (world, server, address) = world(WithoutName::Refuse);
        let good = server_name(&[b"good.example"]);
        let hello = message(std::slice::from_ref(&good));
        let split = [record(22, &hello[..20]), record(20, &[1])].concat();
        let sslv2 = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10";
        for (bytes, expected) in [
            (record(20, &[1]), Decided::NotTls),
            (record(21, &[1, 0]), Decided::NotTls),
            (record(23, b"data"), Decided::NotTls),
            (sslv2.to_vec(), Decided::NotTls),
            (b"SSH-2.0-x\r\n".to_vec(), Decided::NotTls),
            (split, Decided::Hello),
            (record(22, &[0, 0, 0, 0]), Decided::Hello),
            (
                record(22, &[hello.clone(), hello.clone()].concat()),
                Decided::Hello,
            ),
            (
                record(22, &message(&[good.clone(), good.clone()])),
                Decided::Hello,
            ),
            (
                record(
                    22,
                    &message(&[server_name(&[b"good.example", b"bad.example"])]),
                ),
                Decided::Hello,
            ),
            (named(b"good.example."), Decided::Hello),
            (named(b"93.184.216.34"), Decided::Hello),
            (named(b"2606:2800:220:1::1"), Decided::Hello),
            (named(b"good.example\0.bad.example"), Decided::Hello),
            (named(b"good.example\0"), Decided::Hello),
            (named(b""), Decided::Hello),
            (named(b"*.example"), Decided::Hello),
            (named("g\u{f6}\u{f6}d.example".as_bytes()), Decided::Hello),
            (named(b"xgood.example"), Decided::HelloName),
            (named(b"a.good.example"), Decided::HelloName),
            (named(b"example"), Decided::HelloName),
            // Announced as longer than any may be.
            (vec![22, 3, 1, 0, 4, 1, 1, 0, 1], Decided::Hello),
        ] {
            let reason = world.refused(address, 443, &bytes);
            assert_eq!(reason, Reason::Decided(expected), "{bytes:?}");
        }
        untouched(&server);
    });
}

/// Ten seconds from the first byte: what comes meanwhile gains nothing.
#[test]
fn a_hello_has_ten_seconds_however_slowly_it_comes() {
    inside(|| {
        use cofferdam::net::record::Obstacle;
        let (world, server, address) = world(WithoutName::Refuse);
        let mut client = world.dial(address, 443);
        let began = Instant::now();
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let hello = hello("good.example");
        let error = hello
            .iter()
            .find_map(|byte| {
                let ended = client
                    .write_all(&[*byte])
                    .and_then(|()| client.read(&mut [0; 1]).map(|_| ()));
                let error = ended.unwrap_err();
                (error.kind() != ErrorKind::WouldBlock).then_some(error)
            })
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(
            began.elapsed() >= Duration::from_secs(9),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(reason(&world), Reason::Met(Obstacle::Silent));
        untouched(&server);
    });
}
