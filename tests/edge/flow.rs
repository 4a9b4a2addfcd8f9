//! Bytes through the edge: all of them, both ends, and what comes before a reset.

use super::*;
use cofferdam::sys::network::unacknowledged;

#[test]
fn a_granted_network_gets_every_byte_both_ways_and_both_ends() {
    inside(|| {
        const BYTES: usize = 100 << 20;
        let world = build(vec![grant("93.184.216.0/24", &[7000], None)], 7000, LIMITS);
        let server = world.listen(SERVER, 7000);
        let client = world.dial(SERVER, 7000);
        let (far, from) = server.accept().unwrap();
        assert_eq!(from.ip(), HOST);
        let serving = thread::spawn(move || exchange(&far, BYTES));
        assert_eq!(exchange(&client, BYTES), BYTES);
        assert_eq!(serving.join().unwrap(), BYTES);
        drop(client);
        let Some(Record::Allowed(id, asked, 0)) = world.edge.next().unwrap() else {
            panic!()
        };
        assert_eq!(asked.address, SocketAddrV4::new(SERVER, 7000).into());
        let both = BYTES as u64;
        assert_eq!(
            world.edge.next().unwrap(),
            Some(Record::Ended(id, both, both))
        );
    });
}

#[test]
fn half_of_a_connection_ends_by_itself_and_a_reset_is_passed_on() {
    inside(|| {
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
        let server = world.listen(SERVER, 7000);
        let mut client = world.dial(SERVER, 7000);
        let (mut far, _) = server.accept().unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "question");
        far.write_all(b"answer").unwrap();
        let mut buffer = [0; 6];
        client.read_exact(&mut buffer).unwrap();
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        let error = client.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn what_was_sent_before_a_reset_arrives_before_it() {
    inside(|| {
        const BYTES: usize = 512 << 10;
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
        let server = world.listen(SERVER, 7000);
        let mut client = world.dial(SERVER, 7000);
        let (mut far, _) = server.accept().unwrap();
        far.write_all(&[0x5a; BYTES]).unwrap();
        let far: OwnedFd = far.into();
        let began = Instant::now();
        // The edge has it then, and the client reads nothing yet.
        while unacknowledged(&far).unwrap() > 0 {
            assert!(began.elapsed() < LIMIT);
            thread::sleep(Duration::from_millis(2));
        }
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        let mut total = 0;
        let mut buffer = vec![0; 64 << 10];
        let error = loop {
            match client.read(&mut buffer) {
                Ok(count) => total += count,
                Err(error) => break error,
            }
            assert!(total <= BYTES);
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(total, BYTES);
        let allowed = world.edge.next().unwrap();
        let Some(Record::Allowed(id, ..)) = allowed else {
            panic!("{allowed:?}")
        };
        let ended = Record::Ended(id, 0, BYTES as u64);
        assert_eq!(world.edge.next().unwrap(), Some(ended));
    });
}

/// Without a descriptor nothing fails and nothing spins: it goes on once there is one.
/// A few bytes need none.
#[test]
fn what_has_no_descriptor_waits_for_one() {
    inside(|| {
        let world = build(vec![grant("93.184.216.34", &[7000], None)], 7000, LIMITS);
        let pid = world.edge.child.pid;
        let server = world.listen(SERVER, 7000);
        let own = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count() as u64;
        let before = limit_descriptors(pid, own);
        let mut client = world.dial(SERVER, 7000);
        let early = [b'x'; 64 << 10];
        client.write_all(&early).unwrap();
        // Room for the connection, for its other side, and not for a pipe.
        server.set_nonblocking(true).unwrap();
        assert!(server.accept().is_err(), "there was a descriptor");
        limit_descriptors(pid, own + 2);
        server.set_nonblocking(false).unwrap();
        let (mut far, _) = server.accept().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut heard = [0; 64 << 10];
        let few = 4096;
        far.read_exact(&mut heard[..few]).unwrap();
        assert!(far.read(&mut heard[few..]).is_err(), "there was a pipe");
        let spent = cpu_ticks(pid);
        assert!(spent < 10, "{spent} ticks of waiting");
        limit_descriptors(pid, before);
        far.set_read_timeout(Some(LIMIT)).unwrap();
        far.read_exact(&mut heard[few..]).unwrap();
        assert!(heard == early);
    });
}

/// Sets the soft limit; the one before.
fn limit_descriptors(pid: i32, most: u64) -> u64 {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let limit = |current, maximum| Rlimit { current, maximum };
    let pid = Pid::from_raw(pid);
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let before = prlimit(pid, Resource::Nofile, limit(Some(most), maximum)).unwrap();
    before.current.unwrap()
}

/// What a process has used of processors: proc_pid_stat(5), utime and stime.
fn cpu_ticks(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1;
    let times = fields.split_ascii_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
