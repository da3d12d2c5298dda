//! Reads the address of the admin port: `components.passticket-proxy.admin`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{
    listen::{Resolve, address, explain},
    problem::Place,
    reader::{At, Field, Section},
};

/// The address of the admin port, and the places of the two settings that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdminSettings {
    /// The loopback address and the port. Port 0 means any free port.
    pub address: SocketAddr,
    /// The place of `components.passticket-proxy.admin.port`.
    pub port_at: Place,
    /// The place of `components.passticket-proxy.admin.host`.
    pub host_at: Place,
}

impl AdminSettings {
    /// Returns a text that says why the admin port cannot be opened, which setting to change, and what to write.
    pub fn explain(&self, error: &io::Error) -> String {
        let remedy = "write 127.0.0.1";
        explain(&self.port_at, &self.host_at, self.address, error, remedy)
    }
}

/// The section `admin`. The host name in it is not resolved yet.
pub(super) struct AdminSection<'a> {
    host: Option<Field<'a>>,
    host_at: Place,
    port: Option<(u16, At<'a>)>,
}

pub(super) fn read(mut section: Section<'_>) -> AdminSection<'_> {
    let host = section.optional("host");
    let host_at = section.place_of("host", host.as_ref());
    let port = section.optional("port").and_then(|field| {
        let port = field.number(0..=u64::from(u16::MAX))?;
        Some((u16::try_from(port).ok()?, field.at))
    });
    section.finish();
    AdminSection { host, host_at, port }
}

impl AdminSection<'_> {
    /// Returns the settings. Returns `None` if `port` is absent (there is no admin port), or if the host is wrong. A
    /// wrong host is reported even if `port` is absent.
    pub(super) fn settings(&self, resolve: Resolve<'_>) -> Option<AdminSettings> {
        let host = match &self.host {
            None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Some(field) => field.read(|text| loopback(text, resolve)),
        };
        let (port, port_at) = self.port.as_ref()?;
        Some(AdminSettings {
            address: SocketAddr::new(host?, *port),
            port_at: port_at.place(),
            host_at: self.host_at.clone(),
        })
    }

    /// Reports an error if the admin port is the same as the port of the gateway.
    pub(super) fn check_port(&self, gateway: u16) {
        if let Some((port, at)) = &self.port
            && *port == gateway
            && *port != 0
        {
            at.error(format_args!("{port} is also the port of the gateway; write another port"));
        }
    }
}

/// Returns the address of a host. Refuses an address that other machines can reach.
fn loopback(text: &str, resolve: Resolve<'_>) -> Result<IpAddr, String> {
    let host = address(text, resolve)?;
    if host.is_loopback() {
        return Ok(host);
    }
    Err(format!(
        "{host} can be reached from other machines. On such an address the admin port would need \
         client certificates, which it does not support yet; write 127.0.0.1, and let probes run \
         'passticket-proxy health' on this machine or in this container"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads `text` as the section `admin`. Returns the address or the problems.
    fn read_text(text: &str) -> Result<Option<String>, Vec<String>> {
        let resolve = |name: &str| match name {
            "localhost" => Ok(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]),
            "gateway.example" => Ok(vec!["192.0.2.1".parse().unwrap()]),
            _ => Err(io::Error::other("no such name")),
        };
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let section = read(document.section(&report));
        section.check_port(7554);
        let settings = section.settings(&resolve);
        match report.finish(Some(settings)) {
            Ok((settings, _)) => Ok(settings.map(|settings| settings.address.to_string())),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn there_is_an_admin_port_only_with_a_port_and_the_host_must_always_be_loopback() {
        let remote = |key: &str, host: &str| {
            format!(
                "z:{key}: {host} can be reached from other machines. On such an address the admin port would need \
                 client certificates, which it does not support yet; write 127.0.0.1, and let probes \
                 run 'passticket-proxy health' on this machine or in this container"
            )
        };
        for (text, want) in [
            ("", Ok(None)),
            ("host: 127.0.0.1\n", Ok(None)),
            ("port:\n", Ok(None)),
            ("port: 9000\n", Ok(Some("127.0.0.1:9000"))),
            ("port: 0\n", Ok(Some("127.0.0.1:0"))),
            ("host: 127.8.0.1\nport: 9000\n", Ok(Some("127.8.0.1:9000"))),
            ("host: '::1'\nport: 9000\n", Ok(Some("[::1]:9000"))),
            ("host: localhost\nport: 9000\n", Ok(Some("127.0.0.1:9000"))),
            ("port: 9000\nhost: 0.0.0.0\n", Err(remote("2: host", "0.0.0.0"))),
            ("port: 9000\nhost: '::'\n", Err(remote("2: host", "::"))),
            ("host: 192.0.2.7\n", Err(remote("1: host", "192.0.2.7"))),
            ("host: gateway.example\nport: 1\n", Err(remote("1: host", "192.0.2.1"))),
            (
                "port: 65536\n",
                Err("z:1: port: \"65536\" is not valid; write a number from 0 to 65535".to_owned()),
            ),
            (
                "port: 7554\n",
                Err("z:1: port: 7554 is also the port of the gateway; write another port"
                    .to_owned()),
            ),
            ("prt: 1\n", Err("z:1: prt: is an unknown key; did you mean port?".to_owned())),
        ] {
            let want = want.map(|address| address.map(str::to_owned)).map_err(|text| vec![text]);
            assert_eq!(read_text(text), want, "{text}");
        }
    }

    #[test]
    fn each_listen_error_names_the_key_to_change() {
        let place = |key| Place::new(std::path::Path::new("z.yaml"), 3, key);
        let settings = AdminSettings {
            address: "127.0.0.1:80".parse().unwrap(),
            port_at: place("port"),
            host_at: place("host"),
        };
        for (kind, want) in [
            (io::ErrorKind::AddrInUse, "z.yaml:3: port: cannot listen on 127.0.0.1:80"),
            (io::ErrorKind::AddrNotAvailable, "z.yaml:3: host: cannot listen on 127.0.0.1:80"),
        ] {
            let text = settings.explain(&kind.into());
            assert!(text.starts_with(want), "{text}");
        }
        let text = settings.explain(&io::ErrorKind::AddrNotAvailable.into());
        assert!(text.ends_with("; write 127.0.0.1"), "{text}");
    }
}
