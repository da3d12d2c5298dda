//! The text that the demo prints: commands to paste into a shell.

use std::path::Path;

use super::files::{APPLID, DemoFiles, DemoPorts, EMAIL, OTHER_USER, PASSWORD, USER};

pub(super) fn text(files: &DemoFiles, ports: &DemoPorts, redis: Option<&str>) -> String {
    match (ports.second, redis) {
        (Some(second), Some(redis)) => of_nodes(files, [ports.gateway, second], redis),
        _ => of_gateway(files, ports.gateway),
    }
}

fn of_nodes(files: &DemoFiles, ports: [u16; 2], redis: &str) -> String {
    let [first, second] = ports.map(|port| format!("https://localhost:{port}"));
    let [auth, other_auth] = [&first, &second].map(|url| format!("{url}/gateway/api/v1/auth"));
    let file = |name: &str| quote(&files.path(name));
    let curl = format!("curl -sS --cacert {}", file("certs/ca.pem"));
    let status = format!("{curl} -o /dev/null -w '%{{http_code}}\\n'");
    let basic = format!("-u {USER}:{PASSWORD} -X POST");
    let jar = file("cookies.txt");
    let redis_port = redis.rsplit(':').next().unwrap_or_default();
    let redis_port = redis_port.split('/').next().unwrap_or_default();
    format!(
        r#"
Two nodes share their revocations over {redis}: {first} and {second}.
The configurations are {zowe_yaml} and {second_yaml}.
Ctrl-C stops both nodes and the service behind them.

Log in at node 1, and ask node 2 about the token. It answers 200.
  {curl} -c {jar} {basic} {auth}/login && {status} -b {jar} {other_auth}/query

Log out at node 1, and ask node 2 again. It answers 401.
  {curl} -b {jar} -X POST {auth}/logout && {status} -b {jar} {other_auth}/query

Make a Personal Access Token at node 1, and use it at node 2. It answers 200.
  PAT=$({curl} {basic} -d '{{"validity":1,"scopes":["dcpassticket"]}}' {auth}/access-token/generate) && {status} -H "PRIVATE-TOKEN: $PAT" {second}/dcpassticket/api/v1/passticketTest

Revoke this token at node 2, and ask node 1 about it. It answers 401.
  {curl} -X DELETE -d "{{\"token\":\"$PAT\"}}" {other_auth}/access-token/revoke && {status} -X POST -d "{{\"token\":\"$PAT\",\"serviceId\":\"dcpassticket\"}}" {auth}/access-token/validate

Log in again, and make Redis answer no client for 8 seconds. 3 seconds later, both nodes refuse all tokens with 503. When Redis answers again, they answer 200.
  {curl} -c {jar} {basic} {auth}/login; redis-cli -p {redis_port} CLIENT PAUSE 8000 && sleep 6; {status} -b {jar} {auth}/query {other_auth}/query -o /dev/null; sleep 5; {status} -b {jar} {auth}/query {other_auth}/query -o /dev/null
"#,
        zowe_yaml = quote(&files.zowe_yaml()),
        second_yaml = quote(&files.second_zowe_yaml()),
    )
}

fn of_gateway(files: &DemoFiles, port: u16) -> String {
    let url = format!("https://localhost:{port}");
    let auth = format!("{url}/gateway/api/v1/auth");
    let service = format!("{url}/dcpassticket/api/v1");
    let file = |name: &str| quote(&files.path(name));
    let curl = format!("curl -sS --cacert {}", file("certs/ca.pem"));
    let basic = format!("-u {USER}:{PASSWORD} -X POST");
    let jar = file("cookies.txt");
    let body = format!(r#"{{"applId":"{APPLID}","emailId":"{EMAIL}"}}"#);
    let delegate = format!("-X POST -d '{body}' {auth}/delegate/passticket");
    let program = std::env::current_exe().unwrap_or_else(|_| "passticket-proxy".into());
    let program = quote(&program);
    let key = file(&format!("ptktdata/{APPLID}.key"));
    format!(
        r#"
passticket-proxy runs on {url}, with a service behind it that evaluates PassTickets.
The configuration is {zowe_yaml}; its directory has all other files.
{USER} manages tokens with a browser on {url}/gateway/ui, with the password {PASSWORD}.
Ctrl-C stops the gateway and the service.

Log in, and let the service echo the request. The service receives Basic {USER}:PassTicket, and no token.
  {curl} -c {jar} {basic} {auth}/login && {curl} -b {jar} {service}/request

Make a Personal Access Token for this service, and let the service evaluate the PassTicket.
  PAT=$({curl} {basic} -d '{{"validity":1,"scopes":["dcpassticket"]}}' {auth}/access-token/generate) && {curl} -H "PRIVATE-TOKEN: $PAT" {service}/passticketTest

Send a client certificate, and let the service evaluate the PassTicket.
  {curl} --cert {cert} --key {cert_key} {service}/passticketTest

Send no credential: a header tells the service and the client why there is no PassTicket.
  {curl} -i {service}/passticketTest

Get a PassTicket for the user with the e-mail address {EMAIL}. {USER} may do this, {OTHER_USER} may not.
  {curl} --cert {cert} --key {cert_key} {delegate}
  {curl} -i --cert {other_cert} --key {other_key} {delegate}

Show the audit log, and the commands that a security administrator submits for this configuration.
  tail -n 5 {audit}
  {program} esm --esm racf --from-config {zowe_yaml}

Make a PassTicket on the command line, and ask the gateway for its health.
  {program} ticket generate --algorithm legacy --user {USER} --applid {APPLID} --key-file {key}
  {curl} {url}/application/health
"#,
        zowe_yaml = quote(&files.zowe_yaml()),
        audit = file("audit.jsonl"),
        cert = file(&format!("certs/{USER}.pem")),
        cert_key = file(&format!("certs/{USER}.key")),
        other_cert = file(&format!("certs/{OTHER_USER}.pem")),
        other_key = file(&format!("certs/{OTHER_USER}.key")),
    )
}

/// Quotes a path for a POSIX shell if it has special characters.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_special_characters_are_quoted() {
        for (path, want) in
            [("/a/b-1.pem", "/a/b-1.pem"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'")]
        {
            assert_eq!(quote(Path::new(path)), want);
        }
    }
}
