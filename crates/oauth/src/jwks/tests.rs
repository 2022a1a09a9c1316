use proptest::prelude::*;
use serde_json::json;

use super::*;

fn part(len: usize) -> String {
    URL_SAFE_NO_PAD.encode(vec![0xA5; len])
}

fn ec() -> Value {
    json!({"kty": "EC", "crv": "P-256", "x": part(32), "y": part(32), "kid": "one"})
}

fn okp() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": part(32), "use": "sig"})
}

fn rsa_key(bytes: usize, e: &str) -> Value {
    json!({"kty": "RSA", "n": part(bytes), "e": e, "alg": "PS256"})
}

fn read(keys: &[Value]) -> Result<Jwks, JwksError> {
    Jwks::read(&json!({ "keys": keys }))
}

#[test]
fn a_key_is_found_by_algorithm_and_name() {
    let set = read(&[ec(), okp(), rsa_key(256, "AQAB")]).unwrap();
    let found = |alg, kid| set.candidates(alg, kid).count();
    assert_eq!(found(AssertionAlg::Es256, None), 1);
    assert_eq!(found(AssertionAlg::Es256, Some("one")), 1);
    assert_eq!(found(AssertionAlg::Es256, Some("two")), 0);
    assert_eq!(
        found(AssertionAlg::EdDsa, Some("one")),
        0,
        "a key without a name has not that name"
    );
    assert!(set.supports(AssertionAlg::Ps256));
    assert!(
        !set.supports(AssertionAlg::Rs256),
        "the key says that it is for PS256 only"
    );
}

#[test]
fn what_is_of_no_use_is_left_out_and_what_is_dangerous_refused() {
    let encryption = json!({"kty": "RSA", "n": part(256), "e": "AQAB", "use": "enc"});
    let curve = json!({"kty": "EC", "crv": "P-521", "x": "", "y": ""});
    let symmetric_alg = json!({"kty": "EC", "crv": "P-256", "x": part(32), "y": part(32), "alg": "HS256"});
    assert_eq!(read(&[encryption.clone(), curve, ec()]).unwrap().keys.len(), 1);
    assert_eq!(read(&[encryption, symmetric_alg]), Err(JwksError::Useless));
    let with = |name: &str| {
        let mut key = ec();
        key[name] = json!(part(32));
        read(&[ec(), key])
    };
    assert_eq!(with("d"), Err(JwksError::Private));
    assert_eq!(read(&[json!({"kty": "oct", "k": "c2VjcmV0"})]), Err(JwksError::Private));
    assert_eq!(read(&[rsa_key(255, "AQAB")]), Err(JwksError::Rsa));
    assert_eq!(read(&[rsa_key(1025, "AQAB")]), Err(JwksError::Rsa));
    for exponent in ["AQ", "Ag", "", "AAE", "AQAAAAE"] {
        assert_eq!(read(&[rsa_key(256, exponent)]), Err(JwksError::Rsa), "{exponent}");
    }
    let mut short = ec();
    short["x"] = json!(part(31));
    assert_eq!(read(&[short]), Err(JwksError::Malformed));
    assert_eq!(read(&vec![ec(); 17]), Err(JwksError::TooMany));
    for broken in [json!(null), json!([]), json!({"keys": {}}), json!({"keys": [1]})] {
        assert_eq!(Jwks::read(&broken), Err(JwksError::NotASet));
    }
}

#[test]
fn a_set_is_stored_and_shown_as_it_was_sent() {
    let sent = json!({"keys": [ec()]});
    let set = Jwks::read(&sent).unwrap();
    assert_eq!(serde_json::to_value(&set).unwrap(), sent);
    assert_eq!(serde_json::from_value::<Jwks>(sent).unwrap(), set);
}

proptest! {
    #[test]
    fn any_text_is_a_set_or_an_error(text in r#"[{}\[\]":,a-zA-Z0-9 ]{0,200}"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = Jwks::read(&value);
        }
    }
}
