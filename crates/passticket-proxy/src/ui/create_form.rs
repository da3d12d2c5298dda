//! The form for a new token.

use std::time::Duration;

use http::StatusCode;
use tower_passticket::{
    clock::Timestamp,
    messages::{self, ApiMessage, Template},
};

use super::{
    auth_client::{Expiry, TokenRequest},
    dates::{Date, rfc3339},
    fault::Fault,
    form::Form,
    service_choices::ServiceChoices,
    services::Services,
    texts::create as texts,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The numbers of days that the form offers. The form leaves out the numbers above the maximum validity.
const PRESETS: [u8; 4] = [7, 30, 60, 90];

/// The value of `expiry` if the user enters a date.
pub(super) const ON_DATE: &str = "date";

#[derive(Clone, Debug, Default)]
pub(super) struct CreateForm {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) services: ServiceChoices,
    pub(super) expiry: String,
    pub(super) date: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetimes {
    now: Timestamp,
    max_days: u8,
}

impl Lifetimes {
    pub(super) fn new(now: Timestamp, max_days: u8) -> Self {
        Self { now, max_days }
    }

    /// Returns the numbers of days that the form offers. The last one is the maximum.
    pub(super) fn presets(self) -> Vec<u8> {
        let mut days: Vec<_> = PRESETS.into_iter().filter(|days| *days < self.max_days).collect();
        days.push(self.max_days);
        days
    }

    /// Returns the number of days that is selected when the form opens.
    pub(super) fn default_days(self) -> u8 {
        self.max_days.min(30)
    }

    pub(super) fn earliest(self) -> Date {
        Date::of(self.now)
    }

    pub(super) fn latest(self) -> Date {
        Date::of(self.latest_time())
    }

    fn latest_time(self) -> Timestamp {
        self.now.plus(DAY * u32::from(self.max_days))
    }

    /// Returns the last second of a date, or the latest permitted time if that is earlier. Returns `None` if the date
    /// cannot be chosen.
    fn until(self, date: Date) -> Option<Timestamp> {
        let is_possible = self.earliest() <= date && date <= self.latest();
        is_possible.then(|| date.end().min(self.latest_time()))
    }
}

impl CreateForm {
    pub(super) fn empty(lifetimes: Lifetimes) -> Self {
        Self { expiry: lifetimes.default_days().to_string(), ..Self::default() }
    }

    pub(super) fn of(form: &Form) -> Self {
        Self {
            name: form.get("name").trim().to_owned(),
            description: form.get("description").trim().to_owned(),
            services: ServiceChoices::of(form),
            expiry: form.get("expiry").to_owned(),
            date: form.get("date").trim().to_owned(),
        }
    }

    /// Checks what the user has entered.
    ///
    /// # Errors
    /// All faults that this check finds, in the order of the fields. The auth API may find other faults.
    pub(super) fn check(
        &self,
        services: &Services,
        lifetimes: Lifetimes,
    ) -> Result<TokenRequest, Vec<Fault>> {
        let mut faults = Vec::new();
        faults.extend(check_label(&self.name, &self.description));
        let scopes = self.services.scopes(services).map_err(|found| faults.extend(found)).ok();
        let expiry = self.expiry(lifetimes).map_err(|fault| faults.push(fault)).ok();
        match (scopes, expiry) {
            (Some(scopes), Some(expiry)) if faults.is_empty() => Ok(TokenRequest {
                name: self.name.clone(),
                description: self.description.clone(),
                scopes,
                expiry,
            }),
            _ => Err(faults),
        }
    }

    fn expiry(&self, lifetimes: Lifetimes) -> Result<Expiry, Fault> {
        if self.expiry == ON_DATE {
            let time = Date::parse(&self.date).and_then(|date| lifetimes.until(date));
            return time.map(|time| Expiry::Until(rfc3339(time))).ok_or_else(|| {
                let (earliest, latest) = (lifetimes.earliest(), lifetimes.latest());
                Fault::new("date", texts::date_invalid(&earliest.to_string(), &latest.to_string()))
            });
        }
        let days = self.expiry.parse().ok().filter(|days| lifetimes.presets().contains(days));
        days.map(Expiry::Days).ok_or_else(|| Fault::new("expiry", texts::EXPIRY_MISSING))
    }
}

/// Checks the name and the description of a token. The auth API checks them again, and also refuses invisible
/// characters.
pub(super) fn check_label(name: &str, description: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    if name.is_empty() {
        faults.push(Fault::new("name", texts::NAME_MISSING));
    } else if name.chars().count() > 64 || name.chars().any(char::is_control) {
        faults.push(Fault::new("name", texts::NAME_INVALID));
    }
    if description.chars().count() > 256 || description.chars().any(char::is_control) {
        faults.push(Fault::new("description", texts::DESCRIPTION_INVALID));
    }
    faults
}

/// If an answer of the auth API is about a field of the form, returns this field, with a text for users.
pub(super) fn fault_of_answer(status: StatusCode, message: &ApiMessage) -> Option<Fault> {
    let text = message.text();
    // Several messages have the same number and the same text, so this compares their reasons.
    let is = |template: &'static Template| message.reason() == ApiMessage::new(template).reason();
    Some(match status {
        StatusCode::TOO_MANY_REQUESTS if is(&messages::TOO_MANY_PATS) => {
            Fault::new("services", texts::TOO_MANY_TOKENS)
        }
        // After the user opened the form, the administrator may have restricted the allowed scopes.
        StatusCode::FORBIDDEN if !is(&messages::CROSS_ORIGIN) => {
            Fault::new("services", format!("{} {text}", texts::NOT_ALLOWED))
        }
        StatusCode::BAD_REQUEST if text.contains("`name`") => {
            Fault::new("name", texts::NAME_INVALID)
        }
        StatusCode::BAD_REQUEST if text.contains("`description`") => {
            Fault::new("description", texts::DESCRIPTION_INVALID)
        }
        StatusCode::BAD_REQUEST if text.contains("`expiresAt`") => {
            Fault::new("expiry", texts::EXPIRY_MISSING)
        }
        StatusCode::BAD_REQUEST if text.contains("more scopes than fit") => {
            Fault::new("services", texts::TOO_MANY_SERVICES)
        }
        StatusCode::BAD_REQUEST => Fault::new("name", format!("{} {text}", texts::REFUSED)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tower_passticket::{
        api::{ListedService, SharedServices},
        token::ServiceId,
    };

    use super::*;
    use crate::ui::services::RoutePaths;

    /// 2027-01-15T08:00:00Z.
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn check(query: &str, max_days: u8) -> Result<TokenRequest, Vec<String>> {
        let services = ["a", "b"].map(|id| ListedService::new(ServiceId::new(id).unwrap()));
        let services = Services::current(&SharedServices::new(services), &RoutePaths::new(), None);
        let form = CreateForm::of(&Form::parse(query.as_bytes()).unwrap());
        let checked = form.check(&services, Lifetimes::new(NOW, max_days));
        checked.map_err(|faults| faults.into_iter().map(|it| it.field.into_owned()).collect())
    }

    #[test]
    fn a_complete_form_becomes_a_request() {
        let request = check("name=+x+&description=y&service=a&service=b&expiry=7", 90).unwrap();
        assert_eq!((request.name.as_str(), request.description.as_str()), ("x", "y"));
        assert_eq!(
            (request.scopes, request.expiry),
            (vec!["a".to_owned(), "b".to_owned()], Expiry::Days(7))
        );
        for (date, max_days, want) in [
            ("2027-01-20", 90, "2027-01-20T23:59:59Z"),
            ("2027-01-15", 90, "2027-01-15T23:59:59Z"),
            // The end of this date would be later than seven days from now.
            ("2027-01-22", 7, "2027-01-22T08:00:00Z"),
        ] {
            let query = format!("name=x&service=a&expiry=date&date={date}");
            assert_eq!(check(&query, max_days).unwrap().expiry, Expiry::Until(want.to_owned()));
        }
    }

    #[test]
    fn each_fault_names_its_field() {
        let long = "n".repeat(65);
        for (query, want) in [
            ("", &["name", "services", "expiry"][..]),
            ("name=x&service=c&expiry=7", &["services"]),
            ("service=a&path-a=/x", &["name", "path-a", "expiry"]),
            ("name=x&service=a&expiry=8", &["expiry"]),
            ("name=x&service=a&expiry=90", &["expiry"]),
            ("name=x&service=a&expiry=date", &["date"]),
            ("name=x&service=a&expiry=date&date=2027-01-14", &["date"]),
            ("name=x&service=a&expiry=date&date=2027-03-17", &["date"]),
            ("name=a%0ab&service=a&expiry=7", &["name"]),
            (&format!("name={long}&service=a&expiry=7"), &["name"]),
            (
                &format!("name=x&service=a&expiry=7&description={}", "n".repeat(257)),
                &["description"],
            ),
        ] {
            assert_eq!(check(query, 60).unwrap_err(), want, "{query}");
        }
    }

    #[test]
    fn the_presets_end_with_the_maximum() {
        for (max, want) in [(90, &[7, 30, 60, 90][..]), (45, &[7, 30, 45]), (7, &[7]), (1, &[1])] {
            let lifetimes = Lifetimes::new(NOW, max);
            assert_eq!(lifetimes.presets(), want);
            assert!(lifetimes.default_days() <= max);
        }
    }

    #[test]
    fn a_refusal_of_the_auth_api_is_a_fault_of_a_field() {
        let (bad, many, forbidden) =
            (StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN);
        let body = &messages::INVALID_PAT_BODY;
        for (status, template, detail, want) in [
            (bad, body, "`name` is not valid: it is too long", Some("name")),
            (bad, body, "`description` is not valid", Some("description")),
            (bad, body, "`expiresAt` is in the past", Some("expiry")),
            (bad, body, "there are more scopes than fit into one token", Some("services")),
            (bad, body, "x", Some("name")),
            (many, &messages::TOO_MANY_PATS, "50", Some("services")),
            (many, &messages::TOO_MANY_ATTEMPTS, "50", None),
            (forbidden, &messages::FORBIDDEN, "not allowed", Some("services")),
            (forbidden, &messages::CROSS_ORIGIN, "x", None),
            (StatusCode::SERVICE_UNAVAILABLE, body, "x", None),
        ] {
            let fault = fault_of_answer(status, &ApiMessage::new(template).with_detail(detail));
            assert_eq!(fault.as_ref().map(|fault| &*fault.field), want, "{status} {detail}");
        }
    }
}
