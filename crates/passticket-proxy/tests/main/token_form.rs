//! Tests of Personal Access Tokens with prefix and checksum, of `X-Zowe-Token-Expires`, and of the rules for secret
//! scanners in the documentation.

use std::{fs, process::Command};

use regex::{Regex, RegexBuilder};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use test_support::raw;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{Demo, output_with_input};

const SCANNERS: &str = include_str!("../../../../docs/operating/secret-scanners.md");

fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = SCANNERS.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

/// Starts a service that sets `X-Zowe-Token-Expires` itself, and a gateway whose new tokens have the prefix. `settings`
/// are settings of the service `repo`.
async fn gateway(settings: &str) -> Demo {
    let address = raw::service(|stream| async move {
        let mut stream = BufReader::new(stream);
        raw::head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Zowe-Token-Expires: 2099-01-01T00:00:00Z\r\n\
                      x-zowe-token-expires: never\r\nconnection: close\r\n\r\nok";
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let definition = format!(
        "services:\n  - serviceId: repo\n    instanceBaseUrls: [\"http://{address}\"]\n    routes: [{{gatewayUrl: api/v1}}]\n    \
         authentication: {{scheme: httpBasicPassTicket, applid: ZOWEAPPL}}\n  - serviceId: open\n    \
         instanceBaseUrls: [\"http://{address}\"]\n    routes: [{{gatewayUrl: api/v1}}]\n    authentication: {{scheme: bypass}}\n"
    );
    let settings = format!(
        "    personalAccessToken: {{prefix: true}}\n    services:\n      repo: {{{settings}}}\n"
    );
    Demo::beside_servers(move |directory, yaml| {
        fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
        yaml + &settings
    })
    .await
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.unwrap()
}

fn expires(response: &Response) -> Vec<&str> {
    let values = response.headers().get_all("x-zowe-token-expires").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

/// Asks in JSON whether a token is valid for the service `repo`.
async fn validate(demo: &Demo, token: &str) -> (u16, Value) {
    let request = demo.client().post(demo.auth("access-token/validate"));
    let body = json!({"token": token, "serviceId": "repo"}).to_string();
    let response = send(request.header("accept", "application/json").body(body)).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_prefix_is_accepted_in_each_header_and_responses_say_when_it_expires() {
    let demo = gateway("onFailure: reject").await;
    let prefixed = demo.pat(&["repo"]).await;
    let (jwt, _) = prefixed.strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap();
    let url = demo.at("/repo/api/v1/x");
    let get = || demo.client().get(&url);
    let (status, valid) = validate(&demo, &prefixed).await;
    assert_eq!((status, &valid["valid"]), (200, &json!(true)));
    let expires_at = valid["expiresAt"].as_str().unwrap().replace(".000Z", "Z");
    assert_eq!(expires_at.len(), 20, "{expires_at}");

    for token in [jwt, &prefixed] {
        for request in [
            get().header("private-token", token),
            get().header("cookie", format!("personalAccessToken={token}")),
            get().header("cookie", format!("apimlAuthenticationToken={token}")),
            get().bearer_auth(token),
            get().header("authorization", format!("token {token}")),
            get().basic_auth("USER", Some(token)),
        ] {
            let response = send(request).await;
            assert_eq!(response.status(), 200);
            // The gateway has replaced the value that the service has sent.
            assert_eq!(expires(&response), [expires_at.as_str()]);
        }
    }
    let other_service = demo.pat(&["other"]).await;
    let response = send(get().header("private-token", other_service)).await;
    assert_eq!((response.status().as_u16(), expires(&response).len()), (403, 1));
    let own = demo.client().get(demo.auth("access-tokens/self")).header("private-token", &prefixed);
    let response = send(own).await;
    assert_eq!((response.status().as_u16(), expires(&response)), (200, vec![&*expires_at]));

    // The header is absent if the credential is not a PAT, if the checksum is wrong, and on a route without
    // authentication.
    let short = &prefixed[..prefixed.len() - 1];
    for wrong in [short, &format!("zowepat_{jwt}.00000000"), &format!("zowepat_{jwt}")] {
        for request in [get().header("private-token", wrong), get().basic_auth("USER", Some(wrong))]
        {
            let response = send(request).await;
            assert_eq!((response.status().as_u16(), expires(&response).len()), (401, 0));
        }
        let (status, refused) = validate(&demo, wrong).await;
        assert_eq!((status, &refused["reason"]), (401, &json!("invalid")));
    }
    let login = demo.login().await;
    let response = send(get().bearer_auth(login)).await;
    assert_eq!((response.status().as_u16(), expires(&response).len()), (200, 0));
    let open = demo.client().get(demo.at("/open/api/v1/x")).header("private-token", &prefixed);
    let response = send(open).await;
    assert_eq!((response.status().as_u16(), expires(&response).len()), (200, 0));

    // A token has two forms: with and without the prefix. If a client revokes one form, the gateway also refuses the
    // other form.
    let revoke = demo.client().request(Method::DELETE, demo.auth("access-token/revoke"));
    let response = send(revoke.body(json!({"token": jwt}).to_string())).await;
    assert_eq!(response.status(), 200);
    assert_eq!(send(get().header("private-token", &prefixed)).await.status(), 401);
    let (status, refused) = validate(&demo, &prefixed).await;
    assert_eq!(
        (status, &refused["valid"], &refused["reason"]),
        (401, &json!(false), &json!("revoked"))
    );
    assert_eq!(refused["messages"][0]["messageNumber"], "ZWEAG102E");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_and_the_script_for_secret_scanners_find_a_token() {
    let demo = gateway("").await;
    let token = demo.pat(&["repo", "other"]).await;
    let in_toml = between("regex = '''", "'''");
    let at_github = between("no other fields:\n\n```text\n", "\n```");
    assert_eq!(in_toml, at_github);
    // gitleaks uses RE2, in which `\b` and `\d` match only ASCII. With `unicode(false)`, this is the same here.
    let rule: Regex = RegexBuilder::new(in_toml).unicode(false).build().unwrap();
    let jwt = token.strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap().0;
    let line = format!("export TOKEN=\"{token}\" # secret");
    let found: Vec<_> = rule.find_iter(&line).map(|found| found.as_str()).collect();
    assert_eq!(found, [&*token]);
    for harmless in [jwt, "zowepat_", "zowepat_x", "zowepat_name.of.a.variable"] {
        assert!(!rule.is_match(harmless), "{harmless}");
    }

    let script = between("```sh\n", "\n```");
    let similar = format!("zowepat_{jwt}.00000000");
    assert!(rule.is_match(&similar));
    let input = format!("{similar}\n{token}\n{jwt}\n\n{}\n", &token[8..]);
    let output = output_with_input(Command::new("sh").args(["-c", script]), &input);
    let printed = String::from_utf8(output.stdout).unwrap();
    let id = tower_passticket::token::TokenFingerprint::of(jwt);
    assert_eq!(printed, format!("token_id {id}\n"));
}
