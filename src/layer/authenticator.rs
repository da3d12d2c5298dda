//! Selects the credential of a request for [`AuthenticateLayer`](super::AuthenticateLayer), verifies it, and finds its
//! user.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Extensions, HeaderMap};

use super::{
    authentication::{Authenticated, Presented, Proof, Refused},
    credential::{
        self, Accepted, BasicUser, Candidate, CookieNames, Credential, CredentialChoice,
        CredentialPlace, Place,
    },
    failure::Failure,
    password::{PasswordError, PasswordFuture, PasswordVerifier},
    password_form::may_be_password,
    routes::{ClientBasic, Route},
    schemes::Accepts,
};
use crate::{
    clock::{Clock, SystemClock},
    connection::ConnectionInfo,
    headers::BasicCredentials,
    identity::{
        CommonNameMapper, DistributedMapper, IdentityMapper, MapError, MapFuture, PeerCertificate,
    },
    passticket::UserId,
    revocation::{CheckError, CheckFuture, RevocationCheck, RevocationIndex, RevokedBy, TokenUses},
    token::{
        ExternalSubject, ExternalToken, TokenError, TokenFingerprint, TokenVerifier, VerifiedToken,
        VerifyFuture,
    },
};

/// Selects the credential of a request and verifies it.
///
/// `R` checks whether a token is revoked. `M` maps client certificates to users.
/// [`with_personal_access_tokens`](Self::with_personal_access_tokens) sets `R` and turns on Personal Access Tokens
/// (PATs). [`with_client_certificates`](Self::with_client_certificates) sets `M` and turns on client certificates.
/// [`with_passwords`](Self::with_passwords) sets the verifier of passwords on routes with [`ClientBasic::Verify`].
pub struct Authenticator<R = RevocationIndex, M = CommonNameMapper> {
    verifier: Arc<dyn TokenVerifier>,
    revocations: Option<R>,
    // If this is `true`, `revocations` is set.
    pats: bool,
    mapper: Option<M>,
    identities: Option<Arc<dyn DistributedMapper>>,
    passwords: Option<Arc<dyn PasswordVerifier>>,
    uses: Option<Arc<TokenUses>>,
    names: CookieNames,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Creates an authenticator for the tokens that `verifier` accepts: login tokens, and tokens of other issuers that
    /// have not expired and name a z/OS user. Tokens that name a distributed identity need
    /// [`with_distributed_identities`](Self::with_distributed_identities). PATs, passwords and client certificates are
    /// turned off.
    pub fn new(verifier: impl TokenVerifier) -> Self {
        Self {
            verifier: Arc::new(verifier),
            revocations: None,
            pats: false,
            mapper: None,
            identities: None,
            passwords: None,
            uses: None,
            names: CookieNames::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl<R, M> Authenticator<R, M> {
    /// Refuses tokens that `revocations` reports as revoked, such as login tokens after logout. The check applies to
    /// all kinds of tokens.
    ///
    /// This function and [`with_personal_access_tokens`](Self::with_personal_access_tokens) set the same field: a later
    /// call replaces the check.
    #[must_use]
    pub fn with_revocations<R2: RevocationCheck>(self, revocations: R2) -> Authenticator<R2, M> {
        self.with_checks(|_, mapper| (Some(revocations), mapper))
    }

    /// Accepts PATs that `revocations` does not report as revoked. `revocations` also checks all other tokens.
    ///
    /// A PAT is also accepted as the password of `Authorization: Basic`, for each [`ClientBasic`] of the route
    /// ([D24](crate::decisions#d24)). Routes with the scheme `bypass`, and routes that accept only client certificates,
    /// do not accept PATs.
    #[must_use]
    pub fn with_personal_access_tokens<R2>(self, revocations: R2) -> Authenticator<R2, M>
    where
        R2: RevocationCheck,
    {
        Authenticator { pats: true, ..self.with_revocations(revocations) }
    }

    /// Accepts client certificates that `mapper` maps to a user.
    #[must_use]
    pub fn with_client_certificates<M2: IdentityMapper>(self, mapper: M2) -> Authenticator<R, M2> {
        self.with_checks(|revocations, _| (revocations, Some(mapper)))
    }

    /// Replaces the revocation check and the mapper of client certificates, and so the type parameters.
    fn with_checks<R2, M2>(
        self,
        replace: impl FnOnce(Option<R>, Option<M>) -> (Option<R2>, Option<M2>),
    ) -> Authenticator<R2, M2> {
        let (revocations, mapper) = replace(self.revocations, self.mapper);
        Authenticator {
            verifier: self.verifier,
            revocations,
            pats: self.pats,
            mapper,
            identities: self.identities,
            passwords: self.passwords,
            uses: self.uses,
            names: self.names,
            clock: self.clock,
        }
    }

    /// Turns client certificates off. The type `M` does not change, so a program can decide at run time whether it
    /// accepts client certificates.
    #[must_use]
    pub fn without_client_certificates(self) -> Self {
        Self { mapper: None, ..self }
    }

    /// Accepts tokens of other issuers that name a distributed identity, if `mapper` maps this identity to a user. A
    /// distributed identity is the name of a user in a directory outside of z/OS, such as an e-mail address.
    ///
    /// Without a mapper, such tokens are refused (docs/decisions.md#d22).
    #[must_use]
    pub fn with_distributed_identities(self, mapper: impl DistributedMapper) -> Self {
        Self { identities: Some(Arc::new(mapper)), ..self }
    }

    /// Checks the passwords of `Authorization: Basic` with `verifier`, on routes with [`ClientBasic::Verify`]. Without
    /// a verifier, these routes ignore passwords.
    #[must_use]
    pub fn with_passwords(self, verifier: impl PasswordVerifier) -> Self {
        Self { passwords: Some(Arc::new(verifier)), ..self }
    }

    /// Reports each use of a PAT that is revoked itself to `uses`. If only a rule revokes the PAT, its use is not
    /// reported.
    ///
    /// A rotation replaces a PAT by a new PAT. The old PAT stays valid for a grace period. If a client uses the old PAT
    /// after this period, it is possible that somebody has stolen it. The registry of PATs then revokes the first PAT
    /// and all PATs that rotations have made from it (docs/decisions.md#d36).
    #[must_use]
    pub fn with_token_uses(self, uses: Arc<TokenUses>) -> Self {
        Self { uses: Some(uses), ..self }
    }

    /// Sets the names of the cookies that contain tokens.
    #[must_use]
    pub fn with_cookie_names(self, names: CookieNames) -> Self {
        Self { names, ..self }
    }

    /// Uses `clock` instead of the system clock for the expiry of client certificates and of tokens of other issuers.
    /// The token verifier uses its own clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Returns the credentials of a request on `route` in the order of their precedence, and which of them the
    /// [layer](super::AuthenticateLayer) evaluates. This function is for explanations to operators. The layer does not
    /// call it, but uses the same rules.
    pub fn candidates(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        route: &Route,
    ) -> Vec<Candidate> {
        let certificate = extensions.get::<PeerCertificate>();
        let accepted = self.accepted(route.client_basic());
        let mut found = credential::candidates(headers, certificate, &self.names, accepted);
        if route.is_bypass() || route.accepts() == Accepts::ClientCertificate {
            let accepts = !route.is_bypass() && self.mapper.is_some();
            for candidate in &mut found {
                let is_it = accepts && candidate.place == CredentialPlace::Certificate;
                candidate.choice = match is_it {
                    true => CredentialChoice::Evaluated,
                    false => CredentialChoice::NotAccepted,
                };
            }
        } else if self.mapper.is_none() {
            for candidate in &mut found {
                if candidate.place == CredentialPlace::Certificate {
                    candidate.choice = CredentialChoice::NotAccepted;
                }
            }
        }
        found
    }

    /// Returns the text of the token in this place of a request. The text is a secret. Returns `None` if the place has
    /// no token. For `Authorization: Basic` and the certificate, always returns `None`.
    pub fn token_in<'a>(&self, place: CredentialPlace, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        credential::token_in(place, headers, &self.names)
    }

    /// Removes every credential from `headers`, including credentials that this authenticator does not accept.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        credential::strip(headers, &self.names);
    }

    pub(super) fn strip_after_failure(&self, headers: &mut HeaderMap, client_basic: ClientBasic) {
        match client_basic {
            ClientBasic::Forward => credential::strip_except_basic(headers, &self.names),
            ClientBasic::Strip | ClientBasic::Verify => self.strip(headers),
        }
    }

    /// Returns whether `Authorization: Basic` can contain a credential that this authenticator accepts.
    pub(super) fn accepts_basic(&self, client_basic: ClientBasic) -> bool {
        let Accepted { pats, passwords } = self.accepted(client_basic);
        pats || passwords
    }

    fn accepted(&self, client_basic: ClientBasic) -> Accepted {
        let passwords = client_basic == ClientBasic::Verify && self.passwords.is_some();
        Accepted { pats: self.pats, passwords }
    }

    /// If a login token or a token of another issuer proved the identity, keeps its text in `authenticated`. This
    /// function reads the text from `headers`, and keeps it only if it has the fingerprint of the verified token. So a
    /// scheme never gets a token that was not verified.
    #[cold]
    pub(super) fn keep_token(&self, authenticated: &mut Authenticated, headers: &HeaderMap) {
        let fingerprint = match authenticated.proof() {
            Proof::Jwt(jwt) => jwt.fingerprint(),
            Proof::External(token) => token.fingerprint(),
            Proof::Pat(_) | Proof::Certificate(_) | Proof::Password => return,
        };
        let token = credential::login_token(headers, &self.names)
            .filter(|token| TokenFingerprint::of(token) == fingerprint);
        if let Some(token) = token.and_then(|token| str::from_utf8(token).ok()) {
            authenticated.keep_token(token);
        }
    }
}

impl<R, M> fmt::Debug for Authenticator<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("revocations", &self.revocations.is_some())
            .field("personal_access_tokens", &self.pats)
            .field("client_certificates", &self.mapper.is_some())
            .field("distributed_identities", &self.identities.is_some())
            .field("passwords", &self.passwords.is_some())
            .field("cookie_names", &self.names)
            .finish_non_exhaustive()
    }
}

/// The state of a decision.
pub(super) enum Progress {
    Decided(Result<Authenticated, Refused>),
    Waiting(Pending),
}

pub(super) enum Pending {
    Verification { place: Place, future: VerifyFuture },
    Revocation { token: VerifiedToken, future: CheckFuture },
    Identity { token: ExternalToken, future: MapFuture },
    Certificate { certificate: PeerCertificate, future: MapFuture },
    Password { user: UserId, future: PasswordFuture },
}

impl Progress {
    fn refused(failure: impl Into<Failure>, presented: Presented) -> Self {
        Self::Decided(Err(Refused::new(failure, presented)))
    }
}

impl<R: RevocationCheck, M: IdentityMapper> Authenticator<R, M> {
    /// Selects the credential, and starts the decision about it.
    pub(super) fn begin(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        client_basic: ClientBasic,
    ) -> Progress {
        let certificate = extensions.get::<PeerCertificate>();
        match credential::select(headers, certificate, &self.names, self.accepted(client_basic)) {
            Some(Credential::Token { text, place }) => self.verify(text, place, extensions),
            Some(Credential::Certificate(certificate)) => self.map_certificate(certificate),
            Some(Credential::PatAsPassword(basic)) => {
                self.verify_pat_as_password(&basic, extensions)
            }
            Some(Credential::Password(basic)) => self.check_password(&basic, extensions),
            Some(Credential::MalformedBasic) => {
                Progress::refused(PasswordError::Wrong, Presented::Password(None))
            }
            None => Progress::refused(Failure::NoCredential, Presented::Nothing),
        }
    }

    fn verify(&self, text: &[u8], place: Place, extensions: &Extensions) -> Progress {
        match self.verifier.try_verify_now(text) {
            Some(verified) => self.after_verification(verified, place, extensions),
            None => {
                let future = self.verifier.verify_token(text);
                Progress::Waiting(Pending::Verification { place, future })
            }
        }
    }

    #[cold]
    fn verify_pat_as_password(
        &self,
        basic: &BasicCredentials,
        extensions: &Extensions,
    ) -> Progress {
        if !self.pats {
            return Progress::refused(Failure::WrongKind, Presented::Token);
        }
        match BasicUser::parse(basic.user()) {
            Some(user) => self.verify(basic.password(), Place::Password(user), extensions),
            None => Progress::refused(Failure::UserMismatch, Presented::Token),
        }
    }

    #[cold]
    fn check_password(&self, basic: &BasicCredentials, extensions: &Extensions) -> Progress {
        let Some(passwords) = &self.passwords else {
            return Progress::refused(Failure::NoCredential, Presented::Nothing);
        };
        let user = str::from_utf8(basic.user()).ok().and_then(|name| UserId::new(name).ok());
        let may_be_checked = !basic.password().is_empty() && may_be_password(basic.password());
        let (Some(user), true) = (user, may_be_checked) else {
            return Progress::refused(PasswordError::Wrong, Presented::Password(user));
        };
        let client = extensions.get::<ConnectionInfo>().map(|connection| connection.client().ip());
        if let Some(verified) = passwords.try_verify_now(&user, basic.password(), client) {
            return Progress::Decided(verified_password(user, verified));
        }
        let future = passwords.verify_password(user, basic.password(), client);
        Progress::Waiting(Pending::Password { user, future })
    }

    /// Ignores all credentials except the client certificate.
    #[cold]
    pub(super) fn begin_with_certificate(&self, certificate: Option<&PeerCertificate>) -> Progress {
        match certificate {
            Some(certificate) if self.mapper.is_some() => self.map_certificate(certificate),
            _ => Progress::refused(Failure::NoCertificate, Presented::Nothing),
        }
    }

    pub(super) fn poll(
        &self,
        pending: &mut Pending,
        extensions: &Extensions,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Authenticated, Refused>> {
        loop {
            let progress = match pending {
                Pending::Verification { place, future } => {
                    self.after_verification(ready!(future.as_mut().poll(cx)), *place, extensions)
                }
                Pending::Revocation { token, future } => {
                    let checked = ready!(future.as_mut().poll(cx));
                    self.after_revocation_check(token.clone(), checked, extensions)
                }
                Pending::Identity { token, future } => {
                    let mapped = ready!(future.as_mut().poll(cx));
                    Progress::Decided(mapped_external(token.clone(), mapped))
                }
                Pending::Certificate { certificate, future } => {
                    let mapped = ready!(future.as_mut().poll(cx));
                    Progress::Decided(mapped_certificate(certificate.clone(), mapped))
                }
                Pending::Password { user, future } => {
                    let verified = ready!(future.as_mut().poll(cx));
                    Progress::Decided(verified_password(*user, verified))
                }
            };
            match progress {
                Progress::Decided(result) => return Poll::Ready(result),
                Progress::Waiting(next) => *pending = next,
            }
        }
    }

    fn map_certificate(&self, certificate: &PeerCertificate) -> Progress {
        let Some(mapper) = &self.mapper else {
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

    fn after_verification(
        &self,
        verified: Result<VerifiedToken, TokenError>,
        place: Place,
        extensions: &Extensions,
    ) -> Progress {
        let token = match verified {
            Ok(token) => token,
            Err(error) => return Progress::refused(error, Presented::Token),
        };
        if !is_accepted_in(&token, place, self.pats) {
            return Progress::refused(Failure::WrongKind, Presented::verified(&token));
        }
        if let (VerifiedToken::Pat(pat), Place::Password(user)) = (&token, place)
            && !user.may_use_token_of(pat.user())
        {
            return Progress::refused(Failure::UserMismatch, Presented::verified(&token));
        }
        let Some(revocations) = &self.revocations else {
            return self.after_revocation_check(token, Ok(()), extensions);
        };
        match revocations.try_check_now(&token) {
            Some(checked) => self.after_revocation_check(token, checked, extensions),
            None => {
                let future = revocations.check_token(&token);
                Progress::Waiting(Pending::Revocation { token, future })
            }
        }
    }

    fn after_revocation_check(
        &self,
        token: VerifiedToken,
        checked: Result<(), CheckError>,
        extensions: &Extensions,
    ) -> Progress {
        if let Err(error) = checked {
            if let (Some(uses), VerifiedToken::Pat(pat)) = (&self.uses, &token)
                && error == CheckError::Revoked(RevokedBy::Token)
            {
                uses.refused(pat);
            }
            return Progress::refused(error, Presented::verified(&token));
        }
        match token {
            VerifiedToken::Jwt(jwt) => {
                Progress::Decided(Ok(Authenticated::new(*jwt.user(), Proof::Jwt(jwt))))
            }
            VerifiedToken::Pat(pat) => {
                Progress::Decided(Ok(Authenticated::new(*pat.user(), Proof::Pat(pat))))
            }
            VerifiedToken::External(token) => self.map_external(token, extensions),
        }
    }

    #[cold]
    fn map_external(&self, token: ExternalToken, extensions: &Extensions) -> Progress {
        let (now, expires_at) = (self.clock.now(), token.expires_at());
        if expires_at <= now {
            // A verifier with a cache can return a token that has expired.
            let error = TokenError::Expired { secs_ago: now.as_secs() - expires_at.as_secs() };
            return Progress::refused(error, Presented::verified(&token.into()));
        }
        // The rules for technical users come first. So a person whom a rule matches needs no z/OS user of their own.
        let route = extensions.get::<Arc<Route>>();
        if let Some(rules) = route.and_then(|route| route.technical_users()) {
            match rules.find(&token).map(|rule| rule.cloned()) {
                Ok(Some(rule)) => {
                    return Progress::Decided(Ok(Authenticated::through(rule, token)));
                }
                Ok(None) => {}
                Err(error) => return Progress::refused(error, Presented::Ambiguous(token)),
            }
        }
        match (token.subject(), &self.identities) {
            (ExternalSubject::User(user), _) => {
                let user = *user;
                Progress::Decided(mapped_external(token, Ok(user)))
            }
            (ExternalSubject::Identity(identity), Some(mapper)) => {
                let future = mapper.map_identity(identity);
                Progress::Waiting(Pending::Identity { token, future })
            }
            (ExternalSubject::Identity(_), None) => {
                Progress::Decided(mapped_external(token, Err(MapError::NotMapped)))
            }
        }
    }
}

fn is_accepted_in(token: &VerifiedToken, place: Place, pats: bool) -> bool {
    match (token, place) {
        (VerifiedToken::Pat(_), _) => pats,
        (VerifiedToken::Jwt(_) | VerifiedToken::External(_), Place::Any) => true,
        (VerifiedToken::Jwt(_) | VerifiedToken::External(_), Place::Pat | Place::Password(_)) => {
            false
        }
    }
}

fn verified_password(
    user: UserId,
    verified: Result<UserId, PasswordError>,
) -> Result<Authenticated, Refused> {
    match verified {
        Ok(user) => Ok(Authenticated::new(user, Proof::Password)),
        Err(error) => Err(Refused::new(error, Presented::Password(Some(user)))),
    }
}

fn mapped_external(
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
