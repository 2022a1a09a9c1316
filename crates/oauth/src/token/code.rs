//! `grant_type=authorization_code`.
//!
//! A redeemed code is deleted with the write that makes its grant, which is named after it: where the code is missing the
//! grant tells that it was redeemed, and the hash that it keeps whether the whole of it is presented again.

use rand_core::RngCore;

use super::{Asking, CodeEnd, Making, Outcome, Writes, narrowed_resources, still_allowed};
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

const WRONG: &str = "the code is wrong, expired or was redeemed already";

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
        let id = CodeId::of_code(text).ok_or_else(|| OAuthError::new(ErrorCode::InvalidGrant, WRONG))?;
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
            None => Outcome::refused(ErrorCode::InvalidGrant, WRONG),
        };
    };
    if let Err(why) = may_redeem(asking, &code.authorization) {
        return suspicious(why, Writes::default());
    }
    if code.spent {
        return suspicious(WRONG, Writes::default());
    }
    if asking.now >= code.expires_at {
        return Outcome::refused(ErrorCode::InvalidGrant, WRONG);
    }
    match issue(asking, &code, secret, rng) {
        Ok((grant, tokens)) => Outcome::Issued {
            writes: Writes {
                code: Some(CodeEnd::Redeemed(Box::new(code))),
                grant: Some(Box::new(grant)),
            },
            tokens: Box::new(tokens),
        },
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
        Err(why) => suspicious(why, Writes::default()),
        Ok(()) => suspicious(
            WRONG,
            Writes {
                code: None,
                grant: Some(Box::new(Grant { revoked: true, ..grant })),
            },
        ),
    }
}

/// Whether a code is this client's, and from which nodes it may be redeemed: for a confidential client any, since it
/// authenticated; for a public one those of the user who consented, and the one that registered it.
fn may_redeem(asking: &Asking<'_>, authorization: &Authorization) -> Result<(), &'static str> {
    let Asking { client, caller, .. } = *asking;
    if authorization.client != client.id {
        return Err("the code was issued to another client");
    }
    let by_node = caller.owner() == authorization.subject.owner || caller.node_id == client.registrant.node_id;
    if client.auth_method.is_confidential() || by_node {
        return Ok(());
    }
    Err("the code may be redeemed only by a node of the user who consented, or by the node that registered the client")
}

fn suspicious(description: &str, writes: Writes) -> Outcome {
    Outcome::Refused {
        error: OAuthError::new(ErrorCode::InvalidGrant, description),
        writes,
        suspicious: true,
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
    let grant = Grant {
        id: GrantId::of(tag, &handle),
        code: code.hash,
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
