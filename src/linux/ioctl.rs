//! [pure] ioctl requests the filters speak of.
//!
//! Sources: include/uapi/asm-generic/ioctls.h, include/uapi/linux/{fs,fsverity,fscrypt,nsfs}.h;
//! the same on x86_64 and aarch64. The kernel takes the request as an
//! `unsigned int`, so the high half of the register never counts
//! (CVE-2019-10063 was a filter that looked at it).

/// Pushes a byte into a terminal's input.
pub const TIOCSTI: u64 = 0x5412;
/// Console selection and paste, the same attack as TIOCSTI (CVE-2023-28100).
pub const TIOCLINUX: u64 = 0x541c;
/// Takes over console output.
pub const TIOCCONS: u64 = 0x541d;
/// Sets a line discipline; loads ldisc modules (CVE-2020-14416 and others).
pub const TIOCSETD: u64 = 0x5423;
/// Hangs up a terminal.
pub const TIOCVHANGUP: u64 = 0x5437;
/// Locks terminal settings.
pub const TIOCSLCKTRMIOS: u64 = 0x5457;

/// Shares all blocks of a file.
pub const FICLONE: u64 = 0x4004_9409;
/// Shares some blocks of a file.
pub const FICLONERANGE: u64 = 0x4020_940d;
/// Shares equal blocks of files.
pub const FIDEDUPERANGE: u64 = 0xc018_9436;
/// Freezes a file system.
pub const FIFREEZE: u64 = 0xc004_5877;
/// Thaws it.
pub const FITHAW: u64 = 0xc004_5878;
/// Discards unused blocks.
pub const FITRIM: u64 = 0xc018_5879;
/// Sets project id and extended flags.
pub const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
/// Seals a file with fs-verity.
pub const FS_IOC_ENABLE_VERITY: u64 = 0x4080_6685;
/// Encrypts a directory.
pub const FS_IOC_SET_ENCRYPTION_POLICY: u64 = 0x800c_6613;
/// Adds a file system key.
pub const FS_IOC_ADD_ENCRYPTION_KEY: u64 = 0xc050_6617;
/// Removes a file system key.
pub const FS_IOC_REMOVE_ENCRYPTION_KEY: u64 = 0xc040_6618;
/// Type byte of every nsfs request (NS_GET_USERNS …), in bits 8–15.
pub const NSFS_TYPE: u64 = 0xb700;
/// Bits of a request that hold its type byte.
pub const TYPE_MASK: u64 = 0xff00;

/// What programs ask of terminals, pipes and sockets when they compute: get
/// and set attributes and size, job control, controlling terminal, pty
/// creation, bytes waiting, non-blocking and close-on-exec.
#[rustfmt::skip]
pub const TERMINAL_AND_QUEUE: &[u64] = &[
    0x5401, 0x5402, 0x5403, 0x5404, // TCGETS TCSETS TCSETSW TCSETSF
    0x5409, 0x540a, 0x540b, // TCSBRK TCXONC TCFLSH
    0x540e, 0x540f, 0x5410, 0x5411, // TIOCSCTTY TIOCGPGRP TIOCSPGRP TIOCOUTQ
    0x5413, 0x5414, // TIOCGWINSZ TIOCSWINSZ
    0x541b, 0x5421, 0x5422, 0x5429, // FIONREAD FIONBIO TIOCNOTTY TIOCGSID
    0x5441, 0x5450, 0x5451, // TIOCGPTPEER FIONCLEX FIOCLEX
    0x8004_5430, 0x4004_5431, // TIOCGPTN TIOCSPTLCK
    0x802c_542a, 0x402c_542b, 0x402c_542c, 0x402c_542d, // TCGETS2 TCSETS2 TCSETSW2 TCSETSF2
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_agree_with_the_c_library() {
        let same = |request: u64, number: libc::Ioctl| assert_eq!(request, number);
        same(TIOCSTI, libc::TIOCSTI);
        same(TIOCLINUX, libc::TIOCLINUX);
        same(TIOCCONS, libc::TIOCCONS);
        same(FICLONE, libc::FICLONE);
        same(FICLONERANGE, libc::FICLONERANGE);
        let requests = [
            libc::TCGETS,
            libc::TIOCGWINSZ,
            libc::FIONREAD,
            libc::FIONBIO,
            libc::TIOCSCTTY,
        ];
        assert!(
            requests
                .iter()
                .all(|request| TERMINAL_AND_QUEUE.contains(request))
        );
    }
}
