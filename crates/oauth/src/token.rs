//! The token endpoint: what every grant type shares.
//!
//! `code` and `refresh` decide; the outcome carries the claims of the tokens, which the server signs. An access token
//! is an `at+jwt` (RFC 9068) whose audience is the resource only, or this server when there is none.

pub mod code;
pub mod machine;
pub mod refresh;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::RngCore;
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::{
    access::allowed_scopes,
    authorize,
    caller::{Caller, IdentityRules},
    claims::{self, Place},
    client::Client,
    error::{ErrorCode, OAuthError},
    grant::{Authorization, Code, Grant},
    opaque::NewAccessToken,
    params::Params,
    publish,
    resource::Resource,
    session::{ACR, AMR},
    subject::Subject,
};

/// What the server's configuration says about tokens.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What authorization asks as well.
    pub authorize: authorize::Rules,
    /// What is said about people.
    pub claims: claims::Rules,
    /// How long an access token or id_token is good.
    pub access_lifetime: Duration,
    /// How long a grant lives whatever happens.
    pub grant_lifetime: Duration,
    /// How long a spent refresh token still gives its successor to the node that rotated it.
    pub refresh_grace: Duration,
}

/// A token request with everything that is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The form.
    pub params: &'a Params,
    /// The client, which has authenticated.
    pub client: &'a Client,
    /// The node on this connection.
    pub caller: &'a Caller,
    /// What the netmap says about the subject's node, or about the registrant's for a machine; `None` when it is gone.
    pub live: Option<&'a Caller>,
    /// What the netmap says about the node that registered the client; only needed when the client is not the
    /// subject's own.
    pub registrant: Option<&'a Caller>,
    /// The configuration.
    pub rules: &'a Rules,
    /// The time of the request.
    pub now: OffsetDateTime,
}

/// Tokens that are about to be signed and handed out.
#[derive(Debug)]
pub struct Tokens {
    /// The access token: claims to sign, or a text and its record.
    pub access: NewAccessToken,
    /// Claims of the id_token but for `at_hash`, when the scope has `openid`.
    pub id: Option<Map<String, Value>>,
    /// The refresh token.
    pub refresh: Option<Zeroizing<String>>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// How long the access token is good.
    pub expires_in: Duration,
}

/// The body of a successful answer (RFC 6749 5.1).
#[derive(Serialize)]
pub struct Response<'a> {
    /// The access token.
    pub access_token: &'a str,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds.
    pub expires_in: i64,
    /// What was granted, always said.
    pub scope: String,
    /// The signed id_token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<&'a str>,
    /// The refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<&'a str>,
}

/// Whether `live`, what the netmap says about the subject's node, still carries the authorization, and the client is
/// still the subject's to use; what it may have of it now. `registrant` is the node that registered the client.
///
/// # Errors
/// `invalid_grant` when the subject is gone, when the client is somebody else's and published no longer, or when policy
/// no longer allows a resource.
pub fn still_allowed(
    authorization: &Authorization,
    live: Option<&Caller>,
    client: &Client,
    registrant: Option<&Caller>,
    rules: &authorize::Rules,
    now: OffsetDateTime,
) -> Result<Vec<String>, OAuthError> {
    let gone = |why: &str| OAuthError::new(ErrorCode::InvalidGrant, why);
    let live = live
        .filter(|live| authorization.subject.still_is(live))
        .ok_or_else(|| gone("the user or node that consented is no longer in the tailnet"))?;
    vouched(live, &rules.identity, ErrorCode::InvalidGrant)?;
    publish::may_use(client, &authorization.subject.owner, registrant, now)
        .map_err(|_| gone("the client is somebody else's and is no longer published"))?;
    allowed_scopes(
        &authorization.scopes,
        &authorization.resources,
        &authorization.client,
        live,
        rules,
        now,
    )
    .map_err(|error| gone(error.description()))
}

/// Whether the netmap's word about `caller` may be relied on.
///
/// # Errors
/// `refused` when it may not; `temporarily_unavailable` when that is not known, because the netmap is too old: a client
/// that is told `invalid_grant` throws away what will be good again.
fn vouched(caller: &Caller, identity: &IdentityRules, refused: ErrorCode) -> Result<(), OAuthError> {
    caller.vouched(identity).map_err(|error| match error.code() {
        ErrorCode::TemporarilyUnavailable => error,
        _ => OAuthError::new(refused, error.description()),
    })
}

/// Whether it is known whose node calls, where that counts: a client that authenticates may do so from any.
///
/// # Errors
/// As [`vouched`].
fn believed(asking: &Asking<'_>) -> Result<(), OAuthError> {
    if asking.client.auth_method.is_confidential() {
        return Ok(());
    }
    let identity = &asking.rules.authorize.identity;
    vouched(asking.caller, identity, ErrorCode::InvalidGrant)
}

/// Whether the caller's node may hold what `subject` granted to the client: any node that can authenticate as the client;
/// of a public one those of the user who consented, the one that registered the client, and those that it lists.
fn may_hold(asking: &Asking<'_>, subject: &Subject) -> bool {
    let Asking { client, caller, .. } = *asking;
    client.auth_method.is_confidential()
        || caller.owner() == subject.owner
        || publish::is_registrant(client, caller)
        || client.options.redeem_from.iter().any(|place| place.is(caller))
}

/// The resources a token request names, each of which was granted; those of the grant when it names none.
fn narrowed_resources(params: &Params, granted: &[Resource]) -> Result<Vec<Resource>, OAuthError> {
    let mut resources = Vec::new();
    for text in params.many("resource") {
        let asked = Resource::parse(text)?;
        let known = granted
            .iter()
            .find(|resource| resource.is(asked.as_str()))
            .ok_or_else(|| {
                OAuthError::new(
                    ErrorCode::InvalidTarget,
                    format!("resource {} was not part of the authorization", asked.as_str()),
                )
            })?;
        if !resources.contains(known) {
            resources.push(known.clone());
        }
    }
    Ok(if resources.is_empty() {
        granted.to_vec()
    } else {
        resources
    })
}

/// What one set of tokens is made of.
struct Making<'a> {
    grant: &'a Grant,
    scopes: Vec<String>,
    resources: &'a [Resource],
    /// Of the code, where one is redeemed.
    nonce: Option<&'a str>,
    live: &'a Caller,
    asking: &'a Asking<'a>,
}

impl Making<'_> {
    fn tokens(self, refresh: Option<Zeroizing<String>>, rng: &mut dyn RngCore) -> Tokens {
        let Asking { rules, now, caller, .. } = *self.asking;
        let authorization = &self.grant.authorization;
        // Nothing of a grant is good when that has ended.
        let ends = (now + rules.access_lifetime).min(self.grant.expires_at);
        let mut access = access_claims(rules, &authorization.subject, self.resources, &self.scopes, now, rng);
        access.insert("client_id".into(), Value::from(authorization.client.as_str()));
        access.insert("gid".into(), Value::from(self.grant.id.as_str()));
        access.insert("exp".into(), Value::from(ends.unix_timestamp()));
        access.insert(
            "auth_time".into(),
            Value::from(authorization.auth_time.unix_timestamp()),
        );
        access.insert("cnf".into(), json!({ "tailnet_node": caller.node_id }));
        let id = self
            .scopes
            .iter()
            .any(|scope| scope == "openid")
            .then(|| self.id_claims(rules, now, ends));
        Tokens {
            access: NewAccessToken::of(access, self.asking.client, ends, rng),
            id,
            refresh,
            expires_in: ends - now,
            scopes: self.scopes,
        }
    }

    fn id_claims(&self, rules: &Rules, now: OffsetDateTime, ends: OffsetDateTime) -> Map<String, Value> {
        let mut id = claims::about(
            self.live,
            &self.scopes,
            self.asking.client,
            &rules.claims,
            Place::IdToken,
        );
        let authorization = &self.grant.authorization;
        id.insert("iss".into(), Value::from(rules.authorize.issuer.as_str()));
        id.insert("sub".into(), Value::from(authorization.subject.sub()));
        id.insert("aud".into(), Value::from(authorization.client.as_str()));
        id.insert("iat".into(), Value::from(now.unix_timestamp()));
        id.insert("exp".into(), Value::from(ends.unix_timestamp()));
        id.insert(
            "auth_time".into(),
            Value::from(authorization.auth_time.unix_timestamp()),
        );
        id.insert("acr".into(), Value::from(ACR));
        id.insert("amr".into(), json!(AMR));
        if let Some(nonce) = self.nonce {
            id.insert("nonce".into(), Value::from(nonce));
        }
        id
    }
}

fn access_claims(
    rules: &Rules,
    subject: &Subject,
    resources: &[Resource],
    scopes: &[String],
    now: OffsetDateTime,
    rng: &mut dyn RngCore,
) -> Map<String, Value> {
    let issuer = rules.authorize.issuer.as_str();
    let audience = match resources {
        [] => Value::from(issuer),
        named => Resource::audience(named),
    };
    let mut jti = [0; 16];
    rng.fill_bytes(&mut jti);
    let mut claims = Map::new();
    claims.insert("iss".into(), Value::from(issuer));
    claims.insert("sub".into(), Value::from(subject.sub()));
    claims.insert("aud".into(), audience);
    claims.insert("iat".into(), Value::from(now.unix_timestamp()));
    claims.insert(
        "exp".into(),
        Value::from((now + rules.access_lifetime).unix_timestamp()),
    );
    claims.insert("jti".into(), Value::from(URL_SAFE_NO_PAD.encode(jti)));
    claims.insert("scope".into(), Value::from(scopes.join(" ")));
    claims
}

/// What comes of a token request.
#[derive(Debug)]
pub enum Outcome {
    /// Tokens, once what changed is stored.
    Issued {
        /// What is written.
        writes: Writes,
        /// What is signed.
        tokens: Box<Tokens>,
    },
    /// A refusal, which may change things as well: a wrong verifier spends the code.
    Refused {
        /// The error.
        error: OAuthError,
        /// What is written nevertheless.
        writes: Writes,
        /// Whether somebody presented what was not his: an audit record says so.
        suspicious: bool,
    },
}

/// The records that a decision changes.
#[derive(Debug, Default)]
pub struct Writes {
    /// What becomes of the code.
    pub code: Option<CodeEnd>,
    /// The grant, new, rotated or revoked.
    pub grant: Option<Box<Grant>>,
}

/// How a code ends.
#[derive(Debug)]
pub enum CodeEnd {
    /// It is deleted: the new grant of its name stands for it.
    Redeemed(Box<Code>),
    /// It is stored as spent.
    Spent(Box<Code>),
}

impl Outcome {
    fn refused(code: ErrorCode, description: &str) -> Self {
        Self::from(OAuthError::new(code, description))
    }
}

impl From<OAuthError> for Outcome {
    fn from(error: OAuthError) -> Self {
        Self::Refused {
            error,
            writes: Writes::default(),
            suspicious: false,
        }
    }
}

#[cfg(test)]
mod tests;
