use serde_json::{Value, json};
use time::macros::datetime;

use super::{
    code::{Presented, redeem},
    refresh::{RefreshToken, refresh},
    *,
};
use crate::{
    bearer::{self, AccessToken, Asker, Standing},
    client::{AuthMethod, ClientId, GrantType},
    footing::Publisher,
    grant::{CODE_LIFETIME, Code, CodeId, NodeTag},
    pkce::Challenge,
    policy::Policy,
    secret::SecretHash,
    server_secret::ServerSecret,
    tests_support::{Counting, alice, alice_with, bob, public_client, token_rules},
};

mod bearers;
mod codes;
mod machines;
mod nodes;
mod publication;
mod refreshing;

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const ANY: &str = r#"{"users":["*"],"resources":["*"]}"#;

/// A scene: who asks, with what, and what the netmap says about the subject.
struct Scene {
    client: Client,
    caller: Caller,
    live: Option<Caller>,
    registrant: Option<Caller>,
    rules: Rules,
    now: OffsetDateTime,
    rng: Box<dyn RngCore>,
}

fn scene() -> Scene {
    Scene {
        client: public_client(),
        caller: alice_with(&[ANY]),
        live: Some(alice_with(&[ANY])),
        registrant: None,
        rules: token_rules(),
        now: NOW,
        rng: Box::new(Counting::default()),
    }
}

/// A code: its name and a secret.
const CODE: &str = "h5FPNSkvAAECAwQFBgcICQoLDA0ODwxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn secret() -> ServerSecret {
    ServerSecret::draw(&mut Counting(7))
}

fn code() -> Code {
    let params =
        Params::parse(b"code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256");
    Code {
        id: CodeId::draw("nAlice", &mut Counting::default()),
        hash: SecretHash::of(CODE),
        authorization: Authorization {
            client: public_client().id,
            subject: Subject::of(&alice()),
            scopes: vec!["openid".into(), "mcp".into()],
            resources: vec![Resource::parse("https://mcp.example/mcp").unwrap()],
            auth_time: NOW,
            published_by: None,
            publication: None,
        },
        nonce: Some("n".into()),
        redirect_uri: "http://localhost:5000/cb?x=1".into(),
        challenge: Challenge::read(&params).unwrap(),
        expires_at: NOW + CODE_LIFETIME,
        spent: false,
    }
}

impl Scene {
    fn ask(&mut self, form: &str, decide: impl FnOnce(&Asking<'_>, &mut dyn RngCore) -> Outcome) -> Outcome {
        let params = Params::parse(form.as_bytes());
        let asking = Asking {
            params: &params,
            client: &self.client,
            caller: &self.caller,
            live: self.live.as_ref(),
            registrant: self.registrant.as_ref(),
            rules: &self.rules,
            now: self.now,
        };
        decide(&asking, &mut *self.rng)
    }

    fn redeem(&mut self, form: &str, code: Option<Code>, issued: Option<Grant>) -> Outcome {
        self.ask(form, |asking, rng| {
            let presented = Presented::read(asking.params).unwrap();
            redeem(asking, &presented, code, issued, &secret(), rng)
        })
    }

    fn refresh(&mut self, form: &str, token: &str, grant: &Grant) -> Outcome {
        let token = RefreshToken::parse(token).unwrap();
        assert_eq!(token.grant(), grant.id);
        self.ask(form, |asking, rng| refresh(asking, &token, Some(grant.clone()), rng))
    }

    fn issued(&mut self) -> (Grant, Tokens) {
        let (writes, tokens) = issued(self.redeem(&verifier(), Some(code()), None));
        (*writes.grant.unwrap(), tokens)
    }
}

fn verifier() -> String {
    format!("code={CODE}&code_verifier={VERIFIER}")
}

fn issued(outcome: Outcome) -> (Writes, Tokens) {
    match outcome {
        Outcome::Issued { writes, tokens } => (writes, *tokens),
        Outcome::Refused { error, .. } => panic!("{error}"),
    }
}

/// The access token as a server reads it that it is presented to.
fn access_token(tokens: &Tokens) -> AccessToken {
    let claims = serde_json::to_vec(tokens.access.claims()).unwrap();
    AccessToken::read(&claims).unwrap()
}

fn is_spent(writes: &Writes) -> bool {
    matches!(&writes.code, Some(CodeEnd::Spent(code)) if code.spent)
}

fn refused(outcome: Outcome) -> (String, Writes, bool) {
    match outcome {
        Outcome::Refused {
            error,
            writes,
            suspicious,
        } => (error.code().as_str().to_owned(), writes, suspicious),
        Outcome::Issued { .. } => panic!("tokens were issued"),
    }
}
