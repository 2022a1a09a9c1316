//! What clients and thieves do at the token endpoint.

use super::{clients::Proof, *};

impl Sequence {
    async fn token(&mut self, node: usize, proof: &Proof, pairs: &[(&str, &str)]) -> Option<Value> {
        let answer = self.send_proven(node, "/token", proof, pairs).await?;
        if answer.status != StatusCode::OK {
            return None;
        }
        if self.apps[proof.app].has_key() {
            self.issued.insert("a token by a key");
        }
        Some(answer.json())
    }

    pub(super) async fn redeem(&mut self) {
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
        let proof = self.proof(app);
        let (app, proven) = (proof.app, proof.proven);
        let right = self.rng.random_bool(0.9);
        let verifier = if right { VERIFIER } else { "x".repeat(43).leak() };
        let code = self.consents[at].code.clone();
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", verifier),
        ];
        let narrowed = self.consents[at]
            .resources
            .first()
            .copied()
            .filter(|_| node.is_multiple_of(2));
        pairs.extend(narrowed.map(|resource| ("resource", resource)));
        let Some(tokens) = self.token(node, &proof, &pairs).await else {
            return;
        };
        self.note(format!("{} redeemed consent {at} as client {app}", NODES[node].0));
        let consent = &self.consents[at];
        self.must(consent.redeemed_by.is_none(), "a code was redeemed twice");
        self.must(!consent.revoked, "a code was redeemed after it ended");
        self.must(self.now() - consent.at <= 60, "a code was redeemed too late");
        self.must(
            right && proven && app == consent.app,
            "a code was redeemed without proof",
        );
        let client = &self.apps[app];
        let at_home = client.is_confidential() || self.owner(node) == consent.owner || node == client.registrant;
        self.must(at_home, "a code was redeemed at a node of somebody else");
        self.consents[at].redeemed_by = Some(node);
        self.issued.insert("code");
        self.hold(at, node, &tokens).await;
    }

    pub(super) async fn refresh(&mut self) {
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
        let proof = self.proof(app);
        let (app, proven) = (proof.app, proof.proven);
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", text.as_str())];
        let Some(tokens) = self.token(node, &proof, &pairs).await else {
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
        self.hold(at, node, &tokens).await;
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one step of the model: a request and what it may change"
    )]
    pub(super) async fn act_for_itself(&mut self) {
        let Some(app) = self.some_app().filter(|&app| self.apps[app].is_confidential()) else {
            return;
        };
        let node = self.some_node();
        let proof = self.proof(app);
        let (app, proven) = (proof.app, proof.proven);
        let resources = self.some_of(RESOURCES, 2);
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", "read write openid")];
        pairs.extend(resources.iter().map(|resource| ("resource", *resource)));
        let Some(tokens) = self.token(node, &proof, &pairs).await else {
            return;
        };
        self.note(format!("client {app} acts for itself on {}", NODES[node].0));
        self.must(
            proven && !self.apps[app].deleted && self.apps[app].is_confidential(),
            "a machine's token without proof",
        );
        self.issued.insert("machine");
        let access = tokens["access_token"].as_str().unwrap().to_owned();
        let Some(token) = self.access(access).await.claims else {
            return;
        };
        let client = &self.apps[app];
        let machine = &self.machines[client.registrant];
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
                resources.contains(&resource.as_str()) || client.default_resource == Some(resource.as_str()),
                "a machine's token for a resource that nobody asked for",
            );
            self.must(
                may(Some(resource), None),
                "a machine's token for a resource that no rule grants",
            );
            for scope in &scopes {
                self.must(
                    may(Some(resource), Some(scope)),
                    "a machine's scope that no rule grants",
                );
            }
        }
    }
}
