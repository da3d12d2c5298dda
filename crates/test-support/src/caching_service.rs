//! A fake of Zowe's Caching Service, in which API ML (the API gateway of Zowe) stores its revocations of Personal
//! Access Tokens (docs/reference/zowe-site.md#caching-endpoints). To revoke a token, API ML stores a hash of the token
//! and of a random text, the salt.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, Request},
    pki::{Clients, Identity, SERVER},
};

const MAX_QUERY_KEYS: usize = 66;

/// How the service stores lists. This depends on its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Releases before 3.6: one map for each list, and no `/cache-query`.
    Maps,
    /// Release 3.6 and later: one entry for each item, with a lifetime, and `/cache-query`.
    Entries,
}

/// The data of a fake Caching Service, and its answers.
#[derive(Debug)]
pub struct CachingStore {
    layout: Layout,
    /// The certificate of API ML, as DER. Each client certificate has its own data, called a partition. `None` means
    /// that all client certificates have the partition of API ML.
    api_ml: Option<Vec<u8>>,
    /// The key-value records of API ML's partition.
    records: BTreeMap<String, String>,
    lists: BTreeMap<String, BTreeMap<String, String>>,
    lifetimes: BTreeMap<String, i64>,
    /// The service drops this number of the next writes to lists, but answers as if they had succeeded.
    pub drops: usize,
    /// Whether the storage is Infinispan. Other storages have no lists.
    pub is_infinispan: bool,
    /// Whether API ML trusts the certificates of clients. If not, clients with a certificate receive the status 403.
    pub trusts_clients: bool,
    /// If set, all answers have this status.
    pub status: Option<u16>,
}

impl CachingStore {
    /// Creates the data of a service, without a salt. All client certificates have the partition of API ML.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            api_ml: None,
            records: BTreeMap::new(),
            lists: BTreeMap::new(),
            lifetimes: BTreeMap::new(),
            drops: 0,
            is_infinispan: true,
            trusts_clients: true,
            status: None,
        }
    }

    /// Sets the salt of API ML's partition. `None` removes the salt.
    pub fn set_salt(&mut self, text: Option<&str>) {
        match text {
            Some(text) => drop(self.records.insert("salt".to_owned(), text.to_owned())),
            None => drop(self.records.remove("salt")),
        }
    }

    /// Returns the salt of API ML's partition.
    pub fn salt(&self) -> Option<&str> {
        self.records.get("salt").map(String::as_str)
    }

    /// Stores an entry, as API ML does.
    pub fn put(&mut self, list: &str, key: &str, value: &str) {
        let list = self.lists.entry(list.to_owned()).or_default();
        list.insert(key.to_owned(), value.to_owned());
    }

    /// Returns an entry.
    pub fn get(&self, list: &str, key: &str) -> Option<&str> {
        self.lists.get(list)?.get(key).map(String::as_str)
    }

    /// Returns the lifetime of an entry in seconds, if it was written with a lifetime.
    pub fn lifetime(&self, key: &str) -> Option<i64> {
        self.lifetimes.get(key).copied()
    }

    /// Returns the answer to a request. `certificate` is the certificate of the client, as DER.
    pub fn answer(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        certificate: Option<&[u8]>,
    ) -> Answer {
        if let Some(status) = self.status {
            return Answer::empty(status);
        }
        let Some(path) = path.strip_prefix("/cachingservice/api/v1/") else {
            return message(404, "ZWEAO404E");
        };
        if certificate.is_none() {
            return message(401, "ZWECS702W");
        }
        if !self.trusts_clients {
            return Answer::empty(403);
        }
        let is_api_ml = self.api_ml.as_deref().is_none_or(|ours| certificate == Some(ours));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let segments: Vec<_> = path.trim_end_matches('/').split('/').collect();
        if segments[0].starts_with("cache-") && !self.is_infinispan {
            return message(400, "ZWECS136E");
        }
        if !is_api_ml {
            // In this fake, the partitions of other clients are always empty.
            return Self::new(self.layout).answer_api_ml(method, &segments, &body);
        }
        self.answer_api_ml(method, &segments, &body)
    }

    fn answer_api_ml(&mut self, method: &str, path: &[&str], body: &Value) -> Answer {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match (method, path) {
            ("GET", ["cache", key]) => match self.records.get(*key) {
                None => message(404, "ZWECS131E"),
                Some(value) => {
                    let partition = match self.layout {
                        Layout::Maps => "CN=Zowe Service, OU=API Mediation Layer",
                        Layout::Entries => "CN=Zowe Service,OU=API Mediation Layer",
                    };
                    Answer::json(
                        200,
                        &json!({
                            "key": key, "value": value, "serviceId": partition,
                            "created": "1764300000000",
                        }),
                    )
                }
            },
            ("POST", ["cache"]) if self.records.contains_key(&text("key")) => {
                message(409, "ZWECS133E")
            }
            ("POST", ["cache"]) => {
                self.records.insert(text("key"), text("value"));
                Answer::empty(201)
            }
            ("GET", ["cache-list"]) => Answer::json(200, &json!(self.lists)),
            ("GET", ["cache-list", list]) => match self.lists.get(*list) {
                None => Answer::empty(200),
                Some(list) => Answer::json(200, &json!(list)),
            },
            ("POST", ["cache-list", _]) if self.drops > 0 => {
                self.drops -= 1;
                Answer::empty(201)
            }
            ("POST", ["cache-list", list]) => {
                let (key, value) = (text("key"), text("value"));
                let lifetime = body["ttlSeconds"].as_i64();
                let lifetime = lifetime.filter(|_| self.layout == Layout::Entries);
                match lifetime {
                    Some(seconds) if seconds <= 0 => {
                        self.lists.entry((*list).to_owned()).or_default().remove(&key);
                    }
                    lifetime => {
                        self.lifetimes.extend(lifetime.map(|seconds| (key.clone(), seconds)));
                        self.put(list, &key, &value);
                    }
                }
                Answer::empty(201)
            }
            ("POST", ["cache-query"]) if self.layout == Layout::Entries => self.query(body),
            _ => Answer::json(404, &json!({"status": 404, "error": "Not Found"})),
        }
    }

    fn query(&self, body: &Value) -> Answer {
        let lists = body.as_object().into_iter().flatten();
        let keys = lists.flat_map(|(list, keys)| {
            let keys = keys.as_array().into_iter().flatten();
            keys.map(move |key| (list.as_str(), key.as_str().unwrap_or_default()))
        });
        let keys: Vec<_> = keys.collect();
        if keys.len() > MAX_QUERY_KEYS {
            return message(400, "ZWECS130E");
        }
        let mut found = json!({});
        for (list, key) in keys {
            if let Some(value) = self.get(list, key) {
                found[list][key] = value.into();
            }
        }
        Answer::json(200, &found)
    }
}

/// A fake Caching Service. It serves only clients with a certificate of
/// [`Authority::trusted`](crate::pki::Authority::trusted).
#[derive(Debug)]
pub struct FakeCachingService {
    fake: Fake,
    store: Arc<Mutex<CachingStore>>,
}

impl FakeCachingService {
    /// Starts a fake. API ML is the client with the certificate `api_ml`.
    pub async fn https(layout: Layout, api_ml: &Identity) -> Self {
        let mut store = CachingStore::new(layout);
        store.api_ml = Some(api_ml.certificate_der().to_vec());
        let store = Arc::new(Mutex::new(store));
        let handle = {
            let store = store.clone();
            move |request: &Request| {
                let Request { method, path, body, certificate, .. } = request;
                store.lock().unwrap().answer(method, path, body, certificate.as_deref())
            }
        };
        let acceptor = SERVER.acceptor_of_clients(Clients::MustHaveCertificate);
        Self { fake: Fake::https(acceptor, handle).await, store }
    }

    /// Returns the data of the service.
    pub fn store(&self) -> MutexGuard<'_, CachingStore> {
        self.store.lock().unwrap()
    }
}

impl Deref for FakeCachingService {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

fn message(status: u16, number: &str) -> Answer {
    Answer::json(
        status,
        &json!({"messages": [{
            "messageType": "ERROR", "messageNumber": number, "messageContent": "text",
        }]}),
    )
}
