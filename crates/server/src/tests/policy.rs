//! Who may use whose client, which rule decides, and who may ask about it.

use super::{
    flow::{authorize_path, code, form, redeem, refresh, registered, text},
    *,
};

const RESOURCE: &str = "https://mcp.example.ts.net/mcp";
const ALL: &str = r#"{"allow_dcr":true,"users":["*"],"resources":["*"]}"#;
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn alice() -> Node {
    Node::user(1, "alice", &[ALL])
}

fn bob() -> Node {
    Node::user(2, "bob", &[ALL])
}

fn set_rules(node: &Node, rules: &[&str]) {
    node.facts.lock().policy = Policy::parse(rules.iter().copied());
}

#[tokio::test]
async fn others_use_a_client_once_an_administrator_publishes_it_and_no_longer_than_that() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut bob = rig.client(&bob()).await;
    let id = registered(&mut alice).await;
    let refused = bob.get(&authorize_path(&id, &[])).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    for fact in [
        "alice",
        "alice-laptop.example.ts.net",
        &format!("countersign client publish {id}"),
        "publish_clients",
        "tag:internal-idp",
    ] {
        assert!(refused.text.contains(fact), "{fact}: {}", refused.text);
    }
    assert!(rig.server.publish(&id, true, "root on the server").await.unwrap());
    assert!(
        !rig.server.publish(&id, true, "root on the server").await.unwrap(),
        "once is enough"
    );
    let listed = rig.server.clients().await.unwrap().clients;
    assert_eq!(listed[0].published.as_deref(), Some("root on the server"));

    let bobs = code(&mut bob, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut bob, &id, &bobs).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    let token = text(&tokens, "refresh_token");
    assert!(rig.server.publish(&id, false, "root on the server").await.unwrap());
    let ended = refresh(&mut bob, &id, &token).await;
    assert_eq!(ended.json()["error"], "invalid_grant", "{}", ended.text);
    assert_eq!(bob.get(&authorize_path(&id, &[])).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(alice.get(&authorize_path(&id, &[])).await.status, StatusCode::OK);
    let audit = rig.store.audit(None, 100).await.unwrap();
    for event in ["client_published", "client_unpublished"] {
        let line = audit.iter().find(|(_, line)| line.contains(event)).unwrap();
        assert!(line.1.contains("root on the server"), "{}", line.1);
    }
    assert!(rig.server.publish("nobody", true, "root").await.is_err());
}

#[tokio::test]
async fn what_others_granted_ends_with_the_publication_and_does_not_come_back_with_the_next() {
    let rig = Rig::start(config()).await;
    let (alice_node, bob_node) = (alice(), bob());
    let (mut alice, mut bob) = (rig.client(&alice_node).await, rig.client(&bob_node).await);
    let id = registered(&mut alice).await;
    assert!(rig.server.publish(&id, true, "root").await.unwrap());
    let mut tokens = Vec::new();
    for client in [&mut alice, &mut bob] {
        let code = code(client, &id, &[("scope", "openid")]).await;
        tokens.push(redeem(client, &id, &code).await);
    }
    let works = async |client: &mut Client, tokens: &Answer| {
        let bearer = format!("Bearer {}", text(tokens, "access_token"));
        let info = client
            .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
            .await;
        let refreshed = refresh(client, &id, &text(tokens, "refresh_token")).await;
        let page = client.get("/me").await;
        let listed = page.text.contains("name=\"end\" value=\"grant\"");
        (
            info.status == StatusCode::OK,
            refreshed.status == StatusCode::OK,
            listed,
        )
    };
    assert_eq!(works(&mut bob, &tokens[1]).await, (true, true, true));
    // All in one second, as a script does it.
    for published in [false, true] {
        assert!(rig.server.publish(&id, published, "root").await.unwrap());
        assert_eq!(works(&mut bob, &tokens[1]).await, (false, false, false), "{published}");
        assert_eq!(works(&mut alice, &tokens[0]).await, (true, true, true));
    }
    rig.seconds.fetch_add(1, Relaxed);
    let code = code(&mut bob, &id, &[("scope", "openid")]).await;
    let anew = redeem(&mut bob, &id, &code).await;
    assert_eq!(works(&mut bob, &anew).await, (true, true, true));
    assert_eq!(
        refresh(&mut bob, &id, &text(&tokens[1], "refresh_token")).await.json()["error"],
        "invalid_grant"
    );
    assert_eq!(rig.counters().records_ended, 0, "nothing was written to end them");
}

#[tokio::test]
async fn a_page_that_was_shown_under_an_earlier_publication_gives_others_nothing() {
    let rig = Rig::start(config()).await;
    let (mut alice, mut bob) = (rig.client(&alice()).await, rig.client(&bob()).await);
    let id = registered(&mut alice).await;
    assert!(rig.server.publish(&id, true, "root").await.unwrap());
    let shown = [
        flow::page(&mut alice, &id, &[]).await,
        flow::page(&mut bob, &id, &[]).await,
    ];
    for published in [false, true] {
        assert!(rig.server.publish(&id, published, "root").await.unwrap());
    }
    let late = flow::click(&mut bob, &shown[1], &flow::OURS).await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST, "{}", late.text);
    let own = flow::click(&mut alice, &shown[0], &flow::OURS).await;
    assert!(own.header("location").contains("code="), "{}", own.text);
    code(&mut bob, &id, &[]).await;
}

#[tokio::test]
async fn the_refusal_of_somebody_elses_client_escapes_what_others_chose() {
    let rig = Rig::start(config()).await;
    let node = Node::user(3, "<script>alert(1)</script>", &[ALL]);
    node.facts.lock().node_name = "a\"><img src=x>.example.ts.net".into();
    let mut mallory = rig.client(&node).await;
    let id = registered(&mut mallory).await;
    let page = rig.client(&bob()).await.get(&authorize_path(&id, &[])).await;
    assert!(page.text.contains("&lt;script&gt;"), "{}", page.text);
    assert!(!page.text.contains("<script") && !page.text.contains("<img"));
}

#[tokio::test]
async fn whose_word_the_tailnet_does_not_give_is_refused_at_every_door() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let first = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let token = text(&redeem(&mut alice, &id, &first).await, "refresh_token");
    for doubtful in [
        |facts: &mut Caller, doubtful: bool| facts.shared = doubtful,
        |facts: &mut Caller, doubtful: bool| facts.routes = doubtful,
    ] {
        let unspent = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
        doubtful(&mut node.facts.lock(), true);
        let registration = alice.register(&public_client()).await;
        assert_eq!(registration.json()["error"], "access_denied");
        assert_eq!(
            alice.get(&authorize_path(&id, &[])).await.status,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(redeem(&mut alice, &id, &unspent).await.json()["error"], "invalid_grant");
        assert_eq!(refresh(&mut alice, &id, &token).await.json()["error"], "invalid_grant");
        assert_eq!(alice.get("/policy/explain").await.status, StatusCode::BAD_REQUEST);
        doubtful(&mut node.facts.lock(), false);
        assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
    }
    node.withdraw();
    let mut other = rig.client(&bob()).await;
    assert_eq!(
        refresh(&mut other, &id, &token).await.json()["error"],
        "invalid_grant",
        "the node has expired"
    );
}

#[tokio::test]
async fn routers_count_as_their_users_where_the_settings_say_so() {
    let rig = Rig::start(ServerConfig {
        routers_are_users: true,
        ..config()
    })
    .await;
    let node = alice();
    node.facts.lock().routes = true;
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    code(&mut alice, &id, &[("resource", RESOURCE)]).await;
}

#[tokio::test]
async fn the_network_mode_opens_every_resource_and_denials_still_win() {
    let rig = Rig::start(ServerConfig {
        registration: Mode::Network,
        ..config()
    })
    .await;
    let node = Node::user(1, "alice", &[]);
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    let token = text(&tokens, "refresh_token");
    set_rules(
        &node,
        &[r#"{"countersign":{"deny":true,"users":["alice"],"resources":["https://mcp.example.ts.net/*"]}}"#],
    );
    let refused = refresh(&mut alice, &id, &token).await;
    assert!(
        text(&refused, "error_description").contains("rule 1"),
        "{}",
        refused.text
    );
    let location = alice.get(&authorize_path(&id, &[("resource", RESOURCE)])).await;
    assert!(location.header("location").contains("error=access_denied"));
}

#[tokio::test]
async fn withdrawing_the_last_rule_opens_nothing() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    set_rules(&node, &[]);
    let location = alice.get(&authorize_path(&id, &[("resource", RESOURCE)])).await;
    assert!(location.header("location").contains("error=access_denied"));
    assert_eq!(alice.register(&public_client()).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_rule_with_introspect_opens_tokens_to_its_node_or_to_the_client_it_names() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let first = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let access = text(&redeem(&mut alice, &id, &first).await, "access_token");
    let gateway_node = Node::user(7, "gateway", &[r#"{"allow_dcr":true}"#]);
    let mut gateway = rig.client(&gateway_node).await;
    let made = gateway
        .register(
            &json!({"redirect_uris": ["https://gw.example/cb"], "token_endpoint_auth_method": "client_secret_post"}),
        )
        .await;
    let (gateway_id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let plain = form(&[("token", &access)]);
    let with_secret = |secret: &str| {
        form(&[
            ("token", &access),
            ("client_id", &gateway_id),
            ("client_secret", secret),
        ])
    };
    async fn active(client: &mut Client, body: String) -> Answer {
        client.send(Method::POST, "/introspect", &[FORM], body).await
    }
    assert_eq!(
        active(&mut gateway, plain.clone()).await.json(),
        json!({"active": false})
    );
    assert_eq!(
        active(&mut gateway, with_secret(&secret)).await.json(),
        json!({"active": false})
    );

    let named =
        format!(r#"{{"countersign":{{"introspect":["https://mcp.example.ts.net/*"],"clients":["{gateway_id}"]}}}}"#);
    set_rules(&gateway_node, &[&named]);
    assert_eq!(active(&mut gateway, with_secret(&secret)).await.json()["active"], true);
    assert_eq!(active(&mut gateway, plain.clone()).await.json()["active"], false);
    let wrong = active(&mut gateway, with_secret("wrong")).await;
    assert_eq!(
        (wrong.status, wrong.json()["error"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("invalid_client"))
    );
    assert_eq!(
        active(&mut alice, with_secret(&secret)).await.json()["active"],
        false,
        "another node"
    );

    set_rules(
        &gateway_node,
        &[r#"{"countersign":{"introspect":["https://mcp.example.ts.net/*"]}}"#],
    );
    assert_eq!(active(&mut gateway, plain.clone()).await.json()["active"], true);
    set_rules(
        &gateway_node,
        &[r#"{"countersign":{"introspect":["https://other.example/*"]}}"#],
    );
    assert_eq!(active(&mut gateway, plain).await.json()["active"], false);
}

#[tokio::test]
async fn a_person_is_told_about_himself_and_an_administrator_about_everybody() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let bobs = Node::user(2, "bob", &[]);
    let mut bob = rig.client(&bobs).await;
    let own = bob
        .get(&format!("/policy/explain?client={id}&resource={RESOURCE}&scope=openid"))
        .await;
    assert_eq!(own.status, StatusCode::OK);
    for told in [
        "bob on",
        "Refused",
        "registered by alice",
        "allow_dcr",
        "o rule of the tailnet policy allows bob",
    ] {
        assert!(own.text.contains(told), "{told}: {}", own.text);
    }
    assert!(own.header("content-security-policy").contains("frame-ancestors 'none'"));
    let other = bob.get("/policy/explain?user=alice").await;
    assert_eq!(other.status, StatusCode::BAD_REQUEST);
    let others_node = bob.get("/policy/explain?node=alice-laptop").await;
    assert!(
        others_node.text.contains("no node alice-laptop of bob"),
        "{}",
        others_node.text
    );

    set_rules(&bobs, &[r#"{"allow_admin_ui":true}"#]);
    let told = bob
        .get(&format!("/policy/explain?user=alice&resource={RESOURCE}"))
        .await;
    assert!(told.text.contains("alice on alice-laptop"), "{}", told.text);
    assert!(
        told.text
            .contains("ule 1 of the tailnet policy lets alice use the resource"),
        "{}",
        told.text
    );
    assert!(
        bob.get("/policy/explain?node=alice-laptop")
            .await
            .text
            .contains("alice on alice-laptop")
    );
    let unknown = bob.get("/policy/explain?user=%3Cb%3Enobody").await;
    assert!(unknown.text.contains("&lt;b&gt;nobody") && !unknown.text.contains("<b>"));
    let bad = bob.get("/policy/explain?user=alice&resource=relative").await;
    assert!(bad.text.contains("Resource must be an absolute URI"), "{}", bad.text);
}

#[tokio::test]
async fn where_grants_are_required_login_ends_with_the_rule_that_names_user_and_client() {
    let rig = Rig::start(ServerConfig {
        require_grant: true,
        ..config()
    })
    .await;
    let node = Node::user(1, "alice", &[r#"{"allow_dcr":true}"#]);
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let scopes = [("scope", "openid offline_access")];
    let refused = alice.get(&authorize_path(&id, &scopes)).await;
    assert!(
        refused.header("location").contains("error=access_denied"),
        "{}",
        refused.text
    );
    let other = r#"{"countersign":{"users":["alice"],"clients":["other"]}}"#;
    set_rules(&node, &[other]);
    let refused = alice.get(&authorize_path(&id, &scopes)).await;
    assert!(refused.header("location").contains("error=access_denied"));

    let named = format!(r#"{{"countersign":{{"users":["alice"],"clients":["{id}"]}}}}"#);
    set_rules(&node, &[&named]);
    let first = code(&mut alice, &id, &scopes).await;
    let second = code(&mut alice, &id, &scopes).await;
    let tokens = redeem(&mut alice, &id, &first).await;
    let (access, token) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let bearer = format!("Bearer {access}");
    assert_eq!(
        alice
            .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
            .await
            .status,
        StatusCode::OK
    );
    set_rules(&node, &[other]);
    assert_eq!(redeem(&mut alice, &id, &second).await.json()["error"], "invalid_grant");
    assert_eq!(refresh(&mut alice, &id, &token).await.json()["error"], "invalid_grant");
    assert_eq!(
        alice
            .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
            .await
            .status,
        StatusCode::UNAUTHORIZED
    );
}
