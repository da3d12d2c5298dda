//! Reads `components.passticket-proxy.loginThrottle`: the limits of failed logins.

use std::time::Duration;

use ipnet::IpNet;

use super::{
    problem::quote,
    reader::{Field, Section},
    trusted_proxies::{contains, parse_network},
};
use tower_passticket::api::{FailureLimit, LoginThrottleOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the section. A wrong value is reported, and the default is used instead.
pub(super) fn read(mut section: Section<'_>) -> LoginThrottleOptions {
    let mut options = LoginThrottleOptions::default();
    for (name, limit) in [
        ("userAndNetwork", &mut options.user_and_network),
        ("user", &mut options.user),
        ("network", &mut options.network),
    ] {
        read_limit(section.section(name), limit);
    }
    // The revocation file also stores the networks from which each user has logged in. A network is deleted 90 days
    // after the last login, so 90 is the maximum.
    let days = section.optional("knownNetworkDays").and_then(|field| field.number(1..=90));
    if let Some(days) = days.and_then(|days| u32::try_from(days).ok()) {
        options.known_for = DAY * days;
    }
    let exempt = section.optional("exempt").map(|field| field.one_or_more()).unwrap_or_default();
    section.finish();
    let exempt: Vec<_> = exempt.iter().filter_map(network).collect();
    options.with_exempt(move |client| contains(&exempt, client))
}

fn read_limit(mut section: Section<'_>, limit: &mut FailureLimit) {
    let free = section.optional("free").and_then(|field| field.number(1..=1_000_000));
    let wait = section.optional("longestWaitSeconds").and_then(|field| field.number(1..=86_400));
    section.finish();
    limit.free = free.and_then(|free| free.try_into().ok()).unwrap_or(limit.free);
    limit.longest_wait = wait.map_or(limit.longest_wait, Duration::from_secs);
}

fn network(field: &Field<'_>) -> Option<IpNet> {
    field.read(|text| {
        parse_network(text).ok_or_else(|| {
            format!(
                "{} is neither a network nor an address; write one like 192.0.2.0/24 or 2001:db8::1",
                quote(text)
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    fn options(text: &str) -> Result<LoginThrottleOptions, Vec<String>> {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let options = read(document.section(&report));
        match report.finish(Some(options)) {
            Ok((options, _)) => Ok(options),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn each_number_can_be_changed() {
        let defaults = format!("{:?}", LoginThrottleOptions::default());
        assert_eq!(format!("{:?}", options("{}").unwrap()), defaults);
        let changed = options(
            "userAndNetwork: {free: 1}\nuser: {free: 2, longestWaitSeconds: 3}\n\
             network: {longestWaitSeconds: 4}\nknownNetworkDays: 5\nexempt: 192.0.2.0/24\n",
        )
        .unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(changed.user_and_network, FailureLimit::new(1, seconds(3600)));
        assert_eq!(changed.user, FailureLimit::new(2, seconds(3)));
        assert_eq!(changed.network, FailureLimit::new(100, seconds(4)));
        assert_eq!(changed.known_for, seconds(5 * 86_400));
    }

    #[test]
    fn wrong_values_are_reported() {
        for (text, want) in [
            (
                "exempt: [192.0.2.0/33]",
                "exempt[0]: \"192.0.2.0/33\" is neither a network nor an address; write one like 192.0.2.0/24 or 2001:db8::1",
            ),
            ("user: {free: 0}", "user.free: \"0\" is not valid; write a number from 1 to 1000000"),
            (
                "knownNetworkDays: 91",
                "knownNetworkDays: \"91\" is not valid; write a number from 1 to 90",
            ),
            ("usr: {}", "usr: is an unknown key; did you mean user?"),
        ] {
            assert_eq!(options(text).unwrap_err(), [format!("z:1: {want}")], "{text}");
        }
    }
}
