//! Reads the file of technical users. The setting `components.passticket-proxy.technicalUsers` names this file. An
//! example is `crates/passticket-proxy/src/config/examples/technical-users.yml`.
//!
//! A technical user is a z/OS user id through which many persons use a service. A rule names a claim and a value. If
//! the token of a person has this value in this claim, the person acts through the technical user.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    configured_route::{ConfiguredRoute, ServiceScheme},
    oidc::OidcSettings,
    problem::{quote, shown_name, suggest},
    reader::{At, Field, Section},
};
use tower_passticket::{
    layer::{TechnicalUserError, TechnicalUserRule, TechnicalUsers},
    passticket::{Applid, UserId},
    saf::{Access, AccessLevel, FileSaf, Profile, SafProvider},
    token::{IssuerUrl, ServiceId},
};

/// The maximum number of rules. A rule for several services is counted once for each service.
const MAX_RULES: usize = 10_000;

/// The maximum number of claims that the rules of all services name for one issuer. The gateway looks for each of these
/// claims when it verifies a token.
const MAX_CLAIMS: usize = 64;

struct Rule<'a> {
    service: ServiceId,
    service_at: At<'a>,
    user_at: At<'a>,
    at: At<'a>,
    rule: TechnicalUserRule,
}

/// The other settings that the rules depend on.
pub(super) struct Known<'a> {
    /// The routes of all services, and the templates of the services that are found in Eureka.
    pub(super) routes: &'a [ConfiguredRoute],
    /// Whether `routes` has the routes of all services. This is `false` if a file of definitions is not valid YAML.
    pub(super) is_complete: bool,
    pub(super) providers: &'a mut [OidcSettings],
    /// The user ids that a rule must not name as technical users.
    pub(super) protected: &'a [UserId],
    /// All permissions in the file of `saf`.
    pub(super) permissions: &'a [Profile],
    pub(super) gateway: UserId,
    /// Returns whether another server than this gateway makes the PassTickets of an APPLID.
    pub(super) foreign: &'a dyn Fn(&Applid) -> bool,
}

/// Reads the file. Adds the claims and values that the rules name to the `kept_values` of the providers.
pub(super) fn read(
    mut root: Section<'_>,
    known: Known<'_>,
) -> BTreeMap<ServiceId, Arc<TechnicalUsers>> {
    let list = root.required("technicalUsers", "a list of rules");
    root.finish();
    let Some(list) = list else { return BTreeMap::new() };
    let mut rules: Vec<_> = list.items().iter().flat_map(rules_of).collect();
    if rules.len() > MAX_RULES {
        list.at.error(format_args!(
            "has {} rules (a rule counts once for each of its services); write at most {MAX_RULES}",
            rules.len()
        ));
        rules.truncate(MAX_RULES);
    }
    let permissions = FileSaf::new(known.permissions.iter().cloned());
    for rule in &rules {
        check(rule, &known, &permissions);
        let issuer = rule.rule.issuer();
        if let Some(provider) = known.providers.iter_mut().find(|it| it.issuer.as_str() == issuer) {
            let (claim, value) = (rule.rule.claim().to_string(), rule.rule.value().to_string());
            provider.kept_values.insert((claim, value));
        }
    }
    for provider in known.providers.iter() {
        let claims: BTreeSet<_> = provider.kept_values.iter().map(|(claim, _)| claim).collect();
        if claims.len() > MAX_CLAIMS {
            list.at.error(format_args!(
                "names {} claims of the issuer {}; write at most {MAX_CLAIMS} different claims",
                claims.len(),
                provider.issuer
            ));
        }
    }
    let mut services = BTreeMap::<ServiceId, Vec<Rule<'_>>>::new();
    for rule in rules {
        services.entry(rule.service.clone()).or_default().push(rule);
    }
    let services = services.into_iter().filter_map(|(service, rules)| {
        let users = TechnicalUsers::new(rules.iter().map(|rule| rule.rule.clone()));
        match users {
            Ok(users) => Some((service, Arc::new(users))),
            Err(error) => {
                // If some rules contradict each other, the error stays when further rules are added. So a binary search
                // finds the first rule that causes an error.
                let counts: Vec<_> = (1..=rules.len()).collect();
                let good = counts.partition_point(|n| {
                    TechnicalUsers::new(rules[..*n].iter().map(|rule| rule.rule.clone())).is_ok()
                });
                let at = rules.get(good).map_or(&list.at, |rule| &rule.at);
                let service = shown_name(service.as_str());
                match error {
                    // The claim and the value may be secrets that the operator wrote into the wrong setting, so `quote`
                    // hides a text that looks like key material.
                    TechnicalUserError::Duplicate(rule) => at.error(format_args!(
                        "is the second rule for the service {service} with this issuer, the claim {} and the value {}; \
                         keep one of the two rules",
                        quote(rule.claim()),
                        quote(rule.value())
                    )),
                    error => at.error(format_args!("for the service {service}: {error}")),
                }
                None
            }
        }
    });
    services.collect()
}

/// Reads an item of the list: a rule for one or several services.
fn rules_of<'a>(item: &Field<'a>) -> Vec<Rule<'a>> {
    let mut section = item.section();
    let issuer = section.required("issuer", "the issuer of an entry of oidc");
    let services = section.required("services", "the id of a service, or a list of ids");
    let claim = section.required("claim", "the name of a claim of the tokens, such as groups");
    let value = section.required("value", "the value that the claim has or contains");
    let user = section.required("user", "the user id of the technical user");
    section.finish();
    let issuer = issuer.and_then(|field| field.parse::<IssuerUrl>());
    let ids: Vec<_> = services.iter().flat_map(Field::one_or_more).collect();
    let ids = ids.into_iter().filter_map(|field| {
        if field.is_text("*") {
            field.at.error(
                "would be all services, also those that are added later; write the id of each service",
            );
            return None;
        }
        Some((field.parse::<ServiceId>()?, field.at))
    });
    let ids: Vec<_> = ids.collect();
    let user_id = user.as_ref().and_then(|field| field.parse::<UserId>());
    let (Some(claim), Some(value), Some(user)) = (claim, value, user) else { return Vec::new() };
    let (Some(claim), Some(value)) = (claim.text(), value.text()) else { return Vec::new() };
    let (Some(issuer), Some(user_id)) = (issuer, user_id) else { return Vec::new() };
    let rule = match TechnicalUserRule::new(issuer.as_str(), claim, value, user_id) {
        Ok(rule) => rule,
        Err(error) => {
            item.at.error(error);
            return Vec::new();
        }
    };
    let rule = |(service, service_at)| Rule {
        service,
        service_at,
        user_at: user.at.clone(),
        at: item.at.clone(),
        rule: rule.clone(),
    };
    ids.into_iter().map(rule).collect()
}

/// Reports a rule that does not fit the other settings.
fn check(rule: &Rule<'_>, known: &Known<'_>, permissions: &FileSaf) {
    let (issuer, user) = (rule.rule.issuer(), rule.rule.user());
    if !known.providers.iter().any(|provider| provider.issuer.as_str() == issuer) {
        let hint = suggest(issuer, known.providers.iter().map(|it| it.issuer.as_str()));
        rule.at.error(format_args!(
            "has the issuer {issuer}, which no entry of components.passticket-proxy.oidc has; write the issuer of an \
             entry{hint}"
        ));
    }
    if known.protected.contains(&user) {
        rule.user_at.error(format_args!(
            "is {user}, which is the gateway's own user or one of delegation.protectedUsers; write another technical \
             user"
        ));
    }
    let mut routes = known.routes.iter().filter(|route| *route.service() == rule.service);
    let mut schemes: Vec<_> = routes.by_ref().map(ConfiguredRoute::scheme).collect();
    if schemes.is_empty() && known.is_complete {
        let hint =
            suggest(rule.service.as_str(), known.routes.iter().map(|it| it.service().as_str()));
        let service = shown_name(rule.service.as_str());
        rule.service_at.error(format_args!("service {service} has no route{hint}"));
    }
    let is_ticket =
        |scheme: &ServiceScheme| matches!(scheme, ServiceScheme::HttpBasicPassTicket { .. });
    if let Some(other) = schemes.iter().find(|scheme| !is_ticket(scheme)) {
        rule.service_at.error(format_args!(
            "has the scheme {}; only services with httpBasicPassTicket can have technical users; remove the service \
             from this rule",
            other.name()
        ));
    }
    schemes.retain(is_ticket);
    let mut applids: Vec<_> = schemes.iter().filter_map(|scheme| scheme.applid()).collect();
    applids.retain(|applid| !(known.foreign)(applid));
    applids.sort_unstable();
    applids.dedup();
    for applid in applids {
        let resource = format!("IRRPTAUTH.{applid}.{user}");
        let (class, level) = ("PTKTDATA", AccessLevel::Update);
        let access = permissions.try_check_now(&known.gateway, class, &resource, level);
        if !matches!(access, Some(Ok(Access::Granted))) {
            rule.user_at.warning(format_args!(
                "is {user}, but the file of saf gives {} no UPDATE on {resource} in class PTKTDATA, so persons of this \
                 rule get no PassTicket; add this permission, or remove the rule",
                known.gateway
            ));
        }
    }
}
