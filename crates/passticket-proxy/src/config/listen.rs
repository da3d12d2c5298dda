//! Reads the address on which the gateway listens. The host is in `components.passticket-proxy.host`, or in
//! `listenAddresses` or `vipaIp` of `zowe.network.server`. The port is in `components.gateway.port`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
};

use super::{
    problem::{Place, quote},
    reader::Field,
};

/// The address on which the gateway listens, and the places of the two settings that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// The address and the port. Port 0 means any free port.
    pub address: SocketAddr,
    /// The place of `components.gateway.port`.
    pub port_at: Place,
    /// The place of `components.passticket-proxy.host`, or of the address in `listenAddresses` or `vipaIp` of
    /// `zowe.network.server`.
    pub host_at: Place,
}

impl Listen {
    /// Returns a text that says why the gateway cannot listen, which setting to change, and what to write.
    pub fn explain(&self, error: &io::Error) -> String {
        let remedy = "write an address of this machine, or 0.0.0.0 for all of them";
        explain(&self.port_at, &self.host_at, self.address, error, remedy)
    }
}

/// Explains why the program cannot listen on `address`. If the host is wrong, `host_remedy` says what to write as the
/// host.
pub(super) fn explain(
    port_at: &Place,
    host_at: &Place,
    address: SocketAddr,
    error: &io::Error,
    host_remedy: &str,
) -> String {
    let (place, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => {
            (port_at, "write another port, or stop the program that uses this one")
        }
        io::ErrorKind::PermissionDenied => {
            (port_at, "write a port of 1024 or above, or permit the program to use lower ports")
        }
        _ => (host_at, host_remedy),
    };
    format!("{place}: cannot listen on {address}: {error}; {remedy}")
}

pub(super) type Resolve<'r> = &'r dyn Fn(&str) -> io::Result<Vec<IpAddr>>;

/// Looks up the addresses of a host name with the operating system.
pub(super) fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Reads the address: an IP address or a host name. The setting `host` of `components.passticket-proxy` has precedence
/// over Zowe's setting. If both settings are absent, or if the value is wrong, the result is `0.0.0.0` (all IPv4
/// addresses). The second result is the place of the setting.
///
/// A host name is resolved once, in this call. If the name has several addresses, the result is the first IPv4 address,
/// as in Zowe's gateway. If the name has no IPv4 address, the result is the first IPv6 address.
pub(super) fn host(
    host: Option<&Field<'_>>,
    host_at: &Place,
    zowe: Option<&Field<'_>>,
    resolve: Resolve<'_>,
) -> (IpAddr, Place) {
    if let (Some(host), Some(zowe)) = (host, zowe)
        && host.text() != zowe.text()
    {
        zowe.at.warning(format_args!("has no effect, because {} is present", host.at.key));
    }
    let field = host.or(zowe);
    let address = field.and_then(|field| field.read(|text| address(text, resolve)));
    let place = field.map_or_else(|| host_at.clone(), |field| field.at.place());
    (address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), place)
}

/// Reads a host: an IP address, or a host name that is resolved.
pub(super) fn address(text: &str, resolve: Resolve<'_>) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if !is_host_name(text) {
        let text = quote(text);
        return Err(format!(
            "{text} is neither an IP address nor a host name; write one like 127.0.0.1 or \
             localhost, or 0.0.0.0 for all addresses"
        ));
    }
    let unresolved = |why: &str| {
        format!(
            "{} cannot be resolved ({why}); write an IP address, another name, or 0.0.0.0 for all \
             addresses",
            quote(text)
        )
    };
    let addresses = resolve(text).map_err(|error| unresolved(&error.to_string()))?;
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied().ok_or_else(|| unresolved("the name has no IP address"))
}

/// Returns whether a text can be a host name. The check rejects texts that are probably a mistake, such as a URL. A
/// name whose last label has only digits is probably a mistyped IPv4 address, so such a name is also rejected.
///
/// The check intentionally accepts more than RFC 1123 §2.1: a label may contain underscores, and may begin or end with
/// a hyphen. If a name does not exist, name resolution reports this.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn host_names_are_resolved_and_ipv4_is_preferred() {
        let resolve = |name: &str| match name {
            "localhost" => Ok(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]),
            "six.example" => Ok(vec!["::2".parse().unwrap(), "::3".parse().unwrap()]),
            "none.example" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        };
        for (text, want) in [
            ("127.0.0.1", Ok("127.0.0.1")),
            ("::", Ok("::")),
            ("localhost", Ok("127.0.0.1")),
            ("six.example", Ok("::2")),
            (
                "none.example",
                Err("\"none.example\" cannot be resolved (the name has no IP address); write"),
            ),
            ("gone.example", Err("\"gone.example\" cannot be resolved (no such name); write")),
            ("not a name", Err("\"not a name\" is neither an IP address nor a host name; write")),
            ("localhost:10010", Err("is neither")),
            ("https://zos", Err("is neither")),
            ("127.0.0.256", Err("is neither")),
            ("a..b", Err("is neither")),
        ] {
            match (address(text, &resolve), want) {
                (Ok(address), Ok(want)) => assert_eq!(address.to_string(), want, "{text}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{text}: {error}"),
                (got, want) => panic!("{text}: got {got:?}, expected {want:?}"),
            }
        }
    }

    #[test]
    fn each_listen_error_names_the_key_to_change() {
        let place = |line, key| Place::new(Path::new("z.yaml"), line, key);
        let listen = Listen {
            address: "127.0.0.1:80".parse().unwrap(),
            port_at: place(4, "components.gateway.port"),
            host_at: place(0, "components.passticket-proxy.host"),
        };
        for (kind, want) in [
            (io::ErrorKind::AddrInUse, "z.yaml:4: components.gateway.port: cannot listen on 127."),
            (io::ErrorKind::PermissionDenied, "z.yaml:4: components.gateway.port: cannot listen"),
            (
                io::ErrorKind::AddrNotAvailable,
                "z.yaml: components.passticket-proxy.host: cannot listen on",
            ),
        ] {
            let text = listen.explain(&kind.into());
            assert!(text.starts_with(want), "{text}");
        }
    }
}
