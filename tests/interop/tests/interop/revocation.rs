//! What was granted ends when that on which it rested is taken from the policy or the tailnet, and does not come back with
//! it.

use std::time::Duration;

use countersign_interop_tests::{Lab, Result, Server, ServerOptions, until};
use serde_json::json;

use crate::{
    person::{Application, Person},
    tokens::{RESOURCE, token_policy, without_resources},
};

/// From the command: Headscale tells nodes within a second, and the end follows within a second.
const END: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_withdrawn_grant_ends_its_tokens_for_good() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let app = lab.app()?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let (alice, resource) = (Person::at(&lab.alice, &server)?, Person::at(app, &server)?);
    let client = Application::native(&alice)?;
    let tokens = client.tokens(&alice, &[("resource", RESOURCE)])?;
    let (access, refresh) = (tokens.field("access_token"), tokens.field("refresh_token"));

    lab.headscale.set_policy(&without_resources())?;
    let took = ends(&resource, &access)?;
    println!("ended {took:.0?} after the policy was reloaded");

    lab.headscale.set_policy(&token_policy())?;
    // What is granted anew shows that the rule has arrived.
    let asked = || {
        let page = client.ask(&alice, &[("resource", RESOURCE)])?;
        Ok(if page.status == 200 { Ok(()) } else { Err(page.body) })
    };
    until("the rule is back", END, asked)?;
    let late = client.refresh(&alice, &refresh)?;
    assert_eq!(
        (late.status, late.field("error").as_str()),
        (400, "invalid_grant"),
        "the rule is back, what rested on it is not: {late:?}\n{}",
        server.recent_log()
    );
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_deleted_node_ends_what_was_granted_on_it() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let (app, phone) = (lab.app()?, lab.client("alice-phone", "alice")?);
    let server = Server::start(&lab, ServerOptions::default())?;
    let (on_phone, resource) = (Person::at(&phone, &server)?, Person::at(app, &server)?);
    let client = Application::native(&on_phone)?;
    let access = client
        .tokens(&on_phone, &[("resource", RESOURCE)])?
        .field("access_token");

    let node = lab.headscale.node("alice-phone")?.expect("the node is there");
    lab.headscale.delete(&node)?;
    let took = ends(&resource, &access)?;
    println!("ended {took:.0?} after the node was deleted");
    Ok(())
}

/// Asks as the resource's node until the token is over; fails when that takes longer than [`END`].
fn ends(resource: &Person, access: &str) -> Result<Duration> {
    let look = || {
        let told = resource.post("/introspect", &[("token", access)])?.json()?;
        Ok(if told == json!({ "active": false }) {
            Ok(())
        } else {
            Err(told.to_string())
        })
    };
    until("the token is over", END, look).map(|((), took)| took)
}
