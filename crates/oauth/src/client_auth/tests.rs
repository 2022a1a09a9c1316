use super::*;
use crate::{secret::SecretHash, tests_support::public_client};

fn confidential(method: AuthMethod) -> Client {
    Client {
        id: ClientId::from_request("a:b"),
        secret: Some(SecretHash::of("s%cret")),
        auth_method: method,
        ..public_client()
    }
}

fn read(header: Option<&str>, form: &str) -> Result<Presented, OAuthError> {
    Presented::read(header, &Params::parse(form.as_bytes()))
}

fn basic_header(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[test]
fn each_method_works_and_only_the_registered_one() {
    let basic = basic_header("a%3Ab:s%25cret");
    let presented = [
        read(Some(&basic), "").unwrap(),
        read(None, "client_id=a%3Ab&client_secret=s%25cret").unwrap(),
        read(None, "client_id=a%3Ab").unwrap(),
    ];
    let clients = [
        confidential(AuthMethod::ClientSecretBasic),
        confidential(AuthMethod::ClientSecretPost),
        public_client(),
    ];
    for (i, presented) in presented.iter().enumerate() {
        for (j, client) in clients.iter().enumerate() {
            assert_eq!(presented.verify(Some(client)).is_ok(), i == j, "{i} {j}");
        }
    }
    assert_eq!(presented[0].client.as_str(), "a:b");
}

#[test]
fn unknown_clients_and_wrong_secrets_are_told_the_same() {
    let wrong = read(None, "client_id=a%3Ab&client_secret=x").unwrap();
    let unknown = wrong.verify(None).unwrap_err();
    assert_eq!(
        wrong
            .verify(Some(&confidential(AuthMethod::ClientSecretPost)))
            .unwrap_err(),
        unknown
    );
    assert_eq!(unknown.code(), ErrorCode::InvalidClient);
}

#[test]
fn two_methods_at_once_and_malformed_ones_are_refused() {
    let basic = basic_header("a:b");
    assert!(read(Some(&basic), "client_secret=b").is_err());
    assert!(read(Some(&basic), "client_id=other").is_err());
    assert!(read(Some("Bearer x"), "").is_err());
    assert!(read(Some("Basic !!"), "").is_err());
    assert!(read(None, "").is_err());
    assert!(read(None, "client_assertion=x&client_id=a").is_err());
    assert!(read(None, "client_id=a&client_id=b").is_err());
}
