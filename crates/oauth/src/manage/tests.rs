use serde_json::json;

use super::*;
use crate::{
    client::{AuthMethod, GrantType},
    secret::SecretHash,
    tests_support::{alice, alice_with, bob, public_client, registration_rules},
};

fn client() -> Client {
    Client {
        registration_token: Some(SecretHash::of("token")),
        ..public_client()
    }
}

fn confidential() -> Client {
    Client {
        secret: Some(SecretHash::of("secret")),
        auth_method: AuthMethod::ClientSecretPost,
        ..client()
    }
}

fn replaced(client: &Client, body: &[u8]) -> Result<Client, OAuthError> {
    let now = OffsetDateTime::UNIX_EPOCH;
    replace(client, body, &alice(), &registration_rules(), now)
}

/// A replacement of `client`, with `more` in it.
fn body(client: &Client, more: &Value) -> Vec<u8> {
    let mut body = json!({
        "client_id": client.id.as_str(), "redirect_uris": ["https://new.example/cb"],
        "token_endpoint_auth_method": client.auth_method.as_str(),
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

#[test]
fn the_owner_with_the_token_manages_and_nobody_else() {
    let (client, other, rules) = (client(), public_client(), registration_rules());
    let admitted = |client, token, caller: &Caller| admit(client, token, caller, &rules).map(drop);
    assert!(admitted(Some(&client), Some("token"), &alice()).is_ok());
    for refused in [
        admitted(Some(&client), Some("token"), &bob()),
        admitted(Some(&client), Some("other"), &alice()),
        admitted(Some(&client), None, &alice()),
        admitted(Some(&other), Some("token"), &alice()),
        admitted(None, Some("token"), &alice()),
    ] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidToken);
    }
    let routing = Caller {
        routes: true,
        ..alice()
    };
    let shared = Caller {
        shared: true,
        ..alice()
    };
    for nobody in [routing, shared] {
        let refused = admitted(Some(&client), Some("token"), &nobody).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::AccessDenied);
    }
}

#[test]
fn who_may_not_register_may_not_make_another_client_of_the_one_he_has() {
    let client = client();
    let body = body(&client, &json!({"redirect_uris": ["https://evil.example/"]}));
    let (network, off) = (
        Rules {
            mode: register::Mode::Network,
            ..registration_rules()
        },
        Rules {
            mode: register::Mode::Off,
            ..registration_rules()
        },
    );
    let denied = [
        r#"{"allow_dcr":true}"#,
        r#"{"countersign":{"deny":true,"users":["alice"]}}"#,
    ];
    for (caller, rules) in [
        (alice_with(&[]), registration_rules()),
        (alice_with(&denied), registration_rules()),
        (alice_with(&denied), network.clone()),
        (alice(), off),
    ] {
        let refused = replace(&client, &body, &caller, &rules, OffsetDateTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::AccessDenied);
    }
    assert!(replace(&client, &body, &alice_with(&[]), &network, OffsetDateTime::UNIX_EPOCH).is_ok());
}

#[test]
fn metadata_is_replaced_and_identity_stays() {
    let client = client();
    let changed = replaced(&client, &body(&client, &json!({"client_name": "New"}))).unwrap();
    assert_eq!(changed.redirect_uris[0].as_str(), "https://new.example/cb");
    assert_eq!(
        changed.grant_types,
        [GrantType::AuthorizationCode],
        "what is left out is gone"
    );
    assert_eq!(
        (&changed.id, &changed.owner, &changed.registration_token),
        (&client.id, &client.owner, &client.registration_token)
    );
}

#[test]
fn what_was_published_is_what_was_looked_at() {
    let client = client();
    let as_it_is = body(&client, &json!({"client_name": "App"}));
    let published = publish::publish(
        replaced(&client, &as_it_is).unwrap(),
        "root",
        time::OffsetDateTime::UNIX_EPOCH,
    );
    assert_eq!(replaced(&published, &as_it_is).unwrap(), published);
    let other = body(
        &client,
        &json!({"client_name": "App", "redirect_uris": ["https://evil.example/"]}),
    );
    assert_eq!(replaced(&published, &other).unwrap().published, None);
}

#[test]
fn a_public_client_stays_public_and_a_confidential_one_keeps_its_secret() {
    for (client, more) in [
        (client(), json!({"token_endpoint_auth_method": "client_secret_post"})),
        // RFC 7591 2: left out, it means client_secret_basic.
        (client(), json!({"token_endpoint_auth_method": null})),
        (confidential(), json!({"token_endpoint_auth_method": "none"})),
    ] {
        let error = replaced(&client, &body(&client, &more)).unwrap_err();
        assert!(
            error
                .description()
                .starts_with("token_endpoint_auth_method cannot be changed")
        );
    }
    let client = confidential();
    let same = replaced(&client, &body(&client, &json!({"client_secret": "secret"}))).unwrap();
    assert_eq!(same.secret, client.secret);
}

#[test]
fn what_a_replacement_must_not_say_is_named() {
    let client = confidential();
    for (field, value) in [
        ("client_id", json!("c2")),
        ("client_id", Value::Null),
        ("client_secret", json!("another")),
        ("client_secret", json!(7)),
        ("client_id_issued_at", json!(1)),
        ("client_secret_expires_at", json!(0)),
        ("registration_access_token", json!("token")),
        ("registration_client_uri", json!("https://idp/register/c1")),
    ] {
        let error = replaced(&client, &body(&client, &json!({field: value}))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidClientMetadata);
        assert!(error.description().starts_with(field), "{}", error.description());
    }
}

#[test]
fn tsidps_claims_stay_but_come_only_by_an_administrator() {
    let client = client();
    let with = body(&client, &json!({"tsidp_claims": true}));
    let error = replaced(&client, &with).unwrap_err();
    assert!(error.description().contains("allow_admin_ui"), "{error:?}");
    let administrator = alice_with(&[r#"{"allow_dcr":true,"allow_admin_ui":true}"#]);
    let now = OffsetDateTime::UNIX_EPOCH;
    let changed = replace(&client, &with, &administrator, &registration_rules(), now).unwrap();
    assert!(changed.tsidp_claims);
    assert!(replaced(&changed, &with).unwrap().tsidp_claims);
    let without = body(&client, &json!({"tsidp_claims": false}));
    assert!(!replaced(&changed, &without).unwrap().tsidp_claims);
}
