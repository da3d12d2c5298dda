//! The result of [`AuthenticateLayer`](super::AuthenticateLayer).

use std::{fmt, sync::Arc};

use http::HeaderMap;
use zeroize::Zeroizing;

use super::{credential::Withheld, failure::Failure, technical_users::TechnicalUserRule};
use crate::{
    audit::{AuditRecord, CredentialKind},
    identity::PeerCertificate,
    passticket::UserId,
    token::{ExternalSubject, ExternalToken, Jwt, Pat, TokenFingerprint, VerifiedToken},
};

/// The result of authentication. It is an extension of the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Authentication {
    /// The credential was accepted.
    Authenticated(Authenticated),
    /// The credential was refused, or the request had no credential.
    Failed(Failure),
}

/// The authenticated user of a request. Only an [`Authenticator`](super::Authenticator) creates this type.
#[derive(Clone)]
pub struct Authenticated {
    user: UserId,
    proof: Proof,
    /// If `user` is a technical user: the rule that has mapped the person of the token to it.
    rule: Option<Arc<TechnicalUserRule>>,
    // Credentials are rarely kept. The box keeps `Authenticated` small, because each layer moves it.
    kept: Option<Box<Kept>>,
}

/// Credentials that the gateway keeps after it has removed them from the request.
#[derive(Clone, Default)]
struct Kept {
    /// With `OnFailure::ForwardUnchanged`: a copy of the credential headers.
    withheld: Option<Withheld>,
    /// For a scheme with [`Accepts::AnyCredentialWithToken`]: the token that proved the identity of the user.
    ///
    /// [`Accepts::AnyCredentialWithToken`]: super::Accepts::AnyCredentialWithToken
    token: Option<Zeroizing<String>>,
}

impl Authenticated {
    pub(super) fn new(user: UserId, proof: Proof) -> Self {
        Self { user, proof, rule: None, kept: None }
    }

    /// The person of `token` acts through the technical user of `rule`.
    pub(super) fn through(rule: Arc<TechnicalUserRule>, token: ExternalToken) -> Self {
        Self { rule: Some(rule.clone()), ..Self::new(rule.user(), Proof::External(token)) }
    }

    /// If the person of the token acts through a technical user, returns the rule that permits this. The
    /// [`user`](Self::user) is then this technical user, and the [`proof`](Self::proof) names the person. Returns
    /// `None` if the client acts as its own user.
    pub fn technical_user(&self) -> Option<&TechnicalUserRule> {
        self.rule.as_deref()
    }

    /// If a person acts through a technical user, returns the token of this person.
    pub(super) fn person(&self) -> Option<&ExternalToken> {
        match (&self.rule, &self.proof) {
            (Some(_), Proof::External(token)) => Some(token),
            _ => None,
        }
    }

    /// Returns the z/OS user. It can be a [technical user](Self::technical_user).
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns the proof of the user's identity.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Keeps a copy of the credential headers. [`restore`](Self::restore) adds them to the request again.
    pub(super) fn withhold(&mut self, headers: &HeaderMap) {
        self.kept.get_or_insert_default().withheld = Some(Withheld::copy_of(headers));
    }

    pub(super) fn discard_withheld(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.withheld = None;
        }
    }

    pub(super) fn keep_token(&mut self, token: &str) {
        self.kept.get_or_insert_default().token = Some(Zeroizing::new(token.to_owned()));
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.kept.as_ref()?.token.as_ref().map(|token| token.as_str())
    }

    pub(super) fn login_token(&self) -> Option<&str> {
        self.token().filter(|_| matches!(self.proof, Proof::Jwt(_)))
    }

    /// Returns the kind of the credential.
    pub(super) fn credential(&self) -> CredentialKind {
        self.proof.kind()
    }

    pub(super) fn add_to_record(&self, record: AuditRecord) -> AuditRecord {
        let record = self.proof.add_to_record(record).with_user(self.user);
        match self.person() {
            Some(token) => record.with_subject(token),
            None => record,
        }
    }

    pub(super) fn restore(self, headers: &mut HeaderMap) {
        if let Some(withheld) = self.kept.and_then(|kept| kept.withheld) {
            withheld.restore(headers);
        }
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `kept` contains raw credentials.
        f.debug_struct("Authenticated")
            .field("user", &self.user)
            .field("proof", &self.proof)
            .field("technical_user", &self.rule)
            .finish_non_exhaustive()
    }
}

/// The credential that proved the identity of the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Proof {
    /// A login token. If the authenticator has a revocation check, the token is not revoked.
    Jwt(Jwt),
    /// A Personal Access Token that is not revoked. [`ScopeLayer`](super::ScopeLayer) decides whether its scopes permit
    /// the request.
    Pat(Pat),
    /// A token of another issuer. If the authenticator has a revocation check, the token is not revoked.
    External(ExternalToken),
    /// A client certificate.
    Certificate(PeerCertificate),
    /// A password in `Authorization: Basic`, on a route with
    /// [`ClientBasic::Verify`](super::ClientBasic::Verify).
    Password,
}

impl Proof {
    /// Returns the kind of the credential, as in audit records and metrics.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Jwt(_) => CredentialKind::LoginToken,
            Self::Pat(_) => CredentialKind::PersonalAccessToken,
            Self::External(_) => CredentialKind::ExternalToken,
            Self::Certificate(_) => CredentialKind::Certificate,
            Self::Password => CredentialKind::Password,
        }
    }

    fn add_to_record(&self, record: AuditRecord) -> AuditRecord {
        let record = record.with_credential(self.kind());
        match self {
            Self::Jwt(jwt) => record.with_token_id(jwt.fingerprint()),
            Self::Pat(pat) => record.with_token_id(pat.fingerprint()),
            Self::External(token) => record.with_token_id(token.fingerprint()),
            Self::Certificate(certificate) => record.with_certificate(certificate),
            Self::Password => record,
        }
    }
}

/// Why a credential was refused, and what is known about this credential.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    presented: Presented,
}

#[derive(Debug)]
pub(super) enum Presented {
    Nothing,
    /// A token that was not verified, or whose verification failed. Its content cannot be trusted.
    Token,
    Verified {
        credential: CredentialKind,
        user: Option<UserId>,
        token_id: TokenFingerprint,
    },
    /// A verified token. The rules of the service give its person two different technical users.
    Ambiguous(ExternalToken),
    Certificate(PeerCertificate),
    /// A password, and the name that the client sent with it. `None` if the name is not a valid user id, or if the
    /// header cannot be decoded.
    Password(Option<UserId>),
}

impl Presented {
    pub(super) fn verified(token: &VerifiedToken) -> Self {
        let (credential, user) = match token {
            VerifiedToken::Jwt(jwt) => (CredentialKind::LoginToken, Some(*jwt.user())),
            VerifiedToken::Pat(pat) => (CredentialKind::PersonalAccessToken, Some(*pat.user())),
            VerifiedToken::External(token) => match token.subject() {
                ExternalSubject::User(user) => (CredentialKind::ExternalToken, Some(*user)),
                ExternalSubject::Identity(_) => (CredentialKind::ExternalToken, None),
            },
        };
        Self::Verified { credential, user, token_id: token.fingerprint() }
    }
}

impl Refused {
    pub(super) fn is_ambiguous(&self) -> bool {
        matches!(self.presented, Presented::Ambiguous(_))
    }

    pub(super) fn new(failure: impl Into<Failure>, presented: Presented) -> Self {
        Self { failure: failure.into(), presented }
    }

    /// Returns the kind of the presented credential, and the user that it names.
    pub(super) fn credential(&self) -> (CredentialKind, Option<UserId>) {
        match &self.presented {
            Presented::Nothing => (CredentialKind::None, None),
            Presented::Token => (CredentialKind::Token, None),
            Presented::Verified { credential, user, .. } => (*credential, *user),
            Presented::Ambiguous(_) => (CredentialKind::ExternalToken, None),
            Presented::Certificate(_) => (CredentialKind::Certificate, None),
            Presented::Password(user) => (CredentialKind::Password, *user),
        }
    }

    pub(super) fn add_to_record(&self, record: AuditRecord) -> AuditRecord {
        let (credential, user) = self.credential();
        let record = record.with_credential(credential);
        let record = match user {
            Some(user) => record.with_user(user),
            None => record,
        };
        match &self.presented {
            Presented::Nothing | Presented::Token | Presented::Password(_) => record,
            Presented::Verified { token_id, .. } => record.with_token_id(*token_id),
            Presented::Ambiguous(token) => {
                record.with_token_id(token.fingerprint()).with_subject(token)
            }
            Presented::Certificate(certificate) => record.with_certificate(certificate),
        }
    }
}
