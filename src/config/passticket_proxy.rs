//! The section that Zowe does not have: `passticketProxy`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use super::{
    Environment,
    problem::quote,
    ptktdata::{self, Entries},
    reader::{At, Field, Section},
    routes::{Override, read_on_failure, read_overrides},
};
use crate::{api::Compatibility, layer::OnFailure, passticket::KeyProfile, token::Validity};

/// What our section says, with the files that it names still to be read, except those of keys.
pub(super) struct PassticketProxy<'a> {
    pub(super) at: At<'a>,
    pub(super) host: IpAddr,
    pub(super) signing_key: Option<Field<'a>>,
    pub(super) users: Option<Field<'a>>,
    pub(super) saf: Option<Field<'a>>,
    pub(super) revocations: Option<Field<'a>>,
    pub(super) compatibility: Compatibility,
    pub(super) max_validity: Validity,
    pub(super) evict_every: Duration,
    pub(super) api_defs: Vec<Field<'a>>,
    pub(super) on_failure: OnFailure,
    pub(super) overrides: Vec<Override<'a>>,
    /// Where entries are to be written.
    pub(super) ptktdata: At<'a>,
    pub(super) entries: Entries<'a>,
    pub(super) profiles: Vec<KeyProfile>,
    pub(super) handshake: Duration,
    pub(super) drain: Duration,
}

/// A value that is wrong was reported, and has its default here.
pub(super) fn read<'a>(root: &mut Section<'a>, env: Environment<'_>) -> PassticketProxy<'a> {
    let mut section = root.section("passticketProxy");
    let host = section.optional("host").and_then(|field| field.read(host));
    let signing_key = section.required(
        "signingKey",
        "the path of a PEM file with the RSA private key that signs tokens",
    );
    let users = section.optional("users");
    let saf = section.optional("saf");
    let revocations = section.optional("revocations");
    let compatibility = section.optional("compatibility").and_then(|f| f.read(compatibility));
    let mut pats = section.section("personalAccessToken");
    let days = pats.optional("maximumValidityDays").and_then(|field| field.number(1..=90));
    let hours = pats.optional("evictEveryHours").and_then(|field| field.number(1..=8_760));
    pats.finish();
    let api_defs = section.optional("apiDefs").map(|field| field.one_or_more());
    let on_failure = read_on_failure(&mut section);
    let overrides = read_overrides(&section.section("services"));
    let ptktdata = section.child("ptktdata");
    let (entries, profiles) = ptktdata::read(section.optional("ptktdata").as_ref(), env);
    let mut timeouts = section.section("timeouts");
    let mut seconds = |name, least, usual| {
        let number = timeouts.optional(name).and_then(|field| field.number(least..=86_400));
        Duration::from_secs(number.unwrap_or(usual))
    };
    let (handshake, drain) = (seconds("handshakeSeconds", 1, 10), seconds("drainSeconds", 0, 30));
    timeouts.finish();
    let at = section.at.clone();
    section.finish();
    PassticketProxy {
        at,
        host: host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        signing_key,
        users,
        saf,
        revocations,
        compatibility: compatibility.unwrap_or_default(),
        max_validity: Validity::requested(days.and_then(|days| days.try_into().ok())),
        evict_every: Duration::from_secs(hours.unwrap_or(24) * 3600),
        api_defs: api_defs.unwrap_or_default(),
        on_failure: on_failure.unwrap_or_default(),
        overrides,
        ptktdata,
        entries,
        profiles,
        handshake,
        drain,
    }
}

fn compatibility(text: &str) -> Result<Compatibility, &'static str> {
    match text {
        "documented" => Ok(Compatibility::Documented),
        "zowe-v3" => Ok(Compatibility::ZoweV3),
        _ => Err("is unknown; write documented or zowe-v3"),
    }
}

fn host(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("{} is no IP address; write one like 127.0.0.1, or 0.0.0.0 for all", quote(text))
    })
}

/// The files that an item of `apiDefs` means: itself, or all `*.yml` and `*.yaml` in a directory,
/// by name.
pub(super) fn api_def_files(field: &Field<'_>) -> Vec<PathBuf> {
    let Some(path) = field.path() else { return Vec::new() };
    if !path.is_dir() {
        return vec![path];
    }
    let listed = fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    match listed {
        Ok(mut files) => {
            // What an editor leaves behind is hidden.
            files.retain(|file| {
                let hidden =
                    file.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
                !hidden && file.extension().is_some_and(|e| e == "yml" || e == "yaml")
            });
            files.sort();
            files
        }
        Err(error) => {
            field.at.error(format_args!("cannot list {}: {error}", path.display()));
            Vec::new()
        }
    }
}
