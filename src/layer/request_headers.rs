//! Decides which request headers of a client the gateway removes.
//!
//! A service, or a server in front of it, trusts some headers: it reads a user, a certificate, an address or a path
//! from them. So the gateway removes these headers if a client sends them. `docs/reference/request-headers.md` lists
//! them in a table. [`RequestHeaders`] changes the table for one service.
//!
//! The gateway removes each spelling of a name. Spellings differ only in characters that are neither letters nor
//! digits, such as `X-Real-IP` and `X_Real_IP`. CGI (RFC 3875 §4.1.18) and similar interfaces do not distinguish them.

use http::{
    HeaderName,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING},
};

use super::{
    credential::{PRIVATE_TOKEN, X_CERTIFICATE},
    path::service_of,
};
use crate::{headers::same_for_cgi, token::ServiceId};

/// If WebSphere Liberty (z/OSMF, CICS) trusts a proxy, it takes users and certificates from headers with this prefix.
const WEBSPHERE: &str = "$ws";

/// The prefix of the CORS headers (Fetch Standard §3.3). The gateway removes these headers and `Origin`, because it
/// decides itself which pages of other origins may use a service ([D25](crate::decisions#d25)).
const ACCESS_CONTROL: &str = "access-control-";

/// Headers that the gateway needs. [`RequestHeaders::with_removed`] refuses them.
static NEEDED: [&HeaderName; 7] = [
    &AUTHORIZATION,
    &CONTENT_LENGTH,
    &CONTENT_TYPE,
    &COOKIE,
    &HOST,
    &PRIVATE_TOKEN,
    &TRANSFER_ENCODING,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Only the gateway may set the header. [`RequestHeaders::with_kept`] refuses its name.
    Gateway,
    /// A header with exactly this name is an ordinary header. The gateway always removes other spellings of the name.
    Spelling,
    /// The gateway removes the header, unless [`RequestHeaders::with_kept`] keeps it for the service.
    Listed,
}

struct Entry {
    name: &'static str,
    class: Class,
}

impl Entry {
    const fn new(name: &'static str, class: Class) -> Self {
        Self { name, class }
    }
}

/// The removed headers, sorted by the length of their names.
static TABLE: [Entry; 88] = [
    Entry::new("proxy", Class::Listed),
    Entry::new("origin", Class::Listed),
    Entry::new("iv-user", Class::Listed),
    Entry::new("sm-user", Class::Listed),
    Entry::new("iv-creds", Class::Listed),
    Entry::new("iv-groups", Class::Listed),
    Entry::new("iv-user-l", Class::Listed),
    Entry::new("sm-userdn", Class::Listed),
    Entry::new("x-real-ip", Class::Listed),
    Entry::new("keep-alive", Class::Spelling),
    Entry::new("oidc-token", Class::Gateway),
    Entry::new("x-ssl-cert", Class::Listed),
    Entry::new("client-cert", Class::Gateway),
    Entry::new("remote-user", Class::Listed),
    Entry::new("x-client-ip", Class::Listed),
    Entry::new("x-remote-ip", Class::Listed),
    Entry::new("x-saf-token", Class::Gateway),
    Entry::new("x-proxy-user", Class::Listed),
    Entry::new("private-token", Class::Spelling),
    Entry::new("sm-usergroups", Class::Listed),
    Entry::new("x-client-cert", Class::Listed),
    Entry::new("x-http-method", Class::Listed),
    Entry::new("x-remote-addr", Class::Listed),
    Entry::new("x-remote-user", Class::Listed),
    Entry::new("x-rewrite-url", Class::Listed),
    Entry::new("content-length", Class::Spelling),
    Entry::new("sm-universalid", Class::Listed),
    Entry::new("true-client-ip", Class::Listed),
    Entry::new("x-original-uri", Class::Listed),
    Entry::new("x-original-url", Class::Listed),
    Entry::new("x-remote-group", Class::Listed),
    Entry::new("x-webauth-user", Class::Listed),
    Entry::new("front-end-https", Class::Listed),
    Entry::new("ssl-client-cert", Class::Listed),
    Entry::new("ssl-client-i-dn", Class::Listed),
    Entry::new("ssl-client-s-dn", Class::Listed),
    Entry::new("x-forwarded-ssl", Class::Listed),
    Entry::new("x-forwarded-uri", Class::Listed),
    Entry::new("x-original-host", Class::Listed),
    Entry::new("x-remote-groups", Class::Listed),
    Entry::new("x-ssl-client-cn", Class::Listed),
    Entry::new("x-ssl-client-dn", Class::Listed),
    Entry::new("cf-connecting-ip", Class::Listed),
    Entry::new("fastly-client-ip", Class::Listed),
    Entry::new("proxy-connection", Class::Spelling),
    Entry::new("x-arr-clientcert", Class::Listed),
    Entry::new("x-forwarded-path", Class::Listed),
    Entry::new("x-forwarded-user", Class::Listed),
    Entry::new("x-originating-ip", Class::Listed),
    Entry::new("client-cert-chain", Class::Listed),
    Entry::new("iv-remote-address", Class::Listed),
    Entry::new("ssl-client-verify", Class::Listed),
    Entry::new("transfer-encoding", Class::Spelling),
    Entry::new("x-forwarded-email", Class::Listed),
    Entry::new("x-method-override", Class::Listed),
    Entry::new("x-original-method", Class::Listed),
    Entry::new("x-ssl-client-cert", Class::Listed),
    Entry::new("x-ssl-client-i-dn", Class::Listed),
    Entry::new("x-ssl-client-s-dn", Class::Listed),
    Entry::new("proxy-authenticate", Class::Spelling),
    Entry::new("sm-serversessionid", Class::Listed),
    Entry::new("x-forwarded-groups", Class::Listed),
    Entry::new("x-forwarded-method", Class::Listed),
    Entry::new("x-forwarded-scheme", Class::Listed),
    Entry::new("x-forwarded-server", Class::Listed),
    Entry::new("proxy-authorization", Class::Spelling),
    Entry::new("x-auth-request-user", Class::Listed),
    Entry::new("x-cluster-client-ip", Class::Listed),
    Entry::new("x-ssl-client-verify", Class::Listed),
    Entry::new("x-zowe-auth-failure", Class::Gateway),
    Entry::new("ssl-client-issuer-dn", Class::Listed),
    Entry::new("x-auth-request-email", Class::Listed),
    Entry::new("x-authenticated-user", Class::Listed),
    Entry::new("x-client-certificate", Class::Listed),
    Entry::new("ssl-client-cert-chain", Class::Listed),
    Entry::new("ssl-client-subject-dn", Class::Listed),
    Entry::new("x-auth-request-groups", Class::Listed),
    Entry::new("x-envoy-original-path", Class::Listed),
    Entry::new("x-authenticated-userid", Class::Listed),
    Entry::new("x-http-method-override", Class::Listed),
    Entry::new("ssl-client-escaped-cert", Class::Listed),
    Entry::new("x-forwarded-client-cert", Class::Listed),
    Entry::new("x-forwarded-access-token", Class::Listed),
    Entry::new("x-auth-request-access-token", Class::Listed),
    Entry::new("x-forwarded-tls-client-cert", Class::Listed),
    Entry::new("x-forwarded-preferred-username", Class::Listed),
    Entry::new("x-forwarded-tls-client-cert-info", Class::Listed),
    Entry::new("x-auth-request-preferred-username", Class::Listed),
];

/// Every name in [`TABLE`] is shorter than this number of bytes.
const LENGTHS: usize = 64;

/// For each first letter, the lengths of the names in [`TABLE`], as a set of bits. If no name in the table has the
/// first letter and the length of a header, the names need no comparison. This is so for most headers.
static LENGTHS_BY_LETTER: [u64; 26] = {
    let mut lengths = [0; 26];
    let mut i = 0;
    while i < TABLE.len() {
        let name = TABLE[i].name.as_bytes();
        lengths[(name[0] - b'a') as usize] |= 1 << name.len();
        i += 1;
    }
    lengths
};

/// For each length, the index in [`TABLE`] of the first name with at least this length.
static FIRST_OF_LENGTH: [u8; LENGTHS + 1] = {
    let mut first = [0; LENGTHS + 1];
    let (mut length, mut i) = (0, 0);
    while length <= LENGTHS {
        while i < TABLE.len() && TABLE[i].name.len() < length {
            assert!(i == 0 || TABLE[i - 1].name.len() <= TABLE[i].name.len(), "not sorted");
            i += 1;
        }
        first[length] = i as u8;
        length += 1;
    }
    assert!(i == TABLE.len(), "a name is too long");
    first
};

/// Returns the class of a header, or `None` for an ordinary header.
fn class_of(name: &str) -> Option<Class> {
    let bytes = name.as_bytes();
    let (first, length) = (*bytes.first()?, bytes.len());
    let Some(lengths) = LENGTHS_BY_LETTER.get(usize::from(first.wrapping_sub(b'a'))) else {
        return starts_like(name, WEBSPHERE).then_some(Class::Gateway);
    };
    if first == b'x' && starts_like(name, X_CERTIFICATE) {
        return Some(Class::Gateway);
    }
    if first == b'a' && length > ACCESS_CONTROL.len() && starts_like(name, ACCESS_CONTROL) {
        return Some(Class::Listed);
    }
    if length >= LENGTHS || lengths >> length & 1 == 0 {
        return None;
    }
    let (start, end) = (FIRST_OF_LENGTH[length], FIRST_OF_LENGTH[length + 1]);
    let candidates = &TABLE[usize::from(start)..usize::from(end)];
    let entry = candidates.iter().find(|entry| same_for_cgi(name, entry.name))?;
    (entry.class != Class::Spelling || name != entry.name).then_some(entry.class)
}

fn starts_like(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| same_for_cgi(start, prefix))
}

fn has(names: &[HeaderName], name: &str) -> bool {
    names.iter().any(|other| same_for_cgi(name, other.as_str()))
}

/// Changes to the table of removed request headers (`docs/reference/request-headers.md`), for one service.
///
/// ```
/// use http::HeaderName;
/// use tower_passticket::layer::{RequestHeaderError, RequestHeaders};
///
/// let headers = RequestHeaders::default()
///     .with_removed(HeaderName::from_static("x-tenant"))?
///     .with_kept(HeaderName::from_static("x-real-ip"))?;
/// let certificate = HeaderName::from_static("x-certificate-public");
/// assert!(headers.with_kept(certificate).is_err());
/// # Ok::<(), RequestHeaderError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders {
    removed: Vec<HeaderName>,
    kept: Vec<HeaderName>,
}

impl RequestHeaders {
    /// Also removes the header `name`, in all its spellings.
    ///
    /// # Errors
    /// [`RequestHeaderError::Needed`] if the gateway needs the header, or [`RequestHeaderError::Contradictory`] if
    /// [`with_kept`](Self::with_kept) keeps the header.
    pub fn with_removed(mut self, name: HeaderName) -> Result<Self, RequestHeaderError> {
        if NEEDED.iter().any(|needed| same_for_cgi(name.as_str(), needed.as_str())) {
            return Err(RequestHeaderError::Needed(name));
        }
        if has(&self.kept, name.as_str()) {
            return Err(RequestHeaderError::Contradictory(name));
        }
        self.removed.push(name);
        Ok(self)
    }

    /// Keeps the header `name` of the table. The service receives the value that the client sent.
    ///
    /// # Errors
    /// [`RequestHeaderError::Reserved`] if only the gateway may set the header, or if `name` is another spelling of a
    /// header such as `Content-Length`. [`RequestHeaderError::NotListed`] if the table does not remove a header with
    /// this name. [`RequestHeaderError::Contradictory`] if [`with_removed`](Self::with_removed) removes the header.
    pub fn with_kept(mut self, name: HeaderName) -> Result<Self, RequestHeaderError> {
        match class_of(name.as_str()) {
            Some(Class::Listed) => {}
            Some(Class::Gateway | Class::Spelling) => {
                return Err(RequestHeaderError::Reserved(name));
            }
            None => return Err(RequestHeaderError::NotListed(name)),
        }
        if has(&self.removed, name.as_str()) {
            return Err(RequestHeaderError::Contradictory(name));
        }
        self.kept.push(name);
        Ok(self)
    }
}

/// Why [`RequestHeaders`] cannot remove or keep a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestHeaderError {
    /// Only the gateway may set this header, or the name is another spelling of a header such as `Content-Length`.
    #[error(
        "{0} is set by the gateway alone, so a client's header is never kept; delete the name from the list of kept headers"
    )]
    Reserved(HeaderName),
    /// The name is not in the table, so every service receives the header.
    #[error(
        "{0} is not in the table of removed headers, so every service receives it; delete the name from the list of kept headers"
    )]
    NotListed(HeaderName),
    /// The header is removed and kept, perhaps in two spellings.
    #[error("{0} is both removed and kept; remove the name from one of the two lists")]
    Contradictory(HeaderName),
    /// The gateway needs this header for routing, framing or authentication.
    #[error(
        "{0} cannot be removed from requests, because the gateway needs it; delete the name from the list of removed headers"
    )]
    Needed(HeaderName),
}

/// The headers that [`SanitizeLayer`](super::SanitizeLayer) removes.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// More headers that are removed for every service.
    others: Vec<HeaderName>,
    services: Vec<(ServiceId, RequestHeaders)>,
}

impl Policy {
    pub(super) fn add(&mut self, headers: impl IntoIterator<Item = HeaderName>) {
        self.others.extend(headers);
    }

    pub(super) fn set(&mut self, service: ServiceId, headers: RequestHeaders) {
        self.services.retain(|(other, _)| *other != service);
        self.services.push((service, headers));
    }

    /// Returns the changes for the service of `path`.
    pub(super) fn of_path(&self, path: &str) -> Option<&RequestHeaders> {
        if self.services.is_empty() {
            return None;
        }
        let id = service_of(path)?;
        self.services.iter().find(|(service, _)| service.as_str() == id).map(|(_, headers)| headers)
    }

    pub(super) fn removes(&self, name: &HeaderName, service: Option<&RequestHeaders>) -> bool {
        let name = name.as_str();
        let is_reserved = match class_of(name) {
            None => service.is_some_and(|changes| has(&changes.removed, name)),
            Some(Class::Listed) => !service.is_some_and(|changes| has(&changes.kept, name)),
            Some(Class::Gateway | Class::Spelling) => true,
        };
        is_reserved || has(&self.others, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/reference/request-headers.md");

    #[test]
    fn the_document_has_the_names_of_the_table() {
        let names = DOCUMENT.lines().filter(|line| line.starts_with("| "));
        let mut documented: Vec<_> =
            names.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
        let mut table: Vec<_> = TABLE.iter().map(|entry| entry.name).collect();
        table.extend(["x-certificate-*", "$ws*", "access-control-*"]);
        documented.sort_unstable();
        table.sort_unstable();
        assert_eq!(documented, table);
    }

    #[test]
    fn names_of_the_table_are_found_in_each_spelling() {
        for Entry { name, class } in &TABLE {
            let itself = (*class != Class::Spelling).then_some(*class);
            assert_eq!(class_of(name), itself, "{name}");
            for (from, to) in [("-", "_"), ("-", "."), ("-", "+"), ("-", "~"), ("-", "!")] {
                let spelling = name.replacen(from, to, 1);
                assert_eq!(class_of(&spelling), Some(*class), "{spelling}");
                let spelling = name.replace(from, to);
                assert_eq!(class_of(&spelling), Some(*class), "{spelling}");
            }
        }
        for name in [
            "x-certificate-public",
            "x.certificate.public",
            "x_certificate-x",
            "x~certificate~commonname",
            "$wsra",
            "_wsra",
        ] {
            assert_eq!(class_of(name), Some(Class::Gateway), "{name}");
        }
        for name in [
            "proxy",
            "origin",
            "access-control-request-method",
            "access.control_x",
            "ssl_client_escaped_cert",
            "x-forwarded-uri",
            "front+end+https",
        ] {
            assert_eq!(class_of(name), Some(Class::Listed), "{name}");
        }
        for name in [
            "accept",
            "accept-language",
            "access-control",
            "host",
            "content-length",
            "transfer-encoding",
            "private-token",
            "x-csrf-zosmf-header",
            "x-requested-with",
            "x-certificate",
            "x-certificates",
            "x-real-ip-2",
            "under_score",
            "x",
            "1",
            "$x",
        ] {
            assert_eq!(class_of(name), None, "{name}");
        }
        assert_eq!(class_of(&"x".repeat(300)), None);
    }

    #[test]
    fn a_service_can_keep_headers_of_the_table_and_remove_further_headers() {
        let name = |text| HeaderName::from_static(text);
        let changes = RequestHeaders::default()
            .with_removed(name("x-tenant"))
            .and_then(|changes| changes.with_kept(name("x-real-ip")))
            .and_then(|changes| changes.with_kept(name("x-remote-user")))
            .unwrap();
        let mut policy = Policy::default();
        policy.set(ServiceId::new("svc").unwrap(), changes);
        policy.add([name("x-remote-user")]);
        for (path, header, want) in [
            ("/svc/x", "x-real-ip", false),
            ("/svc", "x_real_ip", false),
            ("/svc/x", "x-tenant", true),
            ("/svc/x", "x.tenant", true),
            ("/svc/x", "x+tenant", true),
            ("/svc/x", "x+real+ip", false),
            ("/svc/x", "x+remote+user", true),
            ("/svc/x", "true-client-ip", true),
            // This service keeps the header, but `Policy::add` removes it for all services.
            ("/svc/x", "x-remote-user", true),
            ("/other/x", "x-real-ip", true),
            ("/other/x", "x-tenant", false),
            ("/SVC/x", "x-real-ip", true),
            ("*", "x-real-ip", true),
        ] {
            let changes = policy.of_path(path);
            assert_eq!(policy.removes(&name(header), changes), want, "{path} {header}");
        }
    }

    #[test]
    fn invalid_changes_are_rejected_with_the_reason() {
        let changes = RequestHeaders::default;
        for reserved in [
            "x-zowe-auth-failure",
            "x-certificate-commonname",
            "client-cert",
            "client_cert",
            "oidc-token",
            "$wsru",
            "content_length",
            "content+length",
            "private_token",
        ] {
            let name = HeaderName::from_static(reserved);
            let error = changes().with_kept(name.clone()).unwrap_err();
            assert_eq!(error, RequestHeaderError::Reserved(name));
        }
        let name = HeaderName::from_static("accept");
        let error = changes().with_kept(name.clone()).unwrap_err();
        assert_eq!(error, RequestHeaderError::NotListed(name));
        for (removed, kept) in [("x-real-ip", "x-real-ip"), ("x_real.ip", "x-real-ip")] {
            let [removed, kept] = [removed, kept].map(HeaderName::from_static);
            let error = changes().with_removed(removed.clone()).unwrap().with_kept(kept.clone());
            assert_eq!(error.unwrap_err(), RequestHeaderError::Contradictory(kept.clone()));
            let error = changes().with_kept(kept).unwrap().with_removed(removed.clone());
            assert_eq!(error.unwrap_err(), RequestHeaderError::Contradictory(removed));
        }
        for needed in NEEDED {
            let error = changes().with_removed(needed.clone()).unwrap_err();
            assert_eq!(error, RequestHeaderError::Needed(needed.clone()));
        }
    }
}
