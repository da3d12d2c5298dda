//! Writes audit records in the Common Event Format (CEF), which ArcSight and many other SIEMs (security monitoring
//! systems) read.
//!
//! The source of the format, the escapes and the keys is Micro Focus, *ArcSight Common Event Format (CEF)
//! Implementation Standard* (docs/operating/audit.md#cef).

use std::{io::Write, net::IpAddr};

use super::{
    event::{CredentialKind, Event, Outcome},
    line::Plain,
    reason::ReasonCode,
    record::{AuditRecord, Detail, ExchangeDetail, name_of},
};
use crate::{
    clock::Timestamp, identity::Fingerprint, passticket::SafReturnCodes, revocation::Evicted,
};

/// The device in the lines of the Common Event Format: the program that writes the lines, and the machine on which it
/// runs.
///
/// One line is one record:
///
/// ```
/// use tower_passticket::{
///     audit::{AuditRecord, CefDevice, Event, ReasonCode},
///     clock::Timestamp,
///     passticket::UserId,
/// };
///
/// let device = CefDevice::new("Example", "gateway", "1.2").with_host("gw1.example.com");
/// let time = Timestamp::from_secs(1_800_000_000);
/// let record = AuditRecord::failed(Event::Login, ReasonCode::WrongPassword, time)
///     .with_user(UserId::new("USER")?);
/// assert_eq!(
///     device.line(&record),
///     "CEF:0|Example|gateway|1.2|login|Login|5|rt=1800000000000 dvchost=gw1.example.com act=refused \
///      outcome=failure reason=wrong-password suser=USER suid=USER",
/// );
/// # Ok::<(), tower_passticket::passticket::NameError>(())
/// ```
///
/// A text of a client cannot end a line or begin a field: in the value of a field, `\`, `=` and the ends of lines are
/// escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CefDevice {
    /// `CEF:0|vendor|product|version|`.
    header: Box<str>,
    host: Option<Box<str>>,
}

impl CefDevice {
    /// Creates the device from the vendor, the name and the version of the program.
    pub fn new(vendor: &str, product: &str, version: &str) -> Self {
        let mut header = b"CEF:0|".to_vec();
        for field in [vendor, product, version] {
            write_header_field(&mut header, field);
            header.push(b'|');
        }
        let header = String::from_utf8(header).expect("the fields and the escapes are UTF-8");
        Self { header: header.into(), host: None }
    }

    /// Sets the name of the machine (`dvchost`).
    #[must_use]
    pub fn with_host(self, host: &str) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// Returns the line of a record, without a newline.
    pub fn line(&self, record: &AuditRecord) -> String {
        let mut bytes = Vec::with_capacity(512);
        self.write_record(record, None, &mut bytes);
        String::from_utf8(bytes).expect("the values and the escapes are UTF-8")
    }

    /// Writes the line of a record. With a `count`, the line describes this number of requests, of which `record`
    /// describes the first.
    pub(super) fn write_record(
        &self,
        record: &AuditRecord,
        count: Option<u64>,
        bytes: &mut Vec<u8>,
    ) {
        let (name, of_success) = describe(record.event);
        let severity = match record.outcome {
            Outcome::Success => of_success,
            Outcome::Refused => 5,
            Outcome::Error => 7,
        };
        self.begin(record.event.as_str(), name, severity, record.time, bytes);
        let mut line = Extension { bytes };
        line.plain("act", record.outcome.as_str());
        line.plain("outcome", outcome(record.outcome));
        line.plain_if_any("reason", record.reason.map(ReasonCode::as_str));
        line.number_if_any("cnt", count);
        line.plain_if_any("externalId", record.request_id);
        line.addresses(record);
        if let Some(gateway) = &record.gateway {
            line.text("PassticketProxyGateway", gateway.subject());
        }
        if let Some(request) = &record.request {
            line.text("requestMethod", request.method());
            line.text("request", request.path());
        }
        line.users(record);
        line.plain_if_any("destinationServiceName", record.service.as_ref());
        let credential = record.credential.map(CredentialKind::as_str);
        line.labelled("cs1", "Credential", credential);
        line.labelled("cs2", "APPLID", record.applid);
        line.labelled("cs3", "Token SHA-256", record.token_id);
        line.labelled("cs4", "Issued token SHA-256", record.issued_token_id);
        if let Some(certificate) = &record.certificate {
            line.labelled_text("cs5", "Certificate subject", certificate.subject());
            let sha256 = Fingerprint::from(*certificate.sha256());
            line.labelled("cs6", "Certificate SHA-256", Some(sha256));
        }
        if let Some(SafReturnCodes { saf, racf, reason }) = record.codes {
            line.labelled_number("cn1", "SAF return code", saf.into());
            line.labelled_number("cn2", "RACF return code", racf.into());
            line.labelled_number("cn3", "RACF reason code", reason.into());
        }
        if let Some(detail) = &record.detail {
            line.detail(detail);
        }
    }

    /// Writes a line that reports `count` dropped records.
    pub(super) fn write_gap(&self, time: Timestamp, count: u64, bytes: &mut Vec<u8>) {
        self.begin("dropped", "Audit records dropped", 8, time, bytes);
        Extension { bytes }.number_if_any("cnt", Some(count));
    }

    fn begin(
        &self,
        event: &'static str,
        name: &'static str,
        severity: u8,
        time: Timestamp,
        bytes: &mut Vec<u8>,
    ) {
        // Writing to a Vec cannot fail.
        let _ = write!(bytes, "{}{event}|{name}|{severity}|rt={}", self.header, time.as_millis());
        if let Some(host) = &self.host {
            Extension { bytes }.text("dvchost", host);
        }
    }
}

/// Returns the name of an event, and its severity if it succeeds. CEF calls the severities 0 to 3 low, 4 to 6 medium, 7
/// and 8 high. The severity of a success is 3 if a client acts for another user or through a technical user, if a
/// Personal Access Token or a revocation rule is made, replaced or revoked, or if the gateway stops or resumes
/// PassTickets. For all other events, it is 1 or 2.
///
/// A new event needs an arm here, a record in the tests below, and a line in `cef.golden`.
const fn describe(event: Event) -> (&'static str, u8) {
    match event {
        Event::Authentication => ("Authentication", 1),
        Event::Ticket => ("PassTicket", 1),
        Event::Scheme => ("Credential for a service", 1),
        Event::TechnicalUser => ("Technical user", 3),
        Event::DelegatedTicket => ("Delegated PassTicket", 3),
        Event::TokenExchange => ("Token exchanged for a PassTicket", 3),
        Event::Login => ("Login", 2),
        Event::Logout => ("Logout", 2),
        Event::WebSocketClosed => ("WebSocket closed", 2),
        Event::Refresh => ("Login token refreshed", 2),
        Event::TokenMinted => ("Personal Access Token issued", 3),
        Event::TokenRotated => ("Personal Access Token rotated", 3),
        Event::TokenChanged => ("Personal Access Token renamed", 2),
        Event::TokenRevoked => ("Personal Access Token revoked", 3),
        Event::RuleMade => ("Revocation rule made", 3),
        Event::Evicted => ("Expired revocations removed", 2),
        Event::Registration => ("Registration of an instance", 2),
        Event::TicketsStopped => ("PassTickets stopped", 3),
        Event::TicketsResumed => ("PassTickets resumed", 3),
    }
}

/// Returns the value of `outcome`, which must be `success` or `failure` in CEF. The field `act` shows whether a failure
/// is a refusal or an error.
const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Refused | Outcome::Error => "failure",
    }
}

/// The extension of a line under construction: fields `key=value`, separated by spaces. The line already has a field,
/// so each further field begins with a space.
struct Extension<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Extension<'_> {
    fn key(&mut self, key: &'static str) {
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
    }

    /// Writes the label of the custom field `key`. Its key is `key` with `Label` appended.
    fn label(&mut self, key: &'static str, label: &'static str) {
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"Label=");
        self.bytes.extend_from_slice(label.as_bytes());
    }

    /// Writes a value that needs no escapes. Types that implement [`Plain`] need no escapes in JSON. In CEF, only a
    /// scope needs an escape, because it can contain `=`. So scopes are written with [`text`](Self::text).
    fn plain(&mut self, key: &'static str, value: impl Plain) {
        self.key(key);
        value.write(self.bytes);
    }

    fn plain_if_any(&mut self, key: &'static str, value: Option<impl Plain>) {
        if let Some(value) = value {
            self.plain(key, value);
        }
    }

    fn number_if_any(&mut self, key: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.key(key);
            // Writing to a Vec cannot fail.
            let _ = write!(self.bytes, "{number}");
        }
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        write_value(self.bytes, text);
    }

    fn labelled(&mut self, key: &'static str, label: &'static str, value: Option<impl Plain>) {
        if let Some(value) = value {
            self.label(key, label);
            self.plain(key, value);
        }
    }

    fn labelled_text(&mut self, key: &'static str, label: &'static str, text: &str) {
        self.label(key, label);
        self.text(key, text);
    }

    fn labelled_number(&mut self, key: &'static str, label: &'static str, number: u64) {
        self.label(key, label);
        self.number_if_any(key, Some(number));
    }

    /// Writes the address of the client, and the port if the client is the peer. If a proxy has announced the client,
    /// also writes the address and the port of this proxy.
    fn addresses(&mut self, record: &AuditRecord) {
        let peer = record.peer.map(|peer| (peer.ip().to_canonical(), peer.port()));
        match (record.client, peer) {
            (Some(client), peer) => {
                self.source(client.ip());
                if let Some((ip, port)) = peer {
                    self.text("PassticketProxyPeer", &format!("{ip}:{port}"));
                }
            }
            (None, Some((ip, port))) => {
                self.source(ip);
                self.number_if_any("spt", Some(port.into()));
            }
            (None, None) => {}
        }
    }

    /// Writes the address of the client. In CEF, `src` is only for IPv4 addresses. An IPv6 address has the custom field
    /// `c6a2` with a label.
    fn source(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.text("src", &ip.to_string()),
            IpAddr::V6(ip) => {
                self.labelled_text("c6a2", "Source IPv6 Address", &ip.to_string());
            }
        }
    }

    /// Writes the users of a record. If the record has a token that names a person, `suser` is this person. Otherwise
    /// `suser` is the user. `suid` is always the z/OS user id. `duser` is the target of the record
    /// (`AuditRecord::target`). If the record has no target but has the token of a person, `duser` is the z/OS user id
    /// under which the person acts.
    fn users(&mut self, record: &AuditRecord) {
        match &record.subject {
            Some(token) => {
                self.text("suser", name_of(token));
                self.text("PassticketProxyTokenIssuer", token.issuer());
            }
            None => self.plain_if_any("suser", record.user),
        }
        self.plain_if_any("suid", record.user);
        let through = record.user.filter(|_| record.subject.is_some());
        self.plain_if_any("duser", record.target.or(through));
    }

    fn detail(&mut self, detail: &Detail) {
        match detail {
            Detail::Rule { kind, up_to } => {
                self.labelled("flexString1", "Kind of rule", Some(kind.as_str()));
                self.labelled_number("deviceCustomDate1", "Revoked up to", up_to.as_millis());
            }
            Detail::Minted { scopes, days } => {
                // A scope has no comma: in its path, a comma is written as `%2C`.
                let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
                self.labelled_text("flexString1", "Scopes", &scopes.join(","));
                self.labelled_number("flexNumber1", "Days", (*days).into());
            }
            Detail::AccessToken { id } => self.labelled("flexString1", "Token id", Some(*id)),
            Detail::Delegation { email } => {
                self.labelled_text("flexString1", "E-mail address", email.as_str());
            }
            Detail::Exchange(exchange) => {
                let ExchangeDetail { subject, actor_token, actors } = &**exchange;
                self.labelled("flexString1", "Subject token", subject.map(CredentialKind::as_str));
                self.labelled_text("flexString2", "Actors", &actor_list(actors));
                self.plain_if_any("PassticketProxyActorToken", *actor_token);
            }
            Detail::TechnicalUser { claim, value } => {
                self.labelled_text("flexString1", "Claim", claim);
                self.labelled_text("flexString2", "Value of the claim", value);
            }
            Detail::Evicted(Evicted { tokens, users, services }) => {
                let counts = format!("tokens: {tokens}, users: {users}, services: {services}");
                self.labelled_text("flexString1", "Removed revocations", &counts);
            }
            Detail::PasswordChange => self.labelled("flexString1", "New password", Some("true")),
            Detail::Registration { instance, why } => {
                self.labelled_text("flexString1", "Instance", instance);
                self.text("msg", why);
            }
            Detail::Scheme { name } => self.labelled_text("flexString1", "Scheme", name),
            Detail::Check { check } => self.text("msg", check),
        }
    }
}

/// Joins the names of actors. An identity provider may choose any names. So a comma and a backslash in a name are
/// escaped. Otherwise two different lists could have the same text.
fn actor_list(actors: &[Box<str>]) -> String {
    let escaped: Vec<_> =
        actors.iter().map(|actor| actor.replace('\\', "\\\\").replace(',', "\\,")).collect();
    escaped.join(", ")
}

/// Writes a field of the header. The bar and the backslash are escaped. A field of the header cannot have line ends, so
/// a character that may end a line becomes a space.
fn write_header_field(bytes: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '|' | '\\' => bytes.extend_from_slice(&[b'\\', c as u8]),
            c if may_end_line(c) => bytes.push(b' '),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Writes the value of an extension. CEF has escapes for the backslash, the equals sign, `\n` and `\r`. Some readers of
/// files also take other characters for the end of a line. CEF has no escapes for these characters, so each is written
/// as `\u` and its hexadecimal number. This is unambiguous, because each backslash of the text is doubled.
fn write_value(bytes: &mut Vec<u8>, text: &str) {
    let needs_escape = |c: char| matches!(c, '\\' | '=') || may_end_line(c);
    if !text.contains(needs_escape) {
        return bytes.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        match c {
            '\\' | '=' => bytes.extend_from_slice(&[b'\\', c as u8]),
            '\n' => bytes.extend_from_slice(b"\\n"),
            '\r' => bytes.extend_from_slice(b"\\r"),
            // Writing to a Vec cannot fail.
            c if may_end_line(c) => drop(write!(bytes, "\\u{:04x}", u32::from(c))),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Returns whether a reader may take the character for the end of a line: control characters, and the separators of
/// lines and paragraphs.
fn may_end_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::SocketAddr};

    use http::{Method, Uri};
    use proptest::prelude::*;
    use test_support::{pki, tickets::user};

    use super::*;
    use crate::{
        audit::{RequestLine, RuleKind},
        identity::{DistributedIdentity, EmailAddress, PeerCertificate},
        passticket::Applid,
        token::{
            ExternalClaims, ExternalToken, Scopes, ServiceId, TokenFingerprint, VerifiedToken,
        },
    };

    const TIME: Timestamp = Timestamp::from_millis(1_800_000_000_001);

    const GOLDEN: &str = include_str!("cef.golden");

    fn device() -> CefDevice {
        CefDevice::new("tower-passticket", "passticket-proxy", "1.0.0").with_host("gw1.example.com")
    }

    fn external(name: &str, issuer: &str) -> ExternalToken {
        let identity = DistributedIdentity::new(name, "registry").unwrap();
        let claims = ExternalClaims::new(identity, issuer, TIME);
        match VerifiedToken::external(b"token", claims) {
            VerifiedToken::External(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn gateway() -> PeerCertificate {
        PeerCertificate::from_der(pki::self_signed_with_name("Zowe Gateway")).unwrap()
    }

    /// Returns a typical record of an event.
    fn sample(event: Event) -> AuditRecord {
        let failed = |reason| AuditRecord::failed(event, reason, TIME);
        let succeeded = || AuditRecord::succeeded(event, TIME);
        let files = ServiceId::new("files").unwrap();
        let applid = Applid::new("ZOWEAPPL").unwrap();
        let (token, issued) = (TokenFingerprint::of("a"), TokenFingerprint::of("b"));
        let record = match event {
            Event::Authentication => failed(ReasonCode::NoCredential)
                .with_credential(CredentialKind::None)
                .with_service(&files),
            Event::Ticket => failed(ReasonCode::NotAuthorized)
                .with_credential(CredentialKind::LoginToken)
                .with_token_id(token)
                .with_user(user("USER"))
                .with_service(&files)
                .with_applid(applid)
                .with_codes(SafReturnCodes::NOT_AUTHORIZED),
            Event::Scheme => AuditRecord { gateway: Some(gateway()), ..succeeded() }
                .with_credential(CredentialKind::PersonalAccessToken)
                .with_user(user("USER"))
                .with_service(&files)
                .with_detail(Detail::Scheme { name: "zoweJwt" }),
            Event::TechnicalUser => succeeded()
                .with_credential(CredentialKind::ExternalToken)
                .with_token_id(token)
                .with_user(user("BATCHUSR"))
                .with_subject(&external("jane=doe@example.com", "https://idp.example.com"))
                .with_service(&files)
                .with_detail(Detail::TechnicalUser {
                    claim: "groups".into(),
                    value: "cn=batch".into(),
                }),
            Event::DelegatedTicket => succeeded()
                .with_credential(CredentialKind::Certificate)
                .with_user(user("APIMTST"))
                .with_target(user("JANE"))
                .with_applid(applid)
                .with_detail(Detail::Delegation {
                    email: EmailAddress::new("jane@example.com").unwrap(),
                }),
            Event::TokenExchange => succeeded()
                .with_credential(CredentialKind::Certificate)
                .with_token_id(token)
                .with_user(user("AGENT"))
                .with_target(user("JANE"))
                .with_applid(applid)
                .with_detail(Detail::Exchange(Box::new(ExchangeDetail {
                    subject: Some(CredentialKind::ExternalToken),
                    actor_token: Some(issued),
                    actors: vec!["AGENT".into(), "https://idp.example.com#svc".into()],
                }))),
            Event::Login => failed(ReasonCode::PasswordExpired)
                .with_credential(CredentialKind::Password)
                .with_user(user("USER"))
                .with_detail(Detail::PasswordChange),
            Event::Logout => succeeded().with_user(user("USER")).with_token_id(token),
            Event::WebSocketClosed => failed(ReasonCode::TokenExpired)
                .with_user(user("USER"))
                .with_token_id(token)
                .with_service(&files),
            Event::Refresh | Event::TokenRotated => succeeded()
                .with_user(user("USER"))
                .with_token_id(token)
                .with_issued_token_id(issued),
            Event::TokenMinted => {
                let scopes = Scopes::parse(["files", "jobs"]).unwrap();
                succeeded()
                    .with_user(user("USER"))
                    .with_issued_token_id(issued)
                    .with_detail(Detail::Minted { scopes, days: 90 })
            }
            Event::TokenChanged => succeeded()
                .with_user(user("USER"))
                .with_detail(Detail::AccessToken { id: "0a".repeat(16).parse().unwrap() }),
            Event::TokenRevoked => succeeded().with_user(user("ADMIN")).with_target(user("USER")),
            Event::RuleMade => {
                let up_to = Timestamp::from_secs(1_700_000_000);
                succeeded()
                    .with_user(user("ADMIN"))
                    .with_target(user("USER"))
                    .with_detail(Detail::Rule { kind: RuleKind::User, up_to })
            }
            Event::Evicted => {
                let mut evicted = Evicted::default();
                (evicted.tokens, evicted.users, evicted.services) = (3, 2, 1);
                succeeded().with_user(user("ADMIN")).with_detail(Detail::Evicted(evicted))
            }
            Event::Registration => failed(ReasonCode::RegistrationRefused)
                .with_service(&files)
                .with_detail(Detail::Registration {
                    instance: "evil:files:1\nCEF:0|x|y|1|login|Login|1|act=success".into(),
                    why: "another host".into(),
                }),
            Event::TicketsStopped => failed(ReasonCode::TicketRefused)
                .with_user(user("USER"))
                .with_applid(applid)
                .with_detail(Detail::Check { check: "compare the keys" }),
            Event::TicketsResumed => succeeded()
                .with_applid(applid)
                .with_detail(Detail::Check { check: "a ticket was accepted" }),
        };
        AuditRecord {
            peer: Some(SocketAddr::from(([192, 0, 2, 7], 555))),
            request: Some(RequestLine::new(&Method::GET, &Uri::from_static("/files/a=b|c"))),
            ..record
        }
    }

    /// `cef.golden` has a comment, one line for each event, and the line that reports dropped records.
    #[test]
    fn each_event_has_its_golden_line() {
        let lines: Vec<_> = GOLDEN.lines().filter(|line| !line.starts_with('#')).collect();
        let mut gap = Vec::new();
        device().write_gap(TIME, 7, &mut gap);
        let events = Event::ALL.iter().map(|event| device().line(&sample(*event)));
        let written: Vec<_> = events.chain([String::from_utf8(gap).unwrap()]).collect();
        let missing: Vec<_> =
            written.iter().filter(|line| !lines.contains(&line.as_str())).collect();
        assert!(
            missing.is_empty(),
            "src/audit/cef.golden does not have these lines; check them, and add or replace them:\n{}",
            missing.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
        );
        let unknown: Vec<_> =
            lines.iter().filter(|line| !written.iter().any(|it| it == *line)).collect();
        assert!(unknown.is_empty(), "src/audit/cef.golden has lines of no event: {unknown:#?}");
    }

    #[test]
    fn the_page_about_the_audit_log_names_each_event_and_each_key() {
        let page = include_str!("../../docs/operating/audit.md");
        for event in Event::ALL {
            assert!(page.contains(&format!("`{event}`")), "docs/operating/audit.md lacks {event}");
        }
        for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
            for (key, _) in parse(line).1 {
                let key = key.trim_end_matches("Label");
                assert!(page.contains(&format!("`{key}`")), "docs/operating/audit.md lacks {key}");
            }
        }
    }

    /// Splits a line into the seven fields of its header and the fields of its extension, and reverses the escapes. It
    /// shares no code with the writer.
    fn parse(line: &str) -> (Vec<String>, Vec<(String, String)>) {
        let (mut header, mut rest) = (vec![String::new()], line.chars());
        while header.len() < 8 {
            match rest.next().expect("a header has seven bars") {
                '\\' => header.last_mut().unwrap().push(rest.next().unwrap()),
                '|' => header.push(String::new()),
                c => header.last_mut().unwrap().push(c),
            }
        }
        header.pop();
        // Each unescaped equals sign ends a key. The key begins after the last space.
        let (mut chunks, mut escaped) = (vec![String::new()], false);
        for c in rest {
            match c {
                '=' if !escaped => chunks.push(String::new()),
                c => chunks.last_mut().unwrap().push(c),
            }
            escaped = c == '\\' && !escaped;
        }
        let mut fields = Vec::new();
        let mut key = chunks.remove(0);
        let last = chunks.len() - 1;
        for (i, chunk) in chunks.into_iter().enumerate() {
            let (value, next) = match i == last {
                true => (chunk.as_str(), ""),
                false => chunk.rsplit_once(' ').expect("a space is before each key"),
            };
            fields.push((key, unescape(value)));
            key = next.to_owned();
        }
        (header, fields)
    }

    fn unescape(value: &str) -> String {
        let mut text = String::new();
        let mut rest = value.chars();
        while let Some(c) = rest.next() {
            text.push(match c {
                '\\' => match rest.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    'u' => {
                        let digits: String = rest.by_ref().take(4).collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                    }
                    c => c,
                },
                c => c,
            });
        }
        text
    }

    fn value<'f>(fields: &'f [(String, String)], key: &str) -> Option<&'f str> {
        fields.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_field_of_a_record_has_a_key_of_its_own() {
        let certificate = PeerCertificate::from_der(pki::self_signed_with_name("a=b\\")).unwrap();
        let scopes = Scopes::parse(["a", "b"]).unwrap();
        for detail in [
            Detail::Rule { kind: RuleKind::User, up_to: Timestamp::from_millis(u64::MAX) },
            Detail::Minted { scopes, days: 90 },
            Detail::Evicted(Evicted::default()),
            Detail::PasswordChange,
            Detail::Scheme { name: "apiKey" },
            Detail::Check { check: "compare the keys" },
            Detail::TechnicalUser { claim: "a".into(), value: "b".into() },
            Detail::Exchange(Box::new(ExchangeDetail {
                subject: Some(CredentialKind::LoginToken),
                actor_token: Some(TokenFingerprint::of("c")),
                actors: vec!["a".into()],
            })),
            Detail::Delegation { email: EmailAddress::new("j@e").unwrap() },
            Detail::Registration { instance: "a:b:1\n".into(), why: "another host".into() },
        ] {
            let record = AuditRecord {
                client: Some("203.0.113.9".parse::<IpAddr>().unwrap().into()),
                gateway: Some(certificate.clone()),
                ..sample(Event::Ticket)
                    .with_certificate(&certificate)
                    .with_issued_token_id(TokenFingerprint::of("b"))
                    .with_target(user("OTHER"))
                    .with_subject(&external("jane", "i"))
                    .with_detail(detail)
            };
            let line = device().line(&record);
            let (header, fields) = parse(&line);
            assert_eq!(header[4..], ["ticket", "PassTicket", "5"]);
            let keys: HashSet<_> = fields.iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), fields.len(), "{line}");
            for (key, want) in [
                ("src", "203.0.113.9"),
                ("PassticketProxyPeer", "192.0.2.7:555"),
                ("PassticketProxyGateway", "CN=a=b\\\\"),
                ("suser", "jane"),
                ("suid", "USER"),
                ("duser", "OTHER"),
                ("cs5", "CN=a=b\\\\"),
            ] {
                assert_eq!(value(&fields, key), Some(want), "{line}");
            }
        }
    }

    #[test]
    fn different_lists_of_actors_have_different_lines() {
        let lists: [&[&str]; 6] =
            [&["a", "b"], &["a, b"], &["a\\", "b"], &["a\\, b"], &["a\\\\", "b"], &["a,", "b"]];
        let lines = lists.iter().map(|actors| {
            let actors = actors.iter().map(|actor| Box::from(*actor)).collect();
            let detail = ExchangeDetail { subject: None, actor_token: None, actors };
            device()
                .line(&sample(Event::TokenExchange).with_detail(Detail::Exchange(Box::new(detail))))
        });
        assert_eq!(lines.collect::<HashSet<_>>().len(), lists.len());
    }

    #[test]
    fn an_ipv6_client_has_the_second_custom_address() {
        let peer = "[2001:db8::1]:443".parse().ok();
        let record = AuditRecord { peer, ..AuditRecord::succeeded(Event::Login, TIME) };
        let line = device().line(&record);
        let want = " c6a2Label=Source IPv6 Address c6a2=2001:db8::1 spt=443";
        assert!(line.ends_with(want), "{line}");
    }

    #[test]
    fn the_fields_of_the_device_are_escaped() {
        let device = CefDevice::new("a|b", "c\\d", "1\n2").with_host("h\nact=x");
        let line = device.line(&AuditRecord::succeeded(Event::Logout, TIME));
        let want = "CEF:0|a\\|b|c\\\\d|1 2|logout|Logout|2|rt=1800000000001 dvchost=h\\nact\\=x act=success";
        assert!(line.starts_with(want), "{line}");
        assert_eq!(parse(&line).0[1..4], ["a|b", "c\\d", "1 2"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_text_of_a_client_cannot_begin_a_line_or_a_field(
            instance in "(\\PC|[\\x00-\\x20\\\\=|\u{85}\u{2028}\u{2029}]| act=|\\\\n){0,30}",
            why in "(\\PC|[\\x00-\\x20\\\\=|\u{85}\u{2028}\u{2029}]| act=|\\\\u0085){0,30}",
        ) {
            let detail = Detail::Registration {
                instance: instance.as_str().into(),
                why: why.as_str().into(),
            };
            let record = sample(Event::Registration).with_detail(detail);
            let line = device().line(&record);
            prop_assert!(!line.contains(may_end_line), "{:?}", line);
            let (header, fields) = parse(&line);
            prop_assert_eq!(&header[4], "registration");
            let keys: Vec<_> = fields.iter().map(|(key, _)| key.as_str()).collect();
            prop_assert_eq!(keys, [
                "rt", "dvchost", "act", "outcome", "reason", "src", "spt", "requestMethod", "request",
                "destinationServiceName", "flexString1Label", "flexString1", "msg",
            ]);
            // Each text can be read back, so different texts have different lines.
            prop_assert_eq!(value(&fields, "flexString1"), Some(instance.as_str()));
            prop_assert_eq!(value(&fields, "msg"), Some(why.as_str()));
            prop_assert_eq!(value(&fields, "request"), Some("/files/a=b|c"));
        }
    }

    #[test]
    fn the_name_of_a_person_cannot_name_another_user() {
        let name = "jane suid=IBMUSER act=success\\";
        let record = sample(Event::TechnicalUser).with_subject(&external(name, "i duser=IBMUSER"));
        let (_, fields) = parse(&device().line(&record));
        assert_eq!(value(&fields, "suser"), Some(name));
        assert_eq!(value(&fields, "suid"), Some("BATCHUSR"));
        assert_eq!(value(&fields, "duser"), Some("BATCHUSR"));
    }
}
