//! What is done with access tokens afterwards.

use super::*;

impl Sequence {
    pub(super) fn some_access(&mut self) -> Option<(usize, String)> {
        let held: Vec<usize> = (0..self.consents.len())
            .filter(|&at| !self.consents[at].access.is_empty())
            .collect();
        let at = *held.choose(&mut self.rng)?;
        let token = self.consents[at].access.choose(&mut self.rng)?.clone();
        Some((at, token))
    }

    pub(super) async fn ask_userinfo(&mut self) {
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

    pub(super) async fn introspect(&mut self) {
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

    pub(super) async fn revoke(&mut self) {
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
}
