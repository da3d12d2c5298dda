//! Creates the client of Zowe's Caching Service, and asks the service once before the gateway starts. API ML (Zowe's
//! API Mediation Layer) keeps its revocations of Personal Access Tokens in this service
//! (docs/operating/zowe-revocations.md).

use std::time::Duration;

use passticket_proxy::config::Config;
use tokio::time::timeout;
use tower_passticket::{
    remote::ClientLimits,
    revocation::{CachingService, CachingServiceError, CachingServiceSettings},
    tls::TlsError,
};

use crate::{connectors::zowe_connector, exit::Exit};

/// The time for which a start waits for the Caching Service. After this time, the gateway starts without its answer,
/// and refuses Personal Access Tokens until the service has answered.
const START_TIMEOUT: Duration = Duration::from_secs(15);

const MEBIBYTE: usize = 1024 * 1024;

/// Asks the configured Caching Service once, and returns its client. Returns `None` if the gateway does not use the
/// revocations of API ML. If the service does not answer, the gateway starts nevertheless.
///
/// # Errors
/// The client certificate for API ML cannot be used, or the answer of the service shows that the configuration of the
/// gateway or of API ML is wrong.
pub(crate) async fn prepared(config: &Config) -> Result<Option<CachingService>, Exit> {
    prepared_with(config, config.zowe.as_ref().and_then(|zowe| zowe.revocations)).await
}

/// Does the same as [`prepared`], but the returned client never changes the Caching Service.
///
/// # Errors
/// The errors of [`prepared`]. A missing salt is always an error.
pub(crate) async fn prepared_to_read(config: &Config) -> Result<Option<CachingService>, Exit> {
    prepared_with(config, settings_to_read(config)).await
}

/// Returns the configured settings without the permissions to change the Caching Service: to write revocations and to
/// create a salt. Commands that only read use these settings.
pub(crate) fn settings_to_read(config: &Config) -> Option<CachingServiceSettings> {
    let settings = config.zowe.as_ref()?.revocations?;
    Some(CachingServiceSettings::new(settings.mode()))
}

async fn prepared_with(
    config: &Config,
    settings: Option<CachingServiceSettings>,
) -> Result<Option<CachingService>, Exit> {
    let Some(settings) = settings else { return Ok(None) };
    let service = with_settings(config, settings)
        .map_err(|error| Exit::usage(format!("components.passticket-proxy.zowe: {error}")))?;
    if let Some(service) = &service {
        prepare(service).await?;
    }
    Ok(service)
}

/// Returns the client of the configured Caching Service. Uses `settings` in place of the configured settings.
pub(crate) fn with_settings(
    config: &Config,
    settings: CachingServiceSettings,
) -> Result<Option<CachingService>, TlsError> {
    let Some(zowe) = &config.zowe else { return Ok(None) };
    let Some(connector) = zowe_connector(config)? else { return Ok(None) };
    let megabytes = config.limits.zowe_revocation_megabytes.get();
    let limits = ClientLimits::default()
        .with_deadline(config.timeouts.provider)
        .with_max_body(megabytes.saturating_mul(MEBIBYTE));
    Ok(Some(CachingService::new(connector, limits, zowe.url.clone(), settings)))
}

async fn prepare(service: &CachingService) -> Result<(), Exit> {
    match timeout(START_TIMEOUT, service.prepare()).await {
        Ok(Ok(found)) => {
            tracing::info!(%found, "the Caching Service of API ML is used");
            Ok(())
        }
        Ok(Err(error)) if error.needs_operator() => Err(refusal(&error)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the Caching Service does not answer; Personal Access Tokens are refused until it answers");
            Ok(())
        }
        Err(_) => {
            tracing::warn!(
                "the Caching Service does not answer; Personal Access Tokens are refused until it answers"
            );
            Ok(())
        }
    }
}

fn refusal(error: &CachingServiceError) -> Exit {
    Exit::runtime(format!("components.passticket-proxy.zowe.revocations: {error}"))
}
