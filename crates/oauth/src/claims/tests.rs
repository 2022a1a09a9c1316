use super::*;
use crate::{
    metadata,
    policy::Policy,
    tests_support::{alice, public_client, tagged, token_rules},
};

fn rules() -> Rules {
    Rules {
        email_domain: Some("corp.example".into()),
        verified_email_domains: vec!["corp.example".into()],
        ..token_rules().claims
    }
}

fn with_login(text: &str) -> Caller {
    Caller {
        who: Who::User {
            id: 1,
            login: text.into(),
            display_name: "Alice".into(),
            picture: "https://pictures.example/a".into(),
        },
        ..alice()
    }
}

fn tsidp_client() -> Client {
    Client {
        tsidp_claims: true,
        ..public_client()
    }
}

fn said(subject: &Caller, scopes: &str, client: &Client, place: Place) -> Value {
    let scopes: Vec<String> = scopes.split(' ').map(str::to_owned).collect();
    Value::from(about(subject, &scopes, client, &rules(), place))
}

fn named(claims: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn each_scope_opens_its_claims_and_no_other() {
    let alice = with_login("alice@example.com");
    let said = |scopes| said(&alice, scopes, &public_client(), Place::IdToken);
    assert_eq!(said("openid offline_access mcp"), json!({}));
    assert_eq!(
        said("openid email"),
        json!({"email": "alice@example.com", "email_verified": false})
    );
    assert_eq!(
        said("profile"),
        json!({"name": "Alice", "preferred_username": "alice", "picture": "https://pictures.example/a"})
    );
    assert_eq!(
        named(&said("tailnet")),
        ["addresses", "key", "nid", "node", "tailnet", "uid"]
    );
}

#[test]
fn a_tagged_node_has_tags_and_nothing_of_a_person() {
    let claims = said(&tagged(), "email profile tailnet", &tsidp_client(), Place::IdToken);
    assert_eq!(named(&claims), ["addresses", "key", "nid", "node", "tags", "tailnet"]);
    assert_eq!(
        (&claims["tags"], &claims["tailnet"]),
        (&json!(["tag:app"]), &json!("example.ts.net"))
    );
    assert_eq!(said(&tagged(), "email", &tsidp_client(), Place::Userinfo), json!({}));
}

#[test]
fn a_client_with_tsidps_claims_has_them_where_tsidp_says_them() {
    let alice = with_login("alice@example.com");
    assert_eq!(
        named(&said(&alice, "openid", &tsidp_client(), Place::IdToken)),
        ["addresses", "key", "nid", "node", "tailnet", "uid"]
    );
    assert_eq!(
        said(&alice, "openid", &tsidp_client(), Place::Userinfo),
        json!({"username": "alice"})
    );
}

#[test]
fn an_email_is_an_address_or_absent() {
    let address = |login: &str, rules: &Rules| email(login, rules)["email"].as_str().unwrap_or_default().to_owned();
    assert_eq!(address("alice@example.com", &rules()), "alice@example.com");
    assert_eq!(address("x@github", &rules()), "x@github.idp.example.ts.net");
    assert_eq!(address("x@passkey", &rules()), "x@passkey.idp.example.ts.net");
    assert_eq!(address("alice", &rules()), "alice@corp.example");
    for login in [
        "",
        "@x.example",
        "x@",
        "a b",
        "a@b@c.example",
        "a\n@b.example",
        "a@b.example\u{a0}",
    ] {
        assert_eq!(email(login, &rules()), Map::new(), "{login:?}");
    }
    let none = Rules::default();
    assert_eq!(email("alice", &none), Map::new());
}

#[test]
fn an_address_is_verified_only_below_a_domain_that_the_configuration_vouches_for() {
    let verified = |login: &str, rules: &Rules| email(login, rules)["email_verified"] == true;
    assert!(verified("alice@corp.example", &rules()));
    assert!(verified("alice@Corp.Example", &rules()));
    assert!(verified("alice", &rules()), "it is made one of that domain");
    for login in [
        "alice@example.com",
        "alice@evil-corp.example",
        "alice@sub.corp.example",
        "corp.example@x.example",
    ] {
        assert!(!verified(login, &rules()), "{login}");
    }
    let unvouched = Rules {
        verified_email_domains: Vec::new(),
        ..rules()
    };
    assert!(!verified("alice", &unvouched));
    assert!(!verified("x@github", &rules()));
}

#[test]
fn the_policy_adds_claims_with_their_types_and_userinfo_has_those_that_say_so() {
    let policy = Policy::parse([
        r#"{"extraClaims":{"groups":["a",1],"level":3,"admin":true,"site":{"floor":2}}}"#,
        r#"{"extraClaims":{"groups":["b","a"],"level":4},"includeInUserInfo":true}"#,
    ]);
    let subject = Caller { policy, ..alice() };
    assert_eq!(
        said(&subject, "openid", &public_client(), Place::IdToken),
        json!({"groups": ["a", 1, "b"], "level": 3, "admin": true, "site": {"floor": 2}})
    );
    assert_eq!(
        said(&subject, "openid", &public_client(), Place::Userinfo),
        json!({"groups": ["b", "a"], "level": 4})
    );
}

#[test]
fn a_rule_that_sets_a_claim_of_ours_is_named_and_the_policy_grants_nothing() {
    for name in PROTECTED
        .into_iter()
        .chain(["Email", "SUB", "Azp", "\u{17f}ub", "nic\u{212a}name_to\u{212a}en_type"])
    {
        let rule = json!({"extraClaims": {name: "root"}}).to_string();
        let policy = Policy::parse([r#"{"extraClaims":{"level":1}}"#, rule.as_str()]);
        if name.starts_with("nic") {
            assert!(policy.errors().is_empty(), "no claim of ours is called that");
            continue;
        }
        let error = policy.errors()[0].to_string();
        assert!(
            error.starts_with("rule 2") && error.contains(&format!("extraClaims.{name}")),
            "{error}"
        );
        assert!(
            policy
                .not_denied_outright(&[], time::OffsetDateTime::UNIX_EPOCH)
                .is_err()
        );
    }
}

/// Everything that may be said is advertised, and nothing else is.
#[test]
fn claims_supported_tells_the_truth() {
    let supported = metadata::Metadata::openid("https://idp.example", metadata::Features::default());
    let supported = serde_json::to_value(supported).unwrap();
    let supported = named_list(&supported["claims_supported"]);
    let policy = Policy::parse([r#"{"extraClaims":{"groups":["a"]},"includeInUserInfo":true}"#]);
    let mut seen: Vec<String> = Vec::new();
    for subject in [with_login("alice@example.com"), tagged()] {
        let subject = Caller {
            policy: policy.clone(),
            ..subject
        };
        for place in [Place::IdToken, Place::Userinfo] {
            let claims = said(&subject, "openid email profile tailnet", &tsidp_client(), place);
            seen.extend(named(&claims).into_iter().map(str::to_owned));
        }
    }
    for name in &seen {
        assert!(supported.contains(name), "{name} is not advertised");
    }
    let by_token = [
        "sub",
        "iss",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "nonce",
        "at_hash",
        "acr",
        "amr",
    ];
    for name in &supported {
        assert!(
            seen.contains(name) || by_token.contains(&name.as_str()),
            "{name} is never said"
        );
    }
}

fn named_list(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}
