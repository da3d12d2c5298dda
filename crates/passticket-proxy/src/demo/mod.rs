//! `serve --demo`: a gateway on loopback, with a service behind it.
//!
//! The demo makes a configuration and then runs the same gateway as `serve --config`, so it shows
//! what that command does.

mod commands;
mod directory;
mod service;
mod world;

use std::{env, net::Ipv4Addr, path::Path};

use tokio::net::TcpListener;
use tower_passticket::{passticket::Applid, tls::Server};

use crate::{
    exit::Exit,
    loading,
    serve::{interrupted, run, runtime},
    stack,
    terminal::say,
};
use world::World;

pub(crate) fn serve(port: u16, data_dir: Option<&Path>) -> Result<(), Exit> {
    let directory = match data_dir {
        Some(directory) => directory.to_owned(),
        None => env::current_dir().map_err(Exit::runtime)?.join("passticket-demo"),
    };
    let mut world = World::make(&directory)?;
    runtime()?.block_on(async {
        // Both listen before the commands are printed, so that these work at once.
        let southbound = listen(0).await?;
        let northbound = listen(port).await?;
        let address = |listener: &TcpListener| listener.local_addr().map_err(Exit::runtime);
        let (gateway, service) = (address(&northbound)?, address(&southbound)?);
        world.configure(gateway.port(), service.port())?;
        let config = loading::load(&world.zowe_yaml())?;
        let parts = stack::parts(&config).map_err(Exit::usage)?;
        let stores = stack::stores(&config).map_err(Exit::runtime)?;

        let applid = Applid::new(world::APPLID).map_err(Exit::runtime)?;
        let profile = config
            .profiles
            .get(&applid)
            .ok_or_else(|| Exit::runtime("the demo has no PassTicket key for its service"))?;
        let zos = Server::https(southbound, stack::server_tls(&config).map_err(Exit::usage)?);
        let zos = zos.run(service::ZosService::new(profile.clone()), std::future::pending());
        let zos = tokio::spawn(zos);

        let shutdown = interrupted()?;
        say(&commands::text(&world, gateway.port()));
        let ended = run(&config, parts, stores, northbound, shutdown).await;
        // Requests in flight need the service until here.
        zos.abort();
        ended
    })
}

async fn listen(port: u16) -> Result<TcpListener, Exit> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(|error| {
        Exit::runtime(format!(
            "cannot listen on 127.0.0.1:{port}: {error}; choose another port with --port, 0 for any"
        ))
    })
}
