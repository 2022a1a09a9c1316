use time::macros::datetime;

use super::*;
use crate::tests_support::{alice_with, token_rules};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn scopes(rules: &[&str], resources: &[&str], asked: &[&str], require_grant: bool) -> Result<Vec<String>, OAuthError> {
    let resources: Vec<Resource> = resources.iter().map(|text| Resource::parse(text).unwrap()).collect();
    let asked: Vec<String> = asked.iter().map(|&text| text.to_owned()).collect();
    let settings = Rules {
        require_grant,
        ..token_rules().authorize
    };
    let client = ClientId::from_request("c1");
    allowed_scopes(&asked, &resources, &client, &alice_with(rules), &settings, NOW)
}

#[test]
fn a_scope_must_be_had_for_every_resource() {
    let rules = [
        r#"{"countersign":{"users":["alice"],"resources":["https://a.example"],"scopes":["read","write"]}}"#,
        r#"{"countersign":{"users":["alice"],"resources":["https://b.example"],"scopes":["read"]}}"#,
    ];
    let both = ["https://a.example", "https://b.example"];
    assert_eq!(
        scopes(&rules, &both[..1], &["read", "write"], false).unwrap(),
        ["read", "write"]
    );
    assert_eq!(scopes(&rules, &both, &["read", "write"], false).unwrap(), ["read"]);
    let error = scopes(&rules, &["https://a.example", "https://c.example"], &[], false).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AccessDenied);
    assert!(error.description().contains("https://c.example"), "{error}");
}

#[test]
fn where_grants_are_required_login_itself_is_refused_without_one() {
    assert_eq!(scopes(&[], &[], &["openid"], false).unwrap(), ["openid"]);
    let error = scopes(&[], &[], &["openid"], true).unwrap_err();
    assert!(
        error
            .description()
            .contains("allows alice to log in with the client c1"),
        "{error}"
    );
    let named = [r#"{"countersign":{"users":["alice"],"clients":["c1"]}}"#];
    assert_eq!(scopes(&named, &[], &["openid"], true).unwrap(), ["openid"]);
    let other = [r#"{"countersign":{"users":["alice"],"clients":["c2"]}}"#];
    assert!(scopes(&other, &[], &["openid"], true).is_err());
    assert!(
        scopes(&named, &["https://a.example"], &[], true).is_err(),
        "a rule for login gives no resource"
    );
}

#[test]
fn refusals_name_the_rule() {
    let error = scopes(&[r#"{"countersign":{"deny":true,"clients":["c1"]}}"#], &[], &[], false).unwrap_err();
    assert!(error.description().contains("rule 1"), "{error}");
    let error = scopes(&[r#"{"deny":true}"#], &[], &[], false).unwrap_err();
    assert!(error.description().contains("cannot be understood"), "{error}");
}
