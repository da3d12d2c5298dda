//! Measures the memory of the token cache and of the PassTicket cache. The result is the growth of the resident set of
//! the process in bytes, divided by the capacity of the cache. A PAT with many scopes takes up several units of the
//! capacity. So the cache holds fewer such PATs than its capacity.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(clippy::print_stdout, reason = "the benchmark prints its measurements")]

use std::{fs, mem, num::NonZeroUsize};

use tower_passticket::{
    passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
    token::{IssuedToken, Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity},
};

fn main() {
    // `cargo test --benches` does not pass `--bench`. The benchmark then does nothing, because signing so many
    // tokens is slow without optimization.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let count = NonZeroUsize::new(5_000).unwrap();
    let users: Vec<_> = (0..count.get()).map(|i| UserId::new(&format!("U{i}")).unwrap()).collect();

    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap();
    let issuer = TokenIssuer::new(key.clone());
    let pat = |user: &UserId, services: usize| {
        let scopes = Scopes::parse((0..services).map(|i| format!("service-{i}"))).unwrap();
        issuer.personal_access_token(user, &scopes, Validity::MAX).unwrap()
    };
    let tokens = |name: &str, issue: &dyn Fn(&UserId) -> IssuedToken| {
        let tokens: Vec<_> = users.iter().map(issue).collect();
        let verifier = Rs256Verifier::new(key.verifying_key());
        let verify = |verifier: &Rs256Verifier| {
            for token in &tokens {
                verifier.verify(token.expose()).unwrap();
            }
        };
        // Verify once without a cache, so that the memory of the verification itself is not measured.
        verify(&verifier);
        let verifier = verifier.with_cache(count);
        print_growth(name, count, || verify(&verifier));
        // Do not free the memory. Otherwise the next measurement would reuse it, and the resident set would not grow.
        mem::forget((tokens, verifier));
    };
    tokens("login token", &|user| issuer.login_token(user, "security-domain").unwrap());
    tokens("PAT of 3 services", &|user| pat(user, 3));
    tokens("PAT of 40 services", &|user| pat(user, 40));

    let applid = Applid::new("ZOWEAPPL").unwrap();
    let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977").unwrap();
    let profiles = KeyProfiles::new([profile.with_replay(Replay::Allowed)]).unwrap();
    let generator = LocalGenerator::new(profiles).with_ticket_cache(count);
    print_growth("PassTicket", count, || {
        for user in &users {
            generator.generate_now(user, &applid).unwrap();
        }
    });
}

/// Runs `work`. Prints the growth of the resident set in bytes, divided by `count`.
fn print_growth(name: &str, count: NonZeroUsize, work: impl FnOnce()) {
    let before = resident();
    work();
    println!("{name}: {} bytes", resident().saturating_sub(before) / count);
}

/// Returns the size of the resident set in bytes, or 0 on systems without /proc.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
