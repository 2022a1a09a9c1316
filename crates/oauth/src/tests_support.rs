//! What several unit tests need.

use core::time::Duration;

use rand_core::RngCore;
use time::OffsetDateTime;

use crate::{
    answer::ResponseMode,
    authorize,
    caller::{Caller, IdentityRules, Owner, Who},
    claims,
    client::{ApplicationType, AuthMethod, Client, ClientId, Descriptions, GrantType, Registrant},
    options::Options,
    params::Params,
    pkce::Challenge,
    policy::Policy,
    prompt::Prompt,
    redirect::RedirectUri,
    register,
    resource::Resource,
    signing::SigningAlg,
    token,
};

/// Random bytes that anybody can predict: 0, 1, 2, …
#[derive(Default)]
pub(crate) struct Counting(pub(crate) u8);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// A person's node that may register.
pub(crate) fn alice() -> Caller {
    Caller {
        node_id: "nAlice".into(),
        node_number: 11,
        node_name: "laptop.example.ts.net".into(),
        node_key: "nodekey:aa".into(),
        addresses: Vec::new(),
        who: Who::User {
            id: 1,
            login: "alice".into(),
            display_name: "Alice".into(),
            picture: String::new(),
        },
        routes: false,
        shared: false,
        policy: Policy::parse([r#"{"allow_dcr":true}"#]),
        netmap_age: Duration::ZERO,
    }
}

/// A tagged node that may register.
pub(crate) fn tagged() -> Caller {
    Caller {
        node_id: "nTagged".into(),
        who: Who::Tagged(vec!["tag:app".into()]),
        ..alice()
    }
}

/// What a default installation says about registration.
pub(crate) fn registration_rules() -> register::Rules {
    register::Rules {
        mode: register::Mode::Capability,
        max_clients_per_owner: 100,
        own_names: vec!["tag:internal-idp".into()],
        identity: IdentityRules {
            netmap_max_age: Duration::from_secs(86_400),
            routers_are_users: false,
        },
    }
}

/// A public client of alice's, with a loopback redirect.
pub(crate) fn public_client() -> Client {
    Client {
        id: ClientId::from_request("c1"),
        secret: None,
        auth_method: AuthMethod::None,
        redirect_uris: vec![RedirectUri::parse("http://localhost/cb?x=1").unwrap()],
        post_logout_redirect_uris: Vec::new(),
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        application_type: ApplicationType::Native,
        scope: None,
        signing_alg: SigningAlg::Es256,
        tsidp_claims: false,
        descriptions: Descriptions::default(),
        options: Options::default(),
        owner: Owner::User(1),
        registrant: Registrant::of(&alice()),
        issued_at: OffsetDateTime::UNIX_EPOCH,
        registration_token: None,
        unused_until: None,
        published: None,
        publications: 0,
    }
}

/// A node of somebody else.
pub(crate) fn bob() -> Caller {
    Caller {
        node_id: "nBob".into(),
        who: Who::User {
            id: 2,
            login: "bob".into(),
            display_name: "Bob".into(),
            picture: String::new(),
        },
        ..alice()
    }
}

/// alice, who may use every resource.
pub(crate) fn alice_with(rules: &[&str]) -> Caller {
    Caller {
        policy: Policy::parse(rules.iter().copied()),
        ..alice()
    }
}

/// A question of an application on the web to somebody.
pub(crate) fn request() -> authorize::Request {
    let params =
        Params::parse(b"code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256");
    authorize::Request {
        client: ClientId::from_request("c1"),
        redirect_uri: "https://app.example/cb".into(),
        response_mode: ResponseMode::default(),
        published_by: None,
        publication: None,
        state: Some("s".into()),
        scopes: vec!["openid".into(), "mcp".into()],
        resources: vec![Resource::parse("https://mcp.example/a").unwrap()],
        nonce: None,
        challenge: Challenge::read(&params).unwrap(),
        prompt: Prompt::default(),
        max_age: None,
        pushed: None,
    }
}

/// What a default installation says about tokens.
pub(crate) fn token_rules() -> token::Rules {
    token::Rules {
        authorize: authorize::Rules {
            issuer: "https://idp.example.ts.net".into(),
            open_network: false,
            require_grant: false,
            identity: registration_rules().identity,
        },
        claims: claims::Rules {
            issuer_host: "idp.example.ts.net".into(),
            ..claims::Rules::default()
        },
        access_lifetime: time::Duration::minutes(5),
        grant_lifetime: time::Duration::days(30),
        refresh_grace: time::Duration::minutes(10),
    }
}
