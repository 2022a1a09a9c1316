use proptest::prelude::*;
use serde_json::json;
use time::macros::datetime;

use super::*;

mod tsidp;

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn names(user: &str) -> Vec<String> {
    vec![user.to_owned()]
}

fn one(text: &str) -> Policy {
    Policy::parse([text])
}

fn problem(text: &str) -> Problem {
    one(text).errors().first().unwrap().problem.clone()
}

#[test]
fn registration_needs_a_rule_that_says_so() {
    assert_eq!(
        Policy::default().may_register(&names("alice"), NOW),
        Err(Denied::NoRule)
    );
    assert_eq!(
        one(r#"{"users":["*"],"resources":["*"]}"#).may_register(&names("alice"), NOW),
        Err(Denied::NoRule)
    );
    assert_eq!(
        one(r#"{"allow_dcr":true}"#).may_register(&names("alice"), NOW),
        Ok(Ground::Rule(1))
    );
    assert_eq!(
        one(r#"{"allow_dcr":true}"#).may_administer(&names("alice"), NOW),
        Err(Denied::NoRule)
    );
    assert_eq!(
        one(r#"{"allow_admin_ui":true}"#).may_administer(&names("alice"), NOW),
        Ok(Ground::Rule(1))
    );
}

#[test]
fn booleans_are_ored_over_rules_and_read_like_go_does() {
    let policy = Policy::parse([
        r#"{"allow_dcr":false}"#,
        r#"{"Allow_DCR":true,"users":null,"later":{"x":1}}"#,
    ]);
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(Ground::Rule(2)));
}

#[test]
fn keys_of_ours_beside_tsidps_are_an_error_that_names_them_and_grants_nothing() {
    for key in [
        "deny",
        "expires",
        "clients",
        "scopes",
        "Deny",
        "publish_clients",
        "introspect",
    ] {
        let policy = Policy::parse(
            [
                r#"{"allow_dcr":true}"#.to_owned(),
                format!(r#"{{"users":["bob"],"{key}":true}}"#),
            ]
            .iter()
            .map(String::as_str),
        );
        let error = policy.errors().first().unwrap();
        assert_eq!((error.number, &error.problem), (2, &Problem::Misplaced(key.to_owned())));
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(
            policy.may_register(&names("alice"), NOW),
            Err(Denied::Broken(error.clone()))
        );
    }
}

#[test]
fn malformed_rules_are_named() {
    assert_eq!(problem("[]"), Problem::NotAnObject);
    assert_eq!(problem("{"), Problem::NotAnObject);
    assert!(matches!(problem(r#"{"allow_dcr":"yes"}"#), Problem::Type { key, .. } if key == "allow_dcr"));
    assert!(matches!(problem(r#"{"users":"bob"}"#), Problem::Type { key, .. } if key == "users"));
    assert!(matches!(problem(r#"{"countersign":{"expires":"soon"}}"#), Problem::Type { key, .. } if key == "expires"));
    assert_eq!(
        problem(r#"{"countersign":{"denny":true}}"#),
        Problem::UnknownKey("denny".into())
    );
}

#[test]
fn a_denial_wins_until_it_expires_and_only_for_whom_it_names() {
    let rules = [
        r#"{"allow_dcr":true}"#,
        r#"{"countersign":{"deny":true,"users":["bob"],"expires":"2026-12-01T00:00:00Z"}}"#,
    ];
    let policy = Policy::parse(rules);
    assert_eq!(policy.may_register(&names("bob"), NOW), Err(Denied::Rule(2)));
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(Ground::Rule(1)));
    assert_eq!(
        policy.may_register(&names("bob"), datetime!(2026-12-01 00:00 UTC)),
        Ok(Ground::Rule(1))
    );
}

#[test]
fn a_denial_of_one_resource_does_not_deny_registration() {
    let policy = Policy::parse([r#"{"allow_dcr":true,"countersign":{"deny":true,"resources":["https://a.example"]}}"#]);
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(Ground::Rule(1)));
    let everyone = Policy::parse([r#"{"allow_dcr":true,"countersign":{"deny":true}}"#]);
    assert_eq!(everyone.may_register(&names("alice"), NOW), Err(Denied::Rule(1)));
}

proptest! {
    #[test]
    fn parsing_is_total(text in "\\PC{0,80}", json in r#"\{"(allow_dcr|users|countersign|deny)":(true|null|1|\[\]|\["a"\]|\{"deny":true\})\}"#) {
        let policy = Policy::parse([text.as_str(), json.as_str()]);
        let _ = policy.may_register(&names("alice"), NOW);
    }

    #[test]
    fn our_keys_never_open_registration(nested in r#"\{"(deny|publish_clients)":(true|false)\}"#) {
        let rule = format!(r#"{{"countersign":{nested}}}"#);
        prop_assert!(Policy::parse([rule.as_str()]).may_register(&names("alice"), NOW).is_err());
    }
}

fn ask<'a>(names: &'a [String], client: &'a ClientId, resource: Option<&'a Resource>, scopes: &'a [String]) -> Ask<'a> {
    Ask {
        names,
        client,
        resource,
        scopes,
        open_network: false,
        require_grant: false,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn every_answer_names_the_rule_or_setting_it_rests_on() {
    let policy = Policy::parse([
        r#"{"allow_dcr":true}"#,
        r#"{"countersign":{"users":["alice"],"resources":["https://a.example/*"],"scopes":["read"]}}"#,
        r#"{"users":["alice"],"resources":["https://a.example/mcp"]}"#,
        r#"{"countersign":{"deny":true,"users":["alice"],"scopes":["root"]}}"#,
    ]);
    let (names, client) = (names("alice"), ClientId::from_request("c"));
    let (resource, scopes) = (
        Resource::parse("https://a.example/mcp").unwrap(),
        strings(&["read", "write", "root"]),
    );
    let asked = ask(&names, &client, Some(&resource), &scopes);
    let ruling = policy.rule_on(&asked, NOW);
    assert_eq!(ruling.whole, Ok(Ground::Rule(2)));
    assert_eq!(
        ruling.scopes,
        [Ok(Ground::Rule(2)), Ok(Ground::Rule(3)), Err(Denied::Rule(4))]
    );
    let other = Resource::parse("https://b.example").unwrap();
    let closed = policy.rule_on(&ask(&names, &client, Some(&other), &scopes), NOW);
    assert_eq!(closed.whole, Err(Denied::NoRule));
    let open = Ask {
        resource: Some(&other),
        open_network: true,
        ..asked
    };
    let ruling = policy.rule_on(&open, NOW);
    assert_eq!(ruling.whole, Ok(OPEN_NETWORK));
    assert_eq!(ruling.scopes[2], Err(Denied::Rule(4)), "denials of ours still win");
    assert_eq!(policy.text(1), Some(r#"{"allow_dcr":true}"#));
    assert_eq!((policy.text(0), policy.text(5), policy.len()), (None, None, 4));
}

#[test]
fn login_needs_a_rule_that_names_the_user_and_client_only_where_grants_are_required() {
    let policy = Policy::parse([
        r#"{"users":["alice"]}"#,
        r#"{"countersign":{"users":["bob","tag:app"],"clients":["c"]}}"#,
        r#"{"countersign":{"users":["carol"],"expires":"2026-11-24T12:00:00Z"}}"#,
        r#"{"allow_dcr":true}"#,
    ]);
    let login = |user: &str, client: &str, require_grant: bool| {
        let (names, client) = (names(user), ClientId::from_request(client));
        let asked = Ask {
            require_grant,
            ..ask(&names, &client, None, &[])
        };
        policy.rule_on(&asked, NOW).whole
    };
    assert_eq!(login("alice", "any", true), Ok(Ground::Rule(1)));
    assert_eq!(login("bob", "c", true), Ok(Ground::Rule(2)));
    assert_eq!(login("tag:app", "c", true), Ok(Ground::Rule(2)));
    assert_eq!(login("bob", "d", true), Err(Denied::NoRule));
    assert_eq!(
        login("carol", "c", true),
        Err(Denied::NoRule),
        "a rule ends when it expires"
    );
    assert_eq!(login("dave", "c", true), Err(Denied::NoRule));
    assert_eq!(login("dave", "c", false), Ok(NO_GRANT_REQUIRED));
}

#[test]
fn a_denial_of_a_client_or_scope_reaches_login_as_well() {
    let policy = Policy::parse([
        r#"{"countersign":{"deny":true,"clients":["bad"]}}"#,
        r#"{"countersign":{"deny":true,"scopes":["email"]}}"#,
        r#"{"countersign":{"deny":true,"resources":["https://a.example"]}}"#,
    ]);
    let (names, good, bad) = (
        names("alice"),
        ClientId::from_request("good"),
        ClientId::from_request("bad"),
    );
    let scopes = strings(&["openid", "email"]);
    assert_eq!(
        policy.rule_on(&ask(&names, &bad, None, &scopes), NOW).whole,
        Err(Denied::Rule(1))
    );
    let ruling = policy.rule_on(&ask(&names, &good, None, &scopes), NOW);
    assert_eq!(ruling.whole, Ok(NO_GRANT_REQUIRED));
    assert_eq!(ruling.scopes, [Ok(NO_GRANT_REQUIRED), Err(Denied::Rule(2))]);
}

#[test]
fn the_network_mode_alone_opens_and_denials_still_win() {
    let (names, client, resource) = (
        names("alice"),
        ClientId::from_request("c"),
        Resource::parse("https://a.example").unwrap(),
    );
    let whole = |rules: &[&str], open_network: bool| {
        let asked = Ask {
            open_network,
            ..ask(&names, &client, Some(&resource), &[])
        };
        Policy::parse(rules.iter().copied()).rule_on(&asked, NOW).whole
    };
    let rule = r#"{"users":["alice"],"resources":["https://a.example"]}"#;
    assert_eq!(whole(&[rule], false), Ok(Ground::Rule(1)));
    assert_eq!(
        whole(&[], false),
        Err(Denied::NoRule),
        "withdrawing the last rule opens nothing"
    );
    assert_eq!(whole(&[], true), Ok(OPEN_NETWORK));
    let denial = r#"{"countersign":{"deny":true,"users":["alice"],"resources":["https://a.example/"]}}"#;
    assert_eq!(whole(&[denial], true), Err(Denied::Rule(1)));
    assert!(matches!(whole(&[r#"{"deny":true}"#], true), Err(Denied::Broken(_))));
}

#[test]
fn a_rule_that_restricts_nothing_or_says_two_things_is_an_error() {
    let plain = r#""users":["alice"],"resources":["*"]"#;
    for (key, text) in [
        ("expires", r#""expires":"2026-12-01T00:00:00Z""#),
        ("clients", r#""clients":["c"]"#),
        ("scopes", r#""scopes":["read"]"#),
        ("resources", r#""resources":["https://a.example"]"#),
    ] {
        assert_eq!(
            problem(&format!(r#"{{{plain},"countersign":{{{text}}}}}"#)),
            Problem::RestrictsNothing(key)
        );
        let whole = format!(r#"{{"countersign":{{"users":["alice"],{text}}}}}"#);
        assert!(one(&whole).errors().is_empty(), "{whole}");
    }
    let publishing =
        format!(r#"{{{plain},"countersign":{{"publish_clients":true,"expires":"2026-12-01T00:00:00Z"}}}}"#);
    assert!(one(&publishing).errors().is_empty());
    // Nothing of ours ends what stands beside it, so an end date there would be read and not kept.
    assert_eq!(
        problem(r#"{"allow_dcr":true,"countersign":{"expires":"2026-12-01T00:00:00Z"}}"#),
        Problem::RestrictsNothing("expires")
    );
    for (text, key, other) in [
        (r#""introspect":["*"],"users":["bob"]"#, "introspect", "users"),
        (
            r#""introspect":["*"],"publish_clients":true"#,
            "introspect",
            "publish_clients",
        ),
        (
            r#""publish_clients":true,"clients":["c"]"#,
            "publish_clients",
            "clients",
        ),
        (r#""publish_clients":true,"users":["bob"]"#, "publish_clients", "users"),
        (r#""publish_clients":true,"deny":true"#, "publish_clients", "deny"),
    ] {
        match problem(&format!(r#"{{"countersign":{{{text}}}}}"#)) {
            Problem::Beside {
                key: alone,
                other: found,
                ..
            } => assert_eq!((alone, found), (key, other)),
            problem => panic!("{text}: {problem}"),
        }
    }
    assert_eq!(
        problem(r#"{"users":["bob"],"Users":["*"]}"#),
        Problem::Twice("Users".into())
    );
    assert_eq!(
        problem(r#"{"countersign":{"deny":true,"deny":false}}"#),
        Problem::Twice("deny".into())
    );
}

#[test]
fn a_name_that_can_be_nobodys_is_an_error_because_a_denial_of_it_would_deny_nothing() {
    for (key, name) in [
        ("users", "group:eng"),
        ("users", "autogroup:member"),
        ("resources", "mcp.example"),
        ("resources", "https://mcp.example*"),
        ("resources", "https://*.example/mcp"),
        ("clients", "*"),
        ("scopes", "read write"),
        ("scopes", "*"),
        ("introspect", "mcp.example"),
    ] {
        let problem = problem(&json!({ "countersign": { key: [name] } }).to_string());
        assert!(matches!(&problem, Problem::Nothing { key: found, name: named, .. } if found == key && named == name));
        let said = problem.to_string();
        assert!(
            said.starts_with(&format!("`countersign.{key}` names \"{name}\", which ")),
            "{said}"
        );
    }
    // tsidp's own lists are read as tsidp reads them, where such a name is nobody's as well.
    assert!(
        one(r#"{"users":["group:eng"],"resources":["mcp.example"]}"#)
            .errors()
            .is_empty()
    );
}

/// Every example of `docs/policy.md` is a rule that this server accepts, as it stands.
#[test]
fn the_rules_in_the_documentation_can_be_copied() {
    let page = include_str!("../../../../docs/policy.md");
    let mut rules = 0;
    for block in page.split("```json").skip(1) {
        let text = block.split("```").next().unwrap();
        let text = if text.trim_start().starts_with("\"grants\"") {
            format!("{{{text}}}")
        } else {
            text.to_owned()
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let granted = value["grants"]
            .as_array()
            .map(|grants| grants.iter().map(|grant| &grant["app"][CAPABILITY]));
        let texts: Vec<String> = match granted {
            Some(grants) => grants
                .filter_map(Value::as_array)
                .flatten()
                .map(Value::to_string)
                .collect(),
            None => vec![text],
        };
        let policy = Policy::parse(texts.iter().map(String::as_str));
        assert_eq!(policy.errors(), [], "{texts:?}");
        rules += policy.len();
    }
    assert!(rules > 10, "{rules}");
}

#[test]
fn introspection_is_for_the_holder_or_the_client_that_is_named() {
    let policy = Policy::parse([
        r#"{"countersign":{"introspect":["https://a.example/*"]}}"#,
        r#"{"countersign":{"introspect":["https://b.example"],"clients":["gateway"]}}"#,
    ]);
    let may = |client: Option<&str>, resource: &str| {
        let client = client.map(ClientId::from_request);
        policy.may_introspect(
            &names("tag:gw"),
            client.as_ref(),
            &Resource::parse(resource).unwrap(),
            NOW,
        )
    };
    assert_eq!(may(None, "https://a.example/mcp"), Ok(Ground::Rule(1)));
    assert_eq!(may(None, "https://b.example"), Err(Denied::NoRule));
    assert_eq!(may(Some("other"), "https://b.example"), Err(Denied::NoRule));
    assert_eq!(may(Some("gateway"), "https://b.example"), Ok(Ground::Rule(2)));
    assert_eq!(may(Some("gateway"), "https://c.example"), Err(Denied::NoRule));
    let denied = Policy::parse([
        r#"{"countersign":{"introspect":["*"]}}"#,
        r#"{"countersign":{"deny":true,"users":["tag:gw"]}}"#,
    ]);
    let resource = Resource::parse("https://a.example").unwrap();
    assert_eq!(
        denied.may_introspect(&names("tag:gw"), None, &resource, NOW),
        Err(Denied::Rule(2))
    );
}

#[test]
fn the_next_end_is_of_the_rule_that_expires_first_from_now_on() {
    let policy = Policy::parse([
        r#"{"countersign":{"publish_clients":true,"expires":"2026-11-25T00:00:00Z"}}"#,
        r#"{"countersign":{"deny":true,"expires":"2026-11-24T13:00:00Z"}}"#,
        r#"{"countersign":{"deny":true,"expires":"2026-11-24T12:00:00Z"}}"#,
    ]);
    assert_eq!(policy.next_end(NOW), Some(datetime!(2026-11-24 13:00 UTC)));
    assert_eq!(policy.next_end(datetime!(2026-11-25 00:00 UTC)), None);
}

#[test]
fn a_policy_knows_the_texts_it_was_made_of() {
    let rules = [r#"{"allow_dcr":true}"#, "{"];
    let policy = Policy::parse(rules);
    assert!(policy.is_of(rules) && policy.clone().is_of(rules));
    for other in [&rules[..1], &[rules[1], rules[0]], &[rules[0], rules[1], rules[1]], &[]] {
        assert!(!policy.is_of(other.iter().copied()), "{other:?}");
    }
    assert!(Policy::default().is_of([]));
}
