use proptest::prelude::*;
use serde_json::Value;
use time::macros::datetime;

use super::*;
use crate::{
    client::GrantType,
    tests_support::{Counting, alice, alice_with, registration_rules, tagged},
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn parse(body: Value) -> Result<Request, OAuthError> {
    Request::parse(body.to_string().as_bytes())
}

fn refused(body: Value) -> (&'static str, String) {
    let error = parse(body).unwrap_err();
    (error.code().as_str(), error.description().to_owned())
}

fn made(body: Value) -> Registered {
    match register(
        parse(body).unwrap(),
        &alice(),
        &registration_rules(),
        0,
        NOW,
        &mut Counting::default(),
    ) {
        Outcome::Registered(registered) => *registered,
        Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}

#[test]
fn a_public_client_gets_no_secret() {
    let registered = made(json!({
        "redirect_uris": ["http://localhost/callback"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token", "urn:unknown"], "client_name": "Claude\u{202E} Code",
        "application_type": "web", "unknown": 1,
    }));
    let response = serde_json::to_value(registered.response("https://idp.example")).unwrap();
    assert_eq!(response["token_endpoint_auth_method"], "none");
    assert_eq!(response["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(response["client_name"], "Claude Code");
    assert_eq!(response["application_type"], "native");
    assert!(response.get("client_secret").is_none() && response.get("client_secret_expires_at").is_none());
    assert_eq!(registered.client.unused_until, Some(NOW + UNUSED_LIFETIME));
}

#[test]
fn a_confidential_client_gets_a_secret_that_is_stored_as_a_hash() {
    let registered = made(json!({"redirect_uris": ["https://app.example/cb"]}));
    let response = serde_json::to_value(registered.response("https://idp.example")).unwrap();
    assert_eq!(response["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(response["client_secret_expires_at"], 0);
    assert_eq!(response["client_id"].as_str().unwrap().len(), 32);
    let secret = response["client_secret"].as_str().unwrap();
    assert!(registered.client.secret.unwrap().verify(secret));
    let stored = serde_json::to_string(&registered.client).unwrap();
    assert!(!stored.contains(secret));
    assert_eq!(serde_json::from_str::<Client>(&stored).unwrap(), registered.client);
}

#[test]
fn a_client_belongs_to_the_user_or_to_the_tagged_node() {
    let request = parse(json!({"redirect_uris": ["https://app.example/cb"]})).unwrap();
    let Outcome::Registered(made) = register(
        request,
        &tagged(),
        &registration_rules(),
        0,
        NOW,
        &mut Counting::default(),
    ) else {
        panic!()
    };
    assert_eq!(made.client.owner, Owner::Node("nTagged".into()));
    assert_eq!(made.client.registrant.user, "tag:app");
}

#[test]
fn tokens_are_signed_as_the_client_says_and_it_is_told() {
    let body = |alg: &str| json!({"redirect_uris": ["https://app.example/cb"], "id_token_signed_response_alg": alg});
    for alg in SigningAlg::ALL {
        let registered = made(body(alg.as_str()));
        assert_eq!(registered.client.signing_alg, alg);
        let response = serde_json::to_value(registered.response("https://idp.example")).unwrap();
        assert_eq!(response["id_token_signed_response_alg"], alg.as_str());
    }
    let default = made(json!({"redirect_uris": ["https://app.example/cb"]}));
    assert_eq!(default.client.signing_alg, SigningAlg::Es256);
    for alg in ["none", "HS256", "PS256"] {
        let (code, text) = refused(body(alg));
        assert_eq!(code, "invalid_client_metadata");
        assert!(
            text.contains("id_token_signed_response_alg") && text.contains("RS256"),
            "{text}"
        );
    }
}

#[test]
fn tsidps_claims_are_for_administrators_to_give() {
    let ask = |policy: &[&str], body: Value| {
        register(
            parse(body).unwrap(),
            &alice_with(policy),
            &registration_rules(),
            0,
            NOW,
            &mut Counting::default(),
        )
    };
    let body = json!({"redirect_uris": ["https://app.example/cb"], "tsidp_claims": true});
    let Outcome::Refused(refused) = ask(&[r#"{"allow_dcr":true}"#], body.clone()) else {
        panic!()
    };
    assert_eq!(refused.error.code().as_str(), "invalid_client_metadata");
    assert!(refused.error.description().contains("allow_admin_ui"));
    let Outcome::Registered(made) = ask(&[r#"{"allow_dcr":true,"allow_admin_ui":true}"#], body) else {
        panic!()
    };
    let response = serde_json::to_value(made.response("https://idp.example")).unwrap();
    assert!(made.client.tsidp_claims && response["tsidp_claims"] == true);
    assert!(parse(json!({"redirect_uris": [], "tsidp_claims": "yes"})).is_err());
}

#[test]
fn a_mixed_list_of_redirects_names_the_bad_one() {
    let (code, text) = refused(json!({"redirect_uris": ["https://a.example/cb", "http://b.example/cb"]}));
    assert_eq!(code, "invalid_redirect_uri");
    assert!(text.contains("http://b.example/cb") && text.contains("https"), "{text}");
}

#[test]
fn redirects_decide_what_an_application_is() {
    let native = |body| made(body).client.application_type;
    assert_eq!(
        native(json!({"redirect_uris": ["https://vscode.dev/redirect"], "application_type": "native"})),
        ApplicationType::Native
    );
    assert_eq!(
        native(json!({"redirect_uris": ["cursor://a/cb"], "application_type": "web"})),
        ApplicationType::Native
    );
    let (code, text) = refused(json!({"redirect_uris": ["http://127.0.0.1/cb"], "application_type": "web"}));
    assert_eq!(code, "invalid_redirect_uri");
    assert!(text.contains("http://127.0.0.1/cb"), "{text}");
}

#[test]
fn an_apps_own_scheme_is_for_public_clients() {
    assert_eq!(
        made(json!({"redirect_uris": ["cursor://a/cb"]})).client.auth_method,
        AuthMethod::None
    );
    let (code, _) =
        refused(json!({"redirect_uris": ["cursor://a/cb"], "token_endpoint_auth_method": "client_secret_post"}));
    assert_eq!(code, "invalid_redirect_uri");
}

#[test]
fn machines_need_no_redirect() {
    let registered = made(json!({"grant_types": ["client_credentials"]}));
    assert_eq!(registered.client.grant_types, [GrantType::ClientCredentials]);
    assert_eq!(refused(json!({})).0, "invalid_redirect_uri");
    let public = json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"});
    assert_eq!(refused(public).0, "invalid_client_metadata");
}

#[test]
fn every_bad_field_is_named() {
    for (field, value) in [
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("token_endpoint_auth_method", json!(1)),
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!("authorization_code")),
        ("response_types", json!(["token"])),
        ("client_uri", json!("javascript:alert(1)")),
        ("logo_uri", json!("nonsense")),
        ("contacts", json!([1])),
        ("scope", json!("a \"b\"")),
        ("client_name", json!({})),
        ("application_type", json!([])),
    ] {
        let (code, text) = refused(json!({"redirect_uris": ["https://a.example/cb"], field: value}));
        assert_eq!(code, "invalid_client_metadata", "{field}");
        assert!(text.contains(field), "{text}");
    }
    assert!(
        Request::parse(br#"{"scope":"a","scope":"b"}"#)
            .unwrap_err()
            .description()
            .contains("scope")
    );
    assert_eq!(
        Request::parse(b"[]").unwrap_err().code(),
        ErrorCode::InvalidClientMetadata
    );
}

#[test]
fn the_missing_grant_is_refused_with_both_remedies() {
    let refused = admit(&alice_without_grant(), &registration_rules(), NOW).unwrap_err();
    assert_eq!(refused.error.code(), ErrorCode::AccessDenied);
    assert!(refused.error.description().contains("allow_dcr"), "{}", refused.error);
    let remedies = serde_json::to_value(&refused.remedies).unwrap();
    assert_eq!(
        remedies[0]["add"],
        json!({"src": ["alice@"], "dst": ["tag:internal-idp"], "app": {CAPABILITY: [{"allow_dcr": true}]}})
    );
    assert_eq!(remedies[1]["add"], "registration = \"network\"");
}

fn alice_without_grant() -> Caller {
    Caller {
        policy: crate::policy::Policy::default(),
        ..alice()
    }
}

#[test]
fn the_mode_decides_whether_a_grant_is_asked_for() {
    let mut rules = registration_rules();
    assert!(admit(&alice(), &rules, NOW).is_ok());
    rules.mode = Mode::Network;
    assert!(admit(&alice_without_grant(), &rules, NOW).is_ok());
    let denied = Caller {
        policy: crate::policy::Policy::parse([r#"{"countersign":{"deny":true,"users":["alice"]}}"#]),
        ..alice()
    };
    assert!(admit(&denied, &rules, NOW).is_err());
    rules.mode = Mode::Off;
    assert!(admit(&alice(), &rules, NOW).unwrap_err().remedies.is_empty());
}

#[test]
fn identities_that_cannot_be_vouched_for_register_nothing() {
    let rules = registration_rules();
    let shared = Caller {
        shared: true,
        ..alice()
    };
    assert!(admit(&shared, &rules, NOW).is_err());
    let router = Caller {
        routes: true,
        ..alice()
    };
    assert!(
        admit(&router, &rules, NOW)
            .unwrap_err()
            .error
            .description()
            .contains("routers_are_users")
    );
    let stale = Caller {
        netmap_age: core::time::Duration::from_secs(86_401),
        ..alice()
    };
    assert_eq!(
        admit(&stale, &rules, NOW).unwrap_err().error.code(),
        ErrorCode::TemporarilyUnavailable
    );
}

#[test]
fn the_quota_counts_what_the_owner_has() {
    let request = parse(json!({"redirect_uris": ["https://a.example/cb"]})).unwrap();
    let mut rules = registration_rules();
    rules.max_clients_per_owner = 2;
    let outcome = register(request.clone(), &alice(), &rules, 2, NOW, &mut Counting::default());
    assert!(matches!(outcome, Outcome::Refused(refused) if refused.error.description().contains("dcr_max")));
    rules.max_clients_per_owner = 0;
    let outcome = register(request, &alice(), &rules, 2_000_000, NOW, &mut Counting::default());
    assert!(matches!(outcome, Outcome::Registered(_)));
}

proptest! {
    #[test]
    fn parsing_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::parse(&bytes);
    }

    #[test]
    fn broken_requests_never_panic(cut in 0_usize..300, flip in 0_usize..300) {
        let body = json!({
            "redirect_uris": ["http://localhost/callback", "https://a.example/cb"], "client_name": "n",
            "grant_types": ["authorization_code"], "scope": "openid email", "client_uri": "https://a.example/",
        }).to_string();
        let mut bytes = body.into_bytes();
        let flip = flip % bytes.len();
        bytes[flip] ^= 0x11;
        bytes.truncate(cut);
        let _ = Request::parse(&bytes);
    }

    #[test]
    fn whatever_is_registered_keeps_the_redirect_rules(
        uris in proptest::collection::vec(
            prop_oneof![
                Just("http://localhost/cb"), Just("https://a.example/cb"), Just("cursor://a/b"),
                Just("http://a.example/cb"), Just("javascript:x"),
            ], 1..4),
        method in prop_oneof![Just(None), Just(Some("none")), Just(Some("client_secret_post"))],
        kind in prop_oneof![Just(None), Just(Some("web")), Just(Some("native"))],
    ) {
        let body = json!({"redirect_uris": uris, "token_endpoint_auth_method": method, "application_type": kind});
        if let Ok(request) = parse(body) {
            prop_assert!(uris.iter().all(|uri| RedirectOk::holds(uri)));
            let private = request.redirect_uris.iter().any(|uri| uri.kind() == crate::redirect::Kind::PrivateUse);
            prop_assert!(!(private && request.auth_method.is_confidential()));
        }
    }
}

struct RedirectOk;

impl RedirectOk {
    fn holds(uri: &str) -> bool {
        !uri.starts_with("http://a.") && !uri.starts_with("javascript")
    }
}

#[test]
fn logout_addresses_are_registered_under_the_same_rules() {
    let body =
        |uri: &str| format!(r#"{{"redirect_uris":["https://app.example/cb"],"post_logout_redirect_uris":["{uri}"]}}"#);
    let request = Request::parse(body("https://app.example/bye").as_bytes()).unwrap();
    assert_eq!(request.post_logout_redirect_uris[0].as_str(), "https://app.example/bye");
    for bad in ["http://app.example/bye", "javascript:alert(1)", "https://app.example/*"] {
        let error = Request::parse(body(bad).as_bytes()).unwrap_err();
        assert!(
            error.description().starts_with("post_logout_redirect_uris: "),
            "{error}"
        );
    }
}
