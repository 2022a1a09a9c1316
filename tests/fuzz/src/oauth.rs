//! What strangers send to the authorization server.

use countersign_oauth::{
    policy::Policy,
    redirect::RedirectUri,
    register::Request,
    secret::{Secret, SecretHash},
    text::DisplayText,
};
use rand::{SeedableRng as _, rngs::SmallRng};

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
