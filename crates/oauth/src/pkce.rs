//! Proof Key for Code Exchange (RFC 7636), S256 only, required of every client.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    error::{ErrorCode, OAuthError},
    params::Params,
};

/// The hash to which a code is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Challenge(String);

impl Challenge {
    /// Reads `code_challenge` and `code_challenge_method`.
    ///
    /// # Errors
    /// `invalid_request` when it is missing, not S256 or not a SHA-256 in base64url.
    pub fn read(params: &Params) -> Result<Self, OAuthError> {
        let invalid = |description: &str| OAuthError::new(ErrorCode::InvalidRequest, description);
        let Some(challenge) = params.one("code_challenge")? else {
            return Err(invalid(
                "code_challenge is missing: PKCE with S256 is required of every client",
            ));
        };
        // RFC 7636 4.3 makes `plain` the default, which is not supported.
        if params.one("code_challenge_method")? != Some("S256") {
            return Err(invalid("code_challenge_method must be S256"));
        }
        match URL_SAFE_NO_PAD.decode(challenge) {
            Ok(hash) if hash.len() == 32 => Ok(Self(challenge.to_owned())),
            _ => Err(invalid("code_challenge must be a SHA-256 in base64url, 43 characters")),
        }
    }

    /// Whether `verifier` is the secret behind the challenge.
    pub fn accepts(&self, verifier: &str) -> bool {
        let well_formed = (43..=128).contains(&verifier.len())
            && verifier
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        well_formed && bool::from(hash.as_bytes().ct_eq(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<Challenge, OAuthError> {
        Challenge::read(&Params::parse(form.as_bytes()))
    }

    #[test]
    fn the_example_of_rfc_7636_appendix_b_verifies() {
        let challenge =
            read("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256").unwrap();
        assert!(challenge.accepts("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.accepts("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"));
        assert!(!challenge.accepts(""));
    }

    #[test]
    fn plain_short_and_missing_are_refused() {
        for bad in [
            "",
            "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=plain",
            "code_challenge=abc&code_challenge_method=S256",
        ] {
            assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidRequest, "{bad}");
        }
    }
}
