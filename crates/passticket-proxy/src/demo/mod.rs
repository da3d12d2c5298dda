//! `serve --demo`: runs a gateway on loopback, and a service behind it.
//!
//! The demo makes a configuration. Then it runs the gateway with this configuration, in the same way as
//! `serve --config`.

mod commands;
mod directory;
mod files;
mod service;

use std::{env, net::Ipv4Addr, path::Path};

use tokio::net::TcpListener;
use tower_passticket::{passticket::Applid, tls::Server};

use crate::{
    exit::Exit,
    listeners::Listeners,
    serve::{Configuration, Start, run, runtime},
    signals::Signals,
    stack::{self, NewStore},
    terminal::print_line,
};
use files::DemoFiles;

/// The remedy in the error message if the gateway cannot listen. The demo's service needs no remedy, because it always
/// listens on a free port.
const GATEWAY_REMEDY: &str = "; choose another port with --port, or a free port with --port 0";

pub(crate) fn serve(port: u16, data_dir: Option<&Path>) -> Result<(), Exit> {
    let directory = match data_dir {
        Some(directory) => directory.to_owned(),
        None => env::current_dir().map_err(Exit::runtime)?.join("passticket-demo"),
    };
    let mut files = DemoFiles::make(&directory)?;
    runtime()?.block_on(async {
        let signals = Signals::listen()?;
        // The gateway and the service listen before the commands are printed, so that the commands work
        // immediately.
        let service_listener = listen(0, "").await?;
        let gateway_listener = listen(port, GATEWAY_REMEDY).await?;
        let address = |listener: &TcpListener| listener.local_addr().map_err(Exit::runtime);
        let (gateway, service) = (address(&gateway_listener)?, address(&service_listener)?);
        files.configure(gateway.port(), service.port())?;
        let loaded = Configuration::load(&files.zowe_yaml())?;
        let config = &loaded.config;
        let gateway_listener = gateway_listener.into_std().map_err(Exit::runtime)?;
        let listeners = Listeners::open_missing(config, Some(gateway_listener), None).await?;
        let stores = stack::stores(config, NewStore::IfMissing)?;

        let applid = Applid::new(files::APPLID).map_err(Exit::runtime)?;
        let profile = config
            .profiles
            .get(&applid)
            .ok_or_else(|| Exit::runtime("the demo has no PassTicket key for its service"))?;
        let server =
            Server::https(service_listener, stack::server_tls(config).map_err(Exit::usage)?);
        let server = server.run(service::ZosService::new(profile.clone()), std::future::pending());
        let server = tokio::spawn(server);

        print_line(&commands::text(&files, gateway.port()));
        let result = run(loaded, stores, Start::alone(listeners), signals).await;
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
