//! Commands that a user can paste to use a new token.

use super::{services::Service, texts::created as texts};

/// A command, with its heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The id of its element in the page.
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    pub(super) hint: Option<&'static str>,
    pub(super) text: String,
}

/// Returns the commands for a service of the gateway at `authority`, which is a host and perhaps a port. The commands
/// contain no token, because a command stays in the history of the shell.
pub(super) fn commands_for(authority: &str, service: &Service) -> Vec<Command> {
    let (host, port) = split(authority);
    let path = service.path.trim_end_matches('/');
    let base = path.trim_start_matches('/');
    let url = format!("https://{authority}{path}");
    let command = |id, heading, hint, text| Command { id, heading, hint, text };
    vec![
        command(
            "command-variable",
            texts::VARIABLE,
            Some(texts::VARIABLE_HINT),
            "read -rs PAT && export PAT".to_owned(),
        ),
        command(
            "command-curl",
            texts::CURL,
            None,
            format!("curl -H \"PRIVATE-TOKEN: $PAT\" {url}/"),
        ),
        command(
            "command-git",
            texts::GIT,
            None,
            format!("git -c http.extraHeader=\"PRIVATE-TOKEN: $PAT\" clone {url}/PROJECT.git"),
        ),
        command(
            "command-jenkins",
            texts::JENKINS,
            Some(texts::JENKINS_HINT),
            format!(
                "withCredentials([string(credentialsId: 'gateway-token', variable: 'PAT')]) {{\n  httpRequest url: \
                 '{url}/',\n    customHeaders: [[name: 'PRIVATE-TOKEN', value: PAT, maskValue: true]]\n}}"
            ),
        ),
        command(
            "command-zowe",
            texts::ZOWE_CLI,
            None,
            format!(
                "zowe zosmf check status --host {host} --port {port} --base-path {base} --token-type \
                 personalAccessToken --token-value \"$PAT\""
            ),
        ),
    ]
}

/// Splits an address into host and port.
fn split(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port)
        }
        _ => (authority, "443"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_gateway_and_the_service_but_no_token() {
        let service = Service {
            id: "files".to_owned(),
            title: None,
            description: None,
            path: "/files/api/v1".to_owned(),
        };
        let commands = commands_for("gw.example:10010", &service);
        let text = |id: &str| &commands.iter().find(|command| command.id == id).unwrap().text;
        assert_eq!(
            text("command-curl"),
            "curl -H \"PRIVATE-TOKEN: $PAT\" https://gw.example:10010/files/api/v1/"
        );
        assert!(
            text("command-zowe")
                .contains("--host gw.example --port 10010 --base-path files/api/v1 ")
        );
        assert!(
            text("command-git")
                .ends_with("clone https://gw.example:10010/files/api/v1/PROJECT.git")
        );
        for (authority, want) in
            [("gw", ("gw", "443")), ("[::1]:8443", ("[::1]", "8443")), ("[::1]", ("[::1]", "443"))]
        {
            assert_eq!(split(authority), want);
        }
    }
}
