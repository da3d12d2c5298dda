//! Reads the scheme of a service from its api-def (service definition) and from `components.passticket-proxy.services`.
//!
//! A PassTicket is a short-lived password of z/OS for one APPLID. An APPLID is the name of an application on z/OS.

use std::{fmt, str::FromStr};

use tower_passticket::{layer::CertificateHeader, passticket::Applid};

use super::{
    configured_route::{CertificateHeaders, ServiceScheme},
    metadata::{APPLID, CERTIFICATE_HEADERS, Metadata, SCHEME},
    problem::{quote, suggest},
    reader::{At, Field, Section},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemeName {
    Bypass,
    HttpBasicPassTicket,
    SafIdt,
    X509,
    Zosmf,
    ZoweJwt,
}

impl SchemeName {
    const ALL: [Self; 6] = [
        Self::Bypass,
        Self::HttpBasicPassTicket,
        Self::SafIdt,
        Self::X509,
        Self::Zosmf,
        Self::ZoweJwt,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::HttpBasicPassTicket => "httpBasicPassTicket",
            Self::SafIdt => "safIdt",
            Self::X509 => "x509",
            Self::Zosmf => "zosmf",
            Self::ZoweJwt => "zoweJwt",
        }
    }
}

impl fmt::Display for SchemeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SchemeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| {
            let hint = suggest(text, Self::ALL.map(Self::as_str));
            format!("{} is not a scheme{hint}", quote(text))
        })
    }
}

/// The settings `scheme`, `applid` and `headers` of a service in `components.passticket-proxy.services`. They replace
/// those of the api-def.
#[derive(Clone, Default)]
pub(super) struct SchemeOverride<'a> {
    scheme: Option<(SchemeName, At<'a>)>,
    applid: Option<(Applid, At<'a>)>,
    headers: Option<Field<'a>>,
}

impl<'a> SchemeOverride<'a> {
    pub(super) fn read(section: &mut Section<'a>) -> Self {
        let scheme = section.optional("scheme").and_then(|field| Some((field.parse()?, field.at)));
        let applid = section.optional("applid").and_then(|field| Some((field.parse()?, field.at)));
        Self { scheme, applid, headers: section.optional("headers") }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &At<'a>> {
        let scheme = self.scheme.as_ref().map(|(_, at)| at);
        let applid = self.applid.as_ref().map(|(_, at)| at);
        scheme.into_iter().chain(applid).chain(self.headers.as_ref().map(|field| &field.at))
    }
}

const SCHEMES: &str = "httpBasicPassTicket, zoweJwt, zosmf, x509, safIdt or bypass";

/// A scheme, and the place of the setting with its APPLID.
pub(super) struct Placed<'a> {
    pub(super) scheme: ServiceScheme,
    pub(super) applid_at: Option<At<'a>>,
}

/// Finds the scheme of a service. On a problem, reports it and returns `None`: the service then has no routes.
/// `authentication` is the place of the section `authentication`, if the api-def has one.
pub(super) fn scheme_of<'a>(
    id: &str,
    metadata: &Metadata<'a>,
    ours: &SchemeOverride<'a>,
    authentication: Option<&At<'a>>,
) -> Option<Placed<'a>> {
    let (name, at) = match (&ours.scheme, metadata.get(SCHEME)) {
        (Some((name, at)), _) => (*name, Some(at.clone())),
        (None, Some(field)) => (field.parse()?, Some(field.at.clone())),
        (None, None) => match authentication {
            // Zowe's API Mediation Layer (API ML) chooses bypass or zosmf in this case. The operator probably forgot
            // the setting. So this gateway reports an error.
            Some(at) => {
                at.missing("scheme", SCHEMES);
                return None;
            }
            // If the id of a service contains `zosmf`, Zowe's Discovery Service also chooses `zosmf`
            // (docs/reference/data-plane.md#metadata).
            None if id.contains("zosmf") => (SchemeName::Zosmf, None),
            None => (SchemeName::Bypass, None),
        },
    };
    let defined = metadata.get(APPLID);
    let applid = || match (&ours.applid, defined) {
        (Some((applid, at)), _) => Some((*applid, at.clone())),
        (None, Some(field)) => Some((field.parse()?, field.at.clone())),
        (None, None) => {
            report_missing_applid(id, at.as_ref(), ours);
            None
        }
    };
    let unused = || {
        let at = match (&ours.applid, &ours.scheme, defined) {
            (Some((_, at)), _, _) => at,
            // The operator has replaced the scheme, so the APPLID of the api-def is not a mistake.
            (None, Some(_), _) | (None, None, None) => return,
            (None, None, Some(field)) => &field.at,
        };
        at.warning(format_args!("has no effect with scheme {name}; remove this setting"));
    };
    let (scheme, applid_at) = match name {
        SchemeName::HttpBasicPassTicket => {
            let (applid, at) = applid()?;
            (ServiceScheme::HttpBasicPassTicket { applid }, Some(at))
        }
        SchemeName::SafIdt => {
            let (applid, at) = applid()?;
            (ServiceScheme::SafIdt { applid }, Some(at))
        }
        SchemeName::Bypass => (ServiceScheme::Bypass, None),
        SchemeName::X509 => {
            let headers = ours.headers.as_ref().or(metadata.get(CERTIFICATE_HEADERS));
            let headers = headers.map(certificate_headers).unwrap_or_default();
            if headers == CertificateHeaders::default() {
                at.as_ref()?.error(format_args!(
                    "needs headers; add headers: X-Certificate-Public, X-Certificate-DistinguishedName or \
                     X-Certificate-CommonName to authentication of the api-def, or to \
                     components.passticket-proxy.services.{id}"
                ));
                return None;
            }
            (ServiceScheme::X509 { headers }, None)
        }
        SchemeName::Zosmf => (ServiceScheme::Zosmf, None),
        SchemeName::ZoweJwt => (ServiceScheme::ZoweJwt, None),
    };
    if applid_at.is_none() {
        unused();
    }
    if let Some(field) = &ours.headers
        && name != SchemeName::X509
    {
        field.at.warning(format_args!("has no effect with scheme {name}; remove this setting"));
    }
    Some(Placed { scheme, applid_at })
}

/// Reports a scheme without its APPLID. In `components.passticket-proxy`, this is an error. In an api-def, it is a
/// warning, because the api-defs of Zowe's own tests contain such a service. Zowe API ML makes no PassTicket for this
/// service (docs/decisions.md#d19).
fn report_missing_applid(id: &str, at: Option<&At<'_>>, ours: &SchemeOverride<'_>) {
    let Some(at) = at else { return };
    let remedy = "the APPLID that the service checks PassTickets against";
    if ours.scheme.is_some() {
        at.error(format_args!("needs an APPLID; add applid beside it: {remedy}"));
    } else {
        at.warning(format_args!(
            "needs an APPLID, so the service has no routes; add applid, {remedy}, beside the scheme or to \
             components.passticket-proxy.services.{id}",
        ));
    }
}

/// Reads a list of names, or names separated by commas. Unknown names are ignored with a warning. Zowe API ML ignores
/// them, too.
pub(super) fn certificate_headers(field: &Field<'_>) -> CertificateHeaders {
    let mut headers = Vec::new();
    for item in field.one_or_more() {
        for name in item.text().unwrap_or_default().split(',').map(str::trim) {
            match name.parse::<CertificateHeader>() {
                Ok(header) => headers.push(header),
                Err(_) if name.is_empty() => {}
                Err(error) => item.at.warning(error),
            }
        }
    }
    headers.into_iter().collect()
}
