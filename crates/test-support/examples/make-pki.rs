//! Creates new keys and certificates in `pki/`: `cargo run -p test-support --example make-pki`.
//!
//! The library `test-support` includes these files with `include_str!`. So if a file is missing, this command does not
//! compile. In this case, first create an empty file with this name.

use std::{error::Error, fs, path::Path};

use rcgen::{Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use test_support::pki::{authority_params, leaf_params};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pki");
    let write = |name: &str, pem: &str| fs::write(directory.join(name), pem);

    for name in ["signing.key", "other-signing.key"] {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        write(name, &key.serialize_pem())?;
    }
    for (name, file) in [("CA", "namesake"), ("another", "stranger"), ("CA", "ca")] {
        let (params, key) = (authority_params(name), KeyPair::generate()?);
        write(&format!("{file}.pem"), &params.self_signed(&key)?.pem())?;
        write(&format!("{file}.key"), &key.serialize_pem())?;
        if file == "ca" {
            let issuer = Issuer::new(params, key);
            for (name, file) in [("localhost", "server"), ("USER", "user"), ("APIMTST", "apimtst")]
            {
                let key = KeyPair::generate()?;
                let certificate = leaf_params(name).signed_by(&key, &issuer)?;
                write(&format!("{file}.pem"), &certificate.pem())?;
                write(&format!("{file}.key"), &key.serialize_pem())?;
            }
        }
    }
    Ok(())
}
