//! Tests of `EurekaClient` against a fake Eureka. Eureka is the registry in which the services of Zowe register.

use std::time::Duration;

use test_support::{
    eureka::{FakeEureka, Registration, gzip},
    fake::{Answer, Behaviour},
    pki::{self, Authority, Clients},
    raw::Step,
};
use tokio::time::{advance, pause, resume};
use tower_passticket::{
    eureka::{EurekaClient, Fetch, Registry},
    tls::Connector,
};

fn connector(identity: Option<&pki::Identity>) -> Connector {
    let builder = Connector::builder().with_authorities(Authority::trusted().pem().as_bytes());
    match identity {
        None => builder.build().unwrap(),
        Some(it) => {
            builder.with_identity(it.certificate.as_bytes(), it.key.as_bytes()).build().unwrap()
        }
    }
}

fn client(hosts: &[&FakeEureka]) -> EurekaClient<Connector> {
    let hosts = hosts.iter().map(|eureka| eureka.url().parse().unwrap());
    EurekaClient::new(connector(None), hosts.collect::<Vec<_>>())
}

async fn eureka() -> FakeEureka {
    FakeEureka::https(pki::SERVER.acceptor()).await
}

/// Returns the id and the status of each instance in `registry`.
fn seen(registry: &Registry) -> String {
    let shown = registry.instances().map(|it| format!("{} {}", it.id, it.status.as_str()));
    shown.collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn changes_are_fetched_as_a_delta_and_after_a_missed_change_all_instances_are_fetched() {
    let eureka = eureka().await;
    let mut client = client(&[&eureka]);
    eureka.register(Registration::https("files", "zos1", 1).with_route("api/v1", "/x"));
    eureka.register(Registration::http("jobs", "zos1", 2));

    let first = client.fetch().await.unwrap();
    assert_eq!((first.fetch, first.has_changed), (Fetch::Full, true));
    assert_eq!(seen(client.registry()), "zos1:files:1 UP,zos1:jobs:2 UP");
    let files = client.registry().instances().next().unwrap();
    assert_eq!(files.metadata["apiml.routes.api-v1.serviceUrl"], "/x");
    assert_eq!((files.port, files.secure_port), (None, Some(1)));
    let again = client.fetch().await.unwrap();
    assert_eq!((again.fetch, again.has_changed), (Fetch::Delta, false));

    eureka.set_status("zos1:files:1", "DOWN");
    eureka.cancel("zos1:jobs:2");
    eureka.register(Registration::https("new", "zos2", 3));
    let delta = client.fetch().await.unwrap();
    assert_eq!((delta.fetch, delta.has_changed), (Fetch::Delta, true));
    assert_eq!(seen(client.registry()), "zos1:files:1 DOWN,zos2:new:3 UP");

    eureka.set_status("zos1:files:1", "UP");
    eureka.forget_changes();
    eureka.take_requests();
    let full = client.fetch().await.unwrap();
    assert_eq!((full.fetch, full.has_changed), (Fetch::Full, true));
    assert_eq!(seen(client.registry()), "zos1:files:1 UP,zos2:new:3 UP");
    assert_eq!(eureka.take_requests(), ["GET /eureka/apps/delta", "GET /eureka/apps"]);
}

/// One instance has replaced another. Neither the delta, which is empty, nor the hash code shows this change.
#[tokio::test]
async fn after_two_minutes_without_a_fetch_all_instances_are_fetched() {
    let eureka = eureka().await;
    let mut client = client(&[&eureka]);
    eureka.register(Registration::https("a", "zos1", 1));
    client.fetch().await.unwrap();
    eureka.cancel("zos1:a:1");
    eureka.register(Registration::https("b", "zos1", 1));
    eureka.forget_changes();
    assert_eq!(client.fetch().await.unwrap().fetch, Fetch::Delta);
    assert_eq!(seen(client.registry()), "zos1:a:1 UP");
    pause();
    advance(Duration::from_secs(121)).await;
    resume();
    assert_eq!(client.fetch().await.unwrap().fetch, Fetch::Full);
    assert_eq!(seen(client.registry()), "zos1:b:1 UP");
}

#[tokio::test]
async fn the_next_host_is_asked_and_without_any_answer_the_registry_stays_unchanged() {
    let (mut first, mut second) = (eureka().await, eureka().await);
    for eureka in [&first, &second] {
        eureka.register(Registration::https("files", "zos1", 1));
    }
    let mut client = client(&[&first, &second]);
    assert_eq!(client.fetch().await.unwrap().address.to_string(), first.url());

    first.stop().await;
    let fetched = client.fetch().await.unwrap();
    assert_eq!((fetched.fetch, fetched.address.to_string()), (Fetch::Full, second.url()));
    assert_eq!(fetched.failed.len(), 1, "{fetched:?}");
    // The next fetch begins with the host that has answered last.
    assert_eq!(client.fetch().await.unwrap().fetch, Fetch::Delta);

    second.stop().await;
    let error = client.fetch().await.unwrap_err();
    assert!(!error.is_answer(), "{error}");
    assert_eq!(seen(client.registry()), "zos1:files:1 UP");
}

#[tokio::test]
async fn wrong_answers_leave_the_registry_unchanged() {
    let eureka = eureka().await;
    eureka.register(Registration::https("files", "zos1", 1));
    let mut client = client(&[&eureka]);
    client.fetch().await.unwrap();

    let spaces = " ".repeat(17 * 1024 * 1024);
    let bomb = gzip(Answer::text(200, &spaces));
    assert!(bomb.body.len() < 100_000);
    let many = vec!["{}"; 10_001].join(",");
    let many = format!(r#"{{"applications":{{"application":{{"instance":[{many}]}}}}}}"#);
    let text = |text: &str| Answer::text(200, text);
    for (answer, want) in [
        (text("<applications/>"), "not the expected JSON"),
        (text("{}"), "not a registry"),
        (text(r#"{"applications":{"application":[{"instance":[{"#), "not the expected JSON"),
        (text(&many), "more than 10000 instances"),
        (text(&spaces), "more than 16777216 bytes"),
        (bomb, "more than 16777216 bytes after decompression"),
        (gzip(gzip(text("{}"))), "coding other than gzip"),
        (Answer::empty(403), "client certificate"),
        (Answer::empty(404), "status 404"),
        (Answer::empty(500), "status 500"),
    ] {
        let steps = vec![Step::Send(answer.to_bytes()), Step::ShutDown];
        eureka.behave(Behaviour::Scripted(steps));
        let error = client.fetch().await.unwrap_err().to_string();
        assert!(error.contains(want) && error.contains(&eureka.url()), "{error}");
        assert_eq!(seen(client.registry()), "zos1:files:1 UP", "{error}");
    }
    eureka.behave(Behaviour::Right);
    assert_eq!(client.fetch().await.unwrap().fetch, Fetch::Full);
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_time_is_an_error() {
    let eureka = eureka().await;
    eureka.behave(Behaviour::Scripted(vec![Step::send("HTTP/1.1 200 OK\r\n\r\n{"), Step::Stall]));
    let mut client = client(&[&eureka]);
    let fetch = tokio::spawn(async move { client.fetch().await });
    crate::until(|| !eureka.requests().is_empty()).await;
    pause();
    let error = fetch.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no response within 10s"), "{error}");
}

#[tokio::test]
async fn the_client_certificate_is_presented_and_the_server_is_verified() {
    let acceptor = pki::SERVER.acceptor_of_clients(Clients::MayHaveCertificate);
    let eureka = FakeEureka::https(acceptor).await;
    eureka.require_certificate();
    let hosts = || [eureka.url().parse().unwrap()];
    let error = client(&[&eureka]).fetch().await.unwrap_err().to_string();
    assert!(error.contains("needs a client certificate"), "{error}");
    let mut known = EurekaClient::new(connector(Some(&pki::USER)), hosts());
    known.fetch().await.unwrap();

    let stranger = Authority::stranger();
    let connector = Connector::builder().with_authorities(stranger.pem().as_bytes());
    let mut distrusting = EurekaClient::new(connector.build().unwrap(), hosts());
    let error = distrusting.fetch().await.unwrap_err();
    assert!(!error.is_answer(), "{error}");
}
