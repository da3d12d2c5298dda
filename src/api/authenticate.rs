//! Who calls: a user with a password, or the holder of a client certificate or of a login token.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use zeroize::Zeroizing;

use super::{
    audit::note,
    error::ApiError,
    provider::{LoginError, LoginProvider, Password},
    service::AuthApi,
};
use crate::{
    audit::{CredentialKind, Detail, ReasonCode},
    connection::ConnectionInfo,
    identity::{IdentityMapper, MapError, PeerCertificate},
    layer::login_token,
    passticket::UserId,
    revocation::{CheckError, RevocationStore},
    token::{Jwt, TokenError, VerifiedToken},
};

/// Padding may be missing, as the reference has it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user and a password as the client sent them, and the password that is to replace it.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Password,
    pub(super) new_password: Option<Password>,
}

impl Credentials {
    /// # Errors
    /// [`ApiError::InvalidLoginInput`] when a part is missing, [`ApiError::WrongCredentials`] when
    /// no user can have this name: nobody learns from us what a user id looks like.
    fn check(&self) -> Result<UserId, ApiError> {
        let is_empty = |password: &Password| password.expose().is_empty();
        if self.username.trim().is_empty()
            || is_empty(&self.password)
            || self.new_password.as_ref().is_some_and(is_empty)
        {
            return Err(ApiError::InvalidLoginInput);
        }
        UserId::new(&self.username).map_err(|_| ApiError::WrongCredentials)
    }
}

/// The credentials in the header of a request.
///
/// # Errors
/// As [`parse_basic`].
pub(super) fn basic(request: &Parts) -> Result<Option<Credentials>, ApiError> {
    parse_basic(&request.headers).inspect_err(|_| {
        let reason = "the Basic credentials cannot be decoded";
        tracing::info!(url = request.uri.path(), reason, "authentication failed");
        note(request, |record| record.credential = Some(CredentialKind::Password));
    })
}

/// The credentials of `Authorization: Basic` (RFC 7617), if that is what the first
/// `Authorization` line is.
///
/// # Errors
/// [`ApiError::WrongCredentials`] for what cannot be decoded, has no colon or an empty user.
fn parse_basic(headers: &HeaderMap) -> Result<Option<Credentials>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let value = value.as_bytes().trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, encoded) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return Ok(None);
    }
    decode(encoded.trim_ascii()).map(Some).ok_or(ApiError::WrongCredentials)
}

fn decode(encoded: &[u8]) -> Option<Credentials> {
    let decoded = Zeroizing::new(BASE64.decode(encoded).ok()?);
    let colon = decoded.iter().position(|b| *b == b':').filter(|colon| *colon > 0)?;
    let username = str::from_utf8(&decoded[..colon]).ok()?.to_owned();
    let password = Password::new(&decoded[colon + 1..]);
    Some(Credentials { username, password, new_password: None })
}

/// Where a login is asked for, whoever shows none has sent a bad request.
pub(super) fn as_login_input(error: ApiError) -> ApiError {
    match error {
        ApiError::AuthenticationRequired | ApiError::NoUser => ApiError::InvalidLoginInput,
        other => other,
    }
}

impl<L: LoginProvider, R, S, G, M: IdentityMapper> AuthApi<L, R, S, G, M> {
    /// Proves who calls, where no login is asked for but somebody who may do something: with the
    /// header, else with the client certificate.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate), but half a password is a wrong one.
    pub(super) async fn caller(&self, request: &Parts) -> Result<UserId, ApiError> {
        self.authenticate(basic(request)?, request).await.map_err(|error| match error {
            ApiError::InvalidLoginInput => ApiError::WrongCredentials,
            other => other,
        })
    }

    /// Proves who calls: with `credentials` if there are any, else with the client certificate if
    /// these are on. One of them counts; there is no second try with the other.
    ///
    /// # Errors
    /// [`ApiError::AuthenticationRequired`] with neither, [`ApiError::NoUser`] with a certificate
    /// that has no user; [`ApiError::InvalidLoginInput`] when the credentials lack a part;
    /// [`ApiError::TooManyAttempts`]; [`ApiError::WrongCredentials`];
    /// [`ApiError::PasswordChangeUnsupported`],
    /// [`ApiError::NewPasswordRefused`]; [`ApiError::Unavailable`].
    pub(super) async fn authenticate(
        &self,
        credentials: Option<Credentials>,
        request: &Parts,
    ) -> Result<UserId, ApiError> {
        let url = request.uri.path();
        let Some(credentials) = credentials else {
            return self.certificate_user(request).await;
        };
        note(request, |record| {
            record.credential = Some(CredentialKind::Password);
            record.user = UserId::new(&credentials.username).ok();
            if credentials.new_password.is_some() {
                record.detail = Some(Detail::PasswordChange);
            }
        });
        let user = credentials
            .check()
            .inspect_err(|reason| tracing::info!(url, %reason, "authentication failed"))?;
        let (login, Credentials { password, new_password, .. }) = (&self.shared.login, credentials);
        let attempts = &self.shared.attempts;
        let peer =
            request.extensions.get::<ConnectionInfo>().map(|connection| connection.peer.ip());
        let _turn = attempts.turn(&user, peer, || self.clock.now()).await.map_err(|too_early| {
            tracing::info!(url, %user, ?peer, "too many failed attempts");
            ApiError::TooManyAttempts { retry_after: too_early.retry_after }
        })?;
        let changes = new_password.is_some();
        let proving = match new_password {
            None => login.login(user, password),
            Some(new) => login
                .change_password(user, password, new)
                .ok_or(ApiError::PasswordChangeUnsupported)?,
        };
        match proving.await {
            Ok(user) => {
                attempts.succeeded(&user);
                tracing::info!(url, %user, proof = "password", changes, "authenticated");
                note(request, |record| record.user = Some(user));
                Ok(user)
            }
            Err(reason @ LoginError::Unavailable) => {
                tracing::warn!(url, %user, %reason, "authentication failed");
                note(request, |record| record.reason = Some(ReasonCode::LoginUnavailable));
                Err(reason.into())
            }
            Err(reason) => {
                if reason == LoginError::WrongCredentials {
                    attempts.failed(&user, peer, self.clock.now());
                }
                tracing::info!(url, %user, %reason, "authentication failed");
                Err(reason.into())
            }
        }
    }
}

impl<L, R, S, G, M: IdentityMapper> AuthApi<L, R, S, G, M> {
    /// Whose the client certificate is.
    ///
    /// # Errors
    /// [`ApiError::AuthenticationRequired`] without one, or while certificates are off;
    /// [`ApiError::NoUser`]; [`ApiError::Unavailable`].
    pub(super) async fn certificate_user(&self, request: &Parts) -> Result<UserId, ApiError> {
        let certificate = request.extensions.get::<PeerCertificate>();
        let (Some(mapper), Some(certificate)) = (&self.mapper, certificate) else {
            note(request, |record| record.reason = Some(ReasonCode::NoCredential));
            return Err(ApiError::AuthenticationRequired);
        };
        let (url, subject) = (request.uri.path(), certificate.subject());
        let mapped = if certificate.not_after() < self.clock.now() {
            Err(MapError::Expired)
        } else {
            match mapper.try_map_now(certificate) {
                Some(mapped) => mapped,
                None => mapper.map_certificate(certificate).await,
            }
        };
        note(request, |record| {
            record.credential = Some(CredentialKind::Certificate);
            record.certificate = Some(certificate.clone());
            match &mapped {
                Ok(user) => record.user = Some(*user),
                Err(error) => record.reason = Some(error.into()),
            }
        });
        match mapped {
            Ok(user) => {
                tracing::info!(url, %user, proof = "certificate", subject, "authenticated");
                Ok(user)
            }
            Err(reason @ (MapError::Unavailable | MapError::Failed(_))) => {
                tracing::warn!(url, subject, %reason, "authentication failed");
                Err(ApiError::Unavailable)
            }
            Err(reason) => {
                tracing::info!(url, subject, %reason, "authentication failed");
                Err(ApiError::NoUser)
            }
        }
    }
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M> {
    /// Whose certificate it is does not matter: that the TLS listener took it says that the
    /// caller is one of ours (zowe-endpoints §1.4, §1.5).
    ///
    /// # Errors
    /// [`ApiError::CertificateRequired`] without one, or while certificates are off.
    pub(super) fn require_certificate(&self, request: &Parts) -> Result<(), ApiError> {
        let certificate = request.extensions.get::<PeerCertificate>();
        let certificate = certificate.filter(|_| self.mapper.is_some());
        let certificate = certificate.ok_or(ApiError::CertificateRequired)?;
        note(request, |record| record.certificate = Some(certificate.clone()));
        if certificate.not_after() < self.clock.now() {
            note(request, |record| record.reason = Some(ReasonCode::CertificateExpired));
            return Err(ApiError::CertificateRequired);
        }
        Ok(())
    }
}

impl<L, R: RevocationStore, S, G, M> AuthApi<L, R, S, G, M> {
    /// The login token of the caller: in its cookie, else `Bearer`.
    ///
    /// # Errors
    /// [`ApiError::TokenNotProvided`]; [`ApiError::Token`]; [`ApiError::PersonalAccessToken`] for
    /// a token of that kind; [`ApiError::LoggedOut`]; [`ApiError::StoreUnavailable`].
    pub(super) async fn login_token(&self, request: &Parts) -> Result<Jwt, ApiError> {
        let token = login_token(&request.headers, &self.cookies);
        let token = token.ok_or(ApiError::TokenNotProvided)?;
        let token = str::from_utf8(token).map_err(|_| TokenError::Malformed);
        let token = token.and_then(|token| self.shared.verifier.verify(token));
        note_token(request, &token);
        let VerifiedToken::Jwt(jwt) = token? else {
            return Err(ApiError::PersonalAccessToken);
        };
        match self.shared.revocations.check_token(&jwt.clone().into()).await {
            Ok(()) => Ok(jwt),
            Err(CheckError::Revoked(_)) => Err(ApiError::LoggedOut),
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }
}

/// Adds which token it is, or why it is none.
pub(super) fn note_token(request: &Parts, token: &Result<VerifiedToken, TokenError>) {
    note(request, |record| match token {
        Ok(VerifiedToken::Jwt(jwt)) => {
            record.credential = Some(CredentialKind::LoginToken);
            (record.user, record.token_id) = (Some(*jwt.user()), Some(jwt.fingerprint()));
        }
        Ok(VerifiedToken::Pat(pat)) => {
            record.credential = Some(CredentialKind::PersonalAccessToken);
            (record.user, record.token_id) = (Some(*pat.user()), Some(pat.fingerprint()));
        }
        Ok(VerifiedToken::External(token)) => {
            record.credential = Some(CredentialKind::ExternalToken);
            record.token_id = Some(token.fingerprint());
        }
        Err(error) => {
            record.credential = Some(CredentialKind::Token);
            record.reason = Some(error.into());
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &[u8]) -> Result<Option<Credentials>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        parse_basic(&headers)
    }

    fn basic(credentials: &[u8]) -> String {
        format!("Basic {}", BASE64.encode(credentials))
    }

    #[test]
    fn basic_is_read_as_rfc_7617_says() {
        type Want<'a> = Result<Option<(&'a str, &'a [u8])>, ()>;
        let cases: &[(&str, Want<'_>)] = &[
            (&basic(b"user:pass"), Ok(Some(("user", b"pass")))),
            ("BASIC dXNlcjpwYXNz", Ok(Some(("user", b"pass")))),
            ("  basic \t dXNlcjpwYXNz  ", Ok(Some(("user", b"pass")))),
            (&basic(b"user:a:b:"), Ok(Some(("user", b"a:b:")))),
            (&basic(b"user:"), Ok(Some(("user", b"")))),
            (&basic(b" :x"), Ok(Some((" ", b"x")))),
            (&basic("user:p\u{e4}ss".as_bytes()), Ok(Some(("user", "p\u{e4}ss".as_bytes())))),
            (&basic(b"user:p\xE4ss"), Ok(Some(("user", b"p\xE4ss")))),
            // Without padding.
            ("Basic dTpwYQ", Ok(Some(("u", b"pa")))),
            (&basic(b":pass"), Err(())),
            (&basic(b"user"), Err(())),
            (&basic(b"\xE4:pass"), Err(())),
            ("Basic", Err(())),
            ("Basic ", Err(())),
            ("Basic ???", Err(())),
            ("Basic dXNl cjpwYXNz", Err(())),
            ("Bearer dXNlcjpwYXNz", Ok(None)),
            ("BasicdXNlcjpwYXNz", Ok(None)),
            ("", Ok(None)),
        ];
        for (value, want) in cases {
            let got = parse(value.as_bytes());
            let got = got.as_ref().map(|credentials| {
                credentials.as_ref().map(|c| (c.username.as_str(), c.password.expose()))
            });
            assert_eq!(
                got.map_err(|e| assert_eq!(*e, ApiError::WrongCredentials)),
                *want,
                "{value}"
            );
        }
        assert!(parse_basic(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_bad_input_and_what_cannot_be_is_wrong() {
        for (username, password, want) in [
            ("user", "x", Ok("USER")),
            ("", "x", Err(ApiError::InvalidLoginInput)),
            (" \t", "x", Err(ApiError::InvalidLoginInput)),
            ("user", "", Err(ApiError::InvalidLoginInput)),
            ("john.doe@corp", "", Err(ApiError::InvalidLoginInput)),
            ("john.doe@corp", "x", Err(ApiError::WrongCredentials)),
            ("user ", "x", Err(ApiError::WrongCredentials)),
        ] {
            let credentials = Credentials {
                username: username.to_owned(),
                password: Password::new(password),
                new_password: None,
            };
            let got = credentials.check();
            let got = got.as_ref().map(UserId::as_str);
            assert_eq!(got, want.as_ref().copied(), "{username:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_header_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut value = b"Basic ".to_vec();
            value.extend(&bytes);
            for value in [&bytes, &value] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    let _ = parse(value.as_bytes());
                }
            }
            let _ = parse(basic(&bytes).as_bytes());
        }
    }
}
