//! Access that is taken away is gone at once, also on connections that are open.

use std::time::{Duration, Instant};

use countersign_interop_tests::{Client, Lab, Result, Server, ServerOptions, Session};
use serde_json::{Value, json};

use crate::common::{CAPABILITY, SOON, capability_policy, client_metadata, small_team_grant};

/// From the policy's reload to the cut: Headscale tells nodes within a second, and the cut follows within a second.
const CUT: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn without_the_capability_the_next_registration_on_the_same_connection_is_refused() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let mut session = connect(&lab, &lab.alice, &server)?;
    assert_eq!(post(&mut session)?, Some(201), "{}", server.recent_log());

    lab.headscale.set_policy(&Lab::policy(json!([small_team_grant()])))?;
    let deadline = Instant::now() + SOON;
    let refused = loop {
        match post(&mut session)? {
            Some(201) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            other => break other,
        }
    };
    assert_eq!(refused, Some(403), "{}", server.recent_log());
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn without_network_access_the_idle_connection_ends_for_both_sides() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let mut session = connect(&lab, &lab.alice, &server)?;
    assert_eq!(post(&mut session)?, Some(201), "{}", server.recent_log());
    assert_eq!(server.peer("alice")?["connections"], 1, "{}", server.status()?);

    // Alice stays a peer, so the reset has a way to reach her.
    let other_port = json!({ "src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:8443"] });
    lab.headscale.set_policy(&Lab::policy(json!([other_port])))?;
    let told = session.closed_within(CUT);
    assert!(
        told.is_some(),
        "alice was not told: {}\n{}",
        server.status()?,
        server.recent_log()
    );
    println!("reset after {told:.0?}");
    let ended = |status: &Value| connections_of(status, "alice") == 0;
    server.await_status("alice's connection is gone from status", SOON, ended)?;
    server.await_journal(&["COUNTERSIGN_EVENT=connection_withdrawn", "COUNTERSIGN_USER=alice"])?;
    assert_eq!(post(&mut session)?, None, "a withdrawn connection was answered");
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn without_any_rule_the_connection_and_the_peer_are_gone() -> Result {
    cut_off("alice", |lab, _| lab.headscale.set_policy(&Lab::policy(json!([]))))
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn an_expired_node_is_cut_off() -> Result {
    cut_off("alice-laptop", |lab, name| {
        lab.headscale
            .expire(&lab.headscale.node(name)?.expect("the node is there"))
    })
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_deleted_node_is_cut_off() -> Result {
    cut_off("alice-tablet", |lab, name| {
        lab.headscale
            .delete(&lab.headscale.node(name)?.expect("the node is there"))
    })
}

/// A machine of alice's has an idle connection; `withdraw` takes its access, and server and network agree that it is over.
fn cut_off(machine: &str, withdraw: impl Fn(&Lab, &str) -> Result) -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let own = if machine == "alice" {
        None
    } else {
        Some(lab.client(machine, "alice")?)
    };
    let client = own.as_ref().unwrap_or(&lab.alice);
    let mut session = connect(&lab, client, &server)?;
    assert_eq!(post(&mut session)?, Some(201), "{}", server.recent_log());

    withdraw(&lab, machine)?;
    let ended = |status: &Value| connections_of(status, machine) == 0;
    let took = server.await_status("the connection is gone from status", CUT, ended)?;
    println!("cut off {took:.0?} after the command");
    server.await_journal(&["COUNTERSIGN_EVENT=connection_withdrawn", "COUNTERSIGN_USER=alice"])?;
    assert_eq!(post(&mut session)?, None, "a withdrawn connection was answered");
    Ok(())
}

fn connect(lab: &Lab, client: &Client, server: &Server) -> Result<Session> {
    server.await_client(client)?;
    Session::connect(client.host(), &lab.headscale.fqdn("idp"), 443, &server.ca()?)
}

/// The status of a registration on this connection; `None` when nothing answers.
fn post(session: &mut Session) -> Result<Option<u16>> {
    let answer = session.request(
        "POST",
        "/register",
        &client_metadata().to_string(),
        Duration::from_secs(3),
    )?;
    Ok(answer.map(|answer| answer.status))
}

fn connections_of(status: &Value, machine: &str) -> u64 {
    let peers = status["peers"].as_array().into_iter().flatten();
    let of = |peer: &&Value| peer["name"].as_str().and_then(|name| name.split('.').next()) == Some(machine);
    peers
        .into_iter()
        .filter(of)
        .filter_map(|peer| peer["connections"].as_u64())
        .sum()
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_grant_given_later_counts_at_once() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::policy(json!([small_team_grant()])))?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let mut session = connect(&lab, &lab.alice, &server)?;
    assert_eq!(post(&mut session)?, Some(403), "{}", server.recent_log());
    let mut grant = small_team_grant();
    grant["app"] = json!({ (CAPABILITY): [{ "allow_dcr": true }] });
    lab.headscale.set_policy(&Lab::policy(json!([grant])))?;
    let deadline = Instant::now() + SOON;
    while post(&mut session)? != Some(201) {
        assert!(
            Instant::now() < deadline,
            "the grant does not arrive: {}",
            server.recent_log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
