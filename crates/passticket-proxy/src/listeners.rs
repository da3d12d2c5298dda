//! Opens the listening sockets of the gateway and of its admin port, or takes them from systemd.

use std::{env, io, net::TcpListener};

use listenfd::ListenFd;
use passticket_proxy::config::Config;
use rustix::net::sockopt::socket_acceptconn;

use crate::{admin, exit::Exit};

/// The end of error messages: the lines that the socket units of systemd need.
const REMEDY: &str = "in the socket unit of the gateway, write ListenStream= and FileDescriptorName=gateway; if systemd \
                      opens the admin port, too, write another socket unit with ListenStream=, \
                      FileDescriptorName=admin and Service= with the service unit of the gateway";

/// The listening sockets. The operating system already accepts connections on them, but the gateway does not answer
/// yet.
pub(crate) struct Listeners {
    pub(crate) gateway: TcpListener,
    /// `None` if the configuration has no admin port.
    pub(crate) admin: Option<TcpListener>,
}

impl Listeners {
    /// Opens the ports of the configuration. If systemd has passed a socket for a port (socket activation), uses this
    /// socket, and does not open the port.
    pub(crate) async fn open(config: &Config) -> Result<Self, Exit> {
        let (gateway, admin) = inherited(config).map_err(Exit::usage)?;
        Self::open_missing(config, gateway, admin).await
    }

    /// Opens each configured port for which the caller passes no socket. Drops `admin` if the configuration has no
    /// admin port.
    pub(crate) async fn open_missing(
        config: &Config,
        gateway: Option<TcpListener>,
        admin: Option<TcpListener>,
    ) -> Result<Self, Exit> {
        let gateway = match gateway {
            Some(gateway) => gateway,
            None => {
                let listener = tokio::net::TcpListener::bind(config.listen.address).await;
                let listener = listener.and_then(tokio::net::TcpListener::into_std);
                listener.map_err(|error| Exit::runtime(config.listen.explain(&error)))?
            }
        };
        let admin = match (&config.admin, admin) {
            (None, _) => None,
            (Some(_), Some(admin)) => Some(admin),
            (Some(_), None) => admin::bind(config)?,
        };
        for listener in [&gateway].into_iter().chain(&admin) {
            listener.set_nonblocking(true).map_err(Exit::runtime)?;
        }
        Ok(Self { gateway, admin })
    }
}

/// Returns the sockets that systemd has passed to this process (`LISTEN_FDS`): for the gateway, and for the admin port.
///
/// The crate `listenfd` makes the sockets, because making a socket from a descriptor number needs unsafe code. The
/// crate also removes the variables from the environment.
fn inherited(config: &Config) -> Result<(Option<TcpListener>, Option<TcpListener>), String> {
    // systemd separates the names with colons. `from_env` checks that the variables are for this process
    // (`LISTEN_PID`).
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    if sockets.len() == 0 {
        return Ok((None, None));
    }
    let roles = roles(sockets.len(), &names)?;
    let mut taken = [None, None];
    for (index, role) in roles.into_iter().enumerate() {
        let listener = sockets.take_tcp_listener(index).ok().flatten();
        let listener = listener.filter(|listener| socket_acceptconn(listener).unwrap_or(false));
        let listener = listener.ok_or_else(|| {
            format!(
                "socket {} of systemd ({}) is no listening TCP socket; {REMEDY}",
                index + 1,
                role.name()
            )
        })?;
        let address = listener.local_addr().map_err(|error: io::Error| error.to_string())?;
        if role == Role::Admin && config.admin.is_none() {
            return Err(format!(
                "systemd passes the socket admin ({address}), but there is no admin port; set \
                 components.passticket-proxy.admin.port to a port, or remove the socket unit"
            ));
        }
        if role == Role::Admin && !address.ip().is_loopback() {
            return Err(format!(
                "the socket admin of systemd listens on {address}; the admin port must listen on a loopback address, \
                 such as ListenStream=127.0.0.1:{}",
                address.port()
            ));
        }
        tracing::info!(%address, port = role.name(), "systemd has opened the port");
        taken[role as usize] = Some(listener);
    }
    Ok(taken.into())
}

/// The port that a socket of systemd replaces. The name of the socket says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Gateway,
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
        }
    }
}

/// Returns the role of each socket of systemd.
fn roles(sockets: usize, names: &str) -> Result<Vec<Role>, String> {
    let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
    if names.len() != sockets {
        return Err(format!(
            "systemd passes {sockets} sockets, but names {}; {REMEDY}",
            names.len()
        ));
    }
    let mut roles = Vec::new();
    for name in names {
        let role = match name {
            "gateway" => Role::Gateway,
            "admin" => Role::Admin,
            _ => return Err(format!("systemd passes a socket with the name {name}; {REMEDY}")),
        };
        if roles.contains(&role) {
            return Err(format!("systemd passes two sockets with the name {name}; {REMEDY}"));
        }
        roles.push(role);
    }
    if !roles.contains(&Role::Gateway) {
        return Err(format!("systemd passes no socket with the name gateway; {REMEDY}"));
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_systemd_socket_says_its_role() {
        use Role::{Admin, Gateway};
        for (sockets, names, want) in [
            (1, "gateway", Ok(vec![Gateway])),
            (2, "admin:gateway", Ok(vec![Admin, Gateway])),
            (1, "admin", Err("no socket with the name gateway")),
            (2, "gateway:gateway", Err("two sockets with the name gateway")),
            (1, "passticket-proxy.socket", Err("a socket with the name passticket-proxy.socket")),
            (2, "gateway", Err("2 sockets, but names 1")),
            (1, "", Err("1 sockets, but names 0")),
            (1, "gateway:admin", Err("1 sockets, but names 2")),
        ] {
            match (roles(sockets, names), want) {
                (Ok(roles), Ok(want)) => assert_eq!(roles, want, "{names}"),
                (Err(error), Err(want)) => {
                    assert!(
                        error.contains(want) && error.contains("FileDescriptorName"),
                        "{error}"
                    );
                }
                (got, want) => panic!("{names}: got {got:?}, expected {want:?}"),
            }
        }
    }
}
