//! A web application written with a library of others: it pushes its requests, proves itself by a key, gets tokens that
//! say nothing, and later meets new signing keys.

use std::time::Duration;

use countersign_interop_tests::{Browser, Lab, RelyingParty, Result, Server, ServerOptions};
use serde_json::{Value, json};

use crate::tokens::{RESOURCE, token_policy};

/// An application on the machine `app`, with this form of access tokens. What its tokens are for it says once, when it
/// registers.
fn application<'a>(lab: &'a Lab, server: &Server, strategy: &str) -> Result<RelyingParty<'a>> {
    let machine = lab.app()?;
    server.await_client(&lab.alice)?;
    server.await_client(machine)?;
    let metadata = json!({
        "client_name": "lab web application", "redirect_uris": [format!("https://{}/callback", lab.headscale.fqdn("app"))],
        "grant_types": ["authorization_code", "refresh_token"], "require_pushed_authorization_requests": true,
        "access_token_strategy": strategy, "default_resource": RESOURCE,
    });
    RelyingParty::register(machine, server, &metadata)
}

/// A string of what a step gave.
fn text<'v>(got: &'v Value, name: &str) -> &'v str {
    let text = got[name].as_str();
    text.unwrap_or_else(|| panic!("no {name}: {got}"))
}

/// Pushes a request and lets alice click; what the push gave, and where her browser was sent.
fn clicked(application: &mut RelyingParty, lab: &Lab, server: &Server) -> Result<(Value, String)> {
    let pushed = application.step(server, "push", json!({}))?;
    let browser = Browser::new(&lab.alice, server)?;
    let page = browser.open(text(&pushed, "path"))?;
    assert_eq!(page.status, 200, "{page:?}\n{}", server.recent_log());
    for fact in ["tag:app", &lab.headscale.fqdn("app"), RESOURCE, "mcp:tools"] {
        assert!(page.body.contains(fact), "the page does not say {fact}: {}", page.body);
    }
    let answer = browser.click(&page, "/authorize/consent", &[("choice", "allow")])?;
    Ok((pushed, answer.header("location").to_owned()))
}

/// Sends what the library sent in this step once more, as somebody on the same machine who saw it.
fn again(application: &mut RelyingParty, server: &Server, of: &Value) -> Result<Value> {
    let [path, body] = [&of["sent"][0][0], &of["sent"][0][1]];
    assert!(
        body.as_str().is_some_and(|body| body.contains("client_assertion=")),
        "{of}"
    );
    application.step(server, "resend", json!({ "path": path, "body": body }))
}

/// Everything once more, by somebody who saw it.
fn nothing_is_good_twice(
    application: &mut RelyingParty,
    lab: &Lab,
    server: &Server,
    [pushed, tokens]: [&Value; 2],
) -> Result {
    for once in [pushed, tokens] {
        let refused = again(application, server, once)?;
        assert_eq!(
            (&refused["status"], &refused["error"]),
            (&json!(401), &json!("invalid_client")),
            "{refused}"
        );
        assert!(text(&refused, "error_description").contains("used before"), "{refused}");
    }
    let browser = Browser::new(&lab.alice, server)?;
    let spent = browser.open(text(pushed, "path"))?;
    assert_eq!(
        (spent.status, spent.header("location")),
        (400, ""),
        "a reference was good twice: {spent:?}"
    );
    let direct = format!(
        "/authorize?response_type=code&client_id={}&code_challenge_method=S256",
        text(application.client(), "client_id")
    );
    let direct = browser.open(&format!(
        "{direct}&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    ))?;
    assert!(
        direct.header("location").contains("error=invalid_request"),
        "nothing was pushed: {direct:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn openid_client_pushes_proves_itself_by_a_key_and_gets_opaque_tokens_and_no_replay_gets_anything() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let mut application = application(&lab, &server, "opaque")?;
    let client = application.client().clone();
    assert!(
        client.get("client_secret").is_none(),
        "a key is its only secret: {client}"
    );

    let (pushed, location) = clicked(&mut application, &lab, &server)?;
    assert!(text(&pushed, "path").contains("request_uri=urn%3Aietf"), "{pushed}");
    let tokens = application.step(&server, "redeem", json!({ "location": location }))?;
    assert_eq!(tokens["scope"], "openid offline_access mcp:tools", "{tokens}");
    assert_eq!(
        tokens["id"]["preferred_username"],
        Value::Null,
        "nobody asked for the profile: {tokens}"
    );
    let access = text(&tokens, "access_token").to_owned();
    assert!(!access.contains('.'), "a token that says nothing: {access}");
    let told = application.step(&server, "introspect", json!({ "token": access }))?;
    assert_eq!(
        (&told["active"], &told["aud"], &told["client_id"], &told["sub"]),
        (
            &json!(true),
            &json!(RESOURCE),
            &client["client_id"],
            &tokens["id"]["sub"]
        ),
        "{told}"
    );

    nothing_is_good_twice(&mut application, &lab, &server, [&pushed, &tokens])?;

    let refreshed = application.step(&server, "refresh", json!({ "token": text(&tokens, "refresh_token") }))?;
    let newer = text(&refreshed, "access_token");
    assert_ne!(newer, access);
    assert_eq!(
        application.step(&server, "introspect", json!({ "token": newer }))?["active"],
        true
    );
    application.step(&server, "revoke", json!({ "token": text(&refreshed, "refresh_token") }))?;
    let told = application.step(&server, "introspect", json!({ "token": newer }))?;
    assert_eq!(told, json!({ "active": false }), "revoked with its grant");
    let late = application.step(
        &server,
        "refresh",
        json!({ "token": text(&refreshed, "refresh_token") }),
    )?;
    assert_eq!(late["refused"], "invalid_grant", "{late}");

    let journal = Value::from(server.journal(&[])?).to_string();
    for secret in [&access, text(&tokens, "refresh_token"), newer] {
        assert!(!journal.contains(secret), "the journal holds {secret}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn rotated_signing_keys_break_no_token_and_were_published_before_they_sign() -> Result {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let flags = ["--signing-key-lifetime", "1h"].map(str::to_owned).to_vec();
    let options = ServerOptions {
        flags,
        ..ServerOptions::default()
    };
    let mut server = Server::start(&lab, options)?;
    let mut application = application(&lab, &server, "jwt")?;
    let (_, location) = clicked(&mut application, &lab, &server)?;
    let mut tokens = application.step(&server, "redeem", json!({ "location": location }))?;

    // A key signs for an hour, and the next one is published half an hour before.
    server.restart_ahead(minutes(30))?;
    let published = application.step(&server, "keys", json!({}))?;
    assert_eq!(published["kids"].as_array().map(Vec::len), Some(2), "{published}");

    server.restart_ahead(minutes(58))?;
    tokens = application.step(&server, "refresh", json!({ "token": text(&tokens, "refresh_token") }))?;
    let earlier = json!({ "token": text(&tokens, "access_token"), "audience": RESOURCE });
    let former = application.step(&server, "verify", earlier.clone())?;

    server.restart_ahead(minutes(62))?;
    let still = application.step(&server, "verify", earlier.clone())?;
    assert_eq!(still, former, "the former key vouches for what it signed");
    let told = application.step(&server, "introspect", earlier)?;
    assert_eq!(told["active"], true, "{told}");
    tokens = application.step(&server, "refresh", json!({ "token": text(&tokens, "refresh_token") }))?;
    let later = json!({ "token": text(&tokens, "access_token"), "audience": RESOURCE });
    let current = application.step(&server, "verify", later)?;
    assert_ne!(current["kid"], former["kid"], "the next key signs now");
    assert!(
        published["kids"]
            .as_array()
            .is_some_and(|kids| kids.contains(&current["kid"])),
        "a verifier that keeps the set knows it already: {current}, {published}"
    );

    // Nothing that the former key signed is good any more.
    server.restart_ahead(minutes(70))?;
    let kids = application.step(&server, "keys", json!({}))?["kids"].clone();
    assert_eq!(kids, json!([current["kid"]]));
    Ok(())
}
