//! Pushed authorization requests (RFC 9126) over HTTP.

use countersign_oauth::par::{MAX_PER_NODE, Pushed};
use countersign_store::{Due, Txn};

use super::{
    client_auth::{Key, registered_with, with},
    flow::{
        CHALLENGE, FORM, OURS, REDIRECT, RESOURCE, alice, authorize_path, click, field, form, held_page, redeem,
        registered, text,
    },
    session::{Browser, path_of, publisher, web_client},
    *,
};

const REQUEST: [(&str, &str); 5] = [
    ("response_type", "code"),
    ("redirect_uri", REDIRECT),
    ("state", "pushed"),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
];

async fn push(client: &mut Client, id: &str, extra: &[(&str, &str)]) -> Answer {
    let mut pairs = REQUEST.to_vec();
    pairs.push(("client_id", id));
    pairs.extend_from_slice(extra);
    client.send(Method::POST, "/par", &[FORM], form(&pairs)).await
}

fn refer(id: &str, request_uri: &str) -> String {
    format!(
        "/authorize?{}",
        form(&[("client_id", id), ("request_uri", request_uri)])
    )
}

#[tokio::test]
async fn a_pushed_request_leads_to_a_code_and_nothing_beside_the_reference_counts() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let made = push(&mut alice, &id, &[("resource", RESOURCE)]).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(made.json()["expires_in"], 60);
    let uri = text(&made, "request_uri");
    assert!(uri.starts_with("urn:ietf:params:oauth:request_uri:"), "{uri}");
    let beside = format!(
        "{}&state=other&redirect_uri=https%3A%2F%2Fevil.example",
        refer(&id, &uri)
    );
    let question = held_page(&alice.get(&beside).await);
    assert!(question.html.contains(RESOURCE));
    let answer = click(&mut alice, &question, &OURS).await;
    let location = answer.header("location");
    assert!(
        location.starts_with(REDIRECT) && location.ends_with("state=pushed"),
        "{location}"
    );
    let tokens = redeem(&mut alice, &id, field(location, "code=", '&')).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
}

#[tokio::test]
async fn the_page_may_be_loaded_again_but_one_answer_spends_the_request() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for choice in ["allow", "deny"] {
        let uri = text(&push(&mut alice, &id, &[]).await, "request_uri");
        let first = held_page(&alice.get(&refer(&id, &uri)).await);
        let second = held_page(&alice.get(&refer(&id, &uri)).await);
        // Whoever reads slowly may answer later than the reference is good.
        rig.seconds.fetch_add(120, Relaxed);
        sweep::ended(&rig.store, rig.now()).await.unwrap();
        let body = form(&[("ticket", &second.ticket), ("choice", choice)]);
        let headers = [FORM, ("cookie", second.cookie.as_str()), OURS[0]];
        let answer = alice.send(Method::POST, "/authorize/consent", &headers, body).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        let late = click(&mut alice, &first, &OURS).await;
        assert_eq!(
            (late.status, late.header("location")),
            (StatusCode::BAD_REQUEST, ""),
            "{choice}"
        );
        let again = alice.get(&refer(&id, &uri)).await;
        assert_eq!((again.status, again.header("location")), (StatusCode::BAD_REQUEST, ""));
    }
    assert_eq!(rig.store.reads().counter("pushed/nalice").await.unwrap(), 0);
    assert!(
        rig.store
            .scan::<Pushed>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}

#[tokio::test]
async fn a_code_without_a_click_spends_the_request_as_well() {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &publisher()).await;
    let (id, secret) = web_client(&mut browser.client).await;
    let asked = path_of(&id, &[]);
    let page = browser.open(&asked).await;
    browser.consent(&page).await;
    let body = format!(
        "{}&{}",
        asked.split_once('?').unwrap().1,
        form(&[("client_secret", &secret)])
    );
    let uri = text(
        &browser.client.send(Method::POST, "/par", &[FORM], body).await,
        "request_uri",
    );
    let answer = browser.open(&refer(&id, &uri)).await;
    assert!(answer.header("location").contains("code="), "{}", answer.text);
    let again = browser.open(&refer(&id, &uri)).await;
    assert_eq!((again.status, again.header("location")), (StatusCode::BAD_REQUEST, ""));
    assert_eq!(rig.store.reads().counter("pushed/nalice").await.unwrap(), 0);
}

#[tokio::test]
async fn a_reference_of_another_client_or_an_old_or_invented_one_is_a_page() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let (id, other) = (registered(&mut alice).await, registered(&mut alice).await);
    let uri = text(&push(&mut alice, &id, &[]).await, "request_uri");
    for path in [
        refer(&other, &uri),
        refer(&id, &format!("{uri}x")),
        refer(&id, &format!("{uri}&request_uri=x")),
    ] {
        let answer = alice.get(&path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::BAD_REQUEST, ""),
            "{path}"
        );
        assert!(answer.text.contains("start again"), "{}", answer.text);
    }
    let foreign = format!("{}&request_uri=https%3A%2F%2Fapp.example%2Fr", authorize_path(&id, &[]));
    let answer = alice.get(&foreign).await;
    assert!(answer.header("location").contains("error=request_uri_not_supported"));
    assert_eq!(alice.get(&refer(&id, &uri)).await.status, StatusCode::OK);
    rig.seconds.fetch_add(60, Relaxed);
    assert_eq!(alice.get(&refer(&id, &uri)).await.status, StatusCode::BAD_REQUEST);
    rig.seconds.fetch_add(601, Relaxed);
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    assert_eq!(rig.store.reads().counter("pushed/nalice").await.unwrap(), 0);
    assert!(rig.store.scan::<Due>(b"", None, 10).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn the_rules_of_authorize_are_asked_at_the_push() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for (extra, code) in [
        (
            ("request_uri", "urn:ietf:params:oauth:request_uri:x"),
            "invalid_request",
        ),
        (("request", "x"), "request_not_supported"),
        (("redirect_uri", REDIRECT), "invalid_request"),
        (("resource", "relative"), "invalid_target"),
        (("response_mode", "fragment"), "invalid_request"),
    ] {
        let answer = push(&mut alice, &id, &[extra]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{extra:?}");
        assert_eq!(answer.json()["error"], code, "{}", answer.text);
    }
    let unknown = push(&mut alice, "nobody", &[]).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(alice.get("/par").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(
        rig.store
            .scan::<Pushed>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    let page = [FORM, ("origin", "https://inspector.example")];
    let mut pairs = REQUEST.to_vec();
    pairs.push(("client_id", &id));
    let answer = alice.send(Method::POST, "/par", &page, form(&pairs)).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (StatusCode::CREATED, "*"),
        "a page authenticates as its client, as at /token"
    );
    let metadata = alice.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(
        metadata["pushed_authorization_request_endpoint"],
        format!("http://{HOST}/par")
    );
}

#[tokio::test]
async fn a_client_that_always_pushes_authenticates_there_and_is_refused_without() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = Key::es256();
    let made = registered_with(
        &mut alice,
        &key,
        &json!({"require_pushed_authorization_requests": true}),
    )
    .await;
    assert_eq!(made["require_pushed_authorization_requests"], json!(true));
    let id = made["client_id"].as_str().unwrap();
    let direct = alice.get(&authorize_path(id, &[])).await;
    assert!(
        direct.header("location").contains("error=invalid_request"),
        "{}",
        direct.header("location")
    );
    assert_eq!(push(&mut alice, id, &[]).await.status, StatusCode::UNAUTHORIZED);
    let once = with(&REQUEST, &key.assertion(&rig, id, "j"));
    let pushed = alice.send(Method::POST, "/par", &[FORM], once.clone()).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.text);
    let again = alice.send(Method::POST, "/par", &[FORM], once).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    let stored = rig.store.scan::<Pushed>(b"", None, 10).await.unwrap().records;
    assert!(!format!("{stored:?}").contains("client_assertion"));
    let page = alice.get(&refer(id, &text(&pushed, "request_uri"))).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);

    let bad = key.assertion(&rig, id, "k");
    let plain = with(&[("response_type", "token")], &bad);
    assert_eq!(
        alice.send(Method::POST, "/par", &[FORM], plain).await.status,
        StatusCode::BAD_REQUEST
    );
    let spent = alice.send(Method::POST, "/par", &[FORM], with(&REQUEST, &bad)).await;
    assert_eq!(spent.status, StatusCode::UNAUTHORIZED, "spent by the refused request");
}

#[tokio::test]
async fn a_node_has_a_quota_of_requests_that_nobody_answered() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let mut txn = Txn::new();
    txn.count("pushed/nalice", i64::try_from(MAX_PER_NODE).unwrap() - 1, None);
    rig.store.commit(txn).await.unwrap();
    assert_eq!(push(&mut alice, &id, &[]).await.status, StatusCode::CREATED);
    let full = push(&mut alice, &id, &[]).await;
    assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS, "{}", full.text);
    assert_eq!(full.header("retry-after"), "1");
}
