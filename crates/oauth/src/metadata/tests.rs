use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://idp.example.ts.net";

fn document(metadata: &Metadata) -> Value {
    serde_json::to_value(metadata).unwrap()
}

#[test]
fn the_issuer_is_byte_for_byte_what_was_configured() {
    let value = document(&Metadata::oauth(ISSUER, Features::default()));
    assert_eq!(value["issuer"], ISSUER);
    assert_eq!(value["jwks_uri"], "https://idp.example.ts.net/.well-known/jwks.json");
}

#[test]
fn only_what_answers_is_advertised() {
    let value = document(&Metadata::oauth(ISSUER, Features::default()));
    for absent in [
        "authorization_endpoint",
        "token_endpoint",
        "registration_endpoint",
        "client_id_metadata_document_supported",
    ] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    let all = document(&Metadata::oauth(
        ISSUER,
        Features {
            registration: true,
            codes: true,
        },
    ));
    assert_eq!(all["registration_endpoint"], "https://idp.example.ts.net/register");
    assert_eq!(all["token_endpoint"], "https://idp.example.ts.net/token");
}

#[test]
fn both_documents_agree_and_name_what_mcp_clients_insist_on() {
    let oauth = document(&Metadata::oauth(ISSUER, Features::default()));
    let openid = document(&Metadata::openid(ISSUER, Features::default()));
    for (key, value) in oauth.as_object().unwrap() {
        assert_eq!(&openid[key], value, "{key}");
    }
    assert_eq!(openid["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(
        openid["id_token_signing_alg_values_supported"],
        json!(["ES256", "RS256", "EdDSA"])
    );
    assert_eq!(openid["subject_types_supported"], json!(["public"]));
    assert!(
        openid["token_endpoint_auth_methods_supported"]
            .as_array()
            .unwrap()
            .contains(&json!("none"))
    );
}

#[test]
fn openid_connect_names_logout_and_the_one_acr() {
    let features = Features {
        codes: true,
        ..Features::default()
    };
    let value = document(&Metadata::openid(ISSUER, features));
    assert_eq!(value["end_session_endpoint"], "https://idp.example.ts.net/logout");
    assert_eq!(
        value["acr_values_supported"],
        json!(["urn:countersign:acr:tailnet-node"])
    );
}
