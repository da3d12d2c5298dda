//! Tests of services with several instances: definitions, health checks, the list of services.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use test_support::{
    PATIENCE,
    raw::{self, head},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::sleep,
};

use crate::support::{Demo, admin_address};

/// Starts an instance that answers requests with its port, and health checks with `status`. Returns the port.
async fn instance(status: Arc<AtomicUsize>) -> u16 {
    let address = raw::service(move |stream: TcpStream| {
        let status = status.clone();
        async move {
            let port = stream.local_addr().unwrap().port();
            let mut stream = BufReader::new(stream);
            let head = head(&mut stream).await;
            assert!(!head.contains("x-instanceid"), "{head}");
            let status = match head.starts_with("GET /base/health ") {
                true => status.load(Ordering::Relaxed),
                false => 200,
            };
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: 5\r\nconnection: close\r\n\r\n{port:5}"
            );
            let _ = stream.get_mut().write_all(answer.as_bytes()).await;
        }
    })
    .await;
    address.port()
}

async fn until(mut what: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what().await {
        assert!(Instant::now() < deadline, "the condition is not true in time");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_are_used_and_checked_and_listed() {
    let statuses = [200, 200, 401].map(|status| Arc::new(AtomicUsize::new(status)));
    let mut ports = Vec::new();
    for status in &statuses {
        ports.push(instance(status.clone()).await);
    }
    let [first, second, third] = ports[..] else { panic!() };
    let definition = |ports: &[u16]| {
        let urls: Vec<_> =
            ports.iter().map(|port| format!("'http://localhost:{port}/base'")).collect();
        format!(
            "services:\n  - serviceId: svc\n    instanceBaseUrls: [{}]\n    \
             healthCheckRelativeUrl: /health\n    \
             routes: [{{gatewayUrl: api/v1, serviceRelativeUrl: /api}}]\n",
            urls.join(", ")
        )
    };
    // Two files define instances of the same service.
    let files = [definition(&[first, second]), definition(&[third])];
    let mut demo = Demo::beside_servers(move |directory, yaml| {
        fs::write(directory.join("api-defs/demo.yml"), &files[0]).unwrap();
        fs::write(directory.join("api-defs/more.yml"), &files[1]).unwrap();
        yaml + "    admin:\n      port: 0\n    healthChecks:\n      intervalSeconds: 1\n"
    })
    .await;
    let admin = admin_address(&mut demo.program);
    let client = demo.client();
    let get = async |id: Option<&str>| {
        let mut request = client.get(demo.at("/svc/api/v1/x"));
        if let Some(id) = id {
            request = request.header("X-InstanceId", id);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let id = |port: u16| format!("STATIC-localhost:svc:{port}");
    for port in &ports {
        until(async || get(None).await == (200, format!("{port:5}"))).await;
        assert_eq!(get(Some(&id(*port))).await, (200, format!("{port:5}")));
    }
    assert_eq!(get(Some("STATIC-localhost:svc:1")).await.0, 404);

    // A health check that gets 401 has not failed, because a health URL may require a login.
    statuses[0].store(503, Ordering::Relaxed);
    let list = async || {
        let url = demo.at("/gateway/api/v1/services/svc");
        demo.client_of("USER").get(url).send().await.unwrap().json::<Value>().await.unwrap()
    };
    until(async || list().await["instances"][id(first)]["status"] == "DOWN").await;
    let listed = list().await;
    assert_eq!(listed["status"], "UP");
    for port in [second, third] {
        assert_eq!(listed["instances"][id(port)]["status"], "UP", "{listed}");
    }
    for _ in 0..20 {
        let (status, body) = get(None).await;
        assert_eq!(status, 200);
        assert_ne!(body, format!("{first:5}"), "the instance is not healthy");
    }
    let client = reqwest::Client::new();
    let of_admin = async |path| {
        let response = client.get(format!("http://{admin}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    };
    let health: Value = serde_json::from_str(&of_admin("/health").await).unwrap();
    let name = format!("svc at http://localhost:{first}");
    assert_eq!(health["instances"], serde_json::json!({ (name.as_str()): "check-failed" }));
    let metrics = of_admin("/metrics").await;
    for line in [
        "passticket_service_instances{health=\"up\"} 2",
        "passticket_service_instances{health=\"check-failed\"} 1",
        "passticket_service_requests_in_flight 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }
    // The gateway uses the instance again as soon as its check succeeds.
    statuses[0].store(200, Ordering::Relaxed);
    until(async || get(None).await.1 == format!("{first:5}")).await;

    // After a reload that changes other settings, the checks continue. After a reload that removes the checks, the
    // instance counts as healthy.
    statuses[0].store(503, Ordering::Relaxed);
    let failed = async || {
        let health: Value = serde_json::from_str(&of_admin("/health").await).unwrap();
        health["instances"] == serde_json::json!({ (name.as_str()): "check-failed" })
    };
    until(async || failed().await).await;
    let reload = async |from: &str, to: &str| {
        let path = demo.directory.join("zowe.yaml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let answer = client.post(format!("http://{admin}/reload")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    let slower = "intervalSeconds: 1\n      timeoutSeconds: 3\n";
    reload("intervalSeconds: 1\n", slower).await;
    assert!(failed().await);
    reload(slower, "enabled: false\n").await;
    until(async || !failed().await).await;
    // A connection of the client has used the old configuration. Nevertheless, the health checks of that configuration
    // must end. Otherwise, two more of these checks would mark the instance as failed again.
    sleep(Duration::from_millis(2500)).await;
    assert!(!failed().await);
}
