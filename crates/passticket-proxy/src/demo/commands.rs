//! The text that the demo prints: commands to paste into a shell.

use std::path::Path;

use super::files::{APPLID, DemoFiles, EMAIL, OTHER_USER, PASSWORD, USER};

pub(super) fn text(files: &DemoFiles, port: u16) -> String {
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
