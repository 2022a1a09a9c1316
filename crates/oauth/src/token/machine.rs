//! `grant_type=client_credentials` (RFC 6749 4.4): a confidential client acts for itself.
//!
//! The token's `sub` is the client, never a user. Resources and scopes are what its owner may have, asked of the live
//! netmap; there is no refresh token and no id_token.

use rand_core::RngCore;
use serde_json::{Value, json};

use super::{Asking, Outcome, Tokens, Writes, access_claims, vouched};
use crate::{
    access::allowed_scopes,
    caller::Caller,
    client::GrantType,
    error::{ErrorCode, OAuthError},
    grant::Authorization,
    metadata::SCOPES,
    opaque::NewAccessToken,
    resource::Resource,
    subject::Subject,
};

/// Makes a token for the client that asks.
pub fn issue(asking: &Asking<'_>, rng: &mut dyn RngCore) -> Outcome {
    match tokens(asking, rng) {
        Ok(tokens) => Outcome::Issued {
            writes: Writes::default(),
            tokens: Box::new(tokens),
        },
        Err(error) => error.into(),
    }
}

fn tokens(asking: &Asking<'_>, rng: &mut dyn RngCore) -> Result<Tokens, OAuthError> {
    let Asking {
        params,
        client,
        caller,
        rules,
        now,
        ..
    } = *asking;
    if !client.auth_method.is_confidential() || !client.grant_types.contains(&GrantType::ClientCredentials) {
        return Err(OAuthError::new(
            ErrorCode::UnauthorizedClient,
            "client_credentials is for confidential clients that registered this grant type",
        ));
    }
    let owner = owner(asking)?;
    let resources = Resource::requested(params, client.options.default_resource.as_ref())?;
    let scopes = asked_scopes(asking)?;
    let scopes = allowed_scopes(&scopes, &resources, &client.id, owner, &rules.authorize, now)
        .map_err(|error| OAuthError::new(ErrorCode::InvalidTarget, error.description()))?;
    // Only for its form: the `sub` of a machine is its client.
    let subject = Subject::of(owner);
    let mut access = access_claims(rules, &subject, &resources, &scopes, now, rng);
    access.insert("sub".into(), Value::from(client.id.as_str()));
    access.insert("client_id".into(), Value::from(client.id.as_str()));
    access.insert("cnf".into(), json!({ "tailnet_node": caller.node_id }));
    Ok(Tokens {
        access: NewAccessToken::of(access, client, now + rules.access_lifetime, rng).of_machine(|| Authorization {
            client: client.id.clone(),
            subject,
            scopes: scopes.clone(),
            resources,
            auth_time: now,
            published_by: None,
            publication: None,
        }),
        id: None,
        refresh: None,
        expires_in: rules.access_lifetime,
        scopes,
    })
}

/// The node that registered the client, as long as it is there and its owner's.
fn owner<'a>(asking: &Asking<'a>) -> Result<&'a Caller, OAuthError> {
    let Asking {
        client, live, rules, ..
    } = *asking;
    let owner = live
        .filter(|live| live.node_id == client.registrant.node_id && live.owner() == client.owner)
        .ok_or_else(|| {
            OAuthError::new(
                ErrorCode::UnauthorizedClient,
                "the node that registered this client is no longer in the tailnet",
            )
        })?;
    vouched(owner, &rules.authorize.identity, ErrorCode::UnauthorizedClient)?;
    Ok(owner)
}

/// The scopes of the request that the client registered, without those that tell about a user.
fn asked_scopes(asking: &Asking<'_>) -> Result<Vec<String>, OAuthError> {
    let asked = asking
        .params
        .one("scope")?
        .unwrap_or_default()
        .split(' ')
        .filter(|scope| !scope.is_empty());
    Ok(asked
        .filter(|scope| !SCOPES.contains(scope))
        .filter(|scope| {
            let registered = asking.client.scope.as_ref();
            registered.is_none_or(|registered| registered.iter().any(|had| had == scope))
        })
        .map(str::to_owned)
        .collect())
}
