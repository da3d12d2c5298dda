//! Reads an instance from the JSON of Eureka.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The maximum length of the id of an instance or an application, in bytes.
const MAX_ID: usize = 256;

/// The maximum length of a host name (RFC 1035 §2.3.4), in bytes.
const MAX_HOST: usize = 255;

/// The maximum length of a URL, in bytes.
const MAX_URL: usize = 2048;

/// The maximum number of metadata entries of an instance.
const MAX_METADATA: usize = 500;

/// The maximum total length of all metadata names and values of an instance, in bytes.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// The status of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceStatus {
    /// The instance accepts requests.
    Up,
    /// The instance does not accept requests, for example because its health check failed.
    Down,
    /// The instance has not finished its start.
    Starting,
    /// An operator has taken the instance out of service.
    OutOfService,
    /// The status is missing, or it has another value.
    #[default]
    Unknown,
}

impl InstanceStatus {
    const ALL: [Self; 5] =
        [Self::Up, Self::Down, Self::Starting, Self::OutOfService, Self::Unknown];

    /// Returns the name of the status in the registry, such as `UP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Starting => "STARTING",
            Self::OutOfService => "OUT_OF_SERVICE",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Reads a status. Any other text counts as `UNKNOWN`, as in Eureka itself.
    fn read(text: &str) -> Self {
        let is_name = |status: &Self| status.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is_name).unwrap_or(Self::Unknown)
    }
}

/// The change of an instance in a delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The instance is new. This is also the value if the action is missing or unknown.
    #[default]
    Added,
    /// The instance has changed.
    Modified,
    /// The instance has ended its registration, or its registration has expired.
    Deleted,
}

/// One registered instance of a service. Any program that can register an instance chooses these values freely, so they
/// prove nothing about the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The id, usually `host:service:port`. If the id is missing or too long, this field contains the host.
    pub id: String,
    /// The name of the service, in lower case.
    pub app: String,
    /// The host name or IP address. This field is empty if the host is missing or too long.
    pub host: String,
    /// The status.
    pub status: InstanceStatus,
    /// The port for plain HTTP, if it is enabled.
    pub port: Option<u16>,
    /// The port for TLS, if it is enabled.
    pub secure_port: Option<u16>,
    /// The home page.
    pub home_page_url: Option<String>,
    /// The status page.
    pub status_page_url: Option<String>,
    /// The URL of the health check. If the instance has one URL with TLS and one without, this is the one with TLS.
    pub health_check_url: Option<String>,
    /// The metadata of the instance.
    pub metadata: BTreeMap<String, String>,
    /// Whether a value was left out because it exceeds a limit. Do not send requests to such an instance: the missing
    /// value could forbid them. The instance still counts in the hash code of the registry.
    pub is_truncated: bool,
}

/// An instance in JSON. In some places, Eureka writes numbers and booleans as text.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct InstanceJson<'a> {
    #[serde(borrow)]
    instance_id: Text<'a>,
    #[serde(borrow)]
    app: Text<'a>,
    #[serde(borrow)]
    host_name: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    port: Port,
    secure_port: Port,
    #[serde(borrow)]
    home_page_url: Text<'a>,
    #[serde(borrow)]
    status_page_url: Text<'a>,
    #[serde(borrow)]
    health_check_url: Text<'a>,
    #[serde(borrow)]
    secure_health_check_url: Text<'a>,
    metadata: Metadata,
    #[serde(borrow)]
    action_type: Text<'a>,
}

impl InstanceJson<'_> {
    pub(super) fn read(self) -> (Instance, Action) {
        let mut is_truncated = self.metadata.is_truncated;
        let mut text = |text: Text<'_>, most| match text.0 {
            Some(text) if text.len() <= most => Some(text.into_owned()),
            Some(_) => {
                is_truncated = true;
                None
            }
            None => None,
        };
        let id = text(self.instance_id, MAX_ID);
        let app = text(self.app, MAX_ID).unwrap_or_default().to_ascii_lowercase();
        let host = text(self.host_name, MAX_HOST).unwrap_or_default();
        let home_page_url = text(self.home_page_url, MAX_URL);
        let status_page_url = text(self.status_page_url, MAX_URL);
        let (plain, secure) =
            (text(self.health_check_url, MAX_URL), text(self.secure_health_check_url, MAX_URL));
        let action = match self.action_type.0.as_deref() {
            Some("DELETED") => Action::Deleted,
            Some("MODIFIED") => Action::Modified,
            _ => Action::Added,
        };
        let instance = Instance {
            // Old versions of Eureka have no instance id. They use the host name as the id.
            id: id.unwrap_or_else(|| host.clone()),
            app,
            host,
            status: InstanceStatus::read(self.status.0.as_deref().unwrap_or_default()),
            port: self.port.enabled(),
            secure_port: self.secure_port.enabled(),
            home_page_url,
            status_page_url,
            health_check_url: secure.or(plain),
            metadata: self.metadata.values,
            is_truncated,
        };
        (instance, action)
    }
}

/// A text, a number or a boolean. Any other value counts as absent.
#[derive(Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor).map(Self)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A port in JSON: `{"$": 10012, "@enabled": "true"}`, or only the number.
#[derive(Default)]
struct Port {
    number: Option<u16>,
    is_enabled: bool,
}

impl Port {
    /// Returns the port if it is enabled. Port 0 counts as disabled.
    fn enabled(&self) -> Option<u16> {
        self.number.filter(|number| self.is_enabled && *number != 0)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct PortVisitor;

impl<'de> Visitor<'de> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Port, E> {
        Ok(Port { number: number.try_into().ok(), is_enabled: true })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Port, E> {
        Ok(Port::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Port, E> {
        Ok(Port::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Port, E> {
        Ok(Port::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Port, E> {
        Ok(Port { number: text.parse().ok(), is_enabled: true })
    }

    fn visit_unit<E>(self) -> Result<Port, E> {
        Ok(Port::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Port, A::Error> {
        ScalarVisitor.visit_seq(items).map(|_| Port::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Port, A::Error> {
        let mut port = Port::default();
        while let Some(name) = members.next_key::<Text<'de>>()? {
            match name.0.as_deref() {
                Some("$") => {
                    let number = members.next_value::<Text<'de>>()?;
                    port.number = number.0.and_then(|text| text.parse().ok());
                }
                Some("@enabled") => {
                    let enabled = members.next_value::<Text<'de>>()?;
                    port.is_enabled = enabled.0.is_some_and(|text| text == "true");
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(port)
    }
}

/// The metadata, up to the limits. Eureka writes empty metadata as `{"@class": "java.util.Collections$EmptyMap"}`.
#[derive(Default)]
struct Metadata {
    values: BTreeMap<String, String>,
    is_truncated: bool,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_unit<E>(self) -> Result<Metadata, E> {
        Ok(Metadata::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Metadata, E> {
        Ok(Metadata::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Metadata, A::Error> {
        ScalarVisitor.visit_seq(items).map(|_| Metadata::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::default();
        let mut bytes = 0_usize;
        while let Some(name) = members.next_key::<Text<'de>>()? {
            let value = members.next_value::<Text<'de>>()?;
            let (Some(name), Some(value)) = (name.0, value.0) else { continue };
            if name == "@class" {
                continue;
            }
            bytes = bytes.saturating_add(name.len() + value.len());
            if bytes > MAX_METADATA_BYTES || metadata.values.len() >= MAX_METADATA {
                metadata.is_truncated = true;
                continue;
            }
            metadata.values.insert(name.into_owned(), value.into_owned());
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Instance, Action) {
        serde_json::from_str::<InstanceJson<'_>>(json)
            .unwrap_or_else(|e| panic!("{json}: {e}"))
            .read()
    }

    #[test]
    fn ports_are_read_as_numbers_or_text() {
        for (port, want) in [
            (r#"{"$":10012,"@enabled":"true"}"#, Some(10012)),
            (r#"{"$":"10012","@enabled":true}"#, Some(10012)),
            (r#"{"@enabled":"true","$":10012,"x":[{}]}"#, Some(10012)),
            (r#"{"$":10012,"@enabled":"false"}"#, None),
            (r#"{"$":10012,"@enabled":false}"#, None),
            (r#"{"$":10012,"@enabled":"yes"}"#, None),
            (r#"{"$":10012}"#, None),
            (r#"{"$":0,"@enabled":"true"}"#, None),
            (r#"{"$":65536,"@enabled":"true"}"#, None),
            (r#"{"$":-1,"@enabled":"true"}"#, None),
            (r#"{"$":1.5,"@enabled":"true"}"#, None),
            (r#"{"$":null,"@enabled":"true"}"#, None),
            ("{}", None),
            ("10012", Some(10012)),
            (r#""10012""#, Some(10012)),
            ("null", None),
            ("[1]", None),
            ("true", None),
        ] {
            let (instance, _) = read(&format!(r#"{{"securePort":{port},"port":{port}}}"#));
            assert_eq!((instance.port, instance.secure_port), (want, want), "{port}");
        }
    }

    #[test]
    fn a_status_that_eureka_does_not_know_is_unknown() {
        for (status, want) in [
            (r#""UP""#, "UP"),
            (r#""DOWN""#, "DOWN"),
            (r#""STARTING""#, "STARTING"),
            (r#""OUT_OF_SERVICE""#, "OUT_OF_SERVICE"),
            (r#""up""#, "UP"),
            (r#""UP ""#, "UNKNOWN"),
            (r#""x""#, "UNKNOWN"),
            ("null", "UNKNOWN"),
            ("{}", "UNKNOWN"),
        ] {
            let (instance, _) = read(&format!(r#"{{"status":{status}}}"#));
            assert_eq!(instance.status.as_str(), want, "{status}");
        }
        assert_eq!(read("{}").0.status, InstanceStatus::Unknown);
    }

    #[test]
    fn metadata_are_texts() {
        for (metadata, want) in [
            (r#"{"a":"b","c":1,"d":true,"e":null,"f":{},"g":["x"]}"#, "a=b c=1 d=true "),
            (r#"{"@class":"java.util.Collections$EmptyMap"}"#, ""),
            (r#"{"@class":"java.util.HashMap","a":"\u00e9"}"#, "a=\u{e9} "),
            ("null", ""),
            ("[]", ""),
            (r#""""#, ""),
        ] {
            let (instance, _) = read(&format!(r#"{{"metadata":{metadata}}}"#));
            let got: String =
                instance.metadata.iter().map(|(name, value)| format!("{name}={value} ")).collect();
            assert_eq!((&*got, instance.is_truncated), (want, false), "{metadata}");
        }
    }

    #[test]
    fn the_id_defaults_to_the_host_and_the_app_is_in_lower_case() {
        let (instance, action) =
            read(r#"{"app":"IBMzOSMF","hostName":"zos1","actionType":"DELETED","x":{"y":[1,{}]}}"#);
        assert_eq!((&*instance.id, &*instance.app), ("zos1", "ibmzosmf"));
        assert_eq!(action, Action::Deleted);
        for (text, want) in [
            (r#""ADDED""#, Action::Added),
            (r#""MODIFIED""#, Action::Modified),
            ("null", Action::Added),
        ] {
            assert_eq!(read(&format!(r#"{{"actionType":{text}}}"#)).1, want);
        }
        let (instance, _) = read(
            r#"{"healthCheckUrl":"http://a","secureHealthCheckUrl":"https://a","homePageUrl":"https://h"}"#,
        );
        assert_eq!(instance.health_check_url.as_deref(), Some("https://a"));
        assert_eq!(instance.home_page_url.as_deref(), Some("https://h"));
    }

    #[test]
    fn a_value_over_its_limit_marks_the_instance() {
        let metadata = |count: usize, length: usize| {
            let member = |i| format!(r#""k{i}":"{}""#, "v".repeat(length));
            let members: Vec<_> = (0..count).map(member).collect();
            format!(r#"{{"metadata":{{{}}}}}"#, members.join(","))
        };
        let text = |name: &str, length: usize| format!(r#"{{"{name}":"{}"}}"#, "x".repeat(length));
        for (json, want) in [
            (metadata(500, 10), false),
            (metadata(501, 10), true),
            (metadata(2, 30_000), false),
            (metadata(3, 30_000), true),
            (text("instanceId", 256), false),
            (text("instanceId", 257), true),
            (text("app", 257), true),
            (text("hostName", 256), true),
            (text("homePageUrl", 2049), true),
            (text("unknown", 100_000), false),
        ] {
            let (instance, _) = read(&json);
            let start: String = json.chars().take(30).collect();
            assert_eq!(instance.is_truncated, want, "{start} ({} bytes)", json.len());
            let bytes: usize = instance.metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
            assert!(bytes <= MAX_METADATA_BYTES && instance.metadata.len() <= MAX_METADATA);
        }
    }
}
