//! The request body of a registration: JSON in, a [`Request`] that only valid metadata inhabits out.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{refuse_redirect, refuse_uri};
use crate::{
    authorize::is_scope,
    client::{ApplicationType, AuthMethod, Descriptions, GrantType},
    error::{ErrorCode, OAuthError},
    options::{self, Options},
    redirect::{Kind, RedirectUri},
    signing::SigningAlg,
    text::DisplayText,
};

const MAX_REDIRECT_URIS: usize = 32;
const MAX_CONTACTS: usize = 10;
const MAX_SCOPES: usize = 64;
const MAX_LIST: usize = 64;

/// A well-formed registration request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Sent only when a registration is replaced.
    pub(crate) client_id: Option<String>,
    pub(crate) redirect_uris: Vec<RedirectUri>,
    pub(crate) post_logout_redirect_uris: Vec<RedirectUri>,
    pub(crate) auth_method: AuthMethod,
    pub(crate) grant_types: Vec<GrantType>,
    pub(crate) application_type: ApplicationType,
    pub(crate) scope: Option<Vec<String>>,
    pub(crate) signing_alg: SigningAlg,
    pub(crate) tsidp_claims: bool,
    pub(crate) descriptions: Descriptions,
    pub(crate) options: Options,
}

/// The fields as they were sent. Types are checked one by one afterwards, so that an error can name its field;
/// serde itself refuses a repeated one. Unknown fields are ignored (RFC 7591 2).
#[derive(Deserialize)]
struct Raw {
    client_id: Option<Value>,
    redirect_uris: Option<Value>,
    post_logout_redirect_uris: Option<Value>,
    token_endpoint_auth_method: Option<Value>,
    grant_types: Option<Value>,
    response_types: Option<Value>,
    application_type: Option<Value>,
    scope: Option<Value>,
    id_token_signed_response_alg: Option<Value>,
    tsidp_claims: Option<Value>,
    client_name: Option<Value>,
    client_uri: Option<Value>,
    logo_uri: Option<Value>,
    tos_uri: Option<Value>,
    policy_uri: Option<Value>,
    contacts: Option<Value>,
    software_id: Option<Value>,
    software_version: Option<Value>,
    #[serde(flatten)]
    options: options::Raw,
}

impl Request {
    /// Reads the JSON body of a registration.
    ///
    /// # Errors
    /// `invalid_client_metadata` or `invalid_redirect_uri`, with the field and what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let raw: Raw = serde_json::from_slice(body)
            .map_err(|error| metadata(format!("the body is not a JSON object of client metadata: {error}")))?;
        let redirect_uris = uris("redirect_uris", raw.redirect_uris)?;
        let auth_method = auth_method(raw.token_endpoint_auth_method, &redirect_uris)?;
        let grant_types = grant_types(raw.grant_types, auth_method)?;
        response_types(raw.response_types)?;
        if redirect_uris.is_empty() && grant_types.contains(&GrantType::AuthorizationCode) {
            return Err(OAuthError::new(
                ErrorCode::InvalidRedirectUri,
                "redirect_uris is missing: the grant type authorization_code needs at least one",
            ));
        }
        let application_type = application_type(raw.application_type, auth_method, &redirect_uris)?;
        Ok(Self {
            client_id: string("client_id", raw.client_id)?,
            redirect_uris,
            // RP-Initiated Logout 2.1: the same kinds of URIs.
            post_logout_redirect_uris: uris("post_logout_redirect_uris", raw.post_logout_redirect_uris)?,
            auth_method,
            grant_types,
            application_type,
            scope: scope(raw.scope)?,
            signing_alg: signing_alg(raw.id_token_signed_response_alg)?,
            tsidp_claims: boolean("tsidp_claims", raw.tsidp_claims)?,
            descriptions: Descriptions {
                client_name: display("client_name", raw.client_name)?,
                client_uri: link("client_uri", raw.client_uri)?,
                logo_uri: link("logo_uri", raw.logo_uri)?,
                tos_uri: link("tos_uri", raw.tos_uri)?,
                policy_uri: link("policy_uri", raw.policy_uri)?,
                contacts: contacts(raw.contacts)?,
                software_id: display("software_id", raw.software_id)?,
                software_version: display("software_version", raw.software_version)?,
            },
            options: raw.options.read(auth_method)?,
        })
    }
}

fn metadata(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidClientMetadata, description)
}

fn uris(field: &str, value: Option<Value>) -> Result<Vec<RedirectUri>, OAuthError> {
    let invalid = |why: &str| OAuthError::new(ErrorCode::InvalidRedirectUri, format!("{field} {why}"));
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Array(items) = value else {
        return Err(invalid("must be an array of strings"));
    };
    if items.len() > MAX_REDIRECT_URIS {
        return Err(invalid("may name at most 32 URIs"));
    }
    let mut uris = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().ok_or_else(|| invalid("must be an array of strings"))?;
        let uri = RedirectUri::parse(text).map_err(|error| refuse_uri(field, text, &error))?;
        if !uris.contains(&uri) {
            uris.push(uri);
        }
    }
    Ok(uris)
}

fn auth_method(value: Option<Value>, uris: &[RedirectUri]) -> Result<AuthMethod, OAuthError> {
    let private_use = uris.iter().find(|uri| uri.kind() == Kind::PrivateUse);
    let method = match string("token_endpoint_auth_method", value)? {
        Some(name) => AuthMethod::ALL
            .into_iter()
            .find(|method| method.as_str() == name)
            .ok_or_else(|| {
                metadata(
                    "token_endpoint_auth_method must be one of none, client_secret_basic, client_secret_post, \
                     private_key_jwt",
                )
            })?,
        // RFC 7591 2 makes client_secret_basic the default, but such an app cannot keep a secret.
        None if private_use.is_some() => AuthMethod::None,
        None => AuthMethod::ClientSecretBasic,
    };
    match private_use {
        Some(uri) if method.is_confidential() => Err(refuse_redirect(
            uri.as_str(),
            &"a scheme of an app's own is for public clients (token_endpoint_auth_method none)",
        )),
        _ => Ok(method),
    }
}

fn grant_types(value: Option<Value>, method: AuthMethod) -> Result<Vec<GrantType>, OAuthError> {
    let Some(names) = strings("grant_types", value, MAX_LIST)? else {
        return Ok(vec![GrantType::AuthorizationCode]);
    };
    let known = GrantType::ALL.into_iter().filter(|grant| {
        names.iter().any(|name| name == grant.as_str())
            && (*grant != GrantType::ClientCredentials || method.is_confidential())
    });
    let grants: Vec<_> = known.collect();
    if grants.iter().all(|grant| *grant == GrantType::RefreshToken) {
        return Err(metadata(
            "grant_types names none that this client could use: authorization_code, or client_credentials for a \
             client that authenticates",
        ));
    }
    Ok(grants)
}

fn response_types(value: Option<Value>) -> Result<(), OAuthError> {
    match strings("response_types", value, MAX_LIST)? {
        Some(names) if !names.is_empty() && !names.iter().any(|name| name == "code") => {
            Err(metadata("response_types: only code is supported"))
        }
        _ => Ok(()),
    }
}

fn application_type(
    value: Option<Value>,
    method: AuthMethod,
    uris: &[RedirectUri],
) -> Result<ApplicationType, OAuthError> {
    let claimed = string("application_type", value)?;
    let loopback = uris.iter().find(|uri| uri.kind() == Kind::Loopback);
    match (claimed.as_deref(), loopback) {
        (Some("web"), Some(uri)) if method.is_confidential() => Err(refuse_redirect(
            uri.as_str(),
            &"a confidential client with application_type web runs on a server and cannot use http on this computer",
        )),
        _ if uris.iter().any(|uri| uri.kind() != Kind::Web) => Ok(ApplicationType::Native),
        (Some("native"), _) => Ok(ApplicationType::Native),
        _ => Ok(ApplicationType::Web),
    }
}

/// A space-separated list of scope tokens (RFC 6749 3.3), without repetitions.
fn scope(value: Option<Value>) -> Result<Option<Vec<String>>, OAuthError> {
    let Some(text) = string("scope", value)? else {
        return Ok(None);
    };
    let mut scopes: Vec<String> = Vec::new();
    for token in text.split(' ').filter(|token| !token.is_empty()) {
        if !is_scope(token) {
            return Err(metadata("scope has a character that no scope may have"));
        }
        if !scopes.iter().any(|scope| scope == token) {
            scopes.push(token.to_owned());
        }
    }
    if scopes.len() > MAX_SCOPES {
        return Err(metadata("scope may name at most 64 scopes"));
    }
    Ok((!scopes.is_empty()).then_some(scopes))
}

/// What tokens are signed with. Another algorithm in place of one that is not there would show at the first login only.
fn signing_alg(value: Option<Value>) -> Result<SigningAlg, OAuthError> {
    match string("id_token_signed_response_alg", value)? {
        None => Ok(SigningAlg::default()),
        Some(name) => SigningAlg::named(&name)
            .ok_or_else(|| metadata("id_token_signed_response_alg must be one of ES256, RS256, EdDSA")),
    }
}

fn contacts(value: Option<Value>) -> Result<Vec<DisplayText>, OAuthError> {
    let contacts = strings("contacts", value, MAX_CONTACTS)?.unwrap_or_default();
    Ok(contacts
        .iter()
        .filter_map(|contact| DisplayText::clean(contact))
        .collect())
}

fn display(field: &str, value: Option<Value>) -> Result<Option<DisplayText>, OAuthError> {
    Ok(string(field, value)?.and_then(|text| DisplayText::clean(&text)))
}

/// An http or https URL. Some clients send an empty one where they mean none.
fn link(field: &str, value: Option<Value>) -> Result<Option<String>, OAuthError> {
    let Some(text) = string(field, value)? else {
        return Ok(None);
    };
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && text.len() <= RedirectUri::MAX_LEN => {
            Ok(Some(url.into()))
        }
        _ => Err(metadata(format!("{field} must be an http or https URL"))),
    }
}

/// A string field; absent, `null` and empty all mean that nothing was said.
fn string(field: &str, value: Option<Value>) -> Result<Option<String>, OAuthError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(_) => Err(metadata(format!("{field} must be a string"))),
    }
}

/// A boolean field; absent and `null` mean false.
fn boolean(field: &str, value: Option<Value>) -> Result<bool, OAuthError> {
    match value {
        None => Ok(false),
        Some(Value::Bool(said)) => Ok(said),
        Some(_) => Err(metadata(format!("{field} must be true or false"))),
    }
}

fn strings(field: &str, value: Option<Value>, most: usize) -> Result<Option<Vec<String>>, OAuthError> {
    let Some(value) = value else { return Ok(None) };
    let items: Vec<String> =
        serde_json::from_value(value).map_err(|_| metadata(format!("{field} must be an array of strings")))?;
    if items.len() > most {
        return Err(metadata(format!("{field} may have at most {most} entries")));
    }
    Ok(Some(items))
}
