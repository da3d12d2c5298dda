//! Reads the settings of the listener for gateways of API ML that use this program as their ZAAS:
//! `components.passticket-proxy.zaas`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use super::{
    listen::{Resolve, address, explain},
    problem::Place,
    ptktdata::{Entries, ZoweApplids},
    reader::{At, Field, Section},
};
use tower_passticket::layer::ForwarderName;

const DEFAULT_PORT: u16 = 7558;

const GATEWAYS: &str = "the certificates of the API ML gateways that may use this listener, each as - sha256: FINGERPRINT \
                        or - subject: NAME";

/// The listener for gateways of API ML.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZaasSettings {
    /// The address and the port. Port 0 means any free port.
    pub address: SocketAddr,
    /// The place of `components.passticket-proxy.zaas.port`.
    pub port_at: Place,
    /// The place of `components.passticket-proxy.zaas.host`, or of the host of the gateway.
    pub host_at: Place,
    /// The gateways that are trusted to act for their clients: `components.passticket-proxy.zaas.gateways`. There is at
    /// least one.
    pub gateways: Vec<ForwarderName>,
}

impl ZaasSettings {
    /// Returns a text that says why the program cannot listen, which setting to change, and what to write.
    pub fn explain(&self, error: &io::Error) -> String {
        let remedy = "write an address of this machine, or 0.0.0.0 for all of them";
        explain(&self.port_at, &self.host_at, self.address, error, remedy)
    }
}

/// The section `zaas`. The host name in it is not resolved yet.
pub(super) struct ZaasSection<'a> {
    /// The place of `enabled`, if it is `true`.
    enabled: Option<At<'a>>,
    host: Option<Field<'a>>,
    host_at: Place,
    port: u16,
    port_at: At<'a>,
    gateways: Vec<ForwarderName>,
}

/// Reads the section. If `enabled` is `true`, at least one gateway must be named.
pub(super) fn read(mut section: Section<'_>) -> ZaasSection<'_> {
    let switch = section.optional("enabled");
    let enabled = switch.as_ref().filter(|field| field.is_on()).map(|field| field.at.clone());
    let host = section.optional("host");
    let host_at = section.place_of("host", host.as_ref());
    let port = section.optional("port");
    let port_at = port.as_ref().map_or_else(|| section.child("port"), |field| field.at.clone());
    let port = port.and_then(|field| field.number(0..=u64::from(u16::MAX)));
    let gateways = match enabled {
        Some(_) => section.required("gateways", GATEWAYS),
        None => section.optional("gateways"),
    };
    if let (None, Some(field)) = (&switch, &gateways) {
        field.at.warning("has no effect; set components.passticket-proxy.zaas.enabled to true");
    }
    section.finish();
    ZaasSection {
        enabled,
        host,
        host_at,
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT),
        port_at,
        gateways: gateways.iter().flat_map(Field::items).filter_map(|it| gateway(&it)).collect(),
    }
}

fn gateway(item: &Field<'_>) -> Option<ForwarderName> {
    let mut section = item.section();
    let [sha256, subject] = ["sha256", "subject"].map(|name| section.optional(name));
    let (at, is_broken) = (section.at.clone(), section.is_broken());
    section.finish();
    match (sha256, subject) {
        (Some(field), None) => field.fingerprint().map(ForwarderName::Certificate),
        (None, Some(field)) => field.parse().map(ForwarderName::Subject),
        (None, None) if is_broken => None,
        _ => {
            at.error("must name the certificate in one way; write either sha256 or subject");
            None
        }
    }
}

impl ZaasSection<'_> {
    pub(super) fn is_on(&self) -> bool {
        self.enabled.is_some()
    }

    /// If the listener is on, warns if `ptktdata` has no entries. Also warns about each APPLID with `source: zowe`: API
    /// ML may ask this program for PassTickets of this APPLID, and this program would ask API ML again. `entries` are
    /// all entries of `ptktdata`, and `zowe` are those with `source: zowe`.
    pub(super) fn check_keys(&self, entries: &Entries<'_>, zowe: &ZoweApplids) {
        let Some(enabled) = &self.enabled else { return };
        if entries.is_empty() {
            enabled.warning(
                "lets API ML gateways ask for PassTickets, but there is no PassTicket key; add the APPLIDs of the \
                 services to components.passticket-proxy.ptktdata",
            );
        }
        for (applid, at) in entries.iter().filter(|(applid, _)| zowe.contains_key(*applid)) {
            at.warning(format_args!(
                "gets the PassTickets of {applid} from API ML, whose gateway asks its ZAAS for them. With \
                 components.passticket-proxy.zaas, this program may be that ZAAS, and would then wait for itself; add \
                 the key of {applid} to this entry, and remove source: zowe"
            ));
        }
    }

    /// Returns the settings. `None` if the listener is off, or if the host is wrong. A wrong host is an error even if
    /// the listener is off. If the listener is on, AT-TLS and an address that overlaps with `gateway` or `admin` are
    /// errors. `gateway` is the address of the gateway, with the place of its host. `admin` is the address of the admin
    /// port. `attls` is the place of the setting that switches AT-TLS on.
    pub(super) fn settings(
        &self,
        gateway: (SocketAddr, &Place),
        admin: Option<SocketAddr>,
        attls: Option<&At<'_>>,
        resolve: Resolve<'_>,
    ) -> Option<ZaasSettings> {
        let (gateway, gateway_at) = gateway;
        let (host, host_at) = match &self.host {
            None => (Some(gateway.ip()), gateway_at),
            Some(field) => (field.read(|text| address(text, resolve)), &self.host_at),
        };
        let enabled = self.enabled.as_ref()?;
        if let Some(attls) = attls {
            enabled.error(format_args!(
                "needs the client certificates of the API ML gateways, which are unknown with AT-TLS; set {} to false, \
                 or set this key to false",
                attls.key
            ));
        }
        let address = SocketAddr::new(host?, self.port);
        for (other, name) in [(Some(gateway), "the gateway"), (admin, "the admin port")] {
            if other.is_some_and(|other| overlap(other, address)) {
                self.port_at.error(format_args!(
                    "{} is also the port of {name}; write another port",
                    self.port
                ));
            }
        }
        Some(ZaasSettings {
            address,
            port_at: self.port_at.place(),
            host_at: host_at.clone(),
            gateways: self.gateways.clone(),
        })
    }
}

/// Returns whether only one of the two addresses can be opened. Port 0 means any free port, so it never overlaps.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = |ip: IpAddr| ip.is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || is_any(one.ip()) || is_any(other.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads `text` as the section `zaas`. Returns the settings, and the problems: the errors, or the warnings.
    fn read_text(text: &str, attls: bool) -> (Option<ZaasSettings>, Vec<String>) {
        let resolve = |name: &str| match name {
            "localhost" => Ok(vec!["127.0.0.1".parse().unwrap()]),
            _ => Err(io::Error::other("no such name")),
        };
        let report = Report::default();
        let text = format!("attls: true\nzaas: {text}\n");
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut root = document.section(&report);
        let attls = root.optional("attls").filter(|_| attls);
        let section = read(root.section("zaas"));
        let place = Place::new(std::path::Path::new("z"), 9, "host");
        let settings = section.settings(
            ("192.0.2.1:7554".parse().unwrap(), &place),
            Some("127.0.0.1:7555".parse().unwrap()),
            attls.as_ref().map(|field| &field.at),
            &resolve,
        );
        let is_on = section.is_on();
        match report.finish(Some(settings)) {
            Ok((settings, warnings)) => {
                assert_eq!(settings.is_some(), is_on, "{text}");
                (settings, warnings.iter().map(ToString::to_string).collect())
            }
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_listener_has_the_port_of_zaas_and_the_host_of_the_gateway() {
        let gateways = "gateways: [{subject: 'CN=gw'}]";
        for (text, want) in [
            (String::new(), None),
            ("{enabled: false}".to_owned(), None),
            (format!("{{enabled: false, {gateways}}}"), None),
            (format!("{{enabled: true, {gateways}}}"), Some("192.0.2.1:7558")),
            (format!("{{enabled: true, port: 0, {gateways}}}"), Some("192.0.2.1:0")),
            (
                format!("{{enabled: true, host: localhost, port: 7554, {gateways}}}"),
                Some("127.0.0.1:7554"),
            ),
            (format!("{{enabled: true, host: '::', {gateways}}}"), Some("[::]:7558")),
        ] {
            let (settings, problems) = read_text(&text, false);
            assert_eq!(problems, [""; 0], "{text}");
            let address = settings.map(|settings| settings.address.to_string());
            assert_eq!(address.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn gateways_are_named_by_fingerprint_or_subject() {
        let sha256 = "ab".repeat(32);
        let text =
            format!("{{enabled: true, gateways: [{{sha256: {sha256}}}, {{subject: 'CN=a,O=b'}}]}}");
        let (settings, _) = read_text(&text, false);
        let want = [
            ForwarderName::Certificate(sha256.parse().unwrap()),
            ForwarderName::Subject("CN=a,O=b".parse().unwrap()),
        ];
        assert_eq!(settings.unwrap().gateways, want);
    }

    #[test]
    fn each_problem_names_its_key_and_the_remedy() {
        let is_missing =
            "z:2: zaas.gateways: is missing; write the certificates of the API ML gateways";
        let one = "gateways: [{subject: 'CN=gw'}]";
        let with = |text: &str| format!("{{enabled: true, {one}, {text}}}");
        for (text, attls, want) in [
            ("{enabled: true}".to_owned(), false, is_missing),
            (
                "{enabled: true, gateways: []}".to_owned(),
                false,
                "z:2: zaas.gateways: is empty; write the",
            ),
            (
                "{enabled: true, gateways: CN=gw}".to_owned(),
                false,
                "z:2: zaas.gateways: must be a list",
            ),
            (
                "{enabled: true, gateways: [CN=gw]}".to_owned(),
                false,
                "z:2: zaas.gateways[0]: must be a mapping; write keys",
            ),
            (
                "{enabled: true, gateways: [{}]}".to_owned(),
                false,
                "z:2: zaas.gateways[0]: must name the certificate in one way; write either sha256 or subject",
            ),
            (
                "{enabled: true, gateways: [{sha256: ab}]}".to_owned(),
                false,
                "z:2: zaas.gateways[0].sha256: \"ab\" is not a SHA-256 fingerprint; write 64 hexadecimal digits, as \
                 `openssl x509 -noout -fingerprint -sha256 -in FILE` shows them",
            ),
            (
                format!("{{enabled: true, gateways: [{{sha256: {}}}]}}", "ab".repeat(31)),
                false,
                "z:2: zaas.gateways[0].sha256: has a wrong value (not shown: it looks like a secret key); write 64 \
                 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256 -in FILE` shows them",
            ),
            (
                "{enabled: true, gateways: [{issuer: CN=ca}]}".to_owned(),
                false,
                "z:2: zaas.gateways[0].issuer: is an unknown key",
            ),
            (format!("{{{one}}}"), false, "z:2: zaas.gateways: has no effect; set components."),
            (
                "{enabled: maybe}".to_owned(),
                false,
                "z:2: zaas.enabled: \"maybe\" is neither true nor false",
            ),
            (
                "{host: elsewhere}".to_owned(),
                false,
                "z:2: zaas.host: \"elsewhere\" cannot be resolved",
            ),
            (
                with("port: 7554"),
                false,
                "z:2: zaas.port: 7554 is also the port of the gateway; write another",
            ),
            (
                with("host: 0.0.0.0, port: 7555"),
                false,
                "z:2: zaas.port: 7555 is also the port of the admin port; write another",
            ),
            (
                with("port: 1"),
                true,
                "z:2: zaas.enabled: needs the client certificates of the API ML gateways, which are unknown with \
                 AT-TLS; set attls to false",
            ),
        ] {
            let (_, problems) = read_text(&text, attls);
            assert!(problems.iter().any(|it| it.starts_with(want)), "{text}: {problems:?}");
        }
    }

    #[test]
    fn each_listen_error_names_the_key_to_change() {
        let (settings, _) = read_text("{enabled: true, gateways: [{subject: 'CN=gw'}]}", false);
        let settings = settings.unwrap();
        for (kind, want) in [
            (io::ErrorKind::AddrInUse, "z:2: zaas.port: cannot listen on 192.0.2.1:7558"),
            (io::ErrorKind::AddrNotAvailable, "z:9: host: cannot listen on 192.0.2.1:7558"),
        ] {
            let text = settings.explain(&kind.into());
            assert!(text.starts_with(want), "{text}");
        }
    }
}
