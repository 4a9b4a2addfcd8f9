//! [pure] What a job may use up: so much a second, and names that it invents below a wildcard.
//!
//! A name below a wildcard is the job's to choose, and one that it connects to is asked of
//! a resolver: without a budget the owner of the zone could be told anything, label by label.

use super::grant::Name;
use core::time::Duration;

/// The most labels that a name has below the wildcard that covers it.
pub const DEPTH: usize = 5;
/// Questions about names below wildcards that have no address yet: at once.
pub const NAMES_AT_ONCE: u32 = 512;
/// And how many more each second.
pub const NAMES_PER_SECOND: u32 = 2;

/// A token bucket: refills evenly.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In billionths of a token, as `level`.
    most: u128,
    per_second: u32,
    level: u128,
    at: Duration,
}

const TOKEN: u128 = 1_000_000_000;

impl Bucket {
    /// What one second allows may come at once.
    pub fn per_second(per_second: u32) -> Self {
        Self::holding(per_second, per_second)
    }

    /// So many at once, and so many more each second after that.
    pub fn holding(most: u32, per_second: u32) -> Self {
        let most = u128::from(most).saturating_mul(TOKEN);
        Self {
            most,
            per_second,
            level: most,
            at: Duration::ZERO,
        }
    }

    /// Takes one, if there is one. `now` is the time since any one moment; time that goes
    /// back refills nothing.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(now);
        let gained = passed.saturating_mul(self.per_second.into());
        let level = self.level.saturating_add(gained).min(self.most);
        let left = level.checked_sub(TOKEN);
        self.level = left.unwrap_or(level);
        left.is_some()
    }
}

/// Whether a name has more labels below this zone than [`DEPTH`].
pub fn is_too_deep(name: &Name, zone: &Name) -> bool {
    let labels = |name: &Name| name.as_str().split('.').count();
    labels(name).saturating_sub(labels(zone)) > DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_once_and_what_comes_after_are_two_figures() {
        let mut bucket = Bucket::holding(3, 2);
        let mut at = |millis| bucket.take(Duration::from_millis(millis));
        assert!(at(0) && at(0) && at(0));
        assert!(!at(0) && !at(499));
        assert!(at(500) && !at(500));
        assert!(!at(0) && !at(500), "the same time again gains nothing");
        assert!(at(100_000) && at(100_000) && at(100_000) && !at(100_000));
        let mut none = Bucket::per_second(0);
        assert!(!none.take(Duration::ZERO) && !none.take(Duration::MAX));
    }

    #[test]
    fn labels_below_the_zone_are_counted() {
        let name = |text| Name::parse(text).unwrap();
        let zone = name("cdn.example");
        assert!(!is_too_deep(&name("a.b.c.d.e.cdn.example"), &zone));
        assert!(is_too_deep(&name("a.b.c.d.e.f.cdn.example"), &zone));
        assert!(!is_too_deep(&zone, &zone));
    }
}
