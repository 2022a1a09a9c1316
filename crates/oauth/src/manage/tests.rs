use serde_json::json;

use super::*;
use crate::{
    client::{AuthMethod, GrantType},
    secret::SecretHash,
    tests_support::{alice, alice_with, bob, public_client},
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
    replace(client, body, &alice(), OffsetDateTime::UNIX_EPOCH)
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
    let client = client();
    assert!(admit(Some(&client), Some("token"), &alice()).is_ok());
    for refused in [
        admit(Some(&client), Some("token"), &bob()),
        admit(Some(&client), Some("other"), &alice()),
        admit(Some(&client), None, &alice()),
        admit(Some(&public_client()), Some("token"), &alice()),
        admit(None, Some("token"), &alice()),
    ] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidToken);
    }
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
    let administrator = alice_with(&[r#"{"allow_admin_ui":true}"#]);
    let changed = replace(&client, &with, &administrator, OffsetDateTime::UNIX_EPOCH).unwrap();
    assert!(changed.tsidp_claims);
    assert!(replaced(&changed, &with).unwrap().tsidp_claims);
    let without = body(&client, &json!({"tsidp_claims": false}));
    assert!(!replaced(&changed, &without).unwrap().tsidp_claims);
}
