//! Tests of refused PassTickets (short-lived passwords of z/OS). If the key of the gateway is wrong, the service
//! refuses each PassTicket, and z/OS counts a wrong password of the user. After several wrong passwords, z/OS revokes
//! the user id. So the gateway must stop sending PassTickets before that, even with many clients, several nodes and
//! restarts.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU16, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, DATE},
};
use http_body_util::Full;
use hyper::body::Incoming;
use reqwest::Client;
use serde_json::Value;
use test_support::{PATIENCE, raw::listener};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep},
};
use tower_passticket::tls::Server;

use crate::{
    support::{
        Demo, admin_address, certified,
        cluster::{Site, redis},
        metric, with_site,
    },
    takeover::{successor, wait_for_socket},
};

/// A service like one on z/OS. If a request has a PassTicket, the service answers with `status`. Otherwise, it answers
/// with 401.
#[derive(Clone)]
struct Zos {
    status: Arc<AtomicU16>,
    /// The users of the PassTickets, in the order of their requests.
    tickets: Arc<Mutex<Vec<String>>>,
    /// The clock of the service minus the real time, in seconds.
    ahead: Arc<AtomicI64>,
    url: String,
}

impl Zos {
    async fn start() -> Self {
        let (listener, address) = listener().await;
        let zos = Self {
            status: Arc::new(AtomicU16::new(401)),
            tickets: Arc::default(),
            ahead: Arc::default(),
            url: format!("http://{address}"),
        };
        let answering = zos.clone();
        let service = tower::service_fn(move |request| answering.clone().answer(request));
        tokio::spawn(Server::http(listener).run(service, std::future::pending()));
        zos
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let basic = request.headers().get(AUTHORIZATION).map(|it| it.to_str().unwrap());
        let mut response = Response::new(Full::default());
        let status = match basic {
            None => 401,
            Some(basic) => {
                let basic = BASE64_STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap();
                let text = String::from_utf8(basic).unwrap();
                let user = text.split(':').next().unwrap().to_owned();
                self.tickets.lock().unwrap().push(user);
                // During this time, the other requests of the test arrive.
                sleep(Duration::from_millis(50)).await;
                self.status.load(SeqCst)
            }
        };
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let date = http_date(unix + self.ahead.load(SeqCst));
        response.headers_mut().insert(DATE, HeaderValue::from_str(&date).unwrap());
        Ok(response)
    }

    fn set(&self, status: u16) {
        self.status.store(status, SeqCst);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.tickets.lock().unwrap())
    }
}

/// Returns a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(unix: i64) -> String {
    let (days, secs) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (mut year, mut rest) = (1970, days);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!(
        "{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT",
        rest + 1,
        months[month]
    )
}

#[test]
fn the_dates_of_the_service_are_right() {
    assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(http_date(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
}

struct Gateway {
    demo: Demo,
    zos: Zos,
    admin: SocketAddr,
}

impl Gateway {
    async fn start() -> Self {
        Self::with(|yaml| yaml).await
    }

    async fn with(edit: impl FnOnce(String) -> String + Send + 'static) -> Self {
        let zos = Zos::start().await;
        let url = zos.url.clone();
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            let yaml = with_site(directory, &yaml, &url);
            edit(yaml.replace("    users: users.yml", "    admin: {port: 0}\n    users: users.yml"))
        })
        .await;
        let admin = admin_address(&mut demo.program);
        Self { demo, zos, admin }
    }

    /// Starts the program again, after it was killed.
    async fn restarted(self) -> Self {
        let Self { demo, zos, .. } = self;
        let mut demo = spawn_blocking(|| demo.restarted()).await.unwrap();
        let admin = admin_address(&mut demo.program);
        Self { demo, zos, admin }
    }

    fn client_of(&self, user: &str) -> Client {
        certified(self.demo.builder(), user)
    }

    /// Sends requests of a user at the same time. Returns the texts of `X-Zowe-Auth-Failure`.
    async fn requests(&self, user: &str, count: usize) -> Vec<Option<String>> {
        requests(&self.client_of(user), &self.demo.url, count).await
    }

    async fn health(&self) -> Value {
        let answer = reqwest::get(format!("http://{}/health", self.admin)).await.unwrap();
        answer.json().await.unwrap()
    }

    async fn resume(&self, query: &str) -> (u16, Value) {
        let url = format!("http://{}/tickets/resume{query}", self.admin);
        let answer = Client::new().post(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until the gateway has made the file about stopped tickets.
    async fn saved(&self) -> PathBuf {
        let file = self.demo.directory.join("revocations.redb.stopped-tickets");
        let deadline = Instant::now() + PATIENCE;
        while !file.exists() {
            assert!(Instant::now() < deadline, "the file does not appear");
            sleep(Duration::from_millis(5)).await;
        }
        file
    }
}

async fn requests(client: &Client, url: &str, count: usize) -> Vec<Option<String>> {
    let requests: JoinSet<_> = (0..count)
        .map(|number| client.get(format!("{url}/svc/api/v1/path{number}")).send())
        .collect();
    let answers = requests.join_all().await.into_iter().map(|answer| {
        let answer = answer.unwrap();
        let header = answer.headers().get("x-zowe-auth-failure");
        header.map(|text| text.to_str().unwrap().to_owned())
    });
    answers.collect()
}

fn are_stopped(failures: &[Option<String>]) -> usize {
    let stopped = failures.iter().flatten().filter(|text| {
        text.starts_with("ZWEAG141E The generation of the PassTicket failed. Reason: PassTicket evaluation failure.")
    });
    stopped.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_30_requests_with_a_wrong_key_one_sends_a_ticket_until_tickets_are_resumed() {
    let gateway = Gateway::start().await;
    let failures = gateway.requests("U1", 30).await;
    assert_eq!(gateway.zos.take(), ["U1"]);
    assert_eq!(are_stopped(&failures), 29, "{failures:?}");
    gateway.requests("U2", 1).await;
    assert_eq!(gateway.zos.take(), ["U2"]);

    let health = gateway.health().await;
    assert_eq!(health["status"], "UP");
    let tickets = &health["passtickets"];
    assert_eq!((&tickets["stoppedUsers"], &tickets["users"][0]["user"]), (&2.into(), &"U1".into()));
    assert!(tickets["check"].as_str().unwrap().contains("algorithm"), "{tickets}");
    let client = Client::new();
    for (series, want) in [
        ("passticket_refused_tickets_total", 2),
        ("passticket_stopped_tickets_total{stopped=\"user\"}", 29),
        ("passticket_stopped_users", 2),
        ("passticket_stopped_applids", 0),
    ] {
        assert_eq!(metric(&client, gateway.admin, series).await, want, "{series}");
    }

    // The operator has repaired the key.
    gateway.zos.set(200);
    assert_eq!(are_stopped(&gateway.requests("U1", 1).await), 1);
    for (query, status) in [("?user=a.b", 400), ("?applid=OTHER", 200)] {
        assert_eq!(gateway.resume(query).await.0, status, "{query}");
    }
    assert_eq!(are_stopped(&gateway.requests("U1", 1).await), 1);
    let (status, document) = gateway.resume("?applid=ZOWEAPPL&user=U1").await;
    assert_eq!((status, &document["resumed"]), (200, &1.into()));
    let failures = gateway.requests("U1", 30).await;
    assert!(failures.iter().all(Option::is_none), "{failures:?}");
    assert_eq!(gateway.zos.take().len(), 30);
    assert_eq!(are_stopped(&gateway.requests("U2", 1).await), 1);
    assert_eq!(gateway.resume("").await.1["resumed"], 1);
    assert_eq!(are_stopped(&gateway.requests("U2", 1).await), 0);
    assert!(gateway.health().await.get("passtickets").is_none());
    let audit = fs::read_to_string(gateway.demo.directory.join("audit.jsonl")).unwrap();
    for part in [r#""event":"tickets-stopped""#, r#""event":"tickets-resumed""#, "compare key"] {
        assert!(audit.contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_users_no_user_gets_a_ticket() {
    let gateway = Gateway::start().await;
    let clients: Vec<_> = (0..10).map(|number| gateway.client_of(&format!("U{number}"))).collect();
    let all: JoinSet<_> = clients
        .into_iter()
        .map(|client| {
            let url = gateway.demo.url.clone();
            async move { requests(&client, &url, 5).await }
        })
        .collect();
    let failures = all.join_all().await.concat();
    let mut users = gateway.zos.take();
    assert_eq!(users.len(), 3, "{users:?}");
    users.dedup();
    assert_eq!(users.len(), 3, "{users:?}");
    assert_eq!(are_stopped(&failures), 47);
    let health = gateway.health().await;
    let applid = &health["passtickets"]["applids"][0];
    assert_eq!((&applid["key"], &applid["stopped"]), (&"ZOWEAPPL".into(), &true.into()));
    // The auth API makes no ticket either.
    let ticket = gateway.demo.client_of("APIMTST").post(gateway.demo.auth("ticket"));
    let ticket = ticket.bearer_auth(gateway.demo.login().await);
    let body = serde_json::json!({"applicationName": "ZOWEAPPL"});
    let answer = ticket.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("ZWEAG141E"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_refused_statuses_says_which_statuses_are_refusals() {
    for (statuses, status, want) in
        [("none", 401, 5), ("[403]", 401, 5), ("[403]", 403, 1), ("[401, 500]", 500, 1)]
    {
        let setting = format!("    services: {{svc: {{refusedStatuses: {statuses}}}}}\n");
        let gateway = Gateway::with(move |yaml| yaml + &setting).await;
        gateway.zos.set(status);
        for _ in 0..5 {
            gateway.requests("U1", 1).await;
        }
        assert_eq!(gateway.zos.take().len(), want, "{statuses} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_setting_refusals_2_tickets_stop_after_two_refusals() {
    let edit =
        |yaml: String| yaml.replace("applid: ZOWEAPPL", "applid: ZOWEAPPL\n        refusals: 2");
    let gateway = Gateway::with(edit).await;
    let failures = gateway.requests("U1", 30).await;
    assert_eq!(gateway.zos.take().len(), 2);
    assert_eq!(are_stopped(&failures), 28);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_tickets_stay_stopped_after_a_kill_of_the_program() {
    let mut gateway = Gateway::start().await;
    gateway.requests("U1", 30).await;
    assert_eq!(gateway.zos.take().len(), 1);
    gateway.saved().await;
    gateway.demo.program.kill();
    gateway.demo.program.wait();
    let gateway = gateway.restarted().await;
    assert_eq!(are_stopped(&gateway.requests("U1", 30).await), 30);
    assert!(gateway.zos.take().is_empty());
    gateway.requests("U2", 1).await;
    assert_eq!(gateway.zos.take(), ["U2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_damaged_file_one_ticket_at_a_time_is_sent_until_one_is_accepted() {
    let mut gateway = Gateway::start().await;
    gateway.requests("U1", 1).await;
    let file = gateway.saved().await;
    gateway.demo.program.kill();
    gateway.demo.program.wait();
    fs::write(file, "{").unwrap();
    gateway.zos.take();
    let gateway = gateway.restarted().await;
    let (url, clients) = (&gateway.demo.url, ["U2", "U3"].map(|user| gateway.client_of(user)));
    let [two, three] = &clients;
    tokio::join!(requests(two, url, 15), requests(three, url, 15));
    // The gateway sends one ticket at a time. It sends the ticket of the other user only after the first ticket was
    // refused.
    let users = gateway.zos.take();
    assert!(matches!(&users[..], [_]) || users.len() == 2 && users[0] != users[1], "{users:?}");
    gateway.zos.set(200);
    assert_eq!(are_stopped(&gateway.requests("U4", 1).await), 0);
    assert_eq!(are_stopped(&gateway.requests("U5", 5).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_tickets_stay_stopped_after_a_takeover() {
    let gateway = Gateway::start().await;
    wait_for_socket(&gateway.demo).await;
    gateway.requests("U1", 30).await;
    assert_eq!(gateway.zos.take().len(), 1);
    let next = successor(&gateway.demo.directory.join("zowe.yaml")).await;
    assert_eq!(are_stopped(&gateway.requests("U1", 30).await), 30);
    assert!(gateway.zos.take().is_empty());
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_together_send_one_wrong_ticket() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let zos = Zos::start().await;
    let yaml = fs::read_to_string(site.directory().join("zowe.yaml")).unwrap();
    fs::write(site.directory().join("zowe.yaml"), with_site(site.directory(), &yaml, &zos.url))
        .unwrap();
    let nodes = site.start_all(["a", "b"]).await;
    let client = certified(site.builder(), "U1");
    let (a, b) =
        tokio::join!(requests(&client, &nodes[0].url, 15), requests(&client, &nodes[1].url, 15));
    assert_eq!(zos.take().len(), 1);
    assert_eq!(are_stopped(&a) + are_stopped(&b), 29);
    // Both nodes report the stopped tickets. If an administrator resumes the tickets at one node, both nodes resume
    // them.
    let deadline = Instant::now() + PATIENCE;
    for node in &nodes {
        while node.health("/health").await.1["passtickets"]["stoppedUsers"] != 1 {
            assert!(Instant::now() < deadline, "a node does not know the stop");
            sleep(Duration::from_millis(50)).await;
        }
    }
    zos.set(200);
    let url = format!("http://{}/tickets/resume", nodes[0].admin);
    assert_eq!(Client::new().post(url).send().await.unwrap().status(), 200);
    while nodes[1].health("/health").await.1.get("passtickets").is_some() {
        assert!(Instant::now() < deadline, "a node does not know that tickets were resumed");
        sleep(Duration::from_millis(50)).await;
    }
    for node in &nodes {
        assert_eq!(are_stopped(&requests(&client, &node.url, 5).await), 0);
    }
    assert_eq!(zos.take().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_the_service_causes_a_warning_and_then_stops_tickets() {
    let gateway = Gateway::start().await;
    gateway.zos.set(200);
    let deadline = Instant::now() + PATIENCE;
    for (ahead, key, want) in
        [(200, "clockDifferenceSeconds", false), (3600, "stoppedByClock", true)]
    {
        gateway.zos.ahead.store(ahead, SeqCst);
        loop {
            let failures = gateway.requests("U1", 1).await;
            let health = gateway.health().await;
            let applid = &health["passtickets"]["applids"][0];
            if applid["stoppedByClock"] == want && !applid[key].is_null() {
                let after = gateway.requests("U1", 1).await;
                assert_eq!(are_stopped(&after) == 1, want, "{health}");
                break;
            }
            assert_eq!(are_stopped(&failures), 0, "{health}");
            assert!(Instant::now() < deadline, "{health}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}
