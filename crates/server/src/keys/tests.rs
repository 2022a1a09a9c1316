use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const MONTH: Schedule = Schedule {
    signs_for: time::Duration::days(30),
    remembered_for: time::Duration::days(30),
};

async fn stored(store: &Store) -> Vec<serde_json::Value> {
    let records = store.scan::<Stored>(b"", None, MOST).await.unwrap().records;
    records
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect()
}

#[tokio::test]
async fn a_start_makes_what_is_cheap_and_a_request_for_the_rest_waits_for_it() {
    let store = Store::in_memory().unwrap();
    let keys = Arc::new(Keys::open(&store, MONTH, NOW).await.unwrap());
    assert_eq!(stored(&store).await.len(), 2);
    assert!(!keys.is_complete());
    let task = tokio::spawn({
        let keys = Arc::clone(&keys);
        async move { keys.run(&store, &Clock::from_fn(|| NOW)).await }
    });
    let signer = keys.signer(SigningAlg::Rs256).await.unwrap();
    assert_eq!(signer.alg(), SigningAlg::Rs256);
    assert!(keys.is_complete());
    task.abort();
}

/// As in a test that looks after the keys while the server's own task does, which begins two seconds after the start.
#[tokio::test]
async fn two_hands_at_once_make_each_key_once_and_show_the_same() {
    let store = Store::in_memory().unwrap();
    let keys = Keys::open(&store, MONTH, NOW).await.unwrap();
    let ahead = NOW + time::Duration::days(29);
    for (now, expected) in [(NOW, 3), (ahead, 6)] {
        let tend = || keys.tend(&store, &SigningAlg::ALL, now);
        let (first, second) = tokio::join!(tend(), tend());
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(stored(&store).await.len(), expected);
        assert_eq!(keys.ring.load().facts.len(), expected);
    }
}

#[tokio::test]
async fn the_private_half_goes_when_a_key_stops_signing() {
    let store = Store::in_memory().unwrap();
    let keys = Keys::open(&store, MONTH, NOW).await.unwrap();
    let token = keys
        .signer(SigningAlg::Es256)
        .await
        .unwrap()
        .sign(Type::AccessToken, &json!({}))
        .await
        .unwrap();
    let private = stored(&store).await;
    assert!(private.iter().all(|key| key["half"]["private"].is_string()));
    keys.tend(&store, &CHEAP, NOW + time::Duration::days(29)).await.unwrap();
    keys.tend(&store, &CHEAP, NOW + time::Duration::days(30)).await.unwrap();
    let after = stored(&store).await;
    for key in private {
        let same = after.iter().find(|other| other["kid"] == key["kid"]).unwrap();
        assert!(same["half"]["private"].is_null() && same["half"]["public"].is_string());
    }
    assert!(keys.access_claims(&token).is_some(), "what it signed is good still");
}

#[tokio::test]
async fn an_open_that_comes_a_year_later_goes_on_with_the_old_key_until_the_next_is_known() {
    let store = Store::in_memory().unwrap();
    let first = Keys::open(&store, MONTH, NOW).await.unwrap();
    let token = first
        .signer(SigningAlg::Es256)
        .await
        .unwrap()
        .sign(Type::IdToken, &json!({}))
        .await
        .unwrap();
    let later = NOW + time::Duration::days(365);
    let second = Keys::open(&store, MONTH, later).await.unwrap();
    assert!(second.id_claims(&token).is_some());
    assert_eq!(stored(&store).await.len(), 4);
    let signing = |keys: &Keys| {
        rotation::signing(&keys.ring.load().facts, SigningAlg::Es256)
            .unwrap()
            .kid
            .clone()
    };
    assert_eq!(signing(&second), signing(&first));
    second.tend(&store, &CHEAP, later + MONTH.ahead()).await.unwrap();
    assert_ne!(signing(&second), signing(&first));
}

/// However few steps are taken before the end, the next start goes on, and what was signed stays good.
#[tokio::test]
async fn a_kill_between_any_two_steps_loses_no_key() {
    for survived in 0..12 {
        let store = Store::in_memory().unwrap();
        let keys = Keys::open(&store, MONTH, NOW).await.unwrap();
        keys.tend(&store, &CHEAP, NOW + time::Duration::days(29)).await.unwrap();
        let signer = keys.signer(SigningAlg::EdDsa).await.unwrap();
        let token = signer.sign(Type::AccessToken, &json!({})).await.unwrap();
        let end = NOW + time::Duration::days(30);
        for _ in 0..survived {
            let known = facts(&load(&store).await.unwrap());
            if let Some(step) = rotation::next_step(&known, &CHEAP, &MONTH, end) {
                take(&store, step, end).await.unwrap();
            }
        }
        let again = Keys::open(&store, MONTH, end).await.unwrap();
        assert!(again.access_claims(&token).is_some(), "after {survived} steps");
        assert_eq!(again.ring.load().signers.len(), CHEAP.len());
        assert_eq!(stored(&store).await.len(), 4, "after {survived} steps");
    }
}

/// What an earlier version stored is read as a key that signs.
#[test]
fn a_key_of_format_1_signs_since_it_was_made() {
    let key = Stored::make(SigningAlg::Es256, Phase::Signing(NOW), NOW).unwrap();
    let value = serde_json::to_value(&key).unwrap();
    let old = json!({
        "kid": value["kid"], "alg": "ES256", "pkcs8": value["half"]["private"], "created_at": NOW.unix_timestamp(),
    });
    let read = <Stored as countersign_store::Record>::upgrade(1, &old.to_string()).unwrap();
    assert_eq!(read.facts(), key.facts());
    assert!(read.halves().unwrap().0.is_some());
    assert!(<Stored as countersign_store::Record>::upgrade(3, "{}").is_err());
}

#[tokio::test]
async fn the_key_of_the_default_comes_first_and_keys_that_sign_before_their_successors() {
    for _ in 0..4 {
        let store = Store::in_memory().unwrap();
        let keys = Keys::open(&store, MONTH, NOW).await.unwrap();
        keys.tend(&store, &SigningAlg::ALL, NOW + time::Duration::days(29))
            .await
            .unwrap();
        let jwks: serde_json::Value = serde_json::from_slice(&keys.jwks()).unwrap();
        let listed: Vec<_> = jwks["keys"].as_array().unwrap().iter().map(|key| &key["alg"]).collect();
        assert_eq!(listed, ["ES256", "RS256", "EdDSA", "ES256", "EdDSA"], "{jwks}");
    }
}
