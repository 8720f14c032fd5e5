//! Ports for servers that must be told theirs before they start.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

const LOWEST: u16 = 10_240;
/// From here on the kernel gives ports to clients, one of which could take the port before the
/// server does, or still hold it after its end.
const EPHEMERAL: u16 = 32_768;

/// A port of 127.0.0.1 below the ephemeral range that was free a moment ago and that this process
/// has not been given before. Another process may take it: who starts a server on it tries again
/// with the next one if the address is in use.
///
/// # Panics
/// If no port is free.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let ports = EPHEMERAL - LOWEST;
    // Processes that start together begin at different places.
    let next = NEXT.get_or_init(|| {
        let chance = RandomState::new().hash_one(std::process::id()) % u64::from(ports);
        AtomicU16::new(u16::try_from(chance).unwrap_or(0))
    });
    for _ in 0..ports {
        let port = LOWEST + next.fetch_add(1, Ordering::Relaxed) % ports;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {LOWEST} and {EPHEMERAL} is free");
}

#[test]
fn ports_are_free_different_and_below_the_ephemeral_range() {
    let ports: std::collections::BTreeSet<_> = (0..50).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 50);
    assert!(ports.iter().all(|port| (LOWEST..EPHEMERAL).contains(port)));
    for port in ports {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
    }
}

#[test]
fn a_port_in_use_is_not_given() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("it is free");
    let taken = taken.local_addr().expect("it is bound").port();
    assert!((0..200).all(|_| free_port() != taken));
}
