//! A cache of valid certificate signatures: see [the description](super#signature-cache).
//!
//! The result of a check can be cached, because a signature that is valid for a public key and a message stays valid.
//! Only valid signatures are cached.

use std::sync::LazyLock;

use quick_cache::sync::Cache;
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm},
};
use sha2::{Digest, Sha256};

/// The maximum number of cached signatures. They take about 1 MiB.
const MAX_SIGNATURES: usize = 10_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum SignatureCache {
    Off,
    On,
}

impl SignatureCache {
    pub(super) fn provider(self) -> CryptoProvider {
        match self {
            Self::Off => aws_lc_rs::default_provider(),
            Self::On => caching_provider(),
        }
    }
}

fn caching_provider() -> CryptoProvider {
    static CACHING: LazyLock<Vec<Caching>> = LazyLock::new(|| {
        let provider = aws_lc_rs::default_provider();
        let all = provider.signature_verification_algorithms.all.iter().enumerate();
        all.map(|(index, algorithm)| Caching { algorithm: *algorithm, index, valid: &VALID })
            .collect()
    });
    static ALL: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> =
        LazyLock::new(|| CACHING.iter().map(|algorithm| algorithm as _).collect());

    let mut provider = aws_lc_rs::default_provider();
    // The algorithms in `mapping` are not replaced, because they verify the signature that a peer makes in each
    // handshake.
    provider.signature_verification_algorithms.all = &ALL;
    provider
}

/// The valid signatures. The cache key is [`Caching::digest`].
type Valid = LazyLock<Cache<[u8; 32], ()>>;

/// The cache that all listeners and connectors of the process share. It contains only signatures that belong to the
/// chain of a trusted CA: rustls verifies a chain from its root, so an untrusted chain fails before anything is cached.
static VALID: Valid = LazyLock::new(|| Cache::new(MAX_SIGNATURES));

/// A signature algorithm with a cache of the valid signatures.
#[derive(Debug)]
struct Caching {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// The index of `algorithm` in the list of rustls. Some algorithms differ only in the public keys that they accept.
    /// The index is a part of the cache key, so that such algorithms do not share entries.
    index: usize,
    valid: &'static Valid,
}

impl Caching {
    /// Computes the cache key: a digest of everything on which the result depends.
    fn digest(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.index as u64).to_be_bytes());
        for part in [public_key, message, signature] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl SignatureVerificationAlgorithm for Caching {
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

    /// An algorithm that counts its calls. It accepts a signature if the signature ends with the public key.
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
    fn verification_is_skipped_only_for_a_signature_that_was_valid_for_equal_inputs() {
        static VALID: Valid = LazyLock::new(|| Cache::new(100));
        static COUNTING: Counting = Counting(AtomicUsize::new(0));
        let with_index = |index| Caching { algorithm: &COUNTING, index, valid: &VALID };
        let (first, second) = (with_index(1), with_index(2));
        // Each case has four values: the algorithm; an array with the public key, the message and the signature;
        // whether the signature is valid; and whether the algorithm is called.
        let cases: [(&Caching, [&str; 3], bool, bool); 10] = [
            (&first, ["key", "message", "by key"], true, true),
            (&first, ["key", "message", "by key"], true, false),
            (&first, ["key", "another", "by key"], true, true),
            (&first, ["key", "messageb", "y key"], true, true),
            (&first, ["ey", "message", "by key"], true, true),
            (&first, ["key", "message", "key"], true, true),
            (&second, ["key", "message", "by key"], true, true),
            (&first, ["key", "message", "forged"], false, true),
            (&first, ["key", "message", "forged"], false, true),
            (&first, ["key", "message", "by key"], true, false),
        ];
        for (algorithm, parts, is_valid, is_called) in cases {
            let calls_before = COUNTING.0.load(Ordering::Relaxed);
            let [key, message, signature] = parts.map(str::as_bytes);
            let got = algorithm.verify_signature(key, message, signature);
            assert_eq!(got.is_ok(), is_valid, "{parts:?}");
            let calls = COUNTING.0.load(Ordering::Relaxed) - calls_before;
            assert_eq!(calls, usize::from(is_called), "{parts:?}");
        }
    }

    #[test]
    fn no_algorithm_caches_signatures_if_the_cache_is_off() {
        let algorithms = SignatureCache::Off.provider().signature_verification_algorithms;
        assert!(algorithms.all.iter().all(|a| !format!("{a:?}").starts_with("Caching")));
    }

    #[test]
    fn handshake_signatures_are_never_cached() {
        let algorithms = caching_provider().signature_verification_algorithms;
        let library = aws_lc_rs::default_provider().signature_verification_algorithms;
        let ids = |a: &&dyn SignatureVerificationAlgorithm| {
            (a.public_key_alg_id(), a.signature_alg_id(), a.fips())
        };
        assert!(algorithms.all.iter().map(ids).eq(library.all.iter().map(ids)));
        assert!(algorithms.all.iter().all(|a| format!("{a:?}").starts_with("Caching")));
        let for_handshakes = algorithms.mapping.iter().flat_map(|(_, algorithms)| *algorithms);
        assert!(for_handshakes.into_iter().all(|a| !format!("{a:?}").starts_with("Caching")));
    }

    #[test]
    fn a_certificate_with_a_cached_signature_is_rejected_outside_its_validity_period() {
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
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(caching_provider()),
        )
        .build()
        .unwrap();
        // The certificate is valid from 2026-01-01 (1,767,225,600) to 2027-01-01 (1,798,761,600).
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
            let is_expected = match (&got, want) {
                (None, None) => true,
                (Some(got), Some(want)) => got.contains(want),
                _ => false,
            };
            assert!(is_expected, "{secs}: {got:?}");
        }
    }
}
