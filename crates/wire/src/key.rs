//! The key pairs of a tailnet and their text forms (Go: `types/key`).
//!
//! A key is 32 raw Curve25519 bytes. Its text form is a prefix that names the kind, then 64 hex digits. Many JSON
//! fields carry an all-zero key where they mean "none"; [`serde` helpers](optional) map that to `None`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The text does not begin with the prefix of this kind of key.
    #[error("a key that begins with {expected:?} was expected")]
    Prefix {
        /// The prefix of the kind that was asked for, colon included.
        expected: &'static str,
    },
    /// What follows the prefix is not 64 hex digits.
    #[error("64 hex digits were expected after {prefix:?}")]
    Digits {
        /// The prefix that was read, colon included.
        prefix: &'static str,
    },
}

fn parse(text: &str, prefix: &'static str) -> Result<[u8; 32], ParseKeyError> {
    let digits = text
        .strip_prefix(prefix)
        .ok_or(ParseKeyError::Prefix { expected: prefix })?;
    let mut raw = [0; 32];
    hex::decode_to_slice(digits, &mut raw).map_err(|_| ParseKeyError::Digits { prefix })?;
    Ok(raw)
}

macro_rules! public_key {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps 32 raw bytes as they stand on the wire.
            pub const fn from_bytes(raw: [u8; 32]) -> Self {
                Self(raw)
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether this is the all-zero value by which JSON says "no key".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }

            /// The same key as the Diffie-Hellman library knows it.
            pub fn to_x25519(&self) -> PublicKey {
                PublicKey::from(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}…", $prefix, hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

macro_rules! private_key {
    ($name:ident, $public:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Zeroized on drop; its `Debug` shows the public half only.
        #[derive(Clone)]
        pub struct $name(StaticSecret);

        impl $name {
            /// What the text form begins with; machine and node keys share it.
            pub const PREFIX: &'static str = "privkey:";

            /// Clamps 32 random bytes into a private key.
            pub fn from_random(raw: [u8; 32]) -> Self {
                Self(StaticSecret::from(clamp(raw)))
            }

            /// Reads the text form `privkey:<64 hex digits>`.
            pub fn from_text(text: &str) -> Result<Self, ParseKeyError> {
                parse(text, Self::PREFIX).map(Self::from_random)
            }

            /// The text form, for the state folder only.
            pub fn to_text(&self) -> Zeroizing<String> {
                Zeroizing::new(format!("{}{}", Self::PREFIX, hex::encode(self.0.as_bytes())))
            }

            /// The public half.
            pub fn public(&self) -> $public {
                $public(PublicKey::from(&self.0).to_bytes())
            }

            /// The secret as the Diffie-Hellman library knows it.
            pub fn to_x25519(&self) -> StaticSecret {
                self.0.clone()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "private half of {:?}", self.public())
            }
        }
    };
}

public_key!(
    MachinePublic,
    "mkey:",
    "Names a device to its control server; Noise static key."
);
public_key!(
    NodePublic,
    "nodekey:",
    "Names a node to its peers; WireGuard static key and DERP client identity."
);
public_key!(
    DiscoPublic,
    "discokey:",
    "Seals disco messages; new at every process start."
);
private_key!(MachinePrivate, MachinePublic, "Private half of a [`MachinePublic`].");
private_key!(NodePrivate, NodePublic, "Private half of a [`NodePublic`].");
private_key!(DiscoPrivate, DiscoPublic, "Private half of a [`DiscoPublic`].");

/// Curve25519 clamping (RFC 7748 section 5): Go clamps at generation, so stored text forms are clamped too.
fn clamp(mut raw: [u8; 32]) -> [u8; 32] {
    raw[0] &= 248;
    raw[31] = (raw[31] & 127) | 64;
    raw
}

/// For `#[serde(with = "key::optional")]`: an absent, null, empty or all-zero key is `None`.
pub mod optional {
    use super::*;

    /// Writes the key's text form, or `null` for `None`: Go takes no empty key, but leaves a field alone for `null`.
    pub fn serialize<K: fmt::Display, S: Serializer>(key: &Option<K>, s: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => s.collect_str(key),
            None => s.serialize_none(),
        }
    }

    /// Reads a key text; zeros, `""` and `null` are `None`.
    pub fn deserialize<'de, K, D>(d: D) -> Result<Option<K>, D::Error>
    where
        K: FromStr<Err = ParseKeyError>,
        D: Deserializer<'de>,
    {
        let text = Option::<std::borrow::Cow<str>>::deserialize(d)?.unwrap_or_default();
        let digits = text.split_once(':').map_or("", |(_, digits)| digits);
        if digits.bytes().all(|b| b == b'0') {
            return Ok(None);
        }
        text.parse().map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
