//! Reads Zowe's TLS settings: `minTls`, `maxTls`, `ciphers` and `curves`. The settings below `zowe.network.server.tls`
//! are for the listener. The settings below `zowe.network.client.tls` are for connections to services.

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        SupportedKxGroup,
        aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS},
    },
    version::{TLS12, TLS13},
};
use tower_passticket::tls::{SECP521R1, TlsPolicy};

use super::{
    problem::quote,
    reader::{Field, Section},
};

/// Reads the policy of the listener and the policy of connections to services. If `zowe.network.client.tls.ciphers` is
/// absent, connections to services use the listener's cipher suites, as in Zowe.
pub(super) fn read(server: &mut Section<'_>, client: &mut Section<'_>) -> [TlsPolicy; 2] {
    let ciphers = server.optional("ciphers");
    let own = client.optional("ciphers").or_else(|| ciphers.clone());
    [policy(server, ciphers.as_ref()), policy(client, own.as_ref())]
}

fn policy(section: &mut Section<'_>, ciphers: Option<&Field<'_>>) -> TlsPolicy {
    let versions = versions(section.optional("minTls"), section.optional("maxTls"));
    let mut policy = TlsPolicy::default();
    if let Some(field) = ciphers
        && let Some(suites) = cipher_suites(field, &versions)
    {
        policy = policy.with_cipher_suites(suites);
    }
    if let Some(field) = section.optional("curves")
        && let Some(groups) = groups(&field)
    {
        policy = policy.with_groups(groups);
    }
    policy.with_versions(versions)
}

/// Returns the TLS versions from `min` to `max`. If `min` or `max` is absent, the range has no limit on that side.
fn versions(
    min: Option<Field<'_>>,
    max: Option<Field<'_>>,
) -> Vec<&'static SupportedProtocolVersion> {
    let [lowest, highest] = [&min, &max].map(|field| field.as_ref().and_then(|f| f.read(version)));
    if let (Some(field), Some(lowest)) = (&min, lowest)
        && lowest < 12
    {
        field.at.warning(
            "permits versions before TLS 1.2; this gateway supports only TLS 1.2 and TLS 1.3; write TLSv1.2",
        );
    }
    let permitted = lowest.unwrap_or(0)..=highest.unwrap_or(u8::MAX);
    let versions = [(13, &TLS13), (12, &TLS12)].into_iter();
    let versions: Vec<_> = versions
        .filter(|(number, _)| permitted.contains(number))
        .map(|(_, version)| version)
        .collect();
    if let (true, Some(field)) = (versions.is_empty(), max.or(min)) {
        field.at.error(
            "leaves neither TLS 1.2 nor TLS 1.3 in the range from minTls to maxTls; set maxTls to TLSv1.3, and minTls \
             to TLSv1.2 or TLSv1.3",
        );
    }
    versions
}

/// Returns the TLS version as a number, such as 12 for TLS 1.2.
fn version(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "tlsv1" | "tlsv1.0" => Ok(10),
        "tlsv1.1" => Ok(11),
        "tlsv1.2" => Ok(12),
        "tlsv1.3" => Ok(13),
        _ => Err(format!("{} is not a version of TLS; write TLSv1.2 or TLSv1.3", quote(text))),
    }
}

/// Reads a list of cipher suites. Their names are those of the IANA registry.
fn cipher_suites(
    field: &Field<'_>,
    versions: &[&SupportedProtocolVersion],
) -> Option<Vec<SupportedCipherSuite>> {
    let suites = known(field, "cipher suite", |name| {
        ALL_CIPHER_SUITES.iter().copied().find(|suite| {
            // rustls uses the name TLS13_AES_128_GCM_SHA256 for TLS_AES_128_GCM_SHA256.
            let own = suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_");
            own.eq_ignore_ascii_case(name)
        })
    })?;
    let is_usable = |suite: &SupportedCipherSuite| {
        versions.iter().any(|version| version.version == suite.version().version)
    };
    if !versions.is_empty() && !suites.iter().any(is_usable) {
        field.at.error("lists no cipher suite for the TLS versions from minTls to maxTls; add one");
        return None;
    }
    Some(suites)
}

/// Reads a list of key exchange groups. A name is a name of the IANA registry, NIST's `P-256`, `P-384` or `P-521`, or
/// OpenSSL's `prime256v1`.
fn groups(field: &Field<'_>) -> Option<Vec<&'static dyn SupportedKxGroup>> {
    known(field, "group", |name| {
        let name = match name.to_ascii_lowercase().as_str() {
            "p-256" | "prime256v1" => "secp256r1",
            "p-384" => "secp384r1",
            "p-521" => "secp521r1",
            _ => name,
        };
        let is_named = |group: &&&'static dyn SupportedKxGroup| {
            group.name().as_str().is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        ALL_KX_GROUPS.iter().chain([&SECP521R1]).find(is_named).copied()
    })
}

/// Reads a list of names, and returns the values for which `find` returns `Some`. Other names cause a warning. If
/// `find` knows none of the names, this is an error.
fn known<T>(field: &Field<'_>, kind: &str, find: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for item in field.one_or_more() {
        let Some(text) = item.text() else { continue };
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match find(name) {
                Some(value) => found.push(value),
                None => unknown.push(quote(name)),
            }
        }
    }
    let unknown = unknown.join(", ");
    if found.is_empty() {
        let unknown = if unknown.is_empty() { unknown } else { format!(" (unknown: {unknown})") };
        field.at.error(format_args!(
            "lists no {kind} that this gateway supports{unknown}; add one, or remove this setting"
        ));
        return None;
    }
    if !unknown.is_empty() {
        field.at.warning(format_args!(
            "is used without {unknown}, because this gateway supports no such {kind}"
        ));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads the TLS settings of the listener. If there are errors, returns `None` and the errors. Otherwise returns
    /// the policy and the warnings.
    fn read_text(server: &str) -> (Option<TlsPolicy>, Vec<String>) {
        let report = Report::default();
        let document = Document::parse("z".into(), server.as_bytes(), &report);
        let mut root = document.section(&report);
        let ciphers = root.optional("ciphers");
        let policy = policy(&mut root, ciphers.as_ref());
        match report.finish(Some(policy)) {
            Ok((policy, warnings)) => {
                (Some(policy), warnings.iter().map(ToString::to_string).collect())
            }
            Err(errors) => (None, errors.iter().map(ToString::to_string).collect()),
        }
    }

    fn names(yaml: &str) -> Vec<String> {
        let report = Report::default();
        let document = Document::parse("z".into(), yaml.as_bytes(), &report);
        let mut root = document.section(&report);
        let suites =
            root.optional("ciphers").and_then(|field| cipher_suites(&field, &[&TLS12, &TLS13]));
        let groups = root.optional("curves").and_then(|field| groups(&field));
        let suites = suites.into_iter().flatten().map(|suite| format!("{:?}", suite.suite()));
        suites
            .chain(groups.into_iter().flatten().map(|group| format!("{:?}", group.name())))
            .collect()
    }

    #[test]
    fn versions_are_those_from_min_to_max() {
        let read = |yaml: &str| {
            let report = Report::default();
            let document = Document::parse("z".into(), yaml.as_bytes(), &report);
            let mut root = document.section(&report);
            let versions = versions(root.optional("minTls"), root.optional("maxTls"));
            versions.iter().map(|v| v.version).collect::<Vec<_>>()
        };
        let (v2, v3) = (TLS12.version, TLS13.version);
        for (yaml, want) in [
            ("{}", vec![v3, v2]),
            ("{minTls: TLSv1.2, maxTls: TLSv1.3}", vec![v3, v2]),
            ("{minTls: TLSv1.3}", vec![v3]),
            ("{maxTls: tlsv1.2}", vec![v2]),
            ("{minTls: TLSv1.1}", vec![v3, v2]),
            ("{minTls: '', maxTls: }", vec![v3, v2]),
            ("{minTls: TLSv1.3, maxTls: TLSv1.2}", vec![]),
        ] {
            assert_eq!(read(yaml), want, "{yaml}");
        }
    }

    #[test]
    fn cipher_suites_and_groups_have_the_names_of_iana() {
        for (yaml, want) in [
            (
                "{ciphers: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_RSA_WITH_AES_128_CBC_SHA]}",
                vec!["TLS13_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
            ),
            (
                "{ciphers: 'TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256'}",
                vec!["TLS13_AES_256_GCM_SHA384", "TLS13_AES_128_GCM_SHA256"],
            ),
            (
                "{curves: [secp384r1, prime256v1, x25519, secp521r1, sect163k1]}",
                vec!["secp384r1", "secp256r1", "X25519", "secp521r1"],
            ),
            ("{curves: [P-256]}", vec!["secp256r1"]),
        ] {
            assert_eq!(names(yaml), want, "{yaml}");
        }
    }

    #[test]
    fn a_setting_without_any_usable_value_is_an_error_and_an_unknown_name_a_warning() {
        for (yaml, is_error, text) in [
            (
                "{minTls: TLSv1.3, maxTls: TLSv1.2}",
                true,
                "maxTls: leaves neither TLS 1.2 nor TLS 1.3 in the range from minTls to maxTls; set maxTls to TLSv1.3, \
                 and minTls to TLSv1.2 or TLSv1.3",
            ),
            (
                "{maxTls: TLSv1.1}",
                true,
                "maxTls: leaves neither TLS 1.2 nor TLS 1.3 in the range from minTls to maxTls; set maxTls to TLSv1.3, \
                 and minTls to TLSv1.2 or TLSv1.3",
            ),
            (
                "{minTls: SSLv3}",
                true,
                "minTls: \"SSLv3\" is not a version of TLS; write TLSv1.2 or TLSv1.3",
            ),
            (
                "{minTls: TLSv1.1}",
                false,
                "minTls: permits versions before TLS 1.2; this gateway supports only TLS 1.2 and TLS 1.3; write TLSv1.2",
            ),
            (
                "{ciphers: [A, B]}",
                true,
                "ciphers: lists no cipher suite that this gateway supports (unknown: \"A\", \"B\"); add one, or remove \
                 this setting",
            ),
            (
                "{ciphers: ','}",
                true,
                "ciphers: lists no cipher suite that this gateway supports; add one, or remove this setting",
            ),
            (
                "{ciphers: [A, TLS_AES_128_GCM_SHA256]}",
                false,
                "ciphers: is used without \"A\", because this gateway supports no such cipher suite",
            ),
            (
                "{ciphers: [TLS_AES_128_GCM_SHA256], maxTls: TLSv1.2}",
                true,
                "ciphers: lists no cipher suite for the TLS versions from minTls to maxTls; add one",
            ),
            (
                "{curves: [sect163k1]}",
                true,
                "curves: lists no group that this gateway supports (unknown: \"sect163k1\"); add one, or remove this setting",
            ),
            (
                "{curves: [sect163k1, secp384r1]}",
                false,
                "curves: is used without \"sect163k1\", because this gateway supports no such group",
            ),
        ] {
            let (policy, problems) = read_text(yaml);
            assert_eq!(
                (policy.is_none(), problems),
                (is_error, vec![format!("z:1: {text}")]),
                "{yaml}"
            );
        }
    }

    #[test]
    fn connections_to_services_use_the_ciphers_of_the_listener() {
        let report = Report::default();
        let yaml = b"server: {ciphers: [TLS_AES_128_GCM_SHA256], minTls: TLSv1.3}\nclient: {maxTls: TLSv1.2}\n";
        let document = Document::parse("z".into(), yaml, &report);
        let mut root = document.section(&report);
        let policies = read(&mut root.section("server"), &mut root.section("client"));
        assert_eq!(policies.len(), 2);
        let errors = report.finish(Some(())).unwrap_err();
        let want = "z:1: server.ciphers: lists no cipher suite for the TLS versions from minTls to maxTls; add one";
        assert_eq!(errors.to_string(), want);
    }
}
