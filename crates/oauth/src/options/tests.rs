use serde_json::json;

use super::*;

fn read(body: Value, method: AuthMethod) -> Result<Options, OAuthError> {
    serde_json::from_value::<Raw>(body).unwrap().read(method)
}

fn keys() -> Value {
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}]})
}

#[test]
fn choices_are_stored_and_shown_as_they_were_made() {
    let body = json!({
        "jwks": keys(), "token_endpoint_auth_signing_alg": "EdDSA", "access_token_strategy": "opaque",
        "default_resource": "https://mcp.example/mcp", "require_pushed_authorization_requests": true,
    });
    let options = read(body.clone(), AuthMethod::PrivateKeyJwt).unwrap();
    assert_eq!(serde_json::to_value(&options).unwrap(), body);
    assert_eq!(serde_json::from_value::<Options>(body).unwrap(), options);
    assert_eq!(read(json!({}), AuthMethod::None), Ok(Options::default()));
    let places = json!({"redeem_from": ["tag:app", "nServer"]});
    let options = read(places.clone(), AuthMethod::None).unwrap();
    assert_eq!(
        serde_json::to_value(&options).unwrap()["redeem_from"],
        places["redeem_from"]
    );
    let by_secret = read(places, AuthMethod::ClientSecretBasic).unwrap();
    assert_eq!(by_secret.redeem_from, [], "it authenticates, so any node may");
    let ignored = json!({"jwks": "nonsense", "jwks_uri": "https://app.example/jwks"});
    assert_eq!(read(ignored, AuthMethod::None), Ok(Options::default()));
}

#[test]
fn each_bad_choice_is_named() {
    let by_key = AuthMethod::PrivateKeyJwt;
    for (body, method, field) in [
        (json!({}), by_key, "jwks is missing"),
        (json!({"jwks_uri": "https://app.example/jwks"}), by_key, "jwks_uri"),
        (
            json!({"jwks": keys(), "jwks_uri": "https://app.example/jwks"}),
            by_key,
            "jwks_uri",
        ),
        (json!({"jwks": {"keys": []}}), by_key, "jwks holds no public"),
        (
            json!({"jwks": keys(), "token_endpoint_auth_signing_alg": "HS256"}),
            by_key,
            "token_endpoint_auth_signing_alg",
        ),
        (
            json!({"jwks": keys(), "token_endpoint_auth_signing_alg": "RS256"}),
            by_key,
            "no key in jwks",
        ),
        (
            json!({"access_token_strategy": "macaroon"}),
            AuthMethod::None,
            "access_token_strategy",
        ),
        (
            json!({"access_token_strategy": 1}),
            AuthMethod::None,
            "access_token_strategy",
        ),
        (
            json!({"default_resource": "relative"}),
            AuthMethod::None,
            "default_resource",
        ),
        (json!({"redeem_from": "tag:app"}), AuthMethod::None, "redeem_from"),
        (json!({"redeem_from": [""]}), AuthMethod::None, "redeem_from"),
        (json!({"redeem_from": ["tag:\n"]}), AuthMethod::None, "redeem_from"),
        (json!({"redeem_from": vec!["n1"; 33]}), AuthMethod::None, "redeem_from"),
        (
            json!({"redeem_from": ["n".repeat(129)]}),
            AuthMethod::None,
            "redeem_from",
        ),
        (
            json!({"require_pushed_authorization_requests": "yes"}),
            AuthMethod::None,
            "require_pushed",
        ),
    ] {
        let error = read(body, method).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidClientMetadata);
        assert!(error.description().contains(field), "{field}: {error}");
    }
}
