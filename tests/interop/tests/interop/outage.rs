//! Control goes away and comes back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use countersign_interop_tests::{Lab, Result, Server, ServerOptions};
use serde_json::{Value, json};

use crate::common::{capability_policy, registered, small_team_grant};

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn without_headscale_requests_go_on_and_the_node_returns_by_itself() -> Result {
    outage(Duration::from_secs(15))
}

#[test]
#[ignore = "takes five minutes: tests/run --full"]
fn long_without_headscale_for_five_minutes() -> Result {
    outage(Duration::from_secs(300))
}

fn outage(length: Duration) -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&capability_policy())?;
    // A registration a second for five minutes is more than one user's share.
    let flags = ["--dcr-max-clients-per-user", "0"].map(str::to_owned).to_vec();
    let server = Server::start(
        &lab,
        ServerOptions {
            flags,
            ..ServerOptions::default()
        },
    )?;
    server.await_client(&lab.alice)?;
    let ca = server.ca()?;
    lab.alice.await_path("idp", true, Duration::from_secs(15))?;

    lab.headscale.stop()?;
    let begun = Instant::now();
    let mut requests = 0;
    let served = catch_unwind(AssertUnwindSafe(|| {
        while begun.elapsed() < length {
            registered(&lab.alice, &server, &ca)?;
            requests += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
        server.status()
    }));
    // Whatever went wrong: the tests after this one share Headscale.
    lab.headscale.resume()?;
    let status = served.unwrap_or_else(|panic| resume_unwind(panic))?;
    assert_eq!(status["control"]["connected"], false, "{status}");
    println!("{requests} registrations without Headscale");

    let back = |status: &Value| status["control"]["connected"] == true;
    let took = server.await_status("the node is back", Duration::from_secs(60), back)?;
    println!("back {took:.1?} after Headscale answered again");
    let others = lab.headscale.await_online(&["alice", "bob"])?;
    println!("alice and bob {others:.1?} later");
    // And not in name only: a policy change arrives.
    lab.headscale.set_policy(&Lab::policy(json!([small_team_grant()])))?;
    let gone = |status: &Value| status["peers"].as_array().is_some_and(|peers| peers.len() == 1);
    server.await_status("the new policy arrives", Duration::from_secs(10), gone)?;
    Ok(())
}
