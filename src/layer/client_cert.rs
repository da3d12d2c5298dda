//! Reads the headers `Client-Cert` and `Client-Cert-Chain`. In them, a proxy forwards the certificate of its client.
//!
//! There are two forms (docs/reference/zowe-site.md#forwarded-certificates):
//!
//! - RFC 9440: `Client-Cert` is a byte sequence (RFC 8941 §3.3.5): Base64 between two colons. `Client-Cert-Chain` is a
//!   list of byte sequences.
//! - Zowe: `Client-Cert` is the Base64 text of the certificate in DER, without colons. There is no `Client-Cert-Chain`.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName};

static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
static CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The maximum number of certificates between the certificate of the client and a trusted CA (certificate authority).
const MAX_CHAIN: usize = 8;

/// The maximum length of the text of a certificate, in bytes.
const MAX_LEN: usize = 16 * 1024;

/// The certificates that a proxy has forwarded, in DER. They are not verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForwardedChain {
    /// The certificate of the client.
    pub(super) leaf: Vec<u8>,
    /// The CA certificates between the certificate of the client and a trusted CA.
    pub(super) intermediates: Vec<Vec<u8>>,
}

impl ForwardedChain {
    /// Reads the headers. Returns `None` if there is no `Client-Cert`.
    ///
    /// # Errors
    /// Why the headers are malformed. Several `Client-Cert` headers are an error, because one of them can come from the
    /// client of the proxy.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let mut values = headers.get_all(&CLIENT_CERT).iter();
        let leaf = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => decode(value.as_bytes().trim_ascii()),
            (Some(_), Some(_)) => return Err("it has several Client-Cert headers"),
        };
        let leaf = leaf.ok_or("its Client-Cert header is not the Base64 text of a certificate")?;
        let mut intermediates = Vec::new();
        for line in headers.get_all(&CLIENT_CERT_CHAIN) {
            for item in line.as_bytes().split(|b| *b == b',') {
                let item = item.trim_ascii();
                // Only RFC 9440 defines a chain, so the colons are necessary here.
                let der = item.starts_with(b":").then(|| decode(item)).flatten();
                let der =
                    der.ok_or("its Client-Cert-Chain header is not a list of certificates")?;
                intermediates.push(der);
                if intermediates.len() > MAX_CHAIN {
                    return Err("its Client-Cert-Chain header has more than 8 certificates");
                }
            }
        }
        Ok(Some(Self { leaf, intermediates }))
    }
}

pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(&CLIENT_CERT) || headers.contains_key(&CLIENT_CERT_CHAIN)
}

pub(super) fn remove(headers: &mut HeaderMap) {
    headers.remove(&CLIENT_CERT);
    headers.remove(&CLIENT_CERT_CHAIN);
}

/// Decodes one certificate, with or without colons.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let base64 = match text.strip_prefix(b":") {
        Some(rest) => rest.strip_suffix(b":")?,
        None => text,
    };
    BASE64_STANDARD.decode(base64).ok().filter(|der| !der.is_empty())
}

/// A fuzz target.
#[cfg(feature = "fuzzing")]
pub fn forwarded_chain(headers: &HeaderMap) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
    let chain = ForwardedChain::of(headers)?;
    Ok(chain.map(|ForwardedChain { leaf, mut intermediates }| {
        intermediates.insert(0, leaf);
        intermediates
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(leaf: &[&str], chain: &[&str]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in leaf {
            headers.append(&CLIENT_CERT, value.parse().unwrap());
        }
        for value in chain {
            headers.append(&CLIENT_CERT_CHAIN, value.parse().unwrap());
        }
        let chain = ForwardedChain::of(&headers)?;
        Ok(chain.map(|chain| (chain.leaf, chain.intermediates.len())))
    }

    #[test]
    fn a_certificate_has_the_spelling_of_zowe_or_of_rfc_9440() {
        let good = |chain| Ok(Some((vec![1, 2, 3, 4], chain)));
        for (leaf, chain, want) in [
            (&[][..], &[][..], Ok(None)),
            (&[], &[":AQID:"], Ok(None)),
            (&["AQIDBA=="], &[], good(0)),
            (&[":AQIDBA==:"], &[], good(0)),
            (&["  :AQIDBA==: "], &[], good(0)),
            (&["AQIDBA=="], &[":AQID:, :AQIE:"], good(2)),
            (&[":AQIDBA==:"], &[":AQID:", ":AQIE:,:AQIF:"], good(3)),
        ] {
            assert_eq!(read(leaf, chain), want, "{leaf:?} {chain:?}");
        }
        let text = "its Client-Cert header is not the Base64 text of a certificate";
        let long = "A".repeat(MAX_LEN + 4);
        for bad in [
            "",
            ":",
            "::",
            ":AQIDBA==",
            "AQIDBA==:",
            "AQID BA==",
            "AQIDBA",
            "AQ-_",
            "-----BEGIN CERTIFICATE-----",
            "MIIC%2B",
            ":AQID:;a=b",
            &long,
        ] {
            assert_eq!(read(&[bad], &[]), Err(text), "{bad}");
        }
        assert_eq!(read(&["AQID", "AQID"], &[]), Err("it has several Client-Cert headers"));
        let text = "its Client-Cert-Chain header is not a list of certificates";
        for bad in ["AQID", ":AQID:,", "", ":AQID: :AQID:", ":AQID:,AQID"] {
            assert_eq!(read(&["AQID"], &[bad]), Err(text), "{bad}");
        }
        let long = vec![":AQID:"; MAX_CHAIN + 1];
        assert!(read(&["AQID"], &long[1..]).is_ok());
        assert!(read(&["AQID"], &long).is_err());
    }
}
