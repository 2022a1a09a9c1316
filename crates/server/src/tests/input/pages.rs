//! What a person is shown: pages, and nothing of what was sent unescaped.

use super::*;

/// What a page must not contain unescaped, as a value of anything.
const HOSTILE: &str = "\"'><script>alert(1)</script>";

#[tokio::test]
async fn a_page_names_the_parameter_for_which_nobody_is_sent_back() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({
            "redirect_uris": ["https://app.example/a", "https://app.example/b"], "token_endpoint_auth_method": "none",
        }))
        .await;
    let id = text(&made, "client_id");
    let whole = authorize_path(&id, &[]);
    let redirect = form(&[("redirect_uri", REDIRECT)]);
    let missing = whole.replace(&redirect, "");
    for (path, word) in [
        (missing.clone(), "Redirect_uri is missing"),
        (format!("{missing}&redirect_uri="), "Redirect_uri is missing"),
        (whole.clone(), "(redirect_uri)"),
        (format!("{whole}&{redirect}"), "Redirect_uri was sent more than once"),
        (whole.replace(&id, "nobody"), "(client_id)"),
        (whole.replace(&id, ""), "Client_id is missing"),
        (
            format!("{whole}&request_uri=urn:ietf:params:oauth:request_uri:x"),
            "(request_uri)",
        ),
    ] {
        let answer = alice.get(&path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::BAD_REQUEST, "")
        );
        assert!(answer.text.contains(word), "{word}: {}", answer.text);
    }
    let body = missing.split_once('?').unwrap().1;
    let pushed = alice.send(Method::POST, "/par", &[FORM], body.to_owned()).await;
    assert_error(&pushed, "invalid_request", "redirect_uri is missing", "par");
}

#[tokio::test]
async fn a_browser_is_shown_pages_and_nothing_that_it_sent() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let whole = authorize_path(&id, &[]);
    let hostile = form(&[("x", HOSTILE)])[2..].to_owned();
    let redirect = form(&[("redirect_uri", REDIRECT)]);
    let paths = [
        whole.replace(&id, ""),
        whole.replace(&id, "nobody"),
        whole.replace(&id, &hostile),
        format!("{whole}&client_id={id}"),
        whole.replace(&redirect, &format!("redirect_uri={hostile}")),
        whole.replace(&redirect, "redirect_uri=https%3A%2F%2Fevil.example%2F"),
        whole.replace(&redirect, "redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcallback%23f"),
        format!("{}&scope=openid", whole.replace(&redirect, "")),
        format!("{whole}&{redirect}"),
        format!("/authorize?{}", "a=b&".repeat(200)),
        "/authorize".to_owned(),
    ];
    for path in paths {
        let answer = alice.get(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_is_page(&answer, &path);
    }
    let mut refused = Vec::new();
    for path in ["/authorize", "/me", "/logout", "/logout/answer"] {
        let json_body = alice.send(Method::POST, path, &[JSON], "{}").await;
        refused.push((json_body, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    for path in ["/me", "/logout", "/logout/answer", "/policy/explain"] {
        let method = alice.send(Method::DELETE, path, &[], "").await;
        refused.push((method, StatusCode::METHOD_NOT_ALLOWED));
    }
    // Refused before it is read, so the connection ends with it.
    let mut other = rig.client(&flow::alice()).await;
    let long = other
        .send(Method::POST, "/authorize", &[FORM], "x".repeat(70_000))
        .await;
    refused.push((long, StatusCode::PAYLOAD_TOO_LARGE));
    let frame = alice
        .send(Method::GET, &whole, &[("sec-fetch-dest", "iframe")], "")
        .await;
    refused.push((frame, StatusCode::FORBIDDEN));
    let method = alice.send(Method::PUT, "/authorize", &[], "").await;
    assert_eq!(method.header("allow"), "GET, POST");
    refused.push((method, StatusCode::METHOD_NOT_ALLOWED));
    let shown = [("accept", "text/html,application/xhtml+xml")];
    let nowhere = alice.send(Method::GET, "/%3Cscript%3E", &shown, "").await;
    refused.push((nowhere, StatusCode::NOT_FOUND));
    for (answer, status) in refused {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_is_page(&answer, status.as_str());
    }
    assert_eq!(alice.get("/nothing").await.header("content-type"), "application/json");
}

#[tokio::test]
async fn every_path_that_a_browser_shows_refuses_with_a_page() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    for path in [
        "/authorize",
        "/authorize/consent",
        "/logout",
        "/logout/answer",
        "/me",
        "/policy/explain",
        "/",
        "/ca",
    ] {
        let method = alice.send(Method::PUT, path, &[], "").await;
        assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_is_page(&method, path);
        let elsewhere = [("host", "evil.example")];
        let name = alice.send(Method::GET, path, &elsewhere, "").await;
        assert_eq!(name.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert_is_page(&name, path);
    }
    for path in ["/authorize", "/authorize/consent", "/logout", "/logout/answer", "/me"] {
        let json_body = alice.send(Method::POST, path, &[JSON, OURS[0]], "{}").await;
        assert_eq!(json_body.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        assert_is_page(&json_body, path);
    }
    for path in ["/authorize", "/logout", "/me"] {
        let frame = alice.send(Method::GET, path, &[("sec-fetch-dest", "iframe")], "").await;
        assert_eq!(frame.status, StatusCode::FORBIDDEN, "{path}");
        assert_is_page(&frame, path);
    }
}

fn assert_is_page(answer: &Answer, what: &str) {
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{what}");
    assert_eq!(answer.header("x-frame-options"), "DENY", "{what}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    assert!(answer.text.contains("This did not work"), "{what}: {}", answer.text);
    assert!(!answer.text.contains("<script"), "{what}: {}", answer.text);
}

#[tokio::test]
async fn a_click_that_is_incomplete_or_repeated_is_answered_with_a_page() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let page = page(&mut alice, &id, &[]).await;
    let ticket = ("ticket", page.ticket.as_str());
    let headers = [FORM, OURS[0], ("cookie", page.cookie.as_str())];
    let (allow, yes) = (("choice", "allow"), ("remember", "yes"));
    for (pairs, word) in [
        (vec![], "Choice is missing"),
        (vec![ticket], "Choice is missing"),
        (vec![allow], "Ticket is missing"),
        (vec![ticket, ("choice", "maybe")], "Choice must be"),
        (vec![ticket, ticket, allow], "Ticket was sent more than once"),
        (
            vec![ticket, allow, ("choice", "deny")],
            "Choice was sent more than once",
        ),
        (vec![ticket, allow, yes, yes], "Remember was sent more than once"),
        (vec![("ticket", HOSTILE), allow], "start again"),
    ] {
        let answer = alice
            .send(Method::POST, "/authorize/consent", &headers, form(&pairs))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{pairs:?}");
        assert!(answer.text.contains(word), "{word}: {}", answer.text);
        assert_is_page(&answer, "consent");
    }
    let get = alice.get("/authorize/consent").await;
    assert_eq!(
        (get.status, get.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
    assert_is_page(&get, "GET");
    let answer = flow::click(&mut alice, &page, &OURS).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "none of that spent the ticket");
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_escaped() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({
            "client_name": HOSTILE, "redirect_uris": ["http://localhost/callback"],
            "token_endpoint_auth_method": "none", "client_uri": "https://app.example/\"><script>",
        }))
        .await;
    let id = text(&made, "client_id");
    let resource = format!("https://r.example/{HOSTILE}");
    let page = page(&mut alice, &id, &[("scope", "a b<script>"), ("resource", &resource)]).await;
    assert!(!page.html.contains("<script"), "{}", page.html);
    assert!(page.html.contains("&lt;script&gt;"), "{}", page.html);
}
