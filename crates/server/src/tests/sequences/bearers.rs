//! What is done with access tokens afterwards.

use super::*;

impl Sequence {
    /// A token, from when on it has expired, and the consent it rests on.
    fn some_access(&mut self) -> Option<(usize, String, i64)> {
        let held: Vec<usize> = (0..self.consents.len())
            .filter(|&at| !self.consents[at].access.is_empty())
            .collect();
        let at = *held.choose(&mut self.rng)?;
        let token = self.consents[at].access.choose(&mut self.rng)?;
        Some((at, token.text.clone(), token.until))
    }

    pub(super) async fn ask_userinfo(&mut self) {
        let (Some((at, token, until)), node) = (self.some_access(), self.some_node()) else {
            return;
        };
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let Some(answer) = self.send(node, Method::GET, "/userinfo", &headers, String::new()).await else {
            return;
        };
        if answer.status == StatusCode::OK {
            self.note(format!("userinfo of consent {at}"));
            self.good(at, until);
            self.must(answer.json()["sub"] == json!(self.sub(at)), "userinfo about another");
            self.must(
                self.consents[at].resources.is_empty(),
                "a resource's token was good for userinfo",
            );
            self.issued.insert("userinfo");
        }
    }

    pub(super) async fn introspect(&mut self) {
        let (Some((at, token, until)), node) = (self.some_access(), self.some_node()) else {
            return;
        };
        // Half of the time a server that it may be for.
        let server = SERVERS.choose(&mut self.rng).copied();
        let node = server.filter(|_| self.rng.random_bool(0.5)).unwrap_or(node);
        let body = form(&[("token", &token)]);
        let Some(answer) = self.send(node, Method::POST, "/introspect", &[FORM], body).await else {
            return;
        };
        let told = answer.json();
        if told["active"] == true {
            self.note(format!("{} introspected a token of consent {at}", NODES[node].0));
            self.good(at, until);
            let rules = &self.machines[node].rules;
            let host = format!("https://{}.example.ts.net", NODES[node].0);
            let told = list(&told["aud"]).iter().any(|of| {
                of == &host
                    || of.starts_with(&format!("{host}/"))
                    || rules
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
        let Some((at, token, until)) = self.some_access() else {
            return;
        };
        let (app, node) = (self.consents[at].app, self.some_node());
        let proof = self.proof(app);
        let pairs = [("token", token.as_str())];
        let Some(answer) = self.send_proven(node, "/revoke", &proof, &pairs).await else {
            return;
        };
        let expired = until <= self.now();
        if answer.status == StatusCode::OK && proof.proven && proof.app == self.consents[at].app && !expired {
            self.note(format!("consent {at} was revoked"));
            self.consents[at].revoked = true;
        }
    }
}
