//! Tests of the effects of Zowe's own settings in the zowe.yaml on the running gateway.

use std::{convert::Infallible, fs};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use reqwest::tls::Version;
use rustls::version::TLS12;
use test_support::raw::listener;
use tower::service_fn;
use tower_passticket::tls::{Server, ServerTls, TlsPolicy};

use crate::support::{Demo, with_any_port, write_definition};

fn network(yaml: &str, keys: &str) -> String {
    yaml.replacen("zowe:\n", &format!("zowe:\n  network: {{{keys}}}\n"), 1)
}

fn with_network(keys: &'static str) -> Demo {
    Demo::reconfigured(move |yaml| network(&yaml, keys))
}

#[tokio::test]
async fn the_listener_uses_the_tls_versions_of_zowe() {
    for (keys, has_12, has_13) in [
        ("server: {tls: {minTls: TLSv1.2, maxTls: TLSv1.3}}", true, true),
        ("server: {tls: {minTls: TLSv1.3}}", false, true),
        ("server: {tls: {maxTls: TLSv1.2}}", true, false),
        ("server: {tls: {ciphers: [TLS_AES_128_GCM_SHA256], curves: [secp384r1]}}", false, true),
    ] {
        let demo = with_network(keys);
        for (version, want) in [(Version::TLS_1_2, has_12), (Version::TLS_1_3, has_13)] {
            let client = demo.builder().min_tls_version(version).max_tls_version(version);
            let response = client.build().unwrap().get(demo.at("/application/health")).send().await;
            assert_eq!(response.is_ok(), want, "{keys} {version:?}");
        }
    }
}

/// The service supports only TLS 1.2.
#[tokio::test]
async fn connections_to_services_use_the_tls_versions_of_zowe() {
    for (keys, is_connected) in [
        ("client: {tls: {minTls: TLSv1.2}}", true),
        ("server: {tls: {minTls: TLSv1.3}}", true),
        ("client: {tls: {minTls: TLSv1.3}}", false),
        ("client: {tls: {ciphers: [TLS_AES_256_GCM_SHA384]}}", false),
        // As in Zowe, connections to services use the cipher suites of the listener.
        ("server: {tls: {ciphers: [TLS_AES_256_GCM_SHA384]}}", false),
    ] {
        let demo = Demo::start();
        let pem = |name: &str| fs::read(demo.directory.join("certs").join(name)).unwrap();
        let (chain, key) = (pem("localhost.pem"), pem("localhost.key"));
        let only_12 = TlsPolicy::default().with_versions(vec![&TLS12]);
        let tls = ServerTls::builder(&chain, &key).with_policy(only_12).build().unwrap();
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let (listener, address) = listener().await;
        tokio::spawn(Server::https(listener, tls).run(service, std::future::pending()));
        write_definition(&demo.directory, &format!("https://localhost:{}", address.port()));
        let path = demo.directory.join("zowe.yaml");
        let yaml = with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, network(&yaml, keys)).unwrap();
        let demo = demo.restarted();
        let response = demo.client().get(demo.at("/svc/api/v1/x")).send().await.unwrap();
        assert_eq!(response.status() == 200, is_connected, "{keys}: {}", response.status());
    }
}

#[tokio::test]
async fn the_gateway_listens_on_the_address_of_zowe_unless_its_own_setting_is_present() {
    let listen = |yaml: String, address: &str| {
        let keys = format!("zowe:\n  network: {{server: {{listenAddresses: [{address}]}}}}\n");
        yaml.replacen("zowe:\n", &keys, 1)
    };
    // The gateway could not listen on Zowe's address, because TEST-NET-1 (RFC 5737) is never an address of this
    // machine.
    let own = Demo::reconfigured(|yaml| listen(yaml, "192.0.2.1"));
    let zowe =
        Demo::reconfigured(|yaml| listen(yaml.replace("    host: 127.0.0.1\n", ""), "127.0.0.1"));
    for demo in [own, zowe] {
        let response = demo.client().get(demo.at("/application/health")).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
