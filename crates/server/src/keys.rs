//! The keys that sign tokens: made at first start, kept in the store, published as a JWK set.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::audit::AuditRecord;
use countersign_store::{CommitError, Record, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::signer::{Signer, Type};

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The library refused to make or read one.
    #[error("the signing key {0} cannot be used; restore the state folder from a backup")]
    Unusable(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A signing key as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    kid: String,
    alg: String,
    #[serde(with = "crate::wiped")]
    pkcs8: Zeroizing<String>,
    #[serde(with = "time::serde::timestamp")]
    created_at: OffsetDateTime,
}

impl Record for Stored {
    const TABLE: &'static str = "signing-key";
    const FORMAT: u32 = 1;

    fn id(&self) -> Vec<u8> {
        self.kid.clone().into_bytes()
    }
}

/// The keys of a running server, parsed once.
pub(crate) struct Keys {
    first: Signer,
    others: Vec<Signer>,
    jwks: String,
}

const ES256: &str = "ES256";

impl Keys {
    /// The stored keys, or a first one.
    pub(crate) async fn open(store: &Store, now: OffsetDateTime) -> Result<Self, KeyError> {
        loop {
            let stored = store.scan::<Stored>(b"", None, 16).await?.records;
            if !stored.is_empty() {
                return Self::parse(&stored);
            }
            let first = make(now)?;
            let mut txn = countersign_store::Txn::new();
            txn.expect_absent::<Stored>(&first.kid);
            txn.put(&first)?;
            txn.audit(&AuditRecord::own("signing_key_made", now).with_detail(first.kid.as_str()))?;
            match store.commit(txn).await {
                Ok(_) => return Self::parse(&[first]),
                Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
    }

    fn parse(stored: &[Stored]) -> Result<Self, KeyError> {
        let mut signers = Vec::with_capacity(stored.len());
        for record in stored {
            let unusable = || KeyError::Unusable(record.kid.clone());
            let pkcs8 = Zeroizing::new(URL_SAFE_NO_PAD.decode(&*record.pkcs8).map_err(|_| unusable())?);
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| unusable())?;
            signers.push(Signer {
                kid: record.kid.clone(),
                pair,
            });
        }
        let published: Vec<_> = signers.iter().filter_map(jwk).collect();
        let mut signers = signers.into_iter();
        Ok(Self {
            first: signers
                .next()
                .ok_or_else(|| KeyError::Unusable("that should be there".into()))?,
            others: signers.collect(),
            jwks: json!({ "keys": published }).to_string(),
        })
    }

    /// The key that signs new tokens.
    pub(crate) const fn signer(&self) -> &Signer {
        &self.first
    }

    /// The claims of an access token that one of our keys signed.
    pub(crate) fn access_claims(&self, token: &str) -> Option<Vec<u8>> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .find_map(|signer| signer.verify(Type::AccessToken, token))
    }

    /// The claims of an id_token that one of our keys signed, also when it has expired.
    pub(crate) fn id_claims(&self, token: &str) -> Option<Vec<u8>> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .find_map(|signer| signer.verify(Type::IdToken, token))
    }

    /// The JWK set (RFC 7517 5) of the public halves.
    pub(crate) fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The algorithms that can be asked for.
    pub(crate) const fn algorithms(&self) -> &'static [&'static str] {
        &[ES256]
    }
}

fn jwk(signer: &Signer) -> Option<serde_json::Value> {
    let (x, y) = coordinates(&signer.pair)?;
    Some(json!({ "kty": "EC", "crv": "P-256", "alg": ES256, "use": "sig", "kid": signer.kid, "x": x, "y": y }))
}

/// The public point, which stands uncompressed: 4, x, y.
fn coordinates(pair: &EcdsaKeyPair) -> Option<(String, String)> {
    let point = pair.public_key().as_ref().strip_prefix(&[4])?;
    let (x, y) = point.split_at_checked(32)?;
    Some((URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)))
}

fn make(now: OffsetDateTime) -> Result<Stored, KeyError> {
    let unusable = || KeyError::Unusable("just made".into());
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(|_| unusable())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).map_err(|_| unusable())?;
    let (x, y) = coordinates(&pair).ok_or_else(unusable)?;
    // RFC 7638: the required members in the order of their names, without spaces.
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Ok(Stored {
        kid: URL_SAFE_NO_PAD.encode(Sha256::digest(thumbprint)),
        alg: ES256.into(),
        pkcs8: Zeroizing::new(URL_SAFE_NO_PAD.encode(pkcs8.as_ref())),
        created_at: now,
    })
}
