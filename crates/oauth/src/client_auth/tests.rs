//! Named after the rows of client authentication: one method per request, the registered one, uniform errors.

use serde_json::json;

use super::*;
use crate::{
    jwks::{AssertionAlg, Jwks, Material},
    options::Options,
    secret::SecretHash,
    tests_support::public_client,
};

const ISSUER: &str = "https://idp.example.ts.net";

/// A world in which the bytes `good` sign everything.
struct Good;

impl Signatures for Good {
    fn verify(&self, _: AssertionAlg, _: &Material, _: &[u8], signature: &[u8]) -> bool {
        signature == b"good"
    }
}

fn client(method: AuthMethod) -> Client {
    let key = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)}]});
    Client {
        id: ClientId::from_request("a:b"),
        secret: method.has_secret().then(|| SecretHash::of("s%cret")),
        auth_method: method,
        options: Options {
            jwks: Some(Jwks::read(&key).unwrap()),
            ..Options::default()
        },
        ..public_client()
    }
}

fn read(header: Option<&str>, form: &str) -> Result<Presented, OAuthError> {
    Presented::read(
        header,
        &Params::parse(form.as_bytes()),
        ISSUER,
        OffsetDateTime::UNIX_EPOCH,
    )
}

fn basic_header(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

fn by_assertion(signature: &str) -> String {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = json!({"iss": "a:b", "sub": "a:b", "aud": ISSUER, "exp": 60, "jti": "1"});
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = part(json!({"alg": "EdDSA"}).to_string());
    let jwt = format!("{header}.{}.{}", part(claims.to_string()), part(signature.into()));
    format!(
        "client_assertion_type={}&client_assertion={jwt}",
        ASSERTION_TYPE.replace(':', "%3A")
    )
}

#[test]
fn each_method_works_and_only_the_registered_one() {
    let basic = basic_header("a%3Ab:s%25cret");
    let presented = [
        read(None, "client_id=a%3Ab").unwrap(),
        read(Some(&basic), "").unwrap(),
        read(None, "client_id=a%3Ab&client_secret=s%25cret").unwrap(),
        read(None, &by_assertion("good")).unwrap(),
    ];
    for (i, presented) in presented.iter().enumerate() {
        assert_eq!(presented.client.as_str(), "a:b");
        for (j, method) in AuthMethod::ALL.into_iter().enumerate() {
            assert_eq!(
                presented.verify(Some(&client(method)), &Good).is_ok(),
                i == j,
                "{i} {j}"
            );
        }
    }
    let proof = presented[3].verify(Some(&client(AuthMethod::PrivateKeyJwt)), &Good);
    assert_eq!(proof.unwrap().spent.unwrap().client.as_str(), "a:b");
}

#[test]
fn unknown_clients_wrong_methods_and_wrong_credentials_are_told_the_same() {
    let told = |form: &str, client: Option<&Client>| read(None, form).unwrap().verify(client, &Good).unwrap_err();
    let by_post = "client_id=a%3Ab&client_secret=x";
    let unknown = told(by_post, None);
    assert_eq!(unknown.code(), ErrorCode::InvalidClient);
    for method in AuthMethod::ALL {
        let client = client(method);
        assert_eq!(told(by_post, Some(&client)), unknown);
        assert_eq!(told(&by_assertion("forged"), Some(&client)), unknown);
    }
    let pinned = Client {
        options: Options {
            token_endpoint_auth_signing_alg: Some(AssertionAlg::Es256),
            ..client(AuthMethod::PrivateKeyJwt).options
        },
        ..client(AuthMethod::PrivateKeyJwt)
    };
    assert_eq!(told(&by_assertion("good"), Some(&pinned)), unknown);
}

#[test]
fn two_methods_at_once_and_malformed_ones_are_refused() {
    let basic = basic_header("a:b");
    assert!(read(Some(&basic), "client_secret=b").is_err());
    assert!(read(Some(&basic), "client_id=other").is_err());
    assert!(read(Some(&basic), &by_assertion("good")).is_err());
    assert!(read(Some("Bearer x"), "").is_err());
    assert!(read(Some("Basic !!"), "").is_err());
    let with = |more: &str| read(None, &format!("{}{more}", by_assertion("good")));
    assert!(with("").is_ok() && with("&client_id=a%3Ab").is_ok());
    for more in ["&client_id=other", "&client_secret=b", "&client_assertion=x"] {
        assert!(with(more).is_err(), "{more}");
    }
    for form in [
        "",
        "client_secret=x",
        "client_assertion=x&client_id=a",
        "client_assertion=x&client_assertion_type=saml",
        "client_assertion_type=x&client_id=a",
        "client_id=a&client_id=b",
    ] {
        assert!(read(None, form).is_err(), "{form}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let text = format!("{:?}", read(None, "client_id=a&client_secret=hunter2").unwrap());
    assert!(text.contains("ClientSecretPost") && !text.contains("hunter2"), "{text}");
}
