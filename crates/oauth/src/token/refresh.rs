//! `grant_type=refresh_token`: rotation with a grace window.
//!
//! A client that runs as several processes on one node presents the same token several times. Within the window the
//! node that rotated gets the same successor again; a spent token from elsewhere, or later, is a thief's or the
//! victim's of one, and ends the whole grant.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::RngCore;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Asking, Making, Outcome, Rules, Writes, believed, may_hold, narrowed_resources, still_allowed};
use crate::{
    client::GrantType,
    error::{ErrorCode, OAuthError},
    grant::{Grant, GrantId, NodeTag, Rotation, Sealed, Spent},
    params::Params,
    secret::SecretHash,
};

/// How many spent tokens of one grant are remembered within the window; beyond that none is spent.
const MAX_SPENT: usize = 32;

/// Bytes of a handle.
const HANDLE: usize = 16;
/// Bytes before the secret.
const NAME: usize = NodeTag::LEN + HANDLE;

/// A refresh token in clear: the tag of the subject's node and the handle, which lead to its grant, and a secret.
pub struct RefreshToken {
    tag: NodeTag,
    handle: [u8; HANDLE],
    secret: Zeroizing<[u8; 32]>,
}

impl RefreshToken {
    /// A new token of the grant with this handle, given at the node with this tag.
    pub(super) fn draw(tag: NodeTag, handle: [u8; HANDLE], rng: &mut dyn RngCore) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        Self { tag, handle, secret }
    }

    /// Reads what a client presents; `None` when no token of ours looks like that.
    pub fn parse(text: &str) -> Option<Self> {
        let raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (tag, rest) = raw.split_first_chunk::<{ NodeTag::LEN }>()?;
        let (handle, secret) = rest.split_first_chunk::<HANDLE>()?;
        Some(Self {
            tag: NodeTag::from_bytes(*tag),
            handle: *handle,
            secret: Zeroizing::new(secret.try_into().ok()?),
        })
    }

    /// The grant it belongs to.
    pub fn grant(&self) -> GrantId {
        GrantId::of(self.tag, &self.handle)
    }

    pub(super) fn hash(&self) -> SecretHash {
        SecretHash::of_bytes(&*self.secret)
    }

    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut raw = Zeroizing::new([0; NAME + 32]);
        raw[..NodeTag::LEN].copy_from_slice(&self.tag.bytes());
        raw[NodeTag::LEN..NAME].copy_from_slice(&self.handle);
        raw[NAME..].copy_from_slice(&*self.secret);
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*raw))
    }

    fn successor(&self, secret: [u8; 32]) -> Self {
        Self {
            tag: self.tag,
            handle: self.handle,
            secret: Zeroizing::new(secret),
        }
    }
}

/// The token of a request.
///
/// # Errors
/// `invalid_request` when there is none or more than one, `invalid_grant` when none of ours looks like that.
pub fn presented(params: &Params) -> Result<RefreshToken, OAuthError> {
    RefreshToken::parse(params.required("refresh_token")?).ok_or_else(wrong)
}

fn wrong() -> OAuthError {
    OAuthError::new(
        ErrorCode::InvalidGrant,
        "the refresh token is wrong, expired or revoked",
    )
}

/// What a presented token is to its grant.
enum Standing {
    Current,
    Graced(RefreshToken),
    Spent,
}

/// Makes new tokens from `grant`, what the store has for the token that is presented.
pub fn refresh(asking: &Asking<'_>, token: &RefreshToken, grant: Option<Grant>, rng: &mut dyn RngCore) -> Outcome {
    let Asking {
        client,
        caller,
        rules,
        now,
        ..
    } = *asking;
    if !client.grant_types.contains(&GrantType::RefreshToken) {
        return Outcome::refused(
            ErrorCode::UnauthorizedClient,
            "grant_type refresh_token is not among those that this client registered",
        );
    }
    let Some((grant, rotation)) = grant
        .filter(|grant| grant.authorization.client == client.id && grant.is_live(now))
        .and_then(|grant| grant.refresh.clone().map(|rotation| (grant, rotation)))
    else {
        return wrong().into();
    };
    if !grant.is_carried_by(client) {
        return Outcome::refused(
            ErrorCode::InvalidGrant,
            "the client is somebody else's and is no longer published as it was; authorize again",
        );
    }
    if let Err(error) = believed(asking) {
        return error.into();
    }
    // A node that is somebody else's by now is another one, whatever control calls it.
    let same_node = grant.node_id == caller.node_id && may_hold(asking, &grant.authorization.subject);
    match (standing(token, &rotation, rules, now), same_node) {
        (Standing::Current, true) => rotate(asking, token, grant, rotation, rng),
        (Standing::Graced(successor), true) => again(asking, &grant, &successor, rng),
        // Stolen or moved: the node it is bound to may go on with it.
        (Standing::Current, false) => Outcome::Refused {
            error: OAuthError::new(
                ErrorCode::InvalidGrant,
                "the refresh token belongs to another node; authorize again on this one",
            ),
            writes: Writes::default(),
            suspicious: true,
        },
        (Standing::Graced(_), false) | (Standing::Spent, _) => Outcome::Refused {
            error: OAuthError::new(
                ErrorCode::InvalidGrant,
                "the refresh token was used before, so everything that came of its authorization is revoked; authorize again",
            ),
            writes: Writes {
                code: None,
                grant: Some(Box::new(Grant { revoked: true, ..grant })),
            },
            suspicious: true,
        },
    }
}

fn standing(token: &RefreshToken, rotation: &Rotation, rules: &Rules, now: OffsetDateTime) -> Standing {
    let hash = token.hash();
    if rotation.current == hash {
        return Standing::Current;
    }
    let spent = rotation
        .spent
        .iter()
        .find(|spent| spent.hash == hash && now < spent.at + rules.refresh_grace);
    match spent.and_then(|spent| spent.successor.open(&token.secret)) {
        Some(secret) => Standing::Graced(token.successor(secret)),
        None => Standing::Spent,
    }
}

fn rotate(
    asking: &Asking<'_>,
    token: &RefreshToken,
    mut grant: Grant,
    mut rotation: Rotation,
    rng: &mut dyn RngCore,
) -> Outcome {
    let Asking { rules, now, .. } = *asking;
    rotation.spent.retain(|spent| now < spent.at + rules.refresh_grace);
    if rotation.spent.len() >= MAX_SPENT {
        // Each of them must still give its successor, so this one stays until the oldest has had its time.
        return again(asking, &grant, token, rng);
    }
    let successor = RefreshToken::draw(token.tag, token.handle, rng);
    let tokens = match tokens(asking, &grant, &successor, rng) {
        Ok(tokens) => tokens,
        // A refusal spends nothing: the client may ask again, for less or later.
        Err(error) => return error.into(),
    };
    rotation.spent.push(Spent {
        hash: rotation.current,
        at: now,
        successor: Sealed::seal(&successor.secret, &token.secret),
    });
    rotation.current = successor.hash();
    grant.refresh = Some(rotation);
    Outcome::Issued {
        writes: Writes {
            code: None,
            grant: Some(Box::new(grant)),
        },
        tokens: Box::new(tokens),
    }
}

/// New access, with a refresh token that somebody has already.
fn again(asking: &Asking<'_>, grant: &Grant, token: &RefreshToken, rng: &mut dyn RngCore) -> Outcome {
    match tokens(asking, grant, token, rng) {
        Ok(tokens) => Outcome::Issued {
            writes: Writes::default(),
            tokens: Box::new(tokens),
        },
        Err(error) => error.into(),
    }
}

fn tokens(
    asking: &Asking<'_>,
    grant: &Grant,
    successor: &RefreshToken,
    rng: &mut dyn RngCore,
) -> Result<super::Tokens, OAuthError> {
    let Asking {
        params,
        client,
        live,
        registrant,
        rules,
        now,
        ..
    } = *asking;
    let authorization = &grant.authorization;
    let resources = narrowed_resources(params, &authorization.resources)?;
    let allowed = still_allowed(authorization, live, client, registrant, &rules.authorize, now)?;
    let scopes = narrowed_scopes(params, authorization.scopes.as_slice(), allowed)?;
    let live = live.ok_or_else(|| OAuthError::new(ErrorCode::InvalidGrant, "the user who consented is gone"))?;
    let making = Making {
        grant,
        scopes,
        resources: &resources,
        nonce: None,
        live,
        asking,
    };
    Ok(making.tokens(Some(successor.to_text()), rng))
}

/// The scopes a request names, of those allowed now; asking for one that was never granted is an error (RFC 6749 6).
fn narrowed_scopes(params: &Params, granted: &[String], allowed: Vec<String>) -> Result<Vec<String>, OAuthError> {
    let Some(asked) = params.one("scope")? else {
        return Ok(allowed);
    };
    let asked: Vec<&str> = asked.split(' ').filter(|scope| !scope.is_empty()).collect();
    if asked.iter().any(|scope| !granted.iter().any(|had| had == scope)) {
        return Err(OAuthError::new(
            ErrorCode::InvalidScope,
            "scope names one that was not granted",
        ));
    }
    Ok(allowed
        .into_iter()
        .filter(|scope| asked.contains(&scope.as_str()))
        .collect())
}
