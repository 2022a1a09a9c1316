//! Who could get hold of a code, or of the answer that carries it.

use super::*;

fn redeeming<'a>(id: &'a str, code: &'a str, verifier: &'a str, redirect: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code),
        ("redirect_uri", redirect),
        ("code_verifier", verifier),
    ]
}

#[tokio::test]
async fn code_injection_without_the_right_verifier_or_redirect_spends_the_code_for_nothing() {
    let (_rig, mut alice, id) = alices_client().await;
    let other = "A".repeat(43);
    for (verifier, redirect) in [(other.as_str(), REDIRECT), (VERIFIER, "http://localhost:5001/callback")] {
        let code = code(&mut alice, &id, &[]).await;
        let answer = token(&mut alice, &redeeming(&id, &code, verifier, redirect)).await;
        assert_eq!(error(&answer), "invalid_grant", "{verifier} {redirect}");
        assert_eq!(
            error(&redeem(&mut alice, &id, &code).await),
            "invalid_grant",
            "the right client presented it, so it is spent"
        );
    }
}

#[tokio::test]
async fn code_injection_into_another_client_leaves_the_code_alone() {
    let (_rig, mut alice, id) = alices_client().await;
    let other = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[]).await;
    assert_eq!(error(&redeem(&mut alice, &other, &code).await), "invalid_grant");
    assert_eq!(error(&redeem(&mut alice, "nobody", &code).await), "invalid_client");
    assert_eq!(redeem(&mut alice, &id, &code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_code_dies_after_a_minute_and_is_known_to_the_store_by_its_hash_only() {
    let (rig, mut alice, id) = alices_client().await;
    let fresh = code(&mut alice, &id, &[]).await;
    assert!(fresh.len() >= 43, "256 bits: {fresh}");
    rig.seconds.fetch_add(61, Relaxed);
    assert_eq!(error(&redeem(&mut alice, &id, &fresh).await), "invalid_grant");
    let stored = rig
        .store
        .scan::<countersign_oauth::grant::Code>(b"", None, 10)
        .await
        .unwrap();
    assert_eq!(stored.records.len(), 1);
    let text = serde_json::to_string(&stored.records[0]).unwrap();
    assert!(!text.contains(&fresh), "{text}");
}

#[tokio::test]
async fn pkce_downgrade_is_refused_on_both_sides() {
    let (_rig, mut alice, id) = alices_client().await;
    let without = authorize_path(&id, &[]).replace("code_challenge=", "ignored=");
    let plain = authorize_path(&id, &[]).replace("=S256", "=plain");
    let unsaid = authorize_path(&id, &[]).replace("code_challenge_method=", "ignored=");
    for path in [without, plain, unsaid] {
        let answer = alice.get(&path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(answer.header("location").contains("error=invalid_request"), "{path}");
    }
    let code = code(&mut alice, &id, &[]).await;
    let answer = token(&mut alice, &redeeming(&id, &code, "", REDIRECT)[..4]).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    let metadata = alice.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
}

#[tokio::test]
async fn mix_up_is_told_apart_by_the_issuer_in_every_answer() {
    let (_rig, mut alice, id) = alices_client().await;
    let iss = "iss=http%3A%2F%2Fidp.example.ts.net";
    let page = page(&mut alice, &id, &[]).await;
    let good = click(&mut alice, &page, &OURS).await;
    let bad = alice.get(&authorize_path(&id, &[("response_mode", "fragment")])).await;
    for answer in [good, bad] {
        assert!(answer.header("location").contains(iss), "{}", answer.header("location"));
    }
    let metadata = alice.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    assert_eq!(metadata["issuer"], "http://idp.example.ts.net");
}

#[tokio::test]
async fn response_type_abuse_gets_no_token_in_front_of_the_browser() {
    let (_rig, mut alice, id) = alices_client().await;
    for kind in ["token", "id_token", "code id_token", "code token", "none"] {
        let path = authorize_path(&id, &[]).replace("response_type=code", &form(&[("response_type", kind)]));
        let location = alice.get(&path).await.header("location").to_owned();
        assert!(
            location.contains("error=unsupported_response_type"),
            "{kind}: {location}"
        );
    }
    for mode in ["fragment", "web_message", "jwt"] {
        let location = alice.get(&authorize_path(&id, &[("response_mode", mode)])).await;
        let location = location.header("location");
        assert!(location.contains("error=invalid_request"), "{mode}: {location}");
    }
    for grant in [
        "password",
        "implicit",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ] {
        let answer = token(&mut alice, &[("grant_type", grant), ("client_id", &id)]).await;
        assert_eq!(error(&answer), "unsupported_grant_type", "{grant}");
    }
}

#[tokio::test]
async fn referrer_and_cache_headers_keep_what_answers_carry() {
    let (_rig, mut alice, id) = alices_client().await;
    let asked = alice.get(&authorize_path(&id, &[])).await;
    let shown = page(&mut alice, &id, &[]).await;
    let answered = click(&mut alice, &shown, &OURS).await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "a 307 would send the form on");
    let code = field(answered.header("location"), "code=", '&').to_owned();
    let refused = alice.get("/authorize?client_id=nobody").await;
    let redirected = alice.get(&authorize_path(&id, &[("response_type", "token")])).await;
    for answer in [&asked, &answered, &refused, &redirected] {
        assert_eq!(answer.header("referrer-policy"), "same-origin");
    }
    let tokens = redeem(&mut alice, &id, &code).await;
    let again = redeem(&mut alice, &id, &code).await;
    let missing = alice.get("/nothing").await;
    for answer in [&asked, &answered, &refused, &redirected, &tokens, &again, &missing] {
        assert_eq!(answer.header("cache-control"), "no-store", "{}", answer.text);
    }
}

#[tokio::test]
async fn open_redirect_by_an_error_leads_only_to_registered_uris() {
    let (_rig, mut alice, id) = alices_client().await;
    let elsewhere = [
        "https://evil.example/cb",
        "http://localhost:5000/callback/..",
        "http://localhost.evil.example:5000/callback",
        "http://user@localhost:5000/callback",
        "http://localhost:5000/callback#fragment",
        "//evil.example",
        "javascript:alert(1)",
    ];
    for uri in elsewhere {
        let path = authorize_path(&id, &[("response_type", "token")]);
        let path = path.replace(&form(&[("redirect_uri", REDIRECT)]), &form(&[("redirect_uri", uri)]));
        let answer = alice.get(&path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::BAD_REQUEST, ""),
            "{uri}"
        );
    }
    let twice = alice.get(&authorize_path(&id, &[("redirect_uri", REDIRECT)])).await;
    assert_eq!((twice.status, twice.header("location")), (StatusCode::BAD_REQUEST, ""));
}
