//! Reads where browsers find the gateway: `zowe.externalDomains` and `zowe.externalPort`.

use super::{
    problem::quote,
    reader::{Field, Section},
};
use tower_passticket::layer::Origin;

/// The origins of the pages of the gateway. They are empty without `externalDomains`. Without
/// `externalPort`, the port is `port`, the one of the gateway, as in Zowe.
pub(super) fn read(zowe: &mut Section<'_>, port: u16) -> Vec<Origin> {
    let domains = zowe.optional("externalDomains");
    let external = zowe.optional("externalPort").and_then(|field| field.number(1..=65_535));
    let port = external.unwrap_or_else(|| port.into());
    let domains = domains.map(|field| field.one_or_more()).unwrap_or_default();
    domains.iter().filter_map(|domain| origin(domain, port)).collect()
}

fn origin(domain: &Field<'_>, port: u64) -> Option<Origin> {
    domain.read(|text| {
        // A host with a port would have two ports, so it is no origin.
        format!("https://{text}:{port}").parse::<Origin>().map_err(|_| {
            format!(
                "{} is not a host; write a host name or an IP address, without a scheme and a port",
                quote(text)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    fn origins(text: &str) -> Result<Vec<String>, Vec<String>> {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let origins = read(&mut document.section(&report).section("zowe"), 7554);
        match report.finish(Some(origins)) {
            Ok((origins, _)) => Ok(origins.iter().map(ToString::to_string).collect()),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn each_external_domain_is_an_origin_with_the_external_port() {
        for (text, want) in [
            ("{}", &[][..]),
            ("{externalPort: 443}", &[]),
            ("{externalDomains: }", &[]),
            ("{externalDomains: [a.example]}", &["https://a.example:7554"]),
            ("{externalDomains: A.example, externalPort: 443}", &["https://a.example"]),
            (
                "{externalDomains: [a, 192.0.2.1, '[::1]'], externalPort: 8443}",
                &["https://a:8443", "https://192.0.2.1:8443", "https://[::1]:8443"],
            ),
        ] {
            let want = want.iter().map(ToString::to_string).collect();
            assert_eq!(origins(&format!("zowe: {text}")), Ok(want), "{text}");
        }
        for (domain, shown) in
            [("https://a", "https://a"), ("a:443", "a:443"), ("a/b", "a/b"), ("'a b'", "a b")]
        {
            let problems = origins(&format!("zowe: {{externalDomains: [{domain}]}}")).unwrap_err();
            let want = format!(
                "z:1: zowe.externalDomains[0]: {shown:?} is not a host; write a host name or an IP \
                 address, without a scheme and a port"
            );
            assert_eq!(problems, [want]);
        }
    }
}
