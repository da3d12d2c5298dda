//! Reads the addresses under which browsers reach the gateway: `zowe.externalDomains` and `zowe.externalPort`.

use std::net::Ipv6Addr;

use super::{
    problem::quote,
    reader::{Field, Section},
};
use tower_passticket::layer::Origin;

/// Returns the origins of the gateway. The list is empty if `externalDomains` is absent. Each domain becomes one origin
/// for each of two ports: `externalPort`, if it is present, and `port`, the port of the gateway. Browsers in the
/// internal network may use the port of the gateway. If `port` is 0, the operating system chooses the real port later.
/// So if `externalPort` is present, the origins with port 0 are left out.
pub(super) fn read(zowe: &mut Section<'_>, port: u16) -> Vec<Origin> {
    let domains = zowe.optional("externalDomains");
    let external = zowe.optional("externalPort").and_then(|field| field.number(1..=65_535));
    let own = (port > 0 || external.is_none()).then_some(u64::from(port));
    let own = own.filter(|own| Some(*own) != external);
    let domains = domains.map(|field| field.one_or_more()).unwrap_or_default();
    let ports = external.into_iter().chain(own);
    domains.iter().filter_map(|domain| origins(domain, ports.clone())).flatten().collect()
}

fn origins(domain: &Field<'_>, ports: impl Iterator<Item = u64>) -> Option<Vec<Origin>> {
    domain.read(|text| {
        let host = match text.parse::<Ipv6Addr>() {
            Ok(ip) => format!("[{ip}]"),
            Err(_) => text.to_owned(),
        };
        // If the domain already contains a port, the text has two ports, and is not a valid origin.
        let origins = ports.map(|port| format!("https://{host}:{port}").parse::<Origin>());
        origins.collect::<Result<_, _>>().map_err(|_| {
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
    fn each_external_domain_is_an_origin_with_the_external_and_the_own_port() {
        for (text, want) in [
            ("{}", &[][..]),
            ("{externalPort: 443}", &[]),
            ("{externalDomains: }", &[]),
            ("{externalDomains: [a.example]}", &["https://a.example:7554"]),
            (
                "{externalDomains: A.example, externalPort: 443}",
                &["https://a.example", "https://a.example:7554"],
            ),
            ("{externalDomains: a, externalPort: 7554}", &["https://a:7554"]),
            (
                "{externalDomains: [2001:DB8:0::1, '[::1]']}",
                &["https://[2001:db8::1]:7554", "https://[::1]:7554"],
            ),
            (
                "{externalDomains: [192.0.2.1, '[::1]'], externalPort: 8443}",
                &[
                    "https://192.0.2.1:8443",
                    "https://192.0.2.1:7554",
                    "https://[::1]:8443",
                    "https://[::1]:7554",
                ],
            ),
        ] {
            let want = want.iter().map(ToString::to_string).collect();
            assert_eq!(origins(&format!("zowe: {text}")), Ok(want), "{text}");
        }
        for (domain, shown) in [
            ("https://a", "https://a"),
            ("a:443", "a:443"),
            ("a/b", "a/b"),
            ("'a b'", "a b"),
            ("'[::1'", "[::1"),
        ] {
            let problems = origins(&format!("zowe: {{externalDomains: [{domain}]}}")).unwrap_err();
            let want = format!(
                "z:1: zowe.externalDomains[0]: {shown:?} is not a host; write a host name or an IP \
                 address, without a scheme and a port"
            );
            assert_eq!(problems, [want]);
        }
    }
}
