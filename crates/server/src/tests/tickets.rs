//! Consent pages: nothing of one is stored, and each is answered once.

use countersign_oauth::grant::{Code, Grant};
use countersign_store::{Due, Record, Txn};

use super::{
    flow::{FORM, OURS, Page, RESOURCE, alice, authorize_path, click, code, field, form, page, redeem, registered},
    *,
};

async fn stored<R: Record>(rig: &Rig) -> usize {
    rig.store.scan::<R>(b"", None, 1000).await.unwrap().records.len()
}

async fn answer(client: &mut Client, page: &Page, choice: &str) -> Answer {
    let headers = [FORM, ("cookie", page.cookie.as_str()), OURS[0]];
    let body = form(&[("ticket", &page.ticket), ("choice", choice)]);
    client.send(Method::POST, "/authorize/consent", &headers, body).await
}

/// The number of the commit that this makes.
async fn commit(rig: &Rig) -> u64 {
    let mut txn = Txn::new();
    txn.count("probe", 1, None);
    rig.store.commit(txn).await.unwrap().sequence
}

#[tokio::test]
async fn showing_a_page_commits_nothing() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    // The last key that is made after a start is the only other thing that would be written.
    let begun = crate::clock::monotonic();
    while alice.get("/.well-known/jwks.json").await.json()["keys"]
        .as_array()
        .unwrap()
        .len()
        < 3
    {
        assert!(crate::clock::monotonic() - begun < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = commit(&rig).await;
    for _ in 0..300 {
        page(&mut alice, &id, &[("resource", RESOURCE)]).await;
    }
    assert_eq!(commit(&rig).await, before + 1, "more pages than any limit once was");
    assert_eq!((stored::<Code>(&rig).await, stored::<Due>(&rig).await), (0, 0));
}

#[tokio::test]
async fn a_page_is_answered_once_whatever_the_answer() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for first in ["allow", "deny"] {
        let page = page(&mut alice, &id, &[]).await;
        let given = answer(&mut alice, &page, first).await;
        assert_eq!(given.status, StatusCode::SEE_OTHER, "{}", given.text);
        for second in ["allow", "deny"] {
            let again = answer(&mut alice, &page, second).await;
            assert_eq!(again.status, StatusCode::BAD_REQUEST, "{second} after {first}");
            assert!(again.text.contains("was answered already"), "{}", again.text);
            assert_eq!(again.header("location"), "");
        }
        // As long as the page could be presented, also when the sweep has gone over what came of it.
        rig.seconds.fetch_add(599, Relaxed);
        swept(&rig).await;
        let again = answer(&mut alice, &page, "allow").await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST, "after {first}");
    }
}

async fn swept(rig: &Rig) {
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    sweep::Walk::default().go_on(&rig.store, rig.now()).await.unwrap();
}

#[tokio::test]
async fn a_page_whose_code_was_redeemed_or_refused_is_answered() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    // Without refresh tokens a grant is good for five minutes only, and a page may be looked at for ten.
    let made = alice
        .register(&json!({
            "redirect_uris": ["http://localhost/callback"], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code"],
        }))
        .await;
    let short = flow::text(&made, "client_id");
    let long = registered(&mut alice).await;
    for id in [&short, &long] {
        let page = page(&mut alice, id, &[]).await;
        let given = answer(&mut alice, &page, "allow").await;
        let text = field(given.header("location"), "code=", '&').to_owned();
        assert_eq!(redeem(&mut alice, id, &text).await.status, StatusCode::OK);
        assert_eq!(stored::<Code>(&rig).await, 0, "a redeemed code is gone");
        let again = answer(&mut alice, &page, "allow").await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        rig.seconds.fetch_add(599, Relaxed);
        swept(&rig).await;
        assert_eq!(stored::<Grant>(&rig).await, 1);
        assert_eq!(answer(&mut alice, &page, "allow").await.status, StatusCode::BAD_REQUEST);
        rig.seconds.fetch_add(31 * 24 * 3600, Relaxed);
        swept(&rig).await;
        assert_eq!((stored::<Grant>(&rig).await, stored::<Due>(&rig).await), (0, 0));
    }
    let page = page(&mut alice, &long, &[]).await;
    let given = answer(&mut alice, &page, "allow").await;
    let text = field(given.header("location"), "code=", '&').to_owned();
    let wrong = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", &long),
        ("code", &text),
        ("code_verifier", &"x".repeat(43)),
    ]);
    let refused = alice.send(Method::POST, "/token", &[FORM], wrong).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    assert_eq!(answer(&mut alice, &page, "allow").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clicks_at_once_one_counts() {
    let rig = Arc::new(Rig::start(config()).await);
    let node = alice();
    let mut first = rig.client(&node).await;
    let id = registered(&mut first).await;
    for _ in 0..20 {
        let page = Arc::new(page(&mut first, &id, &[]).await);
        let mut clicks = tokio::task::JoinSet::new();
        for choice in ["allow", "allow", "deny", "allow"] {
            let (rig, node, page) = (Arc::clone(&rig), node.clone(), Arc::clone(&page));
            clicks.spawn(async move { answer(&mut rig.client(&node).await, &page, choice).await.status });
        }
        let answers = clicks.join_all().await;
        let counted = answers.iter().filter(|status| **status == StatusCode::SEE_OTHER);
        assert_eq!(counted.count(), 1, "{answers:?}");
    }
}

#[tokio::test]
async fn a_page_survives_a_restart_and_its_server_only() {
    let (store, nodes, node) = (Store::in_memory().unwrap(), Nodes::new(), alice());
    let rig = Rig::with(config(), store.clone(), nodes.clone()).await;
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let (kept, other) = (page(&mut alice, &id, &[]).await, page(&mut alice, &id, &[]).await);
    drop(alice);
    rig.stop.cancel();
    rig.task.await.unwrap().unwrap();

    let rig = Rig::with(config(), store, nodes).await;
    let mut alice = rig.client(&node).await;
    let given = click(&mut alice, &kept, &OURS).await;
    assert_eq!(given.status, StatusCode::SEE_OTHER, "{}", given.text);
    let elsewhere = Rig::start(config()).await;
    let mut there = elsewhere.client(&node).await;
    assert_eq!(click(&mut there, &other, &OURS).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_is_of_its_browser_node_owner_and_time() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let (shown, another) = (page(&mut alice, &id, &[]).await, page(&mut alice, &id, &[]).await);
    let with_other_cookie = Page {
        cookie: format!(
            "{}={}",
            shown.cookie.split_once('=').unwrap().0,
            another.cookie.split_once('=').unwrap().1
        ),
        ticket: shown.ticket.clone(),
        html: String::new(),
        policy: String::new(),
    };
    let refused = click(&mut alice, &with_other_cookie, &OURS).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "the cookie of another page");
    let mut bob = rig.client(&Node::user(2, "bob", &[flow::ALL])).await;
    assert_eq!(click(&mut bob, &shown, &OURS).await.status, StatusCode::BAD_REQUEST);

    let before = node.facts.lock().who.clone();
    node.facts.lock().who = Who::Tagged(vec!["tag:app".into()]);
    let refused = click(&mut alice, &shown, &OURS).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "the node is another's now");
    node.facts.lock().who = before;

    rig.seconds.fetch_add(599, Relaxed);
    assert_eq!(click(&mut alice, &another, &OURS).await.status, StatusCode::SEE_OTHER);
    rig.seconds.fetch_add(1, Relaxed);
    assert_eq!(
        click(&mut alice, &shown, &OURS).await.status,
        StatusCode::BAD_REQUEST,
        "ten minutes old"
    );
}

#[tokio::test]
async fn the_longest_request_is_asked_about_and_a_longer_one_is_refused() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let redirect = format!("https://app.example/{}", "r".repeat(2028));
    let made = alice
        .register(&json!({
            "redirect_uris": [redirect], "token_endpoint_auth_method": "none", "grant_types": ["authorization_code"],
        }))
        .await;
    let id = flow::text(&made, "client_id");
    let resources: Vec<String> = (0..8)
        .map(|n| format!("https://mcp{n}.example/{}", "p".repeat(1000)))
        .collect();
    let ask = |scope_length: usize| {
        let scopes: Vec<String> = (0..64).map(|n| format!("{n:02}{}", "s".repeat(scope_length))).collect();
        let (scope, state, nonce) = (scopes.join(" "), "t".repeat(2048), "n".repeat(512));
        let mut extra: Vec<(&str, &str)> = resources.iter().map(|one| ("resource", one.as_str())).collect();
        extra.extend([("scope", scope.as_str()), ("nonce", &nonce)]);
        authorize_path(&id, &extra)
            .replace(
                &form(&[("redirect_uri", flow::REDIRECT)]),
                &form(&[("redirect_uri", &redirect)]),
            )
            .replace(&form(&[("state", "st&ate")]), &form(&[("state", &state)]))
    };
    let body = |path: &str| path.split_once('?').unwrap().1.to_owned();
    let shown = alice.send(Method::POST, "/authorize", &[FORM], body(&ask(20))).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let given = click(&mut alice, &flow::held_page(&shown), &OURS).await;
    assert!(
        given.header("location").contains("code="),
        "{} {}",
        given.status,
        given.text
    );

    let refused = alice.send(Method::POST, "/authorize", &[FORM], body(&ask(500))).await;
    let back = refused.header("location");
    assert!(
        back.starts_with("https://app.example/") && back.contains("error=invalid_request"),
        "{back}"
    );
    assert!(back.contains("shorten+state"), "{back}");
}

/// Whoever sees a code in a log or a history has seen it when it was redeemed already.
#[tokio::test]
async fn a_redeemed_code_revokes_only_whole() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let text = code(&mut alice, &id, &[("scope", "openid offline_access")]).await;
    let tokens = redeem(&mut alice, &id, &text).await;
    let token = flow::text(&tokens, "refresh_token");
    let (name, secret) = text.split_at(30);
    for forged in [
        name.to_owned(),
        format!("{name}{}", "A".repeat(43)),
        format!("{}{secret}", "A".repeat(30)),
    ] {
        let answer = redeem(&mut alice, &id, &forged).await;
        assert_eq!(answer.json()["error"], "invalid_grant", "{}", answer.text);
    }
    let refreshed = flow::refresh(&mut alice, &id, &token).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.text);
    assert_eq!(redeem(&mut alice, &id, &text).await.json()["error"], "invalid_grant");
    let token = flow::text(&refreshed, "refresh_token");
    let ended = flow::refresh(&mut alice, &id, &token).await;
    assert_eq!(
        ended.json()["error"],
        "invalid_grant",
        "the whole code was presented again"
    );
}
