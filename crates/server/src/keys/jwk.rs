//! Public keys as JWK (RFC 7517), and the names that follow from them (RFC 7638).

use aws_lc_rs::rsa;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::signing::SigningAlg;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::signer::BadKey;

/// The members that make the key, those of its kind, in base64url.
enum Members {
    /// RFC 7518 6.2.1.
    P256 { x: String, y: String },
    /// RFC 7518 6.3.1.
    Rsa { n: String, e: String },
    /// RFC 8037 2.
    Ed25519 { x: String },
}

impl Members {
    /// Takes a public key in the form of [`crate::signer::Verifier::new`] apart.
    fn of(alg: SigningAlg, public: &[u8]) -> Result<Self, BadKey> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match alg {
            SigningAlg::Es256 => {
                // An uncompressed point: 4, x, y.
                let point = public.strip_prefix(&[4]).filter(|point| point.len() == 64);
                let (x, y) = point.ok_or(BadKey)?.split_at(32);
                Ok(Self::P256 { x: text(x), y: text(y) })
            }
            SigningAlg::Rs256 => {
                let key = rsa::PublicKey::from_der(public).map_err(|_| BadKey)?;
                Ok(Self::Rsa {
                    n: text(key.modulus().big_endian_without_leading_zero()),
                    e: text(key.exponent().big_endian_without_leading_zero()),
                })
            }
            SigningAlg::EdDsa => Ok(Self::Ed25519 { x: text(public) }),
        }
    }
}

/// The key as it is published.
pub(super) fn jwk(kid: &str, alg: SigningAlg, public: &[u8]) -> Result<Value, BadKey> {
    let mut jwk = match Members::of(alg, public)? {
        Members::P256 { x, y } => json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }),
        Members::Rsa { n, e } => json!({ "kty": "RSA", "n": n, "e": e }),
        Members::Ed25519 { x } => json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
    };
    jwk["alg"] = Value::from(alg.as_str());
    jwk["use"] = Value::from("sig");
    jwk["kid"] = Value::from(kid);
    Ok(jwk)
}

/// The thumbprint by which a key is named: a hash of the members that make it, in the order of their names.
pub(super) fn thumbprint(alg: SigningAlg, public: &[u8]) -> Result<String, BadKey> {
    let members = match Members::of(alg, public)? {
        Members::P256 { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
        Members::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        Members::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
    };
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(members)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_of_rfc_8037_is_found() {
        let x = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        assert_eq!(
            thumbprint(SigningAlg::EdDsa, &x).unwrap(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        assert!(thumbprint(SigningAlg::Es256, &[4; 64]).is_err());
        assert!(thumbprint(SigningAlg::Rs256, &[4; 65]).is_err());
    }
}
