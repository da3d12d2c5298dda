//! Reads the settings that choose how the gateway checks passwords (docs/decisions.md#d20): with the file of
//! `components.passticket-proxy.users`, with z/OSMF or with ZSS. z/OSMF is IBM's management server on z/OS. ZSS is a
//! server of Zowe on z/OS.
//!
//! An APPLID is the name of an application on z/OS.

use super::{
    problem::quote,
    reader::{At, Field, Section},
    settings::ZosmfSettings,
};
use tower_passticket::{passticket::Applid, remote::Address};

/// The APPLID of z/OSMF in a system with default settings.
const ZOSMF_APPLID: &str = "IZUDFLT";

pub(super) struct LoginKeys<'a> {
    provider: Option<(Provider, At<'a>)>,
    zosmf: ZosmfKeys<'a>,
}

struct ZosmfKeys<'a> {
    section: Section<'a>,
    peer: ZosmfPeer<'a>,
}

/// z/OSMF as the section `zOSMF` describes it.
#[derive(Clone)]
pub(super) struct ZosmfPeer<'a> {
    host: Option<Field<'a>>,
    port: Option<Field<'a>>,
    scheme: Option<Field<'a>>,
    applid: Option<Field<'a>>,
    /// Whether z/OS encrypts the connections of the gateway to other servers: `zowe.network.client.tls.attls`.
    has_outbound_at_tls: bool,
}

/// The value of `auth.provider`. `Wrong` means any other value, which was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    Zosmf,
    Saf,
    Wrong,
}

/// The server or the file with which the gateway checks passwords.
pub(super) enum Provided<'a> {
    /// The file that this field names.
    UsersFile(Field<'a>),
    Zosmf(ZosmfSettings),
    Zss(Address),
    /// Neither a server nor a file: no user can log in with a password.
    Nothing,
    /// A setting is wrong. The problem was already reported.
    Wrong,
}

/// Reads `auth.provider`, and the settings of z/OSMF. `security` is the merged section `apiml.security`, `client_tls`
/// is the section `zowe.network.client.tls`, and `zosmf` is the section `zOSMF`.
pub(super) fn read<'a>(
    security: &mut Section<'a>,
    client_tls: &mut Section<'a>,
    mut zosmf: Section<'a>,
) -> LoginKeys<'a> {
    let provider = security.section("auth").optional("provider").map(|field| {
        let provider = field.read(|text| match text.to_ascii_lowercase().as_str() {
            "zosmf" => Ok(Provider::Zosmf),
            "saf" => Ok(Provider::Saf),
            _ => Err(format!(
                "{} is unknown; write zosmf or saf, or remove this key and set \
                 components.passticket-proxy.users to the path of a file",
                quote(text)
            )),
        });
        (provider.unwrap_or(Provider::Wrong), field.at)
    });
    let peer = zosmf_peer(client_tls, &mut zosmf);
    LoginKeys { provider, zosmf: ZosmfKeys { section: zosmf, peer } }
}

/// Reads the settings of the section `zOSMF`, and `attls` of `client_tls`.
pub(super) fn zosmf_peer<'a>(
    client_tls: &mut Section<'a>,
    zosmf: &mut Section<'a>,
) -> ZosmfPeer<'a> {
    let mut key = |name| zosmf.optional(name);
    let (host, port, scheme, applid) = (key("host"), key("port"), key("scheme"), key("applId"));
    let has_outbound_at_tls = client_tls.optional("attls").is_some_and(|field| field.is_on());
    ZosmfPeer { host, port, scheme, applid, has_outbound_at_tls }
}

impl<'a> LoginKeys<'a> {
    /// Chooses the server or the file that checks passwords. `users` and `zss_url` are settings of
    /// `components.passticket-proxy`.
    pub(super) fn choose(
        mut self,
        users: Option<&Field<'a>>,
        zss_url: &ZssUrl<'a>,
    ) -> Provided<'a> {
        match (self.provider.take(), users) {
            (Some((Provider::Wrong, _)), _) => Provided::Wrong,
            (Some((_, at)), Some(users)) => {
                users.at.error(format_args!(
                    "is present, and so is {} in {at}; both choose who checks passwords: remove this setting to ask that \
                     server, or remove {} to check passwords with the file",
                    at.key, at.key
                ));
                Provided::Wrong
            }
            (None, Some(users)) => Provided::UsersFile(users.clone()),
            (Some((Provider::Saf, _)), None) => match &zss_url.field {
                Some(field) => self.protected_address(field).map_or(Provided::Wrong, Provided::Zss),
                None => {
                    zss_url.at.error(
                        "is missing, but components.gateway.apiml.security.auth.provider is saf; write the URL of ZSS, \
                         like https://zos.example.com:7557",
                    );
                    Provided::Wrong
                }
            },
            (Some((Provider::Zosmf, _)), None) => self.zosmf(),
            (None, None) if self.zosmf.peer.host.is_some() => self.zosmf(),
            (None, None) => Provided::Nothing,
        }
    }

    fn zosmf(self) -> Provided<'a> {
        let ZosmfKeys { mut section, peer } = self.zosmf;
        // Reports an absent host.
        section.required("host", "the host name of z/OSMF, which checks passwords");
        peer.settings().map_or(Provided::Wrong, Provided::Zosmf)
    }

    /// Returns the settings of z/OSMF for the scheme `zosmf`.
    pub(super) fn zosmf_peer(&self) -> ZosmfPeer<'a> {
        self.zosmf.peer.clone()
    }

    /// Reads the URL of a server that receives passwords.
    pub(super) fn protected_address(&self, field: &Field<'_>) -> Option<Address> {
        protected(field.read(Address::parse), &field.at, self.zosmf.peer.has_outbound_at_tls)
    }
}

impl ZosmfPeer<'_> {
    /// Returns the APPLID of z/OSMF. Does not report a wrong value.
    pub(super) fn applid(&self) -> Option<Applid> {
        match &self.applid {
            None => Applid::new(ZOSMF_APPLID).ok(),
            Some(field) => Applid::new(field.text()?).ok(),
        }
    }

    pub(super) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Reads the settings. Returns `None` if there is no host, or after reporting a wrong value.
    pub(super) fn settings(&self) -> Option<ZosmfSettings> {
        let Self { host, port, scheme, applid, has_outbound_at_tls } = self;
        let port = port.as_ref();
        let port = port.map_or(Some(443), |field| field.number(1..=u64::from(u16::MAX)));
        let scheme = scheme.as_ref().map_or(Some("https"), |field| {
            field.read(|text| match text {
                "http" => Ok("http"),
                "https" => Ok("https"),
                _ => Err(format!("{} is unknown; write https or http", quote(text))),
            })
        });
        let applid = applid.as_ref().map_or_else(
            || Some(Applid::new(ZOSMF_APPLID).expect("should be an APPLID")),
            Field::parse,
        );
        let (host, port, scheme, applid) = (host.as_ref()?, port?, scheme?, applid?);
        let address = host.read(|text| {
            let is_ipv6 = text.contains(':') && !text.starts_with('[');
            let host = if is_ipv6 { format!("[{text}]") } else { text.to_owned() };
            let address = Address::parse(&format!("{scheme}://{host}:{port}"));
            // A host has no path.
            address.ok().filter(|_| !text.contains('/')).ok_or_else(|| {
                format!("{} is not a host; write a host name without port and path", quote(text))
            })
        });
        let address = protected(address, &host.at, *has_outbound_at_tls)?;
        Some(ZosmfSettings { address, applid })
    }
}

/// The setting `components.passticket-proxy.zss.url`.
pub(super) struct ZssUrl<'a> {
    pub(super) field: Option<Field<'a>>,
    /// The place of the setting, even if the setting is absent.
    pub(super) at: At<'a>,
}

pub(super) fn read_zss(mut section: Section<'_>) -> ZssUrl<'_> {
    let field = section.optional("url");
    let at = section.child("url");
    section.finish();
    ZssUrl { field, at }
}

/// Returns `address` if passwords that are sent to it do not cross the network in clear text. Otherwise reports an
/// error.
fn protected(address: Option<Address>, at: &At<'_>, has_at_tls: bool) -> Option<Address> {
    let address = address?;
    if !address.is_protected() && !has_at_tls {
        at.error("would be called with http, which sends passwords unencrypted; use https");
        return None;
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{own_section, problem::Report, reader::Document};

    /// Returns which server checks passwords. If there is a problem, returns the problem; there must be only one.
    fn chosen(yaml: &str) -> String {
        let report = Report::default();
        let document = Document::parse("z".into(), yaml.as_bytes(), &report);
        let mut root = document.section(&report);
        let mut gateway = root.section("components").section("gateway");
        let mut zowe = gateway.section("zowe").over(root.section("zowe"));
        let mut client_tls = zowe.section("network").section("client").section("tls");
        let mut security = gateway.section("apiml").section("security");
        let keys = read(&mut security, &mut client_tls, root.section("zOSMF"));
        let mut ours = own_section::find(&mut root);
        let users = ours.optional("users");
        let zss = read_zss(ours.section("zss"));
        let text = match keys.choose(users.as_ref(), &zss) {
            Provided::UsersFile(field) => format!("file {}", field.text().unwrap()),
            Provided::Zosmf(ZosmfSettings { address, applid }) => format!("{address} {applid}"),
            Provided::Zss(address) => address.to_string(),
            Provided::Nothing => "nothing".to_owned(),
            Provided::Wrong => "wrong".to_owned(),
        };
        match report.finish(Some(text)) {
            Ok((text, _)) => text,
            Err(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let [problem] = &*problems else { panic!("{problems:?}") };
                problem.clone()
            }
        }
    }

    #[test]
    fn the_keys_choose_one_server() {
        let provider = |name: &str| {
            format!(
                "components: {{gateway: {{apiml: {{security: {{auth: {{provider: {name}}}}}}}}}}}\n"
            )
        };
        let (zosmf, saf) = (provider("zosmf"), provider("SAF"));
        let host = "zOSMF: {host: zosmf.example, port: 10443, applId: IZUDFLX}\n";
        let users = "passticketProxy: {users: u.yml}\n";
        let zss = "passticketProxy: {zss: {url: 'https://zss.example:7557'}}\n";
        let client_tls = "zowe: {network: {client: {tls: {attls: true}}}}\n";
        let key = "components.gateway.apiml.security.auth.provider";
        for (yaml, want) in [
            (String::new(), "nothing"),
            (host.to_owned(), "https://zosmf.example:10443/ IZUDFLX"),
            (format!("{zosmf}{host}"), "https://zosmf.example:10443/ IZUDFLX"),
            (format!("{zosmf}zOSMF: {{host: 'fd00::1'}}\n"), "https://[fd00::1]:443/ IZUDFLT"),
            (users.to_owned(), "file u.yml"),
            (format!("{host}{users}"), "file u.yml"),
            (format!("{saf}{zss}{host}"), "https://zss.example:7557/"),
            (
                format!("{zosmf}{host}{users}"),
                &format!(
                    "z:3: passticketProxy.users: is present, and so is {key} in z:1; both choose who checks \
                     passwords: remove this setting to ask that server, or remove {key} to check passwords with the \
                     file"
                ),
            ),
            (
                zosmf,
                "z:1: zOSMF.host: is missing; write the host name of z/OSMF, which checks passwords",
            ),
            (
                saf,
                "z:1: components.passticket-proxy.zss.url: is missing, but \
                 components.gateway.apiml.security.auth.provider is saf; write the URL of ZSS, like \
                 https://zos.example.com:7557",
            ),
            (
                provider("dummy"),
                &format!(
                    "z:1: {key}: \"dummy\" is unknown; write zosmf or saf, or remove this key and set \
                     components.passticket-proxy.users to the path of a file"
                ),
            ),
            (
                "zOSMF: {host: 'zosmf.example/x'}".to_owned(),
                "z:1: zOSMF.host: \"zosmf.example/x\" is not a host; write a host name without port and path",
            ),
            (
                "zOSMF: {host: zosmf.example, applId: TOOLONGAPPLID}".to_owned(),
                "z:1: zOSMF.applId: APPLID \"TOOLONGAPPLID\" is longer than 8 characters; write 1 to 8 characters of \
                 A-Z 0-9 # @ $",
            ),
            (
                format!("{client_tls}zOSMF: {{host: zosmf.example, scheme: http}}"),
                "http://zosmf.example:443/ IZUDFLT",
            ),
            (
                "zOSMF: {host: zosmf.example, scheme: http}".to_owned(),
                "z:1: zOSMF.host: would be called with http, which sends passwords unencrypted; use https",
            ),
        ] {
            assert_eq!(chosen(&yaml), want, "{yaml}");
        }
    }
}
