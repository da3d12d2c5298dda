//! Maps client certificates to user ids by their common name.

use std::future::ready;

use super::{
    certificate::PeerCertificate,
    mapper::{IdentityMapper, MapError, MapFuture},
};
use crate::passticket::UserId;

/// Uses the common name of the subject as the user id: `CN=USER` maps to `USER`. API ML (Zowe's API Mediation Layer)
/// does the same if no other mapping is configured (docs/reference/identity-and-saf.md#common-name).
///
/// So the TLS listener must trust only certificate authorities that check names. If an authority issues a certificate
/// with the name of a user, the holder of this certificate gets the access rights of the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommonNameMapper;

impl IdentityMapper for CommonNameMapper {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        Box::pin(ready(map(certificate.common_name())))
    }

    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        Some(map(certificate.common_name()))
    }
}

fn map(common_name: Option<&str>) -> Result<UserId, MapError> {
    Ok(UserId::new(common_name.ok_or(MapError::NoCommonName)?)?)
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, DnValue};
    use test_support::pki::self_signed;

    use super::*;

    fn certificate(subject: &[(DnType, DnValue)]) -> PeerCertificate {
        let der = self_signed(|params| {
            for (kind, value) in subject {
                params.distinguished_name.push(kind.clone(), value.clone());
            }
        });
        PeerCertificate::from_der(der).unwrap()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn the_common_name_is_the_user_id() {
        let printable = DnValue::PrintableString("ibmuser".try_into().unwrap());
        let cases = [
            (vec![(DnType::CommonName, utf8("user"))], Ok("USER")),
            (vec![(DnType::CommonName, printable)], Ok("IBMUSER")),
            (vec![(DnType::OrganizationName, utf8("USER"))], Err(MapError::NoCommonName)),
            // The text after the comma belongs to the value of `O`. It is not another attribute.
            (
                vec![
                    (DnType::OrganizationName, utf8("x, CN=ADMIN")),
                    (DnType::CommonName, utf8("USER")),
                ],
                Ok("USER"),
            ),
            (vec![(DnType::OrganizationName, utf8("x, CN=ADMIN"))], Err(MapError::NoCommonName)),
            (
                vec![(DnType::CommonName, utf8("Zowe Service"))],
                Err(MapError::NotAUserId(UserId::new("Zowe Service").unwrap_err())),
            ),
            (
                vec![(DnType::CommonName, utf8(""))],
                Err(MapError::NotAUserId(UserId::new("").unwrap_err())),
            ),
            (
                vec![(DnType::CommonName, utf8("USER\0"))],
                Err(MapError::NotAUserId(UserId::new("USER\0").unwrap_err())),
            ),
        ];
        for (subject, want) in cases {
            let certificate = certificate(&subject);
            let got = map(certificate.common_name());
            assert_eq!(got.as_ref().map(UserId::as_str), want.as_ref().copied(), "{certificate:?}");
        }
    }

    #[test]
    fn a_malformed_certificate_does_not_make_the_parser_panic() {
        let der = certificate(&[(DnType::CommonName, utf8("USER"))]).der().to_vec();
        assert!(PeerCertificate::from_der(der[..der.len() - 1].to_vec()).is_err());
        for i in 0..der.len() {
            let mut changed = der.clone();
            changed[i] ^= 0xFF;
            let _ = PeerCertificate::from_der(changed);
        }
    }
}
