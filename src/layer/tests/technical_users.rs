//! Tests of services with rules for technical users.

use super::*;
use crate::{
    audit::{CredentialKind, Detail, Event, Outcome, ReasonCode},
    identity::{DistributedIdentity, DistributedMap},
    saf::{AccessLevel, FileSaf, PermittedGenerator, Profile, ProfileName},
    token::{ExternalClaims, TokenError, TokenVerifier, VerifyFuture, serde_json::json},
};

const ISSUER: &str = "https://idp.example.com";

/// Verifies tokens of the gateway, and tokens of a provider. A token of the provider is `NAME:GROUP,GROUP`. If it
/// begins with `later `, the verification must wait.
struct Provider(Rs256Verifier);

impl Provider {
    fn verify(text: &str) -> Result<VerifiedToken, TokenError> {
        let (name, groups) = text.split_once(':').ok_or(TokenError::Malformed)?;
        let identity = DistributedIdentity::new(name, "idp").unwrap();
        let groups: Vec<_> = groups.split(',').collect();
        let claims = ExternalClaims::new(identity, ISSUER, Timestamp::from_secs(NOW + 60))
            .with_claim("groups", json!(groups));
        Ok(VerifiedToken::external(text.as_bytes(), claims))
    }
}

impl TokenVerifier for Provider {
    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        let text = str::from_utf8(token).unwrap();
        match text.split_once(':') {
            None => self.0.try_verify_now(token),
            Some(_) if text.starts_with("later") => None,
            Some(_) => Some(Self::verify(text)),
        }
    }

    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let text = String::from_utf8(token.to_vec()).unwrap();
        Box::pin(async move {
            tokio::task::yield_now().await;
            Self::verify(&text)
        })
    }
}

fn rules() -> Arc<TechnicalUsers> {
    let rule = |value, user| {
        TechnicalUserRule::new(ISSUER, "groups", value, UserId::new(user).unwrap()).unwrap()
    };
    let rules = [rule("batch", "BATCHUSR"), rule("cics", "CICSUSR"), rule("root", "ROOT")];
    Arc::new(TechnicalUsers::new(rules).unwrap())
}

impl World {
    /// Sends a request to a service with rules. The gateway may make tickets for all users except ROOT. The user `jane`
    /// of the provider has the user id JANE.
    async fn exchange_with_rules(&self, request: Request<Body>) -> Exchange {
        let generator = LocalGenerator::new(KeyProfiles::new([profile()]).unwrap());
        let gateway = UserId::new("ZWESVUSR").unwrap();
        let permit = |name: &str, level| {
            Profile::new("PTKTDATA", ProfileName::new(name).unwrap()).permit(gateway, level)
        };
        let saf = FileSaf::new([
            permit("IRRPTAUTH.ZOWEAPPL.*", AccessLevel::Update),
            permit("IRRPTAUTH.ZOWEAPPL.ROOT", AccessLevel::Read),
        ]);
        let generator = generator.with_clock(self.clock.clone());
        let generator = PermittedGenerator::new(generator, saf, gateway);
        let applid = Applid::new("ZOWEAPPL").unwrap();
        let scheme = PassTicketScheme::new(applid, generator).with_technical_users(rules());
        let routes = Routes::new([self.route("files", scheme)]).unwrap();
        let jane = DistributedIdentity::new("jane", "idp").unwrap();
        let map = DistributedMap::new([(jane, UserId::new("JANE").unwrap())]).unwrap();
        let authenticator = Authenticator::new(Provider(self.verifier()))
            .with_personal_access_tokens(self.revocations.clone())
            .with_client_certificates(CommonNameMapper)
            .with_distributed_identities(map)
            .with_clock(self.clock.clone());
        let stack = ServiceBuilder::new()
            .layer(RouteLayer::new(routes))
            .layer(AuthenticateLayer::new(authenticator).with_audit(self.audit()))
            .layer(ScopeLayer::new().with_audit(self.audit()))
            .layer(SchemeLayer::new().with_audit(self.audit()))
            .service(tower::service_fn(echo));
        exchange(stack, request).await
    }
}

fn bearer(token: &str) -> Request<Body> {
    get(FILES, &[("authorization", &format!("Bearer {token}"))])
}

#[tokio::test]
async fn a_person_whom_a_rule_matches_gets_a_ticket_of_the_technical_user() {
    let world = World::new();
    for (token, name) in
        // `joe` has no user id.
        [
            ("joe:staff,batch", "joe"),
            ("jane:batch", "jane"),
            ("later jane:batch", "later jane"),
        ]
    {
        let exchange = world.exchange_with_rules(bearer(token)).await;
        assert_eq!(exchange.ticket_user().unwrap().as_str(), "BATCHUSR", "{token}");
        let records = world.collected.take();
        let events: Vec<_> = records.iter().map(|record| record.event).collect();
        assert_eq!(events, [Event::TechnicalUser, Event::Authentication, Event::Ticket]);
        for record in &records {
            assert_eq!(record.outcome, Outcome::Success);
            assert_eq!(record.credential, Some(CredentialKind::ExternalToken));
            assert_eq!(record.user.unwrap().as_str(), "BATCHUSR");
            assert_eq!(record.token_id, Some(TokenFingerprint::of(token)));
            assert_eq!(record.service.as_ref().unwrap().as_str(), "files");
            let want = format!(r#""subject":{{"issuer":"{ISSUER}","name":"{name}"}}"#);
            assert!(record.to_json().contains(&want), "{}", record.to_json());
        }
        let want = Detail::TechnicalUser { claim: "groups".into(), value: "batch".into() };
        assert_eq!(records[0].detail, Some(want));
    }
}

#[tokio::test]
async fn rules_with_two_users_for_one_person_refuse_the_token() {
    for on_failure in [OnFailure::Forward, OnFailure::Reject] {
        let world = World::with(on_failure);
        for token in ["jane:batch,cics", "later jane:cics,staff,batch"] {
            let exchange = world.exchange_with_rules(bearer(token)).await;
            assert_eq!(exchange.ticket_user(), None, "{token}");
            assert_eq!(exchange.failure_text(), Some("ZWEAG161E No user was found"));
            let records = world.collected.take();
            let events: Vec<_> = records.iter().map(|record| record.event).collect();
            assert_eq!(events, [Event::Authentication, Event::TechnicalUser]);
            for record in &records {
                assert_eq!(record.reason, Some(ReasonCode::AmbiguousUser));
                assert_eq!(record.outcome, Outcome::Refused);
                assert_eq!((record.user, record.subject.is_some()), (None, true));
            }
        }
    }
}

#[tokio::test]
async fn a_person_whom_no_rule_matches_gets_their_own_user_or_no_user() {
    let world = World::new();
    let exchange = world.exchange_with_rules(bearer("jane:staff")).await;
    assert_eq!(exchange.ticket_user().unwrap().as_str(), "JANE");
    let records = world.collected.take();
    let events: Vec<_> = records.iter().map(|record| record.event).collect();
    assert_eq!(events, [Event::Authentication, Event::Ticket]);
    assert!(records.iter().all(|record| record.subject.is_none()));

    let exchange = world.exchange_with_rules(bearer("joe:staff")).await;
    assert_eq!(exchange.failure_text(), Some("ZWEAG161E No user was found"));
    let records = world.collected.take();
    let reasons: Vec<_> = records.iter().map(|record| (record.event, record.reason)).collect();
    assert_eq!(reasons, [(Event::Authentication, Some(ReasonCode::NoUser))]);
}

#[tokio::test]
async fn login_tokens_pats_and_certificates_never_match_a_rule() {
    let world = World::new();
    let mut with_certificate = get(FILES, &[]);
    with_certificate.extensions_mut().insert(certificate("user"));
    for request in [bearer(&world.jwt()), bearer(&world.pat("files")), with_certificate] {
        let exchange = world.exchange_with_rules(request).await;
        assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER");
        let records = world.collected.take();
        let events: Vec<_> = records.iter().map(|record| record.event).collect();
        assert_eq!(events, [Event::Authentication, Event::Ticket]);
    }
}

#[tokio::test]
async fn a_technical_user_needs_the_permission_of_the_gateway_and_a_token_that_is_not_revoked() {
    let world = World::new();
    let exchange = world.exchange_with_rules(bearer("joe:root")).await;
    assert_eq!(exchange.ticket_user(), None);
    let records = world.collected.take();
    let last = records.last().unwrap();
    assert_eq!((last.event, last.reason), (Event::Ticket, Some(ReasonCode::NotAuthorized)));
    assert_eq!((last.user.unwrap().as_str(), last.subject.is_some()), ("ROOT", true));

    let token = "joe:batch";
    let expires_at = Timestamp::from_secs(NOW + 60);
    world.revocations.apply(&Revocation::Token { token: TokenFingerprint::of(token), expires_at });
    let exchange = world.exchange_with_rules(bearer(token)).await;
    assert_eq!(exchange.failure_text(), Some("ZWEAG102E Token is not valid"));
    let records = world.collected.take();
    let reasons: Vec<_> = records.iter().map(|record| (record.event, record.reason)).collect();
    assert_eq!(reasons, [(Event::Authentication, Some(ReasonCode::TokenRevoked))]);
}

#[test]
fn only_a_passticket_scheme_can_have_technical_users() {
    let world = World::new();
    let applid = Applid::new("ZOWEAPPL").unwrap();
    let generator = || LocalGenerator::new(KeyProfiles::new([profile()]).unwrap());
    let jwt = ZoweJwtScheme::new(world.issuer.clone(), "x", CookieNames::default());
    let x509 = X509Scheme::new(std::iter::empty::<CertificateHeader>());
    for (route, want) in [
        (world.route("a", PassTicketScheme::new(applid, generator())), false),
        (
            world.route(
                "b",
                Arc::new(PassTicketScheme::new(applid, generator()).with_technical_users(rules())),
            ),
            true,
        ),
        (world.route("c", jwt), false),
        (world.route("d", x509), false),
        (world.route("e", Bypass), false),
    ] {
        assert_eq!(route.technical_users().is_some(), want, "{}", route.service());
    }
}
