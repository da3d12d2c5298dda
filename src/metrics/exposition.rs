//! The text format of Prometheus, version 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::{
    collections::HashSet,
    fmt::{Display, Write},
};

use super::{
    description::{Description, LabelName},
    family::{CounterFamily, LabelSet},
    value::Histogram,
};

/// The value of `Content-Type` for a response with the text of a [`MetricRegistry`](super::MetricRegistry).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label of Prometheus for the upper limit of a bucket.
const LE: LabelName = LabelName::new("le");

/// The text of the metrics while it is being written. The [`MetricRegistry`](super::MetricRegistry) passes it to each
/// [`Collect`](super::Collect).
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    written: HashSet<&'static str>,
}

impl Exposition {
    /// Writes a metric that has no labels.
    pub fn value(&mut self, metric: &Description, value: impl Into<i128>) {
        self.series(metric, [([], value.into())]);
    }

    /// Writes a counter with its labels, one line for each combination.
    pub fn family<L: LabelSet>(&mut self, metric: &Description, family: &CounterFamily<L>) {
        if self.begin(metric) {
            for (labels, value) in family.iter() {
                self.sample(metric, labels.pairs(), value.into());
            }
        }
    }

    /// Writes a metric whose label values are not fixed when the program is compiled, unlike the values of a
    /// [`Label`](super::Label). An example is the name of a file. Do not use values that a client can choose. If
    /// `samples` is empty, nothing is written.
    pub fn series<'v, const N: usize, V: Into<i128>>(
        &mut self,
        metric: &Description,
        samples: impl IntoIterator<Item = ([(LabelName, &'v str); N], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() && self.begin(metric) {
            for (labels, value) in samples {
                self.sample(metric, labels, value.into());
            }
        }
    }

    /// Writes a histogram, with times in seconds.
    pub fn histogram(&mut self, metric: &Description, histogram: &Histogram) {
        self.histograms(metric, [([], histogram)]);
    }

    /// Writes a histogram with times in seconds. As in [`series`](Self::series), its label values are not fixed when
    /// the program is compiled. If `samples` is empty, nothing is written.
    pub fn histograms<'v, const N: usize>(
        &mut self,
        metric: &Description,
        samples: impl IntoIterator<Item = ([(LabelName, &'v str); N], &'v Histogram)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() && self.begin(metric) {
            for (labels, histogram) in samples {
                self.buckets(metric.name, labels, histogram);
            }
        }
    }

    fn buckets<const N: usize>(
        &mut self,
        name: &str,
        labels: [(LabelName, &str); N],
        histogram: &Histogram,
    ) {
        let mut count = 0;
        for (limit, up_to) in histogram.cumulative() {
            let limit = limit.map_or("+Inf".to_owned(), |limit| limit.as_secs_f64().to_string());
            let with_limit = labels.into_iter().chain([(LE, limit.as_str())]);
            self.line(name, "_bucket", with_limit, up_to);
            count = up_to;
        }
        self.line(name, "_sum", labels, histogram.sum().as_secs_f64());
        self.line(name, "_count", labels, count);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Writes the lines `# HELP` and `# TYPE`, which come before the samples. A second block with the same name would
    /// make the whole text invalid. So if the text already contains this metric, a debug build panics. A release build
    /// writes nothing, and returns `false`.
    fn begin(&mut self, metric: &Description) -> bool {
        let is_new = self.written.insert(metric.name);
        debug_assert!(is_new, "{} is written twice", metric.name);
        if is_new {
            let Description { name, help, kind } = metric;
            self.text.push_str("# HELP ");
            self.text.push_str(name);
            self.text.push(' ');
            push_escaped(&mut self.text, help, Escape::Help);
            self.text.push_str("\n# TYPE ");
            self.text.push_str(name);
            self.text.push(' ');
            self.text.push_str(kind.as_str());
            self.text.push('\n');
        }
        is_new
    }

    fn sample<'v>(
        &mut self,
        metric: &Description,
        labels: impl IntoIterator<Item = (LabelName, &'v str)>,
        value: i128,
    ) {
        self.line(metric.name, "", labels, value);
    }

    fn line<'v>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl IntoIterator<Item = (LabelName, &'v str)>,
        value: impl Display,
    ) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels {
            self.text.push(before);
            before = ',';
            self.text.push_str(name.as_str());
            self.text.push_str("=\"");
            push_escaped(&mut self.text, value, Escape::Label);
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Help,
    Label,
}

fn push_escaped(to: &mut String, text: &str, escape: Escape) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if escape == Escape::Label => to.push_str("\\\""),
            c => to.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FILE: LabelName = LabelName::new("file");
    const LINE: LabelName = LabelName::new("line");

    fn text(write: impl FnOnce(&mut Exposition)) -> String {
        let mut exposition = Exposition::default();
        write(&mut exposition);
        exposition.into_text()
    }

    #[test]
    fn each_metric_has_help_and_type_before_its_samples() {
        const OPEN: Description = Description::gauge("open", "Open connections.");
        const DONE: Description = Description::counter("done_total", "Done.");
        let got = text(|e| {
            e.value(&OPEN, -3_i64);
            e.value(&DONE, u64::MAX);
        });
        assert_eq!(
            got,
            "# HELP open Open connections.\n# TYPE open gauge\nopen -3\n\
             # HELP done_total Done.\n# TYPE done_total counter\ndone_total 18446744073709551615\n"
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_are_cumulative() {
        const WAIT: Description = Description::histogram("wait_seconds", "Wait.");
        const LIMITS: &[Duration] = &[Duration::from_millis(5), Duration::from_secs(1)];
        let histogram = Histogram::new(LIMITS);
        [5, 6, 1000, 1001].into_iter().for_each(|it| histogram.observe(Duration::from_millis(it)));
        assert_eq!(
            text(|e| e.histogram(&WAIT, &histogram)),
            "# HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n\
             wait_seconds_bucket{le=\"0.005\"} 1\nwait_seconds_bucket{le=\"1\"} 3\n\
             wait_seconds_bucket{le=\"+Inf\"} 4\nwait_seconds_sum 2.012\nwait_seconds_count 4\n"
        );
    }

    #[test]
    fn histograms_have_their_labels_in_each_sample() {
        const WAIT: Description = Description::histogram("wait_seconds", "Wait.");
        const LIMITS: &[Duration] = &[Duration::from_micros(50)];
        let histograms = [Histogram::new(LIMITS), Histogram::new(LIMITS)];
        histograms[1].observe(Duration::from_nanos(50_001));
        let got = text(|e| {
            let samples = ["a\"", "b"].into_iter().zip(&histograms);
            e.histograms(&WAIT, samples.map(|(file, it)| ([(FILE, file)], it)));
        });
        assert_eq!(
            got,
            "# HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n\
             wait_seconds_bucket{file=\"a\\\"\",le=\"0.00005\"} 0\n\
             wait_seconds_bucket{file=\"a\\\"\",le=\"+Inf\"} 0\n\
             wait_seconds_sum{file=\"a\\\"\"} 0\nwait_seconds_count{file=\"a\\\"\"} 0\n\
             wait_seconds_bucket{file=\"b\",le=\"0.00005\"} 0\n\
             wait_seconds_bucket{file=\"b\",le=\"+Inf\"} 1\n\
             wait_seconds_sum{file=\"b\"} 0.000050001\nwait_seconds_count{file=\"b\"} 1\n"
        );
    }

    #[test]
    fn help_texts_and_label_values_are_escaped() {
        for (given, help, label) in [
            ("plain", "plain", "plain"),
            (r"back\slash", r"back\\slash", r"back\\slash"),
            ("two\nlines", r"two\nlines", r"two\nlines"),
            ("a \"quote\"", "a \"quote\"", r#"a \"quote\""#),
            ("\\\"\n", "\\\\\"\\n", r#"\\\"\n"#),
            ("brace } and , = {", "brace } and , = {", "brace } and , = {"),
            ("umlaut \u{e4}", "umlaut \u{e4}", "umlaut \u{e4}"),
        ] {
            let help_text: &'static str = Box::leak(given.to_owned().into_boxed_str());
            let metric = Description { help: help_text, ..Description::gauge("m", "") };
            let got = text(|e| e.series(&metric, [([(FILE, given), (LINE, "1")], 1)]));
            let want =
                format!("# HELP m {help}\n# TYPE m gauge\nm{{file=\"{label}\",line=\"1\"}} 1\n");
            assert_eq!(got, want, "{given}");
        }
    }

    #[test]
    fn a_metric_without_samples_is_left_out() {
        const NONE: Description = Description::gauge("none", "Nothing.");
        let got = text(|e| e.series(&NONE, std::iter::empty::<([(LabelName, &str); 1], i64)>()));
        assert_eq!(got, "");
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "twice_total is written twice"))]
    fn a_metric_must_not_be_written_twice() {
        const TWICE: Description = Description::counter("twice_total", "Twice.");
        let got = text(|e| {
            e.value(&TWICE, 1);
            e.value(&TWICE, 2);
        });
        assert!(got.ends_with("twice_total 1\n"), "{got}");
    }
}
