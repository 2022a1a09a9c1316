//! A signing key as it is stored: with its private half until it stops signing, and its public half afterwards.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::{
    rotation::{Facts, Phase},
    signing::SigningAlg,
};
use countersign_store::Record;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{KeyError, jwk};
use crate::signer::{BadKey, Signer};

/// One key.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) kid: String,
    pub(super) alg: SigningAlg,
    #[serde(with = "time::serde::timestamp")]
    pub(super) created_at: OffsetDateTime,
    pub(super) phase: Phase,
    pub(super) half: Half,
}

/// Base64url. The public half follows from the private one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Half {
    /// PKCS#8.
    Private(#[serde(with = "crate::wiped")] Zeroizing<String>),
    /// As [`crate::signer::Verifier::new`] takes it.
    Public(String),
}

/// A key of format 1, which signed from the moment it was made.
#[derive(Deserialize)]
struct First {
    kid: String,
    alg: SigningAlg,
    #[serde(with = "crate::wiped")]
    pkcs8: Zeroizing<String>,
    #[serde(with = "time::serde::timestamp")]
    created_at: OffsetDateTime,
}

impl Record for Stored {
    const TABLE: &'static str = "signing-key";
    const FORMAT: u16 = 2;

    fn id(&self) -> Vec<u8> {
        self.kid.clone().into_bytes()
    }

    fn upgrade(format: u16, json: &str) -> Result<Self, String> {
        if format != 1 {
            return Err(format!("format {format} is unknown to this version"));
        }
        let first: First = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(Self {
            kid: first.kid,
            alg: first.alg,
            created_at: first.created_at,
            phase: Phase::Signing(first.created_at),
            half: Half::Private(first.pkcs8),
        })
    }
}

impl Stored {
    /// Makes a key, which for RSA takes a tenth of a second of CPU.
    pub(super) fn make(alg: SigningAlg, phase: Phase, now: OffsetDateTime) -> Result<Self, KeyError> {
        let pkcs8 = generate(alg).map_err(|_| KeyError::Made(alg))?;
        let kid = Signer::from_pkcs8("", alg, &pkcs8)
            .and_then(|signer| jwk::thumbprint(alg, signer.public()))
            .map_err(|_| KeyError::Made(alg))?;
        Ok(Self {
            kid,
            alg,
            created_at: now,
            phase,
            half: Half::Private(Zeroizing::new(URL_SAFE_NO_PAD.encode(&*pkcs8))),
        })
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            kid: self.kid.clone(),
            alg: self.alg,
            phase: self.phase,
        }
    }

    /// The private half, parsed, until the key has stopped signing; and the public half.
    pub(super) fn halves(&self) -> Result<(Option<Signer>, Vec<u8>), KeyError> {
        match &self.half {
            Half::Public(text) => Ok((None, URL_SAFE_NO_PAD.decode(text).map_err(|_| self.unusable())?)),
            Half::Private(text) => {
                let pkcs8 = URL_SAFE_NO_PAD.decode(&**text).map(Zeroizing::new);
                let pkcs8 = pkcs8.map_err(|_| self.unusable())?;
                let signer = Signer::from_pkcs8(&self.kid, self.alg, &pkcs8).map_err(|BadKey| self.unusable())?;
                let public = signer.public().to_vec();
                Ok((Some(signer), public))
            }
        }
    }

    /// The same key without its private half, which stopped signing at `now`.
    pub(super) fn retired(self, now: OffsetDateTime) -> Result<Self, KeyError> {
        let (_, public) = self.halves()?;
        Ok(Self {
            phase: Phase::Retired(now),
            half: Half::Public(URL_SAFE_NO_PAD.encode(public)),
            ..self
        })
    }

    pub(super) fn unusable(&self) -> KeyError {
        KeyError::Unusable(self.kid.clone())
    }
}

fn generate(alg: SigningAlg) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let random = SystemRandom::new();
    let pkcs8 = match alg {
        SigningAlg::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?,
        SigningAlg::EdDsa => Ed25519KeyPair::generate_pkcs8(&random)?,
        SigningAlg::Rs256 => {
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?;
            return Ok(Zeroizing::new(der.as_ref().to_vec()));
        }
    };
    Ok(Zeroizing::new(pkcs8.as_ref().to_vec()))
}
