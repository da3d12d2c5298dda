//! Signatures of certificates are verified once.
//!
//! Clients come back with the certificate that they came with, signed by the same authority, and to
//! verify that signature is two fifths of what a client certificate costs (`benches/choices.md`). A
//! signature that was valid for a key and a message stays so: it alone is remembered. Whether a
//! certificate has expired, what it may be used for and whether its authority is one of ours, that is
//! looked at in each full handshake, as is the signature by which the peer proves that it holds the key.
//!
//! Who has a copy of somebody's certificate can tell by the time that a handshake takes to fail
//! whether that client has been here.

use std::sync::LazyLock;

use quick_cache::sync::Cache;
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm},
};
use sha2::{Digest, Sha256};

/// So many signatures, in about a mebibyte.
const SIGNATURES: usize = 10_000;

/// The algorithms of aws-lc-rs. Those that verify certificates remember what was valid.
pub(super) fn provider() -> CryptoProvider {
    static REMEMBERING: LazyLock<Vec<Remembering>> = LazyLock::new(|| {
        let provider = aws_lc_rs::default_provider();
        let all = provider.signature_verification_algorithms.all.iter().enumerate();
        all.map(|(which, algorithm)| Remembering { algorithm: *algorithm, which, valid: &VALID })
            .collect()
    });
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        LazyLock::new(|| REMEMBERING.iter().map(|algorithm| algorithm as _).collect());

    let mut provider = aws_lc_rs::default_provider();
    // Not those of its mapping: they verify what is signed anew in each handshake.
    provider.signature_verification_algorithms.all = &ALL;
    provider
}

/// By [`Remembering::digest`].
type Valid = LazyLock<Cache<[u8; 32], ()>>;

/// Of all listeners and connectors of the process. Only who is certified by an authority that one of
/// them trusts gets something in here: chains are verified from their root.
static VALID: Valid = LazyLock::new(|| Cache::new(SIGNATURES));

/// An algorithm that remembers which signatures were valid.
#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// Its place in the list of the library: some differ in the keys that they take, not in name.
    which: usize,
    valid: &'static Valid,
}

impl Remembering {
    /// Of all that the answer depends on.
    fn digest(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.which as u64).to_be_bytes());
        for part in [public_key, message, signature] {
            // With its length, so that nothing can be read as a part of its neighbour.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let digest = self.digest(public_key, message, signature);
        if self.valid.get(&digest).is_none() {
            self.algorithm.verify_signature(public_key, message, signature)?;
            self.valid.insert(digest, ());
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::{
        RootCertStore,
        pki_types::{UnixTime, alg_id},
        server::WebPkiClientVerifier,
    };

    use super::*;

    /// Finds valid what ends in the key, and counts.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            public_key: &[u8],
            _message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if signature.ends_with(public_key) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    #[test]
    fn only_the_same_valid_signature_is_not_verified_again() {
        static VALID: Valid = LazyLock::new(|| Cache::new(100));
        static COUNTING: Counting = Counting(AtomicUsize::new(0));
        let of = |which| Remembering { algorithm: &COUNTING, which, valid: &VALID };
        let (one, other) = (of(1), of(2));
        let cases: [(&Remembering, [&str; 3], bool, bool); 10] = [
            (&one, ["key", "message", "by key"], true, true),
            (&one, ["key", "message", "by key"], true, false),
            (&one, ["key", "another", "by key"], true, true),
            (&one, ["key", "messageb", "y key"], true, true),
            (&one, ["ey", "message", "by key"], true, true),
            (&one, ["key", "message", "key"], true, true),
            (&other, ["key", "message", "by key"], true, true),
            (&one, ["key", "message", "forged"], false, true),
            (&one, ["key", "message", "forged"], false, true),
            (&one, ["key", "message", "by key"], true, false),
        ];
        for (algorithm, parts, is_valid, is_verified) in cases {
            let before = COUNTING.0.load(Ordering::Relaxed);
            let [key, message, signature] = parts.map(str::as_bytes);
            let got = algorithm.verify_signature(key, message, signature);
            assert_eq!(got.is_ok(), is_valid, "{parts:?}");
            let verified = COUNTING.0.load(Ordering::Relaxed) - before;
            assert_eq!(verified, usize::from(is_verified), "{parts:?}");
        }
    }

    #[test]
    fn what_is_signed_in_a_handshake_is_not_remembered() {
        let algorithms = provider().signature_verification_algorithms;
        let library = aws_lc_rs::default_provider().signature_verification_algorithms;
        let ids = |a: &&dyn SignatureVerificationAlgorithm| {
            (a.public_key_alg_id(), a.signature_alg_id(), a.fips())
        };
        assert!(algorithms.all.iter().map(ids).eq(library.all.iter().map(ids)));
        assert!(algorithms.all.iter().all(|a| format!("{a:?}").starts_with("Remembering")));
        let of_handshakes = algorithms.mapping.iter().flat_map(|(_, algorithms)| *algorithms);
        assert!(of_handshakes.into_iter().all(|a| !format!("{a:?}").starts_with("Remembering")));
    }

    #[test]
    fn what_has_expired_is_refused_however_well_it_was_signed() {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).unwrap();
        let mut user = CertificateParams::default();
        user.not_before = date_time_ymd(2026, 1, 1);
        user.not_after = date_time_ymd(2027, 1, 1);
        let own = KeyPair::generate().unwrap();
        let user = user.signed_by(&own, &Issuer::new(authority, &key)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()))
                .build()
                .unwrap();
        for (secs, want) in [
            (1_767_225_599, Some("NotValidYet")),
            (1_767_225_600, None),
            (1_798_761_600, None),
            (1_798_761_601, Some("Expired")),
            (1_767_225_600, None),
        ] {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
            let got = verifier.verify_client_cert(user.der(), &[], now);
            let got = got.err().map(|error| format!("{error:?}"));
            let is_right = match (&got, want) {
                (None, None) => true,
                (Some(got), Some(want)) => got.contains(want),
                _ => false,
            };
            assert!(is_right, "{secs}: {got:?}");
        }
    }
}
