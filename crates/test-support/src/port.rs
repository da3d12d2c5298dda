//! Chooses ports for servers that cannot listen on port 0. Either another process opens the port, or a test starts a
//! server twice on the same port.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// The kernel chooses none of these ports for a listener on port 0 or for an outgoing connection.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Returns a free port of the loopback address. Only a process that asks for exactly this port can take it.
pub fn free_port() -> u16 {
    let random = RandomState::new();
    (0_u64..)
        .map(|attempt| {
            let offset = random.hash_one(attempt) % u64::from(PORTS.end - PORTS.start);
            PORTS.start + u16::try_from(offset).unwrap()
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .unwrap()
}
