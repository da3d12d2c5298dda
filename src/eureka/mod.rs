//! A client of the Eureka registry: the discovery service of the Zowe API Mediation Layer (API ML), where services
//! register their addresses and metadata.
//!
//! [`EurekaClient`] fetches the registry from one or more hosts. [`Registry`] is the list of [`Instance`]s. Programs
//! with a client of their own can use [`Document::parse`] to read an answer, and [`Registry::apply`] to apply a delta.
//!
//! **A registration proves nothing about a service.** Any program whose certificate the discovery service trusts can
//! register an instance under any name. So the caller must decide which instances may receive credentials
//! ([D35](crate::decisions#d35)).
//!
//! ```
//! use tower_passticket::eureka::{Document, InstanceStatus};
//!
//! let answer = br#"{"applications": {"apps__hashcode": "UP_1_", "application": {"name": "FILES", "instance": {
//!     "instanceId": "zos1:files:10012", "app": "FILES", "hostName": "zos1.example.com", "status": "UP",
//!     "port": {"$": 80, "@enabled": "false"}, "securePort": {"$": "10012", "@enabled": true},
//!     "metadata": {"apiml.routes.api-v1.gatewayUrl": "api/v1"}}}}}"#;
//! let document = Document::parse(answer)?;
//! assert_eq!(document.hash_code(), Some("UP_1_"));
//! let registry = document.into_registry();
//! let instance = registry.instances().next().unwrap();
//! assert_eq!((&*instance.app, instance.status), ("files", InstanceStatus::Up));
//! assert_eq!((instance.port, instance.secure_port), (None, Some(10012)));
//! # Ok::<(), tower_passticket::eureka::ParseError>(())
//! ```

mod body;
mod client;
mod delta;
mod document;
mod instance;
mod registry;

pub use client::{EurekaClient, EurekaError, Fetch, Fetched};
pub use delta::DeltaError;
pub use document::{Document, ParseError};
pub use instance::{Action, Instance, InstanceStatus};
pub use registry::Registry;
