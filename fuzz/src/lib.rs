//! Fuzz targets: one function for each parser of bytes from the network or from a file.
//!
//! A target accepts any bytes, and panics if one of its assertions fails. `tests/corpus.rs` runs all targets with the
//! committed corpus. `fuzz/run` runs one target with libFuzzer. `README.md` lists the assertions of each target, and
//! describes how to add a target.

#![cfg(feature = "targets")]

mod answers;
mod bodies;
mod caching;
mod cef;
mod command_line;
mod configuration;
mod discovery;
mod esm_listing;
mod exchange;
mod gateway;
mod headers;
mod identities;
mod issuers;
mod names;
mod paths;
mod permissions;
mod proxies;
mod stopped_tickets;
mod support;
mod tickets;
mod tokens;
mod websocket;
mod zaas;

/// All targets with their names. A target's directory in `corpus/` has the same name.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("cookies", headers::cookies),
    ("credentials", headers::credentials),
    ("hop_by_hop", headers::hop_by_hop),
    ("sanitize", headers::sanitize),
    ("websocket_frames", websocket::frames),
    ("websocket_handshake", websocket::handshake),
    ("forwarded", exchange::forwarded),
    ("client_address", proxies::client_address),
    ("proxy_protocol", proxies::proxy_protocol),
    ("paths", paths::paths),
    ("addresses", paths::addresses),
    ("client_cert", identities::client_cert),
    ("certificate_der", identities::certificate_der),
    ("certificate_pem", identities::certificate_pem),
    ("certificate_filters", identities::certificate_filters),
    ("distinguished_name", identities::distinguished_name),
    ("identity_names", identities::identity_names),
    ("token_text", tokens::token_text),
    ("token_header", tokens::token_header),
    ("token_claims", tokens::token_claims),
    ("token_fingerprint", tokens::token_fingerprint),
    ("public_keys", tokens::public_keys),
    ("issuer_claims", issuers::issuer_claims),
    ("jwk_sets", issuers::jwk_sets),
    ("scopes", tokens::scopes),
    ("yaml", configuration::yaml),
    ("zowe_yaml", configuration::zowe_yaml),
    ("definitions", configuration::definitions),
    ("users", configuration::users),
    ("saf_file", configuration::saf_file),
    ("identities_file", configuration::identities_file),
    ("technical_users_file", configuration::technical_users_file),
    ("secret_files", configuration::secret_files),
    ("key_stores", configuration::key_stores),
    ("cef", cef::cef),
    ("profiles", permissions::profiles),
    ("basic", bodies::basic),
    ("body_login", bodies::login),
    ("body_ticket", bodies::ticket),
    ("body_delegate", bodies::delegate),
    ("body_exchange", bodies::exchange),
    ("body_generate", bodies::generate),
    ("access_tokens", bodies::access_tokens),
    ("body_validate", bodies::validate),
    ("body_revoke", bodies::revoke),
    ("body_rules", bodies::rules),
    ("zaas_scheme", zaas::scheme),
    ("answers_saf", answers::saf),
    ("answers_zss", answers::zss),
    ("eureka", discovery::eureka),
    ("answers_apiml", answers::apiml),
    ("answers_redis", answers::redis),
    ("answers_caching", caching::answers),
    ("names", names::names),
    ("esm_texts", names::esm_texts),
    ("esm_listing", esm_listing::esm_listing),
    ("tickets", tickets::tickets),
    ("service_date", stopped_tickets::date),
    ("stopped_tickets_file", stopped_tickets::file),
    ("command_line", command_line::command_line),
    ("http1_client", exchange::http1_client),
    ("http2_client", exchange::http2_client),
    ("http1_service", exchange::http1_service),
    ("http2_service", exchange::http2_service),
];

/// Returns the target with this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
