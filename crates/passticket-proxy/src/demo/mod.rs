//! `serve --demo`: runs a gateway on loopback, and a service behind it.
//!
//! The demo makes a configuration. Then it runs the gateway with this configuration, in the same way as
//! `serve --config`.

mod commands;
mod directory;
mod files;
mod nodes;
mod service;

use std::{env, net::Ipv4Addr};

use tokio::net::TcpListener;
use tower_passticket::{passticket::Applid, tls::Server};

use crate::{
    cli::DemoOptions,
    cluster,
    exit::Exit,
    listener_tls,
    listeners::{Listeners, OpenSockets},
    serve::{Configuration, Start, run, runtime},
    signals::Signals,
    stack::{self, NewStore, PartsError},
    terminal::print_line,
};
use files::{DemoFiles, DemoPorts};
use nodes::{ReservedPort, SecondNode};

/// The remedy in the error message if the gateway cannot listen. The demo's service needs no remedy, because it always
/// listens on a free port.
const GATEWAY_REMEDY: &str = "; choose another port with --port, or a free port with --port 0";

pub(crate) fn serve(options: &DemoOptions) -> Result<(), Exit> {
    let DemoOptions { port, data_dir, redis } = options;
    if let Some(url) = redis {
        nodes::check_url(url)?;
    }
    let directory = match data_dir {
        Some(directory) => directory.clone(),
        None => env::current_dir().map_err(Exit::runtime)?.join("passticket-demo"),
    };
    let mut files = DemoFiles::make(&directory)?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        // The gateway and the service listen before the commands are printed, so that the commands work
        // immediately.
        let service_listener = listen(0, "").await?;
        let gateway_listener = listen(*port, GATEWAY_REMEDY).await?;
        let address = |listener: &TcpListener| listener.local_addr().map_err(Exit::runtime);
        let (gateway, service) = (address(&gateway_listener)?, address(&service_listener)?);
        let second = match (redis, port) {
            (None, _) => None,
            (Some(_), 0) => Some(ReservedPort::take(0)?),
            (Some(_), port) => Some(ReservedPort::take(port.checked_add(1).ok_or_else(|| {
                Exit::usage("--port: node 2 has the next port, so write at most 65534")
            })?)?),
        };
        let ports = DemoPorts {
            gateway: gateway.port(),
            second: second.as_ref().map(ReservedPort::number).transpose()?,
            service: service.port(),
        };
        files.configure(&ports, redis.as_deref())?;
        let loaded = Configuration::load(&files.zowe_yaml())?;
        let config = &loaded.config;
        let gateway = gateway_listener.into_std().map_err(Exit::runtime)?;
        let sockets = OpenSockets { gateway: Some(gateway), ..OpenSockets::default() };
        let listeners = Listeners::open_missing(config, sockets).await?;
        if redis.is_some() {
            nodes::reach_redis(config).await?;
        }
        let (mut stores, origin) = stack::stores(config, NewStore::IfMissing, None)?;
        stores.cluster = cluster::join(config, &stores.revocations, origin, &mut signals).await?;

        let applid = Applid::new(files::APPLID).map_err(Exit::runtime)?;
        let service = service::ZosService::new(applid, config.profiles.clone());
        let server = Server::https(
            service_listener,
            listener_tls::server_tls(config).map_err(PartsError::from).map_err(Exit::usage)?,
        );
        let server = server.run(service, std::future::pending());
        let server = tokio::spawn(server);

        let mut node = match second {
            Some(reserved) => Some(SecondNode::start(&files, reserved).await?),
            None => None,
        };
        print_line(&commands::text(&files, &ports, redis.as_deref()));
        let running = run(loaded, stores, Start::alone(listeners), signals);
        let result = match &mut node {
            None => running.await,
            Some(node) => {
                tokio::select! {
                    result = running => result,
                    () = node.watch() => Ok(()),
                }
            }
        };
        if let Some(node) = node {
            node.stop().await;
        }
        server.abort();
        result
    })
}

/// Listens on a loopback address. `remedy` is appended to the error.
async fn listen(port: u16, remedy: &str) -> Result<TcpListener, Exit> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(|error| {
        Exit::runtime(format!("cannot listen on 127.0.0.1:{port}: {error}{remedy}"))
    })
}
