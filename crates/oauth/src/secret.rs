//! Secrets of this server's own making: 256 random bits, shown once, kept as a hash.
//!
//! A slow password hash guards guessable secrets; these cannot be guessed, so one SHA-256 suffices and keeps client
//! authentication cheap.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::RngCore;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret in clear, as its owner receives it: 43 characters of base64url. Wiped from memory when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Characters of the random part.
    pub(crate) const LEN: usize = 43;

    /// Draws 256 bits from `rng`.
    pub fn draw(rng: &mut dyn RngCore) -> Self {
        let mut raw = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *raw);
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(*raw)))
    }

    /// Draws 256 bits from `rng` that follow a text which may be known.
    pub(crate) fn draw_after(public: &str, rng: &mut dyn RngCore) -> Self {
        let secret = Self::draw(rng);
        Self(Zeroizing::new([public, secret.reveal()].concat()))
    }

    /// The text to hand to its owner, and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be stored.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a text that somebody presented.
    pub fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented.as_bytes()).into())
    }

    /// The hash of a secret that is kept as bytes.
    pub fn of_bytes(presented: &[u8]) -> Self {
        Self(Sha256::digest(presented).into())
    }

    /// Whether `presented` is the secret, in time that does not depend on where they differ.
    pub fn verify(&self, presented: &str) -> bool {
        self.0.ct_eq(&Self::of(presented).0).into()
    }

    /// The hash as base64url, for instance as the key of a record.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let raw = raw.try_into().map_err(|_| D::Error::custom("a hash has 32 bytes"))?;
        Ok(Self(raw))
    }
}

#[cfg(test)]
mod tests;
