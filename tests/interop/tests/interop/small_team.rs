//! The policy that small teams write: a group, a tag, a port, and no word about capabilities.

use std::time::Duration;

use countersign_interop_tests::{Lab, Result, Server, ServerOptions};
use serde_json::json;

use crate::common::{register, registered, small_team_grant};

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn the_network_decides_who_registers_and_a_syn_to_a_closed_port_is_dropped_and_counted() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::policy(json!([small_team_grant()])))?;
    let options = ServerOptions {
        registration: "network",
        ..ServerOptions::default()
    };
    let server = Server::start(&lab, options)?;
    server.await_client(&lab.alice)?;
    let ca = server.ca()?;
    registered(&lab.alice, &server, &ca)?;

    // No rule connects bob and the server: it has no name and no route for him.
    lab.bob.await_peer("idp", false)?;
    let answer = register(&lab.bob, &server, &ca)?;
    assert!(answer.unanswered(), "bob got an answer: {answer:?}");
    assert!(server.peer("bob")?.is_null(), "the server sees bob");

    // A rule for another port makes them peers, and the server's own filter has to say no.
    let other_port = json!({ "src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:8443"] });
    lab.headscale
        .set_policy(&Lab::policy(json!([small_team_grant(), other_port])))?;
    server.await_client(&lab.bob)?;
    let before = server.counter("filter_dropped")?;
    let url = format!("{}/register", server.url());
    let answer = lab.bob.curl(&url).trust(&ca).limit(Duration::from_secs(3)).send()?;
    assert_eq!(
        (answer.status, answer.exit),
        (0, 28),
        "a dropped SYN is silence, not a reset: {answer:?}"
    );
    let dropped = server.counter("filter_dropped")? - before;
    assert!(dropped >= 1, "not counted: {}", server.status()?);
    registered(&lab.alice, &server, &ca)?;
    Ok(())
}
