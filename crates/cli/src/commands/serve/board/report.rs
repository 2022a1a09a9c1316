//! What node and server say about themselves, in the words of the status report.

use std::collections::BTreeMap;

use countersign_server::{CounterSnapshot, Server};
use tailnet_node::{PeerStatus, Status, StatusCounters};

use crate::status::{NodeReport, PathReport, PeerReport, StatusReport};

/// Adds what is known once the server is on the tailnet.
pub(super) fn fill(report: &mut StatusReport, node: Status, server: &Server) {
    report.issuer = Some(server.issuer().to_string());
    report.control.netmap_age_ms = Some(node.netmap_age_ms);
    report.peers = node.peers.into_iter().map(peer).collect();
    count_node(&mut report.counters, &node.counters);
    count(
        "connection_memory_used",
        node.connection_memory_used as u64,
        &mut report.counters,
    );
    count_server(&mut report.counters, &server.counters());
    report.node = Some(NodeReport {
        name: node.name,
        stable_id: node.stable_id,
        addresses: node.addresses,
        tags: node.tags,
        home_region: node.home_region,
        udp_port: node.udp_port,
    });
}

fn peer(peer: PeerStatus) -> PeerReport {
    PeerReport {
        path: path(&peer.path),
        name: peer.name,
        stable_id: peer.stable_id,
        owner: peer.owner,
        addresses: peer.addresses,
        connections: peer.connections as u64,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        dropped_policy: peer.dropped_policy,
    }
}

/// The node writes `direct ADDRESS`, `derp REGION` or `idle`.
fn path(text: &str) -> PathReport {
    match text.split_once(' ') {
        Some(("direct", address)) => PathReport::Direct {
            address: address.to_owned(),
        },
        Some(("derp", region)) => PathReport::Derp {
            region: region.parse().unwrap_or(0),
        },
        _ => PathReport::Idle,
    }
}

type Counters = BTreeMap<String, u64>;

fn count(name: &str, value: u64, counters: &mut Counters) {
    counters.insert(name.to_owned(), value);
}

fn count_node(counters: &mut Counters, node: &StatusCounters) {
    let named = [
        ("datagrams_of_strangers", node.strangers),
        ("datagrams_malformed", node.malformed),
        ("datagrams_without_session", node.no_session),
        ("inbox_full", node.inbox_full),
        ("backlog_full", node.backlog_full),
        ("handshakes", node.handshakes),
        ("handshakes_challenged", node.challenged),
        ("handshakes_throttled", node.throttled),
        ("peers_unproven", node.unproven),
        ("packets_not_authentic", node.not_authentic),
        ("packets_malformed", node.malformed_inside),
        ("filter_dropped", node.policy),
        ("foreign_source_dropped", node.foreign_source),
        ("foreign_destination_dropped", node.foreign_destination),
        ("connections_accepted", node.accepted),
        ("connections_withdrawn", node.withdrawn),
        ("connections_refused", node.refused),
    ];
    for (name, value) in named {
        count(name, value, counters);
    }
}

fn count_server(counters: &mut Counters, server: &CounterSnapshot) {
    count("http_connections_refused", server.connections_refused, counters);
    count("tls_handshakes_failed", server.handshakes_failed, counters);
    count("requests_limited", server.requests_limited, counters);
    count("records_ended", server.records_ended, counters);
    count("records_swept", server.records_swept, counters);
    count("clients_expired", server.clients_expired, counters);
    count("audit_pruned", server.audit_pruned, counters);
    for requests in &server.requests {
        let route = requests
            .route
            .trim_matches('/')
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        count(
            &format!("requests_{route}_{}", requests.outcome),
            requests.count,
            counters,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let address = "192.0.2.7:41641".to_owned();
        assert_eq!(path("direct 192.0.2.7:41641"), PathReport::Direct { address });
        assert_eq!(path("derp 999"), PathReport::Derp { region: 999 });
        assert_eq!(path("idle"), PathReport::Idle);
    }
}
