//! Client authentication over HTTP: one method per request and the registered one, assertions that work once.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::assertion::{ASSERTION_TYPE, MAX_REMEMBERED, Spent};
use countersign_store::{Due, Txn};

use super::{
    flow::{FORM, RESOURCE, VERIFIER, alice, form, page, text},
    *,
};

const ISSUER: &str = "http://idp.example.ts.net";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A client's private key.
pub(super) enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rsa(&'static str, Box<RsaKeyPair>),
}

impl Key {
    pub(super) fn es256() -> Self {
        Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn all() -> [Self; 4] {
        let rsa = || Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let ed25519 = Ed25519KeyPair::generate().unwrap();
        [
            Self::es256(),
            Self::EdDsa(ed25519),
            Self::Rsa("PS256", rsa()),
            Self::Rsa("RS256", rsa()),
        ]
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rsa(alg, _) => alg,
        }
    }

    pub(super) fn jwks(&self) -> Value {
        let key = match self {
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
            Self::EdDsa(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key())}),
            Self::Rsa(_, pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": encoded(n), "e": encoded(e)})
            }
        };
        json!({ "keys": [key] })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.alg(), "typ": "JWT"});
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match self {
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(alg, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = if *alg == "PS256" {
                    &RSA_PSS_SHA256
                } else {
                    &RSA_PKCS1_SHA256
                };
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// The two parameters of an assertion of `client`.
    pub(super) fn assertion(&self, rig: &Rig, client: &str, jti: &str) -> Vec<(&'static str, String)> {
        let at = rig.now().unix_timestamp();
        let claims = json!({"iss": client, "sub": client, "aud": ISSUER, "iat": at, "exp": at + 60, "jti": jti});
        parameters(self.sign(&claims))
    }
}

fn parameters(jwt: String) -> Vec<(&'static str, String)> {
    vec![
        ("client_assertion_type", ASSERTION_TYPE.to_owned()),
        ("client_assertion", jwt),
    ]
}

pub(super) fn with(pairs: &[(&str, &str)], more: &[(&'static str, String)]) -> String {
    let mut all = pairs.to_vec();
    all.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    form(&all)
}

pub(super) async fn registered_with(client: &mut Client, key: &Key, extra: &Value) -> Value {
    let mut body = json!({
        "redirect_uris": ["http://localhost/callback"], "token_endpoint_auth_method": "private_key_jwt",
        "jwks": key.jwks(), "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let made = client.register(&body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()
}

const MACHINE: [(&str, &str); 2] = [("grant_type", "client_credentials"), ("resource", RESOURCE)];

async fn token(client: &mut Client, more: &[(&'static str, String)]) -> Answer {
    client.send(Method::POST, "/token", &[FORM], with(&MACHINE, more)).await
}

#[tokio::test]
async fn private_key_jwt_works_with_each_algorithm_and_once() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    for key in Key::all() {
        let made = registered_with(&mut alice, &key, &json!({"token_endpoint_auth_signing_alg": key.alg()})).await;
        assert!(made.get("client_secret").is_none(), "{made}");
        assert_eq!(made["jwks"], key.jwks());
        let id = made["client_id"].as_str().unwrap();
        let once = key.assertion(&rig, id, "j1");
        let first = token(&mut alice, &once).await;
        assert_eq!(first.status, StatusCode::OK, "{} {}", key.alg(), first.text);
        let again = token(&mut alice, &once).await;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED);
        assert_eq!(again.json()["error"], "invalid_client");
        assert!(
            text(&again, "error_description").contains("used before"),
            "{}",
            again.text
        );
        let second = token(&mut alice, &key.assertion(&rig, id, "j2")).await;
        assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    }
}

#[tokio::test]
async fn an_assertion_is_spent_once_under_concurrency_and_also_by_a_refused_request() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let key = Key::es256();
    let made = registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let once = key.assertion(&rig, id, "j1");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut process = rig.client(&node).await;
        let once = once.clone();
        tasks.spawn(async move { token(&mut process, &once).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(
        statuses.iter().filter(|status| **status == StatusCode::OK).count(),
        1,
        "{statuses:?}"
    );

    let refused = key.assertion(&rig, id, "j2");
    let wrong = with(&[("grant_type", "password")], &refused);
    let answer = alice.send(Method::POST, "/token", &[FORM], wrong).await;
    assert_eq!(answer.json()["error"], "unsupported_grant_type");
    assert_eq!(token(&mut alice, &refused).await.json()["error"], "invalid_client");

    let remembered = || async { rig.store.reads().counter(&format!("assertions/{id}")).await.unwrap() };
    assert_eq!(remembered().await, 2);
    rig.seconds.fetch_add(61, Relaxed);
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    assert_eq!(remembered().await, 0);
    assert!(rig.store.scan::<Spent>(b"", None, 10).await.unwrap().records.is_empty());
    assert!(rig.store.scan::<Due>(b"", None, 10).await.unwrap().records.is_empty());
    assert_eq!(
        token(&mut alice, &once).await.status,
        StatusCode::UNAUTHORIZED,
        "it has expired"
    );
}

#[tokio::test]
async fn a_client_has_a_quota_of_assertions_that_are_remembered() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = Key::es256();
    let made = registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let mut txn = Txn::new();
    let full = i64::try_from(MAX_REMEMBERED).unwrap();
    txn.count(&format!("assertions/{id}"), full - 1, None);
    rig.store.commit(txn).await.unwrap();
    assert_eq!(
        token(&mut alice, &key.assertion(&rig, id, "1")).await.status,
        StatusCode::OK
    );
    let refused = token(&mut alice, &key.assertion(&rig, id, "2")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
}

#[tokio::test]
async fn an_assertion_for_anybody_else_or_by_anybody_else_is_refused() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = Key::es256();
    let made = registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let at = rig.now().unix_timestamp();
    let good = json!({"iss": id, "sub": id, "aud": ISSUER, "iat": at, "exp": at + 60, "jti": "j"});
    for (name, bad) in [
        ("aud", json!(format!("{ISSUER}/token"))),
        ("aud", json!([ISSUER])),
        ("exp", json!(at)),
        ("exp", json!(at + 3600)),
        ("iat", json!(at + 61)),
        ("nbf", json!(at + 61)),
        ("sub", json!("other")),
        ("jti", json!("")),
    ] {
        let mut claims = good.clone();
        claims[name] = bad;
        let answer = token(&mut alice, &parameters(key.sign(&claims))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}: {}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let stranger = token(&mut alice, &parameters(Key::es256().sign(&good))).await;
    let other_alg = token(&mut alice, &parameters(Key::all()[1].sign(&good))).await;
    assert_eq!(stranger.text, other_alg.text);
    let nobody = json!({"iss": "nobody", "sub": "nobody", "aud": ISSUER, "exp": at + 60, "jti": "j"});
    assert_eq!(
        token(&mut alice, &parameters(key.sign(&nobody))).await.text,
        stranger.text,
        "uniform errors"
    );
    assert_eq!(
        token(&mut alice, &parameters(key.sign(&good))).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn one_method_per_request_and_the_registered_one() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = Key::es256();
    let made = registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let secret = ("client_secret", "x".to_owned());
    let named = ("client_id", id.to_owned());
    let uniform = token(&mut alice, &[named.clone(), secret.clone()]).await;
    assert_eq!(uniform.status, StatusCode::UNAUTHORIZED);
    assert_eq!(token(&mut alice, std::slice::from_ref(&named)).await.text, uniform.text);
    for more in [
        vec![secret],
        vec![("client_id", "other".to_owned())],
        vec![("client_assertion", "x".to_owned())],
    ] {
        let mut both = key.assertion(&rig, id, "j");
        both.extend(more);
        assert!(token(&mut alice, &both).await.status.is_client_error());
    }
    let body = with(&MACHINE, &key.assertion(&rig, id, "j"));
    let basic = [FORM, ("authorization", "Basic eDp5")];
    assert_eq!(
        alice.send(Method::POST, "/token", &basic, body).await.status,
        StatusCode::UNAUTHORIZED
    );
    let twice = [FORM, ("authorization", "Basic eDp5"), ("authorization", "Basic eDp5")];
    assert_eq!(
        alice.send(Method::POST, "/token", &twice, form(&MACHINE)).await.status,
        StatusCode::UNAUTHORIZED
    );
    let mut all = key.assertion(&rig, id, "j");
    all.push(named);
    assert_eq!(token(&mut alice, &all).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_are_replaced_by_their_owner_and_prove_at_revoke_as_well() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let (old, new) = (Key::es256(), Key::es256());
    let made = registered_with(&mut alice, &old, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let bearer = format!("Bearer {}", made["registration_access_token"].as_str().unwrap());
    let mut changed = made.clone();
    changed["jwks"] = new.jwks();
    // RFC 7592 2.2: what only the server says is not sent back.
    let fields = changed.as_object_mut().unwrap();
    fields.retain(|name, _| !name.starts_with("registration_") && !name.ends_with("_at"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let put = alice
        .send(Method::PUT, &format!("/register/{id}"), &headers, changed.to_string())
        .await;
    assert_eq!(put.json()["jwks"], new.jwks(), "{}", put.text);
    assert_eq!(
        token(&mut alice, &old.assertion(&rig, id, "1")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        token(&mut alice, &new.assertion(&rig, id, "2")).await.status,
        StatusCode::OK
    );
    let once = new.assertion(&rig, id, "3");
    let revoke = with(&[("token", "nonsense")], &once);
    let answer = alice.send(Method::POST, "/revoke", &[FORM], revoke.clone()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let again = alice.send(Method::POST, "/revoke", &[FORM], revoke).await;
    assert_eq!(
        again.status,
        StatusCode::UNAUTHORIZED,
        "spent also where nothing changed"
    );
    let ask = with(&[("token", "nonsense")], &new.assertion(&rig, id, "4"));
    let told = alice.send(Method::POST, "/introspect", &[FORM], ask.clone()).await;
    assert_eq!((told.status, told.json()), (StatusCode::OK, json!({"active": false})));
    let again = alice.send(Method::POST, "/introspect", &[FORM], ask).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_client_with_keys_redeems_a_code() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = Key::es256();
    let made = registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let question = page(&mut alice, id, &[]).await;
    let location = super::flow::click(&mut alice, &question, &super::flow::OURS).await;
    let code = super::flow::field(location.header("location"), "code=", '&').to_owned();
    let redeem = |jti| {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        with(&pairs, &key.assertion(&rig, id, jti))
    };
    let stolen = form(&[("grant_type", "authorization_code"), ("code", &code), ("client_id", id)]);
    assert_eq!(
        alice.send(Method::POST, "/token", &[FORM], stolen).await.status,
        StatusCode::UNAUTHORIZED
    );
    let tokens = alice.send(Method::POST, "/token", &[FORM], redeem("1")).await;
    assert_eq!(
        tokens.status,
        StatusCode::OK,
        "failed authentication left the code alone: {}",
        tokens.text
    );
}

#[tokio::test]
async fn registration_names_what_is_wrong_with_keys() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let base = json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "private_key_jwt"});
    for (extra, named) in [
        (json!({}), "jwks is missing"),
        (json!({"jwks_uri": "https://app.example/jwks.json"}), "jwks_uri"),
        (
            json!({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}),
            "private or symmetric",
        ),
    ] {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = alice.register(&body).await;
        assert_eq!(answer.json()["error"], "invalid_client_metadata");
        assert!(text(&answer, "error_description").contains(named), "{}", answer.text);
    }
    let repeated = base.to_string().replacen('{', r#"{"jwks":1,"jwks":2,"#, 1);
    let json_type = [("content-type", "application/json")];
    let answer = alice.send(Method::POST, "/register", &json_type, repeated).await;
    assert!(
        text(&answer, "error_description").contains("duplicate"),
        "{}",
        answer.text
    );
    let metadata = alice.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(
        metadata["token_endpoint_auth_signing_alg_values_supported"],
        json!(["ES256", "EdDSA", "PS256", "RS256"])
    );
}
