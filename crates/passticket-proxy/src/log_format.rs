//! The format of a log line. Each line of a request contains the id of the request.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use passticket_proxy::config::LogFormat;
use tower_passticket::audit::RequestId;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// The name of the field with the id of the request.
const REQUEST_ID: &str = "request_id";

/// Whether the lines are JSON. This is a static variable, because panics and the queue of the log also write lines.
static IS_JSON: AtomicBool = AtomicBool::new(false);

pub(crate) fn set(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Relaxed);
}

/// Returns a line of the log in the current format, with a line break at its end. A JSON line contains `message`. A
/// text line is the result of `text`, which must end with a line break.
pub(crate) fn line(
    level: Level,
    target: &str,
    message: &str,
    text: impl FnOnce() -> String,
) -> String {
    if !IS_JSON.load(Relaxed) {
        return text();
    }
    let mut line = JsonLine::begin(level, target);
    line.text("message", message);
    line.add_request_id();
    line.end()
}

pub(crate) struct Lines {
    text: Format,
}

impl Lines {
    /// Creates the formatter. `colour` applies to text.
    pub(crate) fn new(colour: bool) -> Self {
        Self { text: Format::default().with_ansi(colour) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if IS_JSON.load(Relaxed) {
            return writer.write_str(&json(event));
        }
        let id = RequestId::current().filter(|_| !has_request_id(event));
        let Some(id) = id else { return self.text.format_event(context, writer, event) };
        let mut line = String::new();
        self.text.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} {REQUEST_ID}={id}", line.trim_end_matches('\n'))
    }
}

fn has_request_id(event: &Event<'_>) -> bool {
    event.metadata().fields().field(REQUEST_ID).is_some()
}

fn json(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let mut line = JsonLine::begin(*metadata.level(), metadata.target());
    event.record(&mut line);
    if !has_request_id(event) {
        line.add_request_id();
    }
    line.end()
}

struct JsonLine(String);

impl JsonLine {
    fn begin(level: Level, target: &str) -> Self {
        let mut time = String::new();
        // Without a time, the line is still useful.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let mut line = Self(String::from("{"));
        line.text("time", &time);
        line.text("level", level.as_str());
        line.text("target", target);
        line
    }

    /// Adds a member whose value is JSON.
    fn member(&mut self, name: &str, json: &str) {
        // Names need no escapes, because they are identifiers in the source code, or identifiers with dots.
        let separator = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{separator}\"{name}\":{json}");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.member(name, &serde_json::Value::from(text).to_string());
    }

    fn add_request_id(&mut self) {
        if let Some(id) = RequestId::current() {
            self.text(REQUEST_ID, &id.to_string());
        }
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }

    /// Returns the name of the member for a field. A field with the name of one of the first three members gets the
    /// prefix `field_`.
    fn name_of(field: &Field) -> String {
        match field.name() {
            name @ ("time" | "level" | "target") => format!("field_{name}"),
            name => name.trim_start_matches("r#").to_owned(),
        }
    }
}

impl Visit for JsonLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(&Self::name_of(field), &serde_json::Value::from(value).to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(&Self::name_of(field), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(&Self::name_of(field), &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(&Self::name_of(field), &value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(&Self::name_of(field), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(&Self::name_of(field), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// One test for both formats, because the format is a static variable.
    #[test]
    fn a_line_is_text_or_json() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Lines::new(false))
            .finish();
        let log = tracing::Dispatch::new(subscriber);
        let logged = |format| {
            set(format);
            tracing::dispatcher::with_default(&log, || {
                let error = "a\n\"b\"\u{1b}";
                tracing::warn!(target: "there", %error, count = 3_u64, is_on = true, "what \"happened\"");
            });
            String::from_utf8(std::mem::take(&mut *captured.0.lock().unwrap())).unwrap()
        };
        let text = logged(LogFormat::Text);
        assert!(text.contains(" WARN there: what \"happened\" error=a"), "{text}");
        let json = logged(LogFormat::Json);
        set(LogFormat::Text);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let line: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "there");
        assert_eq!(line["message"], "what \"happened\"");
        assert_eq!(line["error"], "a\n\"b\"\u{1b}");
        assert_eq!((&line["count"], &line["is_on"]), (&3.into(), &true.into()));
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{json}");
    }
}
