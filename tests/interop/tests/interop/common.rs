//! What the tests share: policies of the real world, and the two requests that matter.

use std::path::Path;
use std::time::Duration;

use countersign_interop_tests::{Client, Lab, Response, Result, Server};
use serde_json::{Value, json};

/// The capability under which registration is granted.
pub(crate) const CAPABILITY: &str = "tailscale.com/cap/tsidp";

/// Patience for things that take milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// Patience for a path to change: discovery and the fall-back to the relay take some seconds.
pub(crate) const PATH: Duration = Duration::from_secs(30);

/// Both may connect; only alice's grant lets her register.
pub(crate) fn capability_policy() -> Value {
    Lab::policy(json!([
        { "src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443", "icmp:*"],
          "app": { (CAPABILITY): [{ "allow_dcr": true }] } },
        { "src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"] },
    ]))
}

/// The policy that small teams write.
pub(crate) fn small_team_grant() -> Value {
    json!({ "src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"] })
}

/// What a client sends to register.
pub(crate) fn client_metadata() -> Value {
    json!({
        "client_name": "lab client",
        "redirect_uris": ["http://127.0.0.1:8976/callback"],
        "token_endpoint_auth_method": "none",
    })
}

/// `POST /register` from `client`'s machine.
pub(crate) fn register(client: &Client, server: &Server, ca: &Path) -> Result<Response> {
    let url = format!("{}/register", server.url());
    client
        .curl(&url)
        .arg("--cacert")
        .arg(ca.display().to_string())
        .json(&client_metadata())
        .send()
}

/// Registers and returns the client id; anything but 201 fails the test.
pub(crate) fn registered(client: &Client, server: &Server, ca: &Path) -> Result<String> {
    let answer = register(client, server, ca)?;
    assert_eq!(answer.status, 201, "{answer:?}\n{}", server.recent_log());
    Ok(answer.json()?["client_id"].as_str().expect("a client_id").to_owned())
}

/// The refusal that names the missing grant and both remedies.
pub(crate) fn assert_refused_for_lack_of_grant(answer: &Response) {
    assert_eq!(answer.status, 403, "{answer:?}");
    for word in [CAPABILITY, "allow_dcr", "registration = \\\"network\\\""] {
        assert!(
            answer.body.contains(word),
            "the refusal does not name {word}: {}",
            answer.body
        );
    }
}
