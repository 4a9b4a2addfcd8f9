//! [exposed] /proc/PID/task/TID/status as values: total on any bytes.
//!
//! The kernel escapes newlines in comm (proc_pid_status(5)), so that a name
//! cannot add a line. This does not rely on it: a key that comes twice is an error.

use super::observation::{Capabilities, Status};
use super::text::{Malformed, shown};

/// Reads a whole status file.
///
/// # Errors
/// The first key that is missing, comes twice, or has no value of its kind.
pub fn parse(bytes: &[u8]) -> Result<Status, Malformed> {
    let fields = Fields { bytes };
    let [tid] = fields.numbers("Pid")?;
    let [parent] = fields.numbers("PPid")?;
    let [descriptor_table] = fields.numbers("FDSize")?;
    let [filters] = fields.numbers("Seccomp_filters")?;
    let [seccomp] = fields.numbers("Seccomp")?;
    let [no_new_privileges]: [u32; 1] = fields.numbers("NoNewPrivs")?;
    Ok(Status {
        name: shown(fields.value("Name")?),
        state: fields.state()?,
        tid,
        parent,
        tid_inside: fields.innermost()?,
        uids: fields.numbers("Uid")?,
        gids: fields.numbers("Gid")?,
        groups: fields.list("Groups")?,
        descriptor_table,
        umask: fields.umask()?,
        capabilities: Capabilities {
            inheritable: fields.mask("CapInh")?,
            permitted: fields.mask("CapPrm")?,
            effective: fields.mask("CapEff")?,
            bounding: fields.mask("CapBnd")?,
            ambient: fields.mask("CapAmb")?,
        },
        no_new_privileges: no_new_privileges == 1,
        seccomp,
        seccomp_filters: filters,
        blocked: fields.mask("SigBlk")?,
        ignored: fields.mask("SigIgn")?,
        caught: fields.mask("SigCgt")?,
    })
}

/// The parent's pid alone: of any process of the host, whatever else its file holds.
///
/// # Errors
/// When it is missing, comes twice or is no number.
pub fn parent(bytes: &[u8]) -> Result<i32, Malformed> {
    let [parent] = Fields { bytes }.numbers("PPid")?;
    Ok(parent)
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn find(&self, key: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let mut values = self.bytes.split(|byte| *byte == b'\n').filter_map(|line| {
            line.strip_prefix(key.as_bytes())
                .and_then(|rest| rest.strip_prefix(b":"))
        });
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(<[u8]>::trim_ascii)),
            _ => Err(Malformed::twice(key)),
        }
    }

    fn value(&self, key: &'static str) -> Result<&'a [u8], Malformed> {
        self.find(key)?.ok_or(Malformed::missing(key))
    }

    fn text(&self, key: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.value(key)?).map_err(|_| Malformed::value(key))
    }

    fn list<T: std::str::FromStr>(&self, key: &'static str) -> Result<Vec<T>, Malformed> {
        self.text(key)?
            .split_ascii_whitespace()
            .map(|word| word.parse().map_err(|_| Malformed::value(key)))
            .collect()
    }

    fn numbers<T: std::str::FromStr, const N: usize>(
        &self,
        key: &'static str,
    ) -> Result<[T; N], Malformed> {
        self.list(key)?
            .try_into()
            .map_err(|_| Malformed::value(key))
    }

    fn mask(&self, key: &'static str) -> Result<u64, Malformed> {
        u64::from_str_radix(self.text(key)?, 16).map_err(|_| Malformed::value(key))
    }

    fn state(&self) -> Result<char, Malformed> {
        self.text("State")?
            .chars()
            .next()
            .ok_or(Malformed::value("State"))
    }

    /// NSpid lists the id from the reader's pid namespace inwards.
    fn innermost(&self) -> Result<i32, Malformed> {
        self.list("NSpid")?.pop().ok_or(Malformed::value("NSpid"))
    }

    fn umask(&self) -> Result<Option<u32>, Malformed> {
        match self.find("Umask")? {
            None => Ok(None),
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| u32::from_str_radix(text, 8).ok())
                .map(Some)
                .ok_or(Malformed::value("Umask")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsleep\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t25606\n\
        Pid:\t25606\nPPid:\t25604\nTracerPid:\t0\nUid:\t1\t1\t1\t1\nGid:\t2\t2\t2\t2\n\
        FDSize:\t64\nGroups:\t4 5 \nNStgid:\t25606\t2\nNSpid:\t25606\t2\nSigQ:\t0/4096\n\
        SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000440\n\
        CapInh:\t0000000000000000\nCapPrm:\t00000000000000c0\nCapEff:\t0000000000000040\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t3\n";

    #[test]
    fn every_field_is_read() {
        let status = parse(STATUS.as_bytes()).unwrap();
        assert_eq!(
            (status.tid, status.parent, status.tid_inside),
            (25606, 25604, 2)
        );
        assert_eq!((status.uids, status.gids), ([1; 4], [2; 4]));
        assert_eq!(status.groups, [4, 5]);
        assert_eq!(status.descriptor_table, 64);
        assert_eq!(status.umask, Some(0o22));
        assert_eq!(status.capabilities.permitted, 0xc0);
        assert_eq!(status.capabilities.effective, 0x40);
        assert_eq!(status.capabilities.bounding, 0x1ff_ffff_ffff);
        assert!(status.no_new_privileges);
        assert_eq!((status.seccomp, status.seccomp_filters), (2, 3));
        assert_eq!(
            (status.blocked, status.ignored, status.caught),
            (1, 0x1000, 0x440)
        );
    }

    #[test]
    fn a_name_that_brings_lines_of_its_own_is_refused() {
        let forged = STATUS.replace("Name:\tsleep", "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t2");
        assert!(parse(forged.as_bytes()).is_err());
        let harmless = STATUS.replace("Name:\tsleep", "Name:\tSeccomp:\\n2");
        assert_eq!(parse(harmless.as_bytes()).unwrap().name, "Seccomp:\\\\n2");
    }

    #[test]
    fn names_that_are_no_text_and_very_long_ones_are_bounded() {
        let mut bytes = b"Name:\t\xff\x1b[2J".to_vec();
        bytes.extend(vec![b'A'; 1 << 20]);
        bytes.extend(STATUS.as_bytes().strip_prefix(b"Name:\tsleep").unwrap());
        let name = parse(&bytes).unwrap().name;
        assert!(name.starts_with("\\xff\\x1b[2J"), "{name:.20}");
        assert!(name.len() <= 4 * 256 + 3);
    }

    #[test]
    fn each_missing_or_spoilt_line_is_an_error() {
        for key in [
            "PPid",
            "Uid",
            "Groups",
            "CapBnd",
            "NoNewPrivs",
            "Seccomp_filters",
            "NSpid",
        ] {
            let without: String = STATUS
                .split_inclusive('\n')
                .filter(|line| !line.starts_with(&format!("{key}:")))
                .collect();
            assert!(parse(without.as_bytes()).is_err(), "{key} missing");
        }
        for (good, bad) in [
            ("Uid:\t1\t1\t1\t1", "Uid:\t1\t1\t1"),
            ("Uid:\t1\t1\t1\t1", "Uid:\t1\t1\t1\t99999999999"),
            ("CapBnd:\t000001ffffffffff", "CapBnd:\t1000001ffffffffff0"),
            ("Seccomp:\t2", "Seccomp:\ttwo"),
            ("NSpid:\t25606\t2", "NSpid:\t"),
        ] {
            assert!(
                parse(STATUS.replace(good, bad).as_bytes()).is_err(),
                "{bad}"
            );
        }
    }
}
