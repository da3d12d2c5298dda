//! An application implements `RevocationStore`, and stores revocations in SQLite.

use std::{
    convert::Infallible,
    future::ready,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rusqlite::{Connection, params};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    clock::Timestamp,
    layer::{AuthenticateLayer, Authenticator},
    passticket::UserId,
    revocation::{
        CheckError, Evicted, Revocation, RevocationCheck, RevocationIndex, RevocationStore,
        StoreError, StoreFuture,
    },
    test_util,
    token::{
        IssuedToken, Rs256Verifier, Scopes, ServiceId, TokenFingerprint, TokenIssuer, Validity,
        VerifiedToken,
    },
};

type Body = Full<Bytes>;

/// Stores revocations in SQLite. A check reads only an index in memory.
///
/// A write blocks its thread, which is acceptable in a test. A real store would write in a separate thread.
struct SqliteStore {
    database: Mutex<Connection>,
    index: RevocationIndex,
}

impl SqliteStore {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let database = Connection::open(path)?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS tokens (token BLOB PRIMARY KEY, expires_at INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS users (user TEXT PRIMARY KEY, up_to INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS services (service TEXT PRIMARY KEY, up_to INTEGER NOT NULL);",
        )?;
        let index = RevocationIndex::default();
        for_each(
            &database,
            "SELECT token, expires_at FROM tokens",
            |token: [u8; 32], expires_at| {
                let token = TokenFingerprint::from_bytes(token);
                index.apply(&Revocation::Token { token, expires_at });
            },
        )?;
        for_each(&database, "SELECT user, up_to FROM users", |user: String, up_to| {
            let user = UserId::new(&user).unwrap();
            index.apply(&Revocation::User { user, up_to });
        })?;
        for_each(&database, "SELECT service, up_to FROM services", |service: String, up_to| {
            let service = ServiceId::new(&service).unwrap();
            index.apply(&Revocation::Service { service, up_to });
        })?;
        Ok(Self { database: Mutex::new(database), index })
    }

    fn write<T>(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        write(&database)
            .map_err(|e| StoreError::Write { store: "SQLite".into(), source: Arc::new(e) })
    }
}

fn for_each<K: rusqlite::types::FromSql>(
    database: &Connection,
    select: &str,
    mut row: impl FnMut(K, Timestamp),
) -> rusqlite::Result<()> {
    let mut select = database.prepare(select)?;
    let mut rows = select.query([])?;
    while let Some(columns) = rows.next()? {
        row(columns.get(0)?, Timestamp::from_millis(columns.get(1)?));
    }
    Ok(())
}

impl RevocationCheck for SqliteStore {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        self.index.try_check_now(token)
    }
}

impl RevocationStore for SqliteStore {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        const TOKEN: &str = "INSERT INTO tokens VALUES (?1, ?2) ON CONFLICT (token)
             DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)";
        const USER: &str = "INSERT INTO users VALUES (?1, ?2) ON CONFLICT (user)
             DO UPDATE SET up_to = max(up_to, excluded.up_to)";
        const SERVICE: &str = "INSERT INTO services VALUES (?1, ?2) ON CONFLICT (service)
             DO UPDATE SET up_to = max(up_to, excluded.up_to)";
        let written = self.write(|database| match &revocation {
            Revocation::Token { token, expires_at } => {
                database.execute(TOKEN, params![token.as_bytes(), expires_at.as_millis()])
            }
            Revocation::User { user, up_to } => {
                database.execute(USER, params![user.as_str(), up_to.as_millis()])
            }
            Revocation::Service { service, up_to } => {
                database.execute(SERVICE, params![service.as_str(), up_to.as_millis()])
            }
            _ => Err(rusqlite::Error::InvalidQuery),
        });
        // The revocation takes effect in this process even if the write has failed.
        self.index.apply(&revocation);
        Box::pin(ready(written.map(drop)))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        let oldest = now.as_millis().saturating_sub(u64::from(Validity::MAX.days()) * 86_400_000);
        let written = self.write(|database| {
            database.execute("DELETE FROM tokens WHERE expires_at <= ?1", [now.as_millis()])?;
            database.execute("DELETE FROM users WHERE up_to < ?1", [oldest])?;
            database.execute("DELETE FROM services WHERE up_to < ?1", [oldest])
        });
        match written {
            Ok(_) => self.index.evict(now),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

struct Tokens {
    issuer: TokenIssuer,
    verifier: Rs256Verifier,
}

impl Tokens {
    fn new() -> Self {
        Self { issuer: test_util::issuer(), verifier: test_util::verifier() }
    }

    fn pat(&self, user: &str, service: &str) -> IssuedToken {
        let scopes = Scopes::parse([service]).unwrap();
        let user = UserId::new(user).unwrap();
        self.issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap()
    }

    /// Sends a request with `token` to a gateway that looks for revocations in `store`. Returns the status.
    async fn status(&self, store: &Arc<dyn RevocationStore>, token: &IssuedToken) -> u16 {
        let authenticator =
            Authenticator::new(self.verifier.clone()).with_personal_access_tokens(store.clone());
        let service =
            ServiceBuilder::new().layer(AuthenticateLayer::new(authenticator)).service(service_fn(
                |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::default())) },
            ));
        let request = Request::get("/").header("private-token", token.expose());
        let response = service.oneshot(request.body(Body::default()).unwrap()).await.unwrap();
        response.status().as_u16()
    }
}

#[tokio::test]
async fn revocations_in_sqlite_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("revocations.sqlite");
    let open = || -> Arc<dyn RevocationStore> { Arc::new(SqliteStore::open(&path).unwrap()) };
    let tokens = Tokens::new();
    let revoked =
        [tokens.pat("ONE", "files"), tokens.pat("TWO", "files"), tokens.pat("THREE", "jobs")];
    let good = tokens.pat("FOUR", "files");

    let store = open();
    for token in revoked.iter().chain([&good]) {
        assert_eq!(tokens.status(&store, token).await, 200);
    }
    let expires_at = tokens.verifier.verify(revoked[0].expose()).unwrap().expires_at();
    let up_to = Timestamp::from_secs(4_000_000_000);
    let service = ServiceId::new("jobs").unwrap();
    for revocation in [
        Revocation::Token { token: TokenFingerprint::of(revoked[0].expose()), expires_at },
        Revocation::User { user: UserId::new("TWO").unwrap(), up_to },
        // This rule must not replace the rule above, whose time is later.
        Revocation::User { user: UserId::new("TWO").unwrap(), up_to: Timestamp::from_secs(0) },
        Revocation::Service { service, up_to },
    ] {
        store.record(revocation).await.unwrap();
    }
    // `store` has recorded the revocations. `open` reads them from the file, as after a restart.
    for store in [store, open()] {
        for token in &revoked {
            assert_eq!(tokens.status(&store, token).await, 401);
        }
        assert_eq!(tokens.status(&store, &good).await, 200);
    }

    let store = open();
    store.evict(expires_at).await.unwrap();
    let store = open();
    assert_eq!(tokens.status(&store, &revoked[0]).await, 200);
    assert_eq!(tokens.status(&store, &revoked[1]).await, 401);
}
