//! Compact JWS (RFC 7515): tokens that we sign, and our own tokens when they come back.
//!
//! The key is parsed once; a general JWT library parses it for each token.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// What a token is, so that none is taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// RFC 9068.
    AccessToken,
    /// OpenID Connect Core 2.
    IdToken,
}

impl Type {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::IdToken => "JWT",
        }
    }
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("a token could not be signed")]
pub(crate) struct SignError;

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

const ES256: &str = "ES256";

/// An ES256 key and its name.
pub(crate) struct Signer {
    pub(crate) kid: String,
    pub(crate) pair: EcdsaKeyPair,
}

impl Signer {
    /// Signs `claims` as a token of type `typ`.
    pub(crate) fn sign(&self, typ: Type, claims: &impl Serialize) -> Result<String, SignError> {
        let header = Header {
            alg: ES256,
            typ: typ.as_str(),
            kid: &self.kid,
        };
        let mut token = String::with_capacity(1024);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&header).map_err(|_| SignError)?, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(|_| SignError)?, &mut token);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), token.as_bytes())
            .map_err(|_| SignError)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of `token`, if this key signed it as a token of type `typ`.
    pub(crate) fn verify(&self, typ: Type, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        // RFC 8725 3.1, 3.11: the algorithm and type are ours to choose, not the token's.
        if header.alg != ES256 || header.typ != typ.as_str() || header.kid != self.kid {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        URL_SAFE_NO_PAD.decode(claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    use serde_json::json;

    use super::*;

    fn signer() -> Signer {
        Signer {
            kid: "k".into(),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    #[test]
    fn a_token_verifies_as_what_it_is_and_as_nothing_else() {
        let signer = signer();
        let token = signer.sign(Type::AccessToken, &json!({"sub": "x"})).unwrap();
        assert_eq!(signer.verify(Type::AccessToken, &token).unwrap(), br#"{"sub":"x"}"#);
        assert!(signer.verify(Type::IdToken, &token).is_none());
        let other = Signer {
            kid: "k".into(),
            ..super::tests::signer()
        };
        assert!(other.verify(Type::AccessToken, &token).is_none());
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            // The last character of a part may carry bits that decode to nothing: then the token is the same.
            if let Ok(changed) = String::from_utf8(bytes)
                && let Some(claims) = signer.verify(Type::AccessToken, &changed)
            {
                assert_eq!(claims, br#"{"sub":"x"}"#);
            }
        }
        for cut in 0..token.len() {
            assert!(signer.verify(Type::AccessToken, &token[..cut]).is_none());
        }
    }

    #[test]
    fn jsonwebtoken_accepts_what_we_sign() {
        let signer = signer();
        let token = signer
            .sign(
                Type::IdToken,
                &json!({"sub": "x", "aud": "c", "exp": 4_000_000_000_u64}),
            )
            .unwrap();
        let point = signer.pair.public_key().as_ref();
        let (x, y) = (
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..]),
        );
        let key = jsonwebtoken::DecodingKey::from_ec_components(&x, &y).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_audience(&["c"]);
        let decoded = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap();
        assert_eq!(decoded.claims["sub"], "x");
    }
}
