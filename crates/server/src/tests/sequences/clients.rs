//! Clients: how they come to be, and how they prove who they are.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::tests::client_auth::{Key, with};

pub(super) const WEB: &str = "https://app.example.ts.net/cb";

/// A registered client.
pub(super) struct App {
    pub(super) id: String,
    pub(super) credential: Credential,
    pub(super) redirect: &'static str,
    pub(super) opaque: bool,
    pub(super) pushes: bool,
    pub(super) default_resource: Option<&'static str>,
    pub(super) registration_token: String,
    pub(super) owner: Owner,
    pub(super) registrant: usize,
    pub(super) published: bool,
    pub(super) deleted: bool,
    /// An assertion that was good once.
    spent: Option<Fields>,
}

pub(super) enum Credential {
    Nothing,
    Secret(String),
    Key(Key),
}

type Fields = Vec<(&'static str, String)>;

/// How a client proves itself in one request.
pub(super) struct Proof {
    pub(super) app: usize,
    /// Whether it should be believed.
    pub(super) proven: bool,
    authorization: String,
    fields: Fields,
}

impl App {
    pub(super) fn is_confidential(&self) -> bool {
        !matches!(self.credential, Credential::Nothing)
    }

    pub(super) fn has_key(&self) -> bool {
        matches!(self.credential, Credential::Key(_))
    }
}

impl Sequence {
    #[expect(
        clippy::too_many_lines,
        reason = "one step of the model: a request and what it may change"
    )]
    pub(super) async fn register(&mut self) {
        let node = self.some_node();
        let key = Key::es256();
        let method = *["none", "none", "client_secret_basic", "private_key_jwt"]
            .choose(&mut self.rng)
            .unwrap_or(&"none");
        let on_the_web = method != "none" || self.rng.random_bool(0.3);
        let (opaque, pushes) = (self.rng.random_bool(0.35), self.rng.random_bool(0.2));
        let default_resource = self.rng.random_bool(0.2).then_some(RESOURCES[0]);
        let mut body = json!({
            "redirect_uris": [if on_the_web { WEB } else { "http://localhost/callback" }],
            "token_endpoint_auth_method": method,
            "grant_types": ["authorization_code", "refresh_token"],
            "access_token_strategy": if opaque { "opaque" } else { "jwt" },
            "require_pushed_authorization_requests": pushes,
            "default_resource": default_resource,
        });
        if method != "none" {
            body["grant_types"] = json!(["authorization_code", "refresh_token", "client_credentials"]);
        }
        if method == "private_key_jwt" {
            body["jwks"] = key.jwks();
        }
        let headers = [("content-type", "application/json")];
        let Some(answer) = self
            .send(node, Method::POST, "/register", &headers, body.to_string())
            .await
        else {
            return;
        };
        if answer.status != StatusCode::CREATED {
            return;
        }
        let (whose, rules) = (self.machines[node].whose, &self.machines[node].rules);
        let may = self.believed(node)
            && rules.iter().any(|rule| matches!(rule, Rule::Register))
            && !shut_out(rules, whose.name());
        self.must(may, "a client was registered without a rule");
        let made = answer.json();
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        self.note(format!(
            "{} registered client {}: {method}, opaque {opaque}, pushes {pushes}",
            NODES[node].0,
            self.apps.len()
        ));
        self.apps.push(App {
            id: text("client_id").unwrap(),
            credential: match method {
                "none" => Credential::Nothing,
                "private_key_jwt" => Credential::Key(key),
                _ => Credential::Secret(text("client_secret").unwrap()),
            },
            redirect: if on_the_web { WEB } else { REDIRECT },
            opaque,
            pushes,
            default_resource,
            registration_token: text("registration_access_token").unwrap(),
            owner: self.owner(node),
            registrant: node,
            published: false,
            deleted: false,
            spent: None,
        });
    }

    /// The client's own proof; now and then another client's, or one that is wrong or was good before.
    pub(super) fn proof(&mut self, app: usize) -> Proof {
        let other = self.rng.random_range(0..self.apps.len());
        let app = if self.rng.random_bool(0.9) { app } else { other };
        let right = self.rng.random_bool(0.9);
        self.proof_of(app, right)
    }

    pub(super) fn proof_of(&mut self, app: usize, right: bool) -> Proof {
        let jti = format!("j{}", self.rng.random::<u64>());
        let client = &self.apps[app];
        let mut proof = Proof {
            app,
            proven: right,
            authorization: String::new(),
            fields: Vec::new(),
        };
        match (&client.credential, &client.spent) {
            (Credential::Nothing, _) => {
                proof.proven = true;
                proof.fields = vec![("client_id", client.id.clone())];
            }
            (Credential::Secret(secret), _) => {
                let secret = if right { secret } else { "wrong" };
                proof.authorization = format!("Basic {}", STANDARD.encode(format!("{}:{secret}", client.id)));
            }
            (Credential::Key(key), _) if right => proof.fields = key.assertion(&self.rig, &client.id, &jti),
            (Credential::Key(_), Some(spent)) => proof.fields = spent.clone(),
            (Credential::Key(_), None) => proof.fields = Key::es256().assertion(&self.rig, &client.id, &jti),
        }
        proof
    }

    /// What a client sends with its proof.
    pub(super) async fn send_proven(
        &mut self,
        node: usize,
        path: &str,
        proof: &Proof,
        pairs: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut headers = vec![FORM];
        if !proof.authorization.is_empty() {
            headers.push(("authorization", &proof.authorization));
        }
        let body = with(pairs, &proof.fields);
        let answer = self.send(node, Method::POST, path, &headers, body).await?;
        if answer.status.is_success() && self.apps[proof.app].has_key() {
            self.must(proof.proven, "an assertion was good twice, or signed by another key");
            self.apps[proof.app].spent = Some(proof.fields.clone());
        }
        Some(answer)
    }
}
