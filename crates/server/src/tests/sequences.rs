//! No sequence of requests yields a token whose user, node, client, resource or scope was not consented to and granted at
//! that time.
//!
//! A few people with a few nodes do at random what clients, browsers, thieves and administrators do, over HTTP, while
//! rules, nodes and time change under them. Every token that comes out is held against what the pages showed, who
//! clicked, and what the rules say at that moment by the model. `COUNTERSIGN_SEQUENCES=10000` runs for longer,
//! `COUNTERSIGN_SEED=n` runs one sequence again: a failure names its seed.

mod model;

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use self::model::{Fields, Rule, Whose, granted, shut_out};
use super::{
    flow::{FORM, OURS, REDIRECT, VERIFIER, authorize_path, claims, field, form},
    *,
};

const STEPS: usize = 150;
const RESOURCES: [&str; 3] = [
    "https://app.example.ts.net/mcp",
    "https://app.example.ts.net/admin",
    "https://files.example.ts.net",
];
const SCOPES: [&str; 5] = ["openid", "profile", "offline_access", "read", "write"];
const ALICE: Whose = Whose::User(1, "alice");
const BOB: Whose = Whose::User(2, "bob");
const NODES: [(&str, Whose); 5] = [
    ("laptop", ALICE),
    ("phone", ALICE),
    ("desk", BOB),
    ("router", Whose::User(3, "carol")),
    ("app", Whose::Tagged("tag:app")),
];

/// One node, as the sequence knows it.
struct Machine {
    node: Node,
    whose: Whose,
    rules: Vec<Rule>,
    present: bool,
    doubtful: bool,
    http: Option<Client>,
}

struct App {
    id: String,
    secret: Option<String>,
    registration_token: String,
    owner: Owner,
    registrant: usize,
    published: bool,
    deleted: bool,
}

/// To whom something belongs, in this file's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    User(i64),
    Node(usize),
}

struct Shown {
    node: usize,
    owner: Owner,
    app: usize,
    scopes: Vec<&'static str>,
    resources: Vec<&'static str>,
    ticket: String,
    cookie: String,
}

/// What somebody clicked for, and what came of it.
struct Consent {
    node: usize,
    owner: Owner,
    app: usize,
    scopes: Vec<&'static str>,
    resources: Vec<&'static str>,
    code: String,
    at: i64,
    redeemed_by: Option<usize>,
    revoked: bool,
    refresh: Vec<String>,
    access: Vec<String>,
}

struct Sequence {
    seed: u64,
    rng: StdRng,
    rig: Rig,
    require_grant: bool,
    machines: Vec<Machine>,
    apps: Vec<App>,
    shown: Vec<Shown>,
    consents: Vec<Consent>,
    history: Vec<String>,
    issued: BTreeSet<&'static str>,
}

#[tokio::test]
async fn no_sequence_of_requests_yields_what_was_not_consented_to_and_granted() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("COUNTERSIGN_SEED") {
        Sequence::start(seed).await.run().await;
        return;
    }
    let wanted = number("COUNTERSIGN_SEQUENCES");
    let started = crate::clock::monotonic();
    let mut seen = BTreeSet::new();
    for seed in 0..wanted.unwrap_or(60) {
        seen.extend(Sequence::start(seed).await.run().await);
        // A busy machine does fewer, never longer.
        if wanted.is_none() && crate::clock::monotonic().duration_since(started) > Duration::from_secs(10) {
            break;
        }
    }
    for kind in ["code", "refresh", "machine", "userinfo", "introspection"] {
        assert!(seen.contains(kind), "no sequence came to a {kind}: {seen:?}");
    }
}

impl Sequence {
    async fn start(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let require_grant = rng.random_bool(0.3);
        let rig = Rig::start(ServerConfig {
            require_grant,
            ..config()
        })
        .await;
        let machines = NODES.iter().map(|&(name, whose)| Machine {
            node: Node::new(facts(name, whose)),
            whose,
            rules: Vec::new(),
            present: true,
            doubtful: false,
            http: None,
        });
        let mut sequence = Self {
            seed,
            rng,
            rig,
            require_grant,
            machines: machines.collect(),
            apps: Vec::new(),
            shown: Vec::new(),
            consents: Vec::new(),
            history: Vec::new(),
            issued: BTreeSet::new(),
        };
        for node in 0..NODES.len() {
            let rules = vec![
                Rule::Register,
                Rule::Plain {
                    user: "*",
                    resource: "*",
                },
            ];
            sequence.set_rules(node, rules);
        }
        sequence
    }

    async fn run(mut self) -> BTreeSet<&'static str> {
        for _ in 0..STEPS {
            match self.rng.random_range(0..100) {
                0..8 => self.register().await,
                8..30 => self.authorize().await,
                30..48 => self.click().await,
                48..64 => self.redeem().await,
                64..74 => self.refresh().await,
                74..78 => self.act_for_itself().await,
                78..82 => self.ask_userinfo().await,
                82..86 => self.introspect().await,
                86..88 => self.revoke().await,
                88..92 => self.edit_policy(),
                92..94 => self.come_and_go(),
                94..95 => self.change_hands(),
                95..97 => self.publish().await,
                97..98 => self.delete().await,
                _ => self.wait(),
            }
        }
        self.issued
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }

    fn must(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "COUNTERSIGN_SEED={}: {what}\n{}",
            self.seed,
            self.history
                .iter()
                .rev()
                .take(40)
                .rev()
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    fn now(&self) -> i64 {
        self.rig.seconds.load(Relaxed)
    }

    fn some_node(&mut self) -> usize {
        self.rng.random_range(0..NODES.len())
    }

    /// Mostly this one.
    fn mostly(&mut self, node: usize) -> usize {
        if self.rng.random_bool(0.8) {
            node
        } else {
            self.some_node()
        }
    }

    fn some_app(&mut self) -> Option<usize> {
        (!self.apps.is_empty()).then(|| self.rng.random_range(0..self.apps.len()))
    }

    fn some_of<const N: usize>(&mut self, items: [&'static str; N], most: usize) -> Vec<&'static str> {
        let count = self.rng.random_range(0..=most);
        items.choose_multiple(&mut self.rng, count).copied().collect()
    }

    fn owner(&self, node: usize) -> Owner {
        match self.machines[node].whose {
            Whose::User(id, _) => Owner::User(id),
            Whose::Tagged(_) => Owner::Node(node),
        }
    }

    fn believed(&self, node: usize) -> bool {
        self.machines[node].present && !self.machines[node].doubtful
    }

    async fn send(
        &mut self,
        node: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Option<Answer> {
        for _ in 0..2 {
            if !self.machines[node].present {
                return None;
            }
            if self.machines[node].http.is_none() {
                let client = self.rig.client(&self.machines[node].node).await;
                self.machines[node].http = Some(client);
            }
            let mut request = Request::builder().method(method.clone()).uri(path).header("host", HOST);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
            match self.machines[node].http.as_mut()?.try_send(request).await {
                Ok(answer) => return Some(answer),
                // The connection ended when the node was away.
                Err(_) => self.machines[node].http = None,
            }
        }
        None
    }

    async fn register(&mut self) {
        let node = self.some_node();
        let confidential = self.rng.random_bool(0.4);
        let body = json!({
            "redirect_uris": [if confidential { "https://app.example.ts.net/cb" } else { "http://localhost/callback" }],
            "token_endpoint_auth_method": if confidential { "client_secret_basic" } else { "none" },
            "grant_types": if confidential {
                json!(["authorization_code", "refresh_token", "client_credentials"])
            } else {
                json!(["authorization_code", "refresh_token"])
            },
        });
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
        let whose = self.machines[node].whose;
        let may = self.believed(node)
            && self.machines[node]
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::Register))
            && !shut_out(&self.machines[node].rules, whose.name());
        self.must(may, "a client was registered without a rule");
        let made = answer.json();
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        self.note(format!("{} registered client {}", NODES[node].0, self.apps.len()));
        self.apps.push(App {
            id: text("client_id").unwrap(),
            secret: text("client_secret"),
            registration_token: text("registration_access_token").unwrap(),
            owner: self.owner(node),
            registrant: node,
            published: false,
            deleted: false,
        });
    }

    async fn authorize(&mut self) {
        let (node, Some(app)) = (self.some_node(), self.some_app()) else {
            return;
        };
        let resources = self.some_of(RESOURCES, 2);
        let scopes = self.some_of(SCOPES, 4);
        let redirect = if self.apps[app].secret.is_some() {
            "https://app.example.ts.net/cb"
        } else {
            REDIRECT
        };
        let scope = scopes.join(" ");
        let mut extra: Vec<(&str, &str)> = resources.iter().map(|resource| ("resource", *resource)).collect();
        extra.push(("scope", &scope));
        let path = authorize_path(&self.apps[app].id, &extra).replace(
            &form(&[("redirect_uri", REDIRECT)]),
            &form(&[("redirect_uri", redirect)]),
        );
        let Some(answer) = self.send(node, Method::GET, &path, &[], String::new()).await else {
            return;
        };
        if answer.status != StatusCode::OK {
            self.must(
                !answer.header("location").contains("code="),
                "a code came without a click",
            );
            return;
        }
        self.note(format!(
            "{} was asked for client {app}, {resources:?}, {scopes:?}",
            NODES[node].0
        ));
        self.shown.push(Shown {
            node,
            owner: self.owner(node),
            app,
            scopes,
            resources,
            ticket: field(&answer.text, "name=\"ticket\" value=\"", '"').to_owned(),
            cookie: answer.header("set-cookie").split(';').next().unwrap().to_owned(),
        });
    }

    async fn click(&mut self) {
        if self.shown.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.shown.len());
        let node = self.shown[at].node;
        let node = self.mostly(node);
        let (forged, allow, with_cookie) = (
            self.rng.random_bool(0.1),
            self.rng.random_bool(0.9),
            self.rng.random_bool(0.9),
        );
        let choice = if allow { "allow" } else { "deny" };
        let body = form(&[("ticket", &self.shown[at].ticket), ("choice", choice)]);
        let cookie = if with_cookie {
            self.shown[at].cookie.clone()
        } else {
            "consent=x".to_owned()
        };
        let page = if forged {
            [("sec-fetch-site", "same-site")]
        } else {
            OURS
        };
        let headers = [FORM, ("cookie", cookie.as_str()), page[0]];
        let Some(answer) = self
            .send(node, Method::POST, "/authorize/consent", &headers, body)
            .await
        else {
            return;
        };
        let location = answer.header("location");
        if !location.contains("code=") {
            return;
        }
        let code = field(location, "code=", '&').to_owned();
        let shown = self.shown.swap_remove(at);
        self.note(format!("{} clicked for client {}", NODES[node].0, shown.app));
        self.must(
            allow && !forged && with_cookie && node == shown.node && self.owner(node) == shown.owner,
            "a code came of a click that is not the user's",
        );
        self.consents.push(Consent {
            node,
            owner: shown.owner,
            app: shown.app,
            scopes: shown.scopes,
            resources: shown.resources,
            code,
            at: self.now(),
            redeemed_by: None,
            revoked: false,
            refresh: Vec::new(),
            access: Vec::new(),
        });
    }

    /// The headers and fields by which a client authenticates; now and then another one, or with a wrong secret.
    fn authenticate(&mut self, app: usize) -> (usize, bool, String, String) {
        let other = self.rng.random_range(0..self.apps.len());
        let app = if self.rng.random_bool(0.9) { app } else { other };
        let right = self.rng.random_bool(0.9);
        let id = self.apps[app].id.clone();
        match &self.apps[app].secret {
            Some(secret) => {
                let secret = if right { secret } else { "wrong" };
                (
                    app,
                    right,
                    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))),
                    String::new(),
                )
            }
            None => (app, true, String::new(), form(&[("client_id", &id)])),
        }
    }

    async fn token(&mut self, node: usize, authorization: &str, body: String) -> Option<Value> {
        let mut headers = vec![FORM];
        if !authorization.is_empty() {
            headers.push(("authorization", authorization));
        }
        let answer = self.send(node, Method::POST, "/token", &headers, body).await?;
        (answer.status == StatusCode::OK).then(|| answer.json())
    }

    async fn redeem(&mut self) {
        if self.consents.is_empty() {
            return;
        }
        // Mostly the newest, or every code would be too old.
        let newest = self.consents.len() - 1;
        let at = if self.rng.random_bool(0.7) {
            newest
        } else {
            self.rng.random_range(0..=newest)
        };
        let (node, app) = (self.consents[at].node, self.consents[at].app);
        let node = self.mostly(node);
        let (app, proven, authorization, fields) = self.authenticate(app);
        let right = self.rng.random_bool(0.9);
        let verifier = if right { VERIFIER } else { "x".repeat(43).leak() };
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", &self.consents[at].code),
            ("code_verifier", verifier),
        ];
        let narrowed = self.consents[at]
            .resources
            .first()
            .copied()
            .filter(|_| node.is_multiple_of(2));
        pairs.extend(narrowed.map(|resource| ("resource", resource)));
        let body = format!("{}&{fields}", form(&pairs));
        let Some(tokens) = self.token(node, &authorization, body).await else {
            return;
        };
        self.note(format!("{} redeemed consent {at} as client {app}", NODES[node].0));
        let consent = &self.consents[at];
        self.must(consent.redeemed_by.is_none(), "a code was redeemed twice");
        self.must(self.now() - consent.at <= 60, "a code was redeemed too late");
        self.must(
            right && proven && app == consent.app,
            "a code was redeemed without proof",
        );
        let client = &self.apps[app];
        let at_home = client.secret.is_some() || self.owner(node) == consent.owner || node == client.registrant;
        self.must(at_home, "a code was redeemed at a node of somebody else");
        self.consents[at].redeemed_by = Some(node);
        self.issued.insert("code");
        self.hold(at, node, &tokens);
    }

    async fn refresh(&mut self) {
        let held: Vec<usize> = (0..self.consents.len())
            .filter(|&at| !self.consents[at].refresh.is_empty())
            .collect();
        let Some(&at) = held.choose(&mut self.rng) else { return };
        let consent = &self.consents[at];
        let (app, home) = (consent.app, consent.redeemed_by.unwrap_or(consent.node));
        let newest = consent.refresh.len() - 1;
        let which = if self.rng.random_bool(0.9) {
            newest
        } else {
            self.rng.random_range(0..=newest)
        };
        let text = self.consents[at].refresh[which].clone();
        let node = self.mostly(home);
        let (app, proven, authorization, fields) = self.authenticate(app);
        let body = format!(
            "{}&{fields}",
            form(&[("grant_type", "refresh_token"), ("refresh_token", &text)])
        );
        let Some(tokens) = self.token(node, &authorization, body).await else {
            return;
        };
        self.note(format!("{} refreshed consent {at} as client {app}", NODES[node].0));
        let consent = &self.consents[at];
        self.must(proven && app == consent.app, "a refresh token was good without proof");
        self.must(
            consent.redeemed_by == Some(node),
            "a refresh token was good at another node",
        );
        self.must(!consent.revoked, "a refresh token was good after it was revoked");
        self.must(
            self.now() - consent.at <= 30 * 24 * 3600,
            "a refresh token was good for ever",
        );
        self.issued.insert("refresh");
        self.hold(at, node, &tokens);
    }

    /// Holds what was issued against the consent it rests on and what the rules say now.
    fn hold(&mut self, at: usize, node: usize, tokens: &Value) {
        let access = tokens["access_token"].as_str().unwrap().to_owned();
        let token = claims(&access);
        let consent = &self.consents[at];
        let sub = match consent.owner {
            Owner::User(id) => format!("userid:{id}"),
            Owner::Node(node) => format!("nodeid:n{}", NODES[node].0),
        };
        self.must(token["sub"] == json!(sub), "the token is of another user");
        self.must(
            token["client_id"] == json!(self.apps[consent.app].id),
            "the token is of another client",
        );
        self.must(
            token["cnf"]["tailnet_node"] == json!(format!("n{}", NODES[node].0)),
            "the token is bound to another node",
        );
        let scopes: Vec<&str> = token["scope"]
            .as_str()
            .unwrap()
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .collect();
        let audience = list(&token["aud"]);
        self.must(
            scopes.iter().all(|scope| consent.scopes.contains(scope)),
            "the token has a scope that nobody saw",
        );
        let for_us = audience == [format!("http://{HOST}")];
        self.must(
            if consent.resources.is_empty() {
                for_us
            } else {
                audience.iter().all(|of| consent.resources.contains(&of.as_str()))
            },
            "the token is for a resource that nobody saw",
        );
        self.must(
            self.stands(at),
            "the token rests on a user, node or client that is gone",
        );
        for resource in audience.iter().map(String::as_str).filter(|_| !for_us) {
            self.must(
                self.granted(at, Some(resource), None),
                "the token is for a resource that no rule grants",
            );
            for scope in &scopes {
                self.must(
                    self.granted(at, Some(resource), Some(scope)),
                    "the token has a scope that no rule grants",
                );
            }
        }
        for scope in &scopes {
            self.must(
                self.granted(at, None, Some(scope)),
                "the token has a scope that a rule denies",
            );
        }
        if let Some(id_token) = tokens["id_token"].as_str().map(claims) {
            self.must(
                id_token["aud"] == token["client_id"] && id_token["sub"] == token["sub"],
                "the id_token is another's",
            );
            self.must(scopes.contains(&"openid"), "an id_token that nobody asked for");
        }
        let refresh = tokens["refresh_token"].as_str().map(str::to_owned);
        self.consents[at].access.push(access);
        self.consents[at].refresh.extend(refresh);
    }

    fn granted(&self, at: usize, resource: Option<&str>, scope: Option<&str>) -> bool {
        let consent = &self.consents[at];
        let machine = &self.machines[consent.node];
        let client = &self.apps[consent.app].id;
        granted(
            &machine.rules,
            machine.whose.name(),
            client,
            resource,
            scope,
            self.require_grant,
        )
    }

    /// Whether user, node and client of a consent are still what they were, and login is granted.
    fn stands(&self, at: usize) -> bool {
        let consent = &self.consents[at];
        let app = &self.apps[consent.app];
        self.believed(consent.node)
            && self.owner(consent.node) == consent.owner
            && !app.deleted
            && self.granted(at, None, None)
            && (app.owner == consent.owner || app.published || self.published_by_rule(app))
    }

    fn published_by_rule(&self, app: &App) -> bool {
        let machine = &self.machines[app.registrant];
        machine.present
            && self.owner(app.registrant) == app.owner
            && machine.rules.iter().any(|rule| matches!(rule, Rule::Publish))
            && !shut_out(&machine.rules, machine.whose.name())
    }

    async fn act_for_itself(&mut self) {
        let Some(app) = self.some_app().filter(|&app| self.apps[app].secret.is_some()) else {
            return;
        };
        let node = self.some_node();
        let (app, proven, authorization, fields) = self.authenticate(app);
        let resources = self.some_of(RESOURCES, 2);
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", "read write openid")];
        pairs.extend(resources.iter().map(|resource| ("resource", *resource)));
        let Some(tokens) = self
            .token(node, &authorization, format!("{}&{fields}", form(&pairs)))
            .await
        else {
            return;
        };
        self.note(format!("client {app} acts for itself on {}", NODES[node].0));
        let (client, token) = (&self.apps[app], claims(tokens["access_token"].as_str().unwrap()));
        let machine = &self.machines[client.registrant];
        self.must(
            proven && !client.deleted && client.secret.is_some(),
            "a machine's token without proof",
        );
        self.must(
            token["sub"] == json!(client.id) && token["client_id"] == json!(client.id),
            "a machine's token of another",
        );
        self.must(
            self.believed(client.registrant) && self.owner(client.registrant) == client.owner,
            "a machine's token rests on a node that is gone",
        );
        let scopes: Vec<String> = token["scope"]
            .as_str()
            .unwrap()
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        self.must(
            !scopes.contains(&"openid".to_owned()) && tokens.get("id_token").is_none(),
            "a machine has no identity",
        );
        self.must(
            tokens.get("refresh_token").is_none(),
            "a machine needs no refresh token",
        );
        let may = |resource: Option<&str>, scope: Option<&str>| {
            granted(
                &machine.rules,
                machine.whose.name(),
                &client.id,
                resource,
                scope,
                self.require_grant,
            )
        };
        self.must(may(None, None), "a machine's token without a login rule");
        for resource in list(&token["aud"]).iter().filter(|of| **of != format!("http://{HOST}")) {
            self.must(
                resources.contains(&resource.as_str()) && may(Some(resource), None),
                "a machine's token for a resource that no rule grants",
            );
            for scope in &scopes {
                self.must(
                    may(Some(resource), Some(scope)),
                    "a machine's scope that no rule grants",
                );
            }
        }
        self.issued.insert("machine");
    }

    fn some_access(&mut self) -> Option<(usize, String)> {
        let held: Vec<usize> = (0..self.consents.len())
            .filter(|&at| !self.consents[at].access.is_empty())
            .collect();
        let at = *held.choose(&mut self.rng)?;
        let token = self.consents[at].access.choose(&mut self.rng)?.clone();
        Some((at, token))
    }

    /// What a token of an earlier time is good for now.
    fn good(&self, at: usize, token: &Value) {
        self.must(token["exp"].as_i64().unwrap() > self.now(), "an expired token was good");
        self.must(!self.consents[at].revoked, "a revoked token was good");
        self.must(self.stands(at), "a token was good after what it rests on was gone");
        for resource in &self.consents[at].resources {
            self.must(
                self.granted(at, Some(resource), None),
                "a token was good after its rule was withdrawn",
            );
        }
    }

    async fn ask_userinfo(&mut self) {
        let (Some((at, token)), node) = (self.some_access(), self.some_node()) else {
            return;
        };
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let Some(answer) = self.send(node, Method::GET, "/userinfo", &headers, String::new()).await else {
            return;
        };
        if answer.status == StatusCode::OK {
            self.note(format!("userinfo of consent {at}"));
            let token = claims(&token);
            self.good(at, &token);
            self.must(answer.json()["sub"] == token["sub"], "userinfo about another");
            self.must(
                self.consents[at].resources.is_empty(),
                "a resource's token was good for userinfo",
            );
            self.issued.insert("userinfo");
        }
    }

    async fn introspect(&mut self) {
        let (Some((at, token)), node) = (self.some_access(), self.some_node()) else {
            return;
        };
        // Half of the time the server that it is for.
        let node = if self.rng.random_bool(0.5) { 4 } else { node };
        let body = form(&[("token", &token)]);
        let Some(answer) = self.send(node, Method::POST, "/introspect", &[FORM], body).await else {
            return;
        };
        if answer.json()["active"] == true {
            self.note(format!("{} introspected a token of consent {at}", NODES[node].0));
            let token = claims(&token);
            self.good(at, &token);
            let rules = &self.machines[node].rules;
            let told = list(&token["aud"]).iter().any(|of| {
                let host = NODES[node].0 == "app" && of.starts_with("https://app.example.ts.net/");
                host || rules
                    .iter()
                    .any(|rule| matches!(rule, Rule::Introspect { resource } if resource == of))
            });
            self.must(
                told && self.believed(node),
                "a token was introspected by a server that it is not for",
            );
            self.issued.insert("introspection");
        }
    }

    async fn revoke(&mut self) {
        let Some((at, token)) = self.some_access() else { return };
        let (app, node) = (self.consents[at].app, self.some_node());
        let (app, proven, authorization, fields) = self.authenticate(app);
        let mut headers = vec![FORM];
        if !authorization.is_empty() {
            headers.push(("authorization", &authorization));
        }
        let body = format!("{}&{fields}", form(&[("token", &token)]));
        let Some(answer) = self.send(node, Method::POST, "/revoke", &headers, body).await else {
            return;
        };
        let expired = claims(&token)["exp"].as_i64().unwrap() <= self.now();
        if answer.status == StatusCode::OK && proven && app == self.consents[at].app && !expired {
            self.note(format!("consent {at} was revoked"));
            self.consents[at].revoked = true;
        }
    }

    fn edit_policy(&mut self) {
        let node = self.some_node();
        let mut rules = vec![];
        for _ in 0..self.rng.random_range(0..5) {
            let rule = self.some_rule();
            rules.push(rule);
        }
        self.note(format!("{} is now under {rules:?}", NODES[node].0));
        self.set_rules(node, rules);
    }

    fn some_rule(&mut self) -> Rule {
        let resource = *["*", RESOURCES[0], RESOURCES[1], RESOURCES[2]]
            .choose(&mut self.rng)
            .unwrap_or(&"*");
        let user = *["*", "alice", "bob", "tag:app"].choose(&mut self.rng).unwrap_or(&"*");
        match self.rng.random_range(0..10) {
            0..2 => Rule::Register,
            2..5 => Rule::Plain { user, resource },
            5..6 => Rule::Publish,
            6..7 => Rule::Introspect { resource: RESOURCES[2] },
            which => {
                let client = self
                    .some_app()
                    .filter(|_| which == 8)
                    .map(|app| self.apps[app].id.clone());
                let fields = Fields {
                    users: self.some_of(["*", "alice", "bob", "tag:app"], 2),
                    resources: self.some_of(RESOURCES, 2),
                    clients: client.into_iter().collect(),
                    scopes: self.some_of(["read", "write", "profile"], 2),
                };
                Rule::Nested {
                    deny: self.rng.random_bool(0.4),
                    fields,
                }
            }
        }
    }

    fn set_rules(&mut self, node: usize, rules: Vec<Rule>) {
        let texts: Vec<String> = rules.iter().map(Rule::text).collect();
        self.machines[node].node.facts.lock().policy = Policy::parse(texts.iter().map(String::as_str));
        self.machines[node].rules = rules;
    }

    /// A node leaves the tailnet or comes back, or what it says may not be its own any more.
    fn come_and_go(&mut self) {
        let node = self.some_node();
        let machine = &mut self.machines[node];
        match self.rng.random_range(0..4) {
            0 if machine.present => {
                machine.node.withdraw();
                let id = machine.node.facts.lock().node_id.clone();
                self.rig.nodes.all.lock().remove(&id);
                (machine.present, machine.http) = (false, None);
            }
            1 => machine.node.facts.lock().shared = true,
            2 if matches!(machine.whose, Whose::User(..)) => machine.node.facts.lock().routes = true,
            _ => {
                machine.node.vouched.send_replace(true);
                let mut facts = machine.node.facts.lock();
                (facts.shared, facts.routes) = (false, false);
                machine.present = true;
            }
        }
        let facts = machine.node.facts.lock().clone();
        if machine.present {
            let known = self.rig.nodes.node(&facts.node_id).is_some();
            if !known {
                self.rig.nodes.add(&machine.node);
            }
        }
        machine.doubtful = facts.shared || (facts.routes && matches!(machine.whose, Whose::User(..)));
        let (present, doubtful) = (machine.present, machine.doubtful);
        self.note(format!("{}: present {present}, doubtful {doubtful}", NODES[node].0));
    }

    /// The phone is somebody else's from now on, under the same stable id.
    fn change_hands(&mut self) {
        let whose = if self.machines[1].whose == ALICE { BOB } else { ALICE };
        self.machines[1].node.facts.lock().who = who(whose);
        self.machines[1].whose = whose;
        self.note(format!("the phone is {}'s now", whose.name()));
    }

    async fn publish(&mut self) {
        let (Some(app), published) = (self.some_app(), self.rng.random_bool(0.6)) else {
            return;
        };
        let id = self.apps[app].id.clone();
        if self.rig.server.publish(&id, published, "the test").await.is_ok() {
            self.apps[app].published = published;
            self.note(format!("client {app}: published {published}"));
        }
    }

    async fn delete(&mut self) {
        let (Some(app), node) = (self.some_app(), self.some_node()) else {
            return;
        };
        let path = format!("/register/{}", self.apps[app].id);
        let bearer = format!("Bearer {}", self.apps[app].registration_token);
        let headers = [("authorization", bearer.as_str())];
        let Some(answer) = self.send(node, Method::DELETE, &path, &headers, String::new()).await else {
            return;
        };
        if answer.status == StatusCode::NO_CONTENT {
            self.must(
                self.owner(node) == self.apps[app].owner,
                "somebody else's client was deleted",
            );
            self.apps[app].deleted = true;
            self.note(format!("client {app} was deleted"));
        }
    }

    fn wait(&mut self) {
        let seconds = *[1, 20, 61, 301, 700, 90_000].choose(&mut self.rng).unwrap_or(&1);
        self.rig.seconds.fetch_add(seconds, Relaxed);
        self.note(format!("{seconds} s passed"));
    }
}

fn who(whose: Whose) -> Who {
    match whose {
        Whose::User(id, login) => Who::User {
            id,
            login: login.into(),
            display_name: login.into(),
            picture: String::new(),
        },
        Whose::Tagged(tag) => Who::Tagged(vec![tag.into()]),
    }
}

fn facts(name: &str, whose: Whose) -> Caller {
    let template = Node::user(1, "nobody", &[]).facts.lock().clone();
    Caller {
        node_id: format!("n{name}"),
        node_name: format!("{name}.example.ts.net"),
        who: who(whose),
        ..template
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        several => several
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect(),
    }
}
