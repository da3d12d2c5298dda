//! Reads `components.passticket-proxy.accessLog` and `components.passticket-proxy.logFormat`.

use std::{num::NonZeroU32, path::PathBuf};

use tower_passticket::access_log::{AccessLogFormat, AccessLogOptions};

use super::reader::{Field, Section};

/// Settings of the access log: `components.passticket-proxy.accessLog`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessLogSettings {
    /// The file: `file`.
    pub file: PathBuf,
    /// The format of the lines: `format`.
    pub format: AccessLogFormat,
    /// The size in bytes at which the file rotates. If `rotateAtMegabytes` is absent, this is `None`, and the default
    /// of [`AccessLogOptions`] applies.
    pub rotate_at: Option<u64>,
    /// The number of full files that are kept: `keep`. If the setting is absent, this is `None`, and the default of
    /// [`AccessLogOptions`] applies.
    pub keep: Option<NonZeroU32>,
}

impl AccessLogSettings {
    /// Returns the options of the file.
    pub fn options(&self) -> AccessLogOptions {
        let mut options = AccessLogOptions::default().with_format(self.format);
        if let Some(bytes) = self.rotate_at {
            options = options.with_rotate_at(bytes);
        }
        if let Some(keep) = self.keep {
            options = options.with_kept_files(keep);
        }
        options
    }
}

/// The format of the log on standard error: `components.passticket-proxy.logFormat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text lines for people.
    #[default]
    Text,
    /// JSON lines.
    Json,
}

/// The section. The path of its file is not resolved yet.
pub(super) struct AccessLogSection<'a> {
    pub(super) file: Option<Field<'a>>,
    format: AccessLogFormat,
    rotate_at: Option<u64>,
    keep: Option<NonZeroU32>,
}

impl AccessLogSection<'_> {
    /// Returns the settings. `None` if no file is configured, or if its path is wrong. A wrong path is reported.
    /// `others` are the other files to which the gateway writes, with their keys. If one of them is the same file, this
    /// is an error.
    pub(super) fn settings(
        &self,
        others: &[(&str, Option<&PathBuf>)],
    ) -> Option<AccessLogSettings> {
        let field = self.file.as_ref()?;
        let file = field.path()?;
        for (key, other) in others {
            if *other == Some(&file) {
                field.at.error(format!(
                    "is the same file as components.passticket-proxy.{key}; write the path of another file"
                ));
            }
        }
        let Self { format, rotate_at, keep, .. } = *self;
        Some(AccessLogSettings { file, format, rotate_at, keep })
    }
}

/// Reads the section. A wrong value is reported, and the default is used instead.
pub(super) fn read(mut section: Section<'_>) -> AccessLogSection<'_> {
    let file = section.optional("file");
    let format = section.optional("format").and_then(|field| field.read(line_format));
    let megabytes = section.optional("rotateAtMegabytes");
    let megabytes = megabytes.and_then(|field| field.number(1..=1_000_000));
    let keep = section.optional("keep").and_then(|field| field.number(1..=1_000));
    let keep = keep.and_then(|keep| u32::try_from(keep).ok()).and_then(NonZeroU32::new);
    section.finish();
    AccessLogSection {
        file,
        format: format.unwrap_or_default(),
        rotate_at: megabytes.map(|megabytes| megabytes * 1024 * 1024),
        keep,
    }
}

fn line_format(text: &str) -> Result<AccessLogFormat, &'static str> {
    match text {
        "json" => Ok(AccessLogFormat::Json),
        "combined" => Ok(AccessLogFormat::Combined),
        _ => Err("is unknown; write json or combined"),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is unknown; write text or json"),
    }
}
