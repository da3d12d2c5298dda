//! Tests of `mode: observe`. In this mode, the gateway decides about each request, but does not enforce the decision:
//! the service gets the credentials of the client.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use test_support::{free_port, raw};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{Demo, metric};

async fn recording_service() -> (String, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let seen = heads.clone();
    let address = raw::service(move |stream: TcpStream| {
        let seen = seen.clone();
        async move {
            let mut stream = BufReader::new(stream);
            let head = raw::head(&mut stream).await;
            seen.lock().unwrap().push(head.to_ascii_lowercase());
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.get_mut().write_all(answer).await.unwrap();
        }
    })
    .await;
    (format!("http://{address}"), heads)
}

fn observed(directory: &Path, yaml: &str, url: &str, admin: u16) -> String {
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"{url}\"]\n    routes:\n      - \
         {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n    authentication: {{scheme: \
         httpBasicPassTicket, applid: ZOWEAPPL}}\n"
    );
    fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
    yaml.replace(
        "  passticket-proxy:\n",
        &format!(
            "  passticket-proxy:\n    admin: {{port: {admin}}}\n    services: {{svc: {{mode: observe}}}}\n"
        ),
    )
}

#[tokio::test]
async fn the_service_gets_the_credentials_of_the_client_and_nothing_of_the_gateway() {
    let (url, heads) = recording_service().await;
    let admin = free_port();
    let mut demo =
        Demo::beside_servers(move |directory, yaml| observed(directory, &yaml, &url, admin)).await;
    let token = demo.login().await;
    let pat = demo.pat(&["other"]).await;
    let get = || demo.client().get(demo.at("/svc/api/v1/x"));
    for (request, want) in [
        (get().bearer_auth(&token), Some(format!("authorization: bearer {token}"))),
        (get().bearer_auth(&pat), Some(format!("authorization: bearer {pat}"))),
        (get().bearer_auth("bad"), Some("authorization: bearer bad".to_owned())),
        (
            get().header("cookie", "a=1; apimlAuthenticationToken=bad"),
            Some("cookie: a=1; apimlauthenticationtoken=bad".to_owned()),
        ),
        (get(), None),
    ] {
        let request = request
            .header("x-zowe-auth-failure", "forged")
            .header("x-certificate-public", "forged")
            .header("client-cert", "forged");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-zowe-auth-failure"));
        assert!(!response.headers().contains_key("x-zowe-token-expires"));
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(!head.contains("forged") && !head.contains("x-zowe-"), "{head}");
        assert!(!head.contains("authorization: basic"), "{head}");
        match want {
            Some(want) => assert!(head.contains(&want.to_ascii_lowercase()), "{want}\n{head}"),
            None => assert!(!head.contains("authorization"), "{head}"),
        }
    }
    let client = demo.client();
    let address = ([127, 0, 0, 1], admin).into();
    for (decision, want) in [("accepted", 1), ("refused", 4)] {
        let series = format!("passticket_observed_requests_total{{decision=\"{decision}\"}}");
        assert_eq!(metric(&client, address, &series).await, want, "{decision}");
    }
    let health = client.get(format!("http://127.0.0.1:{admin}/health")).send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["observe"], serde_json::json!(["svc"]));
    demo.program.logged("the decision was not enforced");
}

#[tokio::test]
async fn the_start_warns_and_explain_says_what_would_happen() {
    let demo = Demo::start();
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let yaml = yaml.replace(
        "  passticket-proxy:\n",
        "  passticket-proxy:\n    services: {dcpassticket: {mode: observe}}\n",
    );
    fs::write(&path, &yaml).unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        let output = command.args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let config = path.to_str().unwrap();
    let (code, _, err) = run(&["check", "--config", config]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("services.dcpassticket.mode: is observe"), "{err}");
    let path_of = "/dcpassticket/api/v1/request";
    let (code, out, err) = run(&["explain", "--config", config, "--user", "USER", "GET", path_of]);
    assert_eq!(code, Some(1), "{err}");
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.starts_with("NO: the mode of dcpassticket is observe"), "{out}");
    assert!(
        flat.contains("dcpassticket would get a PassTicket for USER (APPLID ZOWEAPPL)"),
        "{out}"
    );
    fs::write(&path, yaml.replace("mode: observe", "mode: watch")).unwrap();
    let (code, _, err) = run(&["check", "--config", config]);
    assert_eq!(code, Some(2));
    assert!(err.contains("is unknown; write enforce or observe"), "{err}");
}
