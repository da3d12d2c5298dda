//! The calls to Zowe's Caching Service, in which API ML (Zowe's API Mediation Layer) keeps its revocations
//! (docs/reference/zowe-site.md#caching-endpoints).

use std::{pin::Pin, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use serde_json::json;

use super::{
    error::CachingServiceError,
    list::List,
    lists::Lists,
    records::{KeyValue, has_message},
    salt::{ItemHash, Salt},
};
use crate::remote::{Address, Client, Connect, RemoteError, Reply};

/// The maximum number of keys in one call of `/cache-query`. The number is the default limit of the service
/// (`caching.storage.maxQueryKeys`).
const MAX_QUERY_KEYS: usize = 66;

pub(super) type CallFuture = Pin<Box<dyn Future<Output = Result<Reply, RemoteError>> + Send>>;

pub(super) trait Call: Send + Sync {
    fn send(&self, request: Request<Full<bytes::Bytes>>) -> CallFuture;
}

impl<C: Connect> Call for Client<C> {
    fn send(&self, request: Request<Full<bytes::Bytes>>) -> CallFuture {
        let client = self.clone();
        Box::pin(async move { client.call(request).await })
    }
}

/// The calls to one service. Clones share the connections.
#[derive(Clone)]
pub(super) struct ServiceClient {
    http: Arc<dyn Call>,
    address: Address,
}

pub(super) struct AllLists {
    pub(super) lists: Lists,
    pub(super) bytes: usize,
}

impl ServiceClient {
    /// Creates a client. `address` is the address of API ML's gateway, which forwards to the service.
    pub(super) fn new(http: Arc<dyn Call>, address: Address) -> Self {
        Self { http, address }
    }

    /// Reads the salt, and the name of its partition: the part of the store that belongs to the client certificate.
    /// Returns `None` if this partition has no salt.
    pub(super) async fn salt(&self) -> Result<Option<(Salt, String)>, CachingServiceError> {
        let reply = self.call(Method::GET, &["cache", "salt"], None).await?;
        match reply.status() {
            StatusCode::NOT_FOUND if has_message(reply.body(), "ZWECS131E") => Ok(None),
            StatusCode::OK => {
                let KeyValue { value, service_id } = reply.json()?;
                let salt = Salt::parse(&value).ok_or(CachingServiceError::BadSalt)?;
                Ok(Some((salt, service_id)))
            }
            _ => Err(unexpected(&reply)),
        }
    }

    /// Creates the salt. If another program has created it in the meantime, this call changes nothing.
    pub(super) async fn create_salt(&self, text: &str) -> Result<(), CachingServiceError> {
        let body = json!({"key": "salt", "value": text});
        let reply = self.call(Method::POST, &["cache"], Some(&body)).await?;
        match reply.status() {
            StatusCode::CREATED | StatusCode::CONFLICT => Ok(()),
            _ => Err(unexpected(&reply)),
        }
    }

    /// Returns whether the service supports `/cache-query`. If the result is `Ok`, the service itself has answered, and
    /// it can store lists.
    pub(super) async fn has_query(&self) -> Result<bool, CachingServiceError> {
        let reply = self.call(Method::POST, &["cache-query"], Some(&json!({}))).await?;
        match reply.status() {
            StatusCode::OK => {
                reply.json::<Lists>()?;
                Ok(true)
            }
            // A proxy in front of the service may have sent this status. A second call checks that the service itself
            // answers.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                let path = ["cache-list", "apimlReachabilityProbe"];
                let reply = self.call(Method::GET, &path, None).await?;
                match reply.status() {
                    StatusCode::OK => Ok(false),
                    _ => Err(unexpected(&reply)),
                }
            }
            _ => Err(unexpected(&reply)),
        }
    }

    pub(super) async fn all(&self) -> Result<AllLists, CachingServiceError> {
        let reply = self.call(Method::GET, &["cache-list"], None).await?;
        match reply.status() {
            StatusCode::OK => Ok(AllLists { lists: reply.json()?, bytes: reply.body().len() }),
            _ => Err(unexpected(&reply)),
        }
    }

    /// Reads the entries with these keys, up to [`MAX_QUERY_KEYS`] in each call.
    pub(super) async fn query(
        &self,
        keys: &[(List, ItemHash)],
    ) -> Result<Lists, CachingServiceError> {
        let mut found = Lists::default();
        for keys in keys.chunks(MAX_QUERY_KEYS) {
            let mut body = serde_json::Map::new();
            for (list, hash) in keys {
                let keys = body.entry(list.name()).or_insert_with(|| json!([]));
                if let Some(keys) = keys.as_array_mut() {
                    keys.push(hash.to_string().into());
                }
            }
            let reply = self.call(Method::POST, &["cache-query"], Some(&body.into())).await?;
            match reply.status() {
                StatusCode::OK => found.add(reply.json()?),
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                    return Err(CachingServiceError::NoQuery);
                }
                _ => return Err(unexpected(&reply)),
            }
        }
        Ok(found)
    }

    /// Reads one list. The body may be empty if the list has no entries.
    pub(super) async fn list(&self, list: List) -> Result<Lists, CachingServiceError> {
        let reply = self.call(Method::GET, &["cache-list", list.name()], None).await?;
        match reply.status() {
            StatusCode::OK if reply.body().is_empty() => Ok(Lists::default()),
            StatusCode::OK => Ok(Lists::of(list, reply.body()).ok_or_else(|| {
                RemoteError::Answer("status 200, not the expected JSON".to_owned())
            })?),
            _ => Err(unexpected(&reply)),
        }
    }

    /// Stores an entry of a list. `ttl_secs` must be `None` if the service does not support `/cache-query`.
    pub(super) async fn put(
        &self,
        list: List,
        hash: &ItemHash,
        value: &str,
        ttl_secs: Option<u64>,
    ) -> Result<(), CachingServiceError> {
        let mut body = json!({"key": hash.to_string(), "value": value});
        if let Some(ttl_secs) = ttl_secs {
            body["ttlSeconds"] = ttl_secs.into();
        }
        let reply = self.call(Method::POST, &["cache-list", list.name()], Some(&body)).await?;
        match reply.status() {
            status if status.is_success() => Ok(()),
            _ => Err(unexpected(&reply)),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Reply, CachingServiceError> {
        let path = [&["cachingservice", "api", "v1"], path].concat();
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request::new(Full::from(body));
        (*request.method_mut(), *request.uri_mut()) = (method, self.address.endpoint(&path)?);
        // API ML's own client sends this header with each call.
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self.http.send(request).await?)
    }
}

fn unexpected(reply: &Reply) -> CachingServiceError {
    match reply.status() {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            CachingServiceError::NotTrusted { status: status.as_u16() }
        }
        StatusCode::BAD_REQUEST if has_message(reply.body(), "ZWECS136E") => {
            CachingServiceError::NotInfinispan
        }
        StatusCode::NOT_FOUND => CachingServiceError::NotRegistered,
        _ => reply.unexpected_status().into(),
    }
}
