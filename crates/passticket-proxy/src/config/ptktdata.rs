//! Reads the PassTicket keys: `components.passticket-proxy.ptktdata`.
//!
//! A PassTicket is a short-lived password of z/OS for one application. There is one entry for each APPLID. An APPLID is
//! the name of a z/OS application in the security product. RACF, IBM's security product, has the same data in profiles
//! of class `PTKTDATA`.

use std::{collections::BTreeMap, time::Duration};

use zeroize::Zeroizing;

use super::{
    environment::Environment,
    problem::{looks_like_key_material, may_contain_secret, quote},
    reader::{At, Field},
    zowe_peer::ZowePeer,
};
use tower_passticket::passticket::{Algorithm, Applid, KeyProfile, MAX_WINDOW, Replay};

/// The place of each entry, by APPLID. The map also contains entries with a wrong PassTicket key. Otherwise the gateway
/// would report a second error: that the routes with this APPLID have no PassTicket key.
pub(super) type Entries<'a> = BTreeMap<Applid, At<'a>>;

/// The APPLIDs whose PassTickets come from a running Zowe (`source: zowe`), and their replay protection.
pub(super) type ZoweApplids = BTreeMap<Applid, Replay>;

/// The entries of the list.
pub(super) struct PtktData<'a> {
    pub(super) entries: Entries<'a>,
    pub(super) profiles: Vec<KeyProfile>,
    pub(super) zowe: ZoweApplids,
}

/// The source of the PassTickets of an APPLID.
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

/// Reads the entries. Only an entry without a problem has a [`KeyProfile`] in the result.
pub(super) fn read<'a>(list: Option<&Field<'a>>, env: Environment<'_>) -> PtktData<'a> {
    let (mut entries, mut profiles) = (Entries::new(), Vec::new());
    let mut zowe = ZoweApplids::new();
    for item in list.map(Field::items).unwrap_or_default() {
        let mut section = item.section();
        let applid = section.required("applid", "the APPLID of a service");
        let applid = applid.and_then(|field| Some((field.parse::<Applid>()?, field.at)));
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
            for name in ["algorithm", "key", "windowSeconds", "reuseSeconds"] {
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
        let algorithm = section
            .required("algorithm", "legacy, enhanced-upper or enhanced-mixed")
            .and_then(|field| field.read(algorithm));
        let window = section.optional("windowSeconds").and_then(|field| window(&field));
        let protection = section.optional("replayProtection").map(|field| field.boolean());
        let reuse = section
            .optional("reuseSeconds")
            .and_then(|field| Some((field.number(1..=MAX_WINDOW.as_secs() / 4)?, field.at)));
        let remedy = "{ file: PATH } of a file with the key in hex, or { env: NAME }";
        let key =
            section.required("key", remedy).and_then(|field| Some((key(&field, env)?, field.at)));
        section.finish();

        if let Some((applid, at)) = &applid
            && !is_first(&mut entries, *applid, at.clone())
        {
            continue;
        }
        let (Some((applid, _)), Some(algorithm), Some((key, at))) = (applid, algorithm, key) else {
            continue;
        };
        match KeyProfile::from_hex(applid, algorithm, &key) {
            Ok(profile) => {
                let window = window.unwrap_or(profile.window());
                let profile = profile.with_window(window).with_replay(replay(protection.flatten()));
                profiles.push(match reuse {
                    Some((secs, at)) => with_reuse(profile, secs, &at),
                    None => profile,
                });
            }
            // The error contains the length of the key or the position of a wrong character, but not the key itself.
            Err(error) => at
                .error(format_args!("is not a valid {algorithm} key for APPLID {applid}: {error}")),
        }
    }
    PtktData { entries, profiles, zowe }
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

/// Sets `reuseSeconds`. Reports an error if a PassTicket cannot be used for so long.
fn with_reuse(profile: KeyProfile, secs: u64, at: &At<'_>) -> KeyProfile {
    let most = profile.max_reuse().as_secs();
    if profile.replay() == Replay::Protected {
        at.error(
            "needs replayProtection: false. With replay protection, z/OS accepts each PassTicket once, and counts the \
             second use as a wrong password of the user; remove reuseSeconds, or write replayProtection: false if the \
             profile in the security product allows replay",
        );
    } else if secs > most {
        at.error(format_args!(
            "is more than a quarter of windowSeconds ({}), so a PassTicket could expire on its way; write at most \
             {most}, or a larger windowSeconds if the profile in the security product has a longer window",
            profile.window().as_secs()
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

/// Reads the key in hex, from a file or an environment variable.
fn key(field: &Field<'_>, env: Environment<'_>) -> Option<Zeroizing<String>> {
    if !field.is_mapping() {
        field.at.error(
            "must not be the PassTicket key itself; write { file: PATH } of a file with the key in hex, \
             or { env: NAME }",
        );
        return None;
    }
    let mut section = field.section();
    let (file, variable) = (section.optional("file"), section.optional("env"));
    if section.fields().iter().any(|(name, _)| !["file", "env"].contains(name)) {
        // The names may be parts of the key, for example in { 0xE0, 0x01 }.
        field.at.error(
            "has other settings than file and env (not shown, because they may be parts of the \
             PassTicket key); write { file: PATH } or { env: NAME }",
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
    match (file, variable) {
        (Some(file), None) => from_file(&file),
        (None, Some(variable)) => from_environment(&variable, env),
        _ => {
            field.at.error("needs either file or env; write { file: PATH } or { env: NAME }");
            None
        }
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
    const ENHANCED: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    /// Reads a list of entries with a legacy key, and returns the result of `look` and the problems. `{key}` in the
    /// entries is replaced by the key and its algorithm.
    fn read_list<T>(entries: &str, look: impl FnOnce(&PtktData<'_>) -> T) -> (T, Vec<String>) {
        let env = |_: &str| Some(KEY.to_owned());
        let report = Report::default();
        let entries = entries.replace("{key}", "algorithm: legacy, key: {env: KEY}");
        let document =
            Document::parse("f.yaml".into(), format!("l: [{entries}]").as_bytes(), &report);
        let seen = look(&read(document.section(&report).optional("l").as_ref(), &env));
        let problems = match report.finish(Some(())) {
            Ok(((), warnings)) => warnings.iter().map(|it| format!("warning: {it}")).collect(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        (seen, problems)
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
                &["l[0].key: has other settings than file and env (not shown, because"],
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
                &["l[0].key: has other settings than file and env (not shown, because"],
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
                &["l[0].key: needs either file or env"],
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
        ] {
            let report = Report::default();
            let file = directory.path().join("f.yaml");
            let document = Document::parse(file, format!("l: [{entry}]").as_bytes(), &report);
            let PtktData { profiles, zowe, .. } = {
                let list = document.section(&report).optional("l");
                read(list.as_ref(), &env)
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
