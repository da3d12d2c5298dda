//! Fuzz target for answers of Zowe's Caching Service, in which API ML (Zowe's gateway) keeps its revocations of
//! Personal Access Tokens (PATs).

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::digest::{SHA512, digest};
use serde_json::Value;
use tower_passticket::{
    remote::ClientLimits,
    revocation::{
        CachingService, CachingServiceSettings, CheckError, ReadMode, RevocationCheck,
        RevocationIndex, WithCachingService,
    },
    token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

use crate::{
    answers::{Answer, address},
    exchange::block_on,
    gateway::user,
    support::SIGNING_KEY,
};

/// A PAT of `USER` for the service `svc`.
static PAT: LazyLock<VerifiedToken> = LazyLock::new(|| {
    let key = SigningKey::from_pem(SIGNING_KEY.as_bytes()).expect("a signing key");
    let verifier = Rs256Verifier::new(key.verifying_key()).with_pat_texts();
    let scopes = Scopes::parse(["svc"]).expect("a service id");
    let token = TokenIssuer::new(key).personal_access_token(&user("USER"), &scopes, Validity::MAX);
    verifier.verify(token.expect("a token").expose()).expect("a valid token")
});

/// The input is an answer of the Caching Service to every request, in the form that [`Answer::new`] describes.
pub(crate) fn answers(data: &[u8]) {
    let Some(answer) = Answer::new(data) else { return };
    let modes = [
        ReadMode::Index { every: Duration::from_secs(60) },
        ReadMode::Query { memory: Duration::ZERO },
    ];
    for mode in modes {
        let checked = block_on(async {
            let service = CachingService::new(
                answer.connector(),
                ClientLimits::default(),
                address(),
                CachingServiceSettings::new(mode),
            );
            let prepared = service.prepare().await;
            if let Err(error) = &prepared {
                assert!(error.to_string().len() < 2000);
            }
            let store = WithCachingService::new(RevocationIndex::default(), service);
            let checked = match store.try_check_now(&PAT) {
                Some(checked) => checked,
                None => store.check_token(&PAT).await,
            };
            assert!(prepared.is_ok() || checked == Err(CheckError::Unavailable));
            checked
        });
        let Some((status, value)) = &answer.status_and_json else { continue };
        if checked == Ok(()) {
            assert_eq!(*status, 200);
            // `CachingService` ignores some members. Such a member may contain JSON that `Value` cannot hold, for
            // example a very large number. In this case, this target cannot look for rules.
            let Some(value) = value else { continue };
            assert!(!is_revoked(value), "{value}");
        }
    }
}

/// Returns whether `answer` has a rule for `USER` or `svc` that revokes a PAT of today. Only a rule whose time is a
/// text, and is later than 4,000,000,000,000 ms (in the year 2096), counts. The key of a rule is a hash of the salt and
/// a name. This function looks for rules only if the salt is `salt!`. For any other salt, it returns `false`.
fn is_revoked(answer: &Value) -> bool {
    let salt = answer["value"].as_str().expect("there is a salt");
    if salt != "salt!" {
        return false;
    }
    let hash = |value: &str| {
        let digest = digest(&SHA512, &[salt.as_bytes(), value.as_bytes()].concat());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    [("invalidUsers", "USER"), ("invalidUsers", "user"), ("invalidScopes", "svc")].iter().any(
        |(list, value)| {
            let rule = &answer[list][hash(value)];
            rule.as_str().is_some_and(|rule| {
                rule.trim().parse::<i64>().is_ok_and(|millis| millis > 4_000_000_000_000)
            })
        },
    )
}
