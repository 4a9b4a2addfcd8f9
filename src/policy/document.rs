//! [pure] Reading a TOML document into typed values, with every mistake in its place.
//!
//! A [`Field`] is what a key holds: one value, a list, a map, a table. A
//! [`Leaf`] is a single value. `schema` declares which keys there are.

use crate::source::diagnostic::Diagnostic;
use crate::source::mistakes::Mistakes;
use crate::source::nearest::nearest;
use crate::source::text::{At, Source, Written};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml_edit::{ArrayOfTables, InlineTable, Item, TableLike, Value};

/// What a key holds.
pub trait Field: Default {
    /// Reads it; mistakes go to the reader, and what is wrong is left out.
    fn read(node: &Node<'_>, reader: &mut Reader) -> Self;
    /// Lays a later layer over this one.
    fn layer(&mut self, later: Self);
    /// What may be written here.
    fn shape() -> Shape;
}

/// A single value.
pub trait Leaf: Sized {
    /// What to write, with an article: `a size such as "512M"`.
    fn expected() -> String;
    /// Reads it.
    fn read(value: &Value) -> Result<Self, Mistake>;
    /// Its JSON Schema.
    fn json_schema() -> Json;
}

/// Why a value is no `Leaf` of its kind.
#[derive(Debug)]
pub enum Mistake {
    /// It has another type.
    Type,
    /// The type is right; what is wrong, in one line.
    Content(String),
}

/// What may be written at a key: the language as a value.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One value, by its JSON Schema.
    One(Json),
    /// A list of values or tables.
    List(Box<Shape>),
    /// Names with a value each: the schema of a value, and the pattern of the names.
    Map(Json, &'static str),
    /// A table.
    Table(Vec<Key>),
}

/// A key of the language.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it means and what relaxing it allows.
    pub about: &'static str,
    /// What it holds.
    pub shape: Shape,
}

impl Shape {
    /// The keys of a table, or of the tables in a list.
    pub fn keys(&self) -> &[Key] {
        match self {
            Self::Table(keys) => keys,
            Self::List(element) => element.keys(),
            Self::One(_) | Self::Map(..) => &[],
        }
    }
}

/// A part of a document.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    part: Part<'a>,
    span: Range<usize>,
}

#[derive(Clone, Debug)]
enum Part<'a> {
    Value(&'a Value),
    Table(&'a toml_edit::Table),
    Inline(&'a InlineTable),
    Tables(&'a ArrayOfTables),
}

impl<'a> Node<'a> {
    /// The whole document.
    pub fn document(table: &'a toml_edit::Table) -> Self {
        Self {
            part: Part::Table(table),
            span: 0..0,
        }
    }

    /// A table that is only implied by a longer key has no span of its own: then the key's is used.
    fn of(item: &'a Item, key: Range<usize>) -> Option<Self> {
        let span = item.span().unwrap_or(key);
        let part = match item {
            Item::None => return None,
            Item::Value(Value::InlineTable(table)) => Part::Inline(table),
            Item::Value(value) => Part::Value(value),
            Item::Table(table) => Part::Table(table),
            Item::ArrayOfTables(tables) => Part::Tables(tables),
        };
        Some(Self { part, span })
    }

    fn table(&self) -> Option<&'a dyn TableLike> {
        match self.part {
            Part::Table(table) => Some(table),
            Part::Inline(table) => Some(table),
            Part::Value(_) | Part::Tables(_) => None,
        }
    }

    fn elements(&self) -> Option<Vec<Node<'a>>> {
        let within = || self.span.clone();
        match self.part {
            Part::Value(Value::Array(array)) => {
                let element = |value: &'a Value| Self {
                    span: value.span().unwrap_or_else(within),
                    part: match value {
                        Value::InlineTable(table) => Part::Inline(table),
                        value => Part::Value(value),
                    },
                };
                Some(array.iter().map(element).collect())
            }
            Part::Tables(tables) => {
                let element = |table: &'a toml_edit::Table| Self {
                    span: table.span().unwrap_or_else(within),
                    part: Part::Table(table),
                };
                Some(tables.iter().map(element).collect())
            }
            Part::Value(_) | Part::Table(_) | Part::Inline(_) => None,
        }
    }

    /// What stands here, with an article.
    fn found(&self) -> &'static str {
        match self.part {
            Part::Value(Value::String(_)) => "a string",
            Part::Value(Value::Integer(_)) => "an integer",
            Part::Value(Value::Float(_)) => "a float",
            Part::Value(Value::Boolean(_)) => "a boolean",
            Part::Value(Value::Datetime(_)) => "a date",
            Part::Value(Value::Array(_)) => "a list",
            Part::Tables(_) => "a list of tables",
            Part::Value(Value::InlineTable(_)) | Part::Table(_) | Part::Inline(_) => "a table",
        }
    }
}

/// Collects mistakes while a document is read.
#[derive(Debug)]
pub struct Reader {
    source: Arc<Source>,
    all_keys: fn() -> Vec<String>,
    path: Vec<String>,
    mistakes: Mistakes,
}

impl Reader {
    /// A reader of `source`; `all_keys` lists the dotted keys that exist, when advice needs them.
    pub fn new(source: Arc<Source>, all_keys: fn() -> Vec<String>) -> Self {
        Self {
            source,
            all_keys,
            path: Vec::new(),
            mistakes: Mistakes::default(),
        }
    }

    /// What was read, if no mistake was found.
    pub fn finish<T>(self, read: T) -> Result<T, Vec<Diagnostic>> {
        self.mistakes.or(read)
    }

    /// Records a mistake at `span`.
    pub fn refuse(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(message).at(self.source.place(span));
        diagnostic.help = help;
        self.mistakes.push(diagnostic);
    }

    fn refuse_type(&mut self, node: &Node<'_>, expected: &str) {
        let message = format!(
            "{}: expected {expected}, found {}",
            self.dotted(),
            node.found()
        );
        self.refuse(node.span.clone(), message, None);
    }

    /// Where `node` is written.
    pub fn at(&self, node: &Node<'_>) -> At {
        At::Text {
            source: Arc::clone(&self.source),
            span: node.span.clone(),
        }
    }

    fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// The known keys of a table with what they hold; anything else is refused.
    pub fn entries<'a>(&mut self, node: &Node<'a>, known: &[&str]) -> Vec<(&'a str, Node<'a>)> {
        let Some(table) = node.table() else {
            self.refuse_type(node, "a table");
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (name, item) in table.iter() {
            let key = table.key(name).and_then(toml_edit::Key::span);
            let key = key.unwrap_or_else(|| node.span.clone());
            if !known.contains(&name) {
                self.refuse_key(name, key, known);
            } else if let Some(child) = Node::of(item, key) {
                entries.push((name, child));
            }
        }
        entries
    }

    /// Runs `read` with `key` added to the dotted path of messages.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let value = read(self);
        self.path.pop();
        value
    }

    fn refuse_key(&mut self, name: &str, span: Range<usize>, known: &[&str]) {
        if !self.mistakes.has_room() {
            return;
        }
        let dotted = self.within(name, |reader| reader.dotted());
        let meant = match nearest(name, known.iter().copied()) {
            Some(near) => Some(self.within(near, |reader| reader.dotted())),
            None if self.path.is_empty() => self.in_some_table(name),
            None => None,
        };
        let help = match meant {
            Some(meant) => format!("the nearest known key is `{meant}`"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.refuse(span, format!("unknown key `{dotted}`"), Some(help));
    }

    /// A key that was written outside its table.
    fn in_some_table(&self, name: &str) -> Option<String> {
        let keys = (self.all_keys)();
        let last = |key: &String| key.rsplit('.').next().map(str::to_owned);
        let names: Vec<String> = keys.iter().filter_map(last).collect();
        let near = nearest(name, names.iter().map(String::as_str))?;
        let at = names.iter().position(|name| name == near)?;
        keys.into_iter().nth(at)
    }

    fn leaf<T: Leaf>(&mut self, node: &Node<'_>) -> Option<Written<T>> {
        let read = match node.part {
            Part::Value(value) => T::read(value),
            Part::Table(_) | Part::Inline(_) | Part::Tables(_) => Err(Mistake::Type),
        };
        match read {
            Ok(value) => return Some(Written::new(value, self.at(node))),
            Err(Mistake::Type) => self.refuse_type(node, &T::expected()),
            Err(Mistake::Content(cause)) => {
                let message = format!("{}: {cause}", self.dotted());
                self.refuse(node.span.clone(), message, None);
            }
        }
        None
    }
}

/// One value; a later layer replaces it.
impl<T: Leaf> Field for Option<Written<T>> {
    fn read(node: &Node<'_>, reader: &mut Reader) -> Self {
        reader.leaf(node)
    }

    fn layer(&mut self, later: Self) {
        if later.is_some() {
            *self = later;
        }
    }

    fn shape() -> Shape {
        Shape::One(T::json_schema())
    }
}

/// What a list may hold: values, or tables that `schema` declares.
pub trait Element: Sized {
    /// Reads one element.
    fn read_element(node: &Node<'_>, reader: &mut Reader) -> Option<Written<Self>>;
    /// What an element may be.
    fn element_shape() -> Shape;
}

impl<T: Leaf> Element for T {
    fn read_element(node: &Node<'_>, reader: &mut Reader) -> Option<Written<Self>> {
        reader.leaf(node)
    }

    fn element_shape() -> Shape {
        Shape::One(T::json_schema())
    }
}

/// Reads a table as an element of a list.
pub fn read_table_element<T: Field>(node: &Node<'_>, reader: &mut Reader) -> Option<Written<T>> {
    if node.table().is_none() {
        let keys: Vec<&str> = T::shape().keys().iter().map(|key| key.name).collect();
        reader.refuse_type(node, &format!("a table {{ {} }}", keys.join(", ")));
        return None;
    }
    let table = T::read(node, reader);
    Some(Written::new(table, reader.at(node)))
}

/// A list; a later layer adds to it.
impl<T: Element> Field for Vec<Written<T>> {
    fn read(node: &Node<'_>, reader: &mut Reader) -> Self {
        let Some(elements) = node.elements() else {
            reader.refuse_type(node, "a list");
            return Vec::new();
        };
        let read = elements
            .iter()
            .filter_map(|element| T::read_element(element, reader));
        read.collect()
    }

    fn layer(&mut self, later: Self) {
        self.extend(later);
    }

    fn shape() -> Shape {
        Shape::List(Box::new(T::element_shape()))
    }
}

/// A name in a map.
pub trait Name: Ord + Sized {
    /// Regular expression of names, for the JSON Schema.
    const PATTERN: &'static str;
    /// Reads a name.
    fn from_name(name: &str) -> Result<Self, String>;
}

/// A map; a later layer adds names and replaces values.
impl<K: Name, T: Leaf> Field for BTreeMap<K, Written<T>> {
    fn read(node: &Node<'_>, reader: &mut Reader) -> Self {
        let Some(table) = node.table() else {
            reader.refuse_type(node, "a table");
            return Self::new();
        };
        let mut map = Self::new();
        for (name, item) in table.iter() {
            let span = table.key(name).and_then(toml_edit::Key::span);
            let span = span.unwrap_or_else(|| node.span.clone());
            match (K::from_name(name), Node::of(item, span.clone())) {
                (Ok(key), Some(child)) => {
                    let value = reader.within(name, |reader| reader.leaf(&child));
                    map.extend(value.map(|value| (key, value)));
                }
                (Err(cause), _) => {
                    let message = format!("{}: {cause}", reader.dotted());
                    reader.refuse(span, message, None);
                }
                (Ok(_), None) => {}
            }
        }
        map
    }

    fn layer(&mut self, later: Self) {
        self.extend(later);
    }

    fn shape() -> Shape {
        Shape::Map(T::json_schema(), K::PATTERN)
    }
}

/// The JSON Schema of a string that matches `pattern`.
pub fn string_schema(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}
