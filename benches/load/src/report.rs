//! The report: a verdict, a table for people, and JSON for programs.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2DeflateSerializer},
};
use serde_json::{Map, Value, json};

use crate::{
    credential::Kind,
    load::Load,
    recorder::{LATE, Recorder},
    settings::Settings,
};

/// The version of the format of the report. It changes whenever a key is removed or gets another meaning.
const VERSION: u32 = 1;

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// The facts about a load that are not in [`Settings`] and [`Load`].
pub(crate) struct Facts {
    /// When the load began, in seconds since 1970.
    pub(crate) started: u64,
    pub(crate) kind: Kind,
    pub(crate) users: usize,
    pub(crate) opened: u64,
}

pub(crate) struct Report<'a> {
    settings: &'a Settings,
    facts: Facts,
    recorder: &'a Recorder,
    stopped: Option<&'a str>,
    /// The number of measured requests that were due.
    due: u64,
    not_sent: u64,
    /// The time in which the measured requests were sent and answered.
    seconds: f64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        facts: Facts,
        load: &'a Load,
        recorder: &'a Recorder,
    ) -> Self {
        let schedule = load.schedule();
        let (stopped, end) = match load.stopped() {
            Some((reason, at)) => (Some(reason.as_str()), *at),
            None => (None, schedule.end()),
        };
        // A request that is due exactly at the end does not belong to the load.
        let due = schedule.measured_by(end.saturating_sub(Duration::from_nanos(1)));
        let end = end.max(recorder.last_done);
        Self {
            settings,
            facts,
            recorder,
            stopped,
            due: due.max(recorder.sent),
            not_sent: due.saturating_sub(recorder.sent),
            seconds: end.saturating_sub(schedule.begin()).as_secs_f64(),
        }
    }

    /// Returns the part of the requests that were late or never sent, from 0 to 1.
    fn late_part(&self) -> f64 {
        match self.due {
            0 => 0.0,
            due => (self.recorder.late.len() + self.not_sent) as f64 / due as f64,
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// Returns the problems of the load. The load is good if there are none.
    pub(crate) fn problems(&self) -> Vec<String> {
        let recorder = self.recorder;
        let mut problems = Vec::new();
        if let Some(reason) = self.stopped {
            problems.push(format!("the load was stopped: {reason}"));
        }
        if recorder.refused > 0 {
            problems.push(format!(
                "{} of {} answers were refusals",
                recorder.refused, recorder.answered
            ));
        }
        let errors = recorder.error_count();
        if errors > 0 {
            problems.push(format!("{errors} of {} requests had no answer", recorder.sent));
        }
        if self.late_part() > self.settings.max_late {
            problems.push(format!(
                "{:.1} % of the requests were late or never sent (--max-late permits {} %)",
                self.late_part() * 100.0,
                self.settings.max_late * 100.0
            ));
        }
        if self.due == 0 {
            problems.push("no request was measured".to_owned());
        }
        problems
    }

    pub(crate) fn table(&self) -> String {
        let (settings, recorder) = (self.settings, self.recorder);
        let mut lines = Vec::new();
        let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
        line("url", format!("{} {}", settings.method, settings.target.shown()));
        let place = self.facts.kind.token_place().map(|place| format!(" in {}", place.as_str()));
        let users = match (self.facts.kind, self.facts.users) {
            (Kind::None, _) => String::new(),
            (_, 1) => ", 1 user".to_owned(),
            (_, users) => format!(", {users} users in turn"),
        };
        line(
            "credential",
            format!("{}{}{users}", self.facts.kind.as_str(), place.unwrap_or_default()),
        );
        line(
            "load",
            format!(
                "{}/s for {} s after {} s of warm-up, {} connections of {}, at most {} in flight",
                settings.rate,
                settings.duration.as_secs_f64(),
                settings.warm_up.as_secs_f64(),
                settings.connections,
                settings.protocol.as_str(),
                settings.connections * settings.streams,
            ),
        );
        line(
            "requests",
            format!("{} due, {} sent, {} never sent", self.due, recorder.sent, self.not_sent),
        );
        line(
            "rate",
            format!(
                "{:.1}/s answered, {}/s wanted",
                self.per_second(recorder.answered),
                settings.rate
            ),
        );
        let late = match recorder.late.len() {
            0 => "none".to_owned(),
            count => format!(
                "{count} ({} because all places in flight were in use, {} because of this machine), median {}, at most {}",
                recorder.late_by_limit,
                count - recorder.late_by_limit,
                millis(recorder.late.value_at_quantile(0.5)),
                millis(recorder.late.max()),
            ),
        };
        line("late", late);
        let statuses: Vec<_> =
            recorder.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        line("answers", if statuses.is_empty() { "none".to_owned() } else { statuses.join(", ") });
        for (refusal, count) in &recorder.refusals {
            line("refused", format!("{count} x {}", refusal.describe()));
        }
        match self.other_refusals() {
            0 => {}
            count => line("refused", format!("{count} x others")),
        }
        if recorder.errors.is_empty() {
            line("errors", "none".to_owned());
        }
        for (kind, errors) in &recorder.errors {
            line(
                "errors",
                format!("{} x {}, first: {}", errors.count, kind.as_str(), errors.first),
            );
        }
        lines.push(String::new());
        let head = ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        lines.push(format!("{:<10}{}", "latency", head.map(|it| format!("{it:>11}")).concat()));
        for (name, histogram) in
            [("from due", &recorder.from_due), ("from send", &recorder.from_send)]
        {
            lines.push(format!(
                "{name:<10}{}",
                values(histogram).map(|it| format!("{it:>11}")).concat()
            ));
        }
        lines.push(String::new());
        match self.problems() {
            problems if problems.is_empty() => lines.push("good".to_owned()),
            problems => lines.extend(problems.iter().map(|problem| format!("BAD: {problem}"))),
        }
        lines.join("\n")
    }

    fn other_refusals(&self) -> u64 {
        self.recorder.refused - self.recorder.refusals.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Returns the report for programs. docs/operating/load-test.md describes its keys.
    pub(crate) fn json(&self) -> Value {
        let (settings, recorder) = (self.settings, self.recorder);
        let problems = self.problems();
        let statuses: Map<_, _> = recorder
            .statuses
            .iter()
            .map(|(status, count)| (status.to_string(), json!(count)))
            .collect();
        let errors: Map<_, _> = recorder
            .errors
            .iter()
            .map(|(kind, it)| {
                (kind.as_str().to_owned(), json!({"count": it.count, "first": it.first}))
            })
            .collect();
        let different: Vec<_> = recorder
            .refusals
            .iter()
            .map(|(it, count)| {
                json!({
                    "status": it.status,
                    "authFailure": it.auth_failure,
                    "messageNumber": it.message_number,
                    "count": count,
                })
            })
            .collect();
        json!({
            "version": VERSION,
            "good": problems.is_empty(),
            "problems": problems,
            "settings": {
                "url": settings.target.shown(),
                "method": settings.method.as_str(),
                "credential": self.facts.kind.as_str(),
                "tokenIn": self.facts.kind.token_place().map(|place| place.as_str()),
                "users": self.facts.users,
                "rate": settings.rate,
                "durationSeconds": settings.duration.as_secs_f64(),
                "warmUpSeconds": settings.warm_up.as_secs_f64(),
                "connections": settings.connections,
                "maxInFlight": settings.connections * settings.streams,
                "protocol": settings.protocol.as_str(),
                "timeoutSeconds": settings.timeout.as_secs_f64(),
                "maxLatePercent": settings.max_late * 100.0,
                "threads": settings.threads,
            },
            "started": self.facts.started,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "requests": {
                "due": self.due,
                "sent": recorder.sent,
                "answered": recorder.answered,
                "notSent": self.not_sent,
            },
            "rate": {
                "wanted": settings.rate,
                "sent": self.per_second(recorder.sent),
                "answered": self.per_second(recorder.answered),
            },
            "late": {
                "afterMillis": LATE.as_millis() as u64,
                "requests": recorder.late.len(),
                "byLimit": recorder.late_by_limit,
                "byThisMachine": recorder.late.len() - recorder.late_by_limit,
                "percentWithNotSent": self.late_part() * 100.0,
                "micros": latencies(&recorder.late),
            },
            "statuses": statuses,
            "errors": errors,
            "refusals": {
                "answers": recorder.refused,
                "different": different,
                "others": self.other_refusals(),
            },
            "connectionsOpened": self.facts.opened,
            "bodyBytes": recorder.body_bytes,
            "latencyFromDueMicros": latencies(&recorder.from_due),
            "latencyFromSendMicros": latencies(&recorder.from_send),
        })
    }
}

fn latencies(histogram: &Histogram<u64>) -> Value {
    let mut latencies = Map::new();
    latencies.insert("count".to_owned(), json!(histogram.len()));
    latencies.insert("min".to_owned(), json!(histogram.min()));
    latencies.insert("mean".to_owned(), json!(histogram.mean()));
    for (name, quantile) in QUANTILES {
        latencies.insert(name.to_owned(), json!(histogram.value_at_quantile(quantile)));
    }
    latencies.insert("max".to_owned(), json!(histogram.max()));
    latencies.insert("histogram".to_owned(), json!(serialized(histogram)));
    Value::Object(latencies)
}

/// Returns the histogram in the compressed format V2 of HdrHistogram, in base64.
fn serialized(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    written.expect("a histogram of this size fits, and a vector accepts each write");
    BASE64_STANDARD.encode(bytes)
}

fn values(histogram: &Histogram<u64>) -> [String; 8] {
    if histogram.is_empty() {
        return [const { "-" }; 8].map(str::to_owned);
    }
    let [p50, p90, p99, p999, p9999] =
        QUANTILES.map(|(_, quantile)| histogram.value_at_quantile(quantile));
    [histogram.min(), histogram.mean() as u64, p50, p90, p99, p999, p9999, histogram.max()]
        .map(millis)
}

pub(crate) fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
