//! The scheme `x509`: the service receives headers with parts of the client certificate.

use std::str::FromStr;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};

use super::{
    authentication::Proof,
    failure::Failure,
    scheme_error::SchemeError,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{identity::PeerCertificate, passticket::Replay};

/// A header with a part of a client certificate. In Zowe, `apiml.authentication.headers` in the metadata of a service
/// lists these headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateHeader {
    /// `X-Certificate-Public`: the DER of the certificate in Base64, without the lines of PEM.
    Public,
    /// `X-Certificate-DistinguishedName`: the subject, such as `CN=USER, OU=Payroll, O=Example, C=US`. The most
    /// specific part comes first. Characters are escaped as in RFC 4514 §2.4.
    DistinguishedName,
    /// `X-Certificate-CommonName`: the first common name of the subject. If the subject has no common name, the header
    /// is missing.
    CommonName,
}

static PUBLIC: HeaderName = HeaderName::from_static("x-certificate-public");
static DISTINGUISHED_NAME: HeaderName = HeaderName::from_static("x-certificate-distinguishedname");
static COMMON_NAME: HeaderName = HeaderName::from_static("x-certificate-commonname");

impl CertificateHeader {
    /// All headers.
    pub const ALL: [Self; 3] = [Self::Public, Self::DistinguishedName, Self::CommonName];

    /// Returns the name of the header in the spelling of Zowe API ML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "X-Certificate-Public",
            Self::DistinguishedName => "X-Certificate-DistinguishedName",
            Self::CommonName => "X-Certificate-CommonName",
        }
    }

    fn name(self) -> &'static HeaderName {
        match self {
            Self::Public => &PUBLIC,
            Self::DistinguishedName => &DISTINGUISHED_NAME,
            Self::CommonName => &COMMON_NAME,
        }
    }

    fn text(self, certificate: &PeerCertificate) -> Option<String> {
        match self {
            Self::Public => Some(BASE64_STANDARD.encode(certificate.der())),
            Self::DistinguishedName => {
                // API ML writes a space after each comma, as Java does.
                let parts = certificate.subject_name().rdns().iter().map(ToString::to_string);
                Some(parts.collect::<Vec<_>>().join(", "))
            }
            Self::CommonName => certificate.common_name().map(str::to_owned),
        }
    }
}

impl FromStr for CertificateHeader {
    type Err = UnknownCertificateHeader;

    fn from_str(text: &str) -> Result<Self, UnknownCertificateHeader> {
        let is_named = |header: &Self| header.as_str().eq_ignore_ascii_case(text);
        let unknown = || UnknownCertificateHeader(text.chars().take(100).collect());
        Self::ALL.into_iter().find(is_named).ok_or_else(unknown)
    }
}

/// The text is not the name of a header of the scheme `x509`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a header of scheme x509; write X-Certificate-Public, X-Certificate-DistinguishedName or \
     X-Certificate-CommonName"
)]
pub struct UnknownCertificateHeader(String);

/// The scheme `x509`: the service receives headers with parts of the client certificate.
///
/// The gateway evaluates only the client certificate ([`PeerCertificate`]), and no token. It must be able to map the
/// certificate to a user, for the audit record. If the request has no certificate, the failure is
/// [`Failure::NoCertificate`].
///
/// A service must trust these headers only on connections from the gateway. It can recognize these connections by a
/// client certificate of the gateway, for example with `tls::ConnectorBuilder::with_identity`.
///
/// ```
/// use tower_passticket::{
///     layer::{CertificateHeader, Route, X509Scheme},
///     token::ServiceId,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let headers = ["X-Certificate-CommonName".parse()?, CertificateHeader::Public];
/// let route = Route::new(
///     ServiceId::new("reports")?,
///     "api/v1",
///     "https://reports.example.com".parse()?,
///     X509Scheme::new(headers),
/// )?;
/// assert_eq!(route.scheme().name(), "x509");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct X509Scheme {
    headers: Box<[CertificateHeader]>,
}

impl X509Scheme {
    /// Creates a scheme that sets `headers`.
    pub fn new(headers: impl IntoIterator<Item = CertificateHeader>) -> Self {
        Self { headers: headers.into_iter().collect() }
    }

    fn headers_for(&self, proof: &Proof) -> Result<SchemeHeaders, Failure> {
        let Proof::Certificate(certificate) = proof else {
            return Err(Failure::NoCertificate);
        };
        self.headers.iter().try_fold(SchemeHeaders::new(), |headers, header| {
            let Some(text) = header.text(certificate) else { return Ok(headers) };
            // A name in a certificate can contain control characters.
            let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                SchemeError::failed(format!(
                    "the client certificate has a character that {} cannot contain; issue a certificate with \
                     another subject, or remove the header from authentication.headers of the service",
                    header.as_str(),
                ))
            })?;
            Ok(headers.with(header.name().clone(), value))
        })
    }
}

impl Scheme for X509Scheme {
    fn name(&self) -> &'static str {
        "x509"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(self.headers_for(request.proof()))
    }

    /// Earlier layers already remove all `X-Certificate-*`.
    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn accepts(&self) -> Accepts {
        Accepts::ClientCertificate
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }
}

#[cfg(test)]
mod tests {
    use rcgen::DnType;
    use test_support::pki::self_signed;

    use super::*;

    fn certificate(subject: &[(DnType, &str)]) -> PeerCertificate {
        let der = self_signed(|params| {
            for (kind, value) in subject {
                params.distinguished_name.push(kind.clone(), *value);
            }
        });
        PeerCertificate::from_der(der).unwrap()
    }

    #[test]
    fn headers_have_the_parts_of_the_certificate() {
        let scheme = X509Scheme::new(CertificateHeader::ALL);
        let full = certificate(&[
            (DnType::CountryName, "US"),
            (DnType::OrganizationName, "Ex, ample"),
            (DnType::CommonName, "J\u{e4}ne"),
        ]);
        let headers = scheme.headers_for(&Proof::Certificate(full.clone())).unwrap();
        let mut map = http::HeaderMap::new();
        headers.write_to(&mut map);
        assert_eq!(map["x-certificate-public"], BASE64_STANDARD.encode(full.der()));
        let name = map["x-certificate-distinguishedname"].as_bytes();
        assert_eq!(str::from_utf8(name).unwrap(), "CN=J\u{e4}ne, O=Ex\\, ample, C=US");
        assert_eq!(map["x-certificate-commonname"].as_bytes(), "J\u{e4}ne".as_bytes());
        assert!(map.values().all(HeaderValue::is_sensitive));

        let nameless = certificate(&[(DnType::OrganizationName, "Example")]);
        let mut map = http::HeaderMap::new();
        scheme.headers_for(&Proof::Certificate(nameless)).unwrap().write_to(&mut map);
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn a_name_that_no_header_can_contain_fails() {
        let odd = certificate(&[(DnType::CommonName, "a\r\nb")]);
        let scheme = X509Scheme::new([CertificateHeader::CommonName]);
        let failure = scheme.headers_for(&Proof::Certificate(odd)).unwrap_err();
        assert!(failure.to_string().contains("X-Certificate-CommonName"), "{failure}");
        assert_eq!(failure.status(), 500);
    }

    #[test]
    fn names_are_read_without_regard_to_case() {
        assert_eq!("x-certificate-PUBLIC".parse(), Ok(CertificateHeader::Public));
        let error = "X-Cert".parse::<CertificateHeader>().unwrap_err().to_string();
        assert!(error.starts_with("\"X-Cert\" is not a header of scheme x509; write"), "{error}");
    }
}
