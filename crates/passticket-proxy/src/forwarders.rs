//! Keeps the certificates of trusted forwarders up to date: proxies that may send the certificates of their clients in
//! `Client-Cert`.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use passticket_proxy::config::{Config, ForwarderSettings};
use tokio::time::sleep;
use tower_passticket::{
    identity::Fingerprint,
    layer::{ForwardedCertificateLayer, TrustedForwarders},
    remote::{Address, Client, ClientLimits, RemoteError},
    tls::{ClientCertificates, Connector, TlsError},
};

use crate::connectors::to_authority;

/// How often the lists are fetched again.
const EVERY: Duration = Duration::from_secs(3600);

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// How long to wait after a failure while a list was never fetched. This wait is shorter, because no client certificate
/// of a TLS connection is accepted without the list.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The trusted forwarders, and the lists of their certificates.
pub(crate) struct Forwarders {
    trusted: TrustedForwarders,
    verifier: ClientCertificates,
    lists: Lists,
}

/// The lists of certificates that are fetched.
#[derive(Clone)]
pub(crate) struct Lists {
    trusted: TrustedForwarders,
    client: Client<Connector>,
    fixed: Vec<Fingerprint>,
    urls: Vec<Address>,
}

impl Forwarders {
    /// Makes the forwarders of the configuration. `None` if no proxy may send certificates. Nothing is fetched yet.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(ForwarderSettings { certificates, urls, .. }) = &config.forwarders else {
            return Ok(None);
        };
        // The server with a list is verified with the authorities of services, so that an authority of clients cannot
        // issue its certificate.
        let connector = to_authority(config, &config.tls.service_authorities)?;
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        let fixed = certificates.iter().copied();
        let trusted = match urls.is_empty() {
            true => TrustedForwarders::new(fixed),
            false => TrustedForwarders::incomplete(fixed),
        };
        let authorities = &config.tls.authorities;
        let verifier = match &config.tls.revocation_lists {
            None => ClientCertificates::new(authorities)?,
            Some(lists) => ClientCertificates::with_revocation_lists(authorities, lists)?,
        };
        let (client, fixed) = (Client::new(connector, limits), certificates.clone());
        let lists = Lists { trusted: trusted.clone(), client, fixed, urls: urls.clone() };
        Ok(Some(Self { trusted, verifier, lists }))
    }

    /// Returns the layer that accepts certificates from the forwarders.
    pub(crate) fn layer(&self) -> ForwardedCertificateLayer {
        ForwardedCertificateLayer::new(self.trusted.clone(), self.verifier.clone())
    }

    /// Returns the lists, which must be [kept fresh](Lists::keep_fresh).
    pub(crate) fn lists(&self) -> Lists {
        self.lists.clone()
    }
}

impl Lists {
    /// Fetches the lists now, and then every hour. The future never ends. A list that cannot be fetched stays as it was.
    pub(crate) async fn keep_fresh(self) {
        if self.urls.is_empty() {
            return std::future::pending().await;
        }
        // `None`: the list was never fetched.
        let mut last_good: Vec<Option<Vec<Fingerprint>>> = vec![None; self.urls.len()];
        loop {
            let mut pause = EVERY;
            for (url, last_good) in self.urls.iter().zip(&mut last_good) {
                match self.fetch(url).await {
                    Ok(certificates) => *last_good = Some(certificates),
                    Err(error) => {
                        pause = PAUSE;
                        let is_first = last_good.is_none();
                        tracing::warn!(
                            %url, %error, is_first,
                            "the certificates of trusted forwarders could not be fetched; those that were fetched \
                             earlier stay in use; without an earlier list, client certificates are not accepted"
                        );
                    }
                }
            }
            let known = last_good.iter().flatten().flatten().chain(&self.fixed).copied();
            match last_good.iter().all(Option::is_some) {
                true => self.trusted.replace(known),
                false => {
                    self.trusted.replace_incomplete(known);
                    pause = FIRST_PAUSE;
                }
            }
            sleep(pause).await;
        }
    }

    async fn fetch(&self, url: &Address) -> Result<Vec<Fingerprint>, RemoteError> {
        let request = Request::get(url.to_string()).body(Full::default());
        let request = request.map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let reply = self.client.call(request).await?.successful()?;
        TrustedForwarders::fingerprints(reply.body())
            .map_err(|error| RemoteError::Answer(error.to_string()))
    }
}
