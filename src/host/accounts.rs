//! [pure] Reads passwd(5) and subuid(5) text.

use super::facts::IdRange;

/// One line of /etc/passwd, the fields we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory as written.
    pub home: String,
}

/// All well-formed lines; others (comments, NIS `+` lines) are no accounts.
pub fn accounts(passwd: &str) -> impl Iterator<Item = Account> + '_ {
    passwd.lines().filter_map(account)
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1)?;
    (!name.is_empty()).then(|| Account {
        name: name.to_owned(),
        uid,
        gid,
        home: home.to_owned(),
    })
}

/// One line of /etc/subuid or /etc/subgid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Login name or decimal uid; also in subgid(5).
    pub owner: String,
    /// The ids granted; never empty and never past the last id.
    pub range: IdRange,
}

/// All well-formed lines; like newuidmap, skips what does not parse.
pub fn grants(text: &str) -> impl Iterator<Item = Grant> + '_ {
    text.lines().filter_map(grant)
}

fn grant(line: &str) -> Option<Grant> {
    let mut fields = line.split(':');
    let owner = fields.next()?;
    let start: u32 = fields.next()?.trim().parse().ok()?;
    let count: u32 = fields.next()?.trim().parse().ok()?;
    // 4294967295 is (uid_t)-1, "no change"; it can never be mapped.
    let fits = start.checked_add(count).is_some() && count > 0;
    let whole = fields.next().is_none() && !owner.is_empty() && fits;
    whole.then(|| Grant {
        owner: owner.to_owned(),
        range: IdRange { start, count },
    })
}

/// The largest range granted to any of `owners`; the first of equals.
pub fn largest(text: &str, owners: &[&str]) -> Option<IdRange> {
    grants(text)
        .filter(|grant| owners.contains(&grant.owner.as_str()))
        .map(|grant| grant.range)
        .reduce(|best, next| if next.count > best.count { next } else { best })
}

/// Whether two ranges share an id.
pub fn overlap(a: IdRange, b: IdRange) -> bool {
    let end = |range: IdRange| u64::from(range.start) + u64::from(range.count);
    u64::from(a.start) < end(b) && u64::from(b.start) < end(a)
}

/// Whether every id of `range` is an id of this user namespace, as /proc/self/uid_map says
/// (user_namespaces(7): lines "inside outside count").
pub fn mapped(uid_map: &str, range: IdRange) -> bool {
    let end = u64::from(range.start) + u64::from(range.count);
    uid_map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(inside)), Some(Ok(count))) => {
                inside <= u64::from(range.start) && end <= inside + count
            }
            _ => false,
        }
    })
}

/// The first start, in steps of 65536 from SUB_UID_MIN, from which `count` ids are in no entry of `texts` and
/// within the span that login.defs(5) gives to useradd. `None` if all are taken.
pub fn free_start(texts: &[&str], count: u32) -> Option<u32> {
    let taken: Vec<IdRange> = texts
        .iter()
        .flat_map(|text| grants(text))
        .map(|grant| grant.range)
        .collect();
    (1..8192_u32)
        .map(|block| 100_000 + (block - 1) * 65_536)
        .find(|&start| {
            start.checked_add(count).is_some()
                && !taken
                    .iter()
                    .any(|&range| overlap(range, IdRange { start, count }))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, count: u32) -> IdRange {
        IdRange { start, count }
    }

    #[test]
    fn passwd_lines() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+::::::\n# x\nann:x:1000:100:A,B:/home/ann:\nbad:x:y:1::/:/\n";
        let all: Vec<_> = accounts(text).collect();
        assert_eq!(all.len(), 2);
        let ann = Account {
            name: "ann".into(),
            uid: 1000,
            gid: 100,
            home: "/home/ann".into(),
        };
        assert_eq!(all[1], ann);
    }

    #[test]
    fn the_largest_range_by_name_or_uid_counts() {
        let text = "ann:100000:65536\n1000:300000:131072\nbob:1:4000000000\nann:500000:131072\n";
        assert_eq!(
            largest(text, &["ann", "1000"]),
            Some(range(300_000, 131_072))
        );
        assert_eq!(largest(text, &["ann"]), Some(range(500_000, 131_072)));
        assert_eq!(largest(text, &["eve"]), None);
    }

    #[test]
    fn malformed_grants_are_no_grants() {
        for line in [
            "ann:1",
            "ann:1:0",
            "ann:x:1",
            ":1:1",
            "ann:4294967295:1",
            "ann:1:2:3",
            "ann:-1:2",
        ] {
            assert_eq!(grants(line).count(), 0, "{line}");
        }
        assert_eq!(grants("ann:4294967294:1").count(), 1);
    }

    #[test]
    fn ranges_overlap_when_they_share_an_id() {
        assert!(overlap(range(10, 5), range(14, 1)));
        assert!(!overlap(range(10, 5), range(15, 1)));
        assert!(overlap(range(0, u32::MAX), range(u32::MAX - 1, 1)));
    }

    #[test]
    fn a_range_is_mapped_only_within_one_line() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(mapped(map, range(1, 65536)));
        assert!(!mapped(map, range(0, 2)));
        assert!(!mapped(map, range(65_536, 2)));
        assert!(mapped("0 0 4294967295", range(1_879_048_192, 1 << 20)));
        assert!(!mapped("garbage", range(0, 1)));
    }

    #[test]
    fn a_free_range_avoids_both_files() {
        assert_eq!(free_start(&["", ""], 65_536), Some(100_000));
        assert_eq!(
            free_start(&["a:100000:65536", "b:165536:65536"], 65_536),
            Some(231_072)
        );
        assert_eq!(free_start(&["a:0:4294967295"], 65_536), None);
    }
}
