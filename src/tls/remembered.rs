//! Signatures of certificates are verified once.
//!
//! Clients come back with the certificate that they came with, signed by the same authority, and to
//! verify that signature is the dearest part of their handshake (`benches/choices.md`). A signature
//! that was valid for a key and a message stays so: it alone is remembered. Whether the certificate
//! has expired, what it may be used for and whose it is, that is looked at in each handshake, as is
//! the signature by which the peer proves that it holds the key.

use std::sync::LazyLock;

use quick_cache::sync::Cache;
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm},
};
use sha2::{Digest, Sha256};

/// So many signatures, in about a mebibyte. Only what an authority of ours has signed gets here:
/// chains are verified from their root.
const SIGNATURES: usize = 10_000;

/// The algorithms of aws-lc-rs. Those that verify certificates remember what was valid.
pub(super) fn provider() -> CryptoProvider {
    static REMEMBERING: LazyLock<Vec<Remembering>> = LazyLock::new(|| {
        let provider = aws_lc_rs::default_provider();
        let all = provider.signature_verification_algorithms.all.iter();
        all.map(|algorithm| Remembering { algorithm: *algorithm, valid: &VALID }).collect()
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

static VALID: Valid = LazyLock::new(|| Cache::new(SIGNATURES));

/// An algorithm that remembers which signatures were valid.
#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    valid: &'static Valid,
}

impl Remembering {
    /// Of all that the answer depends on.
    fn digest(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
        let (key_kind, signature_kind) = (self.public_key_alg_id(), self.signature_alg_id());
        let mut digest = Sha256::new();
        for part in [&key_kind, &signature_kind, public_key, message, signature] {
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
    struct Counting(AlgorithmIdentifier, AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            public_key: &[u8],
            _message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.1.fetch_add(1, Ordering::Relaxed);
            if signature.ends_with(public_key) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            self.0
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    #[test]
    fn only_the_same_valid_signature_is_not_verified_again() {
        static VALID: Valid = LazyLock::new(|| Cache::new(100));
        static P256: Counting = Counting(alg_id::ECDSA_P256, AtomicUsize::new(0));
        static P384: Counting = Counting(alg_id::ECDSA_P384, AtomicUsize::new(0));
        let of = |algorithm| Remembering { algorithm, valid: &VALID };
        let (p256, p384) = (of(&P256), of(&P384));
        let cases: [(&Remembering, [&str; 3], bool, bool); 10] = [
            (&p256, ["key", "message", "by key"], true, true),
            (&p256, ["key", "message", "by key"], true, false),
            (&p256, ["key", "another", "by key"], true, true),
            (&p256, ["key", "messageb", "y key"], true, true),
            (&p256, ["ey", "message", "by key"], true, true),
            (&p256, ["key", "message", "key"], true, true),
            (&p384, ["key", "message", "by key"], true, true),
            (&p256, ["key", "message", "forged"], false, true),
            (&p256, ["key", "message", "forged"], false, true),
            (&p256, ["key", "message", "by key"], true, false),
        ];
        for (algorithm, parts, is_valid, is_verified) in cases {
            let count = || [&P256, &P384].map(|a| a.1.load(Ordering::Relaxed)).iter().sum();
            let before: usize = count();
            let [key, message, signature] = parts.map(str::as_bytes);
            let got = algorithm.verify_signature(key, message, signature);
            assert_eq!(got.is_ok(), is_valid, "{parts:?}");
            assert_eq!(count() - before, usize::from(is_verified), "{parts:?}");
        }
    }

    #[test]
    fn what_is_signed_in_a_handshake_is_not_remembered() {
        let algorithms = provider().signature_verification_algorithms;
        let library = aws_lc_rs::default_provider().signature_verification_algorithms;
        assert_eq!(algorithms.all.len(), library.all.len());
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
