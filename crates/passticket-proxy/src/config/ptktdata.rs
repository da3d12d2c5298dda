//! Reads the PassTicket keys: `components.passticket-proxy.ptktdata`.
//!
//! A PassTicket is a short-lived password of z/OS for one application. Each entry is for one APPLID. An APPLID is the
//! name of a z/OS application in the security product. RACF, IBM's security product, has the same data in profiles of
//! class `PTKTDATA`. Further entries of an APPLID can have other keys for a user or for a group (qualified profiles).

use std::{collections::BTreeMap, time::Duration};

use zeroize::Zeroizing;

#[cfg(not(feature = "pkcs11"))]
use super::no_token_key::{ConfiguredTokenKey, Tokens};
#[cfg(feature = "pkcs11")]
use super::token_key::{ConfiguredTokenKey, Tokens};
use super::{
    crypto_policy::CryptoPolicy,
    environment::Environment,
    problem::{looks_like_key_material, may_contain_secret, quote},
    qualifier,
    reader::{At, Field, Section},
    zowe_peer::ZowePeer,
};
use crate::instant::Instant;
#[cfg(feature = "pkcs11")]
use tower_passticket::passticket::EnhancedType;
use tower_passticket::{
    clock::Timestamp,
    passticket::{Algorithm, Applid, KeyProfile, MAX_WINDOW, Replay},
    ticket_breaker::TicketLimits,
};

/// The place of the first entry of each APPLID. The map also contains entries with a wrong PassTicket key. Otherwise
/// the gateway would report a second error: that the routes with this APPLID have no PassTicket key.
pub(super) type Entries<'a> = BTreeMap<Applid, At<'a>>;

/// The APPLIDs whose PassTickets come from a running Zowe (`source: zowe`), and their replay protection.
pub(super) type ZoweApplids = BTreeMap<Applid, Replay>;

pub(super) struct PtktData<'a> {
    pub(super) entries: Entries<'a>,
    pub(super) profiles: Vec<KeyProfile>,
    pub(super) zowe: ZoweApplids,
    /// The keys of `profiles` that are in PKCS#11 tokens.
    pub(super) token_keys: Vec<ConfiguredTokenKey>,
    pub(super) limits: TicketLimits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Key,
    Zowe,
}

/// Reports an error if PassTickets come from a running Zowe, but settings for this are missing. `zowe` is the place of
/// these settings.
pub(super) fn check_zowe(
    applids: &ZoweApplids,
    entries: &Entries<'_>,
    peer: Option<&ZowePeer>,
    zowe: At<'_>,
) {
    let Some((applid, at)) = applids.keys().find_map(|a| Some((a, entries.get(a)?))) else {
        return;
    };
    match peer {
        None => at.error(format_args!(
            "has source: zowe, which needs a running Zowe; add {}: {{ url: https://zowe.example.com:7554, \
             clientCertificate: {{ certificate: PATH, key: PATH }} }}",
            zowe.key
        )),
        Some(peer) if peer.client_identity.is_none() => zowe.error(format_args!(
            "needs a client certificate that Zowe trusts, because the PassTickets for {applid} come from Zowe; add \
             clientCertificate: {{ certificate: PATH, key: PATH }}"
        )),
        Some(_) => {}
    }
}

/// Reads the entries. An entry has no [`KeyProfile`] in the result if it has `source: zowe` or no usable key, or if its
/// `nextKey` or its users are wrong. `now` is the current time. `policy` decides which algorithms are permitted.
pub(super) fn read<'a>(
    list: Option<&Field<'a>>,
    env: Environment<'_>,
    now: Timestamp,
    policy: CryptoPolicy,
) -> PtktData<'a> {
    let mut tokens = Tokens::default();
    let (mut entries, mut profiles) = (Entries::new(), Vec::new());
    let (mut zowe, mut names) = (ZoweApplids::new(), qualifier::Names::default());
    let mut refusals = BTreeMap::new();
    for item in list.map(Field::items).unwrap_or_default() {
        let mut section = item.section();
        let applid = section.required("applid", "the APPLID of a service");
        let applid = applid.and_then(|field| Some((field.parse::<Applid>()?, field.at)));
        // z/OS counts a refused PassTicket as a wrong password. The third wrong password may revoke the user, so
        // `refusals` is at most 2.
        let refused = section.optional("refusals").and_then(|field| field.number(1..=2));
        if let (Some((applid, _)), Some(refused)) = (&applid, refused) {
            let refused = u8::try_from(refused).unwrap_or(1);
            // If the entries of an APPLID have different `refusals`, the lowest one applies.
            let lowest = refusals.entry(*applid).or_insert(refused);
            *lowest = refused.min(*lowest);
        }
        let source = match section.optional("source") {
            None => Some(Source::Key),
            Some(field) => field.read(|text| match text {
                "key" => Ok(Source::Key),
                "zowe" => Ok(Source::Zowe),
                _ => Err("is unknown; write key or zowe"),
            }),
        };
        if source == Some(Source::Zowe) {
            let protection = section.optional("replayProtection").map(|field| field.boolean());
            for name in [
                "algorithm",
                "key",
                "windowSeconds",
                "reuseSeconds",
                "nextKey",
                "user",
                "group",
                "users",
            ] {
                if let Some(field) = section.optional(name) {
                    field.at.error(
                        "contradicts source: zowe, because Zowe has the key; remove this setting",
                    );
                }
            }
            section.finish();
            if let Some((applid, at)) = applid
                && is_first(&mut entries, applid, at)
            {
                zowe.insert(applid, replay(protection.flatten()));
            }
            continue;
        }
        let qualifier = qualifier::read(&mut section);
        let current = OneKey::read(&mut section, env, policy, &mut tokens);
        let protection = section.optional("replayProtection").map(|field| field.boolean());
        let reuse = section
            .optional("reuseSeconds")
            .and_then(|field| Some((field.number(1..=MAX_WINDOW.as_secs() / 4)?, field.at)));
        let next =
            section.present("nextKey").map(|field| NextKey::read(&field, env, policy, &mut tokens));
        section.finish();

        let Some((applid, at)) = applid else { continue };
        if zowe.contains_key(&applid) {
            // This call reports that the APPLID already has an entry with `source: zowe`.
            is_first(&mut entries, applid, at);
            continue;
        }
        entries.entry(applid).or_insert_with(|| at.clone());
        let Ok(qualifier) = qualifier else { continue };
        if !names.add(applid, qualifier.as_ref(), &at) {
            continue;
        }
        let Some(current) = current else {
            continue;
        };
        let profile = current.profile(applid, None);
        let next = match next {
            None => None,
            // If the next key is wrong, the entry is left out. Otherwise, the gateway would continue to use the old key
            // after the time of the change.
            Some(next) => match next.and_then(|next| next.after(&current, applid, now)) {
                Some(next) => Some(next),
                None => continue,
            },
        };
        let Some(profile) = profile else { continue };
        let profile = profile.with_replay(replay(protection.flatten()));
        let profile = match next {
            Some((next, from)) => profile.with_next_key(next, from),
            None => profile,
        };
        let profile = match qualifier {
            Some(qualifier) => profile.with_qualifier(qualifier),
            None => profile,
        };
        profiles.push(match reuse {
            Some((secs, at)) => with_reuse(profile, secs, &at),
            None => profile,
        });
    }
    let limits = refusals
        .into_iter()
        .fold(TicketLimits::default(), |limits, (applid, refused)| limits.with(applid, refused));
    PtktData { entries, profiles, zowe, token_keys: tokens.keys, limits }
}

/// A key with its algorithm and window: the key of an entry, or its next key.
struct OneKey<'a> {
    algorithm: Algorithm,
    key: KeyPlace,
    at: At<'a>,
    window: Option<Duration>,
    policy: CryptoPolicy,
}

enum KeyPlace {
    /// The text of the key, which may be malformed.
    Text(Zeroizing<String>),
    /// A key in a PKCS#11 token, which this process cannot read.
    #[cfg(feature = "pkcs11")]
    Token(passticket_pkcs11::TokenKey),
}

impl KeyPlace {
    /// Returns whether both are the same key. A key in a PKCS#11 token and a text count as different keys.
    fn is_same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.trim().eq_ignore_ascii_case(other.trim()),
            #[cfg(feature = "pkcs11")]
            (Self::Token(one), Self::Token(other)) => one.is_same_key(other),
            #[cfg(feature = "pkcs11")]
            (Self::Text(_), Self::Token(_)) | (Self::Token(_), Self::Text(_)) => false,
        }
    }
}

impl<'a> OneKey<'a> {
    fn read(
        section: &mut Section<'a>,
        env: Environment<'_>,
        policy: CryptoPolicy,
        tokens: &mut Tokens<'a>,
    ) -> Option<Self> {
        let algorithm = section
            .required("algorithm", "legacy, enhanced-upper or enhanced-mixed")
            .and_then(|field| Some((field.read(algorithm)?, field.at)));
        let window = section.optional("windowSeconds").and_then(|field| window(&field));
        let remedy = "{ file: PATH } of a file with the key in hex, { env: NAME }, or { pkcs11: ... } of a key in a token";
        let key = section
            .required("key", remedy)
            .and_then(|field| Some((key(&field, env, tokens)?, field.at)));
        let ((algorithm, algorithm_at), (key, at)) = (algorithm?, key?);
        if !policy.permits(algorithm) {
            algorithm_at.error(CryptoPolicy::LEGACY_REFUSED);
            return None;
        }
        Some(Self { algorithm, key, at, window, policy })
    }

    /// Returns the profile with this key. Its window is `windowSeconds`, else `inherited`, else the default of the
    /// algorithm. Reports a key that is not valid for the algorithm.
    fn profile(&self, applid: Applid, inherited: Option<Duration>) -> Option<KeyProfile> {
        let Self { algorithm, key, at, window, policy } = self;
        let profile = match key {
            KeyPlace::Text(key) => match policy.profile(applid, *algorithm, key) {
                Ok(profile) => profile,
                // The error contains the length of the key or the position of a wrong character, but not the key
                // itself.
                Err(error) => {
                    at.error(format_args!(
                        "is not a valid {algorithm} key for APPLID {applid}: {error}"
                    ));
                    return None;
                }
            },
            #[cfg(feature = "pkcs11")]
            KeyPlace::Token(key) => {
                let Some(alphabet) = enhanced(*algorithm) else {
                    at.error(
                        "is in a token, but the algorithm is legacy. A DES key can be found by trying all keys, so a token \
                         does not protect it; change to an enhanced key with nextKey, or write { file: PATH }",
                    );
                    return None;
                };
                let key = passticket_pkcs11::Pkcs11Key::new(key.clone(), alphabet);
                KeyProfile::from_source(applid, key)
            }
        };
        let window = window.or(inherited).unwrap_or(profile.window());
        Some(profile.with_window(window))
    }

    fn is_legacy(&self) -> bool {
        self.algorithm == Algorithm::Legacy
    }
}

/// The value of `nextKey`: the key that replaces the key of the entry.
struct NextKey<'a> {
    key: OneKey<'a>,
    from: Instant,
    from_at: At<'a>,
}

/// If the next key has been in use for at least this time, it causes a warning.
const LONG_PAST: Duration = Duration::from_secs(24 * 60 * 60);

impl<'a> NextKey<'a> {
    fn read(
        field: &Field<'a>,
        env: Environment<'_>,
        policy: CryptoPolicy,
        tokens: &mut Tokens<'a>,
    ) -> Option<Self> {
        let mut section = field.section();
        let key = OneKey::read(&mut section, env, policy, tokens);
        let from = section
            .required("from", "the instant of the change in UTC, as in 2026-12-01T02:00:00Z")
            .and_then(|field| Some((field.parse::<Instant>()?, field.at)));
        section.finish();
        let (key, (from, from_at)) = (key?, from?);
        Some(Self { key, from, from_at })
    }

    /// Returns the profile with this key, and the time of the change. `current` is the key of the entry.
    fn after(
        self,
        current: &OneKey<'_>,
        applid: Applid,
        now: Timestamp,
    ) -> Option<(KeyProfile, Timestamp)> {
        let Self { key, from: Instant(from), from_at } = self;
        if key.algorithm == current.algorithm && key.key.is_same_key(&current.key) {
            key.at.error(
                "is the same key as that of the entry, so nothing would change; write a new key, or remove nextKey",
            );
            return None;
        }
        // The profile on z/OS has one TIMEOUT for enhanced PassTickets. The window of legacy PassTickets is fixed. So
        // the window of the entry applies to the next key only if both keys are legacy or both are enhanced.
        let inherited = current.window.filter(|_| key.is_legacy() == current.is_legacy());
        let profile = key.profile(applid, inherited)?;
        if now >= from.plus(LONG_PAST) {
            let days = (now.as_secs() - from.as_secs()) / LONG_PAST.as_secs();
            from_at.warning(format_args!(
                "was {days} {} ago, and since then only the next key makes PassTickets for APPLID {applid}; replace \
                 algorithm, key and windowSeconds of the entry by those of nextKey, remove nextKey, and delete the old \
                 key",
                if days == 1 { "day" } else { "days" },
            ));
        }
        Some((profile, from))
    }
}

/// Reads `windowSeconds`. Warns about a window that no profile on z/OS can have.
fn window(field: &Field<'_>) -> Option<Duration> {
    let window = Duration::from_secs(field.number(1..=86_400)?);
    if window > MAX_WINDOW {
        field.at.warning(format_args!(
            "is longer than {most} s. In RACF, a legacy PassTicket is valid for 600 s, and an enhanced one for at most \
             TIMEOUT(600). The gateway makes PassTickets as for {most} s; write {most} or less",
            most = MAX_WINDOW.as_secs()
        ));
    }
    Some(window)
}

/// Sets `reuseSeconds`. Reports an error if the value is too long, or if z/OS accepts each PassTicket only once.
fn with_reuse(profile: KeyProfile, secs: u64, at: &At<'_>) -> KeyProfile {
    let next = profile.next_key().map(|(next, _)| next);
    let shortest = next.into_iter().chain([&profile]).min_by_key(|profile| profile.window());
    let shortest = shortest.unwrap_or(&profile);
    let (most, window) = (shortest.max_reuse().as_secs(), shortest.window().as_secs());
    if profile.replay() == Replay::Protected {
        at.error(
            "needs replayProtection: false. With replay protection, z/OS accepts each PassTicket once, and counts the \
             second use as a wrong password of the user; remove reuseSeconds, or write replayProtection: false if the \
             profile in the security product allows replay",
        );
    } else if secs > most {
        at.error(format_args!(
            "is more than a quarter of windowSeconds ({window}), so a PassTicket could expire on its way; write at most \
             {most}, or a larger windowSeconds if the profile in the security product has a longer window"
        ));
    }
    profile.with_reuse(Duration::from_secs(secs))
}

/// Adds an entry, and returns `true`. If the APPLID already has an entry, reports an error and returns `false`.
fn is_first<'a>(entries: &mut Entries<'a>, applid: Applid, at: At<'a>) -> bool {
    if let Some(first) = entries.get(&applid) {
        at.error(format_args!("{applid} already has an entry in {first}; remove one of them"));
        return false;
    }
    entries.insert(applid, at);
    true
}

fn replay(protection: Option<bool>) -> Replay {
    match protection {
        Some(false) => Replay::Allowed,
        Some(true) | None => Replay::Protected,
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse().map_err(|_| {
        let text = quote(text);
        format!("{text} is not an algorithm; write legacy, enhanced-upper or enhanced-mixed")
    })
}

/// Reads the key in hex, from a file or an environment variable, or the place of a key in a PKCS#11 token.
fn key<'a>(field: &Field<'a>, env: Environment<'_>, tokens: &mut Tokens<'a>) -> Option<KeyPlace> {
    if !field.is_mapping() {
        field.at.error(
            "must not be the PassTicket key itself; write { file: PATH } of a file with the key in hex, \
             or { env: NAME }",
        );
        return None;
    }
    let mut section = field.section();
    let (file, variable) = (section.optional("file"), section.optional("env"));
    let token = section.optional("pkcs11");
    if section.fields().iter().any(|(name, _)| !["file", "env", "pkcs11"].contains(name)) {
        // The names may be parts of the key, for example in { 0xE0, 0x01 }.
        field.at.error(
            "has other settings than file, env and pkcs11 (not shown, because they may be parts of the \
             PassTicket key); write { file: PATH }, { env: NAME } or { pkcs11: ... }",
        );
        return None;
    }
    section.finish();
    for field in file.iter().chain(&variable) {
        let text = field.text()?;
        let is_plain = !text.contains(['/', '.']);
        if looks_like_key_material(text) || is_plain && may_contain_secret(text) {
            field.at.error(
                "looks like the PassTicket key itself (not shown); store the key in a file that only you \
                 can read, and write { file: PATH }",
            );
            return None;
        }
    }
    match (file, variable, token) {
        (Some(file), None, None) => from_file(&file).map(KeyPlace::Text),
        (None, Some(variable), None) => from_environment(&variable, env).map(KeyPlace::Text),
        (None, None, Some(token)) => from_token(&token, tokens),
        _ => {
            field.at.error(
                "needs one of file, env and pkcs11; write { file: PATH }, { env: NAME } or { pkcs11: ... }",
            );
            None
        }
    }
}

#[cfg(feature = "pkcs11")]
fn from_token<'a>(field: &Field<'a>, tokens: &mut Tokens<'a>) -> Option<KeyPlace> {
    tokens.read(field).map(KeyPlace::Token)
}

#[cfg(not(feature = "pkcs11"))]
fn from_token<'a>(field: &Field<'a>, tokens: &mut Tokens<'a>) -> Option<KeyPlace> {
    match tokens.read(field)? {}
}

#[cfg(feature = "pkcs11")]
const fn enhanced(algorithm: Algorithm) -> Option<EnhancedType> {
    match algorithm {
        Algorithm::Legacy => None,
        Algorithm::EnhancedUpper => Some(EnhancedType::Upper),
        Algorithm::EnhancedMixed => Some(EnhancedType::Mixed),
    }
}

fn from_file(field: &Field<'_>) -> Option<Zeroizing<String>> {
    let (path, content) = field.secret_file()?;
    match str::from_utf8(&content) {
        Ok(text) => Some(Zeroizing::new(text.to_owned())),
        Err(_) => {
            field.at.error(format_args!(
                "{} is not a text file; store the key in it in hex",
                path.display()
            ));
            None
        }
    }
}

fn from_environment(field: &Field<'_>, env: Environment<'_>) -> Option<Zeroizing<String>> {
    let name = field.text()?;
    let value = env(name).map(Zeroizing::new).filter(|value| !value.trim().is_empty());
    if value.is_none() {
        field.at.error(format_args!(
            "environment variable {} is not set; set it to the key in hex",
            quote(name)
        ));
    }
    value
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::{problem::Report, reader::Document};

    const KEY: &str = "E001193519561977";
    /// 2026-12-01T02:00:00Z.
    const NOW: Timestamp = Timestamp::from_secs(1_796_090_400);
    const ENHANCED: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    /// Reads a list of entries with a legacy key, and returns the result of `look` and the problems. `{key}` in the
    /// entries is replaced by the key and its algorithm.
    fn read_list<T>(entries: &str, look: impl FnOnce(&PtktData<'_>) -> T) -> (T, Vec<String>) {
        read_list_with(CryptoPolicy::Any, entries, look)
    }

    fn read_list_with<T>(
        policy: CryptoPolicy,
        entries: &str,
        look: impl FnOnce(&PtktData<'_>) -> T,
    ) -> (T, Vec<String>) {
        let env = |name: &str| match name {
            "OTHER" => Some(KEY.replace('E', "A")),
            "ENHANCED" => Some(ENHANCED.to_owned()),
            _ => Some(KEY.to_owned()),
        };
        let report = Report::default();
        let entries = entries.replace("{key}", "algorithm: legacy, key: {env: KEY}");
        let document =
            Document::parse("f.yaml".into(), format!("l: [{entries}]").as_bytes(), &report);
        let seen = look(&read(document.section(&report).optional("l").as_ref(), &env, NOW, policy));
        let problems = match report.finish(Some(())) {
            Ok(((), warnings)) => warnings.iter().map(|it| format!("warning: {it}")).collect(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        (seen, problems)
    }

    #[test]
    fn a_fips_program_refuses_legacy_keys_and_makes_enhanced_tickets() {
        for (entry, want) in [
            (
                "{applid: A, {key}}",
                Some("l[0].algorithm: is legacy, which uses DES. This program was built with FIPS"),
            ),
            ("{applid: A, algorithm: enhanced-upper, key: {env: ENHANCED}}", None),
            (
                "{applid: A, algorithm: enhanced-upper, key: {env: ENHANCED}, nextKey: {{key}, from: 2027-01-01T00:00:00Z}}",
                Some("l[0].nextKey.algorithm: is legacy, which uses DES"),
            ),
        ] {
            let (profiles, problems) =
                read_list_with(CryptoPolicy::Fips, entry, |data| data.profiles.len());
            assert_eq!(profiles, usize::from(want.is_none()), "{entry}");
            match want {
                None => assert!(problems.is_empty(), "{problems:?}"),
                Some(want) => {
                    assert_eq!(problems.len(), 1, "{problems:?}");
                    assert!(problems[0].contains(want), "{problems:?}");
                    assert!(!problems[0].contains(KEY), "{problems:?}");
                }
            }
        }
    }

    #[cfg(feature = "pkcs11")]
    #[test]
    fn settings_of_keys_in_pkcs11_tokens_are_read_without_opening_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let (pin, open) = (file("pin", "98761234\n", 0o600), file("open", "98761234", 0o644));
        let (other, empty) = (file("other", "1", 0o600), file("empty", "", 0o600));
        let entry = |algorithm: &str, key: &str| {
            format!("{{applid: A, algorithm: {algorithm}, key: {{pkcs11: {key}}}}}")
        };
        let key = |label: &str, pin: &str| {
            format!("{{module: /no/such.so, token: T, label: {label}, pinFile: '{pin}'}}")
        };
        let mixed = |key: &str| entry("enhanced-mixed", key);
        let good = mixed(&key("K", &pin));
        let next = |label: &str, pin: &str| {
            let next = format!(
                "nextKey: {{algorithm: enhanced-mixed, key: {{pkcs11: {}}}, from: 2027-01-01T00:00:00Z}}}}",
                key(label, pin)
            );
            format!("{}, {next}", good.strip_suffix('}').unwrap())
        };
        let group = good.replace("applid: A", "applid: A, group: G, users: [U]");
        for (entries, keys, want) in [
            (good.clone(), 1, None),
            (format!("{good}, {group}"), 2, None),
            (next("L", &pin), 2, None),
            (next("K", &pin), 2, Some("l[0].nextKey.key: is the same key as that of the entry")),
            (
                next("L", &other),
                1,
                Some("l[0].nextKey.key.pkcs11.pinFile: is another file than the one in f.yaml:1"),
            ),
            (
                entry("legacy", &key("K", &pin)),
                1,
                Some("l[0].key: is in a token, but the algorithm is legacy"),
            ),
            (
                mixed(&key("K", &open)),
                0,
                Some("is accessible to users other than its owner (mode 0644)"),
            ),
            (mixed(&key("K", &empty)), 0, Some("a PIN has 1 to 255 bytes")),
            (mixed(&key("K", "/no/such/pin")), 0, Some("cannot read /no/such/pin")),
            (
                mixed("{module: m.so, token: T, label: K}"),
                0,
                Some("l[0].key.pkcs11.pinFile: is missing"),
            ),
            (mixed(&key("''", &pin)), 0, Some("l[0].key.pkcs11.label: is empty")),
            (
                mixed(&key("K", &pin).replace("token", "tokn")),
                0,
                Some("l[0].key.pkcs11.token: is missing"),
            ),
            (
                good.replace("pkcs11:", "file: f, pkcs11:"),
                0,
                Some("l[0].key: needs one of file, env and pkcs11"),
            ),
        ] {
            let (found, problems) = read_list(&entries, |data| data.token_keys.len());
            assert_eq!(found, keys, "{entries}: {problems:?}");
            match want {
                None => assert!(problems.is_empty(), "{problems:?}"),
                Some(want) => assert!(problems.iter().any(|it| it.contains(want)), "{problems:?}"),
            }
            assert!(!format!("{problems:?}").contains("9876"), "{problems:?}");
        }
    }

    #[test]
    fn a_window_that_no_profile_of_z_os_can_have_causes_a_warning() {
        for (secs, warns) in [(1, false), (600, false), (601, true), (86_400, true)] {
            let entry = format!("{{applid: A, {{key}}, windowSeconds: {secs}}}");
            let (window, problems) = read_list(&entry, |data| data.profiles[0].window());
            assert_eq!(window.as_secs(), secs);
            let has_warning = problems.iter().any(|text| {
                text.starts_with("warning: ")
                    && text.contains("l[0].windowSeconds: is longer than 600 s")
            });
            assert_eq!((has_warning, problems.len()), (warns, usize::from(warns)), "{problems:?}");
        }
    }

    #[test]
    fn the_users_of_an_entry_are_read_or_reported() {
        for (entries, want_names, want) in [
            (
                "{applid: A, {key}}, {applid: A, {key}, user: u}, {applid: A, {key}, group: g, users: [u, v]}, \
                  {applid: A, {key}, group: g, user: v}, {applid: B, {key}, group: h, users: [u]}",
                &["A", "A.U", "A.G", "A.G.V", "B.H"][..],
                &[][..],
            ),
            (
                "{applid: A, {key}, user: U}, {applid: a, {key}, user: u}",
                &["A.U"],
                &[
                    "l[1].applid: the profile A.U already has an entry in f.yaml:1; remove one of them",
                ],
            ),
            (
                "{applid: A, {key}, group: G, users: [U]}, {applid: A, {key}, group: H, users: [V, U]}",
                &["A.G"],
                &[
                    "l[1].applid: user U has the group G in f.yaml:1, and H here; keep the default group of the user",
                ],
            ),
            (
                "{applid: A, {key}, group: G, users: [U]}, {applid: A, {key}, group: H, user: U}",
                &["A.G"],
                &["l[1].applid: user U has the group G in f.yaml:1, and H here"],
            ),
            (
                "{applid: A, {key}, group: G}",
                &[],
                &[
                    "l[0].group: needs the users of the group, because the gateway does not ask z/OS for them; add users: [USER, \
                   ...], the users whose default group is G, or user: USER for one user",
                ],
            ),
            (
                "{applid: A, {key}, group: G, users: []}",
                &[],
                &["l[0].users: is empty; write the users whose default group"],
            ),
            // An entry with a blank value must not become an entry for all users.
            ("{applid: A, {key}, user: }", &[], &["l[0].user: is empty; write a value"]),
            ("{applid: A, {key}, user: \"\"}", &[], &["l[0].user: user id \"\" is empty"]),
            ("{applid: A, {key}, group: ~}", &[], &["l[0].group: is empty; write a value"]),
            (
                "{applid: A, {key}, users: }",
                &[],
                &["l[0].users: is empty; write the users", "l[0].users: needs group: GROUP"],
            ),
            (
                "{applid: A, {key}, users: [U]}",
                &[],
                &[
                    "l[0].users: needs group: GROUP, the default group of these users; for one user without a group, write \
                   user: USER",
                ],
            ),
            (
                "{applid: A, {key}, group: G, user: U, users: [V]}",
                &[],
                &[
                    "l[0].users: contradicts user, which makes the profile one of a single user; remove user or users",
                ],
            ),
            (
                "{applid: A, {key}, group: TOOLONGGROUP, users: [\"\", U-1]}",
                &[],
                &[
                    "l[0].group: group name \"TOOLONGGROUP\" is longer than 8 characters",
                    "l[0].users[0]: ",
                    "l[0].users[1]: user id \"U-1\" has the character '-'",
                ],
            ),
        ] {
            let (names, problems) = read_list(entries, |data| {
                data.profiles.iter().map(KeyProfile::name).collect::<Vec<_>>()
            });
            assert_eq!(names, want_names, "{entries}");
            assert_eq!(problems.len(), want.len(), "{entries}: {problems:?}");
            for (problem, want) in problems.iter().zip(want) {
                assert!(problem.contains(want), "{entries}: {problem}");
            }
        }
    }

    #[test]
    fn the_next_key_has_its_own_window_and_instant() {
        struct Case {
            name: &'static str,
            entry: &'static str,
            next: &'static str,
            windows: [u64; 2],
            warns: bool,
        }
        let legacy = "algorithm: legacy, key: {env: OTHER}";
        let enhanced = "algorithm: enhanced-mixed, key: {env: ENHANCED}";
        for Case { name, entry, next, windows, warns } in [
            Case {
                name: "each algorithm has its default",
                entry: "",
                next: enhanced,
                windows: [600, 60],
                warns: false,
            },
            Case {
                name: "the window of legacy PassTickets is not that of enhanced ones",
                entry: ", windowSeconds: 300",
                next: enhanced,
                windows: [300, 60],
                warns: false,
            },
            Case {
                name: "the next key of the same algorithm has the same window",
                entry: ", windowSeconds: 300",
                next: legacy,
                windows: [300, 300],
                warns: false,
            },
            Case {
                name: "the next key has a window of its own",
                entry: ", windowSeconds: 300",
                next: "algorithm: legacy, key: {env: OTHER}, windowSeconds: 200",
                windows: [300, 200],
                warns: false,
            },
            Case {
                name: "the change was a day ago",
                entry: "",
                next: "algorithm: legacy, key: {env: OTHER}, from: 2026-11-30T02:00:00Z",
                windows: [600, 600],
                warns: true,
            },
            Case {
                name: "the change was almost a day ago",
                entry: "",
                next: "algorithm: legacy, key: {env: OTHER}, from: 2026-11-30T02:00:01Z",
                windows: [600, 600],
                warns: false,
            },
        ] {
            let from = if next.contains("from") { "" } else { ", from: 2027-01-01T00:00:00Z" };
            let text = format!("{{applid: A, {{key}}{entry}, nextKey: {{{next}{from}}}}}");
            let (profile, problems) = read_list(&text, |data| {
                let profile = &data.profiles[0];
                let (next, from) = profile.next_key().unwrap();
                let windows = [profile.window(), next.window()].map(|window| window.as_secs());
                (windows, next.algorithm(), from)
            });
            assert_eq!(profile.0, windows, "{name}");
            assert_eq!(profile.1 == Algorithm::Legacy, next.contains("legacy"), "{name}");
            assert_eq!(profile.2.as_secs() == 1_798_761_600, !from.is_empty(), "{name}");
            let has_warning = problems.iter().any(|text| {
                text.contains(
                    "l[0].nextKey.from: was 1 day ago, and since then only the next key makes",
                )
            });
            assert_eq!((has_warning, problems.len()), (warns, usize::from(warns)), "{problems:?}");
        }
    }

    #[test]
    fn each_entry_is_read_or_reported() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8], mode| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("good", format!(" {KEY}\n").as_bytes(), 0o600);
        write("enhanced", ENHANCED.as_bytes(), 0o400);
        write("open", KEY.as_bytes(), 0o644);
        write("short", &KEY.as_bytes()[..14], 0o600);
        write("bad", format!("{}g", &KEY[..15]).as_bytes(), 0o600);
        write("binary", &[0xff; 8], 0o600);
        let env = |name: &str| match name {
            "GOOD" => Some(KEY.to_owned()),
            "EMPTY" => Some(" ".to_owned()),
            _ => None,
        };
        let missing = "is missing; write";
        for (entry, want) in [
            ("{applid: a, algorithm: legacy, key: {file: good}}", &[][..]),
            ("{applid: A, algorithm: legacy, key: {env: GOOD}, windowSeconds: 60}", &[]),
            ("{applid: A, algorithm: enhanced-upper, key: {file: enhanced}}", &[]),
            ("{applid: A, algorithm: legacy, key: {file: good}, replayProtection: true}", &[]),
            ("{applid: A, source: zowe}", &[]),
            ("{applid: A, source: zowe, replayProtection: false}", &[]),
            ("{applid: A, source: zowe, refusals: 2}", &[]),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, refusals: 3}",
                &["l[0].refusals: \"3\" is not valid; write a number from 1 to 2"],
            ),
            ("{applid: A, source: key, algorithm: legacy, key: {file: good}}", &[]),
            (
                "{applid: A, source: zowe, algorithm: legacy, key: {file: good}}",
                &["l[0].algorithm: contradicts source: zowe", "l[0].key: contradicts source: zowe"],
            ),
            (
                "{applid: A, source: racf, algorithm: legacy, key: {file: good}}",
                &["l[0].source: is"],
            ),
            ("{applid: A, algorithm: legacy, key: {file: good}, replayProtection: false}", &[]),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, replayProtection: false, reuseSeconds: 150}",
                &[],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, replayProtection: false, reuseSeconds: 151}",
                &["l[0].reuseSeconds: \"151\" is not valid; write a number from 1 to 150"],
            ),
            (
                "{applid: A, algorithm: enhanced-upper, key: {file: enhanced}, replayProtection: false, \
                  reuseSeconds: 16}",
                &[
                    "l[0].reuseSeconds: is more than a quarter of windowSeconds (60), so a PassTicket could expire on its \
                   way; write at most 15, or",
                ],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, reuseSeconds: 10}",
                &["l[0].reuseSeconds: needs replayProtection: false. With replay protection, z/OS"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, replayProtection: true, reuseSeconds: 10}",
                &["l[0].reuseSeconds: needs replayProtection: false. With replay protection, z/OS"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, replayProtection: false, reuseSeconds: 16, \
                  nextKey: {algorithm: enhanced-upper, key: {file: enhanced}, from: 2026-12-01T02:00:00Z}}",
                &["l[0].reuseSeconds: is more than a quarter of windowSeconds (60), so"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, nextKey: {algorithm: legacy, key: {env: GOOD}, \
                  from: 2026-12-01T02:00:00Z}}",
                &["l[0].nextKey.key: is the same key as that of the entry, so nothing"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, nextKey: {algorithm: enhanced-mixed, key: {file: \
                  good}, from: 2026-12-01T02:00:00+01:00}}",
                &[
                    "l[0].nextKey.from: is not an instant; write it in UTC and in the form of RFC 3339",
                ],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, nextKey: {algorithm: enhanced-mixed, key: {file: \
                  good}, from: 2026-12-01T02:00:00Z}}",
                &[
                    "l[0].nextKey.key: is not a valid enhanced-mixed key for APPLID A: the key has 16 characters; ",
                ],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, nextKey: {algorithm: legacy, key: \
                  E001193519561978, from: 2026-12-01T02:00:00Z, replayProtection: false}}",
                &[
                    "l[0].nextKey.key: must not be the PassTicket key itself; write { file",
                    "l[0].nextKey.replayProtection: is an unknown key",
                ],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, nextKey: {}}",
                &[missing, missing, missing],
            ),
            (
                "{applid: A, source: zowe, nextKey: {algorithm: legacy, key: {file: good}, from: 2026-12-01T02:00:00Z}}",
                &["l[0].nextKey: contradicts source: zowe"],
            ),
            (
                "{applid: A, source: zowe, replayProtection: false, reuseSeconds: 10}",
                &["l[0].reuseSeconds: contradicts source: zowe"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}, replayProtection: NO}",
                &["l[0].replayProtection: \"NO\" is neither true nor false; write one of them"],
            ),
            (
                "{applid: A, algorithm: desx, key: {file: good}}",
                &["l[0].algorithm: \"desx\" is not an algorithm; write legacy, enhanced-upper or \
                   enhanced-mixed"],
            ),
            (
                "{applid: A, algorithm: legacy, key: E001193519561977}",
                &["l[0].key: must not be the PassTicket key itself; write { file"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {E001193519561977: }}",
                &["l[0].key: has other settings than file, env and pkcs11 (not shown, because"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: E001193519561977}}",
                &["l[0].key.file: looks like the PassTicket key itself"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {env: E001193519561977}}",
                &["l[0].key.env: looks like the PassTicket key itself"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {0xE0, 0x01, 0x19, 0x35, 0x20, 0x56, 0x21, 0x77}}",
                &["l[0].key: has other settings than file, env and pkcs11 (not shown, because"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: EO01193519561977}}",
                &["l[0].key.file: looks like the PassTicket key itself"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {env: \"E001193519561977,\"}}",
                &["l[0].key.env: looks like the PassTicket key itself"],
            ),
            (
                "{applid: E001193519561977, algorithm: E001193519561977, key: {file: good}}",
                &["l[0].applid: has a wrong value", "l[0].algorithm: has a wrong value"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good, env: GOOD}}",
                &["l[0].key: needs one of file, env and pkcs11"],
            ),
            ("{applid: A, algorithm: legacy, key: {}}", &["l[0].key: is empty; write { file"]),
            (
                "{applid: A, algorithm: legacy, key: {env: NONE}}",
                &["l[0].key.env: environment variable \"NONE\" is not set; set it to the key"],
            ),
            (
                "{applid: A, algorithm: legacy, key: {env: EMPTY}}",
                &["l[0].key.env: environment variable \"EMPTY\" is not set; set it to the key"],
            ),
            ("{applid: A, algorithm: legacy, key: {file: open}}", &["(mode 0644); run: chmod 600"]),
            ("{applid: A, algorithm: legacy, key: {file: gone}}", &["l[0].key.file: cannot read"]),
            (
                "{applid: A, algorithm: legacy, key: {file: short}}",
                &["l[0].key: is not a valid legacy key for APPLID A: the key has 14 characters; "],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: bad}}",
                &[
                    "l[0].key: is not a valid legacy key for APPLID A: character 16 of the key is not a \
                   hex digit; ",
                ],
            ),
            ("{applid: A, algorithm: legacy, key: {file: binary}}", &["is not a text file; store"]),
            (
                "{applid: A, algorithm: enhanced-mixed, key: {file: good}}",
                &["l[0].key: is not a valid enhanced-mixed key for APPLID A: the key has 16 \
                   characters; "],
            ),
            (
                "{applid: TOOLONGAPPLID, algorithm: legacy, key: {file: good}, windowSeconds: 0}",
                &[
                    "l[0].applid: APPLID \"TOOLONGAPPLID\" is longer than 8 characters",
                    "l[0].windowSeconds: \"0\" is not valid; write a number from 1 to 86400",
                ],
            ),
            ("{}", &[missing, missing, missing]),
            (
                "{applid: A, algoritm: legacy, key: {file: good}}",
                &[
                    "l[0].algorithm: is missing",
                    "l[0].algoritm: is an unknown key; did you mean algorithm?",
                ],
            ),
            (
                "{applid: A, algorithm: legacy, key: {file: good}}, \
                 {applid: a, algorithm: legacy, key: {file: good}}",
                &["l[1].applid: A already has an entry in "],
            ),
            (
                "{applid: A, source: zowe}, {applid: A, user: U, algorithm: legacy, key: {file: good}}",
                &["l[1].applid: A already has an entry in "],
            ),
            (
                "{applid: A, user: U, algorithm: legacy, key: {file: good}}, {applid: A, source: zowe}",
                &["l[1].applid: A already has an entry in "],
            ),
            (
                "{applid: A, source: zowe, user: U, group: G, users: [V]}",
                &[
                    "l[0].user: contradicts source: zowe",
                    "l[0].group: contradicts source: zowe",
                    "l[0].users: contradicts source: zowe",
                ],
            ),
            ("{applid: A, algorithm: legacy, key: {file: good}, group: G, users: [U, V]}", &[]),
            ("{applid: A, algorithm: legacy, key: {file: good}, user: u}", &[]),
            ("{applid: A, algorithm: legacy, key: {file: good}, user: u, group: g}", &[]),
        ] {
            let report = Report::default();
            let file = directory.path().join("f.yaml");
            let document = Document::parse(file, format!("l: [{entry}]").as_bytes(), &report);
            let PtktData { profiles, zowe, .. } = {
                let list = document.section(&report).optional("l");
                read(list.as_ref(), &env, NOW, CryptoPolicy::Any)
            };
            let debug = format!("{profiles:?}");
            let problems = match report.finish(Some(())) {
                Ok(_) if entry.contains("source: zowe") => {
                    let replay = match entry.contains("replayProtection: false") {
                        true => Replay::Allowed,
                        false => Replay::Protected,
                    };
                    let want = (Applid::new("A").unwrap(), replay);
                    assert_eq!(zowe.into_iter().collect::<Vec<_>>(), [want], "{entry}");
                    Vec::new()
                }
                Ok(_) => {
                    assert_eq!(profiles.len(), 1, "{entry}");
                    let is_short = entry.contains("windowSeconds") || entry.contains("enhanced");
                    let secs = if is_short { 60 } else { 600 };
                    assert_eq!(profiles[0].window().as_secs(), secs);
                    let reuse = if entry.contains("reuseSeconds") { 150 } else { 0 };
                    assert_eq!(profiles[0].reuse().as_secs(), reuse, "{entry}");
                    let allowed = entry.contains("replayProtection: false");
                    assert_eq!(profiles[0].replay() == Replay::Allowed, allowed, "{entry}");
                    Vec::new()
                }
                Err(problems) => problems.iter().map(ToString::to_string).collect(),
            };
            assert_eq!(problems.len(), want.len(), "{entry}: {problems:?}");
            for (problem, want) in problems.iter().zip(want) {
                assert!(problem.contains(want), "{entry}: {problem}");
            }
            for text in problems.iter().chain([&debug]) {
                assert!(!text.contains("1193") && !text.contains("0A0B"), "{entry}: {text}");
            }
        }
    }
}
