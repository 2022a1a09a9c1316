use super::*;
use crate::tests_support::Counting;

#[test]
fn a_secret_verifies_against_its_hash_and_survives_storage() {
    let secret = Secret::draw(&mut Counting::default());
    assert_eq!(secret.reveal().len(), 43);
    let stored = serde_json::to_string(&secret.hash()).unwrap();
    let hash: SecretHash = serde_json::from_str(&stored).unwrap();
    assert!(hash.verify(secret.reveal()));
    assert!(!hash.verify("another"));
    assert!(!hash.verify(""));
}

#[test]
fn debug_shows_nothing() {
    let secret = Secret::draw(&mut Counting::default());
    assert_eq!(format!("{secret:?} {:?}", secret.hash()), "Secret(…) SecretHash(…)");
}

#[test]
fn a_hash_of_another_length_is_refused() {
    assert!(serde_json::from_str::<SecretHash>("\"AAAA\"").is_err());
    assert!(serde_json::from_str::<SecretHash>("\"not base64!\"").is_err());
}
