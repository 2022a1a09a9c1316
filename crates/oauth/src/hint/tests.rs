use super::*;
use crate::tests_support::{alice, bob};

const ISSUER: &str = "https://idp.example.ts.net";

fn hint(claims: &str) -> Hint {
    Hint::verified(Some(claims.as_bytes()), ISSUER)
}

#[test]
fn a_hint_may_name_the_caller_and_nobody_else() {
    let ours = hint(r#"{"iss":"https://idp.example.ts.net","sub":"userid:1","aud":"c1","exp":1}"#);
    assert_eq!(ours.client().map(ClientId::as_str), Some("c1"));
    assert_eq!(ours.is_about(&Subject::of(&alice())), Ok(()));
    let error = ours.is_about(&Subject::of(&bob())).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LoginRequired);
    assert_eq!(Hint::Absent.is_about(&Subject::of(&bob())), Ok(()));
}

#[test]
fn what_is_no_id_token_of_ours_is_refused() {
    for foreign in [
        Hint::verified(None, ISSUER),
        hint("nonsense"),
        hint(r#"{"iss":"https://other.example","sub":"userid:1","aud":"c1"}"#),
        hint(r#"{"iss":"https://idp.example.ts.net","sub":"userid:1"}"#),
    ] {
        assert_eq!(foreign, Hint::Foreign);
        let error = foreign.is_about(&Subject::of(&alice())).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
    }
}
