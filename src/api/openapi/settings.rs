//! The settings that the OpenAPI document depends on.

use crate::{
    api::{compatibility::Compatibility, endpoint::Switches, permission::GuardingResources},
    auth_prefix::AuthPrefix,
    token::Validity,
};

/// All settings that the OpenAPI document depends on.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Settings<'a> {
    pub(in crate::api) prefix: &'a AuthPrefix,
    pub(in crate::api) switches: Switches,
    /// Whether the endpoints accept client certificates.
    pub(in crate::api) certificates: bool,
    pub(in crate::api) compatibility: Compatibility,
    /// The name of the cookie of login tokens.
    pub(in crate::api) cookie: &'a str,
    pub(in crate::api) max_validity: Validity,
    pub(in crate::api) guarding_resources: &'a GuardingResources,
}
