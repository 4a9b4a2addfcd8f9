//! Real clients in a sandbox, honest ones and such as lie about whom they talk to.

use crate::site::{Site, output, stdout, text};
use crate::support::skip;
use crate::world::{Daemon, OTHER, SERVER, World, certificate, within};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What is granted, the second name at [`OTHER`]; `other.example.org` is not.
const GRANTS: [&str; 6] = [
    "--allow",
    "www.example.org:80",
    "--allow",
    "www.example.org:443",
    "--allow",
    "at-93-184-216-35.example.org:443",
];

/// Prints the name of each client and its exit code.
const CLIENTS: &str = r#"
try() { name=$1; shift; "$@" >/tmp/out 2>&1 </dev/null; echo "$name $?"; }
curl="curl -sS --max-time 20 --cacert /tmp/ca.pem"
tls="openssl s_client -CAfile /tmp/ca.pem -verify_return_error -connect www.example.org:443"
printf '%s' "$CA" >/tmp/ca.pem
try ok-https $curl https://www.example.org/
try ok-tls $tls -servername www.example.org
try ok-http $curl http://www.example.org/honest
try ok-dig sh -c 'dig +short +tries=1 @8.8.8.8 www.example.org | grep -q "^198[.]1[89][.]"'
try foreign-https $curl https://other.example.org/
try foreign-dig sh -c 'dig +tries=1 @8.8.8.8 other.example.org | grep -q NOERROR'
try foreign-doh $curl --doh-url https://dns.example.org/dns-query http://www.example.org/lie
try by-address $curl http://93.184.216.34/lie
try by-address-tls $curl -k https://93.184.216.34/
try lying-tls $curl -k --connect-to other.example.org:443:www.example.org:443 https://other.example.org/
try lying-name $tls -servername other.example.org
try no-name $tls -noservername
try foreign-name openssl s_client -connect at-93-184-216-35.example.org:443 -servername www.example.org
try swapped-name $tls -servername at-93-184-216-35.example.org
try told-name openssl s_client -connect at-93-184-216-35.example.org:443 -servername at-93-184-216-35.example.org
try lying-host $curl -H 'Host: other.example.org' http://www.example.org/lie
try lying-later $curl --fail-early http://www.example.org/first --next --max-time 20 -sS -H 'Host: other.example.org' http://www.example.org/lie
try tunnel $curl -p -x http://www.example.org:80 http://other.example.org/lie
exec 3<>/dev/tcp/www.example.org/80
printf 'GET /pipelined HTTP/1.1\r\nHost: www.example.org\r\n\r\nGET /lie HTTP/1.1\r\nHost: other.example.org\r\n\r\n' >&3
cat <&3 >/tmp/out 2>&1
echo end
"#;

/// `openssl s_server` in the world, and its certificate.
fn tls(site: &Site, world: &World) -> (Daemon, String) {
    let (key, certificate) = certificate(site);
    let mut server = Command::new("openssl");
    server.args(["s_server", "-www", "-accept", &format!("{SERVER}:443")]);
    server.arg("-cert").arg(&certificate).arg("-key").arg(&key);
    (
        world.daemon(&server, 443),
        std::fs::read_to_string(certificate).unwrap(),
    )
}

/// Request lines and Host lines that reached the server's port 80.
fn http(world: &World) -> Arc<Mutex<Vec<String>>> {
    let listener = within(&world.far, || TcpListener::bind((SERVER, 80)).unwrap());
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, record) = (stream.unwrap(), Arc::clone(&record));
            std::thread::spawn(move || answer(&stream, &record));
        }
    });
    arrived
}

/// What clients say at [`OTHER`], one entry for each connection.
fn hellos(world: &World) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let listener = within(&world.far, || TcpListener::bind((OTHER, 443)).unwrap());
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut hello) = (stream.unwrap(), [0; 4096]);
            let length = stream.read(&mut hello).unwrap();
            record.lock().unwrap().push(hello[..length].to_vec());
            // Whoever sees the end knows that it is recorded.
            drop(stream);
        }
    });
    arrived
}

fn answer(mut stream: &TcpStream, arrived: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let end = line.is_empty();
        arrived.lock().unwrap().push(line);
        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nserved\n";
        if end && stream.write_all(said).is_err() {
            return;
        }
    }
}

#[test]
fn clients_reach_the_granted_name_and_lies_reach_nobody() {
    if !rustix::process::getuid().is_root() {
        skip("a world of namespaces", "the tester is not root");
        return;
    }
    for program in ["curl", "openssl", "dig"] {
        if output(Command::new("sh").args(["-c", "command -v \"$0\"", program]))
            .stdout
            .is_empty()
        {
            skip("clients of a network", &format!("no {program}"));
            return;
        }
    }
    for root in [false, true] {
        let site = Site::alone(&format!("clients-{root}"));
        let world = World::new();
        let (_server, certificate) = tls(&site, &world);
        let arrived = http(&world);
        let hellos = hellos(&world);
        let script = format!("CA='{certificate}'\n{CLIENTS}");
        let mut arguments = vec!["run", "-p", "ci"];
        arguments.extend(GRANTS);
        arguments.extend(["--", "bash", "-c", &script]);
        let output = world.cofferdam(&site, root, &arguments);
        let said = stdout(&output);
        assert!(said.ends_with("end"), "{}", text(&output));
        let clients = said.lines().filter_map(|line| line.rsplit_once(' '));
        let clients: Vec<_> = clients.collect();
        assert_eq!(clients.len(), 18, "{said}");
        for (client, code) in clients {
            assert_eq!(client.starts_with("ok-"), code == "0", "{client}: {said}");
        }
        let arrived = arrived.lock().unwrap().join("\n");
        for honest in ["GET /honest", "GET /first"] {
            assert!(arrived.contains(honest), "{honest}: {arrived}");
        }
        for lie in ["/lie", "other", "CONNECT"] {
            assert!(!arrived.contains(lie), "{lie}: {arrived}");
        }
        // Of three hellos that named one of these addresses, the one that was no lie.
        let hellos = hellos.lock().unwrap();
        let names = |hello: &[u8], name: &[u8]| hello.windows(name.len()).any(|part| part == name);
        assert_eq!(hellos.len(), 1, "{hellos:?}");
        assert!(names(&hellos[0], b"at-93-184-216-35.example.org"));
        assert!(!names(&hellos[0], b"www"));
        let asked = world.asked.lock().unwrap();
        for name in [&b"other"[..], b"dns"] {
            let leaked = |query: &Vec<u8>| query.windows(name.len()).any(|part| part == name);
            assert!(
                !asked.iter().any(leaked),
                "a name without a grant was asked for upstream"
            );
        }
    }
}
