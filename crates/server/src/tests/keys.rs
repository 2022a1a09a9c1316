//! Signing keys over HTTP: each algorithm as another library sees it, and what a reader of the JWK set notices of a
//! rotation.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};

use super::*;

const DAY: i64 = 86_400;
const RESOURCE: &str = "https://mcp.example.ts.net/mcp";

async fn registered(client: &mut Client, alg: Option<&str>) -> String {
    let mut body = public_client();
    if let Some(alg) = alg {
        body["id_token_signed_response_alg"] = json!(alg);
    }
    let answer = client.register(&body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["id_token_signed_response_alg"], alg.unwrap_or("ES256"));
    flow::text(&answer, "client_id")
}

/// Tokens for one resource; the id_token, then the access token.
async fn tokens(client: &mut Client, id: &str) -> (String, String) {
    let code = flow::code(client, id, &[("scope", "openid"), ("resource", RESOURCE)]).await;
    let answer = flow::redeem(client, id, &code).await;
    (flow::text(&answer, "id_token"), flow::text(&answer, "access_token"))
}

async fn jwks(client: &mut Client) -> JwkSet {
    let answer = client.get("/.well-known/jwks.json").await;
    assert!(!answer.text.contains("\"d\""), "a private member: {}", answer.text);
    serde_json::from_str(&answer.text).unwrap()
}

fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

/// The claims, as a careful reader gets them: the set's key by kid, the set's algorithm, type and audience checked.
fn verified(set: &JwkSet, token: &str, typ: &str, audience: &str) -> Option<(Algorithm, Value)> {
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some(typ));
    let jwk: &Jwk = set.find(&kid(token))?;
    let algorithm = Algorithm::try_from(jwk.common.key_algorithm.unwrap()).unwrap();
    assert_eq!(header.alg, algorithm);
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[format!("http://{HOST}")]);
    // The fake clock of the rig runs ahead of the library's.
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    Some((algorithm, decode::<Value>(token, &key, &validation).unwrap().claims))
}

#[tokio::test]
async fn each_algorithm_is_advertised_chosen_and_verified_by_another_library() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&flow::alice()).await;
    let metadata = alice.get("/.well-known/openid-configuration").await.json();
    assert_eq!(
        metadata["id_token_signing_alg_values_supported"],
        json!(["ES256", "RS256", "EdDSA"])
    );
    for (asked, algorithm) in [
        (None, Algorithm::ES256),
        (Some("ES256"), Algorithm::ES256),
        (Some("EdDSA"), Algorithm::EdDSA),
        (Some("RS256"), Algorithm::RS256),
    ] {
        let id = registered(&mut alice, asked).await;
        let (id_token, access_token) = tokens(&mut alice, &id).await;
        let set = jwks(&mut alice).await;
        let (by, claims) = verified(&set, &id_token, "JWT", &id).unwrap();
        assert_eq!(by, algorithm);
        let alg = SigningAlg::named(asked.unwrap_or("ES256")).unwrap();
        assert_eq!(claims["at_hash"], alg.at_hash(&access_token));
        let (by, claims) = verified(&set, &access_token, "at+jwt", RESOURCE).unwrap();
        assert_eq!((by, &claims["client_id"]), (algorithm, &json!(id)));
    }
    let answer = alice.get("/.well-known/jwks.json").await;
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    assert_eq!(rotation::JWKS_MAX_AGE.whole_seconds(), 300);
    assert_eq!(jwks(&mut alice).await.keys.len(), 3);
}

#[tokio::test]
async fn an_algorithm_that_is_not_there_is_refused_and_named() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    for alg in ["none", "HS256", "RS512"] {
        let mut body = public_client();
        body["id_token_signed_response_alg"] = json!(alg);
        let answer = alice.register(&body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"], "invalid_client_metadata");
        assert!(answer.text.contains("id_token_signed_response_alg"), "{}", answer.text);
    }
}

impl Rig {
    /// Lets `seconds` pass, at the end of which the keys are looked after.
    async fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Relaxed);
        let app = self.server.app();
        app.keys.tend(&self.store, &SigningAlg::ALL, self.now()).await.unwrap();
    }

    async fn audited(&self, event: &str) -> usize {
        let audit = self.store.audit(None, 1000).await.unwrap();
        audit.iter().filter(|(_, line)| line.contains(event)).count()
    }
}

#[tokio::test]
async fn a_rotation_is_seen_before_it_happens_and_breaks_no_token() {
    let rig = Rig::start(config()).await;
    rig.pass(0).await;
    let mut alice = rig.client(&flow::alice()).await;
    let ids = [
        registered(&mut alice, None).await,
        registered(&mut alice, Some("RS256")).await,
        registered(&mut alice, Some("EdDSA")).await,
    ];
    rig.pass(29 * DAY).await;
    let ahead = jwks(&mut alice).await;
    assert_eq!(ahead.keys.len(), 6, "the next keys are published a day before");
    assert_eq!(
        (
            rig.audited("signing_key_made").await,
            rig.audited("signing_key_activated").await
        ),
        (6, 0)
    );
    let mut former = Vec::new();
    for id in &ids {
        former.push(tokens(&mut alice, id).await);
    }
    rig.pass(DAY).await;
    assert_eq!(rig.audited("signing_key_activated").await, 3);
    let set = jwks(&mut alice).await;
    for (id, (old, access)) in ids.iter().zip(&former) {
        let (new, _) = tokens(&mut alice, id).await;
        assert_ne!(kid(&new), kid(old));
        assert!(verified(&ahead, &new, "JWT", id).is_some(), "it was known a day ago");
        assert!(verified(&set, old, "JWT", id).is_some());
        assert!(verified(&set, access, "at+jwt", RESOURCE).is_some());
    }
    rig.pass(6 * 60).await;
    assert_eq!(rig.audited("signing_key_withdrawn").await, 3);
    let set = jwks(&mut alice).await;
    assert_eq!(set.keys.len(), 3);
    let app = rig.server.app();
    for (id, (old, access)) in ids.iter().zip(&former) {
        assert!(verified(&set, old, "JWT", id).is_none());
        assert!(app.keys.id_claims(old).is_some(), "as an id_token_hint it counts still");
        assert!(app.keys.id_claims(access).is_none());
        assert!(app.keys.access_claims(access).is_none());
    }
    rig.pass(30 * DAY).await;
    assert_eq!(rig.audited("signing_key_forgotten").await, 3);
    assert!(former.iter().all(|(old, _)| app.keys.id_claims(old).is_none()));
}

#[tokio::test]
async fn a_restart_signs_with_the_same_keys_and_catches_up_with_what_fell_due() {
    let first = Rig::start(config()).await;
    first.pass(0).await;
    let mut alice = first.client(&flow::alice()).await;
    let id = registered(&mut alice, Some("RS256")).await;
    let (old, _) = tokens(&mut alice, &id).await;
    first.pass(29 * DAY).await;
    let known = jwks(&mut alice).await;
    let (store, later) = (first.store.clone(), first.seconds.load(Relaxed) + 3 * DAY);
    first.task.abort();

    let second = Rig::at(config(), store, later).await;
    second.pass(0).await;
    let mut alice = second.client(&flow::alice()).await;
    let (new, _) = tokens(&mut alice, &id).await;
    assert_ne!(kid(&new), kid(&old));
    assert!(verified(&known, &new, "JWT", &id).is_some());
    assert_eq!(second.audited("signing_key_made").await, 6, "nothing was made twice");
}
