//! What an access token of ours is still good for: userinfo (OpenID Connect Core 5.3), introspection (RFC 7662)
//! and revocation (RFC 7009).
//!
//! The server has verified the signature, or found the record of an opaque one; everything the token rests on is asked again here.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{
    access::allowed_scopes,
    caller::Caller,
    claims::{self, Place},
    client::{Client, ClientId},
    error::{ErrorCode, OAuthError},
    grant::{Grant, GrantId},
    opaque::OpaqueToken,
    resource::Resource,
    token::{Rules, still_allowed},
};

/// The claims of an access token that is ours.
#[derive(Debug, Clone, Deserialize)]
pub struct AccessToken {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    jti: String,
    scope: String,
    client_id: String,
    gid: Option<GrantId>,
    cnf: Option<Value>,
}

/// One audience or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }

    fn to_value(&self) -> Value {
        match self {
            Self::One(one) => Value::from(one.as_str()),
            Self::Several(several) => Value::from(several.clone()),
        }
    }
}

impl AccessToken {
    /// Reads the claims of a token of ours.
    ///
    /// # Errors
    /// `invalid_token` when they are not those of an access token.
    pub fn read(claims: &[u8]) -> Result<Self, OAuthError> {
        serde_json::from_slice(claims).map_err(|_| invalid())
    }

    /// The claims that an opaque token stands for.
    ///
    /// # Errors
    /// `invalid_token` when they are not those of an access token.
    pub fn of_opaque(token: &OpaqueToken) -> Result<Self, OAuthError> {
        serde_json::from_value(Value::Object(token.claims.clone())).map_err(|_| invalid())
    }

    /// The grant it rests on; none for a machine's.
    pub fn grant(&self) -> Option<&GrantId> {
        self.gid.as_ref()
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        now.unix_timestamp() >= self.exp
    }

    fn scopes(&self) -> Vec<String> {
        let scopes = self.scope.split(' ').filter(|scope| !scope.is_empty());
        scopes.map(str::to_owned).collect()
    }

    /// Whether each of its scopes is among these. One that was withdrawn cannot be taken out of a token, so it ends it.
    fn needs_only(&self, allowed: &[String]) -> bool {
        self.scopes().iter().all(|scope| allowed.contains(scope))
    }

    /// The client it was issued to.
    pub fn client(&self) -> ClientId {
        ClientId::from_request(&self.client_id)
    }
}

fn invalid() -> OAuthError {
    OAuthError::new(
        ErrorCode::InvalidToken,
        "the access token is malformed, expired, revoked or not meant for this",
    )
}

/// Everything that a token rests on, read now.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The grant that it names.
    pub grant: Option<&'a Grant>,
    /// What the netmap says about the subject's node, or about the registrant's for a machine.
    pub live: Option<&'a Caller>,
    /// What the netmap says about the node that registered the client; only needed when the client is not the
    /// subject's own.
    pub registrant: Option<&'a Caller>,
    /// Its client, as long as it is registered.
    pub client: Option<&'a Client>,
}

/// Whether the token is good now, for whatever it is meant for.
fn is_good(token: &AccessToken, standing: &Standing<'_>, rules: &Rules, now: OffsetDateTime) -> bool {
    let Some(client) = standing.client else { return false };
    if token.iss != rules.authorize.issuer || token.has_expired(now) {
        return false;
    }
    match (&token.gid, standing.grant) {
        (None, _) => standing
            .live
            .is_some_and(|live| machine_is_good(token, client, live, rules, now)),
        (Some(id), Some(grant)) => {
            grant.id == *id
                && grant.is_live(now)
                && grant.is_carried_by(client)
                && still_allowed(
                    &grant.authorization,
                    standing.live,
                    client,
                    standing.registrant,
                    &rules.authorize,
                    now,
                )
                .is_ok_and(|allowed| token.needs_only(&allowed))
        }
        (Some(_), None) => false,
    }
}

/// Whether a machine's owner may still have every resource and scope of its token.
fn machine_is_good(token: &AccessToken, client: &Client, live: &Caller, rules: &Rules, now: OffsetDateTime) -> bool {
    let others = token.aud.iter().filter(|audience| *audience != rules.authorize.issuer);
    let Ok(resources) = others.map(Resource::parse).collect::<Result<Vec<_>, _>>() else {
        return false;
    };
    live.owner() == client.owner
        && live.vouched(&rules.authorize.identity).is_ok()
        && allowed_scopes(&token.scopes(), &resources, &client.id, live, &rules.authorize, now)
            .is_ok_and(|allowed| token.needs_only(&allowed))
}

/// The claims of userinfo, for a token whose audience is this server.
///
/// # Errors
/// `invalid_token` for any other token, without saying why.
pub fn userinfo(
    token: &AccessToken,
    standing: &Standing<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Map<String, Value>, OAuthError> {
    let for_us = token.aud.iter().any(|audience| audience == rules.authorize.issuer);
    let live = standing
        .live
        .filter(|_| for_us && token.gid.is_some() && is_good(token, standing, rules, now));
    let (live, client) = live.zip(standing.client).ok_or_else(invalid)?;
    let scopes: Vec<String> = token.scope.split(' ').map(str::to_owned).collect();
    let mut claims = claims::about(live, &scopes, client, &rules.claims, Place::Userinfo);
    claims.insert("sub".into(), Value::from(token.sub.as_str()));
    Ok(claims)
}

/// Who introspects.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The node on this connection.
    pub caller: &'a Caller,
    /// The confidential client as which it authenticated, if it did.
    pub client: Option<&'a Client>,
}

/// The answer to an introspection: whether the token is good, told only to a server it is meant for, that is a node
/// whose own name is the host of a resource in `aud`, and to those to whom a rule with `introspect` gives the resource.
pub fn introspect(
    token: Option<&AccessToken>,
    standing: &Standing<'_>,
    asker: &Asker<'_>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Value {
    let told = token.filter(|token| asker.may_look_into(token, rules, now) && is_good(token, standing, rules, now));
    let Some(token) = told else {
        return json!({ "active": false });
    };
    let mut answer = json!({
        "active": true, "iss": token.iss, "sub": token.sub, "aud": token.aud.to_value(), "exp": token.exp,
        "iat": token.iat, "jti": token.jti, "scope": token.scope, "client_id": token.client_id, "token_type": "Bearer",
    });
    let user = standing.live.filter(|_| token.gid.is_some());
    if let (Some(user), Some(fields)) = (user, answer.as_object_mut()) {
        fields.insert("username".into(), Value::from(user.user_label()));
    }
    if let (Some(cnf), Some(fields)) = (&token.cnf, answer.as_object_mut()) {
        fields.insert("cnf".into(), cnf.clone());
    }
    answer
}

impl Asker<'_> {
    fn may_look_into(&self, token: &AccessToken, rules: &Rules, now: OffsetDateTime) -> bool {
        let Self { caller, client } = *self;
        if caller.vouched(&rules.authorize.identity).is_err() {
            return false;
        }
        let names = caller.names();
        if caller.policy.not_denied_outright(&names, now).is_err() {
            return false;
        }
        let client = client.filter(|client| client.auth_method.is_confidential());
        let client = client.map(|client| &client.id);
        let mut resources = token.aud.iter().filter_map(|audience| Resource::parse(audience).ok());
        resources.any(|resource| {
            let host = resource.host();
            host.is_some_and(|host| host.eq_ignore_ascii_case(&caller.node_name))
                || caller.policy.may_introspect(&names, client, &resource, now).is_ok()
        })
    }
}
