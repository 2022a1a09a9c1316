//! `/token`, `/introspect`, `/revoke` and `/userinfo`.

use super::*;

/// One request to `/token`: the form, the status, the error and a word of the sentence.
type Row<'a> = (&'a str, u16, &'a str, &'a str);

async fn try_token(client: &mut Client, rows: &[Row<'_>]) {
    for (body, status, error, word) in rows {
        let answer = client.send(Method::POST, "/token", &[FORM], (*body).to_owned()).await;
        assert_eq!(answer.status.as_u16(), *status, "{body}: {}", answer.text);
        assert_error(&answer, error, word, body);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn the_token_endpoint_names_what_is_wrong() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let me = format!("client_id={id}");
    let with = |more: &str| format!("{me}&{more}");
    let code_with = |more: &str| with(&format!("grant_type=authorization_code&{more}"));
    let refresh_with = |more: &str| with(&format!("grant_type=refresh_token&{more}"));
    let long = "x".repeat(5000);
    try_token(
        &mut alice,
        &[
            ("", 401, "invalid_client", "client_id is missing"),
            ("grant_type=authorization_code", 401, "invalid_client", "client_id"),
            (&with(&me), 400, "invalid_request", "client_id was sent more than once"),
            (
                &with("client_secret=a&client_secret=b"),
                400,
                "invalid_request",
                "client_secret",
            ),
            (
                &with("client_secret=a"),
                401,
                "invalid_client",
                "token_endpoint_auth_method",
            ),
            (
                "client_id=nobody&grant_type=refresh_token",
                401,
                "invalid_client",
                "unknown",
            ),
            (&with(""), 400, "invalid_request", "grant_type is missing"),
            (&with("grant_type="), 400, "invalid_request", "grant_type is missing"),
            (
                &with("grant_type=a&grant_type=b"),
                400,
                "invalid_request",
                "grant_type was",
            ),
            (
                &with("grant_type=password&username=a&password=b"),
                400,
                "unsupported_grant_type",
                "grant_type",
            ),
            (
                &with("grant_type=client_credentials"),
                400,
                "unauthorized_client",
                "client_credentials",
            ),
            (&code_with(""), 400, "invalid_request", "code is missing"),
            (&code_with("code=a&code=b"), 400, "invalid_request", "code was"),
            (&code_with("code=nonsense"), 400, "invalid_grant", "the code"),
            (&code_with(&format!("code={long}")), 400, "invalid_grant", "the code"),
            (&refresh_with(""), 400, "invalid_request", "refresh_token is missing"),
            (
                &refresh_with("refresh_token=a&refresh_token=b"),
                400,
                "invalid_request",
                "refresh_token was",
            ),
            (
                &refresh_with("refresh_token=nonsense"),
                400,
                "invalid_grant",
                "refresh token",
            ),
            (
                &refresh_with("refresh_token=%00%FF"),
                400,
                "invalid_grant",
                "refresh token",
            ),
        ],
    )
    .await;
    // What stands in the URL is no parameter: it would be written into logs on its way.
    let path = format!("/token?{me}&grant_type=refresh_token");
    let answer = alice.send(Method::POST, &path, &[FORM], "").await;
    assert_error(&answer, "invalid_client", "client_id is missing", "query");
}

#[tokio::test]
async fn a_code_says_what_does_not_fit_it() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let verifier = ("code_verifier", VERIFIER);
    for (extra, status, error, word) in [
        (vec![], 400, "invalid_request", "code_verifier is missing"),
        (vec![verifier, verifier], 400, "invalid_request", "code_verifier was"),
        (vec![("code_verifier", "short")], 400, "invalid_grant", "code_verifier"),
        (
            vec![verifier, ("redirect_uri", "http://localhost:5000/other")],
            400,
            "invalid_grant",
            "redirect_uri",
        ),
        (
            vec![verifier, ("redirect_uri", REDIRECT), ("redirect_uri", REDIRECT)],
            400,
            "invalid_request",
            "redirect_uri was",
        ),
        (
            vec![verifier, ("resource", "not a uri")],
            400,
            "invalid_target",
            "resource",
        ),
        (
            vec![verifier, ("resource", "https://other.example/")],
            400,
            "invalid_target",
            "resource https://other.example/",
        ),
    ] {
        let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("client_id", id.as_str()),
            ("code", code.as_str()),
        ];
        pairs.extend(&extra);
        let answer = alice.send(Method::POST, "/token", &[FORM], form(&pairs)).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert_error(&answer, error, word, word);
    }
}

#[tokio::test]
async fn a_refresh_token_says_what_does_not_fit_it_and_stays_good() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE), ("scope", "read")]).await;
    let token = text(&flow::redeem(&mut alice, &id, &code).await, "refresh_token");
    let with = |more: &str| {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", id.as_str()),
            ("refresh_token", token.as_str()),
        ];
        format!("{}&{more}", form(&pairs))
    };
    try_token(
        &mut alice,
        &[
            (&with("scope=read&scope=read"), 400, "invalid_request", "scope was"),
            (&with("scope=read+write"), 400, "invalid_scope", "scope"),
            (&with("resource=%23"), 400, "invalid_target", "resource"),
            (
                &with("resource=https%3A%2F%2Fother.example"),
                400,
                "invalid_target",
                "resource",
            ),
        ],
    )
    .await;
    assert_eq!(
        flow::refresh(&mut alice, &id, &token).await.status,
        StatusCode::OK,
        "a refusal spends nothing"
    );
}

#[tokio::test]
async fn client_authentication_says_what_contradicts_itself() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({"redirect_uris": ["https://app.example/cb"], "grant_types": ["client_credentials"]}))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let basic = |user: &str, password: &str| {
        use base64::Engine as _;
        let both = format!("{user}:{password}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both))
    };
    let good = basic(&id, &secret);
    let body = "grant_type=client_credentials";
    for (header, body, error, word) in [
        ("Basic !!!", body.to_owned(), "invalid_client", "Authorization header"),
        ("Basic", body.to_owned(), "invalid_client", "Authorization header"),
        ("Bearer abc", body.to_owned(), "invalid_client", "Authorization header"),
        (
            &good,
            format!("{body}&client_secret={secret}"),
            "invalid_client",
            "client_secret",
        ),
        (&good, format!("{body}&client_id=other"), "invalid_client", "client_id"),
        (
            &basic(&id, "wrong"),
            body.to_owned(),
            "invalid_client",
            "credentials are wrong",
        ),
        (&basic("", ""), body.to_owned(), "invalid_client", "unknown"),
    ] {
        let answer = alice
            .send(Method::POST, "/token", &[FORM, ("authorization", header)], body)
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}: {}", answer.text);
        assert_error(&answer, error, word, header);
        assert!(answer.header("www-authenticate").starts_with("Basic"), "{header}");
    }
    let right = [FORM, ("authorization", good.as_str())];
    assert_eq!(
        alice.send(Method::POST, "/token", &right, body).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn endpoints_that_take_tokens_name_what_is_wrong() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let me = format!("client_id={id}");
    for (path, body, status, error, word) in [
        ("/introspect", String::new(), 400, "invalid_request", "token is missing"),
        (
            "/introspect",
            "token=a&token=b".into(),
            400,
            "invalid_request",
            "token was",
        ),
        (
            "/revoke",
            "token=a".into(),
            401,
            "invalid_client",
            "client_id is missing",
        ),
        ("/revoke", me.clone(), 400, "invalid_request", "token is missing"),
        (
            "/revoke",
            format!("{me}&token=a&token=b"),
            400,
            "invalid_request",
            "token was",
        ),
        (
            "/userinfo",
            String::new(),
            400,
            "invalid_request",
            "access_token is missing",
        ),
        (
            "/userinfo",
            "access_token=a&access_token=b".into(),
            400,
            "invalid_request",
            "access_token was",
        ),
        (
            "/userinfo",
            "access_token=nonsense".into(),
            401,
            "invalid_token",
            "access token",
        ),
    ] {
        let answer = alice.send(Method::POST, path, &[FORM], body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.text);
        assert_error(&answer, error, word, path);
    }
}

#[tokio::test]
async fn userinfo_takes_one_token_in_one_place() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for header in ["Bearer", "Bearer a b", "Basic YTpi", "Bearer ..", "nonsense"] {
        let answer = alice
            .send(Method::GET, "/userinfo", &[("authorization", header)], "")
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{header}");
    }
    let twice = [FORM, ("authorization", "Bearer a")];
    let answer = alice.send(Method::POST, "/userinfo", &twice, "access_token=a").await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_REQUEST,
        "RFC 6750 3.1: more than one way to send the token"
    );
    assert_error(&answer, "invalid_request", "access_token", "both");
    let code = code(&mut alice, &id, &[]).await;
    let good = format!(
        "Bearer {}",
        text(&flow::redeem(&mut alice, &id, &code).await, "access_token")
    );
    for (second, status) in [(None, StatusCode::OK), (Some("Bearer a"), StatusCode::UNAUTHORIZED)] {
        let headers: Vec<_> = [Some(good.as_str()), second]
            .into_iter()
            .flatten()
            .map(|value| ("authorization", value))
            .collect();
        let answer = alice.send(Method::GET, "/userinfo", &headers, "").await;
        assert_eq!(answer.status, status, "{second:?}");
    }
    let in_query = alice.get("/userinfo?access_token=a").await;
    assert_eq!(in_query.status, StatusCode::UNAUTHORIZED);
}
