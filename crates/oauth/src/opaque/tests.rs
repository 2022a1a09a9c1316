use serde_json::json;

use super::*;
use crate::{
    options::Options,
    tests_support::{Counting, public_client},
};

fn token(strategy: Strategy) -> NewAccessToken {
    let client = Client {
        options: Options {
            access_token_strategy: strategy,
            ..Options::default()
        },
        ..public_client()
    };
    let claims = json!({"sub": "x"}).as_object().unwrap().clone();
    NewAccessToken::of(claims, &client, OffsetDateTime::UNIX_EPOCH, &mut Counting::default())
}

#[test]
fn a_client_that_chose_opaque_tokens_gets_a_text_that_says_nothing() {
    assert!(token(Strategy::Jwt).record().is_none());
    let made = token(Strategy::Opaque);
    assert_eq!(made.claims()["sub"], "x");
    let NewAccessToken::Opaque { secret, record } = made else {
        panic!("{made:?}")
    };
    assert_eq!(secret.reveal().len(), 43, "256 bits");
    assert!(record.hash.verify(secret.reveal()));
    let stored = serde_json::to_string(&record).unwrap();
    assert!(!stored.contains(secret.reveal()) && !format!("{record:?}").contains(secret.reveal()));
}
