//! Dynamic client registration (RFC 7591): who may, and what becomes of the metadata.
//!
//! A [`Request`] that parsed is well-formed; [`register`] asks whether this caller may and turns it into a [`Client`].
//! An unknown grant or response type is dropped as RFC 7591 2 allows, a redirect URI that may not be used refuses
//! the whole registration and is named: a client would otherwise find out only at its first login.

use core::fmt::Write as _;

use rand_core::RngCore;
use serde::Serialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

pub use self::request::Request;
use crate::{
    caller::{Caller, IdentityRules, Owner},
    client::{ApplicationType, AuthMethod, Client, ClientId, Descriptions, Registrant},
    error::{ErrorCode, OAuthError},
    metadata::path,
    options::Options,
    policy::{CAPABILITY, Denied, Ground, OPEN_NETWORK},
    remedy::Remedy,
    secret::Secret,
    signing::SigningAlg,
};

mod request;

/// How long a client that never obtained a code or token is kept.
pub const UNUSED_LIFETIME: Duration = Duration::hours(24);

/// Who may register clients (`registration` in the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Callers to whom the tailnet policy grants `allow_dcr`.
    #[default]
    Capability,
    /// Every caller whom the packet filter admits.
    Network,
    /// Nobody.
    Off,
}

/// What the server's configuration says about registration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may register.
    pub mode: Mode,
    /// How many clients one owner may have; 0 means any number.
    pub max_clients_per_owner: u64,
    /// How a policy rule names this server: by its tags, or by its addresses if it has none.
    pub own_names: Vec<String>,
    /// Which identities are believed.
    pub identity: IdentityRules,
}

/// What came of a registration.
#[derive(Debug)]
pub enum Outcome {
    /// A new client, to be stored before it is shown.
    Registered(Box<Registered>),
    /// A refusal. Nothing is stored but the audit record.
    Refused(Refused),
}

/// A client that was just made.
#[derive(Debug)]
pub struct Registered {
    /// What is stored.
    pub client: Client,
    /// Its secret, known only now; `None` for a client that holds none.
    pub secret: Option<Secret>,
    /// The token by which its registration is managed, known only now.
    pub registration_token: Secret,
}

/// Why a registration was refused, and what would help.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The code and sentence.
    pub error: OAuthError,
    /// What an administrator could write so that the same request succeeds.
    pub remedies: Vec<Remedy>,
    /// What the policy said, if it was the policy that refused.
    pub denied: Option<Denied>,
}

impl From<OAuthError> for Refused {
    fn from(error: OAuthError) -> Self {
        Self {
            error,
            remedies: Vec::new(),
            denied: None,
        }
    }
}

/// Decides whether `caller` may register at all, before its request is even read.
///
/// # Errors
/// [`Refused`] with both remedies when only the grant is missing.
pub fn admit(caller: &Caller, rules: &Rules, now: OffsetDateTime) -> Result<Ground, Refused> {
    if rules.mode == Mode::Off {
        return Err(denied("registration is switched off on this server (registration = 'off')").into());
    }
    caller.vouched(&rules.identity)?;
    let user = caller.user_label();
    let names = caller.names();
    let verdict = match rules.mode {
        Mode::Capability => caller.policy.may_register(&names, now),
        Mode::Network | Mode::Off => caller.policy.not_denied_outright(&names, now).map(|()| OPEN_NETWORK),
    };
    verdict.map_err(|why| {
        let description = match &why {
            Denied::NoRule => format!(
                "{user} on {} holds no grant that allows registration: the tailnet policy has no rule of {CAPABILITY} \
                 with allow_dcr for this caller",
                caller.node_name
            ),
            Denied::Rule(number) => format!("rule {number} of {CAPABILITY} in the tailnet policy denies {user}"),
            Denied::Broken(error) => {
                format!("the tailnet policy cannot be understood, so it grants nothing: {error}")
            }
        };
        Refused {
            error: denied(description),
            remedies: if why == Denied::NoRule {
                remedies(caller, rules)
            } else {
                Vec::new()
            },
            denied: Some(why),
        }
    })
}

/// Makes a client of `request` for `caller`, whom [`admit`] admitted and who owns `owned` clients already.
pub fn register(
    request: Request,
    caller: &Caller,
    rules: &Rules,
    owned: u64,
    now: OffsetDateTime,
    rng: &mut dyn RngCore,
) -> Outcome {
    let owner = caller.owner();
    if rules.max_clients_per_owner != 0 && owned >= rules.max_clients_per_owner {
        return Outcome::Refused(over_quota(&owner, rules.max_clients_per_owner).into());
    }
    if let Err(error) = admit_tsidp_claims(&request, false, caller, now) {
        return Outcome::Refused(error.into());
    }
    let secret = request.auth_method.has_secret().then(|| Secret::draw(rng));
    let registration_token = Secret::draw(rng);
    let client = Client {
        registration_token: Some(registration_token.hash()),
        id: ClientId::draw(rng),
        secret: secret.as_ref().map(Secret::hash),
        auth_method: request.auth_method,
        redirect_uris: request.redirect_uris,
        post_logout_redirect_uris: request.post_logout_redirect_uris,
        grant_types: request.grant_types,
        application_type: request.application_type,
        scope: request.scope,
        signing_alg: request.signing_alg,
        tsidp_claims: request.tsidp_claims,
        descriptions: request.descriptions,
        options: request.options,
        owner,
        registrant: Registrant::of(caller),
        issued_at: now,
        unused_until: Some(now + UNUSED_LIFETIME),
        published: None,
        publications: 0,
    };
    Outcome::Registered(Box::new(Registered {
        client,
        secret,
        registration_token,
    }))
}

/// Whether `caller` may give a client tsidp's claims, which tell of every user's node without asking him by scope.
/// That is for administrators to decide; a client that `had` them keeps them.
///
/// # Errors
/// `invalid_client_metadata` that says who could.
pub(crate) fn admit_tsidp_claims(
    request: &Request,
    had: bool,
    caller: &Caller,
    now: OffsetDateTime,
) -> Result<(), OAuthError> {
    if !request.tsidp_claims || had || caller.policy.may_administer(&caller.names(), now).is_ok() {
        return Ok(());
    }
    Err(OAuthError::new(
        ErrorCode::InvalidClientMetadata,
        format!(
            "tsidp_claims is for callers to whom the tailnet policy grants allow_admin_ui in {CAPABILITY}; others ask for \
             the scope tailnet"
        ),
    ))
}

fn denied(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(ErrorCode::AccessDenied, description)
}

fn over_quota(owner: &Owner, limit: u64) -> OAuthError {
    let whose = match owner {
        Owner::User(_) => "your user",
        Owner::Node(_) => "this node",
    };
    denied(format!(
        "{whose} already has {limit} clients, as many as dcr_max_clients_per_user allows; those that stay unused \
         expire after 24 hours"
    ))
}

fn remedies(caller: &Caller, rules: &Rules) -> Vec<Remedy> {
    let rule = json!({ "allow_dcr": true });
    vec![
        Remedy::grant(
            "lets this caller register",
            &caller.policy_sources(),
            &rules.own_names,
            &rule,
        ),
        Remedy::setting(
            "lets everybody register whom the packet filter admits",
            "registration = \"network\"",
        ),
    ]
}

/// The body of a 201 answer (RFC 7591 3.2.1): the client as it was registered, and its secret.
#[derive(Serialize)]
pub struct Response<'a> {
    client_id: &'a ClientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<u64>,
    client_id_issued_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_access_token: Option<&'a str>,
    registration_client_uri: String,
    redirect_uris: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    post_logout_redirect_uris: Vec<&'a str>,
    token_endpoint_auth_method: AuthMethod,
    grant_types: Vec<&'static str>,
    response_types: &'static [&'static str],
    application_type: ApplicationType,
    id_token_signed_response_alg: SigningAlg,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tsidp_claims: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(flatten)]
    descriptions: &'a Descriptions,
    #[serde(flatten)]
    options: &'a Options,
}

impl Registered {
    /// What the client is told, by the server with this issuer.
    pub fn response(&self, issuer: &str) -> Response<'_> {
        let secret = self.secret.as_ref().map(Secret::reveal);
        Response::of(&self.client, secret, Some(self.registration_token.reveal()), issuer)
    }
}

impl<'a> Response<'a> {
    /// What is told about `client`, with what its owner knows or is to know.
    pub fn of(client: &'a Client, secret: Option<&'a str>, registration_token: Option<&'a str>, issuer: &str) -> Self {
        Self {
            client_id: &client.id,
            client_secret: secret,
            // RFC 7591 3.2.1: 0 says that the secret does not expire.
            client_secret_expires_at: secret.map(|_| 0),
            client_id_issued_at: client.issued_at.unix_timestamp(),
            registration_access_token: registration_token,
            registration_client_uri: format!("{issuer}{}{}", path::CLIENTS, client.id),
            redirect_uris: client.redirect_uris.iter().map(|uri| uri.as_str()).collect(),
            post_logout_redirect_uris: client
                .post_logout_redirect_uris
                .iter()
                .map(|uri| uri.as_str())
                .collect(),
            token_endpoint_auth_method: client.auth_method,
            grant_types: client.grant_types.iter().map(|grant| grant.as_str()).collect(),
            response_types: if client.redirect_uris.is_empty() {
                &[]
            } else {
                &["code"]
            },
            application_type: client.application_type,
            id_token_signed_response_alg: client.signing_alg,
            tsidp_claims: client.tsidp_claims,
            scope: client.scope.as_ref().map(|scopes| scopes.join(" ")),
            descriptions: &client.descriptions,
            options: &client.options,
        }
    }
}

impl core::fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Response")
            .field("client_id", self.client_id)
            .finish_non_exhaustive()
    }
}

/// Joins what was refused and why into the sentence of an error, so that the bad one of several is named.
fn refuse_redirect(uri: &str, why: &dyn core::fmt::Display) -> OAuthError {
    refuse_uri("redirect_uris", uri, why)
}

fn refuse_uri(field: &str, uri: &str, why: &dyn core::fmt::Display) -> OAuthError {
    const SHOWN: usize = 200;
    let mut description = format!("{field}: ");
    description.extend(uri.chars().take(SHOWN));
    if uri.chars().nth(SHOWN).is_some() {
        description.push_str("...");
    }
    // Writing to a String cannot fail.
    let _ = write!(description, " is refused: {why}");
    OAuthError::new(ErrorCode::InvalidRedirectUri, description)
}

#[cfg(test)]
mod tests;
