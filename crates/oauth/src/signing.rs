//! The algorithms with which tokens are signed, and what depends on them.
//!
//! A client chooses one at registration (`id_token_signed_response_alg`); its access tokens are signed likewise, so that
//! whoever needs RS256, which RFC 9068 2.1 asks every server to have, gets it everywhere.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// An asymmetric JWS algorithm. There is no `none` and none with a shared secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 3.4).
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSA PKCS#1 v1.5 with SHA-256 (RFC 7518 3.3).
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519 under the name that clients know (RFC 8037 3.1).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlg {
    /// All of them, the default first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// The name in headers and metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == name)
    }

    /// The claim `at_hash` of an id_token signed with this algorithm (OpenID Connect Core 3.1.3.6): the left half of
    /// the access token's hash, by the hash function of the algorithm. Ed25519's own is SHA-512.
    pub fn at_hash(self, access_token: &str) -> String {
        match self {
            Self::Es256 | Self::Rs256 => URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16]),
            Self::EdDsa => URL_SAFE_NO_PAD.encode(&Sha512::digest(access_token)[..32]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_found_by_its_name_and_nothing_else_is() {
        for alg in SigningAlg::ALL {
            assert_eq!(SigningAlg::named(alg.as_str()), Some(alg));
            assert_eq!(serde_json::to_value(alg).unwrap(), alg.as_str());
        }
        for name in ["none", "HS256", "RS512", "es256", "EDDSA", "Ed25519", ""] {
            assert_eq!(SigningAlg::named(name), None, "{name}");
        }
    }

    #[test]
    fn at_hash_is_half_of_the_algorithms_own_hash() {
        // OpenID Connect Core A.3 hashes this access token.
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(SigningAlg::Rs256.at_hash(token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(SigningAlg::Es256.at_hash(token), "77QmUPtjPfzWtF2AnpK9RQ");
        let long = SigningAlg::EdDsa.at_hash(token);
        assert_eq!(URL_SAFE_NO_PAD.decode(long).unwrap(), Sha512::digest(token)[..32]);
    }
}
