//! An application serves the auth API (login, query, logout) in its own axum router, below a path prefix that it
//! chooses. It chooses the login provider at run time.

use std::{error::Error, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::COOKIE};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_passticket::{
    api::{
        AuthApi, AuthPrefix, FileLogin, LoginError, LoginFuture, LoginProvider, Password,
        hash_password,
    },
    passticket::UserId,
    revocation::RevocationIndex,
    test_util,
};

const PREFIX: &str = "/zaas/api/v1/auth";

struct Directory;

impl LoginProvider for Directory {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        Box::pin(async move {
            match password.expose() {
                b"directory-password" => Ok(user),
                _ => Err(LoginError::WrongCredentials),
            }
        })
    }
}

/// The login providers from which the application chooses. A real application reads the choice from its configuration.
enum Provider {
    Directory,
    File,
}

fn provider(chosen: &Provider) -> Result<Arc<dyn LoginProvider>, Box<dyn Error>> {
    Ok(match chosen {
        Provider::Directory => Arc::new(Directory),
        Provider::File => {
            let hash = hash_password(&Password::new("file-password"))?;
            Arc::new(FileLogin::new([(UserId::new("USER")?, hash)])?)
        }
    })
}

/// `AuthApi` has no type parameters, so a struct of the application can contain it.
struct Gateway {
    auth: AuthApi,
}

impl Gateway {
    fn new(chosen: &Provider) -> Result<Self, Box<dyn Error>> {
        let (issuer, verifier) = (test_util::issuer(), test_util::verifier());
        let revocations = Arc::new(RevocationIndex::default());
        let auth = AuthApi::new(issuer, verifier, provider(chosen)?, revocations)
            .with_prefix(AuthPrefix::new(PREFIX)?);
        Ok(Self { auth })
    }

    fn router(&self) -> Router {
        let path = format!("{}/{{*endpoint}}", self.auth.prefix());
        Router::new().route_service(&path, self.auth.clone())
    }
}

async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    cookie: Option<&str>,
    body: &'static str,
) -> Result<Response<Bytes>, Box<dyn Error>> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    let response = router.clone().oneshot(request.body(Body::from(body))?).await?;
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
}

fn message(response: &Response<Bytes>) -> Result<String, Box<dyn Error>> {
    let document: Value = serde_json::from_slice(response.body())?;
    let message = &document["messages"][0];
    Ok(format!("{} {}", message["messageNumber"], message["messageContent"]).replace('"', ""))
}

#[tokio::test]
async fn the_auth_api_is_served_below_a_custom_prefix() -> Result<(), Box<dyn Error>> {
    let router = Gateway::new(&Provider::Directory)?.router();
    let credentials = r#"{"username": "user", "password": "directory-password"}"#;
    let login = ask(&router, Method::POST, "/zaas/api/v1/auth/login", None, credentials).await?;
    assert_eq!(login.status(), StatusCode::NO_CONTENT);
    let cookie = login.headers()["set-cookie"].to_str()?;
    let (cookie, _) = cookie.split_once(';').ok_or("no attributes")?;

    let query = ask(&router, Method::GET, "/zaas/api/v1/auth/query", Some(cookie), "").await?;
    assert_eq!(query.status(), StatusCode::OK);
    let token: Value = serde_json::from_slice(query.body())?;
    assert_eq!(token["userId"], "USER");

    let openapi = ask(&router, Method::GET, "/zaas/api/v1/auth/openapi.json", None, "").await?;
    let openapi: Value = serde_json::from_slice(openapi.body())?;
    let paths = openapi["paths"].as_object().ok_or("no paths")?;
    assert!(paths.contains_key("/zaas/api/v1/auth/login"));
    assert!(paths.keys().all(|path| path.starts_with("/zaas/api/v1/auth/")), "{paths:?}");

    let refused = ask(&router, Method::GET, "/zaas/api/v1/auth/query", None, "").await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        message(&refused)?,
        "ZWEAG131E No authorization token provided for URL '/zaas/api/v1/auth/query'"
    );
    let unknown = ask(&router, Method::GET, "/zaas/api/v1/auth/unknown", None, "").await?;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(message(&unknown)?.starts_with("ZWEAO404E "), "{}", message(&unknown)?);
    let default = ask(&router, Method::POST, "/gateway/api/v1/auth/login", None, credentials);
    assert_eq!(default.await?.status(), StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn the_login_provider_is_chosen_at_run_time() -> Result<(), Box<dyn Error>> {
    let directory_user = r#"{"username": "USER", "password": "directory-password"}"#;
    let file_user = r#"{"username": "USER", "password": "file-password"}"#;
    for (chosen, right, wrong) in [
        (Provider::Directory, directory_user, file_user),
        (Provider::File, file_user, directory_user),
    ] {
        let router = Gateway::new(&chosen)?.router();
        let login = |body| ask(&router, Method::POST, "/zaas/api/v1/auth/login", None, body);
        assert_eq!(login(right).await?.status(), StatusCode::NO_CONTENT);
        let refused = login(wrong).await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            message(&refused)?,
            "ZWEAG120E Invalid username or password for URL '/zaas/api/v1/auth/login'"
        );
    }
    Ok(())
}
