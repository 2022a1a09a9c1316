//! What strangers send to the authorization server.

use countersign_oauth::{
    assertion::{Assertion, CLOCK_SKEW, MAX_LIFETIME},
    client_auth::Presented,
    form::Form,
    jwks::{AssertionAlg, Jwks, Material, Signatures},
    par,
    params::Params,
    policy::Policy,
    redirect::RedirectUri,
    register::Request,
    secret::{Secret, SecretHash},
    server_secret::ServerSecret,
    text::DisplayText,
    ticket::Ticket,
    token::code,
};
use rand::{SeedableRng as _, rngs::SmallRng};
use time::OffsetDateTime;

use crate::Target;

pub(crate) const REGISTRATION: Target = Target {
    name: "registration",
    seeds: || {
        let texts = [
            r#"{"redirect_uris":["http://127.0.0.1:3000/cb","https://app.example/cb","com.example.app:/cb"],"client_name":"An app","token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"scope":"openid profile","client_uri":"https://app.example"}"#,
            r#"{"users":["*"],"resources":["https://mcp.example"],"allow_dcr":true,"extra":{"a":1}}"#,
            "http://127.0.0.1:3000/callback?x=1",
            "https://xn--e1afmkfd.example:8443/a/%2e%2e/b",
        ];
        texts.map(Into::into).into()
    },
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let _ = Request::parse(input);
        if let Ok(uri) = RedirectUri::parse(&text) {
            let _ = (
                uri.kind(),
                uri.matches(&text),
                uri.matches("http://127.0.0.1:1/callback?x=1"),
            );
        }
        let policy = Policy::parse([text.as_ref()]);
        let _ = policy.errors().len();
        let cleaned = DisplayText::clean(&text);
        let clean = |text: &DisplayText| DisplayText::clean(text.as_str()).as_ref() == Some(text);
        assert!(cleaned.as_ref().is_none_or(clean), "a clean text stays as it is");
        let secret = Secret::draw(&mut SmallRng::seed_from_u64(1));
        assert!(!secret.hash().verify(&text), "nobody guesses a secret");
        let _ = SecretHash::of(&text).to_text();
    },
};

/// A world in which nobody has signed anything.
struct Unsigned;

impl Signatures for Unsigned {
    fn verify(&self, _: AssertionAlg, _: &Material, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

pub(crate) const CREDENTIALS: Target = Target {
    name: "credentials",
    seeds: || {
        let texts = [
            // {"alg":"ES256","kid":"one"} and {"iss":"c1","sub":"c1","aud":"https://idp","exp":1800000060,"jti":"j1"}
            "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.eyJpc3MiOiJjMSIsInN1YiI6ImMxIiwiYXVkIjoiaHR0cHM6Ly9pZHAiLCJleHAiOjE4MDAwMDAwNjAsImp0aSI6ImoxIn0.c2ln",
            r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB","use":"enc"}]}"#,
            "client_id=c1&client_secret=x&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3AAAAA",
            "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c",
            "code=AAAAAAAABBBBBBBBBBBBBBBBBBBBBACCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC&grant_type=authorization_code",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7",
        ];
        texts.map(Into::into).into()
    },
    run: |input| {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let text = String::from_utf8_lossy(input);
        if let Ok(assertion) = Assertion::read(&text, "https://idp", now) {
            assert!(!assertion.client().as_str().is_empty(), "an assertion is somebody's");
            let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
            let keys = serde_json::from_str(key).ok().and_then(|value| Jwks::read(&value).ok());
            let proven = keys.and_then(|keys| assertion.prove(&keys, None, &Unsigned));
            assert!(proven.is_none(), "nothing is proven without a signature");
            assert!(
                assertion.expires_at() <= now + MAX_LIFETIME + CLOCK_SKEW,
                "nothing is remembered for ever"
            );
        }
        if let Ok(value) = serde_json::from_slice(input) {
            let _ = Jwks::read(&value);
        }
        let params = Params::parse(input);
        let _ = Presented::read(Some(&text), &params, "https://idp", now);
        let _ = Presented::read(None, &params, "https://idp", now);
        let _ = par::referred(&params);
        let secret = ServerSecret::draw(&mut SmallRng::seed_from_u64(1));
        if let Ok(code) = code::Presented::read(&params) {
            let name = code.id().to_text();
            assert!(
                params
                    .one("code")
                    .is_ok_and(|code| code.is_some_and(|code| code.starts_with(&name)))
            );
            assert!(
                !secret.grant_of(code.id()).as_str().contains(&name[8..]),
                "a code does not name its grant"
            );
        }
        assert!(Ticket::open(&text, &secret).is_none(), "nobody else seals a ticket");
        assert!(Form::open(&text, &secret).is_none(), "nor a form");
    },
};
