//! The parts of the listener for API ML's gateways: its TLS, and the layer that decides which gateways are trusted.
//! These gateways use this program as their ZAAS.

use passticket_proxy::config::Config;
use tower_passticket::{
    layer::{ForwardedCertificateLayer, ForwarderName, TrustedForwarders},
    tls::{ClientCertificates, ServerTls, TlsError},
    zaas::trust_layer,
};

use crate::listener_tls::{self, ZaasTls};

/// The parts that decide which gateways are trusted. If a reload removes the listener from the configuration, the
/// listener stays open until the program ends. In this case, the new parts have the gateways of the previous
/// configuration.
pub(crate) struct ZaasParts {
    tls: ZaasTls,
    verifier: ClientCertificates,
    gateways: Vec<ForwarderName>,
    /// The gateways that are trusted now. All configurations share this list, because it also remembers the gateways
    /// that were removed. Without this memory, a removed gateway would count as a client, and its own certificate would
    /// be its credential.
    trusted: TrustedForwarders,
}

impl ZaasParts {
    /// Makes the parts. `None` if neither this configuration nor `previous` has the listener. The trusted gateways
    /// change only when [`layer`](Self::layer) is called.
    pub(crate) fn new(config: &Config, previous: Option<&Self>) -> Result<Option<Self>, TlsError> {
        let gateways = match (&config.zaas, previous) {
            (Some(zaas), _) => zaas.gateways.clone(),
            (None, Some(previous)) => previous.gateways.clone(),
            (None, None) => return Ok(None),
        };
        let verifier = listener_tls::client_certificates(config)?;
        let tls = listener_tls::of_zaas(config, previous.map(|previous| &previous.tls))?;
        let trusted = match previous {
            Some(previous) => previous.trusted.clone(),
            None => TrustedForwarders::named(gateways.iter().cloned()),
        };
        Ok(Some(Self { tls, verifier, gateways, trusted }))
    }

    pub(crate) fn tls(&self) -> &ServerTls {
        &self.tls.value
    }

    /// Trusts the gateways of these parts from now on. Returns the layer that accepts the certificates of the
    /// clients of these gateways.
    pub(crate) fn layer(&self) -> ForwardedCertificateLayer {
        self.trusted.replace_named(self.gateways.iter().cloned());
        trust_layer(self.trusted.clone(), self.verifier.clone())
    }
}
