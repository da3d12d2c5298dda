//! Tests of the error pages for browsers.

use crate::support::Demo;
use reqwest::{Client, Response};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn get(client: &Client, url: String, accept: &str) -> Response {
    let request = client.get(url).header("accept", accept).header("sec-fetch-mode", "navigate");
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_a_page_and_programs_get_json() {
    let demo = Demo::start();
    let client = demo.client();
    for (path, status, number) in [
        ("/unknown/%3Cscript%3E", 404, "ZWEAO404E"),
        ("/dcpassticket/api/v1/x%00", 400, "ZWEAO400E"),
        ("/gateway/api/v1/auth/query", 401, "ZWEAG131E"),
        ("/gateway/api/v1/auth/unknown", 404, "ZWEAO404E"),
    ] {
        let page = get(&client, demo.at(path), BROWSER).await;
        assert_eq!(page.status(), status, "{path}");
        let headers = page.headers().clone();
        assert_eq!(headers["content-type"], "text/html; charset=utf-8", "{path}");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["vary"], "accept");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let text = page.text().await.unwrap();
        let id = headers["x-request-id"].to_str().unwrap();
        assert!(text.contains(number) && text.contains(id), "{path}: {text}");
        assert!(!text.contains("<script"), "{text}");

        let json = get(&client, demo.at(path), "application/json").await;
        assert_eq!(json.status(), status, "{path}");
        assert_eq!(json.headers()["content-type"], "application/json");
        // Apart from `vary`, `content-security-policy` and `date`, both responses have headers with the same names.
        let names = |headers: &reqwest::header::HeaderMap| -> Vec<String> {
            let names = headers.keys().map(ToString::to_string);
            let differ = ["vary", "content-security-policy", "date"];
            let mut names: Vec<_> = names.filter(|name| !differ.contains(&&**name)).collect();
            names.sort();
            names
        };
        assert_eq!(names(&headers), names(json.headers()), "{path}");
        let head = client.head(demo.at(path)).header("accept", BROWSER).send().await.unwrap();
        assert_eq!(head.headers()["content-type"], "text/html; charset=utf-8", "{path}");
    }
}

#[test]
fn a_setting_and_the_profile_zowe_v3_turn_the_pages_off() {
    for (ours, want) in [
        ("errorPages: false", "application/json"),
        ("compatibility: zowe-v3", "application/json"),
        ("compatibility: zowe-v3\n    errorPages: true", "text/html; charset=utf-8"),
    ] {
        let demo = Demo::reconfigured(|yaml| format!("{yaml}\n    {ours}\n"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let page = runtime.block_on(get(&demo.client(), demo.at("/unknown"), BROWSER));
        assert_eq!(page.headers()["content-type"], want, "{ours}");
    }
}
