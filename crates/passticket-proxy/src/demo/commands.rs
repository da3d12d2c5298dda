//! What the demonstration prints: commands that work as they stand.

use std::path::Path;

use super::world::{APPLID, EMAIL, OTHER, PASSWORD, USER, World};

pub(super) fn text(world: &World, port: u16) -> String {
    let url = format!("https://localhost:{port}");
    let auth = format!("{url}/gateway/api/v1/auth");
    let service = format!("{url}/dcpassticket/api/v1");
    let file = |name: &str| quote(&world.path(name));
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
passticket-proxy runs on {url}, and behind it a service that evaluates PassTickets.
The configuration is {zowe_yaml}; everything else is beside it. Ctrl-C ends it.

Log in, and ask the service what it was sent: Basic {USER}:PassTicket, and no trace of the token.
  {curl} -c {jar} {basic} {auth}/login && {curl} -b {jar} {service}/request

Make a Personal Access Token for this service, and let the service evaluate the ticket.
  PAT=$({curl} {basic} -d '{{"validity":1,"scopes":["dcpassticket"]}}' {auth}/access-token/generate) && {curl} -H "PRIVATE-TOKEN: $PAT" {service}/passticketTest

The same with a client certificate.
  {curl} --cert {cert} --key {cert_key} {service}/passticketTest

Without any credential: the service is told why, and so is the client.
  {curl} -i {service}/passticketTest

A PassTicket for another, known by an e-mail address. {USER} may obtain it, {OTHER} may not.
  {curl} --cert {cert} --key {cert_key} {delegate}
  {curl} -i --cert {other_cert} --key {other_key} {delegate}

Who did what, and the commands that a security administrator would submit for this configuration.
  tail -n 5 {audit}
  {program} esm --esm racf --from-config {zowe_yaml}

A ticket by hand.
  {program} ticket generate --algorithm legacy --user {USER} --applid {APPLID} --key-file {key}

  {curl} {url}/application/health
"#,
        zowe_yaml = quote(&world.zowe_yaml()),
        audit = file("audit.jsonl"),
        cert = file(&format!("certs/{USER}.pem")),
        cert_key = file(&format!("certs/{USER}.key")),
        other_cert = file(&format!("certs/{OTHER}.pem")),
        other_key = file(&format!("certs/{OTHER}.key")),
    )
}

/// For a POSIX shell.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_when_they_must_be() {
        for (path, want) in
            [("/a/b-1.pem", "/a/b-1.pem"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'")]
        {
            assert_eq!(quote(Path::new(path)), want);
        }
    }
}
