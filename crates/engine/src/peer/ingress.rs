//! A datagram's way in: decrypt, check both addresses, ask the filter, hand to whoever answers.

use std::time::Instant;

use tailnet_wire::{
    packet::{Addresses, Fragment, IpProto, Packet, build},
    tsmp::{Message, Reason, Reject},
};

use super::{Peer, PeerEvent};
use crate::{
    filter::{self, Verdict},
    netstack::FlowKey,
    path::Hop,
    tunnel::{Decapsulated, Refusal, relay_address},
};

impl Peer {
    /// A WireGuard datagram that names this peer: by its receiver index, or by the key inside an initiation that
    /// [`HandshakeLimiter::verify`](crate::tunnel::HandshakeLimiter::verify) let through. Answers wait for the next
    /// [`poll_transmit`](Self::poll_transmit), so hand in a whole batch first.
    pub fn handle_datagram(&mut self, now: Instant, from: Hop, datagram: &[u8]) {
        if self.view.is_none() || self.closing {
            self.counters.dropped.withdrawn += 1;
            return;
        }
        if self.tunnel.tick_due(now) {
            self.tick(now);
        }
        let source = match from {
            Hop::Udp(address) => address.ip(),
            Hop::Derp(region) => relay_address(region, &self.key),
        };
        // The buffer leaves the peer for the time of the call, so that the packet in it can be read while the peer
        // changes. No allocation: an empty box has none.
        let mut plain = std::mem::take(&mut self.plain);
        match self.tunnel.decapsulate(now, source, datagram, &mut plain) {
            Decapsulated::Packet(len) => {
                self.path.handle_wireguard(from, now);
                self.handle_packet(now, &plain[..len]);
            }
            Decapsulated::Handshake(len) => {
                self.path.handle_wireguard(from, now);
                self.queue_handshake(Some(from), &plain[..len]);
            }
            Decapsulated::Challenge(len) => self.queue_handshake(Some(from), &plain[..len]),
            Decapsulated::Keepalive => self.path.handle_wireguard(from, now),
            Decapsulated::Cookie => {}
            Decapsulated::Refused(refusal) => self.handle_refusal(now, refusal),
        }
        self.plain = plain;
    }

    fn handle_refusal(&mut self, now: Instant, refusal: Refusal) {
        let dropped = &mut self.counters.dropped;
        match refusal {
            Refusal::Malformed | Refusal::NotAuthentic => dropped.not_authentic += 1,
            Refusal::Oversized => dropped.oversized += 1,
            Refusal::Replayed => dropped.replayed += 1,
            Refusal::UnknownSession => {
                dropped.unknown_session += 1;
                self.force_handshake(now);
            }
        }
    }

    fn handle_packet(&mut self, now: Instant, bytes: &[u8]) {
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += bytes.len() as u64;
        let Some(view) = &self.view else {
            return;
        };
        let Ok(packet) = Packet::parse(bytes) else {
            self.counters.dropped.malformed += 1;
            return;
        };
        if !view.remote.contains(&packet.src.ip()) {
            self.counters.dropped.foreign_source += 1;
            return;
        }
        if !view.local.contains(&packet.dst.ip()) {
            self.counters.dropped.foreign_destination += 1;
            return;
        }
        if let Verdict::Drop(reason) = view.judge(&packet, &mut self.udp_flows) {
            self.counters.dropped.policy += 1;
            self.explain(&packet, reason);
            return;
        }
        // No MTU in a tailnet makes TCP fragment, and nobody here puts fragments together.
        if packet.fragment != Fragment::None {
            self.counters.dropped.malformed += 1;
            return;
        }
        match packet.proto {
            IpProto::TCP => self.handle_tcp(now, &packet, bytes),
            IpProto::UDP => self.handle_udp(&packet, bytes),
            IpProto::ICMPV4 | IpProto::ICMPV6 => self.handle_icmp(now, &packet, bytes),
            IpProto::TSMP => self.handle_tsmp(now, &packet, bytes),
            _ => self.counters.dropped.unhandled += 1,
        }
    }

    #[inline]
    fn handle_tcp(&mut self, now: Instant, packet: &Packet, bytes: &[u8]) {
        let listening = packet.is_tcp_syn() && self.ports.tcp.contains(&packet.dst.port());
        if listening {
            self.start_netstack(now);
        }
        if let Some(netstack) = &mut self.netstack {
            netstack.handle_tcp(now, packet, bytes, listening, &mut self.replies);
        } else {
            // Without connections only a SYN to an open port needs a stack.
            self.counters.tcp.unlistened += u64::from(packet.is_tcp_syn());
            if let Some(reset) = build::tcp_reset_for(packet, bytes) {
                self.replies.push(&reset);
            }
        }
    }

    fn handle_udp(&mut self, packet: &Packet, bytes: &[u8]) {
        if !self.ports.udp.contains(&packet.dst.port()) {
            // Silently: an error for each would let a peer make us send as much as it does.
            self.counters.dropped.unbound += 1;
        } else if !self.inbox.push(packet, bytes) {
            self.counters.dropped.queue_full += 1;
        }
    }

    fn handle_icmp(&mut self, now: Instant, packet: &Packet, bytes: &[u8]) {
        if let Some(reply) = build::echo_reply(packet, bytes) {
            self.replies.push(&reply);
        } else if let Some(pong) = self.pings.handle_icmp(now, packet, bytes) {
            self.events.push_back(pong);
        }
    }

    fn handle_tsmp(&mut self, now: Instant, packet: &Packet, bytes: &[u8]) {
        match Message::parse(packet.transport(bytes)) {
            Some(Message::Ping(data)) => {
                let pong = Message::Pong { data, peer_api_port: 0 };
                self.answer_tsmp(packet, &pong);
            }
            Some(Message::Pong { data, peer_api_port }) => {
                if let Some(pong) = self.pings.handle_tsmp(now, data, peer_api_port) {
                    self.events.push_back(pong);
                }
            }
            Some(Message::DiscoKey(key)) => {
                self.path.handle_announced(key, now);
                // The last one counts; a peer that sends many fills no queue.
                self.events.retain(|event| !matches!(event, PeerEvent::DiscoKey(_)));
                self.events.push_back(PeerEvent::DiscoKey(key));
            }
            Some(Message::Reject(reject)) => self.handle_reject(packet, &reject),
            None => self.counters.dropped.unhandled += 1,
        }
    }

    /// The peer's policy does not let our SYN in: the dial has failed now, not after its last retransmission.
    fn handle_reject(&mut self, packet: &Packet, reject: &Reject) {
        let (mut local, mut remote) = (packet.dst, packet.src);
        local.set_port(reject.src_port);
        remote.set_port(reject.dst_port);
        if let (IpProto::TCP, Some(netstack)) = (reject.proto, &mut self.netstack) {
            netstack.handle_reject(&FlowKey { local, remote });
        }
    }

    /// Tells the peer that its connection is not allowed, as Go does, for IPv4 SYNs only.
    fn explain(&mut self, packet: &Packet, reason: filter::Reason) {
        if reason == filter::Reason::NoRule && packet.version == 4 && packet.is_tcp_syn() {
            let reject = Message::Reject(Reject {
                proto: packet.proto,
                reason: Reason::POLICY,
                src_port: packet.src.port(),
                dst_port: packet.dst.port(),
                maybe_broken: false,
            });
            self.answer_tsmp(packet, &reject);
        }
    }

    fn answer_tsmp(&mut self, packet: &Packet, message: &Message) {
        if let Some(addresses) = Addresses::reply_to(packet) {
            self.replies.push(&build::tsmp(&addresses, &message.encode()));
        }
    }
}
