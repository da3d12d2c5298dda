//! Names and help texts. A `const` with a name that Prometheus does not permit does not compile.

/// The name, the help text and the kind of a metric.
///
/// Make a description a `const`. The compiler then checks its name.
///
/// ```compile_fail
/// use tower_passticket::metrics::Description;
///
/// // The name of a counter must end with `_total`.
/// const REQUESTS: Description = Description::counter("requests", "Requests.");
/// # let _ = REQUESTS;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Description {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Description {
    /// Describes a metric whose value never decreases while the process runs.
    ///
    /// # Panics
    /// This function panics in three cases: `name` contains other characters than ASCII letters, digits, `_` and `:`,
    /// it begins with a digit, or it does not end with `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        assert!(is_name(name, true), "a metric name has letters, digits, `_` and `:` only");
        assert!(ends_with_total(name), "the name of a counter ends with `_total`");
        Self { name, help, kind: Kind::Counter }
    }

    /// Describes a metric whose value can decrease.
    ///
    /// # Panics
    /// This function panics in three cases: `name` is empty, it contains other characters than ASCII letters, digits,
    /// `_` and `:`, or it begins with a digit.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        assert!(is_name(name, true), "a metric name has letters, digits, `_` and `:` only");
        Self { name, help, kind: Kind::Gauge }
    }

    /// Describes a [`Histogram`](super::Histogram). The name should end with `_seconds`.
    ///
    /// # Panics
    /// This function panics in three cases: `name` is empty, it contains other characters than ASCII letters, digits,
    /// `_` and `:`, or it begins with a digit.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        assert!(is_name(name, true), "a metric name has letters, digits, `_` and `:` only");
        Self { name, help, kind: Kind::Histogram }
    }

    /// Returns the name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the help text.
    pub const fn help(&self) -> &'static str {
        self.help
    }
}

/// The name of a label. Make it a `const`, so that the compiler checks the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelName(&'static str);

impl LabelName {
    /// Creates a label name.
    ///
    /// # Panics
    /// This function panics in three cases: `name` is empty, it contains other characters than ASCII letters, digits
    /// and `_`, or it begins with a digit.
    pub const fn new(name: &'static str) -> Self {
        assert!(is_name(name, false), "a label name has letters, digits and `_` only");
        Self(name)
    }

    /// Returns the name as text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Returns whether `name` follows the rules of <https://prometheus.io/docs/concepts/data_model/>. Only the name of a
/// metric may contain colons.
const fn is_name(name: &str, colons: bool) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let is_allowed = match bytes[at] {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
            b'0'..=b'9' => at > 0,
            b':' => colons,
            _ => false,
        };
        if !is_allowed {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

const fn ends_with_total(name: &str) -> bool {
    matches!(name.as_bytes(), [.., b'_', b't', b'o', b't', b'a', b'l'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_and_underscores() {
        for (name, of_metric, of_label) in [
            ("a", true, true),
            ("_a9_Z", true, true),
            ("a:b", true, false),
            ("", false, false),
            ("9a", false, false),
            ("a-b", false, false),
            ("a b", false, false),
            ("a\"", false, false),
            ("\u{e4}", false, false),
        ] {
            assert_eq!(
                (is_name(name, true), is_name(name, false)),
                (of_metric, of_label),
                "{name}"
            );
        }
        assert!(ends_with_total("a_total") && !ends_with_total("a") && !ends_with_total("total"));
    }
}
