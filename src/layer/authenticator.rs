//! The decision of [`AuthenticateLayer`](super::AuthenticateLayer), without HTTP around it: what
//! counts as a credential, and who it proves somebody to be.

use std::fmt;

use http::HeaderMap;

use super::{
    credential::{self, CookieNames, Credential, Place, Withheld},
    failure::Failure,
};
use crate::{
    audit::{AuditRecord, CredentialKind},
    identity::{CommonNameMapper, IdentityMapper, MapError, MapFuture, PeerCertificate},
    passticket::UserId,
    revocation::{RevocationCheck, RevocationIndex},
    token::{Jwt, Pat, Rs256Verifier, TokenFingerprint, VerifiedToken},
};

/// What became of the credential of a request, as its extension.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// It was good.
    Authenticated(Authenticated),
    /// It was not, or there was none.
    Failed(Failure),
}

/// Who is asking. Only an [`Authenticator`] makes one.
#[derive(Clone)]
pub struct Authenticated {
    user: UserId,
    proof: Proof,
    // Boxed, because mostly there is none, and all of this is moved from layer to layer.
    withheld: Option<Box<Withheld>>,
}

impl Authenticated {
    fn new(user: UserId, proof: Proof) -> Self {
        Self { user, proof, withheld: None }
    }

    /// The z/OS user.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// What proved it.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Remembers the credential headers, for a failure further on that is to forward them.
    pub(super) fn withhold(&mut self, headers: &HeaderMap) {
        self.withheld = Some(Box::new(Withheld::copy_of(headers)));
    }

    /// Adds who it is, and what proved it.
    pub(super) fn tell(&self, record: AuditRecord) -> AuditRecord {
        self.proof.tell(record).with_user(self.user)
    }

    /// Puts the credential headers back, if they were withheld.
    pub(super) fn restore(self, headers: &mut HeaderMap) {
        if let Some(withheld) = self.withheld {
            withheld.restore(headers);
        }
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is withheld: that is raw credentials.
        f.debug_struct("Authenticated")
            .field("user", &self.user)
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

/// What proved who somebody is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Proof {
    /// A login token that is not revoked, as far as anybody was asked.
    Jwt(Jwt),
    /// A Personal Access Token that is not revoked. Whether it is for this service is for
    /// [`ScopeLayer`](super::ScopeLayer) to say.
    Pat(Pat),
    /// A client certificate.
    Certificate(PeerCertificate),
}

impl Proof {
    /// Adds what it is.
    pub(super) fn tell(&self, record: AuditRecord) -> AuditRecord {
        match self {
            Self::Jwt(jwt) => {
                record.with_credential(CredentialKind::LoginToken).with_token_id(jwt.fingerprint())
            }
            Self::Pat(pat) => record
                .with_credential(CredentialKind::PersonalAccessToken)
                .with_token_id(pat.fingerprint()),
            Self::Certificate(certificate) => {
                record.with_credential(CredentialKind::Certificate).with_certificate(certificate)
            }
        }
    }
}

/// Why a credential was not good, and what is known of it all the same.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    /// It did not verify.
    Token,
    Verified {
        credential: CredentialKind,
        user: UserId,
        token_id: TokenFingerprint,
    },
    Certificate(PeerCertificate),
}

impl Shown {
    fn verified(token: &VerifiedToken) -> Self {
        let (credential, user, token_id) = match token {
            VerifiedToken::Jwt(jwt) => (CredentialKind::LoginToken, jwt.user(), jwt.fingerprint()),
            VerifiedToken::Pat(pat) => {
                (CredentialKind::PersonalAccessToken, pat.user(), pat.fingerprint())
            }
        };
        Self::Verified { credential, user: *user, token_id }
    }
}

impl Refused {
    fn new(failure: impl Into<Failure>, shown: Shown) -> Self {
        Self { failure: failure.into(), shown }
    }

    /// Adds what was shown, and whose it was if that is certain.
    pub(super) fn tell(&self, record: AuditRecord) -> AuditRecord {
        match &self.shown {
            Shown::Nothing => record.with_credential(CredentialKind::None),
            Shown::Token => record.with_credential(CredentialKind::Token),
            Shown::Verified { credential, user, token_id } => {
                record.with_credential(*credential).with_token_id(*token_id).with_user(*user)
            }
            Shown::Certificate(certificate) => {
                record.with_credential(CredentialKind::Certificate).with_certificate(certificate)
            }
        }
    }
}

/// Says what counts as a credential, and judges it.
///
/// `R` says which tokens are revoked, `M` whose a certificate is. PATs cannot be turned on without
/// the one, nor certificates without the other.
#[derive(Debug)]
pub struct Authenticator<R = RevocationIndex, M = CommonNameMapper> {
    verifier: Rs256Verifier,
    revocations: Option<R>,
    // Only ever true with `revocations`.
    pats: bool,
    mapper: Option<M>,
    names: CookieNames,
}

impl Authenticator {
    /// Takes login tokens. PATs and client certificates are no credentials until turned on.
    pub fn new(verifier: Rs256Verifier) -> Self {
        let names = CookieNames::default();
        Self { verifier, revocations: None, pats: false, mapper: None, names }
    }
}

impl<R, M> Authenticator<R, M> {
    /// Refuses tokens that are revoked: login tokens after logout, and PATs if they are turned on.
    ///
    /// There is one place to ask: the `revocations` given last, here or to
    /// [`personal_access_tokens`](Self::personal_access_tokens), counts for both kinds.
    #[must_use]
    pub fn revocations<R2: RevocationCheck>(self, revocations: R2) -> Authenticator<R2, M> {
        let Self { verifier, pats, mapper, names, .. } = self;
        Authenticator { verifier, revocations: Some(revocations), pats, mapper, names }
    }

    /// Takes PATs, unless `revocations` refuses them; login tokens are asked for there as well.
    #[must_use]
    pub fn personal_access_tokens<R2>(self, revocations: R2) -> Authenticator<R2, M>
    where
        R2: RevocationCheck,
    {
        Authenticator { pats: true, ..self.revocations(revocations) }
    }

    /// Takes client certificates of users that `mapper` knows.
    #[must_use]
    pub fn client_certificates<M2: IdentityMapper>(self, mapper: M2) -> Authenticator<R, M2> {
        let Self { verifier, revocations, pats, names, .. } = self;
        Authenticator { verifier, revocations, pats, mapper: Some(mapper), names }
    }

    /// Takes no client certificates after all: for whoever decides that at run time.
    #[must_use]
    pub fn without_client_certificates(self) -> Self {
        Self { mapper: None, ..self }
    }

    /// Looks for tokens in cookies of other names.
    #[must_use]
    pub fn cookie_names(self, names: CookieNames) -> Self {
        Self { names, ..self }
    }

    /// Takes every credential out of `headers`, whether this authenticator takes it or not.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        credential::strip(headers, &self.names);
    }
}

/// How far one gets without waiting.
pub(super) enum Begun {
    Decided(Result<Authenticated, Refused>),
    Mapping { certificate: PeerCertificate, future: MapFuture },
}

impl<R, M: IdentityMapper> Authenticator<R, M> {
    /// Judges the one credential that counts.
    pub(super) fn begin(&self, headers: &HeaderMap, certificate: Option<&PeerCertificate>) -> Begun
    where
        R: RevocationCheck,
    {
        match credential::select(headers, certificate, &self.names, self.pats) {
            Some(Credential::Token { text, place }) => Begun::Decided(self.token(text, place)),
            Some(Credential::Certificate(certificate)) => match &self.mapper {
                Some(_) if certificate.not_after() < self.verifier.now() => {
                    let shown = Shown::Certificate(certificate.clone());
                    Begun::Decided(Err(Refused::new(MapError::Expired, shown)))
                }
                Some(mapper) => match mapper.try_map_now(certificate) {
                    Some(mapped) => Begun::Decided(Self::mapped(certificate, mapped)),
                    None => Begun::Mapping {
                        certificate: certificate.clone(),
                        future: mapper.map_certificate(certificate),
                    },
                },
                // It counts as none: nobody has turned certificates on.
                None => Begun::Decided(Err(Refused::new(Failure::NoCredential, Shown::Nothing))),
            },
            None => Begun::Decided(Err(Refused::new(Failure::NoCredential, Shown::Nothing))),
        }
    }

    /// Ends what [`Begun::Mapping`] began.
    pub(super) fn mapped(
        certificate: &PeerCertificate,
        mapped: Result<UserId, MapError>,
    ) -> Result<Authenticated, Refused> {
        let certificate = certificate.clone();
        match mapped {
            Ok(user) => Ok(Authenticated::new(user, Proof::Certificate(certificate))),
            Err(error) => Err(Refused::new(error, Shown::Certificate(certificate))),
        }
    }

    fn token(&self, text: &[u8], place: Place) -> Result<Authenticated, Refused>
    where
        R: RevocationCheck,
    {
        let token =
            self.verifier.verify_bytes(text).map_err(|error| Refused::new(error, Shown::Token))?;
        match self.judge(&token, place) {
            Ok(()) => Ok(match token {
                VerifiedToken::Jwt(jwt) => Authenticated::new(*jwt.user(), Proof::Jwt(jwt)),
                VerifiedToken::Pat(pat) => Authenticated::new(*pat.user(), Proof::Pat(pat)),
            }),
            Err(failure) => Err(Refused::new(failure, Shown::verified(&token))),
        }
    }

    /// Whether a token that has verified counts in this place, and is not revoked.
    fn judge(&self, token: &VerifiedToken, place: Place) -> Result<(), Failure>
    where
        R: RevocationCheck,
    {
        match (token, place) {
            (VerifiedToken::Jwt(jwt), Place::Any) => match &self.revocations {
                Some(revocations) => Ok(revocations.check_login_token(jwt)?),
                None => Ok(()),
            },
            (VerifiedToken::Pat(pat), _) => match &self.revocations {
                Some(revocations) if self.pats => Ok(revocations.check(pat)?),
                _ => Err(Failure::WrongKind),
            },
            (VerifiedToken::Jwt(_), Place::Pat) => Err(Failure::WrongKind),
        }
    }
}
