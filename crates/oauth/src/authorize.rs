//! The authorization endpoint (RFC 6749 4.1.1, OAuth 2.1): from a request to the question that is put to the user.
//!
//! Nothing here gives anything away: the best outcome is a [`Request`], about which [`crate::prompt`] asks the user. A
//! request whose client or redirect URI is bad is answered with a page and never with a redirect.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use crate::answer::Answer;
use crate::{
    access::allowed_scopes,
    answer::{ResponseMode, ReturnPath},
    caller::{Caller, IdentityRules},
    client::{Client, ClientId, GrantType},
    error::{ErrorCode, OAuthError},
    footing::Publisher,
    metadata::SCOPES,
    params::Params,
    pkce::Challenge,
    prompt::Prompt,
    publish::{self, Unpublished, Use},
    resource::Resource,
    secret::{Secret, SecretHash},
    ticket::Ticket,
};

const MAX_STATE: usize = 2048;
const MAX_NONCE: usize = 512;
const MAX_SCOPES: usize = 64;

/// What the server's configuration says about authorizing.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The issuer, which every response names (RFC 9207).
    pub issuer: String,
    /// Whether whoever the packet filter admits may ask for any resource: `registration = "network"`.
    pub open_network: bool,
    /// Whether login itself needs a rule of the policy, also when no resource is asked for (`require_grant`).
    pub require_grant: bool,
    /// Which identities are believed.
    pub identity: IdentityRules,
}

/// A valid authorization request, its scopes reduced to what may be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which client asks.
    pub client: ClientId,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// `response_mode`.
    #[serde(default)]
    pub response_mode: ResponseMode,
    /// By whose rule the asking user may use the client; `None` when it is his own, or an administrator published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<Publisher>,
    /// Under which publication of an administrator he may, if by such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<u64>,
    /// `state`, given back as it came.
    pub state: Option<String>,
    /// What it may be given.
    pub scopes: Vec<String>,
    /// For which servers.
    pub resources: Vec<Resource>,
    /// `nonce`.
    pub nonce: Option<String>,
    /// PKCE.
    pub challenge: Challenge,
    /// `prompt`.
    #[serde(default)]
    pub prompt: Prompt,
    /// `max_age`, in seconds: how old the click may be on which the answer rests.
    #[serde(default)]
    pub max_age: Option<u64>,
    /// The name under which it was pushed, if it was: an answer spends that.
    #[serde(default)]
    pub pushed: Option<SecretHash>,
}

/// What comes of an authorization request.
#[derive(Debug)]
pub enum Outcome {
    /// A page for the user: the client or its redirect URI cannot be trusted, or it is not his to use.
    Page(PageError),
    /// An error for the client, at its redirect URI.
    Redirect(Answer),
    /// A request that may be granted.
    Valid(Box<Request>),
}

/// A question that is put to the user on a page of ours.
#[derive(Debug)]
pub struct Question {
    /// Goes into the form, sealed.
    pub ticket: Ticket,
    /// Goes into the cookie.
    pub cookie_secret: Secret,
}

/// Why the user sees a page instead of being sent back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The request itself is broken before it names a client and redirect URI.
    #[error("{}", .0.description())]
    Request(OAuthError),
    /// No such client.
    #[error(
        "the application is not registered here (client_id): it may have been forgotten because it was not used within 24 hours of being registered; let it register again"
    )]
    UnknownClient,
    /// A redirect URI that is not registered for the client.
    #[error("the application asked to send you to an address that it did not register (redirect_uri)")]
    Redirect,
    /// A reference to a request that is not there.
    #[error(
        "the request of this application (request_uri) is too old, was answered already or is another application's; go back to the application and start again"
    )]
    Pushed,
    /// The client belongs to somebody else.
    #[error("this application was registered by {} on {}, on {}, and is not published, so only {} can use it", .0.user, .0.node, .0.at.date(), .0.user)]
    NotYours(Box<Unpublished>),
    /// The tailnet's word about the user cannot be relied on now.
    #[error("{}", .0.description())]
    Identity(OAuthError),
}

impl Request {
    /// The error that goes back to the client.
    pub fn refuse(&self, issuer: &str, error: OAuthError) -> Answer {
        self.return_path(issuer).refuse(error)
    }

    /// The code that goes back to the client.
    pub fn accept(&self, issuer: &str, code: &Secret) -> Answer {
        self.return_path(issuer).accept(code)
    }

    fn return_path<'a>(&'a self, issuer: &'a str) -> ReturnPath<'a> {
        ReturnPath {
            redirect_uri: &self.redirect_uri,
            mode: self.response_mode,
            state: self.state.as_deref(),
            issuer,
        }
    }
}

/// The client that a request names.
///
/// # Errors
/// [`PageError::Request`] when it names none or several.
pub fn client_id(params: &Params) -> Result<ClientId, PageError> {
    params
        .required("client_id")
        .map(ClientId::from_request)
        .map_err(PageError::Request)
}

/// Whether `caller` may use `client` at all: the owner's from any of his nodes, others' once they are published.
///
/// # Errors
/// [`PageError`] that names the owner, or says why the caller's identity cannot be relied on.
pub fn may_use(
    client: &Client,
    caller: &Caller,
    registrant: Option<&Caller>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Use, PageError> {
    caller.vouched(&rules.identity).map_err(PageError::Identity)?;
    publish::may_use(client, &caller.owner(), registrant, now)
        .map_err(|unpublished| PageError::NotYours(Box::new(unpublished)))
}

/// Decides what comes of a request of `caller`.
///
/// `client` is what the store has under [`client_id`], `registrant` what the netmap has about the node that
/// registered it, `pushed` the request's name if it was pushed before ([`crate::par`]).
pub fn authorize(
    params: &Params,
    pushed: Option<SecretHash>,
    client: Option<&Client>,
    caller: &Caller,
    registrant: Option<&Caller>,
    rules: &Rules,
    now: OffsetDateTime,
) -> Outcome {
    let Some(client) = client else {
        return Outcome::Page(PageError::UnknownClient);
    };
    let redirect_uri = match redirect_uri(params, client) {
        Ok(uri) => uri,
        Err(error) => return Outcome::Page(error),
    };
    if let Err(error) = may_use(client, caller, registrant, rules, now) {
        return Outcome::Page(error);
    }
    // From here on errors go back to the client.
    let back = match return_path(params, &redirect_uri, &rules.issuer) {
        Ok(back) => back,
        Err(answer) => return Outcome::Redirect(answer),
    };
    let valid = || {
        if pushed.is_none() && client.options.require_pushed_authorization_requests {
            return Err(invalid(
                "this client registered require_pushed_authorization_requests: push the request first",
            ));
        }
        let asked = request(params, client, &back)?;
        Ok(Request {
            published_by: Publisher::of(client, caller),
            publication: publish::publication_for(client, &caller.owner()),
            scopes: allowed_scopes(&asked.scopes, &asked.resources, &client.id, caller, rules, now)?,
            pushed,
            ..asked
        })
    };
    match valid() {
        Err(error) => Outcome::Redirect(back.refuse(error)),
        Ok(request) => Outcome::Valid(Box::new(request)),
    }
}

/// Whether a request of `client` is one that could be granted to somebody.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(params: &Params, client: &Client, rules: &Rules) -> Result<(), OAuthError> {
    let redirect_uri = redirect_uri(params, client).map_err(|error| match error {
        PageError::Request(error) => error,
        _ => invalid("redirect_uri is not registered for this client"),
    })?;
    let back = return_path(params, &redirect_uri, &rules.issuer).map_err(|answer| {
        answer
            .error
            .unwrap_or_else(|| invalid("state or response_mode is wrong"))
    })?;
    request(params, client, &back).map(drop)
}

/// How the answer gets back: mode and state count for errors as well, unless they are what is wrong.
fn return_path<'a>(params: &'a Params, redirect_uri: &'a str, issuer: &'a str) -> Result<ReturnPath<'a>, Answer> {
    let mut back = ReturnPath {
        redirect_uri,
        mode: ResponseMode::default(),
        state: None,
        issuer,
    };
    let state = params.returned("state", MAX_STATE);
    let mode = ResponseMode::read(params, redirect_uri);
    back.state = state.as_ref().copied().unwrap_or_default();
    back.mode = mode.as_ref().copied().unwrap_or_default();
    match state.err().or(mode.err()) {
        None => Ok(back),
        Some(error) => Err(back.refuse(error)),
    }
}

fn redirect_uri(params: &Params, client: &Client) -> Result<String, PageError> {
    let asked = params.one("redirect_uri").map_err(PageError::Request)?;
    // OpenID Connect Core 3.1.2.1 requires what OAuth lets the only registered one stand in for.
    let openid = || {
        params
            .many("scope")
            .any(|scopes| scopes.split(' ').any(|scope| scope == "openid"))
    };
    match (asked, client.redirect_uris.as_slice()) {
        (Some(asked), _) if is_registered(client, asked) => Ok(asked.to_owned()),
        (Some(_), _) => Err(PageError::Redirect),
        (None, [only]) if !openid() => Ok(only.as_str().to_owned()),
        (None, _) => Err(PageError::Request(invalid("redirect_uri is missing"))),
    }
}

/// Whether answers to `client` may go to this redirect URI.
pub(crate) fn is_registered(client: &Client, redirect_uri: &str) -> bool {
    client.redirect_uris.iter().any(|uri| uri.matches(redirect_uri))
}

/// What is asked, whoever asks: by whose rule, and which of the scopes may be had, depends on him.
fn request(params: &Params, client: &Client, back: &ReturnPath<'_>) -> Result<Request, OAuthError> {
    params.once_each(&["resource"])?;
    refuse_unsupported(params)?;
    if !client.grant_types.contains(&GrantType::AuthorizationCode) {
        return Err(OAuthError::new(
            ErrorCode::UnauthorizedClient,
            "this client did not register the grant type authorization_code",
        ));
    }
    let challenge = Challenge::read(params)?;
    let nonce = params.returned("nonce", MAX_NONCE)?.map(str::to_owned);
    let prompt = Prompt::read(params)?;
    let max_age = params.one("max_age")?.map(seconds).transpose()?;
    let resources = Resource::requested(params, client.options.default_resource.as_ref())?;
    let scopes = requested_scopes(params, client, !resources.is_empty())?;
    Ok(Request {
        client: client.id.clone(),
        redirect_uri: back.redirect_uri.to_owned(),
        response_mode: back.mode,
        published_by: None,
        publication: None,
        state: back.state.map(str::to_owned),
        scopes,
        resources,
        nonce,
        challenge,
        prompt,
        max_age,
        pushed: None,
    })
}

fn seconds(text: &str) -> Result<u64, OAuthError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| invalid("max_age must be a number of seconds"))
}

fn invalid(description: &str) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidRequest, description)
}

fn refuse_unsupported(params: &Params) -> Result<(), OAuthError> {
    if params.one("request")?.is_some() {
        return Err(OAuthError::new(
            ErrorCode::RequestNotSupported,
            "request objects are not supported",
        ));
    }
    if params.one("request_uri")?.is_some() {
        return Err(OAuthError::new(
            ErrorCode::RequestUriNotSupported,
            "request_uri: only one that the pushed authorization request endpoint gave is supported",
        ));
    }
    match params.required("response_type")? {
        "code" => {}
        _ => {
            return Err(OAuthError::new(
                ErrorCode::UnsupportedResponseType,
                "response_type: only code is supported",
            ));
        }
    }
    Ok(())
}

/// The scopes asked for that could mean something: ours, and with a resource also that server's own.
fn requested_scopes(params: &Params, client: &Client, with_resource: bool) -> Result<Vec<String>, OAuthError> {
    let asked: Vec<&str> = match (params.one("scope")?, &client.scope) {
        (Some(text), _) => text.split(' ').filter(|scope| !scope.is_empty()).collect(),
        (None, Some(registered)) => registered.iter().map(String::as_str).collect(),
        (None, None) => Vec::new(),
    };
    if asked.len() > MAX_SCOPES {
        return Err(OAuthError::new(
            ErrorCode::InvalidScope,
            "scope may name at most 64 scopes",
        ));
    }
    Ok(meaningful_scopes(&asked, client, with_resource))
}

/// Those of `asked` that the client registered and that could mean something.
pub(crate) fn meaningful_scopes(asked: &[&str], client: &Client, with_resource: bool) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for &scope in asked {
        let registered = client
            .scope
            .as_ref()
            .is_none_or(|registered| registered.iter().any(|had| had == scope));
        let meaningful = SCOPES.contains(&scope) || with_resource;
        let refreshable = scope != "offline_access" || client.grant_types.contains(&GrantType::RefreshToken);
        if registered && meaningful && refreshable && is_scope(scope) && !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// Whether a text can be a scope (RFC 6749 3.3).
pub(crate) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

#[cfg(test)]
mod tests;
