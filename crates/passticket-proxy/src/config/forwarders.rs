//! Reads which proxies may send the certificates of their clients in the header `Client-Cert`:
//! `components.passticket-proxy.forwarders`, and Zowe's settings `x509.acceptForwardedCert` and `certificatesUrls`.

use super::{
    problem::quote,
    reader::{At, Field, Section},
    tls_files::concatenate,
};
use tower_passticket::{identity::Fingerprint, layer::TrustedForwarders, remote::Address};

/// The proxies that may send the certificates of their clients. A proxy is one of them if its own client certificate is
/// in `certificates`, or in a list at one of the `urls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwarderSettings {
    /// The certificates in the files of `components.passticket-proxy.forwarders.certificates`.
    pub certificates: Vec<Fingerprint>,
    /// The URLs of lists of certificates: `components.gateway.apiml.security.x509.certificatesUrls`.
    pub urls: Vec<Address>,
}

/// Zowe's settings, if `acceptForwardedCert` is `true`.
pub(super) struct ForwardedKeys<'a> {
    at: At<'a>,
    urls: Vec<Field<'a>>,
}

/// Reads Zowe's settings from the section `x509`.
pub(super) fn read_zowe<'a>(x509: &mut Section<'a>) -> Option<ForwardedKeys<'a>> {
    let accept = x509.optional("acceptForwardedCert").filter(Field::is_on);
    let urls = ["certificatesUrl", "certificatesUrls"].map(|name| x509.optional(name));
    let urls = urls.iter().flatten().flat_map(Field::one_or_more).collect();
    accept.map(|field| ForwardedKeys { at: field.at, urls })
}

/// Reads `components.passticket-proxy.forwarders`. Returns the setting `certificates`, which contains the paths of PEM
/// files.
pub(super) fn read(mut section: Section<'_>) -> Option<Field<'_>> {
    let certificates = section.optional("certificates");
    section.finish();
    certificates
}

/// Combines the settings. `None` if no proxy may send certificates.
pub(super) fn settings(
    ours: Option<&Field<'_>>,
    zowe: Option<&ForwardedKeys<'_>>,
    client_certificates: bool,
) -> Option<ForwarderSettings> {
    if !client_certificates {
        if let Some(field) = ours {
            field.at.warning(
                "has no effect, because client certificates are off; set \
                 components.gateway.apiml.security.x509.enabled to true, and do not use AT-TLS",
            );
        }
        return None;
    }
    let certificates = ours.map(|field| {
        let pem = concatenate(field)?;
        match TrustedForwarders::fingerprints(&pem) {
            Ok(certificates) => Some(certificates),
            Err(error) => {
                field.at.error(format_args!("has a certificate that cannot be used: {error}"));
                None
            }
        }
    });
    let urls = zowe.map(|keys| {
        if keys.urls.is_empty() && ours.is_none() {
            keys.at.warning(
                "has no effect, because no forwarder is known; set \
                 components.gateway.apiml.security.x509.certificatesUrls, or set \
                 components.passticket-proxy.forwarders.certificates to the PEM file of the forwarders' certificates",
            );
        }
        keys.urls.iter().filter_map(addresses).flatten().collect::<Vec<_>>()
    });
    let settings = ForwarderSettings {
        certificates: certificates.flatten().unwrap_or_default(),
        urls: urls.unwrap_or_default(),
    };
    let is_empty = settings.certificates.is_empty() && settings.urls.is_empty();
    (!is_empty).then_some(settings)
}

/// Returns the URLs in a value. As in Zowe, commas separate the URLs.
fn addresses(field: &Field<'_>) -> Option<Vec<Address>> {
    field.read(|text| {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(|url| {
            let address = Address::parse(url).map_err(|error| error.to_string())?;
            match address.is_protected() {
                true => Ok(address),
                false => Err(format!(
                    "{} is http, so a stranger could add certificates to the list; write https",
                    quote(url)
                )),
            }
        })
        .collect::<Result<_, String>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};
    use test_support::pki;

    /// Returns the number of certificates and the URLs, and the problems: errors, or warnings if there are no errors.
    fn read_text(
        ours: &str,
        x509: &str,
        is_on: bool,
    ) -> (Option<(usize, Vec<String>)>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f.pem"), pki::SERVER.certificate).unwrap();
        let report = Report::default();
        let text = format!("ours: {ours}\nx509: {x509}\n");
        let file = directory.path().join("z");
        let document = Document::parse(file.clone(), text.as_bytes(), &report);
        let mut root = document.section(&report);
        let ours = read(root.section("ours"));
        let zowe = read_zowe(&mut root.section("x509"));
        let seen = settings(ours.as_ref(), zowe.as_ref(), is_on).map(|settings| {
            let urls = settings.urls.iter().map(ToString::to_string).collect();
            (settings.certificates.len(), urls)
        });
        let shown = |problems: &[crate::config::Problem]| -> Vec<String> {
            let file = file.display().to_string();
            problems.iter().map(|problem| problem.to_string().replace(&file, "z")).collect()
        };
        match report.finish(Some(seen)) {
            Ok((seen, warnings)) => (seen, shown(&warnings)),
            Err(problems) => (None, shown(&problems.iter().cloned().collect::<Vec<_>>())),
        }
    }

    #[test]
    fn forwarders_are_in_files_and_in_the_lists_of_zowe() {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        for (ours, x509, want) in [
            ("", "", None),
            ("{certificates: f.pem}", "", Some((1, urls(&[])))),
            (
                "{certificates: [f.pem, f.pem]}",
                "{acceptForwardedCert: false}",
                Some((2, urls(&[]))),
            ),
            ("", "{certificatesUrl: 'https://gw/gateway/certificates'}", None),
            (
                "",
                "{acceptForwardedCert: true, certificatesUrl: 'https://gw/c'}",
                Some((0, urls(&["https://gw/c"]))),
            ),
            (
                "{certificates: f.pem}",
                "{acceptForwardedCert: true, certificatesUrls: 'https://a/c, https://b/c'}",
                Some((1, urls(&["https://a/c", "https://b/c"]))),
            ),
            (
                "",
                "{acceptForwardedCert: true, certificatesUrls: ['https://a/c', 'https://b/c']}",
                Some((0, urls(&["https://a/c", "https://b/c"]))),
            ),
        ] {
            assert_eq!(read_text(ours, x509, true), (want, Vec::new()), "{ours} {x509}");
        }
    }

    #[test]
    fn problems_are_reported_at_their_keys() {
        for (ours, x509, is_on, want) in [
            (
                "{certificates: f.pem}",
                "",
                false,
                "z:1: ours.certificates: has no effect, because client",
            ),
            (
                "{certificate: f.pem}",
                "",
                true,
                "z:1: ours.certificate: is an unknown key; did you mean",
            ),
            ("{certificates: none.pem}", "", true, "z:1: ours.certificates: cannot read"),
            (
                "",
                "{acceptForwardedCert: true}",
                true,
                "z:2: x509.acceptForwardedCert: has no effect, because no forwarder is known",
            ),
            (
                "",
                "{acceptForwardedCert: true, certificatesUrl: 'http://gw/c'}",
                true,
                "z:2: x509.certificatesUrl: \"http://gw/c\" is http",
            ),
        ] {
            let (_, problems) = read_text(ours, x509, is_on);
            let [problem] = &*problems else { panic!("{ours} {x509}: {problems:?}") };
            assert!(problem.starts_with(want), "{problem}");
        }
    }
}
