//! Tests of [`WithCachingService`] and [`CachingService`] against a fake Caching Service in memory, with paused time.
//! `zowe_hash` computes API ML's hash independently of the code under test.

use std::{
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha512};
use test_support::caching_service::{CachingStore, Layout};
use tokio::time::{Instant, sleep};

use super::{
    client::{Call, CallFuture},
    service::Calls,
    *,
};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    metrics::MetricRegistry,
    passticket::UserId,
    remote::{RemoteError, Reply},
    revocation::{
        CheckError, Revocation, RevocationCheck, RevocationIndex, RevocationStore, RevokedBy,
        StoreError,
    },
    token::{Rs256Verifier, Scopes, ServiceId, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

const SECOND: Duration = Duration::from_secs(1);
const SALT: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// A fake service. Each call fails while the service is away.
#[derive(Clone)]
struct Fake {
    store: Arc<Mutex<CachingStore>>,
    is_away: Arc<Mutex<bool>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Call for Fake {
    fn send(&self, request: Request<Full<Bytes>>) -> CallFuture {
        let fake = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (method, path) = (head.method.as_str(), head.uri.path());
            fake.calls.lock().unwrap().push(format!("{method} {path}"));
            // Other tasks run while a real call waits for its answer.
            tokio::task::yield_now().await;
            if *fake.is_away.lock().unwrap() {
                return Err(RemoteError::Unavailable("away".to_owned()));
            }
            let answer = fake.store().answer(method, path, &body, Some(b"certificate"));
            let status = StatusCode::from_u16(answer.status).unwrap();
            Ok(Reply::new(status, str::from_utf8(&answer.body).unwrap()))
        })
    }
}

impl Fake {
    fn new(layout: Layout, salt: Option<&str>) -> Self {
        let mut store = CachingStore::new(layout);
        store.set_salt(salt);
        Self { store: Arc::new(Mutex::new(store)), is_away: Arc::default(), calls: Arc::default() }
    }

    fn store(&self) -> MutexGuard<'_, CachingStore> {
        self.store.lock().unwrap()
    }

    fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }

    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn service(&self, settings: CachingServiceSettings) -> CachingService {
        let calls = Calls { reads: Arc::new(self.clone()), writes: Arc::new(self.clone()) };
        let address = "https://zowe:7554".parse().unwrap();
        CachingService::with_calls(calls, 5 * SECOND, address, settings)
    }

    /// Stores a revocation as API ML does. API ML hashes the text `key`.
    fn revoke(&self, list: &str, key: &str, value: &str) {
        let mut store = self.store();
        let key = zowe_hash(store.salt().unwrap(), key);
        store.put(list, &key, value);
    }

    /// Returns the value that API ML finds under the hash of `key`.
    fn found(&self, list: &str, key: &str) -> Option<String> {
        let store = self.store();
        let key = zowe_hash(store.salt().unwrap(), key);
        store.get(list, &key).map(str::to_owned)
    }
}

/// Returns SHA-512 of the salt and the value, as API ML's class `ApimlAccessTokenProvider` computes it.
fn zowe_hash(salt: &str, value: &str) -> String {
    let decoded = BASE64_STANDARD.decode(salt);
    let salt = decoded.unwrap_or_else(|_| salt.as_bytes().to_vec());
    let digest = Sha512::digest([&salt, value.as_bytes()].concat());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a PAT of `USER` for two services, and its text.
fn pat(keeps_text: bool) -> (VerifiedToken, String) {
    let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let verifier = if keeps_text { verifier.with_pat_texts() } else { verifier };
    let scopes = Scopes::parse(["svc,other:read,other:/X"]).unwrap();
    let user = UserId::new("user").unwrap();
    let token = TokenIssuer::new(key).personal_access_token(&user, &scopes, Validity::MAX);
    let text = token.unwrap().expose().to_owned();
    (verifier.verify(&text).unwrap(), text)
}

fn index() -> CachingServiceSettings {
    CachingServiceSettings::new(ReadMode::Index { every: 2 * SECOND })
}

fn query() -> CachingServiceSettings {
    CachingServiceSettings::new(ReadMode::Query { memory: Duration::ZERO })
}

async fn check(store: &impl RevocationStore, token: &VerifiedToken) -> Result<(), CheckError> {
    match store.try_check_now(token) {
        Some(checked) => checked,
        None => store.check_token(token).await,
    }
}

async fn running(
    fake: &Fake,
    settings: CachingServiceSettings,
) -> WithCachingService<RevocationIndex> {
    let service = fake.service(settings);
    service.prepare().await.unwrap();
    tokio::spawn(service.clone().run());
    WithCachingService::new(RevocationIndex::default(), service)
}

fn health(store: &WithCachingService<RevocationIndex>) -> Option<String> {
    store.service().health().reason().map(str::to_owned)
}

fn now_millis() -> String {
    SystemClock.now().as_millis().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_revocation_of_api_ml_is_seen_in_both_modes() {
    let (other, _) = pat(true);
    for (layout, settings) in
        [(Layout::Maps, index()), (Layout::Entries, index()), (Layout::Entries, query())]
    {
        for (list, key, by) in [
            ("invalidTokens", None, RevokedBy::Token),
            ("invalidUsers", Some("USER"), RevokedBy::UserRule),
            ("invalidUsers", Some("user"), RevokedBy::UserRule),
            ("invalidScopes", Some("other"), RevokedBy::ServiceRule),
        ] {
            let case = format!("{layout:?} {settings:?} {list} {key:?}");
            let fake = Fake::new(layout, Some(SALT));
            let store = running(&fake, settings).await;
            let (token, text) = pat(true);
            assert_eq!(check(&store, &token).await, Ok(()), "{case}");
            fake.revoke(list, key.unwrap_or(&text), &now_millis());
            // The next poll begins two seconds after the last poll.
            sleep(2 * SECOND + Duration::from_millis(1)).await;
            let revoked = Err(CheckError::Revoked(by));
            assert_eq!(check(&store, &token).await, revoked, "{case}");
            if list == "invalidTokens" {
                assert_eq!(check(&store, &other).await, Ok(()), "{case}");
            }
            assert_eq!(health(&store), None, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn login_tokens_are_checked_without_the_caching_service() {
    let fake = Fake::new(Layout::Entries, Some(SALT));
    let store = running(&fake, query()).await;
    let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let user = UserId::new("USER").unwrap();
    let token = TokenIssuer::new(key).login_token(&user, "security-domain").unwrap();
    let token = verifier.verify(token.expose()).unwrap();
    fake.set_away(true);
    fake.take_calls();
    assert_eq!(store.try_check_now(&token), Some(Ok(())));
    assert_eq!(fake.take_calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_fails_closed_and_recovers() {
    let (token, _) = pat(true);
    for (settings, bound) in [(index(), 7 * SECOND), (query(), Duration::ZERO)] {
        let fake = Fake::new(Layout::Entries, Some(SALT));
        let store = running(&fake, settings).await;
        assert_eq!(check(&store, &token).await, Ok(()));
        let asked = Instant::now();
        fake.set_away(true);
        if bound > Duration::ZERO {
            sleep(bound - SECOND).await;
            assert_eq!(check(&store, &token).await, Ok(()));
        }
        sleep(bound + 15 * SECOND - asked.elapsed()).await;
        assert_eq!(check(&store, &token).await, Err(CheckError::Unavailable));
        assert!(health(&store).unwrap().contains("refused: the Caching Service is not available"));
        fake.set_away(false);
        sleep(15 * SECOND).await;
        assert_eq!(check(&store, &token).await, Ok(()));
        assert_eq!(health(&store), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pat_is_refused_without_its_text_or_before_the_service_is_prepared() {
    let fake = Fake::new(Layout::Maps, Some(SALT));
    let store = running(&fake, index()).await;
    let (without_text, _) = pat(false);
    assert_eq!(check(&store, &without_text).await, Err(CheckError::Unavailable));
    let (token, _) = pat(true);
    for settings in [index(), query()] {
        let store = WithCachingService::new(RevocationIndex::default(), fake.service(settings));
        assert_eq!(check(&store, &token).await, Err(CheckError::Unavailable));
        assert!(health(&store).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn revocations_of_the_gateway_are_found_by_api_ml() {
    for (layout, settings) in
        [(Layout::Maps, index()), (Layout::Entries, index()), (Layout::Entries, query())]
    {
        let fake = Fake::new(layout, Some(SALT));
        let store = running(&fake, settings.with_writes()).await;
        let (token, text) = pat(true);
        store.revoke(&token).await.unwrap();
        let value = fake.found("invalidTokens", &text).unwrap();
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["tokenValue"], zowe_hash(SALT, &text));
        let key = zowe_hash(SALT, &text);
        let lifetime = fake.store().lifetime(&key);
        assert_eq!(lifetime.is_some(), layout == Layout::Entries);
        assert!(lifetime.is_none_or(|secs| (7_775_000..=7_776_000).contains(&secs)));

        let (up_to, user) =
            (Timestamp::from_millis(1_900_000_000_000), UserId::new("user").unwrap());
        store.record_rule_of_now(Revocation::User { user, up_to }).await.unwrap();
        let service = ServiceId::new("SVC").unwrap();
        store.record(Revocation::Service { service, up_to }).await.unwrap();
        let earlier = Timestamp::from_millis(1_800_000_000_000);
        store.record(Revocation::User { user, up_to: earlier }).await.unwrap();
        for (list, key) in
            [("invalidUsers", "USER"), ("invalidUsers", "user"), ("invalidScopes", "svc")]
        {
            assert_eq!(fake.found(list, key).as_deref(), Some("1900000000000"), "{list} {key}");
        }
        // A fingerprint alone is not written to the Caching Service, because the keys there are made from the text of a
        // PAT. The fingerprint may also be that of a login token.
        fake.take_calls();
        let revocation =
            Revocation::Token { token: token.fingerprint(), expires_at: token.expires_at() };
        store.record(revocation).await.unwrap();
        assert_eq!(fake.take_calls(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_unless_writes_are_on() {
    let fake = Fake::new(Layout::Maps, Some(SALT));
    let store = running(&fake, index()).await;
    let (token, text) = pat(true);
    store.revoke(&token).await.unwrap();
    assert_eq!(check(&store, &token).await, Err(CheckError::Revoked(RevokedBy::Token)));
    assert_eq!(fake.found("invalidTokens", &text), None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_write_is_sent_again_and_reported() {
    let fake = Fake::new(Layout::Maps, Some(SALT));
    let store = running(&fake, index().with_writes()).await;
    // The service drops two writes. The third write is confirmed.
    fake.store().drops = 2;
    let (token, text) = pat(true);
    store.revoke(&token).await.unwrap();
    assert!(fake.found("invalidTokens", &text).is_some());

    // The service drops the write each time it is sent. The caller gets an error, but the gateway's own store has the
    // revocation.
    fake.store().drops = 1000;
    let (token, text) = pat(true);
    let error = store.revoke(&token).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unconfirmed { .. }), "{error}");
    assert!(error.to_string().contains("does not have the revocation"), "{error}");
    assert_eq!(check(&store, &token).await, Err(CheckError::Revoked(RevokedBy::Token)));
    assert!(health(&store).unwrap().starts_with("1 revocations wait for API ML"));
    let metrics = MetricRegistry::new().with(store.service().clone()).expose();
    assert!(metrics.contains("passticket_zowe_revocation_waiting_writes 1"), "{metrics}");

    fake.store().drops = 0;
    sleep(20 * SECOND).await;
    assert!(fake.found("invalidTokens", &text).is_some());
    assert_eq!(health(&store), None);
}

#[tokio::test(start_paused = true)]
async fn a_changed_salt_is_an_alarm_and_both_salts_are_used() {
    let fake = Fake::new(Layout::Maps, Some(SALT));
    let store = running(&fake, index().with_writes()).await;
    let (old, old_text) = pat(true);
    let (new, new_text) = pat(true);
    fake.revoke("invalidTokens", &old_text, "{}");
    fake.store().set_salt(Some("another salt"));
    fake.revoke("invalidTokens", &new_text, "{}");
    sleep(3 * SECOND).await;
    let revoked = Err(CheckError::Revoked(RevokedBy::Token));
    assert_eq!((check(&store, &old).await, check(&store, &new).await), (revoked, Ok(())));
    sleep(300 * SECOND).await;
    assert_eq!((check(&store, &old).await, check(&store, &new).await), (revoked, revoked));
    assert!(health(&store).unwrap().contains("the salt of API ML's revocations has changed"));
    let metrics = MetricRegistry::new().with(store.service().clone()).expose();
    assert!(metrics.contains("passticket_zowe_revocation_salts 2"), "{metrics}");
    let (third, third_text) = pat(true);
    store.revoke(&third).await.unwrap();
    assert!(fake.found("invalidTokens", &third_text).is_some());
    fake.store().set_salt(Some(SALT));
    assert!(fake.found("invalidTokens", &third_text).is_some());
    // A missing salt is also an alarm. The known salts are still used.
    fake.store().set_salt(None);
    sleep(301 * SECOND).await;
    assert!(health(&store).unwrap().contains("salt of API ML's revocations is gone"));
    assert_eq!(check(&store, &old).await, revoked);
}

#[tokio::test(start_paused = true)]
async fn emptied_lists_are_used_only_if_the_salt_is_the_same_as_at_the_start() {
    let (token, text) = pat(true);
    let revoked = Err(CheckError::Revoked(RevokedBy::Token));
    for (salt, problem) in
        [(Some(SALT), None), (None, Some("is gone")), (Some("another salt"), Some("has changed"))]
    {
        let fake = Fake::new(Layout::Maps, Some(SALT));
        fake.revoke("invalidTokens", &text, "{}");
        let store = running(&fake, index()).await;
        sleep(SECOND).await;
        *fake.store() = CachingStore::new(Layout::Maps);
        fake.store().set_salt(salt);
        // The next poll begins two seconds after the first poll.
        sleep(2 * SECOND).await;
        let Some(problem) = problem else {
            assert_eq!(check(&store, &token).await, Ok(()));
            assert_eq!(health(&store), None);
            continue;
        };
        let alarm = health(&store).unwrap();
        assert!(alarm.contains(&format!("salt of API ML's revocations {problem}")), "{alarm}");
        // The last answer before the loss is used until it is too old. The answers after the loss are ignored.
        assert_eq!(check(&store, &token).await, revoked, "{problem}");
        sleep(6 * SECOND).await;
        assert_eq!(check(&store, &token).await, Err(CheckError::Unavailable), "{problem}");
        let refused = health(&store).unwrap();
        assert!(refused.contains("refused: the lists of the Caching Service"), "{refused}");
        // API ML uses a new salt, and revokes another token.
        fake.store().set_salt(Some("another salt"));
        fake.revoke("invalidTokens", "another token", "{}");
        sleep(3 * SECOND).await;
        assert_eq!(check(&store, &token).await, Err(CheckError::Unavailable), "{problem}");
        // The data come back, for example when a network partition ends.
        fake.store().set_salt(Some(SALT));
        fake.revoke("invalidTokens", &text, "{}");
        sleep(3 * SECOND).await;
        assert_eq!(check(&store, &token).await, revoked, "{problem}");
        assert!(health(&store).unwrap().contains("the salt of API ML's revocations"));
    }
}

#[tokio::test(start_paused = true)]
async fn emptied_lists_are_not_used_while_the_salt_cannot_be_read() {
    /// A service that does not answer requests for the salt while the flag is set. It answers all other requests.
    struct BusySalt(Fake, Arc<AtomicBool>);
    impl Call for BusySalt {
        fn send(&self, request: Request<Full<Bytes>>) -> CallFuture {
            match request.uri().path().ends_with("/salt") && self.1.load(Ordering::Relaxed) {
                true => Box::pin(ready(Err(RemoteError::Unavailable("busy".to_owned())))),
                false => self.0.send(request),
            }
        }
    }
    let (token, text) = pat(true);
    let (fake, is_busy) = (Fake::new(Layout::Maps, Some(SALT)), Arc::new(AtomicBool::new(false)));
    fake.revoke("invalidTokens", &text, "{}");
    let reads = Arc::new(BusySalt(fake.clone(), is_busy.clone()));
    let calls = Calls { reads, writes: Arc::new(fake.clone()) };
    let address = "https://zowe:7554".parse().unwrap();
    let service = CachingService::with_calls(calls, 5 * SECOND, address, index());
    service.prepare().await.unwrap();
    tokio::spawn(service.clone().run());
    let store = WithCachingService::new(RevocationIndex::default(), service);
    sleep(SECOND).await;
    is_busy.store(true, Ordering::Relaxed);
    *fake.store() = CachingStore::new(Layout::Maps);
    fake.store().set_salt(Some(SALT));
    sleep(2 * SECOND).await;
    assert_eq!(check(&store, &token).await, Err(CheckError::Revoked(RevokedBy::Token)));
    sleep(6 * SECOND).await;
    assert_eq!(check(&store, &token).await, Err(CheckError::Unavailable));
    is_busy.store(false, Ordering::Relaxed);
    sleep(3 * SECOND).await;
    assert_eq!(check(&store, &token).await, Ok(()));
    assert_eq!(health(&store), None);
}

#[tokio::test(start_paused = true)]
async fn a_rule_with_a_time_in_the_future_is_written_as_a_number_that_api_ml_can_read() {
    let user = UserId::new("user").unwrap();
    for (millis, want) in [
        (4_102_444_800_000, "4102444800000"),
        (9_223_372_036_854_775_808, "9223372036854775807"),
        (u64::MAX, "9223372036854775807"),
    ] {
        let fake = Fake::new(Layout::Entries, Some(SALT));
        let store = running(&fake, index().with_writes()).await;
        let up_to = Timestamp::from_millis(millis);
        store.record(Revocation::User { user, up_to }).await.unwrap();
        assert_eq!(fake.found("invalidUsers", "USER").as_deref(), Some(want));
        let lifetime = fake.store().lifetime(&zowe_hash(SALT, "USER"));
        assert_eq!(lifetime, Some(90 * 24 * 60 * 60));
        sleep(3 * SECOND).await;
        assert_eq!(health(&store), None, "{millis}");
    }
}

#[tokio::test(start_paused = true)]
async fn prepare_says_what_it_found_or_what_is_wrong_and_whether_an_operator_must_act() {
    let fake = Fake::new(Layout::Maps, Some("\u{fffd}salt"));
    let found = fake.service(index()).prepare().await.unwrap();
    assert_eq!(
        found.to_string(),
        "partition \"CN=Zowe Service, OU=API Mediation Layer\"; salt: text; layout: one map for each list (before 3.6)"
    );
    let error = |error: CachingServiceError| (error.needs_operator(), error.to_string());
    let text = error(fake.service(query()).prepare().await.unwrap_err());
    assert!(text.0 && text.1.contains("set zowe.revocations.mode: index"), "{text:?}");

    // The service has no salt. Without the permission to create one, this is an error. With this permission, a salt is
    // created once.
    for layout in [Layout::Maps, Layout::Entries] {
        let fake = Fake::new(layout, None);
        let text = error(fake.service(index()).prepare().await.unwrap_err());
        assert!(text.0 && text.1.contains("ZWECS131E"), "{text:?}");
        let found = fake.service(index().with_salt_creation()).prepare().await.unwrap();
        let spelling = match layout {
            Layout::Maps => SaltSpelling::Text,
            Layout::Entries => SaltSpelling::Base64Of16Bytes,
        };
        assert_eq!((found.is_new_salt, found.spelling), (true, spelling));
        let found = fake.service(index().with_salt_creation()).prepare().await.unwrap();
        assert!(!found.is_new_salt);
    }

    let fake = Fake::new(Layout::Maps, Some(SALT));
    fake.store().is_infinispan = false;
    let text = error(fake.service(index()).prepare().await.unwrap_err());
    assert!(text.0 && text.1.contains("set caching.storage.mode: infinispan"), "{text:?}");
    fake.store().trusts_clients = false;
    let text = error(fake.service(index()).prepare().await.unwrap_err());
    assert!(text.0 && text.1.contains("refuses the client certificate"), "{text:?}");
    for (status, want) in [(404, "forwards to no Caching Service"), (503, "not available")] {
        fake.store().status = Some(status);
        let text = error(fake.service(index()).prepare().await.unwrap_err());
        assert!(!text.0 && text.1.contains(want), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_query_has_at_most_66_keys_and_concurrent_checks_share_it() {
    let fake = Fake::new(Layout::Entries, Some(SALT));
    let store = running(&fake, query()).await;
    let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key()).with_pat_texts();
    let services: Vec<_> = (0..150).map(|i| format!("service{i}")).collect();
    let scopes = Scopes::parse(services).unwrap();
    let user = UserId::new("USER").unwrap();
    let token = TokenIssuer::new(key).personal_access_token(&user, &scopes, Validity::MAX);
    let token = verifier.verify(token.unwrap().expose()).unwrap();
    fake.take_calls();
    let checks = (0..50).map(|_| store.check_token(&token));
    let mut tasks = tokio::task::JoinSet::new();
    checks.for_each(|check| drop(tasks.spawn(check)));
    assert_eq!(tasks.join_all().await, [Ok(()); 50]);
    // The token has 153 keys: 150 services, one token and two spellings of the user. A query has at most 66 keys.
    assert_eq!(fake.take_calls(), ["POST /cachingservice/api/v1/cache-query"; 3]);
    fake.revoke("invalidScopes", "service149", &now_millis());
    let by_service = Err(CheckError::Revoked(RevokedBy::ServiceRule));
    assert_eq!(check(&store, &token).await, by_service);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_json_is_an_error() {
    struct Page;
    impl Call for Page {
        fn send(&self, request: Request<Full<Bytes>>) -> CallFuture {
            let is_salt = request.uri().path().ends_with("/salt");
            let body = if is_salt { r#"{"value":"salt"}"# } else { "<html>Log in</html>" };
            Box::pin(ready(Ok(Reply::new(StatusCode::OK, body))))
        }
    }
    for settings in [index(), query()] {
        let calls = Calls { reads: Arc::new(Page), writes: Arc::new(Page) };
        let address = "https://zowe".parse().unwrap();
        let service = CachingService::with_calls(calls, SECOND, address, settings);
        let error = service.prepare().await.unwrap_err();
        assert!(error.to_string().contains("not the expected JSON"), "{error}");
    }
}
