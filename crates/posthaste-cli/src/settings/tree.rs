//! The settings of one or several layers as a tree of values, each with where it came from.
//!
//! The file, the environment and the flags become trees of the same form, are laid over each other
//! and are then read together, so that the mistakes of all of them are found in one go.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Unexpected;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line (from 1) of the file of this name.
    File {
        /// As it was named.
        name: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it came from; `None` for the root.
    pub(crate) origin: Option<Origin>,
    /// What it is.
    pub(crate) value: Value,
}

/// A value of the settings.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text in quotes.
    Text(String),
    /// Text of an environment variable or a flag, which may also stand for a number.
    Typed(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date or a time, which no setting takes.
    Date,
    /// A list.
    List(Vec<Node>),
    /// Names and values.
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What an error says was found.
    pub(crate) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Text(text) | Self::Typed(text) => Unexpected::Str(text),
            Self::Integer(number) => Unexpected::Signed(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Boolean(value) => Unexpected::Bool(*value),
            Self::Date => Unexpected::Other("date"),
            Self::List(_) => Unexpected::Other("list"),
            Self::Table(_) => Unexpected::Other("table"),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { origin: None, value: Value::Table(BTreeMap::new()) }
    }
}

impl Node {
    /// Reads a file's text. Syntax errors come as lines and messages; what stands around them is
    /// read nevertheless. The messages never quote the file, because it may hold passwords.
    pub(crate) fn from_toml(name: &str, text: &str) -> (Self, Vec<(usize, String)>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines { name, text };
        let errors = errors.into_iter().map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (lines.number(at), error.message().trim().replace('\n', "; "))
        });
        let errors = errors.collect();
        (Self { origin: None, value: lines.table(table.into_inner()) }, errors)
    }

    /// Sets the value at a path of names separated by dots.
    pub(crate) fn assign(&mut self, path: &str, value: String, origin: Origin) {
        let mut node = self;
        for name in path.split('.') {
            node = node.table_mut().entry(name.to_owned()).or_insert_with(|| Self {
                origin: Some(origin.clone()),
                value: Value::Table(BTreeMap::new()),
            });
        }
        *node = Self { origin: Some(origin), value: Value::Typed(value) };
    }

    /// Lays `upper` over this: what it sets replaces what is here.
    pub(crate) fn overlay(&mut self, upper: Self) {
        match (&mut self.value, upper) {
            (Value::Table(below), Self { value: Value::Table(above), .. }) => {
                for (name, node) in above {
                    match below.get_mut(&name) {
                        Some(present) => present.overlay(node),
                        None => {
                            below.insert(name, node);
                        }
                    }
                }
            }
            (_, upper) => *self = upper,
        }
    }

    /// The value at a path, if there is one.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((name, rest)) = path.split_first() else { return Some(self) };
        match &self.value {
            Value::Table(table) => table.get(*name)?.at(rest),
            _ => None,
        }
    }

    /// Takes the value at a path out of the tree.
    pub(crate) fn remove(&mut self, path: &[&str]) -> Option<Self> {
        let Value::Table(table) = &mut self.value else { return None };
        match path {
            [] => None,
            [name] => table.remove(*name),
            [name, rest @ ..] => table.get_mut(*name)?.remove(rest),
        }
    }

    /// The origins of everything in the tree, by path.
    pub(crate) fn origins(&self) -> BTreeMap<String, Origin> {
        fn walk(node: &Node, path: &str, origins: &mut BTreeMap<String, Origin>) {
            if let Some(origin) = &node.origin {
                origins.insert(path.to_owned(), origin.clone());
            }
            if let Value::Table(table) = &node.value {
                for (name, below) in table {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(below, &path, origins);
                }
            }
        }
        let mut origins = BTreeMap::new();
        walk(self, "", &mut origins);
        origins
    }

    fn table_mut(&mut self) -> &mut BTreeMap<String, Self> {
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(BTreeMap::new());
        }
        match &mut self.value {
            Value::Table(table) => table,
            _ => unreachable!("it has just been made a table"),
        }
    }
}

/// Turns offsets in the file into lines.
struct Lines<'a> {
    name: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn number(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    fn table(&self, table: DeTable<'_>) -> Value {
        let nodes = table.into_iter().map(|(name, value)| {
            let line = self.number(name.span().start);
            (name.into_inner().into_owned(), self.node(line, value.into_inner()))
        });
        Value::Table(nodes.collect())
    }

    fn node(&self, line: usize, value: DeValue<'_>) -> Node {
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Float(f64::INFINITY),
                }
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => Value::List(
                list.into_iter()
                    .map(|item| self.node(self.number(item.span().start), item.into_inner()))
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table),
        };
        Node { origin: Some(Origin::File { name: self.name.to_owned(), line }), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let (tree, errors) =
            Node::from_toml("a.toml", "[relay]\nwindow = 5\n\n[log]\nlevel = 'x'\n");
        assert!(errors.is_empty());
        let origins = tree.origins();
        let line = |path: &str| origins[path].to_string();
        assert_eq!(line("relay.window"), "a.toml line 2");
        assert_eq!(line("log.level"), "a.toml line 5");
    }

    #[test]
    fn what_is_above_replaces_only_what_it_sets() {
        let (mut tree, _) = Node::from_toml("a.toml", "[relay]\nwindow = 5\nother = 6\n");
        let mut flags = Node::default();
        flags.assign("relay.window", "7".into(), Origin::Flag("--set".into()));
        tree.overlay(flags);
        assert!(matches!(tree.at(&["relay", "window"]).unwrap().value, Value::Typed(_)));
        assert!(matches!(tree.at(&["relay", "other"]).unwrap().value, Value::Integer(6)));
    }

    #[test]
    fn a_syntax_error_has_a_line_and_never_quotes_the_file() {
        let text = "[broker]\nurl = \"amqp://u:canary-9931@h\nx = = 1\n[log]\nlevel = \"info\"\n";
        let (_, errors) = Node::from_toml("a.toml", text);
        assert!(!errors.is_empty());
        for (line, message) in errors {
            assert!((2..=5).contains(&line), "{line}: {message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }
}
