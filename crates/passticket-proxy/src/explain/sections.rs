//! Writes the sections from the route to the ticket.

use http::header;
use passticket_proxy::{
    config::{CertificateMapping, IdentityMapping, Logins},
    instant::Instant,
};
use serde_json::Value;
use tower_passticket::{
    audit::{CredentialKind, Event, Outcome, ReasonCode},
    clock::{Clock, SystemClock, Timestamp},
    layer::{
        Authentication, Candidate, CredentialChoice, CredentialPlace, Failure, Mode, Proof, Route,
    },
    passticket::{Applid, PassTicket, Replay, UserId},
    revocation::{CheckError, RevokedBy},
    token::{Scopes, ServiceId},
};

use super::{
    facts::Facts,
    mask::{basic, removed, without_tokens},
    report::{Report, Section},
    token_text::TokenText,
    words::{claim, on_failure, place, remedy},
};
use crate::stack::Step;

impl Facts<'_> {
    pub(super) fn route(&self, report: &mut Report) {
        let section = Section::Route;
        let prepared = self.prepared;
        report.fact(section, "method", "method", prepared.method().as_str());
        report.fact(section, "path", "path", without_tokens(prepared.uri().path()));
        let Some(route) = self.route_of() else {
            if let Some(rejection) = self.walked.rejection() {
                report.fact(section, "refused", "refused", rejection.to_string());
            }
            if let Some(discovery) = &self.config.discovery {
                report.fact(
                    section,
                    "note",
                    "note",
                    format!(
                        "{} services may be found in Eureka. This command does not read Eureka, so it knows only the \
                         routes of the configuration",
                        discovery.services.len()
                    ),
                );
            }
            return;
        };
        report.fact(section, "service", "service", route.service().as_str());
        report.fact(section, "gatewayPath", "gateway path", route.prefix());
        report.fact(section, "scheme", "scheme", route.scheme().name());
        if route.mode() == Mode::Observe {
            report.fact(section, "mode", "mode", "observe: decisions are not enforced");
        }
        report.fact(section, "onFailure", "on failure", on_failure(route.on_failure()));
        let instances = route.instances().map(|instances| instances.list());
        let instances = instances.iter().flat_map(|list| list.iter());
        let instances = instances.map(|instance| instance.upstream());
        let instances: Vec<_> =
            instances.map(|it| format!("{}://{}", it.scheme(), it.authority())).collect();
        report.list(section, "instances", "instances", instances);
        if let Some(captured) = &self.walked.captured {
            let (instance, uri) = (&captured.instance, &captured.head.uri);
            let scheme = instance.scheme_str().unwrap_or("http");
            let authority = instance.authority().map(|it| it.as_str()).unwrap_or_default();
            report.fact(
                section,
                "serviceUrl",
                "service URL",
                format!("{scheme}://{authority}{}", without_tokens(uri.path())),
            );
        }
        let received = self.seen(Step::Received).map(|seen| &seen.headers);
        let sanitized = self.seen(Step::Sanitized).map(|seen| &seen.headers);
        report.list(
            section,
            "removedHeaders",
            "headers removed",
            removed(received, sanitized).into_iter().map(|name| name.to_string()).collect(),
        );
    }

    fn candidates(&self) -> Vec<Candidate> {
        let Some(seen) = self.seen(Step::Routed) else { return Vec::new() };
        let Some(route) = self.route_of() else { return Vec::new() };
        let extensions = self.prepared.extensions();
        self.authenticator.candidates(&seen.headers, extensions, route)
    }

    fn token(&self) -> Option<TokenText> {
        let candidates = self.candidates();
        let chosen = candidates.iter().find(|it| it.choice == CredentialChoice::Evaluated)?;
        let headers = &self.seen(Step::Routed)?.headers;
        let text = self.authenticator.token_in(chosen.place, headers)?;
        TokenText::decode(text, |name| {
            let mut providers = self.config.oidc.iter();
            providers.any(|provider| provider.user_id_fields.iter().any(|field| field == name))
        })
    }

    pub(super) fn proof(&self) -> Option<Proof> {
        self.walked.traced.seen.iter().find_map(|seen| match &seen.authentication {
            Some(Authentication::Authenticated(authenticated)) => {
                Some(authenticated.proof().clone())
            }
            _ => None,
        })
    }

    pub(super) fn credential(&self, report: &mut Report) {
        let section = Section::Credential;
        if !self.prepared.notes.is_empty() {
            report.list(section, "notes", "note", self.prepared.notes.clone());
        }
        if let Some(error) = &self.prepared.handshake {
            report.fact(
                section,
                "handshake",
                "TLS handshake",
                format!("fails: the client certificate is not accepted: {error}"),
            );
        }
        let Some(route) = self.route_of() else { return };
        let candidates = self.candidates();
        let is = |choice| move |it: &&Candidate| it.choice == choice;
        let chosen = candidates.iter().find(is(CredentialChoice::Evaluated));
        match chosen {
            Some(chosen) => report.fact(section, "chosen", "chosen", place(chosen.place)),
            None if route.is_bypass() => {
                report.fact(section, "chosen", "chosen", "none: the scheme is bypass");
            }
            None => report.fact(section, "chosen", "chosen", "none"),
        }
        let others: Vec<_> = candidates
            .iter()
            .filter(|it| it.choice != CredentialChoice::Evaluated)
            .map(|it| format!("{}: {}", place(it.place), self.why_not(it, route)))
            .collect();
        report.list(section, "notChosen", "not chosen", others);
        if route.is_bypass() {
            return;
        }
        let failure = self.failure();
        let proof = self.proof();
        let is_verified = proof.is_some()
            || matches!(
                failure,
                Some(
                    Failure::Revocation(_)
                        | Failure::UserMismatch
                        | Failure::Identity(_)
                        | Failure::OutOfScope { .. }
                )
            );
        if let Some(kind) = self.kind() {
            report.fact(section, "kind", "kind", kind);
        }
        if let Some(token) = self.token() {
            let verified = if is_verified {
                "signature, issuer and dates are valid"
            } else {
                "NOT verified: the claims below are only what the token says"
            };
            report.fact(section, "verification", "verification", verified);
            report.fact(
                section,
                "issuer",
                "issuer",
                token.claim("iss").map_or("none", |issuer| issuer).to_owned(),
            );
            let key = token.key_id.clone().unwrap_or_else(|| "none".to_owned());
            let algorithm = token.algorithm.clone().unwrap_or_else(|| "none".to_owned());
            report.add(
                section,
                "keyId",
                "key id",
                key.clone().into(),
                vec![format!("{key} ({algorithm})")],
            );
            let texts = token.claims.iter().map(|(name, value)| claim(name, value)).collect();
            report.add(section, "claims", "claims", Value::Object(token.claims), texts);
        }
        if let Some(Proof::Certificate(certificate)) = &proof {
            report.fact(section, "subject", "subject", certificate.subject());
            report.fact(section, "certificateIssuer", "issuer", certificate.issuer());
            let end = Instant(certificate.not_after()).to_string();
            report.fact(section, "notAfter", "valid until", end);
        } else if let Some(certificate) =
            self.failed_record().and_then(|record| record.certificate.as_ref())
        {
            report.fact(section, "subject", "subject", certificate.subject());
            report.fact(section, "certificateIssuer", "issuer", certificate.issuer());
        }
        report.fact(section, "revocation", "revocation", self.revocation(failure, &proof));
        if let Some(text) = failure.filter(|_| proof.is_none()).map(ToString::to_string) {
            report.fact(section, "refused", "refused", text);
            let reason = self.failed_record().and_then(|record| record.reason);
            if let Some(remedy) = reason.and_then(remedy) {
                report.fact(section, "remedy", "what to do", remedy);
            }
        }
    }

    fn kind(&self) -> Option<&'static str> {
        let kind = self.record(|record| record.credential.is_some())?.credential?;
        (kind != CredentialKind::None).then(|| kind.as_str())
    }

    fn why_not(&self, candidate: &Candidate, route: &Route) -> &'static str {
        if candidate.choice == CredentialChoice::Later {
            return "another credential has precedence (docs/decisions.md#d6); only that one counts";
        }
        if route.is_bypass() {
            return "the scheme is bypass; the service gets it unchanged";
        }
        match candidate.place {
            CredentialPlace::Certificate => {
                "client certificates are off (apiml.security.x509.enabled)"
            }
            _ if route.scheme().name() == "x509" => {
                "the scheme x509 accepts only the client certificate"
            }
            CredentialPlace::Basic => {
                "clientBasic of the service is not verify, so a password does not count; only a Personal Access Token \
                 as the password does"
            }
            _ => "Personal Access Tokens are off (apiml.security.personalAccessToken.enabled)",
        }
    }

    fn revocation(&self, failure: Option<&Failure>, proof: &Option<Proof>) -> String {
        let where_from = if self.config.cluster.is_some() {
            " (by the file of this node; the other nodes were not asked)"
        } else if self.config.zowe.as_ref().is_some_and(|zowe| zowe.revocations.is_some())
            && !self.is_live
        {
            " (by the file of this gateway; the Caching Service of API ML was not asked, add --live)"
        } else {
            ""
        };
        let text = match failure {
            Some(Failure::Revocation(CheckError::Revoked(by))) => match by {
                RevokedBy::UserRule => {
                    let user = self.failed_record().and_then(|record| record.user);
                    let rule = user.and_then(|user| Some((user, self.store.rule_of_user(&user)?)));
                    match rule {
                        Some((user, up_to)) => format!(
                            "revoked by the rule for the user {user}: tokens up to {}",
                            Instant(up_to)
                        ),
                        None => "revoked by a rule for the user".to_owned(),
                    }
                }
                RevokedBy::ServiceRule => {
                    let rules: Vec<_> = self
                        .scopes()
                        .into_iter()
                        .filter_map(|id| Some((self.store.rule_of_service(&id)?, id)))
                        .map(|(up_to, id)| {
                            format!(
                                "the rule for the service {id}: tokens up to {}",
                                Instant(up_to)
                            )
                        })
                        .collect();
                    match rules.is_empty() {
                        true => "revoked by a rule for a service in its scope".to_owned(),
                        false => format!("revoked by {}", rules.join("; ")),
                    }
                }
                _ => "this token itself is revoked, by a request or by a logout".to_owned(),
            },
            Some(Failure::Revocation(CheckError::Unavailable)) => {
                "not decided: the revocations cannot be read".to_owned()
            }
            _ => match proof {
                Some(Proof::Jwt(_) | Proof::External(_)) => "the token is not revoked".to_owned(),
                Some(Proof::Pat(_)) => {
                    "neither the token, nor its user, nor a service in its scope is revoked"
                        .to_owned()
                }
                _ => return "not checked".to_owned(),
            },
        };
        text + where_from
    }

    fn scopes(&self) -> Vec<ServiceId> {
        let Some(token) = self.token() else { return Vec::new() };
        let items = token.claims.get("scopes").and_then(Value::as_array);
        let items: Vec<_> = items.into_iter().flatten().filter_map(Value::as_str).collect();
        Scopes::parse(items).map(|it| it.services().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn user(&self, report: &mut Report) {
        let section = Section::User;
        let Some(route) = self.route_of() else { return };
        if route.is_bypass() {
            return;
        }
        let proof = self.proof();
        let authenticated =
            self.walked.traced.seen.iter().find_map(|seen| match &seen.authentication {
                Some(Authentication::Authenticated(authenticated)) => Some(authenticated),
                _ => None,
            });
        let is_technical = authenticated.is_some_and(|it| it.technical_user().is_some());
        let mapping = match &proof {
            _ if is_technical => "a rule of technicalUsers, not the identity".to_owned(),
            Some(Proof::Certificate(_)) => self.certificate_mapping(),
            Some(Proof::External(_)) => self.identity_mapping(),
            Some(Proof::Jwt(_) | Proof::Pat(_)) => "the token names the user id".to_owned(),
            Some(Proof::Password) => self.password_check(),
            _ => match self.failure() {
                Some(Failure::Identity(_)) => match self.kind() {
                    Some("certificate") => self.certificate_mapping(),
                    _ => self.identity_mapping(),
                },
                Some(Failure::Password(_)) => self.password_check(),
                _ => String::new(),
            },
        };
        match authenticated {
            Some(authenticated) => {
                report.fact(section, "id", "user id", authenticated.user().as_str());
                if let Some(rule) = authenticated.technical_user() {
                    report.fact(
                        section,
                        "technicalUser",
                        "technical user",
                        format!("by the rule {} = {}", rule.claim(), rule.value()),
                    );
                }
            }
            None => {
                let claimed = self.failed_record().and_then(|record| record.user);
                let text = match claimed {
                    Some(user) => format!("none (the credential names {user})"),
                    None => "none".to_owned(),
                };
                report.add(
                    section,
                    "id",
                    "user id",
                    claimed.map_or(Value::Null, |user| user.as_str().into()),
                    vec![text],
                );
            }
        }
        if !mapping.is_empty() {
            report.fact(section, "mapping", "mapping", mapping);
        }
    }

    fn certificate_mapping(&self) -> String {
        match &self.config.certificate_mapping {
            CertificateMapping::CommonName => {
                "the common name (CN) of the certificate is the user id".to_owned()
            }
            CertificateMapping::File(_) => "the identities file".to_owned(),
            CertificateMapping::Zss(zss) => self.remote("ZSS", &zss.address.to_string()),
        }
    }

    fn identity_mapping(&self) -> String {
        match &self.config.identity_mapping {
            None => "none is configured".to_owned(),
            Some(IdentityMapping::File(_)) => "the identities file".to_owned(),
            Some(IdentityMapping::Zss(zss)) => self.remote("ZSS", &zss.address.to_string()),
        }
    }

    fn password_check(&self) -> String {
        match &self.config.logins {
            Logins::Zosmf(settings) => self.remote("z/OSMF", &settings.address.to_string()),
            Logins::Zss(address) => self.remote("ZSS", &address.to_string()),
            _ => "the users file".to_owned(),
        }
    }

    fn remote(&self, what: &str, address: &str) -> String {
        match self.is_live {
            true => format!("{what} at {address}"),
            false => format!("{what} at {address}, not asked; add --live"),
        }
    }

    pub(super) fn scope(&self, report: &mut Report) {
        let section = Section::Scope;
        let Some(route) = self.route_of() else { return };
        if let Some(Proof::Pat(pat)) = self.proof() {
            let scopes: Vec<_> = pat.scopes().iter().map(ToString::to_string).collect();
            report.list(section, "scopes", "scopes", scopes);
        } else if self.proof().is_none() {
            return;
        }
        let is_refused = matches!(self.failure(), Some(Failure::OutOfScope { .. }));
        let text = match (is_refused, self.proof()) {
            (true, _) => format!("the scopes do not permit this request to {}", route.service()),
            (false, Some(Proof::Pat(_))) => {
                format!("the scopes permit this request to {}", route.service())
            }
            _ => {
                "only Personal Access Tokens have scopes; this credential is valid for all services"
                    .to_owned()
            }
        };
        report.add(section, "permitted", "decision", (!is_refused).into(), vec![text]);
        if is_refused {
            let remedy = remedy(ReasonCode::OutOfScope).unwrap_or_default();
            report.fact(section, "remedy", "what to do", remedy);
        }
    }

    pub(super) fn saf(&self, report: &mut Report) {
        let section = Section::Saf;
        let file = self.config.saf_file.as_ref();
        for question in &self.walked.traced.questions {
            let profile = match &question.profile {
                None => "no profile protects the resource, so access is refused".to_owned(),
                Some(profile) => match profile.access {
                    Some(level) => format!("{} gives {} {level}", profile.name, question.user),
                    None => format!("{} does not list {}", profile.name, question.user),
                },
            };
            let decision = if question.is_granted { "granted" } else { "refused" };
            report.fact(section, "decision", "decision", decision);
            report.fact(section, "user", "user", question.user.as_str());
            report.fact(section, "class", "class", question.class.as_str());
            report.fact(section, "resource", "resource", question.resource.as_str());
            report.fact(section, "level", "level", question.level.to_string());
            report.add(
                section,
                "profile",
                "profile",
                question.profile.as_ref().map_or(Value::Null, |it| it.name.clone().into()),
                vec![profile],
            );
            if let Some(file) = file {
                report.fact(section, "file", "file", file.display().to_string());
            }
            if !question.is_granted {
                report.fact(
                    section,
                    "remedy",
                    "what to do",
                    format!(
                        "permit {} {} on {} in class {}, in this file and on z/OS (passticket-proxy esm passticket \
                         prints the commands)",
                        question.user, question.level, question.resource, question.class
                    ),
                );
            }
        }
        if self.walked.traced.questions.is_empty() && self.route_of().is_some() {
            let why = match self.seen(Step::Prepared).is_some() && self.failure().is_none() {
                true => "no check: the scheme makes no PassTicket with a key of the gateway",
                false => "no check: the request did not get this far",
            };
            report.fact(section, "decision", "decision", why);
        }
    }

    pub(super) fn ticket(&self, report: &mut Report) {
        let section = Section::Ticket;
        let Some(route) = self.route_of() else { return };
        let Some(applid) = self.applid() else {
            if !route.is_bypass() {
                report.fact(
                    section,
                    "made",
                    "PassTicket",
                    format!("none: the scheme is {}", route.scheme().name()),
                );
            }
            return;
        };
        report.fact(section, "applid", "APPLID", applid.as_str());
        if self.config.zowe_tickets.contains_key(&applid) {
            report.fact(section, "source", "source", "a running Zowe (source: zowe)");
        }
        let authorized = self.seen(Step::RateLimited).and_then(|seen| seen.authorized.as_ref());
        let user = authorized.map(|authorized| *authorized.user());
        if let Some(user) = user {
            self.key(&user, &applid, report);
        }
        let record = self.record(|record| record.event == Event::Ticket);
        let made = match (record, user) {
            (Some(record), _) if record.outcome == Outcome::Success => {
                let slot = user.and_then(|user| self.time_slot(&user, &applid));
                if let Some(slot) = slot {
                    report.fact(section, "timeSlot", "time slot", Instant(slot).to_string());
                }
                "made in memory and not sent. A running gateway keeps its own time slots"
            }
            (Some(_), _) => "not made",
            (None, _) => "not made: the request did not get this far",
        };
        report.fact(section, "made", "PassTicket", made);
        if let Some(record) = record.filter(|record| record.outcome != Outcome::Success) {
            if let Some(codes) = record.codes {
                report.fact(section, "codes", "SAF/RACF/reason", codes.to_string());
            }
            if let Some(text) = self.failure_text() {
                report.fact(section, "refused", "refused", text);
            }
            if let Some(remedy) = record.reason.and_then(remedy) {
                report.fact(section, "remedy", "what to do", remedy);
            }
        }
    }

    fn key(&self, user: &UserId, applid: &Applid, report: &mut Report) {
        let section = Section::Ticket;
        let Some(profile) = self.config.profiles.find(user, applid) else {
            if !self.config.zowe_tickets.contains_key(applid) {
                report.fact(section, "profile", "key profile", "none");
            }
            return;
        };
        report.fact(section, "profile", "key profile", profile.name());
        let now = profile.at(SystemClock.now());
        report.fact(section, "algorithm", "algorithm", now.algorithm().to_string());
        report.fact(section, "windowSeconds", "window (s)", now.window().as_secs());
        let replay = match now.replay() {
            Replay::Protected => "on: one PassTicket per second for the user",
            Replay::Allowed => "off",
        };
        report.fact(section, "replayProtection", "replay protection", replay);
        if let Some((next, from)) = profile.next_key() {
            let text = format!("{} from {} on", next.algorithm(), Instant(from));
            report.fact(section, "nextKey", "next key", text);
        }
    }

    /// Returns the second for which the PassTicket in the request was made.
    fn time_slot(&self, user: &UserId, applid: &Applid) -> Option<Timestamp> {
        let headers = &self.walked.captured.as_ref()?.head.headers;
        let (_, ticket) = basic(headers.get(header::AUTHORIZATION)?.to_str().ok()?)?;
        let ticket = PassTicket::parse(&ticket).ok()?;
        let profile = self.config.profiles.find(user, applid)?;
        let evaluated = profile.evaluate(user, &ticket, SystemClock.now()).ok()?;
        Some(evaluated.generated_at())
    }
}
