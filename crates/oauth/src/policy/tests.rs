use proptest::prelude::*;
use time::macros::datetime;

use super::*;

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
    assert_eq!(one(r#"{"allow_dcr":true}"#).may_register(&names("alice"), NOW), Ok(()));
    assert_eq!(
        one(r#"{"allow_dcr":true}"#).may_administer(&names("alice"), NOW),
        Err(Denied::NoRule)
    );
    assert_eq!(
        one(r#"{"allow_admin_ui":true}"#).may_administer(&names("alice"), NOW),
        Ok(())
    );
}

#[test]
fn booleans_are_ored_over_rules_and_read_like_go_does() {
    let policy = Policy::parse([
        r#"{"allow_dcr":false}"#,
        r#"{"Allow_DCR":true,"users":null,"later":{"x":1}}"#,
    ]);
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(()));
}

#[test]
fn keys_of_ours_beside_tsidps_are_an_error_that_names_them_and_grants_nothing() {
    for key in ["deny", "expires", "clients", "scopes", "Deny", "publish_clients"] {
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
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(()));
    assert_eq!(
        policy.may_register(&names("bob"), datetime!(2026-12-01 00:00 UTC)),
        Ok(())
    );
}

#[test]
fn a_denial_of_one_resource_does_not_deny_registration() {
    let policy = Policy::parse([r#"{"allow_dcr":true,"countersign":{"deny":true,"resources":["https://a.example"]}}"#]);
    assert_eq!(policy.may_register(&names("alice"), NOW), Ok(()));
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

/// A list of users or resources, as a rule may have it.
fn list(items: [&'static str; 3]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(items.to_vec(), 0..=3)
}

type Lists = (Vec<&'static str>, Vec<&'static str>);

fn lists() -> impl Strategy<Value = Lists> {
    (
        list(["*", "alice", "bob"]),
        list(["*", "https://a.example", "https://b.example"]),
    )
}

/// tsidp's rule for resources, in one line.
fn tsidp_allows(plain: &[Lists], user: &str, resource: &str) -> bool {
    plain.iter().any(|(users, resources)| {
        users.iter().any(|u| *u == "*" || *u == user) && resources.iter().any(|r| *r == "*" || *r == resource)
    })
}

proptest! {
    #[test]
    fn plain_rules_mean_what_tsidp_means_and_denials_only_take_away(
        plain in proptest::collection::vec(lists(), 0..4),
        denials in proptest::collection::vec(lists(), 0..3),
        user in prop_oneof![Just("alice"), Just("bob")],
        resource in prop_oneof![Just("https://a.example"), Just("https://b.example")],
    ) {
        let as_rules = |denying: bool, (users, resources): &Lists| {
            let ours = serde_json::json!({"users": users, "resources": resources});
            if denying { serde_json::json!({"countersign": {"deny": true, "users": users, "resources": resources}}) } else { ours }
        };
        let texts: Vec<String> = plain.iter().map(|rule| as_rules(false, rule).to_string()).collect();
        let denied: Vec<String> = denials.iter().map(|rule| as_rules(true, rule).to_string()).collect();
        let (names, client, asked) =
            (names(user), ClientId::from_request("c"), Resource::parse(resource).unwrap());
        let ask = Ask { names: &names, client: &client, resource: &asked, scopes: &[], open_network: false };
        let allows = |texts: &[String]| Policy::parse(texts.iter().map(String::as_str)).scopes_for(&ask, NOW).is_ok();
        let by_tsidp = tsidp_allows(&plain, user, resource);
        prop_assert_eq!(allows(&texts), by_tsidp);
        let both: Vec<String> = texts.iter().chain(&denied).cloned().collect();
        prop_assert!(!allows(&both) || by_tsidp);
    }
}
