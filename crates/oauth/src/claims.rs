//! What id_tokens and userinfo say about a subject, by scope, from the live netmap.

use serde_json::{Map, Value, json};

use crate::{
    caller::{Caller, Who},
    client::Client,
};

/// What the server's configuration says about claims.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The host of the issuer, under which a login such as `x@github` gets an address.
    pub issuer_host: String,
    /// The domain that makes an address of a login that is a bare word, in lower case.
    pub email_domain: Option<String>,
    /// The domains for whose addresses `email_verified` is true, in lower case.
    pub verified_email_domains: Vec<String>,
}

/// Where claims are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In an id_token: all claims that the policy adds.
    IdToken,
    /// In an answer of userinfo: those of rules with `includeInUserInfo`.
    Userinfo,
}

/// The claims about `subject` that `scopes` open to `client`, and those that the policy adds.
pub fn about(subject: &Caller, scopes: &[String], client: &Client, rules: &Rules, place: Place) -> Map<String, Value> {
    let mut claims = subject.policy.extra_claims(place == Place::Userinfo);
    let has = |scope: &str| scopes.iter().any(|had| had == scope);
    if let Who::User {
        login,
        display_name,
        picture,
        ..
    } = &subject.who
    {
        if has("email") {
            claims.extend(email(login, rules));
        }
        if has("profile") {
            claims.insert("preferred_username".into(), Value::from(local_part(login)));
            if !display_name.is_empty() {
                claims.insert("name".into(), Value::from(display_name.as_str()));
            }
            if !picture.is_empty() {
                claims.insert("picture".into(), Value::from(picture.as_str()));
            }
        }
    }
    if has("tailnet") || (client.tsidp_claims && place == Place::IdToken) {
        claims.extend(tailnet(subject));
    }
    if client.tsidp_claims
        && place == Place::Userinfo
        && let Who::User { login, .. } = &subject.who
    {
        claims.insert("username".into(), Value::from(local_part(login)));
    }
    claims
}

fn local_part(login: &str) -> &str {
    login.split('@').next().unwrap_or(login)
}

/// What tsidp says of the user's node, in its words; the tags in place of a user id for a tagged node.
fn tailnet(subject: &Caller) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    put("node", Value::from(subject.node_name.as_str()));
    put("nid", Value::from(subject.node_number));
    put("key", Value::from(subject.node_key.as_str()));
    put("addresses", json!(subject.addresses));
    if let Some((_, tailnet)) = subject.node_name.split_once('.') {
        put("tailnet", Value::from(tailnet));
    }
    match &subject.who {
        Who::User { id, .. } => put("uid", Value::from(*id)),
        Who::Tagged(tags) => put("tags", json!(tags)),
    }
    claims
}

/// `email` and `email_verified`, when the login is an address or can be made one.
fn email(login: &str, rules: &Rules) -> Map<String, Value> {
    let Some(address) = address(login, rules) else {
        return Map::new();
    };
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let verified = rules
        .verified_email_domains
        .iter()
        .any(|known| known.eq_ignore_ascii_case(domain));
    Map::from_iter([
        ("email".to_owned(), Value::from(address)),
        ("email_verified".to_owned(), Value::from(verified)),
    ])
}

/// The login as an address: as it is; `x@github` below this server's own host, as tsidp has it; a bare word at
/// `email_domain`. What has a blank, a control character or two `@` is none.
fn address(login: &str, rules: &Rules) -> Option<String> {
    let plain = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@');
    match login.split_once('@') {
        Some((local, domain)) if plain(local) && plain(domain) => Some(if domain.contains('.') {
            login.to_owned()
        } else {
            format!("{login}.{}", rules.issuer_host)
        }),
        None if plain(login) => rules.email_domain.as_ref().map(|domain| format!("{login}@{domain}")),
        _ => None,
    }
}

/// Claims that only this server gives a value to; a policy that sets one is an error.
pub const PROTECTED: [&str; 46] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "nonce",
    "auth_time",
    "acr",
    "amr",
    "azp",
    "at_hash",
    "c_hash",
    "s_hash",
    "act",
    "may_act",
    "cnf",
    "scope",
    "client_id",
    "gid",
    "sid",
    "events",
    "sub_jwk",
    "_claim_names",
    "_claim_sources",
    "verified_claims",
    "email",
    "email_verified",
    "name",
    "preferred_username",
    "username",
    "picture",
    "key",
    "addresses",
    "nid",
    "node",
    "tailnet",
    "tags",
    "user",
    "uid",
    "typ",
    "token_type",
    "active",
    "entitlements",
    "authorization_details",
];

/// Whether a reader could take a claim of this name for one of ours. Go's JSON reader, with which many applications
/// are written, matches names in any case and takes `ſ` for `s` and the Kelvin sign for `k`.
pub fn is_protected(name: &str) -> bool {
    let folded: String = name
        .chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect();
    PROTECTED.contains(&folded.as_str())
}

#[cfg(test)]
mod tests;
