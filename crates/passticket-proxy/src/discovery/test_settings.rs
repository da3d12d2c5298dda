//! Settings and registries for the unit tests of this module.

use passticket_proxy::config::DiscoverySettings;
use serde_json::{Map, Value, json};
use tower_passticket::eureka::{Document, Instance, Registry};

pub(super) fn settings(keys: &str) -> DiscoverySettings {
    DiscoverySettings::parse(&format!("{{eureka: 'https://e', {keys}}}")).unwrap()
}

/// Reads a registration: the service, the host, the port (`s` before the port means TLS, and `-` means no port), and
/// any number of `NAME=VALUE`. The names `status`, `scheme` and `applid` are the status and the authentication of the
/// instance. A name that ends with `:` is metadata, and any other name is the `gatewayUrl` of a route.
pub(super) fn instance(registration: &str) -> Instance {
    registry(&[registration]).instances().next().unwrap().clone()
}

pub(super) fn registry(registrations: &[&str]) -> Registry {
    let instances: Vec<_> = registrations.iter().map(|text| json(text)).collect();
    let document = json!({"applications": {"application": {"instance": instances}}});
    Document::parse(document.to_string().as_bytes()).unwrap().into_registry()
}

fn json(registration: &str) -> Value {
    let mut words = registration.split(' ');
    let [app, host, port] = [(); 3].map(|()| words.next().unwrap());
    let mut metadata = Map::new();
    let mut status = "UP";
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        match (name, name.strip_suffix(':')) {
            ("status", _) => status = value,
            ("scheme" | "applid", _) => {
                metadata.insert(format!("apiml.authentication.{name}"), value.into());
            }
            (_, Some(name)) => {
                metadata.insert(name.to_owned(), value.into());
            }
            (path, None) => {
                let id = path.replace('/', "-");
                metadata.insert(format!("apiml.routes.{id}.gatewayUrl"), path.into());
                metadata.insert(format!("apiml.routes.{id}.serviceUrl"), value.into());
            }
        }
    }
    let enabled =
        |port: Option<&str>| json!({"$": port.unwrap_or("0"), "@enabled": port.is_some()});
    let secure = port.strip_prefix('s');
    let plain = Some(port).filter(|port| secure.is_none() && *port != "-");
    json!({
        "instanceId": format!("{host}:{app}:{port}"), "app": app, "hostName": host, "status": status,
        "port": enabled(plain), "securePort": enabled(secure), "metadata": metadata,
    })
}
