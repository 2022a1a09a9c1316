//! From the browser to the token on real machines, and what bob can do with the parts that he catches: nothing.

use countersign_interop_tests::{Browser, Lab, Response, Result, Server, ServerOptions};
use serde_json::{Value, json};

use crate::{
    common::{CAPABILITY, small_team_grant},
    person::{Application, Person, claims, code_of, parameter},
};

/// A resource on the machine `app`, by its own MagicDNS name.
pub(crate) const RESOURCE: &str = "https://app.tail.lab.test/mcp";

/// A policy under which alice and bob may register, and each may have the resource of the application's machine;
/// clients that this machine registers are published to both.
pub(crate) fn token_policy() -> Value {
    policy(&json!({ "allow_dcr": true, "users": ["alice", "bob"], "resources": [RESOURCE] }))
}

/// The same without the resource.
pub(crate) fn without_resources() -> Value {
    policy(&json!({ "allow_dcr": true }))
}

fn policy(to_people: &Value) -> Value {
    Lab::policy(json!([
        { "src": ["group:eng", "group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"],
          "app": { (CAPABILITY): [to_people] } },
        { "src": ["tag:app"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"],
          "app": { (CAPABILITY): [{ "allow_dcr": true, "countersign": { "publish_clients": true } }] } },
    ]))
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn alices_click_gives_tokens_that_are_used_refreshed_introspected_and_revoked() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let app = lab.app()?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let alice = Person::at(&lab.alice, &server)?;
    let resource_server = Person::at(app, &server)?;

    let client = Application::native(&alice)?;
    let browser = Browser::new(&lab.alice, &server)?;
    let asked = [("resource", RESOURCE), ("scope", "openid mcp:tools offline_access")];
    let page = browser.open(&client.authorize_path(&asked))?;
    for fact in ["alice on alice.", "an app on this computer", RESOURCE, "lab client"] {
        assert!(page.body.contains(fact), "the page does not say {fact}: {}", page.body);
    }
    let query = client.clicked(&alice, &browser, &page)?;
    assert_eq!(parameter(&query, "state").as_deref(), Some("af0ifjsldkj"), "{query}");
    assert_eq!(parameter(&query, "iss"), Some(server.url()), "{query}");

    let tokens = client.redeem(&alice, &code_of(&query))?;
    assert_eq!(tokens.status, 200, "{tokens:?}\n{}", server.recent_log());
    assert_eq!(tokens.header("cache-control"), "no-store");
    assert_eq!(tokens.field("scope"), "openid mcp:tools offline_access");
    let access = tokens.field("access_token");
    assert_eq!(claims(&access)["aud"], json!(RESOURCE));
    assert_eq!(claims(&tokens.field("id_token"))["aud"], json!(client.id));

    let told = resource_server.post("/introspect", &[("token", &access)])?.json()?;
    assert_eq!(
        (&told["active"], &told["username"]),
        (&json!(true), &json!("alice")),
        "{told}"
    );
    let others = alice.post("/introspect", &[("token", &access)])?.json()?;
    assert_eq!(
        others,
        json!({ "active": false }),
        "only the resource's own node is told"
    );

    let refreshed = client.refresh(&alice, &tokens.field("refresh_token"))?;
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let current = refreshed.field("refresh_token");
    let ended = alice.post("/revoke", &[("client_id", &client.id), ("token", &current)])?;
    assert_eq!(ended.status, 200, "{ended:?}");
    let told = resource_server.post("/introspect", &[("token", &access)])?.json()?;
    assert_eq!(told, json!({ "active": false }), "revoked with its grant");
    assert_eq!(client.refresh(&alice, &current)?.field("error"), "invalid_grant");

    let journal = Value::from(server.journal(&[])?).to_string();
    assert!(journal.contains("tokens issued"), "{journal}");
    for secret in [&code_of(&query), &access, &tokens.field("refresh_token"), &current] {
        assert!(!journal.contains(secret), "the journal holds {secret}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn userinfo_answers_get_and_post_with_what_the_scopes_allow() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let alice = Person::at(&lab.alice, &server)?;
    let client = Application::native(&alice)?;
    let tokens = client.tokens(&alice, &[("scope", "openid profile")])?;
    let access = tokens.field("access_token");
    let got = alice
        .get("/userinfo")
        .header(&format!("authorization: Bearer {access}"))
        .send()?;
    assert_eq!(got.json()?["preferred_username"], "alice", "{got:?}");
    let posted = alice.post("/userinfo", &[("access_token", &access)])?;
    assert_eq!(posted.json()?, got.json()?);
    assert_eq!(claims(&tokens.field("id_token"))["sub"], got.json()?["sub"]);
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn bob_can_use_neither_alices_client_nor_her_code_nor_her_refresh_token() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let (alice, bob) = (Person::at(&lab.alice, &server)?, Person::at(&lab.bob, &server)?);
    let client = Application::native(&alice)?;

    let page = client.ask(&bob, &[])?;
    assert_eq!(page.status, 400, "{page:?}");
    for fact in [
        "Only <strong>alice</strong>",
        &lab.headscale.fqdn("alice"),
        "publish_clients",
    ] {
        assert!(page.body.contains(fact), "the page does not say {fact}: {}", page.body);
    }

    let code = client.code(&alice, &[])?;
    let stolen = client.redeem(&bob, &code)?;
    assert_eq!(
        (stolen.status, stolen.field("error").as_str()),
        (400, "invalid_grant"),
        "{stolen:?}"
    );
    let logged = server.await_journal(&[
        "COUNTERSIGN_EVENT=token",
        "COUNTERSIGN_USER=bob",
        "COUNTERSIGN_DECISION=refused",
    ])?;
    assert_eq!(logged["COUNTERSIGN_CLIENT"], client.id.as_str(), "{logged}");

    let tokens = client.redeem(&alice, &code)?;
    assert_eq!(tokens.status, 200, "the theft left the code alone: {tokens:?}");
    let refresh = tokens.field("refresh_token");
    assert_eq!(client.refresh(&bob, &refresh)?.field("error"), "invalid_grant");
    assert_eq!(client.refresh(&alice, &refresh)?.status, 200, "and the token as well");

    let audit = server.stop_and_audit()?;
    let refused = audit
        .iter()
        .filter(|record| record["event"] == "token_refused" && record["user"] == "bob");
    assert_eq!(refused.count(), 2, "code and refresh token: {audit:#?}");
    let text = Value::from(audit).to_string();
    assert!(
        !text.contains(&code) && !text.contains(&refresh),
        "the audit holds a secret"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn with_the_network_policy_alone_alice_gets_a_token_for_a_resource() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::policy(json!([small_team_grant()])))?;
    let options = ServerOptions {
        registration: "network",
        ..ServerOptions::default()
    };
    let server = Server::start(&lab, options)?;
    let alice = Person::at(&lab.alice, &server)?;
    let client = Application::native(&alice)?;
    let tokens = client.tokens(&alice, &[("resource", "https://mcp.example.com/mcp")])?;
    let access = claims(&tokens.field("access_token"));
    assert_eq!(access["aud"], "https://mcp.example.com/mcp", "{access}");
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn an_application_on_a_tagged_node_published_by_its_grant_redeems_the_code_of_alices_browser() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let app = lab.app()?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let application = Person::at(app, &server)?;
    server.await_client(&lab.alice)?;
    let redirect = format!("https://{}/callback", lab.headscale.fqdn("app"));
    let client = Application::confidential(&application, &redirect)?;

    let browser = Browser::new(&lab.alice, &server)?;
    let page = browser.open(&client.authorize_path(&[("scope", "openid profile")]))?;
    assert_eq!(page.status, 200, "{page:?}");
    for fact in ["tag:app", &lab.headscale.fqdn("app")] {
        assert!(page.body.contains(fact), "the page does not say {fact}: {}", page.body);
    }
    let answer = browser.click(&page, "/authorize/consent", &[("choice", "allow")])?;
    let location = answer.header("location").to_owned();
    assert!(location.starts_with(&redirect), "{answer:?}");

    let without_secret = application.post(
        "/token",
        &[
            ("grant_type", "authorization_code"),
            ("client_id", &client.id),
            ("code", &code_of(&location)),
        ],
    )?;
    assert_eq!(without_secret.field("error"), "invalid_client", "{without_secret:?}");
    let tokens = client.redeem(&application, &code_of(&location))?;
    assert_eq!(tokens.status, 200, "{tokens:?}\n{}", server.recent_log());
    let id = claims(&tokens.field("id_token"));
    assert_eq!(id["preferred_username"], "alice", "{id}");
    let access = claims(&tokens.field("access_token"));
    assert_ne!(
        access["cnf"]["tailnet_node"],
        Value::Null,
        "bound to the node that redeemed: {access}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_remembered_consent_answers_without_a_click_until_alice_logs_out() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&token_policy())?;
    let app = lab.app()?;
    let server = Server::start(&lab, ServerOptions::default())?;
    let application = Person::at(app, &server)?;
    server.await_client(&lab.alice)?;
    let redirect = format!("https://{}/callback", lab.headscale.fqdn("app"));
    let client = Application::confidential(&application, &redirect)?;
    let browser = Browser::new(&lab.alice, &server)?;
    let path = client.authorize_path(&[("scope", "openid")]);
    let silently = client.authorize_path(&[("scope", "openid"), ("prompt", "none")]);
    let error = |answer: &Response| parameter(answer.header("location"), "error");

    assert_eq!(error(&browser.open(&silently)?).as_deref(), Some("login_required"));
    let page = browser.open(&path)?;
    let answer = browser.click(&page, "/authorize/consent", &[("choice", "allow"), ("remember", "yes")])?;
    let tokens = client.redeem(&application, &code_of(answer.header("location")))?;
    let id_token = tokens.field("id_token");
    let again = browser.open(&silently)?;
    let silent = client.redeem(&application, &code_of(again.header("location")))?;
    assert_eq!(silent.status, 200, "{silent:?}");
    let auth_time = |tokens: &Response| claims(&tokens.field("id_token"))["auth_time"].clone();
    assert_eq!(auth_time(&silent), auth_time(&tokens), "the time of the click");

    let hint = format!("/logout?id_token_hint={id_token}&post_logout_redirect_uri={redirect}/bye&state=s1");
    let page = browser.open(&hint)?;
    assert_eq!(page.status, 200, "{page:?}");
    let left = browser.click(&page, "/logout/answer", &[("choice", "leave")])?;
    assert_eq!(left.header("location"), format!("{redirect}/bye?state=s1"), "{left:?}");
    assert_eq!(error(&browser.open(&silently)?).as_deref(), Some("login_required"));
    Ok(())
}
