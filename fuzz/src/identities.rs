//! Fuzz targets for certificates, distinguished names, and names that are mapped to a user.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue};
use tower_passticket::{
    fuzzing::forwarded_chain,
    identity::{
        CertificateFilter, CertificateMap, CommonNameMapper, DistinguishedName,
        DistributedIdentity, DistributedMap, DistributedMapper, EmailAddress, Fingerprint,
        IdentityMapper, PeerCertificate, Registry,
    },
    layer::VerifyClientCertificate,
    passticket::UserId,
    tls::{ClientCertificates, Connector, ServerTls},
    token::SigningKey,
};

use crate::support::{CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY, header_lines, lines, ready};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid user id")
}

pub(crate) fn certificate_der(data: &[u8]) {
    let Ok(certificate) = PeerCertificate::from_der(data.to_vec()) else { return };
    assert_eq!(certificate.der(), data);
    for (text, name) in [
        (certificate.subject(), certificate.subject_name()),
        (certificate.issuer(), certificate.issuer_name()),
    ] {
        assert_eq!(text, name.to_string());
        check_name(name);
    }
    let mapped = ready(CommonNameMapper.map_certificate(&certificate)).ok();
    let named = certificate.common_name().and_then(|name| UserId::new(name).ok());
    assert_eq!(mapped, named);
    let _ = certificate.not_after();

    let filters = [
        CertificateFilter::subject(certificate.subject_name().clone()).ok(),
        CertificateFilter::issuer(certificate.issuer_name().clone()).ok(),
        CertificateFilter::subject_and_issuer(
            certificate.subject_name().clone(),
            certificate.issuer_name().clone(),
        )
        .ok(),
        Some(CertificateFilter::fingerprint((*certificate.sha256()).into())),
    ];
    for filter in filters.into_iter().flatten() {
        assert!(filter.matches(&certificate), "{filter}");
        let map = CertificateMap::new([(filter, user("FOUND"))])
            .expect("a single filter has no duplicates");
        assert_eq!(ready(map.map_certificate(&certificate)), Ok(user("FOUND")));
    }
}

/// The input is a byte that selects the use of a PEM document, followed by the document.
pub(crate) fn certificate_pem(data: &[u8]) {
    let Some((choice, pem)) = data.split_first() else { return };
    let (chain, key) = (SERVER_CERTIFICATE.as_bytes(), SERVER_KEY.as_bytes());
    let error = match choice & 7 {
        0 => ServerTls::from_pem(pem, key, None).map_err(|error| error.to_string()).err(),
        1 => ServerTls::from_pem(chain, pem, None).map_err(|error| error.to_string()).err(),
        2 => ServerTls::from_pem(chain, key, Some(pem)).map_err(|error| error.to_string()).err(),
        3 => Connector::builder()
            .with_authorities(pem)
            .build()
            .map_err(|error| error.to_string())
            .err(),
        _ => match SigningKey::from_pem(pem) {
            Ok(key) => {
                let jwk = key.verifying_key().to_jwk();
                assert_eq!((&jwk["kty"], &jwk["alg"]), (&"RSA".into(), &"RS256".into()));
                assert_eq!(format!("{key:?}"), "SigningKey(..)");
                None
            }
            Err(error) => Some(error.to_string()),
        },
    };
    // No error shows a line of the document, because the line may belong to a private key.
    let may_be_secret = |line: &&str| line.len() >= 40;
    for line in lines(pem, 100).into_iter().filter(may_be_secret) {
        assert!(error.as_ref().is_none_or(|error| !error.contains(line)), "{error:?}");
    }
}

/// Asserts that the text of a name has no control characters, and that it can be parsed again to the same name.
fn check_name(name: &DistinguishedName) {
    let text = name.to_string();
    assert_eq!(text.parse().as_ref(), Ok(name), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert_eq!(name.is_empty(), text.is_empty());
}

/// The input consists of two lines with distinguished names.
pub(crate) fn distinguished_name(data: &[u8]) {
    let lines = lines(data, 2);
    let mut names = lines.iter().filter_map(|line| line.parse::<DistinguishedName>().ok());
    let (Some(first), second) = (names.next(), names.next()) else { return };
    check_name(&first);
    assert!(CertificateFilter::subject(first.clone()).is_ok() != first.is_empty());
    let Some(second) = second else { return };
    check_name(&second);
    assert_eq!(first == second, first.to_string() == second.to_string());
    let joined = format!("{second},{first}");
    if !first.is_empty() && !second.is_empty() {
        let joined: DistinguishedName = joined.parse().expect("two joined names are a valid name");
        assert_eq!(joined.len(), first.len() + second.len());
    }
}

/// The input consists of lines with filters for the client certificate. A line is `subject`, `issuer`, `both` or
/// `fingerprint`, followed by a colon and a value. For `both`, the value is a subject and an issuer, separated by `|`.
pub(crate) fn certificate_filters(data: &[u8]) {
    let filters: Vec<_> = lines(data, 30)
        .into_iter()
        .filter_map(|line| {
            let (kind, value) = line.split_once(':')?;
            match kind {
                "fingerprint" => {
                    let fingerprint: Fingerprint = value.parse().ok()?;
                    assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
                    Some(CertificateFilter::fingerprint(fingerprint))
                }
                "subject" => CertificateFilter::subject(value.parse().ok()?).ok(),
                "issuer" => CertificateFilter::issuer(value.parse().ok()?).ok(),
                "both" => {
                    let (subject, issuer) = value.split_once('|')?;
                    let (subject, issuer) = (subject.parse().ok()?, issuer.parse().ok()?);
                    CertificateFilter::subject_and_issuer(subject, issuer).ok()
                }
                _ => None,
            }
        })
        .collect();
    let users: Vec<_> = (0..filters.len()).map(|i| user(&format!("U{i}"))).collect();
    let entries = filters.iter().cloned().zip(users.iter().copied());
    let Ok(map) = CertificateMap::new(entries) else { return };
    match ready(map.map_certificate(&CERTIFICATE)) {
        Ok(found) => {
            let at = users
                .iter()
                .position(|user| *user == found)
                .expect("the map returns a user of one of the filters");
            assert!(filters[at].matches(&CERTIFICATE), "{}", filters[at]);
        }
        Err(_) => {
            let matching = filters.iter().find(|filter| filter.matches(&CERTIFICATE));
            assert_eq!(matching, None);
        }
    }
    // The order of the entries must not change the result.
    let entries = filters.iter().cloned().zip(users.iter().copied()).rev();
    let reversed = CertificateMap::new(entries).expect("the filters are unique");
    assert_eq!(
        ready(reversed.map_certificate(&CERTIFICATE)),
        ready(map.map_certificate(&CERTIFICATE))
    );
}

/// The input is a line with an e-mail address or another name, and a line with a registry.
pub(crate) fn identity_names(data: &[u8]) {
    let lines = lines(data, 2);
    let [name, rest @ ..] = &lines[..] else { return };
    let registry = rest.first().copied().unwrap_or("ldap://registry");
    if let Ok(registry) = Registry::new(registry) {
        assert!((1..=255).contains(&registry.as_str().len()));
        assert!(!registry.as_str().contains(char::is_control));
    }
    let Ok(identity) = DistributedIdentity::new(name, registry) else {
        assert!(Registry::new(registry).is_err() || EmailAddress::new(name).is_err());
        return;
    };
    assert_eq!((identity.name(), identity.registry()), (*name, registry));
    assert!(!format!("{identity} {identity:?}").contains(char::is_control));
    let map = DistributedMap::new([(identity.clone(), user("FOUND"))])
        .expect("a single identity has no duplicates");
    assert_eq!(ready(map.map_identity(&identity)), Ok(user("FOUND")));
    if let Ok(email) = EmailAddress::new(name) {
        assert_eq!(email.as_str().matches('@').count(), 1);
        assert!(!email.as_str().contains(char::is_whitespace));
        let registry = Registry::new(registry).expect("the registry of an identity is valid");
        assert_eq!(DistributedIdentity::from_email(&email, &registry), identity);
    }
    let other = DistributedIdentity::new(&format!("{name}x"), registry);
    if let Ok(other) = other {
        assert!(ready(map.map_identity(&other)).is_err());
    }
}

/// The input consists of request headers, one per line.
pub(crate) fn client_cert(data: &[u8]) {
    let headers = header_lines(data);
    let Ok(Some(chain)) = forwarded_chain(&headers) else { return };
    assert!((1..=9).contains(&chain.len()));
    assert_eq!(headers.get_all("client-cert").iter().count(), 1);
    // If the certificates of the chain are written again, in the form of RFC 9440, the same chain must be read.
    let spelled = |der: &Vec<u8>| format!(":{}:", BASE64_STANDARD.encode(der));
    let mut again = HeaderMap::new();
    let (leaf, intermediates) = chain.split_first().expect("a chain has a certificate");
    let value = |text: String| HeaderValue::try_from(text).expect("Base64 is a header value");
    again.insert("client-cert", value(spelled(leaf)));
    if !intermediates.is_empty() {
        let list: Vec<_> = intermediates.iter().map(spelled).collect();
        again.insert("client-cert-chain", value(list.join(", ")));
    }
    assert_eq!(forwarded_chain(&again).as_ref(), Ok(&Some(chain.clone())));
    // A certificate from an unknown certificate authority must be refused.
    let verifier = ClientCertificates::new(SERVER_CERTIFICATE.as_bytes());
    let verifier = verifier.expect("the fixture is a certificate");
    assert!(verifier.verify(leaf, intermediates).is_err());
}
