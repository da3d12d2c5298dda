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
    tls::{ClientCertificates, Connector, TlsError, Verification},
};

/// How often the lists are fetched again.
const EVERY: Duration = Duration::from_secs(3600);

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(30);

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

/// The connector to the servers that list the certificates of forwarders.
pub(crate) fn connector(config: &Config) -> Result<Connector, TlsError> {
    Connector::builder()
        // A server that can answer in place of this one could make itself a trusted forwarder. So `verifyCertificates`
        // has no effect here.
        .with_verification(Verification::Strict)
        .with_authorities(&config.tls.authorities)
        .with_connect_timeout(config.timeouts.provider)
        .with_policy(config.client_tls.clone())
        .build()
}

impl Forwarders {
    /// Makes the forwarders of the configuration. `None` if no proxy may send certificates. Nothing is fetched yet.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(ForwarderSettings { certificates, urls, .. }) = &config.forwarders else {
            return Ok(None);
        };
        let connector = connector(config)?;
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        let trusted = TrustedForwarders::new(certificates.iter().copied());
        let verifier = ClientCertificates::new(&config.tls.authorities)?;
        let (client, fixed) = (Client::new(connector, limits), certificates.clone());
        let lists = Lists { trusted: trusted.clone(), client, fixed, urls: urls.clone() };
        Ok(Some(Self { trusted, verifier, lists }))
    }

    /// The layer that accepts certificates from the forwarders.
    pub(crate) fn layer(&self) -> ForwardedCertificateLayer {
        ForwardedCertificateLayer::new(self.trusted.clone(), self.verifier.clone())
    }

    /// The lists, which must be [kept fresh](Lists::keep_fresh).
    pub(crate) fn lists(&self) -> Lists {
        self.lists.clone()
    }
}

impl Lists {
    /// Fetches the lists now, and then every hour. The future never ends. A list that cannot be fetched stays as it was.
    pub(crate) async fn keep_fresh(self) {
        let mut last_good: Vec<Vec<Fingerprint>> = vec![Vec::new(); self.urls.len()];
        loop {
            let mut pause = EVERY;
            for (url, last_good) in self.urls.iter().zip(&mut last_good) {
                match self.fetch(url).await {
                    Ok(certificates) => *last_good = certificates,
                    Err(error) => {
                        pause = PAUSE;
                        tracing::warn!(
                            %url, %error,
                            "the certificates of trusted forwarders could not be fetched; those that were fetched \
                             earlier stay in use"
                        );
                    }
                }
            }
            self.trusted.replace(last_good.iter().flatten().chain(&self.fixed).copied());
            if self.urls.is_empty() {
                return std::future::pending().await;
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
