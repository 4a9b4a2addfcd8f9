//! [pure] The kinds of single values of the language: how each is read, described and bounded.

use crate::linux::capability::Capability;
use crate::net::grant::{Ports, Target};
use crate::net::publish::Publish;
use crate::policy::document::{Leaf, Mistake, Name, string_schema};
use crate::policy::text;
use crate::policy::words::Word;
use crate::policy::{WorkspaceUid, flags::Limit};
use crate::source::nearest::nearest;
use serde_json::{Value as Json, json};
use toml_edit::Value;

fn string(value: &Value) -> Result<&str, Mistake> {
    value.as_str().ok_or(Mistake::Type)
}

fn content(error: impl ToString) -> Mistake {
    Mistake::Content(error.to_string())
}

impl<T: Word> Leaf for T {
    fn expected() -> String {
        <T as Word>::expected()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        T::from_word(string(value)?).map_err(Mistake::Content)
    }

    fn json_schema() -> Json {
        json!({ "enum": T::words().collect::<Vec<_>>() })
    }
}

macro_rules! strings {
    ($($(#[doc = $about:literal])+ $name:ident: $read:path, $expected:literal, $pattern:literal;)+) => {
        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub struct $name(pub String);

            impl Leaf for $name {
                fn expected() -> String {
                    $expected.to_owned()
                }

                fn read(value: &Value) -> Result<Self, Mistake> {
                    $read(string(value)?).map(Self).map_err(content)
                }

                fn json_schema() -> Json {
                    string_schema($pattern)
                }
            }
        )+
    };
}

strings! {
    /// The name of a policy.
    PolicyName: text::name, "a name such as \"ci-acme\"", "^[a-z0-9][a-z0-9_.-]{0,62}$";
    /// A reason or a description.
    Sentence: text::sentence, "a line of text", "^[^\\u0000-\\u001f]+$";
    /// A variable name, or the beginning of one and `*`.
    EnvPattern: text::env_pattern, "a variable name such as \"CI\" or \"CI_*\"", "^[A-Za-z_][A-Za-z0-9_]*\\*?$";
    /// The value of a variable.
    EnvValue: text::env_value, "a string", "^[^\\u0000]*$";
    /// A path inside.
    AbsolutePath: text::absolute_path, "an absolute path", "^/";
    /// A path below the workspace.
    RelativePath: text::relative_path, "a path below the workspace", "^[^/]";
    /// A path of the host before its beginning is expanded.
    HostPath: text::sentence, "a path", "^[^\\u0000-\\u001f]+$";
    /// The kernel's name of a system call.
    CallName: text::sentence, "the name of a system call", "^[a-z0-9_]+$";
}

/// A name in `[environment] set`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvName(pub String);

impl Name for EnvName {
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_]*$";

    fn from_name(name: &str) -> Result<Self, String> {
        text::env_name(name)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// `schema = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version;

impl Leaf for Version {
    fn expected() -> String {
        "1".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        match value.as_integer().ok_or(Mistake::Type)? {
            1 => Ok(Self),
            other => Err(Mistake::Content(format!(
                "this program reads version 1 of the language, the file says {other}"
            ))),
        }
    }

    fn json_schema() -> Json {
        json!({ "const": 1 })
    }
}

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    /// Holds a number against the bounds.
    pub fn checked(number: i64) -> Result<Self, String> {
        match u32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{number} is not {}", <Self as Leaf>::expected())),
        }
    }
}

impl<const MIN: u32, const MAX: u32> Leaf for Whole<MIN, MAX> {
    fn expected() -> String {
        format!("an integer from {MIN} to {MAX}")
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        Self::checked(value.as_integer().ok_or(Mistake::Type)?).map_err(Mistake::Content)
    }

    fn json_schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A number of bytes, `MIN` at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size<const MIN: u64>(pub u64);

impl<const MIN: u64> Size<MIN> {
    /// Holds a size against the bound.
    pub fn checked(bytes: u64) -> Result<Self, String> {
        if bytes < MIN {
            let (got, least) = (text::format_size(bytes), text::format_size(MIN));
            return Err(format!("{got} is too small, the least is {least}"));
        }
        Ok(Self(bytes))
    }
}

impl<const MIN: u64> Leaf for Size<MIN> {
    fn expected() -> String {
        "a size such as \"512M\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        let bytes = match value.as_integer() {
            Some(bytes) => u64::try_from(bytes)
                .map_err(|_| Mistake::Content(format!("{bytes} is less than nothing")))?,
            None => text::size(string(value)?).map_err(content)?,
        };
        Self::checked(bytes).map_err(Mistake::Content)
    }

    fn json_schema() -> Json {
        let text = string_schema("^[0-9]+(\\.[0-9]{1,3})?[BKMGTbkmgt]?$");
        json!({ "anyOf": [text, { "type": "integer", "minimum": MIN }] })
    }
}

/// Seconds, written as a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl Leaf for Seconds {
    fn expected() -> String {
        "a duration such as \"1h30m\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        text::duration(string(value)?).map(Self).map_err(content)
    }

    fn json_schema() -> Json {
        string_schema("^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$")
    }
}

/// Thousandths of a CPU, written as a number of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MilliCpus(pub u32);

impl Leaf for MilliCpus {
    fn expected() -> String {
        "a number of CPUs such as 1.5".to_owned()
    }

    /// A float is read by its shortest decimal form, so that 0.1 is a tenth.
    fn read(value: &Value) -> Result<Self, Mistake> {
        let written = match value {
            Value::Integer(number) => number.value().to_string(),
            Value::Float(number) => number.value().to_string(),
            Value::String(_) | Value::Boolean(_) | Value::Datetime(_) => return Err(Mistake::Type),
            Value::Array(_) | Value::InlineTable(_) => return Err(Mistake::Type),
        };
        text::cpus(&written).map(Self).map_err(content)
    }

    fn json_schema() -> Json {
        json!({ "type": "number", "minimum": 0.01, "maximum": 8192 })
    }
}

/// A limit, or the word that lifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited<T>(pub Limit<T>);

/// The word that lifts a limit.
pub const UNLIMITED: &str = "unlimited";

impl<T: Leaf> Leaf for Limited<T> {
    fn expected() -> String {
        format!("{} or {UNLIMITED:?}", T::expected())
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        match value.as_str() {
            Some(UNLIMITED) => Ok(Self(None)),
            _ => T::read(value).map(|limit| Self(Some(limit))),
        }
    }

    fn json_schema() -> Json {
        json!({ "anyOf": [T::json_schema(), { "const": UNLIMITED }] })
    }
}

impl Leaf for WorkspaceUid {
    fn expected() -> String {
        "0 or \"caller\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        match (value.as_integer(), value.as_str()) {
            (Some(0), _) => Ok(Self::Zero),
            (_, Some("caller")) => Ok(Self::Caller),
            (Some(other), _) => Err(Mistake::Content(format!("{other} is not 0 or \"caller\""))),
            (_, Some(other)) => Err(Mistake::Content(format!(
                "{other:?} is not 0 or \"caller\""
            ))),
            (None, None) => Err(Mistake::Type),
        }
    }

    fn json_schema() -> Json {
        json!({ "enum": [0, "caller"] })
    }
}

impl Leaf for Target {
    fn expected() -> String {
        "a name, *.NAME, an address or a network such as \"10.1.2.0/24\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        let text = string(value)?;
        Self::parse(text)
            .map_err(|error| Mistake::Content(format!("{text:?} is no destination: {error}")))
    }

    fn json_schema() -> Json {
        string_schema("^(\\*\\.)?[A-Za-z0-9.-]+(/[0-9]{1,2})?$")
    }
}

impl Leaf for Publish {
    fn expected() -> String {
        "a published port such as \"127.0.0.1:8080:80\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        let text = string(value)?;
        text.parse()
            .map_err(|error| Mistake::Content(format!("{text:?} is no published port: {error}")))
    }

    fn json_schema() -> Json {
        string_schema("^(([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):)?[0-9]{1,5}:[0-9]{1,5}$")
    }
}

/// One port is an integer, several in a row are text.
impl Leaf for Ports {
    fn expected() -> String {
        "a port such as 443 or \"8000-8099\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        let text = match (value.as_integer(), value.as_str()) {
            (Some(port), _) => port.to_string(),
            (None, Some(range)) if range.contains('-') => range.to_owned(),
            (None, Some(other)) => {
                return Err(Mistake::Content(format!(
                    "{other:?} is not {}",
                    Self::expected()
                )));
            }
            (None, None) => return Err(Mistake::Type),
        };
        Self::parse(&text).map_err(|error| Mistake::Content(format!("{text} is no port: {error}")))
    }

    fn json_schema() -> Json {
        let port = json!({ "type": "integer", "minimum": 1, "maximum": 65_535 });
        json!({ "anyOf": [port, string_schema("^[0-9]{1,5}-[0-9]{1,5}$")] })
    }
}

impl Leaf for Capability {
    fn expected() -> String {
        "the name of a capability such as \"CHOWN\"".to_owned()
    }

    fn read(value: &Value) -> Result<Self, Mistake> {
        let name = string(value)?;
        let known = Self::ALL.iter().map(|capability| capability.name());
        Self::from_name(name).ok_or_else(|| {
            let bare = name.strip_prefix("CAP_").unwrap_or(name);
            let meant = nearest(bare, known).map(|near| format!(", did you mean {near:?}?"));
            Mistake::Content(format!(
                "no capability is called {name:?}{}",
                meant.unwrap_or_default()
            ))
        })
    }

    /// Names may carry `CAP_` and be in any case; the schema offers the plain ones.
    fn json_schema() -> Json {
        let names: Vec<&str> = Self::ALL
            .iter()
            .map(|capability| capability.name())
            .collect();
        json!({ "anyOf": [{ "enum": names }, string_schema("^[A-Za-z_]+$")] })
    }
}
