//! Reads which proxies in front of the gateway are trusted: `components.passticket-proxy.trustedProxies` and
//! `proxyProtocol`, and Zowe's setting `forwardHeader.trustedProxies` below `components.gateway.apiml.security`.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};
use tower_passticket::connection::TrustedProxies;

use super::{
    problem::quote,
    reader::{At, Field, Section},
};

pub(super) struct ProxySection<'a> {
    networks: Vec<IpNet>,
    /// The place of `proxyProtocol`, if its value is `required`.
    proxy_protocol: Option<At<'a>>,
}

pub(super) fn read<'a>(section: &mut Section<'a>) -> ProxySection<'a> {
    let networks = section.optional("trustedProxies").map(|field| field.one_or_more());
    let proxy_protocol = section.optional("proxyProtocol");
    ProxySection {
        networks: networks.iter().flatten().filter_map(network).collect(),
        proxy_protocol: proxy_protocol
            .and_then(|field| field.read(is_required)?.then_some(field.at)),
    }
}

fn is_required(text: &str) -> Result<bool, &'static str> {
    match text {
        "off" | "false" => Ok(false),
        "required" => Ok(true),
        _ => Err("is unknown; write off or required"),
    }
}

impl ProxySection<'_> {
    /// Returns the proxies whose headers are trusted. These are the proxies in
    /// `components.passticket-proxy.trustedProxies`, and the proxies whose address matches Zowe's expression.
    pub(super) fn trusted(&self, expression: Option<&Regex>) -> Option<TrustedProxies> {
        if self.networks.is_empty() && expression.is_none() {
            return None;
        }
        let (networks, expression) = (self.networks.clone(), expression.cloned());
        Some(TrustedProxies::new(move |ip| {
            contains(&networks, ip)
                || expression.as_ref().is_some_and(|e| e.is_match(java_text(ip).as_bytes()))
        }))
    }

    /// Returns the proxies that must send a header of the PROXY protocol. Returns `None` if the PROXY protocol is off,
    /// or after reporting that `trustedProxies` is empty.
    pub(super) fn proxy_protocol(&self) -> Option<TrustedProxies> {
        let at = self.proxy_protocol.as_ref()?;
        if self.networks.is_empty() {
            at.error(
                "needs the addresses of the proxies, because otherwise any client could announce a false address; \
                 set components.passticket-proxy.trustedProxies to [CIDR]",
            );
            return None;
        }
        let networks = self.networks.clone();
        Some(TrustedProxies::new(move |ip| contains(&networks, ip)))
    }
}

pub(super) fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// Parses a network, or an address as a network of one address.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Reads one address or network. Reports a network that is probably a mistake.
fn network(field: &Field<'_>) -> Option<IpNet> {
    let network = field.read(|text| {
        let network = parse_network(text).ok_or_else(|| {
            let text = quote(text);
            format!("{text} is neither an IP address nor a network; write one like 192.0.2.0/24")
        })?;
        if network.trunc() != network {
            let (text, network) = (quote(text), network.trunc());
            return Err(format!("{text} has bits after its prefix; write {network}"));
        }
        if let IpNet::V6(v6) = network
            && v6.addr().to_ipv4_mapped().is_some()
        {
            let text = quote(text);
            return Err(format!("{text} is an IPv4-mapped network; write the IPv4 network"));
        }
        Ok(network)
    })?;
    if network.prefix_len() == 0 {
        field.at.warning(TRUSTS_ALL);
    }
    Some(network)
}

const TRUSTS_ALL: &str = "trusts every address, so each client that reaches the gateway directly can choose the \
                          address under which it is limited and recorded; write the networks of the proxies";

/// Addresses that no proxy has, because they are reserved for documentation (RFC 5737, RFC 3849). If an expression
/// matches more than one of them, it probably matches every address.
const NO_PROXIES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x1234, 0, 0, 0, 0, 0x77)),
];

/// Reads Zowe's setting: a Java regular expression for the whole address of the peer.
pub(super) fn expression(field: &Field<'_>) -> Option<Regex> {
    let expression = field.read(|text| {
        // The expression is also compiled on its own. Otherwise, an unbalanced `)` in it could close the group that the
        // second compilation puts around it.
        let compiled = compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z")));
        compiled.map_err(|error| {
            let (text, error) = (quote(text), error.to_string());
            let error = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!(
                "{text} is no regular expression that this gateway supports ({error}); list the networks \
                 in components.passticket-proxy.trustedProxies instead"
            )
        })
    })?;
    // One match causes no warning, because the expression of a test setup may name one of these addresses.
    if NO_PROXIES.iter().filter(|ip| expression.is_match(java_text(**ip).as_bytes())).count() > 1 {
        field.at.warning(TRUSTS_ALL);
    }
    Some(expression)
}

/// Compiles an expression with Java's character classes, where `\d` is an ASCII digit.
fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).unicode(false).build()
}

/// Returns the text of an address as Java writes it. Zowe matches the expression against this text. Unlike Rust, Java
/// does not shorten IPv6 addresses.
fn java_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [first, rest @ ..] = ip.segments();
            let mut text = format!("{first:x}");
            for segment in rest {
                let _ = write!(text, ":{segment:x}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads `ours` as `components.passticket-proxy`, and `zowe` as Zowe's setting. Returns which of the addresses are
    /// trusted in headers and with the PROXY protocol, and the problems.
    fn read_text(ours: &str, zowe: &str, addresses: &[&str]) -> (Vec<[bool; 2]>, Vec<String>) {
        let text = format!("ours: {{{ours}}}\nzowe: {{{zowe}}}\n");
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut root = document.section(&report);
        let mut section = root.section("ours");
        let ours = read(&mut section);
        section.finish();
        let zowe = root.section("zowe").optional("key").and_then(|field| expression(&field));
        let sets = [ours.trusted(zowe.as_ref()), ours.proxy_protocol()];
        let has = |set: &Option<TrustedProxies>, ip: &str| {
            set.as_ref().is_some_and(|set| set.contains(ip.parse().unwrap()))
        };
        let seen = addresses.iter().map(|ip| sets.each_ref().map(|set| has(set, ip))).collect();
        let problems = match report.finish(Some(())) {
            Ok(((), warnings)) => warnings,
            Err(problems) => problems.iter().cloned().collect(),
        };
        (seen, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_are_trusted_by_networks_and_by_the_expression_of_zowe() {
        let networks = "trustedProxies: [10.1.0.0/16, 192.0.2.1, 'fd00::/8']";
        let addresses = [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "10.2.0.1",
            "192.0.2.1",
            "192.0.2.10",
            "fd00::1",
            "::1",
        ];
        let (no, http, both) = ([false; 2], [true, false], [true; 2]);
        let required = format!("{networks}, proxyProtocol: required");
        let off = format!("{networks}, proxyProtocol: off");
        for (ours, zowe, want) in [
            ("", "", [no; 7]),
            (networks, "", [http, http, no, http, no, http, no]),
            (&off, "", [http, http, no, http, no, http, no]),
            (&required, "", [both, both, no, both, no, both, no]),
            ("trustedProxies: 10.1.2.3/32", "", [http, http, no, no, no, no, no]),
            // The expression must match the whole address. Addresses are written as Java writes them.
            ("", r"key: '10\.\d\.\d+\.\d+'", [http, http, http, no, no, no, no]),
            ("", r"key: '192\.0\.2\.1|0:0:0:0:0:0:0:1'", [no, no, no, http, no, no, http]),
            ("", r"key: '::1|fd00::1|192'", [no; 7]),
            // The PROXY protocol is accepted only from the listed networks, and not from addresses that match the
            // expression.
            (&required, r"key: '.*'", [both, both, http, both, http, both, http]),
        ] {
            let (seen, problems) = read_text(ours, zowe, &addresses);
            let warnings = match zowe {
                "key: '.*'" => vec![format!("z:2: zowe.key: {TRUSTS_ALL}")],
                _ => vec![],
            };
            assert_eq!((seen.as_slice(), problems), (&want[..], warnings), "{ours} {zowe}");
        }
    }

    #[test]
    fn wrong_values_are_reported() {
        let proxy = "z:1: ours.trustedProxies";
        for (ours, zowe, want) in [
            (
                "trustedProxies: [lb.example]",
                "",
                format!("{proxy}[0]: \"lb.example\" is neither an IP address nor a network; write one like 192.0.2.0/24"),
            ),
            (
                "trustedProxies: [10.1.2.3/8]",
                "",
                format!("{proxy}[0]: \"10.1.2.3/8\" has bits after its prefix; write 10.0.0.0/8"),
            ),
            (
                "trustedProxies: ['::ffff:10.0.0.0/104']",
                "",
                format!("{proxy}[0]: \"::ffff:10.0.0.0/104\" is an IPv4-mapped network; write the IPv4 network"),
            ),
            (
                "trustedProxies: [0.0.0.0/0]",
                "",
                format!("{proxy}[0]: trusts every address, so each client that reaches the gateway directly can choose the address under which it is limited and recorded; write the networks of the proxies"),
            ),
            (
                "proxyProtocol: required",
                "key: '10[.].*'",
                "z:1: ours.proxyProtocol: needs the addresses of the proxies, because otherwise any client could announce a false address; set components.passticket-proxy.trustedProxies to [CIDR]".to_owned(),
            ),
            (
                "proxyProtocol: v2",
                "",
                "z:1: ours.proxyProtocol: is unknown; write off or required".to_owned(),
            ),
            (
                "",
                "key: '.*'",
                "z:2: zowe.key: trusts every address, so each client that reaches the gateway directly can choose the address under which it is limited and recorded; write the networks of the proxies".to_owned(),
            ),
            (
                "",
                "key: '(?!10).*'",
                "z:2: zowe.key: \"(?!10).*\" is no regular expression that this gateway supports (look-around, including look-ahead and look-behind, is not supported); list the networks in components.passticket-proxy.trustedProxies instead".to_owned(),
            ),
            (
                "",
                "key: 'a)|(b'",
                "z:2: zowe.key: \"a)|(b\" is no regular expression that this gateway supports (unopened group); list the networks in components.passticket-proxy.trustedProxies instead".to_owned(),
            ),
        ] {
            let (_, problems) = read_text(ours, zowe, &[]);
            assert_eq!(problems, [want], "{ours} {zowe}");
        }
    }
}
