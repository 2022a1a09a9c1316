use serde_json::json;

use super::*;
use crate::keys::made_for_tests;

async fn signed(signer: &Arc<Signer>, typ: Type) -> String {
    let claims = json!({"sub": "x", "aud": "c", "exp": 4_000_000_000_u64});
    signer.sign(typ, &claims).await.unwrap()
}

fn claims_of(verifier: &Verifier, typ: Type, token: &str) -> Option<serde_json::Value> {
    let claims = verify(typ, token, |kid| (kid == "k").then_some(verifier))?;
    serde_json::from_slice(&claims).ok()
}

#[tokio::test]
async fn a_token_verifies_as_what_it_is_and_as_nothing_else() {
    for alg in SigningAlg::ALL {
        let signer = Arc::new(made_for_tests("k", alg));
        let verifier = Verifier::new(alg, signer.public()).unwrap();
        let token = signed(&signer, Type::AccessToken).await;
        assert_eq!(claims_of(&verifier, Type::AccessToken, &token).unwrap()["sub"], "x");
        assert!(claims_of(&verifier, Type::IdToken, &token).is_none());
        assert!(verify(Type::AccessToken, &token, |_| None).is_none());
        let other = made_for_tests("k", alg);
        let other = Verifier::new(alg, other.public()).unwrap();
        assert!(claims_of(&other, Type::AccessToken, &token).is_none());
        for index in (0..token.len()).step_by(3) {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            // The last character of a part may carry bits that decode to nothing: then the token is the same.
            if let Some(claims) = claims_of(&verifier, Type::AccessToken, &String::from_utf8(bytes).unwrap()) {
                assert_eq!(claims["sub"], "x");
            }
            assert!(claims_of(&verifier, Type::AccessToken, &token[..index]).is_none());
        }
    }
}

#[tokio::test]
async fn the_token_chooses_neither_algorithm_nor_type_nor_a_key_of_its_own() {
    let signer = Arc::new(made_for_tests("k", SigningAlg::Rs256));
    let verifier = Verifier::new(SigningAlg::Rs256, signer.public()).unwrap();
    let token = signed(&signer, Type::AccessToken).await;
    let (_, rest) = token.split_once('.').unwrap();
    for header in [
        json!({"alg": "none", "typ": "at+jwt", "kid": "k"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "k"}),
        json!({"alg": "ES256", "typ": "at+jwt", "kid": "k"}),
        json!({"alg": "RS256", "typ": "JWT", "kid": "k"}),
        json!({"alg": "RS256", "typ": "at+jwt"}),
        json!({"alg": "RS256", "typ": "at+jwt", "kid": "k", "jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}),
    ] {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let forged = format!("{header}.{rest}");
        assert!(claims_of(&verifier, Type::AccessToken, &forged).is_none(), "{forged}");
        let unsigned = format!("{}.", forged.rsplit_once('.').unwrap().0);
        assert!(
            claims_of(&verifier, Type::AccessToken, &unsigned).is_none(),
            "{unsigned}"
        );
    }
}
