//! Killed and restarted: the same node, the same clients, and no stall for those who knew it.

use std::time::Duration;

use countersign_interop_tests::{Lab, Result, Server, ServerOptions};

use crate::common::{capability_policy, register, registered};

/// Within which the first request after a restart is answered.
const FIRST_ANSWER: Duration = Duration::from_millis(200);

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn killed_with_minus_9_it_is_back_as_the_same_node_and_answers_at_once_twenty_times() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    let flags = ["--dcr-max-clients-per-user", "1"].map(str::to_owned).to_vec();
    let mut server = Server::start(
        &lab,
        ServerOptions {
            flags,
            ..ServerOptions::default()
        },
    )?;
    server.await_client(&lab.alice)?;
    let ca = server.ca()?;
    let client = registered(&lab.alice, &server, &ca)?;
    let node = server.status()?["node"].clone();
    let url = format!("{}/.well-known/oauth-authorization-server", server.url());
    let mut answers = Vec::new();
    // Whom it talks to is written down once a second, so that a killed server knows whom to greet.
    std::thread::sleep(Duration::from_millis(1500));
    for round in 1..=20 {
        server.kill_and_restart()?;
        server.await_ready()?;
        let answer = lab.alice.curl(&url).trust(&ca).send()?;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}\n{}", server.recent_log());
        let status = server.status()?;
        assert_eq!(
            status["node"]["stable_id"], node["stable_id"],
            "round {round}: another node"
        );
        assert_eq!(
            status["node"]["addresses"], node["addresses"],
            "round {round}: other addresses"
        );
        println!(
            "round {round}: first answer {:.1?}, ready {} ms",
            answer.time, status["ready_after_ms"]
        );
        answers.push(answer.time);
    }
    // Her one client is remembered: she may have no second.
    let answer = register(&lab.alice, &server, &ca)?;
    assert!(
        answer.status == 403 && answer.body.contains("already has 1 client"),
        "client {client} is gone: {answer:?}"
    );
    let slow = answers.iter().filter(|time| **time > FIRST_ANSWER).count();
    assert_eq!(slow, 0, "first answers {answers:.0?}");
    Ok(())
}
