//! Tests of the audit files: `audit.jsonl`, and the file for requests without a user.

use std::{fs, time::Duration};

use crate::support::Demo;
use serde_json::Value;
use test_support::PATIENCE;
use tokio::time::{Instant, sleep};

fn lines(demo: &Demo, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(demo.directory.join(file)).unwrap();
    let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    complete.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_user_are_counted_in_a_separate_audit_file() {
    const REQUESTS: u64 = 300;
    let demo = Demo::start();
    let client = demo.client();
    let token = demo.login().await;
    let url = demo.at("/dcpassticket/api/v1/request?secret=1");
    let started = Instant::now();
    for number in 0..REQUESTS {
        let request = client.get(&url);
        // The requests with odd numbers send a text that is not a token.
        let request = if number % 2 == 0 { request } else { request.bearer_auth("x.y.z") };
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let seconds = started.elapsed().as_secs() + 2;
    let response = client.get(&url).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);

    let deadline = Instant::now() + PATIENCE;
    let sums = loop {
        let sums = lines(&demo, "audit.unauthenticated.jsonl");
        let count = |line: &Value| line["count"].as_u64().unwrap();
        if sums.iter().map(count).sum::<u64>() == REQUESTS {
            break sums;
        }
        assert!(Instant::now() < deadline, "{sums:?}");
        sleep(Duration::from_millis(20)).await;
    };
    assert!(sums.len() as u64 <= 2 * seconds, "{sums:?}");
    for line in &sums {
        let reason = line["reason"].as_str().unwrap();
        assert!(["no-credential", "token-malformed"].contains(&reason), "{line}");
        assert_eq!(line["service"], "dcpassticket");
        assert_eq!(
            (&line["method"], &line["path"]),
            (&"GET".into(), &"/dcpassticket/api/v1/request".into())
        );
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    // The file `audit.jsonl` contains only the authenticated requests, with method and path.
    loop {
        let records = lines(&demo, "audit.jsonl");
        let events: Vec<_> =
            records.iter().map(|record| record["event"].as_str().unwrap()).collect();
        if events.len() == 3 {
            assert_eq!(events, ["login", "authentication", "ticket"]);
            let paths: Vec<_> =
                records.iter().map(|record| record["path"].as_str().unwrap()).collect();
            let request = "/dcpassticket/api/v1/request";
            assert_eq!(paths, ["/gateway/api/v1/auth/login", request, request]);
            break;
        }
        assert!(Instant::now() < deadline, "{records:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
