//! The public keys of a client (RFC 7517), by which its signatures are checked.
//!
//! A set is read once, at registration: what is not a public signing key of a known kind is left out, what would be
//! dangerous refuses the whole set. The mathematics of signatures is the server's; it implements [`Signatures`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a client signs (RFC 7518 3.1, RFC 8037 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssertionAlg {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

impl AssertionAlg {
    /// All of them, in the order in which they are advertised.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Ps256, Self::Rs256];

    /// The name in a JOSE header and in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm with this name; `none` and the symmetric ones are not among them (RFC 8725 3.1).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == name)
    }
}

/// The material of a key, in base64url as it stands in the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Material {
    /// A point on P-256.
    #[serde(rename = "EC")]
    Ec {
        /// Always `P-256`.
        crv: String,
        /// 32 bytes.
        x: String,
        /// 32 bytes.
        y: String,
    },
    /// An Ed25519 key.
    #[serde(rename = "OKP")]
    Okp {
        /// Always `Ed25519`.
        crv: String,
        /// 32 bytes.
        x: String,
    },
    /// An RSA key of 2048 to 8192 bits.
    #[serde(rename = "RSA")]
    Rsa {
        /// Modulus.
        n: String,
        /// Exponent.
        e: String,
    },
}

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The one algorithm it is for, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<AssertionAlg>,
    /// The key.
    #[serde(flatten)]
    pub material: Material,
}

/// The keys of one client; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

/// Checks signatures. Implemented by the server, because cryptography is not for a pure crate.
pub trait Signatures {
    /// Whether `signature` over `message` was made with `alg` by the owner of `key`.
    fn verify(&self, alg: AssertionAlg, key: &Material, message: &[u8], signature: &[u8]) -> bool;
}

/// Why a set of keys is refused. The text follows the word `jwks` in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not an object with an array `keys` of objects.
    #[error("must be a JWK set: an object with an array keys")]
    NotASet,
    /// More keys than any client needs.
    #[error("may hold at most 16 keys")]
    TooMany,
    /// A private or symmetric key was sent.
    #[error("holds a private or symmetric key; send the public half only, and make a new key")]
    Private,
    /// RSA keys of less than 2048 or more than 8192 bits, or with an unusual exponent.
    #[error("holds an RSA key that is not of 2048 to 8192 bits with a usual exponent")]
    Rsa,
    /// A coordinate or modulus that is not what its kind of key has.
    #[error("holds a key whose parts are malformed")]
    Malformed,
    /// Nothing in it is of use.
    #[error("holds no public signing key for ES256, EdDSA, PS256 or RS256")]
    Useless,
}

const MAX_KEYS: usize = 16;
const MAX_KID: usize = 256;

impl Jwks {
    /// Reads a set as it stands in client metadata.
    ///
    /// # Errors
    /// [`JwksError`], which says what the client has to send instead.
    pub fn read(value: &Value) -> Result<Self, JwksError> {
        let keys = value.get("keys").and_then(Value::as_array).ok_or(JwksError::NotASet)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let mut known = Vec::with_capacity(keys.len());
        for key in keys {
            known.extend(jwk(key.as_object().ok_or(JwksError::NotASet)?)?);
        }
        if known.is_empty() {
            return Err(JwksError::Useless);
        }
        Ok(Self { keys: known })
    }

    /// The keys that a header with this algorithm and `kid` may mean: without a `kid`, every one of the right kind.
    pub fn candidates<'a>(&'a self, alg: AssertionAlg, kid: Option<&'a str>) -> impl Iterator<Item = &'a Material> {
        self.keys
            .iter()
            .filter(move |key| key.is_for(alg) && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
            .map(|key| &key.material)
    }

    /// Whether some key can sign with `alg`.
    pub fn supports(&self, alg: AssertionAlg) -> bool {
        self.keys.iter().any(|key| key.is_for(alg))
    }
}

impl Jwk {
    fn is_for(&self, alg: AssertionAlg) -> bool {
        let kind = matches!(
            (&self.material, alg),
            (Material::Ec { .. }, AssertionAlg::Es256)
                | (Material::Okp { .. }, AssertionAlg::EdDsa)
                | (Material::Rsa { .. }, AssertionAlg::Ps256 | AssertionAlg::Rs256)
        );
        kind && self.alg.is_none_or(|only| only == alg)
    }
}

/// One key; `None` for what is of no use to us, which RFC 7517 5 lets us ignore.
fn jwk(fields: &Map<String, Value>) -> Result<Option<Jwk>, JwksError> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    // `d` is the private part of every asymmetric kind, `k` a symmetric key.
    if ["d", "p", "q", "k"].iter().any(|part| fields.contains_key(*part)) {
        return Err(JwksError::Private);
    }
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    let alg = match text("alg").map(AssertionAlg::named) {
        Some(None) => return Ok(None),
        Some(alg) => alg,
        None => None,
    };
    let part = |name: &str| text(name).ok_or(JwksError::Malformed);
    let material = match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => Material::Ec {
            crv: "P-256".into(),
            x: of_32_bytes(part("x")?)?,
            y: of_32_bytes(part("y")?)?,
        },
        (Some("OKP"), Some("Ed25519")) => Material::Okp {
            crv: "Ed25519".into(),
            x: of_32_bytes(part("x")?)?,
        },
        (Some("RSA"), _) => rsa(part("n")?, part("e")?)?,
        _ => return Ok(None),
    };
    let kid = text("kid").map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
        return Err(JwksError::Malformed);
    }
    Ok(Some(Jwk { kid, alg, material }))
}

fn of_32_bytes(text: &str) -> Result<String, JwksError> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        _ => Err(JwksError::Malformed),
    }
}

fn rsa(n: &str, e: &str) -> Result<Material, JwksError> {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| JwksError::Malformed);
    let (modulus, exponent) = (bytes(n)?, bytes(e)?);
    let significant: Vec<u8> = modulus.into_iter().skip_while(|byte| *byte == 0).collect();
    let bits = significant
        .first()
        .map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize);
    // An exponent of 1 would make every text its own signature; long ones only cost time.
    let usual = exponent.len() <= 4 && {
        let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        value >= 3 && value % 2 == 1
    };
    if !(2048..=8192).contains(&bits) || !usual {
        return Err(JwksError::Rsa);
    }
    Ok(Material::Rsa {
        n: URL_SAFE_NO_PAD.encode(significant),
        e: e.to_owned(),
    })
}

#[cfg(test)]
mod tests;
