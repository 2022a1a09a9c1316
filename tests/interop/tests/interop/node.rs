//! The node alone, without our server on it: `examples/stream` carries bytes on every kind of path.

use std::net::IpAddr;
use std::time::Duration;

use countersign_interop_tests::{Client, Lab, PingKind, Result, StreamKind, StreamServer};

use crate::common::PATH;

/// Enough to fill every window and wrap every buffer.
const BULK: usize = 20_000_000;

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn bulk_flows_both_ways_directly_by_relay_and_over_ipv6() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::open_policy())?;
    let host = lab.host("stream")?;
    let server = StreamServer::start(&lab, &host, StreamKind::Ours)?;
    lab.alice.await_peer("ours", true)?;
    for kind in [PingKind::Disco, PingKind::Tsmp, PingKind::Icmp] {
        lab.alice.ping("ours", kind, Duration::from_secs(10))?;
    }
    lab.alice.await_path("ours", true, PATH)?;
    let addresses = lab.alice.peer_addresses("ours")?;
    for address in &addresses {
        there_and_back(&lab.alice, &server, *address)?;
    }

    lab.alice.host().block_udp(&host)?;
    let relayed = lab
        .alice
        .await_path("ours", false, PATH)
        .and_then(|_| there_and_back(&lab.alice, &server, addresses[0]));
    lab.alice.host().unblock_udp()?;
    relayed?;
    lab.alice.await_path("ours", true, PATH)?;
    there_and_back(&lab.alice, &server, addresses[0])
}

fn there_and_back(client: &Client, server: &StreamServer, address: IpAddr) -> Result {
    let limit = Duration::from_secs(60);
    let down = client
        .curl(&server.url(&format!("/stream?n={BULK}")))
        .via(address)
        .limit(limit)
        .send()?;
    assert_eq!(
        (down.status, down.exit, down.body.len()),
        (200, 0, BULK),
        "{address}: {}",
        down.error
    );
    let file = client.host().dir().join("upload");
    std::fs::write(&file, vec![b'x'; BULK]).expect("a file to upload");
    let up = client.curl(&server.url("/upload")).via(address).limit(limit);
    let up = up.arg("--upload-file").arg(file.display().to_string()).send()?;
    assert_eq!(
        (up.status, up.exit, up.body.trim()),
        (200, 0, BULK.to_string().as_str()),
        "{address}: {}",
        up.error
    );
    println!("{address}: down {:.1?}, up {:.1?}", down.time, up.time);
    Ok(())
}
