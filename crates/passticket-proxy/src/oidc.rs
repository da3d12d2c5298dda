//! Creates an [`OidcIssuer`] for each identity provider of the configuration, with the HTTP client that fetches the
//! provider's keys.

use passticket_proxy::config::{Config, OidcSettings};
use tower_passticket::{
    remote::{Client, ClientLimits},
    tls::{Connector, TlsError},
    token::{IssuerKeys, JwksUrl, KeyRefresh, OidcIssuer},
};

use crate::connectors::to_authority;

/// Returns the connector to the server with the keys of a provider.
pub(crate) fn connector(settings: &OidcSettings, config: &Config) -> Result<Connector, TlsError> {
    let authorities = settings.authorities.as_ref().unwrap_or(&config.tls.service_authorities);
    to_authority(config, authorities)
}

/// Returns a copy of `provider` that keeps the values of claims that the rules for technical users need. The copy
/// shares the keys of `provider`.
pub(crate) fn with_kept_values(provider: &OidcIssuer, settings: &OidcSettings) -> OidcIssuer {
    let kept = settings.kept_values.iter();
    kept.fold(provider.clone(), |provider, (claim, value)| {
        provider.with_kept_value(claim.as_str(), value.as_str())
    })
}

/// Creates the provider. Its keys are fetched later. [`with_kept_values`] adds the values of claims that the provider
/// keeps.
pub(crate) fn provider(settings: &OidcSettings, config: &Config) -> Result<OidcIssuer, TlsError> {
    let connector = connector(settings, config)?;
    let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
    let source = JwksUrl::new(Client::new(connector, limits), settings.jwks.clone())
        .expect("the configuration contains only protected URLs");
    let mut refresh = KeyRefresh::default();
    refresh.every = settings.refresh;
    let keys = IssuerKeys::fetched(settings.issuer.as_str(), source).with_refresh(refresh);
    let (first, others) =
        settings.audiences.split_first().expect("the configuration has at least one audience");
    let issuer =
        OidcIssuer::new(settings.issuer.clone(), first.as_str(), settings.registry.clone(), keys);
    let issuer =
        others.iter().fold(issuer, |issuer, audience| issuer.with_audience(audience.as_str()));
    Ok(issuer
        .with_authorized_parties(settings.authorized_parties.iter().map(String::as_str))
        .with_algorithms(settings.algorithms.iter().copied())
        .with_user_id_fields(settings.user_id_fields.iter().map(String::as_str)))
}
