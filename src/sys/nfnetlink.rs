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

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of this type, with these flags and this body.
    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }

    fn taken(datagram: &[u8]) -> Result<(bool, Vec<u8>), Errno> {
        let mut answer = Vec::new();
        let last = take(datagram, &mut answer).map_err(|refused| refused.errno)?;
        Ok((last, answer))
    }

    #[test]
    fn messages_are_taken_up_to_the_end_of_the_dump() {
        let (one, other) = (message(0xa00, 2, b"1234"), message(0xa03, 2, b"5678"));
        let done = message(3, 2, &[0; 4]);
        let both = [&one[..], &other].concat();
        assert_eq!(taken(&both), Ok((false, both.clone())));
        assert_eq!(taken(&[&both[..], &done].concat()), Ok((true, both)));
        assert_eq!(taken(&[&done[..], &one].concat()), Ok((true, Vec::new())));
        assert_eq!(taken(b""), Ok((false, Vec::new())));
    }

    #[test]
    fn a_dump_that_was_disturbed_or_cut_is_refused() {
        let one = message(0xa00, 2, b"1234");
        let disturbed = message(0xa00, 0x12, b"1234");
        assert_eq!(taken(&[&one[..], &disturbed].concat()), Err(Errno::AGAIN));
        assert_eq!(taken(&message(3, 0x12, &[0; 4])), Err(Errno::AGAIN));
        let no = (-libc::EPERM).to_ne_bytes();
        assert_eq!(
            taken(&[&one[..], &message(2, 0, &no)].concat()),
            Err(Errno::PERM)
        );
        assert_eq!(taken(&message(3, 2, &no)), Err(Errno::PERM));
        for cut in 1..one.len() {
            assert_eq!(
                taken(&[&one[..], &one[..cut]].concat()),
                Err(Errno::BADMSG),
                "{cut}"
            );
        }
        for length in [0, 1, 15, 21, u32::MAX] {
            let mut odd = one.clone();
            odd[..4].copy_from_slice(&u32::to_ne_bytes(length));
            assert_eq!(taken(&odd), Err(Errno::BADMSG), "{length}");
        }
    }
}
