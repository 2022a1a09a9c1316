//! The main job: a person finds the server by name, reads what it offers and registers a client, or is told why not.

use std::time::Duration;

use countersign_interop_tests::{Lab, PingKind, Result, Server, ServerOptions};

use crate::common::{assert_refused_for_lack_of_grant, capability_policy, register, registered};

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn alice_discovers_by_magicdns_name_and_registers_and_bob_learns_which_grant_is_missing() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    server.await_client(&lab.alice)?;
    server.await_client(&lab.bob)?;
    let ca = server.ca()?;

    for document in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let url = format!("{}{document}", server.url());
        let answer = lab.alice.curl(&url).trust(&ca).send()?;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", server.recent_log());
        let metadata = answer.json()?;
        assert_eq!(metadata["issuer"], server.url());
        assert_eq!(metadata["registration_endpoint"], format!("{}/register", server.url()));
        let keys = lab
            .alice
            .curl(metadata["jwks_uri"].as_str().expect("a jwks_uri"))
            .trust(&ca)
            .send()?
            .json()?;
        let mut keys = keys["keys"].as_array().into_iter().flatten();
        assert!(keys.any(|key| key["alg"] == "ES256"), "no key for the default");
    }

    let client = registered(&lab.alice, &server, &ca)?;
    assert_refused_for_lack_of_grant(&register(&lab.bob, &server, &ca)?);

    let granted = server.await_journal(&["COUNTERSIGN_USER=alice", "COUNTERSIGN_DECISION=allowed"])?;
    assert_eq!(granted["COUNTERSIGN_CLIENT"], client.as_str(), "{granted}");
    assert_eq!(
        granted["COUNTERSIGN_NODE"].as_str().map(first_label),
        Some("alice"),
        "{granted}"
    );
    let refused = server.await_journal(&["COUNTERSIGN_USER=bob", "COUNTERSIGN_DECISION=refused"])?;
    assert_eq!(
        refused["COUNTERSIGN_NODE"].as_str().map(first_label),
        Some("bob"),
        "{refused}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn all_three_kinds_of_tailscale_ping_get_their_pong() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    server.await_client(&lab.alice)?;
    for kind in [PingKind::Disco, PingKind::Tsmp, PingKind::Icmp] {
        let pong = lab.alice.ping("idp", kind, Duration::from_secs(10));
        let pong = pong.unwrap_or_else(|e| panic!("{kind:?}: {e}\n{}", server.recent_log()));
        println!("{kind:?}: {}", pong.line);
    }
    Ok(())
}

fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}
