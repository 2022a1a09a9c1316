//! What id_tokens and userinfo say about a subject, by scope, from the live netmap.

use serde_json::{Map, Value, json};

use crate::caller::{Caller, Who};

/// Claims that only this server gives a value to; a policy that sets one is an error.
pub const PROTECTED: [&str; 39] = [
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
    "act",
    "may_act",
    "cnf",
    "scope",
    "client_id",
    "gid",
    "sid",
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
];

/// The claims about `subject` that `scopes` open, and those that the policy adds.
pub fn about(subject: &Caller, scopes: &[String], issuer_host: &str, for_userinfo: bool) -> Map<String, Value> {
    let mut claims = subject.policy.extra_claims(for_userinfo);
    let mut put = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    let has = |scope: &str| scopes.iter().any(|had| had == scope);
    if let Who::User {
        login,
        display_name,
        picture,
        ..
    } = &subject.who
    {
        if has("email")
            && let Some(email) = email(login, issuer_host)
        {
            put("email", Value::from(email));
        }
        if has("profile") {
            put(
                "preferred_username",
                Value::from(login.split('@').next().unwrap_or(login)),
            );
            if !display_name.is_empty() {
                put("name", Value::from(display_name.as_str()));
            }
            if !picture.is_empty() {
                put("picture", Value::from(picture.as_str()));
            }
        }
    }
    if has("tailnet") {
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
    }
    claims
}

/// The login as an address, when it is one: `x@github` becomes one below this server's own host, as tsidp has it.
fn email(login: &str, issuer_host: &str) -> Option<String> {
    let (_, domain) = login
        .split_once('@')
        .filter(|(local, domain)| !local.is_empty() && !domain.is_empty())?;
    Some(if domain.contains('.') {
        login.to_owned()
    } else {
        format!("{login}.{issuer_host}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::Policy,
        tests_support::{alice, tagged},
    };

    fn scopes(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn with_login(text: &str) -> Caller {
        let Who::User { id, .. } = alice().who else { panic!() };
        Caller {
            who: Who::User {
                id,
                login: text.into(),
                display_name: "Alice".into(),
                picture: String::new(),
            },
            ..alice()
        }
    }

    #[test]
    fn each_scope_opens_its_claims_and_no_other() {
        let claims = about(&with_login("alice@example.com"), &scopes("openid"), "idp.ts.net", false);
        assert!(claims.is_empty(), "{claims:?}");
        let claims = about(
            &with_login("alice@example.com"),
            &scopes("email profile"),
            "idp.ts.net",
            false,
        );
        assert_eq!(
            Value::from(claims),
            json!({"email": "alice@example.com", "name": "Alice", "preferred_username": "alice"})
        );
        let claims = about(&tagged(), &scopes("email profile tailnet"), "idp.ts.net", false);
        assert_eq!(claims["tags"], json!(["tag:app"]));
        assert_eq!(claims["tailnet"], "example.ts.net");
        assert!(!claims.contains_key("email") && !claims.contains_key("uid"));
    }

    #[test]
    fn an_email_is_an_address_or_absent() {
        assert_eq!(email("x@github", "idp.ts.net").as_deref(), Some("x@github.idp.ts.net"));
        assert_eq!(email("alice", "idp.ts.net"), None);
        assert_eq!(email("@x.y", "idp.ts.net"), None);
    }

    #[test]
    fn the_policy_adds_claims_with_their_types_but_never_ours() {
        let policy = Policy::parse([
            r#"{"extraClaims":{"groups":["a",1],"level":3}}"#,
            r#"{"extraClaims":{"groups":["b","a"],"level":4},"includeInUserInfo":true}"#,
        ]);
        let subject = Caller { policy, ..alice() };
        let claims = about(&subject, &[], "idp", false);
        assert_eq!(Value::from(claims), json!({"groups": ["a", 1, "b"], "level": 3}));
        assert_eq!(
            Value::from(about(&subject, &[], "idp", true)),
            json!({"groups": ["b", "a"], "level": 4})
        );
        let bad = Policy::parse([r#"{"extraClaims":{"email":"root@example.com"}}"#]);
        assert!(bad.errors()[0].to_string().contains("extraClaims.email"));
    }
}
