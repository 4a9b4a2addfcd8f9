//! A job behind a published port: `listener ADDRESS:PORT…` serves each address.
//!
//! It greets every peer by its address, then obeys one line: `count` reads to
//! the end and says how much and what it was, `send N` sends N bytes and ends,
//! `end` ends its own side before it counts, `reset` resets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test program"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

fn main() {
    let listeners: Vec<TcpListener> = std::env::args()
        .skip(1)
        .map(|at| TcpListener::bind(&at).expect(&at))
        .collect();
    println!("listening");
    let served: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    std::thread::spawn(move || serve(stream.unwrap()));
                }
            })
        })
        .collect();
    for one in served {
        one.join().unwrap();
    }
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    writeln!(stream, "hello {peer}").ok()?;
    let mut reader = BufReader::with_capacity(1 << 16, stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    match line.trim_end().split_once(' ') {
        Some(("send", count)) => send(&mut stream, count.parse().ok()?),
        _ if line == "reset\n" => {
            rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).ok()
        }
        _ => {
            if line == "end\n" {
                writeln!(stream, "the end").ok()?;
                stream.shutdown(Shutdown::Write).ok()?;
            }
            let (count, sum) = count(&mut reader)?;
            println!("counted {count} {sum:x}");
            writeln!(stream, "counted {count} {sum:x}").ok()
        }
    }
}

/// Bytes whose sum tells their order, too.
fn send(stream: &mut TcpStream, count: usize) -> Option<()> {
    let block: Vec<u8> = (0..1usize << 16).map(|at| (at % 251) as u8).collect();
    let mut left = count;
    while left > 0 {
        let part = left.min(block.len());
        stream.write_all(&block[..part]).ok()?;
        left -= part;
    }
    Some(())
}

fn count(reader: &mut impl Read) -> Option<(u64, u64)> {
    let (mut count, mut sum) = (0u64, 0u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut buffer).ok()?;
        if read == 0 {
            return Some((count, sum));
        }
        for byte in &buffer[..read] {
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(*byte) + 1);
        }
        count += read as u64;
    }
}
