//! JWTs by which clients authenticate: `private_key_jwt` (RFC 7523 3, OpenID Connect Core 9).
//!
//! [`Assertion::read`] takes hostile text and asks everything that needs no client: form, algorithm, audience, times.
//! [`Assertion::prove`] then asks for the signature of the client that the store has. What comes out is a [`Spent`]
//! record, which goes into the transaction of the request: an assertion works once.
//!
//! The audience is the issuer as one string and nothing else. A token endpoint or a list as audience is what a
//! mix-up attack sends on (`docs/adr/0029-private-key-jwt.md`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::{
    client::ClientId,
    error::{ErrorCode, OAuthError},
    jwks::{AssertionAlg, Jwks, Signatures},
    secret::SecretHash,
};

/// The one value of `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead an assertion may expire.
pub const MAX_LIFETIME: Duration = Duration::minutes(5);
/// How far a client's clock may run ahead of ours.
pub const CLOCK_SKEW: Duration = Duration::seconds(60);
/// How many assertions of one client are remembered at a time; more are refused until some have expired.
pub const MAX_REMEMBERED: u64 = 20_000;

const MAX_LEN: usize = 8 << 10;
const MAX_JTI: usize = 256;

/// A well-formed assertion for this server, in time. Who made it is not known yet.
#[derive(Debug, Clone)]
pub struct Assertion {
    client: ClientId,
    alg: AssertionAlg,
    kid: Option<String>,
    jti: String,
    expires_at: OffsetDateTime,
    /// Header and claims as they were signed.
    signed: String,
    signature: Vec<u8>,
}

/// An assertion that was presented, kept until it has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Whose it was.
    pub client: ClientId,
    /// Hash of its `jti`, whose length and letters are the client's choice.
    pub jti: SecretHash,
    /// When it would be refused anyway.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// Unknown members are ignored, repeated ones refused by serde.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Value,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    jti: String,
}

fn refused(why: impl core::fmt::Display) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidClient, format!("client_assertion {why}"))
}

impl Assertion {
    /// Reads what a request presents to the server with this issuer.
    ///
    /// # Errors
    /// `invalid_client` that names what is wrong: none of it depends on whether the client exists.
    pub fn read(text: &str, issuer: &str, now: OffsetDateTime) -> Result<Self, OAuthError> {
        if text.len() > MAX_LEN {
            return Err(refused("is longer than 8 KiB"));
        }
        let malformed = || refused("is not a signed JWT (three base64url parts with dots between)");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let header: Header = serde_json::from_slice(&decoded(header)?)
            .map_err(|error| refused(format_args!("has a header that cannot be read: {error}")))?;
        let claims: Claims = serde_json::from_slice(&decoded(claims)?)
            .map_err(|error| refused(format_args!("has claims that cannot be read: {error}")))?;
        Ok(Self {
            alg: algorithm(&header)?,
            kid: header.kid,
            expires_at: in_time(&claims, now)?,
            client: addressed(&claims, issuer)?,
            jti: claims.jti,
            signed: signed.to_owned(),
            signature: decoded(signature)?,
        })
    }

    /// The client that it says it is of.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// When it would be refused for its age, rounded up to a whole second.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// What has to be stored, if one of `keys` made the signature and the client registered no other algorithm.
    pub fn prove(&self, keys: &Jwks, only: Option<AssertionAlg>, signatures: &dyn Signatures) -> Option<Spent> {
        if only.is_some_and(|only| only != self.alg) {
            return None;
        }
        keys.candidates(self.alg, self.kid.as_deref())
            .any(|key| signatures.verify(self.alg, key, self.signed.as_bytes(), &self.signature))
            .then(|| Spent {
                client: self.client.clone(),
                jti: SecretHash::of(&self.jti),
                expires_at: self.expires_at,
            })
    }
}

/// RFC 8725 3.1, 3.11: the algorithm is one of ours, and the token is not one that was made for something else.
fn algorithm(header: &Header) -> Result<AssertionAlg, OAuthError> {
    if header.crit.is_some() {
        return Err(refused(
            "has critical header parameters, none of which is understood here",
        ));
    }
    let typ = header.typ.as_deref().unwrap_or("JWT");
    if !["JWT", "client-authentication+jwt"]
        .iter()
        .any(|known| typ.eq_ignore_ascii_case(known))
    {
        return Err(refused("has a typ other than JWT or client-authentication+jwt"));
    }
    AssertionAlg::named(&header.alg).ok_or_else(|| refused("must be signed with ES256, EdDSA, PS256 or RS256"))
}

/// The client that speaks for itself (`iss` = `sub`) to this server alone.
fn addressed(claims: &Claims, issuer: &str) -> Result<ClientId, OAuthError> {
    if claims.iss != claims.sub || claims.sub.is_empty() {
        return Err(refused("must have the client_id as iss and as sub"));
    }
    if claims.aud.as_str() != Some(issuer) {
        return Err(refused(format_args!(
            "must have the issuer {issuer} as aud, as one string; neither an endpoint nor a list is accepted"
        )));
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI {
        return Err(refused("must have a jti of at most 256 characters"));
    }
    Ok(ClientId::from_request(&claims.sub))
}

/// When it expires, if its times are such that it may be used at `now`.
fn in_time(claims: &Claims, now: OffsetDateTime) -> Result<OffsetDateTime, OAuthError> {
    let (seconds, skew) = (now.unix_timestamp() as f64, CLOCK_SKEW.as_seconds_f64());
    if claims.exp <= seconds {
        return Err(refused("has expired"));
    }
    if claims.exp > seconds + MAX_LIFETIME.as_seconds_f64() + skew {
        return Err(refused("must expire within 5 minutes"));
    }
    for (name, time) in [("iat", claims.iat), ("nbf", claims.nbf)] {
        if time.is_some_and(|time| time > seconds + skew) {
            return Err(refused(format_args!("has an {name} more than 60 s in the future")));
        }
    }
    // Whole seconds, rounded up: it must not be forgotten before it is refused for its age.
    Ok(now + Duration::seconds_f64((claims.exp - seconds).ceil()))
}

#[cfg(test)]
mod tests;
