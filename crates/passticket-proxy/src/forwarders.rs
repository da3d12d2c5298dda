//! Keeps the certificates of trusted forwarders up to date. A forwarder is a proxy that may send the certificates of
//! its clients in `Client-Cert`.

use std::{
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

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

use crate::{
    connectors::{Outbound, to_authority},
    listener_tls,
    part::{Part, Same, Task},
};

const EVERY: Duration = Duration::from_secs(3600);

/// The wait after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// The wait after a failure if a list was never fetched. This wait is shorter than [`PAUSE`], because without the list,
/// the gateway accepts no client certificate of a TLS connection as a credential.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The trusted forwarders, and the lists of their certificates.
pub(crate) struct Forwarders {
    verifier: ClientCertificates,
    lists: Part<ListSettings, FreshLists>,
}

#[derive(Clone, PartialEq)]
struct ListSettings {
    outbound: Same<Outbound>,
    forwarders: ForwarderSettings,
}

/// The lists, with the task that fetches them.
#[derive(Clone)]
struct FreshLists {
    lists: Lists,
    task: Task,
    taking_effect: Arc<Once>,
}

/// The lists of certificates that are fetched.
#[derive(Clone)]
struct Lists {
    trusted: TrustedForwarders,
    /// The `number` of the `Lists` that took effect last. Only these `Lists` may change `trusted`. All `Lists` that
    /// share `trusted` also share `current`.
    current: Arc<Mutex<u64>>,
    /// Each reload with new settings makes `Lists` with the next number.
    number: u64,
    client: Client<Connector>,
    fixed: Vec<Fingerprint>,
    urls: Vec<Address>,
}

impl Forwarders {
    /// Makes the forwarders of the configuration. Returns `None` if neither this configuration nor an earlier one has
    /// forwarders. This function fetches nothing. If the settings are the same as in `previous`, the lists of
    /// `previous` stay.
    ///
    /// The certificate of a former forwarder must not become a credential. So former forwarders stay known, even if the
    /// configuration has no forwarders any more. The result and `previous` share one list of trusted forwarders. A
    /// reload may still fail after this function. So this function does not change the shared list:
    /// [`take_effect`](Self::take_effect) does.
    pub(crate) fn new(
        config: &Config,
        previous: Option<&Self>,
        outbound: &Arc<Outbound>,
    ) -> Result<Option<Self>, TlsError> {
        let forwarders = match (&config.forwarders, previous) {
            (Some(forwarders), _) => forwarders.clone(),
            (None, Some(_)) => ForwarderSettings::default(),
            (None, None) => return Ok(None),
        };
        let verifier = listener_tls::client_certificates(config)?;
        let outbound = Same(outbound.clone());
        let settings = ListSettings { outbound, forwarders: forwarders.clone() };
        let lists = Part::keep_or_make(previous.map(|it| &it.lists), settings, |before| {
            let lists = Lists::new(config, &forwarders, before.map(|before| &before.lists))?;
            let (task, taking_effect) = (Task::default(), Arc::new(Once::new()));
            Ok::<_, TlsError>(FreshLists { lists, task, taking_effect })
        })?;
        Ok(Some(Self { verifier, lists }))
    }

    pub(crate) fn layer(&self) -> ForwardedCertificateLayer {
        self.take_effect();
        let trusted = self.lists.value.lists.trusted.clone();
        ForwardedCertificateLayer::new(trusted, self.verifier.clone())
    }

    pub(crate) fn start_tasks(&self) {
        self.take_effect();
        let FreshLists { lists, task, .. } = &self.lists.value;
        task.start(|| lists.clone().keep_fresh());
    }

    /// Trusts the forwarders of the configuration. Only the first call for a list has an effect. The functions
    /// [`layer`](Self::layer) and [`start_tasks`](Self::start_tasks) call this function, too.
    pub(crate) fn take_effect(&self) {
        let FreshLists { lists, taking_effect, .. } = &self.lists.value;
        taking_effect.call_once(|| lists.replace_trusted());
    }
}

impl Lists {
    fn new(
        config: &Config,
        forwarders: &ForwarderSettings,
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let ForwarderSettings { certificates, urls, .. } = forwarders;
        // The server needs a certificate of a certificate authority (CA) for services. A certificate of a CA for
        // clients is not enough.
        let connector = to_authority(config, &config.tls.service_authorities)?;
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        let (trusted, current, number) = match before {
            Some(before) => (before.trusted.clone(), before.current.clone(), before.number + 1),
            None => (TrustedForwarders::incomplete([]), Arc::default(), 1),
        };
        let (client, fixed) = (Client::new(connector, limits), certificates.clone());
        Ok(Self { trusted, current, number, client, fixed, urls: urls.clone() })
    }

    /// Trusts only the forwarders that the configuration names by their certificates. The forwarders of the lists
    /// follow when the lists are fetched. After this call, earlier `Lists` no longer change `trusted`.
    fn replace_trusted(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = self.number;
        let fixed = self.fixed.iter().copied();
        match self.urls.is_empty() {
            true => self.trusted.replace(fixed),
            false => self.trusted.replace_incomplete(fixed),
        }
    }

    /// Fetches the lists now, and then every hour. A list that cannot be fetched stays as it was. After a failure,
    /// all lists are fetched again after [`PAUSE`] or [`FIRST_PAUSE`], not after an hour. The future never ends.
    async fn keep_fresh(self) {
        if self.urls.is_empty() {
            return std::future::pending().await;
        }
        // An item is `None` if the list was never fetched.
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
            let is_complete = last_good.iter().all(Option::is_some);
            self.trust_fetched(known, is_complete);
            sleep(if is_complete { pause } else { FIRST_PAUSE }).await;
        }
    }

    /// Trusts the forwarders of the fetched lists. If a reload has replaced these `Lists` during the fetch, changes
    /// nothing.
    fn trust_fetched(&self, known: impl Iterator<Item = Fingerprint>, is_complete: bool) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != self.number {
            return;
        }
        match is_complete {
            true => self.trusted.replace(known),
            false => self.trusted.replace_incomplete(known),
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
