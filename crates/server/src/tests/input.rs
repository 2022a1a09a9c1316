//! What is malformed, oversized, repeated or contradicts itself: each gets the RFC's error code, and a sentence that
//! names the parameter.

use super::{
    flow::{ALL, FORM, OURS, REDIRECT, RESOURCE, VERIFIER, alice, authorize_path, code, form, page, registered, text},
    *,
};

mod authorize;
mod pages;
mod registration;
mod token;

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
