//! Writes the decisions of the layers into the [`Report`].

use http::Uri;
use passticket_proxy::config::{CertificateMapping, IdentityMapping, Logins};
use serde_json::{Value, json};
use tower_passticket::layer::{Mode, Proof, X_ZOWE_AUTH_FAILURE};

use super::{
    checks,
    facts::Facts,
    mask::{header_texts, removed, service_headers},
    report::{Report, Section},
};
use crate::stack::Step;

/// The first line of the explanation.
pub(super) struct Verdict {
    pub(super) is_positive: bool,
    pub(super) text: String,
}

pub(super) fn describe(facts: &Facts<'_>, report: &mut Report) -> Verdict {
    facts.route(report);
    facts.credential(report);
    facts.user(report);
    facts.scope(report);
    facts.saf(report);
    facts.ticket(report);
    let verdict = facts.verdict();
    facts.status(&verdict, report);
    verdict
}

impl Facts<'_> {
    fn verdict(&self) -> Verdict {
        let no = |text: String| Verdict { is_positive: false, text: format!("NO: {text}") };
        let yes = |text: String| Verdict { is_positive: true, text: format!("YES: {text}") };
        if let Some(error) = &self.prepared.handshake {
            return no(format!(
                "the TLS handshake fails, so the request never arrives: the client certificate is not accepted: {error}"
            ));
        }
        if self.walked.is_of_gateway() {
            return no(
                "the gateway answers this path itself (auth API, API ML endpoints or page), so no service gets the \
                 request"
                    .to_owned(),
            );
        }
        let Some(route) = self.route_of() else {
            let why = match self.walked.rejection() {
                Some(rejection) => rejection.to_string(),
                None => "the gateway answers the request itself".to_owned(),
            };
            return no(format!("the request reaches no service: {why}"));
        };
        let service = route.service();
        let user = self.seen(Step::RateLimited).and_then(|seen| seen.authorized.as_ref());
        let user = user.map(|authorized| *authorized.user());
        let who = user.or_else(|| self.failed_record()?.user);
        let who = who.map_or_else(|| "the client".to_owned(), |user| user.to_string());
        if self.failure_text().is_some() && !self.walked.not_asked.is_empty() {
            let servers: Vec<_> = self.walked.not_asked.iter().map(Uri::to_string).collect();
            return Verdict {
                is_positive: false,
                text: format!(
                    "UNDECIDED: the gateway would ask {}; add --live to ask",
                    servers.join(", ")
                ),
            };
        }
        if let Some(server) = self.undecided_revocation() {
            return Verdict {
                is_positive: false,
                text: format!(
                    "UNDECIDED: the gateway would ask {server} whether the Personal Access Token is revoked; add --live \
                     to ask"
                ),
            };
        }
        if route.is_bypass() {
            return match (self.walked.rejection(), &self.walked.captured) {
                (None, Some(_)) => yes(format!(
                    "{service} gets the request as the client sent it (scheme bypass); the gateway checks no credential"
                )),
                _ => no(format!("{service} gets no request: {}", self.why())),
            };
        }
        let made = || self.made();
        let applid = match self.applid() {
            Some(applid) => format!(" (APPLID {applid})"),
            None => String::new(),
        };
        if route.mode() == Mode::Observe {
            let decision = match self.failure_text() {
                None => format!("{service} would get {} for {who}{applid}", made()),
                Some(why) => format!("{service} would get nothing for {who}: {why}"),
            };
            return no(format!(
                "the mode of {service} is observe, so it gets the client's own credentials. In the mode enforce, \
                 {decision}"
            ));
        }
        let ready = self.seen(Step::Prepared).and_then(|seen| seen.ready.as_ref());
        let is_prepared = ready.is_some_and(|ready| ready.user().is_some());
        match is_prepared && self.walked.captured.is_some() {
            true => yes(format!("{service} gets {} for {who}{applid}", made())),
            false => {
                let made = made();
                let made = made.trim_start_matches("a ");
                no(format!("{service} gets no {made} for {who}{applid}: {}", self.why()))
            }
        }
    }

    /// Returns the address of API ML if the gateway would ask its Caching Service about the Personal Access Token of
    /// the request. Returns `None` after a failure. Also returns `None` with `--live`, because the command
    /// then asks the Caching Service itself.
    fn undecided_revocation(&self) -> Option<String> {
        if self.is_live || self.failure_text().is_some() {
            return None;
        }
        let zowe = self.config.zowe.as_ref().filter(|zowe| zowe.revocations.is_some())?;
        matches!(self.proof(), Some(Proof::Pat(_))).then(|| zowe.url.to_string())
    }

    fn made(&self) -> String {
        let scheme = self.route_of().map_or("", |route| route.scheme().name());
        match scheme {
            "httpBasicPassTicket" => "a PassTicket".to_owned(),
            "safIdt" => "a SAF identity token".to_owned(),
            "zoweJwt" => "a Zowe login token".to_owned(),
            "zosmf" => "a z/OSMF token".to_owned(),
            "x509" => "certificate headers".to_owned(),
            other => format!("a credential of the scheme {other}"),
        }
    }

    fn why(&self) -> String {
        match (self.failure_text(), self.walked.rejection()) {
            (Some(text), _) => text,
            (None, Some(rejection)) => rejection.to_string(),
            (None, None) => {
                format!("the gateway answers {}", self.walked.response.status())
            }
        }
    }

    fn status(&self, verdict: &Verdict, report: &mut Report) {
        let section = Section::Status;
        report.add(section, "positive", "", verdict.is_positive.into(), Vec::new());
        report.add(section, "verdict", "", verdict.text.clone().into(), Vec::new());
        let reason = self.failed_record().and_then(|record| record.reason);
        let reason = reason.map_or(Value::Null, |reason| reason.as_str().into());
        let texts = reason.as_str().map(str::to_owned).into_iter().collect();
        report.add(section, "reason", "reason", reason.clone(), texts);
        if let Some(user) = self.client_failure() {
            report.fact(section, "failureHeader", "failure header", user);
        }
        let removed_credentials = removed(
            self.seen(Step::Routed).map(|seen| &seen.headers),
            self.seen(Step::Authenticated).map(|seen| &seen.headers),
        );
        let removed_credentials = removed_credentials.iter().map(ToString::to_string).collect();
        report.list(section, "removedCredentials", "credentials removed", removed_credentials);
        if let Some(captured) = &self.walked.captured {
            let own = self.seen(Step::RateLimited).map(|seen| &seen.headers);
            let scheme = self.seen(Step::Prepared).map(|seen| &seen.headers);
            let headers = service_headers(&captured.head.headers, own, scheme);
            let texts = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let value = headers.iter().map(|(name, value)| json!([name, value])).collect();
            report.add(section, "serviceHeaders", "service receives", value, texts);
        } else if !self.walked.is_of_gateway() {
            report.add(
                section,
                "serviceHeaders",
                "service receives",
                Value::Null,
                vec!["nothing: the gateway answers the request itself".to_owned()],
            );
        }
        let response = &self.walked.response;
        if self.prepared.handshake.is_none() && !self.walked.is_of_gateway() {
            let is_forwarded = self.walked.captured.is_some();
            let status = response.status();
            let text = match is_forwarded {
                true => "the status of the service".to_owned(),
                false => status.to_string(),
            };
            let value = if is_forwarded { Value::Null } else { status.as_u16().into() };
            report.add(section, "clientStatus", "client receives", value, vec![text]);
            let texts = header_texts(response.headers());
            report.list(section, "clientHeaders", "headers added", texts);
        }
        let not_asked: Vec<_> = self
            .walked
            .not_asked
            .iter()
            .map(|uri| format!("{uri}{}: not asked; add --live", self.role(uri)))
            .collect();
        report.list(section, "notAsked", "servers", not_asked);
        let user = self.seen(Step::RateLimited).and_then(|seen| seen.authorized.as_ref());
        let is_ticket = self.seen(Step::Prepared).is_some() || reason != Value::Null;
        let checks = match (user, self.applid()) {
            (Some(authorized), Some(applid)) if is_ticket => {
                checks::for_ticket(self.config, authorized.user(), &applid)
            }
            _ => Vec::new(),
        };
        report.list(section, "checks", "check on z/OS", checks);
        report.list(section, "limits", "not explained", self.limits());
    }

    /// Returns what this command cannot know.
    fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        if self.route_of().is_some_and(|route| route.rate_limit().is_some()) {
            limits.push(
                "the rate limit of the service: only the running gateway counts requests"
                    .to_owned(),
            );
        }
        if self.config.cluster.is_some() {
            limits.push("revocations of other nodes after the last write of this node".to_owned());
        }
        if self.walked.captured.is_some() {
            limits.push("the health of the instances, and the answer of the service".to_owned());
        }
        limits
    }

    /// Returns the value of `X-Zowe-Auth-Failure` in the response.
    fn client_failure(&self) -> Option<String> {
        let value = self.walked.response.headers().get(&X_ZOWE_AUTH_FAILURE)?;
        Some(value.to_str().ok()?.to_owned())
    }

    /// Returns what the gateway would ask the server at `uri`.
    fn role(&self, uri: &Uri) -> &'static str {
        let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
        let is = |address: String| {
            let other: Option<Uri> = address.parse().ok();
            other.and_then(|other| Some(other.authority()?.as_str() == authority)).unwrap_or(false)
        };
        let config = self.config;
        if config.oidc.iter().any(|provider| is(provider.jwks.to_string())) {
            " (keys of an identity provider)"
        } else if config.zowe.as_ref().is_some_and(|zowe| is(zowe.url.to_string())) {
            " (API ML: its keys, its revocations or a PassTicket)"
        } else if matches!(&config.certificate_mapping, CertificateMapping::Zss(zss) if is(zss.address.to_string()))
        {
            " (ZSS: the user id of the certificate)"
        } else if matches!(&config.identity_mapping, Some(IdentityMapping::Zss(zss)) if is(zss.address.to_string()))
        {
            " (ZSS: the user id of the identity)"
        } else if matches!(&config.logins, Logins::Zosmf(zosmf) if is(zosmf.address.to_string())) {
            " (z/OSMF: its keys, a password or a token)"
        } else if matches!(&config.logins, Logins::Zss(address) if is(address.to_string())) {
            " (ZSS: a password)"
        } else {
            ""
        }
    }
}
