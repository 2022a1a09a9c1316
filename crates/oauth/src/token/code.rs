//! `grant_type=authorization_code`.
//!
//! A redeemed code is deleted with the write that makes its grant, which is named after it: where the code is missing the
//! grant tells that it was redeemed, and the hash that it keeps whether the whole of it is presented again.

use rand_core::RngCore;

use super::{Asking, CodeEnd, Making, Outcome, Writes, believed, may_hold, narrowed_resources, still_allowed};
use crate::{
    client::GrantType,
    error::{ErrorCode, OAuthError},
    grant::{Authorization, Code, CodeId, Grant, GrantId, Rotation},
    params::Params,
    publish,
    secret::SecretHash,
    server_secret::ServerSecret,
    token::refresh::RefreshToken,
};

/// A code as a client presents it.
#[derive(Debug)]
pub struct Presented {
    id: CodeId,
    hash: SecretHash,
}

impl Presented {
    /// The code of a request.
    ///
    /// # Errors
    /// `invalid_request` when there is none or more than one, `invalid_grant` when none of ours looks like that.
    pub fn read(params: &Params) -> Result<Self, OAuthError> {
        let text = params.required("code")?;
        let id = CodeId::of_code(text).ok_or_else(wrong)?;
        let hash = SecretHash::of(text);
        Ok(Self { id, hash })
    }

    /// Its name.
    pub const fn id(&self) -> &CodeId {
        &self.id
    }
}

/// Redeems the presented code: `code` is what the store has under its name, `issued` the grant that came of it
/// ([`ServerSecret::grant_of`]) where there is no such code any more.
///
/// Failed authentication, another client's code and a node that may not redeem leave the code alone; once the right
/// client presents it, it ends, also when the verifier or redirect URI is wrong.
pub fn redeem(
    asking: &Asking<'_>,
    presented: &Presented,
    code: Option<Code>,
    issued: Option<Grant>,
    secret: &ServerSecret,
    rng: &mut dyn RngCore,
) -> Outcome {
    if !asking.client.grant_types.contains(&GrantType::AuthorizationCode) {
        return Outcome::refused(
            ErrorCode::UnauthorizedClient,
            "grant_type authorization_code is not among those that this client registered",
        );
    }
    let Some(code) = code.filter(|code| code.hash == presented.hash) else {
        return match issued.filter(|grant| grant.code == presented.hash) {
            Some(grant) => redeemed_before(asking, grant),
            None => wrong().into(),
        };
    };
    if let Err(error) = may_redeem(asking, &code.authorization) {
        return suspicious(error, Writes::default());
    }
    if code.spent {
        return suspicious(wrong(), Writes::default());
    }
    if asking.now >= code.expires_at {
        return wrong().into();
    }
    match issue(asking, &code, secret, rng) {
        Ok((grant, tokens)) => Outcome::Issued {
            writes: Writes {
                code: Some(CodeEnd::Redeemed(Box::new(code))),
                grant: Some(Box::new(grant)),
            },
            tokens: Box::new(tokens),
        },
        // Nothing was decided about it.
        Err(error) if error.code() == ErrorCode::TemporarilyUnavailable => error.into(),
        Err(error) => Outcome::Refused {
            error,
            writes: Writes {
                code: Some(CodeEnd::Spent(Box::new(Code { spent: true, ..code }))),
                grant: None,
            },
            suspicious: false,
        },
    }
}

/// The code gave `grant` before: who presents it now, or presented it then, may have stolen it.
fn redeemed_before(asking: &Asking<'_>, grant: Grant) -> Outcome {
    match may_redeem(asking, &grant.authorization) {
        Err(error) => suspicious(error, Writes::default()),
        Ok(()) => suspicious(
            wrong(),
            Writes {
                code: None,
                grant: Some(Box::new(Grant { revoked: true, ..grant })),
            },
        ),
    }
}

/// Whether a code is this client's, and may be redeemed from the caller's node.
///
/// # Errors
/// `invalid_grant` when it may not; `temporarily_unavailable` when nobody can say whose node it is.
fn may_redeem(asking: &Asking<'_>, authorization: &Authorization) -> Result<(), OAuthError> {
    let no = |why: &str| Err(OAuthError::new(ErrorCode::InvalidGrant, why));
    if authorization.client != asking.client.id {
        return no("the code was issued to another client");
    }
    believed(asking)?;
    if may_hold(asking, &authorization.subject) {
        return Ok(());
    }
    no(
        "the code may be redeemed only by a node of the user who consented, by the node that registered the client, or by \
         one of the client's redeem_from",
    )
}

fn wrong() -> OAuthError {
    OAuthError::new(
        ErrorCode::InvalidGrant,
        "the code is wrong, expired or was redeemed already",
    )
}

/// A refusal of somebody who presented what was not his. Where it is not known whose it is, nobody is suspected.
fn suspicious(error: OAuthError, writes: Writes) -> Outcome {
    Outcome::Refused {
        suspicious: error.code() != ErrorCode::TemporarilyUnavailable,
        error,
        writes,
    }
}

fn issue(
    asking: &Asking<'_>,
    code: &Code,
    secret: &ServerSecret,
    rng: &mut dyn RngCore,
) -> Result<(Grant, super::Tokens), OAuthError> {
    let Asking {
        params,
        client,
        live,
        registrant,
        rules,
        now,
        ..
    } = *asking;
    fits(params, code)?;
    let authorization = &code.authorization;
    let Authorization {
        subject,
        published_by,
        publication,
        ..
    } = authorization;
    if !publish::carries(client, &subject.owner, published_by.as_ref(), *publication) {
        return Err(invalid("the client is somebody else's and was taken back meanwhile"));
    }
    let resources = narrowed_resources(params, &authorization.resources)?;
    let scopes = still_allowed(authorization, live, client, registrant, &rules.authorize, now)?;
    let live = live.ok_or_else(|| invalid("the user or node that consented is no longer in the tailnet"))?;
    let (tag, handle) = (code.id.tag(), secret.handle(&code.id));
    let token = client
        .grant_types
        .contains(&GrantType::RefreshToken)
        .then(|| RefreshToken::draw(tag, handle, rng));
    let grant = new_grant(asking, code, GrantId::of(tag, &handle), token.as_ref());
    let making = Making {
        grant: &grant,
        scopes,
        resources: &resources,
        nonce: code.nonce.as_deref(),
        live,
        asking,
    };
    let tokens = making.tokens(token.map(|token| token.to_text()), rng);
    Ok((grant, tokens))
}

/// Whether the request goes on from the one that `code` answered.
///
/// # Errors
/// `invalid_grant` when it does not; `invalid_request` when it cannot be told.
fn fits(params: &Params, code: &Code) -> Result<(), OAuthError> {
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
    Ok(())
}

fn invalid(why: &str) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidGrant, why)
}

/// What the code becomes. Without a refresh token it lasts no longer than the access token.
fn new_grant(asking: &Asking<'_>, code: &Code, id: GrantId, token: Option<&RefreshToken>) -> Grant {
    let Asking { caller, rules, now, .. } = *asking;
    Grant {
        id,
        code: code.hash,
        authorization: code.authorization.clone(),
        node_id: caller.node_id.clone(),
        issued_at: now,
        expires_at: now
            + if token.is_some() {
                rules.grant_lifetime
            } else {
                rules.access_lifetime
            },
        revoked: false,
        refresh: token.map(|token| Rotation {
            current: token.hash(),
            spent: Vec::new(),
        }),
    }
}
