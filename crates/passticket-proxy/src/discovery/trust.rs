//! Decides which registered instances the gateway uses, and whether they may receive credentials
//! (docs/decisions.md#d35).

use std::fmt;

use passticket_proxy::config::{
    ConfiguredRoute, DiscoverySettings, HostPattern, OtherServices, ServiceScheme, TrustedService,
    is_reserved,
};
use tower_passticket::{eureka::Instance, passticket::Applid, token::ServiceId};

pub(super) const SCHEME: &str = "apiml.authentication.scheme";
const APPLID: &str = "apiml.authentication.applid";

#[derive(Debug)]
pub(super) enum Decision<'s> {
    /// The configuration names the service. The instance may receive the credentials of the scheme.
    Trusted(Trusted<'s>),
    /// The configuration does not name the service, but has `others: bypass`, and allows the host. The instance never
    /// receives credentials.
    Other,
    /// The gateway does not use the instance, and does not report this. There are three cases:
    ///
    /// - The id is reserved.
    /// - The configuration does not name the service, and the service has a static definition.
    /// - The configuration does not name the service, and `others` is `ignore`.
    Ignored,
    /// The registration contradicts the configuration.
    Refused(Refusal),
}

/// A service that the configuration names, and one of its schemes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusted<'s> {
    pub(super) service: &'s TrustedService,
    /// The position of the scheme in [`TrustedService::schemes`].
    pub(super) position: usize,
}

impl Trusted<'_> {
    pub(super) fn scheme(&self) -> ServiceScheme {
        self.service.schemes[self.position].scheme()
    }
}

/// The way in which a registration contradicts the configuration. The strings in the variants are values of the
/// registration, which its sender (the registrant) chooses. In `Scheme`, the string is the default scheme if the
/// registration names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A value is longer than its limit.
    TooLong,
    Host(String),
    NoPort,
    Port(u16),
    NoTls,
    Scheme(String),
    Applid(String),
    /// Another instance of the service has a scheme that comes earlier in the configuration.
    OtherScheme(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("a value is longer than its limit"),
            Self::Host(host) => {
                write!(f, "the host {} is not one of the configured hosts", shown(host))
            }
            Self::NoPort => f.write_str("no port is enabled"),
            Self::Port(port) => write!(f, "the port {port} is not one of the configured ports"),
            Self::NoTls => f.write_str("the instance has no TLS, and plainHttp is not true"),
            Self::Scheme(scheme) => {
                write!(f, "the scheme {} is not one of the configured schemes", shown(scheme))
            }
            Self::Applid(applid) => {
                write!(f, "the APPLID {} is not the configured APPLID", shown(applid))
            }
            Self::OtherScheme(scheme) => write!(
                f,
                "other instances of the service have a scheme other than {}",
                shown(scheme)
            ),
        }
    }
}

/// Returns the start of a text of the registrant, with escapes.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    format!("{start:?}")
}

/// Decides about an instance of the service `id`. `is_defined` says whether a static definition contains the service.
/// Such a service gets registered instances only if `services` in the configuration names it.
pub(super) fn decide<'s>(
    settings: &'s DiscoverySettings,
    id: &ServiceId,
    is_defined: bool,
    instance: &Instance,
) -> Decision<'s> {
    if is_reserved(id) {
        // The services of API ML (Zowe's API Mediation Layer) register themselves in each installation. So they are
        // ignored, and not reported as refused.
        return Decision::Ignored;
    }
    match settings.services.iter().find(|service| service.id == *id) {
        Some(service) => match decide_trusted(service, instance) {
            Ok(position) => Decision::Trusted(Trusted { service, position }),
            Err(refusal) => Decision::Refused(refusal),
        },
        None if is_defined => Decision::Ignored,
        None => match &settings.others {
            OtherServices::Ignore => Decision::Ignored,
            OtherServices::Bypass { hosts } => match check_address(hosts, true, instance) {
                Ok(()) => Decision::Other,
                Err(refusal) => Decision::Refused(refusal),
            },
        },
    }
}

/// Returns the position of the instance's scheme in [`TrustedService::schemes`].
fn decide_trusted(service: &TrustedService, instance: &Instance) -> Result<usize, Refusal> {
    check_address(&service.hosts, service.plain_http, instance)?;
    let port = instance.secure_port.or(instance.port).unwrap_or_default();
    if !service.ports.is_empty() && !service.ports.contains(&port) {
        return Err(Refusal::Port(port));
    }
    let of = |name: &str| instance.metadata.get(name).map(|value| value.trim()).unwrap_or_default();
    let applid = of(APPLID);
    if let Some(expected) = service.applid
        && !applid.is_empty()
        && Applid::new(applid).ok() != Some(expected)
    {
        return Err(Refusal::Applid(applid.to_owned()));
    }
    let name = match of(SCHEME) {
        // If the metadata names no scheme, the id of the service decides. Zowe's Discovery Service does the same
        // (docs/reference/data-plane.md#metadata).
        "" if service.id.as_str().contains("zosmf") => "zosmf",
        "" => "bypass",
        name => name,
    };
    let is_named = |route: &ConfiguredRoute| route.scheme().name() == name;
    service.schemes.iter().position(is_named).ok_or_else(|| Refusal::Scheme(name.to_owned()))
}

fn check_address(
    hosts: &[HostPattern],
    is_plain_allowed: bool,
    instance: &Instance,
) -> Result<(), Refusal> {
    if instance.is_truncated {
        return Err(Refusal::TooLong);
    }
    if !hosts.iter().any(|pattern| pattern.covers(&instance.host)) {
        return Err(Refusal::Host(instance.host.clone()));
    }
    match (instance.secure_port, instance.port) {
        (Some(_), _) => Ok(()),
        (None, Some(_)) if is_plain_allowed => Ok(()),
        (None, Some(_)) => Err(Refusal::NoTls),
        (None, None) => Err(Refusal::NoPort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::test_settings::{instance, settings};

    fn shown_decision(others: &str, registration: &str, is_defined: bool) -> String {
        let settings = settings(&format!(
            "services: {{svc: {{hosts: ['*.good.example', localhost], applid: GOODAPPL, schemes: \
             [httpBasicPassTicket, zoweJwt]}}, ibmzosmf: {{hosts: z, ports: 443, schemes: zosmf}}, plain: {{hosts: p, \
             schemes: bypass, plainHttp: true}}}}, {others}"
        ));
        let instance = instance(registration);
        let id = ServiceId::new(&instance.app).unwrap();
        match decide(&settings, &id, is_defined, &instance) {
            Decision::Trusted(trusted) => trusted.scheme().name().to_owned(),
            Decision::Other => "other".to_owned(),
            Decision::Ignored => "ignored".to_owned(),
            Decision::Refused(refusal) => refusal.to_string(),
        }
    }

    /// Each case has a registration: `app host port` and metadata. `s` before the port means TLS.
    #[test]
    fn only_the_configured_hosts_applids_and_schemes_are_trusted() {
        const TICKET: &str = "scheme=httpBasicPassTicket";
        for (registration, want) in [
            (format!("svc a.good.example s443 {TICKET} applid=GOODAPPL"), "httpBasicPassTicket"),
            (format!("svc a.good.example s443 {TICKET} applid=goodappl"), "httpBasicPassTicket"),
            (format!("SVC LOCALHOST s443 {TICKET}"), "httpBasicPassTicket"),
            ("svc localhost s443 scheme=zoweJwt".to_owned(), "zoweJwt"),
            (
                format!("svc evil.example s443 {TICKET} applid=GOODAPPL"),
                "the host \"evil.example\" is not",
            ),
            (format!("svc good.example s443 {TICKET}"), "the host \"good.example\" is not"),
            (format!("svc a.good.example 80 {TICKET}"), "has no TLS"),
            (format!("svc a.good.example - {TICKET}"), "no port"),
            (
                format!("svc a.good.example s443 {TICKET} applid=IZUDFLT"),
                "the APPLID \"IZUDFLT\" is not",
            ),
            (
                format!("svc a.good.example s443 {TICKET} applid=TOOLONGAPPL"),
                "the APPLID \"TOOLONGAPPL\"",
            ),
            ("svc a.good.example s443 scheme=zoweJwt applid=IZUDFLT".to_owned(), "the APPLID"),
            (
                "svc a.good.example s443 scheme=safIdt applid=GOODAPPL".to_owned(),
                "the scheme \"safIdt\" is not",
            ),
            ("svc a.good.example s443 scheme=ZOWEJWT".to_owned(), "the scheme \"ZOWEJWT\" is not"),
            // If a registration names no scheme, and the id of the service does not contain `zosmf`, the instance has
            // the scheme bypass. With this scheme, the instance would receive the credentials of the client.
            ("svc a.good.example s443".to_owned(), "the scheme \"bypass\" is not"),
            ("ibmzosmf z s443".to_owned(), "zosmf"),
            ("ibmzosmf z s444".to_owned(), "the port 444 is not"),
            ("ibmzosmf z s443 scheme=bypass".to_owned(), "the scheme \"bypass\" is not"),
            ("plain p 80".to_owned(), "bypass"),
            ("other a.good.example s443".to_owned(), "ignored"),
            ("gateway a.good.example s443".to_owned(), "ignored"),
            ("zaas a.good.example s443".to_owned(), "ignored"),
        ] {
            for is_defined in [false, true] {
                let got = shown_decision("", &registration, is_defined);
                assert!(got.contains(want), "{registration}: {got}");
            }
        }
        let mut truncated = instance("svc localhost s443 scheme=zoweJwt");
        truncated.is_truncated = true;
        let settings = settings("services: {svc: {hosts: localhost, schemes: zoweJwt}}");
        let id = ServiceId::new("svc").unwrap();
        let decision = decide(&settings, &id, false, &truncated);
        assert!(matches!(decision, Decision::Refused(Refusal::TooLong)), "{decision:?}");
    }

    #[test]
    fn other_services_need_a_configured_host_and_no_definition() {
        const BYPASS: &str = "others: bypass, otherHosts: ['*.other.example']";
        for (registration, is_defined, want) in [
            ("x a.other.example s443 scheme=httpBasicPassTicket applid=IZUDFLT", false, "other"),
            ("x a.other.example 80", false, "other"),
            ("x evil.example s443", false, "the host"),
            ("x 127.0.0.1 7555", false, "the host"),
            ("x a.other.example s443", true, "ignored"),
            ("gateway a.other.example s443", false, "ignored"),
            ("eureka a.other.example s443", false, "ignored"),
            // `otherHosts` does not apply to a service that `services` names.
            ("svc a.other.example s443 scheme=zoweJwt", false, "the host"),
        ] {
            let got = shown_decision(BYPASS, registration, is_defined);
            assert!(got.contains(want), "{registration}: {got}");
        }
    }

    #[test]
    fn a_text_of_the_registrant_is_escaped_and_short() {
        let refusal = Refusal::Host(format!("a\nb{}", "x".repeat(200))).to_string();
        assert!(refusal.contains(r"a\nb") && refusal.len() < 200, "{refusal}");
    }
}
