//! The decision of [`AuthenticateLayer`](super::AuthenticateLayer), without HTTP around it: which
//! credential counts, and which user it proves.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::HeaderMap;

use super::{
    authentication::{Authenticated, Presented, Proof, Refused},
    credential::{self, CookieNames, Credential, Place},
    failure::Failure,
};
use crate::{
    clock::{Clock, SystemClock},
    identity::{
        CommonNameMapper, DistributedMapper, IdentityMapper, MapError, MapFuture, PeerCertificate,
    },
    passticket::UserId,
    revocation::{CheckError, CheckFuture, RevocationCheck, RevocationIndex},
    token::{
        ExternalSubject, ExternalToken, TokenError, TokenVerifier, VerifiedToken, VerifyFuture,
    },
};

/// Selects the credential of a request and verifies it.
///
/// `R` checks revocations, `M` maps client certificates to users. PATs cannot be turned on without the
/// one, certificates not without the other.
pub struct Authenticator<R = RevocationIndex, M = CommonNameMapper> {
    verifier: Arc<dyn TokenVerifier>,
    revocations: Option<R>,
    // Only ever true with `revocations`.
    pats: bool,
    mapper: Option<M>,
    identities: Option<Arc<dyn DistributedMapper>>,
    names: CookieNames,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Accepts the login tokens, and the tokens of other issuers, that `verifier` accepts. PATs and
    /// client certificates are not credentials until they are turned on.
    pub fn new(verifier: impl TokenVerifier) -> Self {
        Self {
            verifier: Arc::new(verifier),
            revocations: None,
            pats: false,
            mapper: None,
            identities: None,
            names: CookieNames::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl<R, M> Authenticator<R, M> {
    /// Refuses tokens that are revoked: login tokens after logout, tokens of other issuers, and PATs if
    /// they are turned on.
    ///
    /// There is one check: the last one, given here or to
    /// [`with_personal_access_tokens`](Self::with_personal_access_tokens), counts for all tokens.
    #[must_use]
    pub fn with_revocations<R2: RevocationCheck>(self, revocations: R2) -> Authenticator<R2, M> {
        let Self { verifier, pats, mapper, identities, names, clock, .. } = self;
        let revocations = Some(revocations);
        Authenticator { verifier, revocations, pats, mapper, identities, names, clock }
    }

    /// Accepts PATs that `revocations` does not refuse. All other tokens are checked there as well.
    #[must_use]
    pub fn with_personal_access_tokens<R2>(self, revocations: R2) -> Authenticator<R2, M>
    where
        R2: RevocationCheck,
    {
        Authenticator { pats: true, ..self.with_revocations(revocations) }
    }

    /// Accepts client certificates of users whom `mapper` knows.
    #[must_use]
    pub fn with_client_certificates<M2: IdentityMapper>(self, mapper: M2) -> Authenticator<R, M2> {
        let Self { verifier, revocations, pats, identities, names, clock, .. } = self;
        let mapper = Some(mapper);
        Authenticator { verifier, revocations, pats, mapper, identities, names, clock }
    }

    /// Accepts no client certificates, for a configuration that decides it at run time.
    #[must_use]
    pub fn without_client_certificates(self) -> Self {
        Self { mapper: None, ..self }
    }

    /// Accepts tokens of other issuers that name a distributed identity which `mapper` maps to a user.
    ///
    /// Without it such a token is refused like one of an identity without a user
    /// (docs/decisions.md#d22).
    #[must_use]
    pub fn with_distributed_identities(self, mapper: impl DistributedMapper) -> Self {
        Self { identities: Some(Arc::new(mapper)), ..self }
    }

    /// Reads tokens from cookies with other names.
    #[must_use]
    pub fn with_cookie_names(self, names: CookieNames) -> Self {
        Self { names, ..self }
    }

    /// Uses `clock` instead of the system clock for the expiry of client certificates and of tokens of
    /// other issuers. A verifier has a clock of its own.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Removes every credential from `headers`, whether this authenticator accepts it or not.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        credential::strip(headers, &self.names);
    }
}

impl<R, M> fmt::Debug for Authenticator<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("revocations", &self.revocations.is_some())
            .field("personal_access_tokens", &self.pats)
            .field("client_certificates", &self.mapper.is_some())
            .field("distributed_identities", &self.identities.is_some())
            .field("cookie_names", &self.names)
            .finish_non_exhaustive()
    }
}

/// The state of a decision.
pub(super) enum Progress {
    Decided(Result<Authenticated, Refused>),
    Waiting(Pending),
}

/// The answer that a decision waits for.
pub(super) enum Pending {
    Verification { place: Place, future: VerifyFuture },
    Revocation { token: VerifiedToken, future: CheckFuture },
    Identity { token: ExternalToken, future: MapFuture },
    Certificate { certificate: PeerCertificate, future: MapFuture },
}

impl Progress {
    fn refused(failure: impl Into<Failure>, presented: Presented) -> Self {
        Self::Decided(Err(Refused::new(failure, presented)))
    }
}

impl<R: RevocationCheck, M: IdentityMapper> Authenticator<R, M> {
    /// Decides about the one credential that counts, as far as that needs no waiting.
    pub(super) fn begin(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Progress {
        match credential::select(headers, certificate, &self.names, self.pats) {
            Some(Credential::Token { text, place }) => match self.verifier.try_verify_now(text) {
                Some(verified) => self.verified(verified, place),
                None => {
                    let future = self.verifier.verify_token(text);
                    Progress::Waiting(Pending::Verification { place, future })
                }
            },
            Some(Credential::Certificate(certificate)) => self.certificate(certificate),
            None => Progress::refused(Failure::NoCredential, Presented::Nothing),
        }
    }

    /// Goes on with a decision that had to wait.
    pub(super) fn poll(
        &self,
        pending: &mut Pending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Authenticated, Refused>> {
        loop {
            let progress = match pending {
                Pending::Verification { place, future } => {
                    self.verified(ready!(future.as_mut().poll(cx)), *place)
                }
                Pending::Revocation { token, future } => {
                    let checked = ready!(future.as_mut().poll(cx));
                    self.checked(token.clone(), checked)
                }
                Pending::Identity { token, future } => {
                    let mapped = ready!(future.as_mut().poll(cx));
                    Progress::Decided(external(token.clone(), mapped))
                }
                Pending::Certificate { certificate, future } => {
                    let mapped = ready!(future.as_mut().poll(cx));
                    Progress::Decided(mapped_certificate(certificate.clone(), mapped))
                }
            };
            match progress {
                Progress::Decided(result) => return Poll::Ready(result),
                Progress::Waiting(next) => *pending = next,
            }
        }
    }

    fn certificate(&self, certificate: &PeerCertificate) -> Progress {
        let Some(mapper) = &self.mapper else {
            // While certificates are off, a certificate is not a credential.
            return Progress::refused(Failure::NoCredential, Presented::Nothing);
        };
        if certificate.not_after() < self.clock.now() {
            let presented = Presented::Certificate(certificate.clone());
            return Progress::refused(MapError::Expired, presented);
        }
        let certificate = certificate.clone();
        match mapper.try_map_now(&certificate) {
            Some(mapped) => Progress::Decided(mapped_certificate(certificate, mapped)),
            None => {
                let future = mapper.map_certificate(&certificate);
                Progress::Waiting(Pending::Certificate { certificate, future })
            }
        }
    }

    fn verified(&self, verified: Result<VerifiedToken, TokenError>, place: Place) -> Progress {
        let token = match verified {
            Ok(token) => token,
            Err(error) => return Progress::refused(error, Presented::Token),
        };
        if !counts(&token, place, self.pats) {
            return Progress::refused(Failure::WrongKind, Presented::verified(&token));
        }
        let Some(revocations) = &self.revocations else {
            return self.checked(token, Ok(()));
        };
        match revocations.try_check_now(&token) {
            Some(checked) => self.checked(token, checked),
            None => {
                let future = revocations.check_token(&token);
                Progress::Waiting(Pending::Revocation { token, future })
            }
        }
    }

    fn checked(&self, token: VerifiedToken, checked: Result<(), CheckError>) -> Progress {
        if let Err(error) = checked {
            return Progress::refused(error, Presented::verified(&token));
        }
        match token {
            VerifiedToken::Jwt(jwt) => {
                Progress::Decided(Ok(Authenticated::new(*jwt.user(), Proof::Jwt(jwt))))
            }
            VerifiedToken::Pat(pat) => {
                Progress::Decided(Ok(Authenticated::new(*pat.user(), Proof::Pat(pat))))
            }
            VerifiedToken::External(token) => self.external(token),
        }
    }

    #[cold]
    fn external(&self, token: ExternalToken) -> Progress {
        let (now, expires_at) = (self.clock.now(), token.expires_at());
        if expires_at <= now {
            // The verifier may have it from a cache.
            let error = TokenError::Expired { secs_ago: now.as_secs() - expires_at.as_secs() };
            return Progress::refused(error, Presented::verified(&token.into()));
        }
        match (token.subject(), &self.identities) {
            (ExternalSubject::User(user), _) => {
                let user = *user;
                Progress::Decided(external(token, Ok(user)))
            }
            (ExternalSubject::Identity(identity), Some(mapper)) => {
                let future = mapper.map_identity(identity);
                Progress::Waiting(Pending::Identity { token, future })
            }
            (ExternalSubject::Identity(_), None) => {
                Progress::Decided(external(token, Err(MapError::NotMapped)))
            }
        }
    }
}

/// Whether a token of this kind is a credential in this place.
fn counts(token: &VerifiedToken, place: Place, pats: bool) -> bool {
    match (token, place) {
        (VerifiedToken::Pat(_), _) => pats,
        (VerifiedToken::Jwt(_) | VerifiedToken::External(_), Place::Any) => true,
        (VerifiedToken::Jwt(_) | VerifiedToken::External(_), Place::Pat) => false,
    }
}

fn external(
    token: ExternalToken,
    mapped: Result<UserId, MapError>,
) -> Result<Authenticated, Refused> {
    match mapped {
        Ok(user) => Ok(Authenticated::new(user, Proof::External(token))),
        Err(error) => Err(Refused::new(error, Presented::verified(&token.into()))),
    }
}

fn mapped_certificate(
    certificate: PeerCertificate,
    mapped: Result<UserId, MapError>,
) -> Result<Authenticated, Refused> {
    match mapped {
        Ok(user) => Ok(Authenticated::new(user, Proof::Certificate(certificate))),
        Err(error) => Err(Refused::new(error, Presented::Certificate(certificate))),
    }
}
