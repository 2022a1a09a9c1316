//! `/register` and the address of a client.

use super::*;

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
