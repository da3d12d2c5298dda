//! The listening sockets of the gateway and of its admin port.

use std::net::TcpListener;

use passticket_proxy::config::Config;

use crate::{admin::AdminPort, exit::Exit};

/// The listening sockets. The system already accepts connections for them, but the gateway does not answer yet.
pub(crate) struct Listeners {
    pub(crate) gateway: TcpListener,
    /// `None` if the configuration has no admin port.
    pub(crate) admin: Option<TcpListener>,
}

impl Listeners {
    /// Opens the ports of the configuration.
    pub(crate) async fn open(config: &Config) -> Result<Self, Exit> {
        Self::open_missing(config, None, None).await
    }

    /// Opens each configured port, unless the caller passes its socket. Drops `admin` if the configuration has no admin
    /// port.
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
            (Some(_), None) => AdminPort::bind(config)?,
        };
        for listener in [&gateway].into_iter().chain(&admin) {
            listener.set_nonblocking(true).map_err(Exit::runtime)?;
        }
        Ok(Self { gateway, admin })
    }
}
