//! Tokens for simulated requests.

use std::sync::{Arc, LazyLock};

use crate::{
    clock::{ManualClock, Timestamp},
    passticket::UserId,
    token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

/// When the tokens were issued.
pub(super) const ISSUED: u64 = 1_800_000_000_000;
pub(super) const USERS: usize = 13;
pub(super) const TOKENS_PER_USER: usize = 5;

/// The tokens of all runs: first the tokens of the first user, then those of the second user, and so on.
pub(super) static TOKENS: LazyLock<Vec<VerifiedToken>> = LazyLock::new(|| {
    let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(ISSUED)));
    let verifier = Rs256Verifier::new(key.verifying_key()).with_clock(clock.clone());
    let issuer = TokenIssuer::new(key).with_clock(clock);
    let scopes = Scopes::parse(["zosmf"]).unwrap();
    let token = |number: usize| {
        let user = user(number / TOKENS_PER_USER);
        let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        verifier.verify(pat.expose()).unwrap()
    };
    (0..USERS * TOKENS_PER_USER).map(token).collect()
});

pub(super) fn user(number: usize) -> UserId {
    UserId::new(&format!("USER{number}")).unwrap()
}
