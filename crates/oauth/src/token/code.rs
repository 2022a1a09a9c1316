//! `grant_type=authorization_code`.

use rand_core::RngCore;

use super::{Asking, Making, Outcome, Writes, narrowed_resources, still_allowed};
use crate::{
    caller::Caller,
    client::{Client, GrantType},
    error::{ErrorCode, OAuthError},
    grant::{Code, Grant, GrantId, NodeTag, Rotation, draw_handle},
    params::Params,
    secret::SecretHash,
    token::refresh::RefreshToken,
};

/// The hash under which the store has the code of a request.
///
/// # Errors
/// `invalid_request` when there is none or more than one.
pub fn presented(params: &Params) -> Result<SecretHash, OAuthError> {
    params.required("code").map(SecretHash::of)
}

/// Redeems `code`; `issued` is the grant that a spent code gave.
///
/// Failed authentication, another client's code and a node that may not redeem leave the code alone; once the right
/// client presents it, it is spent, also when the verifier or redirect URI is wrong.
pub fn redeem(asking: &Asking<'_>, code: Option<Code>, issued: Option<Grant>, rng: &mut dyn RngCore) -> Outcome {
    let Asking {
        client, caller, now, ..
    } = *asking;
    if !client.grant_types.contains(&GrantType::AuthorizationCode) {
        return Outcome::refused(
            ErrorCode::UnauthorizedClient,
            "grant_type authorization_code is not among those that this client registered",
        );
    }
    let wrong = "the code is wrong, expired or was redeemed already";
    let Some(code) = code else {
        return Outcome::refused(ErrorCode::InvalidGrant, wrong);
    };
    if code.authorization.client != client.id {
        return suspicious("the code was issued to another client", Writes::default());
    }
    if !may_redeem(client, caller, &code) {
        return suspicious(
            "the code may be redeemed only by a node of the user who consented, or by the node that registered the client",
            Writes::default(),
        );
    }
    if code.spent {
        let revoked = issued.map(|grant| Box::new(Grant { revoked: true, ..grant }));
        return suspicious(
            wrong,
            Writes {
                code: None,
                grant: revoked,
            },
        );
    }
    if now >= code.expires_at {
        return Outcome::refused(ErrorCode::InvalidGrant, wrong);
    }
    match issue(asking, &code, rng) {
        Ok((grant, tokens)) => Outcome::Issued {
            writes: Writes {
                code: Some(Box::new(Code {
                    spent: true,
                    grant: Some(grant.id.clone()),
                    ..code
                })),
                grant: Some(Box::new(grant)),
            },
            tokens: Box::new(tokens),
        },
        Err(error) => Outcome::Refused {
            error,
            writes: Writes {
                code: Some(Box::new(Code { spent: true, ..code })),
                grant: None,
            },
            suspicious: false,
        },
    }
}

/// Which nodes may redeem: for a confidential client any, since it authenticated; for a public one those of the user
/// who consented, and the one that registered it.
fn may_redeem(client: &Client, caller: &Caller, code: &Code) -> bool {
    client.auth_method.is_confidential()
        || caller.owner() == code.authorization.subject.owner
        || caller.node_id == client.registrant.node_id
}

fn suspicious(description: &str, writes: Writes) -> Outcome {
    Outcome::Refused {
        error: OAuthError::new(ErrorCode::InvalidGrant, description),
        writes,
        suspicious: true,
    }
}

fn issue(asking: &Asking<'_>, code: &Code, rng: &mut dyn RngCore) -> Result<(Grant, super::Tokens), OAuthError> {
    let Asking {
        params,
        client,
        caller,
        live,
        registrant,
        rules,
        now,
    } = *asking;
    let invalid = |why: &str| OAuthError::new(ErrorCode::InvalidGrant, why);
    if !code.challenge.accepts(params.required("code_verifier")?) {
        return Err(invalid(
            "code_verifier does not belong to the code_challenge of the authorization request",
        ));
    }
    // OAuth 2.1 drops the parameter; OAuth 2.0 clients send it, and then it must be the same.
    if params.one("redirect_uri")?.is_some_and(|uri| uri != code.redirect_uri) {
        return Err(invalid(
            "redirect_uri differs from the one of the authorization request",
        ));
    }
    let authorization = &code.authorization;
    let resources = narrowed_resources(params, &authorization.resources)?;
    let scopes = still_allowed(authorization, live, client, registrant, &rules.authorize, now)?;
    let live = live.ok_or_else(|| invalid("the user or node that consented is no longer in the tailnet"))?;
    let (tag, handle) = (NodeTag::of(&authorization.subject.node_id), draw_handle(rng));
    let token = client
        .grant_types
        .contains(&GrantType::RefreshToken)
        .then(|| RefreshToken::draw(tag, handle, rng));
    let grant = Grant {
        id: GrantId::of(tag, &handle),
        authorization: authorization.clone(),
        node_id: caller.node_id.clone(),
        issued_at: now,
        expires_at: now
            + if token.is_some() {
                rules.grant_lifetime
            } else {
                rules.access_lifetime
            },
        revoked: false,
        refresh: token.as_ref().map(|token| Rotation {
            current: token.hash(),
            spent: Vec::new(),
        }),
    };
    let making = Making {
        authorization,
        grant: &grant.id,
        scopes,
        resources: &resources,
        live,
        asking,
    };
    let tokens = making.tokens(token.map(|token| token.to_text()), rng);
    Ok((grant, tokens))
}
