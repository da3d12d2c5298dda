//! Tests of the metrics of requests, of the table of metrics in the documentation, and of the alerts for Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    Demo, admin_address, metric, output_with_input, user_service, with_site, write_definition,
};
use reqwest::Client;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// A gateway with an admin port and the service `svc`, which receives PassTickets for ZOWEAPPL.
struct Gateway {
    demo: Demo,
    admin: SocketAddr,
    scraper: Client,
}

impl Gateway {
    async fn start() -> Self {
        let service = user_service().await;
        Self::with_files(move |directory, yaml| with_site(directory, &yaml, &service)).await
    }

    async fn with_files(edit: impl FnOnce(&Path, String) -> String + Send + 'static) -> Self {
        let demo = Demo::beside_servers(|directory, yaml| {
            edit(directory, yaml) + "    admin:\n      port: 0\n"
        });
        let mut demo = demo.await;
        let admin = admin_address(&mut demo.program);
        Self { demo, admin, scraper: Client::builder().no_proxy().build().unwrap() }
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin);
        self.scraper.get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn metric(&self, series: &str) -> i64 {
        metric(&self.scraper, self.admin, series).await
    }

    async fn use_it(&self) {
        let (demo, client) = (&self.demo, self.demo.client());
        let token = demo.login().await;
        let get = |path: &str| client.get(demo.at(path));
        for (request, status) in [
            (get("/svc/api/v1/x").bearer_auth(&token), 200),
            (get("/svc/api/v1/x").bearer_auth(&token), 200),
            (get("/svc/api/v1/x"), 200),
            (get("/svc/api/v1/x").bearer_auth("x.y.z"), 200),
            (get("/none/api/v1/x"), 404),
            (get("/svc/api/v1/%252e%252e/x"), 400),
        ] {
            assert_eq!(request.send().await.unwrap().status(), status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_tickets_are_counted_and_timed() {
    let gateway = Gateway::start().await;
    assert!(!gateway.metrics().await.contains("passticket_requests_total{"));
    gateway.use_it().await;
    for (series, want) in [
        (
            r#"requests_total{service="svc",credential="login-token",outcome="forwarded",reason=""}"#,
            2,
        ),
        (
            r#"requests_total{service="svc",credential="none",outcome="forwarded-unauthenticated",reason="no-credential"}"#,
            1,
        ),
        (
            r#"requests_total{service="svc",credential="token",outcome="forwarded-unauthenticated",reason="token-malformed"}"#,
            1,
        ),
        (r#"requests_total{service="",credential="none",outcome="refused",reason="no-route"}"#, 1),
        (
            r#"requests_total{service="",credential="none",outcome="refused",reason="dot-segment"}"#,
            1,
        ),
        (r#"service_duration_seconds_count{service="svc"}"#, 4),
        ("gateway_duration_seconds_count", 6),
        (r#"tickets_total{applid="ZOWEAPPL",result="success"}"#, 2),
        (r#"tickets_total{applid="ZOWEAPPL",result="error"}"#, 0),
        (r#"authentications_total{credential="login-token",outcome="success",reason=""}"#, 2),
        (
            r#"authentications_total{credential="token",outcome="refused",reason="token-malformed"}"#,
            1,
        ),
        (r#"responses_total{kind="route",status="2xx"}"#, 4),
        (r#"revocation_entries{kind="token"}"#, 0),
        ("access_token_misuses_dropped_total", 0),
    ] {
        assert_eq!(gateway.metric(&format!("passticket_{series}")).await, want, "{series}");
    }
    assert!(gateway.metric("passticket_revocation_file_bytes").await > 0);
    let year = 365 * 24 * 3600;
    let start = gateway.metric("process_start_time_seconds").await;
    for certificate in ["gateway", "client-authorities", "service-authorities"] {
        let series = format!(
            "passticket_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}}"
        );
        let left = gateway.metric(&series).await - start;
        assert!((0..50 * year).contains(&left), "{series}: {left}");
    }
    let logout = gateway.demo.client().post(gateway.demo.auth("logout"));
    let token = gateway.demo.login().await;
    assert_eq!(logout.bearer_auth(token).send().await.unwrap().status(), 204);
    assert_eq!(gateway.metric(r#"passticket_revocation_entries{kind="token"}"#).await, 1);
    assert!(gateway.metric("passticket_revocation_commit_seconds_count").await >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_reached_is_a_failed_request() {
    // Nothing listens at port 1.
    let gateway = Gateway::with_files(|directory, yaml| {
        write_definition(directory, "http://127.0.0.1:1");
        yaml
    })
    .await;
    let url = gateway.demo.at("/svc/api/v1/x");
    assert_eq!(gateway.demo.client().get(url).send().await.unwrap().status(), 503);
    let series = r#"passticket_requests_total{service="svc",credential="none",outcome="failed",reason="service-unreachable"}"#;
    assert_eq!(gateway.metric(series).await, 1);
}

/// Runs promtool. Returns `false` if this machine has no promtool. CI has it.
fn promtool(args: &[&str], input: &str) -> bool {
    let mut command = Command::new("promtool");
    if Command::new("promtool").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs promtool: apt-get install prometheus");
        return false;
    }
    let output = output_with_input(command.args(args).current_dir(repository()), input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}\n{out}{err}\n{input}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_metrics() {
    let gateway = Gateway::start().await;
    promtool(&["check", "metrics"], &gateway.metrics().await);
    gateway.use_it().await;
    promtool(&["check", "metrics"], &gateway.metrics().await);
}

/// The kind of a metric, and the names of its labels.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
}

fn documented() -> BTreeMap<String, Described> {
    let page = read("docs/operating/metrics.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `passticket_") || line.starts_with("| `process_"));
    let metrics = rows.map(|row| {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = columns[..] else { panic!("too few columns: {row}") };
        let described = Described { kind: kind.to_owned(), labels: label_names(labels) };
        (name.trim_matches('`').to_owned(), described)
    });
    let metrics: Vec<_> = metrics.collect();
    let number = metrics.len();
    let metrics: BTreeMap<_, _> = metrics.into_iter().collect();
    assert_eq!(metrics.len(), number, "a metric has two rows");
    metrics
}

/// Returns the names of labels in a text such as "`kind`: `a`, `b`; `status`, see below". In this text,
/// `kind` and `status` are labels, and `a` and `b` are values of `kind`.
fn label_names(text: &str) -> BTreeSet<String> {
    let names = text.split(';').flat_map(|part| {
        let mut quoted: Vec<_> = part.split('`').skip(1).step_by(2).collect();
        if part.contains("`: ") {
            quoted.truncate(1);
        }
        quoted
    });
    names.map(str::to_owned).collect()
}

fn exposed(text: &str) -> BTreeMap<String, Described> {
    let mut metrics = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            current = name.to_owned();
            let described = Described { kind: kind.to_owned(), labels: BTreeSet::new() };
            metrics.insert(current.clone(), described);
        } else if let Some((_, labels)) = line.split_once('{') {
            let names = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let names = names.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
            metrics.get_mut(&current).unwrap().labels.extend(names);
        }
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_describes_each_metric() {
    let gateway = Gateway::start().await;
    gateway.use_it().await;
    let text = gateway.metrics().await;
    let (documented, exposed) = (documented(), exposed(&text));
    for (name, metric) in &exposed {
        let row = documented.get(name);
        assert_eq!(row, Some(metric), "{name}: the row in docs/operating/metrics.md");
        let help = format!("# HELP {name} ");
        assert!(text.lines().any(|line| line.len() > help.len() && line.starts_with(&help)));
    }
    // This gateway does not have these metrics. They need an access log, several nodes, the Caching Service of API ML
    // (Zowe's gateway), or a service that sends its time.
    let is_optional = |name: &&String| {
        ["access_log_", "cluster_", "zowe_revocation_", "service_clock_"]
            .map(|start| format!("passticket_{start}"))
            .iter()
            .any(|start| name.starts_with(start.as_str()))
    };
    let missing: Vec<_> = documented
        .keys()
        .filter(|name| !is_optional(name) && !exposed.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "the gateway does not have {missing:?}");
}

#[test]
fn alerts_name_metrics_that_exist_and_have_a_section_in_the_runbook() {
    const ALERTS: &str = "packaging/prometheus/alerts.yml";
    let (rules, documented) = (read(ALERTS), documented());
    let value =
        |line: &'static str| rules.lines().filter_map(move |it| it.trim().strip_prefix(line));
    let alerts: BTreeSet<_> = value("- alert: ").collect();
    assert!(alerts.len() > 20);
    assert_eq!(value("- alert: ").count(), alerts.len(), "an alert has two rules");
    assert_eq!(value("expr: ").count(), alerts.len());
    for expression in value("expr: ") {
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let is_metric =
            |word: &&str| word.starts_with("passticket_") || word.starts_with("process_");
        let names: Vec<_> = words.filter(is_metric).collect();
        assert!(!names.is_empty() || expression.starts_with("'up{"), "{expression}");
        for name in names {
            let is_histogram =
                |base: &str| documented.get(base).is_some_and(|metric| metric.kind == "histogram");
            let is_known = documented.get(name).is_some_and(|it| it.kind != "histogram")
                || ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.strip_suffix(suffix).is_some_and(is_histogram));
            assert!(is_known, "{name} in {ALERTS} is no metric of the gateway");
        }
    }
    let page = read("docs/operating/runbook.md");
    let sections: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts, "the sections of docs/operating/runbook.md");
    let links: BTreeSet<_> =
        value("runbook: docs/operating/runbook.md#").map(str::to_owned).collect();
    assert_eq!(links, alerts.iter().map(|alert| alert.to_ascii_lowercase()).collect());
    promtool(&["check", "rules", ALERTS], "");
    promtool(&["test", "rules", "packaging/prometheus/alerts_test.yml"], "");
}
