use std::net::SocketAddr;

use super::{Egress, memory::ConnectionMemory, queue::PacketQueue, udp};

/// Collects a limited number of packets.
struct Sink(Vec<Vec<u8>>, usize);

impl Egress for Sink {
    fn is_ready(&self) -> bool {
        self.0.len() < self.1
    }

    fn send(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

#[test]
fn a_queue_keeps_order_and_refuses_what_does_not_fit() {
    let mut queue = PacketQueue::new(10);
    assert!(queue.push(b"one"));
    assert!(queue.push(b"two"));
    let mut sink = Sink(Vec::new(), 1);
    queue.drain(&mut sink);
    assert!(queue.push(b"three"));
    assert!(!queue.push(b"four"));
    assert_eq!(queue.dropped(), 1);
    sink.1 = 10;
    queue.drain(&mut sink);
    assert_eq!(sink.0, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert!(queue.is_empty());
}

#[test]
fn buffers_shrink_as_the_budget_fills_and_come_back() {
    let memory = ConnectionMemory::new(64 << 20);
    let mut held = 0;
    let mut taken = Vec::new();
    while let Some(reservation) = memory.reserve(held, 256 << 10) {
        held += reservation.bytes();
        taken.push(reservation);
    }
    assert_eq!(taken[0].buffer(), 256 << 10);
    assert_eq!(taken.last().unwrap().buffer(), 8 << 10);
    assert!(taken.windows(2).all(|pair| pair[0].buffer() >= pair[1].buffer()));
    assert!(taken.len() > 350, "hundreds of connections fit: {}", taken.len());
    assert!(held <= 48 << 20);
    let other = memory.reserve(0, 256 << 10).unwrap();
    assert!(other.buffer() >= 64 << 10, "another peer still gets a fair buffer");
    drop((taken, other));
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_buffer_is_no_larger_than_the_limit_but_never_too_small_to_work() {
    let memory = ConnectionMemory::new(64 << 20);
    assert_eq!(memory.reserve(0, 32 << 10).unwrap().buffer(), 32 << 10);
    assert_eq!(memory.reserve(0, 1).unwrap().buffer(), 8 << 10);
}

#[test]
fn greedy_peers_leave_something_to_the_next() {
    let memory = ConnectionMemory::new(64 << 20);
    let mut taken = Vec::new();
    for _ in 0..3 {
        let mut held = 0;
        while let Some(reservation) = memory.reserve(held, 256 << 10) {
            held += reservation.bytes();
            taken.push(reservation);
        }
    }
    assert!(
        memory.reserve(0, 256 << 10).is_some(),
        "{} bytes are used",
        memory.used()
    );
}

#[test]
fn a_udp_packet_has_the_checksum_of_its_pseudo_header() {
    let (local, remote) = (
        SocketAddr::from(([100, 64, 0, 1], 1)),
        SocketAddr::from(([100, 64, 0, 2], 53)),
    );
    let packet = udp::build(local, remote, b"abc").unwrap();
    let sum: u32 = packet[12..]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    // The header's length and the protocol stand for the rest of the pseudo header.
    let sum = sum + 11 + 17;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}
