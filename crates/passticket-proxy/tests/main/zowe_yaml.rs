//! The effect of Zowe's own keys on the running gateway.

use reqwest::tls::Version;

use crate::support::Demo;

fn with_network(keys: &'static str) -> Demo {
    Demo::reconfigured(move |yaml| {
        yaml.replacen("zowe:\n", &format!("zowe:\n  network: {{{keys}}}\n"), 1)
    })
}

#[tokio::test]
async fn the_listener_has_the_tls_versions_of_zowe() {
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

#[tokio::test]
async fn the_gateway_listens_on_the_address_of_zowe_unless_its_own_key_is_present() {
    let listen = |yaml: String, address: &str| {
        let keys = format!("zowe:\n  network: {{server: {{listenAddresses: [{address}]}}}}\n");
        yaml.replacen("zowe:\n", &keys, 1)
    };
    // TEST-NET-1 (RFC 5737) is never an address of this machine, so the gateway would not start.
    let own = Demo::reconfigured(|yaml| listen(yaml, "192.0.2.1"));
    let zowe =
        Demo::reconfigured(|yaml| listen(yaml.replace("    host: 127.0.0.1\n", ""), "127.0.0.1"));
    for demo in [own, zowe] {
        let response = demo.client().get(demo.at("/application/health")).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}
