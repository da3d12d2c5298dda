//! Which certificates an entry of a [`CertificateMap`](super::CertificateMap) is for.

use std::{fmt, str::FromStr};

use super::{DistinguishedName, PeerCertificate};

/// One certificate, or all whose names end as written: what `RACDCERT MAP` calls a certificate
/// name filter, with the subject in `SDNFILTER` and the issuer in `IDNFILTER`.
///
/// A filter on one name matches a name that is the same or that has more parts before it:
/// `OU=Payroll,O=Example` matches `CN=Jane,OU=Payroll,O=Example`. A filter on both matches when the
/// subject does so and the issuer is *the same*. RACF searches for no subject together with a
/// partial issuer, so neither do we: such a filter can be made, for a filter does not say what it
/// leaves out, and matches nothing.
///
/// Where several match, [`CertificateMap`](super::CertificateMap) says which one counts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateFilter(pub(super) Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Fingerprint(Fingerprint),
    Subject(DistinguishedName),
    Issuer(DistinguishedName),
    SubjectAndIssuer { subject: DistinguishedName, issuer: DistinguishedName },
}

impl CertificateFilter {
    /// The one certificate with this fingerprint. It corresponds to a certificate that is
    /// registered with RACF (`RACDCERT ADD`).
    pub fn fingerprint(fingerprint: Fingerprint) -> Self {
        Self(Kind::Fingerprint(fingerprint))
    }

    /// Certificates whose subject ends with `subject`.
    ///
    /// # Errors
    /// [`EmptyFilter`] for the empty name, which every name ends with.
    pub fn subject(subject: DistinguishedName) -> Result<Self, EmptyFilter> {
        not_empty(subject).map(Kind::Subject).map(Self)
    }

    /// Certificates whose issuer ends with `issuer`.
    ///
    /// # Errors
    /// [`EmptyFilter`] for the empty name.
    pub fn issuer(issuer: DistinguishedName) -> Result<Self, EmptyFilter> {
        not_empty(issuer).map(Kind::Issuer).map(Self)
    }

    /// Certificates of exactly `issuer` whose subject ends with `subject`.
    ///
    /// # Errors
    /// [`EmptyFilter`] if one of them is the empty name.
    pub fn subject_and_issuer(
        subject: DistinguishedName,
        issuer: DistinguishedName,
    ) -> Result<Self, EmptyFilter> {
        let (subject, issuer) = (not_empty(subject)?, not_empty(issuer)?);
        Ok(Self(Kind::SubjectAndIssuer { subject, issuer }))
    }

    /// Whether it is for this certificate.
    pub fn matches(&self, certificate: &PeerCertificate) -> bool {
        let (subject, issuer) = (certificate.subject_name(), certificate.issuer_name());
        match &self.0 {
            Kind::Fingerprint(fingerprint) => {
                *fingerprint == Fingerprint::from(*certificate.sha256())
            }
            Kind::Subject(filter) => subject.rdns().ends_with(filter.rdns()),
            Kind::Issuer(filter) => issuer.rdns().ends_with(filter.rdns()),
            Kind::SubjectAndIssuer { subject: filter, issuer: same } => {
                issuer == same && subject.rdns().ends_with(filter.rdns())
            }
        }
    }
}

fn not_empty(name: DistinguishedName) -> Result<DistinguishedName, EmptyFilter> {
    if name.is_empty() { Err(EmptyFilter) } else { Ok(name) }
}

impl fmt::Display for CertificateFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint}"),
            Kind::Subject(subject) => write!(f, "subject {subject}"),
            Kind::Issuer(issuer) => write!(f, "issuer {issuer}"),
            Kind::SubjectAndIssuer { subject, issuer } => {
                write!(f, "subject {subject} and issuer {issuer}")
            }
        }
    }
}

impl fmt::Debug for CertificateFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateFilter({self})")
    }
}

/// A filter that would let everybody through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a filter is empty; write at least its last part, O=company say")]
pub struct EmptyFilter;

/// The SHA-256 fingerprint of a certificate.
///
/// ```
/// use tower_passticket::identity::Fingerprint;
///
/// let text = "AB:CD:".repeat(16);
/// let fingerprint: Fingerprint = text.trim_end_matches(':').parse()?;
/// assert_eq!(fingerprint, "abcd".repeat(16).parse()?);
/// # Ok::<(), tower_passticket::identity::FingerprintError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl From<[u8; 32]> for Fingerprint {
    fn from(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// 64 hexadecimal digits, in pairs with colons between them or without any.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError(text.chars().take(120).collect());
        let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut sha256 = [0; 32];
        let mut rest = text.chars();
        let colons = text.contains(':');
        for (i, byte) in sha256.iter_mut().enumerate() {
            if colons && i > 0 && rest.next() != Some(':') {
                return Err(error());
            }
            let mut next = || rest.next().and_then(digit).ok_or_else(error);
            *byte = next()? << 4 | next()?;
        }
        if rest.next().is_some() { Err(error()) } else { Ok(Self(sha256)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b':'; 32 * 3 - 1];
        for (pair, byte) in text.chunks_mut(3).zip(self.0) {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            pair[..2].copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        f.write_str(str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no SHA-256 fingerprint; write 64 hexadecimal digits, as \
     `openssl x509 -noout -fingerprint -sha256` shows them"
)]
pub struct FingerprintError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_filter_is_empty() {
        let (empty, name) = (DistinguishedName::default, || "O=x".parse().unwrap());
        assert_eq!(CertificateFilter::subject(empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::issuer(empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::subject_and_issuer(name(), empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::subject_and_issuer(empty(), name()), Err(EmptyFilter));
        let both = CertificateFilter::subject_and_issuer(name(), name()).unwrap();
        assert_eq!(both.to_string(), "subject O=x and issuer O=x");
    }

    #[test]
    fn a_fingerprint_has_all_colons_or_none() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!(fingerprint.to_string(), colons);
        assert_eq!(colons.parse(), Ok(fingerprint));
        for text in [
            "",
            &plain[1..],
            &format!("{plain}0"),
            &format!("{plain}:"),
            &format!(" {plain}"),
            &colons[1..],
            &colons.replacen(':', "", 1),
            &plain.replacen('0', "g", 1),
            &plain.replacen("00", "\u{660}\u{660}", 1),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), hex in "[0-9a-f:]{60,100}") {
            let _ = text.parse::<Fingerprint>();
            let _ = hex.parse::<Fingerprint>();
        }

        #[test]
        fn what_is_written_reads_the_same(sha256 in any::<[u8; 32]>()) {
            let fingerprint = Fingerprint::from(sha256);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
    }
}
