use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example";
const ECHO: &str = "http://echo.example";
/// Longer than any test runs.
const FAR: u64 = 4_000_000_000;

struct Authority {
    key: EncodingKey,
    keys: JwkSet,
}

impl Authority {
    fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some("k1".to_owned());
        Self {
            key,
            keys: JwkSet { keys: vec![jwk] },
        }
    }

    fn sign(&self, typ: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some("k1".to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    fn judge(&self, token: &str) -> Result<AccessToken, String> {
        verified(token, &self.keys, ISSUER, ECHO)
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ECHO, "sub": "userid:1", "client_id": "c1", "scope": "openid", "exp": FAR,
        "cnf": {"tailnet_node": "n1"},
    })
}

#[test]
fn a_token_for_this_server_is_taken() {
    let authority = Authority::new();
    let token = authority.judge(&authority.sign("at+jwt", &claims())).unwrap();
    assert_eq!(
        (token.sub.as_str(), token.cnf.tailnet_node.as_str()),
        ("userid:1", "n1")
    );
}

#[test]
fn anything_else_is_refused() {
    let authority = Authority::new();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        authority.sign("at+jwt", &claims)
    };
    for token in [
        with("iss", json!("https://evil.example")),
        with("aud", json!("http://other.example")),
        with("exp", json!(1_000_000_000)),
        with("cnf", Value::Null),
        authority.sign("JWT", &claims()),
        Authority::new().sign("at+jwt", &claims()),
        "a.b.c".to_owned(),
        String::new(),
    ] {
        assert!(authority.judge(&token).is_err(), "{token}");
    }
}

#[test]
fn highlights_keep_their_order_and_leave_out_what_is_absent() {
    let shown = highlights(&json!({"aud": "a", "iss": "i", "cnf": {"tailnet_node": "n1"}, "jti": "x"}));
    let names: Vec<_> = shown.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["iss", "aud", "cnf"]);
    assert_eq!(shown[2].1, r#"{"tailnet_node":"n1"}"#);
}
