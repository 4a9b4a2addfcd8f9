//! [sys] A netlink socket to nf_tables of one network namespace. No unsafe here; rustix has it.

use super::netlink::{self, Answer, Refused};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{RecvFlags, SendFlags};

/// Longest datagram: the kernel never writes a longer part of a dump than there is room for.
const DATAGRAM: usize = 16 << 10;
/// Most bytes of one answer: many times a small table's.
const MOST: usize = 256 << 10;

/// A socket to nf_tables of the network namespace it was made in.
#[derive(Debug)]
pub struct Nfnetlink(OwnedFd);

impl Nfnetlink {
    /// A socket in the caller's network namespace, which hears nobody but the kernel.
    ///
    /// # Errors
    /// The errno of socket(2), setsockopt(2) or connect(2).
    pub fn open() -> Result<Self, Errno> {
        netlink::open(Some(NETFILTER)).map(Self)
    }

    /// Sends these messages and gives the messages that answer them, up to the
    /// acknowledgement or the end of the dump that they must ask for.
    ///
    /// # Errors
    /// What the kernel said: of a batch that it refused nothing is left. EAGAIN
    /// where a dump was disturbed. The socket is of no further use then.
    pub fn ask(&self, messages: &[u8]) -> Result<Vec<u8>, Refused> {
        let sent = rustix::net::send(&self.0, messages, SendFlags::empty())?;
        if sent != messages.len() {
            return Err(Refused::from(Errno::IO));
        }
        let mut answer = Vec::new();
        let mut buffer = [0; DATAGRAM];
        while answer.len() <= MOST {
            let received = || rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::TRUNC);
            let (_, length) = rustix::io::retry_on_intr(received)?;
            let datagram = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            if take(datagram, &mut answer)? {
                return Ok(answer);
            }
        }
        Err(Refused::from(Errno::MSGSIZE))
    }
}

/// Takes the messages of one datagram; true when there are no more to come.
fn take(mut datagram: &[u8], answer: &mut Vec<u8>) -> Result<bool, Refused> {
    while !datagram.is_empty() {
        let length = netlink::length(datagram).ok_or(Errno::BADMSG)?;
        let message = datagram.get(..length).ok_or(Errno::BADMSG)?;
        match netlink::read(message).ok_or(Errno::BADMSG)? {
            Answer::Done => return Ok(true),
            Answer::Refused(refused) => return Err(refused),
            Answer::Body(_) => answer.extend(message),
        }
        // The last one may end without the bytes that would align another.
        let next = length.next_multiple_of(4).min(datagram.len());
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(false)
}
