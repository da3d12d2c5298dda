//! Ports for servers that another process opens, or that a test stops and starts again.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Ports that the kernel gives neither to a listener on port 0 nor to an outgoing connection.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Returns a free port of the loopback address that stays free until a process asks for exactly this port.
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
