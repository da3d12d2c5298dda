//! Opens the listening sockets of the gateway, of its admin port, and of the listener for gateways of API ML, or takes
//! them from systemd.

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
};

use listenfd::ListenFd;
use passticket_proxy::config::Config;
use rustix::net::sockopt::socket_acceptconn;

use crate::{admin, exit::Exit};

/// The end of error messages: the lines that the socket units of systemd need.
const REMEDY: &str = "in the socket unit of the gateway, write ListenStream= and FileDescriptorName=gateway; if systemd \
                      opens the admin port or the port for API ML gateways, too, write another socket unit with \
                      ListenStream=, FileDescriptorName=admin or FileDescriptorName=zaas, and Service= with the \
                      service unit of the gateway";

/// The listening sockets. The operating system already accepts connections on them, but the gateway does not answer
/// yet.
pub(crate) struct Listeners {
    pub(crate) gateway: TcpListener,
    /// `None` if the configuration has no admin port.
    pub(crate) admin: Option<TcpListener>,
    /// The listener for gateways of API ML. `None` if the configuration has none.
    pub(crate) zaas: Option<TcpListener>,
}

/// Sockets that are already open: from systemd, or from the running process.
#[derive(Default)]
pub(crate) struct OpenSockets {
    pub(crate) gateway: Option<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) zaas: Option<TcpListener>,
}

impl Listeners {
    /// Opens the ports of the configuration. If systemd has passed a socket for a port (socket activation), uses this
    /// socket, and does not open the port.
    pub(crate) async fn open(config: &Config) -> Result<Self, Exit> {
        let sockets = inherited(config).map_err(Exit::usage)?;
        Self::open_missing(config, sockets).await
    }

    /// Opens each configured port for which the caller passes no socket. Drops the sockets of ports that the
    /// configuration does not have.
    pub(crate) async fn open_missing(config: &Config, sockets: OpenSockets) -> Result<Self, Exit> {
        let OpenSockets { gateway, admin, zaas } = sockets;
        let gateway = match gateway {
            Some(gateway) => gateway,
            None => bind(config.listen.address, |error| config.listen.explain(error)).await?,
        };
        let admin = match (&config.admin, admin) {
            (None, _) => None,
            (Some(_), Some(admin)) => Some(admin),
            (Some(_), None) => admin::bind(config)?,
        };
        let zaas = match (&config.zaas, zaas) {
            (None, _) => None,
            (Some(_), Some(zaas)) => Some(zaas),
            (Some(settings), None) => {
                Some(bind(settings.address, |error| settings.explain(error)).await?)
            }
        };
        for listener in [&gateway].into_iter().chain(&admin).chain(&zaas) {
            listener.set_nonblocking(true).map_err(Exit::runtime)?;
        }
        Ok(Self { gateway, admin, zaas })
    }
}

/// Opens a port with the backlog that Tokio sets. `explain` turns an error into a message that says what to do.
async fn bind(
    address: SocketAddr,
    explain: impl Fn(&io::Error) -> String,
) -> Result<TcpListener, Exit> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.and_then(tokio::net::TcpListener::into_std);
    listener.map_err(|error| Exit::runtime(explain(&error)))
}

/// Returns the sockets that systemd has passed to this process (`LISTEN_FDS`).
///
/// The crate `listenfd` makes the sockets, because making a socket from a descriptor number needs unsafe code. The
/// crate also removes `LISTEN_PID` and `LISTEN_FDS` from the environment.
fn inherited(config: &Config) -> Result<OpenSockets, String> {
    // systemd separates the names with colons. `from_env` checks that the variables are for this process
    // (`LISTEN_PID`).
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let mut taken = OpenSockets::default();
    if sockets.len() == 0 {
        return Ok(taken);
    }
    let roles = roles(sockets.len(), &names)?;
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
        check(role, address, config)?;
        tracing::info!(%address, port = role.name(), "systemd has opened the port");
        let place = match role {
            Role::Gateway => &mut taken.gateway,
            Role::Admin => &mut taken.admin,
            Role::Zaas => &mut taken.zaas,
        };
        *place = Some(listener);
    }
    Ok(taken)
}

/// Checks that the configuration has the port for which systemd passes a socket, and that the port may have this
/// address.
fn check(role: Role, address: SocketAddr, config: &Config) -> Result<(), String> {
    match role {
        Role::Admin if config.admin.is_none() => Err(format!(
            "systemd passes the socket admin ({address}), but there is no admin port; set \
             components.passticket-proxy.admin.port to a port, or remove the socket unit"
        )),
        Role::Admin if !address.ip().is_loopback() => Err(format!(
            "the socket admin of systemd listens on {address}; the admin port must listen on a loopback address, \
             such as ListenStream=127.0.0.1:{}",
            address.port()
        )),
        Role::Zaas if config.zaas.is_none() => Err(format!(
            "systemd passes the socket zaas ({address}), but the listener for API ML gateways is off; set \
             components.passticket-proxy.zaas.enabled to true, or remove the socket unit"
        )),
        Role::Gateway | Role::Admin | Role::Zaas => Ok(()),
    }
}

/// The port for which systemd passes a socket. The name of the socket (`FileDescriptorName`) says which port this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Gateway,
    Admin,
    Zaas,
}

impl Role {
    const ALL: [Self; 3] = [Self::Gateway, Self::Admin, Self::Zaas];

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
            Self::Zaas => "zaas",
        }
    }
}

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
        let role = Role::ALL
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| format!("systemd passes a socket with the name {name}; {REMEDY}"))?;
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
        use Role::{Admin, Gateway, Zaas};
        for (sockets, names, want) in [
            (1, "gateway", Ok(vec![Gateway])),
            (2, "admin:gateway", Ok(vec![Admin, Gateway])),
            (3, "zaas:gateway:admin", Ok(vec![Zaas, Gateway, Admin])),
            (1, "zaas", Err("no socket with the name gateway")),
            (3, "zaas:gateway:zaas", Err("two sockets with the name zaas")),
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
