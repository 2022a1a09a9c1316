//! What others can do with the parts of a flow.

use super::*;

#[tokio::test]
async fn no_page_but_ours_can_click() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let page = page(&mut alice, &id, &[]).await;
    for headers in [
        vec![],
        vec![("origin", "null")],
        vec![("origin", "https://evil.example.ts.net")],
        vec![("sec-fetch-site", "same-site"), ("origin", "http://idp.example.ts.net")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(
            click(&mut alice, &page, &headers).await.status,
            StatusCode::BAD_REQUEST,
            "{headers:?}"
        );
    }
    let forged = Page {
        cookie: "consent=x".into(),
        ticket: page.ticket.clone(),
        html: String::new(),
        policy: String::new(),
    };
    assert_eq!(click(&mut alice, &forged, &OURS).await.status, StatusCode::BAD_REQUEST);
    let second_laptop = Node::new(Caller {
        node_id: "nalice2".into(),
        ..node.facts.lock().clone()
    });
    let mut elsewhere = rig.client(&second_laptop).await;
    assert_eq!(
        click(&mut elsewhere, &page, &OURS).await.status,
        StatusCode::BAD_REQUEST
    );

    let by_origin = [("origin", "http://idp.example.ts.net")];
    assert_eq!(click(&mut alice, &page, &by_origin).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        click(&mut alice, &page, &by_origin).await.status,
        StatusCode::BAD_REQUEST,
        "a ticket is spent once"
    );
}

#[tokio::test]
async fn parts_of_a_page_cannot_even_ask() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for dest in ["iframe", "image", "empty", "script"] {
        let answer = alice
            .send(Method::GET, &authorize_path(&id, &[]), &[("sec-fetch-dest", dest)], "")
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{dest}");
    }
    let whole = [("sec-fetch-dest", "document"), ("sec-fetch-site", "cross-site")];
    assert_eq!(
        alice
            .send(Method::GET, &authorize_path(&id, &[]), &whole, "")
            .await
            .status,
        StatusCode::OK
    );
    let body = authorize_path(&id, &[]).split_once('?').unwrap().1.to_owned();
    assert_eq!(
        alice.send(Method::POST, "/authorize", &[FORM], body).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn bob_cannot_use_alices_code_or_refresh_token() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut bob = rig.client(&Node::user(2, "bob", &[ALL])).await;
    let id = registered(&mut alice).await;
    let stolen = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let answer = redeem(&mut bob, &id, &stolen).await;
    assert_eq!(
        (answer.status, answer.json()["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("invalid_grant"))
    );
    let audit = rig.store.audit(None, 100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|(_, line)| line.contains("token_refused") && line.contains("bob"))
    );

    let tokens = redeem(&mut alice, &id, &stolen).await;
    assert_eq!(
        tokens.status,
        StatusCode::OK,
        "the theft left the code alone: {}",
        tokens.text
    );
    let token = text(&tokens, "refresh_token");
    assert_eq!(refresh(&mut bob, &id, &token).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_replayed_code_ends_what_it_gave() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let once = code(&mut alice, &id, &[]).await;
    let tokens = redeem(&mut alice, &id, &once).await;
    assert_eq!(redeem(&mut alice, &id, &once).await.json()["error"], "invalid_grant");
    let answer = refresh(&mut alice, &id, &text(&tokens, "refresh_token")).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
}
