//! [pure] Sizes, durations, names and paths as people write them: strict readers, and the one way to print each.

use std::fmt;

/// Text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The text as written.
    pub text: String,
    /// What it should have been, with an article: `a size`.
    pub expected: &'static str,
    /// Why it is not.
    pub cause: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} is not {}: {}",
            self.text, self.expected, self.cause
        )
    }
}

impl std::error::Error for TextError {}

fn refuse<T>(text: &str, expected: &'static str, cause: impl Into<String>) -> Result<T, TextError> {
    Err(TextError {
        text: text.to_owned(),
        expected,
        cause: cause.into(),
    })
}

/// The largest size: what the kernel keeps in a signed 64-bit byte count.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Bytes from `512M`, `1.5G`, `4096`: binary units B K M G T in either case, exact to the byte.
pub fn size(text: &str) -> Result<u64, TextError> {
    const WHAT: &str = "a size";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        unit => {
            return refuse(
                text,
                WHAT,
                format!("unknown unit {unit:?}, the units are B K M G T"),
            );
        }
    };
    let Some((value, scale)) = decimal(digits) else {
        return refuse(text, WHAT, "write digits and a unit, such as 512M or 1.5G");
    };
    let scaled = u128::from(value) << shift;
    if !scaled.is_multiple_of(u128::from(scale)) {
        return refuse(text, WHAT, "it is no whole number of bytes");
    }
    match u64::try_from(scaled / u128::from(scale)) {
        // tmpfs(5) takes a size of 0 for no limit at all.
        Ok(0) => refuse(text, WHAT, "nothing fits into 0 bytes"),
        Ok(bytes) if bytes <= SIZE_MAX => Ok(bytes),
        _ => refuse(text, WHAT, "it is larger than 2^63 bytes"),
    }
}

/// `1.25` as (125, 100): what fits 64 bits, three digits after the point; no sign, no exponent.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, part) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, part)) => (whole, part),
        None => (text, ""),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(part.len()).ok()?);
    Some((format!("{whole}{part}").parse().ok()?, scale))
}

/// Prints bytes with the largest unit that is exact; [`size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let exact = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match exact {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// The longest time limit: a year.
pub const SECONDS_MAX: u64 = 365 * 86_400;

const TIME_UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Seconds from `90s`, `1h30m`, `2d`: each unit once, largest first.
pub fn duration(text: &str) -> Result<u64, TextError> {
    const WHAT: &str = "a duration";
    let mut rest = text;
    let mut seconds = 0u64;
    let mut units = TIME_UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (Ok(count), Some(unit)) =
            (rest[..digits].parse::<u64>(), rest[digits..].chars().next())
        else {
            return refuse(
                text,
                WHAT,
                "write numbers with the units d h m s, such as 90s or 1h30m",
            );
        };
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return refuse(
                text,
                WHAT,
                "the units are d h m s, each once, largest first",
            );
        };
        let Some(sum) = count
            .checked_mul(*factor)
            .and_then(|more| seconds.checked_add(more))
        else {
            return refuse(text, WHAT, "it is longer than 365d");
        };
        seconds = sum;
        rest = &rest[digits + 1..];
    }
    match seconds {
        0 if text.is_empty() => refuse(text, WHAT, "it is empty"),
        0 => refuse(text, WHAT, "nothing can run in no time"),
        1..=SECONDS_MAX => Ok(seconds),
        _ => refuse(text, WHAT, "it is longer than 365d"),
    }
}

/// Prints seconds as [`duration`] reads them.
pub fn format_duration(seconds: u64) -> String {
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, factor) in TIME_UNITS {
        if rest >= factor {
            text += &format!("{}{unit}", rest / factor);
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Fewest thousandths of a CPU: cpu.max takes no quota below 1 ms of its 100 ms period (cgroup-v2.rst).
pub const MILLI_CPUS_MIN: u32 = 10;
/// Most thousandths of a CPU: x86's largest NR_CPUS is 8192.
pub const MILLI_CPUS_MAX: u32 = 8_192_000;

/// Thousandths of a CPU from `1.5`.
pub fn cpus(text: &str) -> Result<u32, TextError> {
    const WHAT: &str = "a number of CPUs";
    let Some((value, scale)) = decimal(text) else {
        return refuse(
            text,
            WHAT,
            "write a number such as 2 or 1.5, with three decimals at most",
        );
    };
    let milli = value
        .checked_mul(1000 / scale)
        .and_then(|milli| u32::try_from(milli).ok());
    match milli {
        Some(milli @ MILLI_CPUS_MIN..=MILLI_CPUS_MAX) => Ok(milli),
        Some(0..MILLI_CPUS_MIN) => refuse(text, WHAT, "the least is 0.01"),
        _ => refuse(text, WHAT, "the most is 8192"),
    }
}

/// Prints thousandths of a CPU as [`cpus`] reads them: `2`, `1.5`.
pub fn format_cpus(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A name of a sandbox or a policy: `[a-z0-9][a-z0-9_.-]{0,62}`.
pub fn name(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "a name";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(plain) {
        return refuse(text, WHAT, "it must begin with a-z or 0-9");
    }
    if !text.chars().all(|c| plain(c) || "_.-".contains(c)) {
        return refuse(text, WHAT, "it may hold a-z 0-9 _ . - only");
    }
    if text.len() > 63 {
        return refuse(text, WHAT, "it is longer than 63 characters");
    }
    Ok(text.to_owned())
}

/// Name of an environment variable, as POSIX has them: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn env_name(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "a variable name";
    if text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() {
        return refuse(text, WHAT, "it must begin with a letter or _");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return refuse(text, WHAT, "it may hold letters, digits and _ only");
    }
    if text.len() > 255 {
        return refuse(text, WHAT, "it is longer than 255 characters");
    }
    Ok(text.to_owned())
}

/// A variable name, or the beginning of one followed by `*`.
pub fn env_pattern(text: &str) -> Result<String, TextError> {
    match text.strip_suffix('*') {
        Some("") => refuse(
            text,
            "a variable name",
            "it would pass everything the caller has",
        ),
        Some(beginning) => env_name(beginning).map(|_| text.to_owned()),
        None => env_name(text),
    }
}

/// Whether a variable of this name is passed by `pattern`.
pub fn env_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// A value of an environment variable: no NUL, and short enough for execve(2) (MAX_ARG_STRLEN, 128 KiB).
pub fn env_value(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "a variable's value";
    if text.contains('\0') {
        return refuse(text, WHAT, "it holds a NUL byte");
    }
    if text.len() > 120 * 1024 {
        return refuse("…", WHAT, "it is longer than 120 KiB");
    }
    Ok(text.to_owned())
}

/// An absolute path without `..`, printed without `.`, doubled and trailing slashes.
pub fn absolute_path(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "an absolute path";
    if !text.starts_with('/') {
        return refuse(text, WHAT, "it must begin with /");
    }
    Ok(format!("/{}", components(text, WHAT)?.join("/")))
}

/// A path below some directory: not absolute, not empty, without `..`.
pub fn relative_path(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "a relative path";
    if text.starts_with('/') {
        return refuse(text, WHAT, "it must not begin with /");
    }
    let parts = components(text, WHAT)?;
    if parts.is_empty() {
        return refuse(text, WHAT, "it names the directory itself");
    }
    Ok(parts.join("/"))
}

/// The components of a path; limits are PATH_MAX and NAME_MAX of limits.h.
fn components<'a>(text: &'a str, what: &'static str) -> Result<Vec<&'a str>, TextError> {
    if text.chars().any(char::is_control) {
        return refuse(text, what, "it holds a control character");
    }
    if text.len() > 4095 {
        return refuse("…", what, "it is longer than 4095 bytes");
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return refuse(text, what, "`..` is not allowed, write where it leads");
    }
    if parts.iter().any(|part| part.len() > 255) {
        return refuse("…", what, "a component is longer than 255 bytes");
    }
    Ok(parts)
}

/// A reason or a description: one line, not empty.
pub fn sentence(text: &str) -> Result<String, TextError> {
    const WHAT: &str = "a line of text";
    if text.trim().is_empty() {
        return refuse(text, WHAT, "it is empty");
    }
    if text.chars().any(char::is_control) {
        return refuse(text, WHAT, "it holds a control character");
    }
    if text.len() > 1000 {
        return refuse("…", WHAT, "it is longer than 1000 bytes");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cause<T: fmt::Debug>(result: Result<T, TextError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn sizes() {
        let good = [
            ("4096", 4096),
            ("1b", 1),
            ("512M", 512 << 20),
            ("512m", 512 << 20),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
            ("0.5K", 512),
            ("9223372036854775807", SIZE_MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes() {
        let bad = [
            ("0", "\"0\" is not a size: nothing fits into 0 bytes"),
            ("0G", "\"0G\" is not a size: nothing fits into 0 bytes"),
            (
                "",
                "\"\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "G",
                "\"G\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "-1",
                "\"-1\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                " 1G",
                "\" 1G\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "1 G",
                "\"1 G\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "1e9",
                "\"1e9\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "1.2345G",
                "\"1.2345G\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "1GB",
                "\"1GB\" is not a size: unknown unit \"gb\", the units are B K M G T",
            ),
            (
                "1.3K",
                "\"1.3K\" is not a size: it is no whole number of bytes",
            ),
            (
                "8388608T",
                "\"8388608T\" is not a size: it is larger than 2^63 bytes",
            ),
            (
                "18446744073709551616",
                "\"18446744073709551616\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
            (
                "٣G",
                "\"٣G\" is not a size: write digits and a unit, such as 512M or 1.5G",
            ),
        ];
        for (text, message) in bad {
            assert_eq!(cause(size(text)), message);
        }
    }

    #[test]
    fn durations() {
        let good = [
            ("90s", 90),
            ("1h", 3600),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d1s", 86_401),
        ];
        for (text, seconds) in good {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        let bad = [
            ("", "it is empty"),
            ("0s", "nothing can run in no time"),
            (
                "90",
                "write numbers with the units d h m s, such as 90s or 1h30m",
            ),
            (
                "h",
                "write numbers with the units d h m s, such as 90s or 1h30m",
            ),
            ("1m1h", "the units are d h m s, each once, largest first"),
            ("1s1s", "the units are d h m s, each once, largest first"),
            ("1w", "the units are d h m s, each once, largest first"),
            ("1é", "the units are d h m s, each once, largest first"),
            ("366d", "it is longer than 365d"),
            ("9999999999999999999d", "it is longer than 365d"),
        ];
        for (text, why) in bad {
            assert_eq!(
                cause(duration(text)),
                format!("{text:?} is not a duration: {why}")
            );
        }
    }

    #[test]
    fn cpu_counts() {
        for (text, milli) in [
            ("2", 2000),
            ("1.5", 1500),
            ("0.01", 10),
            ("0.125", 125),
            ("8192", 8_192_000),
        ] {
            assert_eq!(cpus(text), Ok(milli), "{text}");
        }
        for text in [
            "0",
            "0.009",
            "8193",
            "-1",
            "nan",
            "inf",
            "1.",
            ".5",
            "1.0000",
            "99999999999999999999",
        ] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["a", "0", "ci-acme", "a_b.c", &"a".repeat(63)] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "-a",
            ".a",
            "A",
            "a/b",
            "a b",
            "é",
            "a\0",
            &"a".repeat(64),
        ] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables() {
        assert!(env_name("_X9").is_ok());
        for text in ["", "9X", "A-B", "A=B", "A\0", "A*"] {
            assert!(env_name(text).is_err(), "{text:?}");
        }
        assert!(env_pattern("CI_*").is_ok());
        for text in ["*", "*A", "A*B", "A**"] {
            assert!(env_pattern(text).is_err(), "{text:?}");
        }
        assert!(env_matches("CI_*", "CI_JOB") && !env_matches("CI_*", "CI"));
        assert!(env_matches("CI", "CI") && !env_matches("CI", "CI_JOB"));
        assert!(env_value("a\nb").is_ok() && env_value("a\0").is_err());
    }

    #[test]
    fn paths() {
        for (text, path) in [
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("/./a/.", "/a"),
            ("/a b", "/a b"),
        ] {
            assert_eq!(absolute_path(text).as_deref(), Ok(path));
        }
        for text in ["", "a", "/..", "/a/../b", "/a\0", "/a\nb", "/a\u{1b}"] {
            assert!(absolute_path(text).is_err(), "{text:?}");
        }
        assert!(absolute_path(&format!("/{}", "a".repeat(256))).is_err());
        assert!(absolute_path(&"/a".repeat(2048)).is_err());
        assert_eq!(relative_path(".git//hooks/").as_deref(), Ok(".git/hooks"));
        for text in ["", ".", "/a", "..", "a/../b"] {
            assert!(relative_path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sentences() {
        assert!(sentence("apt works").is_ok());
        for text in ["", "  ", "a\nb", &"a".repeat(1001)] {
            assert!(sentence(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes in 0..=SIZE_MAX) {
            prop_assert_eq!(size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_round_trip(seconds in 1..=SECONDS_MAX) {
            prop_assert_eq!(duration(&format_duration(seconds)), Ok(seconds));
        }

        #[test]
        fn cpus_round_trip(milli in MILLI_CPUS_MIN..=MILLI_CPUS_MAX) {
            prop_assert_eq!(cpus(&format_cpus(milli)), Ok(milli));
        }

        #[test]
        fn readers_are_total(text in ".*") {
            let refused = [
                size(&text).is_err(),
                duration(&text).is_err(),
                cpus(&text).is_err(),
                name(&text).is_err(),
                env_pattern(&text).is_err(),
            ];
            prop_assert!(text.is_ascii() || refused.iter().all(|refused| *refused));
        }

        #[test]
        fn a_normal_path_stays_itself(text in "[/.a-z]{0,40}") {
            if let Ok(path) = absolute_path(&text) {
                prop_assert_eq!(absolute_path(&path), Ok(path.clone()));
                prop_assert!(!path.contains("//") && (path == "/" || !path.ends_with('/')));
            }
        }
    }
}
