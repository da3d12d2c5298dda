//! An answer of the Eureka registry in JSON.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};

use super::{
    instance::{Action, Instance, InstanceJson},
    registry::Registry,
};

/// The maximum number of instances in an answer. A Zowe installation has a few dozen.
const MAX_INSTANCES: usize = 10_000;

/// The maximum length of a hash code, in bytes. There are five statuses, so a hash code has fewer than 100 bytes.
const MAX_HASH_CODE: usize = 256;

/// An answer of the registry: a list of instances. `/eureka/apps` answers with all instances, and `/eureka/apps/delta`
/// answers with the instances that have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub(super) hash_code: Option<String>,
    pub(super) instances: Vec<(Instance, Action)>,
}

impl Document {
    /// Reads an answer in JSON. Unknown members are ignored. `application` and `instance` can be lists or single
    /// objects, and numbers and booleans can be text. This function also reads the answers of `/eureka/apps/APP` and
    /// `/eureka/apps/APP/INSTANCE`.
    ///
    /// # Errors
    /// [`ParseError`] if the answer is not JSON, is not the answer of a registry, or has more than 10,000 instances.
    pub fn parse(json: &[u8]) -> Result<Self, ParseError> {
        let mut document = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let root = Level { kind: Kind::Root, into: &mut document };
        let found = root.deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
        match found {
            Ok(Found(true)) => Ok(document),
            Ok(Found(false)) => Err(ParseError::NoRegistry),
            Err(error) if document.instances.len() >= MAX_INSTANCES && error.is_data() => {
                Err(ParseError::TooManyInstances)
            }
            Err(error) => Err(ParseError::Json { line: error.line(), column: error.column() }),
        }
    }

    /// Returns `apps__hashcode`, the hash code of the whole registry, if the answer contains it.
    pub fn hash_code(&self) -> Option<&str> {
        self.hash_code.as_deref()
    }

    /// Returns each instance of the answer, and how it has changed.
    pub fn instances(&self) -> impl Iterator<Item = (&Instance, Action)> {
        self.instances.iter().map(|(instance, action)| (instance, *action))
    }

    /// Makes a registry of all instances in the answer. If two instances of a service have the same id, the last one
    /// counts.
    pub fn into_registry(self) -> Registry {
        self.instances.into_iter().map(|(instance, _)| instance).collect()
    }
}

/// Why an answer cannot be read. The error contains no part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The answer is not JSON, or a member has the wrong type.
    #[error("the answer is not the expected JSON (line {line}, column {column})")]
    Json {
        /// The line of the problem. The first line is 1.
        line: usize,
        /// The column of the problem.
        column: usize,
    },
    /// The answer is JSON, but contains neither applications nor instances.
    #[error(
        "the answer is JSON, but not a registry; set the address of Eureka, such as https://zos1:7553/eureka"
    )]
    NoRegistry,
    /// The answer contains more than 10,000 instances.
    #[error("the answer has more than {MAX_INSTANCES} instances")]
    TooManyInstances,
}

/// Whether the answer contained applications or instances. An answer without both is not the answer of a registry.
struct Found(bool);

/// One level of the answer. All levels add their instances to one [`Document`], so that the number of instances is
/// limited while the answer is read.
struct Level<'d> {
    kind: Kind,
    into: &'d mut Document,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `{"applications": …}`, `{"application": …}` or `{"instance": …}`.
    Root,
    /// `{"apps__hashcode": …, "application": …}`.
    Applications,
    /// `{"name": …, "instance": …}`, or a list of them.
    Application,
    Instance,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a registry")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found(self.kind != Kind::Root))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        if !matches!(self.kind, Kind::Application | Kind::Instance) {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        // An item of this list must not be a list itself.
        while items
            .next_element_seed(Item(Level { kind: self.kind, into: &mut *self.into }))?
            .is_some()
        {}
        Ok(Found(true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        if self.kind == Kind::Instance {
            if self.into.instances.len() >= MAX_INSTANCES {
                return Err(de::Error::custom("too many instances"));
            }
            let instance = InstanceJson::deserialize(MapAccessDeserializer::new(members))?;
            self.into.instances.push(instance.read());
            return Ok(Found(true));
        }
        let mut found = self.kind != Kind::Root;
        while let Some(name) = members.next_key::<Name>()? {
            let kind = match (self.kind, name) {
                (Kind::Root, Name::Applications) => Kind::Applications,
                (Kind::Root | Kind::Applications, Name::Application) => Kind::Application,
                (Kind::Root | Kind::Application, Name::Instance) => Kind::Instance,
                (Kind::Applications, Name::HashCode) => {
                    self.into.hash_code = members.next_value::<HashCode>()?.0;
                    continue;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let Found(is_part) = members.next_value_seed(Level { kind, into: &mut *self.into })?;
            found |= is_part;
        }
        Ok(Found(found))
    }
}

/// An item of a list. It must be an object.
struct Item<'d>(Level<'d>);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self.0).map(drop)
    }
}

#[derive(Deserialize)]
enum Name {
    #[serde(rename = "applications")]
    Applications,
    #[serde(rename = "application")]
    Application,
    #[serde(rename = "instance")]
    Instance,
    #[serde(rename = "apps__hashcode")]
    HashCode,
    #[serde(other)]
    Other,
}

/// A hash code. If the value is no text, or is too long, it counts as absent. The delta is then not used.
struct HashCode(Option<String>);

impl<'de> Deserialize<'de> for HashCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Text(String),
            Other(IgnoredAny),
        }
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Text(text) if text.len() <= MAX_HASH_CODE => Some(text),
            Value::Text(_) | Value::Other(IgnoredAny) => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<String, ParseError> {
        let document = Document::parse(json.as_bytes())?;
        let ids: Vec<_> = document.instances().map(|(instance, _)| instance.id.as_str()).collect();
        Ok(format!("{} {}", document.hash_code().unwrap_or("-"), ids.join(",")))
    }

    #[test]
    fn lists_may_be_single_objects() {
        let a = r#"{"instanceId":"a"}"#;
        let b = r#"{"instanceId":"b"}"#;
        for (json, want) in [
            (
                format!(
                    r#"{{"applications":{{"apps__hashcode":"UP_2_","application":[{{"instance":[{a},{b}]}}]}}}}"#
                ),
                "UP_2_ a,b",
            ),
            (
                format!(r#"{{"applications":{{"application":{{"name":"X","instance":{a}}}}}}}"#),
                "- a",
            ),
            (
                format!(
                    r#"{{"applications":{{"application":[{{"instance":{a}}},{{"instance":[{b}]}}]}}}}"#
                ),
                "- a,b",
            ),
            (format!(r#"{{"application":{{"name":"X","instance":[{a}]}}}}"#), "- a"),
            (format!(r#"{{"instance":{a}}}"#), "- a"),
            (
                r#"{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}"#
                    .to_owned(),
                " ",
            ),
            (r#"{"applications":{"apps__hashcode":7,"application":null}}"#.to_owned(), "- "),
            (r#"{"applications":{"apps__hashcode":null,"x":[[{}]]},"y":1}"#.to_owned(), "- "),
            (r#"{"applications":{"application":{"instance":[]}}}"#.to_owned(), "- "),
        ] {
            assert_eq!(parse(&json).as_deref(), Ok(want), "{json}");
        }
    }

    #[test]
    fn other_documents_are_errors() {
        for json in ["{}", "null", r#"{"error":"x"}"#, r#"{"applications":null}"#] {
            let want = if json == r#"{"applications":null}"# {
                Ok("- ".to_owned())
            } else {
                Err(ParseError::NoRegistry)
            };
            assert_eq!(parse(json), want, "{json}");
        }
        for json in [
            "",
            "x",
            "[]",
            "7",
            r#""text""#,
            "<applications/>",
            r#"{"applications":{"application":[]}} x"#,
            r#"{"applications":{"application":[{"instance":[{"instanceId":"a"}"#,
            r#"{"applications":[]}"#,
            r#"{"applications":{"application":[[]]}}"#,
            r#"{"applications":{"application":{"instance":[7]}}}"#,
            r#"{"applications":"x"}"#,
        ] {
            assert!(
                matches!(parse(json), Err(ParseError::Json { .. })),
                "{json}: {:?}",
                parse(json)
            );
        }
        // Values that are ignored are skipped without recursion.
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(&deep), Err(ParseError::NoRegistry));
        let deep = format!(r#"{{"instance":{{"metadata":{{"x":{}}}}}"#, "[".repeat(100_000));
        assert!(matches!(parse(&deep), Err(ParseError::Json { .. })));
    }

    #[test]
    fn the_number_of_instances_is_limited_over_all_applications() {
        let json = |count: usize| {
            let half = vec!["{}"; count / 2].join(",");
            format!(
                r#"{{"applications":{{"application":[{{"instance":[{half}]}},{{"instance":[{half}]}}]}}}}"#
            )
        };
        assert!(parse(&json(MAX_INSTANCES)).is_ok());
        assert_eq!(parse(&json(MAX_INSTANCES + 2)), Err(ParseError::TooManyInstances));
    }
}
