//! Compact JWS (RFC 7515): tokens that we sign, and our own tokens when they come back.
//!
//! Keys are parsed once; a general JWT library parses them for each token. A signature by ECDSA or Ed25519 costs less
//! than handing it to another thread; one by RSA costs as much as answering ten requests, so it is made on a thread
//! where no packet waits for it.

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::signing::SigningAlg;
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
#[error("a token could not be signed: {0}")]
pub(crate) struct SignError(pub(crate) &'static str);

/// The library refuses the key.
#[derive(Debug)]
pub(crate) struct BadKey;

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// A private key and its name.
pub(crate) struct Signer {
    kid: String,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// Parses a private key.
    pub(crate) fn from_pkcs8(kid: &str, alg: SigningAlg, pkcs8: &[u8]) -> Result<Self, BadKey> {
        let pair = match alg {
            SigningAlg::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::Ecdsa),
            SigningAlg::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
            SigningAlg::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
        };
        Ok(Self {
            kid: kid.to_owned(),
            pair: pair.map_err(|_| BadKey)?,
        })
    }

    /// What it signs with.
    pub(crate) const fn alg(&self) -> SigningAlg {
        match self.pair {
            Pair::Ecdsa(_) => SigningAlg::Es256,
            Pair::Rsa(_) => SigningAlg::Rs256,
            Pair::Ed25519(_) => SigningAlg::EdDsa,
        }
    }

    /// The public half in the form that [`Verifier::new`] takes.
    pub(crate) fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// Signs `claims` as a token of type `typ`, on another thread when that takes long.
    ///
    /// # Errors
    /// [`SignError`] when the claims have no JSON form, or the runtime shuts down.
    pub(crate) async fn sign(self: &Arc<Self>, typ: Type, claims: &impl Serialize) -> Result<String, SignError> {
        let token = self.unsigned(typ, claims)?;
        if !matches!(self.pair, Pair::Rsa(_)) {
            return self.signed(token);
        }
        let signer = Arc::clone(self);
        tokio::task::spawn_blocking(move || signer.signed(token))
            .await
            .map_err(|_| SignError("the signing thread has ended"))?
    }

    fn unsigned(&self, typ: Type, claims: &impl Serialize) -> Result<String, SignError> {
        let header = Header {
            alg: self.alg().as_str(),
            typ: typ.as_str(),
            kid: &self.kid,
        };
        let no_json = |_| SignError("it has no JSON form");
        let mut token = String::with_capacity(1024);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&header).map_err(no_json)?, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(no_json)?, &mut token);
        Ok(token)
    }

    fn signed(&self, mut token: String) -> Result<String, SignError> {
        let failed = |_| SignError("the key refuses");
        let random = SystemRandom::new();
        let end = token.len();
        token.push('.');
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, &token.as_bytes()[..end]).map_err(failed)?;
                URL_SAFE_NO_PAD.encode_string(signature, &mut token);
            }
            Pair::Ed25519(pair) => {
                let signature = pair.try_sign(&token.as_bytes()[..end]).map_err(failed)?;
                URL_SAFE_NO_PAD.encode_string(signature, &mut token);
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, &token.as_bytes()[..end], &mut signature)
                    .map_err(failed)?;
                URL_SAFE_NO_PAD.encode_string(signature, &mut token);
            }
        }
        Ok(token)
    }
}

/// The public half of a key.
pub(crate) struct Verifier {
    alg: SigningAlg,
    key: ParsedPublicKey,
}

impl Verifier {
    /// Parses a public key: an uncompressed point, the DER of an `RSAPublicKey`, or the 32 bytes of Ed25519.
    pub(crate) fn new(alg: SigningAlg, public: &[u8]) -> Result<Self, BadKey> {
        let algorithm: &'static dyn VerificationAlgorithm = match alg {
            SigningAlg::Es256 => &ECDSA_P256_SHA256_FIXED,
            SigningAlg::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            SigningAlg::EdDsa => &ED25519,
        };
        let key = ParsedPublicKey::new(algorithm, public).map_err(|_| BadKey)?;
        Ok(Self { alg, key })
    }
}

/// The claims of `token`, if a key that `find` has for its kid signed it as a token of type `typ`.
///
/// The token chooses only among the keys that `find` offers; algorithm and type are ours to choose (RFC 8725 3.1, 3.11).
pub(crate) fn verify<'a>(typ: Type, token: &str, find: impl FnOnce(&str) -> Option<&'a Verifier>) -> Option<Vec<u8>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: Header<'_> = serde_json::from_slice(&header).ok()?;
    let verifier = find(header.kid)?;
    if header.alg != verifier.alg.as_str() || header.typ != typ.as_str() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    verifier.key.verify_sig(signed.as_bytes(), &signature).ok()?;
    URL_SAFE_NO_PAD.decode(claims).ok()
}

#[cfg(test)]
mod tests;
