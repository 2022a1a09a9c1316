//! What is malformed, oversized, repeated or contradicts itself: each gets the RFC's error code, and a sentence that
//! names the parameter.

use super::{
    flow::{ALL, FORM, OURS, REDIRECT, RESOURCE, VERIFIER, alice, authorize_path, code, form, page, registered, text},
    *,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The error and its description, of JSON or of the address a browser is sent back to.
fn error_of(answer: &Answer) -> (String, String) {
    let location = answer.header("location");
    if location.is_empty() {
        let body = answer.json();
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        return (field("error"), field("error_description"));
    }
    let url = url::Url::parse(location).unwrap();
    let find = |name: &str| {
        let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
        let value = pairs.next().map(|(_, value)| value.into_owned());
        assert!(pairs.next().is_none(), "{name} is there once: {location}");
        value.unwrap_or_default()
    };
    assert_eq!(find("iss"), format!("http://{HOST}"), "{location}");
    (find("error"), find("error_description"))
}

fn assert_error(answer: &Answer, error: &str, word: &str, what: &str) {
    let (code, description) = error_of(answer);
    assert_eq!(code, error, "{what}: {description}");
    assert!(description.contains(word), "{what}: {description}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
}

/// Parameters that are sent besides.
type Pairs<'a> = Vec<(&'a str, &'a str)>;

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
async fn a_code_and_a_refresh_token_say_what_does_not_fit_them() {
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
async fn the_authorization_endpoint_tells_the_client_what_is_wrong() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let (long_state, long_nonce) = ("s".repeat(2049), "n".repeat(513));
    let many_scopes = (0..65).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
    let many_resources: Vec<_> = (0..9).map(|n| format!("https://r{n}.example/")).collect();
    let nine: Vec<(&str, &str)> = many_resources.iter().map(|uri| ("resource", uri.as_str())).collect();
    let long_resource = format!("https://r.example/{}", "r".repeat(1024));
    let rows: Vec<(Pairs<'_>, &str, &str)> = vec![
        (vec![("state", "again")], "invalid_request", "state was"),
        (vec![("response_type", "code")], "invalid_request", "response_type was"),
        (
            vec![("code_challenge", "again")],
            "invalid_request",
            "code_challenge was",
        ),
        (
            vec![("code_challenge_method", "plain")],
            "invalid_request",
            "code_challenge_method was",
        ),
        (vec![("scope", "a"), ("scope", "b")], "invalid_request", "scope was"),
        (vec![("nonce", "a"), ("nonce", "b")], "invalid_request", "nonce was"),
        (vec![("nonce", &long_nonce)], "invalid_request", "nonce"),
        (vec![("max_age", "soon")], "invalid_request", "max_age"),
        (vec![("max_age", "-1")], "invalid_request", "max_age"),
        (vec![("max_age", "+1")], "invalid_request", "max_age"),
        (vec![("nonce", "a\u{fffd}")], "invalid_request", "nonce has"),
        (
            vec![("max_age", "1"), ("max_age", "2")],
            "invalid_request",
            "max_age was",
        ),
        (
            vec![("prompt", "login"), ("prompt", "none")],
            "invalid_request",
            "prompt was",
        ),
        (vec![("response_mode", "fragment")], "invalid_request", "response_mode"),
        (vec![("request", "e30.e30.")], "request_not_supported", "request"),
        (vec![("scope", &many_scopes)], "invalid_scope", "scope"),
        (vec![("resource", "mcp")], "invalid_target", "resource"),
        (
            vec![("resource", "https://r.example/#f")],
            "invalid_target",
            "resource must not have a fragment",
        ),
        (
            vec![("resource", "https://u:p@r.example/")],
            "invalid_target",
            "resource",
        ),
        (vec![("resource", &long_resource)], "invalid_target", "resource"),
        (nine, "invalid_target", "resource"),
    ];
    for (extra, error, word) in rows {
        let answer = alice.get(&authorize_path(&id, &extra)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{word}: {}", answer.text);
        assert!(answer.header("location").starts_with(REDIRECT));
        assert_error(&answer, error, word, word);
    }
    let whole = authorize_path(&id, &[]);
    for (from, to, error, word) in [
        ("response_type=code&", "", "invalid_request", "response_type is missing"),
        (
            "response_type=code&",
            "response_type=token&",
            "unsupported_response_type",
            "response_type",
        ),
        (
            "response_type=code&",
            "response_type=code+id_token&",
            "unsupported_response_type",
            "response_type",
        ),
        ("st%26ate", &long_state, "invalid_request", "state is longer"),
        ("st%26ate", "a%0Ab", "invalid_request", "state has"),
        ("st%26ate", "%FF", "invalid_request", "state has"),
        (
            "code_challenge_method=S256",
            "code_challenge_method=plain",
            "invalid_request",
            "code_challenge_method",
        ),
        (
            "&code_challenge_method=S256",
            "",
            "invalid_request",
            "code_challenge_method",
        ),
        (
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "short",
            "invalid_request",
            "code_challenge",
        ),
        (
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "",
            "invalid_request",
            "code_challenge is missing",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        let answer = alice.get(&whole.replace(from, to)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{word}: {}", answer.text);
        assert_error(&answer, error, word, word);
    }
}

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
async fn what_is_wrong_with_state_or_mode_goes_back_in_the_other() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let posted = authorize_path(&id, &[("response_mode", "form_post")]).replace("st%26ate", "a%0Ab");
    let answer = alice.get(&posted).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::OK, ""));
    assert!(answer.text.contains("value=\"invalid_request\""), "{}", answer.text);
    assert!(!answer.text.contains("name=\"state\""), "{}", answer.text);
    let fragment = alice.get(&authorize_path(&id, &[("response_mode", "fragment")])).await;
    assert!(fragment.header("location").ends_with("state=st%26ate"));
}

/// What a page must not contain unescaped, as a value of anything.
const HOSTILE: &str = "\"'><script>alert(1)</script>";

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
    let mut txn = countersign_store::Txn::new();
    txn.count("forms/nalice", 200, None);
    rig.store.commit(txn).await.unwrap();
    for path in ["/logout", "/me"] {
        let full = alice.get(path).await;
        assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert_eq!(full.header("retry-after"), "1");
        assert_is_page(&full, path);
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

#[tokio::test]
async fn registration_and_management_name_the_field() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice.register(&public_client()).await.json();
    let bearer = format!("Bearer {}", made["registration_access_token"].as_str().unwrap());
    let path = format!("/register/{}", made["client_id"].as_str().unwrap());
    let put = [JSON, ("authorization", bearer.as_str())];
    let long_uri = format!("https://a.example/{}", "x".repeat(4000));
    let many: Vec<_> = (0..33).map(|n| format!("https://a.example/{n}")).collect();
    for (field, value, error) in [
        ("redirect_uris", json!("https://a.example/cb"), "invalid_redirect_uri"),
        ("redirect_uris", json!([1]), "invalid_redirect_uri"),
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        ("redirect_uris", json!(many), "invalid_redirect_uri"),
        ("redirect_uris", json!([long_uri]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://a.example/*"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://a.example/#f"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["javascript:alert(1)"]), "invalid_redirect_uri"),
        (
            "token_endpoint_auth_method",
            json!("tls_client_auth"),
            "invalid_client_metadata",
        ),
        ("token_endpoint_auth_method", json!(["none"]), "invalid_client_metadata"),
        ("grant_types", json!("authorization_code"), "invalid_client_metadata"),
        ("grant_types", json!(["implicit"]), "invalid_client_metadata"),
        ("response_types", json!(["token"]), "invalid_client_metadata"),
        ("scope", json!(["a"]), "invalid_client_metadata"),
        ("scope", json!("a\\b"), "invalid_client_metadata"),
        ("client_name", json!(7), "invalid_client_metadata"),
        ("client_uri", json!("javascript:alert(1)"), "invalid_client_metadata"),
        ("logo_uri", json!("data:image/png,"), "invalid_client_metadata"),
        ("contacts", json!("alice"), "invalid_client_metadata"),
    ] {
        let mut body = public_client();
        body[field] = value;
        let answer = alice.register(&body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text);
        assert_error(&answer, error, field, field);
        body["client_id"] = made["client_id"].clone();
        let answer = alice.send(Method::PUT, &path, &put, body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text);
        assert_error(&answer, error, field, field);
    }
    for body in ["", "[]", "{", "null", "7", r#"{"scope":"a","scope":"b"}"#, "\u{feff}{}"] {
        for (method, path) in [(Method::POST, "/register"), (Method::PUT, path.as_str())] {
            let answer = alice.send(method, path, &put, body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text);
            assert_error(&answer, "invalid_client_metadata", "the body", body);
        }
    }
    let token_missing = alice.send(Method::GET, &path, &[], "").await;
    assert_eq!(token_missing.status, StatusCode::UNAUTHORIZED);
    assert!(token_missing.header("www-authenticate").starts_with("Bearer"));
    for path in ["/register/", "/register/a/b", "/register/%00"] {
        let status = alice.send(Method::GET, path, &put, "").await.status;
        assert!(status.is_client_error(), "{path}: {status}");
    }
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

#[tokio::test]
async fn every_form_has_one_type_and_a_length() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::user(1, "alice", &[ALL])).await;
    for path in ["/token", "/introspect", "/revoke", "/userinfo"] {
        for kind in [
            ("content-type", "text/plain"),
            JSON,
            ("content-type", "multipart/form-data"),
        ] {
            let answer = alice.send(Method::POST, path, &[kind], "a=b").await;
            assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {kind:?}");
            assert_error(&answer, "invalid_request", "Content-Type", path);
        }
        // Refused before it is read, so the connection ends with it.
        let mut other = rig.client(&flow::alice()).await;
        let answer = other.send(Method::POST, path, &[FORM], "x".repeat(70_000)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_error(&answer, "invalid_request", "64 KiB", path);
        let answer = alice.send(Method::DELETE, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(answer.header("allow").contains("POST"));
    }
}
