//! Reads a tree into [`Settings`] and finds every mistake in it, not just the first.
//!
//! serde stops at the first mistake. So the tree is read again and again: each time the mistake is
//! noted and the value that caused it is taken out of the tree, until what is left can be read.

use std::fmt;

use posthaste_core::finding::{Finding, Severity};
use serde::de::value::SeqDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::DeValue;

use super::Settings;
use super::nearest::nearest;
use super::tree::{Node, Origin, Value};

/// Reads `tree`. What could not be read is left out of the settings and is a finding.
pub(crate) fn read(mut tree: Node) -> (Settings, Vec<Finding>) {
    let mut findings = Vec::new();
    loop {
        let fault = match Settings::deserialize(&tree) {
            Ok(settings) => return (settings, findings),
            Err(fault) => fault,
        };
        let path: Vec<&str> = fault.path.iter().rev().map(String::as_str).collect();
        let origin = tree.at(&path).and_then(|node| node.origin.clone());
        findings.push(fault.finding(&path, origin.as_ref()));
        if tree.remove(&path).is_none() {
            return (Settings::default(), findings);
        }
    }
}

/// A mistake, and the names on the way to it, innermost first.
#[derive(Debug)]
pub(crate) struct Fault {
    mistake: Mistake,
    path: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Mistake {
    UnknownField { valid: &'static [&'static str] },
    UnknownWord { word: String, valid: &'static [&'static str] },
    Other(String),
}

impl Fault {
    fn new(mistake: Mistake) -> Self {
        Self { mistake, path: Vec::new() }
    }

    fn within(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }

    fn finding(&self, path: &[&str], origin: Option<&Origin>) -> Finding {
        let list = |valid: &[&str]| valid.join(", ");
        let (what, advice) = match &self.mistake {
            Mistake::UnknownField { valid } => {
                let typed = path.last().copied().unwrap_or_default();
                let advice = match nearest(typed, valid.iter().copied()) {
                    Some(meant) => format!("did you mean '{meant}'?"),
                    None => format!("valid here: {}", list(valid)),
                };
                ("unknown field".to_owned(), Some(advice))
            }
            Mistake::UnknownWord { word, valid } => {
                (format!("'{word}' is not one of: {}", list(valid)), None)
            }
            Mistake::Other(what) => (what.clone(), None),
        };
        let mut finding = Finding::new(Severity::Problem, path.join("."), located(&what, origin));
        finding.advice = advice;
        finding
    }
}

/// What was found, with where the value came from.
pub(crate) fn located(what: &str, origin: Option<&Origin>) -> String {
    match origin {
        Some(origin) => format!("{what} ({origin})"),
        None => what.to_owned(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.mistake)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Mistake::Other(message.to_string()))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Mistake::UnknownField { valid: expected })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Mistake::UnknownWord { word: variant.to_owned(), valid: expected })
    }
}

/// Numbers may be typed as text in an environment variable or a flag.
macro_rules! number {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match &self.value {
                Value::Typed(text) => match text.trim().parse::<i64>() {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => Err(Fault::invalid_type(self.value.unexpected(), &visitor)),
                },
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

/// The texts of a list that was typed; `None` if it is none.
fn typed_list(text: &str) -> Option<Vec<String>> {
    if !text.contains(['[', ']', '"', '\'']) {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Some(parts.map(str::to_owned).collect());
    }
    let parsed = DeValue::parse(text.trim()).ok()?;
    let DeValue::Array(parts) = parsed.into_inner() else { return None };
    let text = |part: Spanned<DeValue<'_>>| match part.into_inner() {
        DeValue::String(text) => Some(text.into_owned()),
        _ => None,
    };
    parts.into_iter().map(text).collect()
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    number!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64);

    /// `true` or `false` may be typed as text as well.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Typed(text) => match text.trim() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => Err(Fault::invalid_type(self.value.unexpected(), &visitor)),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// And a list, with commas or as it would stand in the file.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Typed(text) => match typed_list(text) {
                Some(parts) => visitor.visit_seq(SeqDeserializer::new(parts.into_iter())),
                None => Err(Fault::custom("it must be a list: a,b or [\"a\", \"b\"]")),
            },
            Value::List(_) => self.deserialize_any(visitor),
            _ => Err(Fault::custom("it must be a list, as in [\"a\", \"b\"]")),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(text) | Value::Typed(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Date => Err(Fault::invalid_type(self.value.unexpected(), &visitor)),
            Value::List(nodes) => visitor.visit_seq(SeqDeserializer::new(nodes.iter())),
            Value::Table(table) => visitor.visit_map(Entries { nodes: table.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        valid: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Text(word) | Value::Typed(word) => {
                visitor.visit_enum(word.as_str().into_deserializer())
            }
            _ => Err(Fault::custom(format!("it must be one of: {}", valid.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The entries of a table, which put their names on the path of what goes wrong in them.
struct Entries<'de> {
    nodes: std::collections::btree_map::Iter<'de, String, Node>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((name, node)) = self.nodes.next() else { return Ok(None) };
        self.value = Some((name, node));
        let name = name.as_str();
        let read = seed.deserialize(name.into_deserializer());
        read.map(Some).map_err(|fault: Fault| fault.within(name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, node)) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its name"));
        };
        seed.deserialize(node).map_err(|fault| fault.within(name))
    }
}
