use super::*;

fn headers(value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
    headers
}

#[test]
fn tokens_come_in_the_authorization_header() {
    assert_eq!(bearer(&headers("Bearer abc")), Some("abc"));
    assert_eq!(bearer(&headers("bearer abc")), Some("abc"));
    assert_eq!(bearer(&headers("Basic abc")), None);
    assert_eq!(bearer(&HeaderMap::new()), None);
}

#[test]
fn refusals_say_where_the_metadata_is() {
    let challenge = |refusal: Refusal| {
        let reply = refusal.reply();
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
        reply.headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    };
    let metadata = r#"resource_metadata="http://echo.tailnet.test/.well-known/oauth-protected-resource""#;
    assert_eq!(challenge(Refusal::NoToken), format!("Bearer {metadata}"));
    let bad = challenge(Refusal::BadToken("expired".to_owned()));
    assert_eq!(bad, format!("Bearer error=\"invalid_token\", {metadata}"));
}
