//! The health of the gateway and of this node, read from the JSON document that the admin port also sends for `/health`
//! (docs/operating/metrics.md).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Returns the state of the gateway as JSON. The function must not block.
pub(crate) type HealthDocument = Box<dyn Fn() -> Value + Send + Sync>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct GatewayHealth {
    pub(super) status: String,
    pub(super) components: BTreeMap<String, ComponentHealth>,
    /// The instances of services that are not healthy, with their states.
    pub(super) instances: BTreeMap<String, String>,
    /// This node. `None` if the gateway shares nothing with other nodes.
    pub(super) cluster: Option<NodeHealth>,
    /// The users and APPLIDs for which no PassTickets (short-lived passwords of z/OS) are made. `None` if there are
    /// none.
    pub(super) passtickets: Option<StoppedTickets>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ComponentHealth {
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) warning: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct NodeHealth {
    /// `ok`, `expired` or `handedOver`.
    pub(super) lease: String,
    /// The number of revocations that this node has not applied yet.
    pub(super) behind: u64,
    /// The number of other nodes that run.
    pub(super) peers: u64,
}

/// The PassTickets that the gateway does not make, because services have refused earlier PassTickets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StoppedTickets {
    /// A text that says what an operator should check.
    pub(super) check: Option<String>,
    /// The number of users for whom no PassTickets are made.
    pub(super) stopped_users: u64,
    pub(super) users: Vec<StoppedUser>,
    pub(super) applids: Vec<StoppedApplid>,
}

/// A user and an APPLID (the name of an application in the security product).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StoppedUser {
    pub(super) user: String,
    pub(super) applid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StoppedApplid {
    pub(super) applid: String,
}

impl GatewayHealth {
    /// Returns `None` if the document does not have the expected form.
    pub(super) fn read(document: Value) -> Option<Self> {
        serde_json::from_value(document).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_of_the_admin_port_are_read() {
        let health = GatewayHealth::read(json!({
            "status": "DOWN",
            "components": {
                "audit": { "status": "UP" },
                "certificate": { "status": "DOWN", "reason": "why", "warning": "soon" },
            },
            "instances": { "files/host:1": "DOWN" },
            "cluster": { "lease": "ok", "behind": 1, "peers": 2 },
            "passtickets": {
                "check": "the key", "stoppedUsers": 1,
                "users": [{ "user": "A", "applid": "X", "refused": 3, "nextTry": null }],
                "applids": [{ "key": "k", "applid": "X", "stopped": true, "nextTry": 5 }],
            },
        }));
        let health = health.unwrap();
        assert_eq!(health.components["certificate"].reason.as_deref(), Some("why"));
        assert_eq!(health.instances["files/host:1"], "DOWN");
        assert_eq!(
            health.cluster,
            Some(NodeHealth { lease: "ok".to_owned(), behind: 1, peers: 2 })
        );
        let tickets = health.passtickets.unwrap();
        assert_eq!((tickets.stopped_users, &*tickets.users[0].user), (1, "A"));
        assert_eq!(tickets.applids[0].applid, "X");
        assert_eq!(GatewayHealth::read(json!({ "status": "UP" })).unwrap().cluster, None);
        assert_eq!(GatewayHealth::read(json!("UP")), None);
    }
}
