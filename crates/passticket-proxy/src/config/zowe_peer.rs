//! Reads where a running Zowe API ML is, and what the gateway asks it: `components.passticket-proxy.zowe`
//! (docs/decisions.md#d47).

use super::{
    client_identity::{self, ClientIdentity},
    reader::Section,
};
use tower_passticket::remote::Address;

/// A running Zowe API ML: `components.passticket-proxy.zowe`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ZowePeer {
    /// The address of its gateway: `url`.
    pub url: Address,
    /// The client certificate that API ML needs before it makes a PassTicket: `clientCertificate`.
    pub client_identity: Option<ClientIdentity>,
    /// Whether the gateway signs a login token for the user when it asks for a PassTicket, instead of passing on the
    /// token of the user: `mint`. This needs API ML's signing key.
    pub mints: bool,
}

/// Reads the section. `None` if the file has none, or if a problem was reported.
pub(super) fn read(mut section: Section<'_>) -> Option<ZowePeer> {
    if section.fields().is_empty() {
        return None;
    }
    let url =
        section.required("url", "the URL of Zowe's gateway, like https://zowe.example.com:7554");
    let identity = section.optional("clientCertificate");
    let mints = section.optional("mint").is_some_and(|field| field.is_on());
    section.finish();
    let url = url.and_then(|field| {
        let address = field.read(Address::parse)?;
        if !address.is_protected() {
            field.at.error(
                "is http, so a stranger could receive tokens of users, or answer with keys of their own; write https",
            );
            return None;
        }
        Some(address)
    });
    let client_identity = match &identity {
        None => None,
        Some(field) => Some(client_identity::read(field)?),
    };
    Some(ZowePeer { url: url?, client_identity, mints })
}
