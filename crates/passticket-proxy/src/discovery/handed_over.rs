//! Writes and reads the registry of services that one process hands over to another process at a takeover.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tower_passticket::{
    eureka::{Instance, InstanceStatus, Registry},
    remote::Address,
};

/// The maximum length of the registry as text, in bytes. A longer registry is not handed over. Answers of Eureka, the
/// discovery service, have the same limit.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// A registry, and the discovery services that it came from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    eureka: BTreeSet<String>,
    pub(super) registry: Registry,
}

impl HandedOver {
    pub(super) fn new(eureka: &[Address], registry: Registry) -> Self {
        Self { eureka: eureka.iter().map(ToString::to_string).collect(), registry }
    }

    /// Returns whether the registry came from at least one of the discovery services `eureka`. If the operator has
    /// replaced all discovery services, perhaps the operator does not trust the earlier services any more. So the new
    /// process must not use their registry.
    pub(super) fn is_from(&self, eureka: &[Address]) -> bool {
        eureka.iter().any(|address| self.eureka.contains(&address.to_string()))
    }

    /// Returns the registry as JSON. `None` if it is too large.
    pub(super) fn to_json(&self) -> Option<Value> {
        let instances: Vec<_> = self.registry.instances().map(to_json).collect();
        let document = json!({"eureka": self.eureka, "instances": instances});
        (document.to_string().len() <= MAX_TEXT).then_some(document)
    }

    /// Reads the result of [`to_json`](Self::to_json). Returns `None` if it is malformed.
    pub(super) fn from_json(document: &Value) -> Option<Self> {
        let eureka = document.get("eureka")?.as_array()?.iter();
        let instances = document.get("instances")?.as_array()?.iter();
        Some(Self {
            eureka: eureka.map(|it| it.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            registry: instances.map(from_json).collect::<Option<_>>()?,
        })
    }
}

fn to_json(instance: &Instance) -> Value {
    json!({
        "id": instance.id,
        "app": instance.app,
        "host": instance.host,
        "status": instance.status.as_str(),
        "port": instance.port,
        "securePort": instance.secure_port,
        "homePageUrl": instance.home_page_url,
        "statusPageUrl": instance.status_page_url,
        "healthCheckUrl": instance.health_check_url,
        "metadata": instance.metadata,
        "isTruncated": instance.is_truncated,
    })
}

fn from_json(document: &Value) -> Option<Instance> {
    let document = document.as_object()?;
    let mut instance = Instance::default();
    instance.id = text(document, "id")??;
    instance.app = text(document, "app")??;
    instance.host = text(document, "host")??;
    let status = text(document, "status")??;
    instance.status = STATUSES.into_iter().find(|it| it.as_str() == status)?;
    instance.port = port(document, "port")?;
    instance.secure_port = port(document, "securePort")?;
    instance.home_page_url = text(document, "homePageUrl")?;
    instance.status_page_url = text(document, "statusPageUrl")?;
    instance.health_check_url = text(document, "healthCheckUrl")?;
    let metadata = document.get("metadata")?.as_object()?.iter();
    let metadata = metadata.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    instance.metadata = metadata.collect::<Option<_>>()?;
    instance.is_truncated = document.get("isTruncated")?.as_bool()?;
    Some(instance)
}

const STATUSES: [InstanceStatus; 5] = [
    InstanceStatus::Up,
    InstanceStatus::Down,
    InstanceStatus::Starting,
    InstanceStatus::OutOfService,
    InstanceStatus::Unknown,
];

/// Reads a text that may be `null`. The outer `None` means that the value is missing or malformed. The inner `None`
/// means `null`.
#[expect(clippy::option_option, reason = "`null` differs from a missing value")]
fn text(document: &Map<String, Value>, key: &str) -> Option<Option<String>> {
    match document.get(key)? {
        Value::Null => Some(None),
        value => Some(Some(value.as_str()?.to_owned())),
    }
}

#[expect(clippy::option_option, reason = "`null` differs from a missing value")]
fn port(document: &Map<String, Value>, key: &str) -> Option<Option<u16>> {
    match document.get(key)? {
        Value::Null => Some(None),
        value => Some(Some(value.as_u64()?.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::test_settings::registry;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_registry_is_read_back() {
        let mut instances: Vec<_> = registry(&[
            "a host 1 status=DOWN api/v1=/base name:=\"value\"\n",
            "b host s2 scheme=zoweJwt",
            "b other - status=OUT_OF_SERVICE",
        ])
        .instances()
        .cloned()
        .collect();
        instances[1].is_truncated = true;
        instances[2].health_check_url = Some("https://host/health".to_owned());
        let eureka = [address("https://one/eureka"), address("https://two/eureka")];
        let handed_over = HandedOver::new(&eureka, instances.into_iter().collect());
        let document = handed_over.to_json().unwrap();
        assert_eq!(HandedOver::from_json(&document), Some(handed_over));
        for wrong in [json!({}), json!({"eureka": [], "instances": [{}]}), json!("text")] {
            assert_eq!(HandedOver::from_json(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_registry_of_replaced_discovery_services_is_not_used() {
        let [one, two, three] = ["https://one", "https://two", "https://three"].map(address);
        let handed_over = HandedOver::new(&[one.clone(), two], Registry::default());
        assert!(handed_over.is_from(&[three.clone(), one]));
        assert!(!handed_over.is_from(&[three]));
    }

    #[test]
    fn a_registry_that_is_too_large_is_not_handed_over() {
        let mut instance = registry(&["a host 1"]).instances().next().unwrap().clone();
        instance.metadata.insert("name".to_owned(), "x".repeat(MAX_TEXT));
        let handed_over = HandedOver::new(&[], [instance].into_iter().collect());
        assert_eq!(handed_over.to_json(), None);
    }
}
