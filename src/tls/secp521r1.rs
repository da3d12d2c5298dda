//! The key exchange group secp521r1 (NIST P-521), which rustls itself does not have. Some services on z/OS accept only
//! this group.

use std::fmt;

use aws_lc_rs::{
    agreement::{ECDH_P521, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SharedSecret, SupportedKxGroup},
};

/// The key exchange group secp521r1 (NIST P-521) for a [`TlsPolicy`](super::TlsPolicy). A
/// [`Connector`](super::Connector) whose policy sets no groups offers it after the groups of rustls.
pub static SECP521R1: &dyn SupportedKxGroup = &Secp521r1;

/// Adds this group at the end, so that all other groups are preferred.
pub(super) fn with_secp521r1(mut provider: CryptoProvider) -> CryptoProvider {
    provider.kx_groups.push(SECP521R1);
    provider
}

struct Secp521r1;

impl fmt::Debug for Secp521r1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private_key = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new())
            .map_err(|_| GetRandomFailed)?;
        let public_key = private_key.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(KeyExchange { private_key, public_key }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct KeyExchange {
    private_key: EphemeralPrivateKey,
    public_key: PublicKey,
}

impl ActiveKeyExchange for KeyExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let misbehaved = || Error::from(PeerMisbehaved::InvalidKeyShare);
        // TLS permits only uncompressed points (RFC 8446 §4.2.8.2), but aws-lc-rs accepts other encodings, too.
        if peer.first() != Some(&4) {
            return Err(misbehaved());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        agree_ephemeral(self.private_key, peer, misbehaved(), |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        self.public_key.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}
