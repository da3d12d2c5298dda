//! Reads the requests that a gateway of API ML (Zowe's API Mediation Layer) sends to the endpoints of ZAAS: the path,
//! the content type, the body and the headers. In this file, "the gateway" is that gateway of API ML.

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE},
};
use serde::Deserialize;

use super::source::SchemeTarget;
use crate::{
    api::json_object, apiml_path::ZAAS_SCHEMES, layer::PRIVATE_TOKEN, passticket::Applid,
    token::ServiceId,
};

static X_SERVICE_ID: HeaderName = HeaderName::from_static("x-service-id");

/// The kind of credential that the gateway asks for. The path of the request names the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemeKind {
    PassTicket,
    ZoweJwt,
    Zosmf,
    SafIdt,
}

impl SchemeKind {
    /// Returns the kind for a path. Paths are case-sensitive, as in API ML.
    pub(super) fn find(path: &str) -> Option<Self> {
        Some(match path.strip_prefix(ZAAS_SCHEMES)? {
            "ticket" => Self::PassTicket,
            "zoweJwt" => Self::ZoweJwt,
            "zosmf" => Self::Zosmf,
            "safIdt" => Self::SafIdt,
            _ => return None,
        })
    }

    /// Returns whether a path is `/zaas/scheme` or below it.
    pub(super) fn is_below(path: &str) -> bool {
        path.starts_with(ZAAS_SCHEMES) || ZAAS_SCHEMES.strip_suffix('/') == Some(path)
    }
}

/// A well-formed request. If the client of the gateway is authenticated, the scheme for `target` tries to make the
/// credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) target: SchemeTarget,
    /// The name of the application, as the gateway has written it. Empty if this kind of credential is not for an
    /// application.
    pub(super) application: String,
}

/// The reason why a request gets no credential, although the client of the gateway may be authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCall {
    /// The method is neither `POST` nor `OPTIONS`.
    Method,
    Options,
    /// The content type of the body is absent, or is not JSON.
    ContentType,
    /// The body is not a JSON object, or a value has the wrong type.
    Body,
    TooLong,
    /// The body did not arrive within the time limit, or broke off.
    Incomplete,
    /// The body names no application, or the name is not an APPLID (the name of a z/OS application).
    Application,
    NoScheme,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    application_name: Option<String>,
}

pub(super) fn read(kind: SchemeKind, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadCall> {
    let without_application = |target| Ok(Call { target, application: String::new() });
    let with_application = |target: fn(Applid) -> SchemeTarget| {
        if !is_json(headers) {
            return Err(BadCall::ContentType);
        }
        let Body { application_name } = json_object(body).map_err(|_| BadCall::Body)?;
        let application = application_name.unwrap_or_default();
        let applid = Applid::new(application.trim()).map_err(|_| BadCall::Application)?;
        Ok(Call { target: target(applid), application })
    };
    match kind {
        SchemeKind::PassTicket => with_application(|applid| SchemeTarget::PassTicket { applid }),
        SchemeKind::SafIdt => with_application(|applid| SchemeTarget::SafIdt { applid }),
        SchemeKind::ZoweJwt => without_application(SchemeTarget::ZoweJwt),
        SchemeKind::Zosmf => without_application(SchemeTarget::Zosmf),
    }
}

/// Returns whether the content type is JSON (RFC 8259 §11), with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    // `+json`: RFC 6839 §3.1.
    kind == b"application/json" || (kind.starts_with(b"application/") && kind.ends_with(b"+json"))
}

/// Returns the service in `X-Service-Id`, or `None` if there is no such header or its value is not a service id. If a
/// request has this header more than once, one value may come from the client of the gateway, so the result is `None`.
pub(super) fn service(headers: &HeaderMap) -> Option<ServiceId> {
    let mut values = headers.get_all(&X_SERVICE_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    ServiceId::new(value.to_str().ok()?).ok()
}

/// Returns whether the request has the header `X-Service-Id`. API ML's gateway always sends it.
pub(super) fn names_service(headers: &HeaderMap) -> bool {
    headers.contains_key(&X_SERVICE_ID)
}

/// Returns the headers that can contain a credential of the client of the gateway.
pub(super) fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut found = HeaderMap::with_capacity(4);
    for name in [&AUTHORIZATION, &PRIVATE_TOKEN, &COOKIE] {
        for value in headers.get_all(name) {
            found.append(name, value.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn each_path_has_its_kind() {
        for (path, want) in [
            ("/zaas/scheme/ticket", Some(SchemeKind::PassTicket)),
            ("/zaas/scheme/zoweJwt", Some(SchemeKind::ZoweJwt)),
            ("/zaas/scheme/zosmf", Some(SchemeKind::Zosmf)),
            ("/zaas/scheme/safIdt", Some(SchemeKind::SafIdt)),
            ("/zaas/scheme/zowejwt", None),
            ("/zaas/scheme/ticket/", None),
            ("/zaas/scheme/", None),
            ("/zaas/scheme", None),
            ("//zaas/scheme/ticket", None),
            ("/zaas/scheme/%74icket", None),
            ("/gateway/scheme/ticket", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(SchemeKind::find(path), want, "{path}");
            let is_below = path.starts_with("/zaas/scheme");
            assert_eq!(SchemeKind::is_below(path), is_below, "{path}");
        }
        assert!(!SchemeKind::is_below("/zaas/schemes"));
    }

    #[test]
    fn a_body_names_an_application_or_is_refused() {
        let json = headers(&[("content-type", "application/json")]);
        for (body, want) in [
            (r#"{"applicationName":"ZOWEAPPL"}"#, Ok(("ZOWEAPPL", "ZOWEAPPL"))),
            (r#"{"applicationName":" zoweAppl ","more":[1]}"#, Ok((" zoweAppl ", "ZOWEAPPL"))),
            ("{}", Err(BadCall::Application)),
            (r#"{"applicationName":null}"#, Err(BadCall::Application)),
            (r#"{"applicationName":""}"#, Err(BadCall::Application)),
            (r#"{"applicationName":"  "}"#, Err(BadCall::Application)),
            (r#"{"applicationName":"NINECHARS"}"#, Err(BadCall::Application)),
            (r#"{"applicationName":"A B"}"#, Err(BadCall::Application)),
            (r#"{"applicationname":"ZOWEAPPL"}"#, Err(BadCall::Application)),
            (r#"{"applicationName":1}"#, Err(BadCall::Body)),
            (r#"{"applicationName":"A","applicationName":"B"}"#, Err(BadCall::Body)),
            (r#"["ZOWEAPPL"]"#, Err(BadCall::Body)),
            (r#"{"applicationName":"A"} x"#, Err(BadCall::Body)),
            ("null", Err(BadCall::Body)),
            ("", Err(BadCall::Body)),
        ] {
            for kind in [SchemeKind::PassTicket, SchemeKind::SafIdt] {
                let got = read(kind, &json, body.as_bytes());
                let want = want.map(|(application, applid)| {
                    let (application, applid) =
                        (application.to_owned(), Applid::new(applid).unwrap());
                    let target = match kind {
                        SchemeKind::PassTicket => SchemeTarget::PassTicket { applid },
                        _ => SchemeTarget::SafIdt { applid },
                    };
                    Call { target, application }
                });
                assert_eq!(got, want, "{body}");
            }
        }
        for (kind, target) in
            [(SchemeKind::ZoweJwt, SchemeTarget::ZoweJwt), (SchemeKind::Zosmf, SchemeTarget::Zosmf)]
        {
            let want = Call { target, application: String::new() };
            assert_eq!(read(kind, &HeaderMap::new(), b"anything"), Ok(want));
        }
    }

    #[test]
    fn only_json_is_read() {
        let body = br#"{"applicationName":"ZOWEAPPL"}"#;
        for (lines, is_read) in [
            (&[("content-type", "application/json")][..], true),
            (&[("content-type", "Application/JSON ; charset=UTF-8")], true),
            (&[("content-type", "application/vnd.x+json")], true),
            (&[("content-type", "text/plain")], false),
            (&[("content-type", "text/x+json")], false),
            (&[("content-type", "application/jsonx")], false),
            (&[("content-type", "")], false),
            (&[("content-type", "application/json"), ("content-type", "text/plain")], false),
            (&[], false),
        ] {
            let got = read(SchemeKind::PassTicket, &headers(lines), body);
            assert_eq!(got.is_ok(), is_read, "{lines:?}");
            assert!(is_read || got == Err(BadCall::ContentType), "{lines:?}");
        }
    }

    #[test]
    fn a_service_is_named_once_or_not_at_all() {
        let long = "a".repeat(65);
        for (lines, want) in [
            (&[("x-service-id", "Files")][..], Some("files")),
            (&[("X-Service-Id", " files ")], Some("files")),
            (&[], None),
            (&[("x-service-id", "")], None),
            (&[("x-service-id", "a b")], None),
            (&[("x-service-id", "files:read")], None),
            (&[("x-service-id", &long)], None),
            (&[("x-service-id", "files"), ("x-service-id", "files")], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|(_, value)| ("x-service-id", *value)).collect();
            let got = service(&headers(&lines));
            assert_eq!(got.as_ref().map(ServiceId::as_str), want, "{lines:?}");
        }
    }

    #[test]
    fn nothing_but_credentials_reaches_a_scheme() {
        let all = headers(&[
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("private-token", "c"),
            ("cookie", "d=e"),
            ("x-service-id", "files"),
            ("client-cert", "x"),
            ("x-saf-token", "y"),
            ("x-forwarded-for", "192.0.2.1"),
            ("connection", "authorization"),
        ]);
        let kept = credentials(&all);
        let kept: Vec<_> = kept.iter().map(|(_, value)| value.to_str().unwrap()).collect();
        assert_eq!(kept, ["Bearer a", "Bearer b", "c", "d=e"]);
    }
}
