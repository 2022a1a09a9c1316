//! The same job on every kind of path: direct, relay only, IPv6, and direct again.

use std::net::IpAddr;
use std::path::Path;

use countersign_interop_tests::{Lab, PingKind, Result, Server, ServerOptions};

use crate::common::{PATH, assert_refused_for_lack_of_grant, capability_policy, register, registered};

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn the_same_by_relay_over_ipv6_and_direct_again() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    server.await_client(&lab.alice)?;
    let ca = server.ca()?;
    let unblock = || {
        lab.alice
            .host()
            .unblock_udp()
            .and_then(|()| lab.bob.host().unblock_udp())
    };

    // With UDP in the way from the start and in the middle.
    for client in [&lab.alice, &lab.bob] {
        client.host().block_udp(&lab.idp)?;
    }
    let relayed = lab.alice.await_path("idp", false, PATH).and_then(|took| {
        println!("relayed after {took:.1?}");
        both(&lab, &server, &ca)
    });
    let kind = server.peer("alice")?["path"]["kind"].clone();
    unblock()?;
    relayed?;
    assert_eq!(kind, "derp", "{}", server.status()?);

    let took = lab.alice.await_path("idp", true, PATH)?;
    println!("direct after {took:.1?}");
    both(&lab, &server, &ca)?;
    let path = server.peer("alice")?["path"].clone();
    assert_eq!(path["kind"], "direct", "{path}");

    lab.alice.host().block_udp_ipv4(&lab.idp)?;
    let on_ipv6 = lab.alice.await_path("idp", true, PATH).and_then(|_| {
        let pong = lab.alice.ping("idp", PingKind::Disco, PATH)?;
        both(&lab, &server, &ca).map(|()| pong)
    });
    unblock()?;
    let pong = on_ipv6?;
    assert!(pong.line.contains("[2001:db8:"), "not over IPv6: {}", pong.line);
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn both_families_of_tailnet_addresses_answer() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    server.await_client(&lab.alice)?;
    let ca = server.ca()?;
    let addresses = lab.alice.peer_addresses("idp")?;
    assert!(
        addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6),
        "{addresses:?}"
    );
    for address in addresses {
        let url = format!("{}/.well-known/oauth-authorization-server", server.url());
        let answer = lab.alice.curl(&url).trust(&ca).via(address).send()?;
        assert_eq!(answer.status, 200, "{address}: {answer:?}\n{}", server.recent_log());
    }
    Ok(())
}

/// Alice registers, bob is refused.
fn both(lab: &Lab, server: &Server, ca: &Path) -> Result {
    registered(&lab.alice, server, ca)?;
    assert_refused_for_lack_of_grant(&register(&lab.bob, server, ca)?);
    Ok(())
}
