use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jwks::Material;

const ISSUER: &str = "https://idp.example.ts.net";

/// Signatures of a world in which `alg:message` is one.
struct Plain;

impl Signatures for Plain {
    fn verify(&self, alg: AssertionAlg, _: &Material, message: &[u8], signature: &[u8]) -> bool {
        signature == [alg.as_str().as_bytes(), b":", message].concat()
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn good() -> (Value, Value) {
    let at = now().unix_timestamp();
    (
        json!({"alg": "ES256", "kid": "one"}),
        json!({"iss": "c1", "sub": "c1", "aud": ISSUER, "exp": at + 60, "iat": at, "jti": "j1"}),
    )
}

fn signed(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let alg = header["alg"].as_str().unwrap_or_default();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(format!("{alg}:{text}")))
}

fn keys() -> Jwks {
    let part = URL_SAFE_NO_PAD.encode([7; 32]);
    let key = |kid| json!({"kty": "EC", "crv": "P-256", "x": part, "y": part, "kid": kid});
    Jwks::read(&json!({"keys": [key("one"), key("two")]})).unwrap()
}

fn with_claim(name: &str, value: Value) -> Result<Assertion, OAuthError> {
    let (header, mut claims) = good();
    claims[name] = value;
    Assertion::read(&signed(&header, &claims), ISSUER, now())
}

fn with_header(name: &str, value: Value) -> Result<Assertion, OAuthError> {
    let (mut header, claims) = good();
    header[name] = value;
    Assertion::read(&signed(&header, &claims), ISSUER, now())
}

#[test]
fn a_good_assertion_names_its_client_and_is_spent_under_its_jti() {
    let (header, claims) = good();
    let assertion = Assertion::read(&signed(&header, &claims), ISSUER, now()).unwrap();
    assert_eq!(assertion.client().as_str(), "c1");
    let spent = assertion.prove(&keys(), None, &Plain).unwrap();
    assert_eq!(spent.jti, SecretHash::of("j1"));
    assert_eq!(spent.expires_at, now() + Duration::seconds(60));
    assert!(assertion.prove(&keys(), Some(AssertionAlg::Es256), &Plain).is_some());
}

#[test]
fn the_audience_is_the_issuer_as_one_string() {
    for bad in [
        json!([ISSUER]),
        json!([ISSUER, "https://other"]),
        json!(format!("{ISSUER}/token")),
        json!(format!("{ISSUER}/par")),
        json!(format!("{ISSUER}/")),
        json!("HTTPS://idp.example.ts.net"),
        json!(null),
        json!({}),
    ] {
        let error = with_claim("aud", bad.clone()).unwrap_err();
        assert!(error.description().contains("aud"), "{bad}: {error}");
    }
}

#[test]
fn times_are_bounded_on_both_sides() {
    let at = now().unix_timestamp();
    for (name, offset, expected) in [
        ("exp", 0, false),
        ("exp", -1, false),
        ("exp", 1, true),
        ("exp", 360, true),
        ("exp", 361, false),
        ("iat", 8, true),
        ("iat", 60, true),
        ("iat", 61, false),
        ("iat", -3600, true),
        ("nbf", 8, true),
        ("nbf", 61, false),
    ] {
        assert_eq!(
            with_claim(name, json!(at + offset)).is_ok(),
            expected,
            "{name} {offset}"
        );
    }
    let fraction = with_claim("exp", json!(at as f64 + 1.5)).unwrap();
    assert_eq!(fraction.expires_at, now() + Duration::seconds(2));
    for nonsense in [json!("soon"), json!(null), json!(1e300), json!(-1e300)] {
        assert!(with_claim("exp", nonsense).is_err());
    }
}

#[test]
fn who_signs_for_whom_and_under_which_name_is_demanded() {
    for (name, bad) in [
        ("iss", json!("other")),
        ("sub", json!("other")),
        ("jti", json!("")),
        ("jti", json!("x".repeat(257))),
        ("jti", json!(7)),
    ] {
        assert!(with_claim(name, bad).is_err(), "{name}");
    }
    for missing in ["iss", "sub", "aud", "exp", "jti"] {
        let (header, mut claims) = good();
        claims.as_object_mut().unwrap().remove(missing);
        let error = Assertion::read(&signed(&header, &claims), ISSUER, now()).unwrap_err();
        assert!(error.description().contains(missing), "{error}");
    }
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    for alg in ["none", "None", "HS256", "RS512", "ES384", "", "es256"] {
        assert!(with_header("alg", json!(alg)).is_err(), "{alg}");
    }
    for typ in ["at+jwt", "dpop+jwt", "logout+jwt"] {
        assert!(with_header("typ", json!(typ)).is_err(), "{typ}");
    }
    assert!(with_header("typ", json!("Client-Authentication+JWT")).is_ok());
    assert!(with_header("crit", json!(["b64"])).is_err());
    let ed = with_header("alg", json!("EdDSA")).unwrap();
    assert!(
        ed.prove(&keys(), None, &Plain).is_none(),
        "no key of that kind is registered"
    );
}

#[test]
fn only_a_registered_key_with_that_name_and_algorithm_proves() {
    let (header, claims) = good();
    let text = signed(&header, &claims);
    let read = |text: &str| Assertion::read(text, ISSUER, now()).unwrap();
    assert!(read(&text).prove(&keys(), Some(AssertionAlg::Rs256), &Plain).is_none());
    let forged = format!(
        "{}.{}",
        text.rsplit_once('.').unwrap().0,
        URL_SAFE_NO_PAD.encode("ES256:other")
    );
    assert!(read(&forged).prove(&keys(), None, &Plain).is_none());
    let unknown = with_header("kid", json!("three")).unwrap();
    assert!(unknown.prove(&keys(), None, &Plain).is_none());
    let (mut nameless, claims) = good();
    nameless.as_object_mut().unwrap().remove("kid");
    assert!(read(&signed(&nameless, &claims)).prove(&keys(), None, &Plain).is_some());
}

#[test]
fn repeated_members_and_long_texts_are_refused() {
    let (header, claims) = good();
    let twice = claims.to_string().replacen('{', r#"{"sub":"c2","#, 1);
    let text = format!(
        "{}.{}.AA",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(twice)
    );
    assert!(
        Assertion::read(&text, ISSUER, now())
            .unwrap_err()
            .description()
            .contains("duplicate")
    );
    assert!(with_claim("padding", json!("x".repeat(9000))).is_err());
}

proptest! {
    #[test]
    fn any_text_is_an_assertion_or_an_error(text in "[-A-Za-z0-9_.{}\":,é ]{0,300}") {
        let _ = Assertion::read(&text, ISSUER, now());
    }

    #[test]
    fn any_claims_are_read_or_refused_and_never_outlive_the_bound(
        exp in proptest::num::f64::ANY, iat in proptest::num::f64::ANY, jti in ".{0,300}", aud in ".{0,40}",
    ) {
        let (header, mut claims) = good();
        claims["exp"] = json!(exp);
        claims["iat"] = json!(iat);
        claims["jti"] = json!(jti);
        claims["aud"] = json!(aud);
        prop_assert!(Assertion::read(&signed(&header, &claims), ISSUER, now()).is_err());
        claims["aud"] = json!(ISSUER);
        if let Ok(assertion) = Assertion::read(&signed(&header, &claims), ISSUER, now()) {
            prop_assert!(assertion.expires_at > now() && assertion.expires_at <= now() + MAX_LIFETIME + CLOCK_SKEW);
        }
    }
}
