//! API ML (Zowe's API Mediation Layer) as the issuer of tokens. Fetches its signing key, and asks API ML whether a
//! token is still valid.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AskFuture, AskIssuer, FetchFuture, JwkSetSource, TokenStatus, VerifiedToken, VerifyingKey,
};
use crate::{
    apiml::Apiml,
    remote::{Connect, RemoteError},
};

/// Fetches the signing key of API ML. This is the key of the first certificate in `/gateway/certificates`. API ML must
/// also list this key in `keys/public/all`; otherwise the fetch fails (docs/reference/zowe-site.md#issuers).
///
/// The list alone is not enough, because it also contains the keys of identity providers. If the gateway accepted such
/// a key as a key of API ML, the provider could sign a token for any user.
impl<C: Connect> JwkSetSource for Apiml<C> {
    fn fetch(&self) -> FetchFuture {
        let apiml = self.clone();
        Box::pin(async move {
            let certificates = apiml.certificates().await?;
            own_key(&certificates, &apiml.public_keys().await?)
        })
    }
}

/// Asks API ML whether a token is valid: calls `query` for login tokens, and `access-token/validate` for PATs (Personal
/// Access Tokens).
impl<C: Connect> AskIssuer for Apiml<C> {
    fn ask(&self, token: &str, verified: &VerifiedToken) -> AskFuture {
        let (apiml, token, verified) = (self.clone(), token.to_owned(), verified.clone());
        Box::pin(async move {
            let token = zeroize::Zeroizing::new(token);
            let is_accepted = match &verified {
                VerifiedToken::Jwt(jwt) => apiml.accepts_login_token(&token, jwt.user()).await?,
                // API ML can revoke one PAT, all PATs of a user, or all PATs with a certain scope. Each call must name
                // one scope, but API ML checks all scopes of the PAT in each call. So one call with the first scope is
                // enough. The call contains the scope with its suffix, because API ML compares the whole text of a
                // scope.
                VerifiedToken::Pat(pat) => match pat.scopes().iter().next() {
                    Some(scope) => apiml.accepts_pat(&token, &scope.to_string()).await?,
                    None => false,
                },
                VerifiedToken::External(_) => false,
            };
            Ok(if is_accepted { TokenStatus::Active } else { TokenStatus::Ended })
        })
    }
}

/// Returns a JWK set with the key of the first certificate, if `list` also contains this key.
fn own_key(certificates: &[u8], list: &[u8]) -> Result<Bytes, RemoteError> {
    #[derive(Deserialize)]
    struct List {
        keys: Vec<Value>,
    }

    let wrong = RemoteError::Answer;
    let certificate = VerifyingKey::from_pem(certificates).map_err(|error| {
        wrong(format!("the first certificate of /gateway/certificates {error}"))
    })?;
    let list: List = serde_json::from_slice(list)
        .map_err(|_| wrong("the list of public keys is not a JWK set".to_owned()))?;
    let is_own = |jwk: &Value| {
        VerifyingKey::from_jwk(jwk).is_ok_and(|listed| listed.is_same_key(&certificate))
    };
    if !list.keys.iter().any(is_own) {
        return Err(wrong(
            "the list of public keys does not contain the key of the first certificate of /gateway/certificates, so it \
             is not known which of the listed keys is the key of API ML"
                .to_owned(),
        ));
    }
    Ok(json!({ "keys": [certificate.to_jwk()] }).to_string().into())
}

#[cfg(test)]
mod tests {
    use test_support::pki;

    use super::*;
    use crate::token::SigningKey;

    #[test]
    fn only_the_key_of_the_certificate_is_the_key_of_api_ml() {
        let key = |pem: &str| SigningKey::from_pem(pem.as_bytes()).unwrap().verifying_key();
        let (own, provider) = (key(pki::SIGNING_KEY), key(pki::OTHER_SIGNING_KEY));
        let list = |keys: &[&VerifyingKey]| {
            let keys: Vec<_> = keys
                .iter()
                .map(|key| {
                    let jwk = key.to_jwk();
                    json!({"kty": "RSA", "e": jwk["e"], "n": jwk["n"]})
                })
                .collect();
            json!({ "keys": keys }).to_string()
        };
        let all = list(&[&provider, &own]);
        let found = own_key(own.to_pem().as_bytes(), all.as_bytes()).unwrap();
        let found: Value = serde_json::from_slice(&found).unwrap();
        assert_eq!(found, json!({ "keys": [own.to_jwk()] }));
        for (certificates, list) in [
            (own.to_pem(), list(&[&provider])),
            (own.to_pem(), r#"{"keys":[]}"#.to_owned()),
            (own.to_pem(), "<html>".to_owned()),
            ("<html>".to_owned(), all),
        ] {
            let got = own_key(certificates.as_bytes(), list.as_bytes());
            assert!(matches!(got, Err(RemoteError::Answer(_))), "{list}");
        }
    }
}
